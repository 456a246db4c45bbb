/** What the printers say in the same words: times, feet, and a whole drawing as sentences. */
import type { Drawing, Foot, Row, Tone } from './drawing.ts';

/** A time in a drawing, in milliseconds. */
export const timeText = (ms: number): string =>
  Math.abs(ms) < 99_999.95 ? Math.max(0, ms).toFixed(1) : Math.round(ms).toString();

/** How long, in words: `300 ms`, `5.0 s`. */
export const durationText = (ms: number): string =>
  ms < 1_000 ? `${Math.round(ms)} ms` : `${(ms / 1_000).toFixed(1)} s`;

/** So many of something: `1 record`, `2 records`. */
export const count = (many: number, unit: string, units = `${unit}s`): string =>
  `${many.toLocaleString('en-US')} ${many === 1 ? unit : units}`;

/** How a verdict is meant. */
export const VERDICT_TONES: Readonly<Record<NonNullable<Foot['verdict']>, Tone>> = {
  open: 'plain',
  secure: 'good',
  'one-sided': 'warn',
  truncated: 'bad',
  alert: 'bad',
  aborted: 'warn',
  'timed-out': 'warn',
};

/** How the verdict of a foot is meant. */
export const verdictTone = ({ verdict }: Foot): Tone =>
  verdict === null ? 'plain' : VERDICT_TONES[verdict];

/** The verdict of a foot, with what brought it; empty for a party that was not recorded. */
export function verdictText({ verdict, why }: Foot): string {
  if (verdict === null) return '';
  return why === '' ? `verdict: ${verdict}` : `verdict: ${verdict} (${why})`;
}

/** Whether something was done: a glyph. */
export const MARKS = { yes: '✓', no: '✗', neither: '–', unknown: '?' } as const;

/** Whether a party sent close_notify, in words and with the mark that stands before them. */
export interface Deed {
  readonly tone: Tone;
  readonly mark: keyof typeof MARKS;
  readonly text: string;
}

/** What a foot says of close_notify. */
export function deedOf({ sentCloseNotify, missed }: Foot): Deed {
  if (sentCloseNotify === null) {
    return { tone: 'quiet', mark: 'unknown', text: 'close_notify: not seen' };
  }
  if (sentCloseNotify) return { tone: 'good', mark: 'yes', text: 'sent close_notify' };
  return missed
    ? { tone: 'bad', mark: 'no', text: 'sent NO close_notify' }
    : { tone: 'quiet', mark: 'neither', text: 'sent no close_notify' };
}

/** The drawing in sentences, for who does not see it. */
export function describe(drawing: Drawing): string {
  const { rows, names, feet } = drawing;
  const sentences = rows.map((row) => sentence(drawing, row));
  const ends = ([0, 1] as const).map((lane) => {
    const { verdict } = feet[lane];
    const { text } = deedOf(feet[lane]);
    return `${names[lane]}: ${verdict === null ? '' : `verdict ${verdict}, `}${text}.`;
  });
  return [...sentences, ...ends].join(' ');
}

/** One row as a sentence. */
export function sentence({ names, timed }: Drawing, row: Row): string {
  const at = timed ? `${timeText(row.at)} ms: ` : '';
  switch (row.kind) {
    case 'step':
      return `${at}${names[row.lane]}: ${row.text}.`;
    case 'arrow': {
      const [from, to] = row.from === 0 ? names : [names[1], names[0]];
      return `${at}${from} to ${to}: ${row.text}${row.arrives ? '' : ', not read'}.`;
    }
    default:
      return `${at}${row.text}.`;
  }
}
