/**
 * Swim lanes as a Mermaid sequence diagram, for what renders Markdown. Each recorded party has three
 * participants: its application, its TLS and its transport.
 *
 * Mermaid reads its text as a language of its own, in which `;` ends a statement, `#` begins a
 * character's code and `end` a block. So every character that is not plainly harmless is written as
 * its code, which leaves nothing of the language to whoever chose the text.
 */

import type { ArrowRow, ArrowStyle, Drawing, Lane, Layer, Row } from './drawing.ts';
import { cutTo, harmless } from './escape.ts';
import { deedOf, MARKS, verdictText } from './words.ts';

/** What stands before an arrow's text. */
const ARROW_MARKS: Readonly<Record<ArrowStyle, string>> = {
  data: '',
  'close-notify': '✓ ',
  alert: '⚠ ',
  eof: '■ ',
  reset: '↯ ',
  missing: '✗ ',
};

/** The longest text: what is longer makes a drawing too wide to read. */
const MOST = 80;

const LAYERS: readonly Layer[] = ['application', 'tls', 'transport'];
const NAMES: Readonly<Record<Layer, string>> = {
  application: 'app',
  tls: 'TLS',
  transport: 'TCP',
};

/** Draws. @returns lines from `sequenceDiagram` on, each ended by a newline. */
export function renderMermaid(drawing: Drawing): string {
  const { names, known, rows, feet, story } = drawing;
  const lines = [
    'sequenceDiagram',
    `  accTitle: ${text(story.headline, 200)}`,
    // From the outside inwards: the transports meet in the middle.
    ...([0, 1] as const).flatMap((lane) => {
      if (!known[lane]) return [`  participant ${id(lane, 'tls', known)} as ${text(names[lane])}`];
      const layers = lane === 0 ? LAYERS : LAYERS.toReversed();
      return [
        `  box ${text(names[lane])}`,
        ...layers.map((layer) => `  participant ${id(lane, layer, known)} as ${NAMES[layer]}`),
        '  end',
      ];
    }),
    ...rows.map((row) => `  ${statement(row, known)}`),
    ...([0, 1] as const).map((lane) => {
      const judged = verdictText(feet[lane]);
      const { mark, text: what } = deedOf(feet[lane]);
      const deed = mark === 'yes' || mark === 'no' ? `${MARKS[mark]} ${what}` : what;
      const words = judged === '' ? text(deed) : `${text(judged)}<br/>${text(deed)}`;
      return `  Note over ${id(lane, 'application', known)}: ${words}`;
    }),
  ];
  return lines.map((line) => `${line}\n`).join('');
}

type Known = Drawing['known'];

const id = (lane: Lane, layer: Layer, known: Known): string => {
  const party = lane === 0 ? 'A' : 'B';
  return known[lane] ? `${party}_${layer}` : party;
};

function statement(row: Row, known: Known): string {
  const outer = `${id(0, 'application', known)},${id(1, 'application', known)}`;
  switch (row.kind) {
    case 'step': {
      const { lane, layer, flow } = row;
      const [application, tls] = [id(lane, 'application', known), id(lane, 'tls', known)];
      if (flow === null || application === tls) {
        return `Note over ${id(lane, layer, known)}: ${text(row.text)}`;
      }
      const [from, to] = flow === 'down' ? [application, tls] : [tls, application];
      return `${from}->>${to}: ${text(row.text)}`;
    }
    case 'span':
      return `${id(0, 'tls', known)}<<->>${id(1, 'tls', known)}: ${text(row.text)}`;
    case 'tear':
      return `Note over ${outer}: ✂ ✂ ✂ ${text(row.text)} ✂ ✂ ✂`;
    case 'wait':
    case 'gap':
      return `Note over ${outer}: ${text(row.text)}`;
    case 'arrow':
      return arrow(row, known);
  }
}

function arrow({ from, style, arrives, text: words }: ArrowRow, known: Known): string {
  const layer: Layer = style === 'eof' || style === 'reset' ? 'transport' : 'tls';
  const to: Lane = from === 0 ? 1 : 0;
  // A cross at its tip for what nobody read, or never came; dots for what is no message of TLS.
  const cross = !arrives || style === 'missing';
  const dotted = style === 'eof' || style === 'reset' || style === 'missing';
  const shaft = `${dotted ? '--' : '-'}${cross ? 'x' : '>>'}`;
  const label = `${ARROW_MARKS[style]}${text(arrives ? words : `${words}, not read`)}`;
  return `${id(from, layer, known)}${shaft}${id(to, layer, known)}: ${label}`;
}

/** Text in which no character means anything but itself, and no word is one of Mermaid's own. */
function text(words: string, most = MOST): string {
  return cutTo(harmless(words), most).replace(
    /\bend\b|[^\p{L}\p{N} _.,()/…-]/giu,
    ([character = '', ...rest]) => code(character) + rest.join(''),
  );
}

/** A character as Mermaid's own kind of entity. */
const code = (character: string): string => `#${character.codePointAt(0)};`;
