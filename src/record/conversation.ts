/**
 * What the two sides of a TLS connection may say to each other, as OpenSSL takes it (`ssl3_get_record` and
 * `ssl3_read_bytes` of 3.0), as far as it decides which keys come next and which alert counts. The rest is refused.
 */
import type { RecordCutter, WireRecord } from './cutter.ts';
import type { Sender } from './decoder.ts';
import { HANDSHAKE_TYPE } from './handshake.ts';
import { type LiveKeys, MASTER, type Protection } from './live-keys.ts';
import { CONTENT_TYPE } from './record.ts';
import type { HandshakeSkimmer, SkimmedMessage } from './skimmer.ts';

/** An alert that ends a direction: close_notify, or one that is fatal. */
export interface EndingAlert {
  /** AlertLevel; of close_notify in TLS 1.3, which does not look at it, always 1. */
  readonly level: number;
  readonly description: number;
  /** Whether its sender had proven itself, by its Finished of the first handshake. */
  readonly authenticated: boolean;
}

/** OpenSSL takes it no more than this reader does: the direction is not read any further. */
export class Refusal extends Error {}

/** One direction of a connection. */
export interface Direction {
  readonly sender: Sender;
  readonly ours: boolean;
  readonly cutter: RecordCutter;
  readonly messages: HandshakeSkimmer;
  /** Records that wait for a key, and how many bytes they are. */
  readonly waiting: WireRecord[];
  waitingLength: number;
  /** Null while records are in the clear, or their keys are not known. */
  protection: Protection | null;
  /** The label of the secret that its records are under from now on, where it is not in use yet. */
  awaits: string | null;
  /** Whether the sender has finished a handshake. */
  finished: boolean;
  /** Whether a Finished is the next that has to come (TLS 1.2). */
  finishing: boolean;
  warnings: number;
  /** A warning has come. */
  warned: boolean;
  empty: number;
  /** Nothing more is read of it. */
  over: boolean;
}

/** Overwrites the keys in use of a direction. */
export function wipe(from: Direction): void {
  from.protection?.unprotector.wipe();
  from.protection?.secret?.fill(0);
  from.protection = null;
}

const CLOSE_NOTIFY = 0;
const USER_CANCELED = 90;
const NO_RENEGOTIATION = 100;
const WARNING = 1;
const FATAL = 2;

/** OpenSSL takes no more of them in a row (MAX_WARN_ALERT_COUNT, MAX_EMPTY_RECORDS). */
const MAX_WARNINGS = 5;
const MAX_EMPTY = 32;

/** TLSPlaintext.length (RFC 9846 section 5.1). */
export const MAX_PLAINTEXT = 1 << 14;

/** The lengths of messages that have but one. */
const LENGTHS: ReadonlyMap<number, number> = new Map([
  [HANDSHAKE_TYPE.helloRequest, 0],
  [HANDSHAKE_TYPE.keyUpdate, 1],
]);

export class Conversation {
  readonly #keys: LiveKeys;
  readonly #client: Direction;
  /** Whether a handshake has begun that not both sides have finished. */
  #handshaking = false;
  /** Whether one of them has. */
  #halfDone = false;

  constructor(keys: LiveKeys, client: Direction) {
    this.#keys = keys;
    this.#client = client;
  }

  get handshaking(): boolean {
    return this.#handshaking;
  }

  /**
   * Takes the content of a direction's next record.
   *
   * @param type its ContentType.
   * @returns the alert that ends the direction, where it is one.
   * @throws {Refusal} and {MalformedError} for what OpenSSL does not take, {Error} for a connection that cannot be read.
   */
  take(
    from: Direction,
    type: number,
    content: Uint8Array,
    isProtected: boolean,
  ): EndingAlert | null {
    if (content.length > MAX_PLAINTEXT) throw new Refusal('a record that is too long');
    const tls13 = this.#keys.tls13;
    const ignored = tls13 && type === CONTENT_TYPE.changeCipherSpec;
    if (content.length === 0 || ignored) {
      if (tls13 && type !== CONTENT_TYPE.applicationData && !ignored)
        throw new Refusal('an empty message');
      if (++from.empty > MAX_EMPTY) throw new Refusal('too many empty records');
    } else {
      from.empty = 0;
    }
    if (from.messages.midMessage && type !== CONTENT_TYPE.handshake && !(ignored && !isProtected)) {
      // In TLS 1.2 OpenSSL lets data and alerts come between the pieces of a message.
      if (tls13 || type === CONTENT_TYPE.changeCipherSpec) {
        throw new Refusal('a record within a handshake message');
      }
    }
    if (from.finishing && type !== CONTENT_TYPE.handshake) {
      throw new Refusal('no Finished behind ChangeCipherSpec');
    }
    if (type === CONTENT_TYPE.alert) return this.#alert(from, content, isProtected);
    if (content.length > 0) from.warnings = 0;
    switch (type) {
      case CONTENT_TYPE.handshake:
        from.messages.push(
          content,
          (kind, length) => this.#header(from, kind, length),
          (message) => this.#message(from, message, isProtected),
        );
        break;
      case CONTENT_TYPE.changeCipherSpec:
        this.#changeCipherSpec(from, content, isProtected);
        break;
      case CONTENT_TYPE.applicationData:
        if (!from.finished) throw new Refusal('application data before Finished');
        break;
      default:
        throw new Refusal('an unknown type of record');
    }
    return null;
  }

  /** As `ssl3_read_bytes` of OpenSSL does. */
  #alert(from: Direction, content: Uint8Array, isProtected: boolean): EndingAlert | null {
    if (content.length !== 2) throw new Refusal('an alert of another length than two');
    const [level, description] = content as unknown as [number, number];
    const tls13 = this.#keys.tls13;
    if (tls13 ? description === USER_CANCELED : level === WARNING && description !== CLOSE_NOTIFY) {
      // What the engine sends is as it should be: a server refuses a renegotiation by such a warning.
      if (from.ours) return null;
      from.warned = true;
      if (++from.warnings === MAX_WARNINGS) throw new Refusal('too many warnings');
      if (!tls13 && description === NO_RENEGOTIATION) throw new Refusal('no renegotiation');
      return null;
    }
    if (!tls13 && level !== WARNING && level !== FATAL) throw new Refusal('an alert of no level');
    return {
      level: tls13 && description === CLOSE_NOTIFY ? WARNING : level,
      description,
      authenticated: isProtected && from.finished,
    };
  }

  /** Refuses a message by what its header says. */
  #header(from: Direction, type: number, length: number): void {
    if (from.finishing && type !== HANDSHAKE_TYPE.finished) {
      throw new Refusal('no Finished behind ChangeCipherSpec');
    }
    if (from.finished && !from.finishing && !this.#isExpected(from, type)) {
      throw new Refusal('a handshake message that nobody asked for');
    }
    const wanted = LENGTHS.get(type);
    if (wanted !== undefined && length !== wanted) {
      throw new Refusal('a handshake message of another length');
    }
  }

  #message(from: Direction, message: SkimmedMessage, isProtected: boolean): void {
    const { type, kept, last } = message;
    const tls13 = this.#keys.tls13;
    switch (type) {
      case HANDSHAKE_TYPE.clientHello:
        if (from.sender !== 'client') throw new Refusal('a ClientHello of the server');
        this.#clientHello(kept);
        return;
      case HANDSHAKE_TYPE.serverHello:
        if (from.sender !== 'server') throw new Refusal('a ServerHello of the client');
        this.#serverHello(from, kept, last);
        return;
      case HANDSHAKE_TYPE.finished:
        if (!isProtected) throw new Refusal('a Finished in the clear');
        from.finished = true;
        from.finishing = false;
        if (tls13) this.#expect(from, `${from.sender.toUpperCase()}_TRAFFIC_SECRET_0`, last);
        // Each of the two finishes once.
        if (tls13 || this.#halfDone) this.#handshaking = false;
        this.#halfDone = this.#handshaking;
        return;
      case HANDSHAKE_TYPE.keyUpdate:
        if (!from.finished || (kept[0] as number) > 1 || !last) {
          throw new Refusal('a KeyUpdate that is none');
        }
        this.#updateKeys(from);
        return;
      default:
    }
  }

  /** Which messages may come from a side that has finished a handshake. */
  #isExpected(from: Direction, type: number): boolean {
    if (this.#keys.tls13) {
      return (
        type === HANDSHAKE_TYPE.keyUpdate ||
        (type === HANDSHAKE_TYPE.newSessionTicket && from.sender === 'server')
      );
    }
    if (this.#handshaking) return type !== HANDSHAKE_TYPE.keyUpdate;
    return from.sender === 'client'
      ? type === HANDSHAKE_TYPE.clientHello
      : type === HANDSHAKE_TYPE.helloRequest;
  }

  #clientHello(kept: Uint8Array): void {
    if (!this.#keys.clientHello(kept.slice(2, 34))) return;
    this.#handshaking = true;
    this.#halfDone = false;
  }

  #serverHello(from: Direction, kept: Uint8Array, last: boolean): void {
    if (!this.#keys.serverHello(kept) || !this.#keys.tls13) return;
    this.#expect(from, 'SERVER_HANDSHAKE_TRAFFIC_SECRET', last);
    this.#expect(this.#client, 'CLIENT_HANDSHAKE_TRAFFIC_SECRET', true);
  }

  #changeCipherSpec(from: Direction, content: Uint8Array, isProtected: boolean): void {
    if (content.length !== 1 || content[0] !== 1 || !this.#keys.answered) {
      throw new Refusal('a ChangeCipherSpec that is none');
    }
    if (this.#keys.tls13) {
      if (isProtected) throw new Refusal('a ChangeCipherSpec that is protected');
      return;
    }
    if (!this.#handshaking) throw new Refusal('a ChangeCipherSpec without a handshake');
    from.finishing = true;
    this.#expect(from, MASTER, true);
  }

  /** From the next record on, a direction is under the keys of this label. */
  #expect(from: Direction, label: string, last: boolean): void {
    if (!last) throw new Refusal('a change of keys within a record');
    wipe(from);
    from.awaits = label;
  }

  #updateKeys(from: Direction): void {
    const next = this.#keys.next(from.protection?.secret as Uint8Array);
    wipe(from);
    from.protection = next;
  }
}
