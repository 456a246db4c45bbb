/**
 * Distinguished names: kept as DER, compared as DER, printed for people by RFC 4514.
 */

import {
  Set as Asn1Set,
  type BaseBlock,
  BaseStringBlock,
  Constructed,
  fromBER,
  ObjectIdentifier,
  Sequence,
} from 'asn1js';
import { MalformedError } from '../errors.ts';
import { hex } from '../record/handshake.ts';

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
  const { offset, result } = decode(der);
  if (offset !== der.length || !(result instanceof Sequence)) {
    throw new MalformedError('not a distinguished name', 0);
  }
  checkLengths(result);
  return result.valueBlock.value.map((rdn) => {
    if (!(rdn instanceof Asn1Set) || rdn.valueBlock.value.length === 0) {
      throw new MalformedError('not a relative distinguished name', 0);
    }
    return rdn.valueBlock.value.map(parseAttribute);
  });
}

/** asn1js reports some encodings that it cannot read, and throws for others. */
function decode(der: Uint8Array): ReturnType<typeof fromBER> {
  try {
    return fromBER(Uint8Array.from(der));
  } catch (error) {
    throw new MalformedError(`not a distinguished name: ${(error as Error).message}`, 0);
  }
}

function parseAttribute(pair: unknown): NameAttribute {
  const parts = pair instanceof Sequence ? (pair as Constructed).valueBlock.value : [];
  const [type, value] = parts;
  const typed = type instanceof ObjectIdentifier && type.getValue() !== '';
  if (!typed || value === undefined || parts.length !== 2) {
    throw new MalformedError('not an attribute of a name', 0);
  }
  return {
    oid: type.getValue(),
    text: value instanceof BaseStringBlock && isText(value) ? value.getValue() : null,
    der: Uint8Array.from(value.valueBeforeDecodeView),
  };
}

/** Universal tags of character strings; asn1js counts times among its strings too. */
const TEXT_TAGS: ReadonlySet<number> = new Set([12, 18, 19, 20, 21, 22, 25, 26, 27, 28, 30]);

const isText = (value: BaseBlock): boolean => TEXT_TAGS.has(value.idBlock.tagNumber);

/**
 * "Distinguished names are represented in DER-encoded format" (RFC 9846 section 4.2.4), so there is
 * one way to write each length; asn1js takes any.
 */
function checkLengths(block: BaseBlock): void {
  const { isIndefiniteForm, length, blockLength } = block.lenBlock;
  const needed = length < 128 ? 1 : 1 + Math.ceil(Math.log2(length + 1) / 8);
  // DER has strings in one piece only (X.690 section 10.2).
  const inPieces = block instanceof BaseStringBlock && block.idBlock.isConstructed;
  if (isIndefiniteForm || blockLength !== needed || inPieces) {
    throw new MalformedError('a name that is not in DER', 0);
  }
  if (block instanceof Constructed) {
    for (const child of block.valueBlock.value) checkLengths(child as BaseBlock);
  }
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
