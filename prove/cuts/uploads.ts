/**
 * Cuts in HTTP uploads, as a handler of Node's own `https.Server` reads them once `strictServer` has made
 * it strict: a body with a length, one in chunks, and what comes behind an Upgrade.
 *
 * A request cannot end with its connection: without a length it has no body (RFC 9112 section 6.3). What
 * a server does read to the end of the connection is the protocol that a client has switched to; there
 * the socket is the program's own, and its 'end' is what counts.
 */
import { once } from 'node:events';
import type { IncomingMessage } from 'node:http';
import https from 'node:https';
import net from 'node:net';
import type { Duplex } from 'node:stream';
import { setImmediate as turn } from 'node:timers/promises';
import type tls from 'node:tls';
import { connect } from '../../src/stream/connect.ts';
import type { TlsStream } from '../../src/stream/tls-stream.ts';
import { strictServer } from '../../src/strict/strict-server.ts';
import { type Cut, channel } from '../../src/testing/index.ts';
import { settled, splice } from '../../test/support/splice.ts';
import type { Stage } from './conversation.ts';
import { PIECES, sayAndClose, TEXT } from './http.ts';
import type { Under } from './sockets.ts';

/** How an upload says where it ends. */
export const UPLOADS = ['length', 'chunked', 'upgraded'] as const;
export type Upload = (typeof UPLOADS)[number];

/** One request. */
export interface UploadCase {
  readonly body: Upload;
  readonly under: Under;
  /** Of what the client sends; null for an untouched request. */
  readonly cut: { readonly offset: number; readonly how: Cut } | null;
}

/** What the server's handler saw of it. */
export interface UploadTold {
  /** It was called. */
  readonly begun: boolean;
  /** 'end' came, and `complete` is set. */
  readonly whole: boolean;
  readonly text: string;
  readonly error: Error | null;
  readonly hang: boolean;
  /** What the client wrote, and how many bytes of it were let through. */
  readonly sent: Buffer;
  readonly through: number;
}

const HANG = 10_000;

/** What a client writes, write by write. */
function messageOf(body: Upload): string[] {
  const head = 'POST /upload HTTP/1.1\r\nHost: localhost\r\n';
  switch (body) {
    case 'length':
      return [`${head}Connection: close\r\nContent-Length: ${TEXT.length}\r\n\r\n`, ...PIECES];
    case 'chunked':
      return [
        `${head}Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n`,
        ...PIECES.map((piece) => `${piece.length.toString(16)}\r\n${piece}\r\n`),
        '0\r\n\r\n',
      ];
    case 'upgraded':
      return [`${head}Connection: Upgrade\r\nUpgrade: counting\r\n\r\n`, ...PIECES];
  }
}

/** What the handler of the request at hand has seen so far. */
interface Handled {
  begun: boolean;
  whole: boolean;
  text: string;
  error: Error | null;
  /** Resolves when nothing more will be told. */
  closed: Promise<void>;
}

const nothing = (): Handled => ({
  begun: false,
  whole: false,
  text: '',
  error: null,
  closed: Promise.resolve(),
});

/** Requests over the sessions of one stage, one at a time. */
export class Uploads implements AsyncDisposable {
  readonly #stage: Stage;
  readonly #server: https.Server;
  #handled = nothing();

  constructor(stage: Stage) {
    this.#stage = stage;
    const { deadlines: _, ...options } = stage.accept;
    const server = https.createServer(options as https.ServerOptions);
    this.#server = strictServer(server);
    server.on('tlsClientError', (_error, socket) => socket.destroy());
    server.on('clientError', (_error, socket) => socket.destroy());
    server.on('request', (request, response) => {
      this.#read(request, () => request.complete);
      response.on('error', () => {
        // It is the request that is looked at.
      });
      request.on('end', () => response.end('thanks'));
    });
    server.on('upgrade', (_request: IncomingMessage, socket: Duplex, head: Buffer) => {
      socket.unshift(head);
      this.#read(socket, () => true);
      socket.on('end', () => socket.end());
      socket.write(
        'HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: counting\r\n\r\n',
      );
    });
  }

  #read(from: IncomingMessage | Duplex, complete: () => boolean): void {
    const handled = this.#handled;
    handled.begun = true;
    handled.closed = new Promise((resolve) => from.once('close', () => resolve()));
    from.on('data', (bytes: Buffer) => {
      handled.text += bytes.toString('latin1');
    });
    from.on('end', () => {
      handled.whole = complete();
    });
    from.on('error', (error: Error) => {
      handled.error ??= error;
    });
  }

  async listen(): Promise<void> {
    this.#server.listen(0, '127.0.0.1');
    await once(this.#server, 'listening');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await new Promise((resolve) => this.#server.close(resolve));
  }

  /** Sends once. */
  async upload(the: UploadCase): Promise<UploadTold> {
    const handled = nothing();
    this.#handled = handled;
    using wire = channel();
    const line = wire.forth;
    // Of a reset that comes before anybody is there.
    for (const end of wire.ends) end.on('error', () => {});
    if (the.cut !== null) line.cutAt(the.cut.offset, the.cut.how);
    let stream: TlsStream | null = null;
    const { transport: _, ...options } = this.#stage.connect;
    const speaking = (async () => {
      try {
        stream = await connect({ ...options, transport: wire.ends[0] });
        const pieces = messageOf(the.body);
        if (the.body === 'upgraded') {
          await sayAndClose(stream, pieces);
        } else {
          for (const piece of pieces) {
            await stream.write(piece);
            await turn();
          }
        }
        while ((await stream.read()) !== null);
        await stream.close();
      } catch {
        // Whether the server is to blame is seen at the server.
        stream?.abort();
        wire.ends[0].destroy();
      }
    })();
    const { over, tcp } = await this.#connect(the.under, wire.ends[1]);
    const hang =
      (await settled(over, HANG)) === 'hang' ||
      (await settled(handled.closed, HANG)) === 'hang' ||
      (await settled(speaking, HANG)) === 'hang';
    for (const end of wire.ends) end.destroy();
    tcp?.destroy();
    const { sent, passed } = line;
    const { begun, whole, text, error } = handled;
    return {
      ...{ begun, whole, text, error, hang },
      sent,
      through: passed,
    };
  }

  /** Gives the server its end. @returns when the server's own connection is over, and what leads to it. */
  async #connect(
    under: Under,
    end: Duplex,
  ): Promise<{ readonly over: Promise<void>; readonly tcp: net.Socket | null }> {
    // One connection after the other: the next one is ours.
    const over = new Promise<void>((resolve) => {
      this.#server.once('connection', (connection: Duplex) => {
        if (connection.destroyed) resolve();
        else connection.once('close', () => resolve());
      });
    });
    if (under === 'tap') {
      this.#server.emit('connection', end as tls.TLSSocket);
      return { over, tcp: null };
    }
    const { port } = this.#server.address() as net.AddressInfo;
    const tcp = net.connect({ port, host: '127.0.0.1', allowHalfOpen: true, noDelay: true });
    await once(tcp, 'connect');
    splice(tcp, end);
    return { over, tcp };
  }
}
