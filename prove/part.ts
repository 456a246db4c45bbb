/** What a part of `npm run prove` is, and what it reports. */

/**
 * One figure. It carries what it has to be beside what it is, so that whether it holds is computed
 * here and never claimed by whoever counted.
 *
 * A figure with none of `must`, `least` and `most` only tells a size, such as states visited.
 */
export interface Figure {
  /** What was counted, in a few words: 'truncations missed'. */
  readonly name: string;
  /** The count; where a number says too little, a text that `must` can be compared with. */
  readonly value: number | string;
  /** Exactly this, such as 0 for misses, or the number of mutants for the killed ones. */
  readonly must?: number | string | undefined;
  /** At least this, for a number: that something was tried at all, say. */
  readonly least?: number | undefined;
  /** At most this, for a number: a bound on memory, say. */
  readonly most?: number | undefined;
}

/** What a part is given. */
export interface Context {
  /** Decides every random choice of the part. */
  readonly seed: number;
  /** Aborted when the part's time is over: stop what was started, and return or throw. */
  readonly signal: AbortSignal;
  /** Whether to run the shorter form, the one that tests run. */
  readonly short: boolean;
  /** One line of progress, on stderr. */
  log(line: string): void;
  /**
   * Tells what broke, at any length: a trace, a drawing, a cause. The part is broken from then on,
   * whatever its figures say. The frame adds how to repeat the run.
   */
  fail(what: string): void;
}

/** One part. The module of a part exports it as `part`. */
export interface Part {
  /** What `--only` takes: one lower-case word, or several with hyphens. */
  readonly name: string;
  /** What it shows, in one line: the heading in docs/proof.md. */
  readonly title: string;
  /** How long it may take in full, in seconds. Beyond it the part is broken, and is left behind. */
  readonly seconds: number;
  /**
   * Runs it.
   *
   * @returns its figures, of which at least one has to be something: a part that cannot break proves
   *   nothing, and counts as broken.
   * @throws whatever kept it from running; the part is then broken.
   */
  run(context: Context): Promise<readonly Figure[]>;
}

/** Whether a figure is what it has to be; true for one that only tells a size. */
export function holds({ value, must, least, most }: Figure): boolean {
  // A size that is no number (NaN after a division, say) satisfies no bound.
  if (must !== undefined && value !== must) return false;
  if (least !== undefined && !(typeof value === 'number' && value >= least)) return false;
  if (most !== undefined && !(typeof value === 'number' && value <= most)) return false;
  return typeof value !== 'number' || !Number.isNaN(value);
}

/** Whether a figure can break. */
export function isPromise({ must, least, most }: Figure): boolean {
  return must !== undefined || least !== undefined || most !== undefined;
}
