/**
 * Responses of HTTP/2, as frames (RFC 9113 section 6) in the records that a server makes of them. None ends with the
 * connection: section 8.1 has END_STREAM for that.
 */
import { gzipSync } from 'node:zlib';
import type { Piece, Response } from './responses.ts';

/** Types of frames. */
const DATA = 0;
const HEADERS = 1;
const PRIORITY = 2;
const RST_STREAM = 3;
const SETTINGS = 4;
const PING = 6;
const GOAWAY = 7;
const WINDOW_UPDATE = 8;
const CONTINUATION = 9;

/** Flags. */
const END_STREAM = 1;
const ACK = 1;
const END_HEADERS = 4;
const PADDED = 8;

export function frame(type: number, flags: number, stream: number, payload: Uint8Array): Buffer {
  const header = Buffer.alloc(9);
  header.writeUIntBE(payload.length, 0, 3);
  header[3] = type;
  header[4] = flags;
  header.writeUInt32BE(stream, 5);
  return Buffer.concat([header, payload]);
}

/** What a server says first: its settings, and that it has read the client's. */
export const OPENING = Buffer.concat([
  frame(SETTINGS, 0, 0, new Uint8Array(0)),
  frame(SETTINGS, ACK, 0, new Uint8Array(0)),
]);

/** What a client says before its first frame (RFC 9113 section 3.4). */
const PREFACE = 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'.length;

/** The streams of the requests in these bytes of a client, in order. */
export function requestsIn(bytes: Buffer): number[] {
  const streams: number[] = [];
  for (let at = PREFACE; at + 9 <= bytes.length; ) {
    const end = at + 9 + bytes.readUIntBE(at, 3);
    if (end <= bytes.length && bytes[at + 3] === HEADERS) streams.push(bytes.readUInt32BE(at + 5));
    at = end;
  }
  return streams;
}

// ---- HPACK (RFC 7541): literals without indexing, names and values as they are

const literal = (name: string, value: string): Buffer =>
  Buffer.concat([Buffer.of(0), string(name), string(value)]);

function string(text: string): Buffer {
  if (text.length > 126) throw new Error('too long for one byte of length');
  return Buffer.concat([Buffer.of(text.length), Buffer.from(text, 'latin1')]);
}

const block = (status: number, headers: Readonly<Record<string, string>> = {}): Buffer =>
  Buffer.concat([
    literal(':status', String(status)),
    ...Object.entries(headers).map(([name, value]) => literal(name, value)),
  ]);

// ---- messages

type Make = (stream: number) => {
  readonly before?: readonly Buffer[];
  readonly head: Buffer;
  readonly body: readonly Piece[];
};

/** A response of HTTP/2 hangs on the stream of its request. */
export interface H2Response {
  readonly name: string;
  readonly method: 'GET' | 'HEAD';
  readonly second: boolean;
  /** Clients whose names begin so break on it by themselves, whatever their sockets. */
  readonly breaks: string | null;
  on(stream: number): Response;
}

const responses: H2Response[] = [];

interface Options {
  readonly method?: 'GET' | 'HEAD';
  readonly second?: boolean;
  readonly gzip?: boolean;
  readonly breaks?: string;
}

function add(name: string, make: Make, options: Options = {}): void {
  const { method = 'GET', second = false, gzip = false, breaks = null } = options;
  responses.push({
    ...{ name, method, second, breaks },
    on: (stream) => {
      const { before = [], head, body } = make(stream);
      const base = { name, method, second, gzip, byClosure: false, onlyNode: false } as const;
      return { ...base, before, head, body };
    },
  });
}

const nothing = new Uint8Array(0);
const TEXT = ['Pay $100 to Alice, ', 'not to Mallory, ', 'before noon.'];
const SIZE = { 'content-length': String(TEXT.join('').length) };
// Within the first window of a client (RFC 9113 section 6.9.2).
const LARGE = Array.from({ length: 4 }, (_, n) => String(n).repeat(15_000));

const headers = (stream: number, fields: Buffer, flags = 0): Buffer =>
  frame(HEADERS, END_HEADERS | flags, stream, fields);

const noContent = (wire: Buffer): Piece => ({ wire, content: Buffer.alloc(0) });

/** DATA frames, the last with END_STREAM. */
const data = (stream: number, texts: readonly (string | Buffer)[], end = true): Piece[] =>
  texts.map((text, n) => ({
    wire: frame(DATA, end && n === texts.length - 1 ? END_STREAM : 0, stream, Buffer.from(text)),
    content: Buffer.from(text),
  }));

const simple =
  (status = 200, fields: Readonly<Record<string, string>> = {}): Make =>
  (stream) => ({ head: headers(stream, block(status, fields)), body: data(stream, TEXT) });

/** With a frame between those of the response. */
const between =
  (other: (stream: number) => Buffer): Make =>
  (stream) => {
    const [first, ...rest] = data(stream, TEXT) as [Piece, ...Piece[]];
    return {
      head: headers(stream, block(200)),
      body: [first, noContent(other(stream)), ...rest],
    };
  };

/** With a frame behind END_STREAM: in the record of the last DATA, or what is cut would not be cut. */
const behind =
  (other: (stream: number) => Buffer): Make =>
  (stream) => {
    const pieces = data(stream, TEXT);
    const last = pieces.pop() as Piece;
    const wire = Buffer.concat([last.wire, other(stream)]);
    return { head: headers(stream, block(200)), body: [...pieces, { ...last, wire }] };
  };

const goaway = (stream: number): Buffer => {
  const payload = Buffer.alloc(8);
  payload.writeUInt32BE(stream, 0);
  return frame(GOAWAY, 0, 0, payload);
};

const split = (pieces: readonly Piece[], size: number): Piece[] =>
  pieces.flatMap(({ wire, content }) => {
    const parts: Piece[] = [];
    for (let at = 0; at < wire.length; at += size) {
      const part = wire.subarray(at, at + size);
      parts.push(at + size >= wire.length ? { wire: part, content } : noContent(part));
    }
    return parts;
  });

add('END_STREAM on DATA', simple());
add('one byte', (stream) => ({
  head: headers(stream, block(200)),
  body: data(stream, ['x']),
}));
add('END_STREAM on empty DATA', (stream) => ({
  head: headers(stream, block(200)),
  body: [...data(stream, TEXT, false), noContent(frame(DATA, END_STREAM, stream, nothing))],
}));
add('END_STREAM on HEADERS', (stream) => ({
  head: headers(stream, block(200), END_STREAM),
  body: [],
}));
add('204', (stream) => ({ head: headers(stream, block(204), END_STREAM), body: [] }));
add('304', (stream) => ({ head: headers(stream, block(304), END_STREAM), body: [] }));
add('HEAD', (stream) => ({ head: headers(stream, block(200, SIZE), END_STREAM), body: [] }), {
  method: 'HEAD',
});
add('content-length', simple(200, SIZE));
add('content-length, one DATA', (stream) => ({
  head: headers(stream, block(200, SIZE)),
  body: data(stream, [TEXT.join('')]),
}));
add('content-length, END_STREAM on empty DATA', (stream) => ({
  head: headers(stream, block(200, SIZE)),
  body: [...data(stream, TEXT, false), noContent(frame(DATA, END_STREAM, stream, nothing))],
}));
const trailers = (stream: number) => noContent(headers(stream, literal('x-sum', '42'), END_STREAM));
add('trailers', (stream) => ({
  head: headers(stream, block(200)),
  body: [...data(stream, TEXT, false), trailers(stream)],
}));
add('trailers, no DATA', (stream) => ({
  head: headers(stream, block(200)),
  body: [trailers(stream)],
}));
add('padded DATA', (stream) => ({
  head: headers(stream, block(200)),
  body: TEXT.map((text, n) => ({
    wire: frame(
      DATA,
      PADDED | (n === TEXT.length - 1 ? END_STREAM : 0),
      stream,
      Buffer.concat([Buffer.of(20), Buffer.from(text), Buffer.alloc(20)]),
    ),
    content: Buffer.from(text),
  })),
}));
add('padded HEADERS', (stream) => ({
  head: headers(stream, Buffer.concat([Buffer.of(20), block(200), Buffer.alloc(20)]), PADDED),
  body: data(stream, TEXT),
}));
add('CONTINUATION', (stream) => {
  const fields = block(200, { 'x-more': 'yes', ...SIZE });
  return {
    head: Buffer.concat([
      frame(HEADERS, 0, stream, fields.subarray(0, 9)),
      frame(CONTINUATION, 0, stream, fields.subarray(9, 20)),
      frame(CONTINUATION, END_HEADERS, stream, fields.subarray(20)),
    ]),
    body: data(stream, TEXT),
  };
});
add('100 headers', (stream) => ({
  head: headers(
    stream,
    block(
      200,
      Object.fromEntries(Array.from({ length: 100 }, (_, n) => [`x-header-${n}`, 'v'.repeat(40)])),
    ),
  ),
  body: data(stream, TEXT),
}));
add('large', (stream) => ({ head: headers(stream, block(200)), body: data(stream, LARGE) }));
add('large, records of 1,000 bytes', (stream) => ({
  head: headers(stream, block(200)),
  body: split(data(stream, LARGE), 1_000),
}));
add('records of 7 bytes', (stream) => ({
  head: headers(stream, block(200)),
  body: split(data(stream, TEXT), 7),
}));
add('one record', (stream) => {
  const pieces = data(stream, TEXT);
  return {
    head: headers(stream, block(200)),
    body: [
      {
        wire: Buffer.concat(pieces.map(({ wire }) => wire)),
        content: Buffer.from(TEXT.join('')),
      },
    ],
  };
});
const zipped = gzipSync(TEXT.join(''));
add(
  'gzip',
  (stream) => ({
    head: headers(stream, block(200, { 'content-encoding': 'gzip' })),
    body: data(stream, [zipped.subarray(0, 15), zipped.subarray(15, 30), zipped.subarray(30)]),
  }),
  { gzip: true },
);
add('206', simple(206, { 'content-range': 'bytes 0-46/100' }));
add('302', simple(302, { location: '/elsewhere' }));
add('404', simple(404));
add('500', simple(500, SIZE));
const hints = (stream: number) =>
  headers(stream, block(103, { link: '</style.css>; rel=preload' }));
add('103 before', (stream) => ({ ...simple()(stream), before: [hints(stream)] }));
add('103 twice before', (stream) => ({
  ...simple()(stream),
  before: [hints(stream), hints(stream)],
}));
add(
  'PING between',
  between(() => frame(PING, 0, 0, Buffer.alloc(8, 7))),
);
add(
  'SETTINGS between',
  between(() => frame(SETTINGS, 0, 0, nothing)),
);
add(
  'WINDOW_UPDATE between',
  between((stream) => frame(WINDOW_UPDATE, 0, stream, Buffer.of(0, 0, 1, 0))),
);
add(
  'PRIORITY between',
  between((stream) => frame(PRIORITY, 0, stream, Buffer.of(0, 0, 0, 0, 15))),
);
// RFC 9113 section 4.1: "Implementations MUST ignore and discard frames of unknown types."
add(
  'an unknown frame between',
  between((stream) => frame(0xbe, 0, stream, Buffer.alloc(12))),
);
// undici 6 drops the request, and then asserts that what comes for it does not come.
add('GOAWAY between', between(goaway), { breaks: 'undici 6' });
add('GOAWAY behind', behind(goaway));
// RFC 9113 section 8.1: a server may say so behind a complete response.
add(
  'RST_STREAM with NO_ERROR behind',
  behind((stream) => frame(RST_STREAM, 0, stream, Buffer.alloc(4))),
);
add('second answer', simple(), { second: true });
add('second answer, content-length', simple(200, SIZE), { second: true });

export const H2_RESPONSES: readonly H2Response[] = responses;

/** The answer to the first of two requests. */
export const firstAnswer = (stream: number): Buffer =>
  Buffer.concat([headers(stream, block(200)), ...data(stream, ['first']).map(({ wire }) => wire)]);
