/** Checks of the conformance kit: what was forged, moved or added, and who says nothing. */
import { FORGED_CLOSE_NOTIFY } from './channel.ts';
import { RULES } from './rules.ts';
import {
  beforeCloseNotify,
  type Definition,
  define,
  LAST_WORDS,
  Mismatch,
  pattern,
} from './scene.ts';

export const HOSTILE_CHECKS: readonly Definition[] = [
  define('forgery/close-notify-in-the-clear', RULES.badMac, async (scene) => {
    const { subject } = await scene.establish();
    scene.toSubject.inject(FORGED_CLOSE_NOTIFY);
    scene.toSubject.cut('fin');
    await scene.failsAfter(subject, null);
  }),

  define('forgery/close-notify-during-the-handshake', RULES.endOfData, async (scene) => {
    scene.lay();
    const opening = scene.openSubject();
    scene.toSubject.inject(FORGED_CLOSE_NOTIFY);
    scene.toSubject.cut('fin');
    await scene.refused(opening);
  }),

  define('forgery/bit-of-close-notify', RULES.badMac, async (scene) => {
    const { subject, peer } = await scene.establish();
    const { tail, boundaries } = await scene.tail(peer, LAST_WORDS);
    const forged = Buffer.from(tail);
    forged[forged.length - 1] = (forged.at(-1) as number) ^ 1;
    const line = scene.toSubject;
    line.take();
    line.inject(forged.subarray(0, beforeCloseNotify(boundaries)));
    await scene.hear(subject, LAST_WORDS);
    line.inject(forged.subarray(beforeCloseNotify(boundaries)));
    line.cut('fin');
    await scene.failsAfter(subject, Buffer.alloc(0));
  }),

  define('forgery/close-notify-ahead-of-data', RULES.badMac, async (scene) => {
    // Authentic, but moved: records are numbered, so that it does not count in another's place.
    const { subject, peer } = await scene.establish();
    const { tail, boundaries } = await scene.tail(peer, LAST_WORDS);
    scene.toSubject.take();
    scene.toSubject.inject(tail.subarray(beforeCloseNotify(boundaries)));
    scene.toSubject.cut('fin');
    await scene.failsAfter(subject, Buffer.alloc(0));
  }),

  define('forgery/garbage', RULES.badMac, async (scene) => {
    const { subject } = await scene.establish();
    scene.toSubject.inject(Buffer.concat([Buffer.of(23, 3, 3, 0, 40), pattern(40)]));
    scene.toSubject.cut('fin');
    await scene.failsAfter(subject, Buffer.alloc(0));
  }),

  define('trailing/ignored', RULES.ignore, async (scene) => {
    const { subject, peer } = await scene.establish();
    const { tail } = await scene.tail(peer, LAST_WORDS);
    scene.toSubject.take();
    scene.toSubject.inject(Buffer.concat([tail, Buffer.from('plaintext')]));
    await scene.endsWith(subject, LAST_WORDS);
  }),

  define('trailing/records-ignored', RULES.ignore, async (scene) => {
    const { subject, peer } = await scene.establish();
    const { tail, boundaries } = await scene.tail(peer, LAST_WORDS);
    scene.toSubject.take();
    // A record of the connection itself, played again behind the end.
    scene.toSubject.inject(Buffer.concat([tail, tail.subarray(0, boundaries[0])]));
    await scene.endsWith(subject, LAST_WORDS);
  }),

  define('deadline/handshake', RULES.deadline, async (scene) => {
    scene.lay();
    // Nobody is at the other end.
    await scene.refused(scene.openSubject(scene.deadline));
  }),

  define('deadline/close', RULES.deadline, async (scene) => {
    const { subject } = await scene.establish({}, scene.deadline);
    await scene.within(
      'close to settle although the peer says nothing',
      subject.close().catch(() => {}),
    );
    const word = subject.ending?.();
    if (word === 'clean') throw new Mismatch('silence not to be closure', "the ending is 'clean'");
  }),
];
