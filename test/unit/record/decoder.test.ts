/** Live connections, decoded from what one side of them saw. */
import tls from 'node:tls';
import { describe, expect, test } from 'vitest';
import { connect, createServer, type ServerOptions } from '../../../src/index.ts';
import { HANDSHAKE_TYPE } from '../../../src/record/handshake.ts';
import type { ConnectOptions } from '../../../src/stream/connect.ts';
import type { TlsStream } from '../../../src/stream/tls-stream.ts';
import {
  Capture,
  decode,
  lastAlert,
  messagesOf,
  of,
  type Piece,
  randomNumbers,
  runSeed,
  unreadable,
} from '../../support/cert-capture.ts';
import { certificate, commonName, type Issuer } from '../../support/cert-der.ts';
import { message } from '../../support/cert-flight.ts';
import {
  caNamed,
  ecServer,
  identityOf,
  root,
  rsaServer,
  serverCa,
  testFile,
  variedNames,
} from '../../support/cert-pki.ts';
import { describeServer, sServer } from '../../support/cert-servers.ts';
import { clean, type Scope, until } from '../../support/core-scope.ts';
import { only, VERSIONS, type Version } from '../../support/core-streams.ts';
import { PeerProcess } from '../../support/interop-process.ts';
import { known, listOf } from '../../support/suites.ts';

const { certificateRequest, clientHello, finished, keyUpdate, newSessionTicket, serverHello } =
  HANDSHAKE_TYPE;
const CLOSE_NOTIFY = { level: 'warning', code: 0, name: 'close_notify' };

/** A server of ours that answers each message with itself, and close_notify with close_notify. */
async function echo(
  scope: Scope,
  options: Partial<ServerOptions> = {},
  server: Issuer = ecServer(),
): Promise<number> {
  const listening = createServer(
    { ...identityOf(server), onError: () => {}, ...options },
    async (stream) => {
      for await (const bytes of stream) await stream.write(bytes);
      await stream.close();
    },
  );
  scope.defer(() => listening.close({ deadline: 0 }));
  return (await listening.listen(0, '127.0.0.1')).port;
}

/** Connects, has one message echoed, and closes. @returns what the client saw. */
async function converse(
  port: number,
  options: ConnectOptions = {},
  during: (stream: TlsStream) => Promise<void> = async () => {},
): Promise<Piece[]> {
  const capture = new Capture();
  const stream = await connect({
    host: 'localhost',
    port,
    ca: serverCa().pem,
    ...options,
    record: capture,
  });
  await stream.write('a message');
  expect(Buffer.from((await stream.read()) ?? []).toString()).toBe('a message');
  await during(stream);
  await stream.close();
  expect(stream.closure.verdict).toBe('secure');
  return capture.pieces;
}

/** Both sides' close_notify is there, and proven. */
function expectWhole(pieces: readonly Piece[]): ReturnType<typeof decode> {
  const decoded = decode(pieces);
  expect(unreadable(decoded)).toEqual([]);
  for (const sender of ['client', 'server'] as const) {
    expect(lastAlert(decoded, sender)).toEqual({
      type: 'alert',
      sender,
      alert: CLOSE_NOTIFY,
      authenticated: true,
    });
    expect(of(decoded, sender)).toContainEqual({
      type: 'record',
      sender,
      contentType: 23,
      length: 9,
      protected: true,
    });
  }
  return decoded;
}

/** OpenSSL's names of suites that Node offers only when asked to. */
const MORE = [
  ...['AES128-CCM', 'AES256-CCM', 'AES128-CCM8', 'AES256-CCM8', 'ARIA128-GCM-SHA256'],
  ...['ARIA256-GCM-SHA384', 'CAMELLIA128-SHA', 'CAMELLIA256-SHA256'],
  ...['DHE-RSA-AES128-CCM', 'DHE-RSA-AES256-CCM8', 'DHE-RSA-ARIA256-GCM-SHA384'],
  ...['ECDHE-ECDSA-AES128-CCM', 'ECDHE-ECDSA-AES256-CCM8', 'ECDHE-ECDSA-AES256-CCM'],
  ...['ECDHE-ECDSA-ARIA128-GCM-SHA256', 'ECDHE-ARIA256-GCM-SHA384'],
  ...['ECDHE-ECDSA-CAMELLIA256-SHA384', 'ECDHE-RSA-CAMELLIA128-SHA256'],
  ...['DHE-RSA-CAMELLIA256-SHA'],
];

const SUITES = [...tls.getCiphers(), ...MORE]
  .map((suite) => suite.toUpperCase())
  .filter((suite) => !/PSK|SRP/.test(suite) && known(suite));

describe('every suite that Node offers', () => {
  test('there are some to look at', () => {
    expect(SUITES.length).toBeGreaterThan(30);
  });

  test.each(SUITES)('%s', (suite) =>
    clean(async (scope) => {
      const server = suite.includes('ECDSA') ? ecServer() : rsaServer();
      const version: Version = suite.startsWith('TLS_') ? 'TLSv1.3' : 'TLSv1.2';
      const options = { ...only(version), ciphers: listOf(suite) };
      const port = await echo(scope, { ...options, dhparam: 'auto' }, server);
      const pieces = await converse(port, options, async (stream) => {
        expect(stream.tls.protocol).toBe(version);
      });
      expectWhole(pieces);
      // With keys that come after everything else, the same.
      const late = [...pieces].sort((a, b) => Number('secret' in a) - Number('secret' in b));
      for (const sender of ['client', 'server'] as const) {
        expect(of(decode(late), sender)).toEqual(of(decode(pieces), sender));
      }
    })(),
  );

  test.each(['TLS_AES_256_GCM_SHA384', 'TLS_CHACHA20_POLY1305_SHA256'])('%s with RSA', (suite) =>
    clean(async (scope) => {
      const options = { ...only('TLSv1.3'), ciphers: suite };
      const pieces = await converse(await echo(scope, options, rsaServer()), options);
      expectWhole(pieces);
    })(),
  );

  test(
    'without encrypt-then-MAC (RFC 7366), which OpenSSL can leave out',
    clean(async (scope) => {
      const { port } = await sServer(scope, [
        ...['-tls1_2', '-cipher', 'ECDHE-ECDSA-AES128-SHA256', '-rev'],
        ...['-serverpref'],
      ]);
      const capture = new Capture();
      const stream = await connect({
        ...{ host: 'localhost', port, ca: serverCa().pem, record: capture },
        ...{ secureOptions: NO_ENCRYPT_THEN_MAC, ciphers: 'ECDHE-ECDSA-AES128-SHA256' },
      });
      await stream.write('abc\n');
      expect(Buffer.from((await stream.read()) ?? []).toString()).toBe('cba\n');
      await stream.close();
      const decoded = decode(capture.pieces);
      expect(unreadable(decoded)).toEqual([]);
      expect(lastAlert(decoded, 'client')).toMatchObject({ authenticated: true });
      expect(of(decoded, 'server')).toContainEqual(
        expect.objectContaining({ type: 'record', contentType: 23, length: 4, protected: true }),
      );
    }),
  );
});

describe.each(VERSIONS)('%s', (version) => {
  test(
    'resumption',
    clean(async (scope) => {
      const port = await echo(scope, only(version));
      let session: Uint8Array | undefined;
      await converse(port, only(version), async (stream) => {
        // In TLS 1.3 the ticket came before the echo that has been read.
        session = stream.getSession() ?? undefined;
      });
      const pieces = await converse(port, { ...only(version), session }, async (stream) => {
        expect(stream.tls.resumed).toBe(true);
      });
      const messages = messagesOf(expectWhole(pieces), 'server');
      expect(messages).not.toContain(HANDSHAKE_TYPE.certificate);
      expect(messages).toContain(finished);
    }),
  );

  test(
    'a client certificate',
    clean(async (scope) => {
      const client = certificate({ subject: commonName('client'), issuer: root() });
      const port = await echo(scope, { ...only(version), requestCert: true, ca: root().pem });
      const pieces = await converse(port, { ...only(version), ...identityOf(client) });
      const decoded = expectWhole(pieces);
      expect(messagesOf(decoded, 'server')).toContain(certificateRequest);
      const own = decoded.find(
        (one) =>
          one.type === 'handshake' &&
          one.sender === 'client' &&
          one.messageType === HANDSHAKE_TYPE.certificate,
      );
      expect(own).toMatchObject({ authenticated: version === 'TLSv1.3' });
      expect(Buffer.from((own as { body: Uint8Array }).body).includes(client.x509.raw)).toBe(true);
    }),
  );

  test(
    'in pieces of any size: the same reports',
    clean(async (scope) => {
      const names = variedNames(120).map(caNamed);
      const port = await echo(scope, {
        ...only(version),
        requestCert: true,
        rejectUnauthorized: false,
        ca: names.map(({ pem }) => pem).join(''),
      });
      const pieces = await converse(port, only(version));
      const whole = expectWhole(pieces);
      const same = (again: readonly Piece[], what: string) => {
        const decoded = decode(again);
        for (const sender of ['client', 'server'] as const) {
          expect(of(decoded, sender), what).toEqual(of(whole, sender));
        }
      };
      same([...cut(pieces, () => 1)], 'byte by byte');
      same(joined(pieces), 'joined');
      const seed = runSeed();
      const random = randomNumbers(seed);
      for (let i = 0; i < 20; i++) {
        same([...cut(joined(pieces), () => 1 + random(600))], `SEED=${seed}, round ${i}`);
      }
      // Keys late: each at any later time, in any order.
      for (let i = 0; i < 20; i++) {
        const secrets = pieces.filter((one) => 'secret' in one);
        const late = pieces.filter((one) => 'bytes' in one) as Piece[];
        for (const secret of secrets) {
          const from = pieces.indexOf(secret) - secrets.indexOf(secret);
          late.splice(from + random(late.length - from + 1), 0, secret);
        }
        same(late, `keys late, SEED=${seed}, round ${i}`);
      }
    }),
  );

  test(
    'keys that never come: the messages in the clear, nothing else, and an end to waiting',
    clean(async (scope) => {
      const port = await echo(scope, only(version));
      const pieces = (await converse(port, only(version))).filter((one) => 'bytes' in one);
      const decoded = decode(pieces);
      expect(unreadable(decoded)).toEqual([]);
      expect(messagesOf(decoded, 'client')[0]).toBe(clientHello);
      expect(messagesOf(decoded, 'server')[0]).toBe(serverHello);
      for (const one of decoded) {
        if (one.type !== 'record') expect(one).toMatchObject({ authenticated: false });
      }
      const record = Buffer.concat([Buffer.from([23, 3, 3, 0x40, 0]), Buffer.alloc(0x4000)]);
      const flood: Piece[] = Array.from({ length: 80 }, () => ({
        sender: 'server',
        bytes: record,
      }));
      expect(unreadable(decode([...pieces, ...flood]))).toEqual([
        { type: 'unreadable', sender: 'server', reason: 'no key for its records' },
      ]);
    }),
  );
});

// SSL_OP_NO_ENCRYPT_THEN_MAC of OpenSSL's ssl.h.
const NO_ENCRYPT_THEN_MAC = 1 << 19;

describe('tampered records: unreadable, and never a message', () => {
  test.each<readonly [string, Partial<ServerOptions>]>([
    ['TLS_AES_128_GCM_SHA256', only('TLSv1.3')],
    ['TLS_CHACHA20_POLY1305_SHA256', only('TLSv1.3')],
    ['ECDHE-ECDSA-AES128-GCM-SHA256', only('TLSv1.2')],
    ['ECDHE-ECDSA-CHACHA20-POLY1305', only('TLSv1.2')],
    ['ECDHE-ECDSA-AES128-CCM', only('TLSv1.2')],
    ['ECDHE-ECDSA-AES128-SHA256', only('TLSv1.2')],
    ['ECDHE-ECDSA-AES256-SHA384', { ...only('TLSv1.2'), secureOptions: NO_ENCRYPT_THEN_MAC }],
    ['ECDHE-ECDSA-AES128-SHA', { ...only('TLSv1.2'), secureOptions: NO_ENCRYPT_THEN_MAC }],
  ])('%s', (ciphers, fixed) =>
    clean(async (scope) => {
      const options = { ...fixed, ciphers };
      const port = await echo(scope, { ...options, requestCert: true, rejectUnauthorized: false });
      const pieces = joined(await converse(port, options as ConnectOptions));
      expectWhole(pieces);
      const whole = of(decode(pieces), 'server').filter((one) => one.type !== 'record');
      // Each of the server's bytes behind its ServerHello's record, one bit at a time.
      const server = serverBytes(pieces);
      const seed = runSeed();
      const random = randomNumbers(seed);
      const protectedFrom = firstProtected(server);
      for (let i = 0; i < 100; i++) {
        const changed = Buffer.from(server);
        // A length that grows would only leave the record waiting for more.
        const at = bodyByte(server, protectedFrom, random);
        changed[at] = (changed[at] as number) ^ (1 << random(8));
        const decoded = decode(withServerBytes(pieces, changed)).filter(
          (one) => one.sender === 'server',
        );
        const what = `SEED=${seed}, byte ${at} of ${server.length}`;
        expect(unreadable(decoded).length, what).toBe(1);
        const seen = of(decoded, 'server').filter(
          (one) => one.type !== 'record' && one.type !== 'unreadable',
        );
        // What was reported is the beginning of what was really sent.
        expect(seen, what).toEqual(whole.slice(0, seen.length));
        expect(seen.length, what).toBeLessThan(whole.length);
      }
    })(),
  );
});

// RFC 5246 section 6.2.3.2: "The receiver MUST check this padding", which no MAC covers when it comes
// first. Finished and a MAC of 48 bytes make four blocks, so the fifth is padding and nothing else:
// one in 256 of all blocks in its place ends in the right length.
test('a block of padding in TLS 1.2 that is not the one sent: unreadable', () =>
  clean(async (scope) => {
    const options = {
      ...only('TLSv1.2'),
      ciphers: 'ECDHE-ECDSA-AES256-SHA384',
      secureOptions: NO_ENCRYPT_THEN_MAC,
    };
    const port = await echo(scope, options);
    const pieces = joined(await converse(port, options));
    expectWhole(pieces);
    const server = serverBytes(pieces);
    const start = firstProtected(server);
    const end = start + 5 + server.readUInt16BE(start + 3);
    // An IV, four blocks and the padding.
    expect(end - start - 5).toBe(6 * 16);
    const seed = runSeed();
    const random = randomNumbers(seed);
    for (let i = 0; i < 3000; i++) {
      const changed = Buffer.from(server);
      for (let at = end - 16; at < end; at++) changed[at] = random(256);
      const decoded = decode(withServerBytes(pieces, changed));
      const what = `SEED=${seed}, block ${i}`;
      expect(unreadable(decoded).length, what).toBe(1);
      expect(messagesOf(decoded, 'server'), what).not.toContain(finished);
    }
  })());

const serverBytes = (pieces: readonly Piece[]): Buffer =>
  Buffer.concat(
    pieces.flatMap((one) => ('bytes' in one && one.sender === 'server' ? [one.bytes] : [])),
  );

/** The conversation with all of the server's bytes where the first of them were. */
function withServerBytes(pieces: readonly Piece[], bytes: Buffer): Piece[] {
  let sent = false;
  return pieces.flatMap((one) => {
    if (!('bytes' in one) || one.sender !== 'server') return [one];
    if (sent) return [];
    sent = true;
    return [{ sender: 'server', bytes }];
  });
}

/** The first byte of the first protected record. */
function firstProtected(bytes: Buffer): number {
  let changed = false;
  for (let at = 0; at < bytes.length; at += 5 + bytes.readUInt16BE(at + 3)) {
    if (bytes[at] === 23 || (changed && bytes[at] === 22)) return at;
    if (bytes[at] === 20) changed = true;
  }
  throw new Error('no protected record');
}

/** The position of any body byte of any protected record. */
function bodyByte(bytes: Buffer, from: number, random: (below: number) => number): number {
  const positions: Array<readonly [number, number]> = [];
  for (let at = from; at < bytes.length; at += 5 + bytes.readUInt16BE(at + 3)) {
    if (bytes[at] !== 20) positions.push([at + 5, bytes.readUInt16BE(at + 3)]);
  }
  const [start, length] = positions[random(positions.length)] as readonly [number, number];
  return start + random(length);
}

/** Bytes in pieces of these sizes; secrets where they were. */
function* cut(pieces: readonly Piece[], size: () => number): Iterable<Piece> {
  for (const piece of pieces) {
    if ('secret' in piece) {
      yield piece;
      continue;
    }
    for (let at = 0; at < piece.bytes.length; ) {
      const end = at + size();
      yield { sender: piece.sender, bytes: piece.bytes.subarray(at, end) };
      at = end;
    }
  }
}

/** What one sender sent in a row, as one piece. */
function joined(pieces: readonly Piece[]): Piece[] {
  const out: Piece[] = [];
  for (const piece of pieces) {
    const last = out.at(-1);
    if (last !== undefined && 'bytes' in last && 'bytes' in piece && last.sender === piece.sender) {
      const bytes = Buffer.concat([last.bytes, piece.bytes]);
      out[out.length - 1] = { sender: piece.sender, bytes };
    } else out.push(piece);
  }
  return out;
}

describe('TLS 1.3', () => {
  test(
    'HelloRetryRequest',
    clean(async (scope) => {
      const port = await echo(scope, { ...only('TLSv1.3'), ecdhCurve: 'P-384' });
      const pieces = await converse(port, { ...only('TLSv1.3'), ecdhCurve: 'X25519:P-384' });
      const decoded = expectWhole(pieces);
      expect(messagesOf(decoded, 'client').slice(0, 2)).toEqual([clientHello, clientHello]);
      expect(messagesOf(decoded, 'server').slice(0, 2)).toEqual([serverHello, serverHello]);
      for (const one of decoded) if (one.type === 'handshake') expect(one.handshake).toBe(0);
    }),
  );

  describeServer('openssl', 'KeyUpdate', () => {
    test.each(['k', 'K'])('by a server, command %s', (command) =>
      clean(async (scope) => {
        const { port, process } = await sServer(scope, ['-tls1_3']);
        const capture = new Capture();
        const stream = await connect({
          ...{ host: 'localhost', port, ca: serverCa().pem, record: capture },
        });
        await process.until((output) => /^CIPHER is/m.exec(output));
        const updates = (sender: 'client' | 'server') =>
          messagesOf(decode(capture.pieces), sender).filter((type) => type === keyUpdate).length;
        for (const [i, text] of ['one', 'two'].entries()) {
          const read = stream.read();
          // Each command is a read of its own: s_server ignores what comes with one.
          process.send(command);
          await until('its KeyUpdate has come', () => updates('server') === i + 1);
          process.send(text);
          expect(Buffer.from((await read) ?? []).toString()).toBe(`${text}\n`);
          await stream.write(`${text} came\n`);
        }
        await stream.close();
        const decoded = decode(capture.pieces);
        expect(unreadable(decoded)).toEqual([]);
        expect(updates('server')).toBe(2);
        // "K" asks for the peer's KeyUpdate as well.
        expect(updates('client')).toBe(command === 'K' ? 2 : 0);
        expect(lastAlert(decoded, 'client')).toMatchObject({
          alert: CLOSE_NOTIFY,
          authenticated: true,
        });
      })(),
    );

    test.each(['k', 'K'])('by a client, command %s, seen by the server', (command) =>
      clean(async (scope) => {
        const capture = new Capture('server');
        const port = await echo(scope, { ...only('TLSv1.3'), record: () => capture });
        const client = new PeerProcess('openssl', [
          ...['s_client', '-connect', `127.0.0.1:${port}`, '-servername', 'localhost'],
          ...['-CAfile', testFile('ca.pem', serverCa().pem)],
        ]);
        scope.peersStay();
        scope.defer(() => client.kill());
        await client.until((output) => /Verify return code: 0/.exec(output));
        client.send(command);
        await client.until((output) => /^KEYUPDATE$/m.exec(output));
        client.send('hello');
        await client.until((output) => /^hello$/m.exec(output));
        client.send('Q');
        await client.ended();
        const decoded = decode(capture.pieces);
        expect(unreadable(decoded)).toEqual([]);
        expect(messagesOf(decoded, 'client')).toContain(keyUpdate);
        expect(messagesOf(decoded, 'server').includes(keyUpdate)).toBe(command === 'K');
        expect(lastAlert(decoded, 'client')).toMatchObject({
          alert: CLOSE_NOTIFY,
          authenticated: true,
        });
      })(),
    );
  });

  test(
    'session tickets are seen',
    clean(async (scope) => {
      const pieces = await converse(await echo(scope, only('TLSv1.3')), only('TLSv1.3'));
      expect(messagesOf(decode(pieces), 'server')).toContain(newSessionTicket);
    }),
  );
});

describe('what is no TLS', () => {
  const clear = (type: number, body: Uint8Array): Piece => ({
    sender: 'server',
    bytes: Buffer.concat([Buffer.from([type, 3, 3, body.length >> 8, body.length]), body]),
  });

  test('an alert in the clear is told as what anyone can have sent', () => {
    expect(decode([clear(21, Buffer.from([2, 40]))])).toContainEqual({
      type: 'alert',
      sender: 'server',
      alert: { level: 'fatal', code: 40, name: 'handshake_failure' },
      authenticated: false,
    });
  });

  test('a malformed ServerHello makes its direction unreadable', () => {
    const decoded = decode([clear(22, message(serverHello, Buffer.alloc(10)))]);
    expect(unreadable(decoded)).toHaveLength(1);
  });

  test('random bytes: no message, no exception', () => {
    const seed = runSeed();
    const random = randomNumbers(seed);
    for (let i = 0; i < 2_000; i++) {
      const bytes = Buffer.from(Array.from({ length: 1 + random(300) }, () => random(256)));
      const sender = random(2) === 0 ? 'client' : 'server';
      try {
        decode([{ sender, bytes }]);
      } catch (error) {
        throw new Error(`SEED=${seed}: ${bytes.toString('hex')}`, { cause: error });
      }
    }
  });
});

describe('mutated connections', () => {
  test.each(VERSIONS)('%s: reports, and no exception', (version) =>
    clean(async (scope) => {
      const port = await echo(scope, {
        ...only(version),
        requestCert: true,
        rejectUnauthorized: false,
      });
      const pieces = joined(await converse(port, only(version)));
      const seed = runSeed();
      const random = randomNumbers(seed);
      for (let i = 0; i < 1_500; i++) {
        const changed = pieces.map((one) => {
          if ('secret' in one || random(3) > 0) return one;
          const bytes = Buffer.from(one.bytes);
          for (let n = random(4); n >= 0; n--) bytes[random(bytes.length)] = random(256);
          return { sender: one.sender, bytes: bytes.subarray(0, 1 + random(bytes.length)) };
        });
        try {
          decode(changed);
        } catch (error) {
          throw new Error(`SEED=${seed}, round ${i}`, { cause: error });
        }
      }
    })(),
  );
});
