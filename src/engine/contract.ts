/**
 * What turns plaintext into TLS records and back, whoever does it.
 *
 * A stream knows an engine by this page alone, and no type of Node's TLS is in it. Facts come up by `EngineEvents`,
 * orders go down by `Engine`. The engine judges nothing: it tells which alerts crossed the wire and how the transport
 * ended, and the stream makes a verdict of that.
 */
import type { SeenAlert, TransportEnding, Way } from '../closure/ending.ts';
import type { Evidence } from '../closure/machine.ts';

/** The engines there are. */
export type EngineName = 'native' | 'tapped';

/** What the handshake agreed on. */
export interface TlsInfo {
  /** `TLSv1.2` or `TLSv1.3`. */
  readonly protocol: string;
  /** The cipher suite's standard name, such as `TLS_AES_128_GCM_SHA256`. */
  readonly cipher: string;
  /** The application protocol agreed on by ALPN, or null. */
  readonly alpn: string | null;
  /** The name that the client asked for (SNI), or null. */
  readonly servername: string | null;
  /** Whether the peer's certificate verified. On a server without `requestCert`: false. */
  readonly authorized: boolean;
  /** Why not, as a code such as `CERT_HAS_EXPIRED`; null where it did. */
  readonly authorizationError: string | null;
  /** Whether an earlier session was resumed. */
  readonly resumed: boolean;
  /** Which engine it is: `native` is the add-on's, on OpenSSL; `tapped` is `node:tls` with our tap under it. */
  readonly engine: EngineName;
  /** What the claim rests on that a close_notify crossed the wire. */
  readonly evidence: Evidence;
}

/** How an engine failed. */
export interface EngineFailure {
  /** Its own error, with OpenSSL's reason as its code. */
  readonly error: Error & { readonly code?: string };
  /** Why the peer's certificate does not verify, where that is the failure; a code. */
  readonly unauthorized: string | null;
}

/** What an engine reports. */
export interface EngineEvents {
  /** The handshake is complete and, on a client, the server's certificate was accepted. */
  onSecure(info: TlsInfo): void;
  /** `take` has bytes that it had not. */
  onReadable(): void;
  /** `write` takes more without a wait. */
  onDrain(): void;
  /**
   * An alert that ends its direction crossed the wire, close_notify among them. One that was sent is told once the
   * transport has taken its record, and then all that was written before it.
   *
   * @param at when it was read or written, on the clock of `performance.now()`. It may be told later.
   */
  onAlert(way: Way, alert: SeenAlert, evidence: Evidence, at: number): void;
  /** May be told twice: EOF, then an error of the same transport. */
  onTransportEnd(ending: TransportEnding): void;
  /** The transport takes no more. What it has received can still be read. */
  onSendFailed(error: Error): void;
  /** Nothing more comes of TLS. Told once. */
  onFailure(failure: EngineFailure): void;
  /** Where present: a record crossed the wire. `type` is as its header says. */
  readonly onRecord?: ((way: Way, type: number, length: number) => void) | undefined;
  /** Where present: each piece of ciphertext, before TLS or the transport gets it. */
  readonly onBytes?: ((way: Way, bytes: Uint8Array) => void) | undefined;
  /** Where present: each line of the key log (RFC 9850). */
  readonly onSecret?: ((line: string) => void) | undefined;
  /** Where present: a session that a client can resume later. */
  readonly onSession?: ((session: Uint8Array) => void) | undefined;
}

/** What is known of the peer and of the keys; nothing once TLS is destroyed, or where a runtime does not say. */
export interface Peer {
  /** The peer's own certificate, in DER. */
  certificate(): Uint8Array | null;
  /** It and those of its issuers, in DER, as far as they are known. */
  certificates(): readonly Uint8Array[];
  /** Keying material (RFC 5705; RFC 9846 section 7.5). @throws {Error} for a length or label that it does not take. */
  exportKeyingMaterial(length: number, label: string, context?: Uint8Array): Uint8Array | null;
  /** The session, for a client to resume. */
  session(): Uint8Array | null;
}

/** TLS over one transport. */
export interface Engine {
  /** Null until the handshake is complete. */
  readonly info: TlsInfo | null;
  readonly peer: Peer;
  /**
   * Bytes that were decrypted and are nobody's yet; null where there are none now.
   *
   * @param most how many bytes at most, 1 or more; all that are in one piece by default.
   */
  take(most?: number): Uint8Array | null;
  /**
   * Takes bytes for sending. Their memory is the caller's again when this returns.
   *
   * @returns false where the caller should wait for `onDrain`; the bytes are taken all the same.
   */
  write(bytes: Uint8Array): boolean;
  /** Whether `write` takes more without a wait. */
  readonly writable: boolean;
  /** Bytes that were written and are not known to have been taken by the transport. */
  readonly unsent: number;
  /** Sends close_notify behind all that was written. */
  closeWrite(): void;
  /** Discards what was written and is not encrypted yet (TLS 1.2). @returns how many bytes that is. */
  discardWrites(): number;
  /** Nothing that the peer sends is looked at until `resume`, and its EOF is not told. */
  pause(): void;
  resume(): void;
  /**
   * Lets the transport go: no listener of ours is left on it, and it is paused.
   *
   * @param back whether the caller takes it over, with the listeners that it had before TLS.
   * @returns what came behind the peer's close_notify.
   */
  release(back: boolean): Uint8Array;
  /** Bytes that `release` would return. */
  readonly trailingLength: number;
  /** Ends TLS at once. The transport is left as it is. */
  destroy(): void;
}
