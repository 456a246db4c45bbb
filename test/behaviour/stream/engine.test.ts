/** Which engine a stream has, and who may ask for one. */
import type net from 'node:net';
import { performance } from 'node:perf_hooks';
import tls from 'node:tls';
import { afterEach, describe, expect, test } from 'vitest';
import { addOn } from '../../../src/add-on.ts';
import { accept, connect, createServer } from '../../../src/index.ts';
import { channel } from '../../../src/testing/index.ts';
import { pki } from '../../support/core-pki.ts';
import { clean } from '../../support/core-scope.ts';
import { closeBoth, pair, pairInMemory, rejection } from '../../support/core-streams.ts';

const ASKED = process.env['CLOSE_NOTIFY_ENGINE'];
const HAS_NATIVE = addOn().native !== null;

afterEach(() => {
  if (ASKED === undefined) delete process.env['CLOSE_NOTIFY_ENGINE'];
  else process.env['CLOSE_NOTIFY_ENGINE'] = ASKED;
});

/** What all other tests of this folder run on. */
const DEFAULT = ASKED === 'tapped' || !HAS_NATIVE ? 'tapped' : 'native';

test(
  'is the one that this run is about, over a socket and over any Duplex',
  clean(async (scope) => {
    for (const make of [pair, pairInMemory]) {
      const both = await make(scope, 'TLSv1.3');
      expect([both.client.tls.engine, both.server.tls.engine]).toEqual([DEFAULT, DEFAULT]);
      await closeBoth(both);
    }
  }),
);

describe.skipIf(!HAS_NATIVE)('with the add-on', () => {
  test(
    'either engine talks to either, and the option asks for it',
    clean(async (scope) => {
      for (const client of ['native', 'tapped'] as const) {
        for (const server of ['native', 'tapped'] as const) {
          const both = await pair(scope, 'TLSv1.3', {
            client: { engine: client },
            server: { engine: server },
          });
          expect([both.client.tls.engine, both.server.tls.engine]).toEqual([client, server]);
          await both.client.write('over there');
          expect(String(await both.server.read())).toBe('over there');
          await closeBoth(both);
          expect(both.client.closure.received?.evidence).toBe(
            client === 'native' ? 'openssl' : 'record',
          );
        }
      }
    }),
  );

  test(
    'an option that only node:tls knows means the tapped engine',
    clean(async (scope) => {
      delete process.env['CLOSE_NOTIFY_ENGINE'];
      const secureContext = tls.createSecureContext({ ca: pki().ca });
      const both = await pair(scope, 'TLSv1.3', { client: { secureContext } });
      expect(both.client.tls.engine).toBe('tapped');
      await closeBoth(both);
    }),
  );

  test('forced and not possible is an error of the option, with the reason', async () => {
    const [near] = channel().ends;
    const secureContext = tls.createSecureContext();
    const error = await rejection(connect({ transport: near, secureContext, engine: 'native' }));
    expect(error).toMatchObject({ code: 'ERR_TLS_OPTION' });
    expect(error.message).toMatch(/no native engine for this connection: the option secureContext/);
    expect(near.destroyed).toBe(false);
    near.destroy();
  });
});

test('an engine that there is not is refused, by whichever way it is asked for', async () => {
  const [near, far] = channel().ends;
  const engine = 'other' as 'native';
  for (const call of [
    () => connect({ transport: near, engine }),
    () => accept(far, { ...pki().server, engine }),
  ]) {
    expect(await rejection(call())).toMatchObject({
      code: 'ERR_TLS_OPTION',
      message: "engine must be 'native' or 'tapped'",
    });
  }
  process.env['CLOSE_NOTIFY_ENGINE'] = 'naitve';
  expect(() => createServer({ ...pki().server, sessionTimeout: 300 }, () => {})).toThrow(
    "CLOSE_NOTIFY_ENGINE must be 'native' or 'tapped', not 'naitve'",
  );
  near.destroy();
  far.destroy();
});

test(
  'a timeout of the transport does not fire while bytes cross, in either direction',
  clean(async (scope) => {
    const both = await pair(scope, 'TLSv1.3');
    const { client, server, clientTransport, serverTransport } = both;
    let fired = 0;
    for (const transport of [clientTransport, serverTransport]) {
      (transport as net.Socket).setTimeout(300, () => fired++);
    }
    // Longer than the timeout, by the clock of the same process.
    for (const from = performance.now(); performance.now() - from < 700; ) {
      await server.write('still here');
      await client.read();
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    expect(fired).toBe(0);
    await closeBoth(both);
  }),
);
