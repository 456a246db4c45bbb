/**
 * The witness of a connection whose bytes pass by (pass.ts): it reads the alerts in them, with the key log.
 *
 * What was sent counts once the transport has taken the whole record.
 */
import { closes } from '../../closure/ending.ts';
import { AlertReader } from '../../record/alert-reader.ts';
import type { Sender } from '../../record/decoder.ts';
import type { Witness, WitnessedAlert } from '../witness.ts';
import type { PassObserver } from './observer.ts';

export class RecordWitness implements PassObserver, Witness {
  readonly evidence = 'record';
  readonly startedAt = performance.now();
  #ignored = false;
  /** Told when `ignored` becomes true. */
  onIgnored: () => void = () => {};
  /** Ours, once the transport has taken it. */
  sent: WitnessedAlert | null = null;
  /** Ours, on its way or there. */
  written: WitnessedAlert | null = null;
  #received: WitnessedAlert | null = null;
  readonly #reader: AlertReader;
  /** How much was sent up to the end of that. */
  #end = 0;

  /** How much of what was sent the transport has taken. */
  #taken = 0;

  /** @param role of this side. */
  constructor(role: Sender) {
    this.#reader = new AlertReader(role, {
      onReceived: (alert, warned) => {
        this.#received = { ...alert, at: performance.now() };
        this.#ignored = warned && closes(this.#received);
        if (this.#ignored) this.onIgnored();
      },
      onSent: (alert, end) => {
        this.written = { ...alert, at: performance.now() };
        this.#end = end;
        this.#settle();
      },
    });
  }

  /** The peer's alert that ends its direction. */
  get received(): WitnessedAlert | null {
    // Asked within the reading of a record, it is about that record too.
    this.#reader.look();
    return this.#received;
  }

  /** Whether the peer has finished its handshake, as far as can be read. */
  get finished(): boolean {
    return this.#reader.unreadable !== null || this.#reader.finished;
  }

  /** Whether the peer's close_notify came behind a warning. */
  get ignored(): boolean {
    this.#reader.look();
    return this.#ignored;
  }

  /** Where the received bytes stand. */
  get where(): 'record-boundary' | 'inside-record' | 'unknown' {
    return this.#reader.where;
  }

  /** Why nothing is claimed of this connection: its version or its cipher suite is not read. */
  get unreadable(): string | null {
    return this.#reader.unreadable;
  }

  /** A line of the key log. */
  onSecret(line: Uint8Array): void {
    this.#reader.secret(line);
  }

  // ---- for the pass

  get saidLast(): boolean {
    return this.written !== null;
  }

  onReceived(bytes: Uint8Array): number {
    return this.#reader.received(bytes);
  }

  onGiven(data: number): void {
    this.#reader.given(data);
  }

  onSending(bytes: Uint8Array): void {
    this.#reader.sending(bytes);
  }

  onSent(total: number): void {
    this.#taken = total;
    this.#settle();
  }

  #settle(): void {
    if (this.written !== null && this.#end <= this.#taken) this.sent = this.written;
  }

  onClose(): void {
    this.#reader.close();
  }
}
