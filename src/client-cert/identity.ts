/**
 * Identities: certificates with their keys and chains, from PEM and DER files, folders of them, and
 * PKCS#12.
 */
import { createPrivateKey, type KeyObject, X509Certificate } from 'node:crypto';
import { readdir, readFile, stat } from 'node:fs/promises';
import { basename, extname, join } from 'node:path';
import { OptionError } from '../errors.ts';
import { plainReason } from '../openssl.ts';
import { checkOptionNames } from '../option-names.ts';
import { accept, type ConnectOptions, connect } from '../stream/connect.ts';
import { memoryPair } from '../transport/pair.ts';

/** What a client could present. */
export interface Identity {
  /** The file it came from. */
  readonly source: string;
  /** The certificate itself. */
  readonly certificate: X509Certificate;
  /** The issuers that come with it, the nearest first. */
  readonly chain: readonly X509Certificate[];
  /** `missing`: no key was there. `mismatch`: there was one, of another certificate. */
  readonly key: 'present' | 'missing' | 'mismatch';
  /** What `connect` takes to present it; null unless the key is present. */
  readonly options: Pick<ConnectOptions, 'key' | 'cert' | 'pfx' | 'passphrase'> | null;
}

/** Options of `loadIdentities`. */
export interface LoadOptions {
  /** For encrypted keys and PKCS#12. */
  readonly passphrase?: string | undefined;
}

interface Material {
  readonly source: string;
  readonly certificates: readonly X509Certificate[];
  readonly keys: readonly KeyObject[];
}

const PKCS12 = new Set(['.p12', '.pfx']);
const READABLE = new Set(['.pem', '.crt', '.cer', '.der', '.key', ...PKCS12]);

/**
 * Reads identities from files and folders (not their subfolders). In a folder, keys and certificates
 * in files of their own find each other; CA certificates without a key are taken as issuers.
 *
 * @throws {OptionError} naming the file that cannot be read: not there, wrong passphrase, or neither
 *   certificate nor key. In a folder, files of other kinds are passed over.
 */
export async function loadIdentities(
  paths: string | readonly string[],
  options: LoadOptions = {},
): Promise<Identity[]> {
  checkOptionNames(options, ['passphrase']);
  const given = typeof paths === 'string' ? [paths] : paths;
  const identities: Identity[] = [];
  const materials: Material[] = [];
  for (const path of given) {
    for (const file of await filesOf(path)) {
      if (PKCS12.has(extname(file).toLowerCase())) {
        identities.push(await readPkcs12(file, options.passphrase));
        continue;
      }
      const material = await readMaterial(file, options.passphrase);
      if (material !== null) materials.push(material);
      else if (file === path) throw new OptionError(`${file}: neither certificate nor key`);
    }
  }
  identities.push(...assemble(materials));
  // A key that was named by itself and belongs to nothing is a mistake worth telling.
  const lonely = materials.find(
    ({ source, certificates, keys }) =>
      given.includes(source) &&
      certificates.length === 0 &&
      !identities.some((one) => keys.some((key) => one.certificate.checkPrivateKey(key))),
  );
  if (lonely !== undefined) {
    throw new OptionError(`${lonely.source}: a key, and no certificate that it belongs to`);
  }
  return identities;
}

async function filesOf(path: string): Promise<string[]> {
  try {
    if (!(await stat(path)).isDirectory()) return [path];
    const entries = await readdir(path, { withFileTypes: true });
    return entries
      .filter((entry) => !entry.isDirectory() && READABLE.has(extname(entry.name).toLowerCase()))
      .map((entry) => join(path, entry.name))
      .sort();
  } catch (cause) {
    throw new OptionError(`${path}: ${(cause as Error).message}`, { cause });
  }
}

const PEM_BLOCK = /-----BEGIN ([A-Z0-9 ]+)-----[\s\S]*?-----END \1-----/g;

async function readMaterial(file: string, passphrase?: string): Promise<Material | null> {
  const certificates: X509Certificate[] = [];
  const keys: KeyObject[] = [];
  try {
    const bytes = await readFile(file);
    for (const [pem, label = ''] of bytes.toString('latin1').matchAll(PEM_BLOCK)) {
      if (label.endsWith('CERTIFICATE')) certificates.push(new X509Certificate(pem));
      else if (label.endsWith('PRIVATE KEY')) {
        if (passphrase === undefined && (label.startsWith('ENCRYPTED') || /ENCRYPTED/.test(pem))) {
          throw new Error('the private key is encrypted, and no passphrase was given');
        }
        keys.push(
          createPrivateKey({ key: pem, ...(passphrase === undefined ? {} : { passphrase }) }),
        );
      }
    }
    // 0x30 begins a DER SEQUENCE, which certificates and keys are.
    if (certificates.length + keys.length === 0 && bytes[0] === 0x30) {
      const key = keyFromDer(bytes);
      if (key !== null) keys.push(key);
      else certificates.push(new X509Certificate(bytes));
    }
  } catch (cause) {
    throw new OptionError(`${file}: ${plainReason((cause as Error).message)}`, { cause });
  }
  return certificates.length + keys.length === 0 ? null : { source: file, certificates, keys };
}

/** A private key in one of the forms that DER has for it, or null. */
function keyFromDer(key: Buffer): KeyObject | null {
  for (const type of ['pkcs8', 'sec1', 'pkcs1'] as const) {
    try {
      return createPrivateKey({ key, format: 'der', type });
    } catch {
      // Not of this form; the next one may fit, and a certificate is none of them.
    }
  }
  return null;
}

/** Finds each certificate's key and issuers among all that was read. */
function assemble(materials: readonly Material[]): Identity[] {
  const keys = materials.flatMap((material) => material.keys);
  const everyone = materials.flatMap((material) => material.certificates);
  const identities: Identity[] = [];
  for (const { source, certificates, keys: own } of materials) {
    const leaf =
      certificates.find((one) => keys.some((key) => one.checkPrivateKey(key))) ?? certificates[0];
    if (leaf === undefined) continue;
    const key = [...own, ...keys].find((one) => leaf.checkPrivateKey(one));
    // Somebody else's issuer, not somebody's identity.
    if (key === undefined && own.length === 0 && leaf.ca && materials.length > 1) continue;
    const chain = issuersOf(leaf, [...certificates, ...everyone]);
    const mismatch = own.length > 0 || hasNamesake(materials, source);
    identities.push({
      source,
      certificate: leaf,
      chain,
      key: key !== undefined ? 'present' : mismatch ? 'mismatch' : 'missing',
      options:
        key === undefined
          ? null
          : {
              key: key.export({ type: 'pkcs8', format: 'pem' }),
              cert: [leaf, ...chain].map(String).join('\n'),
            },
    });
  }
  return identities;
}

/** Whether a file of the same name, but for its ending, holds a key: client.crt and client.key. */
function hasNamesake(materials: readonly Material[], source: string): boolean {
  const stem = (file: string) => basename(file, extname(file));
  return materials.some(
    (one) => one.source !== source && one.keys.length > 0 && stem(one.source) === stem(source),
  );
}

/** From the leaf up, as far as the certificates go. */
function issuersOf(leaf: X509Certificate, among: readonly X509Certificate[]): X509Certificate[] {
  const chain: X509Certificate[] = [];
  for (let at = leaf; ; ) {
    const known = new Set([leaf, ...chain].map(({ fingerprint256 }) => fingerprint256));
    const issuer = among.find(
      (one) => !known.has(one.fingerprint256) && at.checkIssued(one) && at.verify(one.publicKey),
    );
    if (issuer === undefined) return chain;
    chain.push(issuer);
    at = issuer;
  }
}

/**
 * Node opens PKCS#12 only into a TLS context, and says nothing of what it found. So the context
 * presents itself, as a server to a client in memory, and the certificates are read from there.
 */
async function readPkcs12(file: string, passphrase?: string): Promise<Identity> {
  const pfx = await readFile(file);
  const options = { pfx, ...(passphrase === undefined ? {} : { passphrase }) };
  const [ours, theirs] = memoryPair();
  const serving = accept(theirs, options);
  try {
    const [stream, served] = await Promise.all([
      connect({ transport: ours, rejectUnauthorized: false }),
      serving,
    ]);
    const [certificate, ...chain] = stream.peerCertificateChain;
    await Promise.all([stream.close(), served.close()]);
    if (certificate === undefined) throw new OptionError('no certificate');
    return { source: file, certificate, chain, key: 'present', options };
  } catch (cause) {
    ours.destroy();
    theirs.destroy();
    await serving.catch(() => undefined);
    throw new OptionError(`${file}: ${plainReason((cause as Error).message)}`, { cause });
  }
}
