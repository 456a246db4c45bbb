/**
 * Who called. An error that is made in an event has nothing of the program in its stack; the call that rejects with it
 * was made by a line of the program, and that is what its reader looks for.
 */

/** Gives an error of a call the frames of its caller. */
export type CallSite = (error: unknown) => unknown;

/** Where this call was made. @param above the function that was called: its frame and those below are left out. */
export function callSite(above: (...args: never[]) => unknown): CallSite {
  const site: { readonly stack?: string } = {};
  // It is kept as it is, and put into words only when somebody asks.
  Error.captureStackTrace(site, above);
  return (error) => {
    const frames = site.stack?.split('\n').slice(1) ?? [];
    const [first] = frames;
    if (first !== undefined && error instanceof Error && error.stack?.includes(first) === false) {
      error.stack = [error.stack, ...frames].join('\n');
    }
    return error;
  };
}
