/** One line for each of several targets, in columns. */
import { cutText, paint, textWidth } from '../drawing/cells.ts';
import type { Tone } from '../drawing/drawing.ts';
import { type CloseNotifyError, HandshakeError } from '../errors.ts';
import { type Target, targetText } from './target.ts';
import type { Terminal } from './terminal.ts';

/** What a line says of a target. */
export interface TargetLine {
  /** The outcome in a word. */
  readonly word: string;
  readonly tone: Tone;
  /** The version, such as `TLSv1.3`; null where there was no handshake. */
  readonly protocol: string | null;
  /** What else is known. What cannot be read on a terminal may stand in it. */
  readonly detail: string;
}

/** Columns of the word: `truncated`, `no answer`. */
const WORD = 9;
/** Columns of the version: `TLSv1.3`. */
const PROTOCOL = 7;
/** Of a person's terminal, what the longest name may take. */
const NAME_SHARE = 0.3;
const GAP = '  ';

/**
 * Prints the lines. Where a person is watching, none is longer than the terminal is wide, and the
 * last says how many are still to come; elsewhere nothing is left out.
 */
export class TargetLines {
  readonly #terminal: Terminal;
  readonly #total: number;
  readonly #name: number;
  #printed = 0;

  constructor(terminal: Terminal, targets: readonly Target[]) {
    this.#terminal = terminal;
    this.#total = targets.length;
    const longest = Math.max(...targets.map((target) => textWidth(targetText(target))));
    this.#name = terminal.live
      ? Math.min(longest, Math.ceil(terminal.width * NAME_SHARE))
      : longest;
    this.#progress();
  }

  print(target: Target, { word, tone, protocol, detail }: TargetLine): void {
    const { live, width, charset, colour } = this.#terminal;
    const cut = (text: string, columns: number) =>
      cutText(text, live ? columns : Number.POSITIVE_INFINITY, charset);
    const name = cut(targetText(target), this.#name);
    const head = [
      name + ' '.repeat(Math.max(0, this.#name - textWidth(name))),
      (colour ? paint(tone, word) : word) + ' '.repeat(Math.max(0, WORD - word.length)),
      (protocol ?? '-').padEnd(PROTOCOL),
    ].join(GAP);
    const left = width - this.#name - WORD - PROTOCOL - 3 * GAP.length;
    if (live) this.#terminal.write('\r\u001b[K');
    this.#terminal.write(`${head}${GAP}${cut(detail, left)}`.trimEnd().concat('\n'));
    this.#printed++;
    this.#progress();
  }

  /** Somebody who waits wants to know for how many. */
  #progress(): void {
    if (!this.#terminal.live || this.#printed === this.#total) return;
    this.#terminal.write(`${this.#printed} of ${this.#total}...`);
  }
}

/** What went wrong, in few words: what the system said, where it said something. */
export function explainError(error: CloseNotifyError): string {
  const { cause, code, message, hint } = error;
  const causes: unknown[] = cause instanceof AggregateError ? cause.errors : [cause];
  const said = causes
    .filter((one): one is NodeJS.ErrnoException => one instanceof Error && 'syscall' in one)
    .map((one) => `${one.syscall} ${one.code}`);
  if (said.length > 0) return `${[...new Set(said)].join('; ')} [${code}]`;
  // Of a handshake OpenSSL says much, and the hint what it means.
  return `${error instanceof HandshakeError ? (hint ?? message) : message} [${code}]`;
}
