/** Cuts under two streams of this package, at every offset of both directions. */
import { type Cut, channel } from '../../src/testing/index.ts';
import type { Context } from '../part.ts';
import {
  converse,
  type Framed,
  lineOf,
  type Model,
  model,
  otherSide,
  prepare,
  type Script,
  type Side,
} from './conversation.ts';
import { type Counts, judge } from './judge.ts';
import { Random } from './random.ts';

export const CUTS: readonly Cut[] = ['fin', 'reset'];
export const SIDES: readonly Side[] = ['client', 'server'];

/** Where to cut. */
export interface Density {
  /** Every so many bytes before the first protected record; 1 for all. */
  readonly clear: number;
  /** The same for what is protected. */
  readonly rest: number;
}

/** Records longer than this are not cut at every byte. */
const LONG = 1_500;
/** In those: all of their first and last bytes, and so many of the others. */
const EDGE = 24;
const WITHIN = 20;

/** The offsets at which a direction is cut, its end included. */
export function offsetsOf(
  frames: readonly Framed[],
  clear: ReadonlySet<number>,
  density: Density,
  random: Random,
): number[] {
  const offsets = new Set<number>();
  for (const [index, { from, to }] of frames.entries()) {
    // Where records meet, always.
    for (const at of [from, from + 1, to - 1]) offsets.add(at);
    const step = clear.has(index) ? density.clear : density.rest;
    const long = to - from > LONG;
    for (let at = from + random.below(step); at < to; at += step) {
      if (!long || at < from + EDGE || at >= to - EDGE) offsets.add(at);
    }
    if (long) {
      for (let i = 0; i < Math.ceil(WITHIN / step); i++) {
        offsets.add(from + random.below(to - from));
      }
    }
  }
  offsets.add(frames.at(-1)?.to ?? 0);
  return [...offsets].sort((a, b) => a - b);
}

/** Cuts one conversation everywhere. */
export async function cutStreams(
  script: Script,
  density: Density,
  context: Context,
  counts: Counts,
): Promise<void> {
  const { seed, signal, fail } = context;
  const stage = await prepare(script);
  const random = new Random(seed);
  const uncut = await model(stage);
  for (const side of SIDES) {
    for (const offset of offsetsOf(uncut.frames[side], uncut.clear[side], density, random)) {
      for (const how of CUTS) {
        signal.throwIfAborted();
        await cut(uncut, side, offset, how, counts, fail);
      }
    }
  }
}

async function cut(
  { stage, sent }: Model,
  side: Side,
  offset: number,
  how: Cut,
  counts: Counts,
  fail: Context['fail'],
): Promise<void> {
  using wire = channel();
  const line = lineOf(wire, side);
  const other = lineOf(wire, otherSide(side));
  line.cutAt(offset, how);
  const told = await converse(stage, { client: wire.ends[0], server: wire.ends[1] });
  const cutLine = { sent: line.sent, passed: line.passed, orderly: how === 'fin' };
  // A party whose own direction was reset loses its transport, and so what it had not yet read.
  const otherLine = { sent: other.sent, passed: other.passed, orderly: true };
  const carried =
    side === 'client'
      ? { client: cutLine, server: otherLine }
      : { client: otherLine, server: cutLine };
  for (const what of judge(stage, told, carried, counts)) {
    fail(
      `${stage.script.name}: ${how} at byte ${offset} of ${sent[side].length} that the ${side} sends: ${what}`,
    );
  }
}
