/** What one shard of the cuts does: all faces in turn, each at the places that are its own. */

import type { Counted, Shard } from '../harness.ts';
import { compilePeer, KeyUpdatePeer, opensslHeaders } from '../peers/openssl.ts';
import { cutKeyUpdateSockets, cutResponses, cutSockets, cutUploads } from './dropins.ts';
import { newCounts } from './judge.ts';
import { cutKeyUpdates, newKeyUpdates, TALK } from './keyupdates.ts';
import { type Density, EVERY_BYTE } from './places.ts';
import { FULL, LARGE_SCRIPTS, RESUMED, SUITE_SCRIPTS } from './scripts.ts';
import { cutStreams } from './streams.ts';

/** Within a large record a drop-in socket is cut at every so-manieth byte only. */
export const WITHIN_SOCKETS = 64;

/** Of the short form: little more than where records meet. */
const SHORT: Density = { step: 300, within: 5_000 };

export async function work(shard: Shard): Promise<Counted> {
  const { short, log } = shard;
  const density = short ? SHORT : EVERY_BYTE;
  const uncut = short ? 2 : 10;

  const streams = newCounts();
  for (const script of [...FULL, ...RESUMED, ...SUITE_SCRIPTS]) {
    await cutStreams(script, density, uncut, shard, streams);
  }
  log(`streams: ${streams.runs} conversations`);
  const largeStreams = newCounts();
  for (const script of LARGE_SCRIPTS) {
    await cutStreams(script, density, uncut, shard, largeStreams);
    log(`streams, large records: ${largeStreams.runs} conversations`);
  }

  const sockets = newCounts();
  const untouched = short ? 2 : 30;
  for (const script of RESUMED) await cutSockets(script, density, untouched, shard, sockets);
  log(`drop-in sockets: ${sockets.runs} conversations`);
  const largeSockets = newCounts();
  const sparse = short ? SHORT : { step: 1, within: WITHIN_SOCKETS };
  for (const script of LARGE_SCRIPTS) {
    await cutSockets(script, sparse, untouched, shard, largeSockets);
  }
  log(`drop-in sockets, large records: ${largeSockets.runs} conversations`);

  const responses = newCounts();
  const uploads = newCounts();
  for (const script of RESUMED) {
    await cutResponses(script, density, uncut, shard, responses);
    await cutUploads(script, density, uncut, shard, uploads);
  }
  log(`HTTP: ${responses.runs} responses, ${uploads.runs} uploads`);

  const counted = { streams, largeStreams, sockets, largeSockets, responses, uploads };
  const headers = opensslHeaders();
  if (headers === null) return counted;
  const keyStreams = newCounts();
  const keySockets = newCounts();
  const keyUpdates = newKeyUpdates();
  const socketKeyUpdates = newKeyUpdates();
  await using peer = await KeyUpdatePeer.start(await compilePeer(headers), TALK);
  await cutKeyUpdates(peer, density, uncut, shard, keyStreams, keyUpdates);
  await cutKeyUpdateSockets(peer, density, uncut, shard, keySockets, socketKeyUpdates);
  log(`with KeyUpdate: ${keyStreams.runs} conversations of streams, ${keySockets.runs} of sockets`);
  return { ...counted, keyStreams, keySockets, keyUpdates, socketKeyUpdates };
}
