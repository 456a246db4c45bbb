/** The tap, between a transport in memory and something that stands for TLS. */
import net from 'node:net';
import { Duplex } from 'node:stream';
import { describe, expect, test } from 'vitest';
import type { TransportEnding, Way } from '../../../src/closure/ending.ts';
import type { EndingAlert } from '../../../src/record/conversation.ts';
import { isTap, Tap, type TapEvents, type TapOptions } from '../../../src/tap/tap.ts';
import { byteByByte, type ChannelEnd, channel } from '../../../src/testing/channel.ts';
import { memoryPair } from '../../../src/transport/pair.ts';
import { turn } from '../../support/core-scope.ts';

const ALERT = 21;
const HANDSHAKE = 22;
const DATA = 23;

/** A record with a body of `length` bytes, each of them `fill`. */
const record = (length: number, fill = length, type = DATA): Buffer =>
  Buffer.concat([Buffer.of(type, 3, 3, length >> 8, length & 255), Buffer.alloc(length, fill)]);

/** A fatal handshake_failure, in the clear. */
const FAILURE = Buffer.of(ALERT, 3, 3, 0, 2, 2, 40);

/** Stands for TLS and for the engine: keeps what it is fed and told. */
class Recorder implements TapEvents {
  wants = true;
  given = 0;
  readonly fed: Buffer[] = [];
  readonly endings: TransportEnding[] = [];
  readonly alerts: Array<{ way: Way; alert: EndingAlert }> = [];
  readonly sendFailures: Error[] = [];
  refused = 0;
  readonly records: Array<readonly [Way, number, number]> = [];
  /** What was seen of `tap.feeding` within each feeding. */
  readonly feeding: boolean[] = [];
  /** Called behind each record. */
  behind: (fed: number) => void = () => {};
  readonly tap: Tap;

  constructor(
    transport: Duplex,
    options: Partial<Omit<TapOptions, 'transport'>> & {
      readonly onFeed?: (piece: Buffer) => void;
    } = {},
  ) {
    const { onFeed, ...others } = options;
    this.tap = new Tap({ transport, role: 'client', readable: false, ...others }, this);
    this.tap.on('data', (piece: Buffer) => {
      this.fed.push(Buffer.from(piece));
      this.feeding.push(this.tap.feeding);
      onFeed?.(piece);
    });
  }

  onFed(): void {
    this.behind(this.fed.length);
  }

  onAlert(way: Way, alert: EndingAlert): void {
    this.alerts.push({ way, alert });
  }

  onTransportEnd(ending: TransportEnding): void {
    this.endings.push(ending);
  }

  onRefused(): void {
    this.refused++;
  }

  onSendFailed(error: Error): void {
    this.sendFailures.push(error);
  }

  onRecord(way: Way, type: number, length: number): void {
    this.records.push([way, type, length]);
  }

  get bytes(): Buffer {
    return Buffer.concat(this.fed);
  }

  /** How the transport ended, each time that it was told. */
  get causes(): string[] {
    return this.endings.map(({ cause, where }) => `${cause} ${where}`);
  }
}

/** All that is in motion gets where it goes: nothing here takes more than some turns of the event loop. */
async function quiet(): Promise<void> {
  for (let i = 0; i < 5; i++) await turn();
}

/** What is on the wire of a transport in memory whose other end is `peer`. */
function ends(options?: Parameters<typeof channel>[0]): { near: ChannelEnd; peer: ChannelEnd } {
  const [near, peer] = channel(options).ends;
  return { near, peer };
}

describe('from the transport to TLS', () => {
  const records = [record(5), record(0), record(300), record(1), record(16_384, 7)];
  const flight = Buffer.concat(records);
  const boundaries = records.map((_, i) => Buffer.concat(records.slice(0, i + 1)).length);

  for (const [name, segments, pieces] of [
    ['in one segment', undefined, records.length],
    ['byte by byte', byteByByte, flight.length],
    [
      'in segments that end within headers and bodies',
      function* (chunk: Uint8Array) {
        for (let at = 0; at < chunk.length; at += 7) yield chunk.subarray(at, at + 7);
      },
      null,
    ],
  ] as const) {
    test(`it is fed record by record, by 'data': ${name}`, async () => {
      const { near, peer } = ends({ segments });
      const tls = new Recorder(near);
      peer.write(flight);
      await quiet();
      expect(tls.bytes.equals(flight)).toBe(true);
      let end = 0;
      const endsOfPieces = tls.fed.map((piece) => {
        end += piece.length;
        return end;
      });
      expect(endsOfPieces).toEqual(expect.arrayContaining(boundaries));
      if (pieces !== null) expect(tls.fed).toHaveLength(pieces);
      expect(tls.records).toEqual(
        records.map((one) => ['received', DATA, one.length - 5] as const),
      );
      expect(new Set(tls.feeding)).toEqual(new Set([true]));
      expect(tls.tap.feeding).toBe(false);
    });
  }

  test('it is done with a record when it is asked about it, before the next', async () => {
    const { near, peer } = ends();
    const order: string[] = [];
    const tls = new Recorder(near, { onFeed: ({ length }) => order.push(`fed ${length}`) });
    tls.behind = () => order.push('done');
    peer.write(Buffer.concat([record(1), record(2)]));
    await quiet();
    expect(order).toEqual(['fed 6', 'done', 'fed 7', 'done']);
  });

  test('what was read already comes first', async () => {
    const { near, peer } = ends();
    const all = Buffer.concat([record(9), record(4)]);
    const tls = new Recorder(near, { head: all.subarray(0, 3) });
    peer.write(all.subarray(3));
    await quiet();
    expect(tls.bytes).toEqual(all);
  });

  test('a callback that throws loses nothing', async () => {
    const { near, peer } = ends();
    let throws = true;
    const tls = new Recorder(near, {
      onFeed: () => {
        if (throws) throw new Error('of the program');
      },
    });
    tls.wants = false;
    peer.write(Buffer.concat([record(1), record(2), record(3)]));
    await quiet();
    expect(tls.fed).toEqual([]);
    tls.wants = true;
    expect(() => tls.tap.wanted()).toThrow('of the program');
    expect(tls.tap.feeding).toBe(false);
    expect(tls.fed).toEqual([record(1)]);
    throws = false;
    await quiet();
    expect(tls.fed).toEqual([record(1), record(2), record(3)]);
  });

  test('while it wants no more the transport is paused, and what is here waits', async () => {
    const { near, peer } = ends();
    const tls = new Recorder(near);
    tls.behind = () => {
      tls.wants = false;
    };
    peer.write(Buffer.concat([record(1), record(2)]));
    await quiet();
    peer.write(record(3));
    await quiet();
    expect(tls.fed).toEqual([record(1)]);
    expect(near.isPaused()).toBe(true);
    expect(near.readableLength).toBe(record(3).length);
    expect(tls.tap.unfedLength).toBe(record(2).length);
    tls.behind = () => {};
    tls.wants = true;
    tls.tap.wanted();
    await quiet();
    expect(tls.fed).toEqual([record(1), record(2), record(3)]);
    expect(near.isPaused()).toBe(false);
  });

  test('an error of the transport overtakes nothing that was read: it is fed first, wanted or not', async () => {
    const { near, peer } = ends();
    const tls = new Recorder(near);
    tls.wants = false;
    peer.write(Buffer.concat([record(1), record(2), record(3).subarray(0, 4)]));
    await quiet();
    expect(tls.fed).toEqual([]);
    let fedBefore: number | null = null;
    tls.onTransportEnd = (ending) => {
      fedBefore = tls.fed.length;
      tls.endings.push(ending);
    };
    near.destroy(Object.assign(new Error('reset'), { code: 'ECONNRESET' }));
    await quiet();
    expect(fedBefore).toBe(3);
    expect(tls.causes).toEqual(['reset inside-record']);
  });
});

describe("the transport's end", () => {
  for (const [name, last, where] of [
    ['between two records', record(2), 'record-boundary'],
    ['in a header', record(2).subarray(0, 4), 'inside-record'],
    ['in a body', record(2).subarray(0, 6), 'inside-record'],
  ] as const) {
    test(`EOF ${name} is told, and never passed on to TLS`, async () => {
      const { near, peer } = ends();
      const tls = new Recorder(near);
      const seen: string[] = [];
      for (const name of ['end', 'close', 'error']) tls.tap.on(name, () => seen.push(name));
      peer.write(record(1));
      peer.end(last);
      await quiet();
      expect(tls.bytes).toEqual(Buffer.concat([record(1), last]));
      expect(tls.endings).toEqual([{ cause: 'eof', error: null, where }]);
      expect(seen).toEqual([]);
      expect(tls.tap.readableEnded).toBe(false);
      // Ours stays open: nothing of the tap has ended it.
      expect(near.writableEnded).toBe(false);
    });
  }

  test('EOF waits behind what TLS does not want yet', async () => {
    const { near, peer } = ends();
    const tls = new Recorder(near);
    tls.wants = false;
    peer.end(record(1));
    await quiet();
    expect(tls.endings).toEqual([]);
    tls.wants = true;
    tls.tap.wanted();
    await quiet();
    expect(tls.fed).toEqual([record(1)]);
    expect(tls.causes).toEqual(['eof record-boundary']);
  });

  test('EOF that was there before waits behind it as well', async () => {
    const { near, peer } = ends();
    peer.end();
    near.resume();
    await quiet();
    const tls = new Recorder(near, { head: record(1) });
    tls.wants = false;
    await quiet();
    expect(tls.endings).toEqual([]);
    tls.wants = true;
    tls.tap.wanted();
    expect(tls.fed).toEqual([record(1)]);
    expect(tls.causes).toEqual(['eof record-boundary']);
  });

  for (const [name, code, cause] of [
    ['a reset', 'ECONNRESET', 'reset'],
    ['a broken pipe', 'EPIPE', 'reset'],
    ['another error', 'ETIMEDOUT', 'error'],
  ] as const) {
    test(`${name} is told with its error, once`, async () => {
      const { near } = ends();
      const tls = new Recorder(near);
      await quiet();
      const error = Object.assign(new Error(name), { code });
      near.destroy(error);
      await quiet();
      expect(tls.endings).toEqual([{ cause, error, where: 'record-boundary' }]);
    });
  }

  test('a transport that somebody here destroyed is told from one that the peer ended', async () => {
    const { near } = ends();
    const tls = new Recorder(near);
    await quiet();
    near.destroy();
    await quiet();
    expect(tls.endings).toEqual([{ cause: 'destroyed', error: null, where: 'record-boundary' }]);
  });

  test('one that closes behind EOF with writes not taken says so; with all taken it says nothing', async () => {
    for (const clogged of [true, false]) {
      const { near, peer } = ends();
      const tls = new Recorder(near);
      if (clogged) near.line.clog();
      tls.tap.write(record(1));
      peer.end();
      await quiet();
      near.destroy();
      await quiet();
      expect(tls.causes).toEqual(
        clogged ? ['eof record-boundary', 'destroyed record-boundary'] : ['eof record-boundary'],
      );
      if (clogged) expect(tls.endings[1]?.error).toBeInstanceOf(Error);
    }
  });

  test('an end that was there before the tap is told, behind the call that makes it', async () => {
    const error = Object.assign(new Error('gone'), { code: 'ECONNRESET' });
    const over: ReadonlyArray<readonly [string, (near: ChannelEnd, peer: ChannelEnd) => void]> = [
      ['reset', (near) => near.on('error', () => {}).destroy(error)],
      ['destroyed', (near) => near.destroy()],
      ['eof', (near, peer) => near.resume() && peer.end()],
    ];
    for (const [cause, end] of over) {
      const { near, peer } = ends();
      end(near, peer);
      await quiet();
      const tls = new Recorder(near, { head: record(1) });
      expect(tls.endings).toEqual([]);
      await quiet();
      expect(tls.causes).toEqual([`${cause} record-boundary`]);
      expect(tls.fed, 'what was read before is fed first').toEqual([record(1)]);
    }
  });
});

describe("behind the peer's close_notify", () => {
  test('TLS is fed no more, and all that is left comes back to the byte', async () => {
    // Three records and a piece of what is no record at all.
    const [first, second] = [record(1), record(2)];
    const trailing = Buffer.concat([record(3), Buffer.from('EHLO example.org\r\n'), record(9)]);
    const wire = Buffer.concat([first, second, trailing]);
    for (let cut = 0; cut <= wire.length; cut++) {
      const { near, peer } = ends();
      const tls = new Recorder(near);
      let at = 0;
      tls.behind = () => {
        at = tls.bytes.length;
        if (at === first.length + second.length) tls.tap.stop();
      };
      peer.write(wire.subarray(0, cut));
      await turn();
      peer.write(wire.subarray(cut));
      await turn();
      expect(tls.bytes).toEqual(Buffer.concat([first, second]));
      const unfed = tls.tap.unfedLength;
      const back = tls.tap.detach(true);
      expect(back).toHaveLength(unfed);
      // What came later was never read: it is where it was.
      const later: Buffer = near.read() ?? Buffer.alloc(0);
      expect(Buffer.concat([back, later])).toEqual(trailing);
    }
  });

  test('EOF there is told at once, for nothing that waits here is to be fed', async () => {
    const { near, peer } = ends();
    const tls = new Recorder(near);
    tls.behind = () => tls.tap.stop();
    peer.write(Buffer.concat([record(1), record(2)]));
    await quiet();
    near.destroy(Object.assign(new Error('reset'), { code: 'ECONNRESET' }));
    await quiet();
    expect(tls.fed).toEqual([record(1)]);
    expect(tls.endings.map(({ cause }) => cause)).toEqual(['reset']);
  });

  test('without a close_notify nothing is trailing data: what waits is ciphertext', async () => {
    const { near, peer } = ends();
    const tls = new Recorder(near);
    tls.wants = false;
    peer.write(record(1));
    await quiet();
    expect(tls.tap.unfedLength).toBe(6);
    expect(tls.tap.detach(true)).toHaveLength(0);
    expect(tls.tap.unfedLength).toBe(0);
  });
});

describe('held', () => {
  test('it feeds nothing, and EOF is not told until it is held no more', async () => {
    const { near, peer } = ends();
    const tls = new Recorder(near);
    await quiet();
    tls.tap.hold();
    peer.end(Buffer.concat([record(1), record(2)]));
    await quiet();
    expect(tls.fed).toEqual([]);
    expect(tls.endings).toEqual([]);
    expect(near.isPaused()).toBe(true);
    tls.tap.unhold();
    await quiet();
    expect(tls.fed).toEqual([record(1), record(2)]);
    expect(tls.causes).toEqual(['eof record-boundary']);
  });

  test('EOF that is known already is not told either, nor what is here fed', async () => {
    const { near, peer } = ends();
    peer.end();
    near.resume();
    await quiet();
    expect(near.readableEnded).toBe(true);
    const tls = new Recorder(near, { head: Buffer.concat([record(1), record(2)]) });
    tls.behind = (fed) => {
      if (fed === 1) tls.tap.hold();
    };
    await quiet();
    expect(tls.fed).toEqual([record(1)]);
    expect(tls.endings).toEqual([]);
    tls.tap.unhold();
    expect(tls.fed).toEqual([record(1), record(2)]);
    expect(tls.causes).toEqual(['eof record-boundary']);
  });

  test('a reset is told, and what is here is not looked at', async () => {
    const { near, peer } = ends();
    const tls = new Recorder(near);
    tls.behind = () => tls.tap.hold();
    peer.write(Buffer.concat([record(1), record(2)]));
    await quiet();
    near.destroy(Object.assign(new Error('reset'), { code: 'ECONNRESET' }));
    await quiet();
    expect(tls.fed).toEqual([record(1)]);
    expect(tls.endings.map(({ cause }) => cause)).toEqual(['reset']);
  });
});

describe('from TLS to the transport', () => {
  test('what is written goes out as it is, one record or many', async () => {
    const { near } = ends();
    const tls = new Recorder(near);
    tls.tap.write(record(1));
    tls.tap.cork();
    for (const length of [2, 3, 4]) tls.tap.write(record(length));
    tls.tap.uncork();
    await quiet();
    expect(near.line.sent).toEqual(Buffer.concat([1, 2, 3, 4].map((length) => record(length))));
    expect(tls.records.map(([way, , length]) => `${way} ${length}`)).toEqual(
      [1, 2, 3, 4].map((length) => `sent ${length}`),
    );
    expect(tls.tap.settled).toBe(true);
    expect(tls.tap.taken).toBe(true);
  });

  test('an alert counts as sent once the transport has taken it, and not before', async () => {
    const { near } = ends();
    const tls = new Recorder(near, { readable: true });
    near.line.clog();
    tls.tap.write(FAILURE);
    await quiet();
    expect(tls.tap.saidLast).toBe(true);
    expect(tls.tap.settled).toBe(false);
    expect(tls.alerts).toEqual([]);
    near.line.flow();
    await quiet();
    expect(tls.tap.settled).toBe(true);
    expect(tls.alerts).toMatchObject([
      { way: 'sent', alert: { level: 2, description: 40, authenticated: false } },
    ]);
  });

  test('an alert behind data counts once its own bytes are taken', async () => {
    const { near } = ends();
    const tls = new Recorder(near, { readable: true });
    near.line.clog();
    tls.tap.cork();
    tls.tap.write(record(1, 1, HANDSHAKE));
    tls.tap.write(FAILURE);
    tls.tap.uncork();
    await quiet();
    expect(tls.tap.saidLast).toBe(true);
    expect(near.line.deliverWrite()).toBe(true);
    await quiet();
    expect(tls.alerts).toEqual([]);
    expect(near.line.deliverWrite()).toBe(true);
    await quiet();
    expect(tls.alerts.map(({ way }) => way)).toEqual(['sent']);
  });

  test('an alert that was received is told with its record', async () => {
    const { near, peer } = ends();
    const tls = new Recorder(near, { readable: true });
    peer.write(FAILURE);
    await quiet();
    expect(tls.alerts).toMatchObject([
      { way: 'received', alert: { level: 2, description: 40, authenticated: false } },
    ]);
  });

  test('when TLS ends its side the transport stays open', async () => {
    const { near, peer } = ends();
    const tls = new Recorder(near);
    peer.resume();
    const finished = new Promise((resolve) => tls.tap.once('finish', resolve));
    tls.tap.end(record(1));
    await finished;
    await quiet();
    expect(near.line.sent).toEqual(record(1));
    expect(near.writableEnded).toBe(false);
    expect(peer.readableEnded).toBe(false);
  });

  test("a write behind TLS's own end is dropped, and called back", async () => {
    const { near } = ends();
    const tls = new Recorder(near);
    const errors: Error[] = [];
    tls.tap.on('error', (error) => errors.push(error));
    tls.tap.end(record(1));
    const called = [
      new Promise((resolve) => tls.tap.write(record(2), resolve)),
      new Promise((resolve) => tls.tap.write(record(3), 'latin1', resolve)),
    ];
    expect(tls.tap.write(record(4))).toBe(true);
    expect(await Promise.all(called)).toEqual([undefined, undefined]);
    await quiet();
    expect(near.line.sent).toEqual(record(1));
    expect(errors).toEqual([]);
  });

  test('a failed write is an ending of the transport, and none of TLS', async () => {
    const error = Object.assign(new Error('gone'), { code: 'EPIPE' });
    const transport = new Duplex({
      read() {},
      write: (_chunk, _encoding, done) => done(error),
    });
    const tls = new Recorder(transport);
    const written = new Promise((resolve) => tls.tap.write(record(1), resolve));
    expect(await written).not.toBeInstanceOf(Error);
    await quiet();
    expect(tls.endings).toEqual([{ cause: 'reset', error, where: 'record-boundary' }]);
    expect(tls.tap.taken).toBe(false);
    expect(tls.tap.destroyed).toBe(false);
  });
});

describe('a transport that misbehaves', () => {
  /** A transport that does `act` within its `write`, and says that it has taken the bytes. */
  const acting = (act: (transport: Duplex) => void): Duplex => {
    const transport = new Duplex({
      read() {},
      write(_chunk, _encoding, done) {
        act(transport);
        done();
      },
    });
    return transport;
  };

  test('throws in write', async () => {
    const thrown = new Error('not today');
    const transport = acting(() => {});
    transport.write = () => {
      throw thrown;
    };
    const tls = new Recorder(transport);
    await quiet();
    const called = new Promise((resolve) => tls.tap.write(record(1), resolve));
    expect(await called).not.toBeInstanceOf(Error);
    expect(tls.endings).toEqual([{ cause: 'error', error: thrown, where: 'record-boundary' }]);
    // The rest of what TLS writes together is called back as well.
    tls.tap.cork();
    const last = [record(2), record(3)].map(
      (one) => new Promise((resolve) => tls.tap.write(one, resolve)),
    );
    tls.tap.uncork();
    await Promise.all(last);
    expect(tls.endings).toHaveLength(1);
  });

  for (const [name, cause] of [
    ['error', 'error'],
    ['end', 'eof'],
    ['close', 'destroyed'],
  ] as const) {
    test(`emits '${name}' in write`, async () => {
      const error = name === 'error' ? new Error('in write') : null;
      const transport = acting((itself) => itself.emit(name, error));
      const tls = new Recorder(transport);
      await quiet();
      await new Promise((resolve) => tls.tap.write(record(1), resolve));
      expect(tls.endings).toEqual([{ cause, error, where: 'record-boundary' }]);
      // Once, however often it says so.
      await new Promise((resolve) => tls.tap.write(record(2), resolve));
      await quiet();
      expect(tls.endings).toHaveLength(1);
      expect(tls.tap.destroyed).toBe(false);
    });
  }

  test('emits errors before the engine is there to hear them: the first is told', async () => {
    const errors = [new Error('early'), new Error('later')];
    const left = [...errors];
    const transport = acting((itself) => itself.emit('error', left.shift()));
    const tls = new Recorder(transport);
    tls.tap.cork();
    tls.tap.write(record(1));
    tls.tap.write(record(2));
    tls.tap.uncork();
    expect(left).toEqual([]);
    expect(tls.endings).toEqual([]);
    await quiet();
    expect(tls.endings).toEqual([{ cause: 'error', error: errors[0], where: 'record-boundary' }]);
  });

  for (const what of ['text', { an: 'object' }]) {
    test(`delivers ${typeof what === 'string' ? 'text' : 'objects'}`, async () => {
      const transport = new Duplex({ readableObjectMode: true, read() {}, write() {} });
      const tls = new Recorder(transport);
      transport.push(what);
      await quiet();
      expect(tls.fed).toEqual([]);
      expect(tls.endings).toMatchObject([{ cause: 'error', error: expect.any(TypeError) }]);
    });
  }
});

describe('letting go', () => {
  for (const back of [true, false]) {
    test(`detach(${back}): those who listened before ${back ? 'hear of it again' : 'stay mute'}`, async () => {
      const [near, peer] = memoryPair();
      near.allowHalfOpen = false;
      const heard: string[] = [];
      const onData = (chunk: Buffer) => heard.push(`data ${chunk}`);
      const once = () => heard.push('once');
      const onEnd = () => heard.push('end');
      const onClose = () => {};
      near.on('data', onData).once('data', once).on('end', onEnd).on('close', onClose);
      const counts = () =>
        ['data', 'readable', 'end', 'error', 'close'].map((name) => near.listenerCount(name));
      const before = counts();
      const tls = new Recorder(near);
      expect(near.allowHalfOpen, 'FIN of the peer is not answered by itself').toBe(true);
      peer.write(record(1));
      await quiet();
      expect(tls.fed).toEqual([record(1)]);
      expect(heard).toEqual([]);

      tls.tap.detach(back);
      expect(near.isPaused()).toBe(true);
      expect(near.allowHalfOpen).toBe(false);
      near.allowHalfOpen = true;
      expect(counts()).toEqual(back ? before : [0, 0, 0, 0, 1]);
      peer.end('plain');
      near.resume();
      await quiet();
      // 'once' is told once, and not turned into a listener for good.
      expect(heard).toEqual(back ? ['data plain', 'once', 'end'] : []);
      expect(tls.endings, 'nothing is told of it any more').toEqual([]);
      expect(tls.fed).toHaveLength(1);
    });
  }

  test('detach(false), then detach(true): they hear of it again', async () => {
    const [near] = memoryPair();
    const onEnd = () => {};
    near.on('end', onEnd);
    const { tap } = new Recorder(near);
    tap.detach(false);
    expect(near.listeners('end')).toEqual([]);
    tap.detach(true);
    expect(near.listeners('end')).toEqual([onEnd]);
    tap.detach(true);
    expect(near.listeners('end')).toEqual([onEnd]);
  });

  test('what TLS writes afterwards is dropped, and called back', async () => {
    const { near } = ends();
    const tls = new Recorder(near);
    tls.tap.detach(true);
    await new Promise((resolve) => tls.tap.write(record(1), resolve));
    tls.tap.cork();
    const last = [record(2), record(3)].map(
      (one) => new Promise((resolve) => tls.tap.write(one, resolve)),
    );
    tls.tap.uncork();
    await Promise.all(last);
    expect(near.line.sent).toHaveLength(0);
  });

  test('an alert that is taken only then is told all the same', async () => {
    const { near } = ends();
    const tls = new Recorder(near, { readable: true });
    near.line.clog();
    tls.tap.write(FAILURE);
    tls.tap.detach(true);
    near.line.flow();
    await quiet();
    expect(tls.alerts.map(({ way }) => way)).toEqual(['sent']);
  });

  test('a tap is known as one', () => {
    const { near } = ends();
    const { tap } = new Recorder(near);
    expect([isTap(tap), isTap(near), isTap(null), isTap(undefined)]).toEqual([
      true,
      false,
      false,
      false,
    ]);
  });
});

describe('a net.Socket whose write fails', () => {
  const broken = Object.assign(new Error('write EPIPE'), { code: 'EPIPE', syscall: 'write' });

  /** A socket without a kernel: what that holds is `push`ed, and each write fails. */
  class Broken extends net.Socket {
    override _read(): void {}
    override _write(_chunk: unknown, _encoding: string, done: (error: Error) => void): void {
      done(broken);
    }
    override _writev(_chunks: unknown, done: (error: Error) => void): void {
      done(broken);
    }
  }

  test('what the kernel holds is read before the ending is told', async () => {
    const socket = new Broken();
    const tls = new Recorder(socket);
    await quiet();
    await new Promise((resolve) => tls.tap.write(record(1), resolve));
    expect(socket.destroyed).toBe(false);
    expect(tls.endings).toEqual([]);
    socket.push(record(2));
    socket.push(Buffer.concat([record(3), record(4).subarray(0, 6)]));
    await quiet();
    expect(tls.bytes).toEqual(Buffer.concat([record(2), record(3), record(4).subarray(0, 6)]));
    // Whoever writes does not wait for the end of that.
    expect(tls.refused).toBe(1);
    expect(tls.sendFailures).toEqual([broken]);
    expect(tls.endings).toEqual([]);
    socket.push(null);
    expect(tls.endings).toEqual([{ cause: 'reset', error: broken, where: 'inside-record' }]);
    socket.destroy();
    await quiet();
    expect(tls.endings).toHaveLength(1);
  });

  test('what waits in the stream is fed, once, and what the kernel holds behind it', async () => {
    const socket = new Broken();
    const tls = new Recorder(socket);
    await quiet();
    socket.pause();
    socket.push(record(2));
    tls.tap.write(record(1));
    expect(tls.fed).toEqual([]);
    await quiet();
    expect(tls.fed).toEqual([record(2)]);
    socket.push(record(3));
    expect(tls.fed).toEqual([record(2), record(3)]);
    expect(tls.endings).toEqual([]);
    socket.push(null);
    expect(tls.causes).toEqual(['reset record-boundary']);
    socket.destroy();
  });

  test('where nobody reads on, what was read is fed, and the ending told at once', async () => {
    const socket = new Broken();
    const tls = new Recorder(socket);
    await quiet();
    tls.wants = false;
    socket.push(record(2));
    socket.push(record(3));
    expect(socket.isPaused()).toBe(true);
    tls.tap.write(record(1));
    await quiet();
    expect(tls.fed).toEqual([record(2), record(3)]);
    expect(tls.causes).toEqual(['reset record-boundary']);
    expect(tls.sendFailures).toEqual([]);
    socket.destroy();
  });

  test('it is outlived once: the next error destroys it', async () => {
    const socket = new Broken();
    const tls = new Recorder(socket);
    await quiet();
    tls.tap.write(record(1));
    await quiet();
    expect(socket.destroyed).toBe(false);
    socket.destroy(Object.assign(new Error('write EPIPE'), { code: 'EPIPE', syscall: 'write' }));
    await quiet();
    expect(socket.destroyed).toBe(true);
    expect(tls.causes).toEqual(['reset record-boundary']);
  });

  test('an error of something else than a write is not outlived', async () => {
    const socket = new Broken();
    const tls = new Recorder(socket);
    await quiet();
    const error = Object.assign(new Error('read'), { code: 'ECONNRESET', syscall: 'read' });
    socket.destroy(error);
    await quiet();
    expect(socket.destroyed).toBe(true);
    expect(tls.endings).toEqual([{ cause: 'reset', error, where: 'record-boundary' }]);
    expect(tls.sendFailures).toEqual([]);
  });

  test('behind EOF nothing is left to read, and it is not outlived', async () => {
    const socket = new Broken();
    const tls = new Recorder(socket);
    socket.push(null);
    await quiet();
    expect(tls.causes).toEqual(['eof record-boundary']);
    tls.tap.write(record(1));
    await quiet();
    expect(socket.destroyed).toBe(true);
    expect(tls.causes).toEqual(['eof record-boundary', 'reset record-boundary']);
  });

  test('once it is let go nothing of its own is replaced', () => {
    const socket = new Broken();
    const { destroy, push } = socket;
    const tls = new Recorder(socket);
    expect(socket.destroy).not.toBe(destroy);
    tls.tap.detach(true);
    expect([Object.hasOwn(socket, 'destroy'), Object.hasOwn(socket, 'push')]).toEqual([
      false,
      false,
    ]);
    expect([socket.destroy, socket.push]).toEqual([destroy, push]);
    socket.destroy();
  });
});

test('handshake records and data are told apart by their types', async () => {
  const { near, peer } = ends();
  const tls = new Recorder(near);
  peer.write(Buffer.concat([record(4, 0, HANDSHAKE), record(4)]));
  await quiet();
  expect(tls.records).toEqual([
    ['received', HANDSHAKE, 4],
    ['received', DATA, 4],
  ]);
});
