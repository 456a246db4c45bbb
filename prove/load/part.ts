/** Load: many connections through their whole life, and what is left of them. In a process of its own. */
import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import type { Part } from '../part.ts';
import type { LoadReport } from './child.ts';

const CHILD = fileURLToPath(new URL('child.ts', import.meta.url));

/** By how many bytes the collected heap may differ, whatever the number of connections. */
const FLAT = 4 * 1024 * 1024;
/** The most that a peer may make a stream hold: what `unreadLimit` allows, and the buffers on the way. */
const BOUNDED = 20 * 1024 * 1024;

export const part: Part = {
  name: 'load',
  title: 'Load',
  seconds: 180,
  async run({ short, seed, signal, fail, log }) {
    const [connections, atOnce] = short ? [150, 50] : [10_000, 2_000];
    const args = [CHILD, connections, atOnce, seed].map(String);
    const { stdout } = await promisify(execFile)(
      process.execPath,
      ['--expose-gc', '--import', 'tsx', ...args],
      { signal, cwd: fileURLToPath(new URL('../../', import.meta.url)) },
    );
    const report = JSON.parse(stdout) as LoadReport;
    for (const what of [...report.surprises, ...report.uncaught, ...report.handles]) fail(what);
    log(`endings: ${JSON.stringify(report.endings)}; ${report.seconds.toFixed(1)} s`);
    return [
      { name: 'connections', value: report.connections, must: connections + atOnce },
      { name: 'connections at once', value: report.atOnce, must: atOnce },
      { name: 'endings', value: Object.keys(report.endings).length, must: 9 },
      { name: 'connections that lost bytes', value: report.lost, must: 0 },
      { name: 'verdicts that were not due', value: report.surprises.length, must: 0 },
      { name: 'errors that nobody caught', value: report.uncaught.length, must: 0 },
      { name: 'connections left open', value: report.open, must: 0 },
      { name: 'handles and timers left', value: report.handles.length, must: 0 },
      { name: 'listeners left', value: report.listeners, must: 0 },
      { name: 'bytes by which the collected heap grew', value: report.growth, most: FLAT },
      ...Object.entries(report.held).map(([which, value]) => ({
        name: `bytes held for a peer: ${which}`,
        value,
        most: BOUNDED,
      })),
    ];
  },
};
