/**
 * What client certificate a server asks for.
 *
 * Theory of operation. The finder makes an ordinary connection without a certificate and reads along
 * with a `WireDecoder`: the CertificateRequest is in the clear in TLS 1.2's first handshake, and
 * protected in TLS 1.3 and in renegotiations, where the connection's own key log opens it. So the
 * names are an answer even when the handshake then fails for want of a certificate.
 *
 * Whether a certificate is required shows in what the server does when it gets none, and only in
 * that: a fatal alert about it, or going on. Silence says nothing.
 */
import type { Closure } from '../closure/verdict.ts';
import {
  CertificateError,
  CloseNotifyError,
  MalformedError,
  OptionError,
  RequestError,
} from '../errors.ts';
import { checkOptionNames } from '../option-names.ts';
import { type Decoded, WireDecoder } from '../record/decoder.ts';
import {
  type CertificateRequest,
  HANDSHAKE_TYPE,
  parseCertificateRequest12,
  parseCertificateRequest13,
} from '../record/handshake.ts';
import { parseKeyLogLine } from '../record/keys.ts';
import { certificateTypeName, signatureSchemeName } from '../record/schemes.ts';
import { SUITE_NAMES } from '../record/suite-names.ts';
import { hostAndPort } from '../server-name.ts';
import { type ConnectOptions, connect, observerOf } from '../stream/connect.ts';
import { CLIENT_OPTIONS } from '../stream/options.ts';
import type { TlsStream } from '../stream/tls-stream.ts';
import type { Direction, Observation, Observer } from '../transcript/observer.ts';
import { TruncationTranscript } from '../transcript/on-truncation.ts';
import { Transcript } from '../transcript/transcript.ts';
import type { Identity } from './identity.ts';
import { type Match, matchIdentities } from './match.ts';
import { IssuerNameList } from './name.ts';

/** Where to look: what `connect` takes. */
export type FindTarget = Pick<ConnectOptions, 'host' | 'port' | 'path' | 'transport' | 'head'>;

/** How to look: the options of `connect`, and more. */
export interface FindOptions extends Omit<ConnectOptions, keyof FindTarget> {
  /**
   * Request this path with HTTP before closing: some servers ask only for some paths, by TLS 1.2
   * renegotiation.
   */
  readonly http?: string | undefined;
  /** Identities to judge against what the server asks for. */
  readonly identities?: readonly Identity[] | undefined;
}

/** What `connect` refuses, or does not take here, it says by itself. */
const FIND_OPTIONS: readonly string[] = [...Object.keys(CLIENT_OPTIONS), 'http', 'identities'];

/** Whether the server asks for a certificate, and what it does when it gets none. */
export type RequestStatus =
  /** It does not ask. */
  | 'none'
  /** It asks, and goes on without. (Its application may still refuse: nginx answers HTTP 400.) */
  | 'optional'
  /** It asks, and ends the connection with an alert when it gets none. */
  | 'required'
  /** It asks; what it does without was not to be seen. */
  | 'unknown';

/** A filter of the request on certificate extensions (TLS 1.3), in hexadecimal DER. */
export interface OidFilterHex {
  readonly oid: string;
  readonly values: string;
}

/** What was found. */
export interface FindResult {
  /** Whether it asks, and what it does without an answer. */
  readonly request: RequestStatus;
  /** When it asked: in the first handshake or in a renegotiation; null where it did not. */
  readonly when: 'handshake' | 'renegotiation' | null;
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
   * could be judged, as TLS 1.2 servers do that require a certificate. The names are anyone's then.
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

/**
 * Alerts that are about something other than the missing certificate. All others, once the server
 * has our empty Certificate message, say that it will not do without: `certificate_required` and
 * `handshake_failure` by the standards, `bad_certificate` or even `decode_error` by some servers.
 */
const UNRELATED_ALERTS: ReadonlySet<string> = new Set([
  'internal_error',
  'bad_record_mac',
  'record_overflow',
  'decrypt_error',
  'unexpected_message',
  'protocol_version',
  'insufficient_security',
  'user_canceled',
  'unrecognized_name',
  'no_application_protocol',
]);

/**
 * How long a TLS 1.3 server may take to react to our empty Certificate before we go on to shut down,
 * in milliseconds. It decides nothing but when our close_notify goes out: a server that ends the
 * connection with our close_notify unread resets it, and its own alert can be lost in that.
 */
const REACTION_TIME = 500;

const POST_HANDSHAKE =
  'TLS 1.3 servers can ask after the handshake, but only clients that offer it; Node does not';

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
    const watcher = new RequestWatcher(observer);
    let stream: TlsStream;
    try {
      stream = await connect({ ...target, ...connectOptions, record: watcher });
    } catch (error) {
      watcher.check();
      const closure = error instanceof CloseNotifyError ? error.closure : null;
      // Without a request there is no answer. Names from a server that does not verify, or whose
      // handshake we had to refuse, are none either.
      const refused = error instanceof CertificateError || closure?.alert?.direction === 'sent';
      if (watcher.request === null || closure === null || refused) {
        if (closure !== null) watcher.transcript(closure);
        throw error;
      }
      return watcher.result(closure, null, null, identities);
    }
    const limitation =
      http !== undefined && stream.tls.protocol === 'TLSv1.3' ? POST_HANDSHAKE : null;
    if (http !== undefined) {
      await tolerate(stream, requestPath(stream, target, http, connectOptions));
    }
    await watcher.reaction(stream, connectOptions.signal);
    await tolerate(stream, stream.shutdown({ unread: 'discard', signal: connectOptions.signal }));
    await tolerate(stream, stream.close());
    watcher.check();
    return watcher.result(stream.closure, stream, limitation, identities);
  }
}

/** How the server ends the connection is part of the answer. Being cancelled is not. */
async function tolerate(stream: TlsStream, call: Promise<unknown>): Promise<void> {
  try {
    await call;
  } catch (error) {
    if (error instanceof CloseNotifyError && error.code !== 'ABORT_ERR') return;
    stream.abort();
    throw error;
  }
}

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

/** An observer that reads along, and remembers what the server asked. */
export class RequestWatcher implements Observer {
  readonly #record: Observer | undefined;
  readonly #decoder: WireDecoder;
  request: CertificateRequest | null = null;
  #askedIn = 0;
  /** The server's Finished of the handshake in which it asked. */
  #finished = false;
  /** Since then it sent something that is not an alert: it goes on without a certificate. */
  #wentOn = false;
  /** Our Certificate message, an empty one, has gone out since it asked. */
  #answered = false;
  #onReaction = () => {};
  #malformed: MalformedError | null = null;
  #unreadable: string | null = null;
  readonly onSecret: (line: string) => void;

  constructor(record: Observer | undefined) {
    this.#record = record;
    this.#decoder = new WireDecoder((decoded) => this.#onDecoded(decoded));
    this.onSecret = (line) => {
      const entry = parseKeyLogLine(line);
      if (entry !== null) this.#decoder.addSecret(entry);
      record?.onSecret?.(line);
    };
  }

  observe(observation: Observation, at: number): void {
    this.#record?.observe(observation, at);
  }

  onBytes(direction: Direction, bytes: Uint8Array, at: number): void {
    this.#decoder.push(direction === 'sent' ? 'client' : 'server', bytes);
    this.#record?.onBytes?.(direction, bytes, at);
  }

  /** @throws {RequestError} when the server asked in words that cannot be read. */
  check(): void {
    // In TLS 1.3 the request is among what could not be read; in TLS 1.2 it would have come before.
    if (this.request === null && this.#unreadable !== null && this.#decoder.tls13) {
      throw new RequestError(`the server's messages cannot be read: ${this.#unreadable}`);
    }
    if (this.#malformed === null) return;
    throw new RequestError(`the CertificateRequest cannot be read: ${this.#malformed.message}`, {
      cause: this.#malformed,
    });
  }

  /** What was found, once the connection is over. */
  result(
    closure: Closure,
    stream: TlsStream | null,
    limitation: string | null,
    identities: readonly Identity[],
  ): FindResult {
    const { request } = this;
    return {
      request: this.#status(closure),
      when: request === null ? null : this.#askedIn === 0 ? 'handshake' : 'renegotiation',
      issuers: new IssuerNameList(request?.authorities ?? []),
      signatureAlgorithms: (request?.signatureAlgorithms ?? []).map(signatureSchemeName),
      certificateTypes: request?.certificateTypes?.map(certificateTypeName) ?? null,
      oidFilters:
        request?.oidFilters?.map(({ oid, values }) => ({
          oid: Buffer.from(oid).toString('hex'),
          values: Buffer.from(values).toString('hex'),
        })) ?? null,
      tls: this.#tls,
      authorized: stream?.tls.authorized ?? null,
      authorizationError: stream?.tls.authorizationError ?? null,
      closure,
      certificateRequest: request,
      matches: matchIdentities(identities, request),
      limitation,
      transcript: this.transcript(closure),
    };
  }

  /** The record of a connection that is over. One 'on-truncation' is kept only where bytes may be missing. */
  transcript(closure: Closure): Transcript | null {
    const record = this.#record;
    if (record instanceof TruncationTranscript) {
      record.conclude(closure);
      if (closure.incomplete !== true) return null;
    }
    return record instanceof Transcript ? record : null;
  }

  get #tls(): FindResult['tls'] {
    const { hello, tls13 } = this.#decoder;
    if (hello === null) return null;
    return {
      protocol: tls13 ? 'TLSv1.3' : 'TLSv1.2',
      cipher: SUITE_NAMES.get(hello.cipherSuite) ?? 'unknown',
    };
  }

  #status(closure: Closure): RequestStatus {
    if (this.request === null) return 'none';
    const { alert } = closure;
    if (alert?.direction === 'received') {
      return this.#answered && !UNRELATED_ALERTS.has(alert.name) ? 'required' : 'unknown';
    }
    // TLS 1.2's server has our answer before its Finished; TLS 1.3's only after.
    const went = this.request.version === 'TLSv1.2' ? this.#finished : this.#wentOn;
    return went ? 'optional' : 'unknown';
  }

  /** Waits for a TLS 1.3 server to react to our empty Certificate, for a while. */
  async reaction(stream: TlsStream, signal: AbortSignal | undefined): Promise<void> {
    if (this.request?.version !== 'TLSv1.3' || this.#wentOn) return;
    const reacted = new Promise<void>((resolve) => {
      this.#onReaction = resolve;
    });
    const stop = new AbortController();
    const limits = [stop.signal, ...(signal === undefined ? [] : [signal])];
    // What it sends is of no interest, only that it does; an alert ends the read.
    const reading = stream
      .read({ deadline: REACTION_TIME, signal: AbortSignal.any(limits) })
      .catch(() => null);
    await Promise.race([reacted, reading]);
    stop.abort();
    await reading;
  }

  #onDecoded(decoded: Decoded): void {
    const { type, sender } = decoded;
    const answer = type === 'handshake' && decoded.messageType === HANDSHAKE_TYPE.certificate;
    if (sender === 'client' && answer && this.request !== null) this.#answered = true;
    if (decoded.sender !== 'server') return;
    if (decoded.type === 'unreadable') this.#unreadable = decoded.reason;
    if (decoded.type === 'handshake') {
      try {
        this.#onMessage(decoded);
      } catch (error) {
        if (!(error instanceof MalformedError)) throw error;
        this.#malformed ??= error;
      }
      return;
    }
    if (!this.#finished) return;
    const goingOn = decoded.type === 'alert' && decoded.alert.name === 'close_notify';
    if (goingOn && decoded.authenticated) this.#wentOn = true;
  }

  #onMessage({
    messageType,
    body,
    handshake,
    tls13,
  }: Extract<Decoded, { type: 'handshake' }>): void {
    switch (messageType) {
      case HANDSHAKE_TYPE.certificateRequest: {
        const request = tls13 ? parseCertificateRequest13(body) : parseCertificateRequest12(body);
        // Names that are not names must not come out as names.
        new IssuerNameList(request.authorities);
        this.request = request;
        this.#askedIn = handshake;
        this.#finished = false;
        this.#answered = false;
        return;
      }
      case HANDSHAKE_TYPE.finished:
        if (this.request !== null && handshake === this.#askedIn) this.#finished = true;
        return;
      case HANDSHAKE_TYPE.newSessionTicket:
        // A TLS 1.3 server makes tickets once it has accepted the client.
        if (this.#finished && tls13) {
          this.#wentOn = true;
          this.#onReaction();
        }
        return;
    }
  }
}
