/** The process of one shard; see shards.ts. */
import type { Order, Shard, Told, Work } from './shards.ts';

/** What breaks once mostly breaks everywhere: so many are told in full, the others are counted. */
const TOLD_IN_FULL = 20;

const tell = (told: Told) =>
  new Promise<void>((resolve) => process.send?.(told, undefined, undefined, () => resolve()));

// Whoever started this is gone.
process.once('disconnect', () => process.exit(1));

// Most conversations end in an error on purpose, and its trace is a good part of what they cost: the place
// where it was made is enough.
Error.stackTraceLimit = 2;

process.once('message', async (order: Order) => {
  let failures = 0;
  const shard: Shard = {
    seed: order.seed,
    short: order.short,
    index: order.index,
    of: order.of,
    // The part's time is watched over by who started this.
    signal: new AbortController().signal,
    log: (log) =>
      void tell({ log: order.of > 1 ? `[${order.index + 1}/${order.of}] ${log}` : log }),
    fail: (fail) => {
      if (++failures <= TOLD_IN_FULL) void tell({ fail });
    },
  };
  try {
    const { work } = (await import(order.work)) as { work: Work };
    const counted = await work(shard);
    if (failures > TOLD_IN_FULL)
      await tell({ fail: `and ${failures - TOLD_IN_FULL} more like these` });
    await tell({ counted });
  } catch (error) {
    await tell({ broken: error instanceof Error ? (error.stack ?? error.message) : String(error) });
  }
  process.disconnect?.();
});
