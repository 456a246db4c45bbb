/** Wireshark's tools and tcpdump: a missing one skips its tests by name, or fails with REQUIRE_PEERS=1. */
import { execFileSync, spawnSync } from 'node:child_process';
import dgram from 'node:dgram';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'vitest';
import { pki } from './core-pki.ts';
import { type Scope, until } from './core-scope.ts';
import type { Version } from './core-streams.ts';
import { PeerProcess } from './interop-process.ts';

const found = (command: string): boolean =>
  !spawnSync(command, ['--version'], { stdio: 'ignore' }).error;

/** Reading the loopback interface is for root. */
const isRoot = process.getuid?.() === 0;

const TOOLS = {
  tshark: { label: 'tshark', there: found('tshark') },
  editcap: { label: 'editcap (wireshark-common)', there: found('editcap') },
  tcpdump: { label: 'tcpdump, as root', there: isRoot && found('tcpdump') },
  dumpcap: { label: 'dumpcap (wireshark-common), as root', there: isRoot && found('dumpcap') },
} as const;

export type Tool = keyof typeof TOOLS;

/** `describe` for tests that need these tools. */
export function describeTools(tools: readonly Tool[], name: string, body: () => void): void {
  const missing = tools.filter((tool) => !TOOLS[tool].there).map((tool) => TOOLS[tool].label);
  if (missing.length === 0) {
    describe(name, body);
    return;
  }
  const what = missing.join(' and ');
  describe(name, () => {
    test.skipIf(process.env['REQUIRE_PEERS'] !== '1')(`needs ${what}`, () => {
      throw new Error(`${what} is missing, and REQUIRE_PEERS=1 asks for all peers`);
    });
  });
}

/** A folder that is gone after the test. */
export function folder(scope: Scope): string {
  const path = mkdtempSync(join(tmpdir(), 'close-notify-capture-'));
  scope.defer(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

/** A packet as tshark's dissectors read it, every checksum checked. What it lacks is ''. */
export interface Dissected {
  readonly source: string;
  readonly sourcePort: string;
  readonly flags: { readonly syn: boolean; readonly fin: boolean; readonly rst: boolean };
  /** Whether tshark warns of anything: a bad checksum, something malformed, a gap, a repetition. */
  readonly warns: boolean;
  readonly checksum: 'good' | 'bad' | '';
  /** Level and description of each alert that it could read. */
  readonly alerts: readonly string[];
  readonly uri: string;
  readonly status: string;
  readonly tls: boolean;
  readonly lost: boolean;
  readonly cut: boolean;
}

const FIELDS = [
  ...['ip.src', 'ipv6.src', 'tcp.srcport', 'tcp.flags.syn', 'tcp.flags.fin', 'tcp.flags.reset'],
  ...['_ws.expert.severity', '_ws.malformed', 'tcp.checksum.status'],
  ...['tls.alert_message.level', 'tls.alert_message.desc', 'http.request.uri'],
  ...['http.response.code', 'tls.record.version', 'tcp.analysis.lost_segment'],
  ...['frame.cap_len', 'frame.len'],
];

/** Severities of tshark's remarks (epan/proto.h). */
const WARNING = 0x600000;

/** What tshark reads in a file, packet by packet. */
export function dissect(file: string): Dissected[] {
  const checks = ['tcp', 'ip'].flatMap((one) => ['-o', `${one}.check_checksum:TRUE`]);
  const fields = FIELDS.flatMap((field) => ['-e', field]);
  const output = execFileSync('tshark', ['-r', file, ...checks, '-T', 'fields', ...fields], {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'ignore'],
    maxBuffer: 1 << 26,
  });
  return output
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => {
      const value = new Map(line.split('\t').map((text, i) => [FIELDS[i] as string, text]));
      const get = (field: string) => value.get(field) ?? '';
      const list = (field: string) =>
        get(field)
          .split(',')
          .filter((one) => one !== '');
      const descriptions = list('tls.alert_message.desc');
      return {
        source: get('ip.src') || get('ipv6.src'),
        sourcePort: get('tcp.srcport'),
        flags: {
          syn: get('tcp.flags.syn') === '1',
          fin: get('tcp.flags.fin') === '1',
          rst: get('tcp.flags.reset') === '1',
        },
        warns:
          get('_ws.malformed') !== '' ||
          list('_ws.expert.severity').some((severity) => Number(severity) >= WARNING),
        checksum: ({ '0': 'bad', '1': 'good' } as const)[get('tcp.checksum.status')] ?? '',
        alerts: list('tls.alert_message.level').map((level, i) => `${level}/${descriptions[i]}`),
        uri: get('http.request.uri'),
        status: get('http.response.code'),
        tls: get('tls.record.version') !== '',
        lost: get('tcp.analysis.lost_segment') !== '',
        cut: get('frame.cap_len') !== get('frame.len'),
      };
    });
}

export interface LiveCapture {
  /** What the capturing program wrote. */
  readonly file: string;
  /** What `s_client -keylogfile` wrote. */
  readonly keylog: string;
}

/** How the connection of a live capture ends: by s_client's `Q`, or by its server's death. */
export type LiveEnding = 'closed' | 'truncated' | 'reset';

/**
 * OpenSSL's client and server talk on loopback, and a program that is not ours captures it. On a busy
 * machine tcpdump loses a packet now and then; where tshark sees that one is missing, they talk again.
 */
export async function captureLive(
  ...conversation: Parameters<typeof captureOnce>
): Promise<LiveCapture> {
  for (let again = 4; ; again--) {
    const captured = await captureOnce(...conversation);
    if (again === 0 || !TOOLS.tshark.there || !lacksPackets(captured.file)) return captured;
  }
}

/** Whether tshark sees that packets are missing. The file may still be written to. */
function lacksPackets(file: string): boolean {
  const missing = 'tcp.analysis.lost_segment || tcp.analysis.ack_lost_segment';
  return spawnSync('tshark', ['-r', file, '-Y', missing], { encoding: 'utf8' }).stdout !== '';
}

async function captureOnce(
  scope: Scope,
  version: Version,
  ending: LiveEnding,
  capture: (port: number, file: string) => readonly [string, ...string[]],
): Promise<LiveCapture> {
  const path = folder(scope);
  const [file, keylog] = [join(path, 'capture'), join(path, 'keys')];
  writeFileSync(join(path, 'cert.pem'), pki().server.cert);
  writeFileSync(join(path, 'key.pem'), pki().server.key);
  const tls = version === 'TLSv1.2' ? '-tls1_2' : '-tls1_3';
  const server = new PeerProcess('openssl', [
    ...['s_server', '-accept', '127.0.0.1:0', '-naccept', '1', tls],
    ...['-cert', join(path, 'cert.pem'), '-key', join(path, 'key.pem')],
  ]);
  scope.defer(() => server.kill());
  const port = Number(await server.until((output) => /^ACCEPT .*:(\d+)$/m.exec(output)?.[1]));
  const [command, ...args] = capture(port, file);
  const capturer = new PeerProcess(command, args);
  scope.defer(() => capturer.kill());
  await marked(file, port, capturer);
  const client = new PeerProcess('openssl', [
    ...['s_client', '-connect', `127.0.0.1:${port}`, tls, '-keylogfile', keylog],
  ]);
  scope.defer(() => client.kill());
  scope.peersStay();
  await client.until((output) => /Verify return code/.exec(output));
  client.send('hello');
  await server.until((output) => /^hello$/m.exec(output));
  if (ending === 'closed') client.send('Q');
  if (ending === 'truncated') await server.kill();
  if (ending === 'reset') {
    // A process that dies with bytes unread: its kernel sends RST instead of FIN.
    await server.freeze();
    client.send('nobody reads this');
    await until('bytes wait at the server', () => unread(port));
    await server.kill();
  }
  await client.ended();
  await server.ended();
  await marked(file, port, capturer);
  return { file, keylog };
}

let marks = 0;

/** Sends datagrams to the port until one is in the file: all that came before it is, then. */
async function marked(file: string, port: number, capturer: PeerProcess): Promise<void> {
  const mark = Buffer.from(`mark ${marks++} of the test`);
  const socket = dgram.createSocket('udp4');
  try {
    await until('the capture has the mark', () => {
      if (capturer.exit !== null) throw new Error(`${capturer.exit}: ${capturer.output}`);
      // Nobody listens, which the next datagram of a connected socket would tell; this one is not.
      socket.send(mark, port, '127.0.0.1');
      return existsSync(file) && readFileSync(file).includes(mark);
    });
  } finally {
    await new Promise<void>((resolve) => socket.close(() => resolve()));
  }
}

/** Whether bytes wait in the kernel for who holds this port of 127.0.0.1 (Linux). */
function unread(port: number): boolean {
  const local = `0100007F:${port.toString(16).toUpperCase().padStart(4, '0')}`;
  return readFileSync('/proc/net/tcp', 'utf8')
    .split('\n')
    .map((line) => line.trim().split(/\s+/))
    .some(([, from, , state, queues]) => {
      const established = from === local && state === '01';
      return established && Number.parseInt(queues?.split(':')[1] ?? '0', 16) > 0;
    });
}
