/**
 * A connection as a capture file: pass a `PcapngRecorder` as `record` to `connect` or `accept`, and
 * Wireshark opens what it made, decrypted at once.
 *
 * Theory of operation. A stream sees TLS, and of TCP only that bytes came, and that they ended. A
 * capture wants packets. So the packets are made up: IP and TCP headers around the bytes that
 * really crossed, a handshake in front, and at the end FIN or RST as the transport told it. What was
 * not seen is not made up: bytes that were never shown leave a packet that says how many they were
 * and holds none of them, and a side whose end nobody saw has none.
 *
 * The one thing that a stream does not tell is what comes while the transport is being closed: it
 * discards that. Shown the transport, the recorder reads along there too. Without that, a peer whose
 * close_notify came too late to be looked at would stand in the file as one that sent none.
 *
 * The secrets of the connection are in the file (a Decryption Secrets Block): whoever has it can read
 * everything.
 *
 * The format: draft-ietf-opsawg-pcapng; IPv4: RFC 791; IPv6: RFC 8200; TCP: RFC 9293.
 */
import type { Duplex } from 'node:stream';
import { checkOptionNames } from '../option-names.ts';
import type { Direction, Observation, Observer } from '../transcript/observer.ts';
import { HandedOn, Kept, type Output } from './pcapng-output.ts';
import { type Ends, endpointsOf } from './pcapng-packet.ts';
import type { From } from './pcapng-renderer.ts';

/** Options of a recorder. */
export interface PcapngOptions {
  /**
   * The transport that TLS runs over, where the caller has it: its addresses then stand in the file,
   * and its end is watched to the last byte. Else the addresses are 192.0.2.1 and 192.0.2.2, which
   * are nobody's (RFC 5737).
   */
  readonly transport?: Duplex | undefined;
  /**
   * Takes each piece of the file as it is made, to write it somewhere; nothing is kept then. Without
   * it all is kept for `bytes()`, up to `limit`.
   */
  readonly sink?: ((bytes: Uint8Array) => void) | undefined;
  /** Bytes that are kept without a sink; 64 MiB by default. What comes later is counted, not kept. */
  readonly limit?: number | undefined;
  /** Whether the secrets go into the file; true by default. */
  readonly secrets?: boolean | undefined;
}

const DEFAULT_LIMIT = 64 << 20;

/** Makes a pcapng file of one connection. */
export class PcapngRecorder implements Observer {
  readonly #output: Output;
  readonly #transport: Duplex | null;
  readonly onSecret?: (line: string) => void;
  #ends: Ends | null = null;
  readonly #clock = new Clock();
  #opened = false;
  #connectedAt: bigint | null = null;
  readonly #over: Record<From, boolean> = { local: false, peer: false };
  /** What the transport had delivered before TLS began on it, and what was shown of the rest. */
  readonly #readBefore: number;
  #shown = 0;
  #left = false;

  /** @throws {RangeError} for a limit that is not a whole number of at least 0. */
  constructor(options: PcapngOptions = {}) {
    checkOptionNames(options, ['transport', 'sink', 'limit', 'secrets']);
    const { transport, sink, limit = DEFAULT_LIMIT, secrets = true } = options;
    if (!Number.isInteger(limit) || limit < 0) {
      throw new RangeError('limit must be a whole number, at least 0');
    }
    this.#transport = transport ?? null;
    this.#output =
      sink === undefined
        ? new Kept(limit)
        : new HandedOn(sink, () => this.#ends ?? endpointsOf(this.#transport));
    this.#readBefore = transport === undefined ? 0 : delivered(transport);
    if (secrets) {
      this.onSecret = (line) => this.#output.secret(line.endsWith('\n') ? line : `${line}\n`);
    }
  }

  /** Packets that were not kept, because there were more bytes than `limit`. */
  get dropped(): number {
    return this.#output.dropped;
  }

  /** The file so far. Empty with a sink: it has everything. */
  bytes(): Uint8Array {
    return this.#output.bytes(this.#ends ?? endpointsOf(null), this.#clock.last);
  }

  observe(observation: Observation, at: number): void {
    const time = this.#clock.read(at);
    switch (observation.type) {
      case 'phase':
        if (observation.name === 'connect') this.#connectedAt = time;
        if (observation.name === 'handshake') this.#output.established();
        return;
      case 'transport-eof':
        this.#end('fin', 'peer', time, '');
        return;
      case 'transport-reset':
        this.#end('rst', 'peer', time, `the transport said ${observation.code}`);
        return;
      case 'transport-closed':
        if (observation.how === 'end') {
          this.#watchGoodbye(at);
          this.#end('fin', 'local', time, '');
        } else {
          const comment =
            'the socket was destroyed: the kernel sends FIN, or RST where bytes were unread, and does not say which';
          this.#end('fin', 'local', time, comment);
        }
        return;
      case 'call':
        // What crosses from here on belongs to the transport's next user.
        if (observation.name === 'unwrap') this.#left = true;
        return;
      case 'trailing':
        if (!this.#left) this.#unseen(observation.bytes, time);
        return;
      default:
    }
  }

  /** Every byte of TLS, from the stream. */
  onBytes(direction: Direction, bytes: Uint8Array, at: number): void {
    if (direction === 'received') this.#shown += bytes.length;
    this.#data(direction === 'sent' ? 'local' : 'peer', bytes, this.#clock.read(at));
  }

  /**
   * From FIN on the stream reads and discards, and tells nobody. It has begun to let go of the
   * transport when it tells of FIN, so another reader takes nothing away from it.
   */
  #watchGoodbye(at: number): void {
    const transport = this.#transport;
    if (transport === null || transport.destroyed) return;
    const since = performance.now() - at;
    const now = () => this.#clock.read(performance.now() - since);
    // What was read from the transport and never fed to TLS: how much is known, what it was is not.
    this.#unseen(delivered(transport) - this.#readBefore - this.#shown, this.#clock.read(at));
    if (transport.readableEnded) return;
    const onData = (bytes: Uint8Array) => this.#data('peer', bytes, now());
    const onEnd = () => this.#end('fin', 'peer', now(), '');
    const onClose = () => {
      const { code } = (transport.errored ?? {}) as { code?: string };
      if (code === 'ECONNRESET') this.#end('rst', 'peer', now(), `the transport said ${code}`);
      transport.off('data', onData);
      transport.off('end', onEnd);
      transport.off('close', onClose);
    };
    transport.on('data', onData);
    transport.on('end', onEnd);
    transport.on('close', onClose);
  }

  #unseen(length: number, at: bigint): void {
    if (length <= 0 || this.#over.peer) return;
    this.#shown += length;
    this.#open('peer', at);
    this.#output.add({ type: 'unseen', from: 'peer', length, at });
  }

  #data(from: From, bytes: Uint8Array, at: bigint): void {
    if (bytes.length === 0 || this.#over[from]) return;
    this.#open(from, at);
    // A copy: whose memory it is, and what becomes of it, is for the transport to say.
    this.#output.add({ type: 'data', from, bytes: Uint8Array.from(bytes), at });
  }

  #end(type: 'fin' | 'rst', from: From, at: bigint, comment: string): void {
    if (this.#over[from]) return;
    this.#over[from] = true;
    // After RST neither side sends any more.
    if (type === 'rst') this.#over.local = true;
    this.#open('local', at);
    this.#output.add({ type, from, at, comment });
  }

  /** @param first who sent the first bytes: in TLS that is the client. */
  #open(first: From, at: bigint): void {
    if (this.#opened) return;
    this.#opened = true;
    // Now: a socket that is closed has forgotten its addresses.
    this.#ends = endpointsOf(this.#transport);
    this.#output.add({ type: 'open', from: first, at: this.#connectedAt ?? at });
  }
}

/** A stream's times, on the calendar's clock. */
class Clock {
  /** Nanoseconds since 1970 at the stream's time 0. */
  #origin: bigint | null = null;
  #last = 0n;

  /** What it read last. */
  get last(): bigint {
    return this.#last;
  }

  /** @returns nanoseconds since 1970; never less than what it read before. */
  read(at: number): bigint {
    this.#origin ??= nanoseconds(performance.timeOrigin + performance.now() - at);
    const time = this.#origin + nanoseconds(at);
    if (time > this.#last) this.#last = time;
    return this.#last;
  }
}

/** Bytes that a transport has handed to whoever reads it. Not all transports count. */
function delivered(transport: Duplex): number {
  const { bytesRead } = transport as { bytesRead?: unknown };
  return typeof bytesRead === 'number' ? bytesRead - transport.readableLength : 0;
}

/** Whole microseconds first: a double has no room for nanoseconds since 1970. */
const nanoseconds = (ms: number): bigint => BigInt(Math.round(ms * 1000)) * 1000n;
