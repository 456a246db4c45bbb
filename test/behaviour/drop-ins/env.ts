/**
 * What a case of 'behaves as before' works with. It runs in a child process, twice: once plain, once
 * with `--import close-notify/register`, and what it noted has to be the same.
 *
 * Notes are kept in tracks, one per emitter or subject. Order counts within a track and not between
 * tracks: which of two emitters speaks first is the event loop's business. What differs from run to
 * run by nature (ports, the chunks that data came in, OpenSSL's thread ids) is evened out here.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import type { EventEmitter } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import http2 from 'node:http2';
import https from 'node:https';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Duplex } from 'node:stream';
import tls from 'node:tls';
import type { Pki } from '../../support/core-pki.ts';

/** Per track what was noted, in order. */
export type Outcome = Readonly<Record<string, readonly string[]>>;

/** One thing that a program may do with a TLS connection. */
export interface Case {
  readonly name: string;
  /** The test of Node's own suite that holds the same thing, where there is one. */
  readonly like: string | null;
  run(env: Env): Promise<void>;
  /**
   * Tracks that have to differ, and how: in these cases the stream is truncated. All other tracks
   * have to agree.
   */
  readonly differs: Readonly<Record<string, Difference>>;
}

/** The last lines of a track, without `register` and with it. Those before them have to agree. */
export interface Difference {
  readonly plain: readonly string[];
  readonly strict: readonly string[];
}

/** A list of cases, and what adds to it. */
export function family() {
  const cases: Case[] = [];
  const add = (
    name: string,
    like: string | null,
    run: (env: Env) => Promise<void>,
    differs: Readonly<Record<string, Difference>> = {},
  ): void => {
    cases.push({ name, like, run, differs });
  };
  return { cases, add };
}

/** What a whole program did. */
export interface Ran {
  readonly exit: string;
  readonly output: string;
  readonly errors: string;
}

/** A proxy that cuts. */
export interface Cutter {
  readonly port: number;
  /** The client gets FIN, after all bytes that came before. */
  fin(): void;
  /** The client gets FIN inside a record: the header of one that never comes stands before it. */
  finInsideRecord(): void;
  /** The client gets RST. */
  rst(): void;
  /** Nothing more goes to the client. */
  hold(): void;
}

/** Events that anyone may listen to without changing what a socket does. */
const EVENTS = [
  'lookup',
  'connectionAttempt',
  'connectionAttemptFailed',
  'connect',
  'ready',
  'secureConnect',
  'session',
  'end',
  'timeout',
  'drain',
  'finish',
  'error',
  'close',
] as const;

/** What Node's sockets have and its documentation does not. */
export interface Undocumented {
  setServername(name: unknown): void;
  setSession(session: Buffer): void;
}

/** What `tls.connect` takes, that of `net.connect` and of `net.Socket` included. */
export type ConnectOptions = tls.ConnectionOptions &
  Partial<Omit<net.TcpSocketConnectOpts, 'port' | 'host' | 'lookup'>> &
  Omit<net.SocketConstructorOpts, 'fd' | 'readable' | 'writable'> & {
    readonly highWaterMark?: number;
    readonly requestOCSP?: boolean;
  };

type Line = string | { readonly chunks: Buffer[] };

/** One case's things. */
export class Env {
  readonly pki: Pki;
  readonly #tracks = new Map<string, Line[]>();
  readonly #ends: Array<() => unknown> = [];
  readonly #ports = new Set<number>();
  readonly #open = new Set<ChildProcess>();

  constructor(pki: Pki) {
    this.pki = pki;
  }

  /** Adds to a track. */
  note(track: string, ...values: unknown[]): void {
    this.#track(track).push(values.map((value) => show(value)).join(' '));
  }

  /** Runs at the end of the case, last first. */
  defer(end: () => unknown): void {
    this.#ends.push(end);
  }

  /**
   * Notes the events of an emitter, and those named besides. 'data apart' notes data in a track of
   * its own, for cases where both directions are busy: what comes in and what goes out wait for
   * each other by chance. Tickets likewise: where they stand among the data is the server's choice.
   */
  watch<T extends EventEmitter>(track: string, emitter: T, ...more: string[]): T {
    let secure = false;
    emitter.once('secureConnect', () => {
      secure = true;
    });
    for (const name of [...EVENTS, ...more]) {
      if (name === 'data apart') {
        emitter.on('data', (chunk: Buffer | string) => this.data(`${track}: data`, chunk));
        continue;
      }
      emitter.on(name, (...values: unknown[]) => {
        const [first] = values;
        if (name === 'data' && (Buffer.isBuffer(first) || typeof first === 'string')) {
          this.data(track, first);
        } else if (name === 'session') {
          const when = secure ? 'after' : 'before';
          this.note(`${track}: session`, kind(first), when, 'secureConnect');
        } else if (name === 'keylog') {
          this.note(track, 'keylog', String(first).split(' ')[0]);
        } else {
          this.note(track, name, ...values.filter((value) => value !== undefined));
        }
      });
    }
    return emitter;
  }

  /** Notes data; what comes in several chunks counts as one. */
  data(track: string, chunk: Buffer | string): void {
    const lines = this.#track(track);
    const last = lines.at(-1);
    const bytes = Buffer.from(chunk);
    if (typeof last === 'object') last.chunks.push(bytes);
    else lines.push({ chunks: [bytes] });
  }

  /** Waits for an event; an 'error' does not end the wait. */
  event<T = unknown>(emitter: EventEmitter, name: string): Promise<T> {
    return new Promise((resolve) => emitter.once(name, (value: T) => resolve(value)));
  }

  /** Waits until a socket or stream has closed, and for the turn after that. */
  async closed(emitter: EventEmitter & { readonly closed?: boolean }): Promise<void> {
    // `closed` is true a moment before 'close' is emitted.
    if (emitter.closed !== true) await new Promise((resolve) => emitter.once('close', resolve));
    await this.turns(2);
  }

  /** Lets the event loop turn. */
  async turns(count: number): Promise<void> {
    for (let i = 0; i < count; i++) await new Promise((resolve) => setImmediate(resolve));
  }

  /** Whether a call throws, and what. */
  attempt(track: string, what: string, call: () => unknown): void {
    try {
      const value = call();
      if (value instanceof Duplex) {
        value.on('error', () => {});
        value.destroy();
      }
      this.note(track, what, 'gives', kind(value));
    } catch (error) {
      this.note(track, what, 'throws', error);
    }
  }

  /** Notes what a socket says of itself. */
  facts(track: string, when: string, socket: tls.TLSSocket): void {
    const of = (names: readonly string[]): string =>
      names
        .map((name) => `${name}=${show((socket as unknown as Record<string, unknown>)[name])}`)
        .join(' ');
    const group = (...names: string[]) => this.note(track, `${when}: ${of(names)}`);
    group('connecting', 'pending', 'readyState', 'secureConnecting', 'destroyed', 'closed');
    group('encrypted', 'authorized', 'authorizationError', 'alpnProtocol', 'servername');
    group('readable', 'readableEnded', 'readableFlowing', 'readableLength', 'readableAborted');
    group('writable', 'writableEnded', 'writableFinished', 'writableLength', 'writableNeedDrain');
    group('readableHighWaterMark', 'writableHighWaterMark', 'allowHalfOpen', 'bufferSize');
    group('remoteAddress', 'remoteFamily', 'remotePort', 'localAddress', 'localFamily', 'timeout');
    this.note(track, `${when}: localPort is a ${typeof socket.localPort}`);
    const address = socket.address();
    const known = 'port' in address ? { ...address, port: typeof address.port } : address;
    this.note(track, `${when}: address()`, JSON.stringify(known));
  }

  /** A TLS server on loopback, for localhost. */
  async serve(
    options: tls.TlsOptions = {},
    onSocket: (socket: tls.TLSSocket) => void = () => {},
  ): Promise<{ readonly port: number; readonly server: tls.Server }> {
    const server = tls.createServer({ ...this.pki.server, ...options });
    server.on('secureConnection', (socket) => {
      socket.on('error', () => {});
      // Not at once: in Node 20 to 24 a TLS 1.3 server that ends within this call sends no close_notify.
      // (OpenSSL refuses while it still owes session tickets, and 'end' is silent about it.)
      setImmediate(onSocket, socket);
    });
    return { port: await this.listen(server), server };
  }

  /** A TCP server on loopback. */
  async plain(onSocket: (socket: net.Socket) => void): Promise<number> {
    return await this.listen(net.createServer({ allowHalfOpen: true }, onSocket));
  }

  /** An HTTPS server on loopback. */
  async web(
    onRequest: Parameters<typeof https.createServer>[1],
    options: https.ServerOptions = {},
  ): Promise<{ readonly port: number; readonly server: https.Server }> {
    const server = https.createServer({ ...this.pki.server, ...options }, onRequest);
    return { port: await this.listen(server), server };
  }

  /** An HTTP/2 server on loopback. */
  async web2(
    onStream: (stream: http2.ServerHttp2Stream, headers: http2.IncomingHttpHeaders) => void,
    options: http2.SecureServerOptions = {},
  ): Promise<{ readonly port: number; readonly server: http2.Http2SecureServer }> {
    const server = http2.createSecureServer({ ...this.pki.server, ...options });
    server.on('stream', onStream);
    server.on('sessionError', () => {});
    return { port: await this.listen(server), server };
  }

  /** Listens on a free port of 127.0.0.1, or on a path; ended with the case. */
  async listen(server: net.Server, where: net.ListenOptions = {}): Promise<number> {
    const sockets = new Set<net.Socket>();
    server.on('connection', (socket: net.Socket) => {
      sockets.add(socket);
      socket.on('error', () => {});
      socket.on('close', () => sockets.delete(socket));
    });
    await new Promise<void>((resolve) =>
      server.listen({ host: '127.0.0.1', port: 0, ...where }, resolve),
    );
    this.defer(async () => {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    });
    const address = server.address();
    if (address === null || typeof address === 'string') return 0;
    this.#ports.add(address.port);
    return address.port;
  }

  /** A port on which nobody listens. */
  async noPort(): Promise<number> {
    const server = net.createServer();
    const port = await this.listen(server);
    await new Promise((resolve) => server.close(resolve));
    return port;
  }

  /** A directory that goes with the case. */
  directory(): string {
    const dir = mkdtempSync(join(tmpdir(), 'close-notify-'));
    this.defer(() => rmSync(dir, { recursive: true, force: true }));
    return dir;
  }

  /** `tls.connect` to a server of ours, watched. */
  connect(port: number, options: ConnectOptions = {}, ...more: string[]): tls.TLSSocket {
    const socket = tls.connect(this.options(port, options));
    this.defer(() => socket.destroy());
    return this.watch('client', socket, ...more);
  }

  /** Options of `tls.connect` for a server of ours. */
  options(port: number, more: ConnectOptions = {}): ConnectOptions {
    const where = more.socket === undefined ? { host: '127.0.0.1', port } : {};
    return { ...where, ca: this.pki.ca, servername: 'localhost', ...more };
  }

  /** Options for an HTTPS request to a server of ours. */
  request(port: number, more: https.RequestOptions = {}): https.RequestOptions {
    return { host: '127.0.0.1', servername: 'localhost', port, ca: this.pki.ca, ...more };
  }

  /** A proxy before a server of ours; `onConnection` is given what cuts that connection. */
  async cutter(port: number): Promise<Cutter> {
    let near: net.Socket | null = null;
    let far: net.Socket | null = null;
    let cut = false;
    const stop = () => {
      cut = true;
      far?.pause();
      return near!;
    };
    const proxy = net.createServer({ allowHalfOpen: true }, (client) => {
      near = client;
      const server = net.connect({ host: '127.0.0.1', port, allowHalfOpen: true });
      far = server;
      this.defer(() => server.destroy());
      client.pipe(server);
      client.on('error', () => server.destroy());
      client.on('close', () => server.destroy());
      server.on('data', (bytes) => {
        if (!cut) client.write(bytes);
      });
      server.on('end', () => {
        if (!cut) client.end();
      });
      server.on('error', () => {
        if (!cut) client.destroy();
      });
    });
    return {
      port: await this.listen(proxy),
      fin: () => void stop().end(),
      finInsideRecord: () => void stop().end(Buffer.from([23, 3, 3, 0, 100, 1, 2, 3])),
      rst: () => {
        const socket = stop();
        // Node ends a socket before it resets it: whether the client sees FIN or RST would be a race.
        socket._final = (done) => done();
        socket.resetAndDestroy();
      },
      hold: () => void stop(),
    };
  }

  /** Runs one of `programs.ts` in a process of its own, with what this process was started with. */
  async program(name: string, port: number): Promise<Ran> {
    const child = spawn(
      process.execPath,
      [...process.execArgv, process.argv[1]!, process.argv[2]!, '--program', name, String(port)],
      { stdio: 'pipe' },
    );
    this.#open.add(child);
    const limit = setTimeout(() => child.kill('SIGKILL'), 12_000);
    let output = '';
    let errors = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      output += text;
    });
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      errors += text;
    });
    const exit = await new Promise<string>((resolve) =>
      child.on('close', (code, signal) => resolve(signal ?? `exit ${code}`)),
    );
    clearTimeout(limit);
    this.#open.delete(child);
    return { exit, output, errors };
  }

  /** @internal Ends the case's things and tells what was noted. */
  async finish(): Promise<Outcome> {
    for (const child of this.#open) child.kill('SIGKILL');
    const outcome = this.outcome();
    for (const end of this.#ends.reverse()) await end();
    return outcome;
  }

  /** @internal */
  outcome(): Outcome {
    const ports = [...this.#ports];
    const even = (line: string) =>
      ports
        .reduce((text, port) => text.replaceAll(String(port), 'PORT'), line)
        .replaceAll(/\b[0-9A-F]{16}:error/g, 'THREAD:error')
        .replaceAll(/close-notify-\w{6}\b/g, 'DIRECTORY');
    return Object.fromEntries(
      [...this.#tracks].map(([track, lines]) => [
        track,
        lines.map((line) =>
          even(typeof line === 'string' ? line : `data ${show(Buffer.concat(line.chunks))}`),
        ),
      ]),
    );
  }

  #track(name: string): Line[] {
    const lines = this.#tracks.get(name) ?? [];
    this.#tracks.set(name, lines);
    return lines;
  }
}

/** The name of a value's class, or its type. */
export function kind(value: unknown): string {
  if (value === null || typeof value !== 'object') return String(value);
  return (value as object).constructor?.name ?? 'object without a class';
}

/** Properties of errors that programs look at. */
const ERROR_KEYS = [
  'code',
  'syscall',
  'address',
  'port',
  'hostname',
  'host',
  'path',
  'reason',
  'library',
] as const;

/** A value as it stands in a track. */
export function show(value: unknown): string {
  if (typeof value === 'string') return value;
  if (Buffer.isBuffer(value)) {
    const text = value.toString('latin1');
    return value.length <= 80 && /^[\x20-\x7e\r\n]*$/.test(text)
      ? JSON.stringify(text)
      : `${value.length} bytes ${createHash('sha256').update(value).digest('hex').slice(0, 12)}`;
  }
  if (value instanceof Error) {
    const known = value as unknown as Record<string, unknown>;
    const more = ERROR_KEYS.filter((key) => known[key] !== undefined)
      .map((key) => `${key}=${show(known[key])}`)
      .join(' ');
    const cause = value.cause === undefined ? '' : ` cause=(${show(value.cause)})`;
    // The library's own words are not held here.
    if (known['code'] === 'ERR_TLS_TRUNCATED') return known['code'];
    return `${kind(value)} ${value.name} ${more} ${JSON.stringify(value.message)}${cause}`;
  }
  if (value instanceof net.Socket || value instanceof Duplex) return `a ${kind(value)}`;
  if (value !== null && typeof value === 'object') return `a ${kind(value)}`;
  return String(value);
}
