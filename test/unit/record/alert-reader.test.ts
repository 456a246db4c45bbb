/** Connections as they were, shown to a reader in other pieces, with what their engine gave or without. */
import { describe, expect, test } from 'vitest';
import { connect, createServer } from '../../../src/index.ts';
import { AlertReader, type EndingAlert } from '../../../src/record/alert-reader.ts';
import type { Sender } from '../../../src/record/decoder.ts';
import { Capture, type Piece, randomNumbers, runSeed } from '../../support/cert-capture.ts';
import { ecServer, identityOf, serverCa } from '../../support/cert-pki.ts';
import { clean, type Scope } from '../../support/core-scope.ts';
import { only, VERSIONS, type Version } from '../../support/core-streams.ts';

const CLOSE_NOTIFY = { level: 1, description: 0, authenticated: true };

/** Of the messages that are sent and come back. */
const LENGTHS = [1, 3, 1_000, 20_000];

/** What the client of a whole conversation saw. */
async function conversation(scope: Scope, version: Version): Promise<Piece[]> {
  const server = createServer(
    { ...identityOf(ecServer()), ...only(version), onError: () => {} },
    async (stream) => {
      for await (const bytes of stream) await stream.write(bytes);
      await stream.close();
    },
  );
  scope.defer(() => server.close({ deadline: 0 }));
  const { port } = await server.listen(0, '127.0.0.1');
  const capture = new Capture();
  const stream = await connect({ host: 'localhost', port, ca: serverCa().pem, record: capture });
  for (const length of LENGTHS) {
    await stream.write(Buffer.alloc(length, 'x'));
    for (let left = length; left > 0; ) left -= (await stream.read())?.length ?? left;
  }
  await stream.close();
  return capture.pieces;
}

/** How much data one of the server's records holds: those lengths are no other message's. */
function dataIn(record: Uint8Array, version: Version): number {
  // The header, the tag, and the ContentType or what AES-GCM adds in TLS 1.2.
  const length = record.length - 5 - 16 - (version === 'TLSv1.3' ? 1 : 8);
  return record[0] === 23 && (length === 1 || length === 3 || length >= 1_000) ? length : 0;
}

/** The same with each of the server's records in a piece of its own. */
function byRecords(pieces: readonly Piece[]): Piece[] {
  let left = Buffer.alloc(0);
  return pieces.flatMap((piece): Piece[] => {
    if (!('bytes' in piece) || piece.sender !== 'server') return [piece];
    const whole: Piece[] = [];
    left = Buffer.concat([left, piece.bytes]);
    while (left.length >= 5 && left.length >= 5 + left.readUInt16BE(3)) {
      const end = 5 + left.readUInt16BE(3);
      whole.push({ sender: 'server', bytes: left.subarray(0, end) });
      left = left.subarray(end);
    }
    return whole;
  });
}

interface Read {
  readonly reader: AlertReader;
  readonly received: EndingAlert[];
  readonly sent: Array<{ readonly alert: EndingAlert; readonly end: number }>;
}

/**
 * Shows these pieces to a reader of the side `role`, cut as `cut` says.
 *
 * @param data how much application data the engine gave for a received record of this many bytes.
 */
function read(
  pieces: readonly Piece[],
  role: Sender,
  cut: () => number = () => Number.POSITIVE_INFINITY,
  data: (record: Uint8Array) => number = () => 0,
): Read {
  const received: EndingAlert[] = [];
  const sent: Array<{ alert: EndingAlert; end: number }> = [];
  const reader = new AlertReader(role, {
    onReceived: (alert) => received.push(alert),
    onSent: (alert, end) => sent.push({ alert, end }),
  });
  for (const piece of pieces) {
    if ('secret' in piece) {
      reader.secret(Buffer.from(`${piece.secret}\n`));
      continue;
    }
    for (let left = piece.bytes; left.length > 0; ) {
      const chunk = left.subarray(0, cut());
      left = left.subarray(chunk.length);
      if (piece.sender === role) {
        reader.sending(chunk);
        continue;
      }
      for (let rest = chunk; rest.length > 0; ) {
        const end = reader.received(rest);
        reader.given(data(rest.subarray(0, end)));
        rest = rest.subarray(end);
      }
    }
  }
  return { reader, received, sent };
}

describe.each(VERSIONS)('%s', (version) => {
  test.each(['client', 'server'] as const)('in pieces of any size, as the %s', (role) =>
    clean(async (scope) => {
      const pieces = await conversation(scope, version);
      const own = pieces.flatMap((one) => ('bytes' in one && one.sender === role ? [one] : []));
      const total = own.reduce((sum, { bytes }) => sum + bytes.length, 0);
      const seed = runSeed();
      const random = randomNumbers(seed);
      for (let i = 0; i < 30; i++) {
        const largest = [1, 7, 100, 30_000][i % 4]!;
        const { reader, received, sent } = read(pieces, role, () => 1 + random(largest));
        expect(received, `SEED=${seed}`).toEqual([CLOSE_NOTIFY]);
        expect(sent, `SEED=${seed}`).toEqual([{ alert: CLOSE_NOTIFY, end: total }]);
        expect(reader).toMatchObject({
          ...{ unreadable: null, refused: null, where: 'record-boundary' },
        });
      }
    })(),
  );

  test(
    'the same where the engine proves what is data',
    clean(async (scope) => {
      const pieces = byRecords(await conversation(scope, version));
      let proven = 0;
      const data = (record: Uint8Array) => {
        const length = dataIn(record, version);
        if (length > 0) proven++;
        return length;
      };
      const { received, sent } = read(pieces, 'client', undefined, data);
      expect(received).toEqual([CLOSE_NOTIFY]);
      expect(sent).toHaveLength(1);
      expect(proven).toBeGreaterThanOrEqual(4);
    }),
  );

  test(
    'what the engine proves is not read: a record that it took is passed over',
    clean(async (scope) => {
      const pieces = byRecords(await conversation(scope, version));
      const spoilt = pieces.map((piece) => {
        if (!('bytes' in piece) || piece.sender !== 'server' || piece.bytes.length < 5_000) {
          return piece;
        }
        const bytes = Uint8Array.from(piece.bytes);
        bytes[100]! ^= 1;
        return { ...piece, bytes };
      });
      const trusting = (record: Uint8Array) => dataIn(record, version);
      expect(read(spoilt, 'client', undefined, trusting).received).toEqual([CLOSE_NOTIFY]);
      const { reader, received } = read(spoilt, 'client');
      expect(received).toEqual([]);
      expect(reader.refused).toBe('a record that is not authentic');
    }),
  );

  test(
    'an engine that owes data proves nothing any more',
    clean(async (scope) => {
      const pieces = byRecords(await conversation(scope, version));
      // It gives nothing for the first record of data, and with the last record more than nothing.
      const records: Uint8Array[] = [];
      read(pieces, 'client', undefined, (record) => {
        records.push(record);
        return 0;
      });
      const last = records.at(-1);
      let owed = false;
      const { received } = read(pieces, 'client', undefined, (record) => {
        if (record.length === last?.length && Buffer.compare(record, last) === 0) return 1;
        const length = dataIn(record, version);
        if (owed || length === 0) return length;
        owed = true;
        return 0;
      });
      expect(received).toEqual([CLOSE_NOTIFY]);
    }),
  );

  test(
    'asked before the engine was given the record',
    clean(async (scope) => {
      const pieces = byRecords(await conversation(scope, version));
      const received: EndingAlert[] = [];
      const reader = new AlertReader('client', {
        onReceived: (alert) => received.push(alert),
        onSent: () => {},
      });
      for (const piece of pieces) {
        if ('secret' in piece) reader.secret(Buffer.from(piece.secret));
        else if (piece.sender === 'client') reader.sending(piece.bytes);
        else {
          for (let rest = piece.bytes; rest.length > 0; ) {
            rest = rest.subarray(reader.received(rest));
            reader.look();
          }
        }
      }
      expect(received).toEqual([CLOSE_NOTIFY]);
    }),
  );

  test(
    'without secrets, or with those of another connection, nothing is claimed',
    clean(async (scope) => {
      const [pieces, others] = [
        await conversation(scope, version),
        await conversation(scope, version),
      ];
      const bytes = pieces.filter((one) => 'bytes' in one);
      const foreign = others.filter((one) => 'secret' in one);
      for (const shown of [bytes, [...foreign, ...bytes], [...bytes, ...foreign]]) {
        expect(read(shown, 'client')).toMatchObject({ received: [], sent: [] });
      }
      const mixed = pieces.flatMap((one, i) =>
        'secret' in one ? [one, ...foreign] : [one, ...(i > 0 ? [] : foreign)],
      );
      expect(read(mixed, 'client')).toMatchObject({ received: [CLOSE_NOTIFY] });
      // What waits for a key is bounded.
      const flood = Buffer.concat(
        Array.from({ length: 100 }, () =>
          Buffer.concat([Buffer.of(23, 3, 3, 0x40, 0), Buffer.alloc(0x4000)]),
        ),
      );
      const { reader } = read([...bytes, { sender: 'server', bytes: flood }], 'client');
      expect(reader.unreadable ?? reader.refused).toMatch(/no key|data before Finished/);
    }),
  );

  test(
    'closed in the middle, it reads nothing more',
    clean(async (scope) => {
      const pieces = byRecords(await conversation(scope, version));
      const { reader, received } = read(pieces.slice(0, -2), 'client');
      reader.close();
      for (const piece of pieces.slice(-2)) {
        if ('bytes' in piece && piece.sender === 'server') reader.received(piece.bytes);
      }
      expect(received).toEqual([]);
    }),
  );
});

describe('a handshake that somebody meddles with', () => {
  const record = (type: number, ...content: number[]) => ({
    bytes: Uint8Array.of(type, 3, 3, 0, content.length, ...content),
  });

  test.each(['client', 'server'] as const)('alerts in the clear, at a %s', (role) =>
    clean(async (scope) => {
      const sender: Sender = role === 'client' ? 'server' : 'client';
      const pieces = await conversation(scope, 'TLSv1.3');
      const hello = pieces.slice(0, role === 'client' ? 1 : 0);
      const shown = (...alerts: number[][]) =>
        read([...hello, ...alerts.map((one) => ({ sender, ...record(21, ...one) }))], role);
      expect(shown([2, 40]).received).toEqual([
        { level: 2, description: 40, authenticated: false },
      ]);
      expect(shown([1, 0]).received).toEqual([{ level: 1, description: 0, authenticated: false }]);
      expect(shown([1, 112], [2, 80]).received).toEqual([
        { level: 2, description: 80, authenticated: false },
      ]);
      for (const alerts of [[[]], [[1]], [[1, 0, 0]], [[7, 0]]]) {
        const { received, reader } = shown(...alerts);
        expect(received).toEqual([]);
        expect(reader.refused).not.toBeNull();
      }
    })(),
  );

  test.each([
    ['data', 23],
    ['a ChangeCipherSpec', 20],
    ['a heartbeat', 24],
  ] as const)('%s before anything', (_name, type) => {
    const { reader } = read([{ sender: 'client', ...record(type, 1) }], 'server');
    expect(reader.refused).not.toBeNull();
  });

  test.each([
    ['a ServerHello of the client', 'server', 2],
    ['a ClientHello of the server', 'client', 1],
    ['a Finished in the clear', 'client', 20],
    ['a ServerHello that is none', 'client', 2],
  ] as const)('%s', (_name, role, type) => {
    const sender: Sender = role === 'client' ? 'server' : 'client';
    const { reader } = read([{ sender, ...record(22, type, 0, 0, 1, 0) }], role);
    expect(reader.refused).not.toBeNull();
  });

  test('a message of megabytes in records of a byte takes no memory', () => {
    const reader = new AlertReader('client', { onReceived: () => {}, onSent: () => {} });
    reader.received(record(22, 11, 0xff, 0xff, 0xff).bytes);
    const before = process.memoryUsage().arrayBuffers;
    const { bytes } = record(22, 0);
    for (let i = 0; i < 200_000; i++) reader.received(bytes);
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(50_000_000);
    expect(reader).toMatchObject({ refused: null, unreadable: null });
  });
});
