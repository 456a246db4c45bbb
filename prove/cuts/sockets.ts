/**
 * Cuts under the drop-in sockets, on the kernel's socket and over a tap, whoever reads them and however
 * the bytes come.
 *
 * Theory of operation. The victim is a plain program at a TLS socket of `secureSocket`, or of a server
 * that `strictServer` has made strict. It says a few bytes, and reads until its socket is closed. Its peer
 * is a stream of this package at the far end of a channel, where the cutting is done. For the kernel's
 * socket the near end of the channel is spliced to a TCP connection over loopback: FIN becomes FIN, a
 * reset RST. A write of loopback is readable at once, so whether segments arrive apart or as one is
 * decided by whether they are written in different turns.
 */
import { once } from 'node:events';
import net from 'node:net';
import { type Duplex, Writable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { setImmediate as turn } from 'node:timers/promises';
import tls from 'node:tls';
import { strictServer } from '../../src/adapters/strict-server.ts';
import { accept, connect } from '../../src/stream/connect.ts';
import { secureSocket, socketClosure } from '../../src/stream/secure-socket.ts';
import type { TlsStream } from '../../src/stream/tls-stream.ts';
import { byteByByte, type ChannelOptions, type Cut, channel } from '../../src/testing/index.ts';
import { framesOf, lineOf, otherSide, type Side, type Stage } from './conversation.ts';
import type { Random } from './random.ts';
import { settled, splice } from './splice.ts';

/** How the victim's program reads. */
export const READERS = ['flowing', 'pausing', 'slow', 'late', 'iterating', 'readable'] as const;
export type Reader = (typeof READERS)[number];

/** How the bytes come: as they are written, byte by byte, each a turn, or all at once in the end. */
export const ARRIVALS = ['as-written', 'byte-by-byte', 'coalesced'] as const;
export type Arrival = (typeof ARRIVALS)[number];

/** What the victim's socket sits on. */
export const UNDERS = ['kernel', 'tap'] as const;
export type Under = (typeof UNDERS)[number];

/** One conversation with a drop-in socket. */
export interface SocketCase {
  readonly victim: Side;
  readonly under: Under;
  readonly reader: Reader;
  readonly arrival: Arrival;
  /** Of what the peer sends; null for an untouched conversation. */
  readonly cut: { readonly offset: number; readonly how: Cut } | null;
}

/** What came of it. */
export interface SocketTold {
  readonly bytes: Buffer;
  /** 'end' came on an established socket, or its closure says that the peer closed. */
  readonly clean: boolean;
  readonly error: (Error & { code?: string }) | null;
  readonly secured: boolean;
  /** Whether all that the peer wrote, its close_notify the last of it, was let through. */
  readonly whole: boolean;
  readonly hang: boolean;
  /** How many bytes the peer wrote. */
  readonly written: number;
}

/** How long a conversation may take, in milliseconds, before it counts as hung. */
const HANG = 10_000;

const REQUEST = Buffer.from('what?');

/** Listens for the TCP side of the conversations of one stage. */
export class Sockets implements AsyncDisposable {
  readonly #stage: Stage;
  /** What the victims of TCP connect to. */
  readonly #relay = net.createServer({ allowHalfOpen: true, noDelay: true });
  /** Victims themselves. */
  readonly #server: tls.Server;

  constructor(stage: Stage) {
    this.#stage = stage;
    const { deadlines: _, ...options } = stage.accept;
    this.#server = strictServer(tls.createServer(options as tls.TlsOptions));
    // A handshake that fails is told to the server, not to a socket.
    this.#server.on('tlsClientError', (_error, socket) => socket.destroy());
  }

  async listen(): Promise<void> {
    for (const server of [this.#relay, this.#server]) {
      server.listen(0, '127.0.0.1');
      await once(server, 'listening');
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const server of [this.#relay, this.#server]) {
      await new Promise((resolve) => server.close(resolve));
    }
  }

  /** Holds one conversation. */
  async converse(the: SocketCase, random: Random): Promise<SocketTold> {
    const bytewise = the.arrival === 'byte-by-byte';
    const options: ChannelOptions = bytewise ? { segments: byteByByte, delay: 'turn' } : {};
    using wire = channel(options);
    const from = otherSide(the.victim);
    const line = lineOf(wire, from);
    // Of a reset that comes before anybody is there.
    for (const end of wire.ends) end.on('error', () => {});
    if (the.cut !== null) line.cutAt(the.cut.offset, the.cut.how);
    const [near, far] = the.victim === 'client' ? wire.ends : [wire.ends[1], wire.ends[0]];
    const peer = this.#peer(the, far, line);
    const victim = { socket: null as tls.TLSSocket | null, seen: null as Promise<Watched> | null };
    // Within the very call that hands the socket out: it may fail right behind.
    await this.#victim(the, near, (socket) => {
      victim.socket = socket;
      victim.seen = program(socket, the, random, peer.written);
    });
    const opened = victim.socket;
    const result = victim.seen === null ? null : await settled(victim.seen, HANG);
    const hang = result === 'hang' || (await settled(peer.over, HANG)) === 'hang';
    // What a socket that nobody got hold of leaves behind.
    for (const end of wire.ends) end.destroy();
    const { sent, passed } = line;
    const last = framesOf(sent).at(-1);
    const whole = peer.closed() && last?.to === sent.length && passed >= sent.length;
    const seen =
      result === null || result === 'hang'
        ? { bytes: Buffer.alloc(0), ended: false, error: null, secured: false }
        : result;
    const received = opened === null ? null : (socketClosure(opened)?.receive ?? null);
    return {
      bytes: seen.bytes,
      clean: (seen.ended && seen.secured) || received === 'closed',
      error: seen.error,
      secured: seen.secured,
      whole,
      hang,
      written: sent.length,
    };
  }

  /** The peer's part: hears the request, says it all, closes, and reads to the end. */
  #peer(the: SocketCase, far: Duplex, line: ReturnType<typeof lineOf>) {
    const { connect: client, accept: server, says } = this.#stage;
    const role = otherSide(the.victim);
    let stream: TlsStream | null = null;
    let tell: () => void = () => {};
    const written = new Promise<void>((resolve) => {
      tell = resolve;
    });
    const over = (async () => {
      try {
        const { transport: _, ...options } = client;
        stream =
          role === 'client'
            ? await connect({ ...options, transport: far })
            : await accept(far, server);
        for (let have = 0; have < REQUEST.length; ) {
          const bytes = await stream.read();
          if (bytes === null) throw new Error('the victim closed instead of asking');
          have += bytes.length;
        }
        if (the.arrival === 'coalesced') line.hold();
        for (const words of says[role]) {
          await stream.write(words);
          await turn();
        }
        await stream.shutdown({ wait: false });
        line.flow();
        tell();
        while ((await stream.read()) !== null);
        await stream.close();
      } catch {
        // Whether the victim is to blame is seen at the victim.
        stream?.abort();
        far.destroy();
        tell();
      }
    })();
    return { written, over, closed: () => stream !== null && stream.closure.sent !== null };
  }

  /** Hands the victim's socket to `use`, unless its handshake does not get so far. */
  async #victim(
    { victim, under }: SocketCase,
    near: Duplex,
    use: (socket: tls.TLSSocket) => void,
  ): Promise<void> {
    const { port } = this.#relay.address() as net.AddressInfo;
    if (victim === 'client') {
      const { transport: _t, deadlines: _d, ...options } = this.#stage.connect;
      if (under === 'tap') {
        use(secureSocket({ ...(options as tls.ConnectionOptions), socket: near }));
        return;
      }
      const arriving = once(this.#relay, 'connection');
      use(secureSocket({ ...(options as tls.ConnectionOptions), host: '127.0.0.1', port }));
      const [tcp] = (await arriving) as [net.Socket];
      splice(tcp, near);
      return;
    }
    let tellGone: () => void = () => {};
    const gone = new Promise<void>((resolve) => {
      tellGone = resolve;
    });
    let arrived: (socket: tls.TLSSocket) => void = () => {};
    // A connection of the conversation before may still be about.
    let isOurs = (_socket: tls.TLSSocket) => under === 'tap';
    const secure = new Promise<void>((resolve) => {
      arrived = (socket) => {
        if (!isOurs(socket)) return;
        use(socket);
        resolve();
      };
    });
    this.#server.on('secureConnection', arrived);
    if (under === 'tap') {
      this.#server.emit('connection', near);
      near.once('close', () => tellGone());
    } else {
      const { port } = this.#server.address() as net.AddressInfo;
      const tcp = net.connect({ port, host: '127.0.0.1', allowHalfOpen: true, noDelay: true });
      await once(tcp, 'connect');
      isOurs = ({ remotePort }) => remotePort === tcp.localPort;
      splice(tcp, near);
      tcp.once('close', () => tellGone());
    }
    await settled(Promise.race([secure, gone]), HANG);
    this.#server.off('secureConnection', arrived);
  }
}

interface Watched {
  readonly bytes: Buffer;
  readonly ended: boolean;
  readonly error: (Error & { code?: string }) | null;
  readonly secured: boolean;
}

/** The victim's program: asks, and reads in its way until the socket is closed. */
async function program(
  socket: tls.TLSSocket,
  the: SocketCase,
  random: Random,
  written: Promise<void>,
): Promise<Watched> {
  const pieces: Buffer[] = [];
  let ended = false;
  let secured = the.victim === 'server';
  let error: (Error & { code?: string }) | null = null;
  socket.on('end', () => {
    ended = true;
    // Over a Duplex that may be half-open Node leaves this to the program.
    socket.end();
  });
  socket.on('error', (cause) => {
    error = cause;
  });
  socket.once('secureConnect', () => {
    secured = true;
  });
  const closed = new Promise<void>((resolve) => socket.once('close', () => resolve()));
  const take = (bytes: Buffer) => void pieces.push(bytes);
  const { reader } = the;
  let reading: Promise<void> = closed;
  socket.write(REQUEST);
  if (reader === 'late') {
    await Promise.race([written, closed]);
    for (let i = random.below(4); i > 0; i--) await turn();
  }
  switch (reader) {
    case 'flowing':
    case 'late':
      socket.on('data', take);
      break;
    case 'pausing':
      socket.on('data', (bytes: Buffer) => {
        take(bytes);
        socket.pause();
        if (random.below(2) === 0) setImmediate(() => socket.resume());
        else setTimeout(() => socket.resume(), random.below(3));
      });
      break;
    case 'readable':
      socket.on('readable', () => {
        for (let bytes = socket.read(); bytes !== null; bytes = socket.read()) take(bytes);
      });
      break;
    case 'slow':
      reading = pipeline(socket, slowSink(take, random)).catch(() => {
        // Told by 'error'.
      });
      break;
    case 'iterating':
      reading = (async () => {
        try {
          for await (const bytes of socket) {
            take(bytes as Buffer);
            if (random.below(3) === 0) await turn();
          }
        } catch {
          // Told by 'error'.
        }
      })();
  }
  await Promise.all([closed, reading]);
  return { bytes: Buffer.concat(pieces), ended, error, secured };
}

function slowSink(take: (bytes: Buffer) => void, random: Random): Writable {
  return new Writable({
    highWaterMark: 4_096,
    write(bytes: Buffer, _encoding, done) {
      take(bytes);
      if (random.below(2) === 0) done();
      else setImmediate(done);
    },
  });
}
