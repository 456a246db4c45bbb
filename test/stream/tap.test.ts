/** The tap by itself, between a transport that is slow or broken and an engine that is not there. */
import { Duplex } from 'node:stream';
import { expect, test } from 'vitest';
import { Tap, type TransportEnding } from '../../src/stream/tap.ts';
import { turn } from '../support/core-scope.ts';

/** A transport whose writes are taken when the test says so. */
class SlowTransport extends Duplex {
  readonly taken: Array<(error?: Error) => void> = [];

  override _read(): void {}

  override _write(_chunk: Uint8Array, _encoding: string, done: (error?: Error) => void): void {
    this.taken.push(done);
  }
}

function tapOn(transport: Duplex) {
  const endings: TransportEnding[] = [];
  const log: string[] = [];
  const tap = new Tap(
    transport,
    {
      onRecord: (direction, type, length) => log.push(`${direction} ${type} ${length}`),
      onTransportEnd: (ending) => endings.push(ending),
      onCloseNotifySent: () => log.push('close_notify sent'),
      onDestroyed: () => log.push('destroyed'),
    },
    undefined,
  );
  return { tap, endings, log };
}

const record = (type: number, length: number) =>
  Buffer.concat([Buffer.from([type, 3, 3, length >> 8, length & 0xff]), Buffer.alloc(length)]);

test('the engine is done only when the transport has taken everything, and only then is close_notify sent', async () => {
  const transport = new SlowTransport();
  const { tap, log } = tapOn(transport);
  let finished = false;
  tap.on('finish', () => {
    finished = true;
  });
  tap.expectCloseNotify(({ type }) => type === 21);
  tap.end(record(21, 26));
  for (let i = 0; i < 5; i++) await turn();
  expect(log).toEqual(['sent 21 26']);
  expect(finished).toBe(false);
  transport.taken[0]?.();
  for (let i = 0; i < 5; i++) await turn();
  expect(log).toEqual(['sent 21 26', 'close_notify sent']);
  expect(finished).toBe(true);
  // "Each party MUST send a close_notify alert before closing its write side" (RFC 9846 section
  // 6.1): closing it is for the stream to decide, so the tap has not.
  expect(transport.writableEnded).toBe(false);
});

test('a record that nobody expects to be close_notify is not called so', async () => {
  const transport = new SlowTransport();
  const { tap, log } = tapOn(transport);
  tap.write(record(21, 26));
  tap.expectCloseNotify(({ type }) => type === 21);
  tap.write(record(23, 40));
  await turn();
  transport.taken.shift()?.();
  await turn();
  transport.taken.shift()?.();
  await turn();
  expect(log).toEqual(['sent 21 26', 'sent 23 40']);
});

test('a write that fails is an ending of the transport, and no error of the tap', async () => {
  const transport = new SlowTransport();
  const { tap, endings } = tapOn(transport);
  tap.on('error', (error) => {
    throw error;
  });
  tap.write(record(23, 40));
  await turn();
  transport.taken[0]?.(Object.assign(new Error('write EPIPE'), { code: 'EPIPE' }));
  for (let i = 0; i < 5; i++) await turn();
  expect(endings.length).toBe(1);
  expect(endings[0]).toMatchObject({ cause: 'reset', insideRecord: false });
  expect(tap.destroyed).toBe(false);
});

test("records are fed one at a time, and the transport's EOF never", async () => {
  const transport = new SlowTransport();
  const { tap, endings } = tapOn(transport);
  const fed: number[] = [];
  let ended = false;
  tap.on('data', (chunk: Uint8Array) => {
    expect(tap.feeding).toBe(true);
    fed.push(chunk.length);
  });
  tap.on('end', () => {
    ended = true;
  });
  transport.push(Buffer.concat([record(22, 10), record(23, 0), record(23, 100).subarray(0, 20)]));
  transport.push(null);
  for (let i = 0; i < 5; i++) await turn();
  expect(fed).toEqual([15, 5, 20]);
  expect(tap.feeding).toBe(false);
  expect(ended).toBe(false);
  expect(endings).toEqual([{ cause: 'eof', error: null, insideRecord: true }]);
});

test('stopped in the middle of a chunk, it feeds no more, and gives back the rest to the byte', async () => {
  const transport = new SlowTransport();
  const { tap } = tapOn(transport);
  const before = transport.allowHalfOpen;
  let fed = 0;
  tap.on('data', () => {
    fed++;
    tap.stop('closed');
  });
  transport.push(Buffer.concat([record(23, 3), Buffer.from('rest')]));
  await turn();
  transport.push(Buffer.from(' and more'));
  for (let i = 0; i < 5; i++) await turn();
  expect(fed).toBe(1);
  const trailing = Buffer.from(tap.detach()).toString();
  const left = transport.read() as Buffer | null;
  expect(trailing + (left?.toString() ?? '')).toBe('rest and more');
  expect(transport.allowHalfOpen).toBe(before);
  for (const name of ['data', 'error', 'close', 'drain']) {
    expect(transport.listenerCount(name), name).toBe(0);
  }
});
