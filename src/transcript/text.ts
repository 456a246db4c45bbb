/**
 * Swim lanes as text: two lanes, time running downwards, what crosses as arrows between them.
 *
 * Every line has the lanes' two verticals, and between them one thing: a step, written next to the
 * lane of its party, or an arrow over the whole width. So the same drawing works at any width. What
 * does not fit is cut with an ellipsis; no line is longer than the width. Meaning is in words and
 * glyphs first; colour only repeats it.
 */
import { styleText } from 'node:util';
import type { ArrowRow, ArrowStyle, Drawing, Foot, Lane, Row, Tone } from './lanes.ts';

/** How to print a drawing. */
export interface TextOptions {
  /** Columns; 80 by default, at least 40. */
  readonly width?: number | undefined;
  /** `unicode` (the default) or `ascii`. */
  readonly charset?: 'unicode' | 'ascii' | undefined;
  /** Whether to colour it; not by default. */
  readonly colour?: boolean | undefined;
}

/** What an arrow is made of: its line, and a mark before its text. */
interface ArrowGlyphs {
  readonly line: string;
  readonly mark: string;
  readonly left: string;
  readonly right: string;
}

interface Glyphs {
  readonly lane: string;
  readonly tailLeft: string;
  readonly tailRight: string;
  readonly ellipsis: string;
  readonly span: { readonly left: string; readonly line: string; readonly right: string };
  readonly gap: string;
  /** Where an arrow ends that nobody read. */
  readonly lost: string;
  readonly arrows: Readonly<Record<ArrowStyle, ArrowGlyphs>>;
  readonly foot: { readonly left: string; readonly line: string; readonly right: string };
  readonly yes: string;
  readonly no: string;
  readonly neither: string;
  readonly unknown: string;
}

const UNICODE: Glyphs = {
  lane: '│',
  tailLeft: '├',
  tailRight: '┤',
  ellipsis: '…',
  span: { left: '◀', line: '─', right: '▶' },
  gap: '┊',
  lost: '╳',
  arrows: {
    data: { line: '─', mark: '', left: '◁', right: '▷' },
    'close-notify': { line: '═', mark: '✓ ', left: '◀', right: '▶' },
    alert: { line: '~', mark: '! ', left: '◀', right: '▶' },
    eof: { line: '╌', mark: '■ ', left: '◁', right: '▷' },
    reset: { line: '╳', mark: '↯ ', left: '◁', right: '▷' },
    missing: { line: '·', mark: '✗ ', left: '·', right: '·' },
  },
  foot: { left: '┴', line: '─', right: '┴' },
  yes: '✓',
  no: '✗',
  neither: '–',
  unknown: '?',
};

const ASCII: Glyphs = {
  lane: '|',
  tailLeft: '+',
  tailRight: '+',
  ellipsis: '~',
  span: { left: '<', line: '-', right: '>' },
  gap: ':',
  lost: 'X',
  arrows: {
    data: { line: '-', mark: '', left: '<', right: '>' },
    'close-notify': { line: '=', mark: '* ', left: '<', right: '>' },
    alert: { line: '~', mark: '! ', left: '<', right: '>' },
    eof: { line: '_', mark: '# ', left: '<', right: '>' },
    reset: { line: 'x', mark: '# ', left: '<', right: '>' },
    missing: { line: '.', mark: 'x ', left: '.', right: '.' },
  },
  foot: { left: '+', line: '-', right: '+' },
  yes: '*',
  no: 'x',
  neither: '-',
  unknown: '?',
};

const LEAST_WIDTH = 40;
/** The times: up to 9 characters ("12345.6 "), and what separates them from the lane. */
const TIME_WIDTH = 10;

/**
 * Prints a drawing.
 *
 * @returns lines, each ended by a newline, none longer than `width` columns.
 */
export function renderText(drawing: Drawing, options: TextOptions = {}): string {
  const width = Math.max(LEAST_WIDTH, Math.floor(options.width ?? 80));
  const glyphs = options.charset === 'ascii' ? ASCII : UNICODE;
  const printer = new Printer(width - TIME_WIDTH - 3, glyphs, options.colour === true);
  const lines = [
    printer.names(drawing.names),
    ...drawing.rows.map((row) => printer.row(row)),
    ...printer.feet(drawing.feet),
  ];
  return lines.map((line) => `${line.trimEnd()}\n`).join('');
}

class Printer {
  /** Columns between the two verticals. */
  readonly #inner: number;
  readonly #glyphs: Glyphs;
  readonly #colour: boolean;

  constructor(inner: number, glyphs: Glyphs, colour: boolean) {
    this.#inner = inner;
    this.#glyphs = glyphs;
    this.#colour = colour;
  }

  names([left, right]: readonly [string, string]): string {
    return `${'ms'.padStart(TIME_WIDTH - 1)} ${this.#bold(this.#apart(left, right).join(''))}`;
  }

  row(row: Row): string {
    const { lane } = this.#glyphs;
    const time = this.#paint('quiet', `${timeText(row.at).padStart(TIME_WIDTH - 1)} `);
    switch (row.kind) {
      case 'step':
        return `${time}${lane}${this.#paint(row.tone, this.#beside(row.lane, row.text))}${lane}`;
      case 'span': {
        const { left, line, right } = this.#glyphs.span;
        return `${time}${lane}${this.#paint(row.tone, this.#centred(left, line, right, row.text))}${lane}`;
      }
      case 'gap': {
        const { gap } = this.#glyphs;
        return `${time}${gap}${this.#paint(row.tone, this.#centred(' ', ' ', ' ', row.text))}${gap}`;
      }
      case 'arrow':
        return `${time}${this.#arrow(row)}`;
    }
  }

  feet([left, right]: readonly [Foot, Foot]): string[] {
    const { foot } = this.#glyphs;
    const blank = ' '.repeat(TIME_WIDTH);
    const lines = [`${blank}${foot.left}${foot.line.repeat(this.#inner)}${foot.right}`];
    if (left.verdict !== null || right.verdict !== null) {
      lines.push(this.#foot(left, right, (one) => [verdictTone(one), verdictText(one)]));
    }
    lines.push(this.#foot(left, right, (one) => this.#deed(one)));
    return lines;
  }

  #deed({ sentCloseNotify, missed }: Foot): readonly [Tone, string] {
    const { yes, no, unknown, neither } = this.#glyphs;
    if (sentCloseNotify === null) return ['quiet', `${unknown} close_notify: not seen`];
    if (sentCloseNotify) return ['good', `${yes} sent close_notify`];
    return missed
      ? ['bad', `${no} sent no close_notify`]
      : ['quiet', `${neither} sent no close_notify`];
  }

  #foot(left: Foot, right: Foot, of: (foot: Foot) => readonly [Tone, string]): string {
    const [leftTone, leftText] = of(left);
    const [rightTone, rightText] = of(right);
    const [a, space, b] = this.#apart(leftText, rightText);
    const blank = ' '.repeat(TIME_WIDTH);
    return `${blank}${this.#paint(leftTone, a)}${space}${this.#paint(rightTone, b)}`;
  }

  #arrow({ from, style, arrives, text, tone }: ArrowRow): string {
    const { lane, tailLeft, tailRight, lost, arrows } = this.#glyphs;
    const { line, mark, left, right } = arrows[style];
    const label = `${mark}${text}`;
    if (arrives) {
      const body =
        from === 0
          ? this.#centred(line, line, right, label)
          : this.#centred(left, line, line, label);
      const painted = this.#paint(tone, body);
      return from === 0 ? `${tailLeft}${painted}${lane}` : `${lane}${painted}${tailRight}`;
    }
    // It stops short of the other lane.
    const short = Math.max(Math.floor(this.#inner * 0.8), Math.min(this.#inner, LEAST_ARROW));
    const note = `${text}, not read`;
    const gap = ' '.repeat(this.#inner - short);
    const body =
      from === 0
        ? this.#centred(line, line, lost, note, short)
        : this.#centred(lost, line, line, note, short);
    const painted = this.#paint('warn', body);
    return from === 0
      ? `${tailLeft}${painted}${gap}${lane}`
      : `${lane}${gap}${painted}${tailRight}`;
  }

  /** A text next to a lane. */
  #beside(lane: Lane, text: string): string {
    const cut = this.#cut(text, this.#inner - 2);
    const space = ' '.repeat(this.#inner - 1 - textWidth(cut));
    return lane === 0 ? ` ${cut}${space}` : `${space}${cut} `;
  }

  /** A line with a text in its middle. */
  #centred(left: string, line: string, right: string, text: string, width = this.#inner): string {
    const cut = this.#cut(text, width - 6);
    const free = width - 4 - textWidth(cut);
    const before = Math.floor(free / 2);
    return `${left}${line.repeat(before)} ${cut} ${line.repeat(free - before)}${right}`;
  }

  /** Two texts at the two ends of a line, each cut to its half only if there is no room for both. */
  #apart(left: string, right: string): [string, string, string] {
    const width = this.#inner + 2;
    const half = Math.floor((width - 1) / 2);
    const room = (other: string) => Math.max(half, width - 1 - textWidth(other));
    const a = this.#cut(left, room(right));
    const b = this.#cut(right, room(left));
    return [a, ' '.repeat(width - textWidth(a) - textWidth(b)), b];
  }

  #cut(text: string, width: number): string {
    return cutText(text, width, this.#glyphs === ASCII ? 'ascii' : 'unicode');
  }

  #paint(tone: Tone, text: string): string {
    return this.#colour ? paint(tone, text) : text;
  }

  #bold(text: string): string {
    return this.#colour ? styleText('bold', text, { validateStream: false }) : text;
  }
}

/** The shortest arrow that can still say something. */
const LEAST_ARROW = 26;

const COLOURS = { quiet: 'dim', good: 'green', warn: 'yellow', bad: 'red' } as const;

/** Colours a text by its tone. */
export function paint(tone: Tone, text: string): string {
  // Whether to colour was decided already.
  return tone === 'plain' ? text : styleText(COLOURS[tone], text, { validateStream: false });
}

function verdictText({ verdict, why }: Foot): string {
  if (verdict === null) return '';
  return why === '' ? `verdict: ${verdict}` : `verdict: ${verdict} (${why})`;
}

function verdictTone({ verdict }: Foot): Tone {
  switch (verdict) {
    case 'secure':
      return 'good';
    case 'truncated':
    case 'alert':
      return 'bad';
    case 'one-sided':
    case 'aborted':
    case 'timed-out':
      return 'warn';
    case 'open':
    case null:
      return 'plain';
  }
}

function timeText(ms: number): string {
  return Math.abs(ms) < 99_999.95 ? Math.max(0, ms).toFixed(1) : Math.round(ms).toString();
}

/** What would move the cursor or change its colours must not come from a peer. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: these are what it is about
const CONTROL = /[\u0000-\u001f\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]/g;
const WIDE =
  /[\u1100-\u115f\u2e80-\u303e\u3041-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\uffe0-\uffe6\u{1f000}-\u{1faff}\u{20000}-\u{3fffd}]/u;
const ZERO_WIDTH = /\p{Mark}/u;

/** Columns that a text takes on a terminal; by rule of thumb where scripts are wide. */
function textWidth(text: string): number {
  let width = 0;
  for (const char of text) width += WIDE.test(char) ? 2 : ZERO_WIDTH.test(char) ? 0 : 1;
  return width;
}

/**
 * Cuts a text to a width, with an ellipsis. What could move the cursor, or what the character set
 * lacks, becomes `?`.
 */
export function cutText(text: string, width: number, charset: 'unicode' | 'ascii'): string {
  let safe = text.replace(CONTROL, '?');
  if (charset === 'ascii') safe = safe.replace(/[^ -~]/gu, '?');
  if (textWidth(safe) <= width) return safe;
  let cut = '';
  let columns = 0;
  for (const char of safe) {
    const next = textWidth(char);
    if (columns + next > width - 1) break;
    cut += char;
    columns += next;
  }
  return width <= 0 ? '' : `${cut}${charset === 'ascii' ? ASCII.ellipsis : UNICODE.ellipsis}`;
}
