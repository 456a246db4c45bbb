/**
 * `close-notify probe`: connects, handshakes, sends nothing, shuts down, closes, and says how the
 * server ended the connection.
 */
import { createPrivateKey, X509Certificate } from 'node:crypto';
import dns from 'node:dns';
import { readFileSync } from 'node:fs';
import net from 'node:net';
import { type AsioErrorCode, toAsioErrorCode } from '../closure/asio.ts';
import { DEFAULT_POLICY } from '../closure/policy.ts';
import type { Closure } from '../closure/verdict.ts';
import { CloseNotifyError, OptionError } from '../errors.ts';
import { type ConnectOptions, connect } from '../stream/connect.ts';
import type { Observation, Observer } from '../stream/observer.ts';
import type { TlsInfo, TlsStream } from '../stream/tls-stream.ts';
import { drawLanes, type Tone } from '../transcript/lanes.ts';
import { cutText, paint } from '../transcript/text.ts';
import { Transcript } from '../transcript/transcript.ts';
import { EXIT } from './exit.ts';
import { type Target, targetText } from './target.ts';
import type { Terminal } from './terminal.ts';
import { explain, explainCertificate } from './words.ts';

/** Options as commander hands them over. */
export interface ProbeOptions {
  readonly json?: boolean;
  /** False for `--no-wait`. */
  readonly wait: boolean;
  readonly timeout?: number;
  readonly servername?: string;
  readonly tls?: '1.2' | '1.3';
  readonly ca?: string;
  readonly cert?: string;
  readonly key?: string;
  readonly alpn?: readonly string[];
}

/** A step of the probe, and how long it took in milliseconds. */
export interface ProbePhase {
  readonly name: PhaseName;
  readonly ms: number;
}

/** The steps of the probe, in order. */
export type PhaseName = 'resolve' | 'connect' | 'handshake' | 'shutdown' | 'close';

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
  readonly target: {
    readonly host: string;
    readonly port: number;
    readonly address: string | null;
  };
  readonly phases: readonly ProbePhase[];
  readonly tls: Pick<
    TlsInfo,
    'protocol' | 'cipher' | 'alpn' | 'authorized' | 'authorizationError'
  > | null;
  readonly certificate: ProbeCertificate | null;
  /** `sent` and `received` are milliseconds since the start. */
  readonly closure: (Closure & { readonly asio: AsioErrorCode }) | null;
  readonly error: {
    readonly code: string;
    readonly message: string;
    readonly phase: string | null;
  } | null;
}

/**
 * Reads the files and checks the options, before anything is connected to.
 *
 * @throws {OptionError}
 */
export function connectOptionsOf(target: Target, options: ProbeOptions): ConnectOptions {
  const { servername, tls, timeout, alpn } = options;
  if (servername !== undefined && (servername === '' || net.isIP(servername) !== 0)) {
    throw new OptionError('--servername must be a name: RFC 6066 permits no IP address there');
  }
  if ((options.cert === undefined) !== (options.key === undefined)) {
    throw new OptionError('--cert and --key go together');
  }
  const ca = options.ca === undefined ? undefined : readPem('--ca', options.ca, certificateOf);
  const cert =
    options.cert === undefined ? undefined : readPem('--cert', options.cert, certificateOf);
  const key =
    options.key === undefined ? undefined : readPem('--key', options.key, createPrivateKey);
  if (cert && key && !cert.parsed.checkPrivateKey(key.parsed)) {
    throw new OptionError('the key of --key is not that of the certificate of --cert');
  }
  const version = tls === undefined ? undefined : (`TLSv${tls}` as const);
  return {
    host: target.host,
    port: target.port,
    // A certificate that does not verify is reported; it is closing that is judged.
    rejectUnauthorized: false,
    unread: 'discard',
    ...(ca && { ca: ca.pem }),
    ...(cert && key && { cert: cert.pem, key: key.pem }),
    ...(servername !== undefined && { servername }),
    ...(alpn && { ALPNProtocols: [...alpn] }),
    ...(version && { minVersion: version, maxVersion: version }),
    ...(timeout !== undefined && {
      deadlines: {
        resolve: timeout,
        connect: timeout,
        handshake: timeout,
        shutdown: timeout,
        close: timeout,
      },
    }),
  };
}

const certificateOf = (pem: string) => new X509Certificate(pem);

function readPem<T>(option: string, file: string, parse: (pem: string) => T) {
  try {
    const pem = readFileSync(file, 'utf8');
    return { pem, parsed: parse(pem) };
  } catch (cause) {
    throw new OptionError(`${option}: ${(cause as Error).message}`, { cause });
  }
}

/** Runs the probe and prints it. Returns the exit code. */
export async function probe(
  target: Target,
  options: ProbeOptions,
  terminal: Terminal,
  signal: AbortSignal,
): Promise<number> {
  const connectOptions = connectOptionsOf(target, options);
  const screen = options.json ? new Silent() : new Screen(terminal, target);
  const run = new Probe(target, connectOptions, options, screen, signal);
  await run.run();
  const report = run.report();
  if (options.json) {
    terminal.write(`${JSON.stringify(report, null, 2)}\n`);
  } else {
    screen.conclude(report, run.transcript, options, signal);
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
  readonly transcript = new Transcript();
  readonly #target: Target;
  readonly #connectOptions: ConnectOptions;
  readonly #options: ProbeOptions;
  readonly #screen: Display;
  readonly #signal: AbortSignal;
  readonly #phases: ProbePhase[] = [];
  #since = 0;
  #addresses: string[] = [];
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
    this.#screen.begin('resolve');
    const stream = await connect({
      ...this.#connectOptions,
      lookup: this.#lookup,
      record: this,
      signal: this.#signal,
    });
    this.#stream = stream;
    this.#address = stream.socket.remoteAddress ?? null;
    this.#certificate = certificateIn(stream);
    this.#screen.secured(stream.tls, this.#certificate);
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
    this.transcript.observe(observation, at);
    if (observation.type !== 'phase') return;
    const { name } = observation;
    const ms = at - this.#since;
    this.#since = at;
    if (name === 'resolve') {
      this.#over(name, ms, this.#addresses.join(', ') || this.#target.host);
      this.#screen.begin('connect');
    } else if (name === 'connect') {
      this.#over(name, ms, `port ${this.#target.port}`);
      this.#screen.begin('handshake');
    } else {
      this.#over(name, ms, '');
    }
  }

  report(): ProbeReport {
    const { host, port } = this.#target;
    const tls = this.#stream?.tls;
    const closure = this.#stream?.closure ?? this.#error?.closure ?? null;
    const only = this.#addresses.length === 1 ? (this.#addresses[0] ?? null) : null;
    return {
      target: { host, port, address: this.#address ?? (net.isIP(host) ? host : only) },
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
      closure: closure && {
        ...closure,
        sent: closure.sent === null ? null : microseconds(closure.sent),
        received: closure.received === null ? null : microseconds(closure.received),
        asio: toAsioErrorCode(closure),
      },
      error: this.#error && {
        code: this.#error.code,
        message: this.#message(this.#error),
        // The probe does nothing with an open stream but to shut it down.
        phase: this.#error.phase === 'open' ? 'shutdown' : this.#error.phase,
      },
    };
  }

  #message({ message, hint }: CloseNotifyError): string {
    return hint === null ? message : `${message} (${hint})`;
  }

  #over(name: PhaseName, ms: number, detail: string): void {
    this.#phases.push({ name, ms: microseconds(ms) });
    this.#screen.end(name, ms, detail);
  }

  /** Node's own lookup, but the addresses are shown. */
  readonly #lookup: net.LookupFunction = (host, options, callback) => {
    dns.lookup(host, options, (error, found, family) => {
      if (!error) {
        this.#addresses =
          typeof found === 'string'
            ? [found]
            : (found as dns.LookupAddress[]).map((a) => a.address);
      }
      callback(error, found, family);
    });
  };
}

/** Milliseconds, with no more digits than mean something. */
const microseconds = (ms: number): number => Math.round(ms * 1000) / 1000;

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
  conclude(
    report: ProbeReport,
    transcript: Transcript,
    options: ProbeOptions,
    signal: AbortSignal,
  ): void;
}

/** For `--json`. */
class Silent implements Display {
  begin(): void {}
  end(): void {}
  secured(): void {}
  conclude(): void {}
}

/** Columns before the details of a phase. */
const LABEL_WIDTH = 13;
const MS_WIDTH = 11;

/** For people. */
class Screen implements Display {
  readonly #terminal: Terminal;
  readonly #target: Target;
  #begun: PhaseName | null = null;
  /** The handshake is shown with what it agreed on. */
  #handshakeMs = 0;

  constructor(terminal: Terminal, target: Target) {
    this.#terminal = terminal;
    this.#target = target;
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

  conclude(
    { tls, closure, error }: ProbeReport,
    transcript: Transcript,
    { wait, timeout }: ProbeOptions,
    signal: AbortSignal,
  ): void {
    const failedIn = this.#begun;
    this.#clear();
    if (tls === null && failedIn !== null) {
      this.#detail(failedIn, 'failed', 'bad');
    }
    if (transcript.entries.some(({ type }) => type === 'handshake')) {
      this.#line('');
      this.#terminal.draw(
        drawLanes({ name: 'us', transcript }, targetText(this.#target), {
          protocol: tls?.protocol,
          // Whatever came was looked at until the end, and none of it was application data.
          idle: wait && closure?.late === 0,
        }),
      );
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
