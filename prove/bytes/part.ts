/** Bad bytes: whole conversations with one thing changed, in every place; and the parsers by themselves. */
import type { Part } from '../harness.ts';
import { inShards } from '../harness.ts';
import { BYTE_CHANGES } from './mangle.ts';

export const part: Part = {
  name: 'bytes',
  title: 'Bad bytes',
  seconds: 240,
  async run(context) {
    const { short } = context;
    const counted = await inShards(new URL('work.ts', import.meta.url), context);
    const count = (name: string) => counted['spoilt']?.[name] ?? Number.NaN;
    return [
      {
        name: `byte offsets, ${short ? 'a sample' : 'every one'}`,
        value: count('offsets'),
        least: short ? 25 : 5_000,
      },
      {
        name: `bytes changed there: ${BYTE_CHANGES.join(', ')}`,
        value: count('bytes'),
        must: BYTE_CHANGES.length * count('offsets'),
      },
      {
        name: 'records swapped, dropped, replayed, alerts put in',
        value: count('records'),
        least: 200,
      },
      { name: 'of all these, without effect on the wire', value: count('idle') },
      { name: 'clean ends in spite of a change', value: count('accepted'), must: 0 },
      { name: 'clean ends with other bytes than were said', value: count('altered'), must: 0 },
      { name: 'clean ends where TLS protects nothing', value: count('harmless') },
      { name: 'left to their deadlines', value: count('deadlines'), least: 1 },
      { name: 'hangs', value: count('hangs'), must: 0 },
      {
        name: 'errors that nobody caught',
        value: counted['errors']?.['uncaught'] ?? Number.NaN,
        must: 0,
      },
      {
        name: 'cases that the parsers were given',
        value: counted['parsers']?.['cases'] ?? Number.NaN,
        least: short ? 5_000 : 100_000,
      },
    ];
  },
};
