/** What equal options share, and that different ones do not. */
import type net from 'node:net';
import tls from 'node:tls';
import { afterEach, expect, test, vi } from 'vitest';
import { accept, type ConnectOptions, connect } from '../../../src/index.ts';
import { describeTls, pki } from '../../support/core-pki.ts';
import { clean, type Scope } from '../../support/core-scope.ts';
import { rejection } from '../../support/core-streams.ts';
import { listen } from '../../support/core-transport.ts';

afterEach(() => {
  vi.restoreAllMocks();
});

/** Connects once; how often Node was asked to read certificates for it. */
async function contextsFor(scope: Scope, options: ConnectOptions, requestCert = false) {
  const port = await listen(scope, async (socket: net.Socket) => {
    try {
      const stream = await accept(socket, { ...pki().server, ca: pki().ca, requestCert });
      await stream.read();
      await stream.close();
    } catch {
      // Seen at the client.
    }
  });
  const made = vi.spyOn(tls, 'createSecureContext');
  try {
    const stream = await connect({ host: 'localhost', port, ...options });
    await stream.close();
    return made.mock.calls.filter(([asked]) => asked?.ca === options.ca).length;
  } finally {
    made.mockRestore();
  }
}

describeTls('contexts of clients', () => {
  test(
    'equal options share one, whichever object they come in',
    clean(async (scope) => {
      const ca = `${pki().ca}\n# shared`;
      expect(await contextsFor(scope, { ca })).toBe(1);
      expect(await contextsFor(scope, { ca })).toBe(0);
      expect(await contextsFor(scope, { ca: [ca] })).toBe(1);
      expect(await contextsFor(scope, { ca: [ca], ...pki().client })).toBe(1);
      expect(await contextsFor(scope, { ca, minVersion: 'TLSv1.3' })).toBe(1);
    }),
  );

  test(
    'whom to trust is looked at each time: bytes that were changed in place are others',
    clean(async (scope) => {
      const trusted = Buffer.from(pki().ca);
      const ca = Buffer.from(trusted);
      await contextsFor(scope, { ca });
      const stranger = Buffer.from(pki().stranger.cert.padEnd(trusted.length, '\n'));
      expect(stranger.length).toBe(trusted.length);
      stranger.copy(ca);
      expect((await rejection(contextsFor(scope, { ca }))).code).toBe('ERR_TLS_CERTIFICATE');
      trusted.copy(ca);
      await contextsFor(scope, { ca });
    }),
  );

  test(
    'a list that has lost an entry is another',
    clean(async (scope) => {
      const ca = [pki().stranger.cert, pki().ca];
      await contextsFor(scope, { ca });
      ca.pop();
      expect((await rejection(contextsFor(scope, { ca }))).code).toBe('ERR_TLS_CERTIFICATE');
    }),
  );

  const { setDefaultCACertificates, getCACertificates } = tls as object as Partial<{
    setDefaultCACertificates(certificates: readonly string[]): void;
    getCACertificates(type: 'default'): string[];
  }>;

  test.skipIf(setDefaultCACertificates === undefined)(
    'without ca they are shared until a program changes whom Node trusts',
    clean(async (scope) => {
      const before = getCACertificates?.('default') ?? [];
      scope.defer(() => setDefaultCACertificates?.(before));
      setDefaultCACertificates?.([pki().ca]);
      expect(await contextsFor(scope, {})).toBe(1);
      expect(await contextsFor(scope, {})).toBe(0);
      setDefaultCACertificates?.([pki().stranger.cert]);
      expect((await rejection(contextsFor(scope, {}))).code).toBe('ERR_TLS_CERTIFICATE');
    }),
  );

  test(
    'what cannot be compared is read each time',
    clean(async (scope) => {
      const { cert, key } = pki().client;
      const options = { ca: `${pki().ca}\n# own`, cert, key: [{ pem: key }] };
      expect(await contextsFor(scope, options, true)).toBe(1);
      expect(await contextsFor(scope, options, true)).toBe(1);
    }),
  );

  test(
    "a context of the caller's own is used as it is",
    clean(async (scope) => {
      const secureContext = tls.createSecureContext({ ca: pki().ca });
      expect(await contextsFor(scope, { secureContext })).toBe(0);
    }),
  );
});
