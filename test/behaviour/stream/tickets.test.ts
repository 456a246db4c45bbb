/** The option `tickets`: how many a server sends behind the handshake (TLS 1.3). */
import { describe, expect, test } from 'vitest';
import { accept, createServer, type ServerOptions } from '../../../src/index.ts';
import { ecServer, identityOf } from '../../support/cert-pki.ts';
import { clean } from '../../support/core-scope.ts';
import { closeBoth, pair } from '../../support/core-streams.ts';
import { tcpPair } from '../../support/core-transport.ts';

describe.each(['native', 'tapped'] as const)('a client that is %s', (engine) => {
  test.each([undefined, 0, 1, 2, 4, 255])('tickets: %s', (tickets) =>
    clean(async (scope) => {
      const sessions: Uint8Array[] = [];
      const onSession = (session: Uint8Array) => sessions.push(session);
      const both = await pair(scope, 'TLSv1.3', {
        client: { engine, onSession },
        server: { engine: 'native', ...(tickets !== undefined && { tickets }) },
      });
      // What the server writes comes behind them.
      await both.server.write('x');
      await both.client.read();
      expect(sessions).toHaveLength(tickets ?? 2);
      await closeBoth(both);
      if (sessions[0] === undefined) return;
      const again = await pair(scope, 'TLSv1.3', {
        client: { engine, session: sessions[0] },
        server: { engine: 'native', tickets: 1 },
      });
      // Another context has other keys for its tickets.
      expect(again.client.tls.resumed).toBe(false);
      await closeBoth(again);
    })(),
  );

  test('with one ticket a client resumes', () =>
    clean(async (scope) => {
      const sessions: Uint8Array[] = [];
      const options = { ...identityOf(ecServer()), ticketKeys: Buffer.alloc(48, 7), tickets: 1 };
      const server = { engine: 'native', ...options } as const;
      const first = await pair(scope, 'TLSv1.3', {
        client: { engine, rejectUnauthorized: false, onSession: (one) => sessions.push(one) },
        server,
      });
      await first.server.write('x');
      await first.client.read();
      await closeBoth(first);
      const [session] = sessions;
      const second = await pair(scope, 'TLSv1.3', {
        client: { engine, rejectUnauthorized: false, ...(session && { session }) },
        server,
      });
      expect(second.client.tls.resumed).toBe(true);
      await closeBoth(second);
    })());
});

describe('what is refused', () => {
  test.each([-1, 1.5, 256, '2', null, Number.NaN])('tickets: %j', (tickets) => {
    const options = { ...identityOf(ecServer()), tickets } as ServerOptions;
    expect(() => createServer(options, () => {})).toThrow(
      expect.objectContaining({ code: 'ERR_TLS_OPTION' }),
    );
    expect(() => createServer(options, () => {})).toThrow(/tickets/);
  });

  test.each<[string, Partial<ServerOptions>]>([
    ['the tapped engine', { engine: 'tapped' }],
    ['an option that only the tapped engine knows', { enableTrace: true }],
  ])('with %s: refused by name, with the reason', (_, more) => {
    const options = { ...identityOf(ecServer()), tickets: 0, ...more };
    // Where this run asks for the native engine that is what is refused first.
    const reason = /option tickets is refused|no native engine .* enableTrace/;
    expect(() => createServer(options, () => {})).toThrow(reason);
  });

  test('by accept as well', () =>
    clean(async (scope) => {
      const [near, far] = await tcpPair(scope);
      const accepting = accept(far, { ...identityOf(ecServer()), tickets: 0, engine: 'tapped' });
      await expect(accepting).rejects.toMatchObject({ code: 'ERR_TLS_OPTION' });
      near.destroy();
      far.destroy();
    })());
});
