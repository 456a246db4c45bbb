/** The traces of RFC 8448, through the key schedule, the records and the decoder. */
import { createECDH, createHash } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { HANDSHAKE_TYPE, hex, parseCertificateRequest13 } from '../../../src/record/handshake.ts';
import { trafficKeys13 } from '../../../src/record/keys.ts';
import { type Suite, suiteOf } from '../../../src/record/suite.ts';
import { Unprotector } from '../../../src/record/unprotect.ts';
import {
  decode,
  lastAlert,
  messagesOf,
  of,
  type Piece,
  unreadable,
} from '../../support/cert-capture.ts';
import { message, Schedule, x25519 } from '../../support/cert-flight.ts';
import { CLIENT_AUTHENTICATION, RETRY, SIMPLE } from './rfc8448.ts';

const suite = suiteOf('TLS_AES_128_GCM_SHA256') as Suite;
const CLOSE_NOTIFY = { level: 'warning', code: 0, name: 'close_notify' };

/** The handshake messages of a trace before and in the server's flight. */
interface Trace {
  readonly shared: Buffer;
  /** Up to ServerHello, as the transcript has them. */
  readonly hellos: readonly Uint8Array[];
  readonly clientRandom: string;
  readonly serverFlight: Buffer;
}

/** The content of the flight, by the schedule that the tests derive themselves. */
function contentOf(secret: Uint8Array, record: Buffer): Uint8Array {
  const plain = new Unprotector(trafficKeys13(suite, secret), true).unprotect(
    record.subarray(0, 5),
    record.subarray(5),
  );
  expect(plain?.type).toBe(22);
  return plain?.content as Uint8Array;
}

/** The lines of the key log that a client of this trace would have written. */
function keyLog({ shared, hellos, clientRandom, serverFlight }: Trace): Piece[] {
  const schedule = new Schedule(shared);
  const handshake = schedule.handshake(hellos);
  const flight = contentOf(handshake.server, serverFlight);
  const application = schedule.application([...hellos, flight]);
  return [
    ['SERVER_HANDSHAKE_TRAFFIC_SECRET', handshake.server],
    ['CLIENT_HANDSHAKE_TRAFFIC_SECRET', handshake.client],
    ['SERVER_TRAFFIC_SECRET_0', application.server],
    ['CLIENT_TRAFFIC_SECRET_0', application.client],
  ].map(([label, secret]) => ({ secret: `${label} ${clientRandom} ${hex(secret as Buffer)}` }));
}

const client = (bytes: Uint8Array): Piece => ({ sender: 'client', bytes });
const server = (bytes: Uint8Array): Piece => ({ sender: 'server', bytes });
const body = (record: Buffer) => record.subarray(5);
const randomOf = (clientHello: Buffer) => hex(clientHello.subarray(11, 43));

const {
  encryptedExtensions,
  certificate,
  certificateRequest,
  certificateVerify,
  finished,
  clientHello,
  serverHello,
  newSessionTicket,
} = HANDSHAKE_TYPE;

describe('RFC 8448 section 3, simple 1-RTT handshake', () => {
  const trace: Trace = {
    shared: x25519(SIMPLE.clientPrivate, SIMPLE.serverPublic),
    hellos: [body(SIMPLE.clientHello), body(SIMPLE.serverHello)],
    clientRandom: randomOf(SIMPLE.clientHello),
    serverFlight: SIMPLE.serverFlight,
  };
  const pieces: Piece[] = [
    client(SIMPLE.clientHello),
    server(SIMPLE.serverHello),
    server(SIMPLE.serverFlight),
    client(SIMPLE.clientFinished),
    server(SIMPLE.newSessionTicket),
    client(SIMPLE.clientData),
    server(SIMPLE.serverData),
    client(SIMPLE.clientCloseNotify),
    server(SIMPLE.serverCloseNotify),
  ];

  test.each([
    [
      'server handshake',
      SIMPLE.serverHandshakeSecret,
      SIMPLE.serverHandshakeKey,
      SIMPLE.serverHandshakeIv,
    ],
    [
      'client handshake',
      SIMPLE.clientHandshakeSecret,
      SIMPLE.clientHandshakeKey,
      SIMPLE.clientHandshakeIv,
    ],
    ['server application', SIMPLE.serverSecret, SIMPLE.serverKey, SIMPLE.serverIv],
    ['client application', SIMPLE.clientSecret, SIMPLE.clientKey, SIMPLE.clientIv],
  ])('key and iv of the %s traffic secret', (_, secret, key, iv) => {
    const keys = trafficKeys13(suite, Buffer.from(secret, 'hex'));
    expect({ key: hex(keys.key), iv: hex(keys.iv) }).toEqual({ key, iv });
  });

  test('the secrets that the tests derive are the published ones', () => {
    const secrets = keyLog(trace).map((one) => ('secret' in one ? one.secret.split(' ')[2] : ''));
    expect(secrets).toEqual([
      SIMPLE.serverHandshakeSecret,
      SIMPLE.clientHandshakeSecret,
      SIMPLE.serverSecret,
      SIMPLE.clientSecret,
    ]);
  });

  test.each(['keys first', 'keys last'])('the whole connection, %s', (order) => {
    const keys = keyLog(trace);
    const decoded = decode(order === 'keys first' ? [...keys, ...pieces] : [...pieces, ...keys]);
    expect(unreadable(decoded)).toEqual([]);
    expect(messagesOf(decoded, 'client')).toEqual([clientHello, finished]);
    expect(messagesOf(decoded, 'server')).toEqual([
      serverHello,
      encryptedExtensions,
      certificate,
      certificateVerify,
      finished,
      newSessionTicket,
    ]);
    for (const sender of ['client', 'server'] as const) {
      expect(lastAlert(decoded, sender)).toMatchObject({
        alert: CLOSE_NOTIFY,
        authenticated: true,
      });
      expect(of(decoded, sender)).toContainEqual({
        type: 'record',
        sender,
        contentType: 23,
        length: 50,
        protected: true,
      });
    }
  });

  test('a record of which one bit is flipped stops its direction, and only that', () => {
    const changed = Buffer.from(SIMPLE.serverFlight);
    changed[300] = (changed[300] as number) ^ 1;
    const decoded = decode([
      ...keyLog(trace),
      ...pieces.map((one) =>
        'bytes' in one && one.bytes === SIMPLE.serverFlight ? server(changed) : one,
      ),
    ]);
    expect(messagesOf(decoded, 'server')).toEqual([serverHello]);
    expect(unreadable(decoded)).toEqual([
      { type: 'unreadable', sender: 'server', reason: 'a record does not authenticate' },
    ]);
    expect(lastAlert(decoded, 'client')).toMatchObject({ authenticated: true });
    expect(lastAlert(decoded, 'server')).toBeUndefined();
  });
});

describe('RFC 8448 section 5, HelloRetryRequest', () => {
  test('the whole connection', () => {
    const ecdh = createECDH('prime256v1');
    ecdh.setPrivateKey(RETRY.clientPrivate, 'hex');
    const trace: Trace = {
      shared: ecdh.computeSecret(RETRY.serverPublic, 'hex'),
      hellos: [
        // RFC 9846 section 4.4.1: the first ClientHello is replaced by a message_hash (254).
        message(254, createHash('sha256').update(body(RETRY.clientHello1)).digest()),
        body(RETRY.retry),
        body(RETRY.clientHello2),
        body(RETRY.serverHello),
      ],
      clientRandom: randomOf(RETRY.clientHello1),
      serverFlight: RETRY.serverFlight,
    };
    const decoded = decode([
      client(RETRY.clientHello1),
      server(RETRY.retry),
      client(RETRY.clientHello2),
      server(RETRY.serverHello),
      server(RETRY.serverFlight),
      ...keyLog(trace),
      client(RETRY.clientFinished),
      client(RETRY.clientCloseNotify),
      server(RETRY.serverCloseNotify),
    ]);
    expect(unreadable(decoded)).toEqual([]);
    expect(messagesOf(decoded, 'client')).toEqual([clientHello, clientHello, finished]);
    expect(messagesOf(decoded, 'server')).toEqual([
      serverHello,
      serverHello,
      encryptedExtensions,
      certificate,
      certificateVerify,
      finished,
    ]);
    for (const sender of ['client', 'server'] as const) {
      expect(lastAlert(decoded, sender)).toMatchObject({
        alert: CLOSE_NOTIFY,
        authenticated: true,
      });
    }
    // Both ClientHellos belong to one handshake.
    expect(decoded.flatMap((one) => (one.type === 'handshake' ? [one.handshake] : []))).toSatisfy(
      (all: number[]) => all.every((n) => n === 0),
    );
  });
});

describe('RFC 8448 section 6, client authentication', () => {
  test('the whole connection, and the CertificateRequest in it', () => {
    const t = CLIENT_AUTHENTICATION;
    const trace: Trace = {
      shared: x25519(t.clientPrivate, t.serverPublic),
      hellos: [body(t.clientHello), body(t.serverHello)],
      clientRandom: randomOf(t.clientHello),
      serverFlight: t.serverFlight,
    };
    const decoded = decode([
      ...keyLog(trace),
      client(t.clientHello),
      server(t.serverHello),
      server(t.serverFlight),
      client(t.clientFlight),
      client(t.clientCloseNotify),
      server(t.serverCloseNotify),
    ]);
    expect(unreadable(decoded)).toEqual([]);
    expect(messagesOf(decoded, 'client')).toEqual([
      clientHello,
      certificate,
      certificateVerify,
      finished,
    ]);
    const request = decoded.find(
      (one) => one.type === 'handshake' && one.messageType === certificateRequest,
    );
    if (request?.type !== 'handshake') throw new Error('no CertificateRequest');
    expect(request).toMatchObject({ sender: 'server', authenticated: true, tls13: true });
    expect(hex(request.body)).toBe(t.certificateRequest);
    expect(parseCertificateRequest13(request.body)).toMatchObject({
      authorities: [],
      namesAuthorities: false,
      signatureAlgorithms: [
        0x0403, 0x0503, 0x0603, 0x0203, 0x0804, 0x0805, 0x0806, 0x0401, 0x0501, 0x0601, 0x0201,
        0x0402, 0x0502, 0x0602, 0x0202,
      ],
    });
    expect(lastAlert(decoded, 'client')).toMatchObject({
      alert: CLOSE_NOTIFY,
      authenticated: true,
    });
    expect(lastAlert(decoded, 'server')).toMatchObject({
      alert: CLOSE_NOTIFY,
      authenticated: true,
    });
  });
});
