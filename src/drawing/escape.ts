/**
 * What a peer has a say in (names, reasons, remarks about both) made harmless before it stands in a
 * drawing: characters that move a cursor, turn the direction of text, hide, or are none at all.
 */

// biome-ignore lint/suspicious/noControlCharactersInRegex: these are what it is about
const CONTROL = /[\u0000-\u001f\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]/g;
/** Halves of characters, and code points that XML and HTML forbid. */
const NONE = /[\p{Surrogate}\ufdd0-\ufdef\ufffe\uffff]/gu;

/** Text with `?` for every character that could do more than be read. */
export const harmless = (text: string): string => text.replace(CONTROL, '?').replace(NONE, '?');

const ENTITIES: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&#39;',
};

/** Harmless text for XML and HTML, in an element or in a quoted attribute. */
export const escapeXml = (text: string): string =>
  harmless(text).replace(/[&<>"']/g, (character) => ENTITIES[character] as string);

/** Text cut to so many characters, the last an ellipsis. */
export function cutTo(text: string, most: number): string {
  const characters = [...text];
  return characters.length <= most ? text : `${characters.slice(0, most - 1).join('')}…`;
}

/** Text broken between words into lines of so many characters; what does not fit is cut. */
export function breakLines(text: string, width: number, most: number): string[] {
  const lines: string[] = [];
  let line = '';
  const words = text.split(' ');
  for (const [index, word] of words.entries()) {
    const longer = line === '' ? word : `${line} ${word}`;
    if ([...longer].length <= width || line === '') {
      line = longer;
      continue;
    }
    if (lines.length === most - 1) {
      line = [line, ...words.slice(index)].join(' ');
      break;
    }
    lines.push(line);
    line = word;
  }
  return [...lines, line].map((one) => cutTo(one, width));
}
