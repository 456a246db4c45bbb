/** The demo, and the player under it. */
import { describe, expect, it } from 'vitest';
import { asExpected, openPair, type Party, play } from '../../../src/cli/play.ts';
import { SCENARIOS } from '../../../src/cli/scenarios.ts';
import { Scope } from '../../support/core-scope.ts';
import { run } from './run.ts';

describe('the demo', () => {
  it('shows the truncation, plays nine scenarios, and exits with 0', async () => {
    const { code, stdout, stderr } = await run(['demo']);
    expect(stderr).toBe('');
    expect(code).toBe(0);
    expect(stdout).toContain('resolves: "Pay $100 to Alice"');
    expect(stdout).toContain('throws ERR_TLS_TRUNCATED');
    for (const { number, title } of SCENARIOS) {
      expect(stdout.replaceAll('\n', ' ')).toContain(`${number}. ${title}`);
    }
    expect(stdout).toContain('18 of 18 runs');
    expect(stdout).not.toContain('\u001b');
  });

  it('draws both TLS versions with --all, in ASCII with --ascii', async () => {
    const { code, stdout } = await run(['demo', '--all', '--ascii']);
    expect(code).toBe(0);
    expect(stdout.match(/handshake TLSv1\.2/g)).toHaveLength(9);
    expect(stdout.match(/handshake TLSv1\.3/g)).toHaveLength(9);
    expect(stdout).toMatch(/^[\n -~]*$/);
  });

  for (const columns of [60, 80, 140]) {
    it(`has no line longer than ${columns} columns`, async () => {
      const { stdout } = await run(['demo'], { env: { COLUMNS: `${columns}` } });
      const long = stdout.split('\n').filter((line) => [...line].length > columns);
      expect(long).toEqual([]);
    });
  }
});

describe('the player', () => {
  for (const protocol of ['TLSv1.2', 'TLSv1.3'] as const) {
    for (const scenario of SCENARIOS) {
      it(`${protocol}, ${scenario.number}. ${scenario.title}`, async () => {
        const scope = new Scope();
        {
          const timesOut = scenario.verdicts.A === 'timed-out';
          await using pair = await openPair({ protocol, ...(timesOut && { deadline: 100 }) });
          const played = await play(scenario, pair.A, pair.B);
          expect(played.A.verdict).toBe(scenario.verdicts.A);
          if (scenario.verdicts.B !== null) expect(played.B.verdict).toBe(scenario.verdicts.B);
          expect(asExpected(scenario, played)).toBe(true);
        }
        await scope.nothingOpen();
      });
    }
  }

  it('disposes of both parties also when one cannot play', async () => {
    const calls: string[] = [];
    const party = (name: string, fails: boolean): Party => ({
      do: () => (fails ? Promise.reject(new Error('cannot')) : Promise.resolve()),
      settle: () => Promise.resolve(),
      outcome: () => ({ verdict: null, closure: null, error: null }),
      dispose: async () => {
        calls.push(name);
      },
    });
    const [scenario] = SCENARIOS;
    await expect(play(scenario!, party('A', false), party('B', true))).rejects.toThrow('cannot');
    expect(calls.sort()).toEqual(['A', 'B']);
  });
});
