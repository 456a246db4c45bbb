/** What one shard of the matrix does: its rows, some of them side by side. */

import { Env, Thrown } from '../../test/behaviour/verdicts/env.ts';
import { type Fault, judge } from '../../test/behaviour/verdicts/judge.ts';
import { describeRow, type Outcome, type Row, run } from '../../test/behaviour/verdicts/program.ts';
import { type Counted, isMine, type Shard } from '../harness.ts';
import { rowOf } from './rows.ts';
import { describeStreamRow, judgeStream, runStream, streamRowOf } from './streams.ts';

/** Rows that run side by side: what waits for a limit does not keep the others. */
const WORKERS = 6;

/** Runs a row with things of its own. */
async function play(base: Env, row: Row): Promise<Outcome> {
  const env = base.fork();
  try {
    return await run(env, row);
  } finally {
    await env.finish();
  }
}

export async function work(shard: Shard): Promise<Counted> {
  const { seed, short, fail, log } = shard;
  const native = process.env['CLOSE_NOTIFY_NATIVE'] !== '0';
  const major = Number(process.versions.node.split('.')[0]) as 20 | 22 | 24 | 26;
  // One row by itself: MATRIX_ROW=n.
  const only = process.env['MATRIX_ROW'];
  const total = Number(process.env['MATRIX_ROWS'] ?? (short ? 120 : 1_500));
  const counts: Record<string, number> = { runs: 0, acted: 0, uncaught: 0 };
  const endings: Record<string, number> = {};
  const plain = await Env.make(true);
  const base = await Env.make();
  process.on('uncaughtException', (error) => {
    if (error instanceof Thrown) return;
    counts['uncaught'] = (counts['uncaught'] ?? 0) + 1;
    fail(`nobody caught: ${error.stack ?? error}`);
  });
  /**
   * Whether Node's own socket does just the same where bytes are late, lost or never end. A cut that is missed
   * is never Node's: that Node misses it is why we are here.
   */
  const isNodes = async (ours: Outcome, faults: readonly Fault[]): Promise<boolean> => {
    if (faults.some(({ kind }) => kind === 'missed cut')) return false;
    const { face, read } = ours.row;
    // Only of these is that known. Elsewhere a hang of Node's, of OpenSSL 3.5 behind user_canceled say, is what we
    // are to mend. And `register` makes all sockets of its name strict: there is no plain one to compare with.
    if (face !== 'tls in tls' && (read !== 'a web stream' || face === 'register')) return false;
    const own = await play(plain, ours.row);
    // A socket that hangs where Node's hangs may have told more of the truth before (OpenSSL 3.5 ignores some ends).
    if (own.hangs !== null && ours.hangs !== null) return ours.bytes >= own.bytes;
    const told = ({ events, bytes }: Outcome) => JSON.stringify([events, bytes]);
    return own.hangs === ours.hangs && told(own) === told(ours);
  };
  const all = Array.from({ length: total }, (_, n) => n).filter((n) => isMine(shard, n));
  const rows = only === undefined ? all : shard.index === 0 ? [Number(only)] : [];
  const go = async () => {
    for (let n = rows.shift(); n !== undefined; n = rows.shift()) {
      const row = rowOf(seed, n);
      const outcome = await play(base, row);
      counts['runs'] = (counts['runs'] ?? 0) + 1;
      if (outcome.acted) counts['acted'] = (counts['acted'] ?? 0) + 1;
      endings[row.ending] = 1;
      const found = judge(outcome, { major, native });
      const faults = found.length > 0 && (await isNodes(outcome, found)) ? [] : found;
      if (faults.length < found.length) counts["as Node's"] = (counts["as Node's"] ?? 0) + 1;
      for (const kind of new Set(faults.map((one) => one.kind))) {
        counts[kind] = (counts[kind] ?? 0) + 1;
      }
      if (faults.length > 0) {
        const what = faults.map((one) => `${one.kind}: ${one.what}`).join('\n  ');
        const told = only === undefined ? '' : `\n${JSON.stringify(outcome, null, 1)}`;
        fail(`row ${n}: ${row.ending}; ${describeRow(row)}\n  ${what}${told}`);
      }
    }
  };
  await Promise.all(Array.from({ length: WORKERS }, go));
  const streams = await playStreams(base, shard, total);
  log(`${counts['runs']} rows, ${Object.keys(endings).length} endings`);
  return { rows: counts, streams };
}

/** As many rows of streams, which have no add-on to do with: they run once on each Node. */
async function playStreams(
  base: Env,
  { seed, fail, ...shard }: Shard,
  total: number,
): Promise<Record<string, number>> {
  const counts: Record<string, number> = { runs: 0, acted: 0 };
  const { CLOSE_NOTIFY_NATIVE: native, MATRIX_STREAMS: wanted } = process.env;
  if (native === '0' || wanted === '0') return counts;
  const only = process.env['MATRIX_STREAM'];
  const all = Array.from({ length: total }, (_, n) => n).filter((n) => isMine(shard, n));
  const rows = only === undefined ? all : shard.index === 0 ? [Number(only)] : [];
  const go = async () => {
    for (let n = rows.shift(); n !== undefined; n = rows.shift()) {
      const row = streamRowOf(seed, n);
      const env = base.fork();
      try {
        const outcome = await runStream(env, row);
        counts['runs'] = (counts['runs'] ?? 0) + 1;
        if (outcome.acted) counts['acted'] = (counts['acted'] ?? 0) + 1;
        const faults = judgeStream(outcome);
        for (const kind of new Set(faults.map((one) => one.kind))) {
          counts[kind] = (counts[kind] ?? 0) + 1;
        }
        if (faults.length === 0) continue;
        const what = faults.map((one) => `${one.kind}: ${one.what}`).join('\n  ');
        const told = only === undefined ? '' : `\n${JSON.stringify(outcome, null, 1)}`;
        fail(`stream ${n}: ${row.ending}; ${describeStreamRow(row)}\n  ${what}${told}`);
      } finally {
        await env.finish();
      }
    }
  };
  await Promise.all(Array.from({ length: WORKERS }, go));
  return counts;
}
