import { describe, expect, test } from 'vitest';
import {
  CONTENT_TYPE,
  HEADER_LENGTH,
  peekHeader,
  RecordScanner,
} from '../../../src/record/record.ts';

interface Seen {
  readonly type: number;
  readonly length: number;
  readonly alert: number[] | null;
}

const record = (type: number, body: Uint8Array | number[]): Buffer =>
  Buffer.concat([
    Buffer.from([type, 3, 3, body.length >> 8, body.length & 0xff]),
    Buffer.from(body),
  ]);

const expected = (records: readonly Buffer[]): Seen[] =>
  records.map((one) => ({
    type: one[0] as number,
    length: one.length - HEADER_LENGTH,
    alert: one[0] === 21 && one.length === 7 ? [one[5] as number, one[6] as number] : null,
  }));

/** Feeds the chunks, checks the contract of `take` at every step, and returns what was seen. */
function scan(chunks: readonly Uint8Array[]): {
  seen: Seen[];
  ends: number[];
  atBoundary: boolean;
} {
  const seen: Seen[] = [];
  const ends: number[] = [];
  const scanner = new RecordScanner((type, length, alert) =>
    seen.push({ type, length, alert: alert === null ? null : [...alert] }),
  );
  let before = 0;
  for (const chunk of chunks) {
    for (let at = 0; at < chunk.length; ) {
      const count = seen.length;
      const next = scanner.take(chunk, at);
      expect(next).toBeGreaterThan(at);
      expect(next).toBeLessThanOrEqual(chunk.length);
      // At most one record for each call, told when its last byte goes by.
      expect(seen.length - count).toBeLessThanOrEqual(1);
      if (next < chunk.length) expect(seen.length).toBe(count + 1);
      expect(scanner.atBoundary).toBe(seen.length > count);
      if (seen.length > count) ends.push(before + next);
      at = next;
    }
    before += chunk.length;
  }
  return { seen, ends, atBoundary: scanner.atBoundary };
}

const RECORDS = [
  record(
    CONTENT_TYPE.handshake,
    Array.from({ length: 10 }, (_, i) => i),
  ),
  record(CONTENT_TYPE.changeCipherSpec, [1]),
  record(CONTENT_TYPE.applicationData, []),
  record(CONTENT_TYPE.alert, [1, 0]),
  record(CONTENT_TYPE.alert, [2]),
  record(CONTENT_TYPE.alert, [2, 40, 0]),
  record(CONTENT_TYPE.applicationData, [9, 9]),
  record(CONTENT_TYPE.alert, [2, 116]),
];
const STREAM = Buffer.concat(RECORDS);
const ENDS = RECORDS.map((_, i) =>
  RECORDS.slice(0, i + 1).reduce((sum, one) => sum + one.length, 0),
);

describe('RecordScanner', () => {
  test('finds every record in one chunk, and stops behind each', () => {
    expect(scan([STREAM])).toEqual({ seen: expected(RECORDS), ends: ENDS, atBoundary: true });
  });

  test('split in two at every byte', () => {
    for (let at = 0; at <= STREAM.length; at++) {
      const { seen, ends } = scan([STREAM.subarray(0, at), STREAM.subarray(at)]);
      expect(seen, `split at ${at}`).toEqual(expected(RECORDS));
      expect(ends).toEqual(ENDS);
    }
  });

  test('split in three at every pair of bytes', () => {
    for (let a = 0; a <= STREAM.length; a++) {
      for (let b = a; b <= STREAM.length; b++) {
        const { ends } = scan([STREAM.subarray(0, a), STREAM.subarray(a, b), STREAM.subarray(b)]);
        if (ends.join() !== ENDS.join()) throw new Error(`split at ${a} and ${b}: ${ends}`);
      }
    }
  });

  test('one byte at a time', () => {
    const chunks = [...STREAM].map((byte) => Uint8Array.of(byte));
    expect(scan(chunks)).toEqual({ seen: expected(RECORDS), ends: ENDS, atBoundary: true });
  });

  test('at a boundary before the first byte, and only behind whole records', () => {
    const scanner = new RecordScanner(() => {});
    expect(scanner.atBoundary).toBe(true);
    for (let at = 0; at < STREAM.length; at++) {
      scanner.take(STREAM.subarray(at, at + 1), 0);
      expect(scanner.atBoundary, `after ${at + 1} bytes`).toBe(ENDS.includes(at + 1));
    }
  });

  test('a record of nothing ends with its header', () => {
    const { seen, ends } = scan([record(23, []), record(23, [])]);
    expect(seen).toEqual([
      { type: 23, length: 0, alert: null },
      { type: 23, length: 0, alert: null },
    ]);
    expect(ends).toEqual([5, 10]);
  });

  test('an empty chunk is nothing', () => {
    const scanner = new RecordScanner(() => {
      throw new Error('no record was there');
    });
    expect(scanner.take(new Uint8Array(0), 0)).toBe(0);
    expect(scanner.take(Uint8Array.of(1, 2), 2)).toBe(2);
    expect(scanner.atBoundary).toBe(true);
  });

  test('the largest length that a header can say, and those around the limits of TLS', () => {
    // RFC 9846 section 5.2: 2^14 + 256 at most. Judging it is for the TLS stack.
    for (const length of [255, 256, 16_384, 16_384 + 256, 16_384 + 257, 65_535]) {
      const one = record(23, new Uint8Array(length));
      const { seen, ends } = scan([one, record(21, [1, 0])]);
      expect(seen).toEqual([
        { type: 23, length, alert: null },
        { type: 21, length: 2, alert: [1, 0] },
      ]);
      expect(ends).toEqual([length + 5, length + 12]);
    }
  });

  test('the body of an alert in the clear is its own copy, from the right record', () => {
    const alerts: Uint8Array[] = [];
    const scanner = new RecordScanner((_type, _length, alert) => {
      if (alert !== null) alerts.push(alert);
    });
    const bytes = Buffer.concat([record(21, [1, 0]), record(22, [7, 7]), record(21, [2, 50])]);
    for (let at = 0; at < bytes.length; ) at = scanner.take(bytes, at);
    bytes.fill(0xee);
    expect(alerts.map((one) => [...one])).toEqual([
      [1, 0],
      [2, 50],
    ]);
  });

  test('any types and lengths in chunks of any size', () => {
    const seed = Number(process.env['CORE_SEED'] ?? Math.floor(Math.random() * 2 ** 31));
    let state = seed;
    // xorshift; a run is repeated with CORE_SEED.
    const random = (below: number) => {
      state ^= state << 13;
      state ^= state >>> 17;
      state ^= state << 5;
      return (state >>> 0) % below;
    };
    if (seed === 0) state = 1;
    for (let round = 0; round < 300; round++) {
      const records = Array.from({ length: 1 + random(12) }, () => {
        const type = random(4) === 0 ? random(256) : 20 + random(4);
        const length = random(3) === 0 ? random(4) : random(400);
        return record(
          type,
          Array.from({ length }, () => random(256)),
        );
      });
      const stream = Buffer.concat(records);
      const chunks: Uint8Array[] = [];
      for (let at = 0; at < stream.length; ) {
        const next = at + random(random(2) === 0 ? 4 : 200);
        chunks.push(stream.subarray(at, next));
        at = next;
      }
      const { seen, atBoundary } = scan(chunks);
      expect(seen, `CORE_SEED=${seed}, round ${round}`).toEqual(expected(records));
      expect(atBoundary, `CORE_SEED=${seed}, round ${round}`).toBe(true);
    }
  });
});

describe('peekHeader', () => {
  const header = Uint8Array.of(0, 23, 3, 3, 1, 2);

  test('a whole header, also where the bytes end with it', () => {
    expect(peekHeader(header, 1)).toEqual({ type: 23, length: 258 });
  });

  test('a part of one is none', () => {
    for (let end = 1; end < header.length; end++) {
      expect(peekHeader(header.subarray(0, end), 1)).toBe(null);
    }
  });

  test('what no version of TLS begins a record with is none', () => {
    for (const major of [0, 2, 4, 32]) {
      expect(peekHeader(Uint8Array.of(23, major, 3, 0, 100), 0)).toBe(null);
    }
  });
});
