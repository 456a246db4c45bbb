/** Capture files made for a test: the packets of a recorded connection, in any form of file and link. */

import { type CapturedFrame, readCaptureFile } from '../../src/capture/file.ts';
import { PcapngRecorder } from '../../src/capture/pcapng.ts';
import type { Scope } from './core-scope.ts';
import { closeBoth, pairInMemory, type Version } from './core-streams.ts';

/** A connection of ours, as its client recorded it. */
export interface Recorded {
  /** The whole file. */
  readonly bytes: Uint8Array;
  /** Its packets, which begin with their IP header. */
  readonly packets: readonly Buffer[];
  readonly keys: string;
}

/** Both greet each other; then both close, or the server's transport ends without a word. */
export async function recorded(
  scope: Scope,
  version: Version,
  ending: 'secure' | 'truncated' = 'secure',
  data: Uint8Array = Buffer.from('good day to you'),
): Promise<Recorded> {
  const recorder = new PcapngRecorder();
  const both = await pairInMemory(scope, version, { client: { record: recorder } });
  const { client, server } = both;
  await client.write('hello');
  await server.read();
  const reading = (async () => {
    for (let have = 0; have < data.length; ) have += (await client.read())?.length ?? 0;
  })();
  await server.write(data);
  await reading;
  if (ending === 'secure') {
    await closeBoth(both);
  } else {
    both.serverTransport.end();
    await client.read().catch(() => {});
    await client.close().catch(() => {});
    await server.close().catch(() => {});
  }
  const bytes = recorder.bytes();
  const items = [...readCaptureFile([bytes])];
  return {
    bytes,
    packets: items.flatMap((one) => (one.type === 'frame' ? [Buffer.from(one.bytes)] : [])),
    keys: items.flatMap((one) => (one.type === 'secrets' ? [one.text] : [])).join(''),
  };
}

/** The frames of a file. */
export const framesOf = (bytes: Uint8Array): CapturedFrame[] =>
  [...readCaptureFile([bytes])].filter((one) => one.type === 'frame');

/** A packet in a link layer's clothes. */
export const LINKS: ReadonlyArray<readonly [string, number, (packet: Buffer) => Buffer]> = [
  ['raw IP', 101, (packet) => packet],
  ['raw IP of OpenBSD', 14, (packet) => packet],
  ['IPv4', 228, (packet) => packet],
  ['Ethernet', 1, (packet) => Buffer.concat([Buffer.alloc(12), type(packet), packet])],
  [
    'Ethernet, padded to its least length',
    1,
    (packet) =>
      Buffer.concat([Buffer.alloc(12), type(packet), packet, Buffer.alloc(20, 'padding')]),
  ],
  [
    'Ethernet with two VLAN tags',
    1,
    (packet) =>
      Buffer.concat([
        ...[Buffer.alloc(12), Buffer.from('88a80005', 'hex')],
        ...[Buffer.from('81000007', 'hex'), type(packet), packet],
      ]),
  ],
  ['Linux cooked', 113, (packet) => Buffer.concat([Buffer.alloc(14), type(packet), packet])],
  ['Linux cooked 2', 276, (packet) => Buffer.concat([type(packet), Buffer.alloc(18), packet])],
  ['BSD loopback', 0, (packet) => Buffer.concat([Buffer.from([2, 0, 0, 0]), packet])],
  ['BSD loopback, big-endian', 0, (packet) => Buffer.concat([Buffer.from([0, 0, 0, 2]), packet])],
  ['OpenBSD loopback', 108, (packet) => Buffer.concat([Buffer.from([0, 0, 0, 2]), packet])],
];

const type = (packet: Buffer): Buffer =>
  Buffer.from((packet[0] as number) >> 4 === 4 ? '0800' : '86dd', 'hex');

export interface Form {
  readonly big: boolean;
  readonly nano: boolean;
}

/** Two seconds of 2023, and a packet every millisecond. */
const START = 1_700_000_000;

/** A pcap file. */
export function pcap(
  packets: readonly Uint8Array[],
  { big, nano }: Form = { big: false, nano: false },
  linkType = 101,
  snap = 262_144,
): Buffer {
  const u32 = uint32(big);
  const header = Buffer.concat([
    ...[u32(nano ? 0xa1b23c4d : 0xa1b2c3d4), big ? u32(0x00020004) : u32(0x00040002)],
    ...[u32(0), u32(0), u32(snap), u32(linkType)],
  ]);
  return Buffer.concat([
    header,
    ...packets.flatMap((packet, i) => {
      const kept = packet.subarray(0, snap);
      const fraction = nano ? i * 1_000_000 : i * 1_000;
      return [u32(START), u32(fraction), u32(kept.length), u32(packet.length), kept];
    }),
  ]);
}

const uint32 = (big: boolean) => (value: number) => {
  const bytes = Buffer.alloc(4);
  if (big) bytes.writeUInt32BE(value >>> 0);
  else bytes.writeUInt32LE(value >>> 0);
  return bytes;
};

/** How the packets of a pcapng file are wrapped. */
export interface PcapngForm {
  readonly big?: boolean;
  /** The byte of if_tsresol; microseconds by default. */
  readonly resolution?: number;
  readonly block?: 'enhanced' | 'simple' | 'old';
  readonly secrets?: string;
  readonly linkType?: number;
  readonly snap?: number;
}

/** One section of a pcapng file, with one interface. */
export function pcapng(
  packets: readonly Uint8Array[],
  {
    big = false,
    resolution = 6,
    block = 'enhanced',
    secrets = '',
    linkType = 101,
    snap = 0,
  }: PcapngForm = {},
): Buffer {
  const u32 = uint32(big);
  const u16 = (value: number) => (big ? u32(value).subarray(2) : u32(value).subarray(0, 2));
  const pad = (bytes: Uint8Array) =>
    Buffer.concat([bytes, Buffer.alloc((4 - (bytes.length % 4)) % 4)]);
  const wrap = (kind: number, ...parts: Uint8Array[]) => {
    const body = Buffer.concat(parts);
    const length = u32(body.length + 12);
    return Buffer.concat([u32(kind), length, body, length]);
  };
  const perSecond = (resolution & 0x80 ? 2n : 10n) ** BigInt(resolution & 0x7f);
  return Buffer.concat([
    wrap(0x0a0d0d0a, u32(0x1a2b3c4d), u16(1), u16(0), u32(-1), u32(-1)),
    wrap(
      1,
      ...[u16(linkType), u16(0), u32(snap), u16(9), u16(1)],
      ...[pad(Buffer.from([resolution])), u32(0)],
    ),
    // A block that nobody knows.
    wrap(0x00000bad, Buffer.from('whatever')),
    ...(secrets === ''
      ? []
      : [wrap(10, u32(0x544c534b), u32(secrets.length), pad(Buffer.from(secrets)))]),
    ...packets.map((packet, i) => {
      const kept = snap === 0 ? packet : packet.subarray(0, snap);
      const time = BigInt(START) * perSecond + (BigInt(i) * perSecond) / 1_000n;
      const times = [u32(Number(time >> 32n)), u32(Number(time & 0xffffffffn))];
      const lengths = [u32(kept.length), u32(packet.length)];
      if (block === 'simple') return wrap(3, u32(packet.length), pad(kept));
      if (block === 'old') return wrap(2, u16(0), u16(0), ...times, ...lengths, pad(kept));
      return wrap(6, u32(0), ...times, ...lengths, pad(kept));
    }),
  ]);
}

/** The same IPv4 packet between IPv6 addresses, with an extension header in front of TCP. */
export function asIpv6(packet: Buffer, extensions = 0): Buffer {
  const tcp = packet.subarray(20);
  const header = Buffer.alloc(40);
  header[0] = 0x60;
  header.writeUInt16BE(tcp.length + 8 * extensions, 4);
  header[6] = extensions > 0 ? 60 : 6;
  header[7] = 64;
  header.set([0x20, 0x01, 0x0d, 0xb8], 8);
  header.set([0x20, 0x01, 0x0d, 0xb8], 24);
  header.set(packet.subarray(12, 16), 20);
  header.set(packet.subarray(16, 20), 36);
  const chain = Array.from({ length: extensions }, (_, i) =>
    Buffer.from([i + 1 === extensions ? 6 : 60, 0, 1, 4, 0, 0, 0, 0]),
  );
  return Buffer.concat([header, ...chain, tcp]);
}

/** A copy whose payload is only `[from, to)` of what it was; flags as given. */
export function slice(packet: Buffer, from: number, to: number, flags?: number): Buffer {
  const header = 20 + ((packet[32] as number) >> 4) * 4;
  const copy = Buffer.concat([
    packet.subarray(0, header),
    packet.subarray(header + from, header + to),
  ]);
  copy.writeUInt16BE(copy.length, 2);
  copy.writeUInt32BE((packet.readUInt32BE(24) + from) >>> 0, 24);
  if (flags !== undefined) copy[33] = flags;
  return copy;
}

/** The payload of an IPv4 packet. */
export function payloadOf(packet: Buffer): Buffer {
  return packet.subarray(20 + ((packet[32] as number) >> 4) * 4);
}
