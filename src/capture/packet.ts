/**
 * From a captured packet to the TCP segment in it. RFC 791, RFC 8200, RFC 9293; the link types as
 * the registry of LINKTYPE_ values has them.
 */

/** A segment of TCP. */
export interface Segment {
  /** Address and port of each end, as text: `192.0.2.1:443`, `[2001:db8::1]:443`. */
  readonly source: string;
  readonly destination: string;
  readonly sourcePort: number;
  readonly destinationPort: number;
  readonly sequence: number;
  readonly syn: boolean;
  readonly ack: boolean;
  readonly fin: boolean;
  readonly rst: boolean;
  /** What was captured of the payload. */
  readonly payload: Uint8Array;
  /** The payload's length on the wire. */
  readonly length: number;
}

/** Why a packet holds no segment that can be used. */
export type Unusable =
  /** Of a link type that is not known here. */
  | 'link'
  /** Another protocol. */
  | 'other'
  /** A piece of an IP packet. */
  | 'fragment'
  /** Shorter than its headers say, or nonsense. */
  | 'broken';

/** The bytes from an IP header on, and their length on the wire. */
interface Packet {
  readonly bytes: Buffer;
  readonly originalLength: number;
}

const LINK = {
  null: 0,
  ethernet: 1,
  rawBsd: [12, 14],
  raw: 101,
  loop: 108,
  linuxCooked: 113,
  ipv4: 228,
  ipv6: 229,
  linuxCooked2: 276,
} as const;

const ETHERTYPE = { ipv4: 0x0800, ipv6: 0x86dd } as const;

/** 802.1Q, 802.1ad, and what came before that. */
const VLAN_TAGS: ReadonlySet<number> = new Set([0x8100, 0x88a8, 0x9100]);

/** Tags around tags; two are usual. */
const MOST_TAGS = 8;

/** AF_INET6 of the BSDs and macOS, each with its own number. */
const AF_INET6: ReadonlySet<number> = new Set([10, 24, 28, 30]);
const AF_INET = 2;

/** Finds the segment in a captured packet. */
export function segmentOf(
  linkType: number,
  bytes: Uint8Array,
  originalLength: number,
): Segment | Unusable {
  const frame = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  const skip = headerLength(linkType, frame);
  if (typeof skip !== 'number') return skip;
  if (frame.length <= skip) return 'broken';
  const packet = { bytes: frame.subarray(skip), originalLength: originalLength - skip };
  switch ((packet.bytes[0] as number) >> 4) {
    case 4:
      return ipv4(packet);
    case 6:
      return ipv6(packet);
    default:
      return 'broken';
  }
}

/** Bytes before the IP header. */
function headerLength(linkType: number, frame: Buffer): number | Unusable {
  switch (linkType) {
    case LINK.ethernet:
      return afterEtherType(frame, 12);
    case LINK.rawBsd[0]:
    case LINK.rawBsd[1]:
    case LINK.raw:
    case LINK.ipv4:
    case LINK.ipv6:
      return 0;
    case LINK.linuxCooked:
      return afterEtherType(frame, 14);
    case LINK.linuxCooked2:
      if (frame.length < 20) return 'broken';
      return isIp(frame.readUInt16BE(0)) ? 20 : 'other';
    case LINK.null:
    case LINK.loop: {
      if (frame.length < 4) return 'broken';
      // LINKTYPE_NULL has it in the order of bytes of whoever captured it; no family exceeds 65,535.
      const [big, little] = [frame.readUInt32BE(0), frame.readUInt32LE(0)];
      const family = Math.min(big, little);
      return family === AF_INET || AF_INET6.has(family) ? 4 : 'other';
    }
    default:
      return 'link';
  }
}

const isIp = (type: number): boolean => type === ETHERTYPE.ipv4 || type === ETHERTYPE.ipv6;

function afterEtherType(frame: Buffer, from: number): number | Unusable {
  let at = from;
  for (let tags = 0; tags <= MOST_TAGS; tags++, at += 4) {
    if (frame.length < at + 2) return 'broken';
    const type = frame.readUInt16BE(at);
    if (isIp(type)) return at + 2;
    if (!VLAN_TAGS.has(type)) return 'other';
  }
  return 'broken';
}

const TCP = 6;

function ipv4({ bytes, originalLength }: Packet): Segment | Unusable {
  if (bytes.length < 20) return 'broken';
  const header = ((bytes[0] as number) & 15) * 4;
  if (header < 20 || bytes.length < header) return 'broken';
  if (bytes[9] !== TCP) return 'other';
  // "More fragments", or an offset.
  if ((bytes.readUInt16BE(6) & 0x3fff) !== 0) return 'fragment';
  // 0 where the network card cuts what it is given into packets, and the capture saw the whole.
  const total = bytes.readUInt16BE(2) || originalLength;
  if (total < header) return 'broken';
  return tcp(
    bytes.subarray(header, Math.min(bytes.length, total)),
    total - header,
    ipv4Text(bytes.subarray(12, 16)),
    ipv4Text(bytes.subarray(16, 20)),
  );
}

const EXTENSION = { hopByHop: 0, routing: 43, fragment: 44, destination: 60 } as const;

/** Extension headers in a row; RFC 8200 has seven kinds. */
const MOST_EXTENSIONS = 16;

function ipv6({ bytes, originalLength }: Packet): Segment | Unusable {
  if (bytes.length < 40) return 'broken';
  // 0 as above, or a jumbogram (RFC 2675).
  const end = 40 + bytes.readUInt16BE(4);
  const total = end === 40 ? originalLength : end;
  let next = bytes[6] as number;
  let at = 40;
  for (let i = 0; next !== TCP; i++) {
    if (i === MOST_EXTENSIONS) return 'broken';
    if (bytes.length < at + 8) return 'broken';
    switch (next) {
      case EXTENSION.hopByHop:
      case EXTENSION.routing:
      case EXTENSION.destination:
        next = bytes[at] as number;
        at += 8 + 8 * (bytes[at + 1] as number);
        break;
      case EXTENSION.fragment:
        if ((bytes.readUInt16BE(at + 2) & 0xfff9) !== 0) return 'fragment';
        next = bytes[at] as number;
        at += 8;
        break;
      default:
        return 'other';
    }
  }
  if (total < at) return 'broken';
  return tcp(
    bytes.subarray(at, Math.min(bytes.length, total)),
    total - at,
    ipv6Text(bytes.subarray(8, 24)),
    ipv6Text(bytes.subarray(24, 40)),
  );
}

const ipv4Text = (address: Uint8Array): string => address.join('.');

/** As RFC 5952 writes it, in brackets. */
function ipv6Text(address: Buffer): string {
  const groups = Array.from({ length: 8 }, (_, i) => address.readUInt16BE(2 * i).toString(16));
  return new URL(`http://[${groups.join(':')}]`).hostname;
}

function tcp(bytes: Buffer, length: number, from: string, to: string): Segment | Unusable {
  if (bytes.length < 20) return 'broken';
  const header = ((bytes[12] as number) >> 4) * 4;
  if (header < 20 || length < header) return 'broken';
  const flags = bytes[13] as number;
  const sourcePort = bytes.readUInt16BE(0);
  const destinationPort = bytes.readUInt16BE(2);
  return {
    source: `${from}:${sourcePort}`,
    destination: `${to}:${destinationPort}`,
    sourcePort,
    destinationPort,
    sequence: bytes.readUInt32BE(4),
    fin: (flags & 1) !== 0,
    syn: (flags & 2) !== 0,
    rst: (flags & 4) !== 0,
    ack: (flags & 16) !== 0,
    payload: bytes.subarray(Math.min(header, bytes.length)),
    length: length - header,
  };
}
