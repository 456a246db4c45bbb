/**
 * What a closure rests on, and the alerts that it tells of, on each runtime that takes both roles: Node asks
 * OpenSSL by the add-on; without it, it reads the records, as Bun does; Deno gives no key log, so that there alerts are inferred from what its TLS says.
 */
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { beforeAll, describe, expect, test } from 'vitest';
import { find, HOW_TO_INSTALL, type RuntimeName } from '../../support/runtimes.ts';

const DIST = new URL('../../../dist/', import.meta.url);
const CHILD = fileURLToPath(new URL('evidence.child.mjs', import.meta.url));

const RUNTIMES = [
  { name: 'Node 20', program: 'node-20', args: [], evidence: 'openssl' },
  {
    name: 'Node 20 without the add-on',
    program: 'node-20',
    args: [],
    env: { CLOSE_NOTIFY_NATIVE: '0' },
    evidence: 'record',
  },
  { name: 'Deno 2', program: 'deno', args: ['run', '-A'], evidence: 'inferred' },
  { name: 'Bun 1', program: 'bun', args: [], evidence: 'record' },
] satisfies ReadonlyArray<{
  readonly name: string;
  readonly program: RuntimeName;
  readonly args: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  readonly evidence: string;
}>;

beforeAll(() => {
  if (!existsSync(DIST)) throw new Error('no dist/: npm run build');
});

const run = promisify(execFile);

for (const { name, program, args, env, evidence } of RUNTIMES) {
  const path = find(program);
  const isRequired = process.env['REQUIRE_PEERS'] === '1';
  describe.skipIf(path === null && !isRequired)(name, () => {
    test('tells which alert ended each direction, what that rests on, and why a certificate is none', async () => {
      if (path === null) expect.fail(HOW_TO_INSTALL);
      const { stdout } = await run(path as string, [...args, CHILD, DIST.href], {
        timeout: 60_000,
        env: { ...process.env, ...env },
      });
      const told = stdout
        .trim()
        .split('\n')
        .map((line) => JSON.parse(line));
      const closed = { verdict: 'secure', sent: evidence, received: evidence, alert: null };
      // RFC 9846 section 6.2, bad_record_mac: "This alert is returned if a record is received which cannot be
      // deprotected." It is what the server said last, and what the client heard last.
      const refused = (direction: 'sent' | 'received') => ({
        verdict: 'alert',
        sent: null,
        received: null,
        alert: { code: 20, direction },
      });
      const untrusted = {
        how: 'untrusted',
        code: 'ERR_TLS_CERTIFICATE',
        why: 'DEPTH_ZERO_SELF_SIGNED_CERT',
      };
      expect(told).toEqual([
        ...['TLSv1.2', 'TLSv1.3'].flatMap((version) => [
          {
            version,
            how: 'closed',
            reads: ['data', 'end', 'end'],
            client: closed,
            server: closed,
          },
          {
            version,
            how: 'refused',
            reads: ['data', 'ERR_TLS_ALERT', 'ERR_TLS_ALERT'],
            client: refused('sent'),
            server: refused('received'),
          },
        ]),
        untrusted,
      ]);
    });
  });
}
