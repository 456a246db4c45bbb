/** Drawings as the commands give them: in which form, and where to. */
import type { Drawing } from '../drawing/drawing.ts';
import { renderHtml } from '../drawing/html.ts';
import { renderMermaid } from '../drawing/mermaid.ts';
import { renderSvg } from '../drawing/svg.ts';
import { renderText } from '../drawing/text.ts';
import { OptionError } from '../errors.ts';
import { STANDARD, writeText } from './files.ts';
import type { Terminal } from './terminal.ts';

/** The forms of a drawing. */
export const DIAGRAMS = ['text', 'svg', 'mermaid', 'html'] as const;
/** A form of a drawing. */
export type Diagram = (typeof DIAGRAMS)[number];

/** Options as commander hands them over. */
export interface DiagramOptions {
  readonly diagram?: Diagram;
  /** The file that it goes to; `-` is standard output, and so is none. */
  readonly output?: string;
}

/** What is to be drawn, and where to. */
export interface Destination {
  /** By name or by the file's; null where nothing was asked for. */
  readonly form: Diagram | null;
  /** Undefined: standard output. */
  readonly file: string | undefined;
}

/** What was asked for. @throws {OptionError} where the file's name does not say the form. */
export function destinationOf({ diagram, output }: DiagramOptions): Destination {
  if (output === STANDARD) return { form: diagram ?? 'text', file: undefined };
  return { form: diagram ?? (output === undefined ? null : formOf(output)), file: output };
}

/** The form that a file's name says. */
function formOf(output: string): Diagram {
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
  file: string | undefined,
  terminal: Terminal,
): void {
  // A file has no colours.
  const colour = file === undefined && terminal.colour;
  const text = diagramText(drawing, form, { ...terminal, colour });
  writeText('--output', file ?? STANDARD, text, terminal);
}
