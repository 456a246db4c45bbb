/** Picking the client certificate while connecting. */
import { IdentityError } from '../errors.ts';
import type { CertificateRequest } from '../record/handshake.ts';
import type { ClientCertificateOption } from '../stream/client-certificate.ts';
import type { Identity } from './identity.ts';
import { type Match, matchIdentities } from './match.ts';

/**
 * For the option `clientCertificate` of `connect`: presents the identity that the server would take, also where there
 * is only one, which may be the wrong one.
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
  return (request: CertificateRequest) => {
    const matches = matchIdentities(identities, request);
    const [best] = matches;
    if (best?.usable && best.identity.options !== null) return best.identity.options;
    return refusal(matches);
  };
}

function refusal(matches: readonly Match[]): IdentityError {
  const lines = matches.map(
    ({ identity, reasons }) =>
      `${identity.source}: ${reasons.map(({ message }) => message).join('; ')}`,
  );
  return new IdentityError(
    `no client certificate is usable here${lines.length > 0 ? `: ${lines.join(' | ')}` : ''}`,
    { hint: 'look at what the server accepts with `close-notify issuers`' },
  );
}
