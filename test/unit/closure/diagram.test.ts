import { readFileSync, writeFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { closureMachinePage } from '../../../scripts/closure-machine.ts';
import {
  edgesOf,
  PARTS,
  stateOf,
  toMermaid,
  toTable,
  verdictRows,
} from '../../../src/closure/diagram.ts';
import {
  CALLER_TABLE,
  type CallerKind,
  type EventType,
  RECEIVE_TABLE,
  type ReceiveKind,
  SEND_TABLE,
  type SendKind,
} from '../../../src/closure/machine.ts';
import { verdictOf } from '../../../src/closure/verdict.ts';

const page = new URL('../../../docs/closure-machine.md', import.meta.url);
const tables = { send: SEND_TABLE, receive: RECEIVE_TABLE, caller: CALLER_TABLE } as const;

test('docs/closure-machine.md agrees with the tables (UPDATE_DOCS=1 writes it)', () => {
  const wanted = closureMachinePage();
  if (process.env['UPDATE_DOCS'] === '1') writeFileSync(page, wanted);
  expect(readFileSync(page, 'utf8')).toBe(wanted);
});

for (const part of PARTS) {
  const table = tables[part] as Record<string, Record<EventType, string>>;

  test(`the Mermaid diagram of '${part}', read back, is the table`, () => {
    const read = new Map<string, string>();
    for (const line of toMermaid(part).split('\n')) {
      const edge = /^ {4}(\w+) --> (\w+): (.+)$/.exec(line);
      if (edge === null) continue;
      for (const event of (edge[3] as string).split(', ')) {
        expect(read.has(`${edge[1]} ${event}`)).toBe(false);
        read.set(`${edge[1]} ${event}`, edge[2] as string);
      }
    }
    for (const [from, row] of Object.entries(table)) {
      for (const [event, to] of Object.entries(row)) {
        expect(read.get(`${from} ${event}`) ?? from, `${from} ${event}`).toBe(to);
      }
    }
  });

  test(`the diagram of '${part}' joins events with the same ends, begins once, and ends where nothing leaves`, () => {
    const edges = edgesOf(part);
    expect(new Set(edges.map(({ from, to }) => `${from} ${to}`)).size).toBe(edges.length);
    const diagram = toMermaid(part);
    expect(diagram.startsWith('stateDiagram-v2\n    [*] --> ')).toBe(true);
    expect(diagram.match(/\[\*\] -->/g)?.length).toBe(1);
    for (const state of Object.keys(table)) {
      const leaves = edges.some(({ from }) => from === state);
      expect(diagram.includes(`    ${state} --> [*]`), state).toBe(!leaves);
    }
  });

  test(`the text table of '${part}', read back, is the table`, () => {
    const [head, , ...rows] = toTable(part)
      .split('\n')
      .map((line) =>
        line
          .split('|')
          .slice(1, -1)
          .map((cell) => cell.trim()),
      );
    const states = (head as string[]).slice(1);
    expect(states).toEqual(Object.keys(table));
    expect(rows.map(([event]) => event)).toEqual(Object.keys(Object.values(table)[0] ?? {}));
    for (const [event, ...cells] of rows) {
      cells.forEach((cell, i) => {
        const from = states[i] as string;
        expect(cell === '·' ? from : cell).toBe(table[from]?.[event as EventType]);
      });
    }
  });
}

test('the verdict table has every combination of states once, with the verdict that it has', () => {
  const seen = new Set<string>();
  for (const row of verdictRows()) {
    for (const receive of row.receive) {
      for (const send of row.send) {
        for (const caller of row.caller) {
          const name = `${receive} ${send} ${caller}`;
          expect(seen.has(name), name).toBe(false);
          seen.add(name);
          expect(verdictOf(stateOf(receive, send, caller)), name).toBe(row.verdict);
        }
      }
    }
  }
  expect(seen.size).toBe(8 * 7 * 5);
});

test('a state made for the table has the kinds that were asked for', () => {
  for (const receive of Object.keys(RECEIVE_TABLE) as ReceiveKind[]) {
    for (const send of Object.keys(SEND_TABLE) as SendKind[]) {
      for (const caller of Object.keys(CALLER_TABLE) as CallerKind[]) {
        const state = stateOf(receive, send, caller);
        expect([state.receive.kind, state.send.kind, state.caller.kind]).toEqual([
          receive,
          send,
          caller,
        ]);
      }
    }
  }
});
