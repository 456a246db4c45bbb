/**
 * The queues of `nextTick` and of promises, emptied within a callback.
 *
 * Node empties them when a callback that nothing else called has returned: never within one. TLS on JavaScript's
 * bytes calls its callbacks within ours, several for one record where HTTP/2 reads it. Node's HTTP/2 rests on the
 * queues between them: it emits 'response' by `nextTick`, and 'data' at once.
 *
 * Not documented: `process._tickCallback`, which Node's own timers call between two of theirs. Where it is missing,
 * nothing is emptied.
 */
import { createHook } from 'node:async_hooks';
import { process, throwLater } from '../runtime.ts';

const { _tickCallback: empty } = process as { _tickCallback?: () => void };

/** To be called where no code of a program's is being run. */
export function emptyQueues(): void {
  try {
    empty?.call(process);
  } catch (error) {
    throwLater(error);
  }
}

/** How many callbacks within each other are being run. */
let depth = 0;

const hook = createHook({
  before() {
    depth++;
  },
  after() {
    if (--depth !== 0) return;
    hook.disable();
    emptyQueues();
    hook.enable();
  },
});

/** Calls what calls callbacks by itself, and empties the queues behind each of those. */
export function withEmptyQueues<T>(call: () => T): T {
  const outer = depth;
  depth = 0;
  hook.enable();
  try {
    return call();
  } finally {
    hook.disable();
    depth = outer;
  }
}
