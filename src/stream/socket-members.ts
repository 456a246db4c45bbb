/**
 * Members of a TLS socket on a tap that are not Node's own: what it lacks there, taken from the transport,
 * and the certificate by which Node judges the server's names.
 *
 * All of them are on one prototype, so that no socket has to carry them.
 */
import type { Duplex } from 'node:stream';
import tls from 'node:tls';

/** The members of a net.Socket that a TLS socket on a Duplex lacks. */
const ADDRESSES = [
  'remoteAddress',
  'remotePort',
  'remoteFamily',
  'localAddress',
  'localPort',
  'localFamily',
  'autoSelectFamilyAttemptedAddresses',
];
const METHODS = ['setNoDelay', 'setKeepAlive', 'ref', 'unref', 'address'] as const;

const TRANSPORT = Symbol('transport');
const JUDGING = Symbol('judging');

interface Member extends tls.TLSSocket {
  [TRANSPORT]: Record<string, unknown>;
  [JUDGING]?: boolean;
}

const prototype = Object.create(tls.TLSSocket.prototype) as tls.TLSSocket;
for (const name of ADDRESSES) {
  Object.defineProperty(prototype, name, {
    configurable: true,
    get(this: Member) {
      return this[TRANSPORT][name];
    },
  });
}
for (const name of METHODS) {
  const own = tls.TLSSocket.prototype[name] as (...args: unknown[]) => unknown;
  define(name, function (this: Member, ...args: unknown[]) {
    const transport = this[TRANSPORT];
    const method = transport[name];
    if (typeof method !== 'function') return own.apply(this, args);
    const result = method.apply(transport, args);
    // The chainable ones return the socket that they were called on.
    return result === transport ? this : result;
  });
}

const { getPeerCertificate } = tls.TLSSocket.prototype;
define('getPeerCertificate', function (this: Member, detailed?: boolean) {
  if (!detailed || this[JUDGING] !== true) return getPeerCertificate.call(this, detailed === true);
  const certificate = getPeerCertificate.call(this, false) as tls.DetailedPeerCertificate;
  let issuer: tls.DetailedPeerCertificate | undefined;
  return Object.defineProperty(certificate, 'issuerCertificate', {
    configurable: true,
    enumerable: true,
    get: () => {
      const whole = getPeerCertificate.call(this, true) as tls.DetailedPeerCertificate;
      issuer ??= whole.issuerCertificate;
      return issuer;
    },
  });
});

function define(name: string, value: unknown): void {
  Object.defineProperty(prototype, name, { configurable: true, writable: true, value });
}

/** Lends a TLS socket what it lacks on a tap: the members of the transport. */
export function lendMembers(socket: tls.TLSSocket, transport: Duplex): void {
  (socket as Member)[TRANSPORT] = transport as unknown as Record<string, unknown>;
  Object.setPrototypeOf(socket, prototype);
}

/**
 * Whether Node is about to judge the server's names. It asks for the whole chain then, of which it needs
 * the server's certificate alone; the others take ten times as long (OpenSSL looks for each one's issuer
 * among all that are trusted). So for that time they are looked up only for who asks for them.
 */
export function judgingNames(socket: tls.TLSSocket, judging: boolean): void {
  (socket as Member)[JUDGING] = judging;
}

/** Node's own check (RFC 9525), whose error is to have the whole chain all the same. */
export function judgeNames(
  socketOf: () => tls.TLSSocket,
): NonNullable<tls.ConnectionOptions['checkServerIdentity']> {
  return (host, certificate) =>
    tls.checkServerIdentity(host, certificate) &&
    tls.checkServerIdentity(host, getPeerCertificate.call(socketOf(), true));
}
