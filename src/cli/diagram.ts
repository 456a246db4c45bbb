/** Drawings as the commands give them: in which form, and where to. */
import { writeFileSync } from 'node:fs';
import type { Drawing } from '../drawing/drawing.ts';
import { renderHtml } from '../drawing/html.ts';
import { renderMermaid } from '../drawing/mermaid.ts';
import { renderSvg } from '../drawing/svg.ts';
import { renderText } from '../drawing/text.ts';
import { OptionError } from '../errors.ts';
import type { Terminal } from './terminal.ts';

/** The forms of a drawing. */
export const DIAGRAMS = ['text', 'svg', 'mermaid', 'html'] as const;
/** A form of a drawing. */
export type Diagram = (typeof DIAGRAMS)[number];

/** Options as commander hands them over. */
export interface DiagramOptions {
  readonly diagram?: Diagram;
  /** The file that it goes to, instead of standard output. */
  readonly output?: string;
}

/** The form that was asked for, by name or by the file's; null where none was. */
export function diagramOf({ diagram, output }: DiagramOptions): Diagram | null {
  if (diagram !== undefined || output === undefined) return diagram ?? null;
  const ending = /\.([a-z]+)$/i.exec(output)?.[1]?.toLowerCase() ?? '';
  const named: Readonly<Record<string, Diagram>> = {
    txt: 'text',
    svg: 'svg',
    mmd: 'mermaid',
    mermaid: 'mermaid',
    html: 'html',
    htm: 'html',
  };
  const found = Object.hasOwn(named, ending) ? named[ending] : undefined;
  if (found === undefined) {
    throw new OptionError(`--output: say with --diagram what is to be drawn into ${output}`);
  }
  return found;
}

/** Draws in one of the forms, text as wide as the terminal. */
export function diagramText(drawing: Drawing, form: Diagram, terminal: Terminal): string {
  switch (form) {
    case 'text': {
      const { width, charset, colour } = terminal;
      return renderText(drawing, { width, charset, colour });
    }
    case 'svg':
      return renderSvg(drawing);
    case 'mermaid':
      return renderMermaid(drawing);
    case 'html':
      return renderHtml(drawing);
  }
}

/** Draws to a file, or to standard output. @throws {OptionError} for a file that takes it not. */
export function writeDiagram(
  drawing: Drawing,
  form: Diagram,
  output: string | undefined,
  terminal: Terminal,
): void {
  if (output === undefined) {
    terminal.write(diagramText(drawing, form, terminal));
    return;
  }
  // A file has no colours.
  writeText('--output', output, diagramText(drawing, form, { ...terminal, colour: false }));
}

/** Writes a file. @throws {OptionError} naming the option. */
export function writeText(option: string, file: string, text: string): void {
  try {
    writeFileSync(file, text);
  } catch (cause) {
    throw new OptionError(`${option}: ${(cause as Error).message}`, { cause });
  }
}
