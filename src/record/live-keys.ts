/**
 * The keys of one live connection: what its hellos agreed on, and the secrets of its key log until they are used.
 * Secrets are overwritten as soon as nothing more can be made of them.
 */
import type { Sender } from './decoder.ts';
import { type Hello, parseServerHello } from './handshake.ts';
import {
  connectionKeys12,
  type DirectionKeys,
  nextTrafficSecret,
  trafficKeys13,
  wipeKeys,
} from './keys.ts';
import { type Suite, suiteOf } from './suite.ts';
import { SUITE_NAMES } from './suite-names.ts';
import { Unprotector } from './unprotect.ts';

/** ProtocolVersion. */
export const TLS12 = 0x0303;
export const TLS13 = 0x0304;

const ENCRYPT_THEN_MAC = 22;

/** The label of a TLS 1.2 master secret. */
export const MASTER = 'CLIENT_RANDOM';

/** The labels of secrets that records are protected with. */
const LABELS =
  /^(?:CLIENT_RANDOM|(?:CLIENT|SERVER)_(?:HANDSHAKE_TRAFFIC_SECRET|TRAFFIC_SECRET_0))$/;

/** What the records of a direction are protected with. */
export interface Protection {
  readonly unprotector: Unprotector;
  /** The traffic secret (TLS 1.3), of which the next one is made; null in TLS 1.2. */
  readonly secret: Uint8Array | null;
}

export class LiveKeys {
  /** The newest ClientHello's random. */
  #clientRandom: Uint8Array | null = null;
  /** The same as the key log has it, which names the connection by it. */
  #name = '';
  #hello: Hello | null = null;
  #suite: Suite | null = null;
  /** By label: those of `#clientRandom` that no direction has begun to use. */
  readonly #secrets = new Map<string, Uint8Array>();
  /** Those of a master secret that is not kept any more. */
  #keys12: Partial<Record<Sender, DirectionKeys>> = {};

  /** Whether a ServerHello has come, a HelloRetryRequest included. */
  get answered(): boolean {
    return this.#hello !== null;
  }

  get tls13(): boolean {
    return this.#hello?.version === TLS13;
  }

  /** Bytes by which a protected record is longer than its content, in TLS 1.3. */
  get tagLength(): number {
    return this.#suite?.kind === 'aead' ? this.#suite.tagLength : 0;
  }

  /**
   * A ClientHello.
   *
   * @param random its random.
   * @returns whether a handshake begins with it: the second one behind a HelloRetryRequest has the same random (RFC
   *   9846 section 4.1.2).
   */
  clientHello(random: Uint8Array): boolean {
    const name = Buffer.from(random).toString('hex');
    if (this.#name === name) return false;
    this.#clientRandom = random;
    this.#name = name;
    // Those of a handshake before it. The keys in use are kept by their directions.
    this.forget();
    return true;
  }

  /**
   * A ServerHello.
   *
   * @returns whether keys are made of it: not of a HelloRetryRequest.
   * @throws {MalformedError} for one that is none, {Error} for one whose connection cannot be read.
   */
  serverHello(body: Uint8Array): boolean {
    const hello = parseServerHello(body);
    if (hello.version !== TLS12 && hello.version !== TLS13) {
      throw new Error(`a version that is not read: 0x${hello.version.toString(16)}`);
    }
    const suite = suiteOf(SUITE_NAMES.get(hello.cipherSuite) ?? '');
    if (suite === null) {
      throw new Error(`a cipher suite that is not read: 0x${hello.cipherSuite.toString(16)}`);
    }
    this.#hello = hello;
    this.#suite = suite;
    return !hello.retry;
  }

  /** A line of the key log (RFC 9850); those of other connections and other labels are not kept. */
  addSecret(line: Uint8Array): void {
    const text = Buffer.from(line.buffer, line.byteOffset, line.length);
    const at = text.indexOf(' ');
    const label = text.toString('latin1', 0, at);
    if (!LABELS.test(label)) return;
    if (text.toString('latin1', at + 1, at + 65).toLowerCase() !== this.#name) return;
    this.#secrets.get(label)?.fill(0);
    this.#secrets.set(label, unhex(text.subarray(at + 66)));
  }

  /**
   * Takes what `sender` protects its records with from a change of keys on.
   *
   * @param label of the secret in the key log.
   * @returns null where it is not known yet.
   */
  take(label: string, sender: Sender): Protection | null {
    const suite = this.#suite;
    if (suite === null) return null;
    if (label === MASTER) return this.#take12(suite, sender);
    const secret = this.#secrets.get(label);
    if (secret === undefined) return null;
    this.#secrets.delete(label);
    return { unprotector: new Unprotector(trafficKeys13(suite, secret), true), secret };
  }

  #take12(suite: Suite, sender: Sender): Protection | null {
    const hello = this.#hello as Hello;
    const master = this.#secrets.get(MASTER);
    if (master !== undefined) {
      const random = this.#clientRandom as Uint8Array;
      this.#keys12 = connectionKeys12(suite, master, random, hello.random);
      this.#secrets.delete(MASTER);
      master.fill(0);
    }
    const keys = this.#keys12[sender];
    if (keys === undefined) return null;
    delete this.#keys12[sender];
    const macAfter = hello.extensions.has(ENCRYPT_THEN_MAC);
    return { unprotector: new Unprotector(keys, false, macAfter), secret: null };
  }

  /** What a direction protects its records with after a KeyUpdate. */
  next(secret: Uint8Array): Protection {
    const suite = this.#suite as Suite;
    const next = nextTrafficSecret(suite, secret);
    return { unprotector: new Unprotector(trafficKeys13(suite, next), true), secret: next };
  }

  /** Overwrites the secrets that no direction uses. */
  forget(): void {
    for (const secret of this.#secrets.values()) secret.fill(0);
    this.#secrets.clear();
    for (const keys of Object.values(this.#keys12)) wipeKeys(keys);
    this.#keys12 = {};
  }
}

/** The bytes that hexadecimal digits in ASCII stand for, up to what is none. No text is made of them. */
function unhex(digits: Uint8Array): Uint8Array {
  let length = 0;
  while (nibble(digits[length]) >= 0) length++;
  return Uint8Array.from({ length: length >> 1 }, (_, i) => {
    return nibble(digits[2 * i]) * 16 + nibble(digits[2 * i + 1]);
  });
}

function nibble(digit = 0): number {
  if (digit >= 0x30 && digit <= 0x39) return digit - 0x30;
  const letter = digit | 0x20;
  return letter >= 0x61 && letter <= 0x66 ? letter - 0x57 : -1;
}
