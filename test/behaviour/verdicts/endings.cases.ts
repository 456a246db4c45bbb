/**
 * Crafted endings: what a peer with the keys, or somebody on the path without them, can do to the end of
 * a connection, against every way in which a program has a strict socket, reads it and reacts.
 *
 * Theory of operation. The catalogue has the endings (catalogue.ts), a program plays its part (program.ts), and
 * what it saw is judged by what truly crossed (judge.ts).
 *
 * RFC 9846 section 6.1: "close_notify: This alert notifies the recipient that the sender will not send any
 * more messages on this connection. Any data received after a closure alert has been received MUST be
 * ignored." And: "Each party MUST send a 'close_notify' alert before closing its write side of the
 * connection, unless it has already sent some error alert." RFC 5246 section 7.2.1: "The client and the
 * server must share knowledge that the connection is ending in order to avoid a truncation attack."
 *
 * The rows are not the full product: all pairs of values, and all of ending, version and act, chosen by a
 * seed (VERDICTS_SEED). One row by itself: VERDICTS_ROW='text that its description contains'.
 */

import { family } from './case.ts';
import { ENDINGS, TICKETS } from './catalogue.ts';
import { FACES } from './env.ts';
import { judge } from './judge.ts';
import { pairwise, type RowOf, randomOf } from './pairwise.ts';
import { ACTS, describeRow, type Outcome, READS, type Row, run, valid, WHEN } from './program.ts';

const { cases, add } = family();

export { cases };

const DIMENSIONS = {
  ending: [...Object.keys(ENDINGS), ...Object.keys(TICKETS)],
  version: ['TLSv1.2', 'TLSv1.3'],
  face: FACES,
  read: READS,
  act: ACTS,
  when: WHEN,
  allowHalfOpen: ['false', 'true'],
} as const;

const SEED = Number(process.env['VERDICTS_SEED'] ?? 20_260_727);

function plan(): Row[] {
  const random = randomOf(SEED);
  const pick = <T>(values: readonly T[]) => values[Math.floor(random() * values.length)]!;
  const rows: RowOf<typeof DIMENSIONS>[] = [];
  // What an ending comes to is between it and what the program does about the first data.
  for (const ending of DIMENSIONS.ending) {
    for (const version of DIMENSIONS.version) {
      for (const act of DIMENSIONS.act) {
        for (let tries = 0; tries < 100; tries++) {
          const row = {
            ...{ ending, version, act },
            face: pick(DIMENSIONS.face),
            read: pick(DIMENSIONS.read),
            when: pick(DIMENSIONS.when),
            allowHalfOpen: pick(DIMENSIONS.allowHalfOpen),
          };
          if (!valid(row)) continue;
          rows.push(row);
          break;
        }
      }
    }
  }
  return [...rows, ...pairwise(DIMENSIONS, valid, random, rows)];
}

const ROWS = plan().filter((row) => {
  const only = process.env['VERDICTS_ROW'];
  return only === undefined || describeRow(row).includes(only);
});

/** How many rows there are, for whoever wants to know what was tried. */
export const COUNTS = `${ROWS.length} rows of ${DIMENSIONS.ending.length} endings, seed ${SEED}`;

/** Rows that run side by side: what waits for a limit does not keep the others. */
const WORKERS = 4;

for (const name of DIMENSIONS.ending) {
  const rows = ROWS.filter((row) => row.ending === name);
  if (rows.length === 0) continue;
  add<Outcome[]>(
    name,
    async (env) => {
      const outcomes: Outcome[] = [];
      const left = [...rows];
      const work = async () => {
        for (let row = left.shift(); row !== undefined; row = left.shift()) {
          outcomes.push(await run(env, row));
        }
      };
      await Promise.all(Array.from({ length: WORKERS }, work));
      return outcomes;
    },
    (outcomes, about) => [
      ...(outcomes.length === rows.length ? [] : [`${outcomes.length} of ${rows.length} rows`]),
      ...outcomes.flatMap((outcome) =>
        judge(outcome, about).map(({ what }) => `${describeRow(outcome.row)}: ${what}`),
      ),
    ],
  );
}
