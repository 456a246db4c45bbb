/** The names of servers, as TLS and certificates write them, and their addresses, as messages do. */
import net from 'node:net';
import { domainToASCII } from 'node:url';
import { OptionError } from './errors.ts';

/**
 * A host's name as it stands in the server_name extension (RFC 6066 section 3) and in a certificate (RFC 9525 section
 * 2): without the dot that may end a DNS name, and with A-labels for letters beyond ASCII (`xn--bcher-kva` for
 * `bücher`). An IP address stays as it is; it never stands in server_name.
 *
 * @param option the option that the host comes from, for the error.
 * @throws {OptionError} for what is neither a DNS name nor an IP address.
 */
export function serverName(host: string, option: string): string {
  if (net.isIP(host) !== 0) return host;
  // Names of ASCII are not touched: domainToASCII also reads numbers as addresses, '1.2' as '1.0.0.2'.
  const ascii = /[^\0-\x7f]/.test(host) ? domainToASCII(host) : host;
  const name = ascii.endsWith('.') ? ascii.slice(0, -1) : ascii;
  if (name.split('.').includes('')) {
    throw new OptionError(`${option} ${JSON.stringify(host)} is no DNS name and no IP address`, {
      hint: 'a label of it is empty, or has characters that no DNS name can have',
    });
  }
  return name;
}

/** `host:port`, with the brackets of an IPv6 address (RFC 3986 section 3.2.2). Without a port the host alone. */
export function hostAndPort(host: string, port: number | string | null | undefined): string {
  if (port === null || port === undefined) return host;
  return net.isIPv6(host) ? `[${host}]:${port}` : `${host}:${port}`;
}
