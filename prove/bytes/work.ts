/** What one shard of the bad bytes does. */
import { model, prepare } from '../cuts/conversation.ts';
import { FULL, RESUMED } from '../cuts/scripts.ts';
import type { Counted, Shard } from '../harness.ts';
import { fuzz } from './parsers.ts';
import { newSpoilt, spoil } from './spoil.ts';

export async function work(shard: Shard): Promise<Counted> {
  const { short, seed, log, fail } = shard;
  const spoilt = newSpoilt();
  let uncaught = 0;
  const onUncaught = (error: unknown) => {
    uncaught++;
    fail(`nobody caught ${(error as Error)?.stack ?? error}`);
  };
  process.on('uncaughtException', onUncaught);
  process.on('unhandledRejection', onUncaught);
  for (const script of [...FULL, ...RESUMED]) {
    await spoil(script, short ? 101 : 1, shard, spoilt);
    log(`${script.name}: ${spoilt.bytes} bytes and ${spoilt.records} records so far`);
  }
  const models = await Promise.all(
    [...FULL, ...RESUMED].map(async (one) => model(await prepare(one))),
  );
  const cases = fuzz(models, short ? 500 : 10_000, shard);
  log(`parsers: ${cases} cases, seed ${seed}`);
  return { spoilt, parsers: { cases }, errors: { uncaught } };
}
