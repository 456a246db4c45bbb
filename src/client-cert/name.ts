/**
 * Distinguished names: kept as DER, compared as DER, printed for people by RFC 4514.
 */
import {
  Set as Asn1Set,
  BaseStringBlock,
  type Constructed,
  fromBER,
  ObjectIdentifier,
  Sequence,
} from 'asn1js';
import { hex } from '../record/handshake.ts';
import { MalformedError } from '../record/reader.ts';

/** RFC 4514 section 3: the short names that every reader knows. */
const SHORT_NAMES: ReadonlyMap<string, string> = new Map([
  ['2.5.4.3', 'CN'],
  ['2.5.4.7', 'L'],
  ['2.5.4.8', 'ST'],
  ['2.5.4.10', 'O'],
  ['2.5.4.11', 'OU'],
  ['2.5.4.6', 'C'],
  ['2.5.4.9', 'STREET'],
  ['0.9.2342.19200300.100.1.25', 'DC'],
  ['0.9.2342.19200300.100.1.1', 'UID'],
]);

/** One attribute of a name. */
export interface NameAttribute {
  /** The type's object identifier, dotted. */
  readonly oid: string;
  /** The value as text; null where it is not a character string. */
  readonly text: string | null;
  /** The value's encoding, tag and length included. */
  readonly der: Uint8Array;
}

/** A distinguished name (RFC 5280 section 4.1.2.4). */
export class DistinguishedName {
  /** Its encoding, exactly as it came. */
  readonly der: Uint8Array;
  /** The relative names, outermost first, each of one or more attributes. */
  readonly rdns: ReadonlyArray<readonly NameAttribute[]>;

  /** @throws {MalformedError} for bytes that are not a Name. */
  constructor(der: Uint8Array) {
    this.der = Uint8Array.from(der);
    this.rdns = parseName(this.der);
  }

  /** Whether both names have the same encoding. */
  equals(other: DistinguishedName): boolean {
    return Buffer.compare(this.der, other.der) === 0;
  }

  /** The name by RFC 4514: the innermost relative name first. */
  toString(): string {
    return [...this.rdns]
      .reverse()
      .map((rdn) => rdn.map(printAttribute).join('+'))
      .join(',');
  }

  /** `{ name, der }`, the encoding in hexadecimal. */
  toJSON(): { name: string; der: string } {
    return { name: this.toString(), der: hex(this.der) };
  }
}

function parseName(der: Uint8Array): NameAttribute[][] {
  const { offset, result } = fromBER(der as Uint8Array<ArrayBuffer>);
  if (offset !== der.length || !(result instanceof Sequence)) {
    throw new MalformedError('not a distinguished name', 0);
  }
  return result.valueBlock.value.map((rdn) => {
    if (!(rdn instanceof Asn1Set) || rdn.valueBlock.value.length === 0) {
      throw new MalformedError('not a relative distinguished name', 0);
    }
    return rdn.valueBlock.value.map(parseAttribute);
  });
}

function parseAttribute(pair: unknown): NameAttribute {
  const parts = pair instanceof Sequence ? (pair as Constructed).valueBlock.value : [];
  const [type, value] = parts;
  if (!(type instanceof ObjectIdentifier) || value === undefined || parts.length !== 2) {
    throw new MalformedError('not an attribute of a name', 0);
  }
  return {
    oid: type.getValue(),
    text: value instanceof BaseStringBlock ? value.getValue() : null,
    der: Uint8Array.from(value.valueBeforeDecodeView),
  };
}

/** RFC 4514 sections 2.3 and 2.4. */
function printAttribute({ oid, text, der }: NameAttribute): string {
  const short = SHORT_NAMES.get(oid);
  // "If the AttributeType is in the dotted-decimal form, the value is encoded as '#' and hex."
  if (short === undefined || text === null) return `${short ?? oid}=#${hex(der)}`;
  return `${short}=${escapeValue(text)}`;
}

function escapeValue(text: string): string {
  return text
    .replace(/["+,;<>\\]/g, '\\$&')
    .replaceAll('\0', '\\00')
    .replace(/^[ #]| $/g, '\\$&');
}

/** The names of the issuers that a server accepts, in its order. */
export class IssuerNameList implements Iterable<DistinguishedName> {
  readonly #names: readonly DistinguishedName[];

  /** @throws {MalformedError} for an encoding that is not a name. */
  constructor(encodings: Iterable<Uint8Array>) {
    this.#names = Array.from(encodings, (der) => new DistinguishedName(der));
  }

  /** How many; 0 where the server names none, which leaves the choice to the client. */
  get length(): number {
    return this.#names.length;
  }

  /** The names, in the server's order. */
  [Symbol.iterator](): Iterator<DistinguishedName> {
    return this.#names[Symbol.iterator]();
  }

  /** Whether this name is among them, by its encoding. */
  has(name: DistinguishedName): boolean {
    return this.#names.some((one) => one.equals(name));
  }

  /** The names as an array. */
  toJSON(): Array<{ name: string; der: string }> {
    return this.#names.map((name) => name.toJSON());
  }
}
