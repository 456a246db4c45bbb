/**
 * The witness of a connection whose bytes pass by (pass.ts): it reads the alerts in them, with the key log.
 *
 * What was sent counts once the transport has taken the whole record.
 */
import { AlertReader, type EndingAlert } from '../record/alert-reader.ts';
import type { Sender } from '../record/decoder.ts';
import type { PassObserver } from './pass.ts';

/** An alert that crossed the wire, and when (`performance.now()`). */
export type WitnessedAlert = EndingAlert & { readonly at: number };

export class RecordWitness implements PassObserver {
  readonly evidence = 'record';
  /**
   * Where set: told as the peer's alert has been read, within the reading of its record. OpenSSL 3.5 ignores one behind
   * user_canceled, and only so it is known before FIN.
   */
  onAlert: (() => void) | null = null;
  /** Ours, once the transport has taken it. */
  sent: WitnessedAlert | null = null;
  #received: WitnessedAlert | null = null;
  readonly #reader: AlertReader;
  /** Ours, on its way. */
  #sending: { readonly alert: EndingAlert; readonly end: number } | null = null;

  /** How much of what was sent the transport has taken. */
  #taken = 0;

  /** @param role of this side. */
  constructor(role: Sender) {
    this.#reader = new AlertReader(role, {
      onReceived: (alert) => {
        this.#received = { ...alert, at: performance.now() };
        this.onAlert?.();
      },
      onSent: (alert, end) => {
        this.#sending = { alert, end };
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
    return this.#sending !== null;
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
    const sending = this.#sending;
    if (this.sent !== null || sending === null || sending.end > this.#taken) return;
    this.sent = { ...sending.alert, at: performance.now() };
  }

  onClose(): void {
    this.#reader.close();
  }
}
