/** Rows that cover all pairs of values of several dimensions, chosen by a seed. */

/** The values of each dimension. */
export type Dimensions = Readonly<Record<string, readonly string[]>>;
export type RowOf<D extends Dimensions> = { readonly [Name in keyof D]: D[Name][number] };

/** Numbers in [0, 1) from a seed (mulberry32). */
export function randomOf(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/**
 * Rows in which each pair of values of two dimensions that can stand in one row stands in one.
 *
 * @param valid whether the values of a row can stand together.
 * @param given rows that are there already: their pairs need no row more.
 */
export function pairwise<D extends Dimensions>(
  dimensions: D,
  valid: (row: RowOf<D>) => boolean,
  random: () => number,
  given: readonly RowOf<D>[] = [],
): RowOf<D>[] {
  const names = Object.keys(dimensions) as (keyof D & string)[];
  const pick = (values: readonly string[]) => values[Math.floor(random() * values.length)]!;
  const pairsOf = (row: RowOf<D>): string[] =>
    names.flatMap((a, i) => names.slice(i + 1).map((b) => `${a}=${row[a]}&${b}=${row[b]}`));
  /** A random row with these values that is valid; null where none was met. */
  const complete = (fixed: Partial<Record<string, string>>): RowOf<D> | null => {
    for (let tries = 0; tries < 400; tries++) {
      const row = Object.fromEntries(
        names.map((name) => [name, fixed[name] ?? pick(dimensions[name]!)]),
      ) as RowOf<D>;
      if (valid(row)) return row;
    }
    return null;
  };
  const left = new Map<string, Record<string, string>>();
  for (const [i, a] of names.entries()) {
    for (const b of names.slice(i + 1)) {
      for (const x of dimensions[a]!) {
        for (const y of dimensions[b]!) left.set(`${a}=${x}&${b}=${y}`, { [a]: x, [b]: y });
      }
    }
  }
  const cover = (row: RowOf<D>) => {
    for (const pair of pairsOf(row)) left.delete(pair);
  };
  for (const row of given) cover(row);
  const rows: RowOf<D>[] = [];
  while (left.size > 0) {
    const [pair, fixed] = left.entries().next().value!;
    let best: RowOf<D> | null = null;
    let most = -1;
    for (let tries = 0; tries < 12; tries++) {
      const row = complete(fixed);
      if (row === null) break;
      const covers = pairsOf(row).filter((one) => left.has(one)).length;
      if (covers > most) [best, most] = [row, covers];
    }
    // These two values cannot stand together.
    left.delete(pair);
    if (best === null) continue;
    rows.push(best);
    cover(best);
  }
  return rows;
}
