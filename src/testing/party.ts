/** What the conformance kit asks of a TLS stream, and the answer for the streams of this package. */
import type { Duplex } from 'node:stream';
import type { PolicyOptions } from '../closure/policy.ts';
import type { Unwrapped } from '../stream/closing.ts';
import { accept, connect } from '../stream/connect.ts';
import type { TlsStream } from '../stream/tls-stream.ts';
import type { Credentials } from './credentials.ts';

/** The handshake's two sides. */
export const ROLES = ['client', 'server'] as const;
/** Which part a party plays in the handshake. */
export type Role = (typeof ROLES)[number];

/** The versions that the kit knows. */
export const VERSIONS = ['TLSv1.2', 'TLSv1.3'] as const;
/** A version of TLS, as Node names it. */
export type Version = (typeof VERSIONS)[number];

/** What `Adapter.open` is given. */
export interface PartyOptions {
  /** Which side of the handshake to take. */
  readonly role: Role;
  /** The only version to offer. */
  readonly version: Version;
  /** A connected transport that is nobody else's. */
  readonly transport: Duplex;
  /** A server presents `key` and `cert`; a client trusts `ca` and expects `servername`. */
  readonly credentials: Credentials;
  /** Milliseconds after which a handshake or a `close` is to give up on a silent peer. */
  readonly deadline: number;
}

/** How the peer's bytes ended, as a stream sees it: not yet, with close_notify, or otherwise. */
export type Ending = 'open' | 'clean' | 'failed';

/** One established TLS stream, as little of it as closing needs. */
export interface Party {
  /** Resolves when the stream can take more. Rejects after `closeWrite` or `close`. */
  write(bytes: Uint8Array): Promise<void>;
  /** The next bytes; null at the end; rejects where the stream says that there was none. */
  read(): Promise<Uint8Array | null>;
  /** Sends close_notify behind everything written, and does not wait for the peer's. */
  closeWrite(): Promise<void>;
  /** Sends close_notify, waits for the peer's, and closes the transport. */
  close(): Promise<void>;
  /** Drops everything at once; the check is over. */
  destroy(): void;
  /** How the peer's bytes ended, for a stream that has a word for it. */
  ending?(): Ending;
  /** After both close_notify: the transport, and what of it was read already. */
  unwrap?(): Promise<Unwrapped>;
}

/** A kind of TLS stream. */
export interface Adapter {
  /** As it is called in reports. */
  readonly name: string;
  /** Roles that it can take; both by default. */
  readonly roles?: readonly Role[] | undefined;
  /** Versions that it speaks; both by default. */
  readonly versions?: readonly Version[] | undefined;
  /** Handshakes. Rejects where the handshake fails, is cut, or takes too long. */
  open(options: PartyOptions): Promise<Party>;
}

/**
 * The streams of this package as an adapter.
 *
 * @param policy how they close; the default policy by default.
 */
export function closeNotifyAdapter(policy: PolicyOptions = {}): Adapter {
  return {
    name: 'close-notify',
    async open({ role, version, transport, credentials, deadline }) {
      const options = {
        minVersion: version,
        maxVersion: version,
        ...policy,
        deadlines: { handshake: deadline, shutdown: deadline, close: deadline },
      };
      const { key, cert, ca, servername } = credentials;
      const stream =
        role === 'client'
          ? await connect({ ...options, transport, ca, servername })
          : await accept(transport, { ...options, key, cert });
      return new OwnParty(stream);
    },
  };
}

class OwnParty implements Party {
  readonly #stream: TlsStream;

  constructor(stream: TlsStream) {
    this.#stream = stream;
  }

  write(bytes: Uint8Array): Promise<void> {
    return this.#stream.write(bytes);
  }

  read(): Promise<Uint8Array | null> {
    return this.#stream.read();
  }

  async closeWrite(): Promise<void> {
    await this.#stream.shutdown({ wait: false });
  }

  async close(): Promise<void> {
    await this.#stream.close();
  }

  destroy(): void {
    this.#stream.abort();
  }

  unwrap(): Promise<Unwrapped> {
    return this.#stream.unwrap();
  }

  ending(): Ending {
    switch (this.#stream.closure.receive) {
      case 'handshaking':
      case 'open':
        return 'open';
      case 'closed':
        return 'clean';
      default:
        return 'failed';
    }
  }
}
