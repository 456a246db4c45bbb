/** What the output goes to: how wide it is, which characters it has, whether it wants colours. */
import { stripVTControlCharacters } from 'node:util';
import { cutText } from '../drawing/cells.ts';
import type { Drawing } from '../drawing/drawing.ts';
import { renderText } from '../drawing/text.ts';

/** Options that commands have in common. */
export interface DisplayOptions {
  /** False for `--no-color`. */
  readonly color: boolean;
  readonly ascii: boolean;
}

/** Where a command writes, and how. */
export interface Terminal {
  readonly width: number;
  readonly charset: 'unicode' | 'ascii';
  readonly colour: boolean;
  /** Whether lines can be overwritten: a person is watching. */
  readonly live: boolean;
  write(text: string | Uint8Array): void;
  /** A drawing, as this terminal can show it. */
  draw(drawing: Drawing): void;
  /** A paragraph: broken between words where a person is watching, one line otherwise. */
  paragraph(text: string): void;
}

type Output = NodeJS.WriteStream & { readonly fd: number };

/** Looks at a stream and at the environment. */
export function terminalOf(
  output: Output,
  { color, ascii }: DisplayOptions,
  env: NodeJS.ProcessEnv = process.env,
): Terminal {
  const live = output.isTTY === true && env['TERM'] !== 'dumb';
  const width = widthOf(output, env);
  const charset = ascii || !speaksUnicode(env) ? 'ascii' : 'unicode';
  // https://no-color.org: any value but the empty string.
  const colour = color && live && !env['NO_COLOR'] && output.hasColors();
  const write = (text: string | Uint8Array) => {
    output.write(text);
  };
  return {
    width,
    charset,
    colour,
    live,
    write,
    draw: (drawing) => write(renderText(drawing, { width, charset, colour })),
    paragraph: (text) => write(live ? wrap(text, width) : `${text}\n`),
  };
}

function widthOf(output: Output, env: NodeJS.ProcessEnv): number {
  if (output.isTTY && output.columns > 0) return output.columns;
  const columns = Number(env['COLUMNS']);
  return Number.isInteger(columns) && columns > 0 ? columns : 80;
}

/** No locale at all says nothing: only one that names another character set, or a simple terminal. */
function speaksUnicode(env: NodeJS.ProcessEnv): boolean {
  const locale = env['LC_ALL'] || env['LC_CTYPE'] || env['LANG'] || '';
  return env['TERM'] !== 'dumb' && (locale === '' || /utf-?8/i.test(locale));
}

/** Its length without colours. */
const bare = (text: string): number => stripVTControlCharacters(text).length;

/** Breaks a text between words. */
export function wrap(text: string, width: number): string {
  const lines: string[] = [];
  let line = '';
  for (const word of text.split(' ')) {
    if (line !== '' && bare(line) + 1 + bare(word) > width) {
      lines.push(line);
      line = word;
    } else {
      line = line === '' ? word : `${line} ${word}`;
    }
  }
  return `${[...lines, line].join('\n')}\n`;
}

/** How to fold a text. */
export interface FoldOptions {
  readonly charset: Terminal['charset'];
  /** Characters after which a line may end, beside the space. */
  readonly after?: string | undefined;
  /** Columns that all lines but the first have less. */
  readonly hang?: number | undefined;
}

/**
 * Breaks a text between words into lines that are no longer than the width, whatever is in it. What
 * could move the cursor becomes `?`.
 */
export function fold(
  text: string,
  width: number,
  { charset, after = '', hang = 0 }: FoldOptions,
): string[] {
  const cut = (line: string) => cutText(line, lines.length > 0 ? width - hang : width, charset);
  const fits = (line: string) => cut(line.trimEnd()) === line.trimEnd();
  const lines: string[] = [];
  let line = '';
  for (const piece of piecesOf(cutText(text, Number.POSITIVE_INFINITY, charset), ` ${after}`)) {
    if (fits(line + piece)) {
      line += piece;
      continue;
    }
    if (line !== '') lines.push(line.trimEnd());
    line = piece;
    while (!fits(line)) {
      // The part that fits, without the ellipsis.
      const head = cut(line).slice(0, -1);
      lines.push(head);
      line = line.slice(head.length);
    }
  }
  return [...lines, line.trimEnd()];
}

/** The text in pieces, each but the last ended by one of the characters, unless that is escaped. */
function piecesOf(text: string, after: string): string[] {
  const pieces: string[] = [];
  let piece = '';
  let escaped = false;
  for (const character of text) {
    piece += character;
    if (!escaped && after.includes(character)) {
      pieces.push(piece);
      piece = '';
    }
    escaped = !escaped && character === '\\';
  }
  return piece === '' ? pieces : [...pieces, piece];
}

/**
 * A name by RFC 4514 as a terminal can show it. Section 2.4 allows any character to be written as the
 * hexadecimal of its UTF-8: what could move the cursor or turn the text's direction is, and what the
 * character set lacks.
 */
export function printableName(name: string, charset: Terminal['charset']): string {
  const unsafe = charset === 'ascii' ? /[^ -~]/gu : /[\p{C}\p{Zl}\p{Zp}]/gu;
  return name.replace(unsafe, (character) =>
    Buffer.from(character).toString('hex').replace(/../g, '\\$&'),
  );
}
