/**
 * A TLS peer, server or client, whose records behind the handshake are made by hand: any content, any
 * padding, any alert, forged, in the clear, in any segments, with any ending of the transport.
 *
 * Theory of operation. node:tls does the handshake, on a Duplex that passes its bytes to the wire up to
 * and with its Finished; from then on what it says is dropped. So the keys of our direction, which the key
 * log gives, have protected no record yet in TLS 1.3, and one (Finished) in TLS 1.2: the sequence number
 * is known. What the other side sends is read by a WireReader: `heard` is what truly crossed.
 *
 * With `hold` our last flight, which ends with Finished, is kept back and goes out in one piece with the
 * first records that are sent: so an alert can come in the segment of Finished, and a TLS 1.2 client can
 * send data before the server's Finished (RFC 7918, False Start).
 */
import { type CipherGCMTypes, createCipheriv } from 'node:crypto';
import type net from 'node:net';
import { Duplex } from 'node:stream';
import tls from 'node:tls';
import {
  connectionKeys12,
  nextTrafficSecret,
  parseKeyLogLine,
  trafficKeys13,
} from '../../../src/record/keys.ts';
import { type Aead, suiteOf } from '../../../src/record/suite.ts';
import { type Crossed, type Sender, WireReader } from './wire-reader.ts';

export type Version = 'TLSv1.2' | 'TLSv1.3';

export interface CraftedOptions {
  readonly role: Sender;
  readonly version: Version;
  /** PEM; a server has to have one, with an ECDSA key. */
  readonly identity?: { readonly key: string; readonly cert: string } | undefined;
  readonly servername?: string | undefined;
  readonly alpn?: readonly string[] | undefined;
  /** Keep our last flight back until something is sent. */
  readonly hold?: boolean | undefined;
}

const SUITES = {
  'TLSv1.2': ['ECDHE-ECDSA-AES128-GCM-SHA256', 'TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256'],
  'TLSv1.3': ['TLS_AES_128_GCM_SHA256', 'TLS_AES_128_GCM_SHA256'],
} as const;

/** ContentType. */
const ALERT = 21;
const HANDSHAKE = 22;
const DATA = 23;

/** A turn of the event loop, I/O included. */
export const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

export class CraftedPeer {
  readonly role: Sender;
  readonly version: Version;
  /** Fulfilled when records can be sent; rejected when the other side goes before. */
  readonly ready: Promise<void>;
  /** What the other side sent, behind the hellos. */
  readonly heard: Crossed[] = [];
  /** How the other side's direction of the transport ended. */
  transportEnd: 'eof' | 'reset' | 'closed' | null = null;
  /** What we sent, in order, as whoever has the keys reads it. */
  readonly said: Crossed[] = [];

  readonly #wire: net.Socket;
  readonly #engine: tls.TLSSocket;
  readonly #reader: WireReader;
  readonly #suite: Aead;
  readonly #hold: boolean;
  readonly #waiting: Array<() => void> = [];
  #secure = false;
  /** Bytes of our last flight that are kept back. */
  #held: Buffer[] = [];
  /** Whether our Finished has been passed on, or kept back. */
  #finished = false;
  #out = Buffer.alloc(0);
  #changed = false;
  #othersProtected = false;
  #secret: Uint8Array | null = null;
  #keys: { key: Uint8Array; iv: Uint8Array } | null = null;
  #sequence = 0n;
  #clientRandom: Buffer | null = null;
  #serverRandom: Buffer | null = null;

  /** @param wire a connected socket, with allowHalfOpen for endings of one direction. */
  constructor(wire: net.Socket, options: CraftedOptions) {
    const { role, version, identity, servername, alpn, hold = false } = options;
    this.role = role;
    this.version = version;
    this.#wire = wire;
    this.#hold = hold;
    const [ciphers, name] = SUITES[version];
    this.#suite = suiteOf(name) as Aead;
    const other: Sender = role === 'client' ? 'server' : 'client';
    this.#reader = new WireReader((sender, crossed) => {
      (sender === other ? this.heard : this.said).push(crossed);
      this.#poke();
    });
    const transport = new Duplex({
      read() {},
      write: (chunk: Buffer, _encoding, done) => {
        this.#say(chunk);
        done();
      },
      final: (done) => done(),
    });
    wire.setNoDelay?.(true);
    wire.on('data', (bytes) => {
      if (this.transportEnd !== null) return;
      this.#listen(bytes);
      this.#reader.push(other, bytes);
      if (!this.#secure) transport.push(bytes);
      this.#poke();
    });
    wire.on('end', () => this.#ended('eof'));
    wire.on('error', () => this.#ended('reset'));
    wire.on('close', () => this.#ended('closed'));
    const common = {
      minVersion: version,
      maxVersion: version,
      ciphers,
      ...(alpn === undefined ? {} : { ALPNProtocols: [...alpn] }),
    };
    this.#engine =
      role === 'server'
        ? new tls.TLSSocket(transport, { isServer: true, ...identity, ...common })
        : tls.connect({
            socket: transport,
            rejectUnauthorized: false,
            ...(servername === undefined ? {} : { servername }),
            ...identity,
            ...common,
          });
    this.#engine.on('keylog', (line: Buffer) => {
      this.#reader.addKeyLog(line);
      const entry = parseKeyLogLine(String(line));
      const ours = `${role.toUpperCase()}_TRAFFIC_SECRET_0`;
      if (entry?.label === 'CLIENT_RANDOM' || entry?.label === ours) this.#secret = entry.secret;
      this.#poke();
    });
    this.#engine.on('error', () => {});
    this.#engine.once(role === 'server' ? 'secure' : 'secureConnect', () => {
      this.#secure = true;
      this.#poke();
    });
    const isReady = () => {
      if (this.#secret === null || !this.#finished) return false;
      return hold ? this.#held.length > 0 : this.#secure;
    };
    this.ready = this.until(() => isReady() || this.transportEnd !== null).then(() => {
      if (!isReady()) throw new Error(`no handshake, but ${this.transportEnd}`);
      this.#takeOver();
    });
    this.ready.catch(() => {});
  }

  // ---- records

  /** A record of application data, or of so many bytes 'x'; padded in TLS 1.3. */
  data(content: string | Uint8Array | number, padding = 0): Buffer {
    const bytes = typeof content === 'number' ? Buffer.alloc(content, 'x') : Buffer.from(content);
    return this.record(DATA, bytes, padding);
  }

  alert(level: number, description: number, padding = 0): Buffer {
    return this.record(ALERT, Buffer.of(level, description), padding);
  }

  closeNotify(padding = 0): Buffer {
    return this.alert(1, 0, padding);
  }

  userCanceled(padding = 0): Buffer {
    return this.alert(1, 90, padding);
  }

  /**
   * KeyUpdate (RFC 9846 section 4.7.3), and our next key; `requested`: the peer is to send one, too.
   *
   * @param behind what else is to be in its record, where nothing may be.
   */
  keyUpdate(requested = false, behind: Uint8Array = new Uint8Array(0)): Buffer {
    const message = Buffer.of(24, 0, 0, 1, requested ? 1 : 0);
    const record = this.record(HANDSHAKE, Buffer.concat([message, behind]));
    this.#secret = nextTrafficSecret(this.#suite, this.#secret!);
    this.#keys = trafficKeys13(this.#suite, this.#secret);
    this.#sequence = 0n;
    return record;
  }

  /** A NewSessionTicket of TLS 1.3 (RFC 9846 section 4.7.1) that resumes nothing. */
  ticket(): Buffer {
    const body = Buffer.concat([
      // ticket_lifetime, ticket_age_add, ticket_nonce, ticket, extensions.
      Buffer.from([0, 0, 28, 32, 1, 2, 3, 4, 8, 0, 0, 0, 0, 0, 0, 0, 9, 0, 16]),
      Buffer.alloc(16, 7),
      Buffer.of(0, 0),
    ]);
    return this.record(HANDSHAKE, Buffer.concat([Buffer.of(4, 0, 0, body.length), body]));
  }

  /** A protected record of any ContentType. */
  record(type: number, content: Uint8Array, padding = 0): Buffer {
    const { key, iv } = this.#keys!;
    const sequence = Buffer.alloc(8);
    sequence.writeBigUInt64BE(this.#sequence++);
    if (this.version === 'TLSv1.3') {
      const inner = Buffer.concat([content, Buffer.of(type), Buffer.alloc(padding)]);
      const header = headerOf(DATA, inner.length + 16);
      const nonce = Buffer.from(iv);
      for (let i = 0; i < 8; i++) nonce[4 + i] = nonce[4 + i]! ^ sequence[i]!;
      return Buffer.concat([header, seal(key, nonce, header, inner)]);
    }
    // The explicit part of the nonce is the sender's choice (RFC 5288 section 3).
    const explicit = Buffer.from(sequence);
    explicit[0] = 0xab;
    const aad = Buffer.concat([sequence, headerOf(type, content.length)]);
    const body = seal(key, Buffer.concat([iv, explicit]), aad, content);
    return Buffer.concat([headerOf(type, 8 + body.length), explicit, body]);
  }

  // ---- the transport

  /** Sends these bytes in one piece. */
  send(...bytes: readonly Uint8Array[]): void {
    const all = Buffer.concat([...this.#held.splice(0), ...bytes]);
    if (all.length > 0) this.#write(all);
  }

  #write(bytes: Buffer): void {
    if (this.#wire.destroyed || this.#wire.writableEnded) return;
    this.#wire.write(bytes);
    this.#reader.push(this.role, bytes);
  }

  /** Sends them in pieces of these sizes, the last size over and over, each in a turn of its own. */
  async sendSplit(sizes: readonly number[], ...bytes: readonly Uint8Array[]): Promise<void> {
    const all = Buffer.concat(bytes);
    for (let at = 0, i = 0; at < all.length; i++) {
      const size = sizes[Math.min(i, sizes.length - 1)]!;
      this.send(all.subarray(at, at + size));
      at += size;
      await turn();
      await turn();
    }
  }

  /** FIN behind these bytes, with them in one segment where there are some. */
  fin(...bytes: readonly Uint8Array[]): void {
    this.#wire.cork();
    this.send(...bytes);
    this.#wire.end();
    this.#wire.uncork();
  }

  /** RST, in place of whatever the kernel had not passed on yet. */
  reset(): void {
    this.#wire.resetAndDestroy();
  }

  /** Lets everything go. */
  destroy(): void {
    this.#engine.destroy();
    this.#wire.destroy();
  }

  get wire(): net.Socket {
    return this.#wire;
  }

  /** The data that the other side has sent so far. */
  get received(): Buffer {
    return Buffer.concat(this.heard.flatMap((one) => (one.kind === 'data' ? [one.bytes] : [])));
  }

  /** The alerts that the other side sent under its traffic keys, as 'level/description'. */
  get heardAlerts(): string[] {
    return alertsOf(this.heard);
  }

  /** Fulfilled when `holds` is true, which is asked whenever something has come in. */
  async until(holds: () => boolean): Promise<void> {
    while (!holds()) await new Promise<void>((resolve) => this.#waiting.push(resolve));
  }

  // ---- the handshake

  #poke(): void {
    for (const go of this.#waiting.splice(0)) go();
  }

  #ended(how: 'eof' | 'reset' | 'closed'): void {
    this.transportEnd ??= how;
    this.#poke();
  }

  /** Bytes of the other side. */
  #listen(bytes: Buffer): void {
    if (this.role === 'client') this.#serverRandom ??= randomOf(bytes, 2);
    else this.#clientRandom ??= randomOf(bytes, 1);
    // In TLS 1.3 the first protected record of a client without a certificate is its Finished. What
    // node:tls says behind that are tickets, under the keys that are to be ours.
    if (this.role === 'client' || this.version !== 'TLSv1.3' || this.#othersProtected) return;
    for (let at = 0; at + 5 <= bytes.length; at += 5 + bytes.readUInt16BE(at + 3)) {
      if (bytes[at] === DATA) this.#othersProtected = true;
    }
  }

  /** Bytes of node:tls: passed on up to its Finished. */
  #say(chunk: Buffer): void {
    if (this.role === 'client') this.#clientRandom ??= randomOf(chunk, 1);
    else this.#serverRandom ??= randomOf(chunk, 2);
    if (this.role === 'server' && this.version === 'TLSv1.3') {
      if (this.#othersProtected) return;
      this.#finished ||= this.#secret !== null;
      this.#pass(chunk, this.#finished);
      return;
    }
    if (this.#finished) return;
    this.#out = Buffer.concat([this.#out, chunk]);
    while (this.#out.length >= 5 && !this.#finished) {
      const length = 5 + this.#out.readUInt16BE(3);
      if (this.#out.length < length) break;
      const record = this.#out.subarray(0, length);
      this.#out = this.#out.subarray(length);
      const type = record[0];
      this.#finished = this.version === 'TLSv1.3' ? type === DATA : this.#changed && type === 22;
      if (type === 20) this.#changed = true;
      this.#pass(record, this.#finished || (this.version === 'TLSv1.2' && this.#changed));
    }
    this.#poke();
  }

  #pass(bytes: Buffer, last: boolean): void {
    if (this.#hold && last) this.#held.push(Buffer.from(bytes));
    else this.#write(bytes);
    this.#poke();
  }

  #takeOver(): void {
    const secret = this.#secret!;
    if (this.version === 'TLSv1.3') {
      this.#keys = trafficKeys13(this.#suite, secret);
      return;
    }
    const randoms = [this.#clientRandom!, this.#serverRandom!] as const;
    this.#keys = connectionKeys12(this.#suite, secret, ...randoms)[this.role];
    this.#sequence = 1n;
  }
}

/** The alerts under traffic keys, as 'level/description'. */
export const alertsOf = (crossed: readonly Crossed[]): string[] =>
  crossed.flatMap((one) =>
    one.kind === 'alert' && one.protectedBy === 'traffic'
      ? [`${one.level}/${one.description}`]
      : [],
  );

/** The record with its last bit changed: no key has made it. */
export function forged(record: Buffer): Buffer {
  const copy = Buffer.from(record);
  copy[copy.length - 1] = copy[copy.length - 1]! ^ 1;
  return copy;
}

/** A record in the clear. */
export function plaintext(type: number, content: Uint8Array): Buffer {
  return Buffer.concat([headerOf(type, content.length), content]);
}

const headerOf = (type: number, length: number): Buffer =>
  Buffer.of(type, 3, 3, length >> 8, length & 255);

function seal(key: Uint8Array, nonce: Uint8Array, aad: Uint8Array, content: Uint8Array): Buffer {
  const cipher = createCipheriv('aes-128-gcm' satisfies CipherGCMTypes, key, nonce);
  cipher.setAAD(aad);
  return Buffer.concat([cipher.update(content), cipher.final(), cipher.getAuthTag()]);
}

/** The random of a hello that the bytes begin with. */
function randomOf(bytes: Buffer, handshakeType: number): Buffer | null {
  return bytes[0] === 22 && bytes[5] === handshakeType ? Buffer.from(bytes.subarray(11, 43)) : null;
}
