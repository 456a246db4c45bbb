/**
 * Cuts in HTTP responses, as Node's own `https` reads them on a drop-in socket: a body with a length, one
 * in chunks, one that ends with the connection.
 */
import { once } from 'node:events';
import https from 'node:https';
import net from 'node:net';
import { setImmediate as turn } from 'node:timers/promises';
import type tls from 'node:tls';
import { accept } from '../../src/stream/connect.ts';
import type { TlsStream } from '../../src/stream/tls-stream.ts';
import { secureSocket } from '../../src/strict/secure-socket.ts';
import { type Cut, channel } from '../../src/testing/index.ts';
import { settled, splice } from '../../test/support/splice.ts';
import type { Stage } from './conversation.ts';
import type { Under } from './sockets.ts';

/** How a body says where it ends (RFC 9112 section 6.3). */
export const BODIES = ['length', 'chunked', 'close-delimited'] as const;
export type Body = (typeof BODIES)[number];

/** One exchange. */
export interface HttpCase {
  readonly body: Body;
  readonly under: Under;
  /** Of what the server sends; null for an untouched exchange. */
  readonly cut: { readonly offset: number; readonly how: Cut } | null;
}

/** What came of it. */
export interface HttpTold {
  /** 'end' came, and `complete` is set. */
  readonly whole: boolean;
  readonly text: string;
  readonly error: Error | null;
  readonly hang: boolean;
  /** What the server wrote, and how many bytes of it were let through. */
  readonly sent: Buffer;
  readonly through: number;
}

export const PIECES = ['Count the ways. ', 'One, two, three, four, five, six, ', 'seven.'];
export const TEXT = PIECES.join('');
const HANG = 10_000;

/** What a server writes, write by write. */
function messageOf(body: Body): string[] {
  const head = 'HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\n';
  switch (body) {
    case 'length':
      return [`${head}Content-Length: ${TEXT.length}\r\n\r\n`, ...PIECES];
    case 'chunked':
      return [
        `${head}Transfer-Encoding: chunked\r\n\r\n`,
        ...PIECES.map((piece) => `${piece.length.toString(16)}\r\n${piece}\r\n`),
        '0\r\n\r\n',
      ];
    case 'close-delimited':
      return [`${head}\r\n`, ...PIECES];
  }
}

/** Says it piece by piece, the last one and close_notify in one go: the other one may leave once it is said. */
export async function sayAndClose(stream: TlsStream, pieces: readonly string[]): Promise<void> {
  for (const piece of pieces.slice(0, -1)) {
    await stream.write(piece);
    await turn();
  }
  const last = stream.write(pieces.at(-1) as string);
  await Promise.all([last, stream.shutdown({ wait: false })]);
}

/** Exchanges over the sessions of one stage. */
export class Exchanges implements AsyncDisposable {
  readonly #stage: Stage;
  readonly #relay = net.createServer({ allowHalfOpen: true, noDelay: true });

  constructor(stage: Stage) {
    this.#stage = stage;
  }

  async listen(): Promise<void> {
    this.#relay.listen(0, '127.0.0.1');
    await once(this.#relay, 'listening');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await new Promise((resolve) => this.#relay.close(resolve));
  }

  /** Asks once. */
  async exchange(the: HttpCase): Promise<HttpTold> {
    using wire = channel();
    const line = wire.back;
    // Of a reset that comes before anybody is there.
    for (const end of wire.ends) end.on('error', () => {});
    if (the.cut !== null) line.cutAt(the.cut.offset, the.cut.how);
    let stream: TlsStream | null = null;
    const serving = (async () => {
      try {
        stream = await accept(wire.ends[1], this.#stage.accept);
        let asked = '';
        while (!asked.includes('\r\n\r\n')) {
          const bytes = await stream.read();
          if (bytes === null) throw new Error('the client closed instead of asking');
          asked += Buffer.from(bytes).toString('latin1');
        }
        await sayAndClose(stream, messageOf(the.body));
        while ((await stream.read()) !== null);
        await stream.close();
      } catch {
        // Whether the client is to blame is seen at the client.
        stream?.abort();
        wire.ends[1].destroy();
      }
    })();
    const socket = await this.#socket(the.under, wire.ends[0]);
    const asked = await settled(ask(socket), HANG);
    const hang = asked === 'hang' || (await settled(serving, HANG)) === 'hang';
    for (const end of wire.ends) end.destroy();
    socket.destroy();
    const { sent, passed } = line;
    return {
      ...(asked === 'hang' ? { whole: false, text: '', error: null } : asked),
      hang,
      sent,
      through: passed,
    };
  }

  async #socket(
    under: Under,
    near: ReturnType<typeof channel>['ends'][number],
  ): Promise<tls.TLSSocket> {
    const { transport: _t, deadlines: _d, ...rest } = this.#stage.connect;
    const options = rest as tls.ConnectionOptions;
    if (under === 'tap') return secureSocket({ ...options, socket: near });
    const { port } = this.#relay.address() as net.AddressInfo;
    const arriving = once(this.#relay, 'connection');
    const socket = secureSocket({ ...options, host: '127.0.0.1', port });
    const [tcp] = (await arriving) as [net.Socket];
    splice(tcp, near);
    return socket;
  }
}

/** One request on this socket, by Node's client. */
function ask(socket: tls.TLSSocket): Promise<Pick<HttpTold, 'whole' | 'text' | 'error'>> {
  return new Promise((resolve) => {
    let text = '';
    let error: Error | null = null;
    let whole = false;
    let responding = false;
    const request = https.get({ createConnection: () => socket, host: 'localhost' });
    request.on('error', (cause) => {
      error ??= cause;
      // Otherwise the response's 'close' is the last that is told.
      if (!responding) resolve({ whole, text, error });
    });
    request.on('response', (response) => {
      responding = true;
      response.setEncoding('utf8');
      response.on('data', (piece: string) => {
        text += piece;
      });
      response.on('end', () => {
        whole = response.complete;
      });
      response.on('error', (cause) => {
        error ??= cause;
      });
      response.on('close', () => resolve({ whole, text, error }));
    });
  });
}
