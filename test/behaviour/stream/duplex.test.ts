/** `stream.toDuplex()`: a Node Duplex that is strict about its end. */
import { once } from 'node:events';
import http from 'node:http';
import http2 from 'node:http2';
import type net from 'node:net';
import stream, { Duplex, PassThrough, Readable, Transform, Writable } from 'node:stream';
import { finished, pipeline } from 'node:stream/promises';
import { Redis } from 'ioredis';
import { describe, expect, test } from 'vitest';
import type { CloseNotifyError, TlsStream } from '../../../src/index.ts';
import { type Channel, channel } from '../../../src/testing/channel.ts';
import { settle } from '../../../src/testing/lockstep.ts';
import { describeAdapter, ROWS, redis } from '../../support/adapter-servers.ts';
import { describeTls } from '../../support/core-pki.ts';
import { clean, type Scope, turn, until } from '../../support/core-scope.ts';
import {
  type Pair,
  type PairOptions,
  pair,
  pattern,
  readAll,
  rejection,
  VERSIONS,
  type Version,
} from '../../support/core-streams.ts';
import { reset } from '../../support/core-transport.ts';
import { testPki } from '../../support/interop-pki.ts';

const ROLES = ['client', 'server'] as const;
type Role = (typeof ROLES)[number];

/** Both ends answer a close_notify when they are told, so that each test says when. */
const WHEN_TOLD: PairOptions = {
  client: { answer: 'when-told' },
  server: { answer: 'when-told' },
};

/** Our side, the peer's, and the line on which the peer's bytes come. */
async function sides(scope: Scope, version: Version, role: Role, options = WHEN_TOLD) {
  const wire = channel({ onDestroy: 'reset' });
  const both = await pair(scope, version, { transports: wire.ends, ...options });
  const [ours, peer] = role === 'client' ? [both.client, both.server] : [both.server, both.client];
  const line = role === 'client' ? wire.back : wire.forth;
  scope.defer(() => ours.abort());
  scope.defer(() => peer.abort());
  return { ours, peer, line, wire, both };
}

/** All that a Duplex tells, as it tells it. */
function listen(duplex: Duplex) {
  const events: string[] = [];
  for (const name of ['end', 'error', 'finish', 'close']) {
    duplex.on(name, () => events.push(name));
  }
  return events;
}

/** What a Duplex reads until it is closed, and the error that it told. */
async function readOut(duplex: Duplex) {
  const events = listen(duplex);
  const parts: Buffer[] = [];
  let error: CloseNotifyError | null = null;
  duplex.on('error', (one) => {
    error = one as CloseNotifyError;
  });
  duplex.on('data', (chunk) => parts.push(chunk));
  await new Promise((resolve) => duplex.once('close', resolve));
  return { events, bytes: Buffer.concat(parts), error: error as CloseNotifyError | null };
}

/** What a stream's own `read` rejects with, on a stream that ends in the same way. */
type Ending = readonly [
  name: string,
  end: (peer: TlsStream, line: Channel['back'], wire: Channel) => void,
  expected: { readonly code: string; readonly closure: object },
];

const ENDINGS: readonly Ending[] = [
  [
    'FIN between two records',
    (_peer, line) => line.cut('fin'),
    {
      code: 'ERR_TLS_TRUNCATED',
      closure: {
        verdict: 'truncated',
        truncation: { where: 'record-boundary', cause: 'eof', code: null },
      },
    },
  ],
  [
    'FIN inside a record',
    (_peer, line) => {
      line.inject(Buffer.from([23, 3, 3, 0, 100, 1, 2, 3]));
      line.cut('fin');
    },
    {
      code: 'ERR_TLS_TRUNCATED',
      closure: {
        verdict: 'truncated',
        truncation: { where: 'inside-record', cause: 'eof', code: null },
      },
    },
  ],
  [
    'a reset',
    (_peer, line) => line.cut('reset'),
    {
      code: 'ERR_TLS_TRUNCATED',
      closure: { verdict: 'truncated', truncation: { cause: 'reset', code: 'ECONNRESET' } },
    },
  ],
  [
    'a record that nothing can have encrypted',
    (_peer, line) => line.inject(Buffer.from([23, 3, 3, 0, 20, ...Buffer.alloc(20, 0x5a)])),
    {
      code: 'ERR_TLS_ALERT',
      closure: { verdict: 'alert', alert: { direction: 'sent' } },
    },
  ],
];

for (const version of VERSIONS) {
  for (const role of ROLES) {
    describeTls(`${version}, as a ${role}: toDuplex()`, () => {
      test(
        "ends with 'end' on close_notify, then closes the stream once it has ended, too",
        clean(async (scope) => {
          const { ours, peer } = await sides(scope, version, role);
          const duplex = ours.toDuplex();
          expect(duplex).toBeInstanceOf(Duplex);
          const reading = readOut(duplex);
          await peer.write('whole');
          await peer.shutdown({ wait: false });
          await once(duplex, 'end');
          expect(ours.closure.sent).toBe(null);
          duplex.end('an answer');
          expect(String(await readAll(peer))).toBe('an answer');
          await peer.close();
          const { bytes, events } = await reading;
          expect(String(bytes)).toBe('whole');
          expect(events).toEqual(['end', 'finish', 'close']);
          expect(await ours.closed).toMatchObject({ verdict: 'secure' });
        }),
      );

      test(
        'end() is a half-close: close_notify behind all that was written, and reading goes on',
        clean(async (scope) => {
          const { ours, peer } = await sides(scope, version, role);
          const duplex = ours.toDuplex();
          const data = pattern(300_000);
          for (let at = 0; at < data.length; at += 1_000) {
            duplex.write(data.subarray(at, at + 1_000));
          }
          duplex.end();
          const reading = readOut(duplex);
          expect((await readAll(peer)).equals(data)).toBe(true);
          await finished(duplex, { readable: false });
          expect(ours.closure).toMatchObject({ verdict: 'one-sided', receive: 'open' });
          await peer.write(data);
          await peer.close();
          const { bytes, events } = await reading;
          expect(bytes.equals(data)).toBe(true);
          expect(events).toEqual(['finish', 'end', 'close']);
          expect(await ours.closed).toMatchObject({ verdict: 'secure' });
        }),
      );

      for (const [name, end, { code, closure }] of ENDINGS) {
        test(
          `${name}: 'error' behind every byte, never 'end', and a close that does not tell it again`,
          clean(async (scope) => {
            const { ours, peer, line, wire } = await sides(scope, version, role);
            const data = pattern(100_000);
            const reading = readOut(ours.toDuplex());
            // A reset overtakes what is on its way.
            if (name !== 'a reset') await peer.write(data);
            end(peer, line, wire);
            const { bytes, error, events } = await reading;
            expect(error).toMatchObject({ code, closure });
            expect(events).toEqual(['error', 'close']);
            if (name !== 'a reset') expect(bytes.equals(data)).toBe(true);
            expect(await ours.close()).toMatchObject(closure);
            expect(await ours.closed).toMatchObject(closure);
          }),
        );
      }

      test(
        'a fatal alert of the peer: its error, behind every byte',
        clean(async (scope) => {
          const { ours, peer, line, wire } = await sides(scope, version, role);
          const reading = readOut(ours.toDuplex());
          await peer.write('before');
          const toPeer = line === wire.back ? wire.forth : wire.back;
          toPeer.inject(Buffer.from([23, 3, 3, 0, 20, ...Buffer.alloc(20, 0x5a)]));
          await rejection(peer.read());
          const { bytes, error, events } = await reading;
          expect(String(bytes)).toBe('before');
          expect(error).toMatchObject({
            code: 'ERR_TLS_ALERT',
            closure: { verdict: 'alert', alert: { direction: 'received' } },
          });
          expect(events).toEqual(['error', 'close']);
        }),
      );

      test(
        "requireCloseNotify: false makes FIN an 'end'",
        clean(async (scope) => {
          const lax = { requireCloseNotify: false, answer: 'when-told' } as const;
          const options = { client: lax, server: lax };
          const { ours, peer, line } = await sides(scope, version, role, options);
          const duplex = ours.toDuplex({ allowHalfOpen: false });
          const reading = readOut(duplex);
          await peer.write('all there is');
          await settle();
          line.cut('fin');
          const { bytes, events } = await reading;
          expect(String(bytes)).toBe('all there is');
          expect(events).toContain('end');
          expect(events).not.toContain('error');
          expect(await ours.closed).toMatchObject({ verdict: 'truncated' });
        }),
      );

      test(
        'destroy() aborts; close comes behind it, and no error',
        clean(async (scope) => {
          const { ours, peer } = await sides(scope, version, role);
          const duplex = ours.toDuplex();
          const reading = readOut(duplex);
          await turn();
          duplex.destroy();
          expect((await reading).events).toEqual(['close']);
          expect(await ours.closed).toMatchObject({ verdict: 'aborted' });
          expect(await rejection(peer.read())).toMatchObject({ code: 'ERR_TLS_TRUNCATED' });
        }),
      );

      test(
        'destroy(error) aborts, and tells that error alone',
        clean(async (scope) => {
          const { ours } = await sides(scope, version, role);
          const duplex = ours.toDuplex();
          const reading = readOut(duplex);
          const mine = new Error('mine');
          duplex.destroy(mine);
          const { error, events } = await reading;
          expect(error).toBe(mine);
          expect(events).toEqual(['error', 'close']);
          expect(await ours.closed).toMatchObject({ verdict: 'aborted' });
        }),
      );

      test(
        'stream.abort() and stream.close() work while it is taken',
        clean(async (scope) => {
          const first = await sides(scope, version, role);
          const reading = readOut(first.ours.toDuplex());
          first.ours.abort();
          expect((await reading).error).toMatchObject({ code: 'ERR_TLS_ABORTED' });

          const second = await sides(scope, version, role);
          const whole = readOut(second.ours.toDuplex({ allowHalfOpen: false }));
          const closing = second.ours.close();
          await second.peer.write('late');
          await second.peer.close();
          expect(await closing).toMatchObject({ verdict: 'secure' });
          const { bytes, error } = await whole;
          expect(error).toBe(null);
          expect(String(bytes)).toBe('late');
        }),
      );

      test(
        'for await over a clean stream ends secure; left early it aborts',
        clean(async (scope) => {
          const whole = await sides(scope, version, role);
          const data = pattern(200_000);
          const sending = whole.peer.write(data).then(() => whole.peer.close());
          const parts: Buffer[] = [];
          const duplex = whole.ours.toDuplex();
          for await (const chunk of duplex) parts.push(chunk);
          expect(Buffer.concat(parts).equals(data)).toBe(true);
          expect(await sending).toMatchObject({ verdict: 'secure' });
          expect(await whole.ours.closed).toMatchObject({ verdict: 'secure' });

          const left = await sides(scope, version, role);
          await left.peer.write('one');
          for await (const chunk of left.ours.toDuplex()) {
            expect(String(chunk)).toBe('one');
            break;
          }
          expect(await left.ours.closed).toMatchObject({ verdict: 'aborted' });
        }),
      );

      test(
        'iterator({ destroyOnReturn: false }) leaves it open for an answer',
        clean(async (scope) => {
          const { ours, peer } = await sides(scope, version, role);
          const duplex = ours.toDuplex();
          await peer.write('the question');
          await peer.shutdown({ wait: false });
          let question = '';
          for await (const chunk of duplex.iterator({ destroyOnReturn: false })) question += chunk;
          duplex.end(`${question}?`);
          expect(String(await readAll(peer))).toBe('the question?');
          await peer.close();
          expect(await ours.closed).toMatchObject({ verdict: 'secure' });
        }),
      );

      test(
        'bytes that are still in the Duplex when an iterator is done are not passed off as all',
        clean(async (scope) => {
          const { ours, peer, line, wire } = await sides(scope, version, role);
          const toPeer = line === wire.back ? wire.forth : wire.back;
          toPeer.clog();
          const duplex = ours.toDuplex();
          const writes: Array<Error | null | undefined> = [];
          for (let i = 0; i < 20; i++)
            duplex.write(pattern(100_000), (error) => writes.push(error));
          await peer.shutdown({ wait: false });
          for await (const _ of duplex);
          expect(await ours.closed).toMatchObject({ verdict: 'aborted', sent: null });
          await until('each write was told', () => writes.length === 20);
          expect(writes.some((error) => error instanceof Error)).toBe(true);
        }),
      );

      test(
        'taken late: behind the close_notify, behind a truncation, after a shutdown',
        clean(async (scope) => {
          const closed = await sides(scope, version, role);
          await closed.peer.write('one');
          await closed.peer.write('two');
          await closed.peer.shutdown({ wait: false });
          await until('it is here', () => closed.ours.closure.received !== null);
          const first = readOut(closed.ours.toDuplex({ allowHalfOpen: false }));
          expect(String((await first).bytes)).toBe('onetwo');
          expect(await closed.ours.closed).toMatchObject({ verdict: 'secure' });

          const cut = await sides(scope, version, role);
          await cut.peer.write('one');
          await turn();
          cut.line.cut('fin');
          await until('it is known', () => cut.ours.closure.verdict === 'truncated');
          const second = await readOut(cut.ours.toDuplex());
          expect(String(second.bytes)).toBe('one');
          expect(second.events).toEqual(['error', 'close']);
          expect(second.error).toMatchObject({ code: 'ERR_TLS_TRUNCATED' });

          const shut = await sides(scope, version, role);
          await shut.ours.shutdown({ wait: false });
          const duplex = shut.ours.toDuplex();
          const third = readOut(duplex);
          duplex.end();
          await shut.peer.write('still');
          await shut.peer.close();
          expect(String((await third).bytes)).toBe('still');
          expect(await shut.ours.closed).toMatchObject({ verdict: 'secure' });
        }),
      );

      test(
        'taken after reads it has what comes next, in order',
        clean(async (scope) => {
          const { ours, peer } = await sides(scope, version, role);
          const data = pattern(400_000);
          const sending = peer.write(data).then(() => peer.close());
          const parts = [(await ours.read()) as Buffer, (await ours.read()) as Buffer];
          const duplex = ours.toDuplex({ allowHalfOpen: false });
          parts.push((await readOut(duplex)).bytes);
          await sending;
          expect(Buffer.concat(parts).equals(data)).toBe(true);
        }),
      );

      test(
        'highWaterMark 1: the same bytes, and nothing is read that nobody wants',
        clean(async (scope) => {
          const { ours, peer } = await sides(scope, version, role);
          const duplex = ours.toDuplex({ readableHighWaterMark: 1, writableHighWaterMark: 1 });
          expect(duplex.readableHighWaterMark).toBe(1);
          expect(duplex.writableHighWaterMark).toBe(1);
          const data = pattern(500_000);
          let sent = false;
          const sending = peer.write(data).then(() => {
            sent = true;
          });
          duplex.once('readable', () => {});
          for (let i = 0; i < 50; i++) await turn();
          // One chunk is here, and the rest is up to the reader.
          expect(duplex.readableLength).toBeLessThanOrEqual(65_536);
          expect(sent).toBe(false);
          const parts: Buffer[] = [];
          const slow = new Writable({
            highWaterMark: 1,
            write(chunk, _encoding, done) {
              parts.push(chunk);
              setImmediate(done);
            },
          });
          const piping = pipeline(duplex, slow);
          await sending;
          await peer.shutdown({ wait: false });
          await piping;
          expect(Buffer.concat(parts).equals(data)).toBe(true);
          duplex.end();
          await peer.close();
        }),
      );

      test(
        'write() tells of a full transport, and drain when there is room again',
        clean(async (scope) => {
          const { ours, peer, line, wire } = await sides(scope, version, role);
          const toPeer = line === wire.back ? wire.forth : wire.back;
          const duplex = ours.toDuplex();
          toPeer.clog();
          let total = 0;
          const chunk = pattern(50_000);
          for (; total < 10_000_000 && !duplex.writableNeedDrain; total += chunk.length) {
            duplex.write(chunk);
            for (let i = 0; i < 5; i++) await turn();
          }
          expect(total).toBeLessThan(10_000_000);
          const drained = once(duplex, 'drain');
          toPeer.flow();
          const reading = readAll(peer);
          await drained;
          duplex.end();
          duplex.resume();
          expect((await reading).length).toBe(total);
          await peer.close();
          await ours.closed;
        }),
      );

      test(
        'while it is taken, the other ways in are refused, with a hint',
        clean(async (scope) => {
          const { ours, peer } = await sides(scope, version, role);
          const duplex = ours.toDuplex();
          expect(ours.toDuplex({ readableHighWaterMark: 5 })).toBe(duplex);
          const taken = { name: 'UsageError', code: 'ERR_TLS_TAKEN', hint: expect.any(String) };
          expect(await rejection(ours.read())).toMatchObject({ ...taken, phase: 'read' });
          expect(await rejection(ours.write('x'))).toMatchObject({ ...taken, phase: 'write' });
          expect(await rejection(readAll(ours))).toMatchObject(taken);
          expect(() => ours.readable).toThrow(expect.objectContaining(taken));
          expect(() => ours.writable).toThrow(expect.objectContaining(taken));
          // None of these has touched the Duplex.
          await peer.write('fine');
          expect(String(await once(duplex, 'data'))).toBe('fine');
          duplex.destroy();
          await ours.closed;
        }),
      );

      test(
        'not while a read waits, which can be cancelled without loss',
        clean(async (scope) => {
          const { ours, peer } = await sides(scope, version, role);
          const control = new AbortController();
          const reading = rejection(ours.read({ signal: control.signal }));
          const pending = expect.objectContaining({ code: 'ERR_TLS_READ_PENDING' });
          expect(() => ours.toDuplex()).toThrow(pending);
          expect(() => ours.readable).toThrow(pending);
          control.abort();
          expect(await reading).toMatchObject({ code: 'ABORT_ERR' });
          await peer.write('all');
          await peer.shutdown({ wait: false });
          expect(String((await readOut(ours.toDuplex({ allowHalfOpen: false }))).bytes)).toBe(
            'all',
          );
        }),
      );

      test(
        'options of the wrong kind are refused, and take nothing',
        clean(async (scope) => {
          const { ours, both } = await sides(scope, version, role);
          for (const options of [
            null,
            { readableHighWaterMark: -1 },
            { writableHighWaterMark: 1.5 },
            { readableHighWaterMark: '5' },
            { allowHalfOpen: 1 },
          ]) {
            expect(() => ours.toDuplex(options as never)).toThrow(
              expect.objectContaining({ code: 'ERR_TLS_OPTION' }),
            );
          }
          await ours.write('x');
          await Promise.all([both.client.close(), both.server.close()]);
        }),
      );

      test(
        'the transport breaks behind the peer’s close_notify, with bytes of ours in it: end() does not pass for done',
        clean(async (scope) => {
          const { ours, peer, line, wire } = await sides(scope, version, role);
          (line === wire.back ? wire.forth : wire.back).clog();
          const duplex = ours.toDuplex();
          const seen = readOut(duplex);
          duplex.write('small');
          await peer.shutdown({ wait: false });
          await until('it has come', () => ours.closure.received !== null);
          duplex.end();
          line.cut('reset');
          const { events, error } = await seen;
          expect(events).toEqual(['end', 'error', 'close']);
          expect(error).toMatchObject({ code: 'ERR_TLS_SHUTDOWN' });
          expect(error?.message).toContain('5 written bytes were not sent');
          expect(ours.closure).toMatchObject({ verdict: 'one-sided', send: 'cut', unsent: 5 });
        }),
      );

      test(
        'an echo into itself gives every byte back, and both ends are secure',
        clean(async (scope) => {
          const { ours, peer } = await sides(scope, version, role);
          const duplex = ours.toDuplex();
          duplex.pipe(duplex);
          const data = pattern(1_000_000);
          const sending = peer.write(data).then(() => peer.shutdown({ wait: false }));
          expect((await readAll(peer)).equals(data)).toBe(true);
          await sending;
          expect(await peer.close()).toMatchObject({ verdict: 'secure' });
          expect(await ours.closed).toMatchObject({ verdict: 'secure' });
        }),
      );

      test(
        'pipeline through a transform and back; compose; Readable.toWeb and Duplex.toWeb',
        clean(async (scope) => {
          const { ours, peer } = await sides(scope, version, role);
          const duplex = ours.toDuplex();
          const upper = () =>
            new Transform({
              transform(chunk, _encoding, done) {
                done(null, String(chunk).toUpperCase());
              },
            });
          const echoing = pipeline(duplex, upper(), duplex);
          const { compose } = stream as unknown as { compose(...streams: Duplex[]): Duplex };
          const theirs = compose(peer.toDuplex(), new PassThrough());
          theirs.end('abc'.repeat(10_000));
          let answer = '';
          for await (const chunk of theirs) answer += chunk;
          await echoing;
          expect(answer).toBe('ABC'.repeat(10_000));
          expect(await ours.closed).toMatchObject({ verdict: 'secure' });

          const web = await sides(scope, version, role);
          await web.peer.write('cut');
          await settle();
          web.line.cut('fin');
          const { readable } = Duplex.toWeb(web.ours.toDuplex());
          const reader = readable.getReader();
          expect(Buffer.from((await reader.read()).value).toString()).toBe('cut');
          const error = await rejection(reader.read());
          expect([error.code, (error.cause as CloseNotifyError | undefined)?.code]).toContain(
            'ERR_TLS_TRUNCATED',
          );
          const whole = await sides(scope, version, role);
          await whole.peer.write('whole');
          await whole.peer.shutdown({ wait: false });
          const body = Readable.toWeb(whole.ours.toDuplex({ allowHalfOpen: false }));
          expect(await new Response(body as never).text()).toBe('whole');
        }),
      );

      test(
        'pipeline from a file that fails aborts, so that the peer does not take it for whole',
        clean(async (scope) => {
          const { ours, peer } = await sides(scope, version, role);
          async function* failing() {
            yield 'half';
            throw new Error('the disk');
          }
          expect((await rejection(pipeline(failing, ours.toDuplex()))).message).toBe('the disk');
          await ours.closed;
          expect(ours.closure).toMatchObject({ verdict: 'aborted', sent: null });
          expect(await rejection(readAll(peer))).toMatchObject({ code: 'ERR_TLS_TRUNCATED' });
        }),
      );

      test(
        'a write that fails is told behind what had arrived, to a reader that is slow',
        clean(async (scope) => {
          const { ours, peer, line } = await sides(scope, version, role);
          const data = pattern(200_000);
          const duplex = ours.toDuplex();
          const parts: Buffer[] = [];
          const slow = new Writable({
            highWaterMark: 1,
            write(chunk, _encoding, done) {
              parts.push(chunk);
              setImmediate(() => setImmediate(done));
            },
          });
          const piping = rejection(pipeline(duplex, slow));
          await peer.write(data);
          line.cut('fin');
          await until('it is known', () => ours.closure.verdict === 'truncated');
          const writing = new Promise((resolve) => duplex.write('more', resolve));
          expect(await writing).toMatchObject({ code: 'ERR_TLS_TRUNCATED' });
          expect(await piping).toMatchObject({ code: 'ERR_TLS_TRUNCATED' });
          expect(Buffer.concat(parts).equals(data)).toBe(true);
        }),
      );

      test(
        'a write that fails is told at once where nobody reads',
        clean(async (scope) => {
          const { ours, peer, line } = await sides(scope, version, role);
          const duplex = ours.toDuplex();
          await peer.write('unread');
          line.cut('fin');
          await until('it is known', () => ours.closure.verdict === 'truncated');
          const failing = once(duplex, 'error');
          duplex.write('more');
          expect(await failing).toMatchObject([{ code: 'ERR_TLS_TRUNCATED' }]);
        }),
      );

      test(
        'destroySoon() ends, and closes without waiting for the reader',
        clean(async (scope) => {
          const { ours, peer } = await sides(scope, version, role);
          const duplex = ours.toDuplex();
          duplex.write('last');
          duplex.destroySoon();
          expect(String(await readAll(peer))).toBe('last');
          await peer.close();
          expect(await ours.closed).toMatchObject({ verdict: 'secure' });
          await until('it is closed', () => duplex.closed);
        }),
      );

      test(
        "setTimeout() tells 'timeout' and closes nothing",
        clean(async (scope) => {
          const { ours, peer } = await sides(scope, version, role);
          const duplex = ours.toDuplex();
          await new Promise<void>((resolve) => duplex.setTimeout(1, resolve));
          expect(duplex.timeout).toBe(1);
          duplex.setTimeout(0);
          await peer.write('fine');
          expect(String(await once(duplex, 'data'))).toBe('fine');
          duplex.destroy();
          await ours.closed;
        }),
      );
    });
  }

  describeTls(`${version}: toDuplex()`, () => {
    test(
      'over TCP: the addresses and options of its socket',
      clean(async (scope) => {
        const both: Pair = await pair(scope, version, WHEN_TOLD);
        const { client, server, clientTransport } = both;
        const duplex = client.toDuplex({ allowHalfOpen: false });
        const { localPort } = clientTransport as net.Socket;
        expect(duplex).toMatchObject({
          encrypted: true,
          remoteAddress: '127.0.0.1',
          remoteFamily: 'IPv4',
          localPort,
        });
        expect(server.toDuplex().remotePort).toBe(localPort);
        expect(duplex.setNoDelay(true).setKeepAlive(true, 1_000).unref().ref()).toBe(duplex);
        duplex.resume().end();
        server.toDuplex().resume().end();
        await Promise.all([client.closed, server.closed]);
        expect(client.closure.verdict).toBe('secure');
      }),
    );

    test(
      'a reset of a real socket is its error',
      clean(async (scope) => {
        const { client, serverTransport } = await pair(scope, version);
        const reading = readOut(client.toDuplex());
        reset(serverTransport as net.Socket);
        const { error, events } = await reading;
        expect(error).toMatchObject({ code: 'ERR_TLS_TRUNCATED' });
        expect(events).toEqual(['error', 'close']);
      }),
    );

    test(
      'a peer that takes nothing: closing kindly has its deadline, which is told',
      clean(async (scope) => {
        const deadlines = { shutdown: 20, close: 20 };
        const options = { ...WHEN_TOLD, client: { ...WHEN_TOLD.client, deadlines } };
        const { ours, peer, wire } = await sides(scope, version, 'client', options);
        const duplex = ours.toDuplex();
        const reading = readOut(duplex);
        await peer.shutdown({ wait: false });
        await once(duplex, 'end');
        wire.forth.clog();
        await ours.shutdown({ wait: false }).catch(() => {});
        duplex.destroy();
        const { error } = await reading;
        if (error !== null) expect(error).toMatchObject({ code: 'ERR_TLS_TIMEOUT' });
        expect((await ours.closed).verdict).toMatch(/^(timed-out|secure)$/);
      }),
    );

    test(
      'TLS 1.2 answers at once, and what it discards is not called finished',
      clean(async (scope) => {
        if (version !== 'TLSv1.2') return;
        const { ours, peer, wire } = await sides(scope, version, 'client', {});
        wire.forth.clog();
        const duplex = ours.toDuplex();
        const reading = readOut(duplex);
        for (let i = 0; i < 20; i++) duplex.write(pattern(100_000));
        duplex.end();
        await peer.write('refused');
        await peer.shutdown({ wait: false });
        await once(duplex, 'end');
        wire.forth.flow();
        // Our answer is behind what TLS had encrypted already.
        await readAll(peer);
        const { bytes, events, error } = await reading;
        expect(String(bytes)).toBe('refused');
        expect(events).toEqual(['end', 'error', 'close']);
        expect(error).toMatchObject({ code: 'ERR_TLS_SHUTDOWN' });
      }),
    );

    test(
      "http: a server given it as 'connection', a client by createConnection",
      clean(async (scope) => {
        const { client, server } = await pair(scope, version, WHEN_TOLD);
        const serving = http.createServer((request, response) => {
          request.pipe(response.setHeader('connection', 'close'));
        });
        serving.emit('connection', server.toDuplex());
        const request = http.request({
          method: 'POST',
          createConnection: () => client.toDuplex() as unknown as net.Socket,
        });
        request.end('x'.repeat(200_000));
        const [response] = (await once(request, 'response')) as [http.IncomingMessage];
        let body = '';
        for await (const chunk of response) body += chunk;
        expect(body.length).toBe(200_000);
        await Promise.all([client.closed, server.closed]);
        expect([client.closure.verdict, server.closure.verdict]).toEqual(['secure', 'secure']);
      }),
    );

    test(
      'http with a keep-alive agent; a body that the end delimits is an error where it was cut',
      clean(async (scope) => {
        const { client, server } = await pair(scope, version, WHEN_TOLD);
        const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
        scope.defer(() => agent.destroy());
        agent.createConnection = () => client.toDuplex();
        const serving = http.createServer((request, response) => {
          if (request.url === '/whole') {
            response.end('whole');
            return;
          }
          response.shouldKeepAlive = false;
          response.useChunkedEncodingByDefault = false;
          response.write('half', () => server.abort());
        });
        serving.emit('connection', server.toDuplex());
        const get = async (path: string) => {
          const [response] = await once(http.get({ path, agent, host: 'localhost' }), 'response');
          let body = '';
          for await (const chunk of response) body += chunk;
          return body;
        };
        expect(await get('/whole')).toBe('whole');
        expect(await get('/whole')).toBe('whole');
        expect(await rejection(get('/half'))).toMatchObject({ code: 'ERR_TLS_TRUNCATED' });
        expect((await client.closed).verdict).toBe('truncated');
      }),
    );

    test(
      'http: what a length delimits is whole without close_notify (RFC 9112 section 9.8)',
      clean(async (scope) => {
        const { client, server } = await pair(scope, version, WHEN_TOLD);
        const serving = http.createServer((_request, response) => {
          response.setHeader('content-length', 5).end('whole');
        });
        serving.emit('connection', server.toDuplex());
        const request = http.request({ createConnection: () => client.toDuplex() as never });
        const errors: Error[] = [];
        request.on('error', (error) => errors.push(error));
        request.end();
        const [response] = (await once(request, 'response')) as [http.IncomingMessage];
        let body = '';
        for await (const chunk of response) body += chunk;
        expect(body).toBe('whole');
        server.abort();
        await client.closed;
        expect(errors).toEqual([]);
      }),
    );

    test(
      'http2 over it, both sides',
      clean(async (scope) => {
        const { client, server } = await pair(scope, version, WHEN_TOLD);
        const serving = http2.createServer((request, response) => request.pipe(response));
        serving.emit('connection', server.toDuplex({ allowHalfOpen: false }));
        const session = http2.connect('http://localhost', {
          createConnection: () => client.toDuplex({ allowHalfOpen: false }),
        });
        const request = session.request({ ':method': 'POST' });
        request.end('y'.repeat(200_000));
        let body = '';
        for await (const chunk of request) body += chunk;
        expect(body.length).toBe(200_000);
        session.close();
        await Promise.all([client.closed, server.closed]);
      }),
    );
  });
}

describe('a driver', () => {
  describeAdapter(['redis'], 'Redis', () => {
    test('ioredis over stream.toDuplex()', async () => {
      const { connect } = await import('../../../src/index.ts');
      const peer = await redis();
      try {
        const { ca } = await testPki();
        const connection = await connect({ host: 'localhost', port: peer.port, ca });
        class Connector {
          connect = () => Promise.resolve(connection.toDuplex({ allowHalfOpen: false }));
          disconnect = () => connection.toDuplex().end();
          check = () => true;
        }
        const client = new Redis({
          Connector: Connector as never,
          retryStrategy: () => null,
          noDelay: true,
          keepAlive: 1_000,
        });
        expect((await client.get('text')) === String(ROWS)).toBe(true);
        await client.quit();
        expect(await connection.closed).toMatchObject({ received: expect.anything() });
      } finally {
        await peer.close();
      }
    });
  });
});
