/**
 * Plaintext behind close_notify, wherever the segments end.
 *
 * The tail of a connection, [last data record][close_notify][plaintext], is held back on the wire
 * and let go in two segments, cut at each byte in turn, each time on a new connection: a tail cannot
 * be replayed, because its keys are of one handshake.
 */
import { describe, expect, it } from 'vitest';
import type { Closure } from '../../../src/index.ts';
import { HEADER_LENGTH } from '../../../src/record/record.ts';
import type { ChannelEnd } from '../../../src/testing/channel.ts';
import { describeWith } from '../../support/interop-peers.ts';
import { begun, type Pair, wirePair } from './pair.ts';
import { TLS_VERSIONS, type TlsVersion } from './party.ts';
import { Plain } from './plain.ts';

const LAST = 'last words';
const PLAINTEXT = 'then plaintext';

type Role = 'client' | 'server';
const opposite = (role: Role): Role => (role === 'client' ? 'server' : 'client');

/** How the receiver of the tail closes: first, and waiting; or second, after reading to the end. */
type Order = 'initiator' | 'responder';

interface Scene {
  readonly tls: TlsVersion;
  readonly receiver: Role;
  readonly order: Order;
}

/** Cuts the tail into segments, given where close_notify ends in it. */
type Cut = (tail: Buffer, closed: number) => readonly Buffer[];

interface Played {
  /** Of the tail. */
  readonly length: number;
  readonly trailing: string;
}

/** Plays it once. `late` holds the last segment back until the receiver has unwrapped, if it can. */
async function play({ tls, receiver, order }: Scene, cut: Cut, late: boolean): Promise<Played> {
  using pair: Pair<ChannelEnd> = await wirePair(tls);
  const here = pair[receiver];
  const there = pair[opposite(receiver)];
  const wire = receiver === 'client' ? pair.serverEnd : pair.clientEnd;

  let closing: Promise<Closure> | undefined;
  if (order === 'initiator') {
    closing = begun(here.shutdown());
    expect(await there.read()).toBeNull();
  }
  const { line } = wire;
  line.hold();
  await there.write(LAST);
  await there.shutdown({ wait: false });
  const closed = line.held.length;
  // A responder can unwrap at once. An initiator that does not wait for the answer before it sends
  // plaintext writes past its stream.
  const transport = order === 'initiator' ? (await there.unwrap()).transport : wire;
  transport.write(PLAINTEXT);
  const tail = line.take();
  expect(tail).toHaveLength(closed + PLAINTEXT.length);

  const segments = cut(tail, closed);
  const last = segments.at(-1) as Buffer;
  const waits = late && tail.length - last.length >= closed;
  for (const segment of waits ? segments.slice(0, -1) : segments) line.inject(segment);

  let read = '';
  const readAll = async () => {
    for await (const bytes of here) read += Buffer.from(bytes).toString();
  };
  if (closing === undefined) {
    await readAll();
    expect((await here.shutdown()).verdict).toBe('secure');
  } else {
    expect((await closing).verdict).toBe('secure');
    await readAll();
  }
  expect(read).toBe(LAST);

  const unwrapped = await here.unwrap();
  // Not more than came, and nothing that belongs to TLS.
  expect(PLAINTEXT.startsWith(Buffer.from(unwrapped.trailing).toString())).toBe(true);
  if (waits) line.inject(last);
  const plain = new Plain(unwrapped);
  expect(await plain.read(PLAINTEXT.length)).toBe(PLAINTEXT);
  expect(plain.takeRest()).toHaveLength(0);
  expect(here.closure).toMatchObject({ verdict: 'secure', transportEnd: 'released' });
  return { length: tail.length, trailing: Buffer.from(unwrapped.trailing).toString() };
}

const cutAt =
  (offset: number): Cut =>
  (tail) =>
    [tail.subarray(0, offset), tail.subarray(offset)].filter(({ length }) => length > 0);

const RULE =
  '"Any data received after a closure alert has been received MUST be ignored" by TLS, and is the transport\'s (RFC 9846 section 6.1)';

describeWith(['openssl'], `plaintext behind close_notify: ${RULE}`, () => {
  for (const tls of TLS_VERSIONS) {
    for (const receiver of ['client', 'server'] as const) {
      for (const order of ['initiator', 'responder'] as const) {
        describe(`TLS ${tls}, at a ${receiver} that is the ${order}`, () => {
          const scene: Scene = { tls, receiver, order };

          it('all in one segment: the plaintext comes out as trailing data', async () => {
            const { trailing } = await play(scene, (tail) => [tail], false);
            expect(trailing).toBe(PLAINTEXT);
          });

          it('one byte at a time', async () => {
            await play(scene, (tail) => [...tail].map((byte) => Buffer.of(byte)), false);
          });

          it('close_notify and plaintext in one segment, the data before', async () => {
            const cut: Cut = (tail, closed) => {
              const header = tail.readUInt16BE(3);
              const record = HEADER_LENGTH + header;
              expect(record).toBeLessThan(closed);
              return [tail.subarray(0, record), tail.subarray(record)];
            };
            const { trailing } = await play(scene, cut, false);
            expect(trailing).toBe(PLAINTEXT);
          });

          for (const late of [false, true]) {
            const when = late ? 'arriving after unwrap where it can' : 'arriving at once';
            it(`cut at every byte, the rest ${when}`, async () => {
              for (let offset = 0, length = 1; offset <= length; offset++) {
                try {
                  ({ length } = await play(scene, cutAt(offset), late));
                } catch (cause) {
                  throw new Error(`cut at byte ${offset}`, { cause });
                }
              }
            });
          }
        });
      }
    }
  }
});
