/**
 * A program with a strict socket of Node's: in which way it has the socket, reads it, and acts when the first
 * data comes; and what it then saw, while a crafted peer played one of the endings (catalogue.ts).
 */
import { addAbortSignal, Readable, Writable } from 'node:stream';
import type tls from 'node:tls';
import { endingOf, type Stage, TICKETS } from './catalogue.ts';
import type { Version } from './crafted-peer.ts';
import {
  type AnyFace,
  type Env,
  type Facts,
  isServer,
  Thrown,
  turns,
  until,
  Watch,
} from './env.ts';
import type { Crossed } from './wire-reader.ts';

export const READS = [
  "'data'",
  "'readable', read()",
  "'readable', read(3)",
  'for await',
  'pipe to a slow sink',
  'paused, resumed late',
  'onread',
  'highWaterMark 1',
] as const;

/** And more, for who tries very many. */
export const ALL_READS = [...READS, "'data', late", "'readable', late", 'a web stream'] as const;

export const ACTS = [
  'nothing',
  'end()',
  'destroySoon()',
  'pause()',
  'destroy()',
  'throw',
  'write()',
] as const;

/** And more, for who tries very many. */
export const ALL_ACTS = [
  ...ACTS,
  'end(data)',
  'write() and end()',
  'pause() and end()',
  'read()',
  'abort',
] as const;

export const WHEN = ['now', 'a microtask', 'process.nextTick', 'setImmediate'] as const;

/** One conversation. */
export interface Row {
  readonly ending: string;
  readonly version: string;
  readonly face: string;
  readonly read: string;
  readonly act: string;
  readonly when: string;
  readonly allowHalfOpen: string;
}

/** Whether an act ends our side. */
export const endsOurs = (act: string): boolean => act.includes('end(');

/** Whether a row makes sense: some ways to read do not exist everywhere. */
export function valid({ ending, version, face, read, act, when }: Row): boolean {
  const { only, truth } = endingOf(ending);
  if (only !== undefined && only !== version) return false;
  if (ending in TICKETS && isServer(face)) return false;
  // A reset exists on TCP alone.
  if (truth === 'reset' && (face === 'unix' || face === 'tls in tls')) return false;
  // Options of the socket, which a server's connections do not have; Node takes `onread` only where
  // the transport is its own.
  if (read === 'highWaterMark 1' && isServer(face)) return false;
  if (read === 'onread' && (isServer(face) || face === 'duplex' || face === 'tls in tls'))
    return false;
  // Node gives paused streams to those who call pause(); read() and iterators pause by not reading.
  const flows = !["'readable'", 'for await', 'pipe', 'a web'].some((way) => read.startsWith(way));
  if (act.startsWith('pause()') && !flows) return false;
  // A web stream is its socket's only reader.
  if (act === 'read()' && read === 'a web stream') return false;
  // What a listener throws stops a stream that flows from its buffer, whatever else is in there: Node's
  // own sockets stand still, too.
  const { crowded = false } = endingOf(ending);
  if (act === 'throw' && when === 'now' && crowded && read.includes('late')) return false;
  if (act === 'throw' && /^(for await|pipe|a web)/.test(read)) return false;
  return act !== 'nothing' || when === 'now';
}

export const describeRow = ({ version, face, read, act, when, allowHalfOpen }: Row): string =>
  [
    version,
    face,
    read,
    act === 'nothing' ? 'nothing' : `${act} ${when}`,
    ...(allowHalfOpen === 'true' ? ['allowHalfOpen'] : []),
  ].join(', ');

// ---- running

/** What a row came to. */
export interface Outcome extends Facts {
  readonly row: Row;
  /** Whether the bytes are those that were sent, as far as they go. */
  readonly asSent: boolean;
  /** What the peer said behind the handshake, and what it heard. */
  readonly said: readonly string[];
  readonly heard: readonly string[];
  readonly heardEnd: string | null;
  /** Whether the peer played all of the ending. */
  readonly played: boolean;
  /** Whether the program came to act. */
  readonly acted: boolean;
}

export async function run(
  env: Env,
  row: Row,
  mode: 'error' | 'report' = 'error',
): Promise<Outcome> {
  const ending = endingOf(row.ending);
  const version = row.version as Version;
  let watch: Watch | null = null;
  let resume: (() => void) | null = null;
  const onread = {
    buffer: Buffer.alloc(65_536),
    callback: (length: number, buffer: Uint8Array): boolean => {
      took(buffer.subarray(0, length));
      return true;
    },
  };
  const flows = !/^('readable'|for await)/.test(row.read);
  const abort = new AbortController();
  const act = (socket: tls.TLSSocket) => {
    switch (row.act) {
      case 'end()':
        return void socket.end();
      case 'end(data)':
        return void socket.end('answer');
      case 'write() and end()':
        socket.write('answer');
        return void socket.end();
      case 'pause() and end()':
        socket.pause();
        socket.end();
        return void turns(4).then(() => socket.resume());
      case 'read()': {
        const more = socket.read() as Buffer | null;
        // A stream that flows tells its listeners of it, too.
        if (more !== null && !flows) watch!.took(more);
        return;
      }
      case 'abort':
        return abort.abort();
      case 'destroySoon()':
        return void socket.destroySoon();
      case 'destroy()':
        return void socket.destroy();
      case 'write()':
        return void socket.write('answer');
      case 'pause()':
        socket.pause();
        return void turns(4).then(() => socket.resume());
      case 'throw':
        throw new Thrown();
    }
  };
  let acted = false;
  const took = (chunk: Uint8Array) => {
    const { socket } = watch!;
    watch!.took(chunk);
    if (acted || chunk.length === 0) return;
    acted = true;
    const go = () => act(socket);
    if (row.when === 'now') go();
    else if (row.when === 'a microtask') queueMicrotask(go);
    else if (row.when === 'process.nextTick') process.nextTick(go);
    else setImmediate(go);
  };
  const peer = await env.open(
    {
      ...{ face: row.face as AnyFace, version, mode },
      allowHalfOpen: row.allowHalfOpen === 'true',
      socket: {
        ...(row.read === 'onread' ? { onread } : {}),
        ...(row.read === 'highWaterMark 1' ? { highWaterMark: 1 } : {}),
      },
    },
    (socket) => {
      watch = new Watch(env, socket);
      resume = read(socket, row.read, watch, took);
      if (row.act === 'abort') addAbortSignal(abort.signal, socket);
      // A program that keeps its side open ends it when it has read all.
      if (row.allowHalfOpen === 'true') socket.on('end', () => socket.end());
    },
  );
  await peer.ready;
  const start = peer.said.length;
  const heardStart = peer.heard.length;
  if (!(await until(() => watch !== null))) throw new Error('no socket');
  const { socket } = watch!;
  let played = false;
  const stage: Stage = {
    peer,
    async later() {
      const sent = bytesOf(peer.said.slice(start), version).length;
      for (let i = 0; i < 12 && !socket.destroyed && watch!.bytes < sent; i++) await turns(1);
      await turns(2);
    },
  };
  const playing = (async () => {
    await ending.play(stage);
    played = true;
  })();
  await playing;
  if (resume !== null) {
    await turns(6);
    (resume as () => void)();
  }
  const facts = await watch!.over();
  // Ours has closed: the peer hears of that.
  await until(() => peer.transportEnd !== null, 500);
  const sent = bytesOf(peer.said.slice(start), version);
  const got = Buffer.concat(watch!.chunks);
  const outcome: Outcome = {
    ...facts,
    row,
    asSent: got.equals(sent.subarray(0, got.length)),
    said: peer.said.slice(start).map(inShort),
    heard: peer.heard.slice(heardStart).map(inShort),
    heardEnd: peer.transportEnd,
    played,
    acted,
  };
  peer.destroy();
  return outcome;
}

/**
 * Reads a socket in one of the ways.
 *
 * @returns what makes a reader go on that waits; null for others.
 */
function read(
  socket: tls.TLSSocket,
  way: string,
  watch: Watch,
  took: (chunk: Uint8Array) => void,
): (() => void) | null {
  const onReadable = (size?: number) =>
    socket.on('readable', () => {
      for (let chunk = socket.read(size); chunk !== null; chunk = socket.read(size)) took(chunk);
    });
  switch (way) {
    case "'readable', read()":
      onReadable();
      return null;
    case "'readable', read(3)":
      onReadable(3);
      return null;
    case "'readable', late":
      return () => void onReadable();
    case "'data', late":
      return () => void socket.on('data', took);
    case 'a web stream':
      void (async () => {
        try {
          for await (const chunk of Readable.toWeb(socket)) took(chunk as Uint8Array);
          watch.events.push('loop ends');
        } catch (error) {
          watch.events.push(`loop throws ${(error as NodeJS.ErrnoException).code}`);
        }
      })();
      return null;
    case 'for await':
      void (async () => {
        try {
          for await (const chunk of socket) took(chunk as Buffer);
          watch.events.push('loop ends');
        } catch (error) {
          watch.events.push(`loop throws ${(error as NodeJS.ErrnoException).code}`);
        }
      })();
      return null;
    case 'pipe to a slow sink':
      socket.pipe(
        new Writable({
          highWaterMark: 1,
          write(chunk, _encoding, done) {
            took(chunk);
            setImmediate(done);
          },
        }),
      );
      return null;
    case 'paused, resumed late':
      socket.pause();
      return () => {
        socket.on('data', took);
        socket.resume();
      };
    case 'onread':
      return null;
    case 'never':
      socket.pause();
      return () => void socket.destroy();
    default:
      socket.on('data', took);
      return null;
  }
}

// ---- what crossed

export const inShort = (one: Crossed): string => {
  const where = one.protectedBy === null ? 'clear ' : '';
  switch (one.kind) {
    case 'alert':
      return `${where}alert ${one.level}/${one.description}`;
    case 'data':
      return `data ${one.bytes.length}`;
    case 'handshake':
      return `${where}handshake ${one.type}`;
    case 'other':
      return `${where}type ${one.type}`;
    case 'unreadable':
      return 'unreadable';
  }
};

/** The data before whatever ended it. */
export function bytesOf(said: readonly Crossed[], version: string): Buffer {
  const chunks: Buffer[] = [];
  for (const one of said) {
    if (one.kind === 'data') chunks.push(one.bytes);
    else if (one.kind !== 'handshake' && !passes(inShort(one), version)) break;
  }
  return Buffer.concat(chunks);
}

/**
 * Whether this is an alert that ends nothing: user_canceled (RFC 9846 section 6.1), and in TLS 1.2 whatever is of
 * level warning (RFC 5246 section 7.2.2) and is not close_notify.
 */
export const passes = (said: string, version: string): boolean =>
  said === 'alert 1/90' || (version === 'TLSv1.2' && /^alert 1\/(?!0$)/.test(said));
