/**
 * A queue that is empty most of the time, and otherwise holds one: what waits for its turn of a message that
 * comes alone. An array that is emptied and filled again takes new memory for its elements each time, which
 * is most of what such a queue costs.
 */
export class Fifo<T extends object> {
  #first: T | null = null;
  #rest: T[] | null = null;

  /** The oldest, or null. */
  get first(): T | null {
    return this.#first;
  }

  get isEmpty(): boolean {
    return this.#first === null;
  }

  push(item: T): void {
    if (this.#first === null) {
      this.#first = item;
      return;
    }
    this.#rest ??= [];
    this.#rest.push(item);
  }

  /** Takes out the oldest. */
  shift(): T | null {
    const first = this.#first;
    this.#first = this.#rest?.shift() ?? null;
    return first;
  }

  /** Puts `made` in the place of the newest, should that be `item`. */
  replaceNewest(item: T, made: () => T): void {
    const rest = this.#rest;
    if (rest !== null && rest.length > 0) {
      if (rest.at(-1) === item) rest[rest.length - 1] = made();
    } else if (this.#first === item) {
      this.#first = made();
    }
  }

  /** All of it, the oldest first. */
  get all(): readonly T[] {
    return this.#first === null ? [] : [this.#first, ...(this.#rest ?? [])];
  }

  /** Takes out all of it, the oldest first. */
  drain(): readonly T[] {
    const { all } = this;
    this.#first = null;
    this.#rest = null;
    return all;
  }
}
