/**
 * The optional add-on, `close-notify-native`: whether it is there, and why not.
 *
 * It is loaded when the first drop-in is used, not before: who has only streams does not need it. All goes on
 * without it, by the way of passing.ts, which is as strict and slower. `CLOSE_NOTIFY_NATIVE=0` leaves it out;
 * with `CLOSE_NOTIFY_REQUIRE_NATIVE=1` the import of this library throws where it cannot be loaded.
 */
import { channel } from 'node:diagnostics_channel';
import { createRequire } from 'node:module';
import { IS_NODE, process } from '../runtime.ts';

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
