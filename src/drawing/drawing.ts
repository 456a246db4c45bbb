/**
 * A drawing as data: what `drawLanes` makes of transcripts, and what each printer (text, SVG, Mermaid, HTML) prints.
 */
import type { Verdict } from '../closure/verdict.ts';

/** 0 is on the left. */
export type Lane = 0 | 1;

/** Where in a party something happened. */
export type Layer = 'application' | 'tls' | 'transport';

/** How a row is meant: `good` is closure, `bad` its failure, `warn` a limit, `quiet` background. */
export type Tone = 'plain' | 'quiet' | 'good' | 'warn' | 'bad';

/** What crosses between the lanes; each has a glyph of its own. */
export type ArrowStyle = 'data' | 'close-notify' | 'alert' | 'eof' | 'reset' | 'missing';

/** Something that is worth knowing on a second look: a record's header, an alert's bytes. */
export interface Detail {
  /** What it is. */
  readonly label: string;
  /** What is said of it. */
  readonly value: string;
}

/** What all rows have. */
export interface RowBase {
  /** Milliseconds on the clock of the left lane. */
  readonly at: number;
  /** How it is meant. */
  readonly tone: Tone;
  /** What a reader reads. */
  readonly text: string;
  /** More of it, for who wants to know. */
  readonly details: readonly Detail[];
}

/** What one party did or found. */
export interface StepRow extends RowBase {
  /** Tells the rows apart. */
  readonly kind: 'step';
  /** Whose it is. */
  readonly lane: Lane;
  /** Where in the party. */
  readonly layer: Layer;
  /** What the application hands down, by a call, or TLS up to it; null for neither. */
  readonly flow: 'down' | 'up' | null;
}

/** Both lanes together: the handshake. */
export interface SpanRow extends RowBase {
  /** Tells the rows apart. */
  readonly kind: 'span';
}

/** What crossed from one lane to the other, or should have. */
export interface ArrowRow extends RowBase {
  /** Tells the rows apart. */
  readonly kind: 'arrow';
  /** Where it begins. */
  readonly from: Lane;
  /** What crossed; an EOF or reset leaves the transport, all else TLS. */
  readonly style: ArrowStyle;
  /** False where the other party never read it. */
  readonly arrives: boolean;
}

/** The truncation: from here on nothing is known of one party's bytes. */
export interface TearRow extends RowBase {
  /** Tells the rows apart. */
  readonly kind: 'tear';
}

/** A long time in which nothing happened. */
export interface WaitRow extends RowBase {
  /** Tells the rows apart. */
  readonly kind: 'wait';
  /** How long, in milliseconds. */
  readonly ms: number;
  /** Its share of the whole time that is drawn, from 0 to 1: what height it may take. */
  readonly share: number;
}

/** Entries that a transcript has dropped. */
export interface GapRow extends RowBase {
  /** Tells the rows apart. */
  readonly kind: 'gap';
}

/** One row of a drawing. */
export type Row = StepRow | SpanRow | ArrowRow | TearRow | WaitRow | GapRow;

/** A sentence of a standard. */
export interface Rule {
  /** The sentence. */
  readonly quote: string;
  /** Where it stands: `RFC 9846 section 6.1`. */
  readonly source: string;
}

/** Which of the nine endings it resembles. */
export interface Resemblance {
  /** As in docs/closure.md. */
  readonly number: number;
  /** Which of its parties is the one whose view this is. */
  readonly seenFrom: 'A' | 'B';
}

/** What a transcript comes to. */
export interface Story {
  /** The one-word verdict of the party whose view it is. */
  readonly verdict: Verdict;
  /** How it is meant. */
  readonly tone: Tone;
  /** Which side did what, or failed to: one sentence. */
  readonly headline: string;
  /** What that means. */
  readonly meaning: string;
  /** What governs it. */
  readonly rule: Rule;
  /** Null where it resembles none: nothing has ended yet, or a fatal alert ended it. */
  readonly resembles: Resemblance | null;
}

/** What stands at the foot of a lane. */
export interface Foot {
  /** Null for a party that was not recorded. */
  readonly verdict: Verdict | null;
  /** What brought the verdict, in a few words; empty where it says all. */
  readonly why: string;
  /** Whether this party sent close_notify; null where nobody can know. */
  readonly sentCloseNotify: boolean | null;
  /** Whether the other party waited for it, or read on to its end, in vain. */
  readonly missed: boolean;
}

/** A drawing as data. */
export interface Drawing {
  /** The lanes' names, left and right. */
  readonly names: readonly [string, string];
  /** Whether a party was recorded, so that its layers are known. */
  readonly known: readonly [boolean, boolean];
  /** Whether the times mean anything. If not, `at` only orders the rows. */
  readonly timed: boolean;
  /** In the order of time. */
  readonly rows: readonly Row[];
  /** What stands under the lanes. */
  readonly feet: readonly [Foot, Foot];
  /** What it comes to, for the left lane. */
  readonly story: Story;
}
