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
import { process } from '../runtime.ts';

const { _tickCallback: empty } = process as { _tickCallback?: () => void };

/** To be called where no code of a program's is being run. Throws what is thrown in it, and leaves what is behind. */
export function emptyQueues(): void {
  empty?.call(process);
}

/** How many callbacks within each other are being run. */
let depth = 0;
let emptying = false;
let thrown: { readonly error: unknown } | null = null;

const hook = createHook({
  before() {
    if (!emptying) depth++;
  },
  after() {
    if (emptying || --depth !== 0) return;
    emptying = true;
    try {
      emptyQueues();
    } catch (error) {
      // A hook must not throw.
      thrown ??= { error };
    } finally {
      emptying = false;
    }
  },
});

/** Calls what calls callbacks by itself, and empties the queues behind each of those. */
export function withEmptyQueues(call: () => void): void {
  const outer = depth;
  depth = 0;
  hook.enable();
  try {
    call();
  } finally {
    hook.disable();
    depth = outer;
  }
  if (thrown === null) return;
  const { error } = thrown;
  thrown = null;
  throw error;
}
