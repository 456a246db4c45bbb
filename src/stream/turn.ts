/** What is due at the end of a turn of the event loop: one callback for all who have something due. */
import { setImmediate } from 'node:timers';
import { apart } from './runtime.ts';

export interface EndOfTurn {
  onTurnEnd(): void;
}

let due: EndOfTurn[] = [];

/** Has `one` told, once, when the callbacks of this turn are over. */
export function atEndOfTurn(one: EndOfTurn): void {
  if (due.length === 0) setImmediate(end);
  due.push(one);
}

function end(): void {
  const all = due;
  due = [];
  for (const one of all) apart(() => one.onTurnEnd());
}
