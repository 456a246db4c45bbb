/** The characters that lanes and arrows are drawn with in text. */
import type { ArrowStyle } from './drawing.ts';
import { MARKS } from './words.ts';

/** What an arrow is made of: its line, and a mark before its text. */
interface ArrowGlyphs {
  readonly line: string;
  readonly mark: string;
  readonly left: string;
  readonly right: string;
}

/** What a drawing is made of, in one set of characters. */
export interface Glyphs {
  readonly lane: string;
  /** Something that happened in one layer, and stayed there. */
  readonly point: string;
  /** Between the application and TLS. */
  readonly flow: { readonly line: string; readonly left: string; readonly right: string };
  readonly tear: string;
  readonly tailLeft: string;
  readonly tailRight: string;
  readonly span: { readonly left: string; readonly line: string; readonly right: string };
  readonly gap: string;
  /** Where an arrow ends that nobody read. */
  readonly lost: string;
  readonly arrows: Readonly<Record<ArrowStyle, ArrowGlyphs>>;
  readonly foot: { readonly left: string; readonly line: string; readonly right: string };
  readonly yes: string;
  readonly no: string;
  readonly neither: string;
  readonly unknown: string;
}

/** Of any characters. */
export const UNICODE: Glyphs = {
  lane: '│',
  point: '●',
  flow: { line: '─', left: '◂', right: '▸' },
  tear: '╱╲',
  tailLeft: '├',
  tailRight: '┤',
  span: { left: '◀', line: '─', right: '▶' },
  gap: '┊',
  lost: '╳',
  arrows: {
    data: { line: '─', mark: '', left: '◁', right: '▷' },
    'close-notify': { line: '═', mark: '✓ ', left: '◀', right: '▶' },
    alert: { line: '~', mark: '! ', left: '◀', right: '▶' },
    eof: { line: '╌', mark: '■ ', left: '◁', right: '▷' },
    reset: { line: '╳', mark: '↯ ', left: '◁', right: '▷' },
    missing: { line: '·', mark: '✗ ', left: '·', right: '·' },
  },
  foot: { left: '┴', line: '─', right: '┴' },
  ...MARKS,
};

/** Of those that every terminal has. */
export const ASCII: Glyphs = {
  lane: '|',
  point: 'o',
  flow: { line: '-', left: '<', right: '>' },
  tear: '/\\',
  tailLeft: '+',
  tailRight: '+',
  span: { left: '<', line: '-', right: '>' },
  gap: ':',
  lost: 'X',
  arrows: {
    data: { line: '-', mark: '', left: '<', right: '>' },
    'close-notify': { line: '=', mark: '* ', left: '<', right: '>' },
    alert: { line: '~', mark: '! ', left: '<', right: '>' },
    eof: { line: '_', mark: '# ', left: '<', right: '>' },
    reset: { line: 'x', mark: '# ', left: '<', right: '>' },
    missing: { line: '.', mark: 'x ', left: '.', right: '.' },
  },
  foot: { left: '+', line: '-', right: '+' },
  yes: '*',
  no: 'x',
  neither: '-',
  unknown: '?',
};
