/** What crossed the wire on a connection, kept, so that it can be decoded again in other pieces. */
import { type Decoded, type Sender, WireDecoder } from '../../src/record/decoder.ts';
import { parseKeyLogLine } from '../../src/record/keys.ts';
import type { Direction, Observer } from '../../src/transcript/observer.ts';

/** Bytes of one sender, or a line of the key log. */
export type Piece =
  | { readonly sender: Sender; readonly bytes: Uint8Array }
  | { readonly secret: string };

/** Watches one side of a connection. */
export class Capture implements Observer {
  readonly pieces: Piece[] = [];
  readonly #local: Sender;

  /** @param local which side it watches. */
  constructor(local: Sender = 'client') {
    this.#local = local;
  }

  observe(): void {}

  onBytes(direction: Direction, bytes: Uint8Array): void {
    const other: Sender = this.#local === 'client' ? 'server' : 'client';
    this.pieces.push({
      sender: direction === 'sent' ? this.#local : other,
      bytes: Uint8Array.from(bytes),
    });
  }

  onSecret(secret: string): void {
    this.pieces.push({ secret });
  }
}

/** Everything that a decoder reports of these pieces. */
export function decode(pieces: Iterable<Piece>): Decoded[] {
  const seen: Decoded[] = [];
  const decoder = new WireDecoder((decoded) => seen.push(decoded));
  for (const piece of pieces) {
    if ('secret' in piece) {
      const entry = parseKeyLogLine(piece.secret);
      if (entry !== null) decoder.addSecret(entry);
    } else {
      decoder.push(piece.sender, piece.bytes);
    }
  }
  return seen;
}

/** The reports of one sender, in a form that compares well. */
export const of = (decoded: readonly Decoded[], sender: Sender) =>
  decoded
    .filter((one) => one.sender === sender)
    .map((one) =>
      one.type === 'handshake' ? { ...one, body: Buffer.from(one.body).toString('hex') } : one,
    );

/** The handshake messages' types of one sender. */
export const messagesOf = (decoded: readonly Decoded[], sender: Sender): number[] =>
  decoded.flatMap((one) =>
    one.type === 'handshake' && one.sender === sender ? [one.messageType] : [],
  );

/** The last alert of one sender. */
export const lastAlert = (decoded: readonly Decoded[], sender: Sender) =>
  decoded.flatMap((one) => (one.type === 'alert' && one.sender === sender ? [one] : [])).at(-1);

/** Why a direction could not be read any further. */
export const unreadable = (decoded: readonly Decoded[]) =>
  decoded.flatMap((one) => (one.type === 'unreadable' ? [one] : []));

/** Numbers that look random and are the same for the same seed (mulberry32). */
export function randomNumbers(seed: number): (below: number) => number {
  let state = seed | 0;
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) % below;
  };
}

/** A seed of this run, or that of the variable SEED; a failing test prints it. */
export const runSeed = (): number =>
  Number(process.env['SEED'] ?? Math.floor(Math.random() * 2 ** 31));
