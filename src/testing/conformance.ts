/**
 * A conformance kit for the way in which TLS streams end.
 *
 * Theory of operation. Each check puts the stream under test (the subject) at one end of a channel
 * and a reference stream at the other, has them say a few things, and then does to the line what the
 * check is about. The reference closes exactly when it is told, so the check decides what crosses the
 * wire; and where a check cuts, it cuts at a byte that it has looked up in the held records, so its
 * outcome hangs on no race.
 *
 * A check passes, or throws a `ConformanceError` that says which rule, what was expected and what was
 * seen. A subject that settles nothing within `limit` fails too: a stream that hangs has not said
 * that it ended, and that is what most checks ask for. Where the wait itself is the rule (deadlines),
 * the limit is what tells a stream that gives up from one that does not.
 *
 * The kit needs no test runner: `run` resolves or rejects.
 */
import { HEADER_LENGTH } from '../record/record.ts';
import {
  byteByByte,
  type Channel,
  type ChannelOptions,
  channel,
  FORGED_CLOSE_NOTIFY,
  type Line,
} from './channel.ts';
import { type Credentials, selfSigned } from './credentials.ts';
import {
  type Adapter,
  closeNotifyAdapter,
  type Party,
  ROLES,
  type Role,
  VERSIONS,
  type Version,
} from './party.ts';

/** A rule, in a standard's words or, where no standard has any, in ours. */
export interface Requirement {
  readonly text: string;
  /** Such as 'RFC 9846 section 6.1'; null for a rule that is not a standard's. */
  readonly source: string | null;
}

/** One check of one subject, in one role and version. */
export interface Check {
  /** Stable, such as `truncation/record-boundary/client/TLSv1.3`. */
  readonly id: string;
  /** What is checked, without role and version. */
  readonly name: string;
  readonly role: Role;
  readonly version: Version;
  readonly requirement: Requirement;
  /** Resolves when the subject conforms. @throws {ConformanceError} */
  run(): Promise<void>;
}

/** Options of `conformance`. */
export interface ConformanceOptions {
  /** Certificates; made at once, and self-signed, by default. */
  readonly credentials?: Credentials | undefined;
  /** The other party. It must pass the checks itself, and answer close_notify only when told. */
  readonly reference?: Adapter | undefined;
  /** Milliseconds until a wait counts as hanging; 5,000 by default. */
  readonly limit?: number | undefined;
  /** Milliseconds that subjects get as their deadline for a silent peer; 200 by default. */
  readonly deadline?: number | undefined;
}

/** A check that failed. */
export class ConformanceError extends Error {
  override readonly name = 'ConformanceError';
  /** The id of the check. */
  readonly check: string;
  readonly requirement: Requirement;
  readonly expected: string;
  readonly actual: string;

  constructor(check: Pick<Check, 'id' | 'requirement'>, found: Found) {
    const { text, source } = check.requirement;
    super(
      `${check.id}: expected ${found.expected}, but ${found.actual}\n  "${text}"${source === null ? '' : ` (${source})`}`,
      found.cause === undefined ? undefined : { cause: found.cause },
    );
    this.check = check.id;
    this.requirement = check.requirement;
    this.expected = found.expected;
    this.actual = found.actual;
  }
}

/** What was expected of a stream, and what it did. */
export interface Found {
  readonly expected: string;
  readonly actual: string;
  readonly cause?: unknown;
}

/** Thrown within a check, and turned into a `ConformanceError` by `run`. */
class Mismatch extends Error {
  readonly found: Found;

  constructor(expected: string, actual: string, cause?: unknown) {
    super(actual);
    this.found = { expected, actual, cause };
  }
}

// ---- what checks are made of

/** One run of one check. */
class Scene {
  readonly role: Role;
  readonly version: Version;
  readonly deadline: number;
  readonly #subject: Adapter;
  readonly #reference: Adapter;
  readonly #credentials: Credentials;
  readonly #limit: number;
  #wire: Channel | null = null;
  readonly #parties: Party[] = [];

  constructor(
    check: Pick<Check, 'role' | 'version'>,
    subject: Adapter,
    reference: Adapter,
    credentials: Credentials,
    limit: number,
    deadline: number,
  ) {
    this.role = check.role;
    this.version = check.version;
    this.#subject = subject;
    this.#reference = reference;
    this.#credentials = credentials;
    this.#limit = limit;
    this.deadline = deadline;
  }

  /** From the reference to the subject. */
  get toSubject(): Line {
    return this.wire.back;
  }

  get fromSubject(): Line {
    return this.wire.forth;
  }

  get wire(): Channel {
    if (this.#wire === null) throw new TypeError('no channel yet');
    return this.#wire;
  }

  /** Lays the channel; the subject is at its first end. */
  lay(options: ChannelOptions = {}): Channel {
    // A turn for each segment, as on a network: no side works within a call of the other.
    this.#wire = channel({ delay: 'turn', ...options });
    for (const end of this.#wire.ends) end.on('error', () => {});
    return this.#wire;
  }

  openSubject(deadline = this.#limit): Promise<Party> {
    return this.#open(this.#subject, this.role, 0, deadline);
  }

  openReference(): Promise<Party> {
    const role = this.role === 'client' ? 'server' : 'client';
    return this.#open(this.#reference, role, 1, this.#limit);
  }

  async #open(adapter: Adapter, role: Role, end: 0 | 1, deadline: number): Promise<Party> {
    const party = await adapter.open({
      role,
      version: this.version,
      transport: this.wire.ends[end],
      credentials: this.#credentials,
      deadline,
    });
    this.#parties.push(party);
    return party;
  }

  /** Handshakes, and has each side say something, so that both are established beyond doubt. */
  async establish(
    options: ChannelOptions = {},
    deadline?: number,
  ): Promise<{ subject: Party; peer: Party }> {
    this.lay(options);
    const opening = [this.openSubject(deadline), this.openReference()] as const;
    const [subject, peer] = await this.within('the handshake to complete', Promise.all(opening));
    await this.say(subject, peer, 'there');
    await this.say(peer, subject, 'and back');
    return { subject, peer };
  }

  /** One party writes, the other reads exactly that. */
  async say(from: Party, to: Party, text: string): Promise<void> {
    await this.within('a write to be taken', from.write(Buffer.from(text)));
    await this.hear(to, Buffer.from(text));
  }

  /** Reads as many bytes as are expected, and compares. */
  async hear(party: Party, expected: Buffer): Promise<void> {
    const parts: Uint8Array[] = [];
    let length = 0;
    while (length < expected.length) {
      const wanted = `${expected.length} bytes of data`;
      const bytes = await this.within(wanted, party.read());
      if (bytes === null) throw new Mismatch(wanted, `the end came after ${length}`);
      parts.push(bytes);
      length += bytes.length;
    }
    if (!Buffer.concat(parts).equals(expected)) {
      throw new Mismatch('the bytes that were sent', 'others were read');
    }
  }

  /** Reads to whatever ends it. */
  async drain(party: Party): Promise<{ bytes: Buffer; error: unknown; ended: boolean }> {
    const parts: Uint8Array[] = [];
    for (;;) {
      let bytes: Uint8Array | null;
      try {
        bytes = await this.within('reading to end or fail', party.read());
      } catch (error) {
        if (error instanceof Mismatch) throw error;
        return { bytes: Buffer.concat(parts), error, ended: false };
      }
      if (bytes === null) return { bytes: Buffer.concat(parts), error: null, ended: true };
      parts.push(bytes);
    }
  }

  /** All of `expected`, then the end; and the end stays. */
  async endsWith(party: Party, expected: Buffer): Promise<void> {
    const { bytes, error, ended } = await this.drain(party);
    if (!ended) throw new Mismatch('the end of the data', `reading failed: ${say(error)}`, error);
    same(bytes, expected);
    const again = await this.drain(party);
    if (!again.ended || again.bytes.length > 0) {
      throw new Mismatch('the end to stay the end', 'another read gave something else');
    }
    const word = party.ending?.();
    if (word !== undefined && word !== 'clean') {
      throw new Mismatch("'clean' as the ending", `it was '${word}'`);
    }
  }

  /** All of `expected` where that is given, then a failure; and the failure stays. */
  async failsAfter(party: Party, expected: Buffer | null): Promise<void> {
    const { bytes, ended } = await this.drain(party);
    if (ended) {
      throw new Mismatch('reading to fail', `it ended as if complete, after ${bytes.length} bytes`);
    }
    if (expected !== null) same(bytes, expected);
    const again = await this.drain(party);
    if (again.ended) throw new Mismatch('reading to go on failing', 'the next read gave the end');
    const word = party.ending?.();
    if (word !== undefined && word !== 'failed') {
      throw new Mismatch("'failed' as the ending", `it was '${word}'`);
    }
  }

  /** Opening must fail. */
  async refused(opening: Promise<Party>): Promise<void> {
    const outcome = await this.within(
      'the handshake to fail',
      opening.then(
        () => 'it succeeded',
        () => null,
      ),
    );
    if (outcome !== null) throw new Mismatch('the handshake to fail', outcome);
  }

  /** Waits, but not for ever. */
  async within<T>(what: string, promise: Promise<T>): Promise<T> {
    let timer: ReturnType<typeof setTimeout> | undefined;
    const late = new Promise<never>((_resolve, reject) => {
      timer = setTimeout(
        () => reject(new Mismatch(what, `nothing happened within ${this.#limit} ms`)),
        this.#limit,
      );
    });
    try {
      return await Promise.race([promise, late]);
    } finally {
      clearTimeout(timer);
    }
  }

  /**
   * The reference's last words: its data and its close_notify, held on the line. `boundaries` are the
   * offsets in `tail` at which a record ends; the last one is close_notify's.
   */
  async tail(peer: Party, data: Buffer): Promise<{ tail: Buffer; boundaries: number[] }> {
    const line = this.toSubject;
    line.hold();
    await this.within('the reference to write', peer.write(data));
    await this.within('the reference to send close_notify', peer.closeWrite());
    const tail = line.held;
    const boundaries = recordEnds(tail);
    if (boundaries.at(-1) !== tail.length || boundaries.length < 2) {
      throw new TypeError('the reference did not write whole records');
    }
    return { tail, boundaries };
  }

  end(): void {
    for (const party of this.#parties) party.destroy();
    this.#wire?.[Symbol.dispose]();
  }
}

/** Where records end in bytes that begin with one. */
function recordEnds(bytes: Buffer): number[] {
  const ends: number[] = [];
  for (let at = 0; at + HEADER_LENGTH <= bytes.length; ) {
    at += HEADER_LENGTH + bytes.readUInt16BE(at + 3);
    ends.push(at);
  }
  return ends;
}

function same(actual: Buffer, expected: Buffer): void {
  if (actual.equals(expected)) return;
  throw new Mismatch(
    `all ${expected.length} bytes that came`,
    actual.length === expected.length ? 'others were read' : `${actual.length} were read`,
  );
}

function say(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** Bytes in which every position can be told from its neighbours. */
function pattern(length: number): Buffer {
  const bytes = Buffer.alloc(length);
  for (let i = 0; i < length; i++) bytes[i] = (i * 31 + (i >> 8)) & 0xff;
  return bytes;
}

const LAST_WORDS = Buffer.from('last words');

// ---- the rules

const RULES = {
  notify: {
    text: 'This alert notifies the recipient that the sender will not send any more messages on this connection.',
    source: 'RFC 9846 section 6.1',
  },
  ignore: {
    text: 'Any data received after a closure alert has been received MUST be ignored.',
    source: 'RFC 9846 section 6.1',
  },
  truncation: {
    text: 'If a transport-level close is received prior to a close_notify, the receiver cannot know that all the data that was sent has been received.',
    source: 'RFC 9846 section 6.1',
  },
  before: {
    text: 'Each party MUST send a close_notify alert before closing its write side of the connection, unless it has already sent some error alert.',
    source: 'RFC 9846 section 6.1',
  },
  halfClose: {
    text: 'This does not have any effect on its read side of the connection.',
    source: 'RFC 9846 section 6.1',
  },
  answer: {
    text: 'The other party MUST respond with a close_notify alert of its own and close down the connection immediately, discarding any pending writes.',
    source: 'RFC 5246 section 7.2.1',
  },
  needNotWait: {
    text: 'Both parties need not wait to receive a close_notify alert before closing their read side of the connection, though doing so would introduce the possibility of truncation.',
    source: 'RFC 9846 section 6.1',
  },
  needNotWait12: {
    text: 'It is not required for the initiator of the close to wait for the responding close_notify alert before closing the read side of the connection.',
    source: 'RFC 5246 section 7.2.1',
  },
  endOfData: {
    text: 'the TLS implementation MUST receive a close_notify alert before indicating end-of-data to the application layer',
    source: 'RFC 9846 section 6.1',
  },
  badMac: {
    text: 'This alert is returned if a record is received which cannot be deprotected.',
    source: 'RFC 9846 section 6.2',
  },
  deadline: {
    text: 'A silent peer holds nobody up for longer than the deadline, and silence is not closure.',
    source: null,
  },
  bytes: { text: 'Every byte arrives, once and in order.', source: null },
} as const satisfies Record<string, Requirement>;

// ---- the checks

interface Definition {
  readonly name: string;
  readonly requirement: Requirement;
  /** Where a version has a rule of its own. */
  readonly only?: Version;
  readonly body: (scene: Scene) => Promise<void>;
}

const define = (
  name: string,
  requirement: Requirement,
  body: Definition['body'],
  only?: Version,
): Definition => ({ name, requirement, body, ...(only === undefined ? {} : { only }) });

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

const beforeCloseNotify = (boundaries: readonly number[]) => boundaries.at(-2) as number;

const DEFINITIONS: readonly Definition[] = [
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

/** The names of all checks, in their order, without roles and versions. */
export const CHECKS: readonly string[] = DEFINITIONS.map(({ name }) => name);

/**
 * The checks for a kind of TLS stream, in each of its roles and versions. They can run in any order,
 * and side by side.
 *
 * @example
 * for (const check of conformance(myAdapter)) test(check.id, () => check.run());
 */
export function conformance(subject: Adapter, options: ConformanceOptions = {}): Check[] {
  const { limit = 5_000, deadline = 200 } = options;
  const reference = options.reference ?? closeNotifyAdapter({ answer: 'when-told' });
  let { credentials } = options;
  const checks: Check[] = [];
  for (const { name, requirement, only, body } of DEFINITIONS) {
    for (const role of subject.roles ?? ROLES) {
      for (const version of subject.versions ?? VERSIONS) {
        if (only !== undefined && only !== version) continue;
        const rule =
          requirement === RULES.needNotWait && version === 'TLSv1.2'
            ? RULES.needNotWait12
            : requirement;
        const check = { id: `${name}/${role}/${version}`, name, role, version, requirement: rule };
        const run = async () => {
          credentials ??= selfSigned();
          const scene = new Scene(check, subject, reference, credentials, limit, deadline);
          try {
            await body(scene);
          } catch (error) {
            const found =
              error instanceof Mismatch
                ? error.found
                : { expected: 'no error', actual: `there was one: ${say(error)}`, cause: error };
            throw new ConformanceError(check, found);
          } finally {
            scene.end();
          }
        };
        checks.push({ ...check, run });
      }
    }
  }
  return checks;
}
