/** The option `clientCertificate` of `connect`: what is presented to a server that asks for a certificate. */
import type { ClientIdentity } from '../engine/options.ts';
import { CloseNotifyError, HandshakeError, OptionError } from '../errors.ts';
import type { CertificateRequest } from '../record/handshake.ts';
import { insists } from './request.ts';

/** What a `clientCertificate` is told besides the request. */
export interface ClientCertificateContext {
  /** Aborted once nobody waits for the answer any more: a deadline, a cancelled call, the connection's end. */
  readonly signal: AbortSignal;
}

/**
 * What to present. Null or undefined: what the options have as `key`, `cert` and `pfx`, or nothing. An Error: the same,
 * and if the server insists, `connect` rejects with it.
 */
export type ClientCertificateAnswer = ClientIdentity | Error | null | undefined;

/**
 * Picks the certificate for a server that asks for one, from the request that it sent: whose certificates it accepts,
 * with which algorithms. What it throws `connect` rejects with.
 */
export type ClientCertificateOption = (
  request: CertificateRequest,
  context: ClientCertificateContext,
) => ClientCertificateAnswer | PromiseLike<ClientCertificateAnswer>;

/** @internal Who only wants to see the request. The tapped engine, too, makes no connection before for it. */
export const NO_CERTIFICATE: ClientCertificateOption = () => null;

const NAMES: readonly string[] = ['key', 'cert', 'pfx', 'passphrase'] satisfies Array<
  keyof ClientIdentity
>;

/** @internal Asks a program's function, for one connection. */
export class CertificateAnswers {
  readonly #function: ClientCertificateOption;
  readonly #over = new AbortController();
  #thrown: { readonly error: unknown } | null = null;
  #refusal: Error | null = null;

  constructor(clientCertificate: ClientCertificateOption) {
    this.#function = clientCertificate;
  }

  /** Why nothing was presented, for a server that insists; null where that was not said. */
  get refusal(): Error | null {
    return this.#refusal;
  }

  async identityFor(request: CertificateRequest): Promise<ClientIdentity | null> {
    try {
      const answer = await this.#function(request, { signal: this.#over.signal });
      this.#refusal = answer instanceof Error ? answer : null;
      return this.#refusal === null ? identityIn(answer) : null;
    } catch (error) {
      this.#thrown ??= { error };
      throw error;
    }
  }

  /** What `connect` rejects with. */
  errorFor(error: unknown): unknown {
    if (this.#thrown !== null) return this.#thrown.error;
    // OpenSSL does not take what was picked.
    if (error instanceof HandshakeError && error.cause instanceof OptionError) return error.cause;
    const closure = error instanceof CloseNotifyError ? error.closure : null;
    return this.#refusal !== null && closure !== null && insists(closure) ? this.#refusal : error;
  }

  /** Nobody waits for an answer any more. */
  over(): void {
    this.#over.abort();
  }
}

/** @throws {OptionError} */
function identityIn(answer: unknown): ClientIdentity | null {
  if (answer === null || answer === undefined) return null;
  const names = typeof answer === 'object' ? Object.keys(answer) : null;
  if (names === null || names.some((name) => !NAMES.includes(name))) {
    throw new OptionError(
      'clientCertificate must give key and cert, or pfx, with a passphrase where there is one; an Error; or null',
    );
  }
  return names.length === 0 ? null : (answer as ClientIdentity);
}
