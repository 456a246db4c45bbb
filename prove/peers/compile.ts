/** Compiles a peer in C++, once for each state of its source and of the headers that it is made with. */
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { access, lstat, mkdir, readFile, rename } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);

/**
 * @param source the path of its only file, after which the program is named.
 * @param headers what the headers say they are.
 * @returns the program's path.
 */
export async function compile(source: string, headers: string): Promise<string> {
  // In a folder that only this user can write to: what is found there gets executed.
  const uid = process.getuid?.() ?? 0;
  const folder = path.join(os.tmpdir(), `close-notify-peers-${uid}`);
  await mkdir(folder, { recursive: true, mode: 0o700 });
  const found = await lstat(folder);
  if (!found.isDirectory() || found.uid !== uid || (found.mode & 0o022) !== 0) {
    throw new Error(`${folder} is not a folder of this user's own`);
  }
  const hash = createHash('sha256')
    .update(headers)
    .update(await readFile(source));
  const name = path.basename(source, '.cpp');
  const program = path.join(folder, `${name}-${hash.digest('hex').slice(0, 16)}`);
  const made = await access(program).then(
    () => true,
    () => false,
  );
  if (made) return program;
  // Another process may be compiling it too; whoever is last to rename wins, with the same file.
  const unfinished = `${program}.${process.pid}`;
  await run('g++', [
    ...['-std=c++17', '-O1', '-Wall', '-Wextra', '-o', unfinished, source],
    ...['-lssl', '-lcrypto', '-lpthread'],
  ]);
  await rename(unfinished, program);
  return program;
}
