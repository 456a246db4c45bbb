/** One run of the probe, and who is told of it. */
import type { Socket } from 'node:net';
import { requestWatcher } from '../client-cert/finder.ts';
import { IssuerNameList } from '../client-cert/name.ts';
import type { Drawing } from '../drawing/drawing.ts';
import { drawLanes } from '../drawing/lanes.ts';
import { CloseNotifyError } from '../errors.ts';
import { type ConnectOptions, connect } from '../stream/connect.ts';
import type { RequestWatcher } from '../stream/request.ts';
import type { TlsStream } from '../stream/tls-stream.ts';
import type { Direction, Observation, Observer } from '../transcript/observer.ts';
import { Transcript } from '../transcript/transcript.ts';
import type { PcapngFile } from './capture.ts';
import { type OpeningPhase, openConnection } from './connection.ts';
import type { Display } from './probe-page.ts';
import type {
  PhaseName,
  ProbeCertificate,
  ProbeOptions,
  ProbePhase,
  ProbeReport,
} from './probe-report.ts';
import { microseconds, reportClosure, reportError, reportTarget } from './report.ts';
import { type Target, targetText } from './target.ts';

/** All who are told of the connection: the transcript, and who else gets the bytes and the secrets. */
export class Watch implements Observer {
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
export class Probe {
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
    this.#requests = requestWatcher(watch);
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
