/** What the commands that connect have in common: their options, and the way to an open transport. */
import { X509Certificate } from 'node:crypto';
import dns from 'node:dns';
import { readFileSync } from 'node:fs';
import net from 'node:net';
import { type Deadlines, resolvePolicy } from '../closure/policy.ts';
import { OptionError } from '../errors.ts';
import { STARTTLS_PORTS, type StartTlsProtocol, startTls } from '../starttls/starttls.ts';
import type { ConnectOptions } from '../stream/connect.ts';
import { openTransport } from '../transport/open.ts';
import type { Target } from './target.ts';

/** Options as commander hands them over. */
export interface ConnectionOptions {
  readonly timeout?: number;
  readonly servername?: string;
  readonly tls?: '1.2' | '1.3';
  readonly ca?: string;
  readonly alpn?: readonly string[];
  readonly starttls?: StartTlsProtocol;
}

/** A step on the way to TLS, before the handshake. */
export type OpeningPhase = 'resolve' | 'connect' | 'starttls';

/** The port where a server is looked for that was named without one. */
export function defaultPort({ starttls }: Pick<ConnectionOptions, 'starttls'>): number {
  return starttls === undefined ? 443 : STARTTLS_PORTS[starttls];
}

/**
 * Reads the files and checks the options, before anything is connected to.
 *
 * @throws {OptionError}
 */
export function connectOptionsOf(target: Target, options: ConnectionOptions): ConnectOptions {
  const { servername, tls, timeout, alpn } = options;
  if (servername !== undefined && (servername === '' || net.isIP(servername) !== 0)) {
    throw new OptionError('--servername must be a name: RFC 6066 permits no IP address there');
  }
  const ca = options.ca === undefined ? undefined : readPem('--ca', options.ca, certificateOf);
  const version = tls === undefined ? undefined : (`TLSv${tls}` as const);
  return {
    host: target.host,
    port: target.port,
    // A certificate that does not verify is reported; something else is looked at here.
    rejectUnauthorized: false,
    unread: 'discard',
    ...(ca && { ca: ca.pem }),
    ...(servername !== undefined && { servername }),
    ...(alpn && { ALPNProtocols: [...alpn] }),
    ...(version && { minVersion: version, maxVersion: version }),
    ...(timeout !== undefined && { deadlines: everyDeadline(timeout) }),
  };
}

const everyDeadline = (ms: number): Deadlines => ({
  resolve: ms,
  connect: ms,
  handshake: ms,
  read: ms,
  write: ms,
  shutdown: ms,
  close: ms,
});

/** The first certificate of a PEM file. */
export const certificateOf = (pem: string): X509Certificate => new X509Certificate(pem);

/** A file's text, and what is in it. @throws {OptionError} naming the option. */
export function readPem<T>(
  option: string,
  file: string,
  parse: (pem: string) => T,
): { readonly pem: string; readonly parsed: T } {
  try {
    const pem = readFileSync(file, 'utf8');
    return { pem, parsed: parse(pem) };
  } catch (cause) {
    throw new OptionError(`${option}: ${(cause as Error).message}`, { cause });
  }
}

/** Whoever wants to know how the opening goes on. */
export interface OpeningEvents {
  /** The name's addresses; not for a target that is one. */
  resolved(addresses: readonly string[]): void;
  /** A phase is over. */
  phase(name: OpeningPhase): void;
}

/**
 * Opens the transport, and with `--starttls` leads the server to where TLS begins. The caller
 * destroys it.
 *
 * @throws {ResolveError | ConnectError | StartTlsError | TimeoutError | AbortError}; nothing is left
 *   open then.
 */
export async function openConnection(
  target: Target,
  { starttls, servername, timeout }: ConnectionOptions,
  signal: AbortSignal,
  events: OpeningEvents,
): Promise<net.Socket> {
  const { deadlines } = resolvePolicy(
    timeout === undefined ? {} : { deadlines: everyDeadline(timeout) },
  );
  /** Node's own lookup, but the addresses are shown. */
  const lookup: net.LookupFunction = (host, options, callback) => {
    dns.lookup(host, options, (error, found, family) => {
      if (!error) {
        events.resolved(
          typeof found === 'string'
            ? [found]
            : (found as dns.LookupAddress[]).map(({ address }) => address),
        );
      }
      callback(error, found, family);
    });
  };
  const { host, port } = target;
  const transport = await openTransport({ host, port, lookup }, signal, deadlines, (name) =>
    events.phase(name),
  );
  // It may fail while nobody else listens; whoever uses it next finds that out.
  transport.on('error', () => {});
  if (starttls === undefined) return transport;
  try {
    // Some servers are several: the name says which is meant.
    await startTls(transport, starttls, { host: servername ?? host, signal, deadline: timeout });
  } catch (error) {
    transport.destroy();
    throw error;
  }
  events.phase('starttls');
  return transport;
}
