/**
 * Mode `report` against mode `error` on the same traffic: the channel tells of the same connections, no more and no
 * less, and the same of each.
 *
 * RFC 9846 section 6.1: "any data received after a closure alert has been received MUST be ignored", and section 9.8 of
 * RFC 9112 makes of its absence an incomplete close. Which program hears of it as an error is the mode's choice; which
 * connection it was is not.
 */
import { family } from './case.ts';
import { ENDINGS, endingOf, TICKETS } from './catalogue.ts';
import { FACES } from './env.ts';
import { randomOf } from './pairwise.ts';
import { ACTS, describeRow, type Outcome, READS, type Row, run, valid, WHEN } from './program.ts';

const { cases, add } = family();

export { cases };

const SEED = Number(process.env['VERDICTS_SEED'] ?? 20_261_201);
const ROWS_OF_EACH = Number(process.env['VERDICTS_ROWS'] ?? 2);

interface Pair {
  readonly error: Outcome;
  readonly report: Outcome;
}

/** `never`: the program pauses, and destroys its socket with what it has not read. */
const WAYS = [...READS, 'never'];
/** `register` has one mode for all. */
const SIDES = FACES.filter((face) => face !== 'register');
/** Who goes away by himself in the turn of the ending is first or second by chance. */
const DEEDS = ACTS.filter((act) => !act.startsWith('destroy'));

const random = randomOf(SEED);
const pick = <T>(values: readonly T[]) => values[Math.floor(random() * values.length)]!;

for (const ending of [...Object.keys(ENDINGS), ...Object.keys(TICKETS)]) {
  const rows: Row[] = [];
  while (rows.length < ROWS_OF_EACH) {
    const row = {
      ...{ ending, version: pick(['TLSv1.2', 'TLSv1.3']), face: pick(SIDES), read: pick(WAYS) },
      ...{ act: pick(DEEDS), when: pick(WHEN), allowHalfOpen: pick(['false', 'true']) },
    };
    if (valid(row)) rows.push(row);
  }
  add<Pair[]>(
    ending,
    async (env) => {
      const pairs: Pair[] = [];
      for (const row of rows) {
        pairs.push({ error: await run(env, row), report: await run(env, row, 'report') });
      }
      return pairs;
    },
    (pairs) => pairs.flatMap((pair) => judge(pair).map((what) => `${inWords(pair)}: ${what}`)),
  );
}

const inWords = ({ error }: Pair): string => describeRow(error.row);

/** What the channels say of an ending, but for what the mode decides. */
const told = ({ truncated, verdict, incomplete, received }: Outcome): string =>
  JSON.stringify({
    truncated: truncated.map((one) => ({ code: one.code, incomplete: one.incomplete })),
    // What an iterator leaves of our own direction, when it destroys the socket behind the peer's end, is chance.
    verdict: received === null ? verdict : 'closed',
    incomplete,
  });

function judge({ error, report }: Pair): string[] {
  const wrong: string[] = [];
  const { truth } = endingOf(error.row.ending);
  if (told(error) !== told(report)) {
    wrong.push(
      `${told(error)} behind ${error.events}, but in report mode ${told(report)} behind ${report.events}`,
    );
  }
  for (const { truncated, events } of [error, report]) {
    if (truncated.length > 1) wrong.push(`told ${truncated.length} times`);
    const failed = events.some((one) => one.startsWith('error '));
    const outcome = truncated[0]?.outcome;
    if (outcome === 'error' && !failed) wrong.push("told 'error', and the program heard none");
    if (outcome === 'end' && !events.includes('end')) {
      wrong.push("told 'end', and the program heard none");
    }
  }
  const failed = error.events.some((one) => one.startsWith('error '));
  if (truth !== 'close_notify' && failed !== (error.truncated.length === 1)) {
    wrong.push(`error mode: ${error.events}, told ${JSON.stringify(error.truncated)}`);
  }
  return wrong;
}
