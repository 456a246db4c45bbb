/** `close-notify issuers` against servers that ask for certificates, and those that do not. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { IssuersPage } from '../../../src/cli/issuers-page.ts';
import type { IssuersReport } from '../../../src/cli/issuers-report.ts';
import type { Terminal } from '../../../src/cli/terminal.ts';
import { explainRequest } from '../../../src/cli/words.ts';
import type { TlsStream } from '../../../src/index.ts';
import { opensslServer, ours, raw, refusedPort, smtp } from '../../support/cli-servers.ts';
import { describeTls, pki } from '../../support/core-pki.ts';
import { COUNTS, type IssuersPki, makeIssuersPki } from './issuers-pki.ts';
import { run } from './run.ts';

let directory = '';
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'close-notify-test-'));
});
afterAll(() => rmSync(directory, { recursive: true, force: true }));

let made: IssuersPki | undefined;
/** The files; the first call makes them. */
function files(): IssuersPki {
  made ??= makeIssuersPki(directory);
  return made;
}

/** `issuers --json`: its exit code, and the one object that stdout holds. */
async function issuers(...args: string[]): Promise<{ code: number | null; report: IssuersReport }> {
  const { code, stdout, stderr } = await run(['issuers', ...args, '--json']);
  expect(stderr).toBe('');
  return { code, report: JSON.parse(stdout) as IssuersReport };
}

const VERSIONS = ['1.2', '1.3'] as const;

/** Reads, which is what makes some servers look at the certificate, then closes. */
const polite = async (stream: TlsStream) => {
  await stream.read();
  await stream.close();
};

const asking = (rejectUnauthorized: boolean) => ({
  requestCert: true,
  rejectUnauthorized,
  ca: [...files().authorities[3]],
});

describeTls('our own server', () => {
  for (const version of VERSIONS) {
    it(`TLS ${version}: asks, and goes on without`, async () => {
      await using server = await ours(polite, asking(false));
      const ca = join(directory, `ca-${version}.pem`);
      writeFileSync(ca, pki().ca);
      const at = `127.0.0.1:${server.port}`;
      const { code, report } = await issuers(at, '--tls', version, '--ca', ca);
      expect(code).toBe(0);
      expect(report).toEqual({
        target: { host: '127.0.0.1', port: server.port, address: '127.0.0.1' },
        request: 'optional',
        when: 'handshake',
        issuers: files().names[3],
        signatureAlgorithms: expect.arrayContaining(['ecdsa_secp256r1_sha256']),
        certificateTypes:
          version === '1.2' ? expect.arrayContaining(['rsa_sign', 'ecdsa_sign']) : null,
        oidFilters: null,
        tls: { protocol: `TLSv${version}`, cipher: expect.stringMatching(/^TLS_/) },
        authorized: true,
        authorizationError: null,
        closure: {
          verdict: 'secure',
          incomplete: false,
          initiator: expect.stringMatching(/^(local|peer)$/),
          sent: { at: expect.any(Number), evidence: 'openssl' },
          received: { at: expect.any(Number), evidence: 'openssl' },
          transportEnd: 'closed',
          alert: null,
          truncation: null,
          send: 'closed',
          receive: 'closed',
          late: 0,
          unsent: 0,
          asio: { category: 'system', value: 0, message: 'Success' },
        },
        matches: [],
        limitation: null,
        error: null,
      });
    });

    it(`TLS ${version}: does not ask`, async () => {
      await using server = await ours(polite);
      const at = `127.0.0.1:${server.port}`;
      const { code, report } = await issuers(at, '--tls', version, '--identity', files().client);
      expect([code, report.request, report.when]).toEqual([1, 'none', null]);
      expect([report.issuers, report.signatureAlgorithms]).toEqual([[], []]);
      expect(report.closure?.verdict).toBe('secure');
      expect(report.matches).toMatchObject([{ usable: true }]);
      const { code: same, stdout } = await run(['issuers', at, '--tls', version]);
      expect(same).toBe(1);
      expect(stdout).toContain('none: The server asks for no client certificate.');
      expect(stdout).not.toContain('names nobody');
    });
  }

  it('accuses nobody of an answer that was not asked for', async () => {
    await using server = await ours(
      async (stream, transport) => {
        await stream.read();
        transport.end();
      },
      { answer: 'when-told' },
    );
    const at = `127.0.0.1:${server.port}`;
    const { stdout } = await run(['issuers', at], { env: { COLUMNS: '300' } });
    expect(stdout).toMatch(/^truncated: .* Nothing was asked, so nothing was lost\.$/m);
    const args = ['issuers', at, '--tls', '1.2', '--http', '/'];
    const asked = await run(args, { env: { COLUMNS: '300' } });
    expect(asked.stdout).not.toContain('nothing was lost');
  });

  it('asks, and insists (TLS 1.3)', async () => {
    await using server = await ours(polite, asking(true));
    const at = `127.0.0.1:${server.port}`;
    const { code, report } = await issuers(at, '--tls', '1.3');
    expect([code, report.issuers]).toEqual([0, files().names[3]]);
    expect(report.request).not.toBe('none');
  });
});

describeTls('openssl s_server', () => {
  for (const version of VERSIONS) {
    for (const [flag, request] of [
      ['-verify', 'optional'],
      ['-Verify', 'required'],
    ] as const) {
      for (const count of COUNTS) {
        it(`TLS ${version}, ${flag}, ${count} names`, async () => {
          const bundle = count === 0 ? [] : ['-CAfile', files().bundles[count]];
          await using server = await opensslServer(flag, '1', ...bundle);
          const { code, report } = await issuers(`127.0.0.1:${server.port}`, '--tls', version);
          expect([code, report.request, report.when]).toEqual([0, request, 'handshake']);
          expect(report.issuers).toEqual(files().names[count]);
          expect(report.tls?.protocol).toBe(`TLSv${version}`);
          expect(report.error).toBeNull();
          expect(report.closure?.verdict).toBe(request === 'optional' ? 'secure' : 'alert');
        });
      }
    }
  }

  it('says in words that an empty list is not the same as no request', async () => {
    await using server = await opensslServer('-verify', '1');
    const { code, stdout } = await run(['issuers', `127.0.0.1:${server.port}`]);
    expect(code).toBe(0);
    expect(stdout).toMatch(/^optional: The server asks for a client certificate/m);
    expect(stdout).toContain('It names nobody: it may take a certificate of any issuer.');
    expect(stdout).toMatch(/^signature algorithms: /m);
    expect(stdout.split('\n').findLast((line) => line !== '')).toMatch(/^secure: /);
  });
});

describeTls('identities', () => {
  /** Runs against a server that names the authority of the good ones. */
  async function judged(version: '1.2' | '1.3', ...args: string[]) {
    await using server = await opensslServer('-Verify', '1', '-CAfile', files().bundles[3]);
    // Awaited here: the server must outlive it.
    return await issuers(`127.0.0.1:${server.port}`, '--tls', version, ...args);
  }

  for (const version of VERSIONS) {
    it(`TLS ${version}: good and bad ones, the best first`, async () => {
      const { client, stranger, expired, keyless } = files();
      const { code, report } = await judged(
        version,
        ...[stranger, expired, client, keyless].flatMap((path) => ['--identity', path]),
      );
      expect(code).toBe(0);
      expect(report.matches[0]).toEqual({
        source: client,
        subject: 'CN=client',
        usable: true,
        reasons: [],
      });
      const others = Object.fromEntries(
        report.matches
          .slice(1)
          .map(({ source, usable, reasons }) => [
            source,
            [usable, ...reasons.map(({ code }) => code)],
          ]),
      );
      expect(others).toEqual({
        [stranger]: [false, 'issuer-not-listed'],
        [expired]: [false, 'expired'],
        [keyless]: [false, 'key-missing'],
      });
      for (const { reasons } of report.matches) {
        for (const { message } of reasons) expect(message).not.toBe('');
      }
    });
  }

  it('none is usable: 1', async () => {
    const { stranger, expired } = files();
    const { code, report } = await judged('1.3', '--identity', stranger, '--identity', expired);
    expect([code, report.request]).toEqual([1, 'required']);
    expect(report.matches.map(({ usable }) => usable)).toEqual([false, false]);
  });

  it('a folder, an encrypted key, PKCS#12', async () => {
    const { folder, encrypted, pkcs12, passFile } = files();
    const { code, report } = await judged(
      ...(['1.3', '--identity', folder, '--identity', encrypted] as const),
      ...['--identity', pkcs12, '--pass-file', passFile],
    );
    expect(code).toBe(0);
    const usable = report.matches.filter((match) => match.usable).map(({ source }) => source);
    expect(usable.sort()).toEqual([encrypted, pkcs12, join(folder, 'client.crt')].sort());
  });

  it('are ticked or crossed, with every reason', async () => {
    const { client, stranger } = files();
    await using server = await opensslServer('-Verify', '1', '-CAfile', files().bundles[3]);
    const args = [`127.0.0.1:${server.port}`, '--identity', client, '--identity', stranger];
    const { code, stdout } = await run(['issuers', ...args], { env: { COLUMNS: '300' } });
    expect(code).toBe(0);
    expect(stdout).toContain(`✓ CN=client (${client})\n✗ CN=stranger (${stranger})\n`);
    expect(stdout).toMatch(/^ {2}issuer-not-listed: none of the names/m);
    expect(stdout).toMatch(/^required: .*ends the connection without one\.$/m);
    expect(stdout).toMatch(/^alert: .*certificate_required\.$/m);
    const { stdout: ascii } = await run(['issuers', ...args, '--ascii']);
    expect(ascii).toMatch(/^[ -~\n]*$/);
    expect(ascii).toMatch(/^\* CN=client/m);
  });
});

describe('--http', () => {
  it('says so where it could not be looked at', async () => {
    await using server = await ours(polite, { requestCert: true, rejectUnauthorized: false });
    const at = `127.0.0.1:${server.port}`;
    const args = ['issuers', at, '--tls', '1.3', '--http', '/private'];
    const { code, report } = await issuers(...args.slice(1));
    expect([code, report.limitation]).toEqual([0, null]);
    const env = { CLOSE_NOTIFY_ENGINE: 'tapped' };
    const tapped = await run([...args, '--json'], { env });
    const { limitation } = JSON.parse(tapped.stdout) as IssuersReport;
    expect([tapped.code, limitation]).toEqual([0, expect.stringContaining('after the handshake')]);
    const { stdout } = await run(args, { env });
    expect(stdout).toMatch(/^not looked at: /m);
  });

  it('asks neither in the handshake nor for the path', async () => {
    const requests: string[] = [];
    await using server = await ours(async (stream) => {
      requests.push(Buffer.from((await stream.read()) ?? []).toString());
      await stream.close();
    });
    const at = `127.0.0.1:${server.port}`;
    const { code, report } = await issuers(at, '--tls', '1.2', '--http', '/private');
    expect([code, report.request, report.limitation]).toEqual([1, 'none', null]);
    expect(requests).toEqual([expect.stringMatching(/^GET \/private HTTP\/1\.1\r\n/)]);
  });
});

describeTls('--starttls', () => {
  it('asks after the dialogue', async () => {
    await using server = await smtp({ ...pki().server, ...asking(false) });
    const { code, report } = await issuers(`127.0.0.1:${server.port}`, '--starttls', 'smtp');
    expect([code, report.request, report.issuers]).toEqual([0, 'optional', files().names[3]]);
    expect(report.closure?.verdict).toBe('secure');
  });

  it('is refused: 3', async () => {
    await using server = await smtp(pki().server, []);
    const { code, report } = await issuers(`127.0.0.1:${server.port}`, '--starttls', 'smtp');
    expect(code).toBe(3);
    expect(report).toMatchObject({
      request: null,
      issuers: [],
      closure: null,
      error: { code: 'ERR_TLS_STARTTLS', phase: 'starttls' },
    });
  });
});

describe('exit code 3', () => {
  it('a port where nobody listens', async () => {
    const at = `127.0.0.1:${await refusedPort()}`;
    const { code, report } = await issuers(at);
    expect(code).toBe(3);
    expect(report).toEqual({
      target: { host: '127.0.0.1', port: expect.any(Number), address: '127.0.0.1' },
      request: null,
      when: null,
      issuers: [],
      signatureAlgorithms: [],
      certificateTypes: null,
      oidFilters: null,
      tls: null,
      authorized: null,
      authorizationError: null,
      closure: null,
      matches: [],
      limitation: null,
      error: { code: 'ERR_TLS_CONNECT', message: expect.any(String), phase: 'connect' },
    });
    const { code: same, stdout } = await run(['issuers', at]);
    expect(same).toBe(3);
    expect(stdout).toContain('no TLS connection: ');
    expect(stdout).toContain('[ERR_TLS_CONNECT]');
  });

  it('a server that says nothing', async () => {
    await using server = await raw(() => {});
    const { code, report } = await issuers(`127.0.0.1:${server.port}`, '--timeout', '200');
    expect(code).toBe(3);
    expect(report.error).toMatchObject({ code: 'ERR_TLS_TIMEOUT', phase: 'handshake' });
  });

  it('a server that hangs up at once', async () => {
    await using server = await raw((socket) => socket.resume().end());
    const { code, report } = await issuers(`127.0.0.1:${server.port}`);
    expect([code, report.request]).toEqual([3, null]);
    expect(report.closure).toMatchObject({ verdict: 'truncated' });
  });
});

describe.concurrent('exit code 2', () => {
  const cases: ReadonlyArray<readonly [string, readonly string[]]> = [
    ['no target', []],
    ['an unknown protocol', ['localhost', '--starttls', 'nntp']],
    ['an identity that is not there', ['localhost', '--identity', '/nonexistent/client.pem']],
    ['a passphrase without identity', ['localhost', '--pass-file', '/nonexistent/pass']],
    ['a path that is none', ['localhost', '--http', 'private']],
    ['an unknown option', ['localhost', '--cert', 'client.pem']],
  ];
  for (const [name, args] of cases) {
    it(name, async () => {
      const { code, stdout, stderr } = await run(['issuers', ...args, '--json']);
      expect([code, stdout]).toEqual([2, '']);
      expect(stderr).toMatch(/^error: .+/);
      expect(stderr).not.toContain('    at ');
    });
  }

  it('a file that holds neither certificate nor key', async () => {
    const junk = join(directory, 'junk.pem');
    writeFileSync(junk, 'junk');
    const { code, stderr } = await run(['issuers', 'localhost', '--identity', junk]);
    expect(code).toBe(2);
    expect(stderr).toContain('junk.pem');
  });

  it('a folder that holds no identity', async () => {
    const empty = mkdtempSync(join(directory, 'empty-'));
    const { code, stderr } = await run(['issuers', 'localhost', '--identity', empty]);
    expect(code).toBe(2);
    expect(stderr).toContain('no certificate in it');
  });
});

describeTls('passphrases', () => {
  it('missing, wrong, or in a file that is not there: 2', async () => {
    const { pkcs12, encrypted } = files();
    const wrong = join(directory, 'wrong.txt');
    writeFileSync(wrong, 'open barley');
    for (const identity of [pkcs12, encrypted]) {
      for (const extra of [[], ['--pass-file', wrong], ['--pass-file', '/nonexistent/pass']]) {
        const args = ['issuers', 'localhost', '--identity', identity, ...extra];
        const { code, stdout, stderr } = await run(args);
        expect([code, stdout]).toEqual([2, '']);
        expect(stderr).toMatch(/^error: --(identity|pass-file): .*pass/);
        expect(stderr).not.toContain('    at ');
      }
    }
  });
});

describe('interruptions', () => {
  it('SIGINT ends it with 130, and --json still prints its object', async () => {
    let interrupt = () => {};
    await using server = await raw(() => interrupt());
    const { code, stdout, stderr } = await run(['issuers', `127.0.0.1:${server.port}`, '--json'], {
      onStart: (child) => {
        interrupt = () => child.kill('SIGINT');
      },
    });
    expect([code, stderr]).toEqual([130, '']);
    expect((JSON.parse(stdout) as IssuersReport).error).toMatchObject({ code: 'ABORT_ERR' });
  });
});

describe('explainRequest', () => {
  it('says when, and what the server does without', () => {
    const said = (request: 'optional' | 'required' | 'unknown') =>
      explainRequest({ request, when: 'renegotiation', path: '/a' });
    const asks = 'The server asks for a client certificate in a renegotiation, for /a';
    expect(said('optional')).toBe(`${asks}, and goes on without one.`);
    expect(said('required')).toBe(`${asks}, and ends the connection without one.`);
    expect(said('unknown')).toBe(`${asks}; what it does without one was not to be seen.`);
    expect(explainRequest({ request: 'none', when: null, path: '/a' })).toBe(
      'The server asks for no client certificate, neither in the handshake nor for /a.',
    );
  });
});

describe('the page', () => {
  const closure: IssuersReport['closure'] = {
    verdict: 'secure',
    incomplete: false,
    initiator: 'local',
    sent: { at: 1, evidence: 'record' },
    received: { at: 2, evidence: 'record' },
    transportEnd: 'closed',
    alert: null,
    truncation: null,
    send: 'closed',
    receive: 'closed',
    late: 0,
    unsent: 0,
    asio: { category: 'system', value: 0, message: 'Success' },
  };
  const name = (i: number) =>
    `CN=Root ${i},OU=${'a\\, b '.repeat(i % 40)}end,O=${'x'.repeat(i % 200)},C=${i % 3 ? 'DE' : 'ルート認証局\u001b[2J'}`;
  const report: IssuersReport = {
    target: { host: 'localhost', port: 443, address: '127.0.0.1' },
    request: 'required',
    when: 'handshake',
    issuers: Array.from({ length: 250 }, (_, i) => ({ name: name(i + 1), der: '30' })),
    signatureAlgorithms: Array.from({ length: 30 }, (_, i) => `algorithm_number_${i}`),
    certificateTypes: ['rsa_sign', 'ecdsa_sign'],
    oidFilters: [{ oid: '0603551d0f', values: '03020780' }],
    tls: { protocol: 'TLSv1.2', cipher: 'TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256' },
    authorized: false,
    authorizationError: 'DEPTH_ZERO_SELF_SIGNED_CERT',
    closure,
    matches: [
      { source: 'client.pem', subject: 'CN=client', usable: true, reasons: [] },
      {
        source: `/${'folder/'.repeat(30)}x.pem`,
        subject: name(199),
        usable: false,
        reasons: [
          { code: 'expired', message: 'valid only until some day that is long gone by' },
          { code: 'issuer-not-listed', message: `none of the names (${name(99)})` },
        ],
      },
    ],
    limitation: null,
    error: null,
  };

  /** What is printed on a terminal. */
  function page(width: number, live: boolean, charset: Terminal['charset'] = 'unicode'): string {
    let text = '';
    const write = (more: string) => {
      text += more;
    };
    const nothing = () => {};
    const terminal = {
      width,
      charset,
      colour: false,
      live,
      write,
      draw: nothing,
      paragraph: write,
    };
    const target = { host: 'localhost', port: 443 };
    new IssuersPage(terminal, target, {}).print(report, new AbortController().signal);
    return text;
  }

  const columns = (line: string) =>
    [...line].reduce((sum, character) => sum + (/[\u3000-\u9fff]/.test(character) ? 2 : 1), 0);

  for (const width of [80, 140]) {
    for (const charset of ['unicode', 'ascii'] as const) {
      for (const live of [true, false]) {
        it(`${width} columns are never exceeded: ${charset}, ${live ? 'a person' : 'a file'}`, () => {
          const text = page(width, live, charset);
          for (const line of text.split('\n')) {
            expect(columns(line), line).toBeLessThanOrEqual(width);
          }
          expect(text).not.toContain('\u001b');
        });
      }
    }
  }

  it('numbers each of 250 names, and leaves nothing out of a file', () => {
    const rows = [...page(80, false).matchAll(/^│ +(\d*) │ (.*) │$/gm)];
    const numbers = rows.map(([, number]) => number).filter((number) => number !== '');
    expect(numbers).toEqual(Array.from({ length: 250 }, (_, i) => `${i + 1}`));
    const whole = rows
      .map(([, , part = '']) => part.trim())
      .join('')
      .replaceAll(' ', '');
    for (const { name } of report.issuers) {
      expect(whole).toContain(name.replace('\u001b', '\\1b').replaceAll(' ', ''));
    }
  });

  it('cuts a name of many lines for a person', () => {
    const rows = page(80, true)
      .split('\n')
      .filter((line) => line.startsWith('│'));
    expect(rows.length).toBeLessThanOrEqual(1 + 250 * 4);
    expect(rows.some((row) => /^│ +│ \.\.\. +│$/.test(row))).toBe(true);
  });
});
