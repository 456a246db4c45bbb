/**
 * What a connection tells whoever watches it. A transcript is one such watcher. Without one,
 * nothing is built and nothing is called.
 *
 * A watcher only watches: what it throws is an uncaught exception, and the connection goes on as if it had not.
 */
import type { AlertDetail, CutPoint } from '../closure/machine.ts';
import type { Verdict } from '../closure/verdict.ts';
import { apart } from '../runtime.ts';

/** Which way a record went. */
export type Direction = 'sent' | 'received';

/** Something that happened on a connection. */
export type Observation =
  /** A phase of the connection's beginning is over; after the handshake, `protocol` is known. */
  | {
      readonly type: 'phase';
      readonly name: 'resolve' | 'connect' | 'handshake';
      /** The TLS version that the handshake agreed on, such as `TLSv1.3`. */
      readonly protocol?: string | undefined;
    }
  /** The caller called a method of the stream. */
  | {
      readonly type: 'call';
      readonly name: 'shutdown' | 'close' | 'abort' | 'unwrap' | 'cancel';
      readonly detail: string | null;
    }
  /** A TLS record crossed the wire; `contentType` as its header says. */
  | {
      readonly type: 'record';
      readonly direction: Direction;
      readonly contentType: number;
      readonly length: number;
    }
  | { readonly type: 'alert'; readonly direction: Direction; readonly alert: AlertDetail }
  | { readonly type: 'close-notify'; readonly direction: Direction }
  /** Application bytes that went through `read` or `write`. */
  | { readonly type: 'data'; readonly direction: Direction; readonly bytes: number }
  | { readonly type: 'transport-eof'; readonly where: CutPoint }
  | { readonly type: 'transport-reset'; readonly where: CutPoint; readonly code: string }
  | { readonly type: 'transport-error'; readonly where: CutPoint; readonly code: string }
  /** We ended our side of the transport (FIN), or destroyed it. */
  | { readonly type: 'transport-closed'; readonly how: 'end' | 'destroy' }
  /** A deadline passed; `ms` is how long was waited, in milliseconds. */
  | { readonly type: 'deadline'; readonly phase: string; readonly ms?: number | undefined }
  /** Bytes that came after the peer's close_notify. */
  | { readonly type: 'trailing'; readonly bytes: number }
  | { readonly type: 'verdict'; readonly verdict: Verdict };

/** Called with each observation, in order; `at` is milliseconds since the connection's start. */
export interface Observer {
  /** Told what happened, and when. */
  observe(observation: Observation, at: number): void;
  /** Where present: every byte that crosses the wire, before the TLS engine sees it. */
  onBytes?(direction: Direction, bytes: Uint8Array, at: number): void;
  /**
   * Where present: each line of the key log, with the connection's secrets (RFC 9850). Whoever has
   * these and the bytes can read everything.
   */
  onSecret?(line: string): void;
}

/** Tells an observer, whatever it makes of that. */
export function tell(observer: Observer, observation: Observation, at: number): void {
  apart(() => observer.observe(observation, at));
}
