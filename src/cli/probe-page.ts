/** What `close-notify probe` prints for people, while it runs and at its end. */
import { DEFAULT_POLICY } from '../closure/policy.ts';
import { cutText, paint } from '../drawing/cells.ts';
import type { Drawing, Tone } from '../drawing/drawing.ts';
import type { TlsInfo } from '../engine/contract.ts';
import type { PhaseName, ProbeCertificate, ProbeOptions, ProbeReport } from './probe-report.ts';
import { type Target, targetText } from './target.ts';
import { printableName, type Terminal } from './terminal.ts';
import { explain, explainCertificate } from './words.ts';

/** What is shown while the probe runs, and at its end. */
export interface Display {
  begin(phase: PhaseName): void;
  end(phase: PhaseName, ms: number, detail: string): void;
  secured(tls: TlsInfo, certificate: ProbeCertificate | null): void;
  /** The server asks for a client certificate, from these. */
  asked(issuers: readonly string[]): void;
  conclude(report: ProbeReport, drawing: Drawing, options: ProbeOptions, signal: AbortSignal): void;
}

/** For `--json`. */
export class Silent implements Display {
  begin(): void {}
  end(): void {}
  secured(): void {}
  asked(): void {}
  conclude(): void {}
}

/** Columns before the details of a phase. */
const LABEL_WIDTH = 13;
const MS_WIDTH = 11;
/** Names of issuers that are worth their lines where something else is the matter. */
const MOST_NAMES = 4;

/** For people. */
export class Screen implements Display {
  readonly #terminal: Terminal;
  #begun: PhaseName | null = null;
  /** The handshake is shown with what it agreed on. */
  #handshakeMs = 0;

  constructor(terminal: Terminal, target: Target) {
    this.#terminal = terminal;
    this.#line(targetText(target));
    this.#line('');
  }

  begin(phase: PhaseName): void {
    this.#begun = phase;
    // Somebody who waits wants to know for what.
    if (this.#terminal.live) this.#terminal.write(`${phase.padEnd(LABEL_WIDTH)}...`);
  }

  end(phase: PhaseName, ms: number, detail: string): void {
    this.#clear();
    if (phase === 'handshake') {
      this.#handshakeMs = ms;
      return;
    }
    this.#phase(phase, ms, detail);
  }

  secured(tls: TlsInfo, certificate: ProbeCertificate | null): void {
    const alpn = tls.alpn === null ? 'no ALPN' : `ALPN ${tls.alpn}`;
    this.#phase('handshake', this.#handshakeMs, `${tls.protocol}, ${tls.cipher}, ${alpn}`);
    if (certificate === null) {
      this.#detail('certificate', 'none');
      return;
    }
    const { subject, issuer, subjectAltName, validFrom, validTo } = certificate;
    this.#detail('certificate', subject || subjectAltName || 'without a name');
    this.#detail('', issuer === subject ? 'issued by itself' : `issued by ${issuer}`);
    this.#detail('', `valid from ${validFrom.slice(0, 10)} to ${validTo.slice(0, 10)}`);
    if (tls.authorized) {
      this.#detail('', 'verifies', 'good');
    } else {
      const why = explainCertificate(tls.authorizationError ?? 'unknown');
      this.#detail('', `does NOT verify: ${why}`, 'bad');
    }
  }

  asked(issuers: readonly string[]): void {
    if (issuers.length === 0) {
      this.#detail('request', 'asks for a client certificate, of any issuer');
      return;
    }
    this.#detail('request', 'asks for a client certificate, from:');
    for (const name of issuers.slice(0, MOST_NAMES)) {
      this.#detail('', printableName(name, this.#terminal.charset));
    }
    const more = issuers.length - MOST_NAMES;
    if (more > 0) this.#detail('', `and ${more} more: see close-notify issuers`);
  }

  conclude(
    { tls, closure, error, issuers }: ProbeReport,
    drawing: Drawing,
    { wait, timeout }: ProbeOptions,
    signal: AbortSignal,
  ): void {
    const failedIn = this.#begun;
    this.#clear();
    if (tls === null && failedIn !== null) {
      this.#detail(failedIn, 'failed', 'bad');
      // It may have failed just because of that.
      if (issuers !== null) this.asked(issuers.map(({ name }) => name));
    }
    if (drawing.rows.some(({ kind }) => kind === 'arrow' || kind === 'span')) {
      this.#line('');
      this.#terminal.draw(drawing);
    }
    this.#line('');
    if (signal.aborted) {
      this.#terminal.paragraph('interrupted');
    } else if (tls === null || closure === null) {
      const text = `no TLS connection: ${error?.message ?? 'unknown error'} [${error?.code}]`;
      this.#terminal.paragraph(this.#paint('bad', this.#cut(text, 2000)));
    } else {
      const deadline = wait ? (timeout ?? DEFAULT_POLICY.deadlines.shutdown) : undefined;
      const meaning = explain(closure, { peer: 'The server', deadline, idle: true });
      const tone = closure.verdict === 'secure' ? 'good' : 'warn';
      this.#terminal.paragraph(`${this.#paint(tone, `${closure.verdict}:`)} ${meaning}`);
    }
  }

  #phase(name: string, ms: number, detail: string): void {
    const time = `${ms.toFixed(1)} ms`.padStart(MS_WIDTH);
    this.#line(`${name.padEnd(LABEL_WIDTH)}${time}  ${this.#cut(detail)}`.trimEnd());
  }

  #detail(name: string, detail: string, tone: Tone = 'plain'): void {
    const label = name.padEnd(LABEL_WIDTH + MS_WIDTH);
    this.#line(`${label}  ${this.#paint(tone, this.#cut(detail))}`);
  }

  #cut(
    text: string,
    width = Math.max(20, this.#terminal.width - LABEL_WIDTH - MS_WIDTH - 2),
  ): string {
    return cutText(text, this.#terminal.live ? width : 2000, this.#terminal.charset);
  }

  #paint(tone: Tone, text: string): string {
    return this.#terminal.colour ? paint(tone, text) : text;
  }

  #line(text: string): void {
    this.#terminal.write(`${text}\n`);
  }

  #clear(): void {
    if (this.#begun !== null && this.#terminal.live) this.#terminal.write('\r\u001b[K');
    this.#begun = null;
  }
}
