/**
 * The ending of a connection that a guard watches: what its witness has seen, told to the closure machine.
 *
 * A witness is asked, it does not call. So whoever wants to know how the connection stands looks first: `look` tells
 * the machine of the alerts that have crossed since, in the order in which they did.
 */
import { performance } from 'node:perf_hooks';
import { alertEvent, closes, Ending } from '../closure/ending.ts';
import type { ClosureEvent, ReceiveKind, SendKind } from '../closure/machine.ts';
import type { Closure } from '../closure/verdict.ts';
import { alertName } from '../record/alert.ts';
import type { Observation, Observer } from '../transcript/observer.ts';
import type { Witness, WitnessedAlert } from './witness.ts';

export class WitnessedEnding {
  readonly #ending = new Ending();
  /** Where it is recorded, for a connection that turns out to lack bytes. */
  readonly #record: Observer | null;
  /** Null before the handshake is complete, where nobody has watched it, and when it has no more to say. */
  #witness: Witness | null = null;
  #startedAt = performance.now();
  #established = false;
  #protocol: string | null = null;
  /** Whether the machine was told of the alert that ended this direction. */
  #received = false;
  #sent = false;

  constructor(record: Observer | null = null) {
    this.#record = record;
  }

  /**
   * The handshake is complete.
   *
   * @param witness null where nothing is known of this connection.
   * @param protocol for the record.
   */
  establish(witness: Witness | null, protocol: string | null = null): void {
    this.#established = true;
    this.#witness = witness;
    this.#startedAt = witness?.startedAt ?? this.#startedAt;
    this.#protocol = protocol;
    // An alert may have come together with the last of the handshake, and Node tells of that later.
    this.happened({ type: 'established' }, this.#startedAt);
  }

  get isEstablished(): boolean {
    return this.#established;
  }

  /** How the peer's direction stood at the last look. */
  get receive(): ReceiveKind {
    return this.#ending.state.receive.kind;
  }

  /** How our direction stood at the last look. */
  get send(): SendKind {
    return this.#ending.state.send.kind;
  }

  /** Where the received bytes end. */
  get where(): Witness['where'] {
    return this.#witness?.where ?? 'unknown';
  }

  /** How the connection ended, or stands, by now. */
  get closure(): Closure {
    this.look();
    return this.#ending.closure();
  }

  look(): void {
    const witness = this.#witness;
    if (witness === null) return;
    const { received, sent } = witness;
    const sentFirst = sent !== null && (received === null || sent.at <= received.at);
    if (sentFirst) this.#alert('sent', sent, witness);
    if (received !== null) this.#alert('received', received, witness);
    if (sent !== null && !sentFirst) this.#alert('sent', sent, witness);
    if (this.#received && this.#sent) this.#witness = null;
  }

  /** Node has written close_notify. What it gave to the transport, it takes out of OpenSSL's buffer in the next turn. */
  lookForOwn(): void {
    this.look();
    if (!this.#sent) setImmediate(() => this.look());
  }

  /** OpenSSL has refused the peer's bytes; the alert that says so may be on its way still. */
  lookForRefusal(): void {
    this.look();
    const witness = this.#witness;
    const written = witness?.written ?? null;
    if (witness !== null && written !== null && !closes(written)) {
      this.#alert('sent', written, witness);
    }
  }

  #alert(direction: 'received' | 'sent', alert: WitnessedAlert, { evidence }: Witness): void {
    // Once each: asked again, a witness says the same.
    if (direction === 'sent' ? this.#sent : this.#received) return;
    if (direction === 'sent') this.#sent = true;
    else this.#received = true;
    this.happened(alertEvent(direction, alert, alertName(alert.description), evidence), alert.at);
  }

  /** The connection is over. What could only be known late is known, and what it took to know it is let go. */
  conclude(): void {
    if (this.#witness === null) this.#ending.conclude();
  }

  /** @param at when it happened, on the clock of `performance.now()`. */
  happened(event: ClosureEvent, at: number = performance.now()): void {
    const since = Math.max(0, at - this.#startedAt);
    const before = this.#record && this.#ending.closure().verdict;
    this.#ending.happened(event, since);
    if (this.#record === null) return;
    const seen = observationOf(event, this.#protocol);
    if (seen !== null) this.#record.observe(seen, since);
    const { verdict } = this.#ending.closure();
    if (verdict !== before) this.#record.observe({ type: 'verdict', verdict }, since);
  }
}

/** What a record tells of an event; null where nothing is to be seen of it. */
function observationOf(event: ClosureEvent, protocol: string | null): Observation | null {
  switch (event.type) {
    case 'established':
      return { type: 'phase', name: 'handshake', ...(protocol === null ? {} : { protocol }) };
    case 'close-notify-sent':
    case 'close-notify-received':
      return { type: 'close-notify', direction: wayOf(event) };
    case 'alert-sent':
    case 'alert-received':
      return { type: 'alert', direction: wayOf(event), alert: event.alert };
    case 'transport-eof':
    case 'transport-reset':
    case 'transport-error':
      return event;
    case 'abandon':
      return { type: 'transport-closed', how: event.how === 'closed' ? 'end' : 'destroy' };
    default:
      return null;
  }
}

const wayOf = ({ type }: ClosureEvent) => (type.endsWith('sent') ? 'sent' : 'received');
