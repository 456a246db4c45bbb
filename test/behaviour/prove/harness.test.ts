/** The harness of `npm run prove`: nothing that a part says is believed. */
import { describe, expect, test } from 'vitest';
import type { Loader } from '../../../prove/harness.ts';
import {
  type Figure,
  holds,
  intoPage,
  isWhole,
  type Part,
  type Report,
  runParts,
  toMarkdown,
  toTerminal,
} from '../../../prove/harness.ts';

const good: Figure = { name: 'truncations missed', value: 0, must: 0 };

function partOf(run: Part['run'], seconds = 60): Record<string, Loader> {
  return { sample: async () => ({ part: { name: 'sample', title: 'A sample', seconds, run } }) };
}

async function reportOf(
  parts: Record<string, Loader>,
  short = false,
): Promise<{ report: Report; printed: string }> {
  const lines: string[] = [];
  const report = await runParts(parts, { seed: 7, short, print: (line) => lines.push(line) });
  return { report, printed: lines.join('\n') };
}

describe('a figure', () => {
  test('holds if it is what it must be', () => {
    expect(holds({ name: 'a', value: 3 })).toBe(true);
    expect(holds({ name: 'a', value: 3, must: 3 })).toBe(true);
    expect(holds({ name: 'a', value: 3, must: 4 })).toBe(false);
    expect(holds({ name: 'a', value: '3', must: 3 })).toBe(false);
    expect(holds({ name: 'a', value: 3, least: 3, most: 3 })).toBe(true);
    expect(holds({ name: 'a', value: 2, least: 3 })).toBe(false);
    expect(holds({ name: 'a', value: 4, most: 3 })).toBe(false);
  });

  test('what is no number satisfies no bound', () => {
    expect(holds({ name: 'a', value: Number.NaN })).toBe(false);
    expect(holds({ name: 'a', value: Number.NaN, most: 3 })).toBe(false);
    expect(holds({ name: 'a', value: 'many', least: 3 })).toBe(false);
  });
});

describe('a run', () => {
  test('is whole when every figure holds', async () => {
    const { report } = await reportOf(partOf(async () => [good]));
    expect(isWhole(report)).toBe(true);
    expect(toTerminal(report)).toMatch(/sample.*truncations missed.*0.*0.*holds/);
  });

  test('a part gets the seed, and whether to be short', async () => {
    const seen: unknown[] = [];
    await reportOf(
      partOf(async ({ seed, short }) => {
        seen.push(seed, short);
        return [good];
      }),
      true,
    );
    expect(seen).toEqual([7, true]);
  });

  test.each<[string, Part['run'], string]>([
    [
      'a figure is not what it must be',
      async () => [{ ...good, value: 2 }],
      'truncations missed: 2, must be 0',
    ],
    [
      'it says that something broke',
      async ({ fail }) => {
        fail('a trace');
        return [good];
      },
      'a trace',
    ],
    ['it throws', async () => Promise.reject(new Error('no peer')), 'no peer'],
    [
      'none of its figures could break',
      async () => [{ name: 'runs', value: 9 }],
      'no figure that could break',
    ],
    ['it reports none', async () => [], 'no figure that could break'],
  ])('is broken when %s, and says how to repeat it', async (_, run, what) => {
    const { report, printed } = await reportOf(partOf(run));
    expect(isWhole(report)).toBe(false);
    expect(printed).toContain(what);
    expect(printed).toContain('npm run prove -- --only sample --seed 7');
    expect(toTerminal(report)).toContain('BROKEN');
  });

  test('a part that does not end is told to, and the next one runs', async () => {
    let told: unknown = null;
    const { report, printed } = await reportOf({
      ...partOf(({ signal }) => {
        signal.addEventListener('abort', () => (told = signal.reason));
        return new Promise(() => {});
      }, 0.01),
      next: async () => ({
        part: { name: 'next', title: 'Next', seconds: 60, run: async () => [good] },
      }),
    });
    expect(isWhole(report)).toBe(false);
    expect(printed).toContain('not done within 0.01 s');
    expect(told).toBeInstanceOf(Error);
    expect(report.parts.map(({ broken }) => broken.length)).toEqual([1, 0]);
  });

  test('a part that cannot be loaded is broken', async () => {
    const { report } = await reportOf({ sample: () => Promise.reject(new Error('not there')) });
    expect(isWhole(report)).toBe(false);
  });

  test('a run of no part is not whole', async () => {
    expect(isWhole((await reportOf({})).report)).toBe(false);
  });
});

describe('docs/proof.md', () => {
  test('a new part gets a section; written again, only its figures change', async () => {
    const { report } = await reportOf(partOf(async () => [good]));
    const once = intoPage('# Proof\n', report);
    expect(once).toMatch(/^# Proof\n\n## A sample\n\n<!-- figures of sample -->\n\| figure \|/);
    const edited = `${once}\nA word on it.\n`;
    const later = await reportOf(partOf(async () => [{ ...good, name: 'cuts tried', least: 0 }]));
    const twice = intoPage(edited, later.report);
    expect(twice).toContain('| cuts tried | 0 | 0, ≥ 0 |');
    expect(twice).not.toContain('truncations missed');
    expect(twice.endsWith('\nA word on it.\n')).toBe(true);
  });

  test('figures of other parts stay', async () => {
    const { report } = await reportOf(partOf(async () => [good]));
    const page = '# Proof\n\n<!-- figures of cuts -->\nx\n<!-- /figures of cuts -->\n';
    expect(intoPage(page, report)).toContain(
      '<!-- figures of cuts -->\nx\n<!-- /figures of cuts -->',
    );
  });

  test('a marker without its other half is an error, not a page half written', async () => {
    const { report } = await reportOf(partOf(async () => [good]));
    expect(() => intoPage('<!-- figures of sample -->', report)).toThrow('do not match');
  });

  test('a bar in a name does not break the table', async () => {
    const { report } = await reportOf(partOf(async () => [{ ...good, name: 'FIN | RST' }]));
    const part = report.parts[0];
    expect(part && toMarkdown(part)).toContain('| FIN \\| RST | 0 | 0 |');
  });
});
