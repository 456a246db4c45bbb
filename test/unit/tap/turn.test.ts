/** The end of a turn of the event loop. */
import { AsyncLocalStorage } from 'node:async_hooks';
import { expect, test } from 'vitest';
import { atEndOfTurn } from '../../../src/tap/turn.ts';
import { turn, uncaughtDuring } from '../../support/core-scope.ts';

test('what is due is done in the async context of nobody who has something due', async () => {
  const whose = new AsyncLocalStorage<string>();
  const seen: unknown[] = [];
  for (const name of ['one', 'another']) {
    whose.run(name, () => atEndOfTurn({ onTurnEnd: () => seen.push(whose.getStore()) }));
  }
  await turn();
  expect(seen).toEqual([undefined, undefined]);
});

test('one that throws keeps no other from its turn, and is an uncaught exception', async () => {
  let done = 0;
  const uncaught = await uncaughtDuring(async () => {
    atEndOfTurn({
      onTurnEnd() {
        throw new Error('of one');
      },
    });
    atEndOfTurn({ onTurnEnd: () => done++ });
    await turn();
    await turn();
  });
  expect(done).toBe(1);
  expect(uncaught).toEqual(['uncaughtException: of one']);
});

test('what becomes due then is done in the next turn', async () => {
  const log: string[] = [];
  atEndOfTurn({
    onTurnEnd() {
      log.push('first');
      atEndOfTurn({ onTurnEnd: () => log.push('next') });
    },
  });
  await turn();
  expect(log).toEqual(['first']);
  await turn();
  expect(log).toEqual(['first', 'next']);
});
