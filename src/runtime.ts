/**
 * Node's, looked up once: the global is a getter, and who imports `node:process` has all that is in it looked up,
 * stdin among it, which takes as long as all of `node:tls`.
 */
export const { process } = globalThis;

export const IS_BUN = 'bun' in process.versions;
export const IS_DENO = 'deno' in process.versions;

/** Whether this is Node itself. What is not documented of it is looked for nowhere else. */
export const IS_NODE = !(IS_BUN || IS_DENO);

/**
 * Throws what somebody else's code has thrown as an uncaught exception, when nobody is in the middle of anything
 * that it would break off.
 */
export function throwLater(error: unknown): void {
  process.nextTick(() => {
    throw error;
  });
}

/** Calls somebody else's code, and throws later what it throws. */
export function apart(call: () => void): void {
  try {
    call();
  } catch (error) {
    throwLater(error);
  }
}
