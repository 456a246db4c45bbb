/**
 * The optional add-on, `close-notify-native`: whether it is there, and why not.
 *
 * It is loaded when the first stream or drop-in is used, not before. All goes on without it, by the tap, which is as
 * strict and slower. `CLOSE_NOTIFY_NATIVE=0` leaves it out;
 * with `CLOSE_NOTIFY_REQUIRE_NATIVE=1` the import of this library throws where it cannot be loaded.
 */
import { channel } from 'node:diagnostics_channel';
import { createRequire } from 'node:module';
import { IS_NODE, process } from './runtime.ts';

/** What the add-on saw of one connection. */
export interface Watch {
  /** When its SSL was made: milliseconds on the clock of `process.hrtime`. */
  born(): number;
  /**
   * The first alerts, in order, and the first that ended each direction, as two numbers each: `flags << 16 | level << 8
   * | description`, and when, on the same clock. Flags: SENT, AUTHENTICATED, ALONE. Those that are `known` are left out;
   * null where there are no others.
   */
  alerts(known: number): readonly number[] | null;
  /** Bytes that the transport has not taken; null once the SSL is freed. */
  pending(): number | null;
  /** Where the bytes that were read end; null once the SSL is freed. */
  place(): 'boundary' | 'header' | 'body' | 'unknown' | null;
  /** Watches on where Node's tracing has taken the add-on's place, and traces in its stead if told to. */
  retake(trace: boolean): void;
}

/** Flags of an alert. */
export const SENT = 1;
/** It came behind its sender's Finished. */
export const AUTHENTICATED = 2;
/**
 * Of one that was sent: nothing else waited for the transport when it was made, so that Node gives it to the transport
 * in this very call.
 */
export const ALONE = 4;

/** A context of the native engine. */
export interface NativeContext {
  /** What its SSL_CTX was made by; kept, since that one's callbacks use it. */
  secureContext?: unknown;
}

/** What the handshake agreed on, as the native engine has it. */
export interface NativeInfo {
  readonly protocol: string;
  readonly cipher: string | null;
  readonly alpn: string | null;
  readonly servername: string | null;
  readonly resumed: boolean;
  /** Whether the peer has presented a certificate. */
  readonly hasCertificate: boolean;
  /** Bits of the ephemeral key of a DHE handshake; 0 where it is another. */
  readonly dhBits: number;
  /** Why the peer's certificate does not verify, as Node's code and OpenSSL's words; null where it does. */
  readonly code: string | null;
  readonly reason: string | null;
}

/** What a connection of the native engine is made with. */
export interface NativeOptions {
  readonly server?: boolean;
  /** OpenSSL's SSL_VERIFY_ flags. */
  readonly verify?: number;
  /** Whether each record, each piece of ciphertext, each line of the key log, each session is to be told. */
  readonly records?: boolean;
  readonly bytes?: boolean;
  readonly secrets?: boolean;
  readonly tickets?: boolean;
  /** Whether the handshake waits for `proceed` where a certificate is wanted. */
  readonly wantsCertificate?: boolean;
  /** Whether `onAlpn` chooses the application protocol. */
  readonly alpnCallback?: boolean;
  /** How many tickets a server sends (TLS 1.3). */
  readonly ticketCount?: number;
  readonly servername?: Uint8Array;
  readonly session?: Uint8Array;
  /** As on the wire: each protocol behind its length. */
  readonly alpn?: Uint8Array;
}

/** One connection of the native engine. What a call has to tell are flags; see engine/native.ts. */
export interface NativeConnection {
  onAlpn?: (offered: Uint8Array) => number | undefined;
  open(descriptor: number): string | null;
  start(head: Uint8Array): number;
  feed(bytes: Uint8Array): number;
  write(bytes: Uint8Array, flush: boolean): number;
  flush(): number;
  closeWrite(): number;
  updateKeys(request: boolean): number;
  discard(): number;
  output(): Uint8Array;
  taken(length: number): number;
  break(): void;
  proceed(given: boolean): number;
  identify(context: NativeContext, server: boolean): boolean;
  setReading(reading: boolean): void;
  setReference(referenced: boolean): void;
  /** Where the bytes end that were received: 0 between two records, 1 within one. */
  cut(): number;
  isDestroyed(): boolean;
  /** How many bytes went by the descriptor. */
  bytes(sent: boolean): number;
  trailing(take: false): number;
  trailing(take: true): Uint8Array;
  facts(): unknown[];
  info(): NativeInfo;
  servername(): string | null;
  certificate(): Uint8Array | null;
  chain(): Uint8Array[];
  session(): Uint8Array | null;
  exportKeyingMaterial(
    length: number,
    label: Uint8Array,
    context: Uint8Array | undefined,
  ): Uint8Array | null;
  close(): void;
  destroy(): void;
}

/** The native engine, as the add-on has it. */
export interface EngineBinding {
  readonly Connection: new (context: NativeContext, options: NativeOptions) => NativeConnection;
  /** Numbers that a call or an event tells: see engine/native.ts. */
  readonly state: Float64Array;
  /** The context that `make` has Node make; null where it made none, or several. */
  ownContext(make: () => void): NativeContext | null;
  /** The context of the one TLS socket that `make` has Node make. */
  foreignContext(make: () => void): NativeContext | null;
  /** The memory into which was decrypted last. */
  slab(): Uint8Array;
  /** What is called with each event, as a method of its connection. */
  setDispatch(dispatch: (this: NativeConnection, flags: number) => void): void;
}

/** The add-on. */
export interface AddOn {
  readonly version: string;
  /** What it offers, as one number: INTERFACE is the one that this library was written for. */
  readonly interface: number;
  /** The version of the OpenSSL that it runs on. */
  readonly openssl: string;
  watch(onIgnored: (watch: Watch) => void): void;
  find(finished: Uint8Array): Watch | null;
  mark(): number;
  since(mark: number): Watch[];
  readonly engine: EngineBinding;
}

/** The interface of the add-on that this module knows. */
const INTERFACE = 2;

/** Whether the add-on was loaded, and if not, why. */
export type AddOnState =
  | { readonly native: AddOn; readonly reason: null }
  | { readonly native: null; readonly reason: string };

/** What the channel `close-notify.native` carries, once: whether the add-on was loaded. */
export interface NativeMessage {
  readonly loaded: boolean;
  /** Why not; null where it was. */
  readonly reason: string | null;
}

const loads = channel('close-notify.native');

let state: AddOnState | null = null;

/** The add-on, loaded at the first call. It never throws. */
export function addOn(): AddOnState {
  if (state !== null) return state;
  state = load();
  const { native, reason } = state;
  if (loads.hasSubscribers) {
    loads.publish({ loaded: native !== null, reason } satisfies NativeMessage);
  }
  return state;
}

function load(): AddOnState {
  if (process.env['CLOSE_NOTIFY_NATIVE'] === '0') {
    return { native: null, reason: 'CLOSE_NOTIFY_NATIVE=0' };
  }
  if (!IS_NODE) return { native: null, reason: 'this is not Node' };
  const require = createRequire(import.meta.url);
  try {
    return fitting(require('close-notify-native') as AddOnState);
  } catch (error) {
    const { code, message } = error as Error & { code?: string };
    const missing = code === 'MODULE_NOT_FOUND' && message.includes("'close-notify-native'");
    const reason = missing ? 'close-notify-native is not installed' : firstLine(message);
    return { native: null, reason };
  }
}

/** An add-on of another interface would be read wrongly, so it counts as none. */
function fitting(found: AddOnState): AddOnState {
  if (found.native === null || found.native.interface === INTERFACE) return found;
  const { version } = found.native;
  return {
    native: null,
    reason: `close-notify-native ${version} is of another release: its interface is ${found.native.interface ?? 'unknown'}, not ${INTERFACE}`,
  };
}

const firstLine = (text: string): string => text.split('\n', 1)[0] ?? text;
