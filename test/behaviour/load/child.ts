/**
 * The process that carries the load. It runs with `--expose-gc`, and tells what it found as one line of
 * JSON.
 *
 *     node --expose-gc --import tsx test/behaviour/load/child.ts CONNECTIONS AT_ONCE SEED
 */
import { getEventListeners } from 'node:events';
import { setTimeout as sleep, setImmediate as turn } from 'node:timers/promises';
import tls from 'node:tls';
import { type ConnectOptions, connect } from '../../../src/stream/connect.ts';
import { createServer } from '../../../src/stream/server.ts';
import type { TlsStream } from '../../../src/stream/tls-stream.ts';
import { channel, hostilePeer, selfSigned } from '../../../src/testing/index.ts';
import { Random } from '../../support/random.ts';
import { reset } from '../../support/splice.ts';

/** What the child tells. */
export interface LoadReport {
  connections: number;
  atOnce: number;
  /** By ending, how often it came. */
  endings: Record<string, number>;
  /** Connections whose ending says that bytes are whole, and they were not. */
  lost: number;
  /** Connections that ended with another verdict than their ending asks for. */
  surprises: string[];
  /** Errors that nobody caught. */
  uncaught: string[];
  /** Handles and timers that were not there before. */
  handles: string[];
  /** Listeners left on the signal that all connections shared. */
  listeners: number;
  /** Connections that the server still counts. */
  open: number;
  /** Bytes by which the heap grew, collected, from after the first quarter of the load to its end. */
  growth: number;
  /** The most bytes that a peer who reads slowly, never reads, or never closes made us hold. */
  held: Record<string, number>;
  seconds: number;
}

const ENDINGS = [
  'both',
  'server-first',
  'client-first',
  'one-sided',
  'client-aborts',
  'server-aborts',
  'fin',
  'reset',
  'silent',
] as const;
type Ending = (typeof ENDINGS)[number];

const [connections = 200, atOnce = 50, seed = 1] = process.argv.slice(2).map(Number);
const random = new Random(seed);
const credentials = selfSigned();
const started = performance.now();
const shared = new AbortController();

const report: LoadReport = {
  connections: 0,
  atOnce: 0,
  endings: {},
  lost: 0,
  surprises: [],
  uncaught: [],
  handles: [],
  listeners: 0,
  open: 0,
  growth: 0,
  held: {},
  seconds: 0,
};
process.on('uncaughtException', (error) => report.uncaught.push(String(error.stack)));
process.on('unhandledRejection', (error) => report.uncaught.push(String(error)));

const BODY = Buffer.alloc(3_000, 'how did it end? ');

/** The first byte that the client sends says how the connection is to end. */
const server = createServer(
  {
    key: credentials.key,
    cert: credentials.cert,
    onError() {},
    deadlines: { close: 500, handshake: 60_000, shutdown: 60_000 },
  },
  async (stream, transport) => {
    const asked = await stream.read();
    const ending = ENDINGS[asked?.[0] ?? 0] as Ending;
    await stream.write(BODY);
    switch (ending) {
      case 'both':
      case 'server-first':
        await stream.close();
        return;
      case 'client-first':
      case 'one-sided':
      case 'client-aborts':
      case 'silent':
        // To the end, whichever it is; the client is judged.
        while ((await stream.read()) !== null);
        await stream.close();
        return;
      case 'server-aborts':
        await turn();
        stream.abort();
        return;
      case 'fin':
        await turn();
        transport.end();
        while ((await stream.read()) !== null);
        return;
      case 'reset':
        await turn();
        reset(transport);
    }
  },
);

/** Which verdicts are right at the client. */
const VERDICTS: Readonly<Record<Ending, readonly string[]>> = {
  both: ['secure'],
  'server-first': ['secure'],
  'client-first': ['secure'],
  'one-sided': ['one-sided', 'secure'],
  'client-aborts': ['aborted'],
  'server-aborts': ['truncated'],
  fin: ['truncated'],
  reset: ['truncated'],
  silent: ['timed-out', 'secure'],
};

/** @param established waits for others, where they are to be open at once; told of a failure, too. */
async function one(
  options: ConnectOptions,
  established: (connected: boolean) => Promise<void> = async () => {},
): Promise<void> {
  const ending = random.of(ENDINGS);
  report.connections++;
  report.endings[ending] = (report.endings[ending] ?? 0) + 1;
  let stream: TlsStream | null = null;
  let have = 0;
  let told = false;
  try {
    stream = await connect({ ...options, signal: shared.signal });
    await established(true);
    await stream.write(Uint8Array.of(ENDINGS.indexOf(ending)));
    if (ending === 'both') await stream.shutdown({ wait: false });
    const hears = !['client-aborts', 'one-sided', 'client-first', 'silent'].includes(ending);
    while (hears || have < BODY.length) {
      const bytes = await stream.read({ signal: shared.signal });
      if (bytes === null) {
        told = true;
        break;
      }
      have += bytes.length;
    }
    if (ending === 'client-aborts') stream.abort();
    else if (ending === 'silent') {
      await silence(stream);
      // The answer was faster than the deadline.
      stream.abort();
    } else await stream.close(ending === 'one-sided' ? { wait: false } : {});
  } catch (error) {
    const { code } = error as { code?: string };
    if (stream === null) report.surprises.push(`${ending}: no connection: ${error}`);
    else if (code !== 'ERR_TLS_TRUNCATED' && code !== 'ERR_TLS_TIMEOUT') {
      report.surprises.push(`${ending}: ${error}`);
    }
    stream?.abort();
  }
  if (stream === null) return established(false);
  const { verdict } = stream.closure;
  if (!VERDICTS[ending].includes(verdict)) report.surprises.push(`${ending}: ${verdict}`);
  if ((told || verdict === 'secure') && have !== BODY.length) report.lost++;
}

/** Waits, not long, for something that does not come: the server has no reason to close. */
async function silence(stream: TlsStream): Promise<void> {
  // Its close_notify is what the server waits for; its own is not looked at any more.
  await stream.read({ deadline: 20 }).catch(() => {});
  const cancelled = stream.shutdown({ deadline: 0.001 });
  await cancelled;
}

async function load(options: ConnectOptions, count: number, together: number): Promise<void> {
  let left = count;
  await Promise.all(
    Array.from({ length: together }, async () => {
      while (left > 0) {
        left--;
        await one(options);
      }
    }),
  );
}

/** So many open at the same time; no more of them in their handshake than a listener has room for. */
async function crowd(options: ConnectOptions, count: number): Promise<void> {
  let started = 0;
  let open = 0;
  let failed = 0;
  let everybodyIsHere = () => {};
  const together = new Promise<void>((resolve) => {
    everybodyIsHere = resolve;
  });
  const calls: Promise<void>[] = [];
  const next = () => {
    if (started === count) return;
    started++;
    calls.push(
      one(options, async (connected) => {
        if (connected) report.atOnce = Math.max(report.atOnce, ++open);
        else failed++;
        next();
        if (open + failed === count) everybodyIsHere();
        if (connected) await together;
      }),
    );
  };
  for (let i = 0; i < 100; i++) next();
  await together;
  await Promise.all(calls);
}

/** The heap, once everything that can be collected is. */
async function heap(): Promise<number> {
  for (let i = 0; i < 5; i++) {
    await sleep(20);
    globalThis.gc?.();
  }
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}

/** Peers that cost memory if they can, in memory themselves. @returns the most that was held. */
async function burden(which: 'slow-reader' | 'never-reads' | 'never-closes'): Promise<number> {
  const before = await heap();
  let most = 0;
  const look = async () => {
    most = Math.max(most, (await heap()) - before);
  };
  for (const role of ['client', 'server'] as const) {
    using wire = channel({ record: false });
    const { key, cert, ca, servername } = credentials;
    const victim =
      role === 'client'
        ? connect({ transport: wire.ends[0], ca, servername })
        : (await import('../../../src/stream/connect.ts')).accept(wire.ends[0], { key, cert });
    const opening = hostilePeer(wire, {
      role: role === 'client' ? 'server' : 'client',
      version: 'TLSv1.3',
      credentials,
      deadline: 5_000,
    });
    const stream = await victim;
    const peer = await opening;
    const piece = Buffer.alloc(65_536);
    if (which === 'never-closes') {
      // Talks on and on behind our close_notify; nobody reads it.
      const closing = stream.shutdown({ deadline: 400 }).catch(() => {});
      void (async () => {
        for (;;) await peer.party.write(piece);
      })().catch(() => {});
      await sleep(300);
      await look();
      await closing;
    } else {
      if (which === 'never-reads') peer.stopReading();
      // As who waits for `write` does: what is on its way is bounded by what was taken.
      const writing = (async () => {
        for (let i = 0; i < 1_000; i++) await stream.write(piece, { deadline: 300 });
      })().catch(() => {});
      if (which === 'slow-reader') {
        for (let i = 0; i < 20; i++) {
          await peer.party.read();
          await sleep(5);
        }
      } else await sleep(100);
      await look();
      await writing.then(
        () => {},
        () => {},
      );
    }
    stream.abort();
    peer.party.destroy();
  }
  return most;
}

const { port } = await server.listen(0, '127.0.0.1');
const common = { minVersion: 'TLSv1.2', ecdhCurve: 'prime256v1' } as const;
const secureContext = tls.createSecureContext({ ...common, ca: credentials.ca });
const options: ConnectOptions = {
  host: '127.0.0.1',
  port,
  servername: credentials.servername,
  secureContext,
  deadlines: { close: 500, connect: 60_000, handshake: 60_000, shutdown: 60_000 },
};
{
  let session: Uint8Array | null = null;
  const first = await connect({
    ...options,
    onSession(given) {
      session ??= given;
    },
  });
  await first.write(Uint8Array.of(0));
  while ((await first.read()) !== null);
  await first.close();
  if (session === null) throw new Error('no session was given');
  Object.assign(options, { session });
}
const active = () =>
  process
    .getActiveResourcesInfo()
    .filter((name) => name !== 'PipeWrap')
    .sort();
let before: string[] = [];
const left = () => {
  const rest = active();
  for (const name of before) {
    const at = rest.indexOf(name);
    if (at >= 0) rest.splice(at, 1);
  }
  return rest;
};
const quiet = async () => {
  // Kind waits for the peer's FIN have their deadline; what is left after this is left for good.
  const until = performance.now() + 5_000;
  do await sleep(50);
  while ((server.connections > 0 || left().length > 0) && performance.now() < until);
};

while (server.connections > 0) await sleep(20);
await sleep(600);
before = active();
const quarter = Math.floor(connections / 4);
await load(options, quarter, 50);
await quiet();
const early = await heap();
await load(options, connections - quarter, 50);
await crowd(options, atOnce);
await quiet();
report.growth = (await heap()) - early;
report.open = server.connections;
report.handles = left();
report.listeners = getEventListeners(shared.signal, 'abort').length;
for (const which of ['slow-reader', 'never-reads', 'never-closes'] as const) {
  report.held[which] = await burden(which);
}
await server.close();
report.seconds = (performance.now() - started) / 1000;
report.surprises = report.surprises.slice(0, 20);
process.stdout.write(`${JSON.stringify(report)}\n`, () => process.exit(0));
