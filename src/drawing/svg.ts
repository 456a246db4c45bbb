/**
 * Swim lanes as SVG: one picture that stands by itself, in light and dark (`prefers-color-scheme`),
 * with a title and a description for who does not see it, and text that is text.
 *
 * What the applications do stands outside, beside their lanes; what crosses stands in between. Every
 * kind of arrow has a line and a glyph of its own, so that nothing hangs on colour: close_notify a
 * double line and a tick, FIN a dashed line and a square, RST a jagged line and a bolt. A truncation
 * is torn paper across the whole width.
 */

import type { ArrowRow, Drawing, Foot, Lane, Layer, Row, StepRow, WaitRow } from './drawing.ts';
import { breakLines, cutTo, escapeXml } from './escape.ts';
import { glyphOf, head, legendOf, lineOf, SVG_STYLE } from './svg-glyphs.ts';
import { deedOf, describe, MARKS, sentence, timeText, verdictText, verdictTone } from './words.ts';

/** How to draw. */
export interface SvgOptions {
  /** A part of a page: it brings no style of its own (`SVG_STYLE`), and rows can have the focus. */
  readonly inline?: boolean | undefined;
  /** What its ids begin with, where a page has several; `drawing` by default. */
  readonly id?: string | undefined;
}

const WIDTH = 1000;
/** Where the time ends, and the text beside the lanes begins. */
const TIME_X = 52;
const LAYER_STEP = 58;
const LEFT_X = 268;
/** Room at the top for the sentence and the names, and at the bottom for the feet. */
const HEAD = { line: 24, names: 62 } as const;
const FOOT_HEIGHT = 74;
const LEGEND_HEIGHT = 34;
/** Of a drawing inside a page: what is above and below its lanes. */
export const MARGINS = { top: HEAD.names, bottom: FOOT_HEIGHT } as const;
/**
 * Characters that fit: beside a lane, on its left behind the time as well; the name of a party, and of
 * one that has a party like itself beside it.
 */
const FIT = {
  ...{ headline: 96, beside: 31, behindTime: 26, lines: 2 },
  ...{ name: 40, besideName: 34, between: 46 },
} as const;

const HEIGHTS: Readonly<Record<Row['kind'], number>> = {
  step: 36,
  span: 48,
  arrow: 52,
  tear: 54,
  wait: 30,
  gap: 30,
};
/** What the longest wait adds. */
const WAIT_HEIGHT = 130;

/** The x of a party's layers: all the same where nobody saw inside. */
type Columns = Readonly<Record<Layer, number>>;

/** Draws. @returns a whole SVG document, or with `inline` an element for a page of HTML. */
export function renderSvg(drawing: Drawing, options: SvgOptions = {}): string {
  return new Painter(drawing, options).paint();
}

class Painter {
  readonly #drawing: Drawing;
  readonly #inline: boolean;
  readonly #id: string;
  readonly #lanes: readonly [Columns, Columns];
  readonly #parts: string[] = [];
  #y = 0;

  constructor(drawing: Drawing, { inline = false, id = 'drawing' }: SvgOptions) {
    this.#drawing = drawing;
    this.#inline = inline;
    this.#id = escapeXml(id);
    const columns = (lane: Lane): Columns => {
      const place = (x: number) => (lane === 0 ? x : WIDTH - x);
      // Nobody speaks beside a lane that was not recorded.
      if (!drawing.known[lane]) {
        const x = place(LEFT_X - LAYER_STEP);
        return { application: x, tls: x, transport: x };
      }
      return {
        application: place(LEFT_X),
        tls: place(LEFT_X + LAYER_STEP),
        transport: place(LEFT_X + 2 * LAYER_STEP),
      };
    };
    this.#lanes = [columns(0), columns(1)];
  }

  paint(): string {
    const { rows, feet, story, names } = this.#drawing;
    // A page says it beside the drawing.
    const headline = this.#inline ? [] : breakLines(story.headline, FIT.headline, 2);
    headline.forEach((line, i) => {
      const y = 26 + i * HEAD.line;
      this.#add(`<text class="headline toned ${story.tone}" x="20" y="${y}">${xml(line)}</text>`);
    });
    const top = 2 + headline.length * HEAD.line + HEAD.names;
    this.#names(names, top);
    this.#y = top + 12;
    const painted = rows.map((row, index) => this.#row(row, index));
    const bottom = this.#y + 8;
    // The lanes lie under everything that crosses them.
    for (const lane of [0, 1] as const) {
      for (const x of new Set(Object.values(this.#lanes[lane]))) {
        this.#add(`<line class="lane" x1="${x}" y1="${top + 6}" x2="${x}" y2="${bottom}"/>`);
      }
    }
    this.#parts.push(...painted);
    this.#foot(0, feet[0], bottom);
    this.#foot(1, feet[1], bottom);
    const legend = this.#inline ? '' : legendOf(rows, bottom + FOOT_HEIGHT + 14);
    const height = bottom + FOOT_HEIGHT + (legend === '' ? 0 : LEGEND_HEIGHT);
    return this.#document(Math.ceil(height), legend);
  }

  #document(height: number, legend: string): string {
    const { story } = this.#drawing;
    const [title, desc] = [`${this.#id}-title`, `${this.#id}-desc`];
    const role = this.#inline ? 'group' : 'img';
    return `<svg xmlns="http://www.w3.org/2000/svg" class="cn" role="${role}" viewBox="0 0 ${WIDTH} ${height}" width="${WIDTH}" height="${height}" aria-labelledby="${title}" aria-describedby="${desc}">
<title id="${title}">${xml(story.headline)}</title>
<desc id="${desc}">${xml(describe(this.#drawing))}</desc>
${this.#inline ? '' : `<style>${SVG_STYLE}</style>\n`}<rect class="bg" width="${WIDTH}" height="${height}" rx="8"/>
${this.#parts.join('\n')}
${legend}</svg>
`;
  }

  #add(part: string): void {
    this.#parts.push(part);
  }

  #names([left, right]: readonly [string, string], y: number): void {
    const fit = this.#drawing.known.every(Boolean) ? FIT.besideName : FIT.name;
    for (const [lane, name] of [
      [0, left],
      [1, right],
    ] as const) {
      const { application, tls, transport } = this.#lanes[lane];
      this.#add(
        `<text class="name" x="${tls}" y="${y - 22}" text-anchor="middle">${xml(cutTo(name, fit))}</text>`,
      );
      if (application === tls) continue;
      for (const [x, layer] of [
        [application, 'app'],
        [tls, 'TLS'],
        [transport, 'TCP'],
      ] as const) {
        this.#add(
          `<text class="small dim" x="${x}" y="${y - 2}" text-anchor="middle">${layer}</text>`,
        );
      }
    }
  }

  #row(row: Row, index: number): string {
    const height = HEIGHTS[row.kind] + (row.kind === 'wait' ? row.share * WAIT_HEIGHT : 0);
    const y = round(this.#y + height / 2);
    const top = round(this.#y);
    this.#y += height;
    const time =
      this.#drawing.timed && row.kind !== 'wait'
        ? `<text class="time" x="${TIME_X}" y="${y + 4}" text-anchor="end">${timeText(row.at)}</text>`
        : '';
    // Half of the step rows is above the line; the hit area makes a row easy to point at.
    const area = `<rect class="area" x="0" y="${top}" width="${WIDTH}" height="${round(height)}"/>`;
    // A picture with a name: it has the focus to be read, and does nothing that a button does.
    const focus = this.#inline
      ? ` tabindex="-1" role="img" aria-label="${xml(sentence(this.#drawing, row))}" data-row="${index}"`
      : '';
    // What nobody read is no closure.
    const tone = row.kind === 'arrow' && !row.arrives ? 'warn' : row.tone;
    return `<g class="row ${groupOf(row)} ${tone}"${focus}>${area}${time}${this.#content(row, y, height)}</g>`;
  }

  #content(row: Row, y: number, height: number): string {
    switch (row.kind) {
      case 'step':
        return this.#step(row, y);
      case 'span': {
        const [from, to] = [this.#lanes[0].tls, this.#lanes[1].tls];
        const line = `<line class="line" x1="${from + 9}" y1="${y}" x2="${to - 9}" y2="${y}"/>`;
        return `${line}${head(from, y, -1)}${head(to, y, 1)}${this.#label(row.text, y, 'strong')}`;
      }
      case 'arrow':
        return this.#arrow(row, y);
      case 'tear':
        return this.#tear(row.text, y);
      case 'wait':
        return this.#wait(row, y, height);
      case 'gap':
        return `<text class="halo dim" x="${this.#middle}" y="${y + 4}" text-anchor="middle">${xml(row.text)}</text>`;
    }
  }

  /** The middle between the parties. */
  get #middle(): number {
    return (this.#lanes[0].transport + this.#lanes[1].transport) / 2;
  }

  #label(text: string, y: number, kind = '', lift = 0): string {
    return `<text class="halo toned ${kind}" x="${this.#middle}" y="${y - 10 - lift}" text-anchor="middle">${xml(cutTo(text, FIT.between))}</text>`;
  }

  #step({ lane, layer, flow, text, tone }: StepRow, y: number): string {
    const columns = this.#lanes[lane];
    const right = lane === 1;
    const away = right ? 1 : -1;
    const { application, tls } = columns;
    const fit = this.#drawing.timed && !right ? FIT.behindTime : FIT.beside;
    const lines = breakLines(text, fit, FIT.lines);
    const anchor = right ? 'start' : 'end';
    const x = application + away * 14;
    const call = /^[\w.]+\(/.test(text) ? ' call' : '';
    const first = y + 4 - (lines.length - 1) * 7.5;
    const spans = lines.map(
      (line, i) => `<tspan x="${x}" y="${round(first + i * 15)}">${xml(line)}</tspan>`,
    );
    const words = `<text class="toned${call} ${tone}" text-anchor="${anchor}">${spans.join('')}</text>`;
    if (flow === null) {
      return `<circle class="shape" cx="${columns[layer]}" cy="${y}" r="5"/>${words}`;
    }
    const [from, to] = flow === 'down' ? [application, tls] : [tls, application];
    const towards = Math.sign(to - from);
    return `<line class="line" x1="${from}" y1="${y}" x2="${to - towards * 8}" y2="${y}"/>${head(to, y, towards)}${words}`;
  }

  #arrow({ from, style, arrives, text, tone }: ArrowRow, middle: number): string {
    // The label is above the line, the glyph on it.
    const y = middle + 9;
    const layer: Layer = style === 'eof' || style === 'reset' ? 'transport' : 'tls';
    const start = this.#lanes[from][layer];
    const whole = this.#lanes[from === 0 ? 1 : 0][layer];
    const towards = Math.sign(whole - start);
    // Unless somebody read it, it stops short of the other lane.
    const end = arrives ? whole : round(start + (whole - start) * 0.78);
    const line = lineOf(style, start, end - towards * 9, y);
    const tip = arrives
      ? style === 'missing'
        ? ''
        : head(whole, y, towards)
      : `<path class="line" stroke-width="3" d="M${end - 7} ${y - 7}l14 14m0-14l-14 14"/>`;
    const label = arrives ? text : `${text}, not read`;
    const glyph = arrives ? glyphOf(style, this.#middle, y) : '';
    const kind = tone === 'good' || tone === 'bad' ? 'strong' : '';
    return `${line}${tip}${glyph}${this.#label(label, y, kind, glyph === '' ? 0 : 7)}`;
  }

  #tear(text: string, y: number): string {
    const edge = (level: number, phase: number) => {
      const points: string[] = [];
      for (let x = 0; x <= WIDTH; x += 20) {
        points.push(`${x} ${level + ((x / 20 + phase) % 2 === 0 ? -5 : 5)}`);
      }
      return points;
    };
    const above = edge(y - 16, 0);
    const below = edge(y + 16, 1);
    return `<path class="paper" d="M${[...above, ...below.reverse()].join('L')}Z"/><path class="line" d="M${above.join('L')}M${below.join('L')}"/><text class="toned name" x="${WIDTH / 2}" y="${y + 5}" text-anchor="middle">✂ ${xml(text)}</text>`;
  }

  #wait({ text }: WaitRow, y: number, height: number): string {
    const x = this.#middle;
    const half = height / 2 - 4;
    const bar = `<path class="line" stroke-dasharray="2 5" d="M${x} ${round(y - half)}V${round(y + half)}"/>`;
    return `${bar}<text class="halo dim" x="${x}" y="${y + 4}" text-anchor="middle">${xml(text)}</text>`;
  }

  #foot(lane: Lane, foot: Foot, y: number): void {
    const right = lane === 1;
    const x = right ? WIDTH / 2 + 10 : 20;
    const width = WIDTH / 2 - 30;
    this.#add(`<rect x="${x}" y="${y}" width="${width}" height="58" rx="6" class="box"/>`);
    const { tone, mark, text: deed } = deedOf(foot);
    const text = (line: number, classes: string, words: string) =>
      this.#add(
        `<text class="toned ${classes}" x="${x + 16}" y="${y + line}">${xml(words)}</text>`,
      );
    const recorded = foot.verdict !== null;
    const verdict = recorded
      ? verdictText(foot)
      : 'not recorded: only what reached the other side is known';
    text(23, recorded ? `strong ${verdictTone(foot)}` : 'quiet', verdict);
    text(45, `${tone} ${tone === 'bad' ? 'strong' : ''}`, `${MARKS[mark]} ${deed}`);
  }
}

/** What a reader may want to see alone. */
export type RowGroup = 'calls' | 'traffic' | 'closing';

/** Which of the groups a row belongs to. */
export function groupOf(row: Row): RowGroup {
  switch (row.kind) {
    case 'step':
      return row.layer === 'application' ? 'calls' : 'traffic';
    case 'arrow':
      return row.style === 'data' ? 'traffic' : 'closing';
    case 'tear':
      return 'closing';
    case 'span':
    case 'wait':
    case 'gap':
      return 'traffic';
  }
}

const xml = escapeXml;
const round = (value: number): number => Math.round(value * 10) / 10;
