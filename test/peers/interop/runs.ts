/** Cases that several tests ask for, each played once. */

/** Plays at once: more would only wait for the processor. */
const SLOTS = 4;

/**
 * @param titleOf tells cases apart.
 * @returns what plays a case, or gives what came out when it was played.
 */
export function playedOnce<Case, Result>(
  titleOf: (one: Case) => string,
  play: (one: Case) => Promise<Result>,
): (one: Case) => Promise<Result> {
  const waiting: Array<() => void> = [];
  let running = 0;
  const runs = new Map<string, Promise<Result>>();

  const inSlot = async (one: Case): Promise<Result> => {
    if (running >= SLOTS) await new Promise<void>((resolve) => waiting.push(resolve));
    else running++;
    try {
      return await play(one);
    } finally {
      const next = waiting.shift();
      if (next === undefined) running--;
      else next();
    }
  };

  return (one) => {
    const title = titleOf(one);
    let result = runs.get(title);
    if (result === undefined) {
      result = inSlot(one);
      // Each test that asks for it gets the rejection.
      result.catch(() => {});
      runs.set(title, result);
    }
    return result;
  };
}
