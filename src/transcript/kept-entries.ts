/**
 * The entries of a transcript, as many as it may have: the first and the last, and of the middle only how many they
 * were. What tells how the connection began and ended goes last.
 */
import type {
  EventEntry,
  HandshakeEntry,
  MessageCount,
  NoteEntry,
  TrafficEntry,
  TranscriptEntry,
  UnreadableEntry,
} from './entries.ts';
import type { Direction, Observation } from './observer.ts';

/** What is being folded: an entry that can still grow. */
export type Growing<Entry> = { -readonly [Key in keyof Entry]: Entry[Key] };
/** What grows as long as nothing else happens. */
export type Fold = Growing<TrafficEntry> | (Growing<HandshakeEntry> & { messages: MessageCount[] });
/** One of the handshake. */
export type HandshakeFold = Extract<Fold, { type: 'handshake' }>;
/** An observation, which its record may be added to. */
export type Event = Growing<EventEntry>;
/** One of what is kept. */
export type Kept = Fold | Event | UnreadableEntry | NoteEntry;

/** What tells how a connection began and ended. Few of each can happen. */
const DECISIVE: ReadonlySet<Observation['type']> = new Set([
  'phase',
  'alert',
  'close-notify',
  'transport-eof',
  'transport-reset',
  'transport-error',
  'transport-closed',
  'verdict',
]);

/** Keeps entries, and lets the last one grow. */
export class KeptEntries {
  readonly #headLimit: number;
  readonly #tailLimit: number;
  readonly #head: Kept[] = [];
  readonly #tail: Kept[] = [];
  #dropped = 0;

  /** @param limit the most entries: half of the beginning, half of the end. */
  constructor(limit: number) {
    this.#headLimit = Math.floor(limit / 2);
    this.#tailLimit = limit - this.#headLimit;
  }

  /** What is kept, in order. */
  get all(): Kept[] {
    return [...this.#head, ...this.#tail];
  }

  /** How many entries come before those that were dropped. */
  get head(): number {
    return this.#head.length;
  }

  get dropped(): number {
    return this.#dropped;
  }

  /** Takes over what another transcript has kept. */
  restore(entries: readonly TranscriptEntry[], head: number, dropped: number): void {
    this.#head.push(...(entries.slice(0, head) as Kept[]));
    this.#tail.push(...(entries.slice(head) as Kept[]));
    this.#dropped = dropped;
  }

  /**
   * The entry that application data of one direction goes into.
   *
   * @param decrypted whether its record was; null for what went through `read` or `write`, which goes with either.
   */
  traffic(direction: Direction, at: number, decrypted: boolean | null): Growing<TrafficEntry> {
    const last = this.#last;
    if (
      last?.type === 'traffic' &&
      last.direction === direction &&
      (decrypted === null || last.decrypted === decrypted || last.records === 0)
    ) {
      last.decrypted = decrypted ?? last.decrypted;
      return last;
    }
    const counts = { records: 0, wireBytes: 0, calls: 0, bytes: 0, decrypted: decrypted ?? false };
    const fold = { type: 'traffic' as const, direction, at, until: at, ...counts };
    this.add(fold);
    return fold;
  }

  /**
   * The entry that a record of the handshake goes into.
   *
   * @param post whether the record came after the handshake.
   * @param fresh whether the entry must be a new one.
   */
  handshake(direction: Direction, at: number, post: boolean, fresh = false): HandshakeFold {
    const last = this.#last;
    const same = last?.type === 'handshake' && last.direction === direction && last.post === post;
    if (same && !fresh) return last as HandshakeFold;
    const fold: HandshakeFold = {
      ...{ type: 'handshake', direction, at, until: at },
      ...{ records: 0, wireBytes: 0, messages: [], post },
    };
    this.add(fold);
    return fold;
  }

  get #last(): Kept | undefined {
    return this.#tail.at(-1) ?? this.#head.at(-1);
  }

  /** Takes an entry out, where it is still kept. */
  remove(entry: Kept): void {
    for (const list of [this.#tail, this.#head]) {
      const index = list.lastIndexOf(entry);
      if (index >= 0) list.splice(index, 1);
    }
  }

  /** Adds an entry behind the others. */
  add(entry: Kept): void {
    // Once the tail is in use the head is closed, also when a record taken back leaves room in it.
    if (this.#tail.length === 0 && this.#dropped === 0 && this.#head.length < this.#headLimit) {
      this.#head.push(entry);
      return;
    }
    this.#tail.push(entry);
    if (this.#tail.length <= this.#tailLimit) return;
    const idle = this.#tail.findIndex((one) => !isDecisive(one));
    // The last one is still being filled.
    this.#tail.splice(idle < 0 || idle === this.#tail.length - 1 ? 0 : idle, 1);
    this.#dropped++;
  }
}

function isDecisive(entry: Kept): boolean {
  return entry.type === 'event' && DECISIVE.has(entry.observation.type);
}
