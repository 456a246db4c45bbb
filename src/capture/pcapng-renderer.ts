/** From what happened to the packets that tell it: made-up headers of TCP, with numbers that hold. */
import { packetBlock } from './pcapng-block.ts';
import { type Endpoint, type Ends, TCP, tcpPacket } from './pcapng-packet.ts';

/** Who sent a packet: this party, or its peer. */
export type From = 'local' | 'peer';

/** What is to be written, before there are addresses and numbers; `at` is in nanoseconds since 1970. */
export type Event =
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

const MADE_UP =
  'The IP and TCP headers of this file are made up around the bytes that a TLS stream really ' +
  'sent and received; times are those of the stream.';

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
export class Renderer {
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
