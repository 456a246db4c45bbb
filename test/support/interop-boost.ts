/** Compiles the Boost.Asio party, once for each state of its source and of the headers. */
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { access, lstat, mkdir, readFile, rename } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { boostVersions } from './interop-peers.ts';

const SOURCE = fileURLToPath(new URL('../interop/boost/party.cpp', import.meta.url));
const run = promisify(execFile);
let compiled: Promise<string> | undefined;

/** The program's path. The first call in a test file may compile it, which takes some seconds. */
export function boostParty(): Promise<string> {
  compiled ??= compile();
  return compiled;
}

async function compile(): Promise<string> {
  // In a folder that only this user can write to: what is found there gets executed.
  const uid = process.getuid?.() ?? 0;
  const folder = path.join(os.tmpdir(), `close-notify-peers-${uid}`);
  await mkdir(folder, { recursive: true, mode: 0o700 });
  const found = await lstat(folder);
  if (!found.isDirectory() || found.uid !== uid || (found.mode & 0o022) !== 0) {
    throw new Error(`${folder} is not a folder of this user's own`);
  }
  const hash = createHash('sha256')
    .update(boostVersions ?? '')
    .update(await readFile(SOURCE));
  const program = path.join(folder, `party-${hash.digest('hex').slice(0, 16)}`);
  const made = await access(program).then(
    () => true,
    () => false,
  );
  if (made) return program;
  // Another test file may be compiling it too; whoever is last to rename wins, with the same file.
  const unfinished = `${program}.${process.pid}`;
  await run('g++', [
    ...['-std=c++17', '-O1', '-Wall', '-Wextra', '-o', unfinished, SOURCE],
    ...['-lssl', '-lcrypto', '-lpthread'],
  ]);
  await rename(unfinished, program);
  return program;
}
