/**
 * Connections whose wire is in the test's hands: TLS runs over a `Wire` as over TCP, and the test ends
 * the TCP connection under it at the moment that it names.
 */
import { once } from 'node:events';
import type http from 'node:http';
import https from 'node:https';
import net from 'node:net';
import { Duplex } from 'node:stream';
import tls from 'node:tls';
import { pki } from './core-pki.ts';
import { type Scope, turn, until } from './core-scope.ts';
import { listen, reset } from './core-transport.ts';

/** How a TCP connection ends under TLS, without close_notify. */
export const ENDS = ['FIN', 'FIN inside a record', 'RST'] as const;
export type End = (typeof ENDS)[number];

/** The codes that an ending may give to a program: a reset stays Node's own, where nothing passes for whole. */
export const codesOf = (end: End): readonly string[] =>
  end === 'RST' ? ['ERR_TLS_TRUNCATED', 'ECONNRESET'] : ['ERR_TLS_TRUNCATED'];

/** TLS flushes in the turn after the one in which it encrypts; and what arrived is read a turn later. */
export async function turns(count = 6): Promise<void> {
  for (let i = 0; i < count; i++) await turn();
}

/** A transport for TLS that passes everything on to a TCP connection, until it is cut. */
export class Wire extends Duplex {
  readonly raw: net.Socket;
  #cut = false;

  constructor(raw: net.Socket) {
    super();
    this.raw = raw;
    raw.on('data', (chunk) => {
      if (!this.push(chunk)) raw.pause();
    });
    raw.on('end', () => {
      this.push(null);
      // TLS that has not been established ends nothing by itself.
      void turns(20).then(() => this.#cut || raw.end());
    });
    this.on('error', () => {});
    raw.on('error', (error) => this.destroy(error));
    raw.on('close', () => {
      if (this.readableEnded || this.#cut) this.destroy();
      else this.once('end', () => this.destroy());
    });
  }

  /** Whether the TCP connection is over. */
  get gone(): boolean {
    return this.raw.closed;
  }

  /** Ends the TCP connection behind all that TLS has written. No close_notify goes out any more. */
  async cut(how: End): Promise<void> {
    await turns();
    await until('all is with the kernel', () => {
      return this.writableLength === 0 && this.raw.writableLength === 0;
    });
    this.#cut = true;
    if (how === 'FIN inside a record') this.raw.write(Buffer.from([23, 3, 3, 0, 100, 1, 2, 3]));
    if (how === 'RST') {
      // A reset that is found together with data looks like an end.
      await turns();
      reset(this.raw);
      return;
    }
    this.raw.end();
    this.raw.resume();
    this.raw.once('end', () => this.raw.destroy());
  }

  /** A record that no key of the connection has made. */
  async forge(): Promise<void> {
    await turns();
    this.raw.write(Buffer.concat([Buffer.from([23, 3, 3, 0, 64]), Buffer.alloc(64, 7)]));
  }

  override _read(): void {
    this.raw.resume();
  }

  override _write(chunk: Uint8Array, _encoding: string, done: () => void): void {
    if (this.#cut || this.raw.destroyed) done();
    else this.raw.write(chunk, () => done());
  }

  override _final(done: () => void): void {
    if (!this.#cut) this.raw.end();
    done();
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    if (!this.#cut) this.raw.destroy();
    done(error);
  }
}

/** A port whose connections are given to `server` over wires. */
export async function wired(
  scope: Scope,
  server: tls.Server,
): Promise<{ readonly port: number; readonly wires: readonly Wire[] }> {
  const wires: Wire[] = [];
  server.on('tlsClientError', () => {});
  server.on('secureConnection', (socket) => socket.on('error', () => {}));
  const port = await listen(
    scope,
    (raw) => {
      const wire = new Wire(raw);
      scope.defer(() => {
        wire.destroy();
        raw.destroy();
      });
      wires.push(wire);
      server.emit('connection', wire);
    },
    { allowHalfOpen: true },
  );
  return { port, wires };
}

/** A client over a wire, secure, towards `port`. */
export async function wiredClient(
  scope: Scope,
  port: number,
  options: tls.ConnectionOptions = {},
): Promise<{ readonly wire: Wire; readonly socket: tls.TLSSocket }> {
  const raw = net.connect({ port, host: '127.0.0.1', noDelay: true, allowHalfOpen: true });
  scope.defer(() => raw.destroy());
  await once(raw, 'connect');
  const wire = new Wire(raw);
  const socket = tls.connect({ socket: wire, ca: pki().ca, servername: 'localhost', ...options });
  scope.defer(() => socket.destroy());
  socket.on('error', () => {});
  await once(socket, 'secureConnect');
  return { wire, socket };
}

/** A request that a `site` got, and its answer in the test's hands. */
export interface Exchange {
  /** The request line and the header. */
  readonly head: string;
  /** How many requests came before, on all connections. */
  readonly number: number;
  readonly wire: Wire;
  readonly socket: tls.TLSSocket;
  /** Writes bytes of the answer; resolves when the transport has them. */
  send(text: string | Buffer): Promise<void>;
  /** Answers with what it gets from here on, and reads no more requests. */
  readonly upgraded: () => void;
}

/**
 * An HTTP/1.1 server over TLS that answers by hand, byte for byte. Of each connection it tells whether
 * its session was a resumed one.
 */
export async function site(
  scope: Scope,
  answer: (exchange: Exchange) => Promise<unknown>,
  options: tls.TlsOptions = {},
): Promise<{ port: number; wires: readonly Wire[]; reused: readonly boolean[] }> {
  const reused: boolean[] = [];
  let number = 0;
  const server = tls.createServer({ ...pki().server, ...options });
  const { port, wires } = await wired(scope, server);
  server.on('secureConnection', (socket) => {
    scope.defer(() => socket.destroy());
    // Injected connections are told of in the order in which their handshakes end: one by one here.
    const wire = wires.at(-1) as Wire;
    let text = '';
    const onData = (chunk: Buffer) => {
      text += chunk.toString('latin1');
      for (;;) {
        const end = text.indexOf('\r\n\r\n');
        if (end < 0) return;
        const head = text.slice(0, end);
        text = text.slice(end + 4);
        const send = (bytes: string | Buffer) =>
          new Promise<void>((resolve) => socket.write(bytes, () => resolve()));
        const upgraded = () => socket.off('data', onData);
        void answer({ head, number: number++, wire, socket, send, upgraded });
      }
    };
    socket.on('data', onData);
    socket.on('end', () => socket.end());
    reused.push(socket.isSessionReused());
  });
  return { port, wires, reused };
}

const CHUNKED = 'HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n';

/** The text of all answers. */
export const BODY = 'Pay $100 to Alice, not $1000';

/** The ways in which an HTTP/1.1 body says where it ends: whole answers, and answers that lack bytes. */
export const ANSWERS = {
  'content-length': {
    whole: `HTTP/1.1 200 OK\r\ncontent-length: ${BODY.length}\r\n\r\n${BODY}`,
    cut: `HTTP/1.1 200 OK\r\ncontent-length: ${BODY.length}\r\n\r\nPay $100 to Alice`,
  },
  chunked: {
    whole: `${CHUNKED}${BODY.length.toString(16)}\r\n${BODY}\r\n0\r\n\r\n`,
    cut: `${CHUNKED}11\r\nPay $100 to Alice\r\n`,
  },
  'to the connection’s end': {
    // Whole is only what close_notify ends.
    whole: `HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n${BODY}`,
    cut: 'HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nPay $100 to Alice',
  },
} as const;

/** What a request came to, event by event. */
export interface Seen {
  readonly events: string[];
  body: string;
  response: http.IncomingMessage | null;
  error: (Error & { code?: string }) | null;
}

/** Makes a request and resolves when it, and its response where there was one, has closed. */
export async function fetchBy(
  agent: https.Agent | undefined,
  port: number,
  options: https.RequestOptions = {},
  read = true,
): Promise<Seen> {
  const seen: Seen = { events: [], body: '', response: null, error: null };
  const request = https.request({
    host: 'localhost',
    port,
    ca: pki().ca,
    ...(agent === undefined ? {} : { agent }),
    ...options,
  });
  const closed = new Promise((resolve) => request.once('close', resolve));
  request.on('error', (error: Error & { code?: string }) => {
    seen.events.push(`request error ${error.code}`);
    seen.error ??= error;
  });
  request.on('response', (response) => {
    seen.response = response;
    for (const name of ['end', 'aborted', 'close']) {
      response.on(name, () => seen.events.push(`response ${name}`));
    }
    response.on('error', (error: Error & { code?: string }) => {
      seen.events.push(`response error ${error.code}`);
      seen.error = error;
    });
    if (read) {
      response.setEncoding('latin1').on('data', (text: string) => {
        seen.body += text;
      });
    }
  });
  request.end();
  if (read) {
    await closed;
    await until('the response has closed', () => seen.response?.closed !== false);
  } else {
    await until('a response or an error', () => seen.response !== null || seen.error !== null);
  }
  return seen;
}
