/** Property fuzzing of the parsers in src/record: any bytes, and genuine ones that were spoilt. */
import fc from 'fast-check';
import { MalformedError } from '../../src/errors.ts';
import { parseAlert } from '../../src/record/alert.ts';
import { type Decoded, WireDecoder } from '../../src/record/decoder.ts';
import {
  HandshakeReader,
  parseCertificateRequest12,
  parseCertificateRequest13,
  parseClientRandom,
  parseExtensions,
  parseServerHello,
} from '../../src/record/handshake.ts';
import { parseKeyLogLine } from '../../src/record/keys.ts';
import { Reader } from '../../src/record/reader.ts';
import { RecordScanner } from '../../src/record/record.ts';
import { suiteOf } from '../../src/record/suite.ts';
import { type Model, SIDES, type Side } from '../cuts/conversation.ts';
import { isMine, type Shard } from '../harness.ts';

const bytes = fc.uint8Array({ maxLength: 400 });
const sizes = fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1, maxLength: 12 });

/** Cuts into pieces of these sizes, over and over. */
function* pieces(whole: Uint8Array, lengths: readonly number[]): Generator<Uint8Array> {
  for (let at = 0, i = 0; at < whole.length; i++) {
    const end = at + (lengths[i % lengths.length] as number);
    yield whole.subarray(at, end);
    at = end;
  }
}

/** Runs a parser. @throws what it may not throw. */
function malformedOr<T>(parse: () => T): T | null {
  try {
    return parse();
  } catch (error) {
    if (error instanceof MalformedError) return null;
    throw error;
  }
}

function scan(chunks: Iterable<Uint8Array>): string {
  const told: string[] = [];
  const scanner = new RecordScanner((...record) => told.push(record.join()));
  for (const chunk of chunks) {
    for (let at = 0; at < chunk.length; ) {
      const end = scanner.take(chunk, at);
      if (end <= at) throw new Error('no byte was taken');
      at = end;
    }
  }
  return `${told.join(' ')} ${scanner.atBoundary}`;
}

function join(chunks: Iterable<Uint8Array>): string {
  const reader = new HandshakeReader();
  const told: string[] = [];
  for (const chunk of chunks) {
    const messages = malformedOr(() => reader.push(chunk));
    if (messages === null) return `${told.join(' ')} malformed`;
    for (const { type, body } of messages)
      told.push(`${type}:${Buffer.from(body).toString('hex')}`);
  }
  return `${told.join(' ')} ${reader.midMessage}`;
}

/** What a decoder authenticates of these bytes. */
function decode(
  secrets: readonly string[],
  sent: Readonly<Record<Side, Uint8Array>>,
  lengths: readonly number[],
) {
  const told: Record<Side, string[]> = { client: [], server: [] };
  const decoder = new WireDecoder((decoded: Decoded) => {
    if (decoded.type === 'record' && decoded.protected) {
      told[decoded.sender].push(`${decoded.contentType}:${decoded.length}`);
    } else if (decoded.type === 'alert' && decoded.authenticated) {
      told[decoded.sender].push(decoded.alert.name);
    }
  });
  for (const line of secrets) {
    const entry = parseKeyLogLine(line);
    if (entry !== null) decoder.addSecret(entry);
  }
  for (const side of SIDES)
    for (const piece of pieces(sent[side], lengths)) decoder.push(side, piece);
  return told;
}

/** What each parser has to do, whatever it is given. */
export function properties(models: readonly Model[]): Record<string, fc.IProperty<unknown>> {
  const parser = (parse: (bytes: Uint8Array) => unknown) =>
    fc.property(bytes, (given) => {
      malformedOr(() => parse(given));
    }) as fc.IProperty<unknown>;
  return {
    'records, in any pieces': fc.property(bytes, sizes, (given, lengths) => {
      if (scan([given]) !== scan(pieces(given, lengths))) throw new Error('pieces matter');
    }) as fc.IProperty<unknown>,
    'handshake messages, in any pieces': fc.property(
      fc.array(fc.tuple(fc.nat(255), fc.uint8Array({ maxLength: 60 })), { maxLength: 6 }),
      bytes,
      sizes,
      (messages, tail, lengths) => {
        const genuine = messages.map(([type, body]) =>
          Buffer.concat([Uint8Array.of(type, 0, 0, body.length), body]),
        );
        const told = messages.map(([type, body]) => `${type}:${Buffer.from(body).toString('hex')}`);
        const exact = join(pieces(Buffer.concat(genuine), lengths));
        if (exact !== `${told.join(' ')} false`) throw new Error('not what was sent');
        join(pieces(Buffer.concat([...genuine, tail]), lengths));
      },
    ) as fc.IProperty<unknown>,
    alerts: fc.property(fc.uint8Array({ maxLength: 4 }), (given) => {
      const alert = parseAlert(given);
      const is = given.length === 2 && (given[0] === 1 || given[0] === 2);
      if ((alert !== null) !== is) throw new Error('an alert is two bytes, the first a level');
      if (alert !== null && alert.code !== given[1]) throw new Error('another code');
    }) as fc.IProperty<unknown>,
    'reads that go too far': fc.property(
      fc.uint8Array({ maxLength: 12 }),
      fc.nat(16),
      (given, wanted) => {
        const got = malformedOr(() => new Reader(given).bytes(wanted));
        const there = wanted <= given.length ? wanted : undefined;
        if (got?.length !== there) throw new Error('not as many bytes as were asked for');
      },
    ) as fc.IProperty<unknown>,
    ServerHello: parser(parseServerHello),
    ClientHello: parser(parseClientRandom),
    extensions: parser(parseExtensions),
    'CertificateRequest of TLS 1.2': parser(parseCertificateRequest12),
    'CertificateRequest of TLS 1.3': parser(parseCertificateRequest13),
    'key log lines': fc.property(fc.string(), (line) => {
      parseKeyLogLine(line);
      suiteOf(line);
    }) as fc.IProperty<unknown>,
    'any bytes as a connection': fc.property(bytes, bytes, sizes, (client, server, lengths) => {
      const told = decode([], { client, server }, lengths);
      if (told.client.length + told.server.length > 0)
        throw new Error('authenticated without a key');
    }) as fc.IProperty<unknown>,
    'conversations with bytes changed': fc.property(
      fc.constantFrom(...models.keys()),
      fc.constantFrom(...SIDES),
      fc.nat(1 << 20),
      fc.integer({ min: 1, max: 255 }),
      sizes,
      (index, side, where, mask, lengths) => {
        const { sent, secrets } = models[index] as Model;
        const spoilt = Buffer.from(sent[side]);
        const at = where % spoilt.length;
        spoilt[at] = (spoilt[at] as number) ^ mask;
        const genuine = decode(secrets, sent, lengths)[side];
        const told = decode(secrets, { ...sent, [side]: spoilt }, lengths)[side];
        if (told.some((one, i) => one !== genuine[i])) {
          throw new Error('authenticated what was not sent');
        }
      },
    ) as fc.IProperty<unknown>,
  };
}

/** Tries each property that is this shard's so often. @returns how many cases were tried. */
export function fuzz(models: readonly Model[], runs: number, shard: Shard): number {
  const { seed, fail } = shard;
  let cases = 0;
  for (const [index, [name, property]] of Object.entries(properties(models)).entries()) {
    if (!isMine(shard, index)) continue;
    // The slow ones.
    const numRuns = name.startsWith('conversations') ? Math.ceil(runs / 10) : runs;
    const outcome = fc.check(property, { seed, numRuns });
    cases += outcome.numRuns;
    if (outcome.failed) fail(`${name}: ${fc.defaultReportMessage(outcome)}`);
  }
  return cases;
}
