/**
 * The machine's tables as pictures and text, for the docs: whatever is drawn here is read from the
 * tables that the machine itself runs on.
 */
import {
  CALLER_TABLE,
  type CallerKind,
  type ClosureState,
  type EventType,
  RECEIVE_TABLE,
  type ReceiveKind,
  type ReceiveState,
  SEND_TABLE,
  type SendKind,
  type SendState,
} from './machine.ts';
import { type Verdict, verdictOf } from './verdict.ts';

/** The three parts of the machine. */
export type Part = 'send' | 'receive' | 'caller';

/** All parts, in the order in which they are explained. */
export const PARTS: readonly Part[] = ['send', 'receive', 'caller'];

type AnyTable = Readonly<Record<string, Readonly<Record<EventType, string>>>>;

const TABLES: Readonly<Record<Part, AnyTable>> = {
  send: SEND_TABLE,
  receive: RECEIVE_TABLE,
  caller: CALLER_TABLE,
};

/** Moves from one state to another, with every event that makes it. */
export interface Edge {
  readonly from: string;
  readonly to: string;
  readonly events: readonly EventType[];
}

/** The moves of a part; events that change nothing are none. */
export function edgesOf(part: Part): Edge[] {
  const edges: Edge[] = [];
  for (const [from, row] of Object.entries(TABLES[part])) {
    const byEnd = new Map<string, EventType[]>();
    for (const [event, to] of entries(row)) {
      if (to === from) continue;
      byEnd.set(to, [...(byEnd.get(to) ?? []), event]);
    }
    for (const [to, events] of byEnd) edges.push({ from, to, events });
  }
  return edges;
}

/** A part as a Mermaid `stateDiagram-v2`. */
export function toMermaid(part: Part): string {
  const states = Object.keys(TABLES[part]);
  const edges = edgesOf(part);
  const lines = ['stateDiagram-v2', `    [*] --> ${states[0]}`];
  for (const { from, to, events } of edges)
    lines.push(`    ${from} --> ${to}: ${events.join(', ')}`);
  for (const state of states) {
    if (!edges.some(({ from }) => from === state)) lines.push(`    ${state} --> [*]`);
  }
  return lines.join('\n');
}

/** A part as a Markdown table, an event in each row; a dot is where the event changes nothing. */
export function toTable(part: Part): string {
  const table = TABLES[part];
  const states = Object.keys(table);
  const events = entries(Object.values(table)[0] as Readonly<Record<EventType, string>>);
  const rows = events.map(([event]) => [
    event,
    ...states.map((state) => {
      const to = table[state]?.[event] ?? '';
      return to === state ? '·' : to;
    }),
  ]);
  return toMarkdown([part, ...states], rows);
}

/** What a row of the verdict table says: these states give that verdict. */
export interface VerdictRow {
  readonly receive: readonly ReceiveKind[];
  readonly send: readonly SendKind[];
  readonly caller: readonly CallerKind[];
  readonly verdict: Verdict;
}

const RECEIVE_KINDS = Object.keys(RECEIVE_TABLE) as ReceiveKind[];
const SEND_KINDS = Object.keys(SEND_TABLE) as SendKind[];
const CALLER_KINDS = Object.keys(CALLER_TABLE) as CallerKind[];

/**
 * The verdict of every combination of states, reachable or not, with those that have the same
 * outcome folded into one row: first receiving states that agree in everything, in them sending
 * states, in them the caller's.
 */
export function verdictRows(): VerdictRow[] {
  const verdict = (receive: ReceiveKind, send: SendKind, caller: CallerKind) =>
    verdictOf(stateOf(receive, send, caller));
  const rows: VerdictRow[] = [];
  const bySend = (receive: ReceiveKind, send: SendKind) =>
    CALLER_KINDS.map((caller) => verdict(receive, send, caller)).join();
  const receives = group(RECEIVE_KINDS, (receive) =>
    SEND_KINDS.map((send) => bySend(receive, send)).join(),
  );
  for (const receive of receives) {
    const one = receive[0] as ReceiveKind;
    for (const send of group(SEND_KINDS, (kind) => bySend(one, kind))) {
      const other = send[0] as SendKind;
      for (const caller of group(CALLER_KINDS, (kind) => verdict(one, other, kind))) {
        rows.push({ receive, send, caller, verdict: verdict(one, other, caller[0] as CallerKind) });
      }
    }
  }
  return rows;
}

/** The verdicts as a Markdown table. */
export function verdictTable(): string {
  const list = (kinds: readonly string[], all: readonly string[]) =>
    kinds.length === all.length ? 'any' : kinds.join(', ');
  return toMarkdown(
    ['receive', 'send', 'caller', 'verdict'],
    verdictRows().map((row) => [
      list(row.receive, RECEIVE_KINDS),
      list(row.send, SEND_KINDS),
      list(row.caller, CALLER_KINDS),
      `**${row.verdict}**`,
    ]),
  );
}

const SOME_ALERT = { code: null, name: 'unknown', authenticated: false } as const;

/** A state with these kinds; what else a state remembers has no part in the verdict. */
export function stateOf(receive: ReceiveKind, send: SendKind, caller: CallerKind): ClosureState {
  return {
    receive: receiveOf(receive),
    send: sendOf(send),
    caller: { kind: caller },
    initiator: null,
    transport: null,
  };
}

function receiveOf(kind: ReceiveKind): ReceiveState {
  switch (kind) {
    case 'closed':
      return { kind, at: 0, evidence: 'record' };
    case 'alerted':
    case 'rejected':
      return { kind, alert: SOME_ALERT, lacking: true };
    case 'truncated':
      return { kind, cause: 'eof', where: 'record-boundary', code: null, lacking: true };
    case 'abandoned':
      return { kind, lacking: true };
    default:
      return { kind };
  }
}

function sendOf(kind: SendKind): SendState {
  switch (kind) {
    case 'closed':
      return { kind, at: 0, evidence: 'record' };
    case 'alerted':
      return { kind, alert: SOME_ALERT };
    default:
      return { kind };
  }
}

function group<T>(items: readonly T[], key: (item: T) => string): T[][] {
  const groups = new Map<string, T[]>();
  for (const item of items) {
    const found = groups.get(key(item));
    if (found === undefined) groups.set(key(item), [item]);
    else found.push(item);
  }
  return [...groups.values()];
}

function entries(row: Readonly<Record<EventType, string>>): Array<[EventType, string]> {
  return Object.entries(row) as Array<[EventType, string]>;
}

function toMarkdown(head: readonly string[], rows: ReadonlyArray<readonly string[]>): string {
  const line = (cells: readonly string[]) => `| ${cells.join(' | ')} |`;
  return [line(head), line(head.map(() => '---')), ...rows.map(line)].join('\n');
}
