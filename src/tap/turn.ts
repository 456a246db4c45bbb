/** What is due at the end of a turn of the event loop: one callback for all who have something due. */
import { AsyncResource } from 'node:async_hooks';
import { setImmediate } from 'node:timers';
import { apart, process } from '../runtime.ts';

export interface EndOfTurn {
  onTurnEnd(): void;
}

let due: EndOfTurn[] = [];
let exitHeard = false;

/** Has `one` told, once, when the callbacks of this turn are over, or the program is. */
export function atEndOfTurn(one: EndOfTurn): void {
  if (due.length === 0) setImmediate(endOfTurn);
  due.push(one);
  if (exitHeard) return;
  exitHeard = true;
  process.on('exit', end);
}

function end(): void {
  const all = due;
  due = [];
  for (const one of all) apart(() => one.onTurnEnd());
}

/** Not in the async context of the one that came first: it is for all of them. */
const endOfTurn = AsyncResource.bind(end);
