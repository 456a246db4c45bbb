/**
 * Cuts in conversations with KeyUpdate, which Node cannot be told to send: the peer is OpenSSL itself.
 *
 * The peer (peers/keyupdate.cpp) is at the far end of a TCP connection over loopback that is spliced to a
 * channel, where the cutting is done; the near end of the channel is our transport. The peer asks for a
 * KeyUpdate of ours in the middle of what it says; the engine under our stream answers with its own
 * before it says the next thing, which is why our side speaks last. Sessions are resumed, so that all
 * conversations are equally long.
 */
import { accept, connect } from '../../src/stream/connect.ts';
import { type Cut, channel } from '../../src/testing/index.ts';
import { Random } from '../../test/support/random.ts';
import { settled, splice } from '../../test/support/splice.ts';
import { isMine, type Shard } from '../harness.ts';
import type { KeyUpdatePeer, Talk } from '../peers/openssl.ts';
import {
  CREDENTIALS,
  framesOf,
  lineOf,
  otherSide,
  party,
  prepare,
  type Script,
  type Seen,
  SIDES,
  type Side,
  type Stage,
  words,
} from './conversation.ts';
import { type Counts, judge } from './judge.ts';
import { type Density, everywhere, placesOf } from './places.ts';

/** KeyUpdates that crossed, as OpenSSL counted them. */
export interface KeyUpdates extends Record<string, number> {
  /** Conversations in which the peer sent both of its own, and got ours. */
  conversations: number;
  /** By the peer, with update_requested. */
  requested: number;
  /** By the peer, with update_not_requested. */
  unasked: number;
  /** By us. */
  answered: number;
}

export const newKeyUpdates = (): KeyUpdates => ({
  conversations: 0,
  requested: 0,
  unasked: 0,
  answered: 0,
});

const HANG = 10_000;

/** What the peer says, three pieces with a KeyUpdate behind the first and the second; and what we say. */
const PEER_SAYS = [20, 30, 100];
const WE_SAY = [5, 40];

/** For whoever starts the peer. */
export const TALK: Talk = {
  cert: CREDENTIALS.cert,
  key: CREDENTIALS.key,
  says: PEER_SAYS.map((size, index) => words(size, 2_000 + index)),
  hears: WE_SAY.reduce((sum, size) => sum + size, 0),
};

/** Our part, on either side; the peer has the other. */
export async function keyUpdateStage(ours: Side, closes: Side): Promise<Stage> {
  const script: Script = {
    name: `TLSv1.3 with KeyUpdate, resumed, ours is the ${ours}, the ${closes} closes first`,
    version: 'TLSv1.3',
    suite: 'TLS_AES_128_GCM_SHA256',
    // With a session of the peer's own; see `rehearse`.
    resumed: false,
    client: ours === 'client' ? WE_SAY : PEER_SAYS,
    server: ours === 'server' ? WE_SAY : PEER_SAYS,
    closes,
    answers: ours,
  };
  const stage = await prepare(script);
  return { ...stage, says: { ...stage.says, [otherSide(ours)]: TALK.says } };
}

/** Adds up what the peer counted. */
export function countKeyUpdates(
  { sent, got }: { readonly sent: readonly number[]; readonly got: readonly number[] },
  counts: KeyUpdates,
): void {
  const [unasked = 0, requested = 0] = sent;
  const answered = (got[0] ?? 0) + (got[1] ?? 0);
  counts.unasked += unasked;
  counts.requested += requested;
  counts.answered += answered;
  if (unasked > 0 && requested > 0 && answered > 0) counts.conversations++;
}

interface Held {
  readonly sent: Readonly<Record<Side, Buffer>>;
  readonly made: boolean;
}

/** Conversations between one side of ours and the peer. */
class Conversations {
  readonly #ours: Side;
  readonly #slot: number;
  readonly #peer: KeyUpdatePeer;
  #stage: Stage;

  constructor(ours: Side, slot: number, stage: Stage, peer: KeyUpdatePeer) {
    this.#ours = ours;
    this.#slot = slot;
    this.#stage = stage;
    this.#peer = peer;
  }

  /** One that is not counted, for its session. */
  async rehearse(): Promise<void> {
    let session: Uint8Array | null = null;
    await this.#hold(null, (given) => {
      session ??= given;
    });
    if (this.#ours === 'server') return;
    if (session === null) throw new Error('the OpenSSL peer gave no session');
    this.#stage = { ...this.#stage, connect: { ...this.#stage.connect, session } };
  }

  async hold(
    cut: { readonly side: Side; readonly offset: number; readonly how: Cut } | null,
    { fail }: Shard,
    counts: Counts,
    updates: KeyUpdates,
  ): Promise<Held> {
    const stage = this.#stage;
    const { told, carried, report } = await this.#hold(cut);
    if (report === 'hang') {
      counts.hangs++;
      fail(`${stage.script.name}: the OpenSSL peer does not end`);
    } else {
      countKeyUpdates(report, updates);
    }
    if (cut === null) counts.uncut++;
    const where =
      cut === null ? 'uncut' : `${cut.how} at byte ${cut.offset} that the ${cut.side} sends`;
    for (const what of judge(stage, told, carried, counts, cut === null)) {
      fail(`${stage.script.name}: ${where}: ${what}`);
    }
    return {
      sent: { client: carried.client.sent, server: carried.server.sent },
      made: cut === null || carried[cut.side].passed === cut.offset,
    };
  }

  async #hold(
    cut: { readonly side: Side; readonly offset: number; readonly how: Cut } | null,
    onSession: (session: Uint8Array) => void = () => {},
  ) {
    const stage = this.#stage;
    const [ours, theirs] = [this.#ours, otherSide(this.#ours)];
    using wire = channel();
    // Of a reset that comes before anybody is there.
    for (const end of wire.ends) end.on('error', () => {});
    const [near, far] = ours === 'client' ? wire.ends : [wire.ends[1], wire.ends[0]];
    if (cut !== null) lineOf(wire, cut.side).cutAt(cut.offset, cut.how);
    const { tcp, report: reporting } = await this.#peer.meet({
      role: theirs,
      closes: stage.script.closes === theirs ? 'first' : 'second',
      slot: this.#slot,
    });
    const { transport: _, ...options } = stage.connect;
    const opening =
      ours === 'client'
        ? connect({ ...options, transport: near, onSession })
        : accept(near, stage.accept);
    const playing = party(opening, stage, ours);
    splice(tcp, far);
    const seen = await settled(playing, HANG);
    // Ours is over, and what it wrote has left it; whatever it left open ends here.
    if (seen === 'hang') for (const end of wire.ends) end.destroy();
    const report = await reporting();
    for (const end of wire.ends) end.destroy();
    tcp.destroy();
    const lines = { client: lineOf(wire, 'client'), server: lineOf(wire, 'server') };
    const carriedBy = (side: Side) => ({
      sent: lines[side].sent,
      passed: lines[side].passed,
      orderly: cut?.side !== side || cut.how === 'fin',
    });
    const mine = seen === 'hang' ? await playing : seen;
    const told = {
      [ours]: mine,
      [theirs]: seenBy(report, lines[theirs].sent),
      hang: seen === 'hang',
    } as Record<Side, Seen> & { hang: boolean };
    return { told, carried: { client: carriedBy('client'), server: carriedBy('server') }, report };
  }
}

/** The peer's report as that of any party. `sent` is what came out of its TCP connection. */
function seenBy(report: Awaited<ReturnType<Peeked>>, sent: Buffer): Seen {
  if (report === 'hang') {
    const error = new Error('no report');
    return { bytes: Buffer.alloc(0), clean: false, verdict: 'none', closed: false, error };
  }
  const { heard, clean, closed, written, error } = report;
  return {
    bytes: heard,
    clean,
    verdict: clean ? 'secure' : 'none',
    // A reset destroys bytes that are on their way through the kernel.
    closed: closed && written === sent.length,
    error: error === '' ? null : new Error(error),
  };
}

type Peeked = Awaited<ReturnType<KeyUpdatePeer['meet']>>['report'];

/** Cuts conversations of our streams with the peer: as client and as server, in both directions. */
export async function cutKeyUpdates(
  peer: KeyUpdatePeer,
  density: Density,
  uncut: number,
  shard: Shard,
  counts: Counts,
  updates: KeyUpdates,
): Promise<void> {
  for (const [slot, [ours, closes]] of (
    [
      ['client', 'server'],
      ['server', 'server'],
    ] as const
  ).entries()) {
    const stage = await keyUpdateStage(ours, closes);
    const conversations = new Conversations(ours, slot, stage, peer);
    await conversations.rehearse();
    const whole = await conversations.hold(null, shard, counts, updates);
    for (let i = 1; i < uncut; i++) {
      if (isMine(shard, i)) await conversations.hold(null, shard, counts, updates);
    }
    for (const side of SIDES) {
      const label = `${stage.script.name}, what the ${side} sends`;
      const random = Random.for(shard.seed, label);
      const places = placesOf(framesOf(whole.sent[side]), density, random);
      await everywhere(shard, label, places, counts, async (offset, how) => {
        const { made } = await conversations.hold({ side, offset, how }, shard, counts, updates);
        return made;
      });
    }
  }
}
