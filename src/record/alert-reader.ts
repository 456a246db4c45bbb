/**
 * Which alerts crossed the wire of one live connection, read from its records with the secrets of its key log.
 *
 * Theory of operation. The reader is shown the bytes of both directions in order, those received before the engine of
 * this side gets them, and the lines of its key log as the engine writes them. It follows the key changes by itself
 * (as decoder.ts does for whole captures, where keys may come at any time):
 *
 * - TLS 1.3: a ServerHello (not a HelloRetryRequest) puts both directions under handshake keys; a direction's
 *   Finished puts it under its first traffic secret, a KeyUpdate under the next.
 * - TLS 1.2: ChangeCipherSpec puts a direction under the keys of the handshake that is going on, which may be a
 *   renegotiation inside the keys of the one before.
 *
 * A key may come a little later than the record that needs it: the engine makes it from what was just shown. The
 * record waits for it.
 *
 * An alert or a KeyUpdate may be padded to any length (RFC 9846 section 5.4), and a record that was tampered with
 * must stop the reading: nothing that was received goes by unproven. Either the engine, given that record alone, gave
 * application data for it, and so has authenticated it as that; or it is decrypted. It is then taken as OpenSSL takes
 * it, or more strictly: what OpenSSL refuses stops the direction for good, so that an alert behind it, which the engine
 * never reads, is no alert here either. What was sent comes from the engine itself, which pads nothing: only what is
 * short enough to be an alert or a KeyUpdate is decrypted.
 *
 * The first alert that ends a direction is told, and nothing behind it is looked at. Secrets: those of the next key
 * change, and of each direction the newest; overwritten when they are replaced and at the end.
 */
import { MalformedError } from '../errors.ts';
import {
  Conversation,
  type Direction,
  type EndingAlert,
  MAX_PLAINTEXT,
  Refusal,
  wipe,
} from './conversation.ts';
import { RecordCutter, type WireRecord } from './cutter.ts';
import type { Sender } from './decoder.ts';
import { LiveKeys, TLS12 } from './live-keys.ts';
import { CONTENT_TYPE, HEADER_LENGTH } from './record.ts';
import { HandshakeSkimmer } from './skimmer.ts';

export type { EndingAlert } from './conversation.ts';

/** What the reader tells. */
export interface AlertReaderEvents {
  /** @param warned whether a warning came before, in TLS 1.3: OpenSSL 3.5 heeds no close_notify behind one there. */
  onReceived(alert: EndingAlert, warned: boolean): void;
  /**
   * @param end how many bytes were sent up to the end of this alert's record.
   * @param length of that record, with its header.
   */
  onSent(alert: EndingAlert, end: number, length: number): void;
}

/** Bytes that may wait for a key. */
const MAX_WAITING = 1 << 20;

/** TLSCiphertext.length (RFC 9846 section 5.2). */
const MAX_CIPHERTEXT_13 = MAX_PLAINTEXT + 256;

/** The longest that we send and that has to be read in TLS 1.3: a KeyUpdate and its ContentType, then the tag. */
const KEY_UPDATE_LENGTH = 4 + 1 + 1;

const direction = (sender: Sender, ours: boolean): Direction => ({
  sender,
  ours,
  cutter: new RecordCutter(),
  messages: new HandshakeSkimmer(),
  waiting: [],
  waitingLength: 0,
  protection: null,
  awaits: null,
  finished: false,
  finishing: false,
  warnings: 0,
  warned: false,
  empty: 0,
  over: false,
});

export class AlertReader {
  readonly #events: AlertReaderEvents;
  readonly #received: Direction;
  readonly #sent: Direction;
  readonly #keys = new LiveKeys();
  readonly #conversation: Conversation;
  /** A received record that the engine has not been given yet, or is being given. */
  #held: WireRecord | null = null;
  /** How much application data was read of what `received` was shown last. */
  #data = 0;
  /** How much application data was read in all. */
  #total = 0;
  /** Whether the engine gives the application data of a record with that record. */
  #trusts = true;
  #unreadable: string | null = null;
  #refused: string | null = null;

  /** @param role of the side that this is. */
  constructor(role: Sender, events: AlertReaderEvents) {
    this.#events = events;
    this.#received = direction(role === 'client' ? 'server' : 'client', false);
    this.#sent = direction(role, true);
    const client = role === 'client' ? this.#sent : this.#received;
    this.#conversation = new Conversation(this.#keys, client);
  }

  /** Why this connection cannot be read: its version, its cipher suite, a key that never came. */
  get unreadable(): string | null {
    return this.#unreadable;
  }

  /** What was received, or sent, that no TLS stack takes: the direction was not read any further. */
  get refused(): string | null {
    return this.#refused;
  }

  /** Bytes of application data in the records that were received. An engine that gave less has lost some. */
  get data(): number {
    return this.#total;
  }

  /** Where the bytes received so far end; unknown where they are no records. */
  get where(): 'record-boundary' | 'inside-record' | 'unknown' {
    const { cutter } = this.#received;
    if (cutter.lost) return 'unknown';
    return cutter.atBoundary ? 'record-boundary' : 'inside-record';
  }

  /** A line of the key log (RFC 9850), as the engine gives it. */
  secret(line: Uint8Array): void {
    this.#keys.addSecret(line);
    this.#drain(this.#received);
    this.#drain(this.#sent);
  }

  /**
   * Bytes that were received, up to the end of the first record in them.
   *
   * @returns how many bytes that is.
   */
  received(bytes: Uint8Array): number {
    this.look();
    this.#data = 0;
    return this.#cut(this.#received, bytes, 0);
  }

  /**
   * The engine has been given what `received` was shown last, and nothing else meanwhile.
   *
   * @param data how many bytes of application data it gave.
   */
  given(data: number): void {
    const record = this.#held;
    if (record !== null && data > 0 && data < (record.body?.length ?? 0)) {
      this.#held = null;
      this.#total += data;
      this.#received.protection?.unprotector.skip();
      this.#received.empty = 0;
      this.#received.warnings = 0;
      return;
    }
    this.look();
    // What the engine has not given by now it would give with a record that is not application data.
    if (this.#data > 0 && data === 0) this.#trusts = false;
  }

  /** Whether the peer has finished its handshake. */
  get finished(): boolean {
    this.look();
    return this.#received.finished;
  }

  /**
   * Whether a handshake is going on, as far as it can be read: the first one, or a renegotiation (TLS 1.2). OpenSSL
   * sends no close_notify within one.
   */
  get handshaking(): boolean {
    const lost = this.#unreadable !== null || this.#refused !== null;
    return !lost && this.#conversation.handshaking;
  }

  /** Reads all that was received, whether the engine has been given the last of it or not. */
  look(): void {
    const record = this.#held;
    this.#held = null;
    if (record !== null && !this.#received.over) this.#read(this.#received, record);
  }

  /** Whether a record may be left to the engine to prove. */
  #canHold(from: Direction, { header }: WireRecord): boolean {
    return (
      this.#trusts &&
      header[0] === CONTENT_TYPE.applicationData &&
      from.protection !== null &&
      from.finished &&
      !from.messages.midMessage &&
      !this.#conversation.handshaking
    );
  }

  /** Bytes that are about to be sent. */
  sending(bytes: Uint8Array): void {
    for (let at = 0; at < bytes.length; ) at = this.#cut(this.#sent, bytes, at);
  }

  /** The connection is over. */
  close(): void {
    this.#stop(this.#received);
    this.#stop(this.#sent);
  }

  #cut(from: Direction, bytes: Uint8Array, at: number): number {
    const { cutter } = from;
    const end = cutter.take(bytes, at, (type, length) => this.#isWanted(from, type, length));
    if (from.over) return end;
    if (cutter.lost) {
      this.#refuse(from, new Refusal('no records'));
      return end;
    }
    const { record } = cutter;
    if (record === null) return end;
    if (!from.ours && from.waiting.length === 0 && this.#canHold(from, record)) {
      this.#held = record;
      return end;
    }
    if (from.waiting.length > 0 || !this.#read(from, record)) this.#wait(from, record);
    // What one direction says may be what the other waits for.
    this.#drain(from.ours ? this.#received : this.#sent);
    return end;
  }

  #isWanted(from: Direction, type: number, length: number): boolean {
    if (from.over) return false;
    if (!from.ours || from.protection === null || !from.finished || from.waiting.length > 0)
      return true;
    if (!this.#keys.tls13) return type !== CONTENT_TYPE.applicationData;
    return length <= KEY_UPDATE_LENGTH + this.#keys.tagLength;
  }

  #wait(from: Direction, { header, body, end }: WireRecord): void {
    // A copy: its memory is the engine's or the transport's.
    const kept = { header, body: body === null ? null : Uint8Array.from(body), end };
    from.waiting.push(kept);
    from.waitingLength += HEADER_LENGTH + (kept.body?.length ?? 0);
    if (from.waitingLength > MAX_WAITING) this.#refuse(from, new Error('no key for its records'));
  }

  #drain(from: Direction): void {
    while (!from.over) {
      const [record] = from.waiting;
      if (record === undefined || !this.#read(from, record)) return;
      from.waiting.shift();
      from.waitingLength -= HEADER_LENGTH + (record.body?.length ?? 0);
      if (from.waiting.length === 0) this.#drain(from.ours ? this.#received : this.#sent);
    }
  }

  /** @returns false where its key is not known yet. */
  #read(from: Direction, record: WireRecord): boolean {
    try {
      return this.#readRecord(from, record);
    } catch (error) {
      this.#refuse(from, error as Error);
      return true;
    }
  }

  #readRecord(from: Direction, { header, body, end }: WireRecord): boolean {
    const type = header[0] as number;
    const tls13 = this.#keys.tls13;
    if (from.awaits !== null && !(tls13 && this.#isClear(from, type)) && !this.#findKeys(from)) {
      return false;
    }
    if (from.protection === null || (tls13 && this.#isClear(from, type))) {
      const clear = body as Uint8Array;
      this.#take(from, type, clear, false, end, HEADER_LENGTH + clear.length);
      return true;
    }
    if (body === null) {
      from.protection.unprotector.skip();
      return true;
    }
    if ((((header[1] as number) << 8) | (header[2] as number)) !== TLS12)
      throw new Refusal('another version in a record');
    if (tls13 && type !== CONTENT_TYPE.applicationData) throw new Refusal('a record in the clear');
    if (tls13 && body.length > MAX_CIPHERTEXT_13) throw new Refusal('a record that is too long');
    const plain = from.protection.unprotector.unprotect(header, body);
    if (plain === null) throw new Refusal('a record that is not authentic');
    this.#take(from, plain.type, plain.content, true, end, HEADER_LENGTH + body.length);
    return true;
  }

  /**
   * Whether a record of this type is in the clear in TLS 1.3 though its direction is to be protected: ChangeCipherSpec
   * until the handshake is over (RFC 9846 section 5), and the alert of a client that could not read the ServerHello,
   * or of our own engine before it uses the key.
   */
  #isClear(from: Direction, type: number): boolean {
    if (type === CONTENT_TYPE.changeCipherSpec) {
      return !this.#received.finished || !this.#sent.finished;
    }
    const mayBeClear = from.ours || from.sender === 'client';
    return type === CONTENT_TYPE.alert && mayBeClear && from.protection === null && !from.finished;
  }

  /** @returns whether the keys that a direction awaits are there. */
  #findKeys(from: Direction): boolean {
    from.protection = this.#keys.take(from.awaits as string, from.sender);
    if (from.protection === null) return false;
    from.awaits = null;
    return true;
  }

  #take(
    from: Direction,
    type: number,
    content: Uint8Array,
    isProtected: boolean,
    end: number,
    length: number,
  ): void {
    const alert = this.#conversation.take(from, type, content, isProtected);
    if (type === CONTENT_TYPE.applicationData && !from.ours) {
      this.#data += content.length;
      this.#total += content.length;
    }
    if (alert === null) return;
    this.#stop(from);
    if (from.ours) this.#events.onSent(alert, end, length);
    else this.#events.onReceived(alert, this.#keys.tls13 && from.warned);
  }

  #refuse(from: Direction, error: Error): void {
    if (error instanceof Refusal || error instanceof MalformedError) {
      this.#refused ??= error.message;
      this.#stop(from);
    } else {
      // A cipher that this runtime's node:crypto has not, at worst a mistake in here: the connection goes on, and
      // nothing more is claimed of it.
      this.#unreadable ??= error.message;
      this.close();
    }
  }

  #stop(from: Direction): void {
    from.over = true;
    from.waiting.length = 0;
    wipe(from);
    if (this.#received.over && this.#sent.over) this.#keys.forget();
  }
}
