/** Peers, transports and callers that behave badly, and endings that come at a bad moment. */
import net from 'node:net';
import { Duplex } from 'node:stream';
import { expect, test } from 'vitest';
import {
  type AcceptOptions,
  accept,
  type ConnectOptions,
  connect,
  type TlsStream,
} from '../../../src/index.ts';
import { describeTls, pki } from '../../support/core-pki.ts';
import { clean, type Scope, turn, until } from '../../support/core-scope.ts';
import {
  closeBoth,
  only,
  pair,
  pattern,
  readAll,
  rejection,
  VERSIONS,
  type Version,
} from '../../support/core-streams.ts';
import { listen, reset } from '../../support/core-transport.ts';
import { CraftedPeer } from '../../support/crafted-records.ts';

/**
 * A stream, and a peer with the keys at the other end of its TCP connection. Between the two is a Duplex, by which more
 * can be received at once, the end included, than a kernel says within one turn.
 */
async function crafted(
  scope: Scope,
  role: 'client' | 'server',
  version: Version,
  more: Pick<ConnectOptions & AcceptOptions, 'linger'> = {},
): Promise<{ stream: TlsStream; peer: CraftedPeer; near: Duplex }> {
  let wire: net.Socket | null = null;
  const port = await listen(
    scope,
    (socket) => {
      wire = socket;
    },
    { allowHalfOpen: true },
  );
  const raw = net.connect({ port, host: '127.0.0.1' });
  await until('it is connected', () => wire !== null);
  const near = new Duplex({
    read() {},
    write: (chunk, _encoding, done) => void raw.write(chunk, () => done()),
    final: (done) => void raw.end(() => done()),
    destroy(error, done) {
      raw.destroy();
      done(error);
    },
  });
  raw.on('data', (chunk) => near.push(chunk));
  raw.on('end', () => near.push(null));
  raw.on('error', (error) => near.destroy(error));
  const opening =
    role === 'client'
      ? connect({
          transport: near,
          ca: pki().ca,
          servername: 'localhost',
          ...only(version),
          ...more,
        })
      : accept(near, { ...pki().server, ...only(version), ...more });
  const other = role === 'client' ? 'server' : 'client';
  const peer = new CraftedPeer(other, version, wire as unknown as net.Socket);
  scope.defer(async () => {
    peer.destroy();
    raw.destroy();
    await until('all is closed', () => raw.closed && peer.wire.closed);
  });
  const [stream] = await Promise.all([opening, peer.ready()]);
  scope.defer(() => stream.abort());
  return { stream, peer, near };
}

const SIDES = VERSIONS.flatMap((version) => [
  { role: 'client' as const, version },
  { role: 'server' as const, version },
]);

for (const { role, version } of SIDES) {
  describeTls(`a ${role}, ${version}: what the peer says last`, () => {
    // RFC 9846 section 6.2: "Upon transmission or receipt of a fatal alert message, both parties MUST immediately close
    // the connection." So its end says nothing that the alert has not said. And section 6: "Unknown Alert types MUST be
    // treated as error alerts."
    for (const code of [80, 200]) {
      for (const how of ['EOF at once', 'FIN behind it', 'RST behind it'] as const) {
        test(
          `the fatal alert ${code}, then ${how}: the alert is what is told`,
          clean(async (scope) => {
            const { stream, peer, near } = await crafted(scope, role, version);
            peer.wire.write(peer.data('first'));
            expect(String(await stream.read())).toBe('first');
            const bytes = Buffer.concat([peer.data('data'), peer.alert(2, code)]);
            if (how === 'EOF at once') {
              near.push(bytes);
              near.push(null);
            } else {
              peer.wire.write(bytes);
            }
            expect(String(await stream.read())).toBe('data');
            if (how === 'FIN behind it') peer.wire.end();
            else if (how === 'RST behind it') reset(peer.wire);
            const told = { code: 'ERR_TLS_ALERT' };
            expect(await rejection(stream.read())).toMatchObject(told);
            expect(await rejection(stream.read())).toMatchObject(told);
            expect(stream.closure).toMatchObject({
              verdict: 'alert',
              received: null,
              alert: { code, direction: 'received', authenticated: true },
            });
            peer.wire.end();
            await stream.closed;
          }),
        );
      }
    }

    test(
      'a fatal alert behind more than is read, then a reset: all data, then the alert',
      clean(async (scope) => {
        const { stream, peer, near } = await crafted(scope, role, version);
        peer.wire.write(peer.data('first'));
        expect(String(await stream.read())).toBe('first');
        const data = Array.from({ length: 6 }, () => peer.data('x'.repeat(1 << 14)));
        // One that has no name: Node says nothing of it.
        near.push(Buffer.concat([...data, peer.alert(2, 200)]));
        await turn();
        near.destroy(Object.assign(new Error('read ECONNRESET'), { code: 'ECONNRESET' }));
        let bytes = 0;
        const all = (async () => {
          for await (const chunk of stream) bytes += chunk.length;
        })();
        expect(await rejection(all)).toMatchObject({ code: 'ERR_TLS_ALERT' });
        expect(bytes).toBe(6 << 14);
        expect(stream.closure).toMatchObject({ verdict: 'alert', received: null });
        peer.wire.destroy();
      }),
    );

    test(
      'close_notify, then a fatal alert: nothing behind close_notify is looked at',
      clean(async (scope) => {
        // RFC 9846 section 6.1: "Any data received after a closure alert has been received MUST be ignored."
        const { stream, peer } = await crafted(scope, role, version);
        peer.wire.end(Buffer.concat([peer.data('data'), peer.closeNotify(), peer.alert(2, 80)]));
        expect(String(await stream.read())).toBe('data');
        expect(await stream.read()).toBe(null);
        expect((await stream.close()).verdict).toBe('secure');
      }),
    );

    test(
      'close_notify that is not authentic closes nothing',
      clean(async (scope) => {
        const { stream, peer } = await crafted(scope, role, version);
        const bytes = Buffer.concat([peer.data('data'), peer.closeNotify()]);
        bytes[bytes.length - 1]! ^= 1;
        peer.wire.end(bytes);
        expect(String(await stream.read())).toBe('data');
        expect(await rejection(stream.read())).toMatchObject({ code: 'ERR_TLS_ALERT' });
        expect(stream.closure).toMatchObject({ verdict: 'alert', received: null });
        expect(stream.closure.alert).toMatchObject({ code: 20, direction: 'sent' });
      }),
    );

    test(
      'bytes that are refused while our own wait for the transport: told with the alert that goes out behind those',
      clean(async (scope) => {
        // RFC 9846 section 5.2: "If the decryption fails, the receiver MUST terminate the connection with a
        // 'bad_record_mac' alert." Its verdict is that alert, however long it takes to leave.
        const { stream, peer, near } = await crafted(scope, role, version);
        const held: Array<() => void> = [];
        const { _write } = near;
        near._write = (...args) => void held.push(() => _write.apply(near, args));
        await stream.write('ours');
        await until('it waits for the transport', () => held.length > 0);
        const forged = peer.data('forged');
        forged[forged.length - 1]! ^= 1;
        const failed = rejection(stream.read());
        near.push(forged);
        for (let i = 0; i < 10; i++) await turn();
        expect(stream.closure).toMatchObject({ verdict: 'open', alert: null });
        near._write = _write;
        for (const write of held) write();
        expect(await failed).toMatchObject({ code: 'ERR_TLS_ALERT' });
        expect(stream.closure.alert).toMatchObject({ code: 20, direction: 'sent' });
        expect(stream.closure.verdict).toBe('alert');
        peer.wire.end();
        await stream.closed;
      }),
    );

    test(
      'bytes that are refused while the transport takes nothing: told without the alert, behind linger.time',
      clean(async (scope) => {
        // RFC 9846 section 6.2: "both parties MUST immediately close the connection." Nobody waits for ever.
        const { stream, peer, near } = await crafted(scope, role, version, {
          linger: { time: 30 },
        });
        near._write = () => {};
        await stream.write('ours');
        const forged = peer.data('forged');
        forged[forged.length - 1]! ^= 1;
        peer.wire.write(forged);
        expect(await rejection(stream.read())).toMatchObject({ code: 'ERR_TLS_ABORTED' });
        expect(stream.closure).toMatchObject({ verdict: 'aborted', sent: null, alert: null });
        stream.abort();
        peer.wire.destroy();
      }),
    );
  });
}

for (const version of VERSIONS) {
  describeTls(`${version}: a close_notify that comes before the caller has done anything`, () => {
    test(
      'leaves the answer and the transport to the caller, as each standard says',
      clean(async (scope) => {
        const { client, server, clientTransport, serverTransport } = await pair(scope, version);
        await server.shutdown({ wait: false });
        await until('close_notify is here', () => client.closure.received !== null);
        for (let i = 0; i < 10; i++) await turn();
        expect(clientTransport.destroyed || clientTransport.writableEnded).toBe(false);
        if (version === 'TLSv1.3') {
          // "This does not have any effect on its read side of the connection": we may go on writing.
          expect(client.closure.sent).toBe(null);
          await client.write('an answer');
        } else {
          // "The other party MUST respond with a close_notify alert of its own".
          expect(client.closure.sent).not.toBe(null);
          expect(await rejection(client.write('late'))).toMatchObject({ code: 'ERR_TLS_SHUTDOWN' });
        }
        expect(await client.read()).toBe(null);
        await client.shutdown();
        const { transport } = await client.unwrap();
        expect(transport).toBe(clientTransport);
        expect(transport.destroyed).toBe(false);
        expect((await readAll(server)).toString()).toBe(version === 'TLSv1.3' ? 'an answer' : '');
        transport.destroy();
        await server.close();
        await server.closed;
        expect(serverTransport.destroyed).toBe(true);
      }),
    );
  });

  describeTls(`${version}: closing`, () => {
    test(
      '`closed` settles only when the transport is closed, also when a failure had begun to close it',
      clean(async (scope) => {
        const { client, server, clientTransport } = await pair(scope, version);
        server.abort();
        expect(await rejection(client.read())).toMatchObject({ code: 'ERR_TLS_TRUNCATED' });
        await client.closed;
        expect(clientTransport.destroyed).toBe(true);
        expect(await client.close()).toMatchObject({ verdict: 'truncated', incomplete: true });
      }),
    );

    test(
      'unwrap() behind our close_notify alone is refused: until its own the peer sends records',
      clean(async (scope) => {
        // RFC 9846 section 6.1: close_notify "does not have any effect on its read side of the connection."
        const { client, server } = await pair(scope, version, { server: { answer: 'when-told' } });
        await client.shutdown({ wait: false });
        expect(await rejection(client.unwrap())).toMatchObject({ code: 'ERR_TLS_NOT_SHUTDOWN' });
        await server.write('still TLS');
        expect(String(await client.read())).toBe('still TLS');
        await Promise.all([client.shutdown(), server.shutdown()]);
        const { transport } = await client.unwrap();
        transport.destroy();
        await server.close();
      }),
    );

    test(
      'abort() after unwrap() leaves the transport to the caller, EOF seen or not',
      clean(async (scope) => {
        const { client, server, clientTransport, serverTransport } = await pair(scope, version);
        const shut = Promise.all([client.shutdown(), server.shutdown()]);
        await shut;
        serverTransport.end();
        const { transport } = await client.unwrap();
        client.abort();
        expect(transport.destroyed).toBe(false);
        expect(await rejection(client.unwrap())).toMatchObject({ code: 'ERR_TLS_NOT_SHUTDOWN' });
        clientTransport.destroy();
        await server.close();
      }),
    );

    test(
      'shutdown that has no room for unread data goes on once somebody reads',
      clean(async (scope) => {
        const { client, server } = await pair(scope, version, { client: { unreadLimit: 50_000 } });
        const data = pattern(170_000);
        const sending = server.write(data).then(() => server.shutdown());
        const shutting = client.shutdown({ deadline: Number.POSITIVE_INFINITY });
        const got: Uint8Array[] = [];
        for (;;) {
          const bytes = await client.read();
          if (bytes === null) break;
          got.push(bytes);
        }
        expect(Buffer.concat(got).equals(data)).toBe(true);
        expect((await shutting).verdict).toBe('secure');
        await sending;
        await closeBoth({ client, server } as Parameters<typeof closeBoth>[0]);
      }),
    );
  });
}

describeTls('a transport that ends while something is written', () => {
  const broken = () => Object.assign(new Error('write EPIPE'), { code: 'EPIPE', syscall: 'write' });

  for (const version of VERSIONS) {
    test(
      `${version}: a write that waits hears of the cut`,
      clean(async (scope) => {
        const { client, server, serverTransport } = await pair(scope, version);
        const writing = rejection(client.write(pattern(8_000_000)));
        // FIN, and no close_notify; nobody reads what is written.
        serverTransport.end();
        expect(await writing).toMatchObject({ code: 'ERR_TLS_TRUNCATED' });
        server.abort();
      }),
    );

    test(
      `${version}: close() tells of bytes that TLS had not got round to when it broke`,
      clean(async (scope) => {
        const tapped = { client: { engine: 'tapped' } } as const;
        const { client, server, clientTransport } = await pair(scope, version, tapped);
        // It takes all that it is given at once, and breaks behind that.
        Object.assign(clientTransport, { _writev: null });
        clientTransport._write = (_chunk, _encoding, done) => {
          done();
          const error = Object.assign(new Error('read ECONNRESET'), { code: 'ECONNRESET' });
          // Before TLS makes more.
          process.nextTick(() => clientTransport.destroy(error));
        };
        const controller = new AbortController();
        const writing = rejection(client.write(pattern(200_000), { signal: controller.signal }));
        controller.abort();
        expect(await writing).toMatchObject({ code: 'ABORT_ERR' });
        // Cancelling stopped the wait, not the bytes.
        expect(await rejection(client.close())).toMatchObject({ code: 'ERR_TLS_SHUTDOWN' });
        server.abort();
      }),
    );

    test(
      `${version}: one whose stream takes no more can still be read`,
      clean(async (scope) => {
        // The native engine writes by the descriptor, which no stream can keep it from.
        const tapped = { client: { engine: 'tapped' } } as const;
        const { client, server, clientTransport } = await pair(scope, version, tapped);
        clientTransport._write = (_chunk, _encoding, done) => done(broken());
        const sending = server.write(pattern(400_000)).catch(() => {});
        const failed = client.write('refused').then(async () => {
          await until('it is known', () => client.closure.send === 'cut');
          return rejection(client.write('more'));
        });
        expect(await failed).toMatchObject({ code: 'ERR_TLS_SHUTDOWN' });
        expect((await client.read())?.length).toBeGreaterThan(0);
        client.abort();
        await sending;
        server.abort();
      }),
    );
  }

  test(
    "TLS 1.3: broken behind the peer's close_notify it has cut nothing that was received",
    clean(async (scope) => {
      // RFC 9846 section 6.1: close_notify "does not have any effect on its read side", so we may go on writing.
      const { client, server, clientTransport } = await pair(scope, 'TLSv1.3');
      await server.shutdown({ wait: false });
      await until('close_notify is here', () => client.closure.received !== null);
      clientTransport.destroy(Object.assign(new Error('read ECONNRESET'), { code: 'ECONNRESET' }));
      await until('it is known', () => client.closure.transportEnd !== null);
      expect(await rejection(client.write('more'))).toMatchObject({ code: 'ERR_TLS_SHUTDOWN' });
      expect(await client.read()).toBe(null);
      expect(client.closure).toMatchObject({ verdict: 'one-sided', truncation: null });
      // The peer did not want our answer, and its own closure is all that a shutdown waits for.
      expect((await client.shutdown()).verdict).toBe('one-sided');
      server.abort();
    }),
  );
});

/** A transport whose write does something bad. */
class BadTransport extends Duplex {
  readonly #onWrite: (transport: BadTransport) => void;

  constructor(onWrite: (transport: BadTransport) => void) {
    super();
    this.#onWrite = onWrite;
  }

  override _read(): void {}

  override _write(_chunk: Uint8Array, _encoding: string, done: (error?: Error) => void): void {
    this.#onWrite(this);
    done();
  }
}

describeTls('a transport that misbehaves', () => {
  const cases: ReadonlyArray<readonly [string, (transport: BadTransport) => void, string]> = [
    [
      'throws in write',
      () => {
        throw new Error('no');
      },
      'ERR_TLS_TRUNCATED',
    ],
    ['reports an error in write', (t) => t.emit('error', new Error('no')), 'ERR_TLS_TRUNCATED'],
    ["tells 'end' in write", (t) => t.emit('end'), 'ERR_TLS_TRUNCATED'],
    ["tells 'close' in write", (t) => t.emit('close'), 'ERR_TLS_ABORTED'],
    ['is destroyed in write', (t) => t.destroy(), 'ERR_TLS_ABORTED'],
    ['is destroyed with an error in write', (t) => t.destroy(new Error('no')), 'ERR_TLS_TRUNCATED'],
    ['delivers text', (t) => t.emit('data', 'text'), 'ERR_TLS_TRUNCATED'],
  ];
  for (const [what, onWrite, code] of cases) {
    test(
      `${what} during the handshake: ${code}, and nothing uncaught`,
      clean(async () => {
        const transport = new BadTransport(onWrite);
        const deadlines = { close: 50 };
        const error = await rejection(connect({ transport, ca: pki().ca, deadlines }));
        expect(error).toMatchObject({ code });
        expect(transport.destroyed).toBe(true);
        await turn();
      }),
    );
  }

  for (const version of VERSIONS) {
    test(
      `${version}: destroyed with an error while the stream lets go of it: nothing uncaught`,
      clean(async (scope) => {
        const { client, server, clientTransport } = await pair(scope, version);
        clientTransport.destroy(new Error('both at once'));
        client.abort();
        server.abort();
        await until('it is closed', () => clientTransport.closed);
        for (let i = 0; i < 3; i++) await turn();
      }),
    );
  }
});
