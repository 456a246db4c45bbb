/** `close-notify doctor`: what works in this process, and why not more. */
import { describe, expect, it } from 'vitest';
import type { DoctorReport } from '../../../src/cli/doctor.ts';
import { run } from './run.ts';

/** Without the add-on, wherever this runs. */
const WITHOUT = { CLOSE_NOTIFY_NATIVE: '0', CLOSE_NOTIFY_REQUIRE_NATIVE: '' };

describe('doctor', () => {
  it('--json: one object', async () => {
    const { code, stdout, stderr } = await run(['doctor', '--json'], { env: WITHOUT });
    expect([code, stderr]).toEqual([0, '']);
    expect(JSON.parse(stdout) as DoctorReport).toEqual({
      closeNotify: expect.stringMatching(/^\d+\.\d+\.\d+$/),
      runtime: `node ${process.versions.node}`,
      openssl: process.versions.openssl,
      platform: `${process.platform}-${process.arch}`,
      native: { version: null, reason: 'CLOSE_NOTIFY_NATIVE=0' },
      dropIns: 'record',
      streams: 'record',
    });
  });

  it.each([40, 80, 140])(
    'in words: a column of labels, no line longer than %i',
    async (columns) => {
      const { code, stdout } = await run(['doctor', '--ascii'], {
        env: { ...WITHOUT, COLUMNS: `${columns}` },
      });
      expect(code).toBe(0);
      const lines = stdout.trimEnd().split('\n');
      expect(lines.filter((line) => line.length > columns)).toEqual([]);
      const labels = lines.map((line) => line.slice(0, 14).trim()).filter((label) => label !== '');
      expect(labels).toEqual(['close-notify', 'runtime', 'add-on', 'drop-ins', 'streams']);
      expect(stdout.replace(/\s+/g, ' ')).toContain('add-on not loaded: CLOSE_NOTIFY_NATIVE=0');
      if (columns >= 80) expect(lines).toHaveLength(5);
    },
  );
});
