/**
 * Plays a scenario between two parties: embedded ones, made here, or any others that can do the
 * same few things.
 *
 * There is no waiting by the clock. A step is over once it has taken effect on its own side; what it
 * began goes on, so that the next step can be the other party's answer. When the script is at its
 * end, both parties finish what they began, and only then both are asked how it ended.
 */
import type { Closure, Verdict } from '../closure/verdict.ts';
import { CloseNotifyError } from '../errors.ts';
import { connect } from '../stream/connect.ts';
import { createServer } from '../stream/server.ts';
import type { TlsStream } from '../stream/tls-stream.ts';
import type { Direction, Observation, Observer } from '../transcript/observer.ts';
import { Transcript } from '../transcript/transcript.ts';
import { DEMO_CERT, DEMO_KEY } from './demo-key.ts';
import type { Action, Scenario } from './scenarios.ts';

/** One party of a scenario, established already. Another peer can play it by implementing this. */
export interface Party {
  /**
   * Does one step, and resolves once it has taken effect on this side: written bytes and close_notify
   * are handed to the transport, a read has its bytes, its end or its error. A shutdown does not wait
   * for the peer's answer. What goes wrong is kept for `outcome`; it rejects only if the party
   * cannot play the step at all.
   */
  do(action: Action): Promise<void>;
  /** Resolves when everything that this party began has come to its end. */
  settle(): Promise<void>;
  /** How the connection ended, as this party sees it. Asked once, after both have settled. */
  outcome(): Outcome | Promise<Outcome>;
  /** Frees everything. Asked last, whatever happened. */
  dispose(): Promise<void>;
}

/** How a connection ended for one party. */
export interface Outcome {
  /** Null for a party that has no verdict to give. */
  readonly verdict: Verdict | null;
  /** Null for a party that is not ours. */
  readonly closure: Closure | null;
  /** The code of the error that a call has rejected with, or what else the party reports. */
  readonly error: string | null;
}

/** Both outcomes. */
export interface Played {
  readonly A: Outcome;
  readonly B: Outcome;
}

/** Plays a scenario to its end, then disposes of both parties. */
export async function play(scenario: Scenario, A: Party, B: Party): Promise<Played> {
  const parties = { A, B };
  try {
    for (const [who, action] of scenario.steps) await parties[who].do(action);
    await Promise.all([A.settle(), B.settle()]);
    return { A: await A.outcome(), B: await B.outcome() };
  } finally {
    await Promise.all([A.dispose(), B.dispose()]);
  }
}

/** Whether the verdicts are those that the scenario asks for. */
export function asExpected({ verdicts }: Scenario, played: Played): boolean {
  return (
    played.A.verdict === verdicts.A && (verdicts.B === null || played.B.verdict === verdicts.B)
  );
}

/** Keeps a transcript, and says when close_notify has gone out. */
class Watch implements Observer {
  readonly transcript: Transcript;
  readonly #sent = deferred<void>();
  readonly closeNotifySent = this.#sent.promise;

  readonly #records: Deferred<void>[] = [];
  #closed = false;

  constructor(local: string, peer: string) {
    this.transcript = new Transcript({ local, peer });
  }

  /** Resolves with the next record that arrives, or once none can arrive any more. */
  nextRecord(): Promise<void> {
    if (this.#closed) return Promise.resolve();
    const arrival = deferred<void>();
    this.#records.push(arrival);
    return arrival.promise;
  }

  onBytes(direction: Direction, bytes: Uint8Array, at: number): void {
    this.transcript.onBytes?.(direction, bytes, at);
  }

  onSecret(line: string): void {
    this.transcript.onSecret?.(line);
  }

  observe(observation: Observation, at: number): void {
    this.transcript.observe(observation, at);
    if (observation.type === 'close-notify' && observation.direction === 'sent') {
      this.#sent.resolve();
    }
    this.#closed ||= observation.type.startsWith('transport-');
    const arrived = observation.type === 'record' && observation.direction === 'received';
    if (!arrived && !this.#closed) return;
    for (const { resolve } of this.#records.splice(0)) resolve();
  }
}

/** What the two parties are called in drawings. */
export const NAMES = { A: 'A (client)', B: 'B (server)' } as const;

/** A party that is one of our own streams. */
export class EmbeddedParty implements Party {
  readonly stream: TlsStream;
  readonly transcript: Transcript;
  readonly #closeNotifySent: Promise<void>;
  readonly #arrival: () => Promise<void>;
  readonly #cancel = new AbortController();
  /** Never rejects. */
  #shutdown: Promise<void> = Promise.resolve();
  #closing: Promise<void> = Promise.resolve();
  #error: string | null = null;

  /** @internal */
  constructor(stream: TlsStream, watch: Watch, peer: Watch) {
    this.stream = stream;
    this.transcript = watch.transcript;
    this.#closeNotifySent = watch.closeNotifySent;
    this.#arrival = () => peer.nextRecord();
  }

  async do(action: Action): Promise<void> {
    switch (action) {
      case 'write':
        // Until it has arrived: what happens there next is to be with unread data, not without.
        return this.#attempt('write', async () => {
          const arrival = this.#arrival();
          await this.stream.write('hello');
          await arrival;
        });
      case 'read':
        // What a shutdown found unread is looked at once it is over.
        await this.#shutdown;
        return this.#attempt('read', async () => {
          if ((await this.stream.read()) === null) this.transcript.note('read(): the end');
        });
      case 'shutdown':
        this.#shutdown = this.#attempt('shutdown', async () => {
          const { verdict } = await this.stream.shutdown({ signal: this.#cancel.signal });
          this.transcript.note(`shutdown() resolves: ${verdict}`);
        });
        return Promise.race([this.#closeNotifySent, this.#shutdown]);
      case 'shutdown-no-wait': {
        // It is over once close_notify is out, and the transport lingers behind it. Where that cannot leave, it is over
        // at a deadline, which the script does not wait for.
        this.#closing = this.#attempt('close', () => this.stream.close({ wait: false }));
        return Promise.race([this.#closeNotifySent, this.#closing]);
      }
      case 'drop':
        this.stream.abort();
        return;
      case 'cancel':
        this.#cancel.abort();
        return this.#shutdown;
    }
  }

  settle(): Promise<void> {
    return this.#shutdown;
  }

  outcome(): Outcome {
    const { closure } = this.stream;
    return { verdict: closure.verdict, closure, error: this.#error };
  }

  async dispose(): Promise<void> {
    // The scenario is over; what the clean-up does is not part of it.
    this.transcript.stop();
    this.stream.abort();
    await this.#closing;
  }

  async #attempt(name: string, call: () => Promise<unknown>): Promise<void> {
    try {
      await call();
    } catch (error) {
      if (!(error instanceof CloseNotifyError)) throw error;
      this.#error ??= error.code;
      this.transcript.note(`${name}() rejects: ${error.code}`);
    }
  }
}

/** The TLS versions that scenarios are played in. */
export type Protocol = 'TLSv1.2' | 'TLSv1.3';

/** Two embedded parties, connected over loopback TCP: A is the client. */
export interface Pair extends AsyncDisposable {
  readonly A: EmbeddedParty;
  readonly B: EmbeddedParty;
}

/** Options of a pair. */
export interface PairOptions {
  readonly protocol: Protocol;
  /** The deadline of a shutdown, in milliseconds. */
  readonly deadline?: number | undefined;
}

/** Connects two embedded parties, with the demo's key. Both answer only when told. */
export async function openPair({ protocol, deadline = 5_000 }: PairOptions): Promise<Pair> {
  const policy = { answer: 'when-told', deadlines: { shutdown: deadline } } as const;
  const versions = { minVersion: protocol, maxVersion: protocol };
  const watches = { A: new Watch(NAMES.A, NAMES.B), B: new Watch(NAMES.B, NAMES.A) };
  const accepted = deferred<TlsStream>();
  const server = createServer(
    {
      ...policy,
      ...versions,
      cert: DEMO_CERT,
      key: DEMO_KEY,
      record: () => watches.B,
      onError: accepted.reject,
    },
    accepted.resolve,
  );
  try {
    const { port } = await server.listen(0, '127.0.0.1');
    const connecting = connect({
      ...policy,
      ...versions,
      host: '127.0.0.1',
      port,
      ca: DEMO_CERT,
      record: watches.A,
    });
    const [a, b] = await Promise.all([connecting, accepted.promise]);
    // Back and forth once, so that session tickets are out of the way. Were they unread when a reset
    // comes, libuv would report the reset as EOF.
    for (const [from, to] of [
      [b, a],
      [a, b],
    ] as const) {
      await from.write('.');
      await to.read();
    }
    // What it took to get to where both are at rest is no part of a scenario.
    watches.A.transcript.forgetTraffic();
    watches.B.transcript.forgetTraffic();
    return {
      A: new EmbeddedParty(a, watches.A, watches.B),
      B: new EmbeddedParty(b, watches.B, watches.A),
      [Symbol.asyncDispose]: () => server.close({ deadline: 0 }),
    };
  } catch (error) {
    await server.close({ deadline: 0 });
    throw error;
  }
}

/** A promise and what settles it. */
export interface Deferred<T> {
  readonly promise: Promise<T>;
  readonly resolve: (value: T) => void;
  readonly reject: (error: unknown) => void;
}

/** `Promise.withResolvers`, which Node 20 lacks. */
export function deferred<T>(): Deferred<T> {
  let resolve: Deferred<T>['resolve'] = () => {};
  let reject: Deferred<T>['reject'] = () => {};
  const promise = new Promise<T>((yes, no) => {
    resolve = yes;
    reject = no;
  });
  return { promise, resolve, reject };
}
