/** That every place is cut, once, whoever cuts it; and that nothing else is counted as a cut. */
import { expect, test } from 'vitest';
import type { Framed } from '../../../prove/cuts/conversation.ts';
import { newCounts } from '../../../prove/cuts/judge.ts';
import { EVERY_BYTE, everywhere, placesOf } from '../../../prove/cuts/places.ts';
import { add, type Shard } from '../../../prove/harness.ts';
import { Random } from '../../support/random.ts';

const framed = (...sizes: number[]): Framed[] => {
  let to = 0;
  return sizes.map((size) => {
    const from = to;
    to += size;
    return { from, to, type: 23 };
  });
};

const shard = (index: number, of: number): Shard => ({
  seed: 1,
  short: false,
  index,
  of,
  signal: new AbortController().signal,
  log() {},
  fail(what) {
    throw new Error(what);
  },
});

test('every byte means every byte, of large records too, from before the first to behind the last', () => {
  const places = placesOf(framed(90, 6, 16_405, 24), EVERY_BYTE, new Random(1));
  expect(places).toEqual(Array.from({ length: 90 + 6 + 16_405 + 24 + 1 }, (_, at) => at));
});

test('where a large record is sampled, all around its inside is not', () => {
  const places = new Set(placesOf(framed(90, 16_405, 24), { step: 1, within: 16 }, new Random(1)));
  for (let at = 0; at <= 90 + 16_405 + 24; at++) {
    if (at < 90 + 24 || at >= 90 + 16_405 - 24) expect(places.has(at), `${at}`).toBe(true);
  }
  expect(places.size).toBeGreaterThan(16_405 / 16);
});

test('a sample has every place where records meet', () => {
  const places = placesOf(framed(90, 6, 300, 24), { step: 300, within: 5_000 }, new Random(1));
  expect(places).toEqual(expect.arrayContaining([0, 90, 96, 396, 420]));
  expect(places.length).toBeLessThan(20);
});

test('shards share the places out, each to one of them, with the same choices', async () => {
  const places = Array.from({ length: 101 }, (_, at) => at);
  const drawn = async (of: number) => {
    const made = new Map<string, number>();
    const counts = [];
    for (let index = 0; index < of; index++) {
      const mine = newCounts();
      await everywhere(shard(index, of), 'a line', places, mine, async (offset, how, random) => {
        const place = `${offset} ${how}`;
        expect(made.has(place)).toBe(false);
        made.set(place, random.below(1_000));
        return true;
      });
      counts.push({ mine });
    }
    expect(counts.reduce(add, {})['mine']).toMatchObject({ offsets: 101, cuts: 202 });
    return [...made].sort();
  };
  expect(await drawn(3)).toEqual(await drawn(1));
});

test('a conversation that did not come to the place is held again, and in the end breaks the part', async () => {
  const counts = newCounts();
  let held = 0;
  await everywhere(shard(0, 1), 'a line', [7], counts, async () => ++held % 3 === 0);
  expect(counts).toMatchObject({ offsets: 1, cuts: 2 });
  await expect(
    everywhere(shard(0, 1), 'a line', [7], newCounts(), async () => false),
  ).rejects.toThrow('no conversation came to byte 7');
});

test('behind what every conversation comes to, a place counts only if it was cut both ways', async () => {
  const counts = newCounts();
  await everywhere(
    shard(0, 1),
    'a line',
    [6, 7],
    counts,
    async (at, how) => at < 7 || how === 'fin',
    6,
  );
  expect(counts).toMatchObject({ offsets: 1, cuts: 2 });
});
