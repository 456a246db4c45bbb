/**
 * Client certificates: what a server asks for, and which of ours it would take.
 *
 * @module close-notify/client-cert
 */

export type { CertificateRequest, OidFilter } from '../record/handshake.ts';
export {
  ClientCertificateFinder,
  type FindOptions,
  type FindResult,
  type FindTarget,
  type OidFilterHex,
  type RequestStatus,
  type RequestTime,
} from './finder.ts';
export { type Identity, type LoadOptions, loadIdentities } from './identity.ts';
export { type Match, matchIdentities, type Reason } from './match.ts';
export { DistinguishedName, IssuerNameList, type NameAttribute } from './name.ts';
export { clientCertificateSelector } from './selector.ts';
