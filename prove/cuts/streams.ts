/** Cuts under two streams of this package, in both directions. */
import { type Cut, channel } from '../../src/testing/index.ts';
import { Random } from '../../test/support/random.ts';
import { isMine, type Shard } from '../harness.ts';
import {
  converse,
  lineOf,
  type Model,
  model,
  otherSide,
  prepare,
  type Script,
  SIDES,
  type Side,
} from './conversation.ts';
import { type Counts, judge } from './judge.ts';
import { type Density, everywhere, placesOf } from './places.ts';

/** Holds one conversation `uncut` times untouched, and cuts it in all places of both directions. */
export async function cutStreams(
  script: Script,
  density: Density,
  uncut: number,
  shard: Shard,
  counts: Counts,
): Promise<void> {
  const whole = await model(await prepare(script));
  for (let i = 0; i < uncut; i++) if (isMine(shard, i)) await hold(whole, null, shard, counts);
  for (const side of SIDES) {
    const label = `${script.name}, what the ${side} sends`;
    const places = placesOf(whole.frames[side], density, Random.for(shard.seed, label));
    await everywhere(shard, label, places, counts, (offset, how) =>
      hold(whole, { side, offset, how }, shard, counts),
    );
  }
}

/** @returns whether it came to the cut. */
async function hold(
  { stage, sent }: Model,
  cut: { readonly side: Side; readonly offset: number; readonly how: Cut } | null,
  { fail }: Shard,
  counts: Counts,
): Promise<boolean> {
  using wire = channel();
  if (cut !== null) lineOf(wire, cut.side).cutAt(cut.offset, cut.how);
  else counts.uncut++;
  const told = await converse(stage, { client: wire.ends[0], server: wire.ends[1] });
  const carriedBy = (side: Side) => {
    const { sent, passed } = lineOf(wire, side);
    // A party whose own direction was reset loses its transport, and so what it had not yet read.
    return { sent, passed, orderly: cut?.side !== side || cut.how === 'fin' };
  };
  const carried = { client: carriedBy('client'), server: carriedBy('server') };
  const where =
    cut === null
      ? 'uncut'
      : `${cut.how} at byte ${cut.offset} of ${sent[cut.side].length} that the ${cut.side} sends`;
  for (const what of judge(stage, told, carried, counts, cut === null)) {
    fail(`${stage.script.name}: ${where}: ${what}`);
  }
  if (cut === null) return true;
  const { passed } = carried[cut.side];
  // What came to its end before the cut was not cut.
  if (passed < cut.offset && told[otherSide(cut.side)].verdict !== 'secure') {
    counts.falseAlarms++;
    fail(`${stage.script.name}: ${where}: it ended at byte ${passed} by itself`);
  }
  return passed === cut.offset;
}
