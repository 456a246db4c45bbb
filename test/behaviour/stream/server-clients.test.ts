/**
 * What ends a server's process, and what does not: one client killed in every phase of a server's life, and every bug
 * of a program. In a process of its own (server-child.ts), where nobody else catches anything.
 */
import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { expect, it } from 'vitest';
import { describeNodes } from '../../support/describe-nodes.ts';
import type { Outcome } from './server-child.ts';

const CHILD = fileURLToPath(new URL('server-child.ts', import.meta.url));
const ROOT = fileURLToPath(new URL('../../../', import.meta.url));

async function play(node: string, what: 'lives' | 'bugs'): Promise<Outcome[]> {
  const { stdout } = await promisify(execFile)(node, ['--import', 'tsx', CHILD, what], {
    cwd: ROOT,
  });
  return JSON.parse(stdout) as Outcome[];
}

/** What the channel hears, where it is not a truncation. */
const TOLD: Readonly<Record<string, readonly string[]>> = {
  'with a record that does not authenticate': ['ERR_TLS_ALERT'],
  // A FIN behind close_notify is how it should be.
  'FIN: between shutdown and unwrap': [],
  'RST: between shutdown and unwrap': ['ERR_TLS_NOT_SHUTDOWN'],
  'FIN: behind unwrap, where the program listens': [],
  'RST: behind unwrap, where the program listens': ['ECONNRESET'],
  'FIN: behind unwrap, where nobody listens': [],
  'RST: behind unwrap, where nobody listens': ['ECONNRESET'],
  'before the program writes to its Duplex': ['ERR_STREAM_DESTROYED'],
  'when the program has told of it in words of its own': ['none was served'],
};

/** What is left uncaught, where it is not the error that the program throws. */
const UNCAUGHT: Readonly<Record<string, readonly string[]>> = {
  'a call at the wrong time': ['ERR_TLS_READ_PENDING'],
  'a call that cannot be answered': ['ERR_TLS_NOT_SHUTDOWN'],
  'a write of what is no bytes': ['ERR_TLS_OPTION'],
  'what another connection failed with': ['ERR_TLS_CONNECT'],
  'what another stream failed with': ['ERR_TLS_TRUNCATED'],
  'a bug within using, whose stream has failed as well': ['suppressed'],
  'record throws, and onError is told': [],
  'record gives no observer': ['ERR_TLS_OPTION'],
};

describeNodes('a server', (node) => {
  it('survives a client that is killed, whenever that is', { timeout: 120_000 }, async () => {
    const outcomes = await play(node, 'lives');
    // Lives, versions, ways to go.
    expect(outcomes.length).toBe(18 * 2 * 2);
    for (const outcome of outcomes) {
      const name = outcome.name.slice('TLSv1.x, '.length);
      const life = name.slice('FIN: '.length);
      expect(outcome).toMatchObject({ uncaught: [], open: 0, serves: true });
      // `close` says itself when a missing answer is an error.
      if (life === 'while the server closes') continue;
      const told = TOLD[name] ?? TOLD[life] ?? ['ERR_TLS_TRUNCATED'];
      expect({ name, told: outcome.told }).toEqual({ name, told });
    }
  });

  it("does not swallow a bug of the program's, and goes on", { timeout: 120_000 }, async () => {
    const outcomes = await play(node, 'bugs');
    expect(outcomes.length).toBe(14 * 2);
    for (const outcome of outcomes) {
      const bug = outcome.name.slice(outcome.name.indexOf(': ') + 2);
      const uncaught = (UNCAUGHT[bug] ?? ['oops']).map((word) => `unhandledRejection: ${word}`);
      expect(outcome).toMatchObject({ uncaught, open: 0, serves: true });
      if (bug !== 'onError rejects') expect(outcome.told).toEqual([]);
      if (bug.includes('onError')) expect(outcome.heard.length).toBe(1);
    }
  });
});
