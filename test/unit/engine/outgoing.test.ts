/** What of the program's writes goes to TLS at once, what goes together, and what can still be discarded. */
import { Writable } from 'node:stream';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { Outgoing } from '../../../src/engine/outgoing.ts';

/** Bytes up to which small writes are joined. */
const TOGETHER = 65_536;

/** Stands for TLS: keeps each write, and takes no more than is asked of it. */
class Tls extends Writable {
  readonly writes: Buffer[] = [];
  /** Whether it goes on by itself. */
  flows = true;
  /** Whether it is in a call of its own. */
  within = false;
  #done: (() => void) | null = null;

  constructor(highWaterMark = 1 << 20) {
    super({ highWaterMark });
  }

  override _write(chunk: Buffer, _encoding: string, done: () => void): void {
    this.writes.push(Buffer.from(chunk));
    if (this.flows) done();
    else this.#done = done;
  }

  /** It has taken what it was given. */
  take(): void {
    const done = this.#done;
    this.#done = null;
    done?.();
  }

  get bytes(): Buffer {
    return Buffer.concat(this.writes);
  }

  get lengths(): number[] {
    return this.writes.map(({ length }) => length);
  }
}

const of = (tls: Tls) =>
  new Outgoing(tls, {
    taken: true,
    get feeding() {
      return tls.within;
    },
  });

/** The end of this turn, behind all that was put off to it. */
const nextTick = () => new Promise<void>((resolve) => process.nextTick(resolve));

test('the first write of a turn goes at once, those behind it together', async () => {
  const tls = new Tls();
  const outgoing = of(tls);
  for (const text of ['a', 'bc', 'def', 'g']) outgoing.push(Buffer.from(text));
  expect(tls.writes.map(String)).toEqual(['a']);
  expect(outgoing.length).toBe(6);
  await nextTick();
  expect(tls.writes.map(String)).toEqual(['a', 'bcdefg']);
  expect(outgoing.length).toBe(0);
  outgoing.push(Buffer.from('next'));
  expect(tls.writes.map(String)).toEqual(['a', 'bcdefg', 'next']);
});

test('within a call of TLS nothing goes before it is over', async () => {
  const tls = new Tls();
  const outgoing = of(tls);
  tls.within = true;
  outgoing.push(Buffer.from('a'));
  outgoing.push(Buffer.from('b'));
  tls.within = false;
  expect(tls.writes).toEqual([]);
  await nextTick();
  expect(tls.writes.map(String)).toEqual(['ab']);
});

test('what is unsent is what waits here and what TLS has not been told is taken', async () => {
  const tls = new Tls(4);
  const outgoing = of(tls);
  tls.flows = false;
  outgoing.push(Buffer.from('TLS has it'));
  outgoing.push(Buffer.from('waits'));
  expect(outgoing.unsent).toBe(15);
  tls.flows = true;
  tls.take();
  expect(outgoing.unsent).toBe(5);
  await nextTick();
  expect(outgoing.unsent).toBe(0);
});

test('behind a write that the transport refused nothing counts as sent, whatever TLS is told', async () => {
  const tls = new Tls();
  const outgoing = of(tls);
  outgoing.push(Buffer.from('sent'));
  await nextTick();
  tls.flows = false;
  outgoing.push(Buffer.from('lost'));
  outgoing.onRefused();
  tls.flows = true;
  tls.take();
  expect(outgoing.unsent).toBe(4);
  outgoing.push(Buffer.from('later'));
  outgoing.onRefused();
  await nextTick();
  expect(tls.bytes.toString()).toBe('sentlostlater');
  expect(outgoing.unsent).toBe(9);
});

test('it keeps copies: the memory is the writer’s again', async () => {
  const tls = new Tls();
  const outgoing = of(tls);
  const memory = Buffer.from('mine');
  outgoing.push(memory);
  outgoing.push(memory);
  memory.fill('x');
  await nextTick();
  expect(tls.bytes.toString()).toBe('minemine');
});

test('an empty write is none', async () => {
  const tls = new Tls();
  const outgoing = of(tls);
  outgoing.push(new Uint8Array(0));
  outgoing.push(Buffer.from('a'));
  expect(tls.writes.map(String)).toEqual(['a']);
  await nextTick();
  expect(tls.writes).toHaveLength(1);
});

test('small ones are joined up to 64 KiB, and a larger one goes as it is', async () => {
  const tls = new Tls();
  const outgoing = of(tls);
  const lengths = [1, 40_000, 25_536, 1, 65_535, 2, 100_000, 65_536, 5];
  for (const [i, length] of lengths.entries()) outgoing.push(Buffer.alloc(length, i));
  await nextTick();
  expect(tls.lengths).toEqual([1, TOGETHER, TOGETHER, 2, 100_000, TOGETHER, 5]);
  expect(tls.bytes).toEqual(Buffer.concat(lengths.map((length, i) => Buffer.alloc(length, i))));
});

test('what TLS does not take waits here, and the writer is told from 64 KiB on', async () => {
  const tls = new Tls(10);
  tls.flows = false;
  const outgoing = of(tls);
  expect(outgoing.writable).toBe(true);
  outgoing.push(Buffer.alloc(9, 'a'));
  expect(outgoing.writable, 'TLS has room for one byte').toBe(true);
  outgoing.push(Buffer.alloc(2, 'b'));
  await nextTick();
  expect(tls.writableNeedDrain).toBe(true);
  expect(outgoing.writable).toBe(false);
  outgoing.push(Buffer.alloc(7, 'c'));
  await nextTick();
  expect(outgoing.length).toBe(7);

  tls.flows = true;
  const drained = new Promise((resolve) => tls.once('drain', resolve));
  tls.take();
  await drained;
  expect(outgoing.writable).toBe(true);
  outgoing.flush();
  expect(outgoing.length).toBe(0);
  expect(tls.bytes.toString()).toBe('aaaaaaaaabbccccccc');

  tls.within = true;
  outgoing.push(Buffer.alloc(TOGETHER - 1));
  expect(outgoing.writable).toBe(true);
  outgoing.push(Buffer.alloc(1));
  expect(outgoing.writable, 'as many bytes as are joined').toBe(false);
});

test('what waits here can be discarded, to the byte; what TLS has cannot', async () => {
  const tls = new Tls(10);
  tls.flows = false;
  const outgoing = of(tls);
  outgoing.push(Buffer.alloc(10, 'a'));
  outgoing.push(Buffer.alloc(20, 'b'));
  outgoing.push(Buffer.alloc(30, 'c'));
  expect(outgoing.discard()).toBe(50);
  expect(outgoing.discard()).toBe(0);
  expect(outgoing.length).toBe(0);
  tls.flows = true;
  tls.take();
  await nextTick();
  outgoing.flush();
  outgoing.push(Buffer.from('d'));
  expect(tls.bytes.toString()).toBe(`${'a'.repeat(10)}d`);
});

test('whatever is written, and whenever TLS takes it, it goes out once and in order', async () => {
  const action = fc.oneof(
    { weight: 4, arbitrary: fc.integer({ min: 0, max: 70_000 }) },
    { weight: 2, arbitrary: fc.constantFrom('take', 'turn', 'within', 'without') },
  );
  await fc.assert(
    fc.asyncProperty(fc.array(action, { maxLength: 30 }), async (actions) => {
      const tls = new Tls(16_384);
      tls.flows = false;
      const outgoing = of(tls);
      tls.on('drain', () => outgoing.flush());
      const written: Buffer[] = [];
      for (const [i, act] of actions.entries()) {
        if (typeof act === 'number') {
          const bytes = Buffer.alloc(act, i + 1);
          written.push(bytes);
          outgoing.push(bytes);
        } else if (act === 'take') tls.take();
        else if (act === 'turn') await nextTick();
        else tls.within = act === 'within';
      }
      tls.within = false;
      tls.flows = true;
      tls.take();
      while (outgoing.length > 0 || tls.writableLength > 0) await nextTick();
      expect(tls.bytes.equals(Buffer.concat(written))).toBe(true);
    }),
    { numRuns: 50 },
  );
});
