/** Lockstep: the pair stands still between steps, and two real streams do what the machine says. */
import { describe, expect, test } from 'vitest';
import { holds } from '../../../prove/harness.ts';
import { part } from '../../../prove/lockstep/part.ts';
import { lockstep, settle, VirtualClock } from '../../../src/testing/index.ts';

describe('settle', () => {
  test('waits for chains of ticks, microtasks and immediates, however long', async () => {
    let links = 0;
    const link = () => {
      if (++links === 60) return;
      if (links % 3 === 0) setImmediate(link);
      else if (links % 3 === 1) process.nextTick(link);
      else void Promise.resolve().then(link);
    };
    link();
    await settle();
    expect(links).toBe(60);
  });
});

describe('a virtual clock', () => {
  test('runs timers when told, in order, and lets go of the real ones', async () => {
    const real = globalThis.setTimeout;
    const ran: string[] = [];
    {
      using clock = new VirtualClock();
      setTimeout((name: string) => ran.push(name), 50, 'a');
      const cleared = setTimeout(() => ran.push('never'), 50);
      setTimeout(() => ran.push('b'), 70);
      clearTimeout(cleared);
      expect(clock.pending).toEqual([50, 70]);
      await settle();
      expect(ran).toEqual([]);
      expect(clock.expire((ms) => ms === 70)).toBe(1);
      expect(clock.expire()).toBe(1);
    }
    expect(ran).toEqual(['b', 'a']);
    expect(globalThis.setTimeout).toBe(real);
  });
});

describe('a lockstep pair', () => {
  test.each(['TLSv1.2', 'TLSv1.3'] as const)(
    '%s: nothing arrives but what is delivered',
    async (version) => {
      using pair = await lockstep({ version });
      const { client, server, wire, clock } = pair;
      let closing: unknown = null;
      await pair.step(() =>
        client.shutdown().then((closure) => {
          closing = closure.verdict;
        }),
      );
      expect(client.closure).toMatchObject({ verdict: 'open', send: 'closed' });
      expect(server.closure.receive).toBe('open');
      await pair.step(() => wire.forth.deliverWrite());
      expect(server.closure.receive).toBe('closed');
      // "The other party MUST respond with a close_notify alert of its own" (RFC 5246 section 7.2.1);
      // "This does not have any effect on its read side" (RFC 9846 section 6.1).
      expect(wire.back.next).toBe(version === 'TLSv1.2' ? 'bytes' : null);
      expect(closing).toBe(null);
      if (version === 'TLSv1.3') await pair.step(() => server.shutdown({ wait: false }));
      await pair.step(() => wire.back.deliverWrite());
      expect(closing).toBe('secure');
      expect(clock.pending).toEqual([]);
    },
  );

  test('a deadline is a choice', async () => {
    using pair = await lockstep();
    let error: unknown = null;
    await pair.step(() =>
      pair.client.shutdown({ deadline: 3_600_000 }).catch((thrown) => {
        error = thrown;
      }),
    );
    expect(error).toBe(null);
    await pair.step(() => pair.clock.expire((ms) => ms === 3_600_000));
    expect(error).toMatchObject({ code: 'ERR_TLS_TIMEOUT' });
    expect(pair.client.closure.verdict).toBe('timed-out');
  });
});

test('two real streams do what the machine says, in the short form of the proof', async () => {
  const failures: string[] = [];
  const figures = await part.run({
    seed: 20_261_123,
    short: true,
    signal: new AbortController().signal,
    log: () => {},
    fail: (what) => failures.push(what),
  });
  expect(failures).toEqual([]);
  expect(figures.filter((figure) => !holds(figure))).toEqual([]);
}, 120_000);
