/** `stream.readable` and `stream.writable`: WHATWG streams that are strict about their end. */
import { expect, test } from 'vitest';
import type { CloseNotifyError } from '../../../src/index.ts';
import { channel } from '../../../src/testing/channel.ts';
import { describeTls } from '../../support/core-pki.ts';
import { clean, type Scope, turn, until } from '../../support/core-scope.ts';
import {
  type PairOptions,
  pair,
  pattern,
  readAll,
  rejection,
  VERSIONS,
  type Version,
} from '../../support/core-streams.ts';

const WHEN_TOLD: PairOptions = {
  client: { answer: 'when-told' },
  server: { answer: 'when-told' },
};

/** Our side, the peer's, and the lines between them. */
async function sides(
  scope: Scope,
  version: Version,
  role: 'client' | 'server',
  options = WHEN_TOLD,
) {
  const wire = channel({ onDestroy: 'reset' });
  const { client, server } = await pair(scope, version, { transports: wire.ends, ...options });
  const [ours, peer] = role === 'client' ? [client, server] : [server, client];
  scope.defer(() => ours.abort());
  scope.defer(() => peer.abort());
  const [toUs, toPeer] = role === 'client' ? [wire.back, wire.forth] : [wire.forth, wire.back];
  return { ours, peer, toUs, toPeer };
}

/** What a reader gets, and what it fails with. */
async function readOut(readable: ReadableStream<Uint8Array>) {
  const parts: Uint8Array[] = [];
  const reader = readable.getReader();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return { bytes: Buffer.concat(parts), error: null };
      parts.push(value);
    }
  } catch (error) {
    return { bytes: Buffer.concat(parts), error: error as CloseNotifyError };
  }
}

for (const version of VERSIONS) {
  for (const role of ['client', 'server'] as const) {
    describeTls(`${version}, as a ${role}: readable and writable`, () => {
      test(
        'close with close_notify, half by half, and then close the stream',
        clean(async (scope) => {
          const { ours, peer } = await sides(scope, version, role);
          const { readable, writable } = ours;
          expect(ours.readable).toBe(readable);
          expect(ours.writable).toBe(writable);
          const data = pattern(300_000);
          const writer = writable.getWriter();
          for (let at = 0; at < data.length; at += 10_000) {
            void writer.write(data.subarray(at, at + 10_000));
          }
          const closing = writer.close();
          expect((await readAll(peer)).equals(data)).toBe(true);
          await closing;
          expect(ours.closure).toMatchObject({ verdict: 'one-sided', receive: 'open' });
          const reading = readOut(readable);
          await peer.write(data);
          await peer.close();
          const { bytes, error } = await reading;
          expect(error).toBe(null);
          expect(bytes.equals(data)).toBe(true);
          expect(await ours.closed).toMatchObject({ verdict: 'secure' });
        }),
      );

      const cuts = ['between two records', 'inside a record', 'by a reset', 'by garbage'] as const;
      for (const cut of cuts) {
        test(
          `cut ${cut}: both fail with the error of read(), behind every byte`,
          clean(async (scope) => {
            const { ours, peer, toUs } = await sides(scope, version, role);
            const { readable, writable } = ours;
            const writer = writable.getWriter();
            const data = pattern(100_000);
            const sent = cut === 'by a reset' ? Buffer.alloc(0) : data;
            const reading = readOut(readable);
            await peer.write(sent);
            if (cut === 'inside a record') toUs.inject(Buffer.from([23, 3, 3, 0, 100, 1, 2, 3]));
            if (cut === 'by garbage') {
              toUs.inject(Buffer.from([23, 3, 3, 0, 20, ...Buffer.alloc(20, 0x5a)]));
            } else {
              toUs.cut(cut === 'by a reset' ? 'reset' : 'fin');
            }
            const { bytes, error } = await reading;
            const code = cut === 'by garbage' ? 'ERR_TLS_ALERT' : 'ERR_TLS_TRUNCATED';
            expect(error).toMatchObject({ code });
            expect(bytes.equals(sent)).toBe(true);
            expect(await rejection(writer.closed)).toBe(error);
            expect(await rejection(writer.write(data))).toBe(error);
            const { verdict } = await ours.closed;
            expect(verdict).toBe(cut === 'by garbage' ? 'alert' : 'truncated');
          }),
        );
      }

      test(
        'a writable that is made behind the failure has failed already',
        clean(async (scope) => {
          const { ours, toUs } = await sides(scope, version, role);
          toUs.cut('fin');
          const { error } = await readOut(ours.readable);
          expect(await rejection(ours.writable.getWriter().closed)).toBe(error);
        }),
      );

      test(
        'cancel() aborts the stream, and fails the writable',
        clean(async (scope) => {
          const { ours, peer } = await sides(scope, version, role);
          const writer = ours.writable.getWriter();
          await ours.readable.cancel();
          expect(await ours.closed).toMatchObject({ verdict: 'aborted' });
          expect(await rejection(writer.closed)).toMatchObject({ code: 'ERR_TLS_ABORTED' });
          expect(await rejection(peer.read())).toMatchObject({ code: 'ERR_TLS_TRUNCATED' });
        }),
      );

      test(
        'abort() aborts the stream, and fails the readable with the same reason',
        clean(async (scope) => {
          const { ours } = await sides(scope, version, role);
          const reading = readOut(ours.readable);
          const why = new Error('changed my mind');
          await ours.writable.abort(why);
          expect((await reading).error).toBe(why);
          expect(await ours.closed).toMatchObject({ verdict: 'aborted' });
        }),
      );

      test(
        'for await to the end is secure with close(); left early it aborts',
        clean(async (scope) => {
          const whole = await sides(scope, version, role);
          await whole.peer.write('whole');
          await whole.peer.shutdown({ wait: false });
          let text = '';
          for await (const chunk of whole.ours.readable) text += Buffer.from(chunk);
          expect(text).toBe('whole');
          const closing = whole.ours.close();
          await whole.peer.close();
          expect(await closing).toMatchObject({ verdict: 'secure' });

          const left = await sides(scope, version, role);
          await left.peer.write('one');
          for await (const _ of left.ours.readable) break;
          expect(await left.ours.closed).toMatchObject({ verdict: 'aborted' });
        }),
      );

      test(
        'pipeTo and pipeThrough, an echo into itself, and a Response',
        clean(async (scope) => {
          const { ours, peer } = await sides(scope, version, role);
          const echoing = ours.readable.pipeTo(ours.writable);
          const data = pattern(500_000);
          const sending = (async () => {
            const writer = peer.writable.getWriter();
            await writer.write(data);
            await writer.close();
          })();
          const back = await new Response(
            peer.readable.pipeThrough(new TransformStream()) as never,
          ).arrayBuffer();
          expect(Buffer.from(back).equals(data)).toBe(true);
          await Promise.all([sending, echoing]);
          expect(await ours.closed).toMatchObject({ verdict: 'secure' });
          expect(await peer.closed).toMatchObject({ verdict: 'secure' });
        }),
      );

      test(
        'a source that fails aborts, so that the peer does not take it for whole',
        clean(async (scope) => {
          const { ours, peer } = await sides(scope, version, role);
          const failing = new ReadableStream({
            pull(controller) {
              controller.error(new Error('the disk'));
            },
          });
          expect((await rejection(failing.pipeTo(ours.writable))).message).toBe('the disk');
          expect(await ours.closed).toMatchObject({ verdict: 'aborted', sent: null });
          expect(await rejection(peer.read())).toMatchObject({ code: 'ERR_TLS_TRUNCATED' });
        }),
      );

      test.skipIf(version === 'TLSv1.2')(
        'what fails behind the end of what the peer said aborts, too; TLS 1.2 has answered by then',
        clean(async (scope) => {
          // RFC 9846 section 6.1: close_notify says that all was sent, which is not so here.
          const { ours, peer } = await sides(scope, version, role);
          await peer.shutdown({ wait: false });
          expect((await ours.readable.getReader().read()).done).toBe(true);
          const writer = ours.writable.getWriter();
          writer.closed.catch(() => {});
          expect(await rejection(writer.write('no bytes' as never))).toMatchObject({
            code: 'ERR_TLS_OPTION',
          });
          expect(await ours.closed).toMatchObject({ verdict: 'aborted', sent: null });
          expect(await rejection(peer.read())).toMatchObject({ code: 'ERR_TLS_TRUNCATED' });
        }),
      );

      test(
        "a reader's own memory; what it gets is no memory of ours",
        clean(async (scope) => {
          const { ours, peer } = await sides(scope, version, role);
          const reader = ours.readable.getReader({ mode: 'byob' });
          await peer.write('0123456789');
          const first = await reader.read(new Uint8Array(4));
          expect(Buffer.from(first.value as Uint8Array).toString()).toBe('0123');
          const second = await reader.read(new Uint8Array(100));
          expect(Buffer.from(second.value as Uint8Array).toString()).toBe('456789');
          await peer.shutdown({ wait: false });
          expect((await reader.read(new Uint8Array(4))).done).toBe(true);
          await ours.writable.close();
          await peer.close();
          await ours.closed;
        }),
      );

      test(
        'nothing is read that nobody wants, and nothing is written that has no room',
        clean(async (scope) => {
          const { ours, peer, toPeer } = await sides(scope, version, role);
          const { readable, writable } = ours;
          let sent = false;
          const sending = peer.write(pattern(2_000_000)).then(() => {
            sent = true;
          });
          for (let i = 0; i < 30; i++) await turn();
          expect(sent).toBe(false);
          toPeer.clog();
          const writer = writable.getWriter();
          let ready = 0;
          for (; ready < 200; ready++) {
            void writer.write(pattern(50_000));
            for (let i = 0; i < 5; i++) await turn();
            if ((writer.desiredSize ?? 0) <= 0) break;
          }
          expect(ready).toBeLessThan(200);
          toPeer.flow();
          const reading = readOut(readable);
          const theirs = readAll(peer);
          await writer.close();
          expect((await theirs).length).toBe((ready + 1) * 50_000);
          await sending;
          await peer.close();
          expect((await reading).bytes.length).toBe(2_000_000);
          await ours.closed;
        }),
      );

      test(
        "each takes its direction from the stream's own calls and from toDuplex()",
        clean(async (scope) => {
          const taken = { name: 'UsageError', code: 'ERR_TLS_TAKEN' };
          const first = await sides(scope, version, role);
          const { readable } = first.ours;
          expect(await rejection(first.ours.read())).toMatchObject({ ...taken, phase: 'read' });
          expect(() => first.ours.toDuplex()).toThrow(expect.objectContaining(taken));
          await first.ours.write('writing is free');
          expect(String(await first.peer.read())).toBe('writing is free');
          await readable.cancel();

          const second = await sides(scope, version, role);
          const { writable } = second.ours;
          expect(await rejection(second.ours.write('x'))).toMatchObject({
            ...taken,
            phase: 'write',
          });
          expect(() => second.ours.toDuplex()).toThrow(expect.objectContaining(taken));
          await second.peer.write('reading is free');
          expect(String(await second.ours.read())).toBe('reading is free');
          await writable.abort();
          await second.ours.closed;
        }),
      );

      test(
        'a chunk that holds no bytes is refused; other views are taken as bytes',
        clean(async (scope) => {
          const { ours, peer } = await sides(scope, version, role);
          const writer = ours.writable.getWriter() as WritableStreamDefaultWriter<unknown>;
          const two = Uint16Array.of(0x4141, 0x4242);
          await writer.write(two);
          await writer.write(two.buffer);
          await until('all is here', () => peer.closure.receive === 'open');
          expect(String(await peer.read())).toMatch(/^AABB/);
          expect(await rejection(writer.write('text'))).toMatchObject({ code: 'ERR_TLS_OPTION' });
        }),
      );

      test(
        'abort() and close() of the stream work while both are taken',
        clean(async (scope) => {
          const first = await sides(scope, version, role);
          const reading = readOut(first.ours.readable);
          const writer = first.ours.writable.getWriter();
          first.ours.abort();
          expect((await reading).error).toMatchObject({ code: 'ERR_TLS_ABORTED' });
          await rejection(writer.closed);

          const second = await sides(scope, version, role);
          const { readable } = second.ours;
          await second.peer.write('late');
          const closing = second.ours.close();
          await second.peer.close();
          expect(await closing).toMatchObject({ verdict: 'secure' });
          expect(String((await readOut(readable)).bytes)).toBe('late');
        }),
      );
    });
  }
}
