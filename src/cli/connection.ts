/** What the commands that connect have in common: their options, and the way to an open transport. */
import { X509Certificate } from 'node:crypto';
import dns from 'node:dns';
import net from 'node:net';
import { type Deadlines, resolvePolicy } from '../closure/policy.ts';
import { OptionError } from '../errors.ts';
import { STARTTLS_PORTS, type StartTlsProtocol, startTls } from '../starttls/starttls.ts';
import type { ConnectOptions } from '../stream/connect.ts';
import { openTransport } from '../transport/open.ts';
import { readText } from './files.ts';
import type { Target } from './target.ts';

/** Options as commander hands them over. */
export interface ConnectionOptions {
  /** IPv4 addresses only. */
  readonly ipv4?: boolean;
  /** IPv6 addresses only. */
  readonly ipv6?: boolean;
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

/** The family of the addresses that may be connected to; 0 for both. */
function familyOf({ ipv4, ipv6 }: ConnectionOptions): 0 | 4 | 6 {
  return ipv4 ? 4 : ipv6 ? 6 : 0;
}

/** @throws {OptionError} for an address that is of the family that was ruled out. */
export function checkFamily(targets: readonly Target[], options: ConnectionOptions): void {
  const wanted = familyOf(options);
  if (wanted === 0) return;
  for (const { host } of targets) {
    const family = net.isIP(host);
    if (family === 0 || family === wanted) continue;
    throw new OptionError(`-${wanted} is for IPv${wanted}, and ${host} is an IPv${family} address`);
  }
}

/**
 * Reads the files and checks the options, before anything is connected to.
 *
 * @returns what holds for every target.
 * @throws {OptionError}
 */
export async function connectOptionsOf(options: ConnectionOptions): Promise<ConnectOptions> {
  const { servername, tls, timeout, alpn } = options;
  if (servername !== undefined && (servername === '' || net.isIP(servername) !== 0)) {
    throw new OptionError('--servername must be a name: RFC 6066 permits no IP address there');
  }
  const ca =
    options.ca === undefined ? undefined : await readPem('--ca', options.ca, certificateOf);
  const version = tls === undefined ? undefined : (`TLSv${tls}` as const);
  return {
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

/** The first certificate of a PEM file. @throws {OptionError} in other words than OpenSSL's. */
export function certificateOf(pem: string): X509Certificate {
  try {
    return new X509Certificate(pem);
  } catch (cause) {
    throw new OptionError('no certificate in PEM that can be read', { cause });
  }
}

/** A file's text, and what is in it. @throws {OptionError} naming the option. */
export async function readPem<T>(
  option: string,
  file: string,
  parse: (pem: string) => T,
): Promise<{ readonly pem: string; readonly parsed: T }> {
  const pem = await readText(option, file);
  try {
    return { pem, parsed: parse(pem) };
  } catch (cause) {
    throw new OptionError(`${option}: ${file}: ${(cause as Error).message}`, { cause });
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
  options: ConnectionOptions,
  signal: AbortSignal,
  events: OpeningEvents,
): Promise<net.Socket> {
  const { starttls, servername, timeout } = options;
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
  const transport = await openTransport(
    { host, port, lookup, family: familyOf(options) },
    signal,
    deadlines,
    (name) => events.phase(name),
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
