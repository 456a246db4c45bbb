/**
 * Cut everywhere: whole conversations, cut with FIN and with a reset at every byte of both directions, and
 * what each face of the package makes of that.
 *
 * What is left out, and what is drawn at random, is in the names of the figures. Conversations with
 * KeyUpdate need OpenSSL's headers and a C++ compiler. Without these their figure is 'not run', which is
 * not what it must be, but for the short form where nobody asks for all peers (REQUIRE_PEERS=1).
 */
import type { Context, Figure, Part } from '../harness.ts';
import { type Counted, inShards } from '../harness.ts';
import { compilePeer, opensslHeaders } from '../peers/openssl.ts';
import { WAYS_TOLD } from './dropins.ts';
import { WITHIN_SOCKETS } from './work.ts';

type Counts = Counted[string];

/** Which places the short form takes. */
const SAMPLE = 'a sample';

export const part: Part = {
  name: 'cuts',
  title: 'Cut everywhere',
  seconds: 480,
  async run(context) {
    const headers = opensslHeaders();
    // Here, rather than in each shard.
    if (headers !== null) await compilePeer(headers);
    const counted = await inShards(new URL('work.ts', import.meta.url), context);
    const { short } = context;
    const faces: Array<readonly [name: string, key: string, some?: string]> = [
      ['streams, 3 suites in each version', 'streams'],
      ['streams, a record of 16 KB', 'largeStreams'],
      ['drop-in sockets, AES-128-GCM', 'sockets'],
      ['drop-in sockets, a record of 16 KB', 'largeSockets', `every ${WITHIN_SOCKETS}th inside it`],
      ['HTTP responses, AES-128-GCM', 'responses'],
      ['HTTP uploads, AES-128-GCM', 'uploads'],
    ];
    const figures: Figure[] = faces.flatMap(([name, key, some]) =>
      figuresOf(name, counted[key] ?? {}, short ? SAMPLE : (some ?? 'every one')),
    );
    figures.push({
      name: 'drop-in sockets: ways to read × ways to arrive, one drawn for each cut',
      value: WAYS_TOLD,
    });
    return [...figures, ...keyUpdateFigures(counted, headers, context)];
  },
};

function figuresOf(face: string, counts: Counts | undefined, which: string): Figure[] {
  const least = which === SAMPLE ? 50 : 2_500;
  const count = (name: string) => counts?.[name] ?? Number.NaN;
  return [
    { name: `${face}: byte offsets, ${which}`, value: count('offsets'), least },
    {
      name: `${face}: cuts there, with FIN and with RST`,
      value: count('cuts'),
      must: 2 * count('offsets'),
    },
    { name: `${face}: left uncut`, value: count('uncut'), least: 2 },
    { name: `${face}: ended cleanly, cut or not`, value: count('clean'), least: 10 },
    { name: `${face}: truncations missed`, value: count('missed'), must: 0 },
    { name: `${face}: false alarms`, value: count('falseAlarms'), must: 0 },
    { name: `${face}: lost bytes before a clean end`, value: count('lost'), must: 0 },
    { name: `${face}: hangs`, value: count('hangs'), must: 0 },
  ];
}

function keyUpdateFigures(
  counted: Counted,
  headers: string | null,
  { short, log }: Context,
): Figure[] {
  const faces = [
    ['streams with KeyUpdate', 'keyStreams', 'keyUpdates'],
    ['drop-in sockets with KeyUpdate', 'keySockets', 'socketKeyUpdates'],
  ] as const;
  if (headers === null) {
    log('conversations with KeyUpdate need g++ and the headers of OpenSSL');
    const required = !short || process.env['REQUIRE_PEERS'] === '1';
    return faces.map(([name]) => ({
      name: `${name}: truncations missed`,
      value: 'not run',
      ...(required ? { must: 0 } : {}),
    }));
  }
  return faces.flatMap(([name, key, updates]) => [
    ...figuresOf(name, counted[key], short ? SAMPLE : 'every one'),
    // Each of these both ways: the peer's with and without a request, and the answer to the one.
    ...(
      [
        ['requested', 'KeyUpdates that the peer sent, with update_requested'],
        ['unasked', 'KeyUpdates that the peer sent, with update_not_requested'],
        ['answered', 'KeyUpdates that the peer got from us'],
        ['conversations', 'conversations that all three crossed'],
      ] as const
    ).map(([count, what]) => ({
      name: `${name}: ${what}`,
      value: counted[updates]?.[count] ?? 0,
      least: 10,
    })),
  ]);
}
