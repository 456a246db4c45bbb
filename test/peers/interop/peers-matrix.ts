/**
 * Who ends a connection with us, how, and what we make of it: every ending against every peer that can
 * play it, in both TLS versions.
 */
import { once } from 'node:events';
import net, { type AddressInfo } from 'node:net';
import { setImmediate as turn } from 'node:timers/promises';
import {
  accept,
  type Closure,
  connect,
  type Observation,
  type TlsStream,
} from '../../../src/index.ts';
import { testPki } from '../../support/interop-pki.ts';
import { begun, optionsFor } from './pair.ts';
import { type Handshake, outcome, TEXT, TLS_VERSIONS, type TlsVersion } from './party.ts';
import {
  CurlPeer,
  GnutlsCli,
  GnutlsServ,
  NginxPeer,
  NginxProxy,
  type PeerParty,
  type PeerPlace,
  PythonPeer,
  StunnelPeer,
  unreadByPeer,
} from './peers-parties.ts';

/** The endings, by name, with what they are. */
export const ENDINGS = {
  'peer-closes': 'The peer closes first, properly; we read to the end, then shut down',
  'we-close': 'We shut down and wait for the answer',
  'we-leave': 'We send close_notify and close without waiting',
  unread: 'The peer has sent data that we have not read; we shut down and wait',
  fin: 'The peer is killed: a bare FIN',
  reset: 'The peer is killed with data unread: RST',
  silent: 'The peer never answers our shutdown',
  'we-cut': 'We drop the transport without close_notify: a bare FIN to the peer',
} as const;
export type Ending = keyof typeof ENDINGS;

/** The peers, by the name of their program. */
export const PEERS = {
  curl: { label: 'curl', roles: ['client'], make: CurlPeer },
  'gnutls-cli': { label: 'gnutls-cli', roles: ['client'], make: GnutlsCli },
  'gnutls-serv': { label: 'gnutls-serv', roles: ['server'], make: GnutlsServ },
  nginx: { label: 'nginx', roles: ['server'], make: NginxPeer },
  'nginx-proxy': { label: 'nginx as a proxy', roles: ['client'], make: NginxProxy },
  python: { label: 'Python ssl', roles: ['client', 'server'], make: PythonPeer },
  stunnel: { label: 'stunnel', roles: ['client', 'server'], make: StunnelPeer },
} as const satisfies Record<
  string,
  { label: string; roles: readonly Handshake[]; make: new (place: PeerPlace) => PeerParty }
>;
export type MatrixPeer = keyof typeof PEERS;

/** One run. */
export interface MatrixCase {
  readonly peer: MatrixPeer;
  readonly ending: Ending;
  /** The peer's role in the handshake. */
  readonly role: Handshake;
  readonly tls: TlsVersion;
}

/** What came out at our side, and what the peer said. */
export interface MatrixResult {
  /** Our calls, in order, with what they gave. */
  readonly calls: readonly string[];
  readonly closure: Closure;
  readonly said: string | null;
}

/** All runs against a peer. */
export function casesOf(peer: MatrixPeer): MatrixCase[] {
  const endings = Object.keys(ENDINGS) as Ending[];
  return endings.flatMap((ending) =>
    PEERS[peer].roles.flatMap((role) => TLS_VERSIONS.map((tls) => ({ peer, ending, role, tls }))),
  );
}

export const titleOf = ({ peer, ending, role, tls }: MatrixCase): string =>
  `${ENDINGS[ending]} (${PEERS[peer].label} as TLS ${tls} ${role})`;

/** Only who never answers has it: it is what ends that run. */
const SHORT_DEADLINE = 100;

/** Longer than any run takes: it only keeps one that hangs from outliving its test. */
const HANGS = 20_000;

/** Plays one. Whatever happens, no process and no socket is left. */
export async function play(one: MatrixCase): Promise<MatrixResult> {
  const { peer, ending, role, tls } = one;
  const party = new PEERS[peer].make({ role, ending, pki: await testPki() });
  if (party instanceof PythonPeer) party.version = tls;
  const seen: Observation[] = [];
  let transport: net.Socket | null = null;
  let step = 'handshake';
  let timer: NodeJS.Timeout | undefined;
  const hang = new Promise<never>((_, reject) => {
    timer = setTimeout(() => {
      const output = party.running.output.slice(-2_000);
      reject(new Error(`${titleOf(one)}: hangs at '${step}'\n${JSON.stringify(seen)}\n${output}`));
    }, HANGS);
  });
  const run = async (): Promise<MatrixResult> => {
    const met = await meet(party, one, seen, (socket) => {
      transport = socket;
    });
    const { stream, socket } = met;
    step = 'greeting';
    await party.greet(stream);
    step = ending;
    const calls = await end(party, ending, stream, socket, seen);
    step = 'what the peer says';
    const killed = ending === 'fin' || ending === 'reset' || ending === 'silent';
    return { calls, closure: stream.closure, said: killed ? null : await party.said() };
  };
  try {
    return await Promise.race([run(), hang]);
  } finally {
    clearTimeout(timer);
    await party.dispose();
    (transport as net.Socket | null)?.on('error', () => {}).destroy();
  }
}

async function meet(
  party: PeerParty,
  { role, tls }: MatrixCase,
  seen: Observation[],
  opened: (socket: net.Socket) => void,
): Promise<{ stream: TlsStream; socket: net.Socket }> {
  const options = await optionsFor(tls);
  const common = {
    record: { observe: (one: Observation) => void seen.push(one) },
    deadlines: { shutdown: Number.POSITIVE_INFINITY, close: 60_000 },
  };
  if (role === 'server') {
    const port = await party.listen();
    const socket = net.connect({ port, host: '127.0.0.1', noDelay: true });
    opened(socket);
    await once(socket, 'connect');
    return { stream: await connect({ ...options.client, ...common, transport: socket }), socket };
  }
  const listener = net.createServer({ noDelay: true });
  try {
    listener.listen(0, '127.0.0.1');
    await once(listener, 'listening');
    await party.connect((listener.address() as AddressInfo).port);
    const [socket] = (await once(listener, 'connection')) as [net.Socket];
    opened(socket);
    return { stream: await accept(socket, { ...options.server, ...common }), socket };
  } finally {
    listener.close();
  }
}

/** Plays the ending, and gives what our calls gave. */
async function end(
  party: PeerParty,
  ending: Ending,
  stream: TlsStream,
  socket: net.Socket,
  seen: readonly Observation[],
): Promise<string[]> {
  const shutdown = async (deadline?: number) =>
    `shutdown: ${await outcome(stream.shutdown({ deadline }).then(({ verdict }) => verdict))}`;
  const read = async () => {
    const bytes = await stream.read();
    return bytes === null ? 'end' : Buffer.from(bytes).toString();
  };
  /** Reads to the end, whatever that is. */
  const drain = async () => {
    for (;;) {
      const gave = await outcome(read());
      if (gave === 'end' || gave.startsWith('ERR_')) return `read: ${gave}`;
    }
  };
  switch (ending) {
    case 'peer-closes': {
      await party.close(stream);
      const calls = [await drain(), await shutdown()];
      await stream.close();
      return calls;
    }
    case 'we-close': {
      const closing = begun(shutdown());
      await party.react();
      const calls = [await closing];
      await stream.close();
      return calls;
    }
    case 'we-leave': {
      const closing = begun(stream.close({ wait: false }));
      await party.react();
      return [`close: ${(await closing).verdict}`];
    }
    case 'unread': {
      const before = seen.length;
      await party.write(stream);
      await until(() => seen.slice(before).some(isText));
      const closing = begun(shutdown());
      await party.react();
      const calls = [
        await closing,
        `read: ${(await read()).includes(TEXT) ? 'the data' : 'not all'}`,
      ];
      calls.push(`read: ${await outcome(read())}`);
      await stream.close();
      return calls;
    }
    case 'fin':
      await until(() => unreadByPeer(socket) === 0);
      await party.running.kill();
      return [await drain()];
    case 'reset':
      await party.running.freeze();
      await stream.write('nobody reads this');
      await until(() => (unreadByPeer(socket) ?? 0) > 0);
      await party.running.kill();
      return [await drain()];
    case 'silent':
      await party.running.freeze();
      return [await shutdown(SHORT_DEADLINE)];
    case 'we-cut':
      await until(() => unreadByPeer(socket) === 0);
      stream.abort();
      await party.react();
      return ['abort'];
  }
}

/** Whether this is the record that holds `TEXT`, and perhaps some framing of HTTP. */
const isText = (one: Observation): boolean =>
  one.type === 'record' &&
  one.direction === 'received' &&
  one.contentType === 23 &&
  one.length >= TEXT.length;

async function until(holds: () => boolean): Promise<void> {
  while (!holds()) await turn();
}
