/** Runs the compiled command, as a user would. `npm test` builds it first. */
import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

export const MAIN = fileURLToPath(new URL('../../../dist/cli/main.js', import.meta.url));

/** What became of a run. */
export interface Run {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Options of a run. */
export interface RunOptions {
  readonly env?: NodeJS.ProcessEnv;
  /** What its standard input holds; nothing by default. */
  readonly input?: string;
  /** A file that its standard output goes to: a device. */
  readonly stdout?: string;
  /** Called with the process when it has been started. */
  readonly onStart?: (child: ChildProcess) => void;
  /** Called with the process and what it has printed so far, whenever it prints. */
  readonly onOutput?: (child: ChildProcess, soFar: string) => void;
}

/** Runs `close-notify ARGS`, with no terminal and in a UTF-8 locale. */
export function run(args: readonly string[], options: RunOptions = {}): Promise<Run> {
  const { NO_COLOR: _, FORCE_COLOR: __, COLUMNS: ___, ...env } = process.env;
  const device = options.stdout === undefined ? undefined : openSync(options.stdout, 'w');
  const child = spawn(process.execPath, [MAIN, ...args], {
    env: { ...env, LC_ALL: 'C.UTF-8', ...options.env },
    stdio: [options.input === undefined ? 'ignore' : 'pipe', device ?? 'pipe', 'pipe'],
  });
  if (device !== undefined) closeSync(device);
  // It may end without having read all of it.
  child.stdin?.on('error', () => {}).end(options.input);
  options.onStart?.(child);
  return new Promise((resolve, reject) => {
    let stdout = '';
    let stderr = '';
    child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      stdout += text;
      options.onOutput?.(child, stdout);
    });
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      stderr += text;
    });
    child.once('error', reject);
    child.once('close', (code, signal) => resolve({ code, signal, stdout, stderr }));
  });
}
