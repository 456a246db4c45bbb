/**
 * What the ending of a connection means to the HTTP messages on it.
 *
 * Theory of operation. A strict TLS socket must not fail for every missing close_notify. RFC 9112
 * section 9.8: "When encountering an incomplete close, a client SHOULD treat as completed all requests
 * for which it has received either: as much data as specified in the Content-Length header field or
 * the terminal zero-length chunk", and an idle connection of a pool has nothing to lose. And it must
 * not leave the failing to Node where a message is cut: "A response that has neither chunked transfer
 * coding nor Content-Length is complete only if a valid closure alert has been received", yet on a
 * socket error Node's client parser takes what it has of such a body for the whole of it, says 'end'
 * and sets `complete`; undici does so for ECONNRESET; http2 closes its streams without an error.
 *
 * So this file looks who reads the socket, and whether a message is in progress. Node has no public
 * way to ask. What is used here is stable since Node 8 (`socket.parser`, `socket._httpMessage`) or
 * found by its symbol's name (http2, undici). Where nothing is found the reader is unknown, and the
 * socket fails: not to recognise a reader costs an error too many, never a truncation that passes.
 *
 * An error belongs behind all bytes that came, and Node and undici drop what waits in a message for its reader when its
 * connection fails. So the connection fails at once, its place in a pool with it, and the message fails once those bytes
 * have been read: what Node and undici tell it until then is kept from it. The program's own `destroy` is not.
 */
import type { Duplex, Readable } from 'node:stream';
import { apart, process } from './runtime.ts';
import { afterReading } from './unread.ts';

/**
 * `at-stake`: a message has begun and is not whole. `safe`: an HTTP reader, and nothing of a message
 * would be taken for more than it is if the socket ended as Node ends it: idle, all whole, or no
 * response yet (which Node and undici report by themselves). `unknown`: not HTTP as far as can be seen.
 */
export type Stake = 'at-stake' | 'safe' | 'unknown';

/** An IncomingMessage, as far as it matters here. */
interface Incoming extends Readable {
  complete: boolean;
  readonly headers?: Readonly<Record<string, unknown>>;
  /** Of a response, its request. */
  readonly req?: { destroy(error?: Error): unknown };
}

interface HttpSocket extends Duplex {
  readonly parser?: { readonly incoming?: Incoming | null } | null;
  /** On a client the request that this connection serves, on a server the response. */
  readonly _httpMessage?: { readonly res?: Incoming | null; readonly req?: unknown } | null;
}

interface Http2Stream {
  readonly readableEnded: boolean;
  readonly destroyed: boolean;
  readonly _readableState?: { readonly ended?: boolean };
  destroy(error: Error): unknown;
}

/** Whose turn it would be to be failed, or null where that is nobody's. */
type Reader =
  | {
      readonly kind: 'http1';
      readonly side: 'client' | 'server';
      readonly message: Incoming | null;
    }
  | { readonly kind: 'http2'; readonly streams: readonly Http2Stream[] }
  | {
      readonly kind: 'undici';
      readonly responding: boolean;
      readonly paused: boolean;
      /** What undici tells of the response that is being received. */
      readonly handler: Handler | null;
    };

/** Of one request of undici's, whoever is told what becomes of it. */
type Handler = Record<string, unknown>;

/** What is at stake when the socket ends now. */
export function stakeOf(socket: Duplex): Stake {
  const reader = readerOf(socket);
  if (reader === null) return 'unknown';
  switch (reader.kind) {
    case 'http1':
      return reader.message === null ? 'safe' : 'at-stake';
    case 'http2':
      return reader.streams.length === 0 ? 'safe' : 'at-stake';
    case 'undici':
      return reader.responding ? 'at-stake' : 'safe';
  }
}

/**
 * Whether the reader has stopped in what it has taken, and cannot say yet what it has. undici's parser waits for whoever
 * reads the body, its last bytes included, before it counts the message as whole. It then reads from the socket again.
 */
export function isPausedWithin(socket: Duplex): boolean {
  const reader = readerOf(socket);
  return reader?.kind === 'undici' && reader.paused;
}

/**
 * Has the parser of a message in progress take what waits in the socket, for a reader that is slow: it is lost once the
 * socket fails. (undici's parser takes nothing while it pauses.)
 */
export function parseUnread(socket: Duplex): void {
  const reader = readerOf(socket);
  if (reader?.kind !== 'http1' || reader.message === null) return;
  apart(() => {
    while (socket.read() !== null);
  });
}

/** Whether the reader takes a connection reset for a whole close-delimited body. */
export function trustsResets(socket: Duplex): boolean {
  return readerOf(socket)?.kind === 'undici';
}

/**
 * Fails each message that is in progress, or those that only the connection's end could complete, for good: none of
 * them says 'end' or becomes complete. An HTTP/1 message fails behind whatever else is told in this turn, as it does
 * when Node fails it. Where all fail, it fails behind the bytes that wait for its reader. The body of a response of
 * undici's, which has still to be told of the socket's failure, hears of it behind them.
 */
export function failMessages(socket: Duplex, error: Error, which: 'all' | 'endless' = 'all'): void {
  const reader = readerOf(socket);
  if (which === 'endless' && (reader?.kind !== 'http1' || !isEndless(reader.message))) return;
  if (reader?.kind === 'http2') {
    for (const stream of reader.streams) {
      const request = requests.get(stream);
      if (request !== undefined) failRequest(request, error);
      stream.destroy(error);
    }
  } else if (reader?.kind === 'http1' && reader.message !== null) {
    const { message, side } = reader;
    // Node finishes the parser when the socket fails, and the parser sets this and ends the message.
    // Its 'end' is queued then, behind what is queued here.
    Object.defineProperty(message, 'complete', {
      configurable: true,
      enumerable: true,
      get: () => false,
      set: () => {},
    });
    if (which === 'all' && isAwaited(message, side)) failBehindUnread(socket, message, error);
    else process.nextTick(() => message.destroy(asTold(error)));
  } else if (reader?.kind === 'undici' && reader.responding && reader.handler !== null) {
    tellBehindUnread(reader.handler);
  }
}

/**
 * Whether bytes wait in a message for somebody who reads it, or may come to do so. A server's handler that has not
 * begun to read waits to hear that it need not go on, and so does a client that listens to 'aborted' and reads nothing.
 */
function isAwaited(message: Incoming, side: 'client' | 'server'): boolean {
  if (message.readableLength === 0) return false;
  const begun = message.readableFlowing !== null || message.listenerCount('readable') > 0;
  return begun || (side === 'client' && message.listenerCount('aborted') === 0);
}

/** Fails a message of HTTP/1 once what waits in it has been read, or its request is destroyed. */
function failBehindUnread(socket: Duplex, message: Incoming, error: Error): void {
  const { req, push, destroy } = message;
  const destroyRequest = req?.destroy;
  // Node tells its messages, within the socket's 'close', that they were aborted.
  let closing = false;
  socket.prependOnceListener('close', () => {
    closing = true;
  });
  socket.once('close', () => {
    closing = false;
  });
  message.push = (chunk, encoding) => chunk !== null && push.call(message, chunk, encoding);
  message.destroy = (reason) => (closing ? message : destroy.call(message, reason));
  const fail = () => {
    message.push = push;
    message.destroy = destroy;
    if (req !== undefined && destroyRequest !== undefined) req.destroy = destroyRequest;
    message.destroy(asTold(error));
  };
  if (req !== undefined && destroyRequest !== undefined) {
    // Node makes nothing of that once the socket has closed.
    req.destroy = (reason) => {
      fail();
      return destroyRequest.call(req, reason);
    };
  }
  afterReading(message, false, fail);
}

/** Has undici tell the reader of a body that it has failed once what waits in it has been read. */
function tellBehindUnread(handler: Handler): void {
  const body = bodyOf(handler);
  if (body === null || body.readableLength === 0) return;
  // Its name up to undici 7, and from 8.
  const name = ['onError', 'onResponseError'].find((one) => typeof handler[one] === 'function');
  if (name === undefined) return;
  const tell = handler[name] as (...args: unknown[]) => void;
  handler[name] = (...args: unknown[]) => {
    handler[name] = tell;
    if (body.destroyed) tell.apply(handler, args);
    else afterReading(body, false, () => tell.apply(handler, args));
  };
}

/** What holds the bytes of a body: `res` with request(), `body` with fetch. Behind an interceptor it is not found. */
function bodyOf(handler: Handler): Readable | null {
  const body = 'res' in handler ? handler['res'] : handler['body'];
  return isObject(body) && typeof (body as Readable).readableLength === 'number'
    ? (body as Readable)
    : null;
}

/** The requests of http2's compatibility API, by their streams. */
const requests = new WeakMap<object, Readable>();

/** What a server emits with a request. */
export const REQUESTS = ['request', 'checkContinue', 'checkExpectation', 'connect'] as const;

/** A server has a request, of HTTP/1 or HTTP/2. */
export function noteRequest(request: Readable & { readonly stream?: object }): void {
  if (request.stream !== undefined) requests.set(request.stream, request);
}

/**
 * Fails a request of http2's compatibility API, whose errors Node drops: it would say 'end'. As with a request of
 * HTTP/1, who does not listen to 'error' gets none. Node tells it 'close' when its stream closes, destroyed or not.
 */
function failRequest(request: Readable, error: Error): void {
  const emit: (name: string | symbol, ...args: unknown[]) => boolean = request.emit;
  let closed = false;
  request.emit = (name: string | symbol, ...args: unknown[]): boolean => {
    if (name === 'close' && closed) return false;
    closed ||= name === 'close';
    return emit.call(request, name, ...args);
  };
  request.destroy(request.listenerCount('error') > 0 ? error : undefined);
}

/** Whether nothing but the connection's end could complete it (RFC 9112 section 6.3). */
function isEndless(message: Incoming | null): boolean {
  const { headers } = message ?? {};
  return (
    headers !== undefined && !('content-length' in headers) && !('transfer-encoding' in headers)
  );
}

/** Of a reset Node tells the request what happened, and the response that it was aborted. */
function asTold(error: Error & { code?: string }): Error {
  if (error.code !== 'ECONNRESET') return error;
  return Object.assign(new Error('aborted', { cause: error }), { code: error.code });
}

/**
 * Ends a socket whose messages are at stake, if its reader takes errors by message: the streams of
 * http2, the response of Node's HTTP client.
 *
 * @param pretendEnd ends the socket as Node would.
 * @returns false where the socket has to fail as a whole.
 */
export function endByMessages(socket: Duplex, error: Error, pretendEnd: () => void): boolean {
  const reader = readerOf(socket);
  if (reader?.kind === 'http2') {
    failMessages(socket, error);
    pretendEnd();
    return true;
  }
  if (reader?.kind === 'http1' && reader.side === 'client') {
    failMessages(socket, error);
    // Without an error of its own, which Node would tell the request, too.
    socket.destroy();
    return true;
  }
  return false;
}

/**
 * Whether an error on this socket would reach nobody who could do anything about it: HTTP has served
 * on it and let go of it, and nobody listens. It is then enough that it does not say 'end'.
 */
export function isAbandoned(socket: Duplex): boolean {
  return (socket as HttpSocket)._httpMessage === null && socket.listenerCount('error') === 0;
}

function readerOf(socket: Duplex): Reader | null {
  return http1(socket) ?? http2(socket) ?? undici(socket);
}

function http1(socket: HttpSocket): Reader | null {
  const { parser, _httpMessage: exchange } = socket;
  if (exchange !== null && exchange !== undefined && 'res' in exchange) {
    // A client's request is being served. Its parser is gone once the response is whole.
    const { res } = exchange;
    return { kind: 'http1', side: 'client', message: res && !res.complete ? res : null };
  }
  if (parser !== null && parser !== undefined && 'incoming' in parser) {
    const { incoming } = parser;
    return {
      kind: 'http1',
      side: 'server',
      message: incoming && !incoming.complete ? incoming : null,
    };
  }
  // An idle connection of an agent: only those wait to be removed from it. (Node's tunnel through a proxy listens to
  // 'free' for ever, also once the connection is the program's own.)
  if (exchange === null && socket.listenerCount('agentRemove') > 0) {
    return { kind: 'http1', side: 'client', message: null };
  }
  return null;
}

function http2(socket: Duplex): Reader | null {
  // Node means to keep it under the symbol, which it forgets to export to itself: it is under the key
  // `undefined`, up to Node 26 at least.
  const session =
    bySymbol(socket, 'kBoundSession') ?? (socket as { undefined?: unknown })['undefined'];
  // A session that is over has let go of its socket.
  if (session === undefined && hadSession(socket)) return { kind: 'http2', streams: [] };
  const state = bySymbol(session, 'state');
  if (!isObject(state)) return null;
  const { streams, pendingStreams } = state as Record<string, unknown>;
  if (!isCollection(streams) || !isCollection(pendingStreams)) return null;
  const open: Http2Stream[] = [];
  for (const collection of [streams, pendingStreams]) {
    collection.forEach((stream) => {
      if (!isWhole(stream)) open.push(stream);
    });
  }
  return { kind: 'http2', streams: open };
}

const hadSession = (socket: Duplex): boolean =>
  Object.hasOwn(socket, 'undefined') ||
  Object.getOwnPropertySymbols(socket).some((one) => one.description === 'kBoundSession');

/** Node's own Map and Set, which are no instances of ours: their prototypes are cut off. */
interface Collection {
  readonly size: number;
  forEach(call: (stream: Http2Stream) => void): void;
}

const isCollection = (value: unknown): value is Collection =>
  isObject(value) &&
  typeof (value as Partial<Collection>).size === 'number' &&
  typeof (value as Partial<Collection>).forEach === 'function';

const isWhole = (stream: Http2Stream): boolean =>
  stream.destroyed || stream.readableEnded || stream._readableState?.ended === true;

function undici(socket: Duplex): Reader | null {
  const parser = bySymbol(socket, 'parser');
  if (!isObject(parser) || !('statusCode' in parser) || !('shouldKeepAlive' in parser)) return null;
  const { statusCode, paused, client } = parser as Readonly<Record<string, unknown>>;
  const queue = bySymbol(client, 'queue');
  const running = bySymbol(client, 'running index');
  const request = Array.isArray(queue) && typeof running === 'number' ? queue[running] : null;
  const handler = bySymbol(request, 'handler');
  return {
    kind: 'undici',
    responding: Boolean(statusCode),
    paused: paused === true,
    handler: isObject(handler) ? (handler as Handler) : null,
  };
}

const isObject = (value: unknown): value is object => typeof value === 'object' && value !== null;

/** The value under a symbol that is known by its description only. */
function bySymbol(holder: unknown, description: string): unknown {
  if (!isObject(holder)) return undefined;
  const symbol = Object.getOwnPropertySymbols(holder).find(
    (one) => one.description === description,
  );
  return symbol === undefined ? undefined : (holder as Record<symbol, unknown>)[symbol];
}
