/** The files of the command line: keys and passphrases, outputs, and a standard output that fails. */
import { createPrivateKey } from 'node:crypto';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import tls from 'node:tls';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Transcript } from '../../../src/index.ts';
import { listening, plainNode, raw } from '../../support/cli-servers.ts';
import { describeTls, pki } from '../../support/core-pki.ts';
import { run } from './run.ts';

let directory = '';
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'close-notify-files-'));
});
afterAll(() => rmSync(directory, { recursive: true, force: true }));

/** The path of a file with this content. */
function file(name: string, content: string): string {
  const path = join(directory, name);
  writeFileSync(path, content);
  return path;
}

/** A server that tells the names of the clients whose certificates it was shown. */
async function asking() {
  const names: string[] = [];
  const { server, ca } = pki();
  const listener = await listening(
    tls.createServer({ ...server, ca, requestCert: true }, (socket) => {
      names.push(String(socket.getPeerCertificate().subject.CN));
      socket.on('error', () => {}).resume();
    }),
  );
  return { ...listener, names };
}

describeTls('--key with --pass-file', () => {
  const passphrase = 'open sesame';
  const encrypted = (type: 'pkcs8' | 'sec1') =>
    createPrivateKey(pki().client.key).export({
      ...{ type, format: 'pem', cipher: 'aes-256-cbc', passphrase },
    }) as string;

  it.each([
    ['pkcs8', /^-----BEGIN ENCRYPTED PRIVATE KEY-----/],
    ['sec1', /^-----BEGIN EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED/],
  ] as const)('an encrypted key: %s', async (type, form) => {
    const pem = encrypted(type);
    expect(pem).toMatch(form);
    await using server = await asking();
    const args = [
      ...['probe', `127.0.0.1:${server.port}`, '--cert', file('client.pem', pki().client.cert)],
      ...['--key', file(`${type}.pem`, pem)],
    ];
    const pass = file('pass.txt', `${passphrase}\nand a second line`);
    const { code } = await run([...args, '--pass-file', pass]);
    expect(code).toBe(0);
    // From standard input, also where that has no end of a line.
    expect((await run([...args, '--pass-file', '-'], { input: passphrase })).code).toBe(0);
    expect(server.names).toEqual(['client', 'client']);
  });

  it('a key that is not encrypted needs none, and minds none', async () => {
    await using server = await asking();
    const { code } = await run([
      ...['probe', `127.0.0.1:${server.port}`, '--cert', file('plain.pem', pki().client.cert)],
      ...['--key', file('plain.key', pki().client.key), '--pass-file', file('any.txt', 'any')],
    ]);
    expect([code, server.names]).toEqual([0, ['client']]);
  });

  it('missing, wrong, or without a key: wrong usage, in one line', async () => {
    let connections = 0;
    await using server = await raw((socket) => {
      connections++;
      socket.destroy();
    });
    const target = `127.0.0.1:${server.port}`;
    const cert = file('cert.pem', pki().client.cert);
    const wrong = file('wrong.txt', 'open barley');
    for (const type of ['pkcs8', 'sec1'] as const) {
      const key = file(`wrong-${type}.pem`, encrypted(type));
      const args = ['probe', target, '--cert', cert, '--key', key];
      expect(await run(args)).toMatchObject({
        ...{ code: 2, stdout: '' },
        stderr: `error: --key: ${key}: the key is encrypted: --pass-file FILE gives its passphrase\n`,
      });
      expect(await run([...args, '--pass-file', wrong])).toMatchObject({
        ...{ code: 2, stdout: '' },
        stderr: `error: --key: ${key}: the first line of --pass-file is not its passphrase, or the key is damaged\n`,
      });
    }
    const junk = file('junk.key', 'junk');
    expect((await run(['probe', target, '--cert', cert, '--key', junk])).stderr).toBe(
      `error: --key: ${junk}: no private key in PEM that can be read\n`,
    );
    expect((await run(['probe', target, '--pass-file', wrong])).stderr).toBe(
      'error: --pass-file goes with --key\n',
    );
    expect(connections).toBe(0);
  });

  it('standard input is read once', async () => {
    const { code, stderr } = await run(['issuers', '--targets', '-', '--pass-file', '-']);
    expect([code, stderr]).toEqual([
      ...[2, 'error: --targets and --pass-file cannot both read standard input\n'],
    ]);
  });
});

describe('standard output as a file: -', () => {
  it('probe: the drawing, the transcript or the capture alone', async () => {
    await using server = await plainNode();
    const probe = async (...args: string[]) => {
      const { code, stdout, stderr } = await run(['probe', `127.0.0.1:${server.port}`, ...args]);
      expect([code, stderr]).toEqual([0, '']);
      return stdout;
    };
    expect(await probe('-o', '-', '--diagram', 'svg')).toMatch(/^<svg [\s\S]*<\/svg>\n$/);
    expect(await probe('-o', '-', '--diagram', 'html')).toMatch(/^<!doctype html>/);
    // Text is part of the report.
    expect((await probe('-o', '-')).match(/✓ sent close_notify/g)).toHaveLength(2);
    const json = JSON.parse(await probe('--transcript', '-'));
    expect(Transcript.fromJSON(json)).toMatchObject({ verdict: 'secure' });
    // The magic number of pcapng, RFC draft-ietf-opsawg-pcapng section 4.1.
    expect(await probe('--pcapng', '-')).toMatch(/^\n\r\r\n/);
    expect(existsSync('-')).toBe(false);
  });

  it('draw and demo', async () => {
    const saved = file('saved.json', JSON.stringify(new Transcript({ local: 'left' })));
    for (const [form, start] of [
      ['svg', /^<svg /],
      ['mermaid', /^sequenceDiagram/],
      ['html', /^<!doctype html>/],
    ] as const) {
      const { code, stdout } = await run(['draw', saved, '--diagram', form, '-o', '-']);
      expect(code).toBe(0);
      expect(stdout).toMatch(start);
    }
    expect((await run(['draw', saved, '-o', '-'])).stdout).toMatch(/^ +ms left/);
    const { code, stdout } = await run(['demo', '--html', '-']);
    expect(code).toBe(0);
    expect(stdout).toMatch(/^<!doctype html>[\s\S]*<\/html>\n$/);
    expect(existsSync('-')).toBe(false);
  });

  it.each([
    [['--json', '-o', '-'], '--json and --output'],
    [['--json', '--transcript', '-'], '--json and --transcript'],
    [['--transcript', '-', '--pcapng', '-'], '--transcript and --pcapng'],
    [['--diagram', 'svg', '--pcapng', '-'], '--diagram and --pcapng'],
  ])('one thing at a time: %j', async (args, both) => {
    const { code, stdout, stderr } = await run(['probe', 'localhost', ...args]);
    expect([code, stdout]).toEqual([2, '']);
    expect(stderr).toBe(`error: ${both} both print: give one of them a file\n`);
  });
});

describe('outputs are looked at before anything is connected to', () => {
  it.each([
    ['--output', 'x.svg'],
    ['--transcript', 'x.json'],
    ['--pcapng', 'x.pcapng'],
  ])('%s', async (option, name) => {
    let connections = 0;
    await using server = await raw((socket) => {
      connections++;
      socket.destroy();
    });
    const args = ['probe', `127.0.0.1:${server.port}`, '--diagram', 'svg', option];
    const missing = join(directory, 'no', name);
    expect(await run([...args, missing])).toMatchObject({
      ...{ code: 2, stdout: '' },
      stderr: `error: ${option}: ${missing}: there is no folder ${join(directory, 'no')}\n`,
    });
    expect((await run([...args, directory])).stderr).toBe(
      `error: ${option}: ${directory} is a folder: name a file\n`,
    );
    expect((await run([...args, join(directory, 'x'.repeat(300))])).stderr).toMatch(
      /^error: .*ENAMETOOLONG.*\n$/,
    );
    expect(connections).toBe(0);
  });

  it('the same file twice', async () => {
    const { code, stderr } = await run([
      ...['probe', 'localhost', '-o', join(directory, 'a.svg')],
      ...['--transcript', `${directory}/./a.svg`],
    ]);
    expect([code, stderr]).toEqual([2, 'error: --output and --transcript name the same file\n']);
  });

  it('what is there stays as it was where there is no connection', async () => {
    const before = file('before.svg', 'before');
    const { code } = await run(['probe', 'localhost', '-o', before, '--ca', '/nonexistent/ca']);
    expect([code, readFileSync(before, 'utf8')]).toEqual([2, 'before']);
    const demo = await run(['demo', '--html', join(directory, 'no', 'x.html')]);
    expect([demo.code, demo.stdout]).toEqual([2, '']);
  });

  it('draw', async () => {
    const saved = file('draw.json', JSON.stringify(new Transcript()));
    const { code, stderr } = await run(['draw', saved, '-o', join(directory, 'no', 'x.svg')]);
    expect([code, stderr]).toEqual([2, expect.stringMatching(/^error: --output: .*\n$/)]);
  });
});

describe('an output that fails', () => {
  /** Every command, as it prints something. */
  const COMMANDS = [
    ...['--help', '--version', 'probe --help', 'doctor', 'doctor --json'],
    ...['draw SAVED', 'draw SAVED --diagram html', 'demo', 'demo --html -'],
    ...['probe TARGET', 'probe TARGET --json', 'probe TARGET TARGET'],
    ...['probe TARGET --pcapng -', 'probe TARGET --transcript -'],
    ...['issuers TARGET', 'issuers TARGET --json', 'issuers TARGET TARGET'],
  ];
  const argumentsOf = (command: string, port: number) =>
    command.split(' ').map((word) => {
      if (word === 'SAVED') return file('full.json', JSON.stringify(new Transcript()));
      return word === 'TARGET' ? `127.0.0.1:${port}` : word;
    });

  for (const command of COMMANDS) {
    it.skipIf(!existsSync('/dev/full'))(`a full device: ${command}`, async () => {
      await using server = await plainNode();
      const { code, stderr } = await run(argumentsOf(command, server.port), {
        stdout: '/dev/full',
      });
      expect(code).toBe(2);
      expect(stderr).toMatch(/^error: standard output: ENOSPC: .*\n$/);
    });

    it(`a reader who has left: ${command}`, async () => {
      await using server = await plainNode();
      const { code, stderr } = await run(argumentsOf(command, server.port), {
        onStart: (child) => child.stdout?.destroy(),
      });
      // No word, and the exit code of SIGPIPE.
      expect([code, stderr]).toEqual([141, '']);
    });
  }

  it.skipIf(!existsSync('/dev/full'))('a full device as a file', async () => {
    await using server = await plainNode();
    for (const option of ['--output', '--transcript', '--pcapng']) {
      const args = ['probe', `127.0.0.1:${server.port}`, '--diagram', 'svg', option, '/dev/full'];
      const { code, stdout, stderr } = await run(args);
      expect([code, stderr]).toEqual([
        ...[2, expect.stringMatching(new RegExp(`^error: ${option}: /dev/full: ENOSPC.*\\n$`))],
      ]);
      // The report is not lost with it.
      if (option === '--output') expect(stdout).toContain('verdict: secure');
    }
  });
});
