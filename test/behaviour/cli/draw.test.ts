/** Drawings on the command line: of a probe, of saved transcripts, of the demo. */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { SCENARIOS } from '../../../src/cli/scenarios.ts';
import { Transcript } from '../../../src/index.ts';
import { type Listening, ours, plainNode } from '../../support/cli-servers.ts';
import { run } from './run.ts';

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'close-notify-draw-'));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

/** A server that ends TCP as soon as our close_notify is there, and sends none. */
const truncating = (): Promise<Listening> =>
  ours(
    async (stream) => {
      await stream.read();
      stream.abort();
    },
    { answer: 'when-told' },
  );

describe('probe --diagram', () => {
  it.each([
    ['svg', /^<svg xmlns[\s\S]*<\/svg>\n$/],
    ['mermaid', /^sequenceDiagram\n/],
    ['html', /^<!doctype html>[\s\S]*<\/html>\n$/],
  ])('%s: the drawing alone goes to standard output', async (form, expected) => {
    await using server = await truncating();
    const { code, stdout, stderr } = await run([
      'probe',
      `127.0.0.1:${server.port}`,
      '--diagram',
      form,
    ]);
    expect({ code, stderr }).toEqual({ code: 1, stderr: '' });
    expect(stdout).toMatch(expected);
    expect(stdout).toContain('without close_notify');
  });

  it('text: the report has it already, once', async () => {
    await using server = await truncating();
    const { stdout } = await run(['probe', `127.0.0.1:${server.port}`, '--diagram', 'text']);
    expect(stdout.match(/sent NO close_notify/g)).toHaveLength(1);
  });

  it('-o: the file says the form, and the report is printed as ever', async () => {
    await using server = await plainNode();
    const file = join(folder, 'ending.svg');
    const { code, stdout } = await run(['probe', `127.0.0.1:${server.port}`, '-o', file]);
    expect(code).toBe(0);
    expect(stdout).toContain('verdict: secure');
    expect(await readFile(file, 'utf8')).toMatch(/^<svg /);
  });

  it('with --json only into a file', async () => {
    await using server = await plainNode();
    const target = `127.0.0.1:${server.port}`;
    const both = await run(['probe', target, '--json', '--diagram', 'svg']);
    expect(both.code).toBe(2);
    expect(both.stderr).toContain('--json and --diagram both print');
    const file = join(folder, 'json.html');
    const apart = await run(['probe', target, '--json', '-o', file]);
    expect(JSON.parse(apart.stdout).closure.verdict).toBe('secure');
    expect(await readFile(file, 'utf8')).toMatch(/^<!doctype html>/);
  });

  it.each([
    [['--diagram', 'png'], 'argument'],
    [['-o', 'ending.png'], 'say with --diagram what is to be drawn into ending.png'],
    [['-o', '/nonexistent/x.svg'], '--output: /nonexistent/x.svg: there is no folder /nonexistent'],
  ])('refuses %j', async (args, message) => {
    await using server = await plainNode();
    const { code, stderr } = await run(['probe', `127.0.0.1:${server.port}`, ...args]);
    expect(code).toBe(2);
    expect(stderr).toContain(message);
  });
});

describe('--transcript, and draw', () => {
  it('what the probe saved can be read, and draws the same, but that nothing was asked', async () => {
    await using server = await truncating();
    const file = join(folder, 'truncated.json');
    const probed = await run(['probe', `127.0.0.1:${server.port}`, '--transcript', file]);
    const json = JSON.parse(await readFile(file, 'utf8'));
    expect(Transcript.fromJSON(json)).toMatchObject({
      ...{ verdict: 'truncated', role: 'client', protocol: 'TLSv1.3' },
      ...{ local: 'us', peer: `127.0.0.1:${server.port}`, secrets: null },
    });
    const drawn = await run(['draw', file]);
    expect({ code: drawn.code, stderr: drawn.stderr }).toEqual({ code: 0, stderr: '' });
    const lanes = (text: string) => text.split('\n').filter((line) => /[│┴╲]/.test(line));
    const torn = (line: string) => line.includes('╲');
    expect(lanes(drawn.stdout).filter((line) => !torn(line))).toEqual(lanes(probed.stdout));
    expect(lanes(drawn.stdout).length).toBeGreaterThan(5);
    expect(drawn.stdout).toContain('TRUNCATED: the last bytes may be missing');
    expect(drawn.stdout).toContain('the receiver cannot know that all the data');
    const page = await run(['draw', file, '--diagram', 'html']);
    expect(page.stdout).toMatch(/^<!doctype html>/);
  });

  it('draws both sides from two files', async () => {
    const files = ['a.json', 'b.json'].map((name) => join(folder, name));
    const [a, b] = [new Transcript({ local: 'left' }), new Transcript({ local: 'right' })];
    a.observe({ type: 'close-notify', direction: 'sent' }, 1);
    b.observe({ type: 'close-notify', direction: 'received' }, 2);
    await writeFile(files[0] as string, JSON.stringify(a));
    await writeFile(files[1] as string, JSON.stringify(b));
    const { stdout } = await run(['draw', ...files]);
    expect(stdout).toMatch(/left +right/);
    expect(stdout).toContain('✓ close_notify');
    expect(stdout).not.toContain('not read');
  });

  it.each([
    ['no JSON', '{', 'not valid JSON|Expected|Unexpected'],
    ['no transcript', '{"format":"x"}', 'not a transcript: /format must be'],
    ['binary', '\u0000\u0001', 'JSON'],
  ])('refuses what is %s', async (_, content, message) => {
    const file = join(folder, 'bad.json');
    await writeFile(file, content);
    const { code, stdout, stderr } = await run(['draw', file]);
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
    expect(stderr).toMatch(new RegExp(message));
    expect(stderr.split('\n')).toHaveLength(2);
  });

  it('moves no cursor, whatever stands in a file', async () => {
    const file = join(folder, 'cursor.json');
    const transcript = new Transcript({ local: '\u001b[2J', peer: '\u001b]0;title\u0007' });
    transcript.note('\u001b[31m\u009b1m\u202e');
    await writeFile(file, JSON.stringify(transcript));
    const { code, stdout } = await run(['draw', file]);
    expect(code).toBe(0);
    // biome-ignore lint/suspicious/noControlCharactersInRegex: none may be left
    expect(stdout).not.toMatch(/[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u202e]/);
  });
});

describe('demo --html', () => {
  it('makes one page of all scenarios', async () => {
    const file = join(folder, 'demo.html');
    const { code } = await run(['demo', '--html', file]);
    expect(code).toBe(0);
    const page = await readFile(file, 'utf8');
    for (const { number, title } of SCENARIOS) expect(page).toContain(`${number}. ${title}`);
    expect(page.match(/<section class="drawing"/g)).toHaveLength(9);
    expect(page.match(/<use href="#d\d-svg"/g)).toHaveLength(9);
  });
});
