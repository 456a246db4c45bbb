/**
 * The native engine: OpenSSL by the add-on, without Node's TLS in between.
 *
 * Theory of operation. The add-on has a connection for each stream, and reads and writes its transport by itself where
 * that has a descriptor (wire.ts). What it has to tell comes in one form, from its events and from the calls that are
 * made of it: a word of flags, with numbers in a shared array, and rarer things as facts. All of that is taken up in
 * `onFlags`, in one order: data first, then what was behind it.
 *
 * Which alert crossed the wire OpenSSL's message callback tells, and nothing else: so the evidence is `openssl`.
 */
import { Buffer } from 'node:buffer';
import { performance } from 'node:perf_hooks';
import { setImmediate } from 'node:timers';
import { getSystemErrorName } from 'node:util';
import { markAsUntransferable } from 'node:worker_threads';
import type { EngineBinding, NativeConnection, NativeContext, NativeInfo } from '../add-on.ts';
import { closes, type SeenAlert, type TransportEnding, type Way } from '../closure/ending.ts';
import { process } from '../runtime.ts';
import { causeOf, type TransportError } from '../transport/listeners.ts';
import { after } from '../wait.ts';
import type { Engine, EngineEvents, EngineFailure, Peer, TlsInfo } from './contract.ts';
import { Incoming } from './incoming.ts';
import { wrapSession } from './native-context.ts';
import { NativePeer } from './native-peer.ts';
import type { Judgement, Side } from './native-side.ts';
import type { EngineOptions } from './options.ts';
import { Pace, type Paced } from './pace.ts';
import { type Wire, type WireEvents, wireFor } from './wire.ts';

/** Flags of what a call or an event tells. */
const DATA = 1;
const FACTS = 2;
const SLAB = 4;
const DRAIN = 8;
const OUTPUT = 16;

/** Indices of the shared numbers. */
const OFFSET = 0;
const LENGTH = 1;
const PENDING = 2;
const UNSENT = 3;

/** Kinds of facts: each has three numbers, and perhaps bytes or text. */
const ALERT = 1;
const RECORD = 2;
const SECRET = 3;
const TICKET = 4;
const SECURE = 5;
const FAILED = 6;
const EOF = 7;
const RECEIVE_ERROR = 8;
const SEND_ERROR = 9;
const WANT_CERTIFICATE = 10;
const BYTES = 11;
const RENEGOTIATION = 12;

/** From the add-on's clock to that of `performance.now()`. */
const CLOCK = performance.now() - Number(process.hrtime.bigint()) / 1e6;

/** The memory that was decrypted into last. */
let slab: Buffer = Buffer.alloc(0);

const dispatched = new WeakSet<EngineBinding>();

interface OfConnection extends NativeConnection {
  engine?: NativeEngine;
}

export class NativeEngine implements Engine, WireEvents, Paced {
  readonly peer: Peer;
  readonly #binding: EngineBinding;
  readonly #connection: OfConnection;
  readonly #wire: Wire;
  readonly #events: EngineEvents;
  readonly #linger: number;
  readonly #side: Side;
  #info: TlsInfo | null = null;
  readonly #incoming = new Incoming();
  readonly #pace = new Pace(this);
  /** Sessions that came before the certificate was judged. */
  readonly #sessions: Uint8Array[] = [];
  /** No alert of ours can have left before: the handshake was told then, or close_notify was asked for. */
  #notBefore = 0;
  #sendError: TransportError | null = null;
  /** What the connection fails with, until its alert has left. */
  #failure: EngineFailure | null = null;
  readonly #is = {
    reading: true,
    paused: false,
    /** A failure waits until all that came with it was told. */
    telling: false,
    failed: false,
    /** The peer's close_notify came. */
    closed: false,
    /** A fatal alert came. */
    doomed: false,
    /** The transport gives no more. */
    ended: false,
    destroyed: false,
  };

  /** Begins a handshake. */
  constructor(binding: EngineBinding, options: EngineOptions, context: NativeContext, side: Side) {
    const { events, transport, head, linger } = options;
    this.#binding = binding;
    this.#events = events;
    this.#linger = linger;
    this.#side = side;
    if (!dispatched.has(binding)) {
      dispatched.add(binding);
      binding.setDispatch(dispatch);
    }
    this.#connection = new binding.Connection(context, {
      ...side.native,
      records: events.onRecord !== undefined,
      bytes: events.onBytes !== undefined,
      secrets: events.onSecret !== undefined,
      tickets: events.onSession !== undefined,
      wantsCertificate: side.certificateFor !== null,
      alpnCallback: side.chooseProtocol !== null,
    });
    this.#connection.engine = this;
    if (side.chooseProtocol !== null) this.#connection.onAlpn = (offered) => this.#onAlpn(offered);
    this.peer = new NativePeer(this.#connection, side.name);
    this.#wire = wireFor(transport, this.#connection, this, options.fed ?? false);
    // Nothing is reported before the stream is there to hear it.
    process.nextTick(() => {
      if (!this.#is.destroyed) this.#wire.begin(head);
    });
  }

  get info(): TlsInfo | null {
    return this.#info;
  }

  // ---- what the add-on tells

  /** @internal */
  onFlags(flags: number): void {
    this.#readCounts();
    if (flags !== 0) this.#onTold(flags);
    if (this.#failure !== null) this.#tellFailure();
  }

  /** All connections share these numbers: they are this one's only until another one tells something. */
  #readCounts(): void {
    const { state } = this.#binding;
    this.#pace.pending = state[PENDING] as number;
    this.#pace.untaken = state[UNSENT] as number;
  }

  #onTold(flags: number): void {
    if (flags & SLAB) {
      slab = this.#binding.slab() as Buffer;
      // Other streams have bytes in it.
      markAsUntransferable(slab.buffer);
    }
    if (flags & DATA) {
      const { state } = this.#binding;
      this.#wire.onActive();
      this.#gather(state[OFFSET] as number, state[LENGTH] as number);
    }
    if (flags & OUTPUT) this.#wire.onOutput();
    const behind = flags & FACTS ? this.#onFacts(this.#connection.facts()) : NONE;
    if (flags & DATA && this.#info !== null) this.#events.onReadable();
    this.#is.telling = true;
    for (const tell of behind) tell();
    this.#is.telling = false;
    if (flags & DRAIN && this.writable) this.#events.onDrain();
    if (this.#is.reading && !this.#incoming.wants) this.#setReading(false);
  }

  #gather(start: number, length: number): void {
    // Behind a certificate that was refused nothing is anybody's.
    if (this.#is.destroyed || this.#failure !== null || this.#is.failed) return;
    this.#incoming.push(slab.subarray(start, start + length));
  }

  /** Tells what happened before the data that came with it. @returns what happened behind it. */
  #onFacts(facts: readonly unknown[]): Array<() => void> {
    const behind: Array<() => void> = [];
    const events = this.#events;
    for (let i = 0; i < facts.length; i += 5) {
      const [kind, one, two, three] = facts.slice(i, i + 4) as [number, number, number, number];
      const data = facts[i + 4];
      const way: Way = one === 1 ? 'sent' : 'received';
      switch (kind) {
        case BYTES:
          events.onBytes?.(way, data as Uint8Array);
          break;
        case RECORD:
          events.onRecord?.(way, two, three);
          break;
        case SECRET:
          events.onSecret?.(`${data as string}\n`);
          break;
        case TICKET:
          this.#onTicket(data as Uint8Array);
          break;
        case SECURE:
          this.#onSecure();
          break;
        case WANT_CERTIFICATE:
          void this.#onWantCertificate(data as Uint8Array);
          break;
        case RENEGOTIATION:
          behind.push(() => this.#onRenegotiation());
          break;
        case ALERT:
          behind.push(() =>
            this.#onAlert(
              way,
              {
                level: (two >> 8) & 255,
                description: two & 255,
                authenticated: two >> 16 === 1,
              },
              // What was received is told at once, but not before the handshake that came with it.
              way === 'sent' ? Math.max(three + CLOCK, this.#notBefore) : performance.now(),
            ),
          );
          break;
        case FAILED:
          behind.push(() => this.#onFailed(data as string));
          break;
        case EOF:
          behind.push(() => this.#onEof(one));
          break;
        case RECEIVE_ERROR:
          behind.push(() => this.#onReceiveError(systemError('read', one), two));
          break;
        case SEND_ERROR:
          behind.push(() => this.onSendFailed(systemError('write', one)));
          break;
      }
    }
    return behind;
  }

  #onAlert(way: Way, alert: SeenAlert, at: number): void {
    // One of ours may leave when the transport is somebody else's.
    if (this.#is.destroyed && way === 'received') return;
    if (way === 'received' && closes(alert)) {
      this.#is.closed = true;
      this.#wire.stop();
    } else if (way === 'received') {
      this.#is.doomed = true;
    }
    this.#events.onAlert(way, alert, 'openssl', at);
  }

  #onFailed(text: string): void {
    const [code, message] = text.split('\n') as [string, string];
    const error = this.#side.error ?? Object.assign(new Error(message), { code });
    this.#fail({ error, unauthorized: null });
  }

  /** Whoever sends a fatal alert closes behind it, and the alert is what ended TLS. */
  get #isOver(): boolean {
    return this.#is.failed || this.#failure !== null || this.#is.doomed || this.#is.destroyed;
  }

  #onEof(cut: number): void {
    this.#is.ended = true;
    // The kernel tells of a reset once, and told the write.
    const error = this.#sendError;
    this.#tellEnding(error === null ? 'eof' : causeOf(error), error, cut);
  }

  #onReceiveError(error: TransportError, cut: number): void {
    this.#is.ended = true;
    this.#tellEnding(causeOf(error), error, cut);
  }

  #tellEnding(cause: TransportEnding['cause'], error: TransportError | null, cut: number): void {
    if (this.#isOver) return;
    const where = cut === 0 ? 'record-boundary' : 'inside-record';
    this.#events.onTransportEnd({ cause, error, where });
  }

  /** @internal What the wire tells: of a Duplex all, of a socket only what somebody did to it. */
  onEnd(cause: TransportEnding['cause'], error: TransportError | null): void {
    this.#is.ended = true;
    if (this.#is.destroyed) return;
    // As in #onEof: the write was told of a reset, and the socket finds an end.
    const broken = cause === 'eof' ? this.#sendError : null;
    if (broken === null) this.#tellEnding(cause, error, this.#connection.cut());
    else this.#tellEnding(causeOf(broken), broken, this.#connection.cut());
  }

  /** @internal */
  onSendFailed(error: TransportError): void {
    if (this.#sendError !== null || this.#is.destroyed) return;
    this.#sendError = error;
    this.#connection.break();
    if (this.#is.ended) {
      this.#tellEnding(causeOf(error), error, this.#connection.cut());
      return;
    }
    // What the kernel holds is read first; where that has no end, whoever writes must not wait for it.
    setImmediate(() =>
      setImmediate(() => {
        if (!this.#is.ended && !this.#isOver) this.#events.onSendFailed(error);
      }),
    );
    if (this.#failure !== null) this.#tellFailure();
  }

  // ---- the handshake

  #onSecure(): void {
    if (this.#isOver) return;
    const info = this.#connection.info();
    const judgement = this.#accepted(info);
    if (judgement === null) return;
    const { authorized, authorizationError } = judgement;
    this.#info = {
      protocol: info.protocol,
      cipher: info.cipher ?? 'unknown',
      alpn: info.alpn,
      servername: info.servername,
      authorized,
      authorizationError,
      resumed: info.resumed,
      engine: 'native',
      evidence: 'openssl',
    };
    this.#events.onSecure(this.#info);
    this.#notBefore = performance.now();
    for (const session of this.#sessions.splice(0)) this.#onTicket(session);
  }

  /** Judges the peer's certificate. @returns null where the connection has failed of it. */
  #accepted(info: NativeInfo): Judgement | null {
    let judgement: Judgement;
    try {
      judgement = this.#side.judge(info, () => this.#connection.chain());
    } catch (error) {
      judgement = { authorized: false, authorizationError: null, failure: error as Error };
    }
    const { authorizationError, failure } = judgement;
    if (failure === null) return judgement;
    this.#fail({ error: failure, unauthorized: authorizationError });
    return null;
  }

  #onTicket(session: Uint8Array): void {
    if (this.#info === null) this.#sessions.push(session);
    else this.#events.onSession?.(wrapSession(session, this.#side.name ?? ''));
  }

  async #onWantCertificate(request: Uint8Array): Promise<void> {
    const connection = this.#connection;
    // What comes meanwhile would wait in the add-on, however much it is.
    this.#setReading(false);
    const isServer = this.#side.name === null;
    // What the program's function does is not within the add-on's event.
    await undefined;
    if (this.#isOver) return;
    // Who somebody is, is told to a server that was accepted, and to no other.
    if (!isServer && this.#accepted(connection.info()) === null) return;
    try {
      const context = await this.#side.certificateFor?.(connection, request);
      if (this.#isOver) return;
      if (context && !connection.identify(context, isServer)) {
        throw new Error('OpenSSL does not take the certificate');
      }
      this.onFlags(connection.proceed(true));
      this.readOn();
    } catch (error) {
      this.#fail({ error: error as Error, unauthorized: null });
    }
  }

  #onAlpn(offered: Uint8Array): number | undefined {
    try {
      return this.#side.chooseProtocol?.(offered, this.#connection.servername() ?? '');
    } catch (error) {
      // OpenSSL sends its alert for that, and fails.
      this.#side.error = error as Error;
      return undefined;
    }
  }

  #onRenegotiation(): void {
    const error = this.#side.onRenegotiation();
    if (error !== null) this.#fail({ error, unauthorized: null });
  }

  // ---- reading

  /** @internal */
  onWritable(): void {
    if (this.writable && !this.#isOver) this.#events.onDrain();
  }

  take(most = Number.POSITIVE_INFINITY): Uint8Array | null {
    const bytes = this.#incoming.take(most);
    if (bytes?.length === 0) process.nextTick(() => this.#onTransferred());
    // Behind this call: whoever waits would be asked, and take what comes next, before this has returned.
    if (bytes !== null && !this.#is.reading) process.nextTick(readOn, this);
    return bytes;
  }

  /** @internal */
  readOn(): void {
    if (this.#incoming.wants && !this.#is.paused) this.#setReading(true);
  }

  /** Somebody has moved the memory of bytes that nobody has read (`ArrayBuffer.prototype.transfer` can do that). */
  #onTransferred(): void {
    const error = new Error('the memory behind the bytes of a stream was transferred');
    this.#fail({ error, unauthorized: null });
  }

  #setReading(reading: boolean): void {
    if (this.#is.reading === reading || this.#is.destroyed) return;
    this.#is.reading = reading;
    this.#wire.setReading(reading);
  }

  pause(): void {
    this.#is.paused = true;
    this.#setReading(false);
  }

  resume(): void {
    this.#is.paused = false;
    this.readOn();
  }

  // ---- writing

  get writable(): boolean {
    return this.#pace.writable && this.#wire.writable;
  }

  write(bytes: Uint8Array): boolean {
    if (this.#isOver) return false;
    this.#pace.write(bytes);
    return this.writable;
  }

  /** @internal */
  onWrite(bytes: Uint8Array, now: boolean): void {
    this.#wire.onActive();
    this.#later(this.#connection.write(bytes, now));
  }

  /** @internal */
  onTurnEnd(bytes: Uint8Array | null): void {
    if (this.#is.destroyed) return;
    if (bytes !== null) this.onFlags(this.#connection.write(bytes, true));
    else if (this.#pace.pending > 0) this.onFlags(this.#connection.flush());
  }

  /** What a call of the program's has led to is told when that call is over. */
  #later(flags: number): void {
    this.#readCounts();
    if (flags === 0) return;
    if (flags & OUTPUT) this.#wire.onOutput();
    if (flags & FACTS) process.nextTick(tellFacts, this);
    if (flags & DRAIN) process.nextTick(() => this.onWritable());
  }

  /** @internal */
  tellFacts(): void {
    this.#onTold(FACTS);
    if (this.#failure !== null) this.#tellFailure();
  }

  get unsent(): number {
    return this.#pace.unsent;
  }

  closeWrite(): void {
    if (this.#isOver) return;
    this.#notBefore = performance.now();
    this.#pace.flush(false);
    this.#later(this.#connection.closeWrite());
  }

  updateKeys(request: boolean): void {
    if (this.#isOver) return;
    this.#pace.flush(false);
    this.#later(this.#connection.updateKeys(request));
  }

  discardWrites(): number {
    const discarded = this.#connection.discard();
    this.#pace.pending -= discarded;
    this.#pace.untaken -= discarded;
    return discarded + this.#pace.discard();
  }

  // ---- the end

  /** It is told once its alert has left, or cannot leave. */
  #fail(failure: EngineFailure): void {
    if (this.#isOver && !this.#is.doomed) return;
    if (this.#failure !== null || this.#is.failed) return;
    this.#failure = failure;
    this.#setReading(false);
    this.#tellFailure();
    if (this.#failure !== null) after(this.#linger, () => this.#tellFailure(true), false);
  }

  #tellFailure(late = false): void {
    const failure = this.#failure;
    if (failure === null || this.#is.telling) return;
    if (this.#pace.pending > 0 && this.#sendError === null && !late) return;
    this.#failure = null;
    this.#is.failed = true;
    if (!this.#is.destroyed) this.#events.onFailure(failure);
  }

  get trailingLength(): number {
    return this.#is.closed ? this.#connection.trailing(false) + this.#wire.unfed : 0;
  }

  release(back: boolean): Uint8Array {
    const unfed = this.#wire.detach(back);
    return this.#is.closed ? Buffer.concat([this.#connection.trailing(true), ...unfed]) : NOTHING;
  }

  destroy(): void {
    if (this.#is.destroyed) return;
    this.#is.destroyed = true;
    this.#pace.discard();
    this.#connection.destroy();
  }
}

const NONE: ReadonlyArray<() => void> = [];
const NOTHING = Buffer.alloc(0);

/** Called by the add-on. */
function dispatch(this: OfConnection, flags: number): void {
  this.engine?.onFlags(flags);
}

const tellFacts = (engine: NativeEngine) => engine.tellFacts();
const readOn = (engine: NativeEngine) => engine.readOn();

/** An error of the system's, as Node makes them. */
function systemError(syscall: 'read' | 'write', errno: number): TransportError {
  const code = getSystemErrorName(-errno);
  return Object.assign(new Error(`${syscall} ${code}`), { code, errno: -errno, syscall });
}
