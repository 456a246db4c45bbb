/** What engines are made with. */
import type net from 'node:net';
import type { Duplex } from 'node:stream';
import type tls from 'node:tls';
import type { CertificateRequest } from '../record/handshake.ts';
import type { EngineEvents, EngineName } from './contract.ts';

/** Options of `tls.connect` that mean something to a stream. */
export type ClientTlsOptions = Omit<
  tls.ConnectionOptions,
  // Of a transport.
  | ('socket' | 'host' | 'path' | 'port' | 'lookup' | 'timeout')
  // Of servers.
  | ('requestCert' | 'SNICallback' | 'ALPNCallback')
  | 'session'
> & {
  /** The server's name for the certificate, where `servername` is not given. */
  readonly host?: string | undefined;
  /** A session to resume: what `onSession` was told of, or `getSession()` gave. */
  readonly session?: Uint8Array | undefined;
};

/** Options of `tls.createServer` that mean something to a stream. */
export type ServerTlsOptions = Omit<
  tls.TlsOptions,
  keyof net.ServerOpts | 'handshakeTimeout' | 'secureContext' | 'allowPartialTrustChain'
> & {
  /**
   * How many session tickets a client is sent behind the handshake (TLS 1.3), 0 to 255; 2 by default, as OpenSSL has
   * it. On the native engine.
   *
   * With 0 nobody resumes, and nothing stands unread at a client that only writes. Many such clients (lftp, ncat,
   * programs in Go, Perl, PHP) close with the tickets unread; their system then sends a reset, which throws away the end
   * of what they sent while they report success. So a server that receives uploads wants 0.
   */
  readonly tickets?: number | undefined;
};

/** What a client presents: a key with its certificate and the chain of that, or both as PKCS#12. */
export type ClientIdentity = Pick<ClientTlsOptions, 'key' | 'cert' | 'pfx' | 'passphrase'>;

/** What every engine is made with. */
export interface EngineOptions {
  readonly transport: Duplex;
  readonly head?: Uint8Array | undefined;
  readonly events: EngineEvents;
  /** Which engine it has to be; undefined for whichever is better. */
  readonly engine?: EngineName | undefined;
  /** Whether the native engine is to be fed, though the transport has a descriptor: for tests. */
  readonly fed?: boolean | undefined;
  /**
   * Of a client, heeded by the native engine alone: what to present to a server that asks; null for what the options
   * have. It is asked once the server's certificate was accepted, and the handshake waits for the answer.
   */
  readonly certificateFor?:
    | ((request: CertificateRequest) => Promise<ClientIdentity | null>)
    | undefined;
  /** Milliseconds that an alert may take to leave before a failure is told without it. */
  readonly linger: number;
}
