/**
 * Cut everywhere: whole conversations, cut with FIN and with RST at every byte of both directions, and
 * what each face of the package makes of that.
 *
 * Left out: KeyUpdate, which Node cannot be told to send.
 */
import type { Figure, Part } from '../part.ts';
import { cutHttp, cutSockets } from './dropins.ts';
import { type Counts, newCounts } from './judge.ts';
import { FULL, LARGE_SCRIPTS, RESUMED, SUITE_SCRIPTS } from './scripts.ts';
import { cutStreams, type Density } from './streams.ts';

export const part: Part = {
  name: 'cuts',
  title: 'Cut everywhere',
  seconds: 240,
  async run(context) {
    const { short, log } = context;
    const thin = ({ clear, rest }: Density): Density =>
      short ? { clear: clear * 60, rest: rest * 40 } : { clear, rest };
    const streams = newCounts();
    for (const [scripts, density] of [
      [[...FULL, ...RESUMED], { clear: 1, rest: 1 }],
      // Up to the first protected record the suite makes no difference.
      [[...SUITE_SCRIPTS, ...LARGE_SCRIPTS], { clear: 8, rest: 2 }],
    ] as const) {
      for (const script of scripts) await cutStreams(script, thin(density), context, streams);
      log(`streams: ${streams.runs} conversations`);
    }
    const sockets = newCounts();
    const untouched = short ? 3 : 30;
    for (const script of [...RESUMED, ...LARGE_SCRIPTS]) {
      await cutSockets(script, thin({ clear: 20, rest: 3 }), untouched, context, sockets);
      log(`drop-in sockets: ${sockets.runs} conversations`);
    }
    const http = newCounts();
    for (const script of RESUMED)
      await cutHttp(script, thin({ clear: 20, rest: 3 }), context, http);
    log(`HTTP: ${http.runs} exchanges`);
    return [
      ...figures('streams', streams),
      ...figures('drop-in sockets', sockets),
      ...figures('HTTP bodies', http),
    ];
  },
};

function figures(face: string, counts: Counts): Figure[] {
  return [
    { name: `${face}: conversations, cut or not`, value: counts.runs, least: 100 },
    { name: `${face}: ended cleanly`, value: counts.clean, least: 10 },
    { name: `${face}: truncations missed`, value: counts.missed, must: 0 },
    { name: `${face}: false alarms`, value: counts.falseAlarms, must: 0 },
    { name: `${face}: lost bytes before a clean end`, value: counts.lost, must: 0 },
    { name: `${face}: hangs`, value: counts.hangs, must: 0 },
  ];
}
