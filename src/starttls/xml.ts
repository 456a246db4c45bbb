/**
 * As much of XML as an XMPP stream has before TLS: tags, attributes and namespaces, read as they come.
 * Comments, processing instructions, DTDs and CDATA sections are refused, the first three because RFC
 * 6120 section 11.1 prohibits them, the last because nothing here has any.
 */
import type { Dialogue } from './dialogue.ts';

/** Prefixes and what they stand for; '' is the default namespace. */
type Namespaces = ReadonlyMap<string, string>;

/** An element, or only its start tag. */
export interface XmlElement {
  /** As it came, to be quoted. */
  readonly raw: string;
  /** Its version attribute. */
  readonly version: string | null;
  /** Those directly within it; none of theirs. */
  readonly children: readonly XmlElement[];
  /** Whether it has this name in this namespace. */
  is(namespace: string, name: string): boolean;
}

interface Tag {
  readonly raw: string;
  readonly kind: 'start' | 'end' | 'empty';
  readonly name: string;
  readonly attributes: ReadonlyMap<string, string>;
}

/** A slash, a name, attributes, a slash. A '<' in an attribute's value is no XML. */
const TAG = /<(\/?)([^\s/<>!?'"=]+)((?:\s+[^\s=/<>]+\s*=\s*(?:'[^'<]*'|"[^"<]*"))*)\s*(\/?)>$/;

/** Reads the elements of a stream. */
export class XmlReader {
  readonly #dialogue: Dialogue;
  /** The namespaces that the stream's own start tag declares. */
  #outer: Namespaces = new Map();
  #opened = false;

  constructor(dialogue: Dialogue) {
    this.#dialogue = dialogue;
  }

  /** The stream's start tag, behind the XML declaration if there is one. */
  async open(what: string): Promise<XmlElement> {
    const tag = await this.#tag(what, 'blank');
    if (tag.kind !== 'start') throw this.#dialogue.unexpected(what, tag.raw);
    this.#outer = within(this.#outer, tag);
    this.#opened = true;
    return elementOf(tag, this.#outer, tag.raw, []);
  }

  /** A whole element of the stream. */
  async element(what: string): Promise<XmlElement> {
    const first = await this.#tag(what, 'blank');
    if (first.kind === 'end') throw this.#dialogue.unexpected(what, first.raw);
    const outer = within(this.#outer, first);
    const children: XmlElement[] = [];
    const open = first.kind === 'start' ? [{ name: first.name, names: outer }] : [];
    let raw = first.raw;
    for (let parent = open.at(-1); parent !== undefined; parent = open.at(-1)) {
      const tag = await this.#tag(what, 'text');
      raw += tag.raw;
      if (tag.kind === 'end') {
        if (tag.name !== parent.name) throw this.#dialogue.unexpected(what, raw);
        open.pop();
        continue;
      }
      const names = within(parent.names, tag);
      if (open.length === 1) children.push(elementOf(tag, names, tag.raw, []));
      if (tag.kind === 'start') open.push({ name: tag.name, names });
    }
    return elementOf(first, outer, raw, children);
  }

  /** Reads a tag and what is in front of it: between elements of the stream, white space only. */
  async #tag(what: string, before: 'blank' | 'text'): Promise<Tag> {
    const measure = before === 'blank' ? firstTagLength : tagLength;
    const raw = (await this.#dialogue.take(what, measure)).toString();
    const declaration = !this.#opened && /^\s*<\?xml\s[^<>]*\?>$/.test(raw);
    if (declaration) return this.#tag(what, before);
    if (before === 'blank' && !/^\s*</.test(raw)) throw this.#dialogue.unexpected(what, raw);
    const parsed = TAG.exec(raw);
    const [, slash, name, attributes = '', empty] = parsed ?? [];
    if (parsed === null || name === undefined || (slash === '/' && empty === '/')) {
      throw this.#dialogue.unexpected(what, raw);
    }
    return {
      raw: raw.trimStart(),
      kind: slash === '/' ? 'end' : empty === '/' ? 'empty' : 'start',
      name,
      attributes: new Map(
        [...attributes.matchAll(/([^\s=]+)\s*=\s*(?:'([^']*)'|"([^"]*)")/g)].map(
          ([, key = '', single, double]) => [key, single ?? double ?? ''],
        ),
      ),
    };
  }
}

/** Up to the end of the first tag, with the text in front of it; a '>' in quotes is no end. */
function tagLength(buffer: Buffer): number {
  let at = buffer.indexOf('<');
  if (at < 0) return 0;
  for (let quoted = 0; at < buffer.length; at++) {
    const byte = buffer[at];
    if (quoted !== 0) {
      if (byte === quoted) quoted = 0;
    } else if (byte === 0x22 || byte === 0x27) {
      quoted = byte;
    } else if (byte === 0x3e) {
      return at + 1;
    }
  }
  return 0;
}

/** As `tagLength` between elements, where only white space may be: other text is no tag. */
function firstTagLength(buffer: Buffer): number {
  const first = buffer.findIndex((byte) => ![0x20, 0x09, 0x0d, 0x0a].includes(byte));
  return first < 0 || buffer[first] === 0x3c ? tagLength(buffer) : buffer.length;
}

/** The namespaces within an element: its own declarations over those around it. */
function within(around: Namespaces, tag: Tag): Namespaces {
  const own = [...tag.attributes].flatMap(([key, value]): Array<[string, string]> => {
    if (key === 'xmlns') return [['', value]];
    return key.startsWith('xmlns:') ? [[key.slice(6), value]] : [];
  });
  return own.length === 0 ? around : new Map([...around, ...own]);
}

function elementOf(
  tag: Tag,
  names: Namespaces,
  raw: string,
  children: readonly XmlElement[],
): XmlElement {
  const [local = '', prefix = ''] = tag.name.split(':').reverse();
  const space = names.get(prefix);
  return {
    raw,
    version: tag.attributes.get('version') ?? null,
    children,
    is: (namespace, name) => space === namespace && local === name,
  };
}
