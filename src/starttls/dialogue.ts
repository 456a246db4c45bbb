/**
 * The plaintext dialogue that precedes TLS, as the protocols see it: read a line or some bytes,
 * write, and be done.
 *
 * Theory of operation. Nothing of this dialogue is authenticated: whoever is on the path can write
 * any of it. What it may lead to is one thing only, the start of TLS; none of its bytes may be taken
 * for something that TLS protected (CVE-2011-0411 and its kin, where a reply sent ahead of TLS was
 * read as if it had come after). So the server speaks when asked and not a byte more: what has come
 * before we ask is refused by `write`, and what has come behind the go-ahead by `finish`. Bytes that
 * come later still go to the TLS engine, for which they are no records.
 *
 * No wait here has a limit of its own. `startTls` puts one deadline and one signal around the whole
 * dialogue, so that a server which sends a byte now and then gains nothing.
 */
import type { Duplex } from 'node:stream';
import { StartTlsError } from '../errors.ts';

/** A line, tag or message longer than this is no part of any dialogue that leads to TLS. */
const UNIT_LIMIT = 8 * 1024;
/** All that a server may say before TLS. */
const TOTAL_LIMIT = 64 * 1024;
/** How much of what the server said is worth quoting. */
const QUOTE_LIMIT = 200;

/** What the server said, fit for an error message: printable characters only, and not too many. */
export function quote(said: string | Uint8Array): string {
  const text = typeof said === 'string' ? said : Buffer.from(said).toString();
  // Neither control characters nor those that turn the direction of text reach a terminal.
  const characters = [...text.trimEnd().replace(/[^\p{L}\p{M}\p{N}\p{P}\p{S} ]/gu, '?')];
  const cut = characters.length > QUOTE_LIMIT;
  return `'${characters.slice(0, QUOTE_LIMIT).join('')}${cut ? '...' : ''}'`;
}

/** One dialogue over one transport. */
export class Dialogue {
  readonly #transport: Duplex;
  /** The server's name, for the protocols that tell it and for messages. */
  readonly host: string;
  /** What is being waited for, for the message of a deadline. */
  waitingFor = 'answer';

  #buffer: Buffer = Buffer.alloc(0);
  #received = 0;
  /** What ended the dialogue; bytes that came before it can still be read. */
  #failure: Error | null = null;
  /** Looks again whether a read can be answered. */
  #wake: (() => void) | null = null;
  #detached = false;
  // biome-ignore lint/suspicious/noExplicitAny: the listeners of events with different arguments
  readonly #listeners: ReadonlyArray<readonly [string, (...args: any[]) => void]>;

  constructor(transport: Duplex, host: string) {
    this.#transport = transport;
    this.host = host;
    this.#listeners = [
      ['data', (chunk: Uint8Array) => this.#onData(chunk)],
      ['end', () => this.#fail(null)],
      ['error', (error: Error) => this.#fail(error)],
      ['close', () => this.#fail(null)],
    ];
    for (const [name, listener] of this.#listeners) transport.on(name, listener);
    // A transport that is over already says nothing more.
    if (transport.errored) this.#fail(transport.errored);
    else if (transport.destroyed || transport.readableEnded) this.#fail(null);
    else transport.resume();
  }

  /**
   * This end of the transport, as an address literal of RFC 5321 section 4.1.3; null where it has no
   * address.
   */
  get localAddressLiteral(): string | null {
    const { localAddress } = this.#transport as { localAddress?: unknown };
    if (typeof localAddress !== 'string') return null;
    const address = localAddress.replace(/^::ffff:(?=[\d.]+$)/i, '').replace(/%.*$/, '');
    return address.includes(':') ? `[IPv6:${address}]` : `[${address}]`;
  }

  /** Whether the server has said something that is not read yet. */
  get hasMore(): boolean {
    return this.#buffer.length > 0 || this.#transport.readableLength > 0;
  }

  /**
   * Reads a line, without its end. That is CRLF; a bare LF is taken too, as nothing rests on telling
   * them apart: what follows the last line is refused either way.
   */
  async line(what: string): Promise<string> {
    const bytes = await this.take(what, (buffer) => buffer.indexOf(0x0a) + 1);
    return bytes.toString().replace(/\r?\n$/, '');
  }

  /** Reads so many bytes. */
  async bytes(length: number, what: string): Promise<Buffer> {
    if (length > UNIT_LIMIT) throw this.#tooLong(what);
    if (length === 0) return Buffer.alloc(0);
    return this.take(what, (buffer) => (buffer.length >= length ? length : 0));
  }

  /** Reads as many bytes as `measure` finds complete at the start of what has come: 0 for none. */
  async take(what: string, measure: (buffer: Buffer) => number): Promise<Buffer> {
    this.waitingFor = what;
    for (;;) {
      const length = measure(this.#buffer);
      if (length > UNIT_LIMIT) throw this.#tooLong(what);
      if (length > 0) {
        const taken = this.#buffer.subarray(0, length);
        this.#buffer = this.#buffer.subarray(length);
        return taken;
      }
      if (this.#buffer.length > UNIT_LIMIT) throw this.#tooLong(what);
      if (this.#failure !== null) throw this.#failure;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }

  /** Speaks. The server must not have spoken out of turn before. */
  write(data: string | Uint8Array): void {
    this.#nothingMore('before it was asked');
    if (this.#failure !== null) throw this.#failure;
    this.#transport.write(data);
  }

  /**
   * The last step: the server gave its go-ahead, and said nothing behind it. The transport is paused
   * then, without a listener of ours.
   */
  finish(): void {
    this.#nothingMore('behind its go-ahead');
    if (this.#failure !== null) throw this.#failure;
    this.detach();
  }

  /** Lets go of the transport, whatever came of the dialogue; a pending read rejects. */
  detach(): void {
    if (this.#detached) return;
    this.#detached = true;
    for (const [name, listener] of this.#listeners) this.#transport.off(name, listener);
    this.#transport.pause();
    this.#failure ??= new StartTlsError('the dialogue is over');
    this.#wake?.();
  }

  /** The server said no. */
  refused(command: string, said: string | Uint8Array): StartTlsError {
    return new StartTlsError(`${this.host} refused ${command}: ${quote(said)}`, {
      hint: 'the server may have no certificate, or want TLS on another port',
    });
  }

  /** The server told what it can do, and STARTTLS is not in it. */
  notOffered(offers: string): StartTlsError {
    const only = offers === '' ? '' : `, only ${quote(offers)}`;
    return new StartTlsError(`${this.host} does not offer STARTTLS${only}`, {
      hint: 'TLS may be switched off there, or somebody on the path strikes out the offer',
    });
  }

  /** The server said what nobody says in this protocol at this point. */
  unexpected(what: string, said: string | Uint8Array): StartTlsError {
    const all =
      typeof said === 'string' ? said : Buffer.concat([said, this.#buffer]).subarray(0, UNIT_LIMIT);
    return new StartTlsError(`${this.host} sent no ${what}, but ${quote(all)}`, {
      hint: 'check the port, and that the server there speaks this protocol',
    });
  }

  #nothingMore(when: string): void {
    if (!this.hasMore) return;
    // What the transport itself has buffered comes here as 'data'.
    this.#transport.read();
    throw new StartTlsError(`${this.host} spoke out of turn, ${when}: ${quote(this.#buffer)}`, {
      hint: 'somebody on the path may have put words into its mouth: do not use this connection',
    });
  }

  #tooLong(what: string): StartTlsError {
    return new StartTlsError(`${this.host} sent too much for a ${what}: ${quote(this.#buffer)}`, {
      hint: 'check the port, and that the server there speaks this protocol',
    });
  }

  #onData(chunk: Uint8Array): void {
    this.#received += chunk.length;
    if (this.#received > TOTAL_LIMIT) {
      this.#failure ??= this.#tooLong('dialogue before TLS');
      // What is in the buffer is not worth reading any more.
      this.#buffer = Buffer.alloc(0);
      this.#transport.pause();
    } else {
      this.#buffer = Buffer.concat([this.#buffer, chunk]);
    }
    this.#wake?.();
  }

  #fail(cause: Error | null): void {
    const only = this.#buffer.length === 0 ? '' : `, only ${quote(this.#buffer)}`;
    this.#failure ??= new StartTlsError(
      cause === null
        ? `${this.host} closed the connection before TLS: no ${this.waitingFor}${only}`
        : `the connection to ${this.host} failed before TLS: ${cause.message}`,
      { cause: cause ?? undefined, hint: 'the server may want no connection from here' },
    );
    this.#wake?.();
  }
}
