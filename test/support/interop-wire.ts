/**
 * Two ends of a transport in memory, with a hand on the wire: what one end sends can be held back,
 * looked at, and let go in pieces of any size, each of which arrives as a segment of its own.
 */
import { Duplex } from 'node:stream';

export class WireEnd extends Duplex {
  #other: WireEnd | null = null;
  #held: Buffer[] | null = null;

  constructor() {
    super({ allowHalfOpen: true });
  }

  static pair(): [WireEnd, WireEnd] {
    const ends: [WireEnd, WireEnd] = [new WireEnd(), new WireEnd()];
    ends[0].#other = ends[1];
    ends[1].#other = ends[0];
    return ends;
  }

  /** Holds back what this end sends from now on. */
  hold(): void {
    this.#held ??= [];
  }

  /** What is held back. */
  get held(): Buffer {
    return Buffer.concat(this.#held ?? []);
  }

  /** Stops holding back. What was held is dropped here: deliver it, in whatever pieces. */
  release(): Buffer {
    const { held } = this;
    this.#held = null;
    return held;
  }

  /** Hands one segment to the other end, in a turn of its own: no network is faster. */
  deliver(segment: Uint8Array): void {
    if (segment.length > 0) setImmediate(() => this.#other?.push(segment));
  }

  override _read(): void {
    // The other end pushes.
  }

  override _write(chunk: Uint8Array, _encoding: string, done: () => void): void {
    // A copy: the writer may use its memory again.
    const segment = Buffer.from(chunk);
    if (this.#held !== null) this.#held.push(segment);
    else this.deliver(segment);
    done();
  }

  override _final(done: () => void): void {
    setImmediate(() => this.#other?.push(null));
    done();
  }
}
