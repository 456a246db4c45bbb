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
 *
 * With KeyUpdate the peer is OpenSSL instead (peers/keyupdate.cpp), spliced to the far end; and the
 * victim's program says a last word once it has heard all, which is what carries its own KeyUpdate.
 */
import { once } from 'node:events';
import net from 'node:net';
import { type Duplex, Writable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { setImmediate as turn } from 'node:timers/promises';
import tls from 'node:tls';
import { accept, connect } from '../../src/stream/connect.ts';
import type { TlsStream } from '../../src/stream/tls-stream.ts';
import { secureSocket, socketClosure } from '../../src/strict/secure-socket.ts';
import { strictServer } from '../../src/strict/strict-server.ts';
import { byteByByte, type ChannelOptions, type Cut, channel } from '../../src/testing/index.ts';
import type { Random } from '../../test/support/random.ts';
import { settled, splice } from '../../test/support/splice.ts';
import type { KeyUpdatePeer, PeerReport } from '../peers/openssl.ts';
import { framesOf, lineOf, otherSide, type Side, type Stage, total } from './conversation.ts';

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
  /**
   * 'end' came on an established socket, or its closure says that the peer closed and nobody was told
   * otherwise: a reset behind close_notify is an error, and takes what was not yet read.
   */
  readonly clean: boolean;
  /** Its closure says that the peer closed. */
  readonly closed: boolean;
  readonly error: (Error & { code?: string }) | null;
  readonly secured: boolean;
  /** Whether all that the peer wrote, its close_notify the last of it, was let through. */
  readonly whole: boolean;
  readonly hang: boolean;
  /** What the peer wrote, and how many bytes of it were let through. */
  readonly sent: Buffer;
  readonly passed: number;
  /** What the peer saw, where it is OpenSSL. */
  readonly report: PeerReport | null;
}

/** How long a conversation may take, in milliseconds, before it counts as hung. */
const HANG = 10_000;

/** What the victim says at first, and what it says in the end to a peer that sent KeyUpdate. */
const REQUEST = Buffer.from('what?');
const LAST_WORD = Buffer.from('That is all that I wanted to know of it.');

/** The peer's part in a conversation. */
interface Playing {
  /** Resolves when it has said all; at once, if that cannot be told. */
  readonly written: Promise<void>;
  /** Resolves when it is over, and does not reject. */
  readonly over: Promise<void>;
  /** Then: whether it sent close_notify, as the last of what came to the line. */
  readonly closed: () => boolean;
  readonly report: () => PeerReport | null;
}

/** Listens for the TCP side of the conversations of one stage. */
export class Sockets implements AsyncDisposable {
  readonly #stage: Stage;
  /** What the victims of TCP connect to. */
  readonly #relay = net.createServer({ allowHalfOpen: true, noDelay: true });
  /** Victims themselves. */
  readonly #server: tls.Server;
  readonly #keyUpdates: KeyUpdatePeer | null;
  /** Our end of the victim's connection. */
  #tcp: net.Socket | null = null;
  /** Resolves when the connection of a victim that is a server is over. */
  #over: Promise<void> = Promise.resolve();

  /** @param keyUpdates the peer, if it is to be OpenSSL; its sessions are then in the stage. */
  constructor(stage: Stage, keyUpdates: KeyUpdatePeer | null = null) {
    this.#stage = stage;
    this.#keyUpdates = keyUpdates;
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

  /** Holds one conversation. `look` is shown the victim's socket. */
  async converse(
    the: SocketCase,
    random: Random,
    look: (socket: tls.TLSSocket) => void = () => {},
  ): Promise<SocketTold> {
    const bytewise = the.arrival === 'byte-by-byte';
    const options: ChannelOptions = bytewise ? { segments: byteByByte, delay: 'turn' } : {};
    using wire = channel(options);
    const from = otherSide(the.victim);
    const line = lineOf(wire, from);
    // Of a reset that comes before anybody is there.
    for (const end of wire.ends) end.on('error', () => {});
    if (the.cut !== null) line.cutAt(the.cut.offset, the.cut.how);
    const [near, far] = the.victim === 'client' ? wire.ends : [wire.ends[1], wire.ends[0]];
    const peer =
      this.#keyUpdates === null
        ? this.#peer(the, far, line)
        : await this.#foreign(this.#keyUpdates, the, far, line);
    const lastWord =
      this.#keyUpdates === null ? null : { after: total(this.#stage.says[from]), bytes: LAST_WORD };
    const victim = { socket: null as tls.TLSSocket | null, seen: null as Promise<Watched> | null };
    // Within the very call that hands the socket out: it may fail right behind.
    await this.#victim(the, near, (socket) => {
      victim.socket = socket;
      look(socket);
      victim.seen = program(socket, the, random, peer.written, lastWord);
    });
    const opened = victim.socket;
    const result = victim.seen === null ? null : await settled(victim.seen, HANG);
    let hang = result === 'hang' || (await settled(peer.over, HANG)) === 'hang';
    // What a socket that nobody got hold of leaves behind, and an end that was destroyed before its FIN.
    for (const end of wire.ends) end.destroy();
    this.#tcp?.destroy();
    this.#tcp = null;
    if ((await settled(this.#over, HANG)) === 'hang') hang = true;
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
      clean: (seen.ended && seen.secured) || (received === 'closed' && seen.error === null),
      closed: received === 'closed',
      error: seen.error,
      secured: seen.secured,
      whole,
      hang,
      sent,
      passed,
      report: peer.report(),
    };
  }

  /** The peer's part where it is OpenSSL: says it all, hears, closes, and reads to the end. */
  async #foreign(
    peer: KeyUpdatePeer,
    the: SocketCase,
    far: Duplex,
    line: ReturnType<typeof lineOf>,
  ): Promise<Playing> {
    const role = otherSide(the.victim);
    // The servers of the two victims have different keys for their tickets.
    const slot = the.victim === 'server' ? 2 : 3;
    const { tcp, report } = await peer.meet({ role, closes: 'first', slot });
    splice(tcp, far);
    let told: PeerReport | null = null;
    // What it left open would hold the server below.
    const closed = new Promise<void>((resolve) => tcp.once('close', () => resolve()));
    const over = (async () => {
      const given = await report();
      if (given !== 'hang') told = given;
      await closed;
    })();
    return {
      written: Promise.resolve(),
      over,
      // A reset destroys bytes that are on their way through the kernel.
      closed: () => told?.closed === true && told.written === line.sent.length,
      report: () => told,
    };
  }

  /** The peer's part: hears the request, says it all, closes, and reads to the end. */
  #peer(the: SocketCase, far: Duplex, line: ReturnType<typeof lineOf>): Playing {
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
    const closed = () => stream !== null && stream.closure.sent !== null;
    return { written, over, closed, report: () => null };
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
      this.#tcp = tcp;
      splice(tcp, near);
      return;
    }
    // One connection after the other, each waited for: the next one is ours.
    let arrived: (socket: tls.TLSSocket) => void = () => {};
    const secure = new Promise<void>((resolve) => {
      arrived = (socket) => {
        use(socket);
        resolve();
      };
    });
    this.#server.once('secureConnection', arrived);
    this.#over = new Promise((resolve) => {
      this.#server.once('connection', (connection: Duplex) => {
        if (connection.destroyed) resolve();
        else connection.once('close', () => resolve());
      });
    });
    if (under === 'tap') {
      this.#server.emit('connection', near);
    } else {
      const { port } = this.#server.address() as net.AddressInfo;
      const tcp = net.connect({ port, host: '127.0.0.1', allowHalfOpen: true, noDelay: true });
      await once(tcp, 'connect');
      this.#tcp = tcp;
      splice(tcp, near);
    }
    await settled(Promise.race([secure, this.#over]), HANG);
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
  lastWord: { readonly after: number; readonly bytes: Buffer } | null,
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
  let have = 0;
  const take = (bytes: Buffer) => {
    pieces.push(bytes);
    const before = have;
    have += bytes.length;
    if (lastWord !== null && before < lastWord.after && have >= lastWord.after) {
      socket.write(lastWord.bytes);
    }
  };
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
