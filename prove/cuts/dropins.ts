/** Cuts under the drop-in sockets and under HTTP: which cases are tried, and what must hold of each. */
import type { Context } from '../part.ts';
import { model, otherSide, prepare, type Script } from './conversation.ts';
import { BODIES, Exchanges, type HttpCase, type HttpTold, TEXT } from './http.ts';
import type { Counts } from './judge.ts';
import { Random } from './random.ts';
import { ARRIVALS, READERS, type SocketCase, Sockets, type SocketTold, UNDERS } from './sockets.ts';
import { CUTS, type Density, offsetsOf, SIDES } from './streams.ts';

/** Cuts under a drop-in socket on each side, on the kernel's socket and over a tap. */
export async function cutSockets(
  script: Script,
  density: Density,
  untouched: number,
  { seed, signal, fail }: Context,
  counts: Counts,
): Promise<void> {
  const stage = await prepare(script);
  const random = new Random(seed);
  await using sockets = new Sockets(stage);
  await sockets.listen();
  const one = async (the: SocketCase): Promise<SocketTold> => {
    signal.throwIfAborted();
    const told = await sockets.converse(the, random);
    const said = Buffer.concat(stage.says[otherSide(the.victim)]);
    for (const what of judgeSocket(told, said, the.cut?.how !== 'reset', counts)) {
      fail(`${script.name}: ${JSON.stringify(the)}: ${what}`);
    }
    return told;
  };
  for (const victim of SIDES) {
    for (const under of UNDERS) {
      const any = () => ({
        victim,
        under,
        reader: random.of(READERS),
        // A turn for each byte takes its time.
        arrival: random.of(
          script.server[0] === 1 ? ARRIVALS : (['as-written', 'coalesced'] as const),
        ),
      });
      for (let i = 0; i < untouched; i++) await one({ ...any(), cut: null });
      // The peer does not close as the script says, but its records are as long.
      const { frames, clear } = await model(stage);
      const from = otherSide(victim);
      for (const offset of offsetsOf(frames[from], clear[from], density, random)) {
        for (const how of CUTS) await one({ ...any(), cut: { offset, how } });
      }
    }
  }
}

function judgeSocket(told: SocketTold, said: Buffer, orderly: boolean, counts: Counts): string[] {
  const broken: string[] = [];
  const error = told.error === null ? 'no error' : (told.error.code ?? told.error.message);
  counts.runs++;
  if (told.clean) counts.clean++;
  if (told.hang) {
    counts.hangs++;
    broken.push('somebody still waited when the time was over');
  }
  if (told.clean && !told.whole) {
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
  if (told.whole && orderly && (!told.clean || told.error !== null)) {
    counts.falseAlarms++;
    broken.push(`all up to close_notify had passed, and it says ${error}`);
  }
  return broken;
}

/** Cuts in HTTP responses, on the kernel's socket and over a tap. */
export async function cutHttp(
  script: Script,
  density: Density,
  { seed, signal, fail }: Context,
  counts: Counts,
): Promise<void> {
  const stage = await prepare(script);
  const random = new Random(seed);
  await using exchanges = new Exchanges(stage);
  await exchanges.listen();
  const { frames, clear } = await model(stage);
  // What comes before the response: the handshake.
  const handshake = frames.server.filter((_, index) => clear.server.has(index));
  const spoken = handshake.at(-1)?.to ?? 0;
  for (const body of BODIES) {
    for (const under of UNDERS) {
      const one = async (the: HttpCase): Promise<HttpTold> => {
        signal.throwIfAborted();
        const told = await exchanges.exchange(the);
        for (const what of judgeHttp(told, the.cut?.how !== 'reset', counts)) {
          fail(`${script.name}: HTTP, ${JSON.stringify(the)}: ${what}`);
        }
        return told;
      };
      const { written } = await one({ body, under, cut: null });
      const offsets = offsetsOf(handshake, new Set(handshake.keys()), density, random);
      for (let at = spoken + random.below(density.rest); at <= written; at += density.rest) {
        offsets.push(at);
      }
      for (const offset of offsets) {
        for (const how of CUTS) await one({ body, under, cut: { offset, how } });
      }
    }
  }
}

function judgeHttp(told: HttpTold, orderly: boolean, counts: Counts): string[] {
  const broken: string[] = [];
  counts.runs++;
  if (told.whole) counts.clean++;
  if (told.hang) {
    counts.hangs++;
    broken.push('somebody still waited when the time was over');
  }
  if (told.whole && !told.passed) {
    counts.missed++;
    broken.push('the response is complete, and it was not');
  }
  if (told.whole && told.text !== TEXT) {
    counts.lost++;
    broken.push(`the response is complete with ${told.text.length} of ${TEXT.length} characters`);
  }
  if (told.passed && orderly && (!told.whole || told.error !== null)) {
    counts.falseAlarms++;
    broken.push(`all of the message had passed, and it says ${told.error}`);
  }
  return broken;
}
