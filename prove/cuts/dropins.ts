/** Cuts under the drop-in sockets and under HTTP: which cases are tried, and what must hold of each. */
import type { Cut } from '../../src/testing/index.ts';
import { Random } from '../../test/support/random.ts';
import { isMine, type Shard } from '../harness.ts';
import type { KeyUpdatePeer } from '../peers/openssl.ts';
import {
  type Framed,
  framesOf,
  model,
  otherSide,
  prepare,
  type Script,
  SIDES,
  type Side,
  type Stage,
} from './conversation.ts';
import { BODIES, Exchanges, TEXT } from './http.ts';
import type { Counts } from './judge.ts';
import { countKeyUpdates, type KeyUpdates, keyUpdateStage } from './keyupdates.ts';
import { type Density, everywhere, placesOf } from './places.ts';
import {
  ARRIVALS,
  type Arrival,
  READERS,
  type Reader,
  type SocketCase,
  Sockets,
  type SocketTold,
  UNDERS,
} from './sockets.ts';
import { UPLOADS, Uploads } from './uploads.ts';

/** What is drawn for each conversation of a drop-in socket. */
interface Ways {
  readonly readers: readonly Reader[];
  readonly arrivals: readonly Arrival[];
}

// A turn for each byte takes its time: it is drawn less often, and never for large records.
const WAYS: Ways = {
  readers: READERS,
  arrivals: ['as-written', 'coalesced', 'as-written', 'coalesced', 'byte-by-byte'],
};
const LARGE_WAYS: Ways = { ...WAYS, arrivals: ['as-written', 'coalesced'] };
// When OpenSSL has said all is not known here.
const FOREIGN_WAYS: Ways = {
  readers: READERS.filter((reader) => reader !== 'late'),
  arrivals: ['as-written', 'as-written', 'byte-by-byte'],
};

/** How many ways of reading and of arriving there are to draw from. */
export const WAYS_TOLD = `${READERS.length} × ${ARRIVALS.length}`;

/** Cuts under a drop-in socket, on the kernel's socket and over a tap, as client and as server. */
export async function cutSockets(
  script: Script,
  density: Density,
  untouched: number,
  shard: Shard,
  counts: Counts,
): Promise<void> {
  const stage = await prepare(script);
  const large = script.client.concat(script.server).some((size) => size > 1_000);
  await using sockets = new Sockets(stage);
  await sockets.listen();
  // Of a script with a large record only the direction that has it.
  const victims = SIDES.filter(
    (side) => !large || script[otherSide(side)].some((size) => size > 1_000),
  );
  for (const victim of victims) {
    const { frames } = await model(stage);
    await cutVictim(
      { stage, sockets, victim, ways: large ? LARGE_WAYS : WAYS },
      // The peer does not close as the script says, but its records are as long.
      () => Promise.resolve(frames[otherSide(victim)]),
      density,
      untouched,
      shard,
      counts,
    );
  }
}

/** Cuts under a drop-in socket whose peer is OpenSSL, and sends KeyUpdate. */
export async function cutKeyUpdateSockets(
  peer: KeyUpdatePeer,
  density: Density,
  untouched: number,
  shard: Shard,
  counts: Counts,
  updates: KeyUpdates,
): Promise<void> {
  for (const victim of SIDES) {
    const fresh = await keyUpdateStage(victim, otherSide(victim));
    const stage = victim === 'client' ? await withSession(fresh, peer) : fresh;
    await using sockets = new Sockets(stage, peer);
    await sockets.listen();
    await cutVictim(
      { stage, sockets, victim, ways: FOREIGN_WAYS },
      async (uncut) => {
        // The first one is for the session, if that is for the peer to keep.
        await uncut();
        return framesOf((await uncut()).sent);
      },
      density,
      untouched,
      shard,
      counts,
      updates,
    );
  }
}

/** A session of the peer's own, which a conversation that nobody cuts brings. */
async function withSession(stage: Stage, peer: KeyUpdatePeer): Promise<Stage> {
  await using sockets = new Sockets(stage, peer);
  await sockets.listen();
  let session: Buffer | null = null;
  const the: SocketCase = {
    victim: 'client',
    under: 'tap',
    reader: 'flowing',
    arrival: 'as-written',
    cut: null,
  };
  await sockets.converse(the, new Random(0), (socket) =>
    socket.on('session', (given) => {
      session ??= given;
    }),
  );
  if (session === null) throw new Error('the OpenSSL peer gave no session');
  return { ...stage, connect: { ...stage.connect, session } };
}

/** One kind of victim. */
interface Victim {
  readonly stage: Stage;
  readonly sockets: Sockets;
  readonly victim: Side;
  readonly ways: Ways;
}

async function cutVictim(
  { stage, sockets, victim, ways }: Victim,
  framesFrom: (uncut: () => Promise<SocketTold>) => Promise<readonly Framed[]>,
  density: Density,
  untouched: number,
  shard: Shard,
  counts: Counts,
  updates: KeyUpdates | null = null,
): Promise<void> {
  const said = Buffer.concat(stage.says[otherSide(victim)]);
  for (const under of UNDERS) {
    const one = async (cut: SocketCase['cut'], random: Random): Promise<SocketTold> => {
      const way = { reader: random.of(ways.readers), arrival: random.of(ways.arrivals) };
      const the: SocketCase = { victim, under, ...way, cut };
      const told = await sockets.converse(the, random);
      if (cut === null) counts.uncut++;
      if (told.report !== null && updates !== null) countKeyUpdates(told.report, updates);
      for (const what of judgeSocket(told, said, cut?.how ?? null, counts)) {
        shard.fail(`${stage.script.name}: ${JSON.stringify(the)}: ${what}`);
      }
      return told;
    };
    const label = `${stage.script.name}, a drop-in ${victim} on the ${under}`;
    const draw = (what: string) => Random.for(shard.seed, `${label} ${what}`);
    const frames = await framesFrom(() => one(null, draw('frames')));
    for (let i = 0; i < untouched; i++) {
      if (isMine(shard, i)) await one(null, draw(`untouched ${i}`));
    }
    const places = placesOf(frames, density, draw('places'));
    await everywhere(shard, label, places, counts, async (offset, how, random) => {
      const { passed } = await one({ offset, how }, random);
      return passed === offset;
    });
  }
}

/** @param cut null where nobody touched the wire: then there is nothing but a clean end. */
function judgeSocket(told: SocketTold, said: Buffer, cut: Cut | null, counts: Counts): string[] {
  const broken: string[] = [];
  const error = told.error === null ? 'no error' : (told.error.code ?? told.error.message);
  counts.runs++;
  if (told.clean) counts.clean++;
  if (told.hang) {
    counts.hangs++;
    broken.push('somebody still waited when the time was over');
  }
  if ((told.clean || told.closed) && !told.whole) {
    counts.missed++;
    broken.push(`it ended, and close_notify had not passed (${error})`);
  }
  if (told.clean && !told.bytes.equals(said)) {
    counts.lost++;
    broken.push(`it ended with ${told.bytes.length} of ${said.length} bytes (${error})`);
  }
  if (told.secured && !told.clean && told.error === null && !told.hang) {
    counts.missed++;
    broken.push('it was closed with neither an end nor an error');
  }
  const due = cut === null || (told.whole && cut === 'fin');
  if (due && (!told.clean || told.error !== null)) {
    counts.falseAlarms++;
    broken.push(
      `${cut === null ? 'nobody cut' : 'all up to close_notify had passed'}, and it says ${error}`,
    );
  }
  return broken;
}

/** What became of an HTTP message, whoever read it. */
interface Message {
  readonly whole: boolean;
  readonly text: string;
  readonly error: Error | null;
  readonly hang: boolean;
  readonly sent: Uint8Array;
  /** How many bytes of what was sent were let through. */
  readonly through: number;
  /** Its reader was told of it, and so has to be told how it ended. */
  readonly begun: boolean;
}

/** Cuts in HTTP responses, as a client reads them on the kernel's socket and over a tap. */
export async function cutResponses(
  script: Script,
  density: Density,
  untouched: number,
  shard: Shard,
  counts: Counts,
): Promise<void> {
  await using exchanges = new Exchanges(await prepare(script));
  await exchanges.listen();
  for (const body of BODIES) {
    for (const under of UNDERS) {
      const label = `${script.name}, a response, ${body}, on the ${under}`;
      const toTheEnd = body === 'close-delimited';
      await cutMessage(label, toTheEnd, density, untouched, shard, counts, async (cut) => {
        const told = await exchanges.exchange({ body, under, cut });
        return { ...told, begun: false };
      });
    }
  }
}

/** Cuts in HTTP uploads, as a server reads them on the kernel's socket and over a tap. */
export async function cutUploads(
  script: Script,
  density: Density,
  untouched: number,
  shard: Shard,
  counts: Counts,
): Promise<void> {
  await using uploads = new Uploads(await prepare(script));
  await uploads.listen();
  for (const body of UPLOADS) {
    for (const under of UNDERS) {
      const label = `${script.name}, an upload, ${body}, on the ${under}`;
      const toTheEnd = body === 'upgraded';
      await cutMessage(label, toTheEnd, density, untouched, shard, counts, (cut) =>
        uploads.upload({ body, under, cut }),
      );
    }
  }
}

/** @param toTheEnd whether the close_notify is part of what makes the message whole. */
async function cutMessage(
  label: string,
  toTheEnd: boolean,
  density: Density,
  untouched: number,
  shard: Shard,
  counts: Counts,
  hold: (cut: SocketCase['cut']) => Promise<Message>,
): Promise<void> {
  // All conversations have the same records: those of the first one tell where the message ends.
  const model = framesOf((await hold(null)).sent);
  const end = (toTheEnd ? model.at(-1) : model.at(-2))?.to ?? 0;
  const one = async (cut: SocketCase['cut']) => {
    const told = await hold(cut);
    if (cut === null) counts.uncut++;
    const where = cut === null ? 'uncut' : `${cut.how} at byte ${cut.offset}`;
    for (const what of judgeMessage(told, end, cut?.how ?? null, counts)) {
      shard.fail(`${label}: ${where}: ${what}`);
    }
    return told;
  };
  for (let i = 0; i < untouched; i++) if (isMine(shard, i)) await one(null);
  const places = placesOf(model, density, Random.for(shard.seed, label));
  await everywhere(
    shard,
    label,
    places,
    counts,
    async (offset, how) => {
      const { through } = await one({ offset, how });
      return through === offset;
    },
    end,
  );
}

function judgeMessage(told: Message, end: number, cut: Cut | null, counts: Counts): string[] {
  const broken: string[] = [];
  counts.runs++;
  if (told.whole) counts.clean++;
  if (told.hang) {
    counts.hangs++;
    broken.push('somebody still waited when the time was over');
  }
  const passed = told.through >= end;
  if (told.whole && !passed) {
    counts.missed++;
    broken.push('the message is complete, and it was not');
  }
  if (told.begun && !told.whole && told.error === null && !told.hang) {
    counts.missed++;
    broken.push('the message was neither complete nor failed');
  }
  if (told.whole && told.text !== TEXT) {
    counts.lost++;
    broken.push(`the message is complete with ${told.text.length} of ${TEXT.length} characters`);
  }
  const due = cut === null || (passed && cut === 'fin');
  if (due && (!told.whole || told.error !== null)) {
    counts.falseAlarms++;
    broken.push(
      `${cut === null ? 'nobody cut' : 'all of the message had passed'}, and it says ${told.error}`,
    );
  }
  return broken;
}
