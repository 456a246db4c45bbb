/**
 * `incomplete`: `report` mode tells exactly what `error` mode fails, of the same traffic, and says which connection it
 * was.
 *
 * RFC 9112 section 9.8: "When encountering an incomplete close, a client SHOULD treat as completed all requests for
 * which it has received either: as much data as specified in the Content-Length header field or the terminal
 * zero-length chunk."
 */
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import type http from 'node:http';
import https from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type tls from 'node:tls';
import { afterEach, describe, expect, test, vi } from 'vitest';
import {
  type ClosureMessage,
  isTruncated,
  type Strictness,
  secureSocket,
  socketClosure,
  strictServer,
  Transcript,
  type TruncatedMessage,
} from '../../../src/index.ts';
import { StrictAgent } from '../../../src/strict/https.ts';
import { describeTls, pki } from '../../support/core-pki.ts';
import { clean, type Scope, until } from '../../support/core-scope.ts';
import { ANSWERS, ENDS, type End, fetchBy, site, wired } from '../../support/strict-wire.ts';

/** What the channels say of one run. */
interface Told {
  readonly truncated: TruncatedMessage[];
  readonly closures: ClosureMessage[];
}

function listenIn(scope: Scope): Told {
  const told: Told = { truncated: [], closures: [] };
  const listeners = {
    'close-notify.truncated': (message: unknown) => told.truncated.push(message as never),
    'close-notify.closure': (message: unknown) => told.closures.push(message as never),
  };
  for (const [name, listener] of Object.entries(listeners)) {
    subscribe(name, listener);
    scope.defer(() => unsubscribe(name, listener));
  }
  return told;
}

/** Also where it fails, which `once` would reject for. */
const closed = (socket: tls.TLSSocket) =>
  new Promise<void>((resolve) => socket.once('close', () => resolve()));

const ofClients = (told: Told) => told.truncated.filter(({ role }) => role === 'client');

/** One request, its answer, and an ending of the transport. @returns whether the program heard of an error. */
async function exchange(
  scope: Scope,
  mode: Strictness,
  answer: string,
  end: End,
): Promise<{ told: Told; failed: boolean; port: number }> {
  const told = listenIn(scope);
  const { port, wires } = await site(scope, async ({ send, wire }) => {
    await send(answer);
    await wire.cut(end);
  });
  const agent = new StrictAgent({ mode, keepAlive: true });
  scope.defer(() => agent.destroy());
  const seen = await fetchBy(agent, port);
  await until('the connection is over', () => wires[0]?.gone === true);
  await until('it is told', () => told.closures.some(({ role }) => role === 'client'));
  return { told, failed: seen.error !== null, port };
}

describeTls('an HTTP client', () => {
  for (const [kind, answers] of Object.entries(ANSWERS)) {
    for (const [what, answer] of Object.entries(answers)) {
      for (const end of ENDS) {
        const isWhole = what === 'whole' && kind !== 'to the connection’s end';
        test(
          `${kind}, ${what}, then ${end}: ${isWhole ? 'nothing is missing' : 'bytes may be missing'}, in both modes`,
          clean(async (scope) => {
            for (const mode of ['error', 'report'] as const) {
              const { told, failed, port } = await exchange(scope, mode, answer, end);
              const messages = ofClients(told);
              // An agent may close a connection that has nothing more to say before its peer does.
              if (!isWhole) expect(messages).toHaveLength(1);
              for (const message of messages) {
                expect(message).toMatchObject({
                  ...{ role: 'client', host: 'localhost', port, protocol: 'TLSv1.3' },
                  ...{ incomplete: !isWhole, error: { incomplete: !isWhole } },
                });
                expect(isTruncated(message.error)).toBe(!isWhole);
              }
              // In report mode Node itself finds some of these out.
              if (mode === 'error' && end !== 'RST') expect(failed).toBe(!isWhole);
              const closure = told.closures.find(({ role }) => role === 'client');
              expect(closure).toMatchObject({
                incomplete: !isWhole,
                closure: { incomplete: !isWhole },
              });
            }
          }),
        );
      }
    }
  }
});

describeTls('an HTTP client that refuses what came', () => {
  for (const what of ['cut', 'whole'] as const) {
    test(
      `behind an answer that is ${what}: told once, and alike in both modes`,
      clean(async (scope) => {
        for (const mode of ['error', 'report'] as const) {
          const told = listenIn(scope);
          let begun: () => void = () => {};
          const reading = new Promise<void>((resolve) => {
            begun = resolve;
          });
          const { port, wires } = await site(scope, async ({ send, wire }) => {
            await send(ANSWERS.chunked[what]);
            await reading;
            await wire.forge();
          });
          const agent = new StrictAgent({ mode, keepAlive: true });
          scope.defer(() => agent.destroy());
          const request = https.get({ host: 'localhost', port, ca: pki().ca, agent });
          request.on('error', () => {});
          const [response] = (await once(request, 'response')) as [http.IncomingMessage];
          response.on('error', () => {}).resume();
          await (what === 'cut' ? once(response, 'data') : once(response, 'end'));
          begun();
          await until('the connection is over', () => wires[0]?.gone === true);
          await until('it is told', () => told.closures.some(({ role }) => role === 'client'));
          const incomplete = what === 'cut';
          expect(ofClients(told)).toMatchObject([
            { incomplete, outcome: 'error', error: { code: 'ERR_TLS_ALERT', incomplete } },
          ]);
          const [{ error } = { error: null }] = ofClients(told);
          expect(error?.cause).toMatchObject({
            message: expect.stringMatching(/decryption failed/),
          });
          const closure = told.closures.find(({ role }) => role === 'client');
          expect(closure).toMatchObject({ incomplete, closure: { verdict: 'alert', incomplete } });
        }
      }),
    );
  }
});

describeTls('a socket', () => {
  const listen = async (
    scope: Scope,
    then: (socket: tls.TLSSocket) => unknown,
  ): Promise<Awaited<ReturnType<typeof wired>>> => {
    const { createServer } = await import('node:tls');
    const server = createServer(pki().server, (socket) => {
      socket.on('error', () => {});
      void then(socket);
    });
    return wired(scope, server);
  };

  test.each(['error', 'report'] as const)('that is cut, in %s mode: incomplete', (mode) =>
    clean(async (scope) => {
      const told = listenIn(scope);
      const { port, wires } = await listen(scope, async (socket) => {
        socket.write('half');
        await wires[0]?.cut('FIN');
      });
      const socket = secureSocket({
        host: '127.0.0.1',
        servername: 'localhost',
        port,
        ca: pki().ca,
        mode,
      });
      const errors: unknown[] = [];
      socket.on('error', (error) => errors.push(error)).resume();
      await closed(socket);
      expect(ofClients(told)).toMatchObject([
        {
          incomplete: true,
          host: '127.0.0.1',
          port,
          servername: 'localhost',
          protocol: 'TLSv1.3',
          outcome: mode === 'error' ? 'error' : 'end',
        },
      ]);
      expect(errors.map(isTruncated)).toEqual(mode === 'error' ? [true] : []);
      expect(socketClosure(socket)).toMatchObject({ verdict: 'truncated', incomplete: true });
    })(),
  );

  test(
    'that its program destroys before the transport ends: nobody wanted more',
    clean(async (scope) => {
      const told = listenIn(scope);
      const { port } = await listen(scope, (socket) => socket.write('half'));
      for (const error of [undefined, new Error('enough')]) {
        const socket = secureSocket({ host: 'localhost', port, ca: pki().ca });
        socket.on('error', () => {});
        await once(socket, 'data');
        expect(socketClosure(socket)?.incomplete).toBe(null);
        socket.destroy(error);
        await closed(socket);
        expect(socketClosure(socket)).toMatchObject({ verdict: 'aborted', incomplete: false });
      }
      expect(ofClients(told)).toEqual([]);
    }),
  );

  for (const mode of ['error', 'report'] as const) {
    test(
      `that is destroyed with what came before the cut unread, in ${mode} mode: nothing is told`,
      clean(async (scope) => {
        const told = listenIn(scope);
        const { port, wires } = await listen(scope, async (socket) => {
          socket.write('half');
          await wires[0]?.cut('FIN');
        });
        const socket = secureSocket({ host: 'localhost', port, ca: pki().ca, mode });
        const errors: unknown[] = [];
        socket.on('error', (error) => errors.push(error));
        socket.pause();
        await until('it is cut', () => socketClosure(socket)?.verdict === 'truncated');
        socket.destroy();
        await closed(socket);
        expect(ofClients(told)).toEqual([]);
        expect(errors).toEqual([]);
        // What there is to know of it stands in the closure.
        expect(socketClosure(socket)).toMatchObject({ verdict: 'truncated', incomplete: true });
        expect(told.closures.filter(({ role }) => role === 'client')).toMatchObject([
          { incomplete: true },
        ]);
      }),
    );

    test(
      `whose write fails while what came before the cut is unread, in ${mode} mode: told once, as the error that it is`,
      clean(async (scope) => {
        const told = listenIn(scope);
        const { port, wires } = await listen(scope, async (socket) => {
          socket.write('half');
          await wires[0]?.cut('FIN');
        });
        const socket = secureSocket({
          ...{ host: 'localhost', port, ca: pki().ca, mode, allowHalfOpen: true },
        });
        const errors: unknown[] = [];
        socket.on('error', (error: Error & { code?: string }) => errors.push(error.code));
        socket.pause();
        await until('it is cut', () => socketClosure(socket)?.verdict === 'truncated');
        wires[0]?.raw.resetAndDestroy();
        await until('it has failed', () => {
          if (socket.writable) socket.write('more');
          return socket.closed;
        });
        expect(errors).toMatchObject([expect.stringMatching(/^(EPIPE|ECONNRESET)$/)]);
        expect(ofClients(told)).toMatchObject([{ incomplete: true, outcome: 'error' }]);
      }),
    );
  }

  test(
    'that refuses what came, though Node destroys it for that: bytes may be missing',
    clean(async (scope) => {
      const { port, wires } = await listen(scope, async (socket) => {
        socket.write('half');
        await wires[0]?.forge();
      });
      const socket = secureSocket({ host: 'localhost', port, ca: pki().ca });
      socket.on('error', () => {}).resume();
      await closed(socket);
      expect(socketClosure(socket)).toMatchObject({ verdict: 'alert', incomplete: true });
    }),
  );
});

describe('a server', () => {
  test(
    'names its client by its address',
    clean(async (scope) => {
      const told = listenIn(scope);
      const { createServer } = await import('node:tls');
      const server = strictServer(createServer(pki().server));
      server.on('secureConnection', (socket) => socket.on('error', () => {}).resume());
      scope.defer(() => server.close());
      server.listen(0, '127.0.0.1');
      await once(server, 'listening');
      const { port } = server.address() as { port: number };
      const { connect } = await import('node:tls');
      const socket = connect({ host: '127.0.0.1', port, ca: pki().ca, servername: 'localhost' });
      socket.on('error', () => {});
      await once(socket, 'secureConnect');
      const near = socket.localPort;
      await new Promise((resolve) => socket.write('half', resolve));
      // Node's destroy() says no close_notify.
      socket.destroy();
      await until('it is told', () => told.truncated.length > 0);
      expect(told.truncated).toMatchObject([
        {
          role: 'server',
          host: '127.0.0.1',
          port: near,
          incomplete: true,
          servername: 'localhost',
        },
      ]);
    }),
  );
});

describeTls('CLOSE_NOTIFY_RECORD=folder', () => {
  afterEach(() => vi.unstubAllEnvs());

  test(
    'has a record of each connection that lacks bytes, and of no other',
    clean(async (scope) => {
      const folder = mkdtempSync(join(tmpdir(), 'recorded-'));
      scope.defer(() => rmSync(folder, { recursive: true, force: true }));
      vi.stubEnv('CLOSE_NOTIFY_RECORD', folder);
      const { port } = await exchange(scope, 'report', ANSWERS.chunked.cut, 'FIN');
      expect(readdirSync(folder)).toHaveLength(1);
      await exchange(scope, 'report', ANSWERS.chunked.whole, 'FIN');
      const [name = '', ...others] = readdirSync(folder);
      expect(others).toEqual([]);
      const text = readFileSync(join(folder, name), 'utf8');
      expect(text).not.toContain('Alice');
      const transcript = Transcript.fromJSON(JSON.parse(text));
      expect(transcript).toMatchObject({
        ...{ verdict: 'truncated', peer: `localhost:${port}`, protocol: 'TLSv1.3' },
      });
      const seen = transcript.entries.flatMap((one) =>
        one.type === 'event' ? [one.observation.type] : one.type === 'note' ? [one.text] : [],
      );
      expect(seen).toEqual([
        'phase',
        'transport-eof',
        'verdict',
        'transport-closed',
        expect.stringMatching(/^\d+ bytes of data were read, \d+ written$/),
      ]);
    }),
  );
});
