/**
 * The files that options name. A file is read, or looked at, before anything is connected to, and
 * what is wrong with it is an error of its option. As a name, `-` is standard input or standard
 * output.
 */
import { accessSync, constants, readFileSync, statSync, writeFileSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { OptionError } from '../errors.ts';
import type { Terminal } from './terminal.ts';

/** Standard input, or standard output. */
export const STANDARD = '-';

/** What the system says about a file becomes an error of the option. @throws {OptionError} */
export function usingFile<T>(option: string, file: string, use: () => T): T {
  try {
    return use();
  } catch (cause) {
    const { code, message } = cause as NodeJS.ErrnoException;
    if (typeof code !== 'string' || cause instanceof OptionError) throw cause;
    throw new OptionError(`${option}: ${file}: ${message}`, { cause });
  }
}

/** A whole file as text. @throws {OptionError} */
export async function readText(option: string, file: string): Promise<string> {
  if (file !== STANDARD) return usingFile(option, file, () => readFileSync(file, 'utf8'));
  let text = '';
  for await (const chunk of process.stdin.setEncoding('utf8')) text += chunk;
  return text;
}

/** The first line of a file, without its end: a passphrase, for instance. @throws {OptionError} */
export async function readFirstLine(option: string, file: string): Promise<string> {
  let text = '';
  if (file === STANDARD) {
    // A person who types it does not end the input behind it.
    for await (const chunk of process.stdin.setEncoding('utf8')) {
      text += chunk;
      if (/[\r\n]/.test(text)) break;
    }
  } else {
    text = await readText(option, file);
  }
  return /^[^\r\n]*/.exec(text)?.[0] ?? '';
}

/** Options and their files, those that were given. */
export type Files = Readonly<Record<string, string | undefined>>;

const given = (files: Files): Array<[string, string]> =>
  Object.entries(files).filter((pair): pair is [string, string] => pair[1] !== undefined);

/** Refuses two options that would both read standard input. @throws {OptionError} */
export function checkInputs(files: Files): void {
  const [one, two] = given(files).filter(([, file]) => file === STANDARD);
  if (one && two) throw new OptionError(`${one[0]} and ${two[0]} cannot both read standard input`);
}

/**
 * Looks whether files can be written to, without touching them: what is there stays as it is until
 * there is something to write.
 *
 * @throws {OptionError} for one that cannot, or two options with the same file.
 */
export function checkOutputs(files: Files): void {
  const seen = new Map<string, string>();
  for (const [option, file] of given(files)) {
    if (file === STANDARD) continue;
    const path = resolve(file);
    const other = seen.get(path);
    if (other !== undefined) throw new OptionError(`${other} and ${option} name the same file`);
    seen.set(path, option);
    usingFile(option, file, () => checkOutput(option, file));
  }
}

function checkOutput(option: string, file: string): void {
  const there = statSync(file, { throwIfNoEntry: false });
  if (there?.isDirectory() || /[/\\]$/.test(file)) {
    throw new OptionError(`${option}: ${file} is a folder: name a file`);
  }
  if (there !== undefined) {
    accessSync(file, constants.W_OK);
    return;
  }
  const folder = dirname(file);
  if (!statSync(folder, { throwIfNoEntry: false })?.isDirectory()) {
    throw new OptionError(`${option}: ${file}: there is no folder ${folder}`);
  }
  accessSync(folder, constants.W_OK | constants.X_OK);
}

/**
 * Standard output takes one thing at a time.
 *
 * @param claims options, and whether what they make goes there.
 * @throws {OptionError} for more than one.
 */
export function checkStandardOutput(claims: Readonly<Record<string, boolean>>): void {
  const [one, two] = Object.keys(claims).filter((option) => claims[option] === true);
  if (one !== undefined && two !== undefined) {
    throw new OptionError(`${one} and ${two} both print: give one of them a file`);
  }
}

/** Writes a text to a file, or to standard output. @throws {OptionError} */
export function writeText(option: string, file: string, text: string, terminal: Terminal): void {
  if (file === STANDARD) terminal.write(text);
  else usingFile(option, file, () => writeFileSync(file, text));
}
