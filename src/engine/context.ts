/**
 * What a client's handshakes need besides a socket: certificates, keys, ciphers. Node builds it anew for
 * each connection, which takes a quarter of a connection's whole CPU time; here equal options share one.
 */
import { createHash } from 'node:crypto';
import tls from 'node:tls';
import { OptionError } from '../errors.ts';
import { plainReason } from '../openssl.ts';
import { CONNECT_OPTIONS } from '../option-names.ts';

/**
 * Options that a context is not made of: those of a socket, of a connection, and of an HTTP request, which https.Agent
 * hands on to `tls.connect`. Every other option counts, known to us or not: two connections that differ in one that a
 * newer Node has must not share a context.
 */
const NOT_OF_A_CONTEXT: ReadonlySet<string> = new Set([
  ...CONNECT_OPTIONS,
  // http.request and http.Agent
  ...['_agentKey', '_defaultAgent', 'agent', 'agentKeepAliveTimeoutBuffer', 'auth'],
  ...['createConnection', 'defaultPort', 'encoding', 'hash', 'headers', 'hostname', 'href'],
  ...['insecureHTTPParser', 'joinDuplicateHeaders', 'keepAliveMsecs', 'maxCachedSessions'],
  ...['maxFreeSockets', 'maxHeaderSize', 'maxSockets', 'maxTotalSockets', 'method', 'origin'],
  ...['parser', 'pathname', 'protocol', 'query', 'scheduling', 'search', 'setDefaultHeaders'],
  ...['setHost', 'singleUse', 'socketPath', 'uniqueHeaders'],
]);

/** So many are kept, the last ones used. */
const KEPT = 16;

/** Contexts by the options that they were made of, the last ones used. */
export class ContextCache<Context> {
  readonly #contexts = new Map<string, Context>();

  /**
   * A context for these options, shared by all connections with the same ones. The same are those with equal
   * contents: bytes that were changed in place make another context.
   */
  get(
    options: tls.ConnectionOptions,
    make: (options: tls.SecureContextOptions) => Context,
  ): Context {
    const all: tls.SecureContextOptions = { ciphers: tls.DEFAULT_CIPHERS, ...options };
    const id = identify(all);
    if (id === null) return make(all);
    const contexts = this.#contexts;
    const context = contexts.get(id) ?? make(all);
    // Again, so that it is the last.
    contexts.delete(id);
    contexts.set(id, context);
    for (const oldest of contexts.keys()) {
      if (contexts.size <= KEPT) break;
      contexts.delete(oldest);
    }
    return context;
  }
}

const ofNode = new ContextCache<tls.SecureContext>();

/** A context of Node's for these options. @throws whatever `tls.createSecureContext` throws. */
export function clientContext(options: tls.ConnectionOptions): tls.SecureContext {
  return ofNode.get(options, (all) => tls.createSecureContext(all));
}

/** Newer versions of Node can change whom all contexts trust that are made without `ca`. */
const changing: {
  readonly getCACertificates?: (type: 'default') => readonly string[];
  readonly setDefaultCACertificates?: unknown;
} = tls as object;

/** Whom they trust now, and how often that was changed. */
let authorities: readonly string[] | null = null;
let generation = 0;

/** A number for whom they trust now; null where that cannot be said. */
function defaultAuthorities(): number | null {
  if (changing.setDefaultCACertificates === undefined) return 0;
  const now = changing.getCACertificates?.('default');
  // Node gives the same array until it is changed. Only one that nobody can change has the same in it.
  if (now === undefined || !Object.isFrozen(now)) return null;
  if (now !== authorities) generation++;
  authorities = now;
  return generation;
}

/** A digest of all that a context is made of (some of it is secret); null where that cannot be said. */
function identify(options: tls.SecureContextOptions): string | null {
  const trusted = options.ca === undefined ? defaultAuthorities() : 0;
  if (trusted === null) return null;
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
    return (typeof value !== 'object' && typeof value !== 'function') || value === null;
  };
  // Node's defaults can be changed as well.
  const known =
    add([tls.DEFAULT_MIN_VERSION, tls.DEFAULT_MAX_VERSION, tls.DEFAULT_ECDH_CURVE, trusted]) &&
    Object.entries(options)
      .filter(([key, value]) => value !== undefined && !NOT_OF_A_CONTEXT.has(key))
      .sort(([one], [other]) => (one < other ? -1 : 1))
      .every(([key, value]) => add(key) && add(value));
  return known ? hash.digest('base64') : null;
}

/** What each option of a context has to be, for who gave it something else. */
const HINTS: Readonly<Record<string, string>> = {
  key: 'a private key in PEM begins with -----BEGIN PRIVATE KEY-----, or -----BEGIN EC PRIVATE KEY----- and the like',
  cert: 'a certificate in PEM begins with -----BEGIN CERTIFICATE-----',
  pfx: 'it takes the bytes of a PKCS#12 file, and its passphrase',
  crl: 'a revocation list in PEM begins with -----BEGIN X509 CRL-----',
  ciphers:
    'tls.getCiphers() has the names, which OpenSSL wants in capitals; colons stand between them',
  ecdhCurve: 'crypto.getCurves() has the names; colons stand between them',
  sigalgs: "names such as 'ECDSA+SHA256' or 'rsa_pss_rsae_sha256', with colons between them",
  'key and cert': 'the key belongs to another certificate',
};

/** What is wrong with a passphrase, by OpenSSL's words for it. */
const PASSPHRASES: ReadonlyArray<readonly [RegExp, string]> = [
  [/bad decrypt|mac verify failure|wrong password/i, 'the passphrase is another one'],
  [
    /interrupted or cancell?ed|bad password read|no password/i,
    'it is encrypted: give its passphrase',
  ],
];

/**
 * Looks at what Node passes by, or refuses in words that do not name the option.
 *
 * @throws {OptionError}
 */
export function checkAlpn(options: object): void {
  const { ALPNProtocols: names, ALPNCallback: pick } = options as tls.TlsOptions;
  if (names !== undefined && !ArrayBuffer.isView(names)) {
    if (!Array.isArray(names) || names.some((one) => typeof one !== 'string')) {
      throw new OptionError('ALPNProtocols must be a list of names, or bytes as TLS has them', {
        hint: "such as ['h2', 'http/1.1']",
      });
    }
  }
  if (pick !== undefined && typeof pick !== 'function') {
    throw new OptionError('ALPNCallback must be a function');
  }
}

/** What Node and OpenSSL refuse, as an error that names the option. */
export function refusalOf(cause: Error, options: object): OptionError {
  // Node calls it so.
  const reason = plainReason(cause.message).replace(/^context (?=must be)/, 'secureContext ');
  // Node names what has the wrong type.
  if (/\boptions?\.\w/.test(reason)) return new OptionError(reason, { cause });
  const name = culprit(options as tls.SecureContextOptions);
  if (name === null) return new OptionError(reason, { cause });
  const passphrase = PASSPHRASES.find(([words]) => words.test(reason))?.[1];
  const hint = (name === 'key' || name === 'pfx' ? passphrase : undefined) ?? HINTS[name];
  return new OptionError(`the option ${name} cannot be used: ${reason}`, { cause, hint });
}

/** Which option it was: OpenSSL does not say. So each is tried alone. */
function culprit(options: tls.SecureContextOptions): string | null {
  const { passphrase, key, cert } = options;
  const isRefused = (some: tls.SecureContextOptions) => {
    try {
      tls.createSecureContext(some);
      return false;
    } catch {
      // That it throws is the answer.
      return true;
    }
  };
  for (const [name, value] of Object.entries(options)) {
    if (value === undefined || NOT_OF_A_CONTEXT.has(name)) continue;
    if (isRefused({ [name]: value, ...(passphrase !== undefined && { passphrase }) })) return name;
  }
  return key !== undefined && cert !== undefined && isRefused({ key, cert, passphrase })
    ? 'key and cert'
    : null;
}
