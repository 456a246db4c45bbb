/** What must hold of a party, given what the wire let through to it. */
import {
  framesOf,
  otherSide,
  type Seen,
  type Side,
  type Stage,
  type Told,
} from './conversation.ts';

/** The counts that the table shows. */
export interface Counts extends Record<string, number> {
  /** Places that were taken; see places.ts. */
  offsets: number;
  /** Cuts that were made there. */
  cuts: number;
  /** Conversations that nobody cut. */
  uncut: number;
  runs: number;
  /** A party took for whole what was not. */
  missed: number;
  /** A party took for broken what was whole. */
  falseAlarms: number;
  /** A party ended cleanly, and lacks bytes or has wrong ones. */
  lost: number;
  hangs: number;
  /** Runs in which some party ended cleanly: that not everything just fails. */
  clean: number;
}

export const newCounts = (): Counts => ({
  offsets: 0,
  cuts: 0,
  uncut: 0,
  runs: 0,
  missed: 0,
  falseAlarms: 0,
  lost: 0,
  hangs: 0,
  clean: 0,
});

/** What a direction carried. */
export interface Carried {
  /** What its sender wrote. */
  readonly sent: Buffer;
  /** How much of that reached the reader, unchanged and in order. */
  readonly passed: number;
  /** Whether the reader was left with what passed, rather than reset. */
  readonly orderly: boolean;
}

/** Whether the sender's close_notify is the last of what it wrote, and has passed. */
export function closurePassed(sender: Seen, { sent, passed }: Carried): boolean {
  const last = framesOf(sent).at(-1);
  return sender.closed && last !== undefined && last.to === sent.length && passed >= sent.length;
}

/**
 * Judges both parties.
 *
 * @param uncut nobody touched the wire: whoever did not end cleanly gave a false alarm.
 * @returns what broke, in words.
 */
export function judge(
  { says }: Stage,
  told: Told,
  carried: Readonly<Record<Side, Carried>>,
  counts: Counts,
  uncut: boolean,
): string[] {
  const broken: string[] = [];
  counts.runs++;
  if (told.hang) {
    counts.hangs++;
    broken.push('somebody still waited when the time was over');
  }
  if (told.client.clean || told.server.clean) counts.clean++;
  for (const side of ['client', 'server'] as const) {
    const from = otherSide(side);
    const [seen, line] = [told[side], carried[from]];
    const whole = closurePassed(told[from], line);
    const same = seen.bytes.equals(Buffer.concat(says[from]));
    if (seen.clean && !whole) {
      counts.missed++;
      broken.push(
        `the ${side} ended with '${seen.verdict}', and close_notify had not passed: ${line.passed} of ${line.sent.length} bytes had`,
      );
    }
    if (seen.clean && !same) {
      counts.lost++;
      broken.push(
        `the ${side} ended cleanly with ${seen.bytes.length} bytes that are not what was said`,
      );
    }
    if ((uncut || (whole && line.orderly)) && !seen.clean) {
      counts.falseAlarms++;
      broken.push(
        `the ${side} ${uncut ? 'was not cut off' : 'had all up to close_notify'}, and says '${seen.verdict}': ${seen.error}`,
      );
    }
  }
  return broken;
}
