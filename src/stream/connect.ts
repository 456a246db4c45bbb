/** The two ways to a stream: connect to a server, or accept a transport as one. */
import net from 'node:net';
import { performance } from 'node:perf_hooks';
import type { Duplex } from 'node:stream';
import { callSite } from '../call-site.ts';
import { type Policy, type PolicyOptions, resolvePolicy } from '../closure/policy.ts';
import type { EngineName } from '../engine/contract.ts';
import { openClient, ServerContext } from '../engine/open.ts';
import type { ClientTlsOptions, ServerTlsOptions } from '../engine/options.ts';
import { EVIDENCE } from '../engine/tapped.ts';
import { AbortError, OptionError, RuntimeError } from '../errors.ts';
import { hostAndPort, serverName } from '../server-name.ts';
import { type Observer, tell } from '../transcript/observer.ts';
import { TruncationTranscript } from '../transcript/on-truncation.ts';
import { Transcript } from '../transcript/transcript.ts';
import { openTransport, type TransportOptions } from '../transport/open.ts';
import { checkWaitOptions } from '../wait.ts';
import { ACCEPT_OPTIONS, CLIENT_OPTIONS, checkNames, optionsFor } from './options.ts';
import { TlsStream } from './tls-stream.ts';

/** Options of a single stream, whichever side it is on. */
export interface StreamOptions extends PolicyOptions {
  /** Cancels everything up to the end of the handshake. */
  readonly signal?: AbortSignal | undefined;
  /** Bytes that were read from the transport already, and belong to TLS. */
  readonly head?: Uint8Array | undefined;
  /**
   * Who is told what happens on the connection: a `Transcript`, for instance. `true` makes one, and
   * `stream.transcript` has it.
   *
   * `'on-truncation'` makes one that is kept only where bytes may be missing: without payload or secrets, of 64 entries
   * at most. `stream.transcript` has it then; where the environment names a folder in `CLOSE_NOTIFY_RECORD` it is
   * written there, and `close-notify draw` reads it.
   */
  readonly record?: Observer | true | 'on-truncation' | undefined;
  /**
   * The engine: `native` is the add-on's, on OpenSSL; `tapped` is `node:tls`. By default the native one where it is
   * there and does all that was asked for. `stream.tls.engine` says which it was.
   */
  readonly engine?: EngineName | undefined;
  /**
   * Whether a closure that is only inferred is refused, where the runtime gives no key log (Deno): the call then
   * rejects at once with `ERR_TLS_RUNTIME`. False by default; `closure.received.evidence` says what a claim rests on.
   */
  readonly requireEvidence?: boolean | undefined;
}

/** Options of `connect`: where to, or over what; the TLS options of `tls.connect`; the policy. */
export interface ConnectOptions extends StreamOptions, TransportOptions, ClientTlsOptions {
  /** A host name or an IP address; 'localhost' by default. The certificate must be for it. */
  readonly host?: string | undefined;
  /** Any connected Duplex to use as the transport, instead of opening one. */
  readonly transport?: Duplex | undefined;
  /**
   * Finds the certificate to present, before the connection is made: for example a
   * `clientCertificateSelector`. Not with `transport`, which can be used only once.
   */
  readonly clientCertificate?: ClientCertificateOption | undefined;
  /**
   * Is told each session that can be resumed, for a later `connect({ session })`. In TLS 1.3 one comes with each
   * ticket of the server, any time after the handshake.
   */
  readonly onSession?: ((session: Uint8Array) => void) | undefined;
}

/** Given the options of `connect`, returns those that present a certificate, or none. */
export type ClientCertificateOption = (
  options: ConnectOptions,
) => Promise<Pick<ConnectOptions, 'key' | 'cert' | 'pfx' | 'passphrase'>>;

/** Options of `accept`: the TLS options of `tls.createServer`, and the policy. */
export interface AcceptOptions extends StreamOptions, ServerTlsOptions {}

// Each option of these types has its place in a table.
CLIENT_OPTIONS satisfies Readonly<Record<keyof ConnectOptions, unknown>>;
ACCEPT_OPTIONS satisfies Readonly<Record<keyof AcceptOptions, unknown>>;

/**
 * Resolves, connects and handshakes as a client. The server's certificate is verified unless
 * `rejectUnauthorized` is false. SNI asks for `servername`, by default the host, unless that is an IP
 * address. Both may be written with other letters than ASCII's, or with a dot at the end: SNI and the
 * certificate's check have the DNS name (`xn--bcher-kva.example` for `bücher.example.`).
 *
 * @returns an established stream.
 * @throws {OptionError | ResolveError | ConnectError | HandshakeError | CertificateError |
 *   TruncatedError | AlertError | TimeoutError | AbortError} with `phase`; nothing is left open.
 */
export async function connect(options: ConnectOptions): Promise<TlsStream> {
  const from = callSite(connect);
  try {
    return await open(options);
  } catch (error) {
    throw from(error);
  }
}

async function open(options: ConnectOptions): Promise<TlsStream> {
  const startedAt = performance.now();
  checkNames(CLIENT_OPTIONS, options);
  const { policy, signal, head, observer } = checkStreamOptions(options, () => targetOf(options));
  checkTarget(options);
  const names = namesOf(options);
  if (signal?.aborted) {
    options.transport?.destroy();
    throw new AbortError({ phase: 'connect', cause: signal.reason });
  }
  const { clientCertificate, onSession, ...plain } = options;
  const identity = clientCertificate === undefined ? {} : await clientCertificate(plain);
  const transport =
    options.transport ??
    (await openTransport(
      optionsFor(CLIENT_OPTIONS, 'transport', options),
      signal,
      policy.deadlines,
      (name) => observer && tell(observer, { type: 'phase', name }, performance.now() - startedAt),
    ));
  const { servername: _, ...tlsGiven } = optionsFor(CLIENT_OPTIONS, 'tls', options);
  const tlsOptions: ClientTlsOptions = { ...tlsGiven, ...identity, ...names };
  try {
    return await TlsStream.open({
      transport,
      role: 'client',
      policy,
      signal,
      observer,
      startedAt,
      onSession,
      start: (events, linger) =>
        openClient({ transport, head, events, linger, engine: options.engine }, tlsOptions),
    });
  } catch (error) {
    if (options.transport === undefined) transport.destroy();
    throw error;
  }
}

/** Contexts by the options they were made from, so that a server's certificates are read once. */
const contexts = new WeakMap<object, ServerContext>();

/**
 * Handshakes as a server over a transport.
 *
 * The context (certificates, keys, session tickets) is built once for each options object: pass the
 * same object for each connection, and a new one to use new certificates.
 *
 * @returns an established stream.
 * @throws {OptionError | HandshakeError | CertificateError | TruncatedError | AlertError |
 *   TimeoutError | AbortError}; the transport is then closed, except for an OptionError.
 */
export async function accept(transport: Duplex, options: AcceptOptions = {}): Promise<TlsStream> {
  const from = callSite(accept);
  try {
    checkNames(ACCEPT_OPTIONS, options);
    const checked = checkStreamOptions(options, () => peerOf(transport));
    checkTransport(transport);
    return await acceptWith(contextOf(options), transport, checked);
  } catch (error) {
    throw from(error);
  }
}

/** @internal Handshakes as a server, with options that have been looked at already. */
export async function acceptWith(
  context: ServerContext,
  transport: Duplex,
  { policy, signal, head, observer }: CheckedStreamOptions,
): Promise<TlsStream> {
  const startedAt = performance.now();
  if (signal?.aborted) {
    transport.destroy();
    throw new AbortError({ phase: 'handshake', cause: signal.reason });
  }
  return TlsStream.open({
    transport,
    role: 'server',
    policy,
    signal,
    observer,
    startedAt,
    start: (events, linger) => context.open({ transport, head, events, linger }),
  });
}

/** @internal The server context for these options, made at most once for each object. */
export function contextOf(options: AcceptOptions): ServerContext {
  let context = contexts.get(options);
  if (context === undefined) {
    context = new ServerContext(optionsFor(ACCEPT_OPTIONS, 'tls', options), options.engine);
    contexts.set(options, context);
  }
  return context;
}

/** @internal */
export interface CheckedStreamOptions {
  readonly policy: Policy;
  readonly signal: AbortSignal | undefined;
  readonly head: Uint8Array | undefined;
  readonly observer: Observer | undefined;
}

/** @internal @throws {OptionError | RuntimeError} */
export function checkStreamOptions(
  options: StreamOptions,
  peer?: () => string | undefined,
): CheckedStreamOptions {
  const { signal, head, record, requireEvidence } = options;
  checkWaitOptions({ signal });
  if (head !== undefined && !(head instanceof Uint8Array)) {
    throw new OptionError('head must be a Uint8Array');
  }
  if (requireEvidence !== undefined && typeof requireEvidence !== 'boolean') {
    throw new OptionError('requireEvidence must be a boolean');
  }
  if (requireEvidence && EVIDENCE === 'inferred') {
    throw new RuntimeError('this runtime gives no key log, so a closure can only be inferred', {
      hint: 'Node and Bun give one; without requireEvidence the closure says that it was inferred',
    });
  }
  return { policy: resolvePolicy(options), signal, head, observer: observerOf(record, peer) };
}

/** What to call a server in a record. */
function targetOf({ host, port, path, transport }: ConnectOptions): string | undefined {
  if (host !== undefined) return hostAndPort(`${host}`, port);
  return path ?? (transport && peerOf(transport));
}

/** @internal What to call whoever is at the other end of a transport. */
export function peerOf(transport: Duplex): string | undefined {
  const { remoteAddress, remotePort } = transport as Partial<net.Socket>;
  return remoteAddress === undefined ? undefined : hostAndPort(remoteAddress, remotePort);
}

/** @internal What `record` asks for. @throws {OptionError} */
export function observerOf(
  record: Observer | true | 'on-truncation' | undefined,
  peer?: () => string | undefined,
): Observer | undefined {
  const words: readonly unknown[] = [undefined, true, 'on-truncation'];
  if (!words.includes(record) && typeof (record as Observer | null)?.observe !== 'function') {
    throw new OptionError("record must be true, 'on-truncation', or have an observe method");
  }
  if (record === 'on-truncation') {
    return new TruncationTranscript({ local: 'us', peer: peer?.() });
  }
  return record === true ? new Transcript() : record;
}

function checkTarget(options: ConnectOptions): void {
  const { host, port, path, transport, clientCertificate } = options;
  // Newer versions of Node take text here, and then do nothing at all.
  if (options.session !== undefined && !(options.session instanceof Uint8Array)) {
    throw new OptionError('session must be a Buffer');
  }
  if (options.onSession !== undefined && typeof options.onSession !== 'function') {
    throw new OptionError('onSession must be a function');
  }
  if (clientCertificate !== undefined && typeof clientCertificate !== 'function') {
    throw new OptionError('clientCertificate must be a function');
  }
  if (transport !== undefined) {
    if (clientCertificate !== undefined) {
      throw new OptionError('clientCertificate cannot be used with transport');
    }
    checkTransport(transport);
    return;
  }
  if (path !== undefined) {
    if (typeof path !== 'string' || path === '') {
      throw new OptionError('path must be a non-empty string');
    }
    return;
  }
  if (host !== undefined && (typeof host !== 'string' || host === '')) {
    throw new OptionError('host must be a non-empty string');
  }
  const number = typeof port === 'string' && /^\d+$/.test(port) ? Number(port) : port;
  if (typeof number !== 'number' || !Number.isInteger(number) || number < 1 || number > 65535) {
    throw new OptionError('port must be a whole number from 1 to 65535');
  }
}

/**
 * Who the server has to be: `servername` is asked for by SNI, and `host` is who the certificate is checked for where
 * there is no `servername`.
 *
 * @throws {OptionError}
 */
function namesOf(options: ConnectOptions): Pick<ClientTlsOptions, 'host' | 'servername'> {
  for (const key of ['servername', 'host'] as const) {
    const value = options[key];
    if (value !== undefined && typeof value !== 'string') {
      throw new OptionError(`${key} must be a string`);
    }
  }
  const { host, servername } = options;
  if (servername) {
    const name = serverName(servername, 'servername');
    // RFC 6066 section 3 permits no address in SNI, but the certificate may be for one.
    return net.isIP(name) === 0 ? { servername: name } : { host: name };
  }
  if (!host) return {};
  const name = serverName(host, 'host');
  // An empty servername asks for no name, as in tls.connect.
  const asksForNone = servername === '' || net.isIP(name) !== 0;
  return asksForNone ? { host: name } : { host: name, servername: name };
}

function checkTransport(transport: Duplex): void {
  const methods = ['on', 'off', 'write', 'end', 'pause', 'resume', 'isPaused', 'destroy'] as const;
  if (
    typeof transport !== 'object' ||
    transport === null ||
    methods.some((name) => typeof transport[name] !== 'function')
  ) {
    throw new OptionError('transport must be a Duplex stream');
  }
  if (transport.readableObjectMode || transport.readableEncoding) {
    throw new OptionError('transport must deliver bytes: no object mode, no setEncoding');
  }
}
