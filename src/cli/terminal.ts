/** What the output goes to: how wide it is, which characters it has, whether it wants colours. */
import { stripVTControlCharacters } from 'node:util';
import type { Drawing } from '../transcript/lanes.ts';
import { renderText } from '../transcript/text.ts';

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
  write(text: string): void;
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
  const write = (text: string) => {
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
