/** SSLKEYLOGFILE, written and read (RFC 9850). */
import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { allOf, KeyLog, keyLogFile } from '../../../src/capture/keylog.ts';
import type { Observer } from '../../../src/index.ts';
import { parseKeyLogLine } from '../../../src/record/keys.ts';
import { folder } from '../../support/capture-tools.ts';
import { describeTls } from '../../support/core-pki.ts';
import { clean } from '../../support/core-scope.ts';
import { closeBoth, Log, pairInMemory, VERSIONS } from '../../support/core-streams.ts';

describeTls('keyLogFile', () => {
  test.each(VERSIONS)('%s: lines in the format of NSS, appended, for the owner alone', (version) =>
    clean(async (scope) => {
      const file = join(folder(scope), 'keys');
      for (const rounds of [1, 2]) {
        await closeBoth(
          await pairInMemory(scope, version, { client: { record: keyLogFile(file) } }),
        );
        const lines = readFileSync(file, 'utf8').trimEnd().split('\n');
        expect(lines.map(parseKeyLogLine)).not.toContain(null);
        const randoms = new Set(lines.map((line) => parseKeyLogLine(line)?.clientRandom));
        expect(randoms.size).toBe(rounds);
      }
      const labels = readFileSync(file, 'utf8').match(/^\w+/gm);
      expect(labels).toContain(version === 'TLSv1.2' ? 'CLIENT_RANDOM' : 'SERVER_TRAFFIC_SECRET_0');
      expect(statSync(file).mode & 0o777).toBe(0o600);
    })(),
  );

  test(
    'the library does not look at the variable by itself',
    clean(async (scope) => {
      const file = join(folder(scope), 'keys');
      const before = process.env['SSLKEYLOGFILE'];
      process.env['SSLKEYLOGFILE'] = file;
      try {
        await closeBoth(await pairInMemory(scope, 'TLSv1.3'));
        expect(() => statSync(file)).toThrow('ENOENT');
        expect(keyLogFile()).toBeDefined();
        expect(statSync(file).size).toBe(0);
      } finally {
        if (before === undefined) delete process.env['SSLKEYLOGFILE'];
        else process.env['SSLKEYLOGFILE'] = before;
      }
    }),
  );

  test(
    'a file that cannot be written is told of at once; none is no error',
    clean(async (scope) => {
      expect(() => keyLogFile(join(folder(scope), 'no', 'such', 'folder'))).toThrow('ENOENT');
      expect(keyLogFile('')).toBeUndefined();
    }),
  );
});

describe('allOf', () => {
  test('tells all, in order, and offers only what one of them takes', () => {
    const log = new Log();
    const told: string[] = [];
    const reader: Observer = {
      observe: () => told.push('observe'),
      onBytes: () => told.push('bytes'),
      onSecret: () => told.push('secret'),
    };
    expect(allOf(log, undefined).onBytes).toBeUndefined();
    expect(allOf(log).onSecret).toBeUndefined();
    const both = allOf(log, reader);
    both.observe({ type: 'transport-closed', how: 'end' }, 1);
    both.onBytes?.('sent', new Uint8Array(1), 2);
    both.onSecret?.('CLIENT_RANDOM');
    expect(told).toEqual(['observe', 'bytes', 'secret']);
    expect(log.seen).toHaveLength(1);
  });
});

describe('KeyLog', () => {
  const random = 'ab'.repeat(32);

  test('comments, blank lines, CRLF, upper case and what is no line at all', () => {
    const keyLog = new KeyLog();
    keyLog.add(
      [
        ...['# a comment', '', `CLIENT_RANDOM ${random.toUpperCase()} 0011\r`],
        ...[`RSA ${random} 00`, 'CLIENT_RANDOM short 00', 'x'.repeat(5_000)],
        `SERVER_TRAFFIC_SECRET_0 ${random} 22`,
      ].join('\n'),
    );
    expect(keyLog.of(random).map(({ label }) => label)).toEqual([
      ...['CLIENT_RANDOM', 'RSA', 'SERVER_TRAFFIC_SECRET_0'],
    ]);
    expect(keyLog.size).toBe(3);
    expect(keyLog.of('cd'.repeat(32))).toEqual([]);
  });

  test('a file of it can be read back', () => {
    const keyLog = new KeyLog();
    for (let i = 0; i < 1_000; i++) {
      keyLog.add(`CLIENT_RANDOM ${i.toString(16).padStart(64, '0')} aa\n`);
    }
    expect(keyLog.of('3e7'.padStart(64, '0'))).toHaveLength(1);
  });
});
