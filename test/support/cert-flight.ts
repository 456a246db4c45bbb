/**
 * Servers that say exactly what a test wants: TLS 1.2 with the RSA key exchange, whose first flight is
 * in the clear, and TLS 1.3 with X25519 and TLS_AES_128_GCM_SHA256. Its key schedule is written here
 * from the standard, and shares nothing with the one under test.
 */
import {
  createCipheriv,
  createDecipheriv,
  createHash,
  createHmac,
  createPrivateKey,
  createPublicKey,
  diffieHellman,
  generateKeyPairSync,
  type KeyObject,
  randomBytes,
  sign,
} from 'node:crypto';
import type net from 'node:net';
import { type Issuer, tlv } from './cert-der.ts';
import { ecServer, rsaServer } from './cert-pki.ts';
import type { Scope } from './core-scope.ts';
import { listen } from './core-transport.ts';

/** A number of so many bytes. */
export function uint(size: number, value: number): Buffer {
  const bytes = Buffer.alloc(size);
  bytes.writeUIntBE(value, 0, size);
  return bytes;
}

/** A vector: its length in so many bytes, then its content. */
export const vector = (size: number, ...content: Uint8Array[]): Buffer => {
  const joined = Buffer.concat(content);
  return Buffer.concat([uint(size, joined.length), joined]);
};

export const uint16s = (numbers: readonly number[]) =>
  Buffer.concat(numbers.map((n) => uint(2, n)));

/** A handshake message with its header. */
export const message = (type: number, body: Uint8Array): Buffer =>
  Buffer.concat([uint(1, type), vector(3, body)]);

/** Records of this type, of at most `size` bytes each. */
export function records(type: number, content: Uint8Array, size = 16_384): Buffer {
  const parts: Buffer[] = [];
  for (let at = 0; at < content.length; at += size) {
    const part = content.subarray(at, at + size);
    parts.push(Buffer.concat([uint(1, type), uint(2, 0x0303), vector(2, part)]));
  }
  return Buffer.concat(parts);
}

export const extension = (type: number, data: Uint8Array) =>
  Buffer.concat([uint(2, type), vector(2, data)]);

/** Schemes that any client of ours offers. */
export const SCHEMES = [0x0403, 0x0503, 0x0603, 0x0804, 0x0805, 0x0806, 0x0807, 0x0401];

/** The fields of a TLS 1.2 CertificateRequest; what is not given is as OpenSSL would have it. */
export interface Request12 {
  readonly types?: readonly number[];
  readonly schemes?: readonly number[];
  readonly names?: readonly Uint8Array[];
}

/** RFC 5246 section 7.4.4. */
export const request12 = ({ types = [1, 2, 64], schemes = SCHEMES, names = [] }: Request12 = {}) =>
  Buffer.concat([
    vector(1, Uint8Array.from(types)),
    vector(2, uint16s(schemes)),
    vector(2, ...names.map((one) => vector(2, one))),
  ]);

/** The fields of a TLS 1.3 CertificateRequest. */
export interface Request13 {
  readonly context?: Uint8Array;
  readonly schemes?: readonly number[] | null;
  readonly schemesCert?: readonly number[];
  readonly names?: readonly Uint8Array[];
  readonly filters?: ReadonlyArray<readonly [oid: Uint8Array, values: Uint8Array]>;
  /** Further extensions, whole. */
  readonly more?: readonly Uint8Array[];
}

/** RFC 9846 section 4.3.2. */
export const request13 = ({
  context = new Uint8Array(0),
  schemes = SCHEMES,
  schemesCert,
  names,
  filters,
  more = [],
}: Request13 = {}) =>
  Buffer.concat([
    vector(1, context),
    vector(
      2,
      ...(schemes === null ? [] : [extension(13, vector(2, uint16s(schemes)))]),
      ...(schemesCert === undefined ? [] : [extension(50, vector(2, uint16s(schemesCert)))]),
      ...(names === undefined
        ? []
        : [extension(47, vector(2, ...names.map((one) => vector(2, one))))]),
      ...(filters === undefined
        ? []
        : [
            extension(
              48,
              vector(2, ...filters.map(([id, v]) => Buffer.concat([vector(1, id), vector(2, v)]))),
            ),
          ]),
      ...more,
    ),
  ]);

/** What a scripted server does once the client has answered its flight. */
export type Reply =
  | 'silence'
  | 'fin'
  | 'close-notify-in-the-clear'
  /** TLS 1.3 only: its own close_notify, protected, and FIN. */
  | 'close-notify'
  /** A fatal alert, of this number: in the clear in TLS 1.2, protected in TLS 1.3. */
  | number;

const ALERT = 21;
const HANDSHAKE = 22;
const APPLICATION = 23;

/** The two messages of TLS 1.2 that begin its flight: ServerHello and Certificate. */
export const flight12 = (server: Issuer = rsaServer()) => ({
  serverHello: message(
    2,
    Buffer.concat([
      uint(2, 0x0303),
      randomBytes(32),
      vector(1),
      // TLS_RSA_WITH_AES_128_GCM_SHA256: the server has nothing to sign in its flight.
      uint(2, 0x009c),
      uint(1, 0),
      // renegotiation_info, without which OpenSSL's client goes no further.
      vector(2, extension(0xff01, vector(1))),
    ]),
  ),
  certificate: message(11, vector(3, vector(3, server.x509.raw))),
  done: message(14, new Uint8Array(0)),
});

/** Options of a client that gets along with these servers. */
export const CLIENT_12 = { maxVersion: 'TLSv1.2', ciphers: 'AES128-GCM-SHA256' } as const;
export const CLIENT_13 = { minVersion: 'TLSv1.3', ciphers: 'TLS_AES_128_GCM_SHA256' } as const;

/**
 * A TLS 1.2 server that answers a ClientHello with these bytes, and the client's next ones as `reply`
 * says. @returns its port.
 */
export function scripted12(scope: Scope, flight: Uint8Array, reply: Reply): Promise<number> {
  return listen(
    scope,
    (socket) => {
      socket.on('end', () => socket.end());
      socket.once('data', () => {
        socket.write(flight);
        socket.once('data', () => {
          socket.resume();
          act12(socket, reply);
        });
      });
    },
    { allowHalfOpen: true },
  );
}

function act12(socket: net.Socket, reply: Reply): void {
  if (reply === 'silence') return;
  if (reply === 'fin') socket.end();
  else {
    const [level, code] = typeof reply === 'number' ? [2, reply] : [1, 0];
    socket.end(records(ALERT, Uint8Array.of(level, code)));
  }
}

// ---- TLS 1.3

const sha256 = (...parts: Uint8Array[]) =>
  createHash('sha256').update(Buffer.concat(parts)).digest();
const hmac = (key: Uint8Array, data: Uint8Array) => createHmac('sha256', key).update(data).digest();

/** HKDF-Expand-Label of RFC 9846 section 7.1, with SHA-256. */
export function expandLabel(
  secret: Uint8Array,
  label: string,
  context: Uint8Array,
  size: number,
): Buffer {
  const info = Buffer.concat([
    uint(2, size),
    vector(1, Buffer.from(`tls13 ${label}`)),
    vector(1, context),
  ]);
  // HKDF-Expand alone: T(1), T(2), ...
  let block: Uint8Array = new Uint8Array(0);
  let output = Buffer.alloc(0);
  for (let i = 1; output.length < size; i++) {
    block = hmac(secret, Buffer.concat([block, info, Uint8Array.of(i)]));
    output = Buffer.concat([output, block]);
  }
  return output.subarray(0, size);
}

const NOTHING = new Uint8Array(0);
const ZEROS = new Uint8Array(32);

/** The secrets of RFC 9846 section 7.1, from a shared secret and the messages. */
export class Schedule {
  readonly #handshake: Buffer;

  constructor(shared: Uint8Array, psk: Uint8Array = ZEROS) {
    const early = hmac(ZEROS, psk);
    this.#handshake = hmac(expandLabel(early, 'derived', sha256(), 32), shared);
  }

  /** The traffic secrets of the handshake, after ClientHello to ServerHello. */
  handshake(messages: readonly Uint8Array[]): { client: Buffer; server: Buffer } {
    return traffic(this.#handshake, 'hs', messages);
  }

  /** The first traffic secrets of the application, after all up to the server's Finished. */
  application(messages: readonly Uint8Array[]): { client: Buffer; server: Buffer } {
    const master = hmac(expandLabel(this.#handshake, 'derived', sha256(), 32), ZEROS);
    return traffic(master, 'ap', messages);
  }
}

const traffic = (secret: Buffer, kind: string, messages: readonly Uint8Array[]) => ({
  client: expandLabel(secret, `c ${kind} traffic`, sha256(...messages), 32),
  server: expandLabel(secret, `s ${kind} traffic`, sha256(...messages), 32),
});

/** Protects and unprotects records under a traffic secret, with AES-128-GCM. */
export class Protector {
  readonly #key: Buffer;
  readonly #iv: Buffer;
  #count = 0n;

  constructor(secret: Uint8Array) {
    this.#key = expandLabel(secret, 'key', NOTHING, 16);
    this.#iv = expandLabel(secret, 'iv', NOTHING, 12);
  }

  #nonce(): Buffer {
    const nonce = Buffer.from(this.#iv);
    nonce.writeBigUInt64BE(nonce.readBigUInt64BE(4) ^ this.#count++, 4);
    return nonce;
  }

  /** A record of this content; `padding` zeros are inside. */
  protect(type: number, content: Uint8Array, padding = 0): Buffer {
    const inner = Buffer.concat([content, uint(1, type), Buffer.alloc(padding)]);
    const header = Buffer.concat([
      uint(1, APPLICATION),
      uint(2, 0x0303),
      uint(2, inner.length + 16),
    ]);
    const cipher = createCipheriv('aes-128-gcm', this.#key, this.#nonce()).setAAD(header);
    const encrypted = Buffer.concat([cipher.update(inner), cipher.final()]);
    return Buffer.concat([header, encrypted, cipher.getAuthTag()]);
  }

  /** The content of a record, with its type behind it. @throws where it is not authentic. */
  unprotect(record: Uint8Array): Buffer {
    const decipher = createDecipheriv('aes-128-gcm', this.#key, this.#nonce());
    decipher.setAAD(record.subarray(0, 5)).setAuthTag(record.subarray(record.length - 16));
    return Buffer.concat([decipher.update(record.subarray(5, -16)), decipher.final()]);
  }
}

/** How a TLS 1.3 server goes on. */
export interface Script13 {
  /** Messages between EncryptedExtensions and Certificate: the CertificateRequest. */
  readonly request: readonly Uint8Array[];
  readonly reply: Reply;
  /** Content bytes in each protected record of the flight. */
  readonly recordSize?: number;
  readonly padding?: number;
  /** Sends this many bytes of the protected flight, and then FIN. */
  readonly cutAt?: number;
  readonly server?: Issuer;
  /** Changes the messages of the flight before they are protected (the transcript is as changed). */
  readonly change?: (messages: Uint8Array[]) => Uint8Array[];
}

/** A TLS 1.3 server that follows this script on each connection. @returns its port. */
export function scripted13(scope: Scope, script: Script13): Promise<number> {
  return listen(
    scope,
    (socket) => {
      socket.on('end', () => socket.end());
      let waiting = Buffer.alloc(0);
      let started = false;
      let clientKeys: Protector | null = null;
      let acted = false;
      let out: Protector | null = null;
      socket.on('data', (chunk) => {
        waiting = Buffer.concat([waiting, chunk]);
        while (waiting.length >= 5 && waiting.length >= 5 + waiting.readUInt16BE(3)) {
          const record = waiting.subarray(0, 5 + waiting.readUInt16BE(3));
          waiting = waiting.subarray(record.length);
          if (!started) {
            started = true;
            const begun = begin13(socket, record.subarray(5), script);
            clientKeys = begun.client;
            out = begun.out;
          } else if (record[0] === APPLICATION && !acted && clientKeys !== null) {
            const inner = clientKeys.unprotect(record);
            // The client's Finished, or its alert.
            const over = inner.at(-1) === HANDSHAKE && inner.length > 36 && inner.at(-37) === 20;
            if (over) {
              acted = true;
              act13(socket, out as unknown as Protector, script.reply);
            }
          }
        }
      });
    },
    { allowHalfOpen: true },
  );
}

function begin13(
  socket: net.Socket,
  clientHello: Uint8Array,
  script: Script13,
): { client: Protector; out: Protector } {
  const server = script.server ?? ecServer();
  const own = generateKeyPairSync('x25519');
  const hello = serverHello13(clientHello, own.publicKey);
  const shared = diffieHellman({ privateKey: own.privateKey, publicKey: keyShareOf(clientHello) });
  const schedule = new Schedule(shared);
  const messages: Uint8Array[] = [clientHello, hello];
  const handshake = schedule.handshake(messages);
  const flight: Uint8Array[] = [
    message(8, vector(2)),
    ...script.request,
    message(11, Buffer.concat([vector(1), vector(3, vector(3, server.x509.raw), vector(2))])),
  ];
  const signed = Buffer.concat([
    Buffer.alloc(64, 0x20),
    Buffer.from('TLS 1.3, server CertificateVerify\0'),
    sha256(...messages, ...flight),
  ]);
  const signature = sign('sha256', signed, server.keys.privateKey);
  flight.push(message(15, Buffer.concat([uint(2, 0x0403), vector(2, signature)])));
  const finishedKey = expandLabel(handshake.server, 'finished', NOTHING, 32);
  flight.push(message(20, hmac(finishedKey, sha256(...messages, ...flight))));
  const sent = script.change?.(flight) ?? flight;
  const protector = new Protector(handshake.server);
  const bytes = Buffer.concat(sent);
  const size = script.recordSize ?? 16_000;
  const protectedFlight: Buffer[] = [];
  for (let at = 0; at < bytes.length; at += size) {
    protectedFlight.push(
      protector.protect(HANDSHAKE, bytes.subarray(at, at + size), script.padding),
    );
  }
  socket.write(records(HANDSHAKE, hello));
  const all = Buffer.concat(protectedFlight);
  if (script.cutAt === undefined) socket.write(all);
  else socket.end(all.subarray(0, script.cutAt));
  const application = schedule.application([...messages, ...flight]);
  return { client: new Protector(handshake.client), out: new Protector(application.server) };
}

function act13(socket: net.Socket, out: Protector, reply: Reply): void {
  if (reply === 'silence') return;
  if (reply === 'fin') socket.end();
  else if (reply === 'close-notify-in-the-clear') {
    socket.end(records(ALERT, Uint8Array.of(1, 0)));
  } else {
    const [level, code] = typeof reply === 'number' ? [2, reply] : [1, 0];
    socket.end(out.protect(ALERT, Uint8Array.of(level, code)));
  }
}

/** The extensions of a ClientHello, by number. */
function extensionsOf(clientHello: Uint8Array): {
  session: Buffer;
  extensions: Map<number, Buffer>;
} {
  const bytes = Buffer.from(clientHello);
  let at = 4 + 2 + 32;
  const take = (size: number) => {
    const length = bytes.readUIntBE(at, size);
    at += size + length;
    return bytes.subarray(at - length, at);
  };
  const session = take(1);
  take(2);
  take(1);
  const block = take(2);
  const extensions = new Map<number, Buffer>();
  for (let from = 0; from < block.length; ) {
    const length = block.readUInt16BE(from + 2);
    extensions.set(block.readUInt16BE(from), block.subarray(from + 4, from + 4 + length));
    from += 4 + length;
  }
  return { session, extensions };
}

/** The DER of a SubjectPublicKeyInfo before an X25519 key: AlgorithmIdentifier, BIT STRING. */
const x25519Key = (raw: Uint8Array): KeyObject =>
  createPublicKey({
    key: tlv(
      0x30,
      tlv(0x30, tlv(6, Uint8Array.of(0x2b, 0x65, 0x6e))),
      tlv(3, Uint8Array.of(0), raw),
    ),
    format: 'der',
    type: 'spki',
  });

/** The client's X25519 share. */
function keyShareOf(clientHello: Uint8Array): KeyObject {
  const shares = extensionsOf(clientHello).extensions.get(51) ?? Buffer.alloc(0);
  for (let at = 2; at < shares.length; ) {
    const length = shares.readUInt16BE(at + 2);
    if (shares.readUInt16BE(at) === 0x001d)
      return x25519Key(shares.subarray(at + 4, at + 4 + length));
    at += 4 + length;
  }
  throw new Error('the client offers no X25519 share');
}

function serverHello13(clientHello: Uint8Array, publicKey: KeyObject): Buffer {
  const raw = publicKey.export({ type: 'spki', format: 'der' }).subarray(-32);
  return message(
    2,
    Buffer.concat([
      uint(2, 0x0303),
      randomBytes(32),
      vector(1, extensionsOf(clientHello).session),
      uint(2, 0x1301),
      uint(1, 0),
      vector(
        2,
        extension(43, uint(2, 0x0304)),
        extension(51, Buffer.concat([uint(2, 0x001d), vector(2, raw)])),
      ),
    ]),
  );
}

/** X25519's shared secret of raw keys, both in hexadecimal. */
export function x25519(privateHex: string, publicHex: string): Buffer {
  const own = generateKeyPairSync('x25519').privateKey.export({ type: 'pkcs8', format: 'der' });
  const der = Buffer.concat([own.subarray(0, own.length - 32), Buffer.from(privateHex, 'hex')]);
  return diffieHellman({
    privateKey: createPrivateKeyOf(der),
    publicKey: x25519Key(Buffer.from(publicHex, 'hex')),
  });
}

const createPrivateKeyOf = (der: Uint8Array): KeyObject =>
  createPrivateKey({ key: Buffer.from(der), format: 'der', type: 'pkcs8' });
