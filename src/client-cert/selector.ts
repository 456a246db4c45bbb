/** Picking the client certificate while connecting. */
import { IdentityError } from '../errors.ts';
import type { ClientCertificateOption, ConnectOptions } from '../stream/connect.ts';
import { ClientCertificateFinder } from './finder.ts';
import type { Identity } from './identity.ts';
import { matchIdentities } from './match.ts';

/**
 * For the option `clientCertificate` of `connect`: presents the identity that the server would take.
 *
 * It takes two connections, also with a single identity, which may be the wrong one: Node's TLS has to be given the
 * certificate before the handshake begins, so a first connection, made without one and shut down properly, asks for
 * the request, and the second authenticates.
 *
 * Where the server does not ask, or asks without insisting and no identity is usable, `connect`
 * goes on without a certificate.
 *
 * @throws {IdentityError} from `connect`, with every reason, when the server requires a certificate
 *   and none is usable.
 */
export function clientCertificateSelector(
  identities: readonly Identity[],
): ClientCertificateOption {
  return async (options: ConnectOptions) => {
    // What is recorded is the caller's connection, not this one, and its sessions are not this one's: a server asks for
    // nothing where it resumes.
    const { record: _, session: __, onSession: ___, ...asking } = options;
    const { certificateRequest, request } = await new ClientCertificateFinder().find(
      asking,
      asking,
    );
    if (certificateRequest === null) return {};
    const [best] = matchIdentities(identities, certificateRequest);
    if (best?.usable && best.identity.options !== null) return best.identity.options;
    if (request === 'required') throw refusal(identities, certificateRequest);
    return {};
  };
}

function refusal(
  identities: readonly Identity[],
  request: Parameters<typeof matchIdentities>[1],
): IdentityError {
  const lines = matchIdentities(identities, request).map(
    ({ identity, reasons }) =>
      `${identity.source}: ${reasons.map(({ message }) => message).join('; ')}`,
  );
  return new IdentityError(
    `no client certificate is usable here${lines.length > 0 ? `: ${lines.join(' | ')}` : ''}`,
    { hint: 'look at what the server accepts with `close-notify issuers`' },
  );
}
