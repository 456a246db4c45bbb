/** What a transcript is made of: entries, each of what happened once, or again and again with nothing in between. */
import type { Direction, Observation } from './observer.ts';

/** When an entry began and ended, in milliseconds since the connection's start. */
export interface EntryTimes {
  /** When it began. */
  readonly at: number;
  /** The same as `at`, but for entries that were folded from several observations. */
  readonly until: number;
}

/**
 * Records of application data, and what went through `read` or `write`, of one direction, with
 * nothing else in between.
 */
export interface TrafficEntry extends EntryTimes {
  /** Tells the entries apart. */
  readonly type: 'traffic';
  /** Which way it went. */
  readonly direction: Direction;
  /** Records on the wire. */
  readonly records: number;
  /** Their bytes, without the headers. */
  readonly wireBytes: number;
  /** Calls of `read` or `write`. */
  readonly calls: number;
  /** The application's bytes in them. */
  readonly bytes: number;
  /**
   * Whether it is known that the records hold application data. If not, only their headers say so,
   * and in TLS 1.3 those say it of session tickets and the like as well.
   */
  readonly decrypted: boolean;
}

/** Handshake messages of one name, one after the other. */
export interface MessageCount {
  /** As in the standard: `client_hello`; `change_cipher_spec` stands among them. */
  readonly name: string;
  /** How many. */
  readonly count: number;
  /** Their bytes together, with their headers. */
  readonly bytes: number;
}

/** Records of the handshake, and of what TLS 1.3 sends after it, in one direction. */
export interface HandshakeEntry extends EntryTimes {
  /** Tells the entries apart. */
  readonly type: 'handshake';
  /** Which way they went. */
  readonly direction: Direction;
  /** Records on the wire. */
  readonly records: number;
  /** Their bytes, without the headers. */
  readonly wireBytes: number;
  /** The messages in them, in order; empty where they could not be read. */
  readonly messages: readonly MessageCount[];
  /** Whether these came after the handshake: session tickets, KeyUpdate (RFC 9846 section 4.6). */
  readonly post: boolean;
}

/** A record that carried one thing, as it crossed the wire. */
export interface RecordDetail {
  /** ContentType in its header: in TLS 1.3, 23 for everything that is protected. */
  readonly contentType: number;
  /** Bytes after the header. */
  readonly length: number;
  /** Whether it was encrypted. */
  readonly protected: boolean;
  /** The AlertLevel inside: 'warning' or 'fatal'. */
  readonly level: 'warning' | 'fatal';
}

/** One observation that is kept as it came. */
export interface EventEntry extends EntryTimes {
  /** Tells the entries apart. */
  readonly type: 'event';
  /** Never one of type `record` or `data`: those are folded. */
  readonly observation: Observation;
  /** For an alert whose record was read: that record. */
  readonly record?: RecordDetail | undefined;
}

/** From here on the records of one direction cannot be read. */
export interface UnreadableEntry extends EntryTimes {
  /** Tells the entries apart. */
  readonly type: 'unreadable';
  /** Which direction. */
  readonly direction: Direction;
  /** Why. */
  readonly reason: string;
}

/** What the caller had to say, by `note`. */
export interface NoteEntry extends EntryTimes {
  /** Tells the entries apart. */
  readonly type: 'note';
  /** The remark. */
  readonly text: string;
}

/** One entry of a transcript. */
export type TranscriptEntry =
  | TrafficEntry
  | HandshakeEntry
  | EventEntry
  | UnreadableEntry
  | NoteEntry;
