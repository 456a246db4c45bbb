/** A man in the middle, who changes what passes: byte by byte, or record by record. */
import type { Duplex } from 'node:stream';
import { CONTENT_TYPE } from '../../src/record/record.ts';
import { FORGED_CLOSE_NOTIFY } from '../../src/testing/index.ts';
import type { Framed } from '../cuts/conversation.ts';

/** What is done to one byte. */
export const BYTE_CHANGES = ['flip', 'drop', 'duplicate', 'insert'] as const;
export type ByteChange = (typeof BYTE_CHANGES)[number];

/** What is done to whole records, or between them. */
export const RECORD_CHANGES = [
  'swap',
  'drop-record',
  'replay',
  'close-notify',
  'fatal-alert',
  'alert-fragment',
  'alert-in-two-fragments',
] as const;
export type RecordChange = (typeof RECORD_CHANGES)[number];

/** One change, to what one party sends. */
export type Change =
  | { readonly how: ByteChange; readonly at: number; readonly bit: number }
  | { readonly how: RecordChange; readonly record: number };

const alert = (...body: number[]) =>
  Uint8Array.of(CONTENT_TYPE.alert, 3, 3, 0, body.length, ...body);

/** What is put in front of a record, in the clear. */
const INJECTED: Partial<Record<RecordChange, Uint8Array>> = {
  'close-notify': FORGED_CLOSE_NOTIFY,
  'fatal-alert': alert(2, 40),
  // The one byte that the alert attack on several stacks left behind, to be joined with what comes.
  'alert-fragment': alert(1),
  'alert-in-two-fragments': Buffer.concat([alert(1), alert(0)]),
};

/** Where the change takes effect in what was sent. */
export function placeOf(change: Change, frames: readonly Framed[]): number {
  if ('at' in change) return change.at;
  return frames[change.record]?.from ?? frames.at(-1)?.to ?? 0;
}

/** Passes bytes on from `from` to `to`, with one change. Endings pass too. */
export class Mangler {
  readonly #to: Duplex;
  readonly #change: Change | null;
  #at = 0;
  /** For changes of records: what is not a whole record yet. */
  #pending: Buffer = Buffer.alloc(0);
  #record = 0;
  #swapped: Buffer | null = null;
  /** Whether the change was made. */
  done = false;
  /** Bytes that came by. */
  passed = 0;

  constructor(from: Duplex, to: Duplex, change: Change | null) {
    this.#to = to;
    this.#change = change;
    from.on('data', (bytes: Buffer) => this.#pass(bytes));
    from.on('end', () => {
      this.#flush();
      to.end();
    });
    from.on('error', () => to.destroy());
    from.on('close', () => to.destroy());
  }

  #pass(bytes: Buffer): void {
    const change = this.#change;
    this.passed += bytes.length;
    if (change === null) this.#send(bytes);
    else if ('at' in change) this.#bytes(change, bytes);
    else this.#records(bytes);
  }

  #send(bytes: Uint8Array): void {
    if (!this.#to.destroyed && this.#to.writable && bytes.length > 0) this.#to.write(bytes);
  }

  #bytes({ how, at, bit }: Extract<Change, { at: number }>, bytes: Buffer): void {
    const index = at - this.#at;
    this.#at += bytes.length;
    if (index < 0 || index >= bytes.length) {
      this.#send(bytes);
      return;
    }
    const byte = bytes[index] as number;
    const there: Record<ByteChange, readonly number[]> = {
      flip: [byte ^ (1 << bit)],
      drop: [],
      duplicate: [byte, byte],
      insert: [byte ^ (1 << bit), byte],
    };
    const changed = Buffer.concat([
      bytes.subarray(0, index),
      Buffer.from(there[how]),
      bytes.subarray(index + 1),
    ]);
    // A byte that stands twice before equal ones to the end changes nothing but what comes behind.
    this.done = !changed.subarray(0, bytes.length).equals(bytes);
    this.#send(changed);
  }

  #records(bytes: Buffer): void {
    this.#pending = Buffer.concat([this.#pending, bytes]);
    while (this.#pending.length >= 5) {
      const length = 5 + this.#pending.readUInt16BE(3);
      if (this.#pending.length < length) return;
      this.#one(this.#pending.subarray(0, length));
      this.#pending = this.#pending.subarray(length);
    }
  }

  #one(record: Buffer): void {
    const { how, record: wanted } = this.#change as Extract<Change, { record: number }>;
    const index = this.#record++;
    if (this.#swapped !== null) {
      const first = this.#swapped;
      this.#swapped = null;
      this.done = true;
      this.#send(Buffer.concat([record, first]));
      return;
    }
    if (index !== wanted) {
      this.#send(record);
      return;
    }
    if (how === 'swap') {
      this.#swapped = Buffer.from(record);
      return;
    }
    this.done = true;
    if (how === 'drop-record') return;
    if (how === 'replay') this.#send(Buffer.concat([record, record]));
    else this.#send(Buffer.concat([INJECTED[how] as Uint8Array, record]));
  }

  #flush(): void {
    // A record that was to be swapped with a next one that never came.
    if (this.#swapped !== null) this.#send(this.#swapped);
    this.#swapped = null;
    this.#send(this.#pending);
    this.#pending = Buffer.alloc(0);
  }
}
