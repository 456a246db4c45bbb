/**
 * A TLS peer whose handshake is Node's and whose records behind it are made by hand: padded, forged, cut, in any
 * order. Its key schedule is written here from the standards and shares nothing with the one under test.
 */
import { createCipheriv, createHmac } from 'node:crypto';
import type net from 'node:net';
import { Duplex } from 'node:stream';
import tls from 'node:tls';
import { expandLabel, uint, vector } from './cert-flight.ts';
import { pki } from './core-pki.ts';
import { until } from './core-scope.ts';
import { only, type Version } from './core-streams.ts';

export const ALERT = 21;
export const HANDSHAKE = 22;
export const DATA = 23;

const NOTHING: Buffer = Buffer.alloc(0);

/** The PRF of TLS 1.2 (RFC 5246 section 5), with SHA-256. */
function prf(secret: Buffer, label: string, seed: Buffer, length: number): Buffer {
  const hmac = (data: Buffer) => createHmac('sha256', secret).update(data).digest();
  const labelled = Buffer.concat([Buffer.from(label), seed]);
  let out: Buffer = NOTHING;
  for (let a = hmac(labelled); out.length < length; a = hmac(a)) {
    out = Buffer.concat([out, hmac(Buffer.concat([a, labelled]))]);
  }
  return out.subarray(0, length);
}

export interface CraftedOptions {
  /** What is to stand directly behind the peer's Finished, in one segment. Nothing of its engine's follows. */
  readonly behindFinished?: (peer: CraftedPeer) => Buffer;
  readonly tls?: tls.TlsOptions & tls.ConnectionOptions;
}

export class CraftedPeer {
  readonly role: 'client' | 'server';
  readonly version: Version;
  readonly wire: net.Socket;
  /** Data that the side under test sent. */
  received: Buffer = NOTHING;
  readonly #engine: tls.TLSSocket;
  readonly #behindFinished: ((peer: CraftedPeer) => Buffer) | undefined;
  #muted = false;
  #secure = false;
  /** Records of the engine's under its last keys. */
  #sequence = 0;
  #protects = false;
  #peerProtects = false;
  readonly #randoms: Record<'client' | 'server', Buffer> = { client: NOTHING, server: NOTHING };
  #secret = NOTHING;
  #key = NOTHING;
  #iv = NOTHING;

  constructor(
    role: 'client' | 'server',
    version: Version,
    wire: net.Socket,
    { behindFinished, tls: options = {} }: CraftedOptions = {},
  ) {
    this.role = role;
    this.version = version;
    this.wire = wire;
    this.#behindFinished = behindFinished;
    wire.setNoDelay();
    wire.on('error', () => {});
    const below = new Duplex({
      read() {},
      write: (chunk: Buffer, _encoding, done) => {
        this.#send(chunk);
        done();
      },
      final: (done) => done(),
    });
    wire.on('data', (chunk: Buffer) => {
      this.#scan(chunk, role === 'client' ? 'server' : 'client');
      below.push(chunk);
    });
    const suite =
      version === 'TLSv1.3' ? 'TLS_AES_128_GCM_SHA256' : 'ECDHE-ECDSA-AES128-GCM-SHA256';
    const common = { ...only(version), ciphers: suite, ...options };
    this.#engine =
      role === 'client'
        ? tls.connect({ socket: below as net.Socket, rejectUnauthorized: false, ...common })
        : new tls.TLSSocket(below, {
            isServer: true,
            secureContext: tls.createSecureContext({ ...pki().server, ...common }),
            ...options,
          });
    this.#engine.on('keylog', (line: Buffer) => this.#onSecret(line.toString()));
    this.#engine.on('error', () => {});
    this.#engine.on('data', (chunk: Buffer) => {
      this.received = Buffer.concat([this.received, chunk]);
    });
    this.#engine.once('secure', () => {
      this.#secure = true;
    });
  }

  /** Waits for the handshake. The engine says nothing more from then on. */
  async ready(): Promise<void> {
    const own = this.#behindFinished !== undefined;
    // A server of TLS 1.3 sends two tickets.
    const tickets = this.role === 'server' && this.version === 'TLSv1.3' ? 2 : 0;
    await until('secure', () => (own ? this.#muted : this.#secure && this.#sequence >= tickets));
    this.#muted = true;
  }

  destroy(): void {
    this.#engine.destroy();
    this.wire.destroy();
  }

  // ---- records

  /**
   * A record that is authentic.
   *
   * @param padding zeros, in TLS 1.3.
   * @param outer the ContentType in the header, in TLS 1.3.
   */
  record(type: number, content: Uint8Array, padding = 0, outer = DATA): Buffer {
    const sequence = Buffer.alloc(8);
    sequence.writeBigUInt64BE(BigInt(this.#sequence++));
    if (this.version === 'TLSv1.3') {
      const inner = Buffer.concat([content, uint(1, type), Buffer.alloc(padding)]);
      const nonce = Buffer.from(this.#iv);
      for (let i = 0; i < 8; i++) nonce[4 + i] = nonce[4 + i]! ^ sequence[i]!;
      const header = Buffer.concat([Buffer.of(outer, 3, 3), uint(2, inner.length + 16)]);
      return Buffer.concat([header, this.#seal(nonce, header, inner)]);
    }
    const nonce = Buffer.concat([this.#iv, sequence]);
    const aad = Buffer.concat([sequence, Buffer.of(type, 3, 3), uint(2, content.length)]);
    const body = Buffer.concat([sequence, this.#seal(nonce, aad, content)]);
    return Buffer.concat([Buffer.of(type, 3, 3), vector(2, body)]);
  }

  #seal(nonce: Buffer, aad: Buffer, content: Uint8Array): Buffer {
    const cipher = createCipheriv('aes-128-gcm', this.#key, nonce).setAAD(aad);
    const sealed = Buffer.concat([cipher.update(content), cipher.final()]);
    return Buffer.concat([sealed, cipher.getAuthTag()]);
  }

  data(text: string, padding = 0): Buffer {
    return this.record(DATA, Buffer.from(text), padding);
  }

  alert(level: number, description: number, padding = 0): Buffer {
    return this.record(ALERT, Buffer.of(level, description), padding);
  }

  closeNotify(padding = 0): Buffer {
    return this.alert(1, 0, padding);
  }

  /** TLS 1.3 only. The records behind it are under the next keys. */
  keyUpdate(request = 0, padding = 0): Buffer {
    const record = this.record(HANDSHAKE, Buffer.of(24, 0, 0, 1, request), padding);
    this.#useSecret(expandLabel(this.#secret, 'traffic upd', NOTHING, 32));
    return record;
  }

  // ---- the engine

  #send(chunk: Buffer): void {
    if (this.#muted) return;
    const finished = this.#scan(chunk, this.role);
    if (finished && this.#behindFinished !== undefined) {
      this.#muted = true;
      this.#sequence = this.version === 'TLSv1.3' ? 0 : 1;
      this.wire.write(Buffer.concat([chunk, this.#behindFinished(this)]));
    } else {
      this.wire.write(chunk);
    }
  }

  /** Follows the engine's flights, which it writes whole. @returns whether the last of a handshake is there. */
  #scan(chunk: Buffer, from: 'client' | 'server'): boolean {
    const own = from === this.role;
    let finished = false;
    for (let at = 0; at + 5 <= chunk.length; at += 5 + chunk.readUInt16BE(at + 3)) {
      const type = chunk[at];
      if (type === HANDSHAKE && this.#randoms[from].length === 0) {
        this.#randoms[from] = Buffer.from(chunk.subarray(at + 11, at + 43));
      }
      if (this.version === 'TLSv1.3') {
        const behind = this.role === 'server' ? this.#peerProtects : this.#protects;
        if (own && type === DATA && behind) this.#sequence++;
        if (type === DATA) {
          if (own) this.#protects = true;
          else this.#peerProtects = true;
        }
        finished ||= own && type === DATA;
      } else if (own) {
        if (this.#protects) this.#sequence++;
        if (type === 20) this.#protects = true;
        finished ||= type === 20;
      }
    }
    return finished;
  }

  #onSecret(line: string): void {
    const [label, , secret] = line.trim().split(' ') as [string, string, string];
    if (label === `${this.role.toUpperCase()}_TRAFFIC_SECRET_0`) {
      this.#useSecret(Buffer.from(secret, 'hex'));
    }
    if (label !== 'CLIENT_RANDOM') return;
    const seed = Buffer.concat([this.#randoms.server, this.#randoms.client]);
    const block = prf(Buffer.from(secret, 'hex'), 'key expansion', seed, 40);
    const nth = this.role === 'client' ? 0 : 1;
    this.#key = block.subarray(16 * nth, 16 * nth + 16);
    this.#iv = block.subarray(32 + 4 * nth, 36 + 4 * nth);
  }

  #useSecret(secret: Buffer): void {
    const renewed = this.#secret.length > 0;
    this.#secret = secret;
    this.#key = expandLabel(secret, 'key', NOTHING, 16);
    this.#iv = expandLabel(secret, 'iv', NOTHING, 12);
    if (renewed) this.#sequence = 0;
  }
}
