/** HOST[:PORT], as people write it. */
import net from 'node:net';
import { hostAndPort } from '../server-name.ts';

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
  const bracketed = /^\[([^\]]*)\](.*)$/.exec(text);
  if (bracketed) {
    const [, host = '', rest = ''] = bracketed;
    if (!net.isIPv6(host)) throw new TypeError(`not an IPv6 address: '${host}'`);
    if (rest !== '' && !rest.startsWith(':')) {
      throw new TypeError(`only :PORT may follow [${host}], not '${rest}'`);
    }
    return { host, port: parsePort(rest === '' ? undefined : rest.slice(1)) ?? defaultPort };
  }
  if (/[[\]]/.test(text)) throw new TypeError(`not a host: '${text}'`);
  if (text.split(':').length > 2) throw new TypeError(bracketsHint(text));
  const [host = '', port] = text.split(':');
  if (host === '') throw new TypeError('the host is missing: HOST[:PORT]');
  return { host, port: parsePort(port) ?? defaultPort };
}

/** Several colons, and no brackets: how an IPv6 address is written that has a port, or has none. */
function bracketsHint(text: string): string {
  const colon = text.lastIndexOf(':');
  const [head, tail] = [text.slice(0, colon), text.slice(colon + 1)];
  const withPort = net.isIPv6(head) && isPort(tail) ? `[${head}]:${tail}` : null;
  // A zone may have a colon in it, and hardly ever has.
  const whole = net.isIPv6(text) && !(withPort !== null && head.includes('%')) ? text : null;
  if (whole === null && withPort === null)
    return `neither HOST:PORT nor an IPv6 address: '${text}'`;
  const put = 'put an IPv6 address in brackets:';
  if (whole === null) return `${put} ${withPort}`;
  if (withPort === null) return `${put} [${whole}], or [${whole}]:PORT`;
  return `${put} ${withPort} if ${tail} is the port, [${whole}] if it is part of the address`;
}

function parsePort(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  if (!isPort(text)) throw new TypeError(`not a port from 1 to 65535: '${text}'`);
  return Number(text);
}

const isPort = (text: string): boolean =>
  /^\d{1,5}$/.test(text) && Number(text) >= 1 && Number(text) <= 65535;

/** The target as it is written. */
export function targetText({ host, port }: Target): string {
  return hostAndPort(host, port);
}
