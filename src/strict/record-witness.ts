/**
 * A witness that reads the records of a connection as they pass, with the secrets of its key log.
 */
import { type Sender, WireDecoder } from '../record/decoder.ts';
import { parseKeyLogLine } from '../record/keys.ts';
import { RecordScanner } from '../record/record.ts';
import type { Witness, WitnessedAlert } from './witness.ts';

export class RecordWitness implements Witness {
  readonly evidence = 'record';
  readonly startedAt = performance.now();
  ignored = false;
  /** Told when `ignored` becomes true, within the feeding of TLS. */
  onIgnored: () => void = () => {};
  /** Why this connection cannot be read; null where it can, or it is not known yet. */
  unreadable: string | null = null;
  received: WitnessedAlert | null = null;
  sent: WitnessedAlert | null = null;
  readonly #decoder: WireDecoder;
  readonly #scanner = new RecordScanner(() => {});
  readonly #self: Sender;
  readonly #peer: Sender;
  #userCanceled = false;
  #shown = 0;
  #sending: { readonly alert: WitnessedAlert; readonly end: number } | null = null;

  constructor(self: Sender) {
    this.#self = self;
    this.#peer = self === 'client' ? 'server' : 'client';
    this.#decoder = new WireDecoder((decoded) => {
      if (decoded.type === 'unreadable') this.unreadable ??= decoded.reason;
      if (decoded.type !== 'alert') return;
      const { level, code } = decoded.alert;
      if (level === 'warning' && code === 90 && decoded.sender === this.#peer)
        this.#userCanceled = true;
      if (level === 'warning' && code !== 0) return;
      const alert: WitnessedAlert = {
        level: level === 'warning' ? 1 : 2,
        description: code,
        authenticated: decoded.authenticated,
        at: performance.now(),
      };
      if (decoded.sender === this.#peer) {
        if (this.received !== null) return;
        this.received = alert;
        this.ignored = code === 0 && this.#userCanceled;
        if (this.ignored) this.onIgnored();
      } else this.#sending ??= { alert, end: this.#shown };
    });
  }

  get written(): WitnessedAlert | null {
    return this.#sending?.alert ?? null;
  }

  get where(): 'record-boundary' | 'inside-record' | 'unknown' {
    return this.#scanner.atBoundary ? 'record-boundary' : 'inside-record';
  }

  onSecret(line: string): void {
    const entry = parseKeyLogLine(line);
    if (entry !== null) this.#decoder.addSecret(entry);
  }

  onReceived(bytes: Uint8Array): number {
    const end = this.#scanner.take(bytes, 0);
    this.#decoder.push(this.#peer, bytes.subarray(0, end));
    return end;
  }

  onSending(bytes: Uint8Array): void {
    this.#shown += bytes.length;
    this.#decoder.push(this.#self, bytes);
  }

  onSent(total: number): void {
    if (this.#sending !== null && this.#sending.end <= total) this.sent ??= this.#sending.alert;
  }
}
