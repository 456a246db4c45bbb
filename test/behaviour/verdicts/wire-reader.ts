/**
 * Reads what crosses the wire of a connection, with the key log of one of its parties: what the tests
 * hold a verdict against.
 *
 * Theory of operation. It takes the bytes of both directions, in any pieces, and the lines of a key log,
 * in any order, and tells each record in the clear. A direction waits where the key of its next record is
 * not known yet. It shares with the code under test how keys are derived (src/record/keys.ts) and nothing
 * more: framing, decryption and the order of keys are written here again, so that a fault there is none
 * here. It knows the AEAD suites of TLS 1.2 and 1.3, KeyUpdate, renegotiation and resumption.
 *
 * TLS 1.3: RFC 9846 sections 4.1.3, 5.2, 7.2. TLS 1.2: RFC 5246 sections 6.2 and 7.1.
 */
import { type CipherGCMTypes, createDecipheriv } from 'node:crypto';
import {
  connectionKeys12,
  nextTrafficSecret,
  parseKeyLogLine,
  trafficKeys13,
} from '../../../src/record/keys.ts';
import { type Aead, suiteOf } from '../../../src/record/suite.ts';
import { SUITE_NAMES } from '../../../src/record/suite-names.ts';

export type Sender = 'client' | 'server';

/** Something that crossed. `protectedBy` says which keys it was under: null, in the clear. */
export type Crossed = { readonly protectedBy: 'handshake' | 'traffic' | null } & (
  | { readonly kind: 'alert'; readonly level: number; readonly description: number }
  | { readonly kind: 'data'; readonly bytes: Buffer }
  /** HandshakeType. */
  | { readonly kind: 'handshake'; readonly type: number }
  /** ContentType of a record of another kind, change_cipher_spec among them. */
  | { readonly kind: 'other'; readonly type: number }
  /** A record that no key of the connection has made; nothing is read behind it. */
  | { readonly kind: 'unreadable' }
);

interface Opener {
  readonly under: 'handshake' | 'traffic';
  readonly open: (header: Buffer, body: Buffer) => { type: number; content: Buffer } | null;
}

interface Direction {
  waiting: Buffer;
  /** Makes the opener of the records from here on; null while they are in the clear. */
  expected: (() => Opener | null) | null;
  opener: Opener | null;
  /** TLS 1.3: the traffic secret in use. */
  secret: Uint8Array | null;
  handshake: Buffer;
  dead: boolean;
}

const direction = (): Direction => ({
  waiting: Buffer.alloc(0),
  expected: null,
  opener: null,
  secret: null,
  handshake: Buffer.alloc(0),
  dead: false,
});

export class WireReader {
  readonly #tell: (sender: Sender, crossed: Crossed) => void;
  readonly #directions = { client: direction(), server: direction() };
  readonly #secrets = new Map<string, Uint8Array>();
  #clientRandom = Buffer.alloc(32);
  #serverRandom = Buffer.alloc(32);
  #suite: Aead | null = null;
  #tls13 = false;

  constructor(tell: (sender: Sender, crossed: Crossed) => void) {
    this.#tell = tell;
  }

  /** A line of the key log: what a 'keylog' event carries. */
  addKeyLog(line: Buffer | string): void {
    const entry = parseKeyLogLine(String(line));
    if (entry === null) return;
    this.#secrets.set(`${entry.label} ${entry.clientRandom}`, entry.secret);
    this.#drain('client');
    this.#drain('server');
  }

  push(sender: Sender, bytes: Uint8Array): void {
    const state = this.#directions[sender];
    state.waiting = Buffer.concat([state.waiting, bytes]);
    this.#drain(sender);
    this.#drain(sender === 'client' ? 'server' : 'client');
  }

  #drain(sender: Sender): void {
    const state = this.#directions[sender];
    while (!state.dead && state.waiting.length >= 5) {
      const length = 5 + state.waiting.readUInt16BE(3);
      if (state.waiting.length < length) return;
      const header = state.waiting.subarray(0, 5);
      const body = state.waiting.subarray(5, length);
      const type = header[0]!;
      // TLS 1.3 sends change_cipher_spec in the clear, for old middleboxes; it means nothing. An alert
      // in the clear is told as it is: what it is worth is for who asks.
      const clear = this.#tls13 && type !== 23;
      if (!clear && state.expected !== null) {
        const opener = state.expected();
        if (opener === null) return;
        state.opener = opener;
        state.expected = null;
      }
      state.waiting = state.waiting.subarray(length);
      this.#record(sender, state, header, body, clear ? null : state.opener);
    }
  }

  #record(
    sender: Sender,
    state: Direction,
    header: Buffer,
    body: Buffer,
    opener: Opener | null,
  ): void {
    const plain = opener === null ? { type: header[0]!, content: body } : opener.open(header, body);
    const protectedBy = opener?.under ?? null;
    if (plain === null) {
      state.dead = true;
      this.#tell(sender, { kind: 'unreadable', protectedBy: null });
      return;
    }
    const { type, content } = plain;
    if (type === 21 && content.length === 2) {
      const [level, description] = content as unknown as [number, number];
      this.#tell(sender, { kind: 'alert', level, description, protectedBy });
    } else if (type === 23 && protectedBy !== null) {
      this.#tell(sender, { kind: 'data', bytes: Buffer.from(content), protectedBy });
    } else if (type === 22) {
      this.#handshake(sender, state, content, protectedBy);
    } else {
      this.#tell(sender, { kind: 'other', type, protectedBy });
      if (type === 20 && !this.#tls13) this.#expect12(sender, state);
    }
  }

  #handshake(
    sender: Sender,
    state: Direction,
    content: Buffer,
    protectedBy: Crossed['protectedBy'],
  ): void {
    state.handshake = Buffer.concat([state.handshake, content]);
    while (state.handshake.length >= 4) {
      const length = 4 + state.handshake.readUIntBE(1, 3);
      if (state.handshake.length < length) return;
      const type = state.handshake[0]!;
      const body = state.handshake.subarray(4, length);
      state.handshake = state.handshake.subarray(length);
      if (type === 1) this.#clientRandom = Buffer.from(body.subarray(2, 34));
      else if (type === 2) this.#serverHello(body);
      this.#tell(sender, { kind: 'handshake', type, protectedBy });
      if (!this.#tls13) continue;
      if (type === 20) {
        this.#expect13(sender, `${sender.toUpperCase()}_TRAFFIC_SECRET_0`, 'traffic');
      } else if (type === 24 && state.secret !== null && this.#suite !== null) {
        state.secret = nextTrafficSecret(this.#suite, state.secret);
        state.opener = opener13(this.#suite, state.secret, 'traffic');
      }
    }
  }

  #serverHello(body: Buffer): void {
    this.#serverRandom = Buffer.from(body.subarray(2, 34));
    const suite = 35 + body[34]!;
    const found = suiteOf(SUITE_NAMES.get(body.readUInt16BE(suite)) ?? '');
    if (found?.kind !== 'aead') throw new Error('a suite that this reader does not know');
    this.#suite = found;
    // supported_versions, which only TLS 1.3 has (RFC 9846 section 4.1.3), behind the compression method.
    const end = body.length;
    for (let at = suite + 5; at + 4 <= end; at += 4 + body.readUInt16BE(at + 2)) {
      if (body.readUInt16BE(at) === 43) this.#tls13 = body.readUInt16BE(at + 4) === 0x0304;
    }
    // A HelloRetryRequest is a ServerHello with this random, and no keys come of it.
    if (!this.#tls13 || this.#serverRandom.toString('hex').startsWith('cf21ad74e59a6111')) return;
    this.#expect13('server', 'SERVER_HANDSHAKE_TRAFFIC_SECRET', 'handshake');
    this.#expect13('client', 'CLIENT_HANDSHAKE_TRAFFIC_SECRET', 'handshake');
  }

  #expect13(sender: Sender, label: string, under: Opener['under']): void {
    const state = this.#directions[sender];
    const name = `${label} ${this.#clientRandom.toString('hex')}`;
    const suite = this.#suite!;
    state.expected = () => {
      const secret = this.#secrets.get(name);
      if (secret === undefined) return null;
      state.secret = secret;
      return opener13(suite, secret, under);
    };
  }

  #expect12(sender: Sender, state: Direction): void {
    // Both hellos crossed before: those of this handshake, also where it is a later one.
    const [client, server, suite] = [this.#clientRandom, this.#serverRandom, this.#suite!];
    state.expected = () => {
      const master = this.#secrets.get(`CLIENT_RANDOM ${client.toString('hex')}`);
      if (master === undefined) return null;
      const keys = connectionKeys12(suite, master, client, server)[sender];
      return opener12(suite, keys.key, keys.iv);
    };
  }
}

/** RFC 9846 section 5.2: the type is inside, behind the content and before zeros. */
function opener13(suite: Aead, secret: Uint8Array, under: Opener['under']): Opener {
  const { key, iv } = trafficKeys13(suite, secret);
  let sequence = 0n;
  const open: Opener['open'] = (header, body) => {
    const inner = decrypt(suite, key, xor(iv, sequence), header, body);
    if (inner === null) return null;
    sequence++;
    let end = inner.length;
    while (end > 0 && inner[end - 1] === 0) end--;
    return end === 0 ? null : { type: inner[end - 1]!, content: inner.subarray(0, end - 1) };
  };
  return { under, open };
}

function opener12(suite: Aead, key: Uint8Array, iv: Uint8Array): Opener {
  let sequence = 0n;
  const open: Opener['open'] = (header, body) => {
    const explicit = suite.explicitNonce12;
    const aad = Buffer.alloc(13);
    aad.writeBigUInt64BE(sequence);
    header.copy(aad, 8, 0, 3);
    aad.writeUInt16BE(Math.max(0, body.length - explicit - suite.tagLength), 11);
    const nonce =
      explicit === 0 ? xor(iv, sequence) : Buffer.concat([iv, body.subarray(0, explicit)]);
    const content = decrypt(suite, key, nonce, aad, body.subarray(explicit));
    if (content === null) return null;
    sequence++;
    return { type: header[0]!, content };
  };
  return { under: 'traffic', open };
}

function xor(iv: Uint8Array, sequence: bigint): Buffer {
  const nonce = Buffer.from(iv);
  nonce.writeBigUInt64BE(nonce.readBigUInt64BE(4) ^ sequence, 4);
  return nonce;
}

function decrypt(
  suite: Aead,
  key: Uint8Array,
  nonce: Buffer,
  aad: Buffer,
  body: Buffer,
): Buffer | null {
  const length = body.length - suite.tagLength;
  if (length < 0) return null;
  const decipher = createDecipheriv(suite.cipher as CipherGCMTypes, key, nonce, {
    authTagLength: suite.tagLength,
  });
  decipher.setAAD(aad, { plaintextLength: length });
  decipher.setAuthTag(body.subarray(length));
  try {
    return Buffer.concat([decipher.update(body.subarray(0, length)), decipher.final()]);
  } catch {
    // node:crypto throws for a tag that does not fit, and for nothing else here.
    return null;
  }
}
