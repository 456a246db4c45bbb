/**
 * The native engine: OpenSSL by the add-on, without Node's TLS in between.
 *
 * Theory of operation. The add-on has a connection for each stream, and reads and writes its transport by itself where
 * that has a descriptor (wire.ts). What it has to tell comes in one form, from its events and from the calls that are
 * made of it: a word of flags, with numbers in a shared array, and rarer things as facts. All of that is taken up in
 * `onFlags`, in one order: data first, then what was behind it.
 *
 * Which alert crossed the wire OpenSSL's message callback tells, and nothing else: so the evidence is `openssl`.
 *
 * Verification is Node's, by the same steps (`onConnectSecure` and `onServerSocketSecure` in its `internal/tls/wrap`):
 * OpenSSL is told to go on whatever it finds, and the certificate is judged when the handshake is complete.
 */
import { Buffer } from 'node:buffer';
import { X509Certificate } from 'node:crypto';
import { performance } from 'node:perf_hooks';
import { setImmediate } from 'node:timers';
import tls from 'node:tls';
import { getSystemErrorName } from 'node:util';
import type {
  EngineBinding,
  NativeConnection,
  NativeContext,
  NativeInfo,
  NativeOptions,
} from '../add-on.ts';
import { closes, type SeenAlert, type TransportEnding, type Way } from '../closure/ending.ts';
import { OptionError } from '../errors.ts';
import { parseCertificateRequest12, parseCertificateRequest13 } from '../record/handshake.ts';
import { process } from '../runtime.ts';
import { causeOf, type TransportError } from '../transport/listeners.ts';
import { after } from '../wait.ts';
import type { Engine, EngineEvents, EngineFailure, Peer, TlsInfo } from './contract.ts';
import {
  nativeForeignContext,
  nativeIdentityContext,
  unwrapSession,
  wrapSession,
} from './native-context.ts';
import type { ClientTlsOptions, EngineOptions, ServerTlsOptions } from './options.ts';
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

/** Decrypted bytes that wait for `take`; with as many, nothing more is read. */
const WAITING = 65_536;

/** Bytes that may wait for the transport before the writer should. */
const ENOUGH = 65_536;

/** So much is written in one turn of the event loop; then others have theirs. */
const IN_A_TURN = 1 << 20;

/** OpenSSL's. */
const VERIFY_PEER = 1;
const FAIL_IF_NO_PEER_CERT = 2;

/** The memory that was decrypted into last. */
let slab: Buffer = Buffer.alloc(0);

const dispatched = new WeakSet<EngineBinding>();

interface OfConnection extends NativeConnection {
  engine?: NativeEngine;
}

/** What stands on one side only. */
interface Side {
  /** What the peer's certificate is judged to be. @throws what the program's function throws. */
  judge(info: NativeInfo, chain: () => Uint8Array[]): Judgement;
  /** Whom the session is of. */
  readonly name: string | null;
  /**
   * The certificate to present, or null for the connection's own: a server is asked where its client gives a name, a
   * client where its server sends a CertificateRequest.
   */
  readonly certificateFor:
    | ((connection: NativeConnection, request: Uint8Array) => Promise<NativeContext | null>)
    | null;
  readonly chooseProtocol: ((offered: Uint8Array, servername: string) => number | undefined) | null;
}

interface Judgement {
  readonly authorized: boolean;
  /** A code such as `CERT_HAS_EXPIRED`. */
  readonly authorizationError: string | null;
  /** Why the connection fails; null where it goes on. */
  readonly failure: Error | null;
}

export class NativeEngine implements Engine, WireEvents {
  readonly peer: Peer;
  readonly #binding: EngineBinding;
  readonly #connection: OfConnection;
  readonly #context: NativeContext;
  readonly #wire: Wire;
  readonly #events: EngineEvents;
  readonly #linger: number;
  readonly #side: Side;
  #info: TlsInfo | null = null;
  /** Views of the slabs, and where the last of them ends. */
  readonly #incoming: Buffer[] = [];
  #waiting = 0;
  #reading = true;
  #paused = false;
  #pending = 0;
  /** Written within this turn of the event loop. */
  #written = 0;
  #scheduled = false;
  /** Sessions that came before the certificate was judged. */
  readonly #sessions: Uint8Array[] = [];
  /** A failure waits until all that came with it was told. */
  #within = false;
  /** What the program's ALPNCallback has thrown. */
  #programError: Error | null = null;
  /** What the connection fails with, until its alert has left. */
  #failure: EngineFailure | null = null;
  #failed = false;
  /** The peer's close_notify came. */
  #closed = false;
  /** A fatal alert came. */
  #doomed = false;
  #ended = false;
  #sendError: TransportError | null = null;
  #destroyed = false;
  #renegotiations = { count: 0, since: 0 };

  private constructor(
    binding: EngineBinding,
    options: EngineOptions,
    context: NativeContext,
    native: NativeOptions,
    side: Side,
  ) {
    const { events, transport, head, linger } = options;
    this.#binding = binding;
    this.#context = context;
    this.#events = events;
    this.#linger = linger;
    this.#side = side;
    if (!dispatched.has(binding)) {
      dispatched.add(binding);
      binding.setDispatch(dispatch);
    }
    this.#connection = new binding.Connection(context, {
      ...native,
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
      if (!this.#destroyed) this.#wire.begin(head);
    });
  }

  /** Begins a handshake as a client. */
  static client(
    binding: EngineBinding,
    options: EngineOptions,
    tlsOptions: ClientTlsOptions,
    context: NativeContext,
  ): NativeEngine {
    const { servername, host, rejectUnauthorized, session, ALPNProtocols } = tlsOptions;
    const name = servername || host || 'localhost';
    const verified = rejectUnauthorized !== false;
    const resumed = unwrapSession(session, name, verified);
    const { certificateFor } = options;
    return new NativeEngine(
      binding,
      options,
      context,
      {
        ...(servername && { servername: Buffer.from(servername) }),
        ...(resumed && { session: resumed }),
        ...alpnOf(ALPNProtocols),
      },
      {
        name,
        certificateFor:
          certificateFor === undefined
            ? null
            : async (connection, message) => {
                const tls13 = connection.info().protocol === 'TLSv1.3';
                const parse = tls13 ? parseCertificateRequest13 : parseCertificateRequest12;
                const identity = await certificateFor(parse(message));
                return identity && nativeIdentityContext(binding, identity, tlsOptions.ciphers);
              },
        chooseProtocol: null,
        judge: (info, chain) => judgeServer(tlsOptions, name, verified, info, chain),
      },
    );
  }

  /** Begins a handshake as a server. */
  static server(
    binding: EngineBinding,
    options: EngineOptions,
    tlsOptions: ServerTlsOptions,
    context: NativeContext,
  ): NativeEngine {
    const { requestCert, rejectUnauthorized, ALPNProtocols, ALPNCallback, SNICallback } =
      tlsOptions;
    const rejects = rejectUnauthorized !== false;
    const verify = requestCert ? VERIFY_PEER | (rejects ? FAIL_IF_NO_PEER_CERT : 0) : 0;
    return new NativeEngine(
      binding,
      options,
      context,
      { server: true, verify, ...alpnOf(ALPNProtocols) },
      {
        name: null,
        certificateFor:
          SNICallback === undefined
            ? null
            : async (connection) => {
                const found = await ask(SNICallback, connection.servername() ?? '');
                return found && nativeForeignContext(binding, found);
              },
        chooseProtocol:
          ALPNCallback === undefined
            ? null
            : (offered, asked) => chooseProtocol(ALPNCallback, offered, asked),
        judge: (info) => judgeClient(requestCert === true, rejects, info),
      },
    );
  }

  get info(): TlsInfo | null {
    return this.#info;
  }

  // ---- what the add-on tells

  /** @internal */
  onFlags(flags: number): void {
    const { state } = this.#binding;
    this.#pending = state[PENDING] as number;
    if (flags !== 0) this.#onTold(flags, state);
    if (this.#failure !== null) this.#tellFailure();
  }

  #onTold(flags: number, state: Float64Array): void {
    if (flags & SLAB) slab = this.#binding.slab() as Buffer;
    if (flags & DATA) this.#gather(state[OFFSET] as number, state[LENGTH] as number);
    if (flags & OUTPUT) this.#wire.onOutput();
    const behind = flags & FACTS ? this.#onFacts(this.#connection.facts()) : NONE;
    if (flags & DATA && this.#info !== null) this.#events.onReadable();
    this.#within = true;
    for (const tell of behind) tell();
    this.#within = false;
    if (flags & DRAIN && this.writable) this.#events.onDrain();
    if (this.#reading && this.#waiting >= WAITING) this.#setReading(false);
  }

  #gather(start: number, length: number): void {
    // Behind a certificate that was refused nothing is anybody's.
    if (this.#destroyed || this.#failure !== null || this.#failed) return;
    this.#waiting += length;
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
            this.#onAlert(way, {
              level: two >> 8,
              description: two & 255,
              authenticated: three === 1,
            }),
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

  #onAlert(way: Way, alert: SeenAlert): void {
    if (this.#destroyed) return;
    if (way === 'received' && closes(alert)) {
      this.#closed = true;
      this.#wire.stop();
    } else if (way === 'received') {
      this.#doomed = true;
    }
    this.#events.onAlert(way, alert, 'openssl', performance.now());
  }

  #onFailed(text: string): void {
    const [code, message] = text.split('\n') as [string, string];
    const error = this.#programError ?? Object.assign(new Error(message), { code });
    this.#fail({ error, unauthorized: null });
  }

  /** Whoever sends a fatal alert closes behind it, and the alert is what ended TLS. */
  get #isOver(): boolean {
    return this.#failed || this.#failure !== null || this.#doomed || this.#destroyed;
  }

  #onEof(cut: number): void {
    this.#ended = true;
    // The kernel tells of a reset once, and told the write.
    const error = this.#sendError;
    this.#tellEnding(error === null ? 'eof' : causeOf(error), error, cut);
  }

  #onReceiveError(error: TransportError, cut: number): void {
    this.#ended = true;
    this.#tellEnding(causeOf(error), error, cut);
  }

  #tellEnding(cause: TransportEnding['cause'], error: TransportError | null, cut: number): void {
    if (this.#isOver) return;
    const where = cut === 0 ? 'record-boundary' : 'inside-record';
    this.#events.onTransportEnd({ cause, error, where });
  }

  /** @internal What the wire tells: of a Duplex all, of a socket only what somebody did to it. */
  onEnd(cause: TransportEnding['cause'], error: TransportError | null): void {
    this.#ended = true;
    if (!this.#destroyed) this.#tellEnding(cause, error, this.#connection.cut());
  }

  /** @internal */
  onSendFailed(error: TransportError): void {
    if (this.#sendError !== null || this.#destroyed) return;
    this.#sendError = error;
    this.#connection.break();
    if (this.#ended) {
      this.#tellEnding(causeOf(error), error, this.#connection.cut());
      return;
    }
    // What the kernel holds is read first; where that has no end, whoever writes must not wait for it.
    setImmediate(() =>
      setImmediate(() => {
        if (!this.#ended && !this.#isOver) this.#events.onSendFailed(error);
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
    const isServer = this.#side.name === null;
    // What the program's function does is not within the add-on's event.
    await undefined;
    if (this.#isOver) return;
    // Who somebody is, is told to a server that was accepted, and to no other.
    if (!isServer && this.#accepted(connection.info()) === null) return;
    try {
      const context = await this.#side.certificateFor?.(connection, request);
      if (this.#isOver) return;
      // What was presented before is not presented again by itself.
      const presented = context ?? (isServer ? null : this.#context);
      if (presented !== null && !connection.identify(presented, isServer)) {
        throw new Error('OpenSSL does not take the certificate');
      }
      this.onFlags(connection.proceed(true));
    } catch (error) {
      this.#fail({ error: error as Error, unauthorized: null });
    }
  }

  #onAlpn(offered: Uint8Array): number | undefined {
    try {
      return this.#side.chooseProtocol?.(offered, this.#connection.servername() ?? '');
    } catch (error) {
      // OpenSSL sends its alert for that, and fails.
      this.#programError = error as Error;
      return undefined;
    }
  }

  /** As Node limits it: `tls.CLIENT_RENEG_LIMIT` within `tls.CLIENT_RENEG_WINDOW` seconds. */
  #onRenegotiation(): void {
    const now = performance.now();
    const all = this.#renegotiations;
    if (now - all.since >= tls.CLIENT_RENEG_WINDOW * 1000) all.count = 0;
    all.since = now;
    if (++all.count <= tls.CLIENT_RENEG_LIMIT) return;
    const error = new Error('TLS session renegotiation attack detected');
    this.#fail({
      error: Object.assign(error, { code: 'ERR_TLS_SESSION_ATTACK' }),
      unauthorized: null,
    });
  }

  // ---- reading

  /** @internal */
  onWritable(): void {
    if (this.writable && !this.#isOver) this.#events.onDrain();
  }

  take(most = Number.POSITIVE_INFINITY): Uint8Array | null {
    let first = this.#incoming.shift();
    if (first === undefined) return null;
    if (first.length > most) {
      this.#incoming.unshift(first.subarray(most));
      first = first.subarray(0, most);
    }
    this.#waiting -= first.length;
    // Behind this call: whoever waits would be asked, and take what comes next, before this has returned.
    if (!this.#reading && this.#waiting < WAITING && !this.#paused) {
      process.nextTick(() => {
        if (this.#waiting < WAITING && !this.#paused) this.#setReading(true);
      });
    }
    return first;
  }

  #setReading(reading: boolean): void {
    if (this.#reading === reading || this.#destroyed) return;
    this.#reading = reading;
    this.#wire.setReading(reading);
  }

  pause(): void {
    this.#paused = true;
    this.#setReading(false);
  }

  resume(): void {
    this.#paused = false;
    if (this.#waiting < WAITING) this.#setReading(true);
  }

  // ---- writing

  get writable(): boolean {
    return this.#pending < ENOUGH && this.#written < IN_A_TURN && this.#wire.writable;
  }

  /** The first write of a turn goes at once, for a peer that waits for it; those behind it go together. */
  write(bytes: Uint8Array): boolean {
    if (this.#isOver) return false;
    const first = !this.#scheduled;
    if (first) {
      this.#scheduled = true;
      process.nextTick(endOfTurn, this);
    }
    const flush = first || this.#pending + bytes.length >= ENOUGH;
    this.#later(this.#connection.write(bytes, flush));
    this.#written += bytes.length;
    if (this.#written >= IN_A_TURN && this.#written - bytes.length < IN_A_TURN) {
      setImmediate(() => {
        this.#written = 0;
        if (this.writable && !this.#isOver) this.#events.onDrain();
      });
    }
    return this.writable;
  }

  /** @internal */
  onTurnEnd(): void {
    this.#scheduled = false;
    if (this.#written < IN_A_TURN) this.#written = 0;
    if (!this.#destroyed) this.onFlags(this.#connection.flush());
  }

  /** What a call of the program's has led to is told when that call is over. */
  #later(flags: number): void {
    this.#pending = this.#binding.state[PENDING] as number;
    if (flags === 0) return;
    if (flags & OUTPUT) this.#wire.onOutput();
    if (flags & FACTS) process.nextTick(() => !this.#destroyed && this.onFlags(FACTS));
  }

  get sent(): boolean {
    return this.#pending === 0;
  }

  closeWrite(): void {
    if (!this.#isOver) this.#later(this.#connection.closeWrite());
  }

  discardWrites(): number {
    const discarded = this.#connection.discard();
    this.#pending -= discarded;
    return discarded;
  }

  // ---- the end

  /** It is told once its alert has left, or cannot leave. */
  #fail(failure: EngineFailure): void {
    if (this.#isOver && !this.#doomed) return;
    if (this.#failure !== null || this.#failed) return;
    this.#failure = failure;
    this.#setReading(false);
    this.#tellFailure();
    if (this.#failure !== null) after(this.#linger, () => this.#tellFailure(true), false);
  }

  #tellFailure(late = false): void {
    const failure = this.#failure;
    if (failure === null || this.#within) return;
    if (this.#pending > 0 && this.#sendError === null && !late) return;
    this.#failure = null;
    this.#failed = true;
    if (!this.#destroyed) this.#events.onFailure(failure);
  }

  get trailingLength(): number {
    return this.#closed ? this.#connection.trailing(false) + this.#wire.unfed : 0;
  }

  release(back: boolean): Uint8Array {
    const unfed = this.#wire.detach(back);
    return this.#closed ? Buffer.concat([this.#connection.trailing(true), ...unfed]) : NOTHING;
  }

  destroy(): void {
    if (this.#destroyed) return;
    this.#destroyed = true;
    this.#connection.destroy();
  }
}

const NONE: ReadonlyArray<() => void> = [];
const NOTHING = Buffer.alloc(0);

/** Called by the add-on. */
function dispatch(this: OfConnection, flags: number): void {
  this.engine?.onFlags(flags);
}

const endOfTurn = (engine: NativeEngine) => engine.onTurnEnd();

/** An error of the system's, as Node makes them. */
function systemError(syscall: 'read' | 'write', errno: number): TransportError {
  const code = getSystemErrorName(-errno);
  return Object.assign(new Error(`${syscall} ${code}`), { code, errno: -errno, syscall });
}

/** As on the wire: each protocol behind its length. Bytes are taken as they are, as Node does. */
function alpnOf(protocols: ClientTlsOptions['ALPNProtocols']): { readonly alpn?: Uint8Array } {
  if (protocols === undefined || protocols === null) return {};
  if (ArrayBuffer.isView(protocols)) {
    return { alpn: Buffer.from(protocols.buffer, protocols.byteOffset, protocols.byteLength) };
  }
  const all = protocols.flatMap((one) => {
    const name = typeof one === 'string' ? Buffer.from(one) : one;
    if (name.length === 0 || name.length > 255) {
      throw new OptionError('each of ALPNProtocols must have 1 to 255 bytes');
    }
    return [Buffer.of(name.length), name];
  });
  return { alpn: Buffer.concat(all) };
}

// ---- judging

function judgeServer(
  options: ClientTlsOptions,
  name: string,
  verified: boolean,
  info: NativeInfo,
  chain: () => Uint8Array[],
): Judgement {
  const { minDHSize = 1024, checkServerIdentity = tls.checkServerIdentity } = options;
  if (info.dhBits > 0 && info.dhBits < minDHSize) {
    const error = new Error(`DH parameter size ${info.dhBits} is less than ${minDHSize}`);
    const failure = Object.assign(error, { code: 'ERR_TLS_DH_PARAM_SIZE' });
    return { authorized: false, authorizationError: null, failure };
  }
  const error =
    info.code !== null
      ? verifyError(info)
      : info.resumed
        ? undefined
        : identityError(checkServerIdentity, name, chain());
  if (error === undefined) return AUTHORIZED;
  const authorizationError = (error as { code?: string }).code || error.message;
  return { authorized: false, authorizationError, failure: verified ? error : null };
}

const AUTHORIZED: Judgement = { authorized: true, authorizationError: null, failure: null };

function judgeClient(asked: boolean, rejects: boolean, info: NativeInfo): Judgement {
  if (!asked) return { authorized: false, authorizationError: null, failure: null };
  if (info.code === null && info.hasCertificate) return AUTHORIZED;
  const error = verifyError(info.code === null ? NO_CERTIFICATE : info);
  return { authorized: false, authorizationError: error.code, failure: rejects ? error : null };
}

/** A session was resumed in which the client had none. */
const NO_CERTIFICATE = {
  code: 'UNABLE_TO_GET_ISSUER_CERT',
  reason: 'unable to get issuer certificate',
};

function verifyError({ code, reason }: Pick<NativeInfo, 'code' | 'reason'>) {
  return Object.assign(new Error(reason ?? 'unknown'), { code: code ?? 'UNSPECIFIED' });
}

/** Node's own, to which a certificate without its issuers is enough. */
const nodesCheck = tls.checkServerIdentity;

function identityError(
  check: typeof tls.checkServerIdentity,
  name: string,
  chain: readonly Uint8Array[],
): Error | undefined {
  const certificates = chain.map((der) => new X509Certificate(der));
  const [own] = certificates;
  if (check === nodesCheck && own?.subjectAltName !== undefined) {
    // Where a name in it fits, nothing else of the certificate is looked at.
    const { subjectAltName: subjectaltname } = own;
    if (check(name, { subjectaltname } as unknown as tls.PeerCertificate) === undefined) {
      return undefined;
    }
  }
  return check(name, legacy(certificates));
}

/** What `getPeerCertificate(true)` of a TLS socket gives. */
function legacy(chain: readonly X509Certificate[]): tls.DetailedPeerCertificate {
  const objects = chain.map((one) => one.toLegacyObject() as tls.DetailedPeerCertificate);
  for (const [i, one] of objects.entries()) {
    const issuer = objects[i + 1];
    if (issuer !== undefined) one.issuerCertificate = issuer;
    else if (chain[i]?.checkIssued(chain[i])) one.issuerCertificate = one;
  }
  return objects[0] ?? ({} as tls.DetailedPeerCertificate);
}

// ---- what a program's callbacks give

function ask(
  callback: NonNullable<ServerTlsOptions['SNICallback']>,
  servername: string,
): Promise<tls.SecureContext | null> {
  return new Promise((resolve, reject) => {
    callback(servername, (error, context) => {
      if (error) reject(error);
      else resolve(context ?? null);
    });
  });
}

/** @returns where the chosen protocol stands in what was offered; undefined where none is. */
function chooseProtocol(
  callback: NonNullable<ServerTlsOptions['ALPNCallback']>,
  offered: Uint8Array,
  servername: string,
): number | undefined {
  const places = new Map<string, number>();
  for (let at = 0; at < offered.length; at += 1 + (offered[at] as number)) {
    const protocol = Buffer.from(offered).toString('latin1', at + 1, at + 1 + (offered[at] ?? 0));
    if (!places.has(protocol)) places.set(protocol, at);
  }
  const protocols = [...places.keys()];
  const chosen = callback({ servername, protocols });
  if (chosen === undefined) return undefined;
  const place = places.get(chosen);
  if (place !== undefined) return place;
  const error = new TypeError(
    `ALPN callback returned a value (${chosen}) that did not match any of the client's offered protocols (${protocols.join(', ')})`,
  );
  throw Object.assign(error, { code: 'ERR_TLS_ALPN_CALLBACK_INVALID_RESULT' });
}

// ---- the peer

/** What OpenSSL knows of the peer, until the connection is destroyed. */
class NativePeer implements Peer {
  readonly #connection: NativeConnection;
  readonly #name: string | null;

  constructor(connection: NativeConnection, name: string | null) {
    this.#connection = connection;
    this.#name = name;
  }

  certificate(): Uint8Array | null {
    return this.#ask((connection) => connection.certificate(), null);
  }

  certificates(): readonly Uint8Array[] {
    return this.#ask((connection) => connection.chain(), []);
  }

  exportKeyingMaterial(length: number, label: string, context?: Uint8Array): Uint8Array | null {
    if (this.#connection.isDestroyed()) return null;
    const bytes = this.#connection.exportKeyingMaterial(length, Buffer.from(label), context);
    if (bytes === null) throw new Error('OpenSSL exports no such keying material');
    return bytes;
  }

  session(): Uint8Array | null {
    const der = this.#ask((connection) => connection.session(), null);
    if (der === null || this.#name === null) return der;
    return wrapSession(der, this.#name);
  }

  #ask<T>(ask: (connection: NativeConnection) => T, otherwise: T): T {
    return this.#connection.isDestroyed() ? otherwise : ask(this.#connection);
  }
}
