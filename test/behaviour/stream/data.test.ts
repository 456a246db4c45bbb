/** Reading and writing. */
import type { Duplex } from 'node:stream';
import { expect, test } from 'vitest';
import type { Observer } from '../../../src/index.ts';
import { channel } from '../../../src/testing/index.ts';
import { settle } from '../../../src/testing/lockstep.ts';
import { describeTls } from '../../support/core-pki.ts';
import { clean, turn, uncaughtDuring, until } from '../../support/core-scope.ts';
import {
  closeBoth,
  Log,
  pair,
  pairInMemory,
  pattern,
  readAll,
  rejection,
  VERSIONS,
} from '../../support/core-streams.ts';

for (const version of VERSIONS) {
  describeTls(`${version}: data`, () => {
    test(
      'each read has a deadline of its own, whatever the reads before it had',
      clean(async (scope) => {
        const both = await pairInMemory(scope, version);
        const { client, server } = both;
        // Those that keep the process. The runner of the tests has some, and ends them when it likes.
        const timers = () =>
          process.getActiveResourcesInfo().filter((name) => name === 'Timeout').length;
        const next = async (deadline: number) => {
          const before = timers();
          const reading = client.read({ deadline });
          expect(timers()).toBe(before + 1);
          await server.write('x');
          expect(Buffer.from((await reading) ?? '').toString()).toBe('x');
          // Nobody waits any more.
          expect(timers()).toBeLessThanOrEqual(before);
        };
        await next(60_000);
        await next(50_000);
        expect((await rejection(client.read({ deadline: 20 }))).code).toBe('ERR_TLS_TIMEOUT');
        await next(60_000);
        expect((await rejection(client.read({ deadline: 20 }))).code).toBe('ERR_TLS_TIMEOUT');
        // A timer that was set for a read which is over leaves a later one its time.
        const early = client.read({ deadline: 30 });
        await server.write('y');
        expect(Buffer.from((await early) ?? '').toString()).toBe('y');
        const patient = client.read({ deadline: 60_000 });
        expect((await rejection(server.read({ deadline: 60 }))).code).toBe('ERR_TLS_TIMEOUT');
        await server.write('z');
        expect(Buffer.from((await patient) ?? '').toString()).toBe('z');
        await closeBoth(both);
      }),
    );

    test(
      'small writes of two streams that take turns arrive in order, and a shutdown behind them',
      clean(async (scope) => {
        const [one, other] = [await pair(scope, version), await pair(scope, version)];
        const all = pattern(300_000);
        for (let at = 0, i = 0; at < all.length; i++) {
          // Small ones, and now and then one that is large.
          const piece = all.subarray(at, at + (i % 7 === 6 ? 20_000 : 1 + ((i * 37) % 900)));
          void one.client.write(piece);
          void other.client.write(piece);
          at += piece.length;
        }
        const ends = [one.client, other.client].map((stream) => stream.shutdown({ wait: false }));
        for (const { server } of [one, other]) {
          expect(Buffer.compare(await readAll(server), all)).toBe(0);
        }
        await Promise.all(ends);
        await closeBoth(one);
        await closeBoth(other);
      }),
    );

    test(
      'memory that a program has given away is left to it',
      clean(async (scope) => {
        const both = await pair(scope, version);
        for (const text of ['first', 'second', 'third']) {
          await both.server.write(text);
          const bytes = Buffer.from((await both.client.read()) as Uint8Array);
          expect(bytes.toString()).toBe(text);
          await both.server.write('given away');
          const given = (await both.client.read()) as Uint8Array;
          try {
            // Newer versions of Node refuse it, and older ones have only the other way, which copies.
            const buffer = given.buffer as ArrayBuffer & { transfer?(): ArrayBuffer };
            if (buffer.transfer === undefined) structuredClone(buffer, { transfer: [buffer] });
            else buffer.transfer();
          } catch (error) {
            expect(String(error)).toMatch(/not detachable|Cannot transfer/);
          }
        }
        await closeBoth(both);
      }),
    );

    test(
      'every byte arrives, in order, in both directions at once',
      clean(async (scope) => {
        const both = await pair(scope, version);
        const up = pattern(3_000_000);
        const down = pattern(2_000_001).reverse();
        const send = async (stream: typeof both.client, data: Buffer) => {
          for (let at = 0; at < data.length; at += 100_003) {
            await stream.write(data.subarray(at, at + 100_003));
          }
        };
        const take = async (stream: typeof both.client, length: number) => {
          const parts: Uint8Array[] = [];
          for (let have = 0; have < length; ) {
            const bytes = (await stream.read()) as Uint8Array;
            parts.push(bytes);
            have += bytes.length;
          }
          return Buffer.concat(parts);
        };
        const [atServer, atClient] = await Promise.all([
          take(both.server, up.length),
          take(both.client, down.length),
          send(both.client, up),
          send(both.server, down),
        ]);
        expect(atServer.equals(up)).toBe(true);
        expect(atClient.equals(down)).toBe(true);
        await closeBoth(both);
        expect(both.client.closure).toMatchObject({ verdict: 'secure', late: 0, unsent: 0 });
      }),
    );

    test(
      'a string is written as UTF-8, and read gives Uint8Arrays',
      clean(async (scope) => {
        const both = await pair(scope, version);
        await both.client.write('grüße');
        const bytes = await both.server.read();
        expect(bytes).toBeInstanceOf(Uint8Array);
        expect(Buffer.from(bytes as Uint8Array).toString()).toBe('grüße');
        await closeBoth(both);
      }),
    );

    test(
      'async iteration ends at close_notify, and read gives null from then on',
      clean(async (scope) => {
        const both = await pair(scope, version);
        await both.server.write('all of it');
        const closing = both.server.close();
        const parts: Uint8Array[] = [];
        for await (const bytes of both.client) parts.push(bytes);
        expect(Buffer.concat(parts).toString()).toBe('all of it');
        expect(await both.client.read()).toBe(null);
        expect(await both.client.read()).toBe(null);
        await both.client.close();
        expect((await closing).verdict).toBe('secure');
        expect(await both.client.read()).toBe(null);
      }),
    );

    test(
      'async iteration throws when truncated, after all bytes that came before',
      clean(async (scope) => {
        const { client, server, serverTransport } = await pair(scope, version);
        const data = pattern(200_000);
        await server.write(data);
        await settle();
        serverTransport.end();
        const parts: Uint8Array[] = [];
        const error = await rejection(
          (async () => {
            for await (const bytes of client) parts.push(bytes);
          })(),
        );
        expect(error).toMatchObject({ code: 'ERR_TLS_TRUNCATED', phase: 'open' });
        expect(Buffer.concat(parts).equals(data)).toBe(true);
        client.abort();
        server.abort();
      }),
    );

    test(
      'leaving an iteration early keeps the stream usable',
      clean(async (scope) => {
        const both = await pair(scope, version);
        await both.server.write('one');
        for await (const bytes of both.client) {
          expect(bytes).toEqual(Buffer.from('one'));
          break;
        }
        await both.server.write('two');
        expect(await both.client.read()).toEqual(Buffer.from('two'));
        await closeBoth(both);
      }),
    );

    test(
      'each write that waits has a deadline of its own, also of several at once',
      clean(async (scope) => {
        const both = await pairInMemory(scope, version);
        const { client, server } = both;
        const part = pattern(1_000_000);
        const waits = [20, 60_000, 30].map((deadline) => client.write(part, { deadline }));
        for (const hasty of [0, 2]) {
          expect(await rejection(waits[hasty] as Promise<void>)).toMatchObject({
            code: 'ERR_TLS_TIMEOUT',
            phase: 'write',
          });
        }
        const reading = readAll(server);
        await waits[1];
        await client.write(part);
        await client.shutdown({ wait: false });
        // Cancelling stops the wait, not the bytes.
        expect((await reading).length).toBe(4 * part.length);
        await closeBoth(both);
      }),
    );

    test(
      'a write that waits for ever keeps no other from its deadline, when it is cancelled either',
      clean(async (scope) => {
        const { client, server } = await pairInMemory(scope, version);
        const part = pattern(1_000_000);
        const cancel = new AbortController();
        const patient = rejection(
          client.write(part, { deadline: Number.POSITIVE_INFINITY, signal: cancel.signal }),
        );
        const hasty = rejection(client.write(part, { deadline: 20 }));
        cancel.abort();
        expect(await patient).toMatchObject({ code: 'ABORT_ERR', phase: 'write' });
        expect(await hasty).toMatchObject({ code: 'ERR_TLS_TIMEOUT', phase: 'write' });
        client.abort();
        server.abort();
      }),
    );

    test(
      'a peer that does not read stops the writer: memory is bounded, and nothing is lost',
      clean(async (scope) => {
        const both = await pairInMemory(scope, version);
        const part = pattern(64 * 1024);
        let written = 0;
        const error = await rejection(
          (async () => {
            for (;;) {
              written += part.length;
              await both.client.write(part, { deadline: 200 });
              // What holds nothing back would go on for ever.
              if (written > 32 * 1024 * 1024) return;
            }
          })(),
        );
        expect(error).toMatchObject({ code: 'ERR_TLS_TIMEOUT', phase: 'write' });
        // The buffers of two TLS sockets and of two transports, and what one write holds.
        expect(written).toBeLessThan(2 * 1024 * 1024);
        expect(both.client.closure.verdict).toBe('open');
        const reading = readAll(both.server);
        await both.client.shutdown({ wait: false });
        expect((await reading).length).toBe(written);
        await closeBoth(both);
      }),
    );

    test(
      'write resolves again once the peer reads',
      clean(async (scope) => {
        const both = await pairInMemory(scope, version);
        const data = pattern(4 * 1024 * 1024);
        let done = false;
        const writing = both.client.write(data).then(() => {
          done = true;
        });
        const first = (await both.server.read()) as Uint8Array;
        expect(done).toBe(false);
        const parts: Uint8Array[] = [first];
        for (let have = first.length; have < data.length; ) {
          const bytes = (await both.server.read()) as Uint8Array;
          parts.push(bytes);
          have += bytes.length;
        }
        await writing;
        expect(Buffer.concat(parts).equals(data)).toBe(true);
        await closeBoth(both);
      }),
    );

    test(
      'a write that still waits when shutdown is called was made before it: it resolves, and arrives',
      clean(async (scope) => {
        const both = await pairInMemory(scope, version);
        const data = pattern(1024 * 1024);
        const writing = both.client.write(data).then(
          () => 'resolved',
          (error) => error.code,
        );
        const shutting = both.client.shutdown({ wait: false });
        expect((await readAll(both.server)).equals(data)).toBe(true);
        expect((await shutting).sent).not.toBe(null);
        expect(await writing).toBe('resolved');
        await closeBoth(both);
      }),
    );

    test(
      'a reader that does not read stops the transport',
      clean(async (scope) => {
        const both = await pair(scope, version);
        const transport = both.clientTransport as Duplex;
        const data = pattern(100 * 64 * 1024);
        const writing = both.server.write(data);
        await until('the transport is paused', () => transport.isPaused());
        const reading = readAll(both.client);
        await writing;
        await both.server.shutdown({ wait: false });
        expect((await reading).equals(data)).toBe(true);
        await closeBoth(both);
      }),
    );

    test(
      'a read that waits when shutdown is called gets the remaining data, then null',
      clean(async (scope) => {
        const both = await pair(scope, version);
        const reading = both.client.read();
        const shutting = both.client.shutdown();
        // TLS 1.2 answers at once and discards; in TLS 1.3 the peer may still write.
        if (version === 'TLSv1.3') {
          expect(await both.server.read()).toBe(null);
          await both.server.write('last words');
          await both.server.shutdown();
          expect(await reading).toEqual(Buffer.from('last words'));
          expect(await both.client.read()).toBe(null);
        } else {
          expect(await reading).toBe(null);
        }
        expect((await shutting).verdict).toBe('secure');
        await closeBoth(both);
      }),
    );

    test(
      'the first write of a turn leaves by itself, those behind it leave together, and all in order',
      clean(async (scope) => {
        const log = new Log();
        const both = await pairInMemory(scope, version, { client: { record: log } });
        const { client, server } = both;
        const sent = () =>
          log
            .of('record')
            .filter(({ direction, contentType }) => direction === 'sent' && contentType === 23)
            .length;
        const writes = async (texts: string[]) => {
          const before = sent();
          await Promise.all(texts.map((text) => client.write(text)));
          await settle();
          return sent() - before;
        };
        await writes(['a']);
        expect(await writes(['b', 'c', 'd'])).toBe(2);
        await server.write('question');
        expect(await client.read()).toEqual(Buffer.from('question'));
        expect(await writes(['e', 'f', 'g', 'h'])).toBe(2);
        await client.shutdown({ wait: false });
        expect((await readAll(server)).toString()).toBe('abcdefgh');
        await closeBoth(both);
      }),
    );

    test.each([
      ['sockets', pair],
      ['any transport', pairInMemory],
    ] as const)(
      "the memory given to write is the caller's again as soon as it returns, over %s",
      async (_, make) => {
        const body = clean(async (scope) => {
          const both = await make(scope, version);
          const { client, server } = both;
          const scratch = Buffer.alloc(100_000);
          const said: Buffer[] = [];
          const reading = readAll(server);
          for (let i = 1; i <= 120; i++) {
            // What is read makes the next write an answer, which leaves at once.
            if (i % 8 === 0) {
              await server.write('x');
              await client.read();
            }
            const part = scratch.subarray(0, [10, 9_000, 40_000, 100_000][i % 4]);
            part.fill(i);
            said.push(Buffer.from(part));
            const writing = client.write(part);
            part.fill(0);
            if (i % 3 === 0) await writing;
          }
          await client.shutdown({ wait: false });
          expect((await reading).equals(Buffer.concat(said))).toBe(true);
          await closeBoth(both);
        });
        await body();
      },
    );

    test(
      'an empty write waits for nothing, and sends nothing',
      clean(async (scope) => {
        const log = new Log();
        const wire = channel();
        const both = await pair(scope, version, {
          transports: wire.ends,
          client: { record: log },
        });
        const { client, server } = both;
        await turn();
        wire.forth.clog();
        const said = pattern(200_000);
        const writing = client.write(said);
        const before = log.of('record').length;
        await client.write('', { deadline: 20 });
        await client.write(new Uint8Array(0), { deadline: 20 });
        expect(log.of('record').length).toBe(before);
        const reading = readAll(server);
        wire.forth.flow();
        await writing;
        await client.shutdown({ wait: false });
        expect((await reading).equals(said)).toBe(true);
        await closeBoth(both);
      }),
    );

    test(
      'an observer that throws is an uncaught exception each time, and nothing else changes',
      clean(async (scope) => {
        const told: string[] = [];
        const record: Observer = {
          observe({ type }) {
            told.push(type);
            throw new Error(type);
          },
          onBytes(direction) {
            told.push(direction);
            throw new Error(direction);
          },
          onSecret() {
            told.push('secret');
            throw new Error('secret');
          },
        };
        const said = pattern(300_000);
        const caught = await uncaughtDuring(async () => {
          const both = await pair(scope, version, { client: { record }, server: { record } });
          const reading = readAll(both.server);
          await both.client.write(said);
          await both.client.shutdown({ wait: false });
          expect((await reading).equals(said)).toBe(true);
          await closeBoth(both);
          expect(both.client.closure.verdict).toBe('secure');
          expect(both.server.closure.verdict).toBe('secure');
          await turn();
        });
        expect(caught).toEqual(told.map((what) => `uncaughtException: ${what}`));
        expect(new Set(told)).toContain('record');
      }),
    );

    test(
      'the observer is told of data and of each record, by direction',
      clean(async (scope) => {
        const log = new Log();
        const both = await pair(scope, version, { client: { record: log } });
        await both.client.write('12345');
        await both.server.read();
        await both.server.write('123');
        await both.client.read();
        expect(log.of('data')).toEqual([
          { type: 'data', direction: 'sent', bytes: 5 },
          { type: 'data', direction: 'received', bytes: 3 },
        ]);
        const overhead = version === 'TLSv1.3' ? 1 + 16 : 8 + 16;
        const records = log.of('record').filter(({ contentType }) => contentType === 23);
        expect(records).toContainEqual({
          type: 'record',
          direction: 'sent',
          contentType: 23,
          length: 5 + overhead,
        });
        expect(records).toContainEqual({
          type: 'record',
          direction: 'received',
          contentType: 23,
          length: 3 + overhead,
        });
        await closeBoth(both);
      }),
    );
  });
}
