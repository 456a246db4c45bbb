/**
 * `close-notify issuers`: whose client certificates a server accepts, and which of ours it would
 * take.
 */
import { readFileSync } from 'node:fs';
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
import { IssuersPage } from './issuers-page.ts';
import type { IssuersOptions, IssuersReport, MatchReport } from './issuers-report.ts';
import { reportClosure, reportError, reportTarget, writeJson } from './report.ts';
import type { Target } from './target.ts';
import type { Terminal } from './terminal.ts';

/** Finds the issuers and prints them. Returns the exit code. */
export async function issuers(
  target: Target,
  options: IssuersOptions,
  terminal: Terminal,
  signal: AbortSignal,
): Promise<number> {
  const connectOptions = connectOptionsOf(target, options);
  const identities = await identitiesOf(options);
  const progress = new Progress(terminal, options.json !== true);
  const search = new Search(target, connectOptions, options, progress, signal);
  await search.run(identities);
  progress.clear();
  const report = search.report();
  if (options.json) writeJson(terminal, report);
  else new IssuersPage(terminal, target, options).print(report, signal);
  return exitCodeOf(report, identities.length > 0, signal);
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
  const passphrase = passFile === undefined ? undefined : firstLineOf(passFile);
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

function firstLineOf(file: string): string {
  try {
    return /^[^\r\n]*/.exec(readFileSync(file, 'utf8'))?.[0] ?? '';
  } catch (cause) {
    throw new OptionError(`--pass-file: ${(cause as Error).message}`, { cause });
  }
}

// ---- the search

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

  async run(identities: readonly Identity[]): Promise<void> {
    try {
      await this.#run(identities);
    } catch (error) {
      if (!(error instanceof CloseNotifyError)) throw error;
      this.#error = error;
    }
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
    const { host, port, ...connectOptions } = this.#connectOptions;
    this.#result = await new ClientCertificateFinder().find(
      { host, port, transport },
      {
        ...connectOptions,
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

  report(): IssuersReport {
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
