/**
 * What a guard asks about its connection: which alerts crossed the wire, and where the bytes stopped.
 *
 * Theory of operation. Node tells a program that a TLS stream has ended, never why. So a guard does not
 * look at what Node does. It asks a witness, which knows each alert from one of two sources:
 *
 * - OpenSSL itself, by way of the add-on (`openSslWitness`): OpenSSL shows every message that it sends
 *   and receives, in the clear, to a callback of the add-on. Nothing stands between the socket and the
 *   kernel.
 * - The records, where there is no add-on (record-witness.ts): they are decrypted as they pass.
 *
 * A witness tells only what it has read. Where it has read nothing, it says null, and nothing is claimed.
 */
import { performance } from 'node:perf_hooks';
import { type AddOn, ALONE, AUTHENTICATED, SENT, type Watch } from '../add-on.ts';
import { closes } from '../closure/ending.ts';
import type { CutPoint, Evidence } from '../closure/machine.ts';

/** An alert that crossed the wire. */
export interface WitnessedAlert {
  /** AlertLevel: 1 warning, 2 fatal; of close_notify in TLS 1.3, which does not look at it, always 1. */
  readonly level: number;
  /** AlertDescription (RFC 9846 section 6): 0 is close_notify. */
  readonly description: number;
  /** Whether it came behind its sender's first Finished, so that nobody else can have sent it. */
  readonly authenticated: boolean;
  /** When it crossed: milliseconds on the clock of `performance.now()`. */
  readonly at: number;
}

/** What is known of a connection's alerts. */
export interface Witness {
  /** What its word rests on. */
  readonly evidence: Exclude<Evidence, 'inferred'>;
  /** When the connection's TLS began, on the clock of `performance.now()`; null where that is not known. */
  readonly startedAt: number | null;
  /** Why nothing can be read of this connection; null where it can. */
  readonly unreadable: string | null;
  /** The first alert of the peer that ended its direction, or null. */
  readonly received: WitnessedAlert | null;
  /** The first alert that ended our direction, written or about to be. */
  readonly written: WitnessedAlert | null;
  /** The same, once all its bytes were handed over to the transport. */
  readonly sent: WitnessedAlert | null;
  /** Where the bytes that were received end. */
  readonly where: Exclude<CutPoint, 'handshake'>;
  /** Whether the peer's close_notify came behind a warning, where OpenSSL 3.5 does not heed it. */
  readonly ignored: boolean;
}

/** RFC 9846 section 6, AlertDescription. */
const CLOSE_NOTIFY = 0;
const USER_CANCELED = 90;

const WARNING = 1;

const FATAL = 2;

/**
 * Whether an alert ends its direction. Only close_notify and fatal alerts do. In TLS 1.3 "the severity is
 * implicit in the type of alert being sent" (RFC 9846 section 6), and all but close_notify and user_canceled
 * are fatal; OpenSSL heeds that, too.
 */
export function ends(
  { level, description }: Pick<WitnessedAlert, 'level' | 'description'>,
  tls13: boolean,
): boolean {
  if (description === CLOSE_NOTIFY || level === FATAL) return true;
  return tls13 && description !== USER_CANCELED;
}

/**
 * The clock of the add-on and that of `performance.now()` run alike; how far the second is behind. The two cannot be
 * read at once, and a process that has to wait between them is wrong by as long: the closest of several readings
 * counts.
 */
const BEHIND = (() => {
  let behind = 0;
  let apart = Number.POSITIVE_INFINITY;
  for (let i = 0; i < 20; i++) {
    const before = performance.now();
    const there = Number(process.hrtime.bigint()) / 1e6;
    const after = performance.now();
    if (after - before >= apart) continue;
    apart = after - before;
    behind = there - after;
  }
  return behind;
})();

/**
 * When an alert crossed, on the clock of `performance.now()`. What is known has happened: it is never later than now,
 * or what happens next, the end of the socket say, would take its place before it.
 */
const crossedAt = (at: number): number => Math.min(at - BEHIND, performance.now());

const PLACES = {
  boundary: 'record-boundary',
  header: 'inside-record',
  body: 'inside-record',
  unknown: 'unknown',
} as const;

/** What OpenSSL showed to the add-on. */
export class OpenSslWitness implements Witness {
  readonly evidence = 'openssl';
  readonly unreadable = null;
  readonly #watch: Watch;
  readonly #tls13: boolean;
  /** How many alerts were looked at. */
  #known = 0;
  #received: WitnessedAlert | null = null;
  #written: WitnessedAlert | null = null;
  /** Whether nothing was before it in OpenSSL's buffer. */
  #alone = false;
  #canceled = false;
  #where: Exclude<CutPoint, 'handshake'> = 'unknown';

  constructor(watch: Watch, tls13: boolean) {
    this.#watch = watch;
    this.#tls13 = tls13;
  }

  get startedAt(): number {
    return this.#watch.born() - BEHIND;
  }

  get received(): WitnessedAlert | null {
    this.#look();
    return this.#received;
  }

  get written(): WitnessedAlert | null {
    this.#look();
    return this.#written;
  }

  /**
   * Node gives what OpenSSL made to the transport in the same call, unless a write is on its way. Then it has to wait,
   * and leaves OpenSSL's buffer once the transport has taken it.
   */
  get sent(): WitnessedAlert | null {
    const { written } = this;
    return written !== null && (this.#alone || this.#watch.pending() === 0) ? written : null;
  }

  /** As it was while OpenSSL could say. */
  get where(): Exclude<CutPoint, 'handshake'> {
    const place = this.#watch.place();
    if (place !== null) this.#where = PLACES[place];
    return this.#where;
  }

  get ignored(): boolean {
    const { received } = this;
    return received !== null && closes(received) && this.#canceled;
  }

  /** Reads what has crossed, until both directions have ended. */
  #look(): void {
    if (this.#received !== null && this.#written !== null) return;
    const tls13 = this.#tls13;
    const alerts = this.#watch.alerts(this.#known);
    if (alerts === null) return;
    this.#known += alerts.length / 2;
    for (let i = 0; i < alerts.length; i += 2) {
      const word = alerts[i] as number;
      const flags = word >> 16;
      const level = (word >> 8) & 255;
      const description = word & 255;
      const authenticated = (flags & AUTHENTICATED) !== 0;
      const sent = (flags & SENT) !== 0;
      // A warning in the clear, too, which anybody may have sent.
      if (!sent && tls13 && !ends({ level, description }, authenticated)) this.#canceled = true;
      if ((sent ? this.#written : this.#received) !== null) continue;
      // In the clear, when the version was not known yet, a warning was one.
      if (!ends({ level, description }, tls13 && authenticated)) continue;
      const alert = {
        level: tls13 && description === CLOSE_NOTIFY ? WARNING : level,
        description,
        authenticated,
        at: crossedAt(alerts[i + 1] as number),
      };
      if (sent) {
        this.#written = alert;
        this.#alone = (flags & ALONE) !== 0;
      } else {
        this.#received = alert;
      }
    }
  }
}

/**
 * The witness of a socket whose handshake is complete. `tlsSocket.getFinished()` is the last Finished
 * message that this side sent, which the add-on saw, too: that joins the two.
 *
 * @returns null where OpenSSL made the connection's SSL before the add-on was loaded.
 */
export function openSslWitness(
  addOn: AddOn,
  socket: { getFinished(): Buffer | undefined | null; getProtocol(): string | null },
): { readonly witness: OpenSslWitness; readonly watch: Watch } | null {
  const finished = socket.getFinished();
  const watch = finished ? addOn.find(finished) : null;
  if (watch === null) return null;
  return { witness: new OpenSslWitness(watch, socket.getProtocol() === 'TLSv1.3'), watch };
}
