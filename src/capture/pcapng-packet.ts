/** IP and TCP headers around bytes that a stream saw. RFC 791, RFC 8200, RFC 9293. */
import net from 'node:net';
import type { Duplex } from 'node:stream';

/** One end of a connection, as packets name it. */
export interface Endpoint {
  /** 4 or 16 bytes. */
  readonly address: Uint8Array;
  /** 0 where it is not known. */
  readonly port: number;
  /** The most bytes that one packet can carry. */
  readonly most: number;
}

/** Both ends, seen from one. */
export interface Ends {
  readonly local: Endpoint;
  readonly remote: Endpoint;
}

/** Flags of TCP. */
export const TCP = { fin: 1, syn: 2, rst: 4, psh: 8, ack: 16 } as const;

const TCP_HEADER = 20;
const IPV4_HEADER = 20;
const IPV6_HEADER = 40;
const PROTOCOL_TCP = 6;

/** The ends of a transport, as far as it is a socket that knows them. */
export function endpointsOf(transport: Duplex | null): Ends {
  const { localAddress, localPort, remoteAddress, remotePort } = (transport ?? {}) as net.Socket;
  const local = addressBytes(localAddress);
  const remote = addressBytes(remoteAddress);
  if (local === null || remote === null || local.length !== remote.length) {
    // TEST-NET-1 (RFC 5737). Whether it is the server's port that is missing is known later.
    return {
      local: endpoint(Uint8Array.of(192, 0, 2, 1), 0),
      remote: endpoint(Uint8Array.of(192, 0, 2, 2), 0),
    };
  }
  return { local: endpoint(local, localPort ?? 0), remote: endpoint(remote, remotePort ?? 0) };
}

function endpoint(address: Uint8Array, port: number): Endpoint {
  // The length of an IPv4 packet counts its header, that of IPv6 does not; IPv4's is the smaller.
  return { address, port, most: 65_535 - IPV4_HEADER - TCP_HEADER };
}

/** An address's bytes; null for what is none. An IPv4 address in IPv6's clothes is IPv4. */
export function addressBytes(text: string | undefined): Uint8Array | null {
  if (text === undefined) return null;
  const plain = text.replace(/%.*$/s, '').replace(/^::ffff:(?=\d+\.)/i, '');
  if (net.isIPv4(plain)) return Uint8Array.from(plain.split('.').map(Number));
  if (!net.isIPv6(plain)) return null;
  // URL writes what may end as an IPv4 address in groups alone.
  const groups = new URL(`http://[${plain}]`).hostname.slice(1, -1);
  const [before = '', after] = groups.split('::');
  const numbers = (part: string) =>
    part === '' ? [] : part.split(':').map((group) => Number.parseInt(group, 16));
  const head = numbers(before);
  const tail = after === undefined ? [] : numbers(after);
  const zeros = Array.from({ length: 8 - head.length - tail.length }, () => 0);
  return Uint8Array.from(
    [...head, ...zeros, ...tail].flatMap((group) => [group >> 8, group & 255]),
  );
}

/** What a packet says. */
export interface TcpPacket {
  readonly from: Endpoint;
  readonly to: Endpoint;
  /** Identification (RFC 791). */
  readonly id: number;
  readonly sequence: number;
  readonly acknowledged: number;
  readonly flags: number;
  /** Null for a payload that was not seen: the packet then ends after its headers. */
  readonly payload: Uint8Array | null;
  /** The length of the payload, seen or not. */
  readonly size: number;
}

/** The packet, beginning with its IP header. */
export function tcpPacket(packet: TcpPacket): Uint8Array {
  const { from, to, size } = packet;
  const payload = packet.payload ?? new Uint8Array(0);
  const options = (packet.flags & TCP.syn) === 0 ? [] : synOptions(from.most);
  const tcpHeader = TCP_HEADER + options.length;
  const ip =
    from.address.length === 4
      ? ipv4Header(packet, tcpHeader + size)
      : ipv6Header(packet, tcpHeader + size);
  const bytes = Buffer.alloc(ip.length + tcpHeader + payload.length);
  bytes.set(ip);
  const tcp = bytes.subarray(ip.length);
  tcp.writeUInt16BE(from.port, 0);
  tcp.writeUInt16BE(to.port, 2);
  tcp.writeUInt32BE(packet.sequence, 4);
  tcp.writeUInt32BE(packet.acknowledged, 8);
  tcp[12] = (tcpHeader / 4) << 4;
  tcp[13] = packet.flags;
  tcp.writeUInt16BE(0xffff, 14);
  tcp.set(options, TCP_HEADER);
  tcp.set(payload, tcpHeader);
  const pseudoHeader = Buffer.concat([
    from.address,
    to.address,
    Uint8Array.of(0, PROTOCOL_TCP, (tcp.length >> 8) & 255, tcp.length & 255),
  ]);
  tcp.writeUInt16BE(checksum(pseudoHeader, tcp), 16);
  return bytes;
}

/** Maximum segment size, and a window 128 times as large as it says (RFC 7323). */
const synOptions = (most: number): number[] => [2, 4, most >> 8, most & 255, 1, 3, 3, 7];

const DO_NOT_FRAGMENT = 0x4000;
const HOPS = 64;

function ipv4Header({ from, to, id }: TcpPacket, length: number): Uint8Array {
  const bytes = Buffer.alloc(IPV4_HEADER);
  bytes[0] = 0x45;
  bytes.writeUInt16BE(IPV4_HEADER + length, 2);
  bytes.writeUInt16BE(id & 0xffff, 4);
  bytes.writeUInt16BE(DO_NOT_FRAGMENT, 6);
  bytes[8] = HOPS;
  bytes[9] = PROTOCOL_TCP;
  bytes.set(from.address, 12);
  bytes.set(to.address, 16);
  bytes.writeUInt16BE(checksum(bytes), 10);
  return bytes;
}

function ipv6Header({ from, to }: TcpPacket, length: number): Uint8Array {
  const bytes = Buffer.alloc(IPV6_HEADER);
  bytes[0] = 0x60;
  bytes.writeUInt16BE(length, 4);
  bytes[6] = PROTOCOL_TCP;
  bytes[7] = HOPS;
  bytes.set(from.address, 8);
  bytes.set(to.address, 24);
  return bytes;
}

/** The Internet checksum (RFC 1071). All parts but the last have an even length. */
function checksum(...parts: readonly Uint8Array[]): number {
  let sum = 0;
  for (const part of parts) {
    for (let i = 0; i < part.length; i += 2) {
      sum += ((part[i] as number) << 8) | (part[i + 1] ?? 0);
    }
  }
  while (sum > 0xffff) sum = (sum & 0xffff) + Math.floor(sum / 0x10000);
  return ~sum & 0xffff;
}
