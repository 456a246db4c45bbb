/** A peer in a process of its own: what it prints, how it ends, and that it does end. */
import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { setImmediate as turn } from 'node:timers/promises';
import { afterAll } from 'vitest';

const running = new Set<PeerProcess>();

// The last resort: whoever starts a process also stops it, but a test that timed out cannot.
afterAll(async () => {
  await Promise.all([...running].map((child) => child.kill()));
});

export class PeerProcess {
  readonly #child: ChildProcessWithoutNullStreams;
  readonly #questions = new Set<() => void>();
  readonly #exited: Promise<void>;
  #output = '';
  #exit: string | null = null;

  constructor(command: string, args: readonly string[]) {
    this.#child = spawn(command, args, { stdio: 'pipe' });
    running.add(this);
    for (const stream of [this.#child.stdout, this.#child.stderr]) {
      stream.setEncoding('latin1').on('data', (text: string) => {
        this.#output += text;
        this.#ask();
      });
    }
    // A line for a process that is gone: its exit says more.
    this.#child.stdin.on('error', () => {});
    this.#exited = new Promise((resolve) => {
      const ended = (how: string) => {
        this.#exit ??= how;
        running.delete(this);
        this.#ask();
        resolve();
      };
      this.#child.on('error', (error) => ended(error.message));
      // Not 'exit': that may come before the last output.
      this.#child.on('close', (code, signal) => ended(signal ?? `exit ${code}`));
    });
  }

  /** All that it printed, on both streams. */
  get output(): string {
    return this.#output;
  }

  /** `exit N` or the signal's name; null while it runs. */
  get exit(): string | null {
    return this.#exit;
  }

  send(line: string): void {
    this.#child.stdin.write(`${line}\n`);
  }

  /**
   * Waits for what it prints: `find` is asked after each output until it gives something.
   *
   * @throws when the process has ended and `find` still gives nothing.
   */
  until<T>(find: (output: string) => T | null | undefined): Promise<T> {
    return new Promise((resolve, reject) => {
      const question = () => {
        const found = find(this.#output);
        if (found === null || found === undefined) {
          if (this.#exit === null) return;
          reject(new Error(`${this.#child.spawnfile}: ${this.#exit}\n${this.#output}`));
        } else {
          resolve(found);
        }
        this.#questions.delete(question);
      };
      this.#questions.add(question);
      question();
    });
  }

  /** Resolves when it has ended by itself. */
  async ended(): Promise<string> {
    await this.#exited;
    return this.#exit ?? '';
  }

  /** Kills it and waits for its end; its sockets are closed by then. */
  async kill(): Promise<void> {
    if (this.#exit === null) this.#child.kill('SIGKILL');
    await this.#exited;
  }

  /**
   * Stops it in its tracks: it holds its sockets but reads, answers and closes nothing. The signal
   * only asks for that, so this looks until the kernel (Linux) says that it is so.
   */
  async freeze(): Promise<void> {
    this.#child.kill('SIGSTOP');
    while (this.#exit === null) {
      const status = readFileSync(`/proc/${this.#child.pid}/stat`, 'latin1');
      if (status.slice(status.lastIndexOf(')') + 2, status.lastIndexOf(')') + 3) === 'T') return;
      await turn();
    }
  }

  #ask(): void {
    for (const question of this.#questions) question();
  }
}
