/** Several targets in one run: from the command line, from a file, a few at a time. */
import { OptionError } from '../errors.ts';
import { type ConnectionOptions, checkFamily, defaultPort } from './connection.ts';
import { readText, STANDARD } from './files.ts';
import { parseTarget, type Target } from './target.ts';

/** Options as commander hands them over. */
export interface TargetOptions extends ConnectionOptions {
  /** A file with targets; `-` is standard input. */
  readonly targets?: string;
}

/** What a command is to look at. */
export interface Targets {
  readonly list: readonly Target[];
  /** Whether a line for each is wanted. One target that stands on the command line alone gets a page. */
  readonly lines: boolean;
}

/**
 * The targets of the command line, then those of the file.
 *
 * @throws {OptionError} where there is none, or one that is none.
 */
export async function targetsOf(
  given: readonly string[],
  options: TargetOptions,
): Promise<Targets> {
  const port = defaultPort(options);
  const { targets: file } = options;
  const list = given.map((text) => read(text, port, ''));
  if (file !== undefined) {
    const text = await readText('--targets', file);
    const name = file === STANDARD ? 'standard input' : file;
    const found = text.split(/\r?\n/).flatMap((line, index) => {
      // No target has this character in it, so it may stand behind one as well.
      const target = line.replace(/#.*/, '').trim();
      if (target === '') return [];
      return [read(target, port, `--targets: ${name}, line ${index + 1}: `)];
    });
    if (found.length === 0) throw new OptionError(`--targets: ${name}: no target in it`);
    list.push(...found);
  }
  if (list.length === 0)
    throw new OptionError('what to connect to: HOST[:PORT], or --targets FILE');
  checkFamily(list, options);
  return { list, lines: file !== undefined || list.length > 1 };
}

function read(text: string, port: number, where: string): Target {
  try {
    return parseTarget(text, port);
  } catch (cause) {
    throw new OptionError(`${where}${(cause as Error).message}`, { cause });
  }
}

/** Connections at a time: enough that one server that is silent does not hold up the others. */
const AT_A_TIME = 8;

/**
 * Does something with each target, a few at a time.
 *
 * @param tell is told the outcome of each, in the order of the targets.
 * @throws what `run` or `tell` throws first.
 */
export async function forEachTarget<T>(
  targets: readonly Target[],
  run: (target: Target) => Promise<T>,
  tell: (target: Target, outcome: T) => void,
): Promise<void> {
  const waiting = targets.entries();
  const outcomes = new Map<number, T>();
  let told = 0;
  const work = async () => {
    // All workers take from one iterator.
    for (const [index, target] of waiting) {
      outcomes.set(index, await run(target));
      for (; outcomes.has(told); told++) {
        tell(targets[told] as Target, outcomes.get(told) as T);
        outcomes.delete(told);
      }
    }
  };
  await Promise.all(Array.from({ length: AT_A_TIME }, work));
}
