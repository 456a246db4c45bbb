/** The tap by itself, as a Duplex, between a transport that is slow or broken and an engine that is not there. */
import { Duplex } from 'node:stream';
import { describe, expect, test } from 'vitest';
import { Tap, type TransportEnding } from '../../../src/tap/tap.ts';
import { TapDuplex } from '../../../src/tap/tap-duplex.ts';
import { turn } from '../../support/core-scope.ts';

/** A transport whose writes are taken when the test says so. */
class SlowTransport extends Duplex {
  readonly taken: Array<(error?: Error) => void> = [];

  override _read(): void {}

  override _write(_chunk: Uint8Array, _encoding: string, done: (error?: Error) => void): void {
    this.taken.push(done);
  }
}

function tapOn(transport: Duplex, head?: Uint8Array) {
  const endings: TransportEnding[] = [];
  const log: string[] = [];
  const bytes = { sent: [] as number[], received: [] as number[] };
  const tap = new Tap(
    transport,
    {
      onRecord: (direction, type, length) => log.push(`${direction} ${type} ${length}`),
      onTransportEnd: (ending) => endings.push(ending),
      onCloseNotifySent: () => log.push('close_notify sent'),
      onDestroyed: () => log.push('destroyed'),
      onBytes: (direction, piece) => bytes[direction].push(piece.length),
    },
    head,
  );
  return { tap, above: new TapDuplex(tap), endings, log, bytes };
}

async function turns(): Promise<void> {
  for (let i = 0; i < 5; i++) await turn();
}

const failure = (code: string) => Object.assign(new Error(`write ${code}`), { code });

const record = (type: number, length: number) =>
  Buffer.concat([Buffer.from([type, 3, 3, length >> 8, length & 0xff]), Buffer.alloc(length)]);

test('the engine is done only when the transport has taken everything, and only then is close_notify sent', async () => {
  const transport = new SlowTransport();
  const { tap, above, log } = tapOn(transport);
  let finished = false;
  above.on('finish', () => {
    finished = true;
  });
  tap.expectCloseNotify(({ type }) => type === 21);
  above.end(record(21, 26));
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
  const { tap, above, log } = tapOn(transport);
  above.write(record(21, 26));
  tap.expectCloseNotify(({ type }) => type === 21);
  above.write(record(23, 40));
  await turn();
  transport.taken.shift()?.();
  await turn();
  transport.taken.shift()?.();
  await turn();
  expect(log).toEqual(['sent 21 26', 'sent 23 40']);
});

test('a write that fails is an ending of the transport, and no error of the tap', async () => {
  const transport = new SlowTransport();
  const { above, endings } = tapOn(transport);
  above.on('error', (error) => {
    throw error;
  });
  above.write(record(23, 40));
  await turn();
  transport.taken[0]?.(Object.assign(new Error('write EPIPE'), { code: 'EPIPE' }));
  for (let i = 0; i < 5; i++) await turn();
  expect(endings.length).toBe(1);
  expect(endings[0]).toMatchObject({ cause: 'reset', insideRecord: false });
  expect(above.destroyed).toBe(false);
});

test("records are fed one at a time, and the transport's EOF never", async () => {
  const transport = new SlowTransport();
  const { tap, above, endings } = tapOn(transport);
  const fed: number[] = [];
  let ended = false;
  above.on('data', (chunk: Uint8Array) => {
    expect(tap.feeding).toBe(true);
    fed.push(chunk.length);
  });
  above.on('end', () => {
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
  const { tap, above } = tapOn(transport);
  const before = transport.allowHalfOpen;
  let fed = 0;
  above.on('data', () => {
    fed++;
    tap.stop('closed');
  });
  transport.push(Buffer.concat([record(23, 3), Buffer.from('rest')]));
  await turn();
  transport.push(Buffer.from(' and more'));
  for (let i = 0; i < 5; i++) await turn();
  expect(fed).toBe(1);
  expect(tap.unfedLength).toBe('rest'.length);
  const trailing = Buffer.from(tap.detach()).toString();
  const left = transport.read() as Buffer | null;
  expect(trailing + (left?.toString() ?? '')).toBe('rest and more');
  expect(transport.allowHalfOpen).toBe(before);
  for (const name of ['data', 'error', 'close', 'drain']) {
    expect(transport.listenerCount(name), name).toBe(0);
  }
  // What was given back is given back once.
  expect(tap.unfedLength).toBe(0);
  expect(tap.detach().length).toBe(0);
});

describe('what it takes over, and gives back', () => {
  const NAMES = ['data', 'readable', 'end'] as const;

  test('who listened to the bytes does not hear of the ciphertext, and listens again afterwards, once', () => {
    const transport = new SlowTransport();
    const heard: string[] = [];
    const listeners = NAMES.map((name) => {
      const listener = () => heard.push(name);
      transport.on(name, listener);
      return listener;
    });
    const has = () => NAMES.map((name, at) => count(transport, name, listeners[at]));
    const { tap } = tapOn(transport);
    expect(has()).toEqual([0, 0, 0]);
    tap.detach();
    expect(has()).toEqual([0, 0, 0]);
    tap.unmute();
    tap.unmute();
    expect(has()).toEqual([1, 1, 1]);
    expect(transport.isPaused()).toBe(true);
    expect(heard).toEqual([]);
  });

  test('a transport that is let go of is paused, also from within the feeding of a record', async () => {
    const outside = new SlowTransport();
    const { tap: quiet } = tapOn(outside);
    quiet.resume();
    quiet.detach();
    expect(outside.isPaused()).toBe(true);

    const inside = new SlowTransport();
    const { tap, above } = tapOn(inside);
    above.on('data', () => tap.detach());
    inside.push(record(23, 3));
    await turns();
    expect(inside.isPaused()).toBe(true);
  });

  test('nothing is written to a transport that it has let go of, or done to it', async () => {
    const transport = new SlowTransport();
    const { tap, above, bytes } = tapOn(transport);
    tap.detach();
    above.write(record(23, 3));
    // Its owner reads it, to the peer's FIN for instance.
    transport.resume();
    tap.stop('waived');
    await turns();
    expect(transport.taken.length).toBe(0);
    expect(bytes.sent).toEqual([]);
    expect(transport.isPaused()).toBe(false);
  });

  test('bytes that may be TLS are no trailing data', async () => {
    const transport = new SlowTransport();
    const { tap } = tapOn(transport, record(23, 3));
    await turns();
    expect(tap.detach().length).toBe(0);
  });

  test('an empty head is no bytes', async () => {
    const transport = new SlowTransport();
    const { above, bytes } = tapOn(transport, Buffer.alloc(0));
    const fed: number[] = [];
    above.on('data', (chunk: Uint8Array) => fed.push(chunk.length));
    transport.push(record(23, 3));
    await turns();
    expect(fed).toEqual([8]);
    expect(bytes).toEqual({ sent: [], received: [8] });
  });
});

function count(transport: Duplex, name: string, listener: unknown): number {
  return transport.rawListeners(name).filter((one) => one === listener).length;
}

describe('feeding', () => {
  test('a record that comes while one is fed waits for it', async () => {
    const transport = new SlowTransport();
    const { tap, above } = tapOn(transport);
    const fed: string[] = [];
    above.on('data', (chunk: Uint8Array) => {
      fed.push(`begin ${chunk.length}`);
      // A transport in memory delivers within any call.
      if (chunk.length === 8) transport.emit('data', record(23, 4));
      fed.push(`end ${chunk.length} ${tap.feeding}`);
    });
    transport.push(record(23, 3));
    await turns();
    expect(fed).toEqual(['begin 8', 'end 8 true', 'begin 9', 'end 9 true']);
  });

  test.each<[string, (tap: Tap) => unknown]>([
    ['destroyed', (tap) => tap.destroy()],
    ['told that the caller looks no more', (tap) => tap.stop('waived')],
    ['paused', (tap) => tap.pause()],
  ])('it feeds nothing more once it is %s', async (_, act) => {
    const transport = new SlowTransport();
    const { tap, above } = tapOn(transport);
    let fed = 0;
    above.on('data', () => {
      fed++;
      act(tap);
    });
    transport.push(Buffer.concat([record(23, 3), record(23, 3)]));
    await turns();
    expect(fed).toBe(1);
  });

  test('stopped, it reads no more: outside the feeding of a record, and within the last one', async () => {
    const outside = new SlowTransport();
    const quiet = tapOn(outside).tap;
    quiet.resume();
    await turns();
    quiet.stop('waived');
    expect(outside.isPaused()).toBe(true);

    const inside = new SlowTransport();
    const { tap, above } = tapOn(inside);
    above.on('data', () => tap.stop('closed'));
    inside.push(record(21, 26));
    await turns();
    expect(inside.isPaused()).toBe(true);
    // It is the next protocol's, and stays where it is.
    inside.push('plaintext');
    await turns();
    expect(tap.unfedLength).toBe(0);
    expect(inside.readableLength).toBe('plaintext'.length);
  });

  test('a transport is not read for an engine that has enough', async () => {
    const transport = new SlowTransport();
    const { tap, above } = tapOn(transport);
    let fed = 0;
    above.on('data', () => {
      fed++;
      tap.pause();
    });
    transport.push(Buffer.concat([record(23, 3), record(23, 3)]));
    await turns();
    expect(fed).toBe(1);
    tap.resume();
    await turns();
    expect(fed).toBe(2);
    expect(transport.isPaused()).toBe(true);
    tap.resume();
    await turns();
    expect(transport.isPaused()).toBe(false);
  });
});

describe("the transport's ending", () => {
  test.each([
    ['ECONNRESET', 'reset'],
    ['EPIPE', 'reset'],
    ['ECONNABORTED', 'reset'],
    ['ETIMEDOUT', 'error'],
    ['EHOSTUNREACH', 'error'],
  ])('%s is called %s', async (code, cause) => {
    const transport = new SlowTransport();
    const { endings } = tapOn(transport);
    transport.destroy(failure(code));
    await turns();
    expect(endings).toMatchObject([{ cause, error: { code } }]);
  });

  test('one that came before the tap, or before the engine, is told once the engine is there', async () => {
    const ended = new SlowTransport();
    ended.push(null);
    ended.resume();
    await turns();
    expect(ended.readableEnded && !ended.destroyed).toBe(true);
    const late = tapOn(ended);

    const failing = new SlowTransport();
    const early = tapOn(failing);
    failing.emit('error', failure('ECONNRESET'));
    expect([...late.endings, ...early.endings]).toEqual([]);
    await turns();
    expect(late.endings).toMatchObject([{ cause: 'eof', error: null }]);
    expect(early.endings).toMatchObject([{ cause: 'reset' }]);
  });

  test('something other than bytes ends it with an error', async () => {
    const transport = new SlowTransport();
    const { tap, endings } = tapOn(transport);
    tap.resume();
    transport.emit('data', 'text');
    await turns();
    expect(endings).toMatchObject([{ cause: 'error', error: expect.any(TypeError) }]);
  });

  test('EOF waits until all that came before is fed, and is told once', async () => {
    const transport = new SlowTransport();
    const { tap, above, endings } = tapOn(transport);
    let fed = 0;
    above.on('data', () => {
      fed++;
      tap.pause();
    });
    transport.push(Buffer.concat([record(23, 3), record(23, 3)]));
    await turns();
    // As a transport of another make may: this one does not end while it is paused.
    transport.emit('end');
    // And now nothing can be sent any more, which is no news before the EOF is.
    above.write(record(23, 3));
    transport.taken[0]?.(failure('EPIPE'));
    await turns();
    expect(fed).toBe(1);
    expect(endings).toEqual([]);
    tap.resume();
    await turns();
    expect(fed).toBe(2);
    expect(endings).toMatchObject([{ cause: 'eof' }]);
    tap.resume();
    await turns();
    expect(endings.length).toBe(1);
  });

  test('after EOF, that nothing can be sent any more is told once', async () => {
    const transport = new SlowTransport();
    const { tap, endings } = tapOn(transport);
    tap.resume();
    transport.push(null);
    await turns();
    transport.on('error', () => {});
    transport.emit('error', failure('EPIPE'));
    transport.emit('error', failure('EPIPE'));
    await turns();
    expect(endings).toMatchObject([{ cause: 'eof' }, { cause: 'reset', error: { code: 'EPIPE' } }]);
  });

  test.each([
    [1, ['eof', 'destroyed']],
    [0, ['eof']],
  ])('after EOF, destroyed here with %i writes on their way: %j', async (writes, causes) => {
    const transport = new SlowTransport();
    const { tap, above, endings } = tapOn(transport);
    tap.resume();
    transport.push(null);
    await turns();
    if (writes > 0) above.write(record(23, 3));
    await turns();
    transport.destroy();
    await turns();
    expect(endings.map(({ cause }) => cause)).toEqual(causes);
  });

  test('close_notify has come: a reset is told, though trailing data waits', async () => {
    const transport = new SlowTransport();
    const { tap, above, endings } = tapOn(transport);
    above.on('data', () => tap.stop('closed'));
    transport.push(Buffer.concat([record(21, 26), Buffer.from('plaintext')]));
    await turns();
    transport.destroy(failure('ECONNRESET'));
    await turns();
    expect(endings).toMatchObject([{ cause: 'reset' }]);
    expect(Buffer.from(tap.detach()).toString()).toBe('plaintext');
  });

  test('who looks no more hears of no EOF, but of a reset', async () => {
    const transport = new SlowTransport();
    const { tap, endings } = tapOn(transport);
    tap.resume();
    await turns();
    tap.stop('waived');
    // On its way when it was paused.
    transport.emit('end');
    await turns();
    expect(endings).toEqual([]);

    const other = new SlowTransport();
    const second = tapOn(other);
    second.tap.resume();
    await turns();
    second.tap.stop('waived');
    other.destroy(failure('ECONNRESET'));
    await turns();
    expect(second.endings).toMatchObject([{ cause: 'reset' }]);
  });
});

describe('close_notify on its way out', () => {
  const isAlert = ({ type }: { readonly type: number }) => type === 21;

  test('one that the transport did not take was not sent', async () => {
    const transport = new SlowTransport();
    const { tap, above, endings, log } = tapOn(transport);
    let then = 0;
    tap.expectCloseNotify(isAlert);
    tap.afterCloseNotify(() => then++);
    above.write(record(21, 26));
    await turn();
    transport.taken[0]?.(failure('EPIPE'));
    await turns();
    expect(log).toEqual(['sent 21 26']);
    expect(then).toBe(0);
    expect(endings).toMatchObject([{ cause: 'reset' }]);
  });

  test('it is sent once, whatever the engine writes behind it', async () => {
    const transport = new SlowTransport();
    const { tap, above, log, bytes } = tapOn(transport);
    let then = 0;
    tap.expectCloseNotify(isAlert);
    tap.afterCloseNotify(() => then++);
    for (const type of [21, 23, 21]) {
      above.write(record(type, 26));
      await turn();
      expect(then).toBe(Math.min(transport.taken.length - 1, 1));
      transport.taken.at(-1)?.();
      await turns();
    }
    expect(log.filter((line) => line === 'close_notify sent')).toEqual(['close_notify sent']);
    expect(then).toBe(1);
    tap.afterCloseNotify(() => then++);
    expect(then).toBe(2);
    expect(bytes.sent).toEqual([31, 31, 31]);
  });

  test('the engine goes on once for each time that the transport has drained', async () => {
    const transport = new SlowTransport({ writableHighWaterMark: 1 });
    const { above } = tapOn(transport);
    let taken = 0;
    above.write(record(23, 3), () => taken++);
    await turns();
    expect(taken).toBe(0);
    transport.taken[0]?.();
    await turns();
    expect(taken).toBe(1);
    transport.emit('drain');
    await turns();
    expect(taken).toBe(1);
    expect(above.errored).toBe(null);
  });
});

describe('an engine that answers close_notify by itself, within the feeding of it', () => {
  const isAlert = ({ type }: { readonly type: number }) => type === 21;

  /** A tap whose engine writes `replies` to each record that it is fed, and then asks what it has sent. */
  function answering(transport: Duplex, replies: Array<readonly Buffer[]>) {
    const made = tapOn(transport);
    made.above.on('data', () => {
      for (const reply of replies.shift() ?? []) made.above.write(reply);
      made.tap.takeReply(isAlert);
    });
    return made;
  }

  const sent = (log: readonly string[]) =>
    log.filter((line) => line === 'close_notify sent').length;

  test('the answer counts once the transport has taken it, behind all that was written before', async () => {
    const transport = new SlowTransport();
    const { tap, above, log } = answering(transport, [[record(21, 26)]]);
    let then = 0;
    tap.afterCloseNotify(() => then++);
    above.write(record(23, 40));
    transport.push(record(21, 26));
    await turns();
    for (const expected of [0, 0, 1]) {
      expect([sent(log), then]).toEqual([expected, expected]);
      transport.taken.shift()?.();
      await turns();
    }
    // Whatever is written behind it is no second one.
    above.write(record(21, 26));
    await turns();
    transport.taken.shift()?.();
    await turns();
    expect([sent(log), then]).toEqual([1, 1]);
  });

  test('something else is no answer: an alert that went before, or one with data behind it', async () => {
    const transport = new SlowTransport();
    const { above, log } = answering(transport, [[record(21, 26), record(23, 40)]]);
    above.write(record(21, 26));
    transport.push(record(23, 3));
    await turns();
    while (transport.taken.length > 0) {
      transport.taken.shift()?.();
      await turns();
    }
    expect(log).toContain('sent 23 40');
    expect(sent(log)).toBe(0);
  });

  test('an answer to an earlier record is none to this one', async () => {
    const transport = new SlowTransport();
    const { tap, above, log } = tapOn(transport);
    let number = 0;
    above.on('data', () => {
      if (number++ === 0) above.write(record(21, 26));
      else tap.takeReply(isAlert);
    });
    transport.push(record(23, 3));
    await turns();
    // Nothing is being fed.
    tap.takeReply(isAlert);
    transport.push(record(23, 3));
    await turns();
    transport.taken.shift()?.();
    await turns();
    expect(number).toBe(2);
    expect(sent(log)).toBe(0);
  });
});

describe('what it gathers at the end of a handshake', () => {
  /** How many calls of the transport carry what is written, and how often it is corked. */
  function corkable() {
    const writes: number[] = [];
    const transport = new Duplex({
      read() {},
      write(_chunk, _encoding, done) {
        writes.push(1);
        done();
      },
      writev(chunks, done) {
        writes.push(chunks.length);
        done();
      },
    });
    return { transport, writes };
  }

  test('leaves with what follows it', async () => {
    const { transport, writes } = corkable();
    const { tap, above } = tapOn(transport);
    above.on('data', () => {
      above.write(record(22, 3));
      above.write(record(22, 3));
    });
    above.write(record(22, 3));
    // Nothing waits unless told to.
    transport.emit('data', record(22, 3));
    expect(writes.splice(0)).toEqual([1, 1, 1]);
    tap.gatherFlights();
    transport.emit('data', record(22, 3));
    expect(writes).toEqual([]);
    above.write(record(23, 3));
    expect(writes.splice(0)).toEqual([3]);
    await turns();
    expect(writes).toEqual([]);
    tap.establish();
    above.write(record(23, 3));
    expect(writes).toEqual([1]);
    // From here on nothing is worth a wait.
    transport.emit('data', record(23, 3));
    expect(writes).toEqual([1, 1, 1]);
  });

  test('leaves at the end of the turn where nothing follows', async () => {
    const { transport, writes } = corkable();
    const { tap, above, log } = tapOn(transport);
    tap.gatherFlights();
    above.on('data', () => above.write(record(22, 3)));
    transport.emit('data', record(22, 3));
    transport.emit('data', record(22, 3));
    expect(writes).toEqual([]);
    await turns();
    expect(writes).toEqual([2]);
    expect(log.filter((line) => line.startsWith('sent')).length).toBe(2);
  });

  test('leaves before the transport is let go of', async () => {
    const { transport, writes } = corkable();
    const { tap, above } = tapOn(transport);
    tap.gatherFlights();
    above.on('data', () => above.write(record(22, 3)));
    transport.emit('data', record(22, 3));
    tap.detach();
    expect(writes).toEqual([1]);
    await turns();
    expect(writes).toEqual([1]);
  });

  test.each([
    [[3, 4], [2]],
    [[3, 0], [1]],
  ])(
    'without a handshake to end: what the records of one chunk bring about leaves together (%j)',
    (lengths, expected) => {
      const { transport, writes } = corkable();
      const { above } = tapOn(transport);
      above.on('data', (chunk: Uint8Array) => {
        if (chunk.length > 5) above.write(record(23, 3));
      });
      transport.emit('data', Buffer.concat(lengths.map((length) => record(23, length))));
      expect(writes).toEqual(expected);
    },
  );

  test('what was written before the peer closed leaves with the close_notify that answers it', async () => {
    const { transport, writes } = corkable();
    const { tap, above, log } = tapOn(transport);
    above.on('data', (chunk: Uint8Array) => {
      if (chunk[0] === 21) tap.stop('closed');
      // Session tickets, say.
      else above.write(record(22, 3));
    });
    transport.emit('data', Buffer.concat([record(22, 3), record(21, 26)]));
    expect(writes).toEqual([]);
    tap.expectCloseNotify(({ type }) => type === 21);
    above.write(record(21, 26));
    expect(writes).toEqual([2]);
    await turns();
    expect(log.at(-1)).toBe('close_notify sent');
    expect(writes).toEqual([2]);
  });

  test('what the engine writes in one go reaches the transport in one go', async () => {
    const { transport, writes } = corkable();
    const { tap } = tapOn(transport);
    let done = 0;
    let taken = 0;
    const parts = [record(23, 3), record(23, 4), record(23, 5)];
    tap.send(parts, () => done++);
    expect(writes).toEqual([3]);
    // Somebody is shown the bytes here, and may keep them.
    tap.send(
      [record(23, 3)],
      () => done++,
      () => taken++,
    );
    tap.send([], () => done++);
    await turns();
    expect([done, taken]).toEqual([3, 0]);
    expect(transport.writableCorked).toBe(0);
  });
});
