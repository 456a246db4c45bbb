/**
 * From transcripts to a drawing that no printer has touched yet: rows in the order of time, each in
 * the lane of the party that did something, or an arrow from one lane to the other.
 *
 * Theory of operation. There are always two lanes. Either both parties were recorded, or one was and
 * the other lane shows only what reached it. A party that was recorded has three layers: its
 * application calls, its TLS sends alerts, its transport ends; a party that was not is one line, for
 * nobody saw inside it. Each transcript yields the rows of its own lane. Where both ends are known,
 * what one sent and the other received is one arrow: the sender's row stays, and the receiver's tells
 * whether it arrived. An arrow that has no receiver is the interesting case: close_notify that nobody
 * read.
 *
 * The reader wants to know which side failed to do what. So an EOF or reset says in words whether
 * close_notify came before it, a truncation tears the whole drawing, a close_notify that was waited
 * for in vain is a row of its own, a long wait takes its share of the height, and at the foot of each
 * lane stands whether that party sent close_notify.
 */
import type { Verdict } from '../closure/verdict.ts';
import type { Observation } from '../transcript/observer.ts';
import type { Transcript } from '../transcript/transcript.ts';
import type { Drawing, Foot } from './drawing.ts';
import { LaneReader, type Reading } from './lane-reader.ts';
import { inOrder, join } from './order.ts';
import { tellStory } from './story.ts';

/** A party that was recorded. */
export interface RecordedLane {
  /** What stands above the lane. */
  readonly name: string;
  /** What the party saw. */
  readonly transcript: Transcript;
}

/** Options of a drawing. */
export interface DrawingOptions {
  /** The TLS version, such as `TLSv1.3`; by default the transcript's own. */
  readonly protocol?: string | undefined;
  /**
   * What to add to the times of the right lane to get the clock of the left one, in milliseconds.
   * By default both were recorded on this machine.
   */
  readonly offset?: number | undefined;
  /** Whether to show how the connection came to be, before the handshake; true by default. */
  readonly opening?: boolean | undefined;
  /**
   * Whether it is known that no application data crossed. Records that say so in their header, and
   * that could not be read, then hold messages of TLS 1.3 itself: session tickets, for the most part.
   */
  readonly idle?: boolean | undefined;
  /**
   * Whether to draw by the clock; true by default. Without it rows stand in the order of cause and
   * effect, which is the same in every run, and there are no times and no waits.
   */
  readonly timed?: boolean | undefined;
}

/**
 * Puts one or two transcripts into lanes.
 *
 * @param left the party whose view it is.
 * @param right the other party, or just its name where it was not recorded.
 */
export function drawLanes(
  left: RecordedLane,
  right: RecordedLane | string,
  options: DrawingOptions = {},
): Drawing {
  const { opening = true, idle = false, timed = true } = options;
  const protocol = options.protocol ?? left.transcript.protocol;
  const reading: Reading = {
    span: protocol === null ? 'handshake' : `handshake ${protocol}`,
    opening,
    idle,
  };
  const both = typeof right !== 'string';
  const names = [left.name, both ? right.name : right] as const;
  const offset = !both
    ? 0
    : (options.offset ?? (right.transcript.origin ?? 0) - (left.transcript.origin ?? 0));
  const story = tellStory(
    left.transcript,
    { local: names[0], peer: names[1], protocol, idle },
    both ? { transcript: right.transcript, offset } : null,
  );
  const leftDrafts = new LaneReader(0, left.transcript, 0, reading).read();
  if (!both) {
    return {
      names,
      known: [true, false],
      timed,
      rows: inOrder(leftDrafts, timed),
      feet: [footOf(left.transcript, null), footOfUnrecorded(left.transcript)],
      story,
    };
  }
  const rightDrafts = new LaneReader(1, right.transcript, offset, reading).read();
  return {
    names,
    known: [true, true],
    timed,
    rows: inOrder(join([...leftDrafts, ...rightDrafts]), timed),
    feet: [footOf(left.transcript, right.transcript), footOf(right.transcript, left.transcript)],
    story,
  };
}

/** The observations of a transcript, without what was folded. */
function eventsOf(transcript: Transcript): Observation[] {
  return transcript.entries.flatMap((entry) => (entry.type === 'event' ? [entry.observation] : []));
}

const closeNotify = (events: Observation[], direction: 'sent' | 'received') =>
  events.some((one) => one.type === 'close-notify' && one.direction === direction);

/** Verdicts of a party that read to the end, or waited, without finding close_notify. */
const MISSED: ReadonlySet<Verdict> = new Set(['truncated', 'timed-out']);

function footOf(transcript: Transcript, otherTranscript: Transcript | null): Foot {
  const events = eventsOf(transcript);
  const { verdict } = transcript;
  const sentCloseNotify = closeNotify(events, 'sent');
  const missed = otherTranscript !== null && MISSED.has(otherTranscript.verdict);
  return {
    verdict,
    why: whyOf(verdict, events),
    sentCloseNotify,
    missed: missed && !sentCloseNotify,
  };
}

function whyOf(verdict: Verdict, events: Observation[]): string {
  switch (verdict) {
    case 'truncated': {
      const end = events.find(
        ({ type }) =>
          type === 'transport-eof' || type === 'transport-reset' || type === 'transport-error',
      );
      if (end?.type === 'transport-eof') return 'FIN came instead';
      if (end?.type === 'transport-reset') return 'RST came instead';
      return 'no close_notify';
    }
    case 'alert': {
      const alert = events.findLast((one) => one.type === 'alert');
      return alert?.type === 'alert' ? alert.alert.name : '';
    }
    case 'one-sided':
      return closeNotify(events, 'received') ? 'our answer was not taken' : 'did not wait';
    case 'timed-out':
      return 'none came';
    default:
      return '';
  }
}

/** What is known of a party by the other's transcript alone. */
function footOfUnrecorded(transcript: Transcript): Foot {
  const sent = closeNotify(eventsOf(transcript), 'received');
  // Who did not wait for the end, or left before it, cannot say that nothing was sent.
  const missed = !sent && MISSED.has(transcript.verdict);
  return { verdict: null, why: '', sentCloseNotify: sent ? true : missed ? false : null, missed };
}
