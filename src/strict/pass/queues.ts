/**
 * The queues of `nextTick` and of promises, emptied within a callback.
 *
 * Theory of operation. Node empties them when a callback that nothing else called has returned: never within one. TLS on JavaScript's
 * bytes calls its callbacks within ours, several for one record where HTTP/2 reads it. Node's HTTP/2 rests on the
 * queues between them: it emits 'response' by `nextTick`, and 'data' at once.
 *
 * What a listener throws must not leave such a callback: whoever called it goes on, with an exception under way that
 * comes up anywhere (Node 20 ends the process). It is kept until all is over.
 *
 * Not documented: `process._tickCallback`, which Node's own timers call between two of theirs, and the symbol by which
 * a handle knows its owner. Where they are missing, nothing is emptied, or kept.
 */
import { createHook, executionAsyncResource } from 'node:async_hooks';
import { EventEmitter } from 'node:events';
import { process } from '../../runtime.ts';

const { _tickCallback: empty } = process as { _tickCallback?: () => void };

/** To be called where no code of a program's is being run. Throws what is thrown in it, and leaves what is behind. */
export function emptyQueues(): void {
  empty?.call(process);
}

/** Whether `withEmptyQueues` is calling. */
let active = false;
/** How many callbacks within each other are being run. */
let depth = 0;
let emptying = false;
/** Whether listeners are being called whose exceptions are kept. */
let keeping = false;
let thrown: { readonly error: unknown } | null = null;

const hook = createHook({
  before() {
    if (emptying || depth++ > 0) return;
    const owner = ownerOf(executionAsyncResource());
    if (owner !== null && !Object.hasOwn(owner, 'emit')) keepThrown(owner);
  },
  after() {
    if (emptying || --depth !== 0) return;
    emptying = true;
    while (!emptyTick());
    emptying = false;
  },
});

/**
 * Empties the queues, up to a callback that throws. A hook must not throw; and Node keeps such a callback on its stack
 * of asynchronous contexts, and ends the process for that, until it has handled an exception that nobody caught. In a
 * microtask it does, as it would have done.
 *
 * @returns whether they are empty.
 */
function emptyTick(): boolean {
  try {
    emptyQueues();
    return true;
  } catch (error) {
    queueMicrotask(() => {
      throw error;
    });
    return false;
  }
}

/**
 * Calls what calls callbacks by itself, and empties the queues behind each of those. What a tick of such a queue does
 * may come here again, for another connection: each call keeps what is thrown within itself.
 */
export function withEmptyQueues(call: () => void): void {
  const outer = { depth, active, emptying, keeping, thrown };
  [depth, active, emptying, keeping, thrown] = [0, true, false, false, null];
  hook.enable();
  try {
    call();
  } catch (error) {
    thrown ??= { error };
  }
  const kept = thrown as { readonly error: unknown } | null;
  if (!outer.active) hook.disable();
  ({ depth, active, emptying, keeping, thrown } = outer);
  if (kept !== null) throw kept.error;
}

/** Whose callback a handle is about to call: a stream or a session of HTTP/2, or the TLS socket. */
function ownerOf(handle: object): EventEmitter | null {
  const symbol = Object.getOwnPropertySymbols(handle).find(
    ({ description }) => description === 'owner_symbol',
  );
  const owner = symbol && (handle as Record<symbol, unknown>)[symbol];
  return owner instanceof EventEmitter ? owner : null;
}

/** Has what listeners of this emitter throw kept while `withEmptyQueues` calls. */
function keepThrown(emitter: EventEmitter): void {
  const { emit } = emitter;
  Object.defineProperty(emitter, 'emit', {
    configurable: true,
    writable: true,
    value(...args: Parameters<typeof emit>): boolean {
      if (!active || emptying || keeping) return emit.apply(emitter, args);
      keeping = true;
      try {
        return emit.apply(emitter, args);
      } catch (error) {
        thrown ??= { error };
        return true;
      } finally {
        keeping = false;
      }
    },
  });
}
