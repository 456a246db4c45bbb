/** What `close-notify issuers` prints for people. */
import Table from 'cli-table3';
import type { FindResult } from '../client-cert/finder.ts';
import { DEFAULT_POLICY } from '../closure/policy.ts';
import { paint } from '../drawing/cells.ts';
import type { Tone } from '../drawing/drawing.ts';
import type { IssuersOptions, IssuersReport } from './issuers-report.ts';
import type { ClosureReport } from './report.ts';
import { borders } from './table.ts';
import { type Target, targetText } from './target.ts';
import { fold, printableName, type Terminal } from './terminal.ts';
import { explain, explainCertificate, explainRequest } from './words.ts';

/** Lines that one name may take where a person is watching. */
const MOST_LINES = 4;
/** Columns for a name on terminals that are too narrow for anything. */
const LEAST_NAME = 20;
const INDENT = 2;

/** Prints it. No line is longer than the terminal is wide. */
export class IssuersPage {
  readonly #terminal: Terminal;
  readonly #target: Target;
  readonly #options: Pick<IssuersOptions, 'http' | 'timeout'>;

  constructor(
    terminal: Terminal,
    target: Target,
    options: Pick<IssuersOptions, 'http' | 'timeout'>,
  ) {
    this.#terminal = terminal;
    this.#target = target;
    this.#options = options;
  }

  /** Prints a report; `signal` says whether it was interrupted. */
  print(report: IssuersReport, signal: AbortSignal): void {
    const { request, tls, authorized, authorizationError, closure, error } = report;
    const chosen = tls === null ? '' : `, ${tls.protocol}, ${tls.cipher}`;
    this.#text(`${targetText(this.#target)}${chosen}`);
    if (authorized === false) {
      const why = explainCertificate(authorizationError ?? 'unknown');
      this.#text(`The server's certificate does NOT verify: ${why}.`, { tone: 'bad' });
    } else if (authorized === null && request !== null) {
      this.#text("The server's certificate was not verified: the handshake ended before that.");
    }
    this.#blank();
    if (signal.aborted) {
      this.#text('interrupted');
    } else if (error !== null) {
      const what = error.code === 'ERR_TLS_REQUEST' ? 'no answer' : 'no TLS connection';
      this.#text(`${what}: ${error.message} [${error.code}]`, { tone: 'bad' });
    } else if (closure !== null) {
      this.#request(report);
      this.#matches(report);
      this.#closure(closure);
    }
  }

  #request(report: IssuersReport): void {
    const { request, when, signatureAlgorithms, certificateTypes, oidFilters } = report;
    if (request === null) return;
    const meaning = explainRequest({ request, when, path: this.#options.http });
    this.#text(meaning, { title: `${request}:`, tone: REQUEST_TONES[request] });
    if (report.limitation !== null) this.#text(report.limitation, { title: 'not looked at:' });
    if (request === 'none') return;
    this.#blank();
    if (report.issuers.length === 0) {
      this.#text('It names nobody: it may take a certificate of any issuer.');
    } else {
      this.#table(report.issuers.map(({ name }) => name));
    }
    const wanted: Array<[string, readonly string[] | null]> = [
      ['signature algorithms:', signatureAlgorithms],
      ['certificate types:', certificateTypes],
      ['filters on extensions:', oidFilters?.map(({ oid }) => `0x${oid}`) ?? null],
    ];
    for (const [title, values] of wanted) {
      if (values !== null && values.length > 0) this.#text(values.join(', '), { title });
    }
  }

  #table(names: readonly string[]): void {
    const { width, charset, live } = this.#terminal;
    const first = String(names.length).length + 2;
    // Three lines, and a space on each side of the name.
    const second = Math.max(LEAST_NAME, width - first - 3);
    const rows = names.map((name, i) => {
      const lines = fold(printableName(name, charset), second - 2, { charset, after: ',+' });
      // Somebody may read it elsewhere: nothing is left out of a file.
      const shown =
        live && lines.length > MOST_LINES ? [...lines.slice(0, MOST_LINES - 1), '...'] : lines;
      return [i + 1, shown.join('\n')];
    });
    const draw = (colWidths: number[]) => {
      const table = new Table({
        head: ['#', names.length === 1 ? 'accepted issuer' : `${names.length} accepted issuers`],
        colWidths,
        colAligns: ['right', 'left'],
        style: { head: [], border: [], compact: true },
        chars: borders(this.#terminal),
      });
      table.push(...rows);
      return table.toString();
    };
    // As wide as its names; of some characters it thinks as wider than we do, and then it is told.
    const natural = draw([]);
    const fits = natural.indexOf('\n') <= width;
    this.#terminal.write(`${fits ? natural : draw([first, second])}\n`);
  }

  #matches({ matches, request }: IssuersReport): void {
    if (matches.length === 0) return;
    this.#blank();
    if (request === 'none') this.#text('Your identities, each looked at by itself:');
    const ascii = this.#terminal.charset === 'ascii';
    for (const { source, subject, usable, reasons } of matches) {
      const tone = usable ? 'good' : 'bad';
      const mark = usable ? (ascii ? '*' : '✓') : ascii ? 'x' : '✗';
      const name =
        subject === '' ? 'without a name' : printableName(subject, this.#terminal.charset);
      this.#text(`${name} (${source})`, { title: mark, tone, after: ',+/' });
      for (const { code, message } of reasons) {
        this.#text(printableName(message, this.#terminal.charset), {
          title: `${code}:`,
          indent: INDENT,
        });
      }
    }
  }

  #closure(closure: ClosureReport): void {
    const deadline = this.#options.timeout ?? DEFAULT_POLICY.deadlines.shutdown;
    this.#blank();
    // Unless a path was requested, nothing was asked that an answer could be missing to.
    const idle = this.#options.http === undefined;
    this.#text(explain(closure, { peer: 'The server', deadline, idle }), {
      title: `${closure.verdict}:`,
      // A server that insists ends the connection with an alert: that is its answer.
      tone: closure.verdict === 'secure' ? 'good' : closure.verdict === 'alert' ? 'plain' : 'bad',
    });
  }

  /** A text, behind its title if it has one; the lines that follow stand further in. */
  #text(text: string, { title, tone = 'plain', indent = 0, after }: TextStyle = {}): void {
    const { width, charset } = this.#terminal;
    const hang = title === undefined ? 0 : INDENT;
    const whole = title === undefined ? text : `${title} ${text}`;
    fold(whole, width - indent, { charset, hang, after }).forEach((line, i) => {
      const coloured = title === undefined ? line : i === 0 ? title : '';
      const painted = `${this.#paint(tone, coloured)}${line.slice(coloured.length)}`;
      this.#terminal.write(`${' '.repeat(i === 0 ? indent : indent + hang)}${painted}\n`);
    });
  }

  #paint(tone: Tone, text: string): string {
    return this.#terminal.colour && text !== '' ? paint(tone, text) : text;
  }

  #blank(): void {
    this.#terminal.write('\n');
  }
}

/** How a text is printed. */
interface TextStyle {
  readonly title?: string;
  /** Of the title; of all where there is none. */
  readonly tone?: Tone;
  readonly indent?: number;
  /** Where lines may break, beside spaces. */
  readonly after?: string;
}

/** How good an answer is. */
export const REQUEST_TONES: Readonly<Record<FindResult['request'], Tone>> = {
  none: 'plain',
  optional: 'good',
  required: 'warn',
  unknown: 'warn',
};
