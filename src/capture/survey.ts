/** The first reading of a capture: its connections, and the key logs in it. */
import { readCaptureFile } from './file.ts';
import type { KeyLog } from './keylog.ts';
import { type Segment, segmentOf, type Unusable } from './packet.ts';
import { ConnectionTable, type End, type TcpConnection } from './tcp.ts';

/** What a capture holds, before one connection is looked into. */
export interface CaptureSurvey {
  /** The TCP connections, in the order of their first packets. */
  readonly connections: readonly TcpConnection[];
  /** All packets. */
  readonly packets: number;
  /** Packets that hold no segment of TCP that can be used, by reason. */
  readonly unusable: Readonly<Record<Unusable, number>>;
  /** Packets of connections beyond the 65,536 that are told apart. */
  readonly ignored: number;
  /** Whether the file stops in the middle of a packet. */
  readonly cutShort: boolean;
}

/**
 * Reads a capture for its connections, and adds the key logs in it to `keyLog`.
 *
 * @param chunks the file in pieces of any size, which must not be changed afterwards.
 * @throws {MalformedError} where it is no capture file, or a broken one.
 */
export function surveyCapture(chunks: Iterable<Uint8Array>, keyLog: KeyLog): CaptureSurvey {
  const table = new ConnectionTable();
  const unusable = { link: 0, other: 0, fragment: 0, broken: 0 };
  let packets = 0;
  const { cutShort } = eachSegment(chunks, table, {
    secrets: (text) => keyLog.add(text),
    packet: (reason) => {
      packets++;
      if (reason !== null) unusable[reason]++;
    },
    segment: () => {},
  });
  const { connections, ignored } = table;
  return { connections, packets, unusable, ignored, cutShort };
}

/** Told while a file is read. */
export interface SegmentEvents {
  secrets(text: string): void;
  /** A packet, and why it holds no segment; null where it does. */
  packet(reason: Unusable | null): void;
  segment(segment: Segment, connection: number, from: End, at: bigint): void;
}

/**
 * Reads a capture, segment by segment, with the connection that each belongs to.
 *
 * @throws {MalformedError} where it is no capture file, or a broken one.
 */
export function eachSegment(
  chunks: Iterable<Uint8Array>,
  table: ConnectionTable,
  events: SegmentEvents,
): { cutShort: boolean } {
  const items = readCaptureFile(chunks);
  let last = 0n;
  for (;;) {
    const { value, done } = items.next();
    if (done) return value;
    if (value.type === 'secrets') {
      events.secrets(value.text);
      continue;
    }
    last = value.at ?? last;
    const segment = segmentOf(value.linkType, value.bytes, value.originalLength);
    const usable = typeof segment !== 'string';
    events.packet(usable ? null : segment);
    if (!usable) continue;
    const place = table.place(segment, last);
    if (place !== null) events.segment(segment, place.number, place.from, last);
  }
}
