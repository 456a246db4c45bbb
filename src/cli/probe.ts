/**
 * `close-notify probe`: connects, handshakes, sends nothing, shuts down, closes, and says how the
 * server ended the connection.
 */
import { createPrivateKey } from 'node:crypto';
import type { Socket } from 'node:net';
import { RequestWatcher } from '../client-cert/finder.ts';
import { IssuerNameList } from '../client-cert/name.ts';
import { DEFAULT_POLICY } from '../closure/policy.ts';
import { cutText, paint } from '../drawing/cells.ts';
import type { Drawing, Tone } from '../drawing/drawing.ts';
import { drawLanes } from '../drawing/lanes.ts';
import { CloseNotifyError, OptionError } from '../errors.ts';
import { type ConnectOptions, connect } from '../stream/connect.ts';
import type { TlsInfo, TlsStream } from '../stream/tls-stream.ts';
import type { Direction, Observation, Observer } from '../transcript/observer.ts';
import { Transcript } from '../transcript/transcript.ts';
import { environmentKeyLog, PcapngFile } from './capture.ts';
import {
  type ConnectionOptions,
  certificateOf,
  connectOptionsOf,
  type OpeningPhase,
  openConnection,
  readPem,
} from './connection.ts';
import { type DiagramOptions, diagramOf, writeDiagram, writeText } from './diagram.ts';
import { EXIT } from './exit.ts';
import {
  type ClosureReport,
  type ErrorReport,
  microseconds,
  reportClosure,
  reportError,
  reportTarget,
  type TargetReport,
  writeJson,
} from './report.ts';
import { type Target, targetText } from './target.ts';
import { printableName, type Terminal } from './terminal.ts';
import { explain, explainCertificate } from './words.ts';

/** Options as commander hands them over. */
export interface ProbeOptions extends ConnectionOptions, DiagramOptions {
  readonly json?: boolean;
  /** The file that the transcript goes to. */
  readonly transcript?: string;
  /** The file that a capture goes to. */
  readonly pcapng?: string;
  /** False for `--no-wait`. */
  readonly wait: boolean;
  readonly cert?: string;
  readonly key?: string;
}

/** A step of the probe, and how long it took in milliseconds. */
export interface ProbePhase {
  readonly name: PhaseName;
  readonly ms: number;
}

/** The steps of the probe, in order. */
export type PhaseName = OpeningPhase | 'handshake' | 'shutdown' | 'close';

/** The server's certificate. Dates are in ISO 8601. */
export interface ProbeCertificate {
  readonly subject: string;
  readonly issuer: string;
  readonly validFrom: string;
  readonly validTo: string;
  readonly fingerprint256: string;
  /** As `DNS:example.org, IP Address:192.0.2.1`; null without that extension. */
  readonly subjectAltName: string | null;
}

/** What `--json` prints. What is not known is null. */
export interface ProbeReport {
  readonly target: TargetReport;
  readonly phases: readonly ProbePhase[];
  readonly tls: Pick<
    TlsInfo,
    'protocol' | 'cipher' | 'alpn' | 'authorized' | 'authorizationError'
  > | null;
  readonly certificate: ProbeCertificate | null;
  /** Whose client certificates the server accepts; null where it was not seen to ask for one. */
  readonly issuers: ReadonlyArray<{ readonly name: string; readonly der: string }> | null;
  readonly closure: ClosureReport | null;
  readonly error: ErrorReport | null;
}

/**
 * Reads the files and checks the options, before anything is connected to.
 *
 * @throws {OptionError}
 */
function probeOptionsOf(target: Target, options: ProbeOptions): ConnectOptions {
  if ((options.cert === undefined) !== (options.key === undefined)) {
    throw new OptionError('--cert and --key go together');
  }
  const connectOptions = connectOptionsOf(target, options);
  const cert =
    options.cert === undefined ? undefined : readPem('--cert', options.cert, certificateOf);
  const key =
    options.key === undefined ? undefined : readPem('--key', options.key, createPrivateKey);
  if (cert && key && !cert.parsed.checkPrivateKey(key.parsed)) {
    throw new OptionError('the key of --key is not that of the certificate of --cert');
  }
  return { ...connectOptions, ...(cert && key && { cert: cert.pem, key: key.pem }) };
}

/** Runs the probe and prints it. Returns the exit code. */
export async function probe(
  target: Target,
  options: ProbeOptions,
  terminal: Terminal,
  signal: AbortSignal,
): Promise<number> {
  const connectOptions = probeOptionsOf(target, options);
  const form = diagramOf(options);
  // A drawing that goes to standard output goes there alone.
  const drawn = form !== null && options.output === undefined;
  if (drawn && options.json) {
    throw new OptionError(
      '--json and --diagram both print: give one of them a file, with --output',
    );
  }
  const quiet = options.json === true || (drawn && form !== 'text');
  const screen = quiet ? new Silent() : new Screen(terminal, target);
  const run = new Probe(target, connectOptions, options, screen, signal);
  // Files that cannot be written are an error before anything is connected to.
  run.keyLog = environmentKeyLog();
  run.capture = options.pcapng === undefined ? null : new PcapngFile(options.pcapng);
  await run.run();
  run.capture?.finish();
  const report = run.report();
  const drawing = run.drawing();
  if (options.json) writeJson(terminal, report);
  else screen.conclude(report, drawing, options, signal);
  if (options.transcript !== undefined) {
    const json = `${JSON.stringify(run.transcript, null, 2)}\n`;
    writeText('--transcript', options.transcript, json);
  }
  // As text it stands in the report already.
  if (form !== null && !(drawn && form === 'text')) {
    writeDiagram(drawing, form, options.output, terminal);
  }
  return exitCodeOf(report, options, signal);
}

function exitCodeOf(
  { tls, closure, error }: ProbeReport,
  options: ProbeOptions,
  signal: AbortSignal,
) {
  if (signal.aborted) return EXIT.interrupted;
  if (tls === null || closure === null) {
    return error?.code === 'ERR_TLS_OPTION' ? EXIT.usage : EXIT.noHandshake;
  }
  if (closure.verdict === 'secure') return EXIT.ok;
  return closure.verdict === 'one-sided' && !options.wait ? EXIT.ok : EXIT.notSecure;
}

/** The run itself: what is known so far, and how far it has come. */
class Probe implements Observer {
  readonly transcript: Transcript;
  /** Who else gets the secrets, and the bytes. */
  keyLog: Observer | undefined;
  capture: PcapngFile | null = null;
  #recorder: Observer | undefined;
  readonly #watcher = new RequestWatcher(this);
  readonly #target: Target;
  readonly #connectOptions: ConnectOptions;
  readonly #options: ProbeOptions;
  readonly #screen: Display;
  readonly #signal: AbortSignal;
  readonly #phases: ProbePhase[] = [];
  readonly #startedAt = performance.now();
  #since = 0;
  /** Where the stream's clock begins, on ours. */
  #offset = 0;
  #addresses: readonly string[] = [];
  #address: string | null = null;
  #stream: TlsStream | null = null;
  #certificate: ProbeCertificate | null = null;
  #error: CloseNotifyError | null = null;

  constructor(
    target: Target,
    connectOptions: ConnectOptions,
    options: ProbeOptions,
    screen: Display,
    signal: AbortSignal,
  ) {
    this.#target = target;
    this.#connectOptions = connectOptions;
    this.#options = options;
    this.#screen = screen;
    this.#signal = signal;
    this.transcript = new Transcript({ local: 'us', peer: targetText(target) });
  }

  async run(): Promise<void> {
    try {
      await this.#run();
    } catch (error) {
      if (!(error instanceof CloseNotifyError)) throw error;
      this.#error ??= error;
    }
  }

  async #run(): Promise<void> {
    const { starttls } = this.#options;
    this.#screen.begin('resolve');
    const transport = await openConnection(this.#target, this.#options, this.#signal, {
      resolved: (addresses) => {
        this.#addresses = addresses;
      },
      phase: (name) => {
        const at = performance.now() - this.#startedAt;
        if (name === 'starttls') {
          this.transcript.note(`STARTTLS (${starttls}): the server is ready for TLS`);
          this.#phase(name, at, `${starttls}`);
        } else {
          this.observe({ type: 'phase', name }, at);
        }
      },
    });
    try {
      await this.#handshake(transport);
    } finally {
      transport.destroy();
    }
  }

  async #handshake(transport: Socket): Promise<void> {
    this.#address = transport.remoteAddress ?? null;
    this.#offset = performance.now() - this.#startedAt;
    this.#recorder = this.capture?.record(transport);
    const stream = await connect({
      ...this.#connectOptions,
      transport,
      record: this.#watcher,
      signal: this.#signal,
    });
    this.#stream = stream;
    this.#certificate = certificateIn(stream);
    this.#screen.secured(stream.tls, this.#certificate);
    const issuers = this.#issuers;
    if (issuers !== null) this.#screen.asked(Array.from(issuers, String));
    if (this.#options.wait) await this.#shutdown(stream);
    await this.#close(stream);
  }

  async #shutdown(stream: TlsStream): Promise<void> {
    this.#screen.begin('shutdown');
    const start = performance.now();
    try {
      const { verdict } = await stream.shutdown({ signal: this.#signal });
      this.transcript.note(`shutdown() resolves: ${verdict}`);
    } catch (error) {
      if (!(error instanceof CloseNotifyError)) throw error;
      this.#error = error;
      this.transcript.note(`shutdown() rejects: ${error.code}`);
    }
    this.#over('shutdown', performance.now() - start, stream.closure.verdict);
  }

  async #close(stream: TlsStream): Promise<void> {
    if (this.#signal.aborted) {
      stream.abort();
      return;
    }
    this.#screen.begin('close');
    const start = performance.now();
    // After a shutdown that failed there is nothing left to wait for.
    await stream.close({
      wait: this.#options.wait && this.#error === null,
      signal: this.#signal,
    });
    const outcome = this.#options.wait ? '' : stream.closure.verdict;
    this.#over('close', performance.now() - start, outcome);
  }

  observe(observation: Observation, at: number): void {
    const since = this.#offset + at;
    this.transcript.observe(observation, since);
    this.#recorder?.observe(observation, at);
    if (observation.type === 'phase') this.#phase(observation.name, since, '');
  }

  onBytes(direction: Direction, bytes: Uint8Array, at: number): void {
    this.transcript.onBytes?.(direction, bytes, this.#offset + at);
    this.#recorder?.onBytes?.(direction, bytes, at);
  }

  onSecret(line: string): void {
    this.transcript.onSecret?.(line);
    this.#recorder?.onSecret?.(line);
    this.keyLog?.onSecret?.(line);
  }

  /** The connection so far, in lanes. */
  drawing(): Drawing {
    const tls = this.#stream?.tls;
    const closure = this.#stream?.closure;
    return drawLanes(
      { name: 'us', transcript: this.transcript },
      targetText(this.#target),
      // Whatever came was looked at until the end, and none of it was application data.
      { protocol: tls?.protocol, idle: this.#options.wait && closure?.late === 0 },
    );
  }

  /** A phase of the beginning is over, and the next one begins. */
  #phase(name: OpeningPhase | 'handshake', at: number, detail: string): void {
    const ms = at - this.#since;
    this.#since = at;
    switch (name) {
      case 'resolve':
        this.#over(name, ms, this.#addresses.join(', ') || this.#target.host);
        this.#screen.begin('connect');
        break;
      case 'connect':
        this.#over(name, ms, `port ${this.#target.port}`);
        this.#screen.begin(this.#options.starttls === undefined ? 'handshake' : 'starttls');
        break;
      case 'starttls':
        this.#over(name, ms, detail);
        this.#screen.begin('handshake');
        break;
      case 'handshake':
        this.#over(name, ms, detail);
    }
  }

  /** Whose certificates the server accepts, once it asked. */
  get #issuers(): IssuerNameList | null {
    const { request } = this.#watcher;
    return request && new IssuerNameList(request.authorities);
  }

  /** What came up, first of all; or else that the server asked in words that cannot be read. */
  get #failure(): CloseNotifyError | null {
    if (this.#error !== null) return this.#error;
    try {
      this.#watcher.check();
      return null;
    } catch (error) {
      if (error instanceof CloseNotifyError) return error;
      throw error;
    }
  }

  report(): ProbeReport {
    const tls = this.#stream?.tls;
    const closure = this.#stream?.closure ?? this.#error?.closure ?? null;
    const failure = this.#failure;
    return {
      target: reportTarget(this.#target, this.#address, this.#addresses),
      phases: this.#phases,
      tls: tls
        ? {
            protocol: tls.protocol,
            cipher: tls.cipher,
            alpn: tls.alpn,
            authorized: tls.authorized,
            authorizationError: tls.authorizationError,
          }
        : null,
      certificate: this.#certificate,
      issuers: this.#issuers?.toJSON() ?? null,
      closure: closure && reportClosure(closure, this.#offset),
      error: failure && reportError(failure),
    };
  }

  #over(name: PhaseName, ms: number, detail: string): void {
    this.#phases.push({ name, ms: microseconds(ms) });
    this.#screen.end(name, ms, detail);
  }
}

function certificateIn(stream: TlsStream): ProbeCertificate | null {
  const certificate = stream.socket.getPeerX509Certificate();
  if (certificate === undefined) return null;
  return {
    // One attribute a line, as Node gives them.
    subject: (certificate.subject ?? '').trim().replaceAll('\n', ', '),
    issuer: (certificate.issuer ?? '').trim().replaceAll('\n', ', '),
    validFrom: new Date(certificate.validFrom).toISOString(),
    validTo: new Date(certificate.validTo).toISOString(),
    fingerprint256: certificate.fingerprint256,
    subjectAltName: certificate.subjectAltName ?? null,
  };
}

/** What is shown while the probe runs, and at its end. */
interface Display {
  begin(phase: PhaseName): void;
  end(phase: PhaseName, ms: number, detail: string): void;
  secured(tls: TlsInfo, certificate: ProbeCertificate | null): void;
  /** The server asks for a client certificate, from these. */
  asked(issuers: readonly string[]): void;
  conclude(report: ProbeReport, drawing: Drawing, options: ProbeOptions, signal: AbortSignal): void;
}

/** For `--json`. */
class Silent implements Display {
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
class Screen implements Display {
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
      const meaning = explain(closure, { peer: 'The server', deadline });
      const tone = closure.verdict === 'secure' ? 'good' : wait ? 'bad' : 'warn';
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
