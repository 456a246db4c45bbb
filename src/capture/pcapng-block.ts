/** The blocks of a pcapng file (draft-ietf-opsawg-pcapng), as bytes. */

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
export function header(): Uint8Array {
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

/** Lines of a key log, as a Decryption Secrets Block. */
export function secretsBlock(lines: readonly string[]): Uint8Array {
  const secrets = text(lines.join(''));
  return block(BLOCK.secrets, uint32s(TLS_KEY_LOG, secrets.length), secrets);
}

const time = (at: bigint): readonly [number, number] => [
  Number(at >> 32n),
  Number(at & 0xffffffffn),
];

/** Enhanced Packet Block. `at` is in nanoseconds since 1970; `originalLength` what crossed the wire, in bytes. */
export function packetBlock(
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
export function statisticsBlock(at: bigint, received: number, dropped: number): Uint8Array {
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
