/** Bad bytes: whole conversations with one thing changed, in every place; and the parsers by themselves. */
import { model, prepare } from '../cuts/conversation.ts';
import { FULL, RESUMED } from '../cuts/scripts.ts';
import type { Part } from '../part.ts';
import { fuzz } from './parsers.ts';
import { newSpoilt, spoil } from './spoil.ts';

export const part: Part = {
  name: 'bytes',
  title: 'Bad bytes',
  seconds: 180,
  async run(context) {
    const { short, log, fail, seed } = context;
    const counts = newSpoilt();
    let uncaught = 0;
    const onUncaught = (error: unknown) => {
      uncaught++;
      fail(`nobody caught ${(error as Error)?.stack ?? error}`);
    };
    process.on('uncaughtException', onUncaught);
    process.on('unhandledRejection', onUncaught);
    try {
      for (const [scripts, step] of [
        [FULL, short ? 61 : 2],
        [RESUMED, short ? 41 : 2],
      ] as const) {
        for (const script of scripts) {
          await spoil(script, step, context, counts);
          log(`${script.name}: ${counts.bytes} bytes and ${counts.records} records so far`);
        }
      }
      const models = await Promise.all(
        [...FULL, ...RESUMED].map(async (one) => model(await prepare(one))),
      );
      const cases = fuzz(models, short ? 500 : 10_000, context);
      log(`parsers: ${cases} cases, seed ${seed}`);
      return [
        { name: 'bytes changed', value: counts.bytes, least: short ? 100 : 5_000 },
        {
          name: 'records swapped, dropped, replayed, alerts put in',
          value: counts.records,
          least: 200,
        },
        { name: 'clean ends in spite of a change', value: counts.accepted, must: 0 },
        { name: 'clean ends with other bytes than were said', value: counts.altered, must: 0 },
        { name: 'clean ends where TLS protects nothing', value: counts.harmless },
        { name: 'left to their deadlines', value: counts.deadlines, least: 1 },
        { name: 'hangs', value: counts.hangs, must: 0 },
        { name: 'errors that nobody caught', value: uncaught, must: 0 },
        { name: 'cases that the parsers were given', value: cases, least: short ? 5_000 : 100_000 },
      ];
    } finally {
      process.off('uncaughtException', onUncaught);
      process.off('unhandledRejection', onUncaught);
    }
  },
};
