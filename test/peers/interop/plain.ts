/** Plaintext over a transport that `unwrap` gave back. */
import type { Duplex } from 'node:stream';
import type { Unwrapped } from '../../../src/index.ts';

export class Plain {
  readonly transport: Duplex;
  #have: Buffer;

  constructor({ transport, trailing }: Unwrapped) {
    this.transport = transport;
    this.#have = Buffer.from(trailing);
  }

  /** Exactly `length` bytes, in order: first what came as trailing data, then the transport's. */
  async read(length: number): Promise<string> {
    const { transport } = this;
    await new Promise<void>((resolve, reject) => {
      const finish = (settle: () => void) => {
        transport.off('data', onData).off('end', onEnd).off('error', onError).pause();
        settle();
      };
      const onData = (chunk: Uint8Array) => {
        this.#have = Buffer.concat([this.#have, chunk]);
        if (this.#have.length >= length) finish(resolve);
      };
      const onEnd = () => finish(() => reject(new Error(`ended after ${this.#have.length} bytes`)));
      const onError = (error: Error) => finish(() => reject(error));
      if (this.#have.length >= length) {
        resolve();
        return;
      }
      transport.on('end', onEnd).on('error', onError).on('data', onData).resume();
    });
    const bytes = this.#have.subarray(0, length);
    this.#have = this.#have.subarray(length);
    return bytes.toString();
  }

  /** What was taken from the transport and not read: it belongs to whoever uses the transport next. */
  takeRest(): Uint8Array {
    const rest = this.#have;
    this.#have = Buffer.alloc(0);
    return rest;
  }

  async write(text: string): Promise<void> {
    await new Promise<void>((resolve, reject) =>
      this.transport.write(text, (error) => (error ? reject(error) : resolve())),
    );
  }
}

/** Text goes both ways, whole and in order. */
export async function talk(one: Plain, two: Plain, length = 200_000): Promise<void> {
  const question = 'question '.repeat(length / 9);
  const answer = 'answer '.repeat(length / 7);
  const [, , heard, answered] = await Promise.all([
    one.write(question),
    two.write(answer),
    two.read(question.length),
    one.read(answer.length),
  ]);
  if (heard !== question || answered !== answer)
    throw new Error('the plaintext is not what was sent');
}
