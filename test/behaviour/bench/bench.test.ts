/** The bench itself, on amounts so small that its figures mean nothing; none is looked at. */
import { spawn } from 'node:child_process';
import { expect, test } from 'vitest';
import { Comparer } from '../../../bench/results.mjs';
import { sizesFor, works } from '../../../bench/works.mjs';
import { describeTls } from '../../support/core-pki.ts';

const PROGRAM = new URL('../../../bench/main.mjs', import.meta.url).pathname;

async function bench(
  ...args: string[]
): Promise<{ out: string; err: string; code: number | null }> {
  const child = spawn(process.execPath, [PROGRAM, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
  let out = '';
  let err = '';
  child.stdout.setEncoding('utf8').on('data', (text) => {
    out += text;
  });
  child.stderr.setEncoding('utf8').on('data', (text) => {
    err += text;
  });
  const code = await new Promise<number | null>((resolve) => child.once('close', resolve));
  return { out, err, code };
}

/** The rows of a made-up work, in which ours takes and the peer takes so many seconds. */
function compared(less: boolean, ours: readonly number[], peer: readonly number[]) {
  const comparer = new Comparer();
  const [first] = works(sizesFor(1024 * 1024, false));
  const work = {
    ...first!,
    cases: [{ name: 'a case', ours: 'stream', peer: 'tls' }],
    metrics: [
      { suffix: '', headline: true, unit: 's', less, of: ({ wall }: { wall: number }) => wall },
    ],
  };
  const add = (id: string, all: readonly number[]) => {
    for (const wall of all) comparer.add(work, id, { amount: 1, wall, cpu: 0 });
  };
  add('stream', ours);
  add('tls', peer);
  comparer.finish(work, new Map());
  return comparer.json();
}

test('a ratio above 1 is in our favour, whichever way the unit counts', () => {
  expect(compared(true, [1, 1, 1], [2, 2, 2])[0]?.ratio).toBe(2);
  expect(compared(false, [1, 1, 1], [2, 2, 2])[0]?.ratio).toBe(0.5);
});

test('a ratio is the median of the ratios of the turns, so that a slow machine slows both', () => {
  // The second turn, and the third, met a machine that was half as fast.
  expect(compared(true, [1, 2, 2], [3, 6, 6])[0]).toMatchObject({ ours: 2, peer: 6, ratio: 3 });
});

test('what was left out is said, and has no figures in the JSON', () => {
  const comparer = new Comparer();
  const [work] = works(sizesFor(1024 * 1024, false));
  const rows = comparer.finish(
    work!,
    new Map([
      ['boost', 'no g++'],
      ['tls', 'x'],
      ['python', 'x'],
      ['tcp', 'x'],
      ['openssl', 'x'],
    ]),
  );
  expect(rows.find(({ peerName }) => peerName.startsWith('Boost'))?.why).toBe('no g++');
  expect(comparer.json()).toEqual([]);
});

describeTls('npm run bench', () => {
  test('--json prints the cases that were asked for', { timeout: 120_000 }, async () => {
    const { out, err, code } = await bench(
      ...['--json', '--runs', '1', '--size', '1MB'],
      ...['--only', 'send 64 KB', 'throughput', 'node:tls'],
    );
    expect(err).not.toContain('failed');
    expect(code).toBe(0);
    const rows: Array<Record<string, unknown>> = JSON.parse(out);
    expect(rows.map((row) => row['case'])).toEqual([
      'send 64 KB, native engine (wall time)',
      'send 64 KB, native engine',
      'send 64 KB, tapped engine (wall time)',
      'send 64 KB, tapped engine',
      'send 64 KB, stream.toDuplex() (wall time)',
      'send 64 KB, stream.toDuplex()',
      'send 64 KB, secureSocket() (wall time)',
      'send 64 KB, secureSocket()',
    ]);
    for (const row of rows) {
      expect(Object.keys(row)).toEqual(['case', 'ours', 'peer', 'peerName', 'unit', 'ratio']);
      expect(row['peerName']).toBe('node:tls');
      for (const name of ['ours', 'peer', 'ratio']) expect(row[name]).toBeGreaterThan(0);
    }
  });

  test('--list names every case, and measures none', async () => {
    const { out, code } = await bench('--list');
    expect(code).toBe(0);
    for (const name of ['receive 64 KB', 'whole lives, resumed, TLS 1.2', 'with register']) {
      expect(out).toContain(name);
    }
  });

  test('words that nothing has are an error', async () => {
    expect((await bench('--only', 'nothing has this')).code).toBe(1);
  });
});
