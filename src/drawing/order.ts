/**
 * The rows of two lanes in one order, by the clock or by cause and effect, and what both ends told of made one row.
 */
import type { Lane, Row } from './drawing.ts';
import { durationText } from './words.ts';

/** A row while the lanes are still being put together. */
export type Draft = Row & {
  /** Orders rows of one instant: the order of their own transcript. */
  readonly index: number;
  /** The lane that told of it. */
  readonly teller: Lane;
  /** What the other lane may have told of the same thing, from the other end. */
  readonly match?: string;
  readonly end?: 'sent' | 'received';
  /** Where both lanes told of it: its index in the other lane. */
  readonly otherIndex?: number;
};

/** The lane that is not this one. */
export const other = (lane: Lane): Lane => (lane === 0 ? 1 : 0);

/** Both ends told: what left one and reached the other becomes one row. */
export function join(drafts: Draft[]): Draft[] {
  const joined: Draft[] = [];
  const arrived = new Set<Draft>();
  const spans = drafts.filter(({ kind }) => kind === 'span').sort((a, b) => a.at - b.at);
  const [firstSpan, secondSpan] = spans;
  for (const draft of drafts) {
    if (draft.kind === 'span' ? draft !== firstSpan : draft.end === 'received') continue;
    if (draft.kind === 'span' && secondSpan !== undefined) {
      joined.push({ ...draft, otherIndex: secondSpan.index });
      continue;
    }
    if (draft.kind !== 'arrow' || draft.match === undefined) {
      joined.push(draft);
      continue;
    }
    const arrival = drafts.find(
      (one) =>
        one.kind === 'arrow' &&
        one.end === 'received' &&
        one.match === draft.match &&
        one.teller !== draft.teller &&
        !arrived.has(one),
    );
    if (arrival === undefined || arrival.kind !== 'arrow') {
      joined.push({ ...draft, arrives: draft.style !== 'close-notify' && draft.style !== 'alert' });
      continue;
    }
    arrived.add(arrival);
    // Sending is told of when the transport has taken the bytes; they may be read before that.
    const at = Math.min(draft.at, arrival.at);
    // How a transport ended is for the receiver to say: the sender cannot choose between FIN and RST.
    const { style, text, tone, details } = draft.match === 'end' ? arrival : draft;
    joined.push({ ...draft, at, style, text, tone, details, otherIndex: arrival.index });
  }
  // What arrived without having been told of at its other end, or what the sender's lane has dropped.
  // Data is left to its sender, since the two ends fold it differently.
  const rest = drafts.filter(
    (one) => one.end === 'received' && !arrived.has(one) && one.match !== 'data',
  );
  return [...joined, ...rest];
}

/**
 * The rows of a drawing.
 *
 * @param timed whether by the clock, with the long waits between; if not, `at` is the place in the order.
 */
export function inOrder(drafts: Draft[], timed: boolean): Row[] {
  const ordered = timed ? byClock(drafts) : byCause(drafts);
  const rows = ordered.map(
    ({ index: _, teller: __, match: ___, end: ____, otherIndex: _____, ...row }, place): Row =>
      timed ? row : { ...row, at: place },
  );
  return timed ? withWaits(rows) : rows;
}

/** Earlier first; in one instant, what one party told stays in its order. */
const byClock = (drafts: Draft[]): Draft[] =>
  drafts.sort((a, b) => a.at - b.at || (a.teller === b.teller ? a.index - b.index : 0));

/**
 * In the order of cause and effect: a party goes on until it needs what the other one has not sent
 * yet. Only what the applications ask for is put in the order of the clock: who began what is what
 * a drawing is about, and it is their doing, not an accident of the run.
 */
function byCause(drafts: Draft[]): Draft[] {
  const place = (draft: Draft, lane: Lane) =>
    draft.teller === lane ? draft.index : draft.otherIndex;
  const lanes = ([0, 1] as const).map((lane) =>
    drafts
      .filter((draft) => place(draft, lane) !== undefined)
      .sort((a, b) => (place(a, lane) ?? 0) - (place(b, lane) ?? 0)),
  );
  const isCall = (draft: Draft) => draft.kind === 'step' && draft.flow === 'down';
  const calls = byClock(drafts.filter(isCall));
  const ordered = new Set<Draft>();
  /** What a lane can go on with: of its own, and no call that is not due. */
  const next = (lane: Lane): Draft | null => {
    const rows = lanes[lane] as Draft[];
    while (rows[0] !== undefined && ordered.has(rows[0])) rows.shift();
    const head = rows[0];
    if (head === undefined || head.teller !== lane) return null;
    return isCall(head) && head !== calls[0] ? null : head;
  };
  let lane: Lane = 0;
  while (ordered.size < drafts.length) {
    if (next(lane) === null) lane = other(lane);
    // If neither can, clocks disagree with causes: then any order is as good.
    const draft = next(lane) ?? drafts.find((one) => !ordered.has(one));
    if (draft === undefined) break;
    ordered.add(draft);
    if (draft === calls[0]) calls.shift();
    else if (isCall(draft)) calls.splice(calls.indexOf(draft), 1);
  }
  return [...ordered];
}

/** A wait is worth showing from this many milliseconds, and this share of the whole, on. */
const LONG_WAIT = { ms: 50, share: 0.15 };

/** Rows, and the long waits between them. */
function withWaits(rows: readonly Row[]): Row[] {
  const whole = (rows.at(-1)?.at ?? 0) - (rows[0]?.at ?? 0);
  return rows.flatMap((row, index) => {
    const before = rows[index - 1];
    const ms = before === undefined ? 0 : row.at - before.at;
    const share = whole > 0 ? ms / whole : 0;
    // Before the handshake is complete its records cross, and are not drawn.
    const busy = row.kind === 'span';
    if (before === undefined || busy || ms < LONG_WAIT.ms || share < LONG_WAIT.share) return [row];
    const text = `nothing for ${durationText(ms)}`;
    const { at } = before;
    return [{ kind: 'wait', at, ms, share, tone: 'quiet', text, details: [] }, row];
  });
}
