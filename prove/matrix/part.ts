/**
 * The matrix: endings of every kind, against every way to read, by callers who act inside their
 * listeners, on every face of the drop-ins, in each Node that is installed, with the add-on and
 * without it.
 *
 * Theory of operation. The full product has tens of millions of rows. Each row is drawn from the seed and its
 * number alone (rows.ts), a crafted peer plays its ending, and what the program saw is judged by what
 * truly crossed the wire (test/behaviour/verdicts/judge.ts). The same rows run everywhere. A row that
 * hangs, loses bytes or fails is run again with Node's own socket: what does just the same there is Node's (its
 * TLS within TLS hangs, its web streams lose), and is counted apart. A missed cut never is.
 *
 * To look at one: MATRIX_ROW=n npm run prove -- --only matrix --seed SEED. MATRIX_NODE=22 takes that Node alone,
 * MATRIX_ROWS=n another number of rows;
 * MATRIX_STREAM=n is a row of the streams, MATRIX_STREAMS=0 leaves them out.
 */

import type { FaultKind } from '../../test/behaviour/verdicts/judge.ts';
import { type Figure, inShards, nodesFor, type Part } from '../harness.ts';

const WAYS = {
  'with the add-on': { CLOSE_NOTIFY_REQUIRE_NATIVE: '1' },
  'without it': { CLOSE_NOTIFY_NATIVE: '0' },
} as const;

const FIGURES: Readonly<Record<FaultKind | 'uncaught', string>> = {
  'missed cut': 'missed cuts',
  'false alarm': 'false alarms',
  'lost bytes': 'lost bytes',
  hang: 'hangs',
  'wrong fact': 'wrong facts of an ending',
  uncaught: 'errors that nobody caught',
};

const figuresOf = (name: string, counts: Readonly<Record<string, number>>): Figure[] =>
  Object.entries(FIGURES).map(([kind, what]) => ({
    name: `${name}: ${what}`,
    value: counts[kind] ?? 0,
    must: 0,
  }));

export const part: Part = {
  name: 'matrix',
  title: 'Endings × ways to read × callers who act × faces',
  seconds: 900,
  async run(context) {
    const { nodes, missing: figures } = nodesFor(context, 'MATRIX_NODE', 'rows');
    for (const [major, node] of nodes) {
      for (const [way, env] of Object.entries(WAYS)) {
        const name = `Node ${major} ${way}`;
        context.log(name);
        const url = new URL('work.ts', import.meta.url);
        const counted = await inShards(url, context, { node, env });
        const counts = counted['rows'] ?? {};
        const alone = process.env['MATRIX_ROW'] !== undefined;
        const least = alone ? 1 : context.short ? 100 : 1_000;
        figures.push(
          { name: `${name}: rows`, value: counts['runs'] ?? 0, least },
          { name: `${name}: rows in which the program acted`, value: counts['acted'] ?? 0 },
          {
            name: `${name}: rows that hang or lose bytes as Node's own sockets do`,
            value: counts["as Node's"] ?? 0,
          },
          ...figuresOf(name, counts),
        );
        const streams = counted['streams'] ?? {};
        if (way !== 'with the add-on' || process.env['MATRIX_STREAMS'] === '0') continue;
        figures.push(
          { name: `Node ${major}, streams: rows`, value: streams['runs'] ?? 0, least },
          ...figuresOf(`Node ${major}, streams`, streams),
        );
      }
    }
    return figures;
  },
};
