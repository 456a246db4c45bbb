/**
 * TLS sockets for programs that were written for Node's own, strict about their ending.
 *
 * The socket is Node's `tls.TLSSocket`, made by Node. A guard watches it (guard.ts), and asks a witness which alerts
 * crossed the wire (witness.ts): OpenSSL's word where the add-on is there, and else that of the records, which then
 * pass through a tap on their way (passing.ts).
 */
import net from 'node:net';
import type { Duplex } from 'node:stream';
import tls, { type ConnectionOptions, type Server, type TLSSocket } from 'node:tls';
import { type AddOn, addOn, type Watch } from '../add-on.ts';
import type { Closure } from '../closure/verdict.ts';
import { clientContext } from '../engine/context.ts';
import { OptionError, RuntimeError } from '../errors.ts';
import { IS_NODE, process } from '../runtime.ts';
import type { Strictness } from './channels.ts';
import { Guard, guardOf, type Watching } from './guard.ts';
import { setGuard } from './intercept.ts';
import { acceptPassing, connectPassing, type Passing } from './pass/passing.ts';
import { openSslWitness, type Witness } from './witness.ts';

/** Options of `secureSocket`: those of `tls.connect`, and ours. */
export interface SecureSocketOptions extends ConnectionOptions {
  readonly autoSelectFamily?: boolean | undefined;
  readonly autoSelectFamilyAttemptTimeout?: number | undefined;
  readonly localAddress?: string | undefined;
  readonly localPort?: number | undefined;
  readonly family?: number | undefined;
  readonly hints?: number | undefined;
  readonly highWaterMark?: number | undefined;
  /** Whether the socket stays writable after the peer's close_notify; false by default. */
  readonly allowHalfOpen?: boolean | undefined;
  /** `error` by default. */
  readonly mode?: Strictness | undefined;
}

/**
 * How the connection of a strict socket ended, or stands.
 *
 * @returns null for a socket that is not one of ours.
 */
export function socketClosure(socket: TLSSocket): Closure | null {
  return guardOf(socket)?.closure ?? null;
}

/**
 * A strict TLS socket, for any place that takes one: `createConnection`, `stream`, a driver's hook.
 * It is returned at once, connecting, exactly as from `tls.connect`, whose options it takes
 * (`socket` too: any Duplex as the transport).
 *
 * When the transport ends without close_notify it emits 'error' (`ERR_TLS_TRUNCATED`) instead of 'end',
 * after the data that came. An HTTP reader without a message in progress is spared.
 *
 * @param listener for 'secureConnect'.
 * @throws whatever `tls.connect` throws, {OptionError} for `mode`, and {RuntimeError} on Deno and Bun.
 */
export function secureSocket(options: SecureSocketOptions, listener?: () => void): TLSSocket {
  const { mode = 'error', ...tlsOptions } = options;
  checkMode(mode);
  const all = { ...tlsOptions, secureContext: sharedContext(tlsOptions) };
  return openStrict((passing = all) => tls.connect(passing, listener), all, mode);
}

/** On Deno and Bun, whose refusal comes later, there are no contexts to share. */
function sharedContext(options: ConnectionOptions): tls.SecureContext | undefined {
  return options.secureContext ?? (IS_NODE ? clientContext(options) : undefined);
}

/**
 * @internal A strict socket with these options.
 *
 * @param make has Node make it, listener and all; with other options, where it is given some.
 * @throws {RuntimeError} on Deno and Bun.
 */
export function openStrict(
  make: (passing?: ConnectionOptions) => TLSSocket,
  options: ConnectionOptions,
  mode: Strictness,
): TLSSocket {
  const { native } = strictAddOn();
  if (native === null || isForeign(options.socket)) {
    const passing = connectPassing(options, make);
    guardByRecords(passing, peerOf(options), mode, options.socket);
    return passing.socket;
  }
  const before = native.mark();
  const socket = make();
  const guard = guardOf(socket);
  if (guard !== undefined) {
    // `register` has made it strict already.
    guard.mode = mode;
    return socket;
  }
  const own = native.mark() - before;
  if (isTraced(options.enableTrace)) keepWatching(native, before, socket);
  // Before the handshake is complete, an SSL is known by when it was made.
  new Guard(socket, new AddOnWatching(native, mode, peerOf(options), { mark: before, own }));
  return socket;
}

/** @internal Guards a socket that a server has made; one that has a guard already gets this mode. */
export function guardSocket(socket: TLSSocket, mode: Strictness): void {
  const guard = guardOf(socket);
  const { native } = strictAddOn();
  if (guard !== undefined) guard.mode = mode;
  else
    new Guard(
      socket,
      native === null ? UNWATCHED(mode) : new AddOnWatching(native, mode, SOME_CLIENT),
    );
}

/**
 * @internal Has `server` take a connection.
 *
 * @param listener what the server does with it.
 */
export function acceptStrict(
  server: Server,
  transport: Duplex,
  mode: Strictness,
  listener: (this: Server, transport: Duplex) => void,
): void {
  const { native } = strictAddOn();
  if (native === null || isForeign(transport)) {
    acceptPassing(server, transport, listener, (passing) => {
      guardByRecords(passing, SOME_CLIENT, mode, transport);
    });
    return;
  }
  if (!isTraced(tracesOf(server))) {
    listener.call(server, transport);
    return;
  }
  const before = native.mark();
  listener.call(server, transport);
  retake(native.since(before));
}

/** @internal @throws {OptionError} */
export function checkMode(mode: unknown): asserts mode is Strictness {
  if (mode !== 'error' && mode !== 'report') {
    throw new OptionError("mode must be 'error' or 'report'");
  }
}

/** @internal The add-on. @throws {RuntimeError} where a drop-in cannot be had at all. */
export function strictAddOn(): ReturnType<typeof addOn> {
  if (!IS_NODE) {
    const name = 'bun' in process.versions ? 'Bun' : 'Deno';
    throw new RuntimeError(
      `secureSocket, strictServer, StrictAgent, strictConnector and register are for Node: ${name}'s TLS sockets do not show how they ended`,
      { hint: `connect() and accept() give a TlsStream, which works on ${name}` },
    );
  }
  const state = addOn();
  if (state.native === null && REQUIRED) {
    throw new RuntimeError(`the add-on close-notify-native is required: ${state.reason}`, {
      hint: 'install close-notify-native, or unset CLOSE_NOTIFY_REQUIRE_NATIVE',
    });
  }
  if (state.native !== null && heard !== state.native) {
    state.native.watch((watch) => guardOf(watch)?.onIgnored());
    heard = state.native;
  }
  return state;
}

const REQUIRED = process.env['CLOSE_NOTIFY_REQUIRE_NATIVE'] === '1';

// ---- whom a connection is to

type PeerOfGuard = Pick<Watching, 'role' | 'host' | 'port'>;

/** Of a server, whose sockets say by themselves who they are to. */
const SOME_CLIENT: PeerOfGuard = { role: 'server', host: null, port: null };

/** What a client was told to connect to. */
function peerOf({ host, path, port, socket }: ConnectionOptions): PeerOfGuard {
  const given = socket !== undefined && socket !== null;
  const name = host || path || (given ? null : 'localhost');
  const number = Number(port ?? (socket as { remotePort?: number } | undefined)?.remotePort);
  const isPort = Number.isInteger(number) && !(path !== undefined && host === undefined);
  return { role: 'client', host: name, port: isPort ? number : null };
}

// ---- by the add-on

let heard: AddOn | null = null;

/** Which SSLs were made with a socket: how many, behind which mark. */
interface Made {
  readonly mark: number;
  readonly own: number;
}

/** By what OpenSSL shows to the add-on. */
class AddOnWatching implements Watching {
  readonly mode: Strictness;
  readonly evidence = 'openssl';
  readonly engine = 'node';
  readonly role: PeerOfGuard['role'];
  readonly host: PeerOfGuard['host'];
  readonly port: PeerOfGuard['port'];
  readonly #native: AddOn;
  readonly #made: Made | null;
  /** The connection's, once that is known. */
  #watch: Watch | null = null;

  /** @param made those of its SSLs that may be the connection's, until that is known. */
  constructor(native: AddOn, mode: Strictness, peer: PeerOfGuard, made: Made | null = null) {
    this.mode = mode;
    this.role = peer.role;
    this.host = peer.host;
    this.port = peer.port;
    this.#native = native;
    this.#made = made;
  }

  witness(guard: Guard): Witness | null {
    const found = openSslWitness(this.#native, guard.socket);
    if (found === null) return null;
    this.#watch = found.watch;
    // For a close_notify that OpenSSL ignores.
    setGuard(found.watch, guard);
    return found.witness;
  }

  trace(): void {
    if (this.#watch !== null) retake([this.#watch]);
    else if (this.#made !== null) {
      retake(this.#native.since(this.#made.mark).slice(0, this.#made.own));
    }
  }
}

/** A connection that was there before it could be watched: nothing is claimed of it. */
const UNWATCHED = (mode: Strictness): Watching => ({
  ...SOME_CLIENT,
  mode,
  evidence: 'record',
  engine: 'node',
  witness: () => null,
});

// ---- by the records

/**
 * Whether a transport that was given is no socket of Node's. TLS on such a one passes through JavaScript in any case,
 * and what becomes of it Node leaves to chance: so it is given a tap, also where the add-on is.
 */
function isForeign(transport: Duplex | null | undefined): boolean {
  return transport !== null && transport !== undefined && !(transport instanceof net.Socket);
}

/** @param given the transport, where it was given. */
function guardByRecords(
  { socket, witness, pass }: Passing,
  peer: PeerOfGuard,
  mode: Strictness,
  given: Duplex | null | undefined,
): void {
  const watching: Watching = {
    ...peer,
    mode,
    evidence: 'record',
    engine: 'tapped',
    witness: () => witness,
  };
  const guard = new Guard(socket, watching);
  // Behind what TLS makes of these very bytes.
  witness.onIgnored = () => setImmediate(() => guard.onIgnored());
  if (isForeign(given)) pass.onFailure = (error) => guard.onTransportFailed(error);
}

// ---- tracing, which takes the place of the add-on in OpenSSL

/** Whether Node traces a socket that was made with this option. */
function isTraced(option: boolean | undefined): boolean {
  return option ?? TRACES;
}

const TRACES = [...process.execArgv, ...(process.env['NODE_OPTIONS'] ?? '').split(' ')].includes(
  '--trace-tls',
);

function retake(watches: readonly Watch[]): void {
  for (const watch of watches) watch.retake(true);
}

/** Node makes a second SSL where the first address of a host refuses. */
function keepWatching(native: AddOn, mark: number, socket: TLSSocket): void {
  retake(native.since(mark));
  socket.once('connect', () => retake(native.since(mark)));
}

/** What a server was made with, known by the symbol's name. */
function tracesOf(server: Server): boolean | undefined {
  traceSymbol ??= Object.getOwnPropertySymbols(server).find(
    ({ description }) => description === 'enableTrace',
  );
  return traceSymbol && (server as unknown as Record<symbol, boolean | undefined>)[traceSymbol];
}

/** Node's, the same for each server. */
let traceSymbol: symbol | undefined;

// Whoever requires the add-on is not to find out at the first connection.
if (REQUIRED && IS_NODE) strictAddOn();
