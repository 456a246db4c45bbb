/** Checks of the conformance kit: bytes arrive, and close_notify is an end. */
import { byteByByte } from './channel.ts';
import type { Party } from './party.ts';
import { RULES } from './rules.ts';
import { type Definition, define, LAST_WORDS, Mismatch, pattern } from './scene.ts';

export const CLOSURE_CHECKS: readonly Definition[] = [
  define('data/both-ways', RULES.bytes, async (scene) => {
    const { subject, peer } = await scene.establish();
    await scene.say(subject, peer, 'one');
    await scene.say(peer, subject, 'two');
  }),

  define('data/one-byte-at-a-time', RULES.bytes, async (scene) => {
    const { subject, peer } = await scene.establish({ segments: byteByByte });
    await peer.write(pattern(3_000));
    await scene.hear(subject, pattern(3_000));
    await peer.closeWrite();
    await scene.endsWith(subject, Buffer.alloc(0));
  }),

  define('data/large-both-ways', RULES.bytes, async (scene) => {
    const { subject, peer } = await scene.establish();
    const data = pattern(1_000_000);
    const write = async (party: Party) => {
      for (let at = 0; at < data.length; at += 50_000) {
        await party.write(data.subarray(at, at + 50_000));
      }
    };
    const all = Promise.all([
      write(subject),
      write(peer),
      scene.hear(subject, data),
      scene.hear(peer, data),
    ]);
    await scene.within('a megabyte each way', all);
  }),

  define('closure/peer-first', RULES.notify, async (scene) => {
    const { subject, peer } = await scene.establish();
    await peer.write(LAST_WORDS);
    await peer.closeWrite();
    await scene.endsWith(subject, LAST_WORDS);
    await Promise.all([
      scene.within('close to settle', subject.close()),
      scene.endsWith(peer, Buffer.alloc(0)).then(() => peer.close()),
    ]);
  }),

  define('closure/subject-first', RULES.before, async (scene) => {
    const { subject, peer } = await scene.establish();
    await subject.write(LAST_WORDS);
    // The reference ends only on close_notify, so the FIN did not come before it.
    const [closed, answered] = await Promise.allSettled([
      scene.within('close to settle', subject.close()),
      scene.endsWith(peer, LAST_WORDS).then(() => peer.close()),
    ]);
    for (const one of [answered, closed]) if (one.status === 'rejected') throw one.reason;
  }),

  define('closure/both-at-once', RULES.notify, async (scene) => {
    const { subject, peer } = await scene.establish();
    scene.wire.hold();
    await Promise.all([peer.closeWrite(), subject.closeWrite()]);
    scene.wire.flow();
    await Promise.all([
      scene.endsWith(subject, Buffer.alloc(0)),
      scene.endsWith(peer, Buffer.alloc(0)),
    ]);
  }),

  define('closure/data-before-close-notify', RULES.bytes, async (scene) => {
    const { subject, peer } = await scene.establish();
    const data = pattern(200_000);
    const { tail } = await scene.tail(peer, data);
    // Data, close_notify and FIN, as fast as the subject takes them.
    const line = scene.toSubject;
    line.cutAt(line.passed + tail.length, 'fin');
    line.flow();
    await scene.endsWith(subject, data);
  }),

  define('closure/fin-behind-close-notify', RULES.notify, async (scene) => {
    const { subject, peer } = await scene.establish();
    await scene.tail(peer, LAST_WORDS);
    scene.toSubject.deliver();
    scene.toSubject.cut('fin');
    await scene.endsWith(subject, LAST_WORDS);
  }),

  define('closure/reset-behind-close-notify', RULES.notify, async (scene) => {
    const { subject, peer } = await scene.establish();
    await scene.tail(peer, LAST_WORDS);
    scene.toSubject.deliver();
    await scene.endsWith(subject, LAST_WORDS);
    scene.toSubject.cut('reset');
    await scene.endsWith(subject, Buffer.alloc(0));
  }),

  define(
    'closure/half-close-of-the-subject',
    RULES.halfClose,
    async (scene) => {
      const { subject, peer } = await scene.establish();
      await scene.within('close_notify to go out', subject.closeWrite());
      await scene.endsWith(peer, Buffer.alloc(0));
      await scene.say(peer, subject, 'still here');
      await peer.write(LAST_WORDS);
      await peer.closeWrite();
      await scene.endsWith(subject, LAST_WORDS);
    },
    'TLSv1.3',
  ),

  define(
    'closure/half-close-of-the-peer',
    RULES.halfClose,
    async (scene) => {
      const { subject, peer } = await scene.establish();
      await peer.closeWrite();
      await scene.endsWith(subject, Buffer.alloc(0));
      await scene.say(subject, peer, 'still here');
      await scene.within('close_notify to go out', subject.closeWrite());
      await scene.endsWith(peer, Buffer.alloc(0));
    },
    'TLSv1.3',
  ),

  define(
    'closure/answers-at-once',
    RULES.answer,
    async (scene) => {
      const { subject, peer } = await scene.establish();
      await peer.closeWrite();
      await scene.endsWith(subject, Buffer.alloc(0));
      await scene.endsWith(peer, Buffer.alloc(0));
    },
    'TLSv1.2',
  ),

  define('closure/need-not-wait', RULES.needNotWait, async (scene) => {
    const { subject, peer } = await scene.establish();
    // The peer says nothing from here on.
    await scene.within('close_notify to go out', subject.closeWrite());
    await scene.endsWith(peer, Buffer.alloc(0));
  }),

  define('closure/write-after-close', RULES.notify, async (scene) => {
    const { subject, peer } = await scene.establish();
    await scene.within('close_notify to go out', subject.closeWrite());
    await scene.endsWith(peer, Buffer.alloc(0));
    const { length } = scene.fromSubject.sent;
    const refused = await scene.within(
      'a write after close_notify to be refused',
      subject.write(Buffer.from('more')).then(
        () => false,
        () => true,
      ),
    );
    if (!refused) throw new Mismatch('a write after close_notify to be refused', 'it resolved');
    if (scene.fromSubject.sent.length > length) {
      throw new Mismatch('nothing behind close_notify', 'bytes were sent');
    }
  }),

  define('closure/unread-data', RULES.before, async (scene) => {
    const { subject, peer } = await scene.establish();
    await scene.tail(peer, pattern(100_000));
    scene.toSubject.flow();
    // The subject closes without having read any of it.
    await Promise.all([
      scene.within('close to settle', subject.close()),
      scene.endsWith(peer, Buffer.alloc(0)).then(() => peer.close()),
    ]);
  }),
];
