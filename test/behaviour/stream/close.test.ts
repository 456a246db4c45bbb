/**
 * `close()` means 'I am done'. RFC 9846 section 6.1: "Both parties need not wait to receive a close_notify alert before
 * closing their read side of the connection, though doing so would introduce the possibility of truncation." Who closes
 * wants no more, so nothing can be truncated; what may be lost is what this side wrote.
 */
import net from 'node:net';
import { expect, test } from 'vitest';
import { accept, connect, type PolicyOptions, type TlsStream } from '../../../src/index.ts';
import { channel } from '../../../src/testing/channel.ts';
import { describeTls, pki } from '../../support/core-pki.ts';
import { clean, type Scope, turn, until } from '../../support/core-scope.ts';
import {
  only,
  pair,
  pairInMemory,
  pattern,
  readAll,
  rejection,
  VERSIONS,
  type Version,
} from '../../support/core-streams.ts';
import { CraftedPeer } from '../verdicts/crafted-peer.ts';

const told = { answer: 'when-told' } as const;
const FOR_EVER = { deadline: Number.POSITIVE_INFINITY };

/** A stream of ours, and a peer that says what it is told to. */
async function withCrafted(
  scope: Scope,
  version: Version,
  options: PolicyOptions = {},
): Promise<{ client: TlsStream; peer: CraftedPeer; wire: net.Socket }> {
  const server = net.createServer({ allowHalfOpen: true });
  scope.defer(() => server.close());
  scope.peersStay();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as net.AddressInfo;
  const connection = new Promise<net.Socket>((resolve) => server.once('connection', resolve));
  const connecting = connect({
    ...{ host: '127.0.0.1', port, ca: pki().ca },
    ...only(version),
    ...options,
  });
  const wire = await connection;
  scope.defer(() => wire.destroy());
  const peer = new CraftedPeer(wire, { role: 'server', version, identity: pki().server });
  await peer.ready;
  const client = await connecting;
  scope.defer(() => client.abort());
  return { client, peer, wire };
}

for (const version of VERSIONS) {
  describeTls(`${version}: what ends close(), without any deadline`, () => {
    test(
      "the peer's close_notify: secure, though its transport stays open",
      clean(async (scope) => {
        const { client, peer } = await withCrafted(scope, version);
        const closing = client.close(FOR_EVER);
        await until('FIN is there', () => peer.transportEnd === 'eof');
        peer.send(peer.closeNotify());
        expect(await closing).toMatchObject({ verdict: 'secure', incomplete: false });
        peer.fin();
        await client.closed;
      }),
    );

    test(
      'its FIN without close_notify, as nginx and java.net.http close: one-sided',
      clean(async (scope) => {
        const { client, peer } = await withCrafted(scope, version);
        const closing = client.close(FOR_EVER);
        // It waits for our FIN, which is out with close_notify.
        await until('FIN is there', () => peer.transportEnd === 'eof');
        expect(peer.heard.at(-1)).toMatchObject({ kind: 'alert', description: 0 });
        peer.fin();
        expect(await closing).toMatchObject({
          verdict: 'one-sided',
          incomplete: false,
          received: null,
          truncation: null,
          transportEnd: 'eof',
        });
        expect(client.closure.sent).not.toBe(null);
      }),
    );

    test(
      'its RST: one-sided',
      clean(async (scope) => {
        const { client, peer } = await withCrafted(scope, version);
        const closing = client.close(FOR_EVER);
        await until('FIN is there', () => peer.transportEnd === 'eof');
        peer.reset();
        expect(await closing).toMatchObject({
          verdict: 'one-sided',
          incomplete: false,
          transportEnd: 'reset',
        });
      }),
    );

    test(
      'a fatal alert, which is told and does not reject',
      clean(async (scope) => {
        const { client, peer } = await withCrafted(scope, version);
        const closing = client.close(FOR_EVER);
        await until('FIN is there', () => peer.transportEnd === 'eof');
        peer.send(peer.alert(2, 40));
        expect(await closing).toMatchObject({
          verdict: 'alert',
          incomplete: false,
          alert: { name: 'handshake_failure', direction: 'received' },
        });
      }),
    );

    test(
      'close_notify behind data that nobody reads: secure, and the data stays readable',
      clean(async (scope) => {
        const { client, peer } = await withCrafted(scope, version);
        const closing = client.close(FOR_EVER);
        await until('FIN is there', () => peer.transportEnd === 'eof');
        peer.send(peer.data('late'), peer.closeNotify());
        expect(await closing).toMatchObject({ verdict: 'secure', late: 4 });
        expect(String(await client.read())).toBe('late');
        expect(await client.read()).toBe(null);
      }),
    );

    test(
      'nothing of the peer, with wait: false',
      clean(async (scope) => {
        const { client } = await withCrafted(scope, version);
        const options = { ...FOR_EVER, wait: false };
        expect(await client.close(options)).toMatchObject({
          verdict: 'one-sided',
          incomplete: false,
        });
      }),
    );
  });

  describeTls(`${version}: what close() does not do`, () => {
    test(
      'it does not reject for a cut that came before it, and keeps its verdict',
      clean(async (scope) => {
        const { client, peer } = await withCrafted(scope, version);
        peer.fin(peer.data('half'));
        await until('it is cut', () => client.closure.verdict === 'truncated');
        expect(client.closure.incomplete).toBe(true);
        expect(await client.close()).toMatchObject({ verdict: 'truncated', incomplete: true });
        expect(String(await client.read())).toBe('half');
        expect(await rejection(client.read())).toMatchObject({
          code: 'ERR_TLS_TRUNCATED',
          incomplete: true,
        });
      }),
    );

    test(
      'it does not give a reader the end of what it has thrown away',
      clean(async (scope) => {
        const { client, server } = await pairInMemory(scope, version, {
          client: { unreadLimit: 1_000 },
        });
        const writing = server.write(pattern(60_000)).then(() => server.close());
        expect(await client.close()).toMatchObject({ verdict: 'secure', late: 60_000 });
        await writing;
        let kept = 0;
        const reading = (async () => {
          for await (const bytes of client) kept += bytes.length;
        })();
        expect(await rejection(reading)).toMatchObject({ code: 'ERR_TLS_ABORTED', phase: 'read' });
        expect(kept).toBeGreaterThanOrEqual(1_000);
        expect(kept).toBeLessThan(60_000);
      }),
    );

    test(
      'a read that waits does not see the end of a stream that was closed without close_notify',
      clean(async (scope) => {
        const { client, peer } = await withCrafted(scope, version);
        const reading = rejection(client.read());
        const closing = client.close();
        await until('FIN is there', () => peer.transportEnd === 'eof');
        peer.fin();
        await closing;
        expect(await reading).toMatchObject({ code: 'ERR_TLS_ABORTED', incomplete: false });
      }),
    );

    test(
      'a second call gets the same promise',
      clean(async (scope) => {
        const { client, server } = await pair(scope, version);
        const closing = client.close();
        expect(client.close({ deadline: 1 })).toBe(closing);
        await server.close();
        expect((await closing).verdict).toBe('secure');
      }),
    );
  });

  describeTls(`${version}: close() and unwrap()`, () => {
    test(
      'whoever closes does not get the transport back: FIN is out',
      clean(async (scope) => {
        const { client, server } = await pair(scope, version, { server: told });
        const unwrapped = rejection(client.shutdown().then(() => client.unwrap()));
        const closing = client.close();
        expect(await server.read()).toBe(null);
        await server.close();
        expect(await unwrapped).toMatchObject({ code: 'ERR_TLS_NOT_SHUTDOWN' });
        expect(await closing).toMatchObject({ verdict: 'secure' });
        expect((await client.closed).transportEnd).not.toBe('released');
      }),
    );
  });

  describeTls(`${version}: bytes of ours that are not taken`, () => {
    test(
      'the peer does not read: the deadline rejects, and the transport is gone',
      clean(async (scope) => {
        const wire = channel({ onDestroy: 'reset' });
        const { client, server } = await pair(scope, version, {
          transports: wire.ends,
          server: told,
        });
        wire.forth.clog();
        void client.write(pattern(100_000)).catch(() => {});
        expect(await rejection(client.close({ deadline: 30 }))).toMatchObject({
          code: 'ERR_TLS_TIMEOUT',
          phase: 'close',
          hint: 'the peer does not read',
        });
        expect(wire.ends[0].destroyed).toBe(true);
        server.abort();
      }),
    );

    test(
      'a reset throws them away: it rejects, unless another call has said so',
      clean(async (scope) => {
        for (const heard of [false, true]) {
          const wire = channel({ onDestroy: 'reset' });
          const { client, server } = await pair(scope, version, {
            transports: wire.ends,
            server: told,
          });
          wire.forth.clog();
          // A small write does not wait, so that nobody hears of it later.
          const writing = client.write(pattern(heard ? 100_000 : 10)).catch(() => {});
          const closing = heard ? null : client.close();
          const closed = closing === null ? null : rejection(closing);
          await turn();
          wire.back.cut('reset');
          await until('it is known', () => client.closure.transportEnd === 'reset');
          if (closed === null) {
            await writing;
            expect(await rejection(client.read())).toMatchObject({ code: 'ERR_TLS_TRUNCATED' });
            expect(await client.close()).toMatchObject({ verdict: 'truncated' });
          } else {
            expect(await closed).toMatchObject({ code: 'ERR_TLS_SHUTDOWN' });
            expect(client.closure).toMatchObject({ verdict: 'aborted', incomplete: false });
          }
          server.abort();
        }
      }),
    );
  });

  describeTls(`${version}: bytes of ours that are lost, and what the program has heard`, () => {
    /** A client whose small write does not leave, though nobody waits for that. */
    const clogged = async (scope: Scope) => {
      const wire = channel({ onDestroy: 'reset' });
      const { client, server } = await pair(scope, version, {
        transports: wire.ends,
        client: { deadlines: { close: 50 } },
        server: told,
      });
      scope.defer(() => server.abort());
      wire.forth.clog();
      await client.write('small');
      return { client, wire };
    };

    test(
      'a read told of the cut, which is not about our bytes: close() tells of those, with the cut as its cause',
      clean(async (scope) => {
        const { client, wire } = await clogged(scope);
        wire.back.cut('reset');
        const cut = await rejection(client.read());
        expect(cut).toMatchObject({ code: 'ERR_TLS_TRUNCATED' });
        const lost = await rejection(client.close());
        expect(lost).toMatchObject({ code: 'ERR_TLS_SHUTDOWN', phase: 'close' });
        expect(lost.cause).toBe(cut);
        expect(lost.closure).toMatchObject({ verdict: 'truncated', send: 'cut', unsent: 5 });
      }),
    );

    test(
      'abort() counts what it throws away, large writes that wait and those behind them, and nothing that was taken',
      clean(async (scope) => {
        const { client, server } = await pairInMemory(scope, version, { server: told });
        await client.write('taken');
        expect(String(await server.read())).toBe('taken');
        // TLS says a turn later that the transport has taken it.
        await turn();
        await turn();
        client.abort();
        expect(client.closure).toMatchObject({ verdict: 'aborted', unsent: 0 });
        const other = await clogged(scope);
        void other.client.write(pattern(100_000)).catch(() => {});
        void other.client.write(pattern(100_000)).catch(() => {});
        await turn();
        other.client.abort();
        expect(other.client.closure).toMatchObject({ verdict: 'aborted', unsent: 200_005 });
      }),
    );

    test(
      'a shutdown that failed with the connection has told of them: close() does not again',
      clean(async (scope) => {
        const { client, wire } = await clogged(scope);
        const shutting = rejection(client.shutdown());
        wire.back.cut('reset');
        expect(await shutting).toMatchObject({ code: 'ERR_TLS_TRUNCATED' });
        expect(await client.close()).toMatchObject({ verdict: 'truncated' });
      }),
    );

    test(
      'await using around a program that throws what a call told it: that comes out, and nothing else',
      clean(async (scope) => {
        const programs = {
          'a read, of the cut': async (stream: TlsStream, cut: () => void) => {
            cut();
            await stream.read();
          },
          'a write, of a peer that does not read': (stream: TlsStream) =>
            stream.write(pattern(200_000), { deadline: 1 }),
          'a shutdown that was cancelled': (stream: TlsStream) =>
            stream.shutdown({ signal: AbortSignal.timeout(1) }),
        };
        for (const [name, program] of Object.entries(programs)) {
          const { client, wire } = await clogged(scope);
          let own: unknown = null;
          const run = async () => {
            await using stream = client;
            try {
              await program(stream, () => wire.back.cut('reset'));
            } catch (error) {
              own = error;
              throw error;
            }
          };
          expect(await rejection(run()), name).toBe(own);
        }
      }),
    );

    test(
      'await using around a program that nobody has told: it rejects, with the program’s own error beside it',
      clean(async (scope) => {
        const own = new Error('of the program');
        for (const thrown of [null, own]) {
          const { client } = await clogged(scope);
          const run = async () => {
            await using _stream = client;
            if (thrown !== null) throw thrown;
          };
          const error: unknown = await rejection(run());
          const both = error as SuppressedError;
          const lost = thrown === null ? error : both.error;
          expect(lost).toMatchObject({ code: 'ERR_TLS_TIMEOUT', phase: 'close' });
          expect(client.closure.unsent).toBe(5);
          if (thrown !== null) expect(both.suppressed).toBe(own);
        }
      }),
    );
  });

  describeTls(`${version}: close() around a failure`, () => {
    test(
      'what has failed stays as it ended: close() and abort() come too late to choose',
      clean(async (scope) => {
        for (const end of ['close', 'abort'] as const) {
          const { client, server, clientTransport } = await pair(scope, version, { server: told });
          const shutting = rejection(client.shutdown());
          await until('close_notify is out', () => client.closure.sent !== null);
          clientTransport.destroy();
          expect(await shutting).toMatchObject({ code: 'ERR_TLS_ABORTED' });
          const failed = { verdict: 'aborted', incomplete: true, transportEnd: 'destroyed' };
          expect(client.closure).toMatchObject(failed);
          await client[end]();
          expect(client.closure).toMatchObject(failed);
          server.abort();
        }
      }),
    );

    test(
      'FIN of the peer, then a reset, before close_notify could go out: no truncation, our bytes are lost',
      clean(async (scope) => {
        const wire = channel({ onDestroy: 'reset' });
        const { client, server } = await pair(scope, version, {
          transports: wire.ends,
          server: told,
        });
        wire.forth.clog();
        await client.write('small');
        const closed = rejection(client.close());
        wire.back.cut('fin');
        await until('FIN is known', () => client.closure.transportEnd === 'eof');
        // close_notify is still on its way.
        expect(client.closure).toMatchObject({
          verdict: 'open',
          send: 'closing',
          receive: 'abandoned',
          incomplete: false,
        });
        const reset = Object.assign(new Error('read ECONNRESET'), { code: 'ECONNRESET' });
        wire.ends[0].destroy(reset);
        const error = await closed;
        expect(error).toMatchObject({ code: 'ERR_TLS_SHUTDOWN', phase: 'close' });
        expect(error.cause).toBe(reset);
        expect(client.closure).toMatchObject({ verdict: 'aborted', incomplete: false });
        expect(await rejection(client.read())).toMatchObject({ code: 'ERR_TLS_ABORTED' });
        server.abort();
      }),
    );

    test(
      'a write that was told of the failure has said it: close() does not say it again',
      clean(async (scope) => {
        const wire = channel({ onDestroy: 'reset' });
        const { client, server } = await pair(scope, version, {
          transports: wire.ends,
          server: told,
        });
        wire.forth.clog();
        await client.write('small');
        wire.back.cut('reset');
        await until('it is known', () => client.closure.transportEnd === 'reset');
        expect(await rejection(client.write('more'))).toMatchObject({ code: 'ERR_TLS_TRUNCATED' });
        expect(await client.close()).toMatchObject({ verdict: 'truncated', incomplete: true });
        server.abort();
      }),
    );
  });

  describeTls(`${version}: limits of close()`, () => {
    test(
      'a signal covers all of it: ABORT_ERR, the transport is destroyed, and nothing is sent by one that was aborted',
      clean(async (scope) => {
        const { client, peer, wire } = await withCrafted(scope, version);
        const controller = new AbortController();
        const closing = client.close({ signal: controller.signal });
        await until('FIN is there', () => peer.transportEnd === 'eof');
        const reason = new Error('enough');
        controller.abort(reason);
        const error = await rejection(closing);
        expect(error).toMatchObject({ code: 'ABORT_ERR', phase: 'close' });
        expect(error.cause).toBe(reason);
        expect(client.closure).toMatchObject({ verdict: 'aborted', incomplete: false });
        wire.destroy();

        const other = await withCrafted(scope, version);
        const aborted = other.client.close({ signal: AbortSignal.abort() });
        expect(await rejection(aborted)).toMatchObject({ code: 'ABORT_ERR' });
        await until('it is gone', () => other.peer.transportEnd !== null);
        expect(other.peer.heard.filter(({ kind }) => kind === 'alert')).toEqual([]);
      }),
    );

    test(
      'linger.count: one more than may linger, and the oldest is dropped',
      clean(async (scope) => {
        const options = { client: { linger: { count: 1, time: 60_000 } }, server: told };
        const first = await pair(scope, version, options);
        await first.client.close({ wait: false });
        await turn();
        expect(first.clientTransport.destroyed).toBe(false);
        const second = await pair(scope, version, options);
        await second.client.close({ wait: false });
        await first.client.closed;
        expect(first.clientTransport.destroyed).toBe(true);
        expect(second.clientTransport.destroyed).toBe(false);
        for (const { client, server } of [first, second]) {
          server.abort();
          await client.closed;
        }
      }),
    );
  });

  describeTls(`${version}: await using, around programs that throw`, () => {
    const peers = {
      'answers with close_notify': async (stream: TlsStream) => {
        await readAll(stream);
        await stream.close();
      },
      'does not answer, and ends its transport': async (
        _stream: TlsStream,
        transport: net.Socket,
      ) => {
        transport.end();
      },
      'resets the transport': async (_stream: TlsStream, transport: net.Socket) => {
        transport.resetAndDestroy();
      },
      'sends a fatal alert': async (stream: TlsStream) => {
        stream.abort();
      },
    };
    test.each(Object.entries(peers))(
      'a peer that %s: the program’s own error comes out, and no SuppressedError',
      (_name, behave) =>
        clean(async (scope) => {
          const server = net.createServer({ allowHalfOpen: true }, async (socket) => {
            socket.on('error', () => {});
            const stream = await accept(socket, { ...pki().server, ...only(version) });
            await stream.read().catch(() => {});
            await behave(stream, socket).catch(() => {});
          });
          scope.defer(() => server.close());
          await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
          const { port } = server.address() as net.AddressInfo;
          const own = new Error('of the program');
          const run = async () => {
            await using stream = await connect({
              host: '127.0.0.1',
              port,
              ca: pki().ca,
              ...only(version),
            });
            await stream.write('hello');
            throw own;
          };
          expect(await rejection(run())).toBe(own);
        })(),
    );
  });
}

for (const version of VERSIONS) {
  describeTls(`${version}: a reader beside a close that discards`, () => {
    test.each(['keep', 'discard'] as const)(
      'unread: %s: it gets a beginning of what came, then an error, never what stood behind a gap',
      (unread) =>
        clean(async (scope) => {
          // Room for one chunk: what comes then is thrown away.
          const { client, peer } = await withCrafted(scope, version, { unreadLimit: 16 });
          const got: string[] = [];
          const reading = (async () => {
            for await (const bytes of client) {
              got.push(String(bytes));
              // Slow: what comes meanwhile is nobody's.
              for (let i = 0; i < 20; i++) await turn();
            }
            return null;
          })().catch((error: unknown) => error);
          peer.send(peer.data('1'));
          await until('the reader has begun', () => got.length > 0);
          const closing = client.close({ unread, deadline: 1_000 });
          for (let i = 2; i < 60; i++) {
            peer.send(peer.data(`,${i}`.padEnd(2_000, ' ')));
            await turn();
          }
          peer.fin(peer.closeNotify());
          const error = await reading;
          await closing;
          const numbers = got.join('').split(',').map(Number);
          expect(numbers).toEqual(numbers.map((_, at) => at + 1));
          if (error === null) expect(numbers.at(-1)).toBe(59);
          else expect(error).toMatchObject({ code: 'ERR_TLS_ABORTED' });
        })(),
    );

    test(
      'disposal after a close() of one’s own rejects no second time',
      clean(async (scope) => {
        const { client, peer } = await withCrafted(scope, version);
        const run = async () => {
          await using stream = client;
          await stream.close({ signal: AbortSignal.abort() });
        };
        expect(await rejection(run())).toMatchObject({ code: 'ABORT_ERR' });
        peer.destroy();
      }),
    );
  });
}
