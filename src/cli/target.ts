/** HOST[:PORT], as people write it. */
import net from 'node:net';

/** Where to connect to. */
export interface Target {
  /** A name, or an IP address without brackets. */
  readonly host: string;
  readonly port: number;
}

/**
 * Reads `HOST`, `HOST:PORT`, `[IPv6]` or `[IPv6]:PORT`.
 *
 * @throws {TypeError} saying what is wrong with it.
 */
export function parseTarget(text: string, defaultPort = 443): Target {
  if (text.includes('://')) throw new TypeError('give a host, not a URL: HOST[:PORT]');
  if (/[\s/?#@]/.test(text)) throw new TypeError(`not a host: '${text}'`);
  const bracketed = /^\[([^\]]*)\](?::(.*))?$/.exec(text);
  if (bracketed) {
    const [, host = '', port] = bracketed;
    if (!net.isIPv6(host)) throw new TypeError(`not an IPv6 address: '${host}'`);
    return { host, port: parsePort(port) ?? defaultPort };
  }
  if (text.startsWith('[') || text.split(':').length > 2) {
    throw new TypeError(`put an IPv6 address in brackets: [${text.replace(/[[\]]/g, '')}]:PORT`);
  }
  const [host = '', port] = text.split(':');
  if (host === '') throw new TypeError('the host is missing: HOST[:PORT]');
  return { host, port: parsePort(port) ?? defaultPort };
}

function parsePort(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const port = Number(text);
  if (!/^\d{1,5}$/.test(text) || port < 1 || port > 65535) {
    throw new TypeError(`not a port from 1 to 65535: '${text}'`);
  }
  return port;
}

/** The target as it is written. */
export function targetText({ host, port }: Target): string {
  return net.isIPv6(host) ? `[${host}]:${port}` : `${host}:${port}`;
}
