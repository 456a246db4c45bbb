/**
 * Rows of the streams: a program that reads a TlsStream in one of its ways and acts when the first data comes,
 * while a crafted peer plays an ending; and the judge of what it saw.
 *
 * A stream acts for its caller, so less is open than with a socket: `read` gives null for close_notify alone,
 * rejects for everything else, behind all bytes that came, and says the same when it is asked again.
 */
import { once } from 'node:events';
import net from 'node:net';
import type { Duplex } from 'node:stream';
import { setImmediate as turn } from 'node:timers/promises';
import { accept, type Closure, connect, type TlsStream } from '../../src/index.ts';
import {
  ALERTS,
  CUT,
  ENDINGS,
  EXPECTED,
  endingOf,
  SPLIT,
  TICKETS,
} from '../../test/behaviour/verdicts/catalogue.ts';
import { CraftedPeer, type Version } from '../../test/behaviour/verdicts/crafted-peer.ts';
import { duplexOver, type Env } from '../../test/behaviour/verdicts/env.ts';
import type { Fault, FaultKind } from '../../test/behaviour/verdicts/judge.ts';
import { truthOf } from '../../test/behaviour/verdicts/judge.ts';
import { bytesOf, inShort, WHEN } from '../../test/behaviour/verdicts/program.ts';
import { Random } from '../../test/support/random.ts';

const FACES = ['tcp', 'unix', 'duplex', 'server', 'server duplex'] as const;

/** To add a way to read, give it a case in `read`, below. */
const READS = [
  'read()',
  'read(), late',
  'for await',
  'readable',
  "toDuplex(), 'data'",
  'toDuplex(), for await',
] as const;

const ACTS = [
  'nothing',
  'write()',
  'shutdown()',
  'shutdown({ wait: false })',
  'close()',
  'abort()',
  'throw',
] as const;

export interface StreamRow {
  readonly ending: string;
  readonly version: Version;
  readonly face: (typeof FACES)[number];
  readonly read: (typeof READS)[number];
  readonly act: (typeof ACTS)[number];
  readonly when: (typeof WHEN)[number];
}

const POOLS = [
  ...Array.from({ length: 7 }, () => Object.keys({ ...ENDINGS, ...TICKETS })),
  ...[SPLIT, CUT, ALERTS].map((family) => Object.keys(family)),
];

/** The n-th row of a seed, by itself. */
export function streamRowOf(seed: number, n: number): StreamRow {
  const random = Random.for(seed, `stream ${n}`);
  for (;;) {
    const row: StreamRow = {
      ending: random.of(random.of(POOLS)),
      version: random.of(['TLSv1.2', 'TLSv1.3']),
      face: random.of(FACES),
      read: random.of(READS),
      act: random.of(ACTS),
      when: random.of(WHEN),
    };
    const { only, truth } = endingOf(row.ending);
    if (only !== undefined && only !== row.version) continue;
    if (row.ending in TICKETS && row.face.startsWith('server')) continue;
    if (truth === 'reset' && row.face === 'unix') continue;
    // Only a loop has somebody to throw at.
    if (row.act === 'throw' && (row.read !== 'for await' || row.when !== 'now')) continue;
    return row;
  }
}

export const describeStreamRow = ({ version, face, read, act, when }: StreamRow): string =>
  [version, face, read, act === 'nothing' ? act : `${act} ${when}`].join(', ');

export interface StreamOutcome {
  readonly row: StreamRow;
  readonly bytes: number;
  readonly asSent: boolean;
  /** How reading ended: 'end', the code of its error; null where it never did. */
  readonly ended: string | null;
  /** The same, asked again; null where that cannot be asked. */
  readonly again: string | null;
  readonly closure: Closure;
  /** Whether all is over: the stream closed. */
  readonly closed: boolean;
  readonly acted: boolean;
  readonly said: readonly string[];
  readonly heard: readonly string[];
}

/** Milliseconds until a wait counts as hanging. */
const LIMIT = 6_000;

async function within<T>(work: Promise<T>): Promise<T | 'hang'> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<'hang'>((resolve) => {
    timer = setTimeout(resolve, LIMIT, 'hang');
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}

async function open(
  env: Env,
  { face, version }: StreamRow,
): Promise<{ stream: TlsStream; peer: CraftedPeer }> {
  const { key, cert } = env.identity;
  const common = {
    minVersion: version,
    maxVersion: version,
    // None of them is to decide anything, but that nobody waits for ever for a peer that stays.
    deadlines: { close: 1_000, shutdown: 1_000 },
  };
  const front = net.createServer({ allowHalfOpen: true });
  const at = await env.listen(front, face === 'unix');
  const accepted = once(front, 'connection') as Promise<[net.Socket]>;
  const far = net.connect({ ...at, host: '127.0.0.1', allowHalfOpen: true });
  const [near] = await accepted;
  const isServer = face.startsWith('server');
  const transport: Duplex = face.endsWith('duplex') ? duplexOver(near) : near;
  const identity = { key, cert };
  const role = isServer ? 'client' : 'server';
  const peer = new CraftedPeer(far, { role, version, ...(isServer ? {} : { identity }) });
  env.defer(() => {
    peer.destroy();
    near.destroy();
  });
  const opening = isServer
    ? accept(transport, { ...common, key, cert })
    : connect({ ...common, transport, rejectUnauthorized: false });
  // It is told below; nobody is to miss it until then.
  opening.catch(() => {});
  await peer.ready;
  return { stream: await opening, peer };
}

export async function runStream(env: Env, row: StreamRow): Promise<StreamOutcome> {
  const { stream, peer } = await open(env, row);
  const start = peer.said.length;
  const heardStart = peer.heard.length;
  const chunks: Buffer[] = [];
  let bytes = 0;
  let acted = false;
  let over = false;
  const doings: Promise<unknown>[] = [];
  /** What an act rejects with, reading is told, too. */
  const meanwhile = (doing: Promise<unknown>) => void doings.push(doing.catch(() => {}));
  const took = (chunk: Uint8Array) => {
    chunks.push(Buffer.from(chunk));
    bytes += chunk.length;
    if (acted) return;
    acted = true;
    const act = () => {
      if (row.act === 'write()') meanwhile(writeTo(stream, row.read));
      else if (row.act === 'shutdown()') meanwhile(stream.shutdown());
      else if (row.act === 'shutdown({ wait: false })') meanwhile(stream.shutdown({ wait: false }));
      else if (row.act === 'close()') meanwhile(stream.close());
      else if (row.act === 'abort()') stream.abort();
      else if (row.act === 'throw') throw new Error('thrown on purpose');
    };
    if (row.when === 'now') act();
    else if (row.when === 'a microtask') queueMicrotask(act);
    else if (row.when === 'process.nextTick') process.nextTick(act);
    else setImmediate(act);
  };
  const late = row.read === 'read(), late';
  const begin = () =>
    read(stream, row.read, took).then(
      () => 'end',
      (error: Error & { code?: string }) => error.code ?? error.message,
    );
  let reading = late ? null : begin();
  const playing = Promise.resolve(
    endingOf(row.ending).play({
      peer,
      async later() {
        const sent = bytesOf(peer.said.slice(start), row.version).length;
        for (let i = 0; i < 12 && !over && bytes < sent; i++) await turn();
        await turn();
      },
    }),
  );
  if (late) {
    await playing;
    for (let i = 0; i < 6; i++) await turn();
    reading = begin();
  }
  const ended = await within(reading as Promise<string>);
  over = true;
  await playing;
  let again: string | null = null;
  if (ended !== 'hang' && ['read()', 'read(), late', 'for await'].includes(row.read)) {
    again = await within(
      stream.read().then(
        (more) => (more === null ? 'end' : 'data'),
        (error: Error & { code?: string }) => error.code ?? error.message,
      ),
    );
  }
  await within(Promise.all(doings));
  await within(stream.close().catch(() => {}));
  const closed = (await within(stream.closed)) !== 'hang';
  // What is on its way to the peer arrives.
  for (let i = 0; i < 200 && peer.transportEnd === null; i++) await turn();
  const sent = bytesOf(peer.said.slice(start), row.version);
  const got = Buffer.concat(chunks);
  return {
    row,
    bytes,
    asSent: got.equals(sent.subarray(0, got.length)),
    ended: ended === 'hang' ? null : ended,
    again,
    closure: stream.closure,
    closed,
    acted,
    said: peer.said.slice(start).map(inShort),
    heard: peer.heard.slice(heardStart).map(inShort),
  };
}

/** Writes by the face that reads: the stream's own `write` is not for who has taken another. */
async function writeTo(stream: TlsStream, read: string): Promise<void> {
  if (read === 'readable') await stream.writable.getWriter().write(Buffer.from('answer'));
  else if (read.startsWith('toDuplex')) duplexes.get(stream)?.write('answer');
  else await stream.write('answer');
}

const duplexes = new WeakMap<TlsStream, Duplex>();

async function read(
  stream: TlsStream,
  way: StreamRow['read'],
  took: (chunk: Uint8Array) => void,
): Promise<void> {
  switch (way) {
    case 'read()':
    case 'read(), late':
      for (let chunk = await stream.read(); chunk !== null; chunk = await stream.read())
        took(chunk);
      return;
    case 'for await':
      for await (const chunk of stream) took(chunk);
      return;
    case 'readable':
      for await (const chunk of stream.readable) took(chunk as Uint8Array);
      return;
    default: {
      const duplex = stream.toDuplex();
      duplexes.set(stream, duplex);
      // Told once by who reads; again, perhaps, when the stream is destroyed.
      duplex.on('error', () => {});
      if (way === 'toDuplex(), for await') {
        for await (const chunk of duplex.iterator({ destroyOnReturn: false }))
          took(chunk as Buffer);
        return;
      }
      await new Promise<void>((resolve, reject) => {
        duplex.on('data', took);
        duplex.once('end', resolve);
        duplex.once('error', reject);
        duplex.once('close', () => reject(new Error('closed without an end')));
      });
    }
  }
}

// ---- judging

const CODES = {
  eof: ['ERR_TLS_TRUNCATED'],
  reset: ['ERR_TLS_TRUNCATED'],
  alert: ['ERR_TLS_ALERT'],
  refused: ['ERR_TLS_ALERT'],
} as const;

export function judgeStream(outcome: StreamOutcome): Fault[] {
  const faults: Fault[] = [];
  const fault = (kind: FaultKind, what: string) => void faults.push({ kind, what });
  const { row, ended, again, closure, bytes } = outcome;
  const ending = endingOf(row.ending);
  const { truth: read, code, bytes: due } = truthOf(outcome);
  const truth = read ?? ending.truth;
  const { verdict, received, sent, alert, truncation } = closure;

  // Whatever the program does.
  if (truth !== ending.truth) fault('wrong fact', `the ending is ${truth} on the wire`);
  if (ended === null) fault('hang', 'reading never ended');
  if (again === 'hang') fault('hang', 'reading again never ended');
  if (!outcome.closed) fault('hang', 'the stream never closed');
  if (!outcome.asSent) fault('lost bytes', 'the bytes are not those that were sent');
  if (bytes > due) fault('wrong fact', `${bytes} bytes of ${due}`);
  if (ended === 'end') {
    if (truth !== 'close_notify') fault('missed cut', 'reading ends without close_notify');
    else if (bytes !== due) fault('lost bytes', `the end with ${bytes} bytes of ${due}`);
  }
  if (received !== null && truth !== 'close_notify') {
    fault('missed cut', 'received claims a close_notify');
  }
  if (verdict === 'secure' && (received === null || sent === null)) fault('missed cut', 'secure');
  if (verdict === 'open') fault('wrong fact', 'the verdict is open');
  const crossed = outcome.heard.includes('alert 1/0');
  // What was on its way when the transport was dropped may arrive, and is not claimed.
  if (crossed && sent === null && row.act !== 'abort()')
    fault('wrong fact', 'sent lacks our close_notify');
  if (alert?.direction === 'received' && (truth !== 'alert' || alert.code !== code)) {
    fault('wrong fact', `an alert that did not come: ${alert.code}`);
  }
  // Who has gone himself is told that, or what came before.
  if (['close()', 'abort()', 'throw'].includes(row.act) && outcome.acted) return faults;

  if (again !== null && again !== ended) fault('wrong fact', `read says ${ended}, then ${again}`);
  // The peer's answer is not waited for; the program reads on, and is cut like anyone.
  switch (truth) {
    case 'close_notify':
      if (ended !== 'end') fault('false alarm', `reading fails: ${ended}`);
      if (bytes < due) fault('lost bytes', `${bytes} bytes of ${due}`);
      if (received === null) fault('false alarm', 'received lacks the close_notify');
      if (verdict !== EXPECTED[truth] && verdict !== 'one-sided') {
        fault('false alarm', `the verdict is ${verdict}`);
      }
      break;
    default: {
      // "close_notify [...] the sender will not send any more messages": behind ours no alert can say what we refuse.
      const mute = truth === 'refused' && sent !== null && alert === null;
      const codes: readonly string[] = mute ? ['ERR_TLS_ABORTED'] : CODES[truth];
      if (ended !== null && ended !== 'end' && !codes.includes(ended)) {
        fault('wrong fact', `reading fails by ${ended}`);
      }
      const verdicts: readonly string[] = mute ? ['aborted', 'one-sided'] : [EXPECTED[truth]];
      if (!verdicts.includes(verdict)) fault('wrong fact', `the verdict is ${verdict}`);
      if (truth === 'eof' && truncation?.cause !== 'eof') {
        fault('wrong fact', `the cause is ${truncation?.cause}`);
      }
      // A web stream that fails forgets what is queued.
      if (bytes < due && truth !== 'reset' && row.read !== 'readable') {
        fault('lost bytes', `${bytes} bytes of ${due}`);
      }
    }
  }
  return faults;
}
