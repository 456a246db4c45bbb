/**
 * `close-notify probe`: connects, handshakes, sends nothing, shuts down, closes, and says how the
 * server ended the connection.
 */
import type { Socket } from 'node:net';
import { RequestWatcher } from '../client-cert/finder.ts';
import { IssuerNameList } from '../client-cert/name.ts';
import { DEFAULT_POLICY } from '../closure/policy.ts';
import type { Drawing } from '../drawing/drawing.ts';
import { drawLanes } from '../drawing/lanes.ts';
import { CloseNotifyError, OptionError } from '../errors.ts';
import { type ConnectOptions, connect } from '../stream/connect.ts';
import type { TlsStream } from '../stream/tls-stream.ts';
import type { Direction, Observation, Observer } from '../transcript/observer.ts';
import { Transcript } from '../transcript/transcript.ts';
import { environmentKeyLog, PcapngFile } from './capture.ts';
import {
  certificateOf,
  connectOptionsOf,
  type OpeningPhase,
  openConnection,
  readPem,
} from './connection.ts';
import { type Destination, destinationOf, writeDiagram } from './diagram.ts';
import { EXIT } from './exit.ts';
import {
  checkInputs,
  checkOutputs,
  checkStandardOutput,
  readFirstLine,
  STANDARD,
  writeText,
} from './files.ts';
import { readKey } from './key.ts';
import { explainError, type TargetLine, TargetLines } from './lines.ts';
import { type Display, Screen, Silent } from './probe-page.ts';
import type {
  PhaseName,
  ProbeCertificate,
  ProbeOptions,
  ProbePhase,
  ProbeReport,
} from './probe-report.ts';
import {
  microseconds,
  reportClosure,
  reportError,
  reportTarget,
  writeJson,
  writeJsonLine,
} from './report.ts';
import { type Target, targetText } from './target.ts';
import { forEachTarget, targetsOf } from './targets.ts';
import type { Terminal } from './terminal.ts';
import { certificateTrouble, explainBriefly } from './words.ts';

/**
 * Reads the files and checks the options, before anything is connected to.
 *
 * @returns what holds for every target.
 * @throws {OptionError}
 */
async function probeOptionsOf(options: ProbeOptions): Promise<ConnectOptions> {
  const { cert: certFile, key: keyFile, passFile } = options;
  if ((certFile === undefined) !== (keyFile === undefined)) {
    throw new OptionError('--cert and --key go together');
  }
  if (passFile !== undefined && keyFile === undefined) {
    throw new OptionError('--pass-file goes with --key');
  }
  const connectOptions = await connectOptionsOf(options);
  if (certFile === undefined || keyFile === undefined) return connectOptions;
  const cert = await readPem('--cert', certFile, certificateOf);
  const passphrase =
    passFile === undefined ? undefined : await readFirstLine('--pass-file', passFile);
  const key = await readKey('--key', keyFile, passphrase);
  if (!cert.parsed.checkPrivateKey(key.parsed)) {
    throw new OptionError('the key of --key is not that of the certificate of --cert');
  }
  return {
    ...connectOptions,
    cert: cert.pem,
    // Without its passphrase, which nobody needs any more.
    key: key.parsed.export({ type: 'pkcs8', format: 'pem' }),
  };
}

/**
 * Runs the probe and prints it: one target as a page, several as a line each.
 *
 * @param targets as the command line has them.
 * @returns the exit code; of several targets the worst.
 */
export async function probe(
  targets: readonly string[],
  options: ProbeOptions,
  terminal: Terminal,
  signal: AbortSignal,
): Promise<number> {
  const { ca, cert, key, passFile } = options;
  checkInputs({
    ...{ '--targets': options.targets, '--ca': ca, '--cert': cert },
    ...{ '--key': key, '--pass-file': passFile },
  });
  const output = outputOf(options, terminal);
  const { list, lines } = await targetsOf(targets, options);
  if (lines) {
    const single = ['diagram', 'output', 'transcript', 'pcapng'] as const;
    const one = single.find((name) => options[name] !== undefined);
    if (one !== undefined) throw new OptionError(`--${one} is for one target, and not for a list`);
  }
  const connectOptions = await probeOptionsOf(options);
  return lines
    ? probeEach(list, connectOptions, options, terminal, signal)
    : probeOne(list[0] as Target, connectOptions, options, output, terminal, signal);
}

/** What is printed, and where drawings go. */
interface Output extends Destination {
  /** Whether standard output is for something else than the report. */
  readonly quiet: boolean;
}

/** Checks all that is to be written, before anything is connected to. @throws {OptionError} */
function outputOf(options: ProbeOptions, terminal: Terminal): Output {
  const { json = false, transcript, pcapng } = options;
  const destination = destinationOf(options);
  const { form, file } = destination;
  const drawn = form !== null && file === undefined;
  const claims = {
    '--json': json,
    [options.diagram === undefined ? '--output' : '--diagram']: drawn,
    '--transcript': transcript === STANDARD,
    '--pcapng': pcapng === STANDARD,
  };
  checkStandardOutput(claims);
  if (pcapng === STANDARD && terminal.live) {
    throw new OptionError(
      '--pcapng: a terminal shows no capture: name a file, or send it into a pipe',
    );
  }
  checkOutputs({ '--output': file, '--transcript': transcript, '--pcapng': pcapng });
  // A drawing as text stands in the report.
  const asText = drawn && form === 'text';
  return { ...destination, quiet: !asText && Object.values(claims).includes(true) };
}

/** One target, as a page. */
async function probeOne(
  target: Target,
  connectOptions: ConnectOptions,
  options: ProbeOptions,
  { form, file, quiet }: Output,
  terminal: Terminal,
  signal: AbortSignal,
): Promise<number> {
  const keyLog = environmentKeyLog();
  const capture = options.pcapng === undefined ? null : new PcapngFile(options.pcapng, terminal);
  const screen = quiet ? new Silent() : new Screen(terminal, target);
  const watch = new Watch(targetText(target), keyLog, capture);
  const run = new Probe(target, connectOptions, options, screen, signal, watch);
  await run.run();
  const report = run.report();
  const drawing = run.drawing();
  // The report comes first: a file that cannot be written after all takes nothing from it.
  if (options.json) writeJson(terminal, report);
  else screen.conclude(report, drawing, options, signal);
  capture?.finish();
  if (options.transcript !== undefined) {
    const json = `${JSON.stringify(watch.transcript, null, 2)}\n`;
    writeText('--transcript', options.transcript, json, terminal);
  }
  if (form !== null && (file !== undefined || form !== 'text')) {
    writeDiagram(drawing, form, file, terminal);
  }
  return exitCodeOf(report, options, signal);
}

/** Several targets, a line each. */
async function probeEach(
  targets: readonly Target[],
  connectOptions: ConnectOptions,
  options: ProbeOptions,
  terminal: Terminal,
  signal: AbortSignal,
): Promise<number> {
  const keyLog = environmentKeyLog();
  const lines = options.json ? null : new TargetLines(terminal, targets);
  let worst: number = EXIT.ok;
  await forEachTarget(
    targets,
    async (target) => {
      const watch = new Watch(targetText(target), keyLog, null);
      const run = new Probe(target, connectOptions, options, new Silent(), signal, watch);
      await run.run();
      return run;
    },
    (target, run) => {
      const report = run.report();
      worst = Math.max(worst, exitCodeOf(report, options, signal));
      if (lines === null) writeJsonLine(terminal, report);
      else lines.print(target, lineOf(report, run.failure, options));
    },
  );
  return worst;
}

/** What the line of a target says. */
function lineOf(
  { tls, closure, certificate, issuers }: ProbeReport,
  failure: CloseNotifyError | null,
  { wait, timeout }: ProbeOptions,
): TargetLine {
  if (tls === null || closure === null) {
    const detail = failure === null ? 'unknown error' : explainError(failure);
    return { word: 'no TLS', tone: 'bad', protocol: null, detail };
  }
  const deadline = wait ? (timeout ?? DEFAULT_POLICY.deadlines.shutdown) : undefined;
  const remarks = [explainBriefly(closure, deadline)];
  if (certificate !== null && !tls.authorized) {
    remarks.push(`certificate: ${certificateTrouble(tls.authorizationError ?? 'unknown')}`);
  }
  if (issuers !== null) remarks.push('asks for a client certificate');
  return {
    word: closure.verdict,
    tone: closure.verdict === 'secure' ? 'good' : 'warn',
    protocol: tls.protocol,
    detail: remarks.join('; '),
  };
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

/** All who are told of the connection: the transcript, and who else gets the bytes and the secrets. */
class Watch implements Observer {
  readonly transcript: Transcript;
  readonly #keyLog: Observer | undefined;
  readonly #capture: PcapngFile | null;
  #recorder: Observer | undefined;
  /** Where the stream's clock begins, on that of the probe, in milliseconds. */
  offset = 0;
  /** Told of each phase of the beginning that is over, on the clock of the probe. */
  onPhase: (name: OpeningPhase | 'handshake', at: number) => void = () => {};

  constructor(peer: string, keyLog: Observer | undefined, capture: PcapngFile | null) {
    this.transcript = new Transcript({ local: 'us', peer });
    this.#keyLog = keyLog;
    this.#capture = capture;
  }

  /** The stream begins, on this transport. */
  begin(transport: Socket, offset: number): void {
    this.offset = offset;
    this.#recorder = this.#capture?.record(transport);
  }

  observe(observation: Observation, at: number): void {
    const since = this.offset + at;
    this.transcript.observe(observation, since);
    this.#recorder?.observe(observation, at);
    if (observation.type === 'phase') this.onPhase(observation.name, since);
  }

  onBytes(direction: Direction, bytes: Uint8Array, at: number): void {
    this.transcript.onBytes?.(direction, bytes, this.offset + at);
    this.#recorder?.onBytes?.(direction, bytes, at);
  }

  onSecret(line: string): void {
    this.transcript.onSecret?.(line);
    this.#recorder?.onSecret?.(line);
    this.#keyLog?.onSecret?.(line);
  }
}

/** The steps that are over, and how long each took. */
class Steps {
  readonly done: ProbePhase[] = [];
  readonly #screen: Display;
  readonly #startedAt = performance.now();
  #since = 0;

  constructor(screen: Display) {
    this.#screen = screen;
  }

  /** Milliseconds since the start. */
  get now(): number {
    return performance.now() - this.#startedAt;
  }

  begin(name: PhaseName): void {
    this.#screen.begin(name);
  }

  /** A step is over that took so many milliseconds. */
  over(name: PhaseName, ms: number, detail: string): void {
    this.done.push({ name, ms: microseconds(ms) });
    this.#screen.end(name, ms, detail);
  }

  /** A step is over that began where the last one of these ended. */
  reached(name: PhaseName, at: number, detail: string): void {
    const ms = at - this.#since;
    this.#since = at;
    this.over(name, ms, detail);
  }
}

/** The run itself: what is known so far, and how far it has come. */
class Probe {
  readonly #target: Target;
  readonly #connectOptions: ConnectOptions;
  readonly #options: ProbeOptions;
  readonly #screen: Display;
  readonly #signal: AbortSignal;
  readonly #watch: Watch;
  readonly #requests: RequestWatcher;
  readonly #steps: Steps;
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
    watch: Watch,
  ) {
    this.#target = target;
    this.#connectOptions = connectOptions;
    this.#options = options;
    this.#screen = screen;
    this.#signal = signal;
    this.#watch = watch;
    this.#requests = new RequestWatcher(watch);
    this.#steps = new Steps(screen);
    watch.onPhase = (name, at) => this.#phase(name, at);
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
    this.#steps.begin('resolve');
    const transport = await openConnection(this.#target, this.#options, this.#signal, {
      resolved: (addresses) => {
        this.#addresses = addresses;
      },
      phase: (name) => {
        const at = this.#steps.now;
        if (name === 'starttls') {
          this.#watch.transcript.note(`STARTTLS (${starttls}): the server is ready for TLS`);
          this.#phase(name, at);
        } else {
          this.#watch.observe({ type: 'phase', name }, at);
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
    this.#watch.begin(transport, this.#steps.now);
    const stream = await connect({
      ...this.#connectOptions,
      host: this.#target.host,
      port: this.#target.port,
      transport,
      record: this.#requests,
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
    this.#steps.begin('shutdown');
    const start = performance.now();
    try {
      const { verdict } = await stream.shutdown({ signal: this.#signal });
      this.#watch.transcript.note(`shutdown() resolves: ${verdict}`);
    } catch (error) {
      if (!(error instanceof CloseNotifyError)) throw error;
      this.#error = error;
      this.#watch.transcript.note(`shutdown() rejects: ${error.code}`);
    }
    this.#steps.over('shutdown', performance.now() - start, stream.closure.verdict);
  }

  async #close(stream: TlsStream): Promise<void> {
    if (this.#signal.aborted) {
      stream.abort();
      return;
    }
    this.#steps.begin('close');
    const start = performance.now();
    // After a shutdown that failed there is nothing left to wait for.
    await stream.close({
      wait: this.#options.wait && this.#error === null,
      signal: this.#signal,
    });
    const outcome = this.#options.wait ? '' : stream.closure.verdict;
    this.#steps.over('close', performance.now() - start, outcome);
  }

  /** The connection so far, in lanes. */
  drawing(): Drawing {
    const tls = this.#stream?.tls;
    const closure = this.#stream?.closure;
    return drawLanes(
      { name: 'us', transcript: this.#watch.transcript },
      targetText(this.#target),
      // Whatever came was looked at until the end, and none of it was application data.
      { protocol: tls?.protocol, idle: this.#options.wait && closure?.late === 0 },
    );
  }

  /** A phase of the beginning is over, and the next one begins. */
  #phase(name: OpeningPhase | 'handshake', at: number): void {
    const { starttls } = this.#options;
    switch (name) {
      case 'resolve':
        this.#steps.reached(name, at, this.#addresses.join(', ') || this.#target.host);
        this.#steps.begin('connect');
        break;
      case 'connect':
        this.#steps.reached(name, at, `port ${this.#target.port}`);
        this.#steps.begin(starttls === undefined ? 'handshake' : 'starttls');
        break;
      case 'starttls':
        this.#steps.reached(name, at, `${starttls}`);
        this.#steps.begin('handshake');
        break;
      case 'handshake':
        this.#steps.reached(name, at, '');
    }
  }

  /** Whose certificates the server accepts, once it asked. */
  get #issuers(): IssuerNameList | null {
    const { request } = this.#requests;
    return request && new IssuerNameList(request.authorities);
  }

  /** What came up, first of all; or else that the server asked in words that cannot be read. */
  get failure(): CloseNotifyError | null {
    if (this.#error !== null) return this.#error;
    try {
      this.#requests.check();
      return null;
    } catch (error) {
      if (error instanceof CloseNotifyError) return error;
      throw error;
    }
  }

  report(): ProbeReport {
    const tls = this.#stream?.tls;
    const closure = this.#stream?.closure ?? this.#error?.closure ?? null;
    const failure = this.failure;
    return {
      target: reportTarget(this.#target, this.#address, this.#addresses),
      phases: this.#steps.done,
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
      closure: closure && reportClosure(closure, this.#watch.offset),
      error: failure && reportError(failure),
    };
  }
}

function certificateIn(stream: TlsStream): ProbeCertificate | null {
  const certificate = stream.peerCertificate;
  if (certificate === null) return null;
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
