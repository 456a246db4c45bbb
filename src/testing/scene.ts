/**
 * What the checks of the conformance kit are made of: the subject at one end of a channel, the reference at the other,
 * and what can be asked of them.
 */
import { HEADER_LENGTH } from '../record/record.ts';
import { type Channel, type ChannelOptions, channel, type Line } from './channel.ts';
import type { Credentials } from './credentials.ts';
import type { Adapter, Party, Role, Version } from './party.ts';
import type { Requirement } from './rules.ts';

/** What was expected of a stream, and what it did. */
export interface Found {
  readonly expected: string;
  readonly actual: string;
  readonly cause?: unknown;
}

/** Thrown within a check, and turned into a `ConformanceError` by `run`. */
export class Mismatch extends Error {
  readonly found: Found;

  constructor(expected: string, actual: string, cause?: unknown) {
    super(actual);
    this.found = { expected, actual, cause };
  }
}

/** One run of one check. */
export class Scene {
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
    check: { readonly role: Role; readonly version: Version },
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

export function say(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** Bytes in which every position can be told from its neighbours. */
export function pattern(length: number): Buffer {
  const bytes = Buffer.alloc(length);
  for (let i = 0; i < length; i++) bytes[i] = (i * 31 + (i >> 8)) & 0xff;
  return bytes;
}

/** What the reference says last. */
export const LAST_WORDS = Buffer.from('last words');

/** A check as it is written, for all roles and versions. */
export interface Definition {
  readonly name: string;
  readonly requirement: Requirement;
  /** Where a version has a rule of its own. */
  readonly only?: Version;
  readonly body: (scene: Scene) => Promise<void>;
}

/** Writes one down. */
export const define = (
  name: string,
  requirement: Requirement,
  body: Definition['body'],
  only?: Version,
): Definition => ({ name, requirement, body, ...(only === undefined ? {} : { only }) });

/** Where close_notify begins in the last words, of which these are the ends of records. */
export const beforeCloseNotify = (boundaries: readonly number[]) => boundaries.at(-2) as number;
