/** Each protocol against a server that keeps to a script, or leaves it. */

import type { Duplex } from 'node:stream';
import { PassThrough } from 'node:stream';
import { describe, expect, test } from 'vitest';
import { CloseNotifyError } from '../../../src/errors.ts';
import { quote } from '../../../src/starttls/dialogue.ts';
import {
  STARTTLS_PORTS,
  STARTTLS_PROTOCOLS,
  type StartTlsOptions,
  type StartTlsProtocol,
  startTls,
} from '../../../src/starttls/starttls.ts';

import { accept, connect } from '../../../src/stream/connect.ts';
import { memoryPair } from '../../../src/transport/pair.ts';
import { describeTls, pki } from '../../support/core-pki.ts';
import { clean, type Scope, turn } from '../../support/core-scope.ts';

import {
  extendedResponse,
  perform,
  SCRIPTS,
  type Step,
  tcpPair,
} from '../../support/starttls-script.ts';

const HOST = { host: 'localhost' };

const listenersOf = (transport: Duplex) =>
  Object.fromEntries(transport.eventNames().map((name) => [name, transport.listenerCount(name)]));

/** Has a server play its part, whatever becomes of it. */
function serve(transport: Duplex, steps: readonly Step[]): void {
  perform(transport, steps).catch(() => {});
}

/**
 * The error of a dialogue. It must leave the transport to the caller: open, paused and without a
 * listener that was not there before.
 */
async function failure(
  transport: Duplex,
  protocol: StartTlsProtocol,
  options: Partial<StartTlsOptions> = {},
): Promise<CloseNotifyError> {
  const before = listenersOf(transport);
  const error = await startTls(transport, protocol, { ...HOST, ...options }).then(
    () => null,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(CloseNotifyError);
  expect(listenersOf(transport)).toEqual(before);
  // The caller's duty.
  transport.destroy();
  return error as CloseNotifyError;
}

/** TLS over a transport of which the dialogue is done, with data both ways, to its secure end. */
async function tlsOver(scope: Scope, client: Duplex, server: Duplex, head: Buffer): Promise<void> {
  const { ca, server: identity } = pki();
  const [ours, theirs] = await Promise.all([
    connect({ transport: client, ca, servername: 'localhost' }),
    accept(server, { ...identity, head }),
  ]);
  scope.defer(() => [ours, theirs].map((stream) => stream.abort()));
  expect(ours.tls.protocol).toBe('TLSv1.3');
  await ours.write('question');
  expect(Buffer.from((await theirs.read())!).toString()).toBe('question');
  await theirs.write('answer');
  expect(Buffer.from((await ours.read())!).toString()).toBe('answer');
  const closures = await Promise.all([ours.close(), theirs.close()]);
  expect(closures.map(({ verdict }) => verdict)).toEqual(['secure', 'secure']);
}

/** Where the server has something to say, and what it has heard and said until then. */
const turnsOf = (steps: readonly Step[]) =>
  steps.flatMap((step, at) => (step instanceof RegExp ? [] : [{ at, until: steps.slice(0, at) }]));

/** The last thing that the server says, with more behind it. */
function withBehind(steps: readonly Step[], more: string): Step[] {
  const last = steps.findLastIndex((step) => !(step instanceof RegExp));
  return steps.map((step, at) =>
    at === last ? Buffer.concat([Buffer.from(step as string), Buffer.from(more)]) : step,
  );
}

describe.each(STARTTLS_PROTOCOLS)('%s', (protocol) => {
  const { success, alsoSuccess, refusals, tooLong } = SCRIPTS[protocol];
  const good = Object.entries({ 'as it should be': success, ...alsoSuccess });

  describeTls('leads to TLS', () => {
    test.each(good)('%s', (_, steps) =>
      clean(async (scope) => {
        const { client, server } = await tcpPair(scope);
        const before = listenersOf(client);
        const [head] = await Promise.all([
          perform(server, steps),
          startTls(client, protocol, HOST).then(() => {
            expect(listenersOf(client)).toEqual(before);
            expect(client.isPaused()).toBe(true);
          }),
        ]);
        await tlsOver(scope, client, server, head);
      })(),
    );

    test.each(good)('%s, byte by byte', (_, steps) =>
      clean(async (scope) => {
        const [client, server] = memoryPair();
        const [head] = await Promise.all([
          perform(server, steps, 'bytes'),
          startTls(client, protocol, HOST),
        ]);
        await tlsOver(scope, client, server, head);
      })(),
    );
  });

  test.each(Object.entries(refusals))('is refused: %s', (_, [steps, message]) =>
    clean(async (scope) => {
      const { client, server } = await tcpPair(scope);
      serve(server, steps);
      const error = await failure(client, protocol);
      expect(error).toMatchObject({ code: 'ERR_TLS_STARTTLS', phase: 'starttls' });
      expect(error.message).toMatch(message);
    })(),
  );

  test(
    'another protocol answers',
    clean(async (scope) => {
      const { client, server } = await tcpPair(scope);
      serve(server, ['HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n']);
      const error = await failure(client, protocol);
      expect(error.code).toBe('ERR_TLS_STARTTLS');
      // A client that speaks first can tell that the answer came before its question.
      expect(error.message).toMatch(/(sent no .*, but|out of turn.*:) 'HTTP\/1\.1 400/);
    }),
  );

  test.each(turnsOf(success))('silence from step $at on', ({ until }) =>
    clean(async (scope) => {
      const { client, server } = await tcpPair(scope);
      serve(server, until);
      const error = await failure(client, protocol, { deadline: 100 });
      expect(error).toMatchObject({ code: 'ERR_TLS_TIMEOUT', phase: 'starttls' });
      expect(error.message).toMatch(/^localhost sent no .+ within 100 ms$/);
    })(),
  );

  test.each(turnsOf(success))('the server closes at step $at', ({ until }) =>
    clean(async (scope) => {
      const { client, server } = await tcpPair(scope);
      perform(server, until).then(
        () => server.end(),
        () => {},
      );
      const error = await failure(client, protocol);
      expect(error.code).toBe('ERR_TLS_STARTTLS');
      expect(error.message).toMatch(/^localhost closed the connection before TLS: no /);
    })(),
  );

  test(
    'the server closes within its first words',
    clean(async (scope) => {
      const { client, server } = await tcpPair(scope);
      const [{ at, until } = { at: 0, until: [] }] = turnsOf(success);
      const words = Buffer.from(success[at] as string);
      perform(server, [...until, words.subarray(0, words.length - 1)]).then(
        () => server.end(),
        () => {},
      );
      const error = await failure(client, protocol);
      expect(error.code).toBe('ERR_TLS_STARTTLS');
      expect(error.message).toMatch(/^localhost closed the connection before TLS: no /);
    }),
  );

  test(
    'the server resets the connection',
    clean(async (scope) => {
      const { client, server } = await tcpPair(scope);
      perform(server, turnsOf(success)[0]!.until).then(
        () => server.resetAndDestroy(),
        () => {},
      );
      const error = await failure(client, protocol);
      expect(error.code).toBe('ERR_TLS_STARTTLS');
      expect(error.message).toMatch(/^the connection to localhost failed before TLS: /);
      expect(error.cause).toMatchObject({ code: 'ECONNRESET' });
    }),
  );

  test.each([
    ['a command', 'NOOP\r\n'],
    ['one byte', ' '],
    ['what looks like a TLS record', '\x15\x03\x03\x00\x02\x01\x00'],
  ])('an injection behind the last words is refused: %s', (_, more) =>
    clean(async (scope) => {
      const { client, server } = await tcpPair(scope);
      serve(server, withBehind(success, more));
      const error = await failure(client, protocol);
      expect(error.code).toBe('ERR_TLS_STARTTLS');
      // Of MySQL's messages the last one comes before the client speaks.
      expect(error.message).toMatch(
        protocol === 'mysql' ? /spoke out of turn, before it was/ : /spoke out of turn, behind its/,
      );
    })(),
  );

  test(
    'all of the answers at once, ahead of the questions, are refused',
    clean(async (scope) => {
      const { client, server } = await tcpPair(scope);
      const words = success.filter((step) => !(step instanceof RegExp)) as Array<string | Buffer>;
      // One more, for the protocols in which the server says one thing only.
      const all = Buffer.concat([...words, words.at(-1)!].map((one) => Buffer.from(one as string)));
      serve(server, [all]);
      const error = await failure(client, protocol);
      expect(error.code).toBe('ERR_TLS_STARTTLS');
    }),
  );

  test.each(Object.entries(tooLong))('%s without end is refused', (_, steps) =>
    clean(async (scope) => {
      const { client, server } = await tcpPair(scope);
      serve(server, steps);
      const error = await failure(client, protocol);
      expect(error.code).toBe('ERR_TLS_STARTTLS');
      expect(error.message).toMatch(/sent too much for a /);
      expect(error.message.length).toBeLessThan(400);
    })(),
  );

  test(
    'an aborted signal: nothing is said',
    clean(async (scope) => {
      const { client } = await tcpPair(scope);
      const error = await failure(client, protocol, { signal: AbortSignal.abort('why') });
      expect(error).toMatchObject({ code: 'ABORT_ERR', phase: 'starttls', cause: 'why' });
      expect(client.bytesWritten).toBe(0);
    }),
  );

  test.each(turnsOf(success))('aborted at step $at', ({ until }) =>
    clean(async (scope) => {
      const { client, server } = await tcpPair(scope);
      const controller = new AbortController();
      perform(server, until).then(
        () => controller.abort('why'),
        () => {},
      );
      const error = await failure(client, protocol, { signal: controller.signal });
      expect(error).toMatchObject({ code: 'ABORT_ERR', phase: 'starttls', cause: 'why' });
    })(),
  );

  test('a server that garbles one byte: an answer of ours, never a hang', async () => {
    let at = 0;
    const outcomes = new Set<string>();
    for (const step of success) {
      const until = success.slice(0, at++);
      if (step instanceof RegExp) continue;
      const words = Buffer.from(step as string);
      for (let byte = 0; byte < words.length; byte++) {
        for (const value of [0x00, 0x0a, 0x3e, 0xff]) {
          const garbled = Buffer.from(words);
          garbled[byte] = value;
          const [client, server] = memoryPair();
          // Whatever the client makes of it, nothing follows.
          perform(server, [...until, garbled]).then(
            () => server.end(),
            () => {},
          );
          const outcome = await startTls(client, protocol, HOST).then(
            () => 'TLS',
            (error: unknown) => (error instanceof CloseNotifyError ? error.code : String(error)),
          );
          outcomes.add(outcome);
          client.destroy();
          server.destroy();
        }
      }
    }
    outcomes.delete('TLS'); // where the byte was one of those that do not matter
    expect([...outcomes]).toEqual(['ERR_TLS_STARTTLS']);
  });
});

describeTls('plaintext that comes later than the go-ahead', () => {
  test(
    'fails the handshake: it is never read as data',
    clean(async () => {
      const [client, server] = memoryPair();
      await Promise.all([perform(server, SCRIPTS.smtp.success), startTls(client, 'smtp', HOST)]);
      server.write('250 injected\r\n');
      server.on('end', () => server.end()).resume();
      await turn();
      await expect(
        connect({ transport: client, ca: pki().ca, servername: 'localhost' }),
      ).rejects.toMatchObject({ code: 'ERR_TLS_HANDSHAKE' });
      client.destroy();
      server.destroy();
    }),
  );
});

describe('startTls', () => {
  test('knows a port for each protocol', () => {
    expect(STARTTLS_PORTS).toEqual({
      smtp: 25,
      imap: 143,
      pop3: 110,
      ftp: 21,
      ldap: 389,
      postgres: 5432,
      mysql: 3306,
      xmpp: 5222,
    });
    expect(Object.keys(SCRIPTS)).toEqual([...STARTTLS_PROTOCOLS]);
  });

  test.each<[string, Partial<Record<'transport' | 'protocol' | 'options', unknown>>, RegExp]>([
    ['an unknown protocol', { protocol: 'gopher' }, /protocol must be one of smtp, imap/],
    ['a name from the prototype', { protocol: 'toString' }, /protocol must be one of/],
    ['no transport', { transport: null }, /transport must be a Duplex/],
    ['half a transport', { transport: { on() {} } }, /transport must be a Duplex/],
    ['text', { transport: new PassThrough({ encoding: 'utf8' }) }, /must deliver bytes/],
    ['objects', { transport: new PassThrough({ objectMode: true }) }, /must deliver bytes/],
    ['no options', { options: undefined }, /host must be/],
    ['no host', { options: {} }, /host must be/],
    ['an empty host', { options: { host: '' } }, /host must be/],
    ['a host of two lines', { options: { host: 'a\r\nSTARTTLS' } }, /host must be/],
    ['a signal that is none', { options: { ...HOST, signal: {} } }, /signal must be/],
    ['a deadline that is none', { options: { ...HOST, deadline: 0 } }, /deadline must be/],
  ])('rejects %s', async (_, wrong, message) => {
    const all = { transport: new PassThrough(), protocol: 'smtp', options: HOST, ...wrong };
    const call = startTls(
      all.transport as Duplex,
      all.protocol as StartTlsProtocol,
      all.options as StartTlsOptions,
    );
    await expect(call).rejects.toMatchObject({
      code: 'ERR_TLS_OPTION',
      message: expect.stringMatching(message),
    });
  });

  test('a transport that is destroyed already', async () => {
    const [client, server] = memoryPair();
    client.destroy();
    server.destroy();
    expect((await failure(client, 'smtp')).message).toMatch(/closed the connection before TLS/);
    expect((await failure(client, 'postgres')).message).toMatch(/closed the connection/);
  });

  test('a transport that failed already', async () => {
    const [client, server] = memoryPair();
    client.on('error', () => {});
    client.destroy(new Error('cable cut'));
    await turn();
    server.destroy();
    const error = await failure(client, 'imap');
    expect(error.message).toBe('the connection to localhost failed before TLS: cable cut');
  });

  test('a transport that has ended already', async () => {
    const [client, server] = memoryPair();
    server.end();
    client.resume();
    await new Promise((resolve) => client.once('end', resolve));
    expect((await failure(client, 'ftp')).message).toMatch(/closed the connection before TLS/);
    server.destroy();
  });

  test('what the transport has buffered already is read', async () => {
    const [client, server] = memoryPair();
    server.write('+OK ready\r\n');
    await turn();
    expect(client.readableLength).toBe(11);
    await Promise.all([
      perform(server, SCRIPTS.pop3.success.slice(1)),
      startTls(client, 'pop3', HOST),
    ]);
    client.destroy();
    server.destroy();
  });

  test('what is there already when the client is to speak first is out of turn', async () => {
    const [client, server] = memoryPair();
    server.write(extendedResponse());
    await turn();
    const error = await failure(client, 'ldap');
    expect(error.message).toMatch(/spoke out of turn, before it was asked/);
    server.destroy();
  });

  test('an XMPP server is told its name in XML', async () => {
    const [client, server] = memoryPair();
    const heard = perform(server, [/^<\?xml version='1\.0'\?><stream:stream to='a&#60;b&#39;c' /]);
    const error = startTls(client, 'xmpp', { host: "a<b'c" }).catch((reason: unknown) => reason);
    await heard;
    client.destroy();
    server.destroy();
    expect(await error).toMatchObject({ code: 'ERR_TLS_STARTTLS' });
  });

  test.each([
    ['::ffff:192.0.2.1', '[192.0.2.1]'],
    ['2001:db8::1', '[IPv6:2001:db8::1]'],
    ['fe80::1%eth0', '[IPv6:fe80::1]'],
  ])('SMTP: the client at %s says EHLO %s', async (localAddress, literal) => {
    const [client, server] = memoryPair();
    Object.assign(client, { localAddress });
    const escaped = literal.replace(/[[\].]/g, '\\$&');
    const heard = perform(server, ['220 mx\r\n', new RegExp(`^EHLO ${escaped}\r\n$`)]);
    const error = startTls(client, 'smtp', HOST).catch((reason: unknown) => reason);
    await heard;
    client.destroy();
    server.destroy();
    expect(await error).toMatchObject({ code: 'ERR_TLS_STARTTLS' });
  });
});

describe('quote', () => {
  test.each([
    ['plain words', "'plain words'"],
    ['größer 漢字', "'größer 漢字'"],
    ['\x1b[31mred\x07\r\n', "'?[31mred?'"],
    ['a\u202Eb\u2028c\u0000d', "'a?b?c?d'"],
    ['x'.repeat(200), `'${'x'.repeat(200)}'`],
    ['x'.repeat(201), `'${'x'.repeat(200)}...'`],
  ])('%j', (said, quoted) => {
    expect(quote(said)).toBe(quoted);
    expect(quote(Buffer.from(said))).toBe(quoted);
  });
});
