/** `record: 'on-truncation'`: the evidence of the connection that failed, and of no other. */
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { drawLanes, type RecordedMessage, renderText, Transcript } from '../../../src/index.ts';
import { describeTls } from '../../support/core-pki.ts';
import { clean, type Scope } from '../../support/core-scope.ts';
import { pair, readAll, rejection, VERSIONS, type Version } from '../../support/core-streams.ts';

let folder = '';
const told: RecordedMessage[] = [];
const listen = (message: unknown) => told.push(message as RecordedMessage);

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'recorded-'));
  vi.stubEnv('CLOSE_NOTIFY_RECORD', join(folder, 'of-connections'));
  told.length = 0;
  subscribe('close-notify.recorded', listen);
});

afterEach(() => {
  unsubscribe('close-notify.recorded', listen);
  vi.unstubAllEnvs();
  rmSync(folder, { recursive: true, force: true });
});

const files = () => {
  try {
    return readdirSync(join(folder, 'of-connections'));
  } catch {
    return [];
  }
};

async function cut(scope: Scope, version: Version) {
  const { client, server, serverTransport } = await pair(scope, version, {
    client: { record: 'on-truncation' },
  });
  await client.write('a question that is nobody’s business');
  await server.read();
  await server.write('half of an answer');
  expect(client.transcript).toBe(null);
  serverTransport.end();
  expect(await rejection(readAll(client))).toMatchObject({ code: 'ERR_TLS_TRUNCATED' });
  await client.closed;
  server.abort();
  return client;
}

for (const version of VERSIONS) {
  describeTls(`${version}: a record of what failed`, () => {
    test(
      'a cut connection leaves one, which can be drawn, with no payload and no secrets in it',
      clean(async (scope) => {
        const client = await cut(scope, version);
        const [name = '', ...others] = files();
        expect(others).toEqual([]);
        expect(name).toMatch(new RegExp(`^close-notify-${process.pid}-\\d+\\.json$`));
        const file = join(folder, 'of-connections', name);
        expect(statSync(file).mode & 0o777).toBe(0o600);
        const text = readFileSync(file, 'utf8');
        expect(text).not.toMatch(/business|half of|CLIENT_|SECRET/);
        const transcript = Transcript.fromJSON(JSON.parse(text));
        expect(transcript).toMatchObject({ verdict: 'truncated', peer: 'localhost' });
        const drawn = renderText(drawLanes({ name: 'us', transcript }, 'the server'));
        expect(drawn).toContain('TRUNCATED: the last bytes may be missing');
        expect(client.transcript?.toJSON()).toEqual(transcript.toJSON());
        expect(told).toMatchObject([{ file, error: null, closure: { incomplete: true } }]);
      }),
    );

    test(
      'one that is whole, or that was closed by us, leaves none',
      clean(async (scope) => {
        const whole = await pair(scope, version, { client: { record: 'on-truncation' } });
        await Promise.all([whole.client.close(), whole.server.close()]);
        const closed = await pair(scope, version, { client: { record: 'on-truncation' } });
        closed.client.abort();
        closed.server.abort();
        for (const { client } of [whole, closed]) {
          await client.closed;
          expect(client.transcript).toBe(null);
        }
        expect(files()).toEqual([]);
        expect(told).toEqual([]);
      }),
    );

    test(
      'a folder that cannot be written to is told of, and harms nothing',
      clean(async (scope) => {
        writeFileSync(join(folder, 'of-connections'), 'a file');
        const warnings: Error[] = [];
        const warn = vi.spyOn(process, 'emitWarning').mockImplementation((warning) => {
          warnings.push(new Error(String(warning)));
        });
        const client = await cut(scope, version);
        warn.mockRestore();
        expect(client.transcript?.verdict).toBe('truncated');
        expect(told).toMatchObject([{ file: null, error: { code: 'EEXIST' } }]);
        expect(warnings.map(({ message }) => message)).toEqual([
          expect.stringMatching(/^CLOSE_NOTIFY_RECORD: EEXIST/),
        ]);
      }),
    );
  });
}
