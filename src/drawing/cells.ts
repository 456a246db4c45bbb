/**
 * Text in the cells of a terminal: how many it takes, cut to so many, coloured, and put together on a canvas.
 */
import { styleText } from 'node:util';
import type { Tone } from './drawing.ts';
import { harmless } from './escape.ts';

/** One line of cells, each with a tone. What is put later covers what was there. */
export class Canvas {
  readonly #cells: string[];
  readonly #tones: Tone[];

  constructor(width: number) {
    this.#cells = Array.from({ length: width }, () => ' ');
    this.#tones = Array.from({ length: width }, (): Tone => 'plain');
  }

  put(column: number, text: string, tone: Tone): void {
    let at = column;
    for (const char of text) {
      const width = charWidth(char);
      if (width === 0) {
        if (at > column) this.#cells[at - 1] += char;
        continue;
      }
      if (at < 0 || at + width > this.#cells.length) return;
      this.#cells[at] = char;
      this.#tones[at] = tone;
      if (width === 2) {
        this.#cells[at + 1] = '';
        this.#tones[at + 1] = tone;
      }
      at += width;
    }
  }

  line(paint: (tone: Tone, text: string) => string): string {
    let line = '';
    for (let from = 0; from < this.#cells.length; ) {
      const tone = this.#tones[from] as Tone;
      let to = from + 1;
      while (to < this.#cells.length && this.#tones[to] === tone) to++;
      line += paint(tone, this.#cells.slice(from, to).join(''));
      from = to;
    }
    return line;
  }
}

const COLOURS = { quiet: 'dim', good: 'green', warn: 'yellow', bad: 'red' } as const;

/** Colours a text by its tone. */
export function paint(tone: Tone, text: string): string {
  // Whether to colour was decided already.
  return tone === 'plain' ? text : styleText(COLOURS[tone], text, { validateStream: false });
}

const WIDE =
  /[\u1100-\u115f\u2e80-\u303e\u3041-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\uffe0-\uffe6\u{1f000}-\u{1faff}\u{20000}-\u{3fffd}]/u;
const ZERO_WIDTH = /\p{Mark}/u;

/** Columns that a text takes on a terminal; by rule of thumb where scripts are wide. */
export function textWidth(text: string): number {
  let width = 0;
  for (const char of text) width += charWidth(char);
  return width;
}

const charWidth = (char: string): 0 | 1 | 2 =>
  WIDE.test(char) ? 2 : ZERO_WIDTH.test(char) ? 0 : 1;

/** Any characters, or only those that every terminal has. */
export type Charset = 'unicode' | 'ascii';

const ELLIPSIS: Readonly<Record<Charset, string>> = { unicode: '…', ascii: '~' };

/**
 * Cuts a text to a width, with an ellipsis. What could move the cursor, or what the character set
 * lacks, becomes `?`.
 */
export function cutText(text: string, width: number, charset: Charset): string {
  let safe = harmless(text);
  if (charset === 'ascii') safe = safe.replace(/[^ -~]/gu, '?');
  if (textWidth(safe) <= width) return safe;
  let cut = '';
  let columns = 0;
  for (const char of safe) {
    const next = charWidth(char);
    if (columns + next > width - 1) break;
    cut += char;
    columns += next;
  }
  return width <= 0 ? '' : `${cut}${ELLIPSIS[charset]}`;
}
