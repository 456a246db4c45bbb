/**
 * The table: responses × endings × clients; what each row has to come to, and the sentences that say so.
 */
import { gunzipSync } from 'node:zlib';
import { Random } from '../../test/support/random.ts';
import { CLIENTS, type Client } from './clients.ts';
import { ENDINGS, type Ending } from './endings.ts';
import { H2_RESPONSES, type H2Response } from './frames.ts';
import { RESPONSES, type Response } from './responses.ts';

/** The sentences that a row's outcome rests on. */
export const RULES = {
  delimited:
    'RFC 9112 section 9.8: "When encountering an incomplete close, a client SHOULD treat as completed all requests for which it has received either: as much data as specified in the Content-Length header field; or the terminal zero-length chunk".',
  byClosure:
    'RFC 9112 section 9.8: "A response that has neither chunked transfer coding nor Content-Length is complete only if a valid closure alert has been received."',
  incomplete:
    'RFC 9112 section 8: "A message body that uses the chunked transfer coding is incomplete if the zero-sized chunk that terminates the encoding has not been received. A message that uses a valid Content-Length is incomplete if the size of the message body received (in octets) is less than the value given by Content-Length."',
  head: 'RFC 9112 section 8: "If a response terminates in the middle of the header section (before the empty line is received) and the status code might rely on header fields to convey the full meaning of the response, then the client cannot assume that meaning has been conveyed; the client might need to repeat the request in order to determine what action to take next."',
  endStream:
    'RFC 9113 section 8.1: "the last frame in the sequence bears an END_STREAM flag". Without it the message is not whole, however the connection ends.',
} as const;

export interface Row {
  readonly client: Client;
  readonly response: string;
  readonly ending: string;
  readonly version: 'TLSv1.2' | 'TLSv1.3';
  /** Whether all that comes is in one segment with what ends it, where the ending is of that kind. */
  readonly joined: boolean;
  /** Whether the reader begins once the connection has ended. */
  readonly late: boolean;
}

const H1 = new Map(RESPONSES.map((one) => [one.name, one]));
const H2 = new Map(H2_RESPONSES.map((one) => [one.name, one]));

/** The response of a row, on this stream where it is one of HTTP/2. */
export function responseOf({ client, response }: Row, stream: number): Response {
  const found = client.protocol === 'http1' ? H1.get(response) : H2.get(response)?.on(stream);
  if (found === undefined) throw new Error(`no response is called ${response}`);
  return found;
}

export const endingOf = ({ ending }: Row): Ending => {
  const found = ENDINGS[ending];
  if (found === undefined) throw new Error(`no ending is called ${ending}`);
  return found;
};

/** Whether a client can be asked for that, and whether the response has the place in which it is cut. */
function meets(client: Client, one: Response | H2Response, ending: Ending): boolean {
  const response = 'on' in one ? one.on(1) : one;
  if ('on' in one && one.breaks !== null && client.name.startsWith(one.breaks)) return false;
  if (response.second && !client.keeps) return false;
  if (response.onlyNode && client.undici) return false;
  if ((response.method === 'UPGRADE' || response.method === 'CONNECT') && !client.tunnels) {
    return false;
  }
  const inside = ending.where === 'in the body' || ending.where === 'behind the head';
  return !inside || response.body.length > 0;
}

type Plain = Pick<Row, 'client' | 'response' | 'ending'>;

/** All rows, in an order that the seed does not change. */
const ALL: readonly Plain[] = CLIENTS.flatMap((client) => {
  const responses = client.protocol === 'http1' ? RESPONSES : H2_RESPONSES;
  return responses.flatMap((response) =>
    Object.entries(ENDINGS)
      .filter(([, ending]) => meets(client, response, ending))
      .map(([ending]) => ({ client, response: response.name, ending })),
  );
});

export const ROWS = ALL.length;

/** The n-th row. What it draws, the seed and its number decide. */
export function rowAt(seed: number, n: number): Row {
  const plain = ALL[n] as Plain;
  const random = Random.for(seed, `row ${n}`);
  const { truth, torn = false } = endingOf(plain as Row);
  return {
    ...plain,
    version: random.of(['TLSv1.2', 'TLSv1.3']),
    // Only the last record is to be torn.
    joined: random.of([false, true]) && !torn,
    // What a kernel has dropped, nobody can read later.
    late: random.of([false, true]) && truth !== 'reset',
  };
}

/** So many numbers of rows, drawn by the seed. */
export function sample(seed: number, count: number): number[] {
  const random = Random.for(seed, 'sample');
  const drawn = new Set<number>();
  while (drawn.size < Math.min(count, ROWS)) drawn.add(random.below(ROWS));
  return [...drawn];
}

// ---- what comes, and what that has to be

/** What of a response comes, record by record, and what a program has to be given of it. */
export interface Delivery {
  readonly pieces: readonly Buffer[];
  /** The content that surely has come. */
  readonly content: Buffer;
}

export function deliveryOf(response: Response, { where, torn }: Ending): Delivery {
  const { before, head, body } = response;
  const none = Buffer.alloc(0);
  const contentOf = (pieces: readonly { readonly content: Buffer }[]) =>
    Buffer.concat(pieces.map(({ content }) => content));
  switch (where) {
    case 'before it':
      return { pieces: [], content: none };
    case 'in the head':
      return { pieces: [...before, head.subarray(0, head.length >> 1)], content: none };
    case 'behind the head':
      return { pieces: [...before, head], content: none };
    case 'in the body': {
      const kept = body.slice(0, -1);
      const last = body.at(-1) as Response['body'][number];
      if (kept.length > 0) {
        const wires = kept.map(({ wire }) => wire);
        return { pieces: [...before, head, ...wires], content: contentOf(kept) };
      }
      const half = last.wire.subarray(0, last.wire.length >> 1);
      const content = last.wire.equals(last.content) ? half : none;
      return { pieces: [...before, head, half], content };
    }
    default: {
      const wires = body.map(({ wire }) => wire);
      const came = torn ? body.slice(0, -1) : body;
      return { pieces: [...before, head, ...wires], content: contentOf(came) };
    }
  }
}

export interface Expected {
  readonly whole: boolean;
  readonly rule: keyof typeof RULES;
}

export function expectedOf(row: Row, response: Response, ending: Ending): Expected {
  const { where, truth, torn = false } = ending;
  const { byClosure, body } = response;
  if (where === 'before it' || where === 'in the head' || (torn && body.length === 0)) {
    return { whole: false, rule: row.client.protocol === 'http1' ? 'head' : 'endStream' };
  }
  if (byClosure) return { whole: truth === 'close_notify', rule: 'byClosure' };
  const whole = where === 'behind it' && !torn;
  if (row.client.protocol === 'http2') return { whole, rule: 'endStream' };
  return { whole, rule: whole ? 'delimited' : 'incomplete' };
}

/** What a program is to be given of this content. */
export function givenOf({ client }: Row, { gzip }: Response, content: Buffer): Buffer {
  return gzip && client.decodes ? gunzipSync(content) : content;
}

/** All of it, where nothing is cut. */
export const wholeContent = ({ body }: Response): Buffer =>
  Buffer.concat(body.map(({ content }) => content));

export const describe = ({ client, response, ending, version, joined, late }: Row): string =>
  [
    client.name,
    response,
    ending,
    version,
    ...(joined ? ['joined'] : []),
    ...(late ? ['read late'] : []),
  ].join(' | ');
