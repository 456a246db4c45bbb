/**
 * KeyUpdate on demand.
 *
 * RFC 9846 section 4.7.3: "If the request_update field is set to "update_requested", then the receiver MUST send a
 * KeyUpdate of its own with request_update set to "update_not_requested" prior to sending its next Application Data
 * record."
 */
import { describe, expect, test } from 'vitest';
import { HANDSHAKE_TYPE } from '../../../src/record/handshake.ts';
import type { TlsStream } from '../../../src/stream/tls-stream.ts';
import { Capture, decode, unreadable } from '../../support/cert-capture.ts';
import { clean } from '../../support/core-scope.ts';
import {
  closeBoth,
  pair,
  pairInMemory,
  pattern,
  readAll,
  rejection,
} from '../../support/core-streams.ts';

/** What the KeyUpdates of a connection asked for, by sender: 1 is update_requested. */
function updatesOf(capture: Capture) {
  const all = decode(capture.pieces);
  expect(unreadable(all)).toEqual([]);
  const of = (sender: 'client' | 'server') =>
    all.flatMap((one) =>
      one.type === 'handshake' &&
      one.messageType === HANDSHAKE_TYPE.keyUpdate &&
      one.sender === sender
        ? [one.body[0]]
        : [],
    );
  return { client: of('client'), server: of('server') };
}

const SIZE = 3 << 20;

/** Sends so much, with a KeyUpdate of either kind between the pieces. */
async function send(stream: TlsStream, updates: boolean): Promise<void> {
  const bytes = pattern(SIZE);
  for (let at = 0, nth = 0; at < SIZE; at += 100_000, nth++) {
    await stream.write(bytes.subarray(at, at + 100_000));
    if (updates) await stream.updateKeys(nth % 3 === 0 ? { request: true } : {});
  }
  await stream.shutdown({ wait: false });
}

describe.each([
  ['native', 'native', pair],
  ['native', 'native', pairInMemory],
  ['native', 'tapped', pair],
  ['tapped', 'native', pair],
] as const)('a client that is %s, a server that is %s, %o', (client, server, make) => {
  test('in both directions while data flows: nothing is lost', () =>
    clean(async (scope) => {
      const capture = new Capture();
      const both = await make(scope, 'TLSv1.3', {
        client: { engine: client, record: capture },
        server: { engine: server },
      });
      const [fromServer, fromClient] = await Promise.all([
        readAll(both.client),
        readAll(both.server),
        send(both.client, client === 'native'),
        send(both.server, server === 'native'),
      ]);
      expect(fromServer.equals(pattern(SIZE))).toBe(true);
      expect(fromClient.equals(pattern(SIZE))).toBe(true);
      await closeBoth(both);
      expect(both.client.closure.verdict).toBe('secure');
      expect(both.server.closure.verdict).toBe('secure');
      const updates = updatesOf(capture);
      const rounds = Math.ceil(SIZE / 100_000);
      for (const [side, engine] of [
        ['client', client],
        ['server', server],
      ] as const) {
        // Its own, and answers to the other's.
        if (engine === 'native') {
          expect(updates[side].filter((asks) => asks === 1)).toHaveLength(Math.ceil(rounds / 3));
          expect(updates[side].length).toBeGreaterThanOrEqual(rounds);
        } else {
          expect(updates[side]).not.toEqual([]);
          expect(updates[side].every((asks) => asks === 0)).toBe(true);
        }
      }
    })());
});

test('one without and one with request: what goes over the wire', () =>
  clean(async (scope) => {
    const capture = new Capture();
    const both = await pair(scope, 'TLSv1.3', { client: { engine: 'native', record: capture } });
    const { client, server } = both;
    await client.updateKeys();
    await client.write('one');
    expect(Buffer.from((await server.read()) ?? []).toString()).toBe('one');
    await client.updateKeys({ request: true });
    await client.write('two');
    expect(Buffer.from((await server.read()) ?? []).toString()).toBe('two');
    await server.write('three');
    expect(Buffer.from((await client.read()) ?? []).toString()).toBe('three');
    await closeBoth(both);
    expect(updatesOf(capture)).toEqual({ client: [0, 1], server: [0] });
  })());

test('what cannot be: TLS 1.2, the tapped engine, behind shutdown, with wrong options', () =>
  clean(async (scope) => {
    const old = await pair(scope, 'TLSv1.2', { client: { engine: 'native' } });
    const error = await rejection(old.client.updateKeys());
    expect(error).toMatchObject({ code: 'ERR_TLS_KEY_UPDATE', closure: null });
    expect(error.message).toContain('TLSv1.2');
    await closeBoth(old);
    const tapped = await pair(scope, 'TLSv1.3', { client: { engine: 'tapped' } });
    expect(await rejection(tapped.client.updateKeys())).toMatchObject({
      code: 'ERR_TLS_KEY_UPDATE',
      hint: expect.stringContaining('native engine'),
    });
    await closeBoth(tapped);
    const both = await pair(scope, 'TLSv1.3', { client: { engine: 'native' } });
    for (const options of [{ request: 'yes' }, { deadline: -1 }, 3]) {
      expect((await rejection(both.client.updateKeys(options as never))).code).toBe(
        'ERR_TLS_OPTION',
      );
    }
    const signal = AbortSignal.abort();
    expect((await rejection(both.client.updateKeys({ signal }))).code).toBe('ABORT_ERR');
    await both.client.shutdown({ wait: false });
    expect((await rejection(both.client.updateKeys())).code).toBe('ERR_TLS_SHUTDOWN');
    await closeBoth(both);
    expect((await rejection(both.client.updateKeys())).code).toBe('ERR_TLS_SHUTDOWN');
  })());

test('while the peer does not read: it waits as a write does, and the deadline ends the wait', () =>
  clean(async (scope) => {
    const { client, server } = await pair(scope, 'TLSv1.3', { client: { engine: 'native' } });
    const piece = Buffer.alloc(1 << 20);
    const limits = { deadline: 200 };
    for (;;) {
      const outcome = await client.write(piece, limits).catch((error: Error) => error);
      if (outcome instanceof Error) break;
    }
    const error = await rejection(client.updateKeys(limits));
    expect(error).toMatchObject({ code: 'ERR_TLS_TIMEOUT', phase: 'write' });
    const reading = readAll(server);
    await client.updateKeys();
    await client.write('the end');
    await client.shutdown({ wait: false });
    const all = await reading;
    expect(all.subarray(-7).toString()).toBe('the end');
    await Promise.all([client.close(), server.close()]);
    expect(client.closure.verdict).toBe('secure');
  })());
