/**
 * A transport in memory with a hand on the wire.
 *
 * Theory of operation. A channel has two ends, each a Duplex that can be given to `connect` or
 * `accept`, and two lines, one for each direction. What an end writes goes into its line, and comes
 * out at the other end in one of three ways: at once (the default), after a delay, or, where the line
 * is held, when somebody says so. Each line counts the bytes that have passed it, so it can be cut at
 * any one of them: the reader then gets FIN or a reset, and what was still to come is lost. What is
 * injected was never written, and does not count.
 *
 * Backpressure is that of a socket. A line that flows takes the next write only when the reader has
 * had room for the last one; a line that is held takes `capacity` bytes on top.
 *
 * Nothing happens by itself here but what was asked for: no timer runs unless there is a delay in
 * milliseconds.
 */
import { join, MemoryEnd } from '../transport/pair.ts';
import { type ChannelOptions, Line } from './line.ts';

export { type ChannelOptions, type Cut, Line, resetError, type Segmentation } from './line.ts';

/** close_notify in the clear: ContentType alert, version, length 2, warning, close_notify. */
export const FORGED_CLOSE_NOTIFY: Uint8Array = Uint8Array.of(21, 3, 3, 0, 2, 1, 0);

/** Every byte a segment. */
export function* byteByByte(chunk: Uint8Array): Iterable<Uint8Array> {
  for (let at = 0; at < chunk.length; at++) yield chunk.subarray(at, at + 1);
}

/** One end of a channel: a Duplex, with the line that carries what it writes. */
export class ChannelEnd extends MemoryEnd {
  /** Carries what this end writes. */
  line!: Line;
}

/** Two connected ends and the lines between them. */
export class Channel {
  /** The ends: give one to `connect`, the other to `accept`. */
  readonly ends: readonly [ChannelEnd, ChannelEnd];
  /** From the first end to the second. */
  readonly forth: Line;
  /** From the second end to the first. */
  readonly back: Line;

  /** See `channel`. */
  constructor(options: ChannelOptions = {}) {
    const a = new ChannelEnd(options.highWaterMark);
    const b = new ChannelEnd(options.highWaterMark);
    this.forth = a.line = new Line(b, options);
    this.back = b.line = new Line(a, options);
    join(a, b, this.forth, this.back);
    this.ends = [a, b];
  }

  /** Holds both lines. */
  hold(): void {
    this.forth.hold();
    this.back.hold();
  }

  /** Lets both lines go. */
  flow(): void {
    this.forth.flow();
    this.back.flow();
  }

  /** The connection is reset, for both ends. */
  reset(): void {
    this.forth.cut('reset');
    this.back.cut('reset');
  }

  /** Destroys both ends, as one does when a test is over. */
  [Symbol.dispose](): void {
    for (const end of this.ends) end.on('error', () => {}).destroy();
  }
}

/** A connected pair of transports in memory, each direction of which can be held, cut and read. */
export function channel(options: ChannelOptions = {}): Channel {
  return new Channel(options);
}
