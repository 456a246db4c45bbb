/** Captures on the command line: what `draw --pcap` and `probe --pcapng` stand on. */
import { chmodSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';

import { environmentKeyLog, PcapngFile, readCapture } from '../../../src/cli/capture.ts';
import { DEFAULT_POLICY } from '../../../src/closure/policy.ts';
import { connect, drawLanes, OptionError, renderText } from '../../../src/index.ts';
import { openTransport } from '../../../src/transport/open.ts';
import { pcap, recorded } from '../../support/capture-frames.ts';
import { describeTools, dissect, folder } from '../../support/capture-tools.ts';
import { plainNode } from '../../support/cli-servers.ts';
import { describeTls, pki } from '../../support/core-pki.ts';
import { clean, type Scope } from '../../support/core-scope.ts';
import { VERSIONS } from '../../support/core-streams.ts';

function saved(scope: Scope, bytes: Uint8Array | string): string {
  const file = join(folder(scope), 'file');
  writeFileSync(file, bytes);
  return file;
}

/** What the option error says. */
function refusal(read: () => unknown): string {
  try {
    read();
  } catch (error) {
    if (error instanceof OptionError) return error.message;
    throw error;
  }
  throw new Error('it was read');
}

/** The drawing as text. */
function drawn({ left, right, options }: ReturnType<typeof readCapture>): string {
  return renderText(drawLanes(left, right, options), { width: 110 });
}

describeTls('readCapture', () => {
  test.each(VERSIONS)('%s: a truncation is drawn as one, and said', (version) =>
    clean(async (scope) => {
      const { packets, keys } = await recorded(scope, version, 'truncated');
      const capture = readCapture({
        pcap: saved(scope, pcap(packets)),
        keylog: saved(scope, keys),
      });
      expect(drawn(capture)).toContain('FIN without close_notify');
      expect(capture.right.name).toBe('server 192.0.2.2:443');
      const remarks = capture.remarks.join('\n');
      expect(remarks).toContain(version);
      expect(remarks).toMatch(/The client \(.+\): truncated\./);
      expect(remarks).toMatch(/The server \(.+\): aborted\. From it: no close_notify, FIN at/);
    })(),
  );

  test(
    'secrets inside the file need no key log, and both close_notify are drawn',
    clean(async (scope) => {
      const { bytes } = await recorded(scope, 'TLSv1.3');
      const capture = readCapture({ pcap: saved(scope, bytes) });
      expect(drawn(capture).match(/✓ close_notify/g)).toHaveLength(2);
      expect(drawn(capture)).not.toContain('without close_notify');
    }),
  );

  test(
    'without keys no side is accused',
    clean(async (scope) => {
      const { packets } = await recorded(scope, 'TLSv1.3');
      const capture = readCapture({ pcap: saved(scope, pcap(packets)) });
      expect(drawn(capture)).not.toContain('without close_notify');
      expect(drawn(capture)).not.toContain('TRUNCATED');
      expect(drawn(capture)).toContain('cannot be read');
      const remarks = capture.remarks.join('\n');
      expect(remarks).toContain('it cannot be told whether it sent close_notify');
      expect(remarks).toContain('no verdict');
    }),
  );

  test(
    'several connections: the choice is the reader’s',
    clean(async (scope) => {
      const one = await recorded(scope, 'TLSv1.2');
      const two = await recorded(scope, 'TLSv1.3', 'truncated');
      const moved = two.packets.map((packet) => {
        const copy = Buffer.from(packet);
        // Another port of the client.
        const place = copy.readUInt16BE(20) === 443 ? 22 : 20;
        copy.writeUInt16BE(50_000, place);
        return copy;
      });
      const file = saved(scope, pcap([...one.packets, ...moved]));
      const keylog = saved(scope, one.keys + two.keys);
      const said = refusal(() => readCapture({ pcap: file, keylog }));
      expect(said).toContain('2 connections speak TLS: choose one with --connection');
      expect(said).toContain('  2  192.0.2.1:50000 to 192.0.2.2:443');
      const { captured } = readCapture({ pcap: file, keylog, connection: 2 });
      expect(captured.client.closure?.verdict).toBe('truncated');
      expect(refusal(() => readCapture({ pcap: file, keylog, connection: 3 }))).toContain(
        'none of number 3',
      );
    }),
  );

  test(
    'files that cannot be used',
    clean(async (scope) => {
      const missing = join(folder(scope), 'missing');
      const text = saved(scope, 'no capture');
      const { packets, keys } = await recorded(scope, 'TLSv1.3');
      const capture = saved(scope, pcap(packets));
      const log = saved(scope, keys);
      expect(refusal(() => readCapture({ pcap: missing }))).toMatch(/^--pcap: .*ENOENT/);
      expect(refusal(() => readCapture({ pcap: text }))).toContain('neither pcap nor pcapng');
      expect(refusal(() => readCapture({ pcap: capture, keylog: missing }))).toMatch(
        /^--keylog: .*ENOENT/,
      );
      expect(refusal(() => readCapture({ pcap: capture, keylog: text }))).toContain('no secrets');
      expect(refusal(() => readCapture({ pcap: saved(scope, pcap([])), keylog: log }))).toContain(
        '0 packets',
      );
      expect(
        refusal(() => readCapture({ pcap: saved(scope, pcap(packets, undefined, 147)) })),
      ).toContain('its link type is not known here');
      expect(
        refusal(() => readCapture({ pcap: saved(scope, pcap(packets.slice(0, 3))) })),
      ).toContain('no TLS handshake begins in any connection');
    }),
  );
});

/** Standard output, where nothing is to go. */
const nowhere = {
  write() {
    throw new Error('written to standard output');
  },
};

describeTls('PcapngFile', () => {
  describeTools(['tshark'], 'as tshark reads it', () => {
    test(
      'a connection, for its owner alone, whatever the file was before',
      clean(async (scope) => {
        const file = saved(scope, 'something longer than nothing');
        chmodSync(file, 0o644);
        const capture = new PcapngFile(file, nowhere);
        const server = await plainNode();
        scope.defer(() => server[Symbol.asyncDispose]());
        const transport = await openTransport(
          { host: '127.0.0.1', port: server.port },
          undefined,
          DEFAULT_POLICY.deadlines,
          () => {},
        );
        const record = capture.record(transport);
        const stream = await connect({ transport, host: 'localhost', ca: pki().ca, record });
        await stream.close();
        capture.finish();
        expect(statSync(file).mode & 0o777).toBe(0o600);
        const alerts = dissect(file).flatMap((packet) => packet.alerts);
        expect(alerts).toEqual(['1/0', '1/0']);
      }),
    );
  });

  test(
    'a file that cannot be written is told of before anything is connected to',
    clean(async (scope) => {
      const file = join(folder(scope), 'no', 'folder');
      expect(refusal(() => new PcapngFile(file, nowhere))).toMatch(/^--pcapng: .*ENOENT/);
    }),
  );

  test(
    'without a connection: a file that tools can open, and no packet',
    clean(async (scope) => {
      const file = join(folder(scope), 'empty.pcapng');
      new PcapngFile(file, nowhere).finish();
      expect(readFileSync(file).readUInt32BE(0)).toBe(0x0a0d0d0a);
      expect(refusal(() => readCapture({ pcap: file }))).toContain('0 packets');
    }),
  );
});

describe('environmentKeyLog', () => {
  test(
    'the variable names a file; unset or empty, there is none',
    clean(async (scope) => {
      const file = join(folder(scope), 'keys');
      expect(environmentKeyLog({})).toBeUndefined();
      expect(environmentKeyLog({ SSLKEYLOGFILE: '' })).toBeUndefined();
      environmentKeyLog({ SSLKEYLOGFILE: file })?.onSecret?.('CLIENT_RANDOM a b');
      expect(readFileSync(file, 'utf8')).toBe('CLIENT_RANDOM a b\n');
      const nowhere = { SSLKEYLOGFILE: join(file, 'below') };
      expect(refusal(() => environmentKeyLog(nowhere))).toContain('SSLKEYLOGFILE');
    }),
  );
});
