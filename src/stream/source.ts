/** What a Duplex and web streams are made of: a TLS stream, as little of it as they need. */
import type { Closure } from '../closure/verdict.ts';
import { ShutdownError } from '../errors.ts';

/** A TLS stream, for those that read and write it in somebody's stead. */
export interface Source {
  /**
   * The next bytes; null at the peer's end. Rejects with what the stream failed with, behind all bytes that
   * came before. It has no deadline: a Duplex always waits for bytes, whether somebody wants them or not.
   */
  read(): Promise<Uint8Array | null>;
  /** Resolves when the stream can take more. It has no deadline either. */
  write(bytes: Uint8Array): Promise<void>;
  /**
   * Sends close_notify behind all that was written, and resolves once it is with the transport. It waits neither
   * for the peer's nor until a deadline.
   *
   * @returns how many written bytes were not sent: discarded, because a TLS 1.2 peer closed first (`send` is then
   *   closed), or cut off, because the transport broke behind the peer's close_notify.
   */
  shutdown(): Promise<Pick<Closure, 'unsent' | 'send'>>;
  /** Closes as the stream's `close()` does, with its deadlines. */
  close(): Promise<unknown>;
  /** Who reads knows that nothing is missing of what it wanted. */
  idle(): void;
  /** Drops the transport now. Whatever waits rejects. */
  abort(): void;
  /** Resolves when the stream has let its transport go. Never rejects. */
  readonly closed: Promise<unknown>;
  /** Whether more bytes may come from the peer: it has not closed, and nothing has failed. */
  readonly receiving: boolean;
  /** Whether a read waits. */
  readonly reading: boolean;
}

/**
 * Ends the writing side: close_notify behind all that was written.
 *
 * @throws {ShutdownError} where some of it was discarded instead (RFC 5246 section 7.2.1), or cut off.
 */
export async function finishWriting(source: Source): Promise<void> {
  const { unsent, send } = await source.shutdown();
  if (unsent === 0) return;
  throw new ShutdownError(`the peer closed first: ${unsent} written bytes were not sent`, {
    hint:
      send === 'closed'
        ? 'TLS 1.2 asks for an answer to close_notify at once; see the option answer'
        : undefined,
  });
}
