/** What a runtime knows of the peer: null where it does not, whatever it does instead of saying so. */
import type { TLSSocket } from 'node:tls';
import { expect, test } from 'vitest';
import { PeerOfSocket } from '../../../src/engine/peer.ts';

type Certificate = { readonly raw?: Buffer; issuerCertificate?: Certificate | undefined };

const certificate = (name: string, issuerCertificate?: Certificate): Certificate => ({
  raw: Buffer.from(name),
  issuerCertificate,
});

/** The peer of a socket that has these members. */
const peerOf = (members: Record<string, unknown> | null) =>
  new PeerOfSocket(() => members as unknown as TLSSocket | null);

const throws = () => {
  throw new TypeError('this socket has no handle any more');
};

const texts = (all: ReadonlyArray<Uint8Array | null>) =>
  all.map((one) => (one === null ? null : String(one)));

test('without a socket nothing is known', () => {
  const peer = peerOf(null);
  expect(peer.certificate()).toBe(null);
  expect(peer.certificates()).toEqual([]);
  expect(peer.session()).toBe(null);
  expect(peer.exportKeyingMaterial(32, 'EXPORTER-test')).toBe(null);
});

for (const [name, member] of [
  ['are missing', undefined],
  ['throw', throws],
  ['say nothing', () => undefined],
  ['say null', () => null],
] as const) {
  test(`a socket whose members ${name} knows nothing, and that is no error`, () => {
    const peer = peerOf({
      getPeerCertificate: member,
      getPeerX509Certificate: member,
      getSession: member,
      exportKeyingMaterial: member,
    });
    expect(peer.certificate()).toBe(null);
    expect(peer.certificates()).toEqual([]);
    expect(peer.session()).toBe(null);
    expect(peer.exportKeyingMaterial(32, 'EXPORTER-test') ?? null).toBe(null);
  });
}

test('the certificate: the other member is asked where the first knows none', () => {
  const asked: unknown[] = [];
  const both = {
    getPeerCertificate: (detailed: boolean) => {
      asked.push(detailed);
      return certificate('first');
    },
    getPeerX509Certificate: () => {
      asked.push('X509');
      return certificate('second');
    },
  };
  expect(texts([peerOf(both).certificate()])).toEqual(['first']);
  // Without the chain, which costs ten times as much; and the second takes the certificate away in Node 20.
  expect(asked).toEqual([false]);
  // Node gives an object without members where there is none.
  for (const getPeerCertificate of [() => ({}), () => null, throws, undefined]) {
    expect(texts([peerOf({ ...both, getPeerCertificate }).certificate()])).toEqual(['second']);
  }
});

test('the chain is followed to the one that signs itself, or to its end, or round once', () => {
  const root = certificate('root');
  root.issuerCertificate = root;
  const chain = (first: Certificate | null) =>
    texts(peerOf({ getPeerCertificate: () => first }).certificates());
  expect(chain(certificate('leaf', certificate('middle', root)))).toEqual([
    'leaf',
    'middle',
    'root',
  ]);
  expect(chain(certificate('leaf'))).toEqual(['leaf']);
  expect(chain(certificate('leaf', {}))).toEqual(['leaf']);
  const one = certificate('one');
  const other = certificate('other', one);
  one.issuerCertificate = other;
  expect(chain(one)).toEqual(['one', 'other']);
  expect(chain({})).toEqual([]);
});

test('a runtime that gives no chain gives the certificate alone', () => {
  const getPeerCertificate = (detailed: boolean) => (detailed ? throws() : certificate('leaf'));
  expect(texts(peerOf({ getPeerCertificate }).certificates())).toEqual(['leaf']);
});

test('a session is passed on as it is', () => {
  expect(texts([peerOf({ getSession: () => Buffer.from('ticket') }).session()])).toEqual([
    'ticket',
  ]);
});

test('exported keys: no context and an empty one are two things', () => {
  const calls: unknown[][] = [];
  const peer = peerOf({
    exportKeyingMaterial: (...args: unknown[]) => {
      calls.push(args);
      return Buffer.alloc(args[0] as number, 7);
    },
  });
  expect(peer.exportKeyingMaterial(4, 'label')).toEqual(Buffer.alloc(4, 7));
  peer.exportKeyingMaterial(5, 'label', new Uint8Array(0));
  peer.exportKeyingMaterial(6, 'label', Uint8Array.of(1, 2));
  expect(calls).toEqual([
    [4, 'label'],
    [5, 'label', Buffer.alloc(0)],
    [6, 'label', Buffer.of(1, 2)],
  ]);
});

test('exported keys: OpenSSL’s own error is thrown, one of a runtime that lacks them is not', () => {
  const failing = (code: unknown) =>
    peerOf({
      exportKeyingMaterial: () => {
        throw Object.assign(new Error('no'), { code });
      },
    });
  for (const code of ['ERR_SSL_TLS_ILLEGAL_EXPORTER_LABEL', 'ERR_CRYPTO_OPERATION_FAILED']) {
    expect(() => failing(code).exportKeyingMaterial(4, 'label')).toThrow('no');
  }
  for (const code of [undefined, 'ERR_METHOD_NOT_IMPLEMENTED', 'ERR_TLS_INVALID_STATE', 7]) {
    expect(failing(code).exportKeyingMaterial(4, 'label')).toBe(null);
  }
});

test('exported keys: a socket that was let go has none', () => {
  const peer = peerOf({ destroyed: true, exportKeyingMaterial: throws });
  expect(peer.exportKeyingMaterial(4, 'label')).toBe(null);
});
