/**
 * What client certificate a server asks for, read along on a connection.
 *
 * Theory of operation. A `RequestWatcher` is an observer with a `WireDecoder`: the CertificateRequest is in the clear
 * in TLS 1.2's first handshake, and protected in TLS 1.3, behind its handshake, and in renegotiations, where the
 * connection's own key log opens it. So the names are an answer even when the handshake then fails for want of a
 * certificate.
 *
 * Whether a certificate is required shows in what the server does when it gets none, and only in that: a fatal alert
 * about it, or going on. Silence says nothing.
 */
import type { Closure } from '../closure/verdict.ts';
import { CertificateError, CloseNotifyError, MalformedError, RequestError } from '../errors.ts';
import { type Decoded, WireDecoder } from '../record/decoder.ts';
import {
  type CertificateRequest,
  HANDSHAKE_TYPE,
  parseCertificateRequest12,
  parseCertificateRequest13,
} from '../record/handshake.ts';
import { parseKeyLogLine } from '../record/keys.ts';
import { CONTENT_TYPE } from '../record/record.ts';
import { SUITE_NAMES } from '../record/suite-names.ts';
import type { Direction, Observation, Observer } from '../transcript/observer.ts';
import { TruncationTranscript } from '../transcript/on-truncation.ts';
import { Transcript } from '../transcript/transcript.ts';
import type { TlsStream } from './tls-stream.ts';

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

/** When a server asked: in the first handshake, in a renegotiation (TLS 1.2), or behind the handshake (TLS 1.3). */
export type RequestTime = 'handshake' | 'renegotiation' | 'post-handshake';

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

/** Whether a server's alert, behind our Certificate without one, says that it will not do without. */
export function insists({ alert }: Closure): boolean {
  return alert?.direction === 'received' && !UNRELATED_ALERTS.has(alert.name);
}

/**
 * How long a TLS 1.3 server may take to react to our empty Certificate before we go on to shut down,
 * in milliseconds. It decides nothing but when our close_notify goes out: a server that ends the
 * connection with our close_notify unread resets it, and its own alert can be lost in that.
 */
export const REACTION_TIME = 500;

/** An observer that reads along, and remembers what the server asked. */
export class RequestWatcher implements Observer {
  readonly #record: Observer | undefined;
  readonly #check: (request: CertificateRequest) => void;
  readonly #decoder: WireDecoder;
  request: CertificateRequest | null = null;
  #askedIn = 0;
  /** The server's Finished of the handshake in which it asked has come. */
  #finished = false;
  /** Since then it sent something that is not an alert: it goes on without a certificate. */
  #wentOn = false;
  /** Our Certificate message, an empty one, has gone out since it asked. */
  #answered = false;
  #onReaction = () => {};
  #malformed: MalformedError | null = null;
  #unreadable: string | null = null;
  readonly onSecret: (line: string) => void;

  /**
   * @param record is told all of it, too.
   * @param check looks at the request. @throws {MalformedError} for one that cannot be read.
   */
  constructor(record?: Observer, check: (request: CertificateRequest) => void = () => {}) {
    this.#record = record;
    this.#check = check;
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

  /** The record of a connection that is over. One 'on-truncation' is kept only where bytes may be missing. */
  transcript(closure: Closure): Transcript | null {
    const record = this.#record;
    if (record instanceof TruncationTranscript) {
      record.conclude(closure);
      if (closure.incomplete !== true) return null;
    }
    return record instanceof Transcript ? record : null;
  }

  /** When it asked; null where it did not. */
  get when(): RequestTime | null {
    if (this.request === null) return null;
    // RFC 9846 section 4.3.2: the context "SHALL be zero length unless used for the post-handshake authentication".
    if (this.request.context.length > 0) return 'post-handshake';
    return this.#askedIn === 0 ? 'handshake' : 'renegotiation';
  }

  /** What the handshake chose, as far as it came. */
  get tls(): { readonly protocol: string; readonly cipher: string } | null {
    const { hello, tls13 } = this.#decoder;
    if (hello === null) return null;
    return {
      protocol: tls13 ? 'TLSv1.3' : 'TLSv1.2',
      cipher: SUITE_NAMES.get(hello.cipherSuite) ?? 'unknown',
    };
  }

  /** Once the connection is over: whether the server asked, and what it did without a certificate. */
  status(closure: Closure): RequestStatus {
    if (this.request === null) return 'none';
    if (closure.alert?.direction === 'received') {
      return this.#answered && insists(closure) ? 'required' : 'unknown';
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
    const closed =
      decoded.type === 'alert' && decoded.alert.name === 'close_notify' && decoded.authenticated;
    // Behind a request of the first handshake, application data may be older than our answer.
    const served =
      decoded.type === 'record' &&
      decoded.contentType === CONTENT_TYPE.applicationData &&
      this.when === 'post-handshake' &&
      this.#answered;
    if (closed || served) this.#wentOn = true;
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
        this.#check(request);
        this.request = request;
        this.#askedIn = handshake;
        this.#finished = request.context.length > 0;
        this.#wentOn = false;
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

/**
 * Makes a connection to see what its server asks for, and ends it.
 *
 * @param connecting the handshake, which presents no certificate, and has the watcher as its observer.
 * @param meanwhile what is done on the connection besides.
 * @returns how it ended; the stream is null where the server ended the handshake over the certificate.
 * @throws {RequestError} for a request that cannot be read.
 * @throws as `connect`, when the connection failed before the server could ask, or the server is not to be trusted.
 */
export async function watchRequest(
  connecting: Promise<TlsStream>,
  watcher: RequestWatcher,
  signal: AbortSignal | undefined,
  meanwhile: (stream: TlsStream) => Promise<void> = async () => {},
): Promise<{ readonly closure: Closure; readonly stream: TlsStream | null }> {
  let stream: TlsStream;
  try {
    stream = await connecting;
  } catch (error) {
    watcher.check();
    const closure = error instanceof CloseNotifyError ? error.closure : null;
    // Without a request there is no answer. Names from a server that does not verify, or whose handshake we had to
    // refuse, are none either.
    const refused = error instanceof CertificateError || closure?.alert?.direction === 'sent';
    if (watcher.request === null || closure === null || refused) throw error;
    return { closure, stream: null };
  }
  await tolerate(stream, meanwhile(stream));
  await watcher.reaction(stream, signal);
  await tolerate(stream, stream.shutdown({ unread: 'discard', signal }));
  await tolerate(stream, stream.close());
  watcher.check();
  return { closure: stream.closure, stream };
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
