/**
 * A peer that shakes hands like any other and then does what no honest one does. It is made of a
 * reference stream and of the channel under it, so what it says up to then is genuine TLS.
 */
import { type Channel, type Cut, FORGED_CLOSE_NOTIFY, type Line } from './channel.ts';
import { closeNotifyAdapter, type Party, type PartyOptions } from './party.ts';

/** Options of `hostilePeer`: as for any party, but that it takes a channel's second end. */
export type HostileOptions = Omit<PartyOptions, 'transport'>;

/** An established peer, about to misbehave. Whatever it does, it never closes by itself. */
export class HostilePeer implements Disposable {
  /** Genuine TLS, for as long as it is wanted. */
  readonly party: Party;
  readonly #wire: Channel;

  /** @internal */
  constructor(party: Party, wire: Channel) {
    this.party = party;
    this.#wire = wire;
  }

  /** Ends or resets the transport, without close_notify. */
  cut(how: Cut): void {
    this.#out.cut(how);
  }

  /** Does so once `bytes` more bytes have passed: inside a record, say. */
  cutAfter(bytes: number, how: Cut): void {
    this.#out.cutAt(this.#out.passed + bytes, how);
  }

  /** Says nothing more, whatever `party` is told to do. */
  fallSilent(): void {
    this.#out.hold();
  }

  /** Takes nothing more: the victim's transport is full after the next write. */
  stopReading(): void {
    this.#wire.forth.clog();
  }

  /** Sends a record that nothing can have encrypted, or the given bytes. */
  sendGarbage(bytes: Uint8Array = Buffer.from([23, 3, 3, 0, 20, ...Buffer.alloc(20, 0x5a)])): void {
    this.#out.inject(bytes);
  }

  /** Sends close_notify in the clear, as anyone on the path could. */
  forgeCloseNotify(): void {
    this.#out.inject(FORGED_CLOSE_NOTIFY);
  }

  get #out(): Line {
    return this.#wire.back;
  }

  /** Drops everything. */
  [Symbol.dispose](): void {
    this.party.destroy();
    this.#wire[Symbol.dispose]();
  }
}

/**
 * Handshakes at the second end of `wire`; the victim is at the first.
 *
 * @throws what the handshake throws.
 */
export async function hostilePeer(wire: Channel, options: HostileOptions): Promise<HostilePeer> {
  const reference = closeNotifyAdapter({ answer: 'when-told' });
  return new HostilePeer(await reference.open({ ...options, transport: wire.ends[1] }), wire);
}
