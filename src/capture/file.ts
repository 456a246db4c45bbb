/**
 * Capture files: pcap and pcapng, whoever wrote them, one packet at a time.
 *
 * Theory of operation. A file is read from its beginning in pieces of any size, so that one of many
 * gigabytes needs no more memory than its largest block. Everything in it is somebody else's claim:
 * each length is checked before it is used, and a file that contradicts itself is refused with the
 * place where it does. A file that just stops, as one does whose writer was killed, is read up to
 * there, and says so.
 *
 * draft-ietf-opsawg-pcap and draft-ietf-opsawg-pcapng.
 */
import { MalformedError } from '../errors.ts';

/** A packet as it was captured. */
export interface CapturedFrame {
  readonly type: 'frame';
  /** What its first header is: a number of LINKTYPE_. */
  readonly linkType: number;
  /** Nanoseconds since 1970; null where the file does not say. */
  readonly at: bigint | null;
  readonly bytes: Uint8Array;
  /** Its length on the wire: more than `bytes` has where it was not captured whole. */
  readonly originalLength: number;
}

/** A key log that the file brings (a Decryption Secrets Block). */
export interface CapturedSecrets {
  readonly type: 'secrets';
  readonly text: string;
}

/** What a file holds. */
export type CaptureItem = CapturedFrame | CapturedSecrets;

/** How reading a file ended. */
export interface CaptureEnd {
  /** Whether the file stops in the middle of a packet or block. */
  readonly cutShort: boolean;
}

/** No writer makes larger blocks: packets have 256 KiB at most, key logs some megabytes. */
const MAX_BLOCK = 64 << 20;

/** More interfaces than any honest section has. */
const MAX_INTERFACES = 4_096;

/** The file's bytes, in order, from chunks. */
class Source {
  readonly #chunks: Iterator<Uint8Array>;
  #bytes: Uint8Array = new Uint8Array(0);
  #at = 0;
  /** The file's offset of the next byte. */
  offset = 0;

  constructor(chunks: Iterable<Uint8Array>) {
    this.#chunks = chunks[Symbol.iterator]();
  }

  /** Whether the file has this many more bytes. */
  has(length: number): boolean {
    let have = this.#bytes.length - this.#at;
    if (have >= length) return true;
    const parts = [this.#bytes.subarray(this.#at)];
    while (have < length) {
      const { value, done } = this.#chunks.next();
      if (done) break;
      parts.push(value);
      have += value.length;
    }
    this.#bytes = Buffer.concat(parts);
    this.#at = 0;
    return have >= length;
  }

  /** The next bytes, which stay where they are. Only where `has` said that they are there. */
  peek(length: number): Buffer {
    return Buffer.from(this.#bytes.buffer, this.#bytes.byteOffset + this.#at, length);
  }

  take(length: number): Buffer {
    const bytes = this.peek(length);
    this.#at += length;
    this.offset += length;
    return bytes;
  }

  get atEnd(): boolean {
    return !this.has(1);
  }
}

/**
 * Reads a capture file.
 *
 * @param chunks the file in pieces of any size, which must not be changed afterwards.
 * @throws {MalformedError} where it is no capture file, or a broken one; `offset` says where.
 */
export function* readCaptureFile(
  chunks: Iterable<Uint8Array>,
): Generator<CaptureItem, CaptureEnd, undefined> {
  const source = new Source(chunks);
  if (source.atEnd) throw new MalformedError('an empty file, no capture', 0);
  if (!source.has(4)) throw new MalformedError('neither pcap nor pcapng', 0);
  const magic = source.peek(4).toString('hex');
  if (magic === '0a0d0d0a') return yield* readPcapng(source);
  const pcap = PCAP_MAGICS.get(magic);
  if (pcap !== undefined) return yield* readPcap(source, pcap);
  const packed = PACKED.find(([start]) => magic.startsWith(start));
  throw new MalformedError(
    packed === undefined ? 'neither pcap nor pcapng' : `packed with ${packed[1]}: unpack it first`,
    0,
  );
}

const PACKED = [
  ['1f8b', 'gzip'],
  ['28b52ffd', 'zstd'],
  ['04224d18', 'lz4'],
  ['504b0304', 'zip'],
] as const;

// ---- numbers in the order of bytes of whoever wrote them

interface Numbers {
  uint16(bytes: Buffer, at: number): number;
  uint32(bytes: Buffer, at: number): number;
}

const LITTLE: Numbers = {
  uint16: (bytes, at) => bytes.readUInt16LE(at),
  uint32: (bytes, at) => bytes.readUInt32LE(at),
};

const BIG: Numbers = {
  uint16: (bytes, at) => bytes.readUInt16BE(at),
  uint32: (bytes, at) => bytes.readUInt32BE(at),
};

// ---- pcap

interface PcapKind {
  readonly numbers: Numbers;
  /** Nanoseconds in a unit of the second half of its times. */
  readonly unit: bigint;
}

const PCAP_MAGICS: ReadonlyMap<string, PcapKind> = new Map([
  ['d4c3b2a1', { numbers: LITTLE, unit: 1_000n }],
  ['a1b2c3d4', { numbers: BIG, unit: 1_000n }],
  ['4d3cb2a1', { numbers: LITTLE, unit: 1n }],
  ['a1b23c4d', { numbers: BIG, unit: 1n }],
]);

const PCAP_HEADER = 24;
const PCAP_PACKET_HEADER = 16;
const SECOND = 1_000_000_000n;

function* readPcap(
  source: Source,
  { numbers, unit }: PcapKind,
): Generator<CaptureItem, CaptureEnd, undefined> {
  if (!source.has(PCAP_HEADER)) return { cutShort: true };
  const header = source.take(PCAP_HEADER);
  const major = numbers.uint16(header, 4);
  if (major !== 2) throw new MalformedError(`pcap of version ${major}, not 2`, 4);
  // The upper bits tell of check sequences behind each packet, which nobody looks at here.
  const linkType = numbers.uint32(header, 20) & 0xffff;
  while (!source.atEnd) {
    const { offset } = source;
    if (!source.has(PCAP_PACKET_HEADER)) return { cutShort: true };
    const packet = source.take(PCAP_PACKET_HEADER);
    const length = numbers.uint32(packet, 8);
    if (length > MAX_BLOCK) throw new MalformedError(`a packet of ${length} bytes`, offset);
    if (!source.has(length)) return { cutShort: true };
    yield {
      type: 'frame',
      linkType,
      at: BigInt(numbers.uint32(packet, 0)) * SECOND + BigInt(numbers.uint32(packet, 4)) * unit,
      bytes: source.take(length),
      originalLength: Math.max(length, numbers.uint32(packet, 12)),
    };
  }
  return { cutShort: false };
}

// ---- pcapng

const BLOCK = {
  section: 0x0a0d0d0a,
  interface: 1,
  /** Obsolete since 2004, and still met. */
  oldPacket: 2,
  simplePacket: 3,
  packet: 6,
  secrets: 10,
} as const;

const TLS_KEY_LOG = 0x544c534b;

interface Interface {
  readonly linkType: number;
  /** The most bytes that were kept of each packet; 0 for all. */
  readonly snapLength: number;
  /** Units of its times in a second. */
  readonly resolution: bigint;
  /** Seconds to add to its times. */
  readonly timeOffset: bigint;
}

function* readPcapng(source: Source): Generator<CaptureItem, CaptureEnd, undefined> {
  let numbers = LITTLE;
  let interfaces: Interface[] = [];
  while (!source.atEnd) {
    const { offset } = source;
    if (!source.has(12)) return { cutShort: true };
    const start = source.peek(12);
    // The section's own type reads the same in both orders of bytes.
    const isSection = start.readUInt32BE(0) === BLOCK.section;
    if (isSection) {
      numbers = byteOrder(start, offset);
      interfaces = [];
    }
    const type = numbers.uint32(start, 0);
    const length = numbers.uint32(start, 4);
    if (length < 12 || length % 4 !== 0 || length > MAX_BLOCK) {
      throw new MalformedError(`a block that claims ${length} bytes`, offset);
    }
    if (!source.has(length)) return { cutShort: true };
    const block = source.take(length);
    if (numbers.uint32(block, length - 4) !== length) {
      throw new MalformedError('a block whose two lengths differ', offset);
    }
    const body = new Body(block.subarray(8, length - 4), numbers, offset + 8);
    switch (type) {
      case BLOCK.section:
        checkSection(body);
        break;
      case BLOCK.interface:
        if (interfaces.length === MAX_INTERFACES) {
          throw new MalformedError(`more than ${MAX_INTERFACES} interfaces`, offset);
        }
        interfaces.push(interfaceOf(body));
        break;
      case BLOCK.packet:
      case BLOCK.oldPacket:
        yield packetOf(body, interfaces, type);
        break;
      case BLOCK.simplePacket:
        yield simplePacketOf(body, interfaces);
        break;
      case BLOCK.secrets: {
        const secretsType = body.uint32(0);
        const secrets = body.bytes(8, body.uint32(4));
        if (secretsType === TLS_KEY_LOG)
          yield { type: 'secrets', text: secrets.toString('latin1') };
        break;
      }
      default:
      // Names, statistics and what others invent: a reader passes over what it does not know.
    }
  }
  return { cutShort: false };
}

/** A block's body; each read checks that the bytes are there. */
class Body {
  readonly #bytes: Buffer;
  readonly #numbers: Numbers;
  readonly offset: number;

  constructor(bytes: Buffer, numbers: Numbers, offset: number) {
    this.#bytes = bytes;
    this.#numbers = numbers;
    this.offset = offset;
  }

  get length(): number {
    return this.#bytes.length;
  }

  bytes(at: number, length: number): Buffer {
    if (at + length > this.#bytes.length) {
      throw new MalformedError(
        `${length} bytes wanted in a block that ends before`,
        this.offset + at,
      );
    }
    return this.#bytes.subarray(at, at + length);
  }

  uint16(at: number): number {
    return this.#numbers.uint16(this.bytes(at, 2), 0);
  }

  uint32(at: number): number {
    return this.#numbers.uint32(this.bytes(at, 4), 0);
  }

  /** A number of 64 bits whose upper half comes first, whatever the order of bytes. */
  time(at: number): bigint {
    return (BigInt(this.uint32(at)) << 32n) | BigInt(this.uint32(at + 4));
  }

  /** A signed number of 64 bits in the order of bytes of the file. */
  int64(at: number): bigint {
    const [low, high] = this.#numbers === LITTLE ? [at, at + 4] : [at + 4, at];
    return BigInt.asIntN(64, (BigInt(this.uint32(high)) << 32n) | BigInt(this.uint32(low)));
  }
}

function byteOrder(start: Buffer, offset: number): Numbers {
  if (start.readUInt32LE(8) === 0x1a2b3c4d) return LITTLE;
  if (start.readUInt32BE(8) === 0x1a2b3c4d) return BIG;
  throw new MalformedError('a section without its byte order mark', offset + 8);
}

function checkSection(body: Body): void {
  const major = body.uint16(4);
  if (major !== 1) throw new MalformedError(`pcapng of version ${major}, not 1`, body.offset + 4);
}

const OPTION = { end: 0, resolution: 9, timeOffset: 14 } as const;

function interfaceOf(body: Body): Interface {
  let resolution = 1_000_000n;
  let timeOffset = 0n;
  for (let at = 8; at + 4 <= body.length; ) {
    const code = body.uint16(at);
    const length = body.uint16(at + 2);
    if (code === OPTION.end) break;
    const value = at + 4;
    if (code === OPTION.resolution && length === 1) {
      const exponent = body.bytes(value, 1)[0] as number;
      const base = exponent & 0x80 ? 2n : 10n;
      resolution = base ** BigInt(exponent & 0x7f);
    } else if (code === OPTION.timeOffset && length === 8) {
      timeOffset = body.int64(value);
    }
    at = value + ((length + 3) & ~3);
  }
  return { linkType: body.uint16(0), snapLength: body.uint32(4), resolution, timeOffset };
}

function interfaceAt(interfaces: readonly Interface[], index: number, body: Body): Interface {
  const found = interfaces[index];
  if (found === undefined) {
    throw new MalformedError(`a packet of interface ${index}, which is not described`, body.offset);
  }
  return found;
}

function packetOf(body: Body, interfaces: readonly Interface[], type: number): CapturedFrame {
  const index = type === BLOCK.packet ? body.uint32(0) : body.uint16(0);
  const { linkType, resolution, timeOffset } = interfaceAt(interfaces, index, body);
  const length = body.uint32(12);
  return {
    type: 'frame',
    linkType,
    at: timeOffset * SECOND + (body.time(4) * SECOND) / resolution,
    bytes: body.bytes(20, length),
    originalLength: Math.max(length, body.uint32(16)),
  };
}

function simplePacketOf(body: Body, interfaces: readonly Interface[]): CapturedFrame {
  const { linkType, snapLength } = interfaceAt(interfaces, 0, body);
  const originalLength = body.uint32(0);
  const kept = snapLength === 0 ? originalLength : Math.min(originalLength, snapLength);
  return { type: 'frame', linkType, at: null, bytes: body.bytes(4, kept), originalLength };
}
