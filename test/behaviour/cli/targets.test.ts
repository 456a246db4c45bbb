/** Targets on the command line: how they are written, which addresses they may have, several of them. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import { networkInterfaces, tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { IssuersReport } from '../../../src/cli/issuers-report.ts';
import { TargetLines } from '../../../src/cli/lines.ts';
import type { ProbeReport } from '../../../src/cli/probe-report.ts';
import type { Terminal } from '../../../src/cli/terminal.ts';
import { ours, plainNode, raw, refusedPort } from '../../support/cli-servers.ts';
import { describeTls, pki } from '../../support/core-pki.ts';
import { MAIN, run } from './run.ts';

let directory = '';
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'close-notify-targets-'));
});
afterAll(() => rmSync(directory, { recursive: true, force: true }));

describe.concurrent('a target that is written wrong', () => {
  const put = 'put an IPv6 address in brackets:';
  it.each([
    ['::1', `${put} [::1], or [::1]:PORT`],
    ['::1:443', `${put} [::1]:443 if 443 is the port, [::1:443] if it is part of the address`],
    ['fe80::1%eth0', `${put} [fe80::1%eth0], or [fe80::1%eth0]:PORT`],
    ['fe80::1%eth0:443', `${put} [fe80::1%eth0]:443`],
    ['2001:db8:1:2:3:4:5:6:443', `${put} [2001:db8:1:2:3:4:5:6]:443`],
    ['2001:db8::99999', "neither HOST:PORT nor an IPv6 address: '2001:db8::99999'"],
    ['a:b:c', "neither HOST:PORT nor an IPv6 address: 'a:b:c'"],
    ['[::1]443', "only :PORT may follow [::1], not '443'"],
    ['[::1', "not a host: '[::1'"],
  ])('%s', async (target, message) => {
    expect(await run(['probe', target])).toMatchObject({
      ...{ code: 2, stdout: '', stderr: `error: ${message}\n` },
    });
  });
});

it.skipIf(spawnSync('script', ['--version']).error !== undefined)(
  'an error on a terminal of 80 columns is broken between words',
  () => {
    const command = `stty cols 80; "${process.execPath}" "${MAIN}" probe ::1:443`;
    const env = { ...process.env, LC_ALL: 'C.UTF-8', TERM: 'xterm' };
    // It gives the command a terminal of its own.
    const { stdout } = spawnSync('script', ['-qec', command, '/dev/null'], {
      env,
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    const lines = stdout.trimEnd().split(/\r?\n/);
    expect(lines).toEqual([
      'error: put an IPv6 address in brackets: [::1]:443 if 443 is the port, [::1:443]',
      'if it is part of the address',
    ]);
  },
);

describe('-4 and -6', () => {
  it.each([
    ['-4', '[::1]:1', '-4 is for IPv4, and ::1 is an IPv6 address'],
    ['-6', '127.0.0.1:1', '-6 is for IPv6, and 127.0.0.1 is an IPv4 address'],
  ])('%s %s is wrong usage', async (option, target, message) => {
    for (const command of ['probe', 'issuers']) {
      const { code, stderr } = await run([command, option, target]);
      expect([code, stderr]).toEqual([2, `error: ${message}\n`]);
    }
  });

  it('not both', async () => {
    const { code, stderr } = await run(['probe', '-4', '-6', 'localhost']);
    expect([code, stderr]).toEqual([2, expect.stringMatching(/^error: .*-4.*-6/)]);
  });

  it('-6 does not reach what listens on IPv4 alone; -4 does', async () => {
    await using server = await plainNode();
    const target = `localhost:${server.port}`;
    for (const command of ['probe', 'issuers']) {
      expect((await run([command, '-6', target])).code).toBe(3);
      const { stdout } = await run([command, '-4', target, '--json']);
      expect((JSON.parse(stdout) as ProbeReport).target.address).toBe('127.0.0.1');
    }
  });

  const loopback6 = Object.values(networkInterfaces()).some((all) =>
    all?.some(({ address }) => address === '::1'),
  );
  it.skipIf(!loopback6)('-4 does not reach what listens on IPv6 alone', async () => {
    let connections = 0;
    const server = net.createServer((socket) => {
      connections++;
      socket.destroy();
    });
    await new Promise<void>((resolve) => server.listen(0, '::1', resolve));
    const { port } = server.address() as net.AddressInfo;
    try {
      const { code, stdout } = await run(['probe', '-4', `localhost:${port}`, '--json']);
      expect(code).toBe(3);
      expect((JSON.parse(stdout) as ProbeReport).error?.phase).toMatch(/^(resolve|connect)$/);
      expect(connections).toBe(0);
    } finally {
      await new Promise((resolve) => server.close(resolve));
    }
  });
});

/** A server that ends TCP as soon as our close_notify is there, and sends none. */
const truncating = () =>
  ours(
    async (stream, transport) => {
      await stream.read();
      transport.end();
    },
    { answer: 'when-told' },
  );

describeTls('several targets', () => {
  it('one line each in columns, in the order given, and the worst exit code', async () => {
    // The first is the last to be over: it says nothing until the deadline.
    await using silent = await raw(() => {});
    await using cut = await truncating();
    await using polite = await plainNode();
    const targets = [
      ...[`127.0.0.1:${silent.port}`, `localhost:${cut.port}`, `127.0.0.1:${polite.port}`],
    ];
    const { code, stdout, stderr } = await run(['probe', '--timeout', '300', ...targets]);
    expect([code, stderr]).toEqual([3, '']);
    const lines = stdout.trimEnd().split('\n');
    expect(lines.map((line) => line.split(/ {2,}/).slice(0, 3))).toEqual([
      [targets[0], 'no TLS', '-'],
      [targets[1], 'truncated', 'TLSv1.3'],
      [targets[2], 'secure', 'TLSv1.3'],
    ]);
    expect(lines[0]).toContain('[ERR_TLS_TIMEOUT]');
    expect(lines[1]).toContain('FIN, no close_notify; certificate: its issuer is not known');
    const at = (line: string, word: string) => line.indexOf(word);
    expect(at(lines[0] ?? '', 'no TLS')).toBe(at(lines[1] ?? '', 'truncated'));
    expect(at(lines[1] ?? '', 'TLSv1.3')).toBe(at(lines[2] ?? '', 'TLSv1.3'));
    // Without the worst, the next.
    expect((await run(['probe', ...targets.slice(1)])).code).toBe(1);
    const both = [targets[2] as string, targets[2] as string];
    expect((await run(['probe', ...both])).code).toBe(0);
  });

  it('--json: one object a line', async () => {
    await using polite = await plainNode();
    const refused = `127.0.0.1:${await refusedPort()}`;
    const targets = [refused, `127.0.0.1:${polite.port}`];
    const { code, stdout } = await run(['probe', '--json', ...targets]);
    expect(code).toBe(3);
    const reports = stdout
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line) as ProbeReport);
    expect(reports.map(({ target: { host, port } }) => `${host}:${port}`)).toEqual(targets);
    expect(reports.map(({ closure }) => closure?.verdict)).toEqual([undefined, 'secure']);
  });

  it('more than are looked at at a time', async () => {
    await using polite = await plainNode();
    const targets = Array.from({ length: 20 }, (_, i) => `127.0.0.${i + 1}:${polite.port}`);
    // Only the first has a listener.
    const { code, stdout } = await run(['probe', ...targets]);
    expect(code).toBe(3);
    expect(stdout.match(/^\S+/gm)).toEqual(targets);
    expect(stdout.match(/ secure /g)).toHaveLength(1);
  });

  it('what is for one connection is refused', async () => {
    for (const option of ['--output', '--transcript', '--pcapng']) {
      const file = join(directory, 'x.svg');
      const { code, stderr } = await run(['probe', 'a', 'b', option, file]);
      expect([code, stderr]).toEqual([
        2,
        `error: ${option} is for one target, and not for a list\n`,
      ]);
    }
  });

  it('issuers: who asks, whom for, and which of ours it takes', async () => {
    const asking = { requestCert: true, rejectUnauthorized: false, ca: pki().ca } as const;
    await using asks = await ours((stream) => stream.close(), asking);
    await using open = await plainNode();
    const targets = [`127.0.0.1:${asks.port}`, `127.0.0.1:${open.port}`];
    const { code, stdout } = await run(['issuers', ...targets]);
    expect(code).toBe(1);
    const lines = stdout.trimEnd().split('\n');
    expect(lines.map((line) => line.split(/ {2,}/))).toEqual([
      [targets[0], 'optional', 'TLSv1.3', '1 issuer: CN=close-notify test CA'],
      [targets[1], 'none', 'TLSv1.3', 'asks for no client certificate'],
    ]);
    const identity = join(directory, 'client.pem');
    writeFileSync(identity, `${pki().client.cert}\n${pki().client.key}`);
    const both = [targets[0] as string, targets[0] as string];
    const judged = await run(['issuers', ...both, '--identity', identity, '--json']);
    expect(judged.code).toBe(0);
    for (const line of judged.stdout.trimEnd().split('\n')) {
      expect((JSON.parse(line) as IssuersReport).matches).toMatchObject([{ usable: true }]);
    }
    const shown = await run(['issuers', ...both, '--identity', identity]);
    expect(shown.stdout.match(new RegExp(`takes ${identity}; 1 issuer`, 'g'))).toHaveLength(2);
  });
});

describeTls('--targets', () => {
  it('a file: one a line, with comments, behind those of the command line', async () => {
    await using polite = await plainNode();
    const { port } = polite;
    const file = join(directory, 'hosts.txt');
    writeFileSync(file, `# ours\r\n\n  localhost:${port}  # by its name\n127.0.0.1:${port}\n`);
    const { code, stdout } = await run(['probe', `127.0.0.1:${port}`, '--targets', file]);
    expect(code).toBe(0);
    const expected = ['127.0.0.1', 'localhost', '127.0.0.1'].map((host) => `${host}:${port}`);
    expect(stdout.match(/^\S+/gm)).toEqual(expected);
  });

  it('- is standard input; a list of one is a list', async () => {
    await using polite = await plainNode();
    for (const command of ['probe', 'issuers']) {
      const { stdout } = await run([command, '--targets', '-', '--json'], {
        input: `127.0.0.1:${polite.port}`,
      });
      expect(stdout.match(/\n/g)).toHaveLength(1);
      expect(JSON.parse(stdout).target.port).toBe(polite.port);
    }
  });

  it.each([
    ['', 'standard input: no target in it'],
    ['a\n\n::1\n', 'standard input, line 3: put an IPv6 address in brackets: [::1], or [::1]:PORT'],
  ])('refuses %j', async (input, message) => {
    const { code, stdout, stderr } = await run(['probe', '--targets', '-'], { input });
    expect([code, stdout, stderr]).toEqual([2, '', `error: --targets: ${message}\n`]);
  });

  it('a file that is not there', async () => {
    const { code, stderr } = await run(['issuers', '--targets', '/nonexistent/hosts']);
    expect([code, stderr]).toEqual([2, expect.stringMatching(/^error: --targets: .*ENOENT/)]);
  });
});

describe('lines on a terminal', () => {
  const CLEAR = '\r\u001b[K';
  const targets = ['example.org', `${'long-'.repeat(20)}name.example`].map((host) => ({
    ...{ host, port: 443 },
  }));
  for (const width of [80, 140]) {
    for (const charset of ['unicode', 'ascii'] as const) {
      it(`none is longer than ${width} columns: ${charset}`, () => {
        let text = '';
        const write: Terminal['write'] = (more) => {
          text += more;
        };
        const nothing = () => {};
        const lines = new TargetLines(
          { width, charset, write, live: true, colour: false, draw: nothing, paragraph: nothing },
          targets,
        );
        for (const target of targets) {
          const detail = `\u001b[2J${'CN=Prüfstelle; '.repeat(20)}`;
          lines.print(target, { word: 'optional', tone: 'good', protocol: 'TLSv1.3', detail });
        }
        // What is overwritten is gone.
        const rows = text
          .trimEnd()
          .split('\n')
          .map((row) => row.slice(row.lastIndexOf(CLEAR) + CLEAR.length));
        expect(rows.join()).not.toContain('\u001b');
        expect(rows).toHaveLength(2);
        for (const row of rows) expect([...row].length).toBeLessThanOrEqual(width);
        // In columns, and most of the room is for what is said.
        expect(new Set(rows.map((row) => row.indexOf('optional'))).size).toBe(1);
        expect(rows[0]?.indexOf('optional')).toBeLessThan(width / 2);
      });
    }
  }
});
