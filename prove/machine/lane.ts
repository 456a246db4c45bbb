/** A counterexample as a swim lane. */
import type {
  ArrowStyle,
  Drawing,
  Foot,
  Lane,
  Row,
  StepRow,
  Tone,
} from '../../src/drawing/drawing.ts';
import { renderText } from '../../src/drawing/text.ts';
import type { Counterexample } from './search.ts';
import type { Edge, Party, Rules } from './world.ts';

/** What broke, what asks for it to hold, and how to get there. */
export function drawCounterexample({ name, rule, what, rules, trace }: Counterexample): string {
  const last = trace.at(-1);
  if (last === undefined) throw new Error('a trace has at least one move');
  const [a, b] = last.world.parties;
  const drawing: Drawing = {
    names: ['A', 'B'],
    known: [true, true],
    timed: false,
    rows: trace.flatMap((edge, place) => rowsOf(edge, place)),
    feet: [foot(a), foot(b)],
    story: {
      verdict: a.verdict,
      tone: 'bad',
      headline: what,
      meaning: name,
      rule,
      resembles: null,
    },
  };
  const count = `${trace.length} move${trace.length === 1 ? '' : 's'}, none fewer will do`;
  return `${name}: ${what}\n"${rule.quote}" (${rule.source})\n${rulesText(rules)}; ${count}\n\n${renderText(drawing, { width: 110 })}`;
}

/** The rules in a line. */
export function rulesText(rules: Rules): string {
  const { version, answers, requireCloseNotify, network, writes, shutdowns, idles } = rules;
  const policy = requireCloseNotify ? 'close_notify required' : 'close_notify only reported';
  return `${version}, ${policy}, answered ${answers.join(' and ')}, ${network} network, writes ${writes.join(' and ')}, shutdown calls ${shutdowns}${idles ? ', HTTP reads' : ''}`;
}

const ARROWS: Readonly<Record<string, readonly [ArrowStyle, Tone]>> = {
  close_notify: ['close-notify', 'good'],
  'a fatal alert': ['alert', 'bad'],
  FIN: ['eof', 'plain'],
  'FIN inside a record': ['eof', 'plain'],
  RST: ['reset', 'bad'],
  'an error of the transport': ['reset', 'bad'],
};

function rowsOf({ step }: Edge, at: number): Row[] {
  const { move, before, after, settled, closed } = step;
  const lane: Lane = move.to;
  const rows: Row[] = [];
  const beside = (tone: Tone, text: string, flow: StepRow['flow'] = null): StepRow => {
    const layer = flow === null ? 'tls' : 'application';
    return { kind: 'step', at, tone, text, details: [], lane, layer, flow };
  };
  const delivered = /^delivers (.*)$/.exec(move.what)?.[1];
  if (delivered !== undefined) {
    const from = lane === 0 ? 1 : 0;
    const [style, tone] = ARROWS[delivered] ?? ['data', 'quiet'];
    rows.push({
      kind: 'arrow',
      at,
      tone,
      text: delivered,
      details: [],
      from,
      style,
      arrives: true,
    });
  } else if (move.by === null) {
    const text = `the network ${move.what}, towards ${lane === 0 ? 'A' : 'B'}`;
    rows.push({ kind: 'gap', at, tone: 'warn', text, details: [] });
  } else {
    rows.push(beside('plain', move.what, /\(.*\)|^write|^read/.test(move.what) ? 'down' : null));
  }
  if (settled !== null) rows.push(beside('quiet', `shutdown ${settled}`, 'up'));
  if (closed !== null) rows.push(beside('quiet', `close ${closed}`, 'up'));
  if (after.verdict !== before.verdict) {
    rows.push(beside(after.verdict === 'secure' ? 'good' : 'warn', `verdict: ${after.verdict}`));
  }
  return rows;
}

function foot({ verdict, state, truth }: Party): Foot {
  const why = `receive ${state.receive.kind}, send ${state.send.kind}`;
  return { verdict, why, sentCloseNotify: truth.sent === 'said', missed: false };
}
