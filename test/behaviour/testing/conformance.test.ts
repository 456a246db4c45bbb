/** The conformance kit, held against a stream that passes it and one that is known not to. */
import { X509Certificate } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import {
  type Adapter,
  CHECKS,
  type Check,
  ConformanceError,
  closeNotifyAdapter,
  conformance,
  type Party,
  selfSigned,
} from '../../../src/testing/index.ts';
import { nodeTls } from '../../support/node-tls.ts';

describe('the streams of this package pass', () => {
  for (const check of conformance(closeNotifyAdapter(), { limit: 20_000 })) {
    test(check.id, () => check.run());
  }
});

/** What plain `node:tls` cannot tell, over a transport that is no socket. */
const NODE_FAILS: readonly string[] = [
  'truncation/record-boundary',
  'truncation/inside-data',
  'truncation/inside-close-notify',
  'truncation/nothing-said',
  'truncation/after-own-close',
  'truncation/pending-read',
  'truncation/every-byte-of-the-tail',
  // As a server it does not notice at all that a Duplex has ended during the handshake.
  'truncation/handshake/server',
  'truncation/handshake-before-a-byte/server',
  // And it closes the transport before its answer is out.
  'closure/answers-at-once',
];
const fails = ({ id }: Check) => NODE_FAILS.some((name) => id.startsWith(`${name}/`));

describe('plain node:tls', () => {
  for (const check of conformance(nodeTls, { limit: 20_000 })) {
    if (!fails(check)) test(`passes ${check.id}`, () => check.run());
  }
  // Some of these hang, and nothing is learnt from waiting longer.
  for (const check of conformance(nodeTls, { limit: 1_000 })) {
    if (!fails(check)) continue;
    test(`fails ${check.id}`, async () => {
      await expect(check.run()).rejects.toThrow(ConformanceError);
    });
  }
});

/** Our streams, spoilt in one respect. */
function spoilt(spoil: (party: Party) => Partial<Party>): Adapter {
  const own = closeNotifyAdapter();
  return {
    name: 'spoilt',
    versions: ['TLSv1.3'],
    roles: ['client'],
    async open(options) {
      const party = await own.open(options);
      const changes = spoil(party);
      return {
        write: (bytes) => party.write(bytes),
        read: () => party.read(),
        closeWrite: () => party.closeWrite(),
        close: () => party.close(),
        destroy: () => party.destroy(),
        ...changes,
      };
    },
  };
}

/** Which of these checks it fails. */
async function failing(subject: Adapter, some: readonly string[] = CHECKS): Promise<string[]> {
  const names: string[] = [];
  for (const check of conformance(subject, { limit: 1_000 })) {
    // This one is a hundred connections, and the others say the same.
    if (!some.includes(check.name) || check.name === 'truncation/every-byte-of-the-tail') continue;
    try {
      await check.run();
    } catch (error) {
      if (!(error instanceof ConformanceError)) throw error;
      names.push(check.name);
    }
  }
  return names;
}

describe('the kit notices', () => {
  test('a stream that calls every failure an end', async () => {
    const names = await failing(
      spoilt((party) => ({ read: () => party.read().catch(() => null) })),
    );
    const due = CHECKS.filter(
      (name) => /^(truncation|forgery)\//.test(name) && !/handshake|every-byte/.test(name),
    );
    expect(names).toEqual(expect.arrayContaining(due));
  });

  test('a stream that calls every end a failure', async () => {
    const names = await failing(
      spoilt((party) => ({
        read: async () => {
          const bytes = await party.read();
          if (bytes === null) throw new Error('truncated');
          return bytes;
        },
      })),
    );
    expect(names).toEqual(expect.arrayContaining(['closure/peer-first', 'trailing/ignored']));
    expect(names.filter((name) => name.startsWith('truncation/record'))).toEqual([]);
  });

  test('a stream that loses its last byte', async () => {
    const names = await failing(
      spoilt((party) => ({
        read: async () => {
          const bytes = await party.read();
          return bytes === null ? null : bytes.subarray(0, Math.max(1, bytes.length - 1));
        },
      })),
      ['closure/data-before-close-notify'],
    );
    expect(names).toEqual(['closure/data-before-close-notify']);
  });

  test('a stream that sends no close_notify', async () => {
    const some = ['closure/need-not-wait'];
    expect(
      await failing(
        spoilt(() => ({ closeWrite: async () => {} })),
        some,
      ),
    ).toEqual(some);
  });

  test('a stream that takes writes after close_notify', async () => {
    const some = ['closure/write-after-close'];
    const subject = spoilt((party) => ({ write: (bytes) => party.write(bytes).catch(() => {}) }));
    expect(await failing(subject, some)).toEqual(some);
  });

  test('a stream whose word differs from what it does', async () => {
    const some = ['closure/peer-first', 'truncation/record-boundary'];
    expect(
      await failing(
        spoilt(() => ({ ending: () => 'open' as const })),
        some,
      ),
    ).toEqual(some);
  });
});

test('a failure says which rule, what was expected and what was seen', async () => {
  const [check] = conformance(nodeTls).filter(({ id }) =>
    id.startsWith('truncation/record-boundary/client'),
  );
  const error = await check?.run().catch((thrown: unknown) => thrown);
  expect(error).toBeInstanceOf(ConformanceError);
  expect(error).toMatchObject({
    check: 'truncation/record-boundary/client/TLSv1.2',
    requirement: { source: 'RFC 9846 section 6.1' },
    expected: 'reading to fail',
    actual: 'it ended as if complete, after 10 bytes',
  });
});

test('every check has an id of its own, and a rule', () => {
  const checks = conformance(closeNotifyAdapter());
  expect(new Set(checks.map(({ id }) => id)).size).toBe(checks.length);
  expect(new Set(checks.map(({ name }) => name))).toEqual(new Set(CHECKS));
  for (const { requirement } of checks) expect(requirement.text).toMatch(/\w/);
});

test('certificates are for the name asked for, and new each time', () => {
  const [one, two] = [selfSigned('peer.test'), selfSigned('peer.test')];
  expect(one.cert).not.toBe(two.cert);
  const certificate = new X509Certificate(one.cert);
  expect(certificate.checkHost('peer.test')).toBe('peer.test');
  expect(certificate.verify(certificate.publicKey)).toBe(true);
});
