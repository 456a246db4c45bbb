/** LDAP: the StartTLS operation, RFC 4511 section 4.14. */
import {
  Constructed,
  Enumerated,
  fromBER,
  Integer,
  OctetString,
  Primitive,
  Sequence,
} from 'asn1js';
import type { Dialogue } from './dialogue.ts';

const START_TLS = '1.3.6.1.4.1.1466.20037';
const ANSWER = 'StartTLS response';

/** Result codes that servers give here (RFC 4511 appendix A). */
const RESULT_NAMES: Readonly<Record<number, string>> = {
  1: 'operationsError',
  2: 'protocolError',
  8: 'strongerAuthRequired',
  10: 'referral',
  13: 'confidentialityRequired',
  50: 'insufficientAccessRights',
  51: 'busy',
  52: 'unavailable',
  53: 'unwillingToPerform',
  80: 'other',
};

/** ExtendedRequest with the name of StartTLS, and an ExtendedResponse with success. */
export async function ldap(dialogue: Dialogue): Promise<void> {
  dialogue.write(startTlsRequest());
  const message = await readMessage(dialogue);
  const response = parseExtendedResponse(message);
  if (response === null) throw dialogue.unexpected(ANSWER, message);
  const { id, resultCode, diagnostic, responseName } = response;
  // Number 0 is the Notice of Disconnection (section 4.4.1), which tells in the same way why.
  if (resultCode !== 0) {
    const name = RESULT_NAMES[resultCode];
    const code = `resultCode ${resultCode}${name === undefined ? '' : ` (${name})`}`;
    throw dialogue.refused('StartTLS', diagnostic === '' ? code : `${code}: ${diagnostic}`);
  }
  if (id !== 1 || (responseName !== null && responseName !== START_TLS)) {
    throw dialogue.unexpected(ANSWER, message);
  }
}

/**
 * LDAPMessage ::= SEQUENCE { messageID 1,
 *   extendedReq [APPLICATION 23] SEQUENCE { requestName [0] LDAPOID } }
 */
function startTlsRequest(): Buffer {
  const tlv = (tag: number, ...content: Uint8Array[]) => {
    const body = Buffer.concat(content);
    return Buffer.concat([Buffer.from([tag, body.length]), body]);
  };
  const messageId = tlv(0x02, Buffer.from([1]));
  return tlv(0x30, messageId, tlv(0x77, tlv(0x80, Buffer.from(START_TLS))));
}

/** Reads one LDAPMessage, by its outer tag and length. */
async function readMessage(dialogue: Dialogue): Promise<Buffer> {
  const head = await dialogue.bytes(2, ANSWER);
  const [tag, first = 0] = head;
  if (tag !== 0x30) throw dialogue.unexpected(ANSWER, head);
  if (first < 0x80) return Buffer.concat([head, await dialogue.bytes(first, ANSWER)]);
  // "Only the definite form of length encoding is used" (section 5.1).
  const size = first & 0x7f;
  if (size < 1 || size > 4) throw dialogue.unexpected(ANSWER, head);
  const length = await dialogue.bytes(size, ANSWER);
  const body = await dialogue.bytes(length.readUIntBE(0, size), ANSWER);
  return Buffer.concat([head, length, body]);
}

/** The one value that these bytes are, or null. */
function parseBer(bytes: Uint8Array): ReturnType<typeof fromBER>['result'] | null {
  try {
    const { offset, result } = fromBER(Uint8Array.from(bytes));
    return offset === bytes.length ? result : null;
  } catch {
    // Some values, times among them, are looked into while they are parsed.
    return null;
  }
}

interface ExtendedResponse {
  readonly id: number;
  readonly resultCode: number;
  readonly diagnostic: string;
  readonly responseName: string | null;
}

/**
 * ExtendedResponse ::= [APPLICATION 24] SEQUENCE { resultCode ENUMERATED, matchedDN, diagnosticMessage
 * OCTET STRING, referral [3] OPTIONAL, responseName [10] OPTIONAL, responseValue [11] OPTIONAL }
 */
function parseExtendedResponse(message: Uint8Array): ExtendedResponse | null {
  const root = parseBer(message);
  if (!(root instanceof Sequence)) return null;
  const [id, operation] = root.valueBlock.value;
  if (!(id instanceof Integer) || !(operation instanceof Constructed)) return null;
  const { tagClass, tagNumber } = operation.idBlock;
  if (tagClass !== 2 || tagNumber !== 24) return null;
  const [resultCode, matchedDn, diagnostic, ...rest] = operation.valueBlock.value;
  if (
    !(resultCode instanceof Enumerated) ||
    // More would be no small number, and none would be no number.
    resultCode.valueBlock.valueHexView.length !== 1 ||
    !(matchedDn instanceof OctetString) ||
    !(diagnostic instanceof OctetString)
  ) {
    return null;
  }
  const name = rest.find((one) => one.idBlock.tagClass === 3 && one.idBlock.tagNumber === 10);
  if (name !== undefined && !(name instanceof Primitive)) return null;
  return {
    id: id.valueBlock.valueDec,
    resultCode: resultCode.valueBlock.valueDec,
    diagnostic: Buffer.from(diagnostic.valueBlock.valueHexView).toString(),
    responseName:
      name === undefined ? null : Buffer.from(name.valueBlock.valueHexView).toString('latin1'),
  };
}
