/** A peer that ends or resets at every point of the handshake. */
import type net from 'node:net';
import { expect, test } from 'vitest';
import { accept, connect } from '../../../src/index.ts';
import { describeTls, pki } from '../../support/core-pki.ts';
import { clean, Scope, until } from '../../support/core-scope.ts';
import { only, VERSIONS, type Version } from '../../support/core-streams.ts';
import { type Cut, listen, type Passed, POINTS, relay } from '../../support/core-transport.ts';

/** A handshake through a relay, to learn how many records cross it. */
async function learn(version: Version): Promise<Passed> {
  const scope = new Scope();
  try {
    let accepted: (socket: net.Socket) => void = () => {};
    const socket = new Promise<net.Socket>((resolve) => {
      accepted = resolve;
    });
    const port = await listen(scope, (one) => accepted(one), { allowHalfOpen: true });
    const { port: through, passed } = await relay(scope, port, null);
    const [client, server] = await Promise.all([
      connect({ host: '127.0.0.1', port: through, ca: pki().ca, ...only(version) }),
      socket.then((one) => accept(one, { ...pki().server, ...only(version) })),
    ]);
    const handshake = { ...passed };
    await Promise.all([client.close(), server.close()]);
    return handshake;
  } finally {
    await scope.finish(false);
  }
}

const EVERYWHERE = Object.keys(POINTS) as Array<Cut['point']>;

async function endsInHandshake(scope: Scope, version: Version, cut: Cut): Promise<string> {
  const seen: { server?: Promise<unknown> } = {};
  const port = await listen(
    scope,
    (socket) => {
      const accepting = accept(socket, { ...pki().server, ...only(version) });
      seen.server = accepting.then(
        async (stream) => {
          // Established on this side: the cut then shows in what is read.
          const outcome = await stream.read().catch((error) => error);
          await stream.close({ wait: false }).catch(() => {});
          return outcome;
        },
        (error) => error,
      );
    },
    { allowHalfOpen: true },
  );
  const { port: through } = await relay(scope, port, cut);
  const options = { host: '127.0.0.1', port: through, ca: pki().ca, ...only(version) };
  const client = connect(options).then(
    async (stream) => {
      const outcome = await stream.read().catch((error) => error);
      await stream.close({ wait: false }).catch(() => {});
      return outcome;
    },
    (error) => error,
  );
  const atClient = await client;
  await until('the server has a connection', () => seen.server !== undefined);
  const atServer = await seen.server;
  const error = cut.victim === 'client' ? atClient : atServer;
  const where = `${cut.victim} ${cut.direction} record ${cut.record} ${cut.point}`;
  expect(error, where).toMatchObject({ code: 'ERR_TLS_TRUNCATED' });
  expect(error.closure, where).toMatchObject({ verdict: 'truncated', received: null });
  // A reset right behind data comes as EOF: libuv finds the hang-up beside the data and looks no
  // further.
  const causes = cut.how === 'fin' ? ['eof'] : ['reset', 'eof'];
  expect(causes, where).toContain(error.closure.truncation.cause);
  return error.phase;
}

describeTls('a peer that ends or resets at every point of the handshake', () => {
  for (const version of VERSIONS) {
    for (const how of ['fin', 'reset'] as const) {
      for (const victim of ['client', 'server'] as const) {
        const toVictim = `to-${victim}` as const;
        const fromVictim = victim === 'client' ? 'to-server' : 'to-client';

        test(
          `${version}, ${how}, ${victim}: cut before the handshake's last byte, it rejects as truncated in the phase 'handshake'`,
          clean(async (scope) => {
            const passed = await learn(version);
            // In TLS 1.3 the client has all it needs with the server's first flight; session
            // tickets follow.
            const count =
              version === 'TLSv1.3' && victim === 'client' ? passed.flight : passed[toVictim];
            expect(count).toBeGreaterThan(2);
            for (let record = 0; record < count; record++) {
              for (const point of EVERYWHERE) {
                const cut: Cut = { direction: toVictim, record, point, victim, how };
                expect(await endsInHandshake(scope, version, cut)).toBe('handshake');
              }
            }
          }),
        );

        test(
          `${version}, ${how}, ${victim}: cut by what the victim itself sends, it never looks like an end`,
          clean(async (scope) => {
            const passed = await learn(version);
            for (let record = 0; record < passed[fromVictim]; record++) {
              for (const point of EVERYWHERE) {
                const cut: Cut = { direction: fromVictim, record, point, victim, how };
                const phase = await endsInHandshake(scope, version, cut);
                expect(['handshake', 'open']).toContain(phase);
              }
            }
          }),
        );
      }
    }
  }
});
