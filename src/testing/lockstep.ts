/**
 * Two real streams over a held channel, driven step by step.
 *
 * Theory of operation. Between two steps everything that can happen by itself has happened: the pair
 * is quiescent. What happens next is then a choice: a call, a delivery, a cut, a deadline. So a
 * schedule, which is a list of choices, always leads to the same states, and every order can be tried.
 *
 * Quiescence, without sleeping. JavaScript runs only in callbacks, so the streams stand still once no
 * callback that belongs to them can come. Where can one come from?
 *
 * - Ticks and microtasks: Node drains both after every callback, so none are left when the next
 *   callback runs.
 * - Timers: all of the streams' own are deadlines, and `VirtualClock` keeps them from running.
 * - I/O, closing handles, the thread pool: there are no handles, the transport is in memory, and TLS
 *   works synchronously on the main thread.
 * - Immediates, of JavaScript: Node counts them (`process.getActiveResourcesInfo`).
 * - Immediates of the native TLS layer: nobody counts these, but Node runs all of them, and those
 *   that they bring about, before those of JavaScript in each turn of the event loop.
 *
 * `settle` waits for two turns in a row in which its own immediate finds no other one. In the first,
 * ticks, microtasks and JavaScript's immediates are empty, but native ones may have been queued since
 * this turn's were run. Before the second they have run. Had that led to anything, it was drained at
 * once (ticks) or is counted now (immediates). And as the queue was empty when the second one of
 * `settle` was put into it, that is the first in its turn: nothing ran between the native immediates
 * and it that could have queued another native one. So nothing is left. Immediates of somebody else
 * only make `settle` wait longer.
 *
 * This rests on Node's event loop, so it is for Node only.
 */
import { type AcceptOptions, accept, type ConnectOptions, connect } from '../stream/connect.ts';
import type { TlsStream } from '../stream/tls-stream.ts';
import { type Channel, type ChannelOptions, channel } from './channel.ts';
import { type Credentials, selfSigned } from './credentials.ts';
import type { Version } from './party.ts';

interface FakeTimer {
  readonly run: () => void;
  readonly milliseconds: number;
}

/**
 * Timers that run when told. While one is installed, `setTimeout` of this process sets none; timers
 * that were set before, and those of Node itself, go on.
 */
export class VirtualClock {
  readonly #timers = new Set<FakeTimer>();
  readonly #real = { setTimeout: globalThis.setTimeout, clearTimeout: globalThis.clearTimeout };

  /** Installs itself until it is disposed of. */
  constructor() {
    const timers = this.#timers;
    const { clearTimeout } = this.#real;
    const fakeSet = (run: (...args: unknown[]) => void, milliseconds = 0, ...args: unknown[]) => {
      const timer = { run: () => run(...args), milliseconds, ref: self, unref: self };
      timers.add(timer);
      return timer;
    };
    const fakeClear = (timer: unknown) => {
      if (!timers.delete(timer as FakeTimer)) clearTimeout(timer as NodeJS.Timeout);
    };
    globalThis.setTimeout = fakeSet as unknown as typeof globalThis.setTimeout;
    globalThis.clearTimeout = fakeClear as typeof globalThis.clearTimeout;
  }

  /** The delays of the timers that are set, in the order in which they were. */
  get pending(): number[] {
    return [...this.#timers].map(({ milliseconds }) => milliseconds);
  }

  /** Runs the timers whose delay `which` accepts; all by default. @returns how many. */
  expire(which: (milliseconds: number) => boolean = () => true): number {
    const due = [...this.#timers].filter(({ milliseconds }) => which(milliseconds));
    for (const timer of due) if (this.#timers.delete(timer)) timer.run();
    return due.length;
  }

  /** Puts the real ones back. Timers that were not run will not be. */
  [Symbol.dispose](): void {
    Object.assign(globalThis, this.#real);
    this.#timers.clear();
  }
}

function self<T>(this: T): T {
  return this;
}

/**
 * Waits until nothing can happen by itself any more; see above for why that is so.
 *
 * @throws {TypeError} on a runtime that is not Node.
 */
export async function settle(): Promise<void> {
  const { bun, deno } = process.versions as { bun?: string; deno?: string };
  if (bun !== undefined || deno !== undefined) {
    throw new TypeError("lockstep rests on Node's event loop, and this is another runtime");
  }
  for (let quiet = 0; quiet < 2; ) {
    const others = await new Promise<number>((resolve) => {
      setImmediate(() => resolve(immediates()));
    });
    quiet = others === 0 ? quiet + 1 : 0;
  }
}

/** Immediates of JavaScript that are still to run; the one that asks is no longer among them. */
function immediates(): number {
  return process.getActiveResourcesInfo().filter((name) => name === 'Immediate').length;
}

/** Options of `lockstep`. */
export interface LockstepOptions {
  /** The only version; TLS 1.3 by default. */
  readonly version?: Version | undefined;
  readonly credentials?: Credentials | undefined;
  /** Further options of the two streams. */
  readonly client?: ConnectOptions | undefined;
  readonly server?: AcceptOptions | undefined;
  readonly channel?: ChannelOptions | undefined;
}

/** Two established streams whose every delivery is a choice. */
export class Lockstep implements Disposable {
  readonly client: TlsStream;
  readonly server: TlsStream;
  /** The client is at its first end, and `forth` goes from it to the server. Both lines are held. */
  readonly wire: Channel;
  /** The deadlines of both. */
  readonly clock: VirtualClock;

  /** @internal */
  constructor(client: TlsStream, server: TlsStream, wire: Channel, clock: VirtualClock) {
    this.client = client;
    this.server = server;
    this.wire = wire;
    this.clock = clock;
  }

  /** Takes a step, and waits until both streams stand still again. */
  async step(choice: () => unknown): Promise<void> {
    choice();
    await settle();
  }

  /** Drops both streams, and puts the timers back. */
  [Symbol.dispose](): void {
    this.client.abort();
    this.server.abort();
    this.wire[Symbol.dispose]();
    this.clock[Symbol.dispose]();
  }
}

/**
 * Handshakes, waits until everything of the handshake has arrived (session tickets too), and holds
 * both lines. One pair at a time: the clock is the whole process's.
 *
 * @throws what `connect` and `accept` throw.
 */
export async function lockstep(options: LockstepOptions = {}): Promise<Lockstep> {
  const { version = 'TLSv1.3', credentials = selfSigned() } = options;
  const only = { minVersion: version, maxVersion: version } as const;
  const wire = channel(options.channel);
  const clock = new VirtualClock();
  try {
    const { key, cert, ca, servername } = credentials;
    const [client, server] = await Promise.all([
      connect({ ca, servername, ...only, ...options.client, transport: wire.ends[0] }),
      accept(wire.ends[1], options.server ?? { key, cert, ...only }),
    ]);
    await settle();
    wire.hold();
    return new Lockstep(client, server, wire, clock);
  } catch (error) {
    wire[Symbol.dispose]();
    clock[Symbol.dispose]();
    throw error;
  }
}
