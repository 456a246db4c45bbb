/**
 * Members of a TLS socket on a tap that are not Node's own: what it lacks there, taken from the transport;
 * what its owner has to see; and the certificate by which Node judges the server's names.
 *
 * All of them are on one prototype, so that no socket has to carry them.
 */
import type { Duplex } from 'node:stream';
import tls from 'node:tls';

/** Who has a socket, and sees what goes through it. */
export interface SocketOwner {
  readonly transport: Duplex;
  /**
   * Whether Node is about to judge the server's names. It asks for the whole chain then, of which it needs
   * the server's certificate alone; the others take ten times as long (OpenSSL looks for each one's issuer
   * among all that are trusted). So for that time they are looked up only for who asks for them.
   */
  readonly judging: boolean;
  /** In place of `push`. */
  onPush(chunk: unknown, encoding: BufferEncoding | undefined): boolean;
  /** In place of `_final`, which is called by `final`. */
  onFinal(final: (done: Done) => void, done: Done): void;
  /** After `_read`. */
  onRead(): void;
}

type Done = (error?: Error | null) => void;

const OWNER = Symbol('owner');

interface Member extends tls.TLSSocket {
  [OWNER]: SocketOwner;
}

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

const prototype = Object.create(tls.TLSSocket.prototype) as tls.TLSSocket;
for (const name of ADDRESSES) {
  Object.defineProperty(prototype, name, {
    configurable: true,
    get(this: Member) {
      return membersOf(this)[name];
    },
  });
}
for (const name of METHODS) {
  const own = tls.TLSSocket.prototype[name] as (...args: unknown[]) => unknown;
  define(name, function (this: Member, ...args: unknown[]) {
    const transport = membersOf(this);
    const method = transport[name];
    if (typeof method !== 'function') return own.apply(this, args);
    const result = method.apply(transport, args);
    // The chainable ones return the socket that they were called on.
    return result === transport ? this : result;
  });
}

const membersOf = (socket: Member) => socket[OWNER].transport as unknown as Record<string, unknown>;

const { getPeerCertificate, _final, _read } = tls.TLSSocket.prototype;

define('push', function (this: Member, chunk: unknown, encoding?: BufferEncoding) {
  return this[OWNER].onPush(chunk, encoding);
});

define('_final', function (this: Member, done: Done) {
  this[OWNER].onFinal((then) => _final.call(this, then), done);
});

define('_read', function (this: Member, size: number) {
  _read.call(this, size);
  this[OWNER].onRead();
});

define('getPeerCertificate', function (this: Member, detailed?: boolean) {
  if (!detailed || !this[OWNER].judging) return getPeerCertificate.call(this, detailed === true);
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

/** Gives a TLS socket on a tap these members. */
export function lendMembers(socket: tls.TLSSocket, owner: SocketOwner): void {
  // Of its own it should have none. One that somebody has put there would hide the prototype's, and with it
  // from the owner how the socket ended.
  if (Object.hasOwn(socket, 'push')) Reflect.deleteProperty(socket, 'push');
  (socket as Member)[OWNER] = owner;
  Object.setPrototypeOf(socket, prototype);
}

/** Node's own check (RFC 9525), whose error is to have the whole chain all the same. */
export function judgeNames(
  socketOf: () => tls.TLSSocket,
): NonNullable<tls.ConnectionOptions['checkServerIdentity']> {
  return (host, certificate) =>
    tls.checkServerIdentity(host, certificate) &&
    tls.checkServerIdentity(host, getPeerCertificate.call(socketOf(), true));
}
