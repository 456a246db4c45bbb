/**
 * What client certificate a server asks for: an ordinary connection without one, with a `RequestWatcher` on it, judged
 * and told in words.
 */
import type { Closure } from '../closure/verdict.ts';
import { CloseNotifyError, OptionError } from '../errors.ts';
import { checkOptionNames } from '../option-names.ts';
import type { CertificateRequest } from '../record/handshake.ts';
import { certificateTypeName, signatureSchemeName } from '../record/schemes.ts';
import { hostAndPort } from '../server-name.ts';
import { NO_CERTIFICATE } from '../stream/client-certificate.ts';
import { type ConnectOptions, connect, observerOf } from '../stream/connect.ts';
import { CLIENT_OPTIONS } from '../stream/options.ts';
import {
  type RequestStatus,
  type RequestTime,
  RequestWatcher,
  watchRequest,
} from '../stream/request.ts';
import type { TlsStream } from '../stream/tls-stream.ts';
import type { Observer } from '../transcript/observer.ts';
import type { Transcript } from '../transcript/transcript.ts';
import type { Identity } from './identity.ts';
import { type Match, matchIdentities } from './match.ts';
import { IssuerNameList } from './name.ts';

export type { RequestStatus, RequestTime };

/** Where to look: what `connect` takes. */
export type FindTarget = Pick<ConnectOptions, 'host' | 'port' | 'path' | 'transport' | 'head'>;

/** How to look: the options of `connect`, and more. */
export interface FindOptions extends Omit<ConnectOptions, keyof FindTarget> {
  /**
   * Request this path with HTTP before closing: some servers ask only for some paths, by TLS 1.2
   * renegotiation, or behind the handshake in TLS 1.3.
   */
  readonly http?: string | undefined;
  /** Identities to judge against what the server asks for. */
  readonly identities?: readonly Identity[] | undefined;
}

/** What `connect` refuses, or does not take here, it says by itself. */
const FIND_OPTIONS: readonly string[] = [...Object.keys(CLIENT_OPTIONS), 'http', 'identities'];

/** A filter of the request on certificate extensions (TLS 1.3), in hexadecimal DER. */
export interface OidFilterHex {
  readonly oid: string;
  readonly values: string;
}

/** What was found. */
export interface FindResult {
  /** Whether it asks, and what it does without an answer. */
  readonly request: RequestStatus;
  /** When it asked; null where it did not. */
  readonly when: RequestTime | null;
  /** Whose certificates it accepts. Empty with a request: it names nobody, and may take any. */
  readonly issuers: IssuerNameList;
  /** SignatureScheme names that the certificate's key has to sign with. */
  readonly signatureAlgorithms: readonly string[];
  /** ClientCertificateType names (TLS 1.2), otherwise null. */
  readonly certificateTypes: readonly string[] | null;
  /** (TLS 1.3), otherwise null. */
  readonly oidFilters: readonly OidFilterHex[] | null;
  /** What the handshake chose, as far as it came. */
  readonly tls: { readonly protocol: string; readonly cipher: string } | null;
  /**
   * Whether the server's certificate verified; null where the server ended the handshake before it
   * could be judged, as TLS 1.2 servers do that require a certificate, on the tapped engine. The names are anyone's
   * then. The native engine judges before it answers.
   */
  readonly authorized: boolean | null;
  /** Why it did not, as a code. */
  readonly authorizationError: string | null;
  /** How the connection ended. */
  readonly closure: Closure;
  /** The request itself, for matching; null where there was none. */
  readonly certificateRequest: CertificateRequest | null;
  /** The given identities, judged: the best usable one first. */
  readonly matches: readonly Match[];
  /** What could not be looked at, in words; null where everything was. */
  readonly limitation: string | null;
  /** The record, where the option `record` asked for one: as `stream.transcript`. */
  readonly transcript: Transcript | null;
}

const POST_HANDSHAKE =
  "TLS 1.3 servers can ask after the handshake, but only clients that offer it: the native engine does, Node's TLS does not";

/** Finds out which client certificate a server accepts. */
export class ClientCertificateFinder {
  readonly #defaults: FindOptions;

  /** @param defaults options of every `find`. */
  constructor(defaults: FindOptions = {}) {
    checkOptionNames(defaults, FIND_OPTIONS);
    this.#defaults = defaults;
  }

  /**
   * Connects, handshakes without a certificate, shuts down, and tells what the server asked for.
   *
   * The server's certificate is verified unless `rejectUnauthorized` is false: names from a server
   * that does not verify are anyone's names.
   *
   * @throws {RequestError} `ERR_TLS_REQUEST` for a request that cannot be read.
   * @throws as `connect`, when the connection failed before the server could ask.
   */
  async find(target: FindTarget, options: FindOptions = {}): Promise<FindResult> {
    checkOptionNames(options, FIND_OPTIONS);
    const { http, record, identities = [], ...connectOptions } = { ...this.#defaults, ...options };
    if (http !== undefined && !/^\/[\x21-\x7e]*$/.test(http)) {
      throw new OptionError("http must be a path, such as '/private'");
    }
    const { host, port, path } = target;
    const observer = observerOf(record, () =>
      host === undefined ? path : hostAndPort(host, port),
    );
    const watcher = requestWatcher(observer);
    const looking = { ...target, ...connectOptions, record: watcher };
    const { signal } = connectOptions;
    try {
      const { closure, stream } = await watchRequest(
        connect({ ...looking, clientCertificate: NO_CERTIFICATE }),
        watcher,
        signal,
        async (made) => {
          if (http !== undefined) await requestPath(made, target, http, connectOptions);
        },
      );
      const unseen = http !== undefined && stream?.tls.protocol === 'TLSv1.3';
      const limitation = unseen && stream.tls.engine === 'tapped' ? POST_HANDSHAKE : null;
      return resultOf(watcher, closure, stream, limitation, identities);
    } catch (error) {
      if (error instanceof CloseNotifyError && error.closure !== null) {
        watcher.transcript(error.closure);
      }
      throw error;
    }
  }
}

/** A watcher that takes no names for names that are none. */
export const requestWatcher = (record: Observer | undefined): RequestWatcher =>
  new RequestWatcher(record, ({ authorities }) => new IssuerNameList(authorities));

/** An HTTP/1.1 request for the path; its answer is read, not looked at. */
async function requestPath(
  stream: TlsStream,
  { host = 'localhost', port }: FindTarget,
  path: string,
  options: FindOptions,
): Promise<void> {
  const limits = { deadline: options.deadlines?.read ?? 10_000, signal: options.signal };
  // RFC 9110 section 7.2: an IPv6 address in brackets, and the port unless it is the usual one.
  const name = host.includes(':') ? `[${host}]` : host;
  const isUsual = port === undefined || Number(port) === 443;
  const authority = isUsual ? name : hostAndPort(host, port);
  await stream.write(
    `GET ${path} HTTP/1.1\r\nHost: ${authority}\r\nUser-Agent: close-notify\r\nConnection: close\r\n\r\n`,
    limits,
  );
  while ((await stream.read(limits)) !== null) {
    // "Connection: close" makes the server end the connection.
  }
}

/** What was found, once the connection is over. */
function resultOf(
  watcher: RequestWatcher,
  closure: Closure,
  stream: TlsStream | null,
  limitation: string | null,
  identities: readonly Identity[],
): FindResult {
  const { request } = watcher;
  return {
    request: watcher.status(closure),
    when: watcher.when,
    issuers: new IssuerNameList(request?.authorities ?? []),
    signatureAlgorithms: (request?.signatureAlgorithms ?? []).map(signatureSchemeName),
    certificateTypes: request?.certificateTypes?.map(certificateTypeName) ?? null,
    oidFilters:
      request?.oidFilters?.map(({ oid, values }) => ({
        oid: Buffer.from(oid).toString('hex'),
        values: Buffer.from(values).toString('hex'),
      })) ?? null,
    tls: watcher.tls,
    authorized: stream?.tls.authorized ?? null,
    authorizationError: stream?.tls.authorizationError ?? null,
    closure,
    certificateRequest: request,
    matches: matchIdentities(identities, request),
    limitation,
    transcript: watcher.transcript(closure),
  };
}
