/**
 * What a case about verdicts works with, in a child process: the package as programs load it, crafted
 * peers, and what a socket and the channels told.
 *
 * Only the public face is used: secureSocket, strictServer, StrictAgent, strictConnector, register,
 * socketClosure and the diagnostics channels.
 */
import { subscribe } from 'node:diagnostics_channel';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Duplex } from 'node:stream';
import tls from 'node:tls';
import { type CraftedOptions, CraftedPeer, turn, type Version } from './crafted-peer.ts';

type Package = typeof import('close-notify');
export type Closure = NonNullable<ReturnType<Package['socketClosure']>>;

/** What the channels said of one socket. */
export interface Messages {
  connect: Array<{ evidence: unknown; engine: unknown; mode: unknown }>;
  truncated: Array<{ outcome: string; code: unknown; incomplete: boolean }>;
  closure: Closure[];
}

/** Milliseconds after which a wait counts as hanging. Only a failure waits for it. */
export const LIMIT = 4_000;

/** The ways to have a strict socket of Node's. */
export const FACES = ['tcp', 'unix', 'duplex', 'register', 'server', 'server duplex'] as const;
export type Face = (typeof FACES)[number];

/** And more, for who tries very many: a strict socket within Node's own TLS, as behind a proxy. */
export const ALL_FACES = [...FACES, 'tls in tls'] as const;
export type AnyFace = (typeof ALL_FACES)[number];

export const isServer = (face: string): boolean => face.startsWith('server');

/** A name that `register` has been told of, and no other. */
const REGISTERED = 'registered.test';

/** Options of a connection that `register` is for. */
export const AS_REGISTERED = {
  host: REGISTERED,
  servername: REGISTERED,
  lookup: ((_, { all }, found) =>
    all
      ? found(null, [{ address: '127.0.0.1', family: 4 }])
      : found(null, '127.0.0.1', 4)) satisfies net.LookupFunction,
};

export async function turns(count: number): Promise<void> {
  for (let i = 0; i < count; i++) await turn();
}

/**
 * Turns the event loop until `holds`.
 *
 * @returns false where it did not within the limit.
 */
export async function until(holds: () => boolean, limit = LIMIT): Promise<boolean> {
  const start = performance.now();
  while (!holds()) {
    if (performance.now() - start > limit) return false;
    await turn();
  }
  return true;
}

/** What all cases of a child share. */
interface Shared {
  readonly lib: Package;
  readonly https: typeof import('close-notify/https');
  readonly undici: typeof import('close-notify/undici');
  readonly register: typeof import('close-notify/register');
  readonly identity: { readonly key: string; readonly cert: string; readonly ca: string };
  readonly folder: string;
  readonly messages: WeakMap<object, Messages>;
  readonly sockets: tls.TLSSocket[];
}

/** One case's things. */
export class Env {
  /** Whether the add-on is to be used. */
  readonly native = process.env['CLOSE_NOTIFY_NATIVE'] !== '0';
  readonly #shared: Shared;
  #ends: Array<() => unknown> = [];
  static #files = 0;

  private constructor(shared: Shared) {
    this.#shared = shared;
  }

  /** For another case. */
  fork(): Env {
    return new Env(this.#shared);
  }

  get lib(): Package {
    return this.#shared.lib;
  }

  get https(): Shared['https'] {
    return this.#shared.https;
  }

  get undici(): Shared['undici'] {
    return this.#shared.undici;
  }

  get register(): Shared['register'] {
    return this.#shared.register;
  }

  get identity(): Shared['identity'] {
    return this.#shared.identity;
  }

  /** Strict sockets of whoever, oldest first: for cases that run alone, whose sockets are made inside of Node. */
  get sockets(): tls.TLSSocket[] {
    return this.#shared.sockets;
  }

  /** @param isPlain with Node's own sockets in the place of ours. */
  static async make(isPlain = process.env['VERDICTS_PLAIN'] === '1'): Promise<Env> {
    const [lib, https, undici, register, testing] = await Promise.all([
      import('close-notify'),
      import('close-notify/https'),
      import('close-notify/undici'),
      import('close-notify/register'),
      import('close-notify/testing'),
    ]);
    // Loading it has made everything strict, the tests' own peers, too.
    register.unregister();
    if (!isPlain) register.register({ include: [REGISTERED] });
    const plain = { secureSocket: tls.connect, strictServer: <T>(server: T): T => server };
    const folder = mkdtempSync(join(tmpdir(), 'close-notify-verdicts-'));
    process.once('exit', () => rmSync(folder, { recursive: true, force: true }));
    const env = new Env({
      lib: isPlain ? { ...lib, ...(plain as object) } : lib,
      ...{ https, undici, register, folder },
      identity: testing.selfSigned(),
      messages: new WeakMap(),
      sockets: [],
    });
    env.#subscribe();
    return env;
  }

  #subscribe(): void {
    type Of<T> = { readonly socket: object } & T;
    subscribe('close-notify.connect', (message) => {
      const { socket, evidence, engine, mode } = message as Of<Messages['connect'][number]>;
      this.sockets.push(socket as tls.TLSSocket);
      this.messagesOf(socket).connect.push({ evidence, engine, mode });
    });
    subscribe('close-notify.truncated', (message) => {
      const { socket, outcome, error, incomplete } = message as Of<{
        outcome: string;
        error: { code: string };
        incomplete: boolean;
      }>;
      this.messagesOf(socket).truncated.push({ outcome, code: error.code, incomplete });
    });
    subscribe('close-notify.closure', (message) => {
      const { socket, closure } = message as Of<{ closure: Closure }>;
      this.messagesOf(socket).closure.push(closure);
    });
  }

  /** Runs at the end of the case, last first. */
  defer(end: () => unknown): void {
    this.#ends.push(end);
  }

  async finish(): Promise<void> {
    for (const end of this.#ends.splice(0).reverse()) await end();
  }

  messagesOf(socket: object): Messages {
    const { messages } = this.#shared;
    let found = messages.get(socket);
    if (found === undefined) {
      found = { connect: [], truncated: [], closure: [] };
      messages.set(socket, found);
    }
    return found;
  }

  /** A strict client's socket on a Duplex of the program's own. */
  duplexSocket(options: { readonly port: number; readonly host: string }): tls.TLSSocket {
    const raw = net.connect({ ...options, allowHalfOpen: true, noDelay: true });
    return this.lib.secureSocket({ rejectUnauthorized: false, socket: duplexOver(raw, false) });
  }

  /** A file with this text, for as long as the child lives. */
  file(text: string): string {
    const path = join(this.#shared.folder, `${Env.#files++}`);
    writeFileSync(path, text);
    return path;
  }

  /** Listens on loopback, at this address of it, or on a socket in the file system. */
  async listen(
    server: net.Server,
    unix = false,
    host = '127.0.0.1',
  ): Promise<{ port: number; path?: string }> {
    this.defer(() => server.close());
    if (unix) {
      const path = join(this.#shared.folder, `${Env.#files++}`);
      server.listen(path);
      await once(server, 'listening');
      return { port: 0, path };
    }
    server.listen(0, host);
    await once(server, 'listening');
    return { port: (server.address() as net.AddressInfo).port };
  }

  /**
   * A strict socket and a crafted peer at its other end.
   *
   * @param program gets the socket as a program does: as soon as there is one.
   * @returns when the handshake is under way; `peer.ready` says when it is done.
   */
  async open(options: OpenOptions, program: (socket: tls.TLSSocket) => void): Promise<CraftedPeer> {
    const { face, version, allowHalfOpen = false, crafted = {}, socket: more = {} } = options;
    const { key, cert } = this.identity;
    if (isServer(face)) {
      const server = tls.createServer({
        ...{ key, cert, minVersion: version, maxVersion: version, allowHalfOpen },
        ...(more as tls.TlsOptions),
      });
      this.lib.strictServer(server, { mode: options.mode ?? 'error' });
      server.on('secureConnection', program);
      server.on('tlsClientError', (error) => options.onTlsClientError?.(error));
      let front: net.Server = server;
      if (face === 'server duplex') {
        front = net.createServer({ allowHalfOpen: true }, (raw) => {
          server.emit('connection', duplexOver(raw, allowHalfOpen));
        });
      }
      const at = await this.listen(front);
      const wire = net.connect({ ...at, host: '127.0.0.1', allowHalfOpen: true });
      const peer = new CraftedPeer(wire, { role: 'client', version, ...crafted });
      this.defer(() => peer.destroy());
      return peer;
    }
    const within = face === 'tls in tls';
    const server = within
      ? tls.createServer({ ...this.identity, allowHalfOpen: true })
      : net.createServer({ allowHalfOpen: true });
    const at = await this.listen(server, face === 'unix');
    const name = within ? 'secureConnection' : 'connection';
    const connected = once(server, name) as Promise<[net.Socket]>;
    const plain = { rejectUnauthorized: false };
    const common = { ...plain, allowHalfOpen, ...more };
    const mode = options.mode ?? 'error';
    const target = at.path === undefined ? { port: at.port, host: '127.0.0.1' } : at;
    let socket: tls.TLSSocket;
    if (face === 'register') {
      socket = tls.connect({ ...target, ...common, ...AS_REGISTERED });
    } else if (within) {
      const half = { ...target, ...plain, allowHalfOpen: true };
      const outer = tls.connect(half);
      socket = this.lib.secureSocket({ ...common, mode, socket: outer });
    } else if (face === 'duplex') {
      const raw = net.connect({ ...target, allowHalfOpen: true } as net.NetConnectOpts);
      socket = this.lib.secureSocket({ ...common, mode, socket: duplexOver(raw, allowHalfOpen) });
    } else {
      socket = this.lib.secureSocket({ ...target, ...common, mode });
    }
    program(socket);
    const [wire] = await connected;
    const identity = { key, cert };
    const peer = new CraftedPeer(wire, { role: 'server', version, identity, ...crafted });
    this.defer(() => peer.destroy());
    return peer;
  }
}

export interface OpenOptions {
  readonly face: AnyFace;
  readonly version: Version;
  readonly allowHalfOpen?: boolean;
  /** Not under `register`, whose mode is the process's. */
  readonly mode?: 'error' | 'report';
  readonly crafted?: Partial<CraftedOptions>;
  /** More options of the socket or the server. */
  readonly socket?: object;
  readonly onTlsClientError?: (error: Error) => void;
}

/** What a program throws in a listener, on purpose. */
export class Thrown extends Error {}

/** A plain Duplex that passes everything on, as wrappers for proxies and WebSockets do. */
export function duplexOver(raw: net.Socket, allowHalfOpen = true): Duplex {
  const duplex = new Duplex({
    allowHalfOpen,
    read() {
      raw.resume();
    },
    write(chunk, _encoding, done) {
      raw.write(chunk, (error) => done(error));
    },
    final(done) {
      raw.end(() => done());
    },
    destroy(error, done) {
      raw.destroy();
      done(error);
    },
  });
  raw.on('data', (chunk) => {
    if (!duplex.push(chunk)) raw.pause();
  });
  raw.on('end', () => duplex.push(null));
  raw.on('error', (error) => duplex.destroy(error));
  return duplex;
}

/** What a socket told a program, and what is known of its ending. */
export interface Facts {
  /** 'end', 'error CODE', 'close', in order. */
  readonly events: readonly string[];
  readonly bytes: number;
  readonly verdict: string | null;
  readonly received: string | null;
  readonly sent: string | null;
  readonly alert: { code: number | null; direction: string; authenticated: boolean } | null;
  readonly truncation: { where: string; cause: string } | null;
  readonly incomplete: boolean | null;
  readonly truncated: Messages['truncated'];
  readonly connect: Messages['connect'];
  /** The verdicts that the channel told. */
  readonly closures: readonly string[];
  /** What the socket was doing, where it never closed. */
  readonly hangs: string | null;
}

/** Listens to a socket. */
export class Watch {
  readonly socket: tls.TLSSocket;
  readonly events: string[] = [];
  readonly chunks: Buffer[] = [];
  bytes = 0;
  closed = false;
  readonly #env: Env;

  constructor(env: Env, socket: tls.TLSSocket) {
    this.#env = env;
    this.socket = socket;
    socket.on('end', () => this.events.push('end'));
    socket.on('error', (error: NodeJS.ErrnoException) => {
      this.events.push(`error ${error.code ?? error.message}`);
    });
    socket.on('close', () => {
      this.events.push('close');
      this.closed = true;
    });
  }

  took(chunk: Uint8Array): void {
    this.chunks.push(Buffer.from(chunk));
    this.bytes += chunk.length;
  }

  get text(): string {
    return Buffer.concat(this.chunks).toString('latin1');
  }

  /** Waits until the socket has closed, and all of it has been told; then tells what it was. */
  async over(limit = LIMIT): Promise<Facts> {
    const closed = await until(() => this.closed, limit);
    // What the witness knows of our own alert may come a turn behind 'close'.
    await turns(3);
    const facts = this.facts(closed);
    if (!closed) this.socket.destroy();
    return facts;
  }

  facts(closed = true): Facts {
    const { socket } = this;
    const closure = this.#env.lib.socketClosure(socket);
    const { connect, truncated, closure: closures } = this.#env.messagesOf(socket);
    const { alert, truncation } = closure ?? { alert: null, truncation: null };
    return {
      events: [...this.events],
      bytes: this.bytes,
      verdict: closure?.verdict ?? null,
      received: evidenceOf(closure?.received),
      sent: evidenceOf(closure?.sent),
      alert: alert && {
        code: alert.code,
        direction: alert.direction,
        authenticated: alert.authenticated,
      },
      truncation: truncation && { where: truncation.where, cause: truncation.cause },
      incomplete: closure?.incomplete ?? null,
      truncated: [...truncated],
      connect: [...connect],
      closures: closures.map(({ verdict }) => verdict),
      hangs: closed
        ? null
        : `destroyed ${socket.destroyed}, readableLength ${socket.readableLength}, ` +
          `flowing ${socket.readableFlowing}, writableFinished ${socket.writableFinished}`,
    };
  }
}

/** What a claimed close_notify rests on; null where none is claimed. */
function evidenceOf(claim: unknown): string | null {
  if (claim === null || claim === undefined) return null;
  return typeof claim === 'object' && 'evidence' in claim ? String(claim.evidence) : 'unsaid';
}
