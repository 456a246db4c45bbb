/**
 * Who called. An error that is made in an event has nothing of the program in its stack; the call that rejects with it
 * was made by a line of the program, and that is what its reader looks for.
 *
 * There are two ways to find it. `callSite` keeps where the call was made, while it is made: any engine can do that, and
 * it costs a microsecond or more. `rejectingAwaiters` costs nothing until something fails: it asks V8 who awaits the
 * promise. So calls that are made for each message (`read`, `write`) go by that.
 */

/** Gives an error of a call the frames of its caller. */
export type CallSite = (error: unknown) => unknown;

/** A function that somebody calls. */
export type Call = (...args: never[]) => unknown;

/** Where this call was made. @param above the function that was called: its frame and those below are left out. */
export function callSite(above: Call): CallSite {
  const site: { readonly stack?: string } = {};
  // It is kept as it is, and put into words only when somebody asks.
  Error.captureStackTrace(site, above);
  return (error) => {
    // Node's own frames are those of the event, and may be there already.
    const frames = site.stack?.split('\n').filter(isOfProgram) ?? [];
    const [first] = frames;
    if (first !== undefined && error instanceof Error && error.stack?.includes(first) === false) {
      error.stack = [error.stack, ...frames].join('\n');
    }
    return error;
  };
}

const isOfProgram = (line: string, i: number) => i > 0 && !line.includes('node:internal/');

/**
 * Rejects with the error, which gets the frames of the async functions that await the promise. It is for
 * `resolve(rejectingAwaiters(error))` of a promise that a caller has already. Engines other than V8 add nothing.
 */
export async function rejectingAwaiters(error: unknown): Promise<never> {
  // A promise that is resolved with this one waits for it only two microtasks later. Before that V8 finds nobody.
  await undefined;
  await undefined;
  throw callSite(rejectingAwaiters)(error);
}
