/** The channel: what flows, what is held, and what is cut. */
import type { Duplex } from 'node:stream';
import { describe, expect, test } from 'vitest';
import { byteByByte, channel } from '../../../src/testing/index.ts';
import { turn, until } from '../../support/core-scope.ts';

/** Keeps what arrives, a segment an element, and how it ended. */
function listenTo(end: Duplex) {
  const heard = { segments: [] as string[], ended: false, error: null as string | null };
  end.on('data', (bytes: Buffer) => heard.segments.push(bytes.toString()));
  end.on('end', () => {
    heard.ended = true;
  });
  end.on('error', (error: NodeJS.ErrnoException) => {
    heard.error = error.code ?? error.message;
  });
  return heard;
}

const turns = async () => {
  for (let i = 0; i < 5; i++) await turn();
};

describe('a channel that flows', () => {
  test('carries both directions, and closes one without the other', async () => {
    using wire = channel();
    const [a, b] = wire.ends;
    const [atA, atB] = [listenTo(a), listenTo(b)];
    a.write('one');
    b.write('two');
    a.end();
    await until('FIN', () => atB.ended);
    b.write('three');
    await turns();
    expect(atB.segments).toEqual(['one']);
    expect(atA.segments).toEqual(['two', 'three']);
    expect(atA.ended).toBe(false);
    expect([wire.forth.sent.toString(), wire.back.sent.toString()]).toEqual(['one', 'twothree']);
    expect([wire.forth.passed, wire.back.passed]).toEqual([3, 8]);
  });

  test('lets the writer wait for a reader that is full, and loses nothing', async () => {
    using wire = channel({ highWaterMark: 1_000 });
    const [a, b] = wire.ends;
    const data = Buffer.alloc(100_000, 'x');
    expect(a.write(data)).toBe(false);
    let taken = false;
    a.write('last', () => {
      taken = true;
    });
    await turns();
    expect(taken).toBe(false);
    const heard = listenTo(b);
    await until('all of it', () => taken);
    await turns();
    expect(heard.segments.join('')).toBe(`${data.toString()}last`);
  });

  test('cuts writes up as asked', async () => {
    using wire = channel({ segments: byteByByte });
    const heard = listenTo(wire.ends[1]);
    wire.ends[0].write('abc');
    await turns();
    expect(heard.segments).toEqual(['a', 'b', 'c']);
  });

  test("with delay 'turn' nothing arrives within the write", async () => {
    using wire = channel({ delay: 'turn' });
    const heard = listenTo(wire.ends[1]);
    await turn();
    wire.ends[0].write('one');
    wire.ends[0].end('two');
    await new Promise<void>((resolve) => process.nextTick(resolve));
    expect(heard.segments).toEqual([]);
    await until('FIN', () => heard.ended);
    expect(heard.segments).toEqual(['one', 'two']);
  });

  test.each([
    ['fin', { ended: true, error: null }],
    ['reset', { ended: false, error: 'ECONNRESET' }],
  ] as const)('an end that is destroyed gives %s to the other', async (onDestroy, outcome) => {
    using wire = channel({ onDestroy });
    const heard = listenTo(wire.ends[1]);
    wire.ends[0].destroy();
    await turns();
    expect(heard).toMatchObject(outcome);
  });
});

describe('a line that is held', () => {
  test('delivers what it is told to, by writes or by bytes', async () => {
    using wire = channel();
    const [a, b] = wire.ends;
    const heard = listenTo(b);
    const line = wire.forth;
    line.hold();
    for (const text of ['one', 'two', 'three']) a.write(text);
    a.end();
    await turns();
    expect(heard.segments).toEqual([]);
    expect(line.held.toString()).toBe('onetwothree');
    expect(line.deliverWrite()).toBe(true);
    // Across writes, as one segment.
    expect(line.deliver(5)).toBe(5);
    expect(line.deliver()).toBe(3);
    await turns();
    expect(heard).toMatchObject({ segments: ['one', 'twoth', 'ree'], ended: false });
    expect(line.next).toBe('fin');
    line.deliverWrite();
    await turns();
    expect(heard.ended).toBe(true);
    expect(line.deliverWrite()).toBe(false);
  });

  test('takes no more than its capacity', async () => {
    using wire = channel({ capacity: 4 });
    wire.forth.hold();
    const taken: string[] = [];
    for (const text of ['four', 'more']) wire.ends[0].write(text, () => taken.push(text));
    await turns();
    expect(taken).toEqual(['four']);
    wire.forth.deliver(4);
    await turns();
    expect(taken).toEqual(['four', 'more']);
  });

  test('what is taken off it does not arrive; what is injected does', async () => {
    using wire = channel();
    const heard = listenTo(wire.ends[1]);
    wire.forth.hold();
    wire.ends[0].write('genuine');
    await turns();
    expect(wire.forth.take().toString()).toBe('genuine');
    wire.forth.inject(Buffer.from('forged'));
    wire.forth.flow();
    wire.ends[0].write('after');
    await turns();
    expect(heard.segments).toEqual(['forged', 'after']);
    expect(wire.forth.passed).toBe(5);
  });
});

describe('a line that is cut', () => {
  test.each([0, 1, 4, 5, 9])('at byte %i: exactly so many arrive, then FIN', async (offset) => {
    using wire = channel();
    const heard = listenTo(wire.ends[1]);
    wire.forth.cutAt(offset, 'fin');
    let taken = 0;
    for (const text of ['12345', '6789', 'more']) wire.ends[0].write(text, () => taken++);
    await turns();
    expect(heard).toMatchObject({ ended: true, error: null });
    expect(heard.segments.join('')).toBe('123456789'.slice(0, offset));
    // The writer is not told.
    expect(taken).toBe(3);
    expect(wire.ends[0].destroyed).toBe(false);
  });

  test('FIN comes behind what is on its way, a reset overtakes it', async () => {
    for (const how of ['fin', 'reset'] as const) {
      using wire = channel({ delay: 'turn' });
      const heard = listenTo(wire.ends[1]);
      wire.ends[0].write('on its way');
      await new Promise<void>((resolve) => process.nextTick(resolve));
      wire.forth.cut(how);
      await turns();
      expect(heard).toEqual(
        how === 'fin'
          ? { segments: ['on its way'], ended: true, error: null }
          : { segments: [], ended: false, error: 'ECONNRESET' },
      );
    }
  });

  test('the other direction goes on', async () => {
    using wire = channel();
    const heard = listenTo(wire.ends[0]);
    wire.forth.cut('fin');
    wire.ends[1].write('still here');
    await turns();
    expect(heard).toMatchObject({ segments: ['still here'], ended: false });
  });

  test('a connection that is reset is so for both', async () => {
    using wire = channel();
    const heard = wire.ends.map(listenTo);
    wire.reset();
    await turns();
    expect(heard.map(({ error }) => error)).toEqual(['ECONNRESET', 'ECONNRESET']);
  });
});
