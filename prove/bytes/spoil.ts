/**
 * Whole conversations with one thing changed on the wire.
 *
 * What must hold: whoever ends cleanly has every byte that was said, and what was changed on its way
 * was nothing that TLS protects. That leaves little: the headers of records in the clear, the
 * ChangeCipherSpec that TLS 1.3 sends for show, and what comes behind close_notify.
 *
 * A changed length makes a party wait for bytes that nobody sends. It is then left waiting for its own
 * deadline in some conversations; in the others the transport ends once the wire has fallen silent, which
 * comes to the same and takes no time.
 */
import { setImmediate as turn } from 'node:timers/promises';
import { channel } from '../../src/testing/index.ts';
import { Random } from '../../test/support/random.ts';
import {
  converse,
  type Model,
  model,
  otherSide,
  prepare,
  type Script,
  SIDES,
  type Side,
  type Stage,
} from '../cuts/conversation.ts';
import type { Context } from '../harness.ts';
import { isMine, type Shard } from '../harness.ts';
import { BYTE_CHANGES, type Change, Mangler, placeOf, RECORD_CHANGES } from './mangle.ts';

/** What was counted. */
export interface Spoilt extends Record<string, number> {
  /** Places at which each change of a byte was tried. */
  offsets: number;
  bytes: number;
  records: number;
  /** Changes that left the wire as it was: a byte doubled among equals, a record swapped with none. */
  idle: number;
  /** Somebody ended cleanly, and something that TLS protects had been changed on its way. */
  accepted: number;
  /** Somebody ended cleanly with other bytes than were said. */
  altered: number;
  hangs: number;
  /** Conversations that were left to their deadlines. */
  deadlines: number;
  /** Clean ends with a change to what TLS does not protect. */
  harmless: number;
}

export const newSpoilt = (): Spoilt => ({
  offsets: 0,
  bytes: 0,
  records: 0,
  idle: 0,
  accepted: 0,
  altered: 0,
  hangs: 0,
  deadlines: 0,
  harmless: 0,
});

/** Changes one conversation in every place; `step` leaves out all but every so-manieth byte. */
export async function spoil(
  script: Script,
  step: number,
  shard: Shard,
  counts: Spoilt,
): Promise<void> {
  const { seed, fail } = shard;
  const whole = await model(await prepare(script));
  for (const side of SIDES) {
    const { length } = whole.sent[side];
    const label = `${script.name}, what the ${side} sends`;
    const first = Random.for(seed, label).below(step);
    for (let index = 0, at = first; at < length; index++, at += step) {
      if (!isMine(shard, index)) continue;
      counts.offsets++;
      for (const how of BYTE_CHANGES) {
        counts.bytes++;
        const bit = Random.for(seed, `${label} ${at} ${how}`).below(8);
        await one(whole, side, { how, at, bit }, counts, fail);
      }
    }
    for (const how of RECORD_CHANGES) {
      for (let record = 0; record < whole.frames[side].length; record++) {
        if (!isMine(shard, record)) continue;
        counts.records++;
        await one(whole, side, { how, record }, counts, fail);
      }
    }
  }
}

/** Turns of the event loop without a byte after which nothing more is to be expected. */
const SILENCE = 40;

/** Options are what a server's context is kept by. */
const impatients = new WeakMap<Stage, Stage>();

/** The same, with deadlines that are soon over. */
function impatient(stage: Stage): Stage {
  let soon = impatients.get(stage);
  if (soon === undefined) {
    const deadlines = { handshake: 150, read: 150, write: 150, shutdown: 150, close: 150 };
    soon = {
      ...stage,
      connect: { ...stage.connect, deadlines },
      accept: { ...stage.accept, deadlines },
    };
    impatients.set(stage, soon);
  }
  return soon;
}

async function one(
  { stage, frames, clear, sent }: Model,
  side: Side,
  change: Change,
  counts: Spoilt,
  fail: Context['fail'],
): Promise<void> {
  using near = channel({ record: false });
  using far = channel({ record: false });
  const forth = new Mangler(near.ends[1], far.ends[0], side === 'client' ? change : null);
  const back = new Mangler(far.ends[0], near.ends[1], side === 'server' ? change : null);
  // A session is resumed only with the options that it was made with.
  const wait = !stage.script.resumed && 'at' in change && change.at % 29 === 7;
  if (wait) counts.deadlines++;
  const held = wait ? impatient(stage) : stage;
  let over = false;
  const telling = converse(held, { client: near.ends[0], server: far.ends[1] }).finally(() => {
    over = true;
  });
  for (let silent = 0, last = -1; !over && !wait; ) {
    await turn();
    const passed = forth.passed + back.passed;
    silent = passed === last ? silent + 1 : 0;
    last = passed;
    if (silent < SILENCE) continue;
    near.ends[1].end();
    far.ends[0].end();
    break;
  }
  const told = await telling;
  const broken: string[] = [];
  if (told.hang) {
    counts.hangs++;
    broken.push('somebody still waited when the time was over');
  }
  for (const party of SIDES) {
    const seen = told[party];
    const said = Buffer.concat(stage.says[otherSide(party)]);
    if (seen.clean && !seen.bytes.equals(said)) {
      counts.altered++;
      broken.push(`the ${party} ended with '${seen.verdict}' and other bytes than were said`);
    }
  }
  const reader = told[otherSide(side)];
  const changed = side === 'client' ? forth.done : back.done;
  if (!changed) counts.idle++;
  if (reader.clean && changed) {
    if (isHarmless(change, placeOf(change, frames[side]))) counts.harmless++;
    else {
      counts.accepted++;
      broken.push(`the ${otherSide(side)} ended with '${reader.verdict}' all the same`);
    }
  }
  for (const what of broken) {
    fail(
      `${stage.script.name}: ${JSON.stringify(change)} in the ${sent[side].length} bytes that the ${side} sends: ${what}`,
    );
  }

  function isHarmless({ how }: Change, place: number): boolean {
    const index = frames[side].findIndex(({ from, to }) => from <= place && place < to);
    const frame = frames[side][index];
    if (frame === undefined) return true;
    // The last byte twice: the second of them comes behind close_notify.
    const last = index === frames[side].length - 1;
    if (last && (how === 'replay' || (how === 'duplicate' && place === frame.to - 1))) return true;
    if (!clear[side].has(index)) return false;
    const inHeader = place < frame.from + 5;
    const forShow = stage.script.version === 'TLSv1.3' && frame.type === 20;
    return (how === 'flip' && inHeader) || forShow;
  }
}
