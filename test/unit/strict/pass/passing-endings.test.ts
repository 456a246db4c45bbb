/** What the witness of a pass says of each way in which a connection may end. */
import type tls from 'node:tls';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { runSeed } from '../../../support/cert-capture.ts';
import { clean, type Scope, until } from '../../../support/core-scope.ts';
import { VERSIONS, type Version } from '../../../support/core-streams.ts';
import { reset } from '../../../support/core-transport.ts';
import { ALERT, type CraftedPeer, HANDSHAKE } from '../../../support/crafted-records.ts';
import { type UnderTest, underTest } from './passing-sockets.ts';

const CLOSE_NOTIFY = { level: 1, description: 0, authenticated: true };
const fatal = (description: number) => ({ level: 2, description, authenticated: true });

interface Ending {
  readonly name: string;
  readonly versions?: readonly Version[];
  /** What the peer sends behind 'data' and before FIN. */
  send(peer: CraftedPeer, version: Version): Buffer;
  readonly received: object | null;
  /** What was delivered in one segment; a record's end by default. */
  readonly where?: 'inside-record' | 'unknown';
  /** Whether Node takes what was sent without an error; true by default, null where that depends on OpenSSL. */
  readonly fine?: boolean | null;
}

const record = (type: number, ...content: number[]) =>
  Buffer.from([type, 3, 3, content.length >> 8, content.length & 255, ...content]);

const ONLY_13 = ['TLSv1.3'] as const;
const ONLY_12 = ['TLSv1.2'] as const;

const ENDINGS: readonly Ending[] = [
  { name: 'close_notify', send: (peer) => peer.closeNotify(), received: CLOSE_NOTIFY },
  { name: 'nothing', send: () => Buffer.alloc(0), received: null },
  {
    name: 'a part of a header',
    send: () => Buffer.of(23, 3, 3),
    received: null,
    where: 'inside-record',
  },
  {
    name: 'a part of a record',
    send: (peer) => peer.data('cut').subarray(0, 12),
    received: null,
    where: 'inside-record',
  },
  {
    name: 'all of close_notify but a byte',
    send: (peer) => peer.closeNotify().subarray(0, -1),
    received: null,
    where: 'inside-record',
  },
  {
    name: 'a fatal alert',
    send: (peer) => peer.alert(2, 20),
    received: fatal(20),
    fine: false,
  },
  {
    name: 'a fatal alert, then close_notify',
    send: (peer) => Buffer.concat([peer.alert(2, 20), peer.closeNotify()]),
    received: fatal(20),
    fine: false,
  },
  {
    name: 'close_notify, then a fatal alert and what is no record',
    send: (peer) => Buffer.concat([peer.closeNotify(), peer.alert(2, 20), Buffer.from('GET / ')]),
    received: CLOSE_NOTIFY,
    where: 'unknown',
  },
  {
    name: 'close_notify, padded',
    versions: ONLY_13,
    send: (peer) => peer.closeNotify(16_000),
    received: CLOSE_NOTIFY,
  },
  {
    name: 'user_canceled and close_notify, padded as JSSE does',
    versions: ONLY_13,
    send: (peer) => Buffer.concat([peer.alert(1, 90, 32), peer.closeNotify(32)]),
    received: CLOSE_NOTIFY,
  },
  {
    name: 'user_canceled and close_notify in TLS 1.2',
    versions: ONLY_12,
    send: (peer) => Buffer.concat([peer.alert(1, 90), peer.closeNotify()]),
    received: CLOSE_NOTIFY,
  },
  {
    name: 'user_canceled alone',
    send: (peer) => peer.alert(1, 90),
    received: null,
  },
  {
    name: 'close_notify of level fatal, which is the same in TLS 1.3',
    versions: ONLY_13,
    send: (peer) => peer.alert(2, 0),
    received: { level: 1, description: 0, authenticated: true },
  },
  {
    name: 'another warning, which is fatal in TLS 1.3',
    versions: ONLY_13,
    send: (peer) => Buffer.concat([peer.alert(1, 112), peer.closeNotify()]),
    received: { level: 1, description: 112, authenticated: true },
    fine: false,
  },
  {
    name: 'another warning, which means nothing in TLS 1.2',
    versions: ONLY_12,
    send: (peer) => Buffer.concat([peer.alert(1, 112), peer.closeNotify()]),
    received: CLOSE_NOTIFY,
  },
  {
    name: 'warnings without end',
    versions: ONLY_12,
    send: (peer) =>
      Buffer.concat([...Array.from({ length: 5 }, () => peer.alert(1, 112)), peer.closeNotify()]),
    received: null,
    fine: false,
  },
  {
    name: 'an alert of no level',
    versions: ONLY_12,
    send: (peer) => Buffer.concat([peer.alert(3, 0), peer.closeNotify()]),
    received: null,
    fine: false,
  },
  {
    name: 'no_renegotiation, which nobody had asked for',
    versions: ONLY_12,
    send: (peer) => Buffer.concat([peer.alert(1, 100), peer.closeNotify()]),
    received: null,
    fine: false,
  },
  {
    name: 'a record that is not authentic, then close_notify',
    send: (peer) => {
      const forged = peer.data('forged');
      forged[forged.length - 1]! ^= 1;
      return Buffer.concat([forged, peer.closeNotify()]);
    },
    received: null,
    fine: false,
  },
  {
    name: 'close_notify that is not authentic',
    send: (peer) => {
      const forged = peer.closeNotify();
      forged[forged.length - 1]! ^= 1;
      return forged;
    },
    received: null,
    fine: false,
  },
  {
    name: 'a record left out, then close_notify',
    send: (peer) => {
      peer.data('left out');
      return peer.closeNotify();
    },
    received: null,
    fine: false,
  },
  {
    name: 'close_notify in the clear',
    send: (peer) => Buffer.concat([record(ALERT, 1, 0), peer.closeNotify()]),
    received: null,
    fine: false,
  },
  {
    name: 'a fatal alert in the clear',
    send: (peer) => Buffer.concat([record(ALERT, 2, 40), peer.closeNotify()]),
    received: null,
    fine: false,
  },
  {
    name: 'ChangeCipherSpec in the clear',
    send: (peer) => Buffer.concat([record(20, 1), peer.closeNotify()]),
    received: null,
    // OpenSSL 3.5 lets it pass in a client of TLS 1.3. RFC 9846 section 5: "An implementation which receives any
    // other change_cipher_spec value or which receives a protected change_cipher_spec record MUST abort the handshake
    // with an "unexpected_message" alert. If an implementation detects a change_cipher_spec record received before
    // the first ClientHello message or after the peer's Finished message, it MUST be treated as an unexpected record
    // type".
    fine: null,
  },
  {
    name: 'a protected record that does not say it is',
    versions: ONLY_13,
    send: (peer) =>
      Buffer.concat([peer.record(ALERT, Buffer.of(1, 90), 0, HANDSHAKE), peer.closeNotify()]),
    received: null,
    fine: false,
  },
  {
    name: 'an alert of one byte',
    send: (peer) => Buffer.concat([peer.record(ALERT, Buffer.of(1)), peer.closeNotify()]),
    received: null,
    fine: false,
  },
  {
    name: 'an alert in two records',
    send: (peer) =>
      Buffer.concat([peer.record(ALERT, Buffer.of(1)), peer.record(ALERT, Buffer.of(0))]),
    received: null,
    fine: false,
  },
  {
    name: 'two alerts in a record',
    send: (peer) => peer.record(ALERT, Buffer.of(1, 0, 1, 0)),
    received: null,
    fine: false,
  },
  {
    name: 'an empty alert',
    send: (peer) => Buffer.concat([peer.record(ALERT, Buffer.alloc(0)), peer.closeNotify()]),
    received: null,
    fine: false,
  },
  {
    name: 'an unknown type of record',
    versions: ONLY_13,
    send: (peer) => Buffer.concat([peer.record(25, Buffer.of(1, 0)), peer.closeNotify()]),
    received: null,
    fine: false,
  },
  {
    name: 'an unknown type of record, which TLS 1.2 has in the clear',
    versions: ONLY_12,
    send: (peer) => Buffer.concat([peer.record(25, Buffer.of(1, 0)), peer.closeNotify()]),
    received: null,
    where: 'unknown',
    fine: false,
  },
  {
    name: 'a record that is too long',
    send: (peer) => Buffer.concat([peer.record(23, Buffer.alloc(16_385, 'x')), peer.closeNotify()]),
    received: null,
    fine: false,
  },
  {
    name: 'empty records without end',
    send: (peer) =>
      Buffer.concat([...Array.from({ length: 33 }, () => peer.data('')), peer.closeNotify()]),
    received: null,
    fine: false,
  },
  {
    name: 'what is no record',
    send: () => Buffer.from('HTTP/1.1 400 Bad Request\r\n\r\n'),
    received: null,
    where: 'unknown',
    fine: false,
  },
  {
    name: 'close_notify within a handshake message',
    versions: ONLY_13,
    send: (peer) =>
      Buffer.concat([peer.record(HANDSHAKE, Buffer.of(24, 0, 0)), peer.closeNotify()]),
    received: null,
    fine: false,
  },
  {
    name: 'close_notify within a handshake message, which OpenSSL takes in TLS 1.2',
    versions: ONLY_12,
    send: (peer) => Buffer.concat([peer.record(HANDSHAKE, Buffer.of(0, 0, 0)), peer.closeNotify()]),
    received: CLOSE_NOTIFY,
  },
  {
    name: 'a handshake message that nobody asked for',
    send: (peer) =>
      Buffer.concat([peer.record(HANDSHAKE, Buffer.of(20, 0, 0, 0)), peer.closeNotify()]),
    received: null,
    fine: false,
  },
  {
    name: 'KeyUpdates without end, padded or not',
    versions: ONLY_13,
    send: (peer) =>
      Buffer.concat([
        ...Array.from({ length: 300 }, (_, i) => peer.keyUpdate(0, i % 7)),
        peer.closeNotify(),
      ]),
    received: CLOSE_NOTIFY,
  },
  {
    name: 'a KeyUpdate in two records',
    versions: ONLY_13,
    send: (peer) => {
      const first = peer.record(HANDSHAKE, Buffer.of(24, 0));
      peer.keyUpdate();
      return Buffer.concat([first, peer.closeNotify()]);
    },
    received: null,
    fine: false,
  },
  {
    name: 'a KeyUpdate that is none',
    versions: ONLY_13,
    send: (peer) => Buffer.concat([peer.keyUpdate(2), peer.closeNotify()]),
    received: null,
    fine: false,
  },
  {
    name: 'a KeyUpdate with something behind it in its record',
    versions: ONLY_13,
    send: (peer) =>
      Buffer.concat([
        peer.record(HANDSHAKE, Buffer.of(24, 0, 0, 1, 0, 24, 0, 0, 1, 0)),
        peer.closeNotify(),
      ]),
    received: null,
    fine: false,
  },
];

/** Node's errors are told by the socket's 'error'; what the kernel says is none of them. */
const hasFailed = ({ seen }: UnderTest) => seen.events.some((event) => event.startsWith('error'));

async function end(
  scope: Scope,
  role: 'client' | 'server',
  version: Version,
  ending: Ending,
  how: (under: UnderTest, bytes: Buffer) => Promise<void>,
): Promise<UnderTest> {
  const under = await underTest(scope, role, version);
  const { peer, seen, witness } = under;
  await how(under, Buffer.concat([peer.data('data'), ending.send(peer, version)]));
  await under.closed();
  expect(seen.data.toString()).toBe('data');
  const { received } = witness;
  if (ending.received === null) expect(received).toBeNull();
  else expect(received).toMatchObject(ending.received);
  expect(witness.unreadable).toBeNull();
  if (ending.fine !== null) expect(hasFailed(under)).toBe(ending.fine === false);
  return under;
}

/** Something that a peer may send. */
interface Item {
  readonly what: string;
  make(peer: CraftedPeer): Buffer;
}

function item(version: Version): fc.Arbitrary<Item> {
  const padding = fc.constantFrom(0, 0, 1, 40, 9_000);
  const made = (what: string, make: Item['make']): Item => ({ what, make });
  const flip = (bytes: Buffer, at: number) => {
    const where = at % bytes.length;
    bytes[where] = bytes[where]! ^ 0x41;
    return bytes;
  };
  const common = [
    fc
      .tuple(fc.integer({ min: 0, max: 300 }), padding)
      .map(([size, pad]) =>
        made(`data ${size} padded ${pad}`, (peer) => peer.data('x'.repeat(size), pad)),
      ),
    fc
      .tuple(fc.constantFrom(1, 1, 1, 2), fc.constantFrom(0, 0, 90, 10, 20, 100, 112), padding)
      .map(([level, code, pad]) =>
        made(`alert ${level} ${code} padded ${pad}`, (peer) => peer.alert(level, code, pad)),
      ),
    fc
      .integer({ min: 0, max: 40 })
      .map((at) => made(`close_notify, spoilt at ${at}`, (peer) => flip(peer.closeNotify(), at))),
    fc
      .uint8Array({ minLength: 0, maxLength: 5 })
      .map((bytes) => made(`alert of ${bytes}`, (peer) => peer.record(ALERT, bytes))),
    fc
      .uint8Array({ minLength: 1, maxLength: 6 })
      .map((bytes) => made(`handshake ${bytes}`, (peer) => peer.record(HANDSHAKE, bytes))),
    fc.constant(
      made('left out', (peer) => {
        peer.data('left out');
        return Buffer.alloc(0);
      }),
    ),
    fc.constant(made('close_notify in the clear', () => record(ALERT, 1, 0))),
  ];
  if (version === 'TLSv1.2') return fc.oneof(...common);
  return fc.oneof(
    ...common,
    fc
      .tuple(fc.constantFrom(0, 1, 2), padding)
      .map(([request, pad]) =>
        made(`KeyUpdate ${request} padded ${pad}`, (peer) => peer.keyUpdate(request, pad)),
      ),
  );
}

async function compare(
  scope: Scope,
  role: 'client' | 'server',
  version: Version,
  sent: readonly Item[],
  step: number,
): Promise<void> {
  const under = await underTest(scope, role, version);
  const { peer, seen, socket, witness } = under;
  // The socket is open on its own side until FIN: what comes behind close_notify goes nowhere.
  const bytes = Buffer.concat([...sent.map(({ make }) => make(peer)), peer.closeNotify()]);
  for (let at = 0; at < bytes.length && !socket.destroyed; at += step) {
    peer.wire.write(bytes.subarray(at, at + step));
    await new Promise((resolve) => setImmediate(resolve));
  }
  peer.wire.end();
  await under.closed();
  peer.destroy();
  const { received } = witness;
  const closed = received !== null && received.description === 0;
  const failed = hasFailed(under);
  const told = JSON.stringify({ sent: sent.map(({ what }) => what), received, seen: seen.events });
  if (closed && (version === 'TLSv1.3' || received.level === 1)) expect(failed, told).toBe(false);
  // There is a close_notify at the end at least: where OpenSSL found nothing wrong, it took one, or waits for more.
  // (Node tells nobody of a fatal alert that has no name.)
  if (!failed && witness.where === 'record-boundary') expect(received, told).not.toBeNull();
}

for (const role of ['client', 'server'] as const) {
  describe.each(VERSIONS)(`a ${role}, %s`, (version) => {
    for (const ending of ENDINGS) {
      if (ending.versions?.includes(version) === false) continue;
      test(
        `${ending.name}, in one segment`,
        clean(async (scope) => {
          const { witness } = await end(scope, role, version, ending, async ({ peer }, bytes) => {
            peer.wire.end(bytes);
          });
          expect(witness.where).toBe(ending.where ?? 'record-boundary');
        }),
      );
      test(
        `${ending.name}, byte by byte`,
        clean(async (scope) => {
          await end(scope, role, version, ending, async ({ peer, socket }, bytes) => {
            // Those that are far too long would take far too long.
            const step = Math.ceil(bytes.length / 200);
            for (let at = 0; at < bytes.length && !socket.destroyed; at += step) {
              peer.wire.write(bytes.subarray(at, at + step));
              await new Promise((resolve) => setImmediate(resolve));
            }
            peer.wire.end();
          });
        }),
      );
    }

    test('whatever comes: no more is claimed than OpenSSL has taken, and no less', async () => {
      const items = fc.array(item(version), { minLength: 1, maxLength: 8 });
      const chunks = fc.integer({ min: 1, max: 400 });
      await fc.assert(
        fc.asyncProperty(items, chunks, (sent, step) =>
          clean((scope) => compare(scope, role, version, sent, step))(),
        ),
        { numRuns: 60, seed: runSeed() },
      );
    });

    test(
      'a reset',
      clean(async (scope) => {
        const under = await underTest(scope, role, version);
        const { peer, seen, witness } = under;
        peer.wire.write(peer.data('data'));
        await until('data', () => seen.data.length === 4);
        reset(peer.wire);
        await under.closed();
        expect(seen.events).toEqual(['error ECONNRESET', 'close']);
        expect(witness).toMatchObject({ received: null, sent: null, where: 'record-boundary' });
      }),
    );

    test(
      'close_notify in one segment with Finished',
      clean(async (scope) => {
        const under = await underTest(scope, role, version, {
          behindFinished: (peer) => Buffer.concat([peer.data('data'), peer.closeNotify()]),
        });
        under.peer.wire.end();
        await under.closed();
        expect(under.seen.data.toString()).toBe('data');
        expect(under.seen.events).toEqual(['end', 'close']);
        expect(under.witness.received).toMatchObject(CLOSE_NOTIFY);
        expect(under.witness.sent).toMatchObject(CLOSE_NOTIFY);
      }),
    );

    test(
      'close_notify is known before the socket ends',
      clean(async (scope) => {
        const under = await underTest(scope, role, version);
        const { peer, socket, witness } = under;
        let atNull: unknown = 'never';
        let atData: unknown = 'never';
        const { push } = socket;
        socket.push = (chunk: unknown) => {
          if (chunk === null) atNull = witness.received;
          else atData = witness.received;
          return push.call(socket, chunk);
        };
        peer.wire.end(Buffer.concat([peer.data('data'), peer.closeNotify()]));
        await under.closed();
        expect(atData).toBeNull();
        expect(atNull).toMatchObject(CLOSE_NOTIFY);
      }),
    );

    // Node forgets a fatal alert that stands behind data whose listener ends the socket.
    const doings: ReadonlyArray<readonly [string, (socket: tls.TLSSocket) => void]> = [
      ['nothing', () => {}],
      ['end()', (socket) => socket.end()],
      ['end() in a microtask', (socket) => void Promise.resolve().then(() => socket.end())],
      ['end() in a tick', (socket) => process.nextTick(() => socket.end())],
      ['destroySoon()', (socket) => socket.destroySoon()],
      [
        'pause(), and resume() later',
        (socket) => {
          socket.pause();
          setImmediate(() => socket.resume());
        },
      ],
      ['write()', (socket) => void socket.write('x')],
    ];
    const alerts: ReadonlyArray<readonly [string, (peer: CraftedPeer) => Buffer, object | null]> = [
      ['a fatal alert', (peer) => peer.alert(2, 20), fatal(20)],
      ['close_notify', (peer) => peer.closeNotify(), CLOSE_NOTIFY],
      [
        'a forged record',
        (peer) => Buffer.concat([peer.data('forged').fill(7, 10), peer.closeNotify()]),
        null,
      ],
    ];
    for (const [doing, act] of doings) {
      test.each(alerts)(
        `a 'data' listener does ${doing}; behind the data is %s`,
        (_name, alert, received) =>
          clean(async (scope) => {
            const under = await underTest(scope, role, version);
            const { peer, seen, socket, witness } = under;
            socket.once('data', () => act(socket));
            peer.wire.end(Buffer.concat([peer.data('data'), alert(peer)]));
            await under.closed();
            peer.destroy();
            expect(seen.data.toString()).toBe('data');
            if (received === null) expect(witness.received).toBeNull();
            else expect(witness.received).toMatchObject(received);
          })(),
      );
    }

    test(
      'ours is sent once the transport has taken it',
      clean(async (scope) => {
        const under = await underTest(scope, role, version);
        const { peer, socket, witness } = under;
        socket.write('before');
        await until('before', () => peer.received.length === 6);
        expect(witness.sent).toBeNull();
        socket.end('last');
        expect(witness.sent).toBeNull();
        await until('sent', () => witness.sent !== null);
        await until('last', () => peer.received.length === 10);
        expect(witness.sent).toMatchObject(CLOSE_NOTIFY);
        expect(witness.received).toBeNull();
        peer.wire.end(peer.closeNotify());
        await under.closed();
        expect(witness.received).toMatchObject(CLOSE_NOTIFY);
      }),
    );

    test(
      'none of ours is sent where the socket is destroyed',
      clean(async (scope) => {
        const under = await underTest(scope, role, version);
        under.socket.write('before');
        await until('before', () => under.peer.received.length === 6);
        under.socket.destroy();
        await under.closed();
        under.peer.destroy();
        expect(under.witness).toMatchObject({ received: null, sent: null });
      }),
    );

    test(
      'ours is a fatal alert',
      clean(async (scope) => {
        const under = await underTest(scope, role, version);
        const forged = under.peer.data('forged');
        forged[forged.length - 1]! ^= 1;
        under.peer.wire.end(forged);
        await under.closed();
        expect(under.witness.received).toBeNull();
        expect(under.witness.sent).toMatchObject(fatal(20));
      }),
    );

    if (version === 'TLSv1.3') {
      test(
        'a KeyUpdate that is asked for behind our end: the answer goes nowhere',
        clean(async (scope) => {
          const under = await underTest(scope, role, version);
          const { peer, seen, socket, witness } = under;
          socket.end();
          await until('sent', () => witness.sent !== null);
          peer.wire.write(Buffer.concat([peer.keyUpdate(1), peer.data('data')]));
          await until('data', () => seen.data.length === 4);
          peer.wire.end(peer.closeNotify());
          await under.closed();
          expect(seen.events).toEqual(['end', 'close']);
          expect(witness.received).toMatchObject(CLOSE_NOTIFY);
        }),
      );

      test(
        'KeyUpdates that are asked for, in both directions',
        clean(async (scope) => {
          const under = await underTest(scope, role, version);
          const { peer, seen, socket, witness } = under;
          for (let i = 0; i < 20; i++) {
            peer.wire.write(Buffer.concat([peer.keyUpdate(1), peer.data(`${i % 10}`)]));
            await until('data', () => seen.data.length === i + 1);
            // Short and long ones: what is long is counted without being looked at.
            socket.write('x'.repeat(i % 2 === 0 ? 3 : 3_000));
          }
          socket.end();
          await until('sent', () => witness.sent !== null);
          peer.wire.end(peer.closeNotify());
          await under.closed();
          expect(witness.sent).toMatchObject(CLOSE_NOTIFY);
          expect(witness.received).toMatchObject(CLOSE_NOTIFY);
        }),
      );
    }
  });
}
