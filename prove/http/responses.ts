/**
 * Responses of HTTP/1.1 and HTTP/1.0, as the records that a server makes of them.
 *
 * RFC 9112 section 6.3 says how each finds its end: none has a body behind HEAD, 1xx, 204 and 304; CONNECT and 101 make
 * a tunnel of the connection; chunked ends by itself, Content-Length counts; all else ends with the connection.
 */
import { gzipSync } from 'node:zlib';

/** Bytes on the wire, and what of the content is in them. */
export interface Piece {
  readonly wire: Buffer;
  readonly content: Buffer;
}

export interface Response {
  readonly name: string;
  readonly method: 'GET' | 'HEAD' | 'CONNECT' | 'UPGRADE';
  /** What comes before the head: interim responses. */
  readonly before: readonly Buffer[];
  readonly head: Buffer;
  readonly body: readonly Piece[];
  /** Whether nothing but the connection's end could complete it. */
  readonly byClosure: boolean;
  readonly gzip: boolean;
  /** Whether another exchange goes before on the same connection. */
  readonly second: boolean;
  /** Not for clients that refuse it whatever its ending. */
  readonly onlyNode: boolean;
}

export const FIRST = 'HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nfirst';

type Options = Partial<Omit<Response, 'name' | 'head' | 'body' | 'before'>> & {
  readonly before?: readonly string[];
};

const TEXT = ['Pay $100 to Alice, ', 'not to Mallory, ', 'before noon.'];
const LARGE = Array.from({ length: 6 }, (_, n) => String(n).repeat(15_000));
const bytes = (text: string): Buffer => Buffer.from(text, 'latin1');

const plain = (texts: readonly (string | Buffer)[]): Piece[] =>
  texts.map((text) => ({ wire: Buffer.from(text), content: Buffer.from(text) }));

const chunk = (text: string | Buffer, extension = ''): Piece => ({
  wire: Buffer.concat([
    bytes(`${text.length.toString(16)}${extension}\r\n`),
    Buffer.from(text),
    bytes('\r\n'),
  ]),
  content: Buffer.from(text),
});

const lastChunk = (trailers = ''): Piece => ({
  wire: bytes(`0\r\n${trailers}\r\n`),
  content: Buffer.alloc(0),
});

/** Several pieces in one record. */
const joined = (pieces: readonly Piece[]): Piece[] => [
  {
    wire: Buffer.concat(pieces.map(({ wire }) => wire)),
    content: Buffer.concat(pieces.map(({ content }) => content)),
  },
];

/** Cuts the wire where nobody expects it; a piece that completes some content has that content. */
const splitOddly = (pieces: readonly Piece[], size: number): Piece[] => {
  const wire = Buffer.concat(pieces.map((one) => one.wire));
  const content = Buffer.concat(pieces.map((one) => one.content));
  const parts: Piece[] = [];
  for (let at = 0; at < wire.length; at += size) {
    const last = at + size >= wire.length;
    parts.push({ wire: wire.subarray(at, at + size), content: last ? content : Buffer.alloc(0) });
  }
  return parts;
};

const responses: Response[] = [];

function add(name: string, head: string, body: readonly Piece[], options: Options = {}): void {
  responses.push({
    name,
    head: bytes(`${head}\r\n\r\n`),
    body,
    ...{ method: 'GET', byClosure: false, gzip: false, second: false, onlyNode: false },
    ...options,
    before: (options.before ?? []).map(bytes),
  });
}

const sizeOf = (texts: readonly (string | Buffer)[]): number =>
  texts.reduce((sum, { length }) => sum + length, 0);
const OK = 'HTTP/1.1 200 OK';
const length = (texts: readonly (string | Buffer)[]): string => `content-length: ${sizeOf(texts)}`;
const CHUNKED = 'transfer-encoding: chunked';
const zipped = gzipSync(TEXT.join(''));
const ZIPPED = [zipped.subarray(0, 15), zipped.subarray(15, 30), zipped.subarray(30)];
const chunked = [...TEXT.map((text) => chunk(text)), lastChunk()];

// ---- as much data as the Content-Length says

add('Content-Length', `${OK}\r\n${length(TEXT)}`, plain(TEXT));
add('Content-Length, one byte', `${OK}\r\ncontent-length: 1`, plain(['x']));
add('Content-Length, one record', `${OK}\r\n${length(TEXT)}`, joined(plain(TEXT)));
add('Content-Length 0', `${OK}\r\ncontent-length: 0`, []);
add('Content-Length, large', `${OK}\r\n${length(LARGE)}`, plain(LARGE));
add('Content-Length, byte by byte', `${OK}\r\n${length(TEXT)}`, splitOddly(plain(TEXT), 1));
add('Content-Length, close', `${OK}\r\nconnection: close\r\n${length(TEXT)}`, plain(TEXT));
add(
  'Content-Length, keep-alive',
  `${OK}\r\nconnection: keep-alive\r\nkeep-alive: timeout=5\r\n${length(TEXT)}`,
  plain(TEXT),
);
add('Content-Length, gzip', `${OK}\r\ncontent-encoding: gzip\r\n${length(ZIPPED)}`, plain(ZIPPED), {
  gzip: true,
});
add('Content-Length, HTTP/1.0', `HTTP/1.0 200 OK\r\n${length(TEXT)}`, plain(TEXT));
add(
  'Content-Length, 100 headers',
  `${OK}\r\n${Array.from({ length: 100 }, (_, n) => `x-header-${n}: ${'v'.repeat(40)}`).join('\r\n')}\r\n${length(TEXT)}`,
  plain(TEXT),
);
add(
  '206 with Content-Range',
  `HTTP/1.1 206 Partial Content\r\ncontent-range: bytes 0-46/100\r\n${length(TEXT)}`,
  plain(TEXT),
);
add(
  '302 with a body',
  `HTTP/1.1 302 Found\r\nlocation: /elsewhere\r\n${length(TEXT)}`,
  plain(TEXT),
);
add('404 with Content-Length', `HTTP/1.1 404 Not Found\r\n${length(TEXT)}`, plain(TEXT));

// ---- the terminal zero-length chunk

add('chunked', `${OK}\r\n${CHUNKED}`, chunked);
add('chunked, one record', `${OK}\r\n${CHUNKED}`, joined(chunked));
add('chunked, split in sizes and ends', `${OK}\r\n${CHUNKED}`, splitOddly(chunked, 3));
add('chunked, extensions', `${OK}\r\n${CHUNKED}`, [
  ...TEXT.map((text) => chunk(text, ';name="value"')),
  lastChunk(),
]);
add('chunked, trailers', `${OK}\r\ntrailer: x-sum\r\n${CHUNKED}`, [
  ...TEXT.map((text) => chunk(text)),
  lastChunk('x-sum: 42\r\n'),
]);
add('chunked, empty', `${OK}\r\n${CHUNKED}`, [lastChunk()]);
add('chunked, large', `${OK}\r\n${CHUNKED}`, [...LARGE.map((text) => chunk(text)), lastChunk()]);
add('chunked, close', `${OK}\r\nconnection: close\r\n${CHUNKED}`, chunked);
add(
  'chunked, gzip',
  `${OK}\r\ncontent-encoding: gzip\r\n${CHUNKED}`,
  [...ZIPPED.map((part) => chunk(part)), lastChunk()],
  { gzip: true },
);
add('500, chunked', `HTTP/1.1 500 Internal Server Error\r\n${CHUNKED}`, chunked);

// ---- the connection's end

const byClosure = { byClosure: true } as const;

add('to the end', `${OK}\r\nconnection: close`, plain(TEXT), byClosure);
add('to the end, one record', `${OK}\r\nconnection: close`, joined(plain(TEXT)), byClosure);
add('to the end, empty', `${OK}\r\nconnection: close`, [], byClosure);
add('to the end, large', `${OK}\r\nconnection: close`, plain(LARGE), byClosure);
add('to the end, HTTP/1.0', 'HTTP/1.0 200 OK', plain(TEXT), byClosure);
add(
  'to the end, no Connection header',
  `${OK}\r\ncontent-type: text/plain`,
  plain(TEXT),
  byClosure,
);
add('to the end, gzip', `${OK}\r\nconnection: close\r\ncontent-encoding: gzip`, plain(ZIPPED), {
  ...byClosure,
  gzip: true,
});
add(
  'to the end, events',
  `${OK}\r\ncontent-type: text/event-stream\r\nconnection: close`,
  plain(['data: 1\n\n', 'data: 2\n\n', 'data: 3\n\n']),
  byClosure,
);
add('404, to the end', 'HTTP/1.1 404 Not Found\r\nconnection: close', plain(TEXT), byClosure);

// ---- no body

add('204', 'HTTP/1.1 204 No Content', []);
add('304', 'HTTP/1.1 304 Not Modified\r\netag: "x"', []);
add('304 with Content-Length', 'HTTP/1.1 304 Not Modified\r\ncontent-length: 47', [], {
  // undici misses the body that RFC 9110 section 15.4.5 forbids.
  onlyNode: true,
});
add('HEAD with Content-Length', `${OK}\r\ncontent-length: 47`, [], { method: 'HEAD' });
add('HEAD, chunked', `${OK}\r\n${CHUNKED}`, [], { method: 'HEAD' });
add('HEAD, close', `${OK}\r\nconnection: close`, [], { method: 'HEAD' });

// ---- 1xx before

const HINTS = 'HTTP/1.1 103 Early Hints\r\nlink: </style.css>; rel=preload\r\n\r\n';
add('103, then Content-Length', `${OK}\r\n${length(TEXT)}`, plain(TEXT), { before: [HINTS] });
add('103 twice, then chunked', `${OK}\r\n${CHUNKED}`, chunked, { before: [HINTS, HINTS] });
add('103, then to the end', `${OK}\r\nconnection: close`, plain(TEXT), {
  ...byClosure,
  before: [HINTS],
});
add('100, then Content-Length', `${OK}\r\n${length(TEXT)}`, plain(TEXT), {
  before: ['HTTP/1.1 100 Continue\r\n\r\n'],
  // undici refuses a 100 that it did not ask for.
  onlyNode: true,
});

// ---- several answers, tunnels

add('second answer, Content-Length', `${OK}\r\n${length(TEXT)}`, plain(TEXT), { second: true });
add('second answer, chunked', `${OK}\r\n${CHUNKED}`, chunked, { second: true });
add('second answer, to the end', `${OK}\r\nconnection: close`, plain(TEXT), {
  ...byClosure,
  second: true,
});
add('second answer, 204', 'HTTP/1.1 204 No Content', [], { second: true });
add(
  '101',
  'HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: talk',
  plain(TEXT),
  { ...byClosure, method: 'UPGRADE' },
);
add('CONNECT', OK, plain(TEXT), { ...byClosure, method: 'CONNECT' });

export const RESPONSES: readonly Response[] = responses;
