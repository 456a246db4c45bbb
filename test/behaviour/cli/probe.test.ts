/** The probe against servers that end their connections in every way. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import tls from 'node:tls';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { addOn } from '../../../src/add-on.ts';
import type { ProbeReport } from '../../../src/cli/probe-report.ts';
import {
  listening,
  opensslServer,
  ours,
  plainNode,
  raw,
  refusedPort,
  smtp,
} from '../../support/cli-servers.ts';
import { describeTls, pki } from '../../support/core-pki.ts';
import { run } from './run.ts';

let directory = '';
/** The path of a file with this content. */
function file(name: string, content: string): string {
  const path = join(directory, name);
  writeFileSync(path, content);
  return path;
}

beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'close-notify-test-'));
});
afterAll(() => rmSync(directory, { recursive: true, force: true }));

/** `probe --json`: its exit code, and the one object that stdout holds. */
async function probe(...args: string[]): Promise<{ code: number | null; report: ProbeReport }> {
  const { code, stdout, stderr } = await run(['probe', ...args, '--json']);
  expect(stderr).toBe('');
  return { code, report: JSON.parse(stdout) as ProbeReport };
}

const VERSIONS = ['1.2', '1.3'] as const;

/** By the engine that there is. */
const EVIDENCE = addOn().native === null ? 'record' : 'openssl';

describeTls('exit code 0', () => {
  for (const version of VERSIONS) {
    it(`TLS ${version}: a server that answers`, async () => {
      await using server = await ours((stream) => stream.close());
      const at = `127.0.0.1:${server.port}`;
      const { code, report } = await probe(at, '--tls', version, '--ca', file('ca.pem', pki().ca));
      expect(code).toBe(0);
      expect(report).toEqual({
        target: { host: '127.0.0.1', port: server.port, address: '127.0.0.1' },
        phases: ['resolve', 'connect', 'handshake', 'shutdown', 'close'].map((name) => ({
          name,
          ms: expect.any(Number),
        })),
        tls: {
          protocol: `TLSv${version}`,
          cipher: expect.stringMatching(/^TLS_/),
          alpn: null,
          authorized: true,
          authorizationError: null,
        },
        certificate: {
          subject: 'CN=server',
          issuer: 'CN=close-notify test CA',
          validFrom: '2020-01-01T00:00:00.000Z',
          validTo: '2049-12-31T00:00:00.000Z',
          fingerprint256: expect.stringMatching(/^([0-9A-F]{2}:){31}[0-9A-F]{2}$/),
          subjectAltName: expect.stringContaining('DNS:localhost'),
        },
        issuers: null,
        closure: {
          verdict: 'secure',
          incomplete: false,
          initiator: expect.stringMatching(/^(local|peer)$/),
          sent: { at: expect.any(Number), evidence: EVIDENCE },
          received: { at: expect.any(Number), evidence: EVIDENCE },
          transportEnd: expect.anything(),
          alert: null,
          truncation: null,
          send: 'closed',
          receive: 'closed',
          late: 0,
          unsent: 0,
          asio: { category: 'system', value: 0, message: 'Success' },
        },
        error: null,
      });
    });

    it(`TLS ${version}: plain node:tls`, async () => {
      await using server = await plainNode();
      const { code, report } = await probe(`127.0.0.1:${server.port}`, '--tls', version);
      expect([code, report.closure?.verdict]).toEqual([0, 'secure']);
    });

    it(`TLS ${version}: openssl s_server`, async () => {
      await using server = await opensslServer();
      const { code, report } = await probe(`127.0.0.1:${server.port}`, '--tls', version);
      expect([code, report.closure?.verdict]).toEqual([0, 'secure']);
    });

    it(`TLS ${version}: --no-wait, whatever the server would have done`, async () => {
      await using server = await ours(() => {}, { answer: 'when-told' });
      const { code, report } = await probe(
        ...[`127.0.0.1:${server.port}`, '--tls', version, '--no-wait', '--timeout', '200'],
      );
      expect([code, report.closure?.verdict, report.error]).toEqual([0, 'one-sided', null]);
      expect(report.closure).toMatchObject({
        sent: { at: expect.any(Number), evidence: EVIDENCE },
        received: null,
      });
    });
  }

  it('data that the server sends unasked does not hide its close_notify', async () => {
    await using server = await ours(async (stream) => {
      await stream.write(Buffer.alloc(200_000));
      await stream.close();
    });
    const { code, report } = await probe(`127.0.0.1:${server.port}`);
    expect([code, report.closure?.verdict, report.closure?.late]).toEqual([0, 'secure', 200_000]);
  });

  it('tells ALPN, and sends SNI and a client certificate', async () => {
    const { server, client, ca } = pki();
    const asked: unknown[] = [];
    const plain = tls.createServer(
      { ...server, ca, requestCert: true, ALPNProtocols: ['b'] },
      (socket) => {
        asked.push(socket.servername, socket.getPeerCertificate().subject.CN);
        socket.on('error', () => {}).resume();
      },
    );
    await using listener = await listening(plain);
    const { code, report } = await probe(
      ...[`127.0.0.1:${listener.port}`, '--alpn', 'a,b', '--servername', 'localhost'],
      ...['--cert', file('client.pem', client.cert), '--key', file('client.key', client.key)],
    );
    expect(code).toBe(0);
    expect(report.tls?.alpn).toBe('b');
    expect(asked).toEqual(['localhost', 'client']);
  });
});

describeTls('exit code 1', () => {
  for (const version of VERSIONS) {
    it(`TLS ${version}: a server that answers with a bare FIN`, async () => {
      await using server = await ours(
        async (stream, transport) => {
          await stream.read();
          transport.end();
        },
        { answer: 'when-told' },
      );
      const { code, report } = await probe(`127.0.0.1:${server.port}`, '--tls', version);
      expect([code, report.closure?.verdict, report.closure?.transportEnd]).toEqual([
        ...[1, 'truncated', 'eof'],
      ]);
      expect(report.closure?.asio.message).toBe('stream truncated');
      expect(report.error).toMatchObject({ code: 'ERR_TLS_TRUNCATED', phase: 'shutdown' });
    });

    it(`TLS ${version}: a server that resets the connection`, async () => {
      await using server = await ours(
        async (stream, transport) => {
          await stream.read();
          transport.resetAndDestroy();
        },
        { answer: 'when-told' },
      );
      const { code, report } = await probe(`127.0.0.1:${server.port}`, '--tls', version);
      expect([code, report.closure?.verdict]).toEqual([1, 'truncated']);
    });

    it(`TLS ${version}: a server that never answers`, async () => {
      await using server = await ours(() => {}, { answer: 'when-told' });
      const { code, report } = await probe(
        ...[`127.0.0.1:${server.port}`, '--tls', version, '--timeout', '300'],
      );
      expect([code, report.closure?.verdict]).toEqual([1, 'timed-out']);
      expect(report.error).toMatchObject({ code: 'ERR_TLS_TIMEOUT', phase: 'shutdown' });
    });
  }

  it('says in words and in the drawing which side failed to do what', async () => {
    await using server = await ours(
      async (stream, transport) => {
        await stream.read();
        transport.end();
      },
      { answer: 'when-told' },
    );
    const { code, stdout } = await run(['probe', `127.0.0.1:${server.port}`]);
    expect(code).toBe(1);
    expect(stdout).toContain('FIN without close_notify');
    expect(stdout).toContain('✗ sent NO close_notify');
    // It asked nothing, so it accuses nobody.
    expect(stdout).toContain(
      'truncated: The server does not answer close_notify (many do not): it ended the TCP connection (FIN). Nothing was asked, so nothing was lost.',
    );
    expect(stdout).not.toMatch(/attack|TRUNCATED:|cut off/);
    expect(stdout).not.toContain('\u001b');
    expect(stdout.split('\n').findLast((line) => line !== '')).toMatch(/^truncated: /);
  });
});

describeTls('a certificate that does not verify is reported, and the probe goes on', () => {
  const cases = [
    ['expired', 'CERT_HAS_EXPIRED', 'it has expired'],
    ['selfSigned', 'DEPTH_ZERO_SELF_SIGNED_CERT', 'it is self-signed'],
    ['otherName', 'ERR_TLS_CERT_ALTNAME_INVALID', 'it is for another name'],
  ] as const;
  for (const [which, error, words] of cases) {
    it(which, async () => {
      await using server = await plainNode(pki()[which]);
      const ca = file(`ca-${which}.pem`, pki().ca);
      const { code, report } = await probe(`127.0.0.1:${server.port}`, '--ca', ca);
      expect(report.tls).toMatchObject({ authorized: false, authorizationError: error });
      expect([code, report.closure?.verdict]).toEqual([0, 'secure']);
      const { stdout } = await run(['probe', `127.0.0.1:${server.port}`, '--ca', ca]);
      expect(stdout).toContain(`does NOT verify: ${words} (${error})`);
    });
  }
});

describe('exit code 3', () => {
  it('a name that does not resolve', async () => {
    const { code, report } = await probe('nonexistent.invalid', '--timeout', '20000');
    expect(code).toBe(3);
    expect(report).toMatchObject({
      target: { host: 'nonexistent.invalid', port: 443, address: null },
      phases: [],
      tls: null,
      certificate: null,
      issuers: null,
      closure: null,
      error: { phase: 'resolve' },
    });
  });

  it('a port where nobody listens', async () => {
    const port = await refusedPort();
    const { code, report } = await probe(`127.0.0.1:${port}`);
    expect(code).toBe(3);
    expect(report).toMatchObject({
      target: { address: '127.0.0.1' },
      closure: null,
      error: { code: 'ERR_TLS_CONNECT', phase: 'connect' },
    });
  });

  it('a server that speaks HTTP', async () => {
    await using server = await raw((socket) => {
      socket.once('data', () => socket.end('HTTP/1.1 400 Bad Request\r\n\r\n'));
    });
    const { code, report } = await probe(`127.0.0.1:${server.port}`);
    expect(code).toBe(3);
    expect(report.error).toMatchObject({ code: 'ERR_TLS_HANDSHAKE', phase: 'handshake' });
    expect(report.error?.message).toContain('does not seem to speak TLS');
    expect(report.tls).toBeNull();
  });

  it('a server that says nothing', async () => {
    await using server = await raw(() => {});
    const { code, report } = await probe(`127.0.0.1:${server.port}`, '--timeout', '200');
    expect(code).toBe(3);
    expect(report.phases.map(({ name }) => name)).toEqual(['resolve', 'connect']);
    expect(report.error).toMatchObject({ code: 'ERR_TLS_TIMEOUT', phase: 'handshake' });
  });

  it('a server that hangs up at once', async () => {
    await using server = await raw((socket) => socket.resume().end());
    const { code, report } = await probe(`127.0.0.1:${server.port}`);
    expect(code).toBe(3);
    expect(report.closure).toMatchObject({
      verdict: 'truncated',
      truncation: { where: 'handshake' },
    });
  });

  it('says so in words', async () => {
    const port = await refusedPort();
    const { code, stdout } = await run(['probe', `127.0.0.1:${port}`]);
    expect(code).toBe(3);
    expect(stdout).toMatch(/connect +failed/);
    expect(stdout).toContain('no TLS connection:');
    expect(stdout).toContain('[ERR_TLS_CONNECT]');
  });
});

describe.concurrent('exit code 2', () => {
  const cases: ReadonlyArray<readonly [string, readonly string[]]> = [
    ['no target', []],
    ['an unknown option', ['localhost', '--nope']],
    ['a URL', ['https://localhost/']],
    ['what is no IPv6 address, in brackets', ['[localhost]:443']],
    ['no host', [':443']],
    ['port 0', ['localhost:0']],
    ['a port that is too high', ['localhost:65536']],
    ['a port that is no number', ['localhost:https']],
    ['an unknown TLS version', ['localhost', '--tls', '1.1']],
    ['an unknown protocol for STARTTLS', ['localhost', '--starttls', 'nntp']],
    ['a timeout of 0', ['localhost', '--timeout', '0']],
    ['a timeout that is no number', ['localhost', '--timeout', 'soon']],
    ['an address as servername', ['localhost', '--servername', '127.0.0.1']],
    ['an empty protocol name', ['localhost', '--alpn', 'h2,']],
    ['a file that is not there', ['localhost', '--ca', '/nonexistent/ca.pem']],
    ['a certificate without key', ['localhost', '--cert', '/nonexistent/cert.pem']],
  ];
  for (const [name, args] of cases) {
    it(name, async () => {
      const { code, stdout, stderr } = await run(['probe', ...args, '--json']);
      expect(code).toBe(2);
      expect(stdout).toBe('');
      expect(stderr).toMatch(/^error: .+/);
      expect(stderr).not.toContain('    at ');
    });
  }

  it('a file that holds no certificate', async () => {
    const { code, stderr } = await run(['probe', 'localhost', '--ca', file('junk.pem', 'junk')]);
    expect(code).toBe(2);
    expect(stderr).toMatch(/^error: --ca: /);
  });

  it('no command at all', async () => {
    const { code, stdout, stderr } = await run([]);
    expect([code, stdout]).toEqual([2, '']);
    expect(stderr).toContain('Usage: close-notify');
  });
});

describeTls('a key that is not the certificate’s', () => {
  it('is wrong usage', async () => {
    const { client, stranger } = pki();
    const { code, stderr } = await run([
      ...['probe', 'localhost', '--cert', file('a.pem', client.cert)],
      ...['--key', file('b.key', stranger.key)],
    ]);
    expect([code, stderr]).toEqual([2, expect.stringContaining('--key')]);
  });
});

describeTls('interruptions', () => {
  it('SIGINT ends it with 130, and --json still prints its object', async () => {
    let interrupt = () => {};
    await using server = await raw(() => interrupt());
    const running = run(['probe', `127.0.0.1:${server.port}`, '--json'], {
      onStart: (child) => {
        interrupt = () => child.kill('SIGINT');
      },
    });
    const { code, stdout, stderr } = await running;
    expect([code, stderr]).toEqual([130, '']);
    expect((JSON.parse(stdout) as ProbeReport).error).toMatchObject({
      code: 'ABORT_ERR',
      phase: 'handshake',
    });
  });

  it('a reader of its output who leaves is no reason for a stack trace', async () => {
    await using server = await plainNode();
    const { stderr } = await run(['probe', `127.0.0.1:${server.port}`], {
      onOutput: (child) => child.stdout?.destroy(),
    });
    expect(stderr).toBe('');
  });
});

describeTls('a server that asks for a client certificate', () => {
  const asking = { requestCert: true, rejectUnauthorized: false } as const;
  for (const version of VERSIONS) {
    it(`TLS ${version}: the issuers that it accepts`, async () => {
      await using server = await ours((stream) => stream.close(), { ...asking, ca: pki().ca });
      const args = [`127.0.0.1:${server.port}`, '--tls', version];
      const { code, report } = await probe(...args);
      expect([code, report.error]).toEqual([0, null]);
      expect(report.issuers).toEqual([
        { name: 'CN=close-notify test CA', der: expect.stringMatching(/^30([0-9a-f]{2})+$/) },
      ]);
      const { stdout } = await run(['probe', ...args]);
      expect(stdout).toMatch(/asks for a client certificate, from:\n +CN=close-notify test CA\n/);
    });

    it(`TLS ${version}: an empty list is not the same as no request`, async () => {
      await using server = await ours((stream) => stream.close(), asking);
      const args = [`127.0.0.1:${server.port}`, '--tls', version];
      expect((await probe(...args)).report.issuers).toEqual([]);
      const { stdout } = await run(['probe', ...args]);
      expect(stdout).toContain('asks for a client certificate, of any issuer');
    });
  }

  it('TLS 1.2: the issuers also where the handshake fails for want of a certificate', async () => {
    await using server = await opensslServer('-Verify', '1', '-CAfile', file('a.pem', pki().ca));
    const args = [`127.0.0.1:${server.port}`, '--tls', '1.2'];
    const { code, report } = await probe(...args);
    expect([code, report.tls, report.closure?.alert?.name]).toEqual([3, null, 'handshake_failure']);
    expect(report.issuers).toMatchObject([{ name: 'CN=close-notify test CA' }]);
    const { stdout } = await run(['probe', ...args]);
    expect(stdout).toMatch(/handshake +failed\nrequest +asks for a client certificate, from:\n/);
  });
});

describeTls('--starttls', () => {
  it('has a phase of its own, and TLS comes after it', async () => {
    await using server = await smtp(pki().server);
    const args = [`127.0.0.1:${server.port}`, '--starttls', 'smtp'];
    const { code, report } = await probe(...args);
    expect([code, report.error, report.closure?.verdict]).toEqual([0, null, 'secure']);
    expect(report.phases.map(({ name }) => name)).toEqual([
      ...['resolve', 'connect', 'starttls', 'handshake', 'shutdown', 'close'],
    ]);
    // The closure's times and the phases are on one clock, which began before the name was resolved.
    const before = report.phases.slice(0, 4).reduce((sum, { ms }) => sum + ms, 0);
    expect(report.closure?.sent?.at).toBeGreaterThanOrEqual(before - 0.01);
    const { stdout } = await run(['probe', ...args]);
    expect(stdout).toMatch(/^starttls +[\d.]+ ms {2}smtp$/m);
    expect(stdout).toMatch(/connected[\s\S]+STARTTLS \(smtp\)[\s\S]+handshake TLSv1\.3/);
  });

  it('is refused: no handshake', async () => {
    await using server = await smtp(pki().server, ['SIZE 1000']);
    const args = [`127.0.0.1:${server.port}`, '--starttls', 'smtp'];
    const { code, report } = await probe(...args);
    expect([code, report.tls, report.closure]).toEqual([3, null, null]);
    expect(report.target.address).toBe('127.0.0.1');
    expect(report.phases.map(({ name }) => name)).toEqual(['resolve', 'connect']);
    expect(report.error).toMatchObject({ code: 'ERR_TLS_STARTTLS', phase: 'starttls' });
    const { stdout } = await run(['probe', ...args]);
    expect(stdout).toMatch(/starttls +failed/);
    expect(stdout).toContain('[ERR_TLS_STARTTLS]');
  });

  it('has the deadline of --timeout', async () => {
    await using server = await raw(() => {});
    const { code, report } = await probe(
      ...[`127.0.0.1:${server.port}`, '--starttls', 'imap', '--timeout', '200'],
    );
    expect(code).toBe(3);
    expect(report.error).toMatchObject({ code: 'ERR_TLS_TIMEOUT', phase: 'starttls' });
  });
});

describe('help', () => {
  it('prints a version', async () => {
    const { code, stdout } = await run(['--version']);
    expect([code, stdout]).toEqual([0, expect.stringMatching(/^\d+\.\d+\.\d+\n$/)]);
  });

  it.each(['', 'probe', 'issuers', 'draw', 'demo', 'doctor'])(
    '80 columns do: %s',
    async (command) => {
      const { stdout } = await run([...command.split(' ').filter(Boolean), '--help']);
      expect(stdout).toContain('Usage: close-notify');
      expect(stdout.split('\n').filter((line) => line.length > 80)).toEqual([]);
    },
  );

  it('has examples and exit codes', async () => {
    const { code, stdout } = await run(['probe', '--help']);
    expect(code).toBe(0);
    expect(stdout).toContain('Examples:');
    expect(stdout).toContain('Exit codes:');
  });
});
