/**
 * Where to cut, and that every cut was made.
 *
 * A place is a byte offset of one direction of one conversation; 0 is before its first byte, the length
 * behind its last. At each of them the conversation is held twice, and cut once with FIN and once with a
 * reset. A conversation that did not come to the place proves nothing and is held again: in a handshake
 * with a signature that happens behind its end, since signatures are a byte or two shorter now and then.
 */
import type { Cut } from '../../src/testing/index.ts';
import { Random } from '../../test/support/random.ts';
import { isMine, type Shard } from '../harness.ts';
import type { Framed } from './conversation.ts';
import type { Counts } from './judge.ts';

export const CUTS: readonly Cut[] = ['fin', 'reset'];

/** Which places of a direction are taken. */
export interface Density {
  /** Every so many bytes; 1 for all of them. */
  readonly step: number;
  /** The same between the first and the last bytes of a record that is longer than `LONG`. */
  readonly within: number;
}

export const EVERY_BYTE: Density = { step: 1, within: 1 };

/** Records longer than this are large. */
const LONG = 1_500;
/** All of a large record's first and last bytes are taken, where all bytes are. */
const EDGE = 24;

/** How often one is held that need not come there. */
const CHANCES = 3;

/** How often a conversation is held at most until it comes to the place. */
const TRIES = 64;

/** The places at which a direction is cut, its start and its end among them. */
export function placesOf(
  frames: readonly Framed[],
  { step, within }: Density,
  random: Random,
): number[] {
  const places = new Set<number>([0, frames.at(-1)?.to ?? 0]);
  for (const { from, to } of frames) {
    // Where records meet, always; in a sample also one place within each.
    places.add(from);
    if (step > 1) places.add(from + 1 + random.below(to - from - 1));
    const [near, far] = to - from > LONG ? [from + EDGE, to - EDGE] : [to, to];
    for (
      let at = from + random.below(step);
      at < to;
      at += at >= near && at < far ? within : step
    ) {
      places.add(at);
    }
    if (step === 1) for (let at = far; at < to; at++) places.add(at);
  }
  return [...places].sort((a, b) => a - b);
}

/** One conversation, cut there. @returns whether it came to the place. */
export type Attempt = (offset: number, how: Cut, random: Random) => Promise<boolean>;

/**
 * Cuts a direction at all places that are this shard's.
 *
 * @param label tells the direction from all others.
 * @param sure up to here every conversation comes. Behind it whoever reads may have what it wants, and be
 *   gone; a place that no conversation came to does not count then.
 */
export async function everywhere(
  shard: Shard,
  label: string,
  places: readonly number[],
  counts: Counts,
  attempt: Attempt,
  sure: number = Number.POSITIVE_INFINITY,
): Promise<void> {
  for (const [index, offset] of places.entries()) {
    if (!isMine(shard, index)) continue;
    const must = offset <= sure;
    let cuts = 0;
    for (const how of CUTS) {
      const random = Random.for(shard.seed, `${label} ${offset} ${how}`);
      let made = false;
      for (let tries = must ? TRIES : CHANCES; tries > 0 && !made; tries--) {
        made = await attempt(offset, how, random);
      }
      if (made) cuts++;
      else if (must) throw new Error(`${label}: no conversation came to byte ${offset}`);
    }
    if (!must && cuts < CUTS.length) continue;
    counts.offsets++;
    counts.cuts += cuts;
  }
}
