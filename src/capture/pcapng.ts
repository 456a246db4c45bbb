/**
 * A connection as a capture file: pass a `PcapngRecorder` as `record` to `connect` or `accept`, and
 * Wireshark opens what it made, decrypted at once.
 *
 * Theory of operation. A stream sees TLS, and of TCP only that bytes came, and that they ended. A
 * capture wants packets. So the packets are made up: IP and TCP headers around the bytes that
 * really crossed, a handshake in front, and at the end FIN or RST as the transport told it. What was
 * not seen is not made up: bytes that were never shown leave a packet that says how many they were
 * and holds none of them, and a side whose end nobody saw has none.
 *
 * The one thing that a stream does not tell is what comes while the transport is being closed: it
 * discards that. Shown the transport, the recorder reads along there too. Without that, a peer whose
 * close_notify came too late to be looked at would stand in the file as one that sent none.
 *
 * The secrets of the connection are in the file (a Decryption Secrets Block): whoever has it can read
 * everything.
 *
 * The format: draft-ietf-opsawg-pcapng; IPv4: RFC 791; IPv6: RFC 8200; TCP: RFC 9293.
 */
import type { Duplex } from 'node:stream';
import type { Direction, Observation, Observer } from '../transcript/observer.ts';
import { type Endpoint, type Ends, endpointsOf, TCP, tcpPacket } from './pcapng-packet.ts';

/** Options of a recorder. */
export interface PcapngOptions {
  /**
   * The transport that TLS runs over, where the caller has it: its addresses then stand in the file,
   * and its end is watched to the last byte. Else the addresses are 192.0.2.1 and 192.0.2.2, which
   * are nobody's (RFC 5737).
   */
  readonly transport?: Duplex | undefined;
  /**
   * Takes each piece of the file as it is made, to write it somewhere; nothing is kept then. Without
   * it all is kept for `bytes()`, up to `limit`.
   */
  readonly sink?: ((bytes: Uint8Array) => void) | undefined;
  /** Bytes that are kept without a sink; 64 MiB by default. What comes later is counted, not kept. */
  readonly limit?: number | undefined;
  /** Whether the secrets go into the file; true by default. */
  readonly secrets?: boolean | undefined;
}

/** Who sent a packet: this party, or its peer. */
type From = 'local' | 'peer';

/** What is to be written, before there are addresses and numbers. */
type Event =
  | { readonly type: 'open'; readonly at: bigint; readonly from: From }
  | { readonly type: 'data'; readonly at: bigint; readonly from: From; readonly bytes: Uint8Array }
  /** Bytes that crossed and were not shown. */
  | { readonly type: 'unseen'; readonly at: bigint; readonly from: From; readonly length: number }
  | {
      readonly type: 'fin' | 'rst';
      readonly at: bigint;
      readonly from: From;
      readonly comment: string;
    };

const DEFAULT_LIMIT = 64 << 20;

/** No handshake is larger: a flood before its end does not wait for keys. */
const MOST_HELD = 4 << 20;

/** What a packet costs beside its bytes, about. */
const PACKET_COST = 128;

/** LINKTYPE_RAW: the packet begins with its IP header. */
const LINKTYPE_RAW = 101;

const BLOCK = {
  section: 0x0a0d0d0a,
  interface: 1,
  statistics: 5,
  packet: 6,
  secrets: 10,
} as const;

/** 'TLSK': a key log (RFC 9850). */
const TLS_KEY_LOG = 0x544c534b;

const MADE_UP =
  'The IP and TCP headers of this file are made up around the bytes that a TLS stream really ' +
  'sent and received; times are those of the stream.';

/** Makes a pcapng file of one connection. */
export class PcapngRecorder implements Observer {
  readonly #sink: ((bytes: Uint8Array) => void) | null;
  readonly #limit: number;
  readonly #transport: Duplex | null;
  readonly onSecret?: (line: string) => void;
  readonly #secrets: string[] = [];
  readonly #events: Event[] = [];
  #kept = 0;
  #dropped = 0;
  /** Where each side's packets that were not kept are told of. */
  readonly #drops: Record<From, number | null> = { local: null, peer: null };
  #ends: Ends | null = null;
  #renderer: Renderer | null = null;
  /** What waits for the secrets that stand in front of it, on its way to the sink. */
  #held: Event[] = [];
  #heldBytes = 0;
  #established = false;

  /** Nanoseconds since 1970 at the stream's time 0. */
  #origin: bigint | null = null;
  #last = 0n;
  #opened = false;
  #connectedAt: bigint | null = null;
  readonly #over: Record<From, boolean> = { local: false, peer: false };
  /** What the transport had delivered before TLS began on it, and what was shown of the rest. */
  readonly #readBefore: number;
  #shown = 0;
  #left = false;

  /** @throws {RangeError} for a limit that is not a whole number of at least 0. */
  constructor(options: PcapngOptions = {}) {
    const { transport, sink, limit = DEFAULT_LIMIT, secrets = true } = options;
    if (!Number.isInteger(limit) || limit < 0) {
      throw new RangeError('limit must be a whole number, at least 0');
    }
    this.#sink = sink ?? null;
    this.#limit = limit;
    this.#transport = transport ?? null;
    this.#readBefore = transport === undefined ? 0 : delivered(transport);
    if (secrets) this.onSecret = (line) => this.#onSecret(line);
  }

  /** Packets that were not kept, because there were more bytes than `limit`. */
  get dropped(): number {
    return this.#dropped;
  }

  /** The file so far. Empty with a sink: it has everything. */
  bytes(): Uint8Array {
    if (this.#sink !== null) return new Uint8Array(0);
    const parts = [header()];
    // First of all, so that no reader has to come back for packets that it could not decrypt.
    if (this.#secrets.length > 0) parts.push(secretsBlock(this.#secrets));
    const renderer = new Renderer(this.#ends ?? endpointsOf(null));
    for (const event of this.#events) parts.push(...renderer.render(event));
    if (this.#dropped > 0)
      parts.push(statisticsBlock(this.#last, this.#events.length, this.#dropped));
    return Buffer.concat(parts);
  }

  observe(observation: Observation, at: number): void {
    const time = this.#time(at);
    switch (observation.type) {
      case 'phase':
        if (observation.name === 'connect') this.#connectedAt = time;
        if (observation.name === 'handshake') {
          this.#established = true;
          this.#release();
        }
        return;
      case 'transport-eof':
        this.#end('fin', 'peer', time, '');
        return;
      case 'transport-reset':
        this.#end('rst', 'peer', time, `the transport said ${observation.code}`);
        return;
      case 'transport-closed':
        if (observation.how === 'end') {
          this.#watchGoodbye(at);
          this.#end('fin', 'local', time, '');
        } else {
          const comment =
            'the socket was destroyed: the kernel sends FIN, or RST where bytes were unread, and does not say which';
          this.#end('fin', 'local', time, comment);
        }
        return;
      case 'call':
        // What crosses from here on belongs to the transport's next user.
        if (observation.name === 'unwrap') this.#left = true;
        return;
      case 'trailing':
        if (!this.#left) this.#unseen(observation.bytes, time);
        return;
      default:
    }
  }

  /** Every byte of TLS, from the stream. */
  onBytes(direction: Direction, bytes: Uint8Array, at: number): void {
    if (direction === 'received') this.#shown += bytes.length;
    this.#data(direction === 'sent' ? 'local' : 'peer', bytes, this.#time(at));
  }

  #onSecret(line: string): void {
    const text = line.endsWith('\n') ? line : `${line}\n`;
    if (this.#sink === null) this.#secrets.push(text);
    else {
      this.#begin();
      this.#sink(secretsBlock([text]));
    }
  }

  /**
   * From FIN on the stream reads and discards, and tells nobody. It has begun to let go of the
   * transport when it tells of FIN, so another reader takes nothing away from it.
   */
  #watchGoodbye(at: number): void {
    const transport = this.#transport;
    if (transport === null || transport.destroyed) return;
    const since = performance.now() - at;
    const now = () => this.#time(performance.now() - since);
    // What was read from the transport and never fed to TLS: how much is known, what it was is not.
    this.#unseen(delivered(transport) - this.#readBefore - this.#shown, this.#time(at));
    if (transport.readableEnded) return;
    const onData = (bytes: Uint8Array) => this.#data('peer', bytes, now());
    const onEnd = () => this.#end('fin', 'peer', now(), '');
    const onClose = () => {
      const { code } = (transport.errored ?? {}) as { code?: string };
      if (code === 'ECONNRESET') this.#end('rst', 'peer', now(), `the transport said ${code}`);
      transport.off('data', onData);
      transport.off('end', onEnd);
      transport.off('close', onClose);
    };
    transport.on('data', onData);
    transport.on('end', onEnd);
    transport.on('close', onClose);
  }

  #unseen(length: number, at: bigint): void {
    if (length <= 0 || this.#over.peer) return;
    this.#shown += length;
    this.#open('peer', at);
    this.#add({ type: 'unseen', from: 'peer', length, at });
  }

  #data(from: From, bytes: Uint8Array, at: bigint): void {
    if (bytes.length === 0 || this.#over[from]) return;
    this.#open(from, at);
    // A copy: whose memory it is, and what becomes of it, is for the transport to say.
    this.#add({ type: 'data', from, bytes: Uint8Array.from(bytes), at });
  }

  #end(type: 'fin' | 'rst', from: From, at: bigint, comment: string): void {
    if (this.#over[from]) return;
    this.#over[from] = true;
    // After RST neither side sends any more.
    if (type === 'rst') this.#over.local = true;
    this.#open('local', at);
    this.#add({ type, from, at, comment });
  }

  /** @param first who sent the first bytes: in TLS that is the client. */
  #open(first: From, at: bigint): void {
    if (this.#opened) return;
    this.#opened = true;
    // Now: a socket that is closed has forgotten its addresses.
    this.#ends = endpointsOf(this.#transport);
    this.#add({ type: 'open', from: first, at: this.#connectedAt ?? at });
  }

  #add(event: Event): void {
    if (this.#sink !== null) {
      this.#hold(event);
      return;
    }
    const traffic = event.type === 'data' || event.type === 'unseen';
    const size = PACKET_COST + (event.type === 'data' ? event.bytes.length : 0);
    // How the connection began and ended is kept whatever came between.
    if (traffic && (this.#dropped > 0 || this.#kept + size > this.#limit)) {
      this.#drop(event);
      return;
    }
    this.#kept += size;
    this.#events.push(event);
  }

  /**
   * Wireshark asks for the handshake keys of both sides when it sees the ServerHello, and a client
   * makes its own known only at the end of the handshake: until then everything waits. Later secrets,
   * those of a renegotiation, come within the call that feeds the engine.
   */
  #hold(event: Event): void {
    this.#held.push(event);
    this.#heldBytes += event.type === 'data' ? event.bytes.length : 0;
    const over = event.type === 'fin' || event.type === 'rst';
    if (over || this.#heldBytes > MOST_HELD) this.#release();
    else if (this.#established) {
      if (event.from === 'peer') process.nextTick(() => this.#release());
      else this.#release();
    }
  }

  #release(): void {
    const held = this.#held;
    this.#held = [];
    this.#heldBytes = 0;
    for (const event of held) {
      for (const block of this.#begin().render(event)) this.#sink?.(block);
    }
  }

  /** One entry for each side tells of all that was not kept: the numbers of FIN still fit then. */
  #drop(event: Extract<Event, { type: 'data' | 'unseen' }>): void {
    this.#dropped++;
    const length = event.type === 'data' ? event.bytes.length : event.length;
    const index = this.#drops[event.from];
    const earlier = index === null ? undefined : this.#events[index];
    if (index !== null && earlier?.type === 'unseen') {
      this.#events[index] = { ...earlier, length: earlier.length + length };
      return;
    }
    this.#drops[event.from] = this.#events.length;
    this.#events.push({ type: 'unseen', at: event.at, from: event.from, length });
  }

  #begin(): Renderer {
    if (this.#renderer === null) {
      this.#sink?.(header());
      this.#renderer = new Renderer(this.#ends ?? endpointsOf(this.#transport));
    }
    return this.#renderer;
  }

  /** On the calendar's clock; never earlier than what came before. */
  #time(at: number): bigint {
    this.#origin ??= nanoseconds(performance.timeOrigin + performance.now() - at);
    const time = this.#origin + nanoseconds(at);
    if (time > this.#last) this.#last = time;
    return this.#last;
  }
}

/** Bytes that a transport has handed to whoever reads it. Not all transports count. */
function delivered(transport: Duplex): number {
  const { bytesRead } = transport as { bytesRead?: unknown };
  return typeof bytesRead === 'number' ? bytesRead - transport.readableLength : 0;
}

/** Whole microseconds first: a double has no room for nanoseconds since 1970. */
const nanoseconds = (ms: number): bigint => BigInt(Math.round(ms * 1000)) * 1000n;

/** What one side has sent, in TCP's numbers. */
interface Side {
  readonly endpoint: Endpoint;
  /** The number of the next byte. */
  next: number;
  /** Up to where the other side has acknowledged. */
  acked: number;
}

/** The least window is never full with this much on its way. */
const MOST_UNACKNOWLEDGED = 1 << 18;

/** Makes packets of events. */
class Renderer {
  readonly #sides: Record<From, Side>;
  #packets = 0;

  constructor({ local, remote }: Ends) {
    this.#sides = {
      local: { endpoint: local, next: 1_000, acked: 0 },
      peer: { endpoint: remote, next: 5_000, acked: 0 },
    };
  }

  render(event: Event): Uint8Array[] {
    switch (event.type) {
      case 'open': {
        const server = other(event.from);
        this.#placeholderPorts(event.from);
        return [
          this.#packet(event.from, TCP.syn, event.at, { comment: MADE_UP }),
          this.#packet(server, TCP.syn | TCP.ack, event.at),
          this.#packet(event.from, TCP.ack, event.at),
        ];
      }
      case 'data':
      case 'unseen':
        return this.#segments(event);
      case 'fin':
        return [
          this.#packet(event.from, TCP.fin | TCP.ack, event.at, { comment: event.comment }),
          this.#packet(other(event.from), TCP.ack, event.at),
        ];
      case 'rst':
        return [this.#packet(event.from, TCP.rst | TCP.ack, event.at, { comment: event.comment })];
    }
  }

  /** Where no address is known, the server at least stands on TLS's usual port. */
  #placeholderPorts(client: From): void {
    for (const from of ['local', 'peer'] as const) {
      const side = this.#sides[from];
      if (side.endpoint.port !== 0) continue;
      const port = from === client ? 49_152 : 443;
      this.#sides[from] = { ...side, endpoint: { ...side.endpoint, port } };
    }
  }

  #segments(event: Extract<Event, { type: 'data' | 'unseen' }>): Uint8Array[] {
    if (event.type === 'unseen') {
      const size = Math.min(this.#sides[event.from].endpoint.most, event.length);
      const packet = this.#packet(event.from, TCP.psh | TCP.ack, event.at, { payload: null, size });
      // However much it was: one packet says so, and the numbers of the next show the rest.
      const side = this.#sides[event.from];
      side.next = (side.next + event.length - size) >>> 0;
      return [packet];
    }
    const blocks: Uint8Array[] = [];
    const most = this.#sides[event.from].endpoint.most;
    for (let at = 0; at < event.bytes.length; at += most) {
      const payload = event.bytes.subarray(at, at + most);
      blocks.push(
        this.#packet(event.from, TCP.psh | TCP.ack, event.at, { payload, size: payload.length }),
      );
      const side = this.#sides[event.from];
      if (distance(side.acked, side.next) > MOST_UNACKNOWLEDGED) {
        blocks.push(this.#packet(other(event.from), TCP.ack, event.at));
      }
    }
    return blocks;
  }

  #packet(
    from: From,
    flags: number,
    at: bigint,
    { payload = null, size = 0, comment = '' }: PacketOptions = {},
  ): Uint8Array {
    const side = this.#sides[from];
    const peer = this.#sides[other(from)];
    const acks = (flags & TCP.ack) !== 0;
    if (acks) peer.acked = peer.next;
    const packet = tcpPacket({
      from: side.endpoint,
      to: peer.endpoint,
      id: this.#packets++,
      sequence: side.next,
      acknowledged: acks ? peer.next : 0,
      flags,
      payload,
      size,
    });
    const takesNumber = (flags & (TCP.syn | TCP.fin)) !== 0 ? 1 : 0;
    side.next = (side.next + size + takesNumber) >>> 0;
    // What was not seen stands as a packet of which only the headers were captured.
    return packetBlock(packet, packet.length + (payload === null ? size : 0), at, comment);
  }
}

interface PacketOptions {
  readonly payload?: Uint8Array | null;
  readonly size?: number;
  readonly comment?: string;
}

const other = (from: From): From => (from === 'local' ? 'peer' : 'local');

/** From one sequence number to a later one. */
const distance = (from: number, to: number): number => (to - from) >>> 0;

// ---- blocks

/** A block: type, length, body padded to 32 bits, the length again. */
function block(type: number, ...parts: readonly Uint8Array[]): Uint8Array {
  const body = Buffer.concat(parts);
  const length = 12 + padded(body.length);
  const bytes = Buffer.alloc(length);
  bytes.writeUInt32LE(type, 0);
  bytes.writeUInt32LE(length, 4);
  bytes.set(body, 8);
  bytes.writeUInt32LE(length, length - 4);
  return bytes;
}

const padded = (length: number): number => (length + 3) & ~3;

function uint32s(...values: readonly number[]): Uint8Array {
  const bytes = Buffer.alloc(4 * values.length);
  for (const [i, value] of values.entries()) bytes.writeUInt32LE(value >>> 0, 4 * i);
  return bytes;
}

/** An option of a block: code, length, value padded to 32 bits. */
function option(code: number, value: Uint8Array): Uint8Array {
  const bytes = Buffer.alloc(4 + padded(value.length));
  bytes.writeUInt16LE(code, 0);
  bytes.writeUInt16LE(value.length, 2);
  bytes.set(value, 4);
  return bytes;
}

const END_OF_OPTIONS = uint32s(0);
const text = (value: string): Uint8Array => Buffer.from(value, 'utf8');

/** Section Header Block and Interface Description Block. */
function header(): Uint8Array {
  const section = block(
    BLOCK.section,
    // The byte order mark; version 1.0; the section's length is not told.
    uint32s(0x1a2b3c4d, 0x00000001, 0xffffffff, 0xffffffff),
    option(4, text('close-notify')),
    END_OF_OPTIONS,
  );
  const tap = block(
    BLOCK.interface,
    uint32s(LINKTYPE_RAW, 0),
    option(2, text('tls-stream')),
    // if_tsresol: times in units of 10^-9 seconds.
    option(9, Uint8Array.of(9)),
    END_OF_OPTIONS,
  );
  return Buffer.concat([section, tap]);
}

function secretsBlock(lines: readonly string[]): Uint8Array {
  const secrets = text(lines.join(''));
  return block(BLOCK.secrets, uint32s(TLS_KEY_LOG, secrets.length), secrets);
}

const time = (at: bigint): readonly [number, number] => [
  Number(at >> 32n),
  Number(at & 0xffffffffn),
];

function packetBlock(
  packet: Uint8Array,
  originalLength: number,
  at: bigint,
  comment: string,
): Uint8Array {
  const data = Buffer.alloc(padded(packet.length));
  data.set(packet);
  const options = comment === '' ? [] : [option(1, text(comment)), END_OF_OPTIONS];
  return block(
    BLOCK.packet,
    uint32s(0, ...time(at), packet.length, originalLength),
    data,
    ...options,
  );
}

/** How many packets the recorder did not keep (isb_ifrecv and isb_ifdrop). */
function statisticsBlock(at: bigint, received: number, dropped: number): Uint8Array {
  const count = (value: number) => {
    const bytes = Buffer.alloc(8);
    bytes.writeBigUInt64LE(BigInt(value));
    return bytes;
  };
  return block(
    BLOCK.statistics,
    uint32s(0, ...time(at)),
    option(4, count(received + dropped)),
    option(5, count(dropped)),
    END_OF_OPTIONS,
  );
}
