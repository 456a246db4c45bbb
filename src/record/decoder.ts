/**
 * What crossed the wire, in the clear.
 *
 * Theory of operation. The decoder is shown the bytes of both directions as they pass, and the lines
 * of a key log as they become known. It cuts the bytes into records, takes the protection off with
 * the keys of the moment, joins handshake messages, and reports records, alerts and messages in the
 * order in which each direction sent them. It follows the key changes by itself:
 *
 * - TLS 1.3: a ServerHello (not a HelloRetryRequest) puts both directions under handshake keys; a
 *   direction's Finished puts it under its first traffic secret, a KeyUpdate under the next.
 * - TLS 1.2: ChangeCipherSpec puts a direction under the keys of the handshake that is going on,
 *   which may be a renegotiation inside the keys of the one before.
 *
 * A key may come later than the record that needs it: the direction then waits, up to a bound, and
 * the other may get ahead of it, into the next handshake even. So what the hellos said is kept for
 * each handshake, and a direction that needs the other's hello waits for that one.
 *
 * A record that does not authenticate stops its direction for good, and says so. Nothing is guessed.
 */
import { MalformedError } from '../errors.ts';
import { type Alert, parseAlert } from './alert.ts';
import {
  HANDSHAKE_TYPE,
  HandshakeReader,
  type Hello,
  hex,
  parseClientRandom,
  parseServerHello,
} from './handshake.ts';
import { connectionKeys12, type KeyLogEntry, nextTrafficSecret, trafficKeys13 } from './keys.ts';
import { CONTENT_TYPE, HEADER_LENGTH } from './record.ts';
import { type Suite, suiteOf } from './suite.ts';
import { SUITE_NAMES } from './suite-names.ts';
import { Unprotector } from './unprotect.ts';

/** Who sent it. */
export type Sender = 'client' | 'server';

/** What the decoder reports. */
export type Decoded =
  /** A whole record; `contentType` is the real one, `length` that of its content in the clear. */
  | {
      readonly type: 'record';
      readonly sender: Sender;
      readonly contentType: number;
      readonly length: number;
      readonly protected: boolean;
    }
  | {
      readonly type: 'alert';
      readonly sender: Sender;
      readonly alert: Alert;
      /** False for an alert in the clear: anyone can have sent it. */
      readonly authenticated: boolean;
    }
  | {
      readonly type: 'handshake';
      readonly sender: Sender;
      readonly messageType: number;
      readonly body: Uint8Array;
      readonly authenticated: boolean;
      /** Which handshake of the connection: 0 for the first, more for renegotiations. */
      readonly handshake: number;
      readonly tls13: boolean;
    }
  /** The direction cannot be read any further. */
  | { readonly type: 'unreadable'; readonly sender: Sender; readonly reason: string };

/** Bytes that a direction may hold back while it waits for a key. */
const MAX_WAITING = 1 << 20;

/** How many keys of other connections are remembered until this one's name is known. */
const MAX_SECRETS = 64;

/** Handshakes of one connection whose hellos are kept: more than one direction can be ahead. */
const MAX_HANDSHAKES = 16;

const ENCRYPT_THEN_MAC = 22;

interface DirectionState {
  waiting: Uint8Array;
  unprotector: Unprotector | null;
  /** Set while records are protected and their key is not known: tries to find it. */
  findKey: (() => Unprotector | null) | null;
  /** The traffic secret in use (TLS 1.3). */
  secret: Uint8Array | null;
  readonly handshake: HandshakeReader;
  dead: boolean;
}

const direction = (): DirectionState => ({
  waiting: new Uint8Array(0),
  unprotector: null,
  findKey: null,
  secret: null,
  handshake: new HandshakeReader(),
  dead: false,
});

/** Decodes one connection. */
export class WireDecoder {
  readonly #report: (decoded: Decoded) => void;
  readonly #directions: Record<Sender, DirectionState> = {
    client: direction(),
    server: direction(),
  };
  /** Secrets by label and client random. */
  readonly #secrets = new Map<string, Uint8Array>();
  /** By handshake: the client's random, and the server's answer. */
  readonly #clientRandoms = new Map<number, Uint8Array>();
  readonly #hellos = new Map<number, Hello>();
  #hello: Hello | null = null;
  #suite: Suite | null = null;
  /** In which handshake each direction is. */
  readonly #handshake: Record<Sender, number> = { client: -1, server: -1 };

  constructor(report: (decoded: Decoded) => void) {
    this.#report = report;
  }

  /** The last ServerHello, a HelloRetryRequest included; null until there is one that can be read. */
  get hello(): Hello | null {
    return this.#hello;
  }

  /** Whether the connection is TLS 1.3; false until a ServerHello has said so. */
  get tls13(): boolean {
    return this.#hello?.version === 0x0304;
  }

  /** A line of the key log, parsed. */
  addSecret({ label, clientRandom, secret }: KeyLogEntry): void {
    if (this.#secrets.size >= MAX_SECRETS) this.#secrets.clear();
    this.#secrets.set(`${label} ${clientRandom}`, secret);
    this.#drainBoth();
  }

  /** Bytes that `sender` sent, in any pieces. */
  push(sender: Sender, bytes: Uint8Array): void {
    const state = this.#directions[sender];
    if (state.dead) return;
    state.waiting = state.waiting.length === 0 ? bytes : Buffer.concat([state.waiting, bytes]);
    this.#drain(sender);
    const other = sender === 'client' ? 'server' : 'client';
    if (this.#directions[other].findKey !== null) this.#drainBoth();
    if (state.waiting.length > MAX_WAITING) this.#stop(sender, 'no key for its records');
  }

  /** What one direction says may be what the other has waited for. */
  #drainBoth(): void {
    const { client, server } = this.#directions;
    let left: number;
    do {
      left = client.waiting.length + server.waiting.length;
      this.#drain('client');
      this.#drain('server');
    } while (client.waiting.length + server.waiting.length < left);
  }

  #drain(sender: Sender): void {
    const state = this.#directions[sender];
    while (!state.dead && state.waiting.length >= HEADER_LENGTH) {
      const header = state.waiting.subarray(0, HEADER_LENGTH);
      const length = ((header[3] as number) << 8) | (header[4] as number);
      if (state.waiting.length < HEADER_LENGTH + length) return;
      const body = state.waiting.subarray(HEADER_LENGTH, HEADER_LENGTH + length);
      const taken = this.#record(sender, state, header, body);
      if (!taken) return;
      state.waiting = state.waiting.subarray(HEADER_LENGTH + length);
    }
  }

  /** @returns false when the record has to wait for a key. */
  #record(sender: Sender, state: DirectionState, header: Uint8Array, body: Uint8Array): boolean {
    const outer = header[0] as number;
    // TLS 1.3 sends ChangeCipherSpec for old middleboxes only: never protected, never a change.
    const clear =
      this.tls13 && state.findKey !== null
        ? outer === CONTENT_TYPE.changeCipherSpec || outer === CONTENT_TYPE.alert
        : this.tls13 && outer === CONTENT_TYPE.changeCipherSpec;
    if (!clear && state.findKey !== null) {
      const found = state.findKey();
      if (found === null) return false;
      state.unprotector = found;
      state.findKey = null;
    }
    if (clear || state.unprotector === null) {
      this.#content(sender, state, outer, body, false);
      return true;
    }
    const plain = state.unprotector.unprotect(header, body);
    if (plain === null) {
      this.#stop(sender, 'a record does not authenticate');
      return true;
    }
    this.#content(sender, state, plain.type, plain.content, true);
    return true;
  }

  #content(
    sender: Sender,
    state: DirectionState,
    contentType: number,
    content: Uint8Array,
    authenticated: boolean,
  ): void {
    this.#report({
      type: 'record',
      sender,
      contentType,
      length: content.length,
      protected: authenticated,
    });
    if (contentType === CONTENT_TYPE.alert) {
      const alert = parseAlert(content);
      if (alert !== null) this.#report({ type: 'alert', sender, alert, authenticated });
      return;
    }
    if (contentType === CONTENT_TYPE.changeCipherSpec) {
      if (!this.tls13) this.#changeCipherSpec12(sender, state);
      return;
    }
    if (contentType !== CONTENT_TYPE.handshake) return;
    try {
      for (const { type, body } of state.handshake.push(content)) {
        this.#message(sender, state, type, body, authenticated);
      }
    } catch (error) {
      if (!(error instanceof MalformedError)) throw error;
      this.#stop(sender, error.message);
    }
  }

  #message(
    sender: Sender,
    state: DirectionState,
    messageType: number,
    body: Uint8Array,
    authenticated: boolean,
  ): void {
    if (messageType === HANDSHAKE_TYPE.clientHello && sender === 'client') {
      // The second ClientHello after a HelloRetryRequest belongs to the same handshake.
      if (this.#hello?.retry !== true) this.#handshake.client++;
      remember(this.#clientRandoms, this.#handshake.client, parseClientRandom(body));
    }
    if (messageType === HANDSHAKE_TYPE.serverHello && sender === 'server') this.#answer();
    this.#report({
      type: 'handshake',
      sender,
      messageType,
      body,
      authenticated,
      handshake: Math.max(0, this.#handshake[sender]),
      tls13: this.tls13,
    });
    if (messageType === HANDSHAKE_TYPE.serverHello && sender === 'server') {
      this.#hello = parseServerHello(body);
      remember(this.#hellos, this.#handshake.server, this.#hello);
      this.#suite = suiteOf(SUITE_NAMES.get(this.#hello.cipherSuite) ?? '');
      if (this.tls13 && !this.#hello.retry) {
        this.#expect13('server', 'SERVER_HANDSHAKE_TRAFFIC_SECRET');
        this.#expect13('client', 'CLIENT_HANDSHAKE_TRAFFIC_SECRET');
      }
    } else if (this.tls13 && messageType === HANDSHAKE_TYPE.finished) {
      this.#expect13(sender, `${sender.toUpperCase()}_TRAFFIC_SECRET_0`);
    } else if (this.tls13 && messageType === HANDSHAKE_TYPE.keyUpdate && authenticated) {
      this.#update13(state);
    }
  }

  /** Which handshake a ServerHello belongs to. */
  #answer(): void {
    if (this.#hello?.retry === true) return;
    // A client that waits for a key may be behind. One that does not may have asked in vain before.
    const behind = this.#directions.client.findKey !== null;
    const { client, server } = this.#handshake;
    this.#handshake.server = behind ? server + 1 : Math.max(client, 0);
  }

  /** From the next record on, `sender` is under the secret of this label. */
  #expect13(sender: Sender, label: string): void {
    const state = this.#directions[sender];
    const suite = this.#suite;
    // There is one handshake in TLS 1.3, and its ClientHello was answered by now.
    const clientRandom = hex(this.#clientRandoms.get(this.#handshake.client) ?? new Uint8Array(32));
    state.unprotector = null;
    state.findKey = () => {
      const secret = this.#secrets.get(`${label} ${clientRandom}`);
      if (secret === undefined || suite === null) return null;
      state.secret = secret;
      return new Unprotector(trafficKeys13(suite, secret), true);
    };
  }

  #update13(state: DirectionState): void {
    if (this.#suite === null || state.secret === null) return;
    state.secret = nextTrafficSecret(this.#suite, state.secret);
    state.unprotector = new Unprotector(trafficKeys13(this.#suite, state.secret), true);
  }

  #changeCipherSpec12(sender: Sender, state: DirectionState): void {
    const handshake = Math.max(0, this.#handshake[sender]);
    if (this.#hello === null && this.#handshake.client < 0) return;
    state.unprotector = null;
    state.findKey = () => {
      const clientRandom = this.#clientRandoms.get(handshake);
      const hello = this.#hellos.get(handshake);
      if (clientRandom === undefined || hello === undefined) return null;
      const master = this.#secrets.get(`CLIENT_RANDOM ${hex(clientRandom)}`);
      const suite = suiteOf(SUITE_NAMES.get(hello.cipherSuite) ?? '');
      if (master === undefined || suite === null) return null;
      const keys = connectionKeys12(suite, master, clientRandom, hello.random);
      return new Unprotector(keys[sender], false, hello.extensions.has(ENCRYPT_THEN_MAC));
    };
  }

  #stop(sender: Sender, reason: string): void {
    const state = this.#directions[sender];
    state.dead = true;
    state.waiting = new Uint8Array(0);
    this.#report({ type: 'unreadable', sender, reason });
  }
}

/** Keeps what a handshake's hello said, and forgets that of handshakes long over. */
function remember<T>(map: Map<number, T>, handshake: number, value: T): void {
  map.set(handshake, value);
  map.delete(handshake - MAX_HANDSHAKES);
}
