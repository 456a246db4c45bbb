/**
 * Swim lanes as text: time running downwards, a party on each side, what crosses as arrows between.
 *
 * A party that was recorded has three verticals where the width allows it, for its application, its
 * TLS and its transport: a call goes from the first to the second, close_notify from TLS to TLS, FIN
 * and RST from transport to transport. In less than 72 columns, and for a party that was not
 * recorded, there is one vertical. Every line has the verticals and one thing: a step, written next
 * to its party, or an arrow. What does not fit is cut with an ellipsis; no line is longer than the
 * width. Meaning is in words and glyphs first; colour only repeats it.
 *
 * A line is put together on a canvas of cells, so that a wide character takes two and one that
 * combines none.
 */
import { styleText } from 'node:util';
import { Canvas, cutText, paint, textWidth } from './cells.ts';
import type {
  ArrowRow,
  Drawing,
  Foot,
  Lane,
  Layer,
  Row,
  StepRow,
  Tone,
  WaitRow,
} from './drawing.ts';
import { ASCII, type Glyphs, UNICODE } from './text-glyphs.ts';
import { deedOf, timeText, verdictText, verdictTone } from './words.ts';

/** How to print a drawing. */
export interface TextOptions {
  /** Columns; 80 by default, at least 40. */
  readonly width?: number | undefined;
  /** `unicode` (the default) or `ascii`. */
  readonly charset?: 'unicode' | 'ascii' | undefined;
  /** Whether to colour it; not by default. */
  readonly colour?: boolean | undefined;
}

const LEAST_WIDTH = 40;
/** From this width on, each layer of a party that was recorded has a vertical of its own. */
const LAYERED_WIDTH = 72;
/** The shortest arrow that can still say something. */
const LEAST_ARROW = 26;
/** The times: up to 9 characters ("12345.6 "), and what separates them from the lane. */
const TIME_WIDTH = 10;
/** Columns from one layer to the next. */
const LAYER_STEP = 4;
/** Lines of the longest wait. */
const MOST_WAIT_LINES = 5;

const LAYERS: readonly Layer[] = ['application', 'tls', 'transport'];
const LAYER_NAMES: Readonly<Record<Layer, string>> = {
  application: 'app',
  tls: 'TLS',
  transport: 'TCP',
};

/**
 * Prints a drawing.
 *
 * @returns lines, each ended by a newline, none longer than `width` columns.
 */
export function renderText(drawing: Drawing, options: TextOptions = {}): string {
  const width = Math.max(LEAST_WIDTH, Math.floor(options.width ?? 80));
  const glyphs = options.charset === 'ascii' ? ASCII : UNICODE;
  const printer = new Printer(drawing, width, glyphs, options.colour === true);
  return printer
    .lines()
    .map((line) => `${line.trimEnd()}\n`)
    .join('');
}

/** The columns of a party's layers: all the same where it has one vertical. */
type Columns = Readonly<Record<Layer, number>>;

class Printer {
  readonly #drawing: Drawing;
  readonly #glyphs: Glyphs;
  readonly #colour: boolean;
  /** Columns before the canvas: the times. */
  readonly #margin: number;
  /** Columns of the canvas. */
  readonly #width: number;
  readonly #lanes: readonly [Columns, Columns];

  constructor(drawing: Drawing, width: number, glyphs: Glyphs, colour: boolean) {
    this.#drawing = drawing;
    this.#glyphs = glyphs;
    this.#colour = colour;
    this.#margin = drawing.timed ? TIME_WIDTH : 2;
    this.#width = width - this.#margin - 1;
    const layered = width >= LAYERED_WIDTH;
    const steps = drawing.known.map((known) => (known && layered ? LAYER_STEP : 0));
    const [left = 0, right = 0] = steps;
    const last = this.#width - 1;
    this.#lanes = [
      { application: 0, tls: left, transport: 2 * left },
      { application: last, tls: last - right, transport: last - 2 * right },
    ];
  }

  lines(): string[] {
    const { names, rows, feet } = this.#drawing;
    return [...this.#head(names), ...rows.flatMap((row) => this.#row(row)), ...this.#feet(feet)];
  }

  #head([left, right]: readonly [string, string]): string[] {
    const unit = this.#drawing.timed ? 'ms' : '';
    const names = `${unit.padStart(this.#margin - 1)} ${this.#bold(this.#apart(left, right).join(''))}`;
    if (this.#layersOf(0).length === 1 && this.#layersOf(1).length === 1) return [names];
    // One column more on either side: a name is centred over its vertical.
    const canvas = new Canvas(this.#width + 2);
    for (const lane of [0, 1] as const) {
      if (this.#layersOf(lane).length === 1) continue;
      for (const layer of LAYERS) {
        canvas.put(this.#lanes[lane][layer], LAYER_NAMES[layer], 'quiet');
      }
    }
    return [names, `${' '.repeat(this.#margin - 1)}${canvas.line(this.#painter)}`];
  }

  /** The columns of a party's verticals. */
  #layersOf(lane: Lane): number[] {
    return [...new Set(Object.values(this.#lanes[lane]))];
  }

  /** A canvas with nothing but the verticals on it. */
  #canvas(vertical: string, tone: Tone = 'plain'): Canvas {
    const canvas = new Canvas(this.#width);
    for (const lane of [0, 1] as const) {
      for (const column of this.#layersOf(lane)) canvas.put(column, vertical, tone);
    }
    return canvas;
  }

  #row(row: Row): string[] {
    if (row.kind === 'wait') return this.#wait(row);
    const { lane, gap, tear, span } = this.#glyphs;
    const canvas = this.#canvas(row.kind === 'gap' ? gap : lane);
    switch (row.kind) {
      case 'step':
        this.#step(canvas, row);
        break;
      case 'span': {
        const [from, to] = [this.#lanes[0].tls + 1, this.#lanes[1].tls - 1];
        canvas.put(from, span.left + span.line.repeat(to - from - 1) + span.right, row.tone);
        this.#label(canvas, row.text, row.tone);
        break;
      }
      case 'gap':
        this.#label(canvas, row.text, row.tone);
        break;
      case 'tear':
        canvas.put(0, tear.repeat(this.#width).slice(0, this.#width), row.tone);
        this.#label(canvas, row.text, row.tone);
        break;
      case 'arrow':
        this.#arrow(canvas, row);
    }
    return [this.#time(row.at) + canvas.line(this.#painter)];
  }

  #time(at: number | null): string {
    const text = at === null || !this.#drawing.timed ? '' : timeText(at);
    return this.#paint('quiet', `${text.padStart(this.#margin - 1)} `);
  }

  /** A long wait takes its share of the lines. */
  #wait({ share, text, tone }: WaitRow): string[] {
    const lines = 1 + Math.round(share * (MOST_WAIT_LINES - 1));
    return Array.from({ length: lines }, (_, i) => {
      const canvas = this.#canvas(this.#glyphs.gap, tone);
      if (i === Math.floor(lines / 2)) this.#label(canvas, text, tone);
      return this.#time(null) + canvas.line(this.#painter);
    });
  }

  #step(canvas: Canvas, { lane, layer, flow, text, tone }: StepRow): void {
    const columns = this.#lanes[lane];
    const { application, tls, transport } = columns;
    const right = lane === 1;
    if (application !== tls) {
      const { line, left: toLeft, right: toRight } = this.#glyphs.flow;
      const { point, tailLeft, tailRight } = this.#glyphs;
      if (flow === null) {
        canvas.put(columns[layer], point, tone);
      } else {
        const towardsRight = (flow === 'down') !== right;
        const [from, to] = right ? [tls, application] : [application, tls];
        const middle = line.repeat(to - from - 2);
        if (flow === 'down') canvas.put(application, right ? tailRight : tailLeft, tone);
        else canvas.put(tls, right ? tailLeft : tailRight, tone);
        canvas.put(from + 1, towardsRight ? middle + toRight : toLeft + middle, tone);
      }
    }
    const room = this.#middle.width;
    const cut = this.#cut(text, room - 2);
    canvas.put(right ? transport - 1 - textWidth(cut) : transport + 2, cut, tone);
  }

  /** The columns between the parties. */
  get #middle(): { readonly from: number; readonly width: number } {
    const from = this.#lanes[0].transport + 1;
    return { from, width: this.#lanes[1].transport - from };
  }

  /** A text in the middle between the parties, with a space on either side. */
  #label(canvas: Canvas, text: string, tone: Tone, { from, width } = this.#middle): void {
    const cut = ` ${this.#cut(text, width - 6)} `;
    canvas.put(from + Math.floor((width - textWidth(cut)) / 2), cut, tone);
  }

  #arrow(canvas: Canvas, { from, style, arrives, text, tone }: ArrowRow): void {
    const { tailLeft, tailRight, lost, arrows } = this.#glyphs;
    const { line, mark, left, right } = arrows[style];
    const layer: Layer = style === 'eof' || style === 'reset' ? 'transport' : 'tls';
    const start = this.#lanes[0][layer];
    const end = this.#lanes[1][layer];
    const how = arrives ? tone : 'warn';
    canvas.put(from === 0 ? start : end, from === 0 ? tailLeft : tailRight, how);
    // Unless somebody read it, it stops short of the other lane.
    const inner = end - start - 1;
    const length = arrives
      ? inner
      : Math.max(Math.floor(inner * 0.8), Math.min(inner, LEAST_ARROW));
    const at = from === 0 ? start + 1 : end - length;
    const head = arrives ? (from === 0 ? right : left) : lost;
    const shaft = line.repeat(length - 1);
    canvas.put(at, from === 0 ? shaft + head : head + shaft, how);
    const middle = this.#middle;
    const room = arrives
      ? middle
      : { from: Math.max(at, middle.from), width: Math.min(length, middle.width) };
    this.#label(canvas, arrives ? `${mark}${text}` : `${text}, not read`, how, room);
  }

  #feet([left, right]: readonly [Foot, Foot]): string[] {
    const { foot } = this.#glyphs;
    const blank = ' '.repeat(this.#margin);
    const canvas = new Canvas(this.#width);
    canvas.put(0, foot.line.repeat(this.#width), 'plain');
    for (const lane of [0, 1] as const) {
      for (const column of this.#layersOf(lane)) canvas.put(column, foot.left, 'plain');
    }
    const lines = [blank + canvas.line(this.#painter)];
    if (left.verdict !== null || right.verdict !== null) {
      lines.push(this.#foot(left, right, (one) => [verdictTone(one), verdictText(one)]));
    }
    lines.push(this.#foot(left, right, (one) => this.#deed(one)));
    return lines;
  }

  #deed(foot: Foot): readonly [Tone, string] {
    const { tone, mark, text } = deedOf(foot);
    return [tone, `${this.#glyphs[mark]} ${text}`];
  }

  #foot(left: Foot, right: Foot, of: (foot: Foot) => readonly [Tone, string]): string {
    const [leftTone, leftText] = of(left);
    const [rightTone, rightText] = of(right);
    const [a, space, b] = this.#apart(leftText, rightText);
    const blank = ' '.repeat(this.#margin);
    return `${blank}${this.#paint(leftTone, a)}${space}${this.#paint(rightTone, b)}`;
  }

  /** Two texts at the two ends of a line, each cut to its half only if there is no room for both. */
  #apart(left: string, right: string): [string, string, string] {
    const width = this.#width;
    const half = Math.floor((width - 1) / 2);
    const room = (other: string) => Math.max(half, width - 1 - textWidth(other));
    const a = this.#cut(left, room(right));
    const b = this.#cut(right, room(left));
    return [a, ' '.repeat(width - textWidth(a) - textWidth(b)), b];
  }

  #cut(text: string, width: number): string {
    return cutText(text, width, this.#glyphs === ASCII ? 'ascii' : 'unicode');
  }

  get #painter(): (tone: Tone, text: string) => string {
    return (tone, text) => this.#paint(tone, text);
  }

  #paint(tone: Tone, text: string): string {
    return this.#colour ? paint(tone, text) : text;
  }

  #bold(text: string): string {
    return this.#colour ? styleText('bold', text, { validateStream: false }) : text;
  }
}
