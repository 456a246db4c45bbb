/** A guard without a witness: what it does where nothing is known of the connection. */
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { once } from 'node:events';
import tls from 'node:tls';
import { expect, test } from 'vitest';
import type { UnwatchedMessage } from '../../../src/strict/channels.ts';
import { Guard } from '../../../src/strict/guard.ts';
import { describeTls, pki } from '../../support/core-pki.ts';
import { clean } from '../../support/core-scope.ts';
import { wired } from '../../support/strict-wire.ts';

describeTls('a guard without a witness', () => {
  for (const mode of ['error', 'report'] as const) {
    test(
      `mode '${mode}': its close_notify is not believed, and the channel says so`,
      clean(async (scope) => {
        const server = tls.createServer(pki().server, (socket) => socket.end('all'));
        const { port } = await wired(scope, server);
        const unwatched: UnwatchedMessage[] = [];
        const hear = (message: unknown) => unwatched.push(message as UnwatchedMessage);
        subscribe('close-notify.unwatched', hear);
        scope.defer(() => unsubscribe('close-notify.unwatched', hear));
        const socket = tls.connect({ port, host: 'localhost', ca: pki().ca });
        scope.defer(() => socket.destroy());
        const guard = new Guard(socket, {
          ...{
            mode,
            evidence: 'record',
            engine: 'node',
            role: 'server',
            host: null,
            port: null,
            witness: () => null,
          },
        });
        const seen: string[] = [];
        socket.on('data', (chunk) => seen.push(String(chunk)));
        socket.on('end', () => seen.push('end'));
        socket.on('error', (error: Error & { code?: string }) => seen.push(String(error.code)));
        await once(socket, 'close').catch(() => once(socket, 'close'));
        expect(seen).toEqual(['all', mode === 'error' ? 'ERR_TLS_TRUNCATED' : 'end']);
        expect(guard.closure).toMatchObject({ verdict: 'truncated', received: null });
        expect(unwatched).toMatchObject([{ reason: expect.stringContaining('before') }]);
        expect(unwatched[0]?.socket).toBe(socket);
      }),
    );
  }

  test(
    'an end that comes behind its destruction is not the peer’s',
    clean(async (scope) => {
      const { port } = await wired(scope, tls.createServer(pki().server));
      const truncated: unknown[] = [];
      const hear = (message: unknown) => truncated.push(message);
      subscribe('close-notify.truncated', hear);
      scope.defer(() => unsubscribe('close-notify.truncated', hear));
      const socket = tls.connect({ port, host: 'localhost', ca: pki().ca });
      const guard = new Guard(socket, {
        ...{
          mode: 'error',
          evidence: 'record',
          engine: 'node',
          role: 'server',
          host: null,
          port: null,
          witness: () => null,
        },
      });
      await once(socket, 'secureConnect');
      socket.destroy();
      expect(socket.push(null)).toBe(false);
      await once(socket, 'close');
      expect(guard.closure.verdict).toBe('aborted');
      expect(truncated).toEqual([]);
    }),
  );
});
