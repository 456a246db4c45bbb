/**
 * What surrounds a test that opens things: it ends them, and it proves that the code under test left
 * nothing open, by the resources that keep the process alive.
 */

/** Resources that a connection, a server or a wait would leave behind. */
const KINDS = ['TCPSocketWrap', 'PipeWrap', 'Timeout', 'TCPServerWrap', 'TLSWrap'] as const;
type Kind = (typeof KINDS)[number];
type Counts = Readonly<Record<Kind, number>>;

function count(): Counts {
  const counts: Record<Kind, number> = {
    TCPSocketWrap: 0,
    PipeWrap: 0,
    Timeout: 0,
    TCPServerWrap: 0,
    TLSWrap: 0,
  };
  for (const name of process.getActiveResourcesInfo()) {
    if (name in counts) counts[name as Kind]++;
  }
  return counts;
}

/** A turn of the event loop, I/O included. */
export const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** Turns the event loop until `holds`; how long it may take only decides when a failure is told. */
export async function until(what: string, holds: () => boolean, limit = 8_000): Promise<void> {
  const start = performance.now();
  while (!holds()) {
    if (performance.now() - start > limit) throw new Error(`never came true: ${what}`);
    await turn();
  }
}

/** One test's things. */
export class Scope {
  readonly #before: Counts = count();
  readonly #ends: Array<() => unknown> = [];
  #checked = true;

  /** Runs after the test, last first, whatever its outcome. */
  defer(end: () => unknown): void {
    this.#ends.push(end);
  }

  /** For a test whose peer has to stay: nothing is asserted before the peer is ended. */
  peersStay(): void {
    this.#checked = false;
  }

  /** Asserts that sockets, pipes and timers are back to what they were before the test. */
  async nothingOpen(kinds: readonly Kind[] = KINDS.filter((kind) => kind !== 'TCPServerWrap')) {
    const left = () => {
      const now = count();
      return kinds.filter((kind) => now[kind] > this.#before[kind]);
    };
    await until('nothing left open', () => left().length === 0).catch(() => {
      const now = count();
      throw new Error(
        `left open: ${left()
          .map((kind) => `${now[kind] - this.#before[kind]} ${kind}`)
          .join(', ')}`,
      );
    });
  }

  /** @internal */
  async finish(passed: boolean): Promise<void> {
    try {
      if (passed && this.#checked) await this.nothingOpen();
    } finally {
      for (const end of this.#ends.reverse()) await end();
    }
    if (passed) await this.nothingOpen(KINDS);
  }
}

/** A test body that ends with nothing open: neither by the code under test nor by the test. */
export function clean(body: (scope: Scope) => Promise<void>): () => Promise<void> {
  return async () => {
    const scope = new Scope();
    let passed = false;
    try {
      await body(scope);
      passed = true;
    } finally {
      await scope.finish(passed);
    }
  };
}

/** Has what is thrown at nobody in the meantime collected, and not taken for a failure of the test. */
export async function uncaughtDuring(run: () => Promise<void>): Promise<string[]> {
  const others = process.rawListeners('uncaughtException') as NodeJS.UncaughtExceptionListener[];
  const caught: string[] = [];
  const onUncaught = (error: Error, origin: string) => caught.push(`${origin}: ${error.message}`);
  process.removeAllListeners('uncaughtException').on('uncaughtException', onUncaught);
  try {
    await run();
  } finally {
    process.off('uncaughtException', onUncaught);
    for (const other of others) process.on('uncaughtException', other);
  }
  return caught;
}
