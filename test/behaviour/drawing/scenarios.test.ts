/**
 * The drawings of docs/closure.md: what the nine scenarios draw when they are played, without times.
 * And that SVG is well formed and can be read by who does not see it.
 */
import { readFile, writeFile } from 'node:fs/promises';
import { describe, expect, it } from 'vitest';
import { NAMES, openPair, play } from '../../../src/cli/play.ts';
import { SCENARIOS, type Scenario } from '../../../src/cli/scenarios.ts';
import { type Drawing, drawLanes, renderSvg } from '../../../src/index.ts';

/**
 * In some scenarios the peer's kernel or the order of two of the system's callbacks has a say: whether
 * a socket that is closed sends FIN or RST, and what else is seen before its end. The documents hold
 * one of the drawings that come out, and it must come out again within so many runs.
 */
const RUNS = 12;

async function played(scenario: Scenario): Promise<Drawing> {
  await using pair = await openPair({ protocol: 'TLSv1.3', deadline: 300 });
  await play(scenario, pair.A, pair.B);
  return drawLanes(
    { name: NAMES.A, transcript: pair.A.transcript },
    { name: NAMES.B, transcript: pair.B.transcript },
    { opening: false, timed: false },
  );
}

describe('docs/closure/', () => {
  it.each(SCENARIOS)('has of scenario $number what it draws', async (scenario) => {
    const file = new URL(`../../../docs/closure/${scenario.number}.svg`, import.meta.url);
    if (process.env['UPDATE_DOCS'] === '1') {
      await writeFile(file, renderSvg(await played(scenario), { id: `ending-${scenario.number}` }));
      return;
    }
    const held = await readFile(file, 'utf8');
    let drawn = '';
    for (let run = 0; run < RUNS && drawn !== held; run++) {
      drawn = renderSvg(await played(scenario), { id: `ending-${scenario.number}` });
    }
    expect(
      drawn,
      'UPDATE_DOCS=1 npx vitest run test/behaviour/drawing test/peers/interop rewrites it',
    ).toBe(held);
  });

  it.each(SCENARIOS)('scenario $number is told as what it is', async (scenario) => {
    const { story } = await played(scenario);
    expect(story.verdict).toBe(scenario.verdicts.A);
    expect(story.resembles).toEqual({ number: scenario.number, seenFrom: 'A' });
  });
});

/** A drawing with what a hostile peer would choose as its name. */
const HOSTILE = `<script>alert(1)</script>"'&\u0000\u202e\ud800 ]]>--><svg onload=alert(1)>`;

describe('SVG', () => {
  it('has a title, a description and text that is text', async () => {
    const svg = renderSvg(await played(SCENARIOS[1] as Scenario));
    expect(svg).toContain('role="img"');
    const [, labelled, described] =
      /aria-labelledby="(.*?)" aria-describedby="(.*?)"/.exec(svg) ?? [];
    expect(svg).toContain(`<title id="${labelled}">A sent close_notify. B sent none: it `);
    const description = new RegExp(`<desc id="${described}">(.*?)</desc>`).exec(svg)?.[1];
    expect(description).toContain('A (client) to B (server): close_notify');
    expect(description).toContain('TRUNCATED: the last bytes may be missing.');
    expect(description).toContain('B (server): verdict aborted, sent NO close_notify.');
    expect(svg).toMatch(/<text[^>]*>✂ TRUNCATED: the last bytes may be missing<\/text>/);
    expect(svg).toContain('prefers-color-scheme:dark');
  });

  it('has a glyph of its own for every kind of arrow', async () => {
    const drawing = await played(SCENARIOS[2] as Scenario);
    const styles = ['close-notify', 'eof', 'reset', 'alert', 'missing'] as const;
    const shapes = styles.map((style) => {
      const rows = drawing.rows
        .filter((row) => row.kind === 'arrow')
        .slice(0, 1)
        .map((row) => ({ ...row, style, tone: 'plain' as const, text: 'it' }));
      const svg = renderSvg({ ...drawing, rows });
      // Of the row: what stands on a background of its own, without its place and size.
      const glyph = /<circle class="bg"[^>]*\/>(.*?)<text/.exec(svg)?.[1] ?? '';
      expect(glyph).not.toBe('');
      return glyph.replace(/[\d.-]+/g, '#');
    });
    expect(new Set(shapes).size).toBe(styles.length);
  });

  it('escapes what a peer has a say in, and brings no character that XML forbids', async () => {
    const drawing = await played(SCENARIOS[0] as Scenario);
    const hostile: Drawing = {
      ...drawing,
      names: [HOSTILE, HOSTILE],
      rows: drawing.rows.map((row) => ({ ...row, text: HOSTILE })),
      story: { ...drawing.story, headline: HOSTILE },
    };
    for (const inline of [false, true]) {
      const svg = renderSvg(hostile, { inline, id: '"><script>' });
      expect(svg).not.toMatch(/<script|<svg onload|]]>-->/);
      // biome-ignore lint/suspicious/noControlCharactersInRegex: none may be left
      expect(svg).not.toMatch(/[\u0000-\u0008\u202e\p{Surrogate}]/u);
    }
  });
});
