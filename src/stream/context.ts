/**
 * What a client's handshakes need besides a socket: certificates, keys, ciphers. Node builds it anew for
 * each connection, which takes a quarter of a connection's whole CPU time; here equal options share one.
 */
import { createHash } from 'node:crypto';
import tls from 'node:tls';

/** The options of `tls.createSecureContext`. */
const KEYS = [
  'allowPartialTrustChain',
  'ca',
  'cert',
  'ciphers',
  'clientCertEngine',
  'crl',
  'dhparam',
  'ecdhCurve',
  'honorCipherOrder',
  'key',
  'maxVersion',
  'minVersion',
  'passphrase',
  'pfx',
  'privateKeyEngine',
  'privateKeyIdentifier',
  'secureOptions',
  'secureProtocol',
  'sessionIdContext',
  'sessionTimeout',
  'sigalgs',
  'ticketKeys',
] as const;

/** So many are kept, the last ones used. */
const KEPT = 16;

const contexts = new Map<string, tls.SecureContext>();

/**
 * A context for these options, shared by all connections with the same ones. The same are those with equal
 * contents: bytes that were changed in place make another context.
 *
 * @throws whatever `tls.createSecureContext` throws.
 */
export function clientContext(options: tls.ConnectionOptions): tls.SecureContext {
  const all: tls.SecureContextOptions = { ciphers: tls.DEFAULT_CIPHERS, ...options };
  const id = identify(all);
  if (id === null) return tls.createSecureContext(all);
  const context = contexts.get(id) ?? tls.createSecureContext(all);
  // Again, so that it is the last.
  contexts.delete(id);
  contexts.set(id, context);
  for (const oldest of contexts.keys()) {
    if (contexts.size <= KEPT) break;
    contexts.delete(oldest);
  }
  return context;
}

/** A digest of all that a context is made of (some of it is secret); null where that cannot be said. */
function identify(options: tls.SecureContextOptions): string | null {
  // Newer versions of Node can change whom all contexts trust.
  if (options.ca === undefined && 'setDefaultCACertificates' in tls) return null;
  const hash = createHash('sha256');
  const add = (value: unknown): boolean => {
    if (Array.isArray(value)) {
      hash.update(`[${value.length}]`);
      return value.every(add);
    }
    if (value instanceof Uint8Array) {
      hash.update(`bytes ${value.length} `).update(value);
      return true;
    }
    if (typeof value === 'string') hash.update(`text ${value.length} `).update(value);
    else hash.update(`${value};`);
    return typeof value !== 'object' || value === null;
  };
  // Node's defaults can be changed as well.
  const known =
    add([tls.DEFAULT_MIN_VERSION, tls.DEFAULT_MAX_VERSION, tls.DEFAULT_ECDH_CURVE]) &&
    KEYS.every((key) => add((options as Record<string, unknown>)[key]));
  return known ? hash.digest('base64') : null;
}
