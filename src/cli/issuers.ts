/**
 * `close-notify issuers`: whose client certificates a server accepts, and which of ours it would
 * take.
 */
import type { Socket } from 'node:net';
import { allOf } from '../capture/keylog.ts';
import { ClientCertificateFinder, type FindResult } from '../client-cert/finder.ts';
import { type Identity, loadIdentities } from '../client-cert/identity.ts';
import { type Match, namesOf } from '../client-cert/match.ts';
import { CloseNotifyError, OptionError } from '../errors.ts';
import type { ConnectOptions } from '../stream/connect.ts';
import type { Observation, Observer } from '../transcript/observer.ts';
import { environmentKeyLog } from './capture.ts';
import { connectOptionsOf, openConnection } from './connection.ts';
import { EXIT } from './exit.ts';
import { checkInputs, readFirstLine } from './files.ts';
import { IssuersPage, REQUEST_TONES } from './issuers-page.ts';
import type { IssuersOptions, IssuersReport, MatchReport } from './issuers-report.ts';
import { explainError, type TargetLine, TargetLines } from './lines.ts';
import { reportClosure, reportError, reportTarget, writeJson, writeJsonLine } from './report.ts';
import type { Target } from './target.ts';
import { forEachTarget, targetsOf } from './targets.ts';
import { printableName, type Terminal } from './terminal.ts';

/**
 * Finds the issuers and prints them: of one target as a page, of several as a line each.
 *
 * @param targets as the command line has them.
 * @returns the exit code; of several targets the worst.
 */
export async function issuers(
  targets: readonly string[],
  options: IssuersOptions,
  terminal: Terminal,
  signal: AbortSignal,
): Promise<number> {
  const { ca, passFile } = options;
  checkInputs({ '--targets': options.targets, '--ca': ca, '--pass-file': passFile });
  const { list, lines } = await targetsOf(targets, options);
  const connectOptions = await connectOptionsOf(options);
  const identities = await identitiesOf(options);
  const search = (target: Target, progress: Progress) =>
    new Search(target, connectOptions, options, progress, signal).run(identities);
  const codeOf = (report: IssuersReport) => exitCodeOf(report, identities.length > 0, signal);
  if (!lines) {
    const target = list[0] as Target;
    const progress = new Progress(terminal, options.json !== true);
    const { report } = await search(target, progress);
    progress.clear();
    if (options.json) writeJson(terminal, report);
    else new IssuersPage(terminal, target, options).print(report, signal);
    return codeOf(report);
  }
  const shown = options.json ? null : new TargetLines(terminal, list);
  let worst: number = EXIT.ok;
  await forEachTarget(
    list,
    (target) => search(target, new Progress(terminal, false)),
    (target, { report, error }) => {
      worst = Math.max(worst, codeOf(report));
      if (shown === null) writeJsonLine(terminal, report);
      else shown.print(target, lineOf(report, error, terminal));
    },
  );
  return worst;
}

/** What the line of a target says. */
function lineOf(
  { request, when, issuers, matches, tls, limitation }: IssuersReport,
  error: CloseNotifyError | null,
  { charset }: Terminal,
): TargetLine {
  const protocol = tls?.protocol ?? null;
  if (error !== null || request === null) {
    const word = error?.code === 'ERR_TLS_REQUEST' ? 'no answer' : 'no TLS';
    const detail = error === null ? 'unknown error' : explainError(error);
    return { word, tone: 'bad', protocol, detail };
  }
  const remarks: string[] = [];
  if (request === 'none') {
    remarks.push('asks for no client certificate');
  } else {
    if (matches.length > 0) {
      const usable = matches.filter((match) => match.usable).map(({ source }) => source);
      remarks.push(usable.length > 0 ? `takes ${usable.join(', ')}` : 'takes none of yours');
    }
    const names = issuers.map(({ name }) => printableName(name, charset)).join('; ');
    const count = `${issuers.length} issuer${issuers.length === 1 ? '' : 's'}`;
    remarks.push(issuers.length === 0 ? 'of any issuer' : `${count}: ${names}`);
    if (when === 'renegotiation') remarks.push('in a renegotiation');
    if (when === 'post-handshake') remarks.push('behind the handshake');
  }
  if (limitation !== null) remarks.push(`not looked at: ${limitation}`);
  return { word: request, tone: REQUEST_TONES[request], protocol, detail: remarks.join('; ') };
}

function exitCodeOf(
  { request, matches, error }: IssuersReport,
  identitiesGiven: boolean,
  signal: AbortSignal,
): number {
  if (signal.aborted) return EXIT.interrupted;
  if (request === null) {
    if (error?.code === 'ERR_TLS_OPTION') return EXIT.usage;
    // It did ask, but in words that cannot be read.
    return error?.code === 'ERR_TLS_REQUEST' ? EXIT.noMatch : EXIT.noHandshake;
  }
  if (request === 'none') return EXIT.noMatch;
  return identitiesGiven && !matches.some(({ usable }) => usable) ? EXIT.noMatch : EXIT.ok;
}

// ---- identities

/** @throws {OptionError} naming what cannot be read. */
async function identitiesOf({ identity = [], passFile }: IssuersOptions): Promise<Identity[]> {
  if (passFile !== undefined && identity.length === 0) {
    throw new OptionError('--pass-file goes with --identity');
  }
  const passphrase =
    passFile === undefined ? undefined : await readFirstLine('--pass-file', passFile);
  const identities: Identity[] = [];
  for (const path of identity) {
    const found = await loadIdentity(path, passphrase);
    if (found.length === 0) throw new OptionError(`--identity: ${path}: no certificate in it`);
    identities.push(...found);
  }
  return identities;
}

async function loadIdentity(path: string, passphrase: string | undefined): Promise<Identity[]> {
  try {
    return await loadIdentities(path, { passphrase });
  } catch (cause) {
    const { message } = cause as Error;
    const hint = !WRONG_PASSPHRASE.test(message)
      ? ''
      : passphrase === undefined
        ? ' (is it encrypted? --pass-file gives the passphrase)'
        : ' (is it another passphrase than that of --pass-file?)';
    throw new OptionError(`--identity: ${message}${hint}`, { cause });
  }
}

/** What OpenSSL says where the passphrase is missing or wrong. */
const WRONG_PASSPHRASE = /interrupted or cancelled|bad decrypt|bad password|mac verify failure/i;

// ---- the search

/** What came of a search. */
interface Outcome {
  readonly report: IssuersReport;
  readonly error: CloseNotifyError | null;
}

/** The search itself: what is known so far, and how far it has come. */
class Search implements Observer {
  readonly #target: Target;
  readonly #connectOptions: ConnectOptions;
  readonly #options: IssuersOptions;
  readonly #progress: Progress;
  readonly #signal: AbortSignal;
  readonly #startedAt = performance.now();
  /** A file that cannot be written is an error before anything is connected to. */
  readonly #keyLog = environmentKeyLog();
  /** Where the connection's own clock begins, on ours. */
  #offset = 0;
  #addresses: readonly string[] = [];
  #address: string | null = null;
  #result: FindResult | null = null;
  #error: CloseNotifyError | null = null;

  constructor(
    target: Target,
    connectOptions: ConnectOptions,
    options: IssuersOptions,
    progress: Progress,
    signal: AbortSignal,
  ) {
    this.#target = target;
    this.#connectOptions = connectOptions;
    this.#options = options;
    this.#progress = progress;
    this.#signal = signal;
  }

  /** Searches. What goes wrong with the connection is part of the outcome. */
  async run(identities: readonly Identity[]): Promise<Outcome> {
    try {
      await this.#run(identities);
    } catch (error) {
      if (!(error instanceof CloseNotifyError)) throw error;
      this.#error = error;
    }
    return { report: this.#report(), error: this.#error };
  }

  async #run(identities: readonly Identity[]): Promise<void> {
    const { starttls } = this.#options;
    this.#progress.begin('resolve');
    const transport = await openConnection(this.#target, this.#options, this.#signal, {
      resolved: (addresses) => {
        this.#addresses = addresses;
      },
      phase: (name) => {
        if (name === 'resolve') this.#progress.begin('connect');
        else if (name === 'connect' && starttls !== undefined) this.#progress.begin('starttls');
        else this.#progress.begin('handshake');
      },
    });
    try {
      await this.#find(transport, identities);
    } finally {
      transport.destroy();
    }
  }

  async #find(transport: Socket, identities: readonly Identity[]): Promise<void> {
    this.#address = transport.remoteAddress ?? null;
    this.#offset = performance.now() - this.#startedAt;
    const { host, port } = this.#target;
    this.#result = await new ClientCertificateFinder().find(
      { host, port, transport },
      {
        ...this.#connectOptions,
        http: this.#options.http,
        identities,
        record: allOf(this, this.#keyLog),
        signal: this.#signal,
      },
    );
  }

  observe(observation: Observation): void {
    if (observation.type === 'phase' && this.#options.http !== undefined) {
      this.#progress.begin('request');
    } else if (observation.type === 'call' && observation.name === 'shutdown') {
      this.#progress.begin('shutdown');
    }
  }

  #report(): IssuersReport {
    const result = this.#result;
    const closure = result?.closure ?? this.#error?.closure ?? null;
    return {
      target: reportTarget(this.#target, this.#address, this.#addresses),
      request: result?.request ?? null,
      when: result?.when ?? null,
      issuers: result?.issuers.toJSON() ?? [],
      signatureAlgorithms: result?.signatureAlgorithms ?? [],
      certificateTypes: result?.certificateTypes ?? null,
      oidFilters: result?.oidFilters ?? null,
      tls: result?.tls ?? null,
      authorized: result?.authorized ?? null,
      authorizationError: result?.authorizationError ?? null,
      closure: closure && reportClosure(closure, this.#offset),
      matches: result?.matches.map(reportMatch) ?? [],
      limitation: result?.limitation ?? null,
      error: this.#error && reportError(this.#error),
    };
  }
}

const reportMatch = ({ identity, usable, reasons }: Match): MatchReport => ({
  source: identity.source,
  subject: namesOf(identity.certificate).subject.toString(),
  usable,
  reasons,
});

/** Somebody who waits wants to know for what: one line, gone when it is over. */
class Progress {
  readonly #terminal: Terminal;
  readonly #shown: boolean;

  constructor(terminal: Terminal, shown: boolean) {
    this.#terminal = terminal;
    this.#shown = shown && terminal.live;
  }

  begin(what: string): void {
    this.clear();
    if (this.#shown) this.#terminal.write(`${what}...`);
  }

  clear(): void {
    if (this.#shown) this.#terminal.write('\r\u001b[K');
  }
}
