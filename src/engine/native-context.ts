/**
 * Contexts of the native engine. They are its own: one that a TLS socket of Node's has used calls back into that, and
 * takes an SSL of ours for one of Node's, which ends the process.
 */
import { Buffer } from 'node:buffer';
import { createHash } from 'node:crypto';
import { Duplex } from 'node:stream';
import tls from 'node:tls';
import type { EngineBinding, NativeContext } from '../add-on.ts';
import { process } from '../runtime.ts';
import { ContextCache, refusalOf } from './context.ts';
import type { ClientIdentity } from './options.ts';

/** @throws what `tls.createSecureContext` throws. @returns null where the add-on does not find it. */
function make(binding: EngineBinding, options: tls.SecureContextOptions): NativeContext | null {
  let secureContext: tls.SecureContext | undefined;
  const context = binding.ownContext(() => {
    secureContext = tls.createSecureContext(options);
  });
  if (context !== null) context.secureContext = secureContext;
  return context;
}

const clients = new ContextCache<NativeContext | null>();

/** A context for a client with these options; equal options share one. */
export function nativeClientContext(
  binding: EngineBinding,
  options: tls.ConnectionOptions,
): NativeContext | null {
  return clients.get(options, (all) => make(binding, all));
}

const identities = new ContextCache<NativeContext | null>();

/**
 * What a client presents, as a context.
 *
 * @param ciphers of the connection: its security level is the one that keys have to meet.
 * @throws {OptionError} for what cannot be used.
 */
export function nativeIdentityContext(
  binding: EngineBinding,
  { key, cert, pfx, passphrase }: ClientIdentity,
  ciphers: string | undefined,
): NativeContext {
  const options: tls.SecureContextOptions = {
    // Nothing is verified with it, and Node's own list takes time.
    ca: [],
    ...(ciphers !== undefined && { ciphers }),
    ...(key !== undefined && { key }),
    ...(cert !== undefined && { cert }),
    ...(pfx !== undefined && { pfx }),
    ...(passphrase !== undefined && { passphrase }),
  };
  try {
    const context = identities.get(options, (all) => make(binding, all));
    if (context === null) throw new Error('the add-on finds no context for the client certificate');
    return context;
  } catch (error) {
    throw refusalOf(error as Error, options);
  }
}

/** A context for a server with these options, as `tls.Server` makes its own. */
export function nativeServerContext(
  binding: EngineBinding,
  options: tls.TlsOptions,
): NativeContext | null {
  // Node's default: sessions of one program are not resumed by another.
  const program = createHash('sha1').update(process.argv.join(' ')).digest('hex').slice(0, 32);
  return make(binding, {
    ...options,
    honorCipherOrder: options.honorCipherOrder ?? true,
    sessionIdContext: options.sessionIdContext || program,
  });
}

const foreign = new WeakMap<object, NativeContext>();

/**
 * A context that somebody else has made, to present what it has. Nothing else of it may be used.
 *
 * @throws {Error} where the add-on does not find it.
 */
export function nativeForeignContext(
  binding: EngineBinding,
  secureContext: tls.SecureContext,
): NativeContext {
  const known = foreign.get(secureContext);
  if (known !== undefined) return known;
  const context = binding.foreignContext(() => {
    // The SSL that Node makes for it lives as long as the socket, which nobody ever starts.
    probes.push(new tls.TLSSocket(nothing(), { isServer: true, secureContext }));
  });
  for (const probe of probes.splice(0)) probe.destroy();
  if (context === null) throw new Error('the context of SNICallback cannot be used');
  context.secureContext = secureContext;
  foreign.set(secureContext, context);
  return context;
}

const probes: tls.TLSSocket[] = [];

const nothing = () => new Duplex({ read() {}, write: (_chunk, _encoding, done) => done() });

// ---- sessions

/**
 * What Node 22 and later puts before a session: whom it was made with. It is resumed with nobody else, since a resumed
 * handshake checks no certificate.
 */
const PREFIX = Buffer.from('\0nodejs:tls:session:1\0');

/** Whether this Node does so. */
const WRAPS = Number.parseInt(process.versions.node ?? '0', 10) >= 22;

/** A session for the program, as Node would give it. @param name whom the certificate was checked for. */
export function wrapSession(der: Uint8Array, name: string): Buffer {
  if (!WRAPS) return Buffer.from(der);
  const text = Buffer.from(name);
  const length = Buffer.alloc(2);
  length.writeUInt16BE(text.length);
  return Buffer.concat([PREFIX, length, text, der]);
}

/**
 * The session in what a program gives, in DER; undefined for one that may not be resumed here.
 *
 * @param verified whether the server's certificate has to verify.
 */
export function unwrapSession(
  given: Uint8Array | undefined,
  name: string,
  verified: boolean,
): Uint8Array | undefined {
  if (given === undefined) return undefined;
  const bytes = Buffer.from(given.buffer, given.byteOffset, given.byteLength);
  const start = PREFIX.length + 2;
  if (bytes.length < start || !bytes.subarray(0, PREFIX.length).equals(PREFIX)) {
    // Nobody knows whom it was made with.
    return WRAPS && verified ? undefined : bytes;
  }
  const end = start + bytes.readUInt16BE(PREFIX.length);
  if (bytes.length < end || bytes.toString('utf8', start, end) !== name) return undefined;
  return bytes.subarray(end);
}
