/**
 * One TLS conversation between two streams of this package, over a wire that somebody may tamper with,
 * and what each party made of it.
 *
 * Theory of operation. A conversation is not replayed: TLS answers no recorded bytes. It is held again for
 * each place on the wire, with the same words, and judged by its own facts: what each party really
 * wrote, how much of it the wire let through, and what the other one said of it in the end. Handshakes
 * are what this costs, so contexts are made once, and most conversations resume a session.
 */
import { setImmediate as turn } from 'node:timers/promises';
import tls from 'node:tls';
import { WireDecoder } from '../../src/record/decoder.ts';
import { parseKeyLogLine } from '../../src/record/keys.ts';
import { HEADER_LENGTH, RecordScanner } from '../../src/record/record.ts';
import {
  type AcceptOptions,
  accept,
  type ConnectOptions,
  connect,
} from '../../src/stream/connect.ts';
import type { TlsStream } from '../../src/stream/tls-stream.ts';
import {
  type Channel,
  type ChannelOptions,
  channel,
  type Line,
  selfSigned,
  type Version,
} from '../../src/testing/index.ts';

/** What is said in a conversation, and how it is closed. */
export interface Script {
  readonly name: string;
  readonly version: Version;
  /** As `tls.connect` takes it in `ciphers`. */
  readonly suite: string;
  readonly resumed: boolean;
  /** Sizes of the writes of each party, each in a turn of its own. */
  readonly client: readonly number[];
  readonly server: readonly number[];
  /** Who sends close_notify first, once it has read all that the other one says. */
  readonly closes: Side;
  /** Who says nothing before it has read all that the other one says; neither by default. */
  readonly answers?: Side;
}

export type Side = 'client' | 'server';

/** What a party made of it. */
export interface Seen {
  /** What it was given to read. */
  readonly bytes: Buffer;
  /** Whether it was told that this was all: `read` gave null, the closure or the verdict says so. */
  readonly clean: boolean;
  readonly verdict: string;
  /** Whether it sent close_notify. */
  readonly closed: boolean;
  /** What it threw first; null if nothing. */
  readonly error: Error | null;
}

/** A finished conversation. */
export interface Told {
  readonly client: Seen;
  readonly server: Seen;
  /** Set when somebody still waited when the time was over. */
  readonly hang: boolean;
}

/** What stays the same in all conversations of a script. */
export interface Stage {
  readonly script: Script;
  readonly connect: ConnectOptions;
  readonly accept: AcceptOptions;
  readonly says: Readonly<Record<Side, readonly Buffer[]>>;
}

/** How long a conversation may take, in milliseconds, before it counts as hung. */
const HANG = 10_000;

/** What the server of every conversation shows, and its client trusts. */
export const CREDENTIALS = selfSigned();

export const SIDES: readonly Side[] = ['client', 'server'];

/** The other party. */
export const otherSide = (side: Side): Side => (side === 'client' ? 'server' : 'client');

/** The line that carries what `side` sends, of a channel with the client at its first end. */
export const lineOf = (wire: Channel, side: Side): Line =>
  side === 'client' ? wire.forth : wire.back;

/** Bytes of which no two stretches look alike. */
export function words(size: number, seed: number): Buffer {
  const bytes = Buffer.alloc(size);
  for (let i = 0, state = seed + 1; i < size; i++) {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0;
    bytes[i] = state >>> 16;
  }
  return bytes;
}

/** Makes the contexts, and the session where one is to be resumed. */
export async function prepare(script: Script): Promise<Stage> {
  const { key, cert, ca, servername } = CREDENTIALS;
  const common = {
    minVersion: script.version,
    maxVersion: script.version,
    ciphers: script.suite,
    ecdhCurve: 'prime256v1',
  } as const;
  const deadlines = { handshake: 2 * HANG, shutdown: 2 * HANG, close: 2 * HANG };
  const stage: Stage = {
    script,
    connect: {
      servername,
      secureContext: tls.createSecureContext({ ...common, ca }),
      ...common,
      deadlines,
    },
    // A session that expired in the middle would make other conversations of the rest.
    accept: { ...common, key, cert, deadlines, sessionTimeout: 86_400 },
    says: {
      client: script.client.map((size, index) => words(size, index)),
      server: script.server.map((size, index) => words(size, 1_000 + index)),
    },
  };
  if (!script.resumed) return stage;
  const session = await sessionOf(stage);
  return { ...stage, connect: { ...stage.connect, session: Buffer.from(session) } };
}

async function sessionOf(stage: Stage): Promise<Uint8Array> {
  using wire = channel();
  const accepting = accept(wire.ends[1], stage.accept);
  let session: Uint8Array | null = null;
  const client = await connect({
    ...stage.connect,
    transport: wire.ends[0],
    onSession(given) {
      session ??= given;
    },
  });
  const server = await accepting;
  await server.write('x');
  // Behind the tickets, which come with the end of the server's handshake.
  await client.read();
  if (session === null) throw new Error('no session was given');
  client.abort();
  server.abort();
  return session;
}

/** Holds the conversation, over the two ends of a wire. */
export async function converse(
  stage: Stage,
  ends: {
    readonly client: ConnectOptions['transport'];
    readonly server: Parameters<typeof accept>[0];
  },
): Promise<Told> {
  const streams = new Set<TlsStream>();
  const { transport: _, ...options } = stage.connect;
  const open = (opening: Promise<TlsStream>, side: Side) =>
    party(
      opening.then((stream) => {
        streams.add(stream);
        return stream;
      }),
      stage,
      side,
    );
  const parties = Promise.all([
    open(connect({ ...options, transport: ends.client }), 'client'),
    open(accept(ends.server, stage.accept), 'server'),
  ]);
  let timer: NodeJS.Timeout | undefined;
  const overtime = new Promise<null>((resolve) => {
    timer = setTimeout(resolve, HANG, null);
  });
  const seen = await Promise.race([parties, overtime]);
  clearTimeout(timer);
  if (seen !== null) return { client: seen[0], server: seen[1], hang: false };
  for (const stream of streams) stream.abort();
  ends.client?.destroy();
  ends.server.destroy();
  const [client, server] = await parties;
  return { client, server, hang: true };
}

/** One party's part. What goes wrong ends it, and is told. */
export async function party(opening: Promise<TlsStream>, stage: Stage, side: Side): Promise<Seen> {
  const pieces: Uint8Array[] = [];
  let ended = false;
  let error: Error | null = null;
  let stream: TlsStream;
  try {
    stream = await opening;
  } catch (cause) {
    const verdict = (cause as { closure?: { verdict: string } }).closure?.verdict ?? 'none';
    return {
      bytes: Buffer.alloc(0),
      clean: verdict === 'secure',
      verdict,
      closed: false,
      error: cause as Error,
    };
  }
  const first = stage.script.closes === side;
  const wanted = total(stage.says[otherSide(side)]);
  let tellHeard: () => void = () => {};
  const heard = new Promise<void>((resolve) => {
    tellHeard = resolve;
  });
  const speaking = (async () => {
    if (stage.script.answers === side) await heard;
    for (const words of stage.says[side]) {
      await stream.write(words);
      await turn();
    }
  })();
  // Told below, where reading fails first.
  speaking.catch(() => {});
  try {
    let have = 0;
    while (!first || have < wanted) {
      const bytes = await stream.read();
      if (bytes === null) {
        ended = true;
        break;
      }
      pieces.push(bytes);
      have += bytes.length;
      if (have >= wanted) tellHeard();
    }
    tellHeard();
    await speaking;
    await stream.shutdown();
    while (!ended) {
      const bytes = await stream.read();
      if (bytes === null) ended = true;
      else pieces.push(bytes);
    }
    await stream.close();
  } catch (cause) {
    error = cause as Error;
    stream.abort();
  }
  const { verdict, receive, sent } = stream.closure;
  return {
    bytes: Buffer.concat(pieces),
    clean: ended || receive === 'closed' || verdict === 'secure',
    verdict,
    closed: sent !== null,
    error,
  };
}

export const total = (pieces: readonly Uint8Array[]): number =>
  pieces.reduce((sum, { length }) => sum + length, 0);

/** A record on the wire. */
export interface Framed {
  readonly from: number;
  /** Behind its last byte. */
  readonly to: number;
  readonly type: number;
}

/** The records of a direction. */
export function framesOf(sent: Uint8Array): Framed[] {
  const frames: Framed[] = [];
  let from = 0;
  const scanner = new RecordScanner((type, length) => {
    const to = from + HEADER_LENGTH + length;
    frames.push({ from, to, type });
    from = to;
  });
  for (let at = 0; at < sent.length; ) at = scanner.take(sent, at);
  return frames;
}

/** One whole conversation, as it crossed the wire. */
export interface Model {
  readonly stage: Stage;
  readonly sent: Readonly<Record<Side, Buffer>>;
  readonly frames: Readonly<Record<Side, readonly Framed[]>>;
  /** Records that were in the clear, by their index. */
  readonly clear: Readonly<Record<Side, ReadonlySet<number>>>;
  /** Lines of its key log. */
  readonly secrets: readonly string[];
}

/**
 * Holds the conversation once, untouched, and reads it with its own keys.
 *
 * @throws {Error} unless it is whole: both verdicts secure, all bytes there, and the last record of each
 *   direction an authenticated close_notify.
 */
export async function model(stage: Stage, options?: ChannelOptions): Promise<Model> {
  using wire = channel(options);
  const secrets: string[] = [];
  const record = {
    observe() {},
    onSecret: (line: string) => secrets.push(line),
  };
  const told = await converse(
    { ...stage, connect: { ...stage.connect, record } },
    { client: wire.ends[0], server: wire.ends[1] },
  );
  const { name } = stage.script;
  for (const side of ['client', 'server'] as const) {
    const seen = told[side];
    const whole = Buffer.concat(stage.says[otherSide(side)]);
    if (seen.verdict !== 'secure' || !seen.bytes.equals(whole)) {
      throw new Error(`${name}: untouched, and the ${side} has ${seen.verdict}`, {
        cause: seen.error,
      });
    }
  }
  const sent = { client: wire.forth.sent, server: wire.back.sent };
  const clear = { client: new Set<number>(), server: new Set<number>() };
  const count = { client: 0, server: 0 };
  const last: Record<Side, string> = { client: '', server: '' };
  const decoder = new WireDecoder((decoded) => {
    const { sender } = decoded;
    if (decoded.type === 'record') {
      if (!decoded.protected) clear[sender].add(count[sender]);
      count[sender]++;
      last[sender] = '';
    } else if (decoded.type === 'alert') {
      last[sender] = `${decoded.alert.name} ${decoded.authenticated}`;
    } else if (decoded.type === 'unreadable') {
      throw new Error(`${name}: ${sender}: ${decoded.reason}`);
    }
  });
  for (const line of secrets) {
    const entry = parseKeyLogLine(line);
    if (entry !== null) decoder.addSecret(entry);
  }
  decoder.push('client', sent.client);
  decoder.push('server', sent.server);
  for (const side of ['client', 'server'] as const) {
    if (last[side] !== 'close_notify true') {
      throw new Error(`${name}: the last record of the ${side} is no close_notify`);
    }
  }
  return {
    stage,
    sent,
    frames: { client: framesOf(sent.client), server: framesOf(sent.server) },
    clear,
    secrets,
  };
}
