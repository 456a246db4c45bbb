/** The handshake messages of one direction, of which only the beginning of some is kept. */
import { HANDSHAKE_TYPE } from './handshake.ts';

/**
 * How much of a message is kept. OpenSSL takes no ServerHello longer than this (SERVER_HELLO_MAX_LENGTH); of a
 * ClientHello its random is wanted, of a KeyUpdate whether it is one.
 */
const KEPT: ReadonlyMap<number, number> = new Map([
  [HANDSHAKE_TYPE.clientHello, 34],
  [HANDSHAKE_TYPE.serverHello, 20_000],
  [HANDSHAKE_TYPE.keyUpdate, 2],
]);

export interface SkimmedMessage {
  readonly type: number;
  /** Its length, of which not all may be kept. */
  readonly length: number;
  readonly kept: Uint8Array;
  /** Whether it ends where its record ends. */
  readonly last: boolean;
}

const NOTHING = new Uint8Array(0);

export class HandshakeSkimmer {
  readonly #header: number[] = [];
  #length = 0;
  #kept: Uint8Array = NOTHING;
  /** How much of the message has come. */
  #have = 0;

  /** Whether a message has begun and not ended. */
  get midMessage(): boolean {
    return this.#header.length > 0;
  }

  /**
   * Takes the content of one record.
   *
   * @param onHeader told of each message that begins, by its type and length.
   * @param onMessage told of each as it ends.
   */
  push(
    content: Uint8Array,
    onHeader: (type: number, length: number) => void,
    onMessage: (message: SkimmedMessage) => void,
  ): void {
    for (let at = 0; at < content.length; ) {
      if (this.#header.length < 4) {
        this.#header.push(content[at++] as number);
        if (this.#header.length < 4) continue;
        const [type, ...length] = this.#header as [number, ...number[]];
        this.#length = length.reduce((sum, byte) => sum * 256 + byte, 0);
        this.#kept = new Uint8Array(Math.min(this.#length, KEPT.get(type) ?? 0));
        this.#have = 0;
        onHeader(type, this.#length);
      }
      const piece = content.subarray(at, at + this.#length - this.#have);
      if (this.#have < this.#kept.length) {
        this.#kept.set(piece.subarray(0, this.#kept.length - this.#have), this.#have);
      }
      this.#have += piece.length;
      at += piece.length;
      if (this.#have < this.#length) return;
      const message = {
        type: this.#header[0] as number,
        length: this.#length,
        kept: this.#kept,
        last: at === content.length,
      };
      this.#header.length = 0;
      this.#kept = NOTHING;
      onMessage(message);
    }
  }
}
