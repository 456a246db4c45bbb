/** What a stream recorded, as Wireshark's own dissectors read it. */
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import net from 'node:net';
import { join } from 'node:path';
import tls from 'node:tls';
import { describe, expect, test } from 'vitest';

import { KeyLog } from '../../../src/capture/keylog.ts';
import { type PcapngOptions, PcapngRecorder } from '../../../src/capture/pcapng.ts';
import { addressBytes } from '../../../src/capture/pcapng-packet.ts';
import { surveyCapture } from '../../../src/capture/survey.ts';
import { accept, connect } from '../../../src/index.ts';
import { memoryPair } from '../../../src/transport/pair.ts';
import { framesOf, recorded } from '../../support/capture-frames.ts';
import { type Dissected, describeTools, dissect, folder } from '../../support/capture-tools.ts';
import { plainNode, raw } from '../../support/cli-servers.ts';
import { describeTls, pki } from '../../support/core-pki.ts';
import { clean, type Scope } from '../../support/core-scope.ts';
import { only, pattern, VERSIONS, type Version } from '../../support/core-streams.ts';

/** A server of Node's that answers one HTTP request, and closes as TLS wants it. */
async function httpServer(scope: Scope, version: Version, host: string): Promise<number> {
  const { cert, key } = pki().server;
  const body = pattern(200_000)
    .toString('latin1')
    .replace(/[^a-z]/g, 'z');
  const server = tls.createServer({ cert, key, ...only(version) }, (socket) => {
    socket.on('error', () => {});
    const head = `HTTP/1.1 200 OK\r\nContent-Length: ${body.length}\r\nConnection: close\r\n\r\n`;
    socket.once('data', () => socket.end(head + body));
  });
  server.listen(0, host);
  await once(server, 'listening');
  scope.defer(() => new Promise<void>((resolve) => server.close(() => resolve())));
  return (server.address() as net.AddressInfo).port;
}

/** An open socket to a port. */
async function socketTo(scope: Scope, port: number, host = '127.0.0.1'): Promise<net.Socket> {
  const socket = net.connect({ port, host, allowHalfOpen: true });
  scope.defer(() => socket.destroy());
  await once(socket, 'connect');
  return socket;
}

/** Requests a page over a transport and records it. */
async function browse(
  transport: net.Socket,
  options: PcapngOptions = { transport },
): Promise<PcapngRecorder> {
  const record = new PcapngRecorder(options);
  const stream = await connect({ transport, host: 'localhost', ca: pki().ca, record });
  await stream.write('GET /page HTTP/1.1\r\nHost: localhost\r\n\r\n');
  for await (const _ of stream) {
    // To its end.
  }
  await stream.close();
  await stream.closed;
  expect(stream.closure.verdict).toBe('secure');
  return record;
}

function save(scope: Scope, bytes: Uint8Array): string {
  const file = join(folder(scope), 'recorded.pcapng');
  writeFileSync(file, bytes);
  return file;
}

/** tshark finds nothing wrong: no bad checksum, nothing malformed, no gap, nothing sent again. */
function expectSound(packets: readonly Dissected[]): void {
  expect(packets.filter((one) => one.warns || one.checksum !== 'good')).toEqual([]);
}

const alertsOf = (packets: readonly Dissected[]) =>
  packets.flatMap(({ sourcePort, alerts }) => alerts.map((alert) => `${sourcePort}: ${alert}`));

const portsWith = (packets: readonly Dissected[], flag: keyof Dissected['flags']) =>
  packets.filter(({ flags }) => flags[flag]).map(({ sourcePort }) => sourcePort);

/** warning (1), close_notify (0): RFC 9846 section 6. */
const CLOSE_NOTIFY = '1/0';

describeTls('a recorder', () => {
  describeTools(['tshark'], 'as tshark reads it', () => {
    describe.each(VERSIONS)('%s', (version) => {
      test.each(['127.0.0.1', '::1'])('HTTP and both close_notify, in the clear, over %s', (host) =>
        clean(async (scope) => {
          const port = await httpServer(scope, version, host);
          const transport = await socketTo(scope, port, host);
          const own = `${transport.localPort}`;
          const packets = dissect(save(scope, (await browse(transport)).bytes()));
          expectSound(packets);
          expect(new Set(packets.map(({ source }) => source))).toEqual(new Set([host]));
          expect(packets.find(({ uri }) => uri !== '')).toMatchObject({
            uri: '/page',
            sourcePort: own,
          });
          expect(packets.find(({ status }) => status !== '')).toMatchObject({
            status: '200',
            sourcePort: `${port}`,
          });
          expect(alertsOf(packets)).toEqual([
            `${port}: ${CLOSE_NOTIFY}`,
            `${own}: ${CLOSE_NOTIFY}`,
          ]);
          // The transport's own end, read to the last byte: FIN both ways, no RST.
          expect(portsWith(packets, 'fin').sort()).toEqual([own, `${port}`].sort());
          expect(portsWith(packets, 'rst')).toEqual([]);
          expect(portsWith(packets, 'syn')).toEqual([own, `${port}`]);
        })(),
      );

      test(
        'a server that records itself: the client is who opened the connection',
        clean(async (scope) => {
          const recorder = new PcapngRecorder();
          let ended = () => {};
          const over = new Promise<void>((resolve) => {
            ended = resolve;
          });
          const listening = await raw(async (socket) => {
            const options = { ...pki().server, ...only(version), record: recorder };
            const stream = await accept(socket, options);
            await stream.read();
            await stream.close();
            await stream.closed;
            ended();
          });
          scope.defer(() => listening[Symbol.asyncDispose]());
          const stream = await connect({ host: '127.0.0.1', port: listening.port, ca: pki().ca });
          await stream.close();
          await over;
          const packets = dissect(save(scope, recorder.bytes()));
          expectSound(packets);
          // Addresses that nobody has, where the recorder was not shown the transport.
          const opening = packets.filter(({ flags }) => flags.syn);
          expect(opening).toMatchObject([
            { source: '192.0.2.2', sourcePort: '49152' },
            { source: '192.0.2.1', sourcePort: '443' },
          ]);
          expect(alertsOf(packets)).toEqual([`49152: ${CLOSE_NOTIFY}`, `443: ${CLOSE_NOTIFY}`]);
        }),
      );

      test(
        'a truncation is a FIN, and no alert',
        clean(async (scope) => {
          const { bytes } = await recorded(scope, version, 'truncated');
          const packets = dissect(save(scope, bytes));
          expectSound(packets);
          expect(portsWith(packets, 'fin')).toContain('443');
          expect(alertsOf(packets).filter((one) => one.startsWith('443'))).toEqual([]);
        }),
      );

      test(
        'close_notify that nobody waited for is in the file: its sender must not stand accused',
        clean(async (scope) => {
          const server = await plainNode();
          scope.defer(() => server[Symbol.asyncDispose]());
          const transport = await socketTo(scope, server.port);
          const own = `${transport.localPort}`;
          const recorder = new PcapngRecorder({ transport });
          const stream = await connect({
            ...{ transport, host: 'localhost', ca: pki().ca, record: recorder },
            ...only(version),
          });
          await stream.close({ wait: false });
          await stream.closed;
          expect(stream.closure.verdict).toBe('one-sided');
          const packets = dissect(save(scope, recorder.bytes()));
          expectSound(packets);
          expect(alertsOf(packets)).toEqual([
            `${own}: ${CLOSE_NOTIFY}`,
            `${server.port}: ${CLOSE_NOTIFY}`,
          ]);
        }),
      );

      test(
        'written piece by piece, and nothing kept: the same',
        clean(async (scope) => {
          const port = await httpServer(scope, version, '127.0.0.1');
          const transport = await socketTo(scope, port);
          const pieces: Uint8Array[] = [];
          const sink = (bytes: Uint8Array) => {
            pieces.push(Uint8Array.from(bytes));
          };
          const recorder = await browse(transport, { transport, sink });
          expect(recorder.bytes()).toHaveLength(0);
          const packets = dissect(save(scope, Buffer.concat(pieces)));
          expectSound(packets);
          expect(packets.map(({ status }) => status)).toContain('200');
          expect(alertsOf(packets)).toHaveLength(2);
        }),
      );
    });

    test(
      'a reset is RST, from the peer',
      clean(async (scope) => {
        const [client, server] = memoryPair();
        const recorder = new PcapngRecorder();
        const [stream, far] = await Promise.all([
          connect({ transport: client, host: 'localhost', ca: pki().ca, record: recorder }),
          accept(server, { ...pki().server }),
        ]);
        const reading = stream.read();
        client.destroy(Object.assign(new Error('reset'), { code: 'ECONNRESET' }));
        await expect(reading).rejects.toMatchObject({ code: 'ERR_TLS_TRUNCATED' });
        far.abort();
        await stream.close();
        await stream.closed;
        const packets = dissect(save(scope, recorder.bytes()));
        expect(portsWith(packets, 'rst')).toEqual(['443']);
        expect(portsWith(packets, 'fin')).toEqual([]);
        expect(alertsOf(packets)).toEqual([]);
      }),
    );

    test(
      'without secrets: nothing is decrypted',
      clean(async (scope) => {
        const port = await httpServer(scope, 'TLSv1.3', '127.0.0.1');
        const transport = await socketTo(scope, port);
        const recorder = await browse(transport, { transport, secrets: false });
        const packets = dissect(save(scope, recorder.bytes()));
        expectSound(packets);
        expect(packets.filter(({ tls }) => tls).length).toBeGreaterThan(5);
        expect(packets.filter(({ uri, status }) => uri !== '' || status !== '')).toEqual([]);
        expect(alertsOf(packets)).toEqual([]);
      }),
    );

    test(
      'more than is kept: told of as missing, not left out',
      clean(async (scope) => {
        const port = await httpServer(scope, 'TLSv1.3', '127.0.0.1');
        const transport = await socketTo(scope, port);
        const recorder = await browse(transport, { transport, limit: 50_000 });
        expect(recorder.dropped).toBeGreaterThan(0);
        expect(recorder.bytes().length).toBeLessThan(70_000);
        const packets = dissect(save(scope, recorder.bytes()));
        expect(packets.filter(({ checksum }) => checksum === 'bad')).toEqual([]);
        // Half a conversation without an alert must not pass for one that had none.
        expect(alertsOf(packets)).toEqual([]);
        expect(packets.filter(({ cut }) => cut).length).toBeGreaterThan(0);
        expect(packets.filter(({ lost }) => lost).length).toBeGreaterThan(0);
        expect(portsWith(packets, 'fin')).toHaveLength(2);
      }),
    );
  });

  test(
    'large writes: packets of at most 65,535 bytes',
    clean(async (scope) => {
      const { bytes } = await recorded(scope, 'TLSv1.3', 'secure', pattern(1_000_000));
      const lengths = framesOf(bytes).map((frame) => frame.originalLength);
      expect(Math.max(...lengths)).toBeLessThanOrEqual(65_535);
      expect(lengths.reduce((sum, one) => sum + one, 0)).toBeGreaterThan(1_000_000);
    }),
  );

  test('without a connection: a file without packets', () => {
    const survey = surveyCapture([new PcapngRecorder().bytes()], new KeyLog());
    expect(survey).toMatchObject({ packets: 0, cutShort: false });
  });

  test('a limit that is no number of bytes is refused', () => {
    for (const limit of [-1, 1.5, Number.NaN]) {
      expect(() => new PcapngRecorder({ limit })).toThrow(RangeError);
    }
  });
});

describe('addresses', () => {
  test.each([
    ['127.0.0.1', '7f000001'],
    ['::ffff:192.0.2.7', 'c0000207'],
    ['::1', '00000000000000000000000000000001'],
    ['2001:db8::a:1', '20010db80000000000000000000a0001'],
    ['fe80::1%eth0', 'fe800000000000000000000000000001'],
    ['::', '00000000000000000000000000000000'],
  ])('%s', (text, hex) => {
    expect(Buffer.from(addressBytes(text) ?? []).toString('hex')).toBe(hex);
  });

  test('what is none', () => {
    for (const text of [undefined, '', 'example.org', '1.2.3', '::1::']) {
      expect(addressBytes(text)).toBeNull();
    }
  });
});
