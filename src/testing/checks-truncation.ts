/** Checks of the conformance kit: wherever the transport ends without close_notify, that is no end. */
import { RULES } from './rules.ts';
import {
  beforeCloseNotify,
  type Definition,
  define,
  LAST_WORDS,
  Mismatch,
  type Scene,
} from './scene.ts';

/** Cuts the reference's last words after so many bytes; the subject must not call that an end. */
const cutTail =
  (where: (boundaries: readonly number[]) => number, how: 'fin' | 'reset') =>
  async (scene: Scene): Promise<void> => {
    const { subject, peer } = await scene.establish();
    const { boundaries } = await scene.tail(peer, LAST_WORDS);
    const at = where(boundaries);
    const line = scene.toSubject;
    line.deliver(at);
    const close = boundaries.at(-2) as number;
    if (how === 'reset') {
      // Read first: that a reset destroys what nobody has read yet is the transport's right.
      if (at >= close) await scene.hear(subject, LAST_WORDS);
      line.cut('reset');
      await scene.failsAfter(subject, at >= close ? Buffer.alloc(0) : null);
      return;
    }
    line.cut('fin');
    await scene.failsAfter(subject, at >= close ? LAST_WORDS : Buffer.alloc(0));
  };

export const TRUNCATION_CHECKS: readonly Definition[] = [
  define('truncation/record-boundary', RULES.truncation, cutTail(beforeCloseNotify, 'fin')),
  define(
    'truncation/inside-data',
    RULES.truncation,
    cutTail((boundaries) => Math.floor((boundaries[0] as number) / 2), 'fin'),
  ),
  define(
    'truncation/inside-close-notify',
    RULES.truncation,
    cutTail((boundaries) => (boundaries.at(-1) as number) - 1, 'fin'),
  ),
  define('truncation/reset', RULES.truncation, cutTail(beforeCloseNotify, 'reset')),
  define(
    'truncation/reset-inside-data',
    RULES.truncation,
    cutTail((boundaries) => Math.floor((boundaries[0] as number) / 2), 'reset'),
  ),

  define('truncation/nothing-said', RULES.truncation, async (scene) => {
    scene.lay();
    const opening = [scene.openSubject(), scene.openReference()] as const;
    const [subject] = await scene.within('the handshake to complete', Promise.all(opening));
    scene.toSubject.cut('fin');
    await scene.failsAfter(subject, Buffer.alloc(0));
  }),

  define('truncation/after-own-close', RULES.endOfData, async (scene) => {
    const { subject, peer } = await scene.establish();
    await scene.within('close_notify to go out', subject.closeWrite());
    await scene.endsWith(peer, Buffer.alloc(0));
    scene.toSubject.cut('fin');
    await scene.failsAfter(subject, Buffer.alloc(0));
  }),

  define('truncation/pending-read', RULES.truncation, async (scene) => {
    const { subject } = await scene.establish();
    const reading = scene.failsAfter(subject, Buffer.alloc(0));
    scene.toSubject.cut('fin');
    await reading;
  }),

  define('truncation/every-byte-of-the-tail', RULES.truncation, async (scene) => {
    // A tail is of one handshake's keys, so each cut has a connection of its own.
    for (let at = 0, length = 1; at < length; at++) {
      const { subject, peer } = await scene.establish();
      const { tail, boundaries } = await scene.tail(peer, LAST_WORDS);
      length = tail.length;
      scene.toSubject.deliver(at);
      scene.toSubject.cut('fin');
      try {
        const complete = at >= beforeCloseNotify(boundaries);
        await scene.failsAfter(subject, complete ? LAST_WORDS : Buffer.alloc(0));
      } catch (error) {
        if (!(error instanceof Mismatch)) throw error;
        const { expected, actual, cause } = error.found;
        throw new Mismatch(`${expected} when cut at byte ${at} of ${length}`, actual, cause);
      }
      scene.end();
    }
  }),

  define('truncation/handshake', RULES.truncation, async (scene) => {
    scene.lay();
    scene.toSubject.cutAt(80, 'fin');
    const opening = scene.openSubject();
    scene.openReference().catch(() => {});
    await scene.refused(opening);
  }),

  define('truncation/handshake-before-a-byte', RULES.truncation, async (scene) => {
    scene.lay();
    scene.toSubject.cut('fin');
    await scene.refused(scene.openSubject());
  }),

  define('truncation/handshake-reset', RULES.truncation, async (scene) => {
    scene.lay();
    scene.toSubject.cutAt(80, 'reset');
    const opening = scene.openSubject();
    scene.openReference().catch(() => {});
    await scene.refused(opening);
  }),
];
