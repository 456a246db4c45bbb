/** Servers that ask in wrong words, or say wrong things around a request. */
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { ClientCertificateFinder, type FindOptions } from '../../../src/client-cert/finder.ts';
import { randomNumbers, runSeed } from '../../support/cert-capture.ts';
import { certificate, commonName, name, tlv } from '../../support/cert-der.ts';
import {
  CLIENT_12,
  CLIENT_13,
  extension,
  flight12,
  message,
  type Reply,
  type Request13,
  records,
  request12,
  request13,
  SCHEMES,
  type Script13,
  scripted12,
  scripted13,
  uint,
  vector,
} from '../../support/cert-flight.ts';
import { serverCa } from '../../support/cert-pki.ts';
import { clean, type Scope } from '../../support/core-scope.ts';
import { rejection } from '../../support/core-streams.ts';
import { listen } from '../../support/core-transport.ts';

const REQUEST = 13;
const HANDSHAKE_FAILURE = 40;
const CERTIFICATE_REQUIRED = 116;

// What the code under test throws out of an event handler would end a user's process.
let uncaught: unknown[] = [];
const keep = (error: unknown) => uncaught.push(error);
beforeEach(() => {
  uncaught = [];
  process.on('uncaughtException', keep);
});
afterEach(() => {
  process.off('uncaughtException', keep);
  expect(uncaught).toEqual([]);
});

const find = (port: number, options: FindOptions) =>
  new ClientCertificateFinder({ ca: serverCa().pem }).find({ host: 'localhost', port }, options);

/** Only for those that wait for it on purpose: a hang is a failure by the test's own limit. */
const SHORT = { deadlines: { handshake: 1_500, shutdown: 300, close: 300 } } as const;

/** A flight of TLS 1.2 with this CertificateRequest. */
function flight(request: Uint8Array, size?: number): Buffer {
  const { serverHello, certificate, done } = flight12();
  return records(
    22,
    Buffer.concat([serverHello, certificate, message(REQUEST, request), done]),
    size,
  );
}

const find12 = async (scope: Scope, request: Uint8Array, reply: Reply = HANDSHAKE_FAILURE) =>
  find(await scripted12(scope, flight(request), reply), CLIENT_12);

const find13 = async (scope: Scope, request: Uint8Array, reply: Reply = CERTIFICATE_REQUIRED) =>
  find(await scripted13(scope, { request: [message(REQUEST, request)], reply }), CLIENT_13);

const names = [commonName('first'), commonName('second')];
const printed = ['CN=first', 'CN=second'];

describe('what a server does without a certificate', () => {
  test.each<readonly [Reply, string, string]>([
    [HANDSHAKE_FAILURE, 'required', 'alert'],
    [CERTIFICATE_REQUIRED, 'required', 'alert'],
    [42, 'required', 'alert'],
    // internal_error, unexpected_message, decrypt_error: not about the certificate.
    [80, 'unknown', 'alert'],
    [10, 'unknown', 'alert'],
    [51, 'unknown', 'alert'],
    ['fin', 'unknown', 'truncated'],
    ['silence', 'unknown', 'timed-out'],
  ])('TLS 1.2, %s: %s', (reply, request, verdict) =>
    clean(async (scope) => {
      scope.peersStay();
      const port = await scripted12(scope, flight(request12({ names })), reply);
      const options = reply === 'silence' ? { ...CLIENT_12, ...SHORT } : CLIENT_12;
      const result = await find(port, options);
      expect(result).toMatchObject({ request, when: 'handshake', closure: { verdict } });
      expect([...result.issuers].map(String)).toEqual(printed);
      expect(result.tls?.protocol).toBe('TLSv1.2');
    })(),
  );

  test.each<readonly [Reply, string, string]>([
    [CERTIFICATE_REQUIRED, 'required', 'alert'],
    [HANDSHAKE_FAILURE, 'required', 'alert'],
    [80, 'unknown', 'alert'],
    ['fin', 'unknown', 'truncated'],
    ['silence', 'unknown', 'timed-out'],
    ['close-notify', 'optional', 'secure'],
    // Anyone can have sent it: it proves nothing of what the server does.
    ['close-notify-in-the-clear', 'unknown', 'alert'],
  ])('TLS 1.3, %s: %s', (reply, request, verdict) =>
    clean(async (scope) => {
      scope.peersStay();
      const port = await scripted13(scope, {
        request: [message(REQUEST, request13({ names }))],
        reply,
      });
      const options = reply === 'silence' ? { ...CLIENT_13, ...SHORT } : CLIENT_13;
      const result = await find(port, options);
      expect(result).toMatchObject({ request, when: 'handshake', closure: { verdict } });
      expect([...result.issuers].map(String)).toEqual(printed);
      expect(result).toMatchObject({ authorized: true, tls: { protocol: 'TLSv1.3' } });
    })(),
  );
});

describe('a request with everything', () => {
  test(
    'TLS 1.3',
    clean(async (scope) => {
      scope.peersStay();
      const request: Request13 = {
        names,
        schemes: [0x0403, 0x0807, 0x1234],
        schemesCert: [0x0401],
        filters: [[Buffer.from('0603551d0f', 'hex'), Buffer.from('03020780', 'hex')]],
      };
      const result = await find13(scope, request13(request));
      expect(result).toMatchObject({
        signatureAlgorithms: ['ecdsa_secp256r1_sha256', 'ed25519', '0x1234'],
        certificateTypes: null,
        oidFilters: [{ oid: '0603551d0f', values: '03020780' }],
      });
      expect(result.certificateRequest?.signatureAlgorithmsCert).toEqual([0x0401]);
    }),
  );

  test(
    'TLS 1.2',
    clean(async (scope) => {
      scope.peersStay();
      const result = await find12(scope, request12({ names, types: [1, 64, 9] }));
      expect(result).toMatchObject({
        certificateTypes: ['rsa_sign', 'ecdsa_sign', '9'],
        oidFilters: null,
      });
      expect(result.signatureAlgorithms).toContain('rsa_pss_rsae_sha256');
    }),
  );

  test.each([1, 2, 5, 100])('TLS 1.2, in records of %d bytes', (size) =>
    clean(async (scope) => {
      scope.peersStay();
      const port = await scripted12(scope, flight(request12({ names }), size), 40);
      // OpenSSL takes at most 32 empty ones in a row; these are not empty.
      expect([...(await find(port, CLIENT_12)).issuers].map(String)).toEqual(printed);
    })(),
  );

  test.each([1, 2, 5, 100])('TLS 1.3, in records of %d bytes, padded', (recordSize) =>
    clean(async (scope) => {
      scope.peersStay();
      const port = await scripted13(scope, {
        request: [message(REQUEST, request13({ names }))],
        reply: CERTIFICATE_REQUIRED,
        recordSize,
        padding: 7,
      });
      expect([...(await find(port, CLIENT_13)).issuers].map(String)).toEqual(printed);
    })(),
  );
});

/** Bytes that are no Name, each in the place of one. */
const NOT_NAMES: Readonly<Record<string, Uint8Array>> = {
  text: Buffer.from('CN=first'),
  'an empty relative name': Buffer.from('30023100', 'hex'),
  'a name with bytes behind it': Buffer.concat([commonName('x'), Uint8Array.of(0)]),
  'a name that is cut': commonName('xyz').subarray(0, -1),
  'a name with a time that is none': name(['CN', tlv(0x18, Buffer.from('20'))]),
  'deep nesting': Buffer.alloc(40_000, '3080', 'hex'),
};

describe('names that are none: ERR_TLS_REQUEST', () => {
  test.each(Object.keys(NOT_NAMES))('TLS 1.2, %s', (what) =>
    clean(async (scope) => {
      scope.peersStay();
      const bad = NOT_NAMES[what] as Uint8Array;
      const error = await rejection(find12(scope, request12({ names: [...names, bad] })));
      expect(error.code).toBe('ERR_TLS_REQUEST');
      expect(error.message).toMatch(/CertificateRequest/);
    })(),
  );

  test.each(Object.keys(NOT_NAMES))('TLS 1.3, %s', (what) =>
    clean(async (scope) => {
      scope.peersStay();
      const bad = NOT_NAMES[what] as Uint8Array;
      const error = await rejection(find13(scope, request13({ names: [bad, ...names] })));
      expect(error.code).toBe('ERR_TLS_REQUEST');
    })(),
  );
});

describe('mangled requests', () => {
  const whole = request12({ names });
  const mangled: Readonly<Record<string, Uint8Array>> = {
    empty: new Uint8Array(0),
    'cut in the names': whole.subarray(0, -3),
    'cut before the names': whole.subarray(0, whole.length - 2 - 34),
    'bytes behind it': Buffer.concat([whole, Uint8Array.of(0)]),
    'no certificate types': request12({ types: [], names }),
    'an empty name': request12({ names: [new Uint8Array(0)] }),
    'half a scheme': Buffer.concat([
      vector(1, Uint8Array.of(1)),
      vector(2, Buffer.alloc(3, 4)),
      vector(2),
    ]),
    'a list longer than the message': Buffer.concat([
      whole.subarray(0, whole.length - 2 - 34),
      uint(2, 0xffff),
      whole.subarray(-34),
    ]),
  };
  test.each(Object.keys(mangled))('TLS 1.2, %s', (what) =>
    clean(async (scope) => {
      scope.peersStay();
      const error = await rejection(find12(scope, mangled[what] as Uint8Array));
      expect(error.code).toBe('ERR_TLS_REQUEST');
    })(),
  );

  const algorithms = extension(13, vector(2, uint(2, 0x0403)));
  const mangled13: Readonly<Record<string, Uint8Array>> = {
    empty: new Uint8Array(0),
    'no signature_algorithms': request13({ schemes: null, names }),
    'signature_algorithms twice': request13({ names, more: [algorithms] }),
    'names twice': request13({
      names,
      more: [extension(47, vector(2, vector(2, commonName('x'))))],
    }),
    'an empty list of names': request13({ names: [] }),
    'an empty name': request13({ names: [new Uint8Array(0)] }),
    'bytes behind it': Buffer.concat([request13({ names }), Uint8Array.of(0)]),
    cut: request13({ names }).subarray(0, -4),
  };
  test.each(Object.keys(mangled13))('TLS 1.3, %s', (what) =>
    clean(async (scope) => {
      scope.peersStay();
      const error = await rejection(find13(scope, mangled13[what] as Uint8Array));
      expect(error.code).toBe('ERR_TLS_REQUEST');
    })(),
  );

  test(
    'mutations: the names, or an error with a code; never other names where the bytes were not touched',
    clean(async (scope) => {
      scope.peersStay();
      const seed = runSeed();
      const random = randomNumbers(seed);
      for (let i = 0; i < 60; i++) {
        const request = Buffer.from(request12({ names }));
        // Before the names: those are as they were, or there is an error.
        const limit = 4 + 2 * SCHEMES.length;
        request[random(limit)] = random(256);
        const what = `SEED=${seed}, round ${i}`;
        try {
          const result = await find12(scope, request);
          expect([...result.issuers].map(String), what).toEqual(printed);
        } catch (error) {
          expect((error as { code?: string }).code, what).toMatch(/^ERR_TLS_/);
        }
      }
    }),
  );
});

/** What TLS itself refuses is no answer: whoever sent it need not be the server. */
describe('flights that the handshake refuses: an error, and no names', () => {
  const { serverHello, certificate: own, done } = flight12();
  const request = (text: string) => message(REQUEST, request12({ names: [commonName(text)] }));
  const flights: Readonly<Record<string, readonly Uint8Array[]>> = {
    'two requests': [serverHello, own, request('a'), request('b'), done],
    'a request before the ServerHello': [request('a'), serverHello, own, done],
    'a request before the certificate': [serverHello, request('a'), own, done],
    'an unknown message behind it': [serverHello, own, request('a'), message(99, Buffer.from('x'))],
    'a ServerHelloDone with content': [
      serverHello,
      own,
      request('a'),
      message(14, Buffer.from('x')),
    ],
  };
  test.each(Object.keys(flights))('TLS 1.2, %s', (what) =>
    clean(async (scope) => {
      scope.peersStay();
      const bytes = records(22, Buffer.concat(flights[what] as Uint8Array[]));
      const error = await rejection(find(await scripted12(scope, bytes, 40), CLIENT_12));
      expect(error.code).toMatch(/^ERR_TLS_(ALERT|HANDSHAKE|REQUEST)$/);
    })(),
  );

  test(
    'a ServerHello that cannot be read is not blamed on the request',
    clean(async (scope) => {
      scope.peersStay();
      const bytes = records(22, message(2, Buffer.alloc(10)));
      const error = await rejection(find(await scripted12(scope, bytes, 40), CLIENT_12));
      expect(error.code).toMatch(/^ERR_TLS_(ALERT|HANDSHAKE)$/);
    }),
  );

  const ask = message(REQUEST, request13({ names }));
  const scripts: Readonly<Record<string, Omit<Script13, 'reply'>>> = {
    'two requests': { request: [ask, ask] },
    'a signature that does not verify': {
      request: [ask],
      change: (messages) =>
        messages.map((one) => {
          if (one[0] !== 15) return one;
          const changed = Buffer.from(one);
          changed[changed.length - 1] = (changed[changed.length - 1] as number) ^ 1;
          return changed;
        }),
    },
    'a Finished that does not verify': {
      request: [ask],
      change: (messages) =>
        messages.map((one) => (one[0] === 20 ? message(20, Buffer.alloc(32)) : one)),
    },
  };
  test.each(Object.keys(scripts))('TLS 1.3, %s', (what) =>
    clean(async (scope) => {
      scope.peersStay();
      const port = await scripted13(scope, {
        ...(scripts[what] as Omit<Script13, 'reply'>),
        reply: CERTIFICATE_REQUIRED,
      });
      const error = await rejection(find(port, CLIENT_13));
      expect(error.code).toMatch(/^ERR_TLS_(ALERT|HANDSHAKE|REQUEST)$/);
    })(),
  );
});

describe('flights that are cut', () => {
  test(
    'TLS 1.3, anywhere: an error, or the names and "unknown"',
    clean(async (scope) => {
      scope.peersStay();
      const seed = runSeed();
      const random = randomNumbers(seed);
      for (let i = 0; i < 40; i++) {
        const cutAt = random(1_000);
        const port = await scripted13(scope, {
          request: [message(REQUEST, request13({ names }))],
          reply: 'silence',
          recordSize: 50,
          cutAt,
        });
        const what = `SEED=${seed}, cut at ${cutAt}`;
        try {
          const result = await find(port, CLIENT_13);
          expect(result.request, what).toBe('unknown');
          expect([...result.issuers].map(String), what).toEqual(printed);
        } catch (error) {
          expect((error as { code?: string }).code, what).toBe('ERR_TLS_TRUNCATED');
        }
      }
    }),
  );

  test(
    'TLS 1.2, at every byte behind the request: the names and "unknown"; before: an error',
    clean(async (scope) => {
      scope.peersStay();
      const { serverHello, certificate: own, done } = flight12();
      const parts = [serverHello, own, message(REQUEST, request12({ names })), done];
      const before = Buffer.concat(parts.slice(0, 2)).length;
      const after = Buffer.concat(parts.slice(0, 3)).length;
      // A record for each piece, so that what was sent before the cut can be read.
      const bytes = Buffer.concat(parts.map((part) => records(22, part)));
      const complete = after + 15;
      for (const cut of [0, 3, before, before + 12, complete - 1, complete, complete + 3]) {
        const port = await scripted12Cut(scope, bytes.subarray(0, cut));
        if (cut < complete) {
          const error = await rejection(find(port, CLIENT_12));
          expect(error.code, `cut at ${cut}`).toBe('ERR_TLS_TRUNCATED');
        } else {
          const result = await find(port, CLIENT_12);
          expect(result.request, `cut at ${cut}`).toBe('unknown');
          expect([...result.issuers].map(String)).toEqual(printed);
          expect(result.closure.verdict).toBe('truncated');
        }
      }
    }),
  );
});

/** Sends these bytes after the ClientHello, and FIN. */
async function scripted12Cut(scope: Scope, bytes: Uint8Array): Promise<number> {
  return listen(
    scope,
    (socket) => {
      socket.once('data', () => {
        socket.resume();
        socket.end(bytes);
      });
    },
    { allowHalfOpen: true },
  );
}

describe('a server that does not verify: ERR_TLS_CERTIFICATE', () => {
  const stranger = () => certificate({ subject: commonName('localhost'), altNames: true });

  test(
    'TLS 1.3, whatever it does then',
    clean(async (scope) => {
      scope.peersStay();
      for (const reply of [CERTIFICATE_REQUIRED, 'fin', 'close-notify'] as const) {
        const port = await scripted13(scope, {
          request: [message(REQUEST, request13({ names }))],
          reply,
          server: stranger(),
        });
        const error = await rejection(find(port, CLIENT_13));
        expect(error.code).toBe('ERR_TLS_CERTIFICATE');
      }
    }),
  );

  test(
    'TLS 1.3, with rejectUnauthorized: false: the names, not authorized, and why',
    clean(async (scope) => {
      scope.peersStay();
      const port = await scripted13(scope, {
        request: [message(REQUEST, request13({ names }))],
        reply: CERTIFICATE_REQUIRED,
        server: stranger(),
      });
      const result = await find(port, { ...CLIENT_13, rejectUnauthorized: false });
      expect(result).toMatchObject({
        request: 'required',
        authorized: false,
        authorizationError: 'DEPTH_ZERO_SELF_SIGNED_CERT',
      });
    }),
  );
});
