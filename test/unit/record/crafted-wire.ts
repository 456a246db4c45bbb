/**
 * A connection in memory that a reader is shown: both sides' handshakes and records, made by hand, without an engine
 * and without a socket. So a test says in what order each byte and each secret comes.
 *
 * TLS 1.3 with TLS_AES_128_GCM_SHA256, TLS 1.2 with ECDHE_ECDSA_WITH_AES_128_GCM_SHA256. The reader looks at no
 * signature and no verify_data, so a handshake here has none that are true.
 */
import { createCipheriv } from 'node:crypto';
import { AlertReader, type EndingAlert } from '../../../src/record/alert-reader.ts';
import type { Sender } from '../../../src/record/decoder.ts';
import {
  connectionKeys12,
  type DirectionKeys,
  nextTrafficSecret,
  trafficKeys13,
} from '../../../src/record/keys.ts';
import { type Suite, suiteOf } from '../../../src/record/suite.ts';
import type { Version } from '../../support/core-streams.ts';

export const CHANGE_CIPHER_SPEC = 20;
export const ALERT = 21;
export const HANDSHAKE = 22;
export const DATA = 23;

const SUITES = {
  'TLSv1.2': { code: 0xc02b, suite: suiteOf('TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256') },
  'TLSv1.3': { code: 0x1301, suite: suiteOf('TLS_AES_128_GCM_SHA256') },
} as const;

/** A handshake message. */
export const message = (type: number, ...body: readonly number[]): Buffer =>
  Buffer.from([type, 0, body.length >> 8, body.length & 255, ...body]);

export const clear = (type: number, content: Uint8Array | readonly number[]): Buffer =>
  Buffer.from([type, 3, 3, content.length >> 8, content.length & 255, ...content]);

/** What one side says: its records under the keys that it has come to. */
class Speaker {
  readonly #suite: Suite;
  readonly #tls13: boolean;
  #keys: DirectionKeys | null = null;
  #secret: Uint8Array | null = null;
  #sequence = 0;

  constructor(suite: Suite, tls13: boolean) {
    this.#suite = suite;
    this.#tls13 = tls13;
  }

  useSecret(secret: Uint8Array): void {
    this.#secret = secret;
    this.useKeys(trafficKeys13(this.#suite, secret));
  }

  useKeys(keys: DirectionKeys): void {
    this.#keys = keys;
    this.#sequence = 0;
  }

  /** A record; in the clear where there are no keys yet. @param version of its header, 0x0303 by default. */
  record(type: number, content: Uint8Array | readonly number[], padding = 0, version = 3): Buffer {
    const keys = this.#keys;
    if (keys === null) return clear(type, content);
    const sequence = Buffer.alloc(8);
    sequence.writeBigUInt64BE(BigInt(this.#sequence++));
    const header = (outer: number, length: number) =>
      Buffer.of(outer, 3, version, length >> 8, length & 255);
    if (this.#tls13) {
      const inner = Buffer.concat([Buffer.from(content), Buffer.of(type), Buffer.alloc(padding)]);
      const nonce = Buffer.from(keys.iv);
      for (let i = 0; i < 8; i++) nonce[4 + i]! ^= sequence[i]!;
      const aad = header(DATA, inner.length + 16);
      return Buffer.concat([aad, seal(keys.key, nonce, aad, inner)]);
    }
    const aad = Buffer.concat([sequence, header(type, content.length)]);
    const body = seal(keys.key, Buffer.concat([keys.iv, sequence]), aad, Buffer.from(content));
    return Buffer.concat([header(type, 8 + body.length), sequence, body]);
  }

  data(text = 'x'): Buffer {
    return this.record(DATA, Buffer.from(text));
  }

  alert(level: number, description: number, padding = 0): Buffer {
    return this.record(ALERT, [level, description], padding);
  }

  closeNotify(padding = 0): Buffer {
    return this.alert(1, 0, padding);
  }

  /** Under the next keys from here on. */
  updateKeys(): void {
    this.useSecret(nextTrafficSecret(this.#suite, this.#secret as Uint8Array));
  }

  /** @param behind what else is in its record. */
  keyUpdate(request = 0, behind: readonly number[] = []): Buffer {
    const record = this.record(HANDSHAKE, [...message(24, request), ...behind]);
    this.updateKeys();
    return record;
  }
}

function seal(key: Uint8Array, nonce: Uint8Array, aad: Uint8Array, content: Uint8Array): Buffer {
  const cipher = createCipheriv('aes-128-gcm', key, nonce).setAAD(aad);
  return Buffer.concat([cipher.update(content), cipher.final(), cipher.getAuthTag()]);
}

/** Twelve bytes that no hello has, and others by their number. */
const filled = (length: number, byte: number): Buffer => Buffer.alloc(length, byte);

export const FINISHED = message(20, ...filled(32, 1));
export const FINISHED12 = message(20, ...filled(12, 1));

/** How far a handshake goes by itself. */
export type Stop = 'ClientHello' | 'ServerHello' | "the server's Finished" | 'the end';

/** A connection, as the reader of the side `role` sees it. */
export class CraftedWire {
  readonly role: Sender;
  readonly version: Version;
  readonly reader: AlertReader;
  readonly received: EndingAlert[] = [];
  readonly sent: Array<{ readonly alert: EndingAlert; readonly end: number }> = [];
  /** Whether a warning came before what was received. */
  warned: boolean | null = null;
  readonly client: Speaker;
  readonly server: Speaker;
  /** The random of the ClientHello that counts. */
  #random: Buffer = filled(32, 0xc1);

  constructor(role: Sender, version: Version) {
    this.role = role;
    this.version = version;
    const suite = SUITES[version].suite as Suite;
    this.client = new Speaker(suite, version === 'TLSv1.3');
    this.server = new Speaker(suite, version === 'TLSv1.3');
    this.reader = new AlertReader(role, {
      onReceived: (alert, warned) => {
        this.received.push(alert);
        this.warned = warned;
      },
      onSent: (alert, end) => this.sent.push({ alert, end }),
    });
  }

  /** The other side: what it says is received. */
  get peer(): Speaker {
    return this.role === 'client' ? this.server : this.client;
  }

  get own(): Speaker {
    return this.role === 'client' ? this.client : this.server;
  }

  /** The peer says these bytes. @param data what the engine gives for each of their records. */
  hear(bytes: Uint8Array, data = 0): this {
    for (let rest = bytes; rest.length > 0; ) {
      rest = rest.subarray(this.reader.received(rest));
      this.reader.given(data);
    }
    return this;
  }

  /** This side says them. */
  say(bytes: Uint8Array): this {
    this.reader.sending(bytes);
    return this;
  }

  says(who: Sender, bytes: Uint8Array): this {
    return who === this.role ? this.say(bytes) : this.hear(bytes);
  }

  secret(label: string, secret: Uint8Array): this {
    const line = `${label} ${this.#random.toString('hex')} ${Buffer.from(secret).toString('hex')}\n`;
    this.reader.secret(Buffer.from(line));
    return this;
  }

  clientHello(random = 0xc1): Buffer {
    this.#random = filled(32, random);
    return this.client.record(HANDSHAKE, message(1, 3, 3, ...this.#random, 0, 0));
  }

  /** @param code of the suite. */
  serverHello(
    random: Uint8Array = filled(32, 0x5e),
    code: number = SUITES[this.version].code,
  ): Buffer {
    const extensions = this.version === 'TLSv1.3' ? [0, 6, 0, 43, 0, 2, 3, 4] : [0, 0];
    const body = [3, 3, ...random, 0, code >> 8, code & 255, 0, ...extensions];
    return this.server.record(HANDSHAKE, message(2, ...body));
  }

  /** A handshake, up to here. */
  handshake(stop: Stop = 'the end'): this {
    this.says('client', this.clientHello());
    if (stop === 'ClientHello') return this;
    return this.version === 'TLSv1.3' ? this.#handshake13(stop) : this.#handshake12(stop);
  }

  #handshake13(stop: Stop): this {
    const secrets = { client: filled(32, 1), server: filled(32, 2) };
    this.says('server', this.serverHello());
    for (const who of ['server', 'client'] as const) {
      this.secret(`${who.toUpperCase()}_HANDSHAKE_TRAFFIC_SECRET`, secrets[who]);
      this[who].useSecret(secrets[who]);
    }
    if (stop === 'ServerHello') return this;
    this.finish13('server');
    return stop === 'the end' ? this.finish13('client') : this;
  }

  /** A side's Finished. @param behind what else is in its record. */
  finish13(who: Sender, behind: readonly number[] = []): this {
    const secret = filled(32, who === 'client' ? 3 : 4);
    this.says(who, this[who].record(HANDSHAKE, [...FINISHED, ...behind]));
    this.secret(`${who.toUpperCase()}_TRAFFIC_SECRET_0`, secret);
    this[who].useSecret(secret);
    return this;
  }

  #handshake12(stop: Stop): this {
    this.negotiate12(filled(32, 0x5e));
    if (stop === 'ServerHello') return this;
    // The server of a resumed session finishes first; the reader does not ask which it is.
    this.finish12('server');
    return stop === 'the end' ? this.finish12('client') : this;
  }

  /** A ServerHello, and the keys of the handshake that is going on. */
  negotiate12(random: Buffer): this {
    const master = filled(48, random[0] as number);
    this.says('server', this.serverHello(random));
    this.secret('CLIENT_RANDOM', master);
    const suite = SUITES['TLSv1.2'].suite as Suite;
    this.#next = connectionKeys12(suite, master, this.#random, random);
    return this;
  }

  #next: Readonly<Record<Sender, DirectionKeys>> | null = null;

  changeCipherSpec12(who: Sender): this {
    this.says(who, this[who].record(CHANGE_CIPHER_SPEC, [1]));
    this[who].useKeys((this.#next as Readonly<Record<Sender, DirectionKeys>>)[who]);
    return this;
  }

  finish12(who: Sender): this {
    this.changeCipherSpec12(who);
    return this.says(who, this[who].record(HANDSHAKE, FINISHED12));
  }
}
