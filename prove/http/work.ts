/** What one shard of the HTTP part does: its rows, some of them side by side. */
import { AsyncLocalStorage } from 'node:async_hooks';
import { subscribe } from 'node:diagnostics_channel';
import { once } from 'node:events';
import net from 'node:net';
import type tls from 'node:tls';
import { CraftedPeer, turn } from '../../test/behaviour/verdicts/crafted-peer.ts';
import { Env, type Messages, turns, until } from '../../test/behaviour/verdicts/env.ts';
import { type Counted, isMine, type Shard } from '../harness.ts';
import { CLIENTS, hostOf, REGISTERED_HOST, Told } from './clients.ts';
import { type Ending, recordsOf } from './endings.ts';
import { firstAnswer, OPENING, requestsIn } from './frames.ts';
import { FIRST, type Response } from './responses.ts';
import {
  deliveryOf,
  describe,
  endingOf,
  expectedOf,
  givenOf,
  ROWS,
  type Row,
  RULES,
  responseOf,
  rowAt,
  sample,
  wholeContent,
} from './rows.ts';

/** Rows that run side by side: what waits for a limit does not keep the others. */
const WORKERS = 6;
/** How many rows are drawn, where not all are asked for. */
const SAMPLE = { short: 250, full: 2_000 } as const;

export type FaultKind =
  | 'missed cut'
  | 'false alarm by the client'
  | 'false alarm by verdict'
  | 'false alarm by channel'
  | 'lost bytes'
  | 'hang'
  | 'uncaught'
  | 'wrong fact';

export interface Fault {
  readonly kind: FaultKind;
  readonly what: string;
}

/** What a row came to. */
interface Outcome {
  readonly told: Told;
  readonly response: Response;
  readonly connections: number;
  /** Null where no strict socket was made. */
  readonly socket: tls.TLSSocket | null;
  readonly happened: Happening;
  readonly closed: boolean;
}

/** What happens while a row is being run, wherever. */
interface Happening {
  /** The strict sockets that are made. */
  readonly sockets: tls.TLSSocket[];
  readonly uncaught: unknown[];
  readonly onSocket?: (socket: tls.TLSSocket) => void;
}

/** All that are being run. */
const running = new Set<Happening>();

export const happening = new AsyncLocalStorage<Happening>();

/** What all rows of a process share. */
export async function prepare(): Promise<Env> {
  // The global fetch takes no options.
  process.env['NODE_TLS_REJECT_UNAUTHORIZED'] = '0';
  process.removeAllListeners('warning');
  // https-proxy-agent looks there for who called it.
  Error.stackTraceLimit = 10;
  const env = await Env.make();
  env.register.register({ include: [REGISTERED_HOST] });
  subscribe('close-notify.connect', (message) => {
    const { socket } = message as { socket: tls.TLSSocket };
    const during = happening.getStore();
    during?.sockets.push(socket);
    during?.onSocket?.(socket);
  });
  return env;
}

async function run(env: Env, row: Row, plain: boolean): Promise<Outcome> {
  const { client, version, late } = row;
  const http2 = client.protocol === 'http2';
  const { key, cert } = env.identity;
  const alpn = http2 ? { alpn: ['h2'] } : {};
  let peer: CraftedPeer | null = null;
  let connections = 0;
  const server = net.createServer({ allowHalfOpen: true, noDelay: true }, (wire) => {
    connections++;
    if (peer !== null) {
      wire.on('error', () => {});
      wire.destroy();
      return;
    }
    peer = new CraftedPeer(wire, { role: 'server', version, identity: { key, cert }, ...alpn });
    env.defer(() => peer?.destroy());
  });
  env.defer(() => server.close());
  server.listen(0, hostOf(client, plain));
  await once(server, 'listening');
  const { port } = server.address() as net.AddressInfo;

  const told = new Told();
  const happened: Happening = { sockets: [], uncaught: [] };
  running.add(happened);
  env.defer(() => running.delete(happened));
  const { sockets } = happened;
  let start = () => {};
  const begin = late ? new Promise<void>((resolve) => (start = resolve)) : null;
  const { method, second } = responseOf(row, 1);
  const asking = happening.run(happened, () =>
    client.ask({ env, port, plain, method, path: '/', second, begin, told }),
  );

  let response = responseOf(row, 1);
  const serving = (async () => {
    if (!(await until(() => peer !== null || told.done))) throw new Error('nobody connects');
    if (peer === null) throw new Error(`no connection: ${told.errors}`);
    const made: CraftedPeer = peer;
    await made.ready;
    const count = http2
      ? () => requestsIn(made.received).length
      : () => made.received.toString('latin1').split('\r\n\r\n').length - 1;
    const asked = async (n: number) => {
      await made.until(() => count() >= n || made.transportEnd !== null);
      if (count() < n) throw new Error('the client left instead of asking');
    };
    await asked(1);
    const stream = () => requestsIn(made.received).at(-1) as number;
    if (http2) made.send(made.data(OPENING));
    if (second) {
      made.send(http2 ? made.data(firstAnswer(stream())) : made.data(FIRST));
      await asked(2);
    }
    if (http2) response = responseOf(row, stream());
    await end(made, row, response, told);
  })();
  const failed = serving.then(
    () => null,
    (error: Error) => error,
  );
  const failure = await failed;
  if (failure !== null) {
    if (peer !== null) (peer as CraftedPeer).destroy();
    throw failure;
  }
  await turns(4);
  start();
  await until(() => told.done);
  const [socket = null] = sockets;
  const closed =
    plain ||
    (await until(() => {
      return socket !== null && env.messagesOf(socket).closure.length > 0;
    }));
  await turns(2);
  // It has told all that it will; what it rejects with nobody has asked for.
  if (told.done) await asking;
  return { told, response, connections, socket, happened, closed };
}

/** Sends what comes of the response, and ends the connection. */
async function end(peer: CraftedPeer, row: Row, response: Response, told: Told): Promise<void> {
  const ending: Ending = endingOf(row);
  const { pieces, content } = deliveryOf(response, ending);
  const kept = row.joined ? pieces : pieces.slice(-1);
  for (const piece of pieces.slice(0, pieces.length - kept.length)) {
    peer.send(recordsOf(peer, piece));
    await turn();
  }
  const { whole } = expectedOf(row, response, { ...ending, truth: 'eof' });
  const has = () => told.done || (!whole && told.head && told.bytes >= content.length);
  await ending.play({
    peer,
    last: Buffer.concat(kept),
    async later() {
      // A reset takes from the kernel what nobody has read.
      if (ending.truth === 'reset' && ending.where !== 'in the head') await until(has, 1_000);
      for (let i = 0; i < 12 && !has(); i++) await turn();
      await turns(2);
    },
  });
}

/** The message, as the program was told of it. */
function judgeMessage(row: Row, outcome: Outcome): Fault[] {
  const faults: Fault[] = [];
  const fault = (kind: FaultKind, what: string) => void faults.push({ kind, what });
  const { told, response } = outcome;
  const ending = endingOf(row);
  const { truth } = ending;
  const { whole, rule } = expectedOf(row, response, ending);
  const due = givenOf(row, response, wholeContent(response));
  const got = Buffer.concat(told.chunks);
  const said = `${told.whole ? 'whole' : 'not whole'}, ${got.length} bytes of ${due.length}, errors: ${told.errors.join('; ') || 'none'}`;

  if (!told.done) fault('hang', `the client never ended: ${said}`);
  // Of a fatal alert behind it Node's https tells the request, where that is not gone by then.
  else if (told.whole && (truth === 'alert' ? told.before : told.errors.length) > 0)
    fault('wrong fact', `whole, and an error: ${said}`);
  else if (!told.whole && told.errors.length === 0) fault('missed cut', `no error: ${said}`);
  if (outcome.connections !== 1) fault('wrong fact', `${outcome.connections} connections`);
  for (const error of outcome.happened.uncaught) {
    fault('uncaught', error instanceof Error ? String(error.stack) : String(error));
  }

  const { content } = deliveryOf(response, ending);
  const plain = !(response.gzip && row.client.decodes);
  if (whole) {
    if (told.done && !told.whole) fault('false alarm by the client', `${said}; ${RULES[rule]}`);
    if (told.whole) {
      const all = response.byClosure && plain ? content : due;
      if (plain || !response.byClosure) {
        if (!got.equals(all)) fault('lost bytes', said);
      }
    }
  } else {
    if (told.whole) fault('missed cut', `${said}; ${RULES[rule]}`);
    if (!got.equals(due.subarray(0, got.length))) fault('lost bytes', `not a part of it: ${said}`);
    const { protocol } = row.client;
    // HTTP/2 drops what its reader has not taken when a session goes.
    if (plain && protocol === 'http1' && truth !== 'reset' && got.length < content.length) {
      fault('lost bytes', `${content.length} had come: ${said}`);
    }
    if (response.byClosure && truth === 'eof' && rule === 'byClosure') {
      if (!told.errors.some((one) => one.includes('ERR_TLS_TRUNCATED'))) {
        fault('wrong fact', `not ERR_TLS_TRUNCATED: ${said}`);
      }
    }
  }

  return faults;
}

/**
 * The connection, by its verdict and what the channels told.
 *
 * @param same whether the client makes of the message what it makes of it on Node's own socket.
 */
function judgeConnection(
  env: Env,
  row: Row,
  { told, response, socket, closed }: Outcome,
  same: boolean,
): Fault[] {
  const faults: Fault[] = [];
  const fault = (kind: FaultKind, what: string) => void faults.push({ kind, what });
  const ending = endingOf(row);
  const { truth } = ending;
  const { whole, rule } = expectedOf(row, response, ending);
  const said = told.errors.join('; ') || 'no error';
  if (socket === null) {
    fault('wrong fact', 'no strict socket');
    return faults;
  }
  // A client that hangs keeps its socket.
  if (!closed && !(same && !told.done)) fault('hang', 'the socket never closed');
  const { truncated, closure: closures, connect }: Messages = env.messagesOf(socket);
  const closure = env.lib.socketClosure(socket);
  const verdict = closure?.verdict ?? 'none';
  if (connect.length !== 1) fault('wrong fact', `connect was told ${connect.length} times`);
  if (closed && closures.length !== 1) {
    fault('wrong fact', `closure was told ${closures.length} times`);
  }
  if (truth === 'close_notify') {
    // Who goes without a close_notify of its own is aborted, as it always was.
    if (closed && !['secure', 'one-sided', 'aborted'].includes(verdict)) {
      fault('false alarm by verdict', `the verdict is ${verdict}; ${said}`);
    }
    if (truncated.length > 0) {
      fault('false alarm by channel', `${truncated[0]?.code}, outcome ${truncated[0]?.outcome}`);
    }
    if (whole && response.byClosure && !closure?.received) {
      fault('wrong fact', `received lacks the close_notify; the verdict is ${verdict}`);
    }
  } else {
    if (closure?.received) fault('missed cut', 'received claims a close_notify');
    if (verdict === 'secure') fault('missed cut', 'the verdict is secure');
    // Nothing was missing. (A reset is an error of Node's own, whatever was in progress.)
    if (whole && !same && truth === 'eof' && truncated.some(({ outcome }) => outcome === 'error')) {
      fault('false alarm by channel', `truncated with the outcome 'error'; ${said}`);
    }
    if (!whole && truth === 'eof' && rule !== 'head' && response.byClosure) {
      if (!truncated.some(({ outcome }) => outcome === 'error')) {
        fault('missed cut', `the channel told ${JSON.stringify(truncated)}`);
      }
    }
  }
  return faults;
}

/**
 * What the same client makes of this message on Node's own socket, where it does just the same there: what undici or
 * Node's http2 drop, they drop there, too. A cut that TLS could tell is never theirs, if it is taken for whole.
 */
async function isNodes(env: Env, row: Row, ours: Outcome, log: (line: string) => void) {
  const ending = endingOf(row);
  const missed = ours.told.whole && !expectedOf(row, ours.response, ending).whole;
  if (missed && ending.truth !== 'close_notify') return false;
  running.delete(ours.happened);
  const own = await run(env, { ...row, ending: ending.plainly ?? row.ending }, true);
  const ourFaults = judgeMessage(row, ours);
  const theirFaults = judgeMessage(row, own);
  const told = (faults: readonly Fault[]) =>
    faults.map(({ kind, what }) => `${kind}: ${what.split('\n', 1)[0]}`).join('; ');
  const theirs = new Set(theirFaults.map(({ kind }) => kind));
  const same = ourFaults.every(({ kind }) => theirs.has(kind)) && ours.told.bytes >= own.told.bytes;
  if (!same || process.env['HTTP_SHOW'] === '1') {
    log(`${same ? 'the same' : 'NOT the same'}: ${describe(row)}`);
    log(`  ours: ${told(ourFaults)}`);
    log(`  Node's: ${told(theirFaults)}`);
  }
  return same;
}

export async function work(shard: Shard): Promise<Counted> {
  const { seed, short, fail, log } = shard;
  const rows: Record<string, number> = { runs: 0 };
  const verdicts: Record<string, number> = {};
  const channels: Record<string, number> = {};
  const asNodes: Record<string, number> = {};
  const count = (into: Record<string, number>, name: string) => {
    into[name] = (into[name] ?? 0) + 1;
  };
  const env = await prepare();
  /** Errors of no known row, and the rows that were being run then: they run again, each by itself. */
  let strays = 0;
  const suspects = new Set<number>();
  const current = new Set<number>();
  for (const event of ['uncaughtException', 'unhandledRejection'] as const) {
    process.on(event, (error: unknown) => {
      const [first, ...others] = running;
      const during = happening.getStore() ?? (others.length === 0 ? first : undefined);
      if (during !== undefined) {
        during.uncaught.push(error);
        return;
      }
      strays++;
      for (const n of current) suspects.add(n);
    });
  }
  const { HTTP_ROW: only, HTTP_ROWS: wanted, HTTP_SAMPLE: size } = process.env;
  const every = size === 'all' || only !== undefined || wanted !== undefined;
  const drawn = size === undefined ? SAMPLE[short ? 'short' : 'full'] : Number(size);
  const numbers = every ? Array.from({ length: ROWS }, (_, n) => n) : sample(seed, drawn);
  let mine = numbers.filter((_, n) => isMine(shard, n));
  if (only !== undefined) mine = shard.index === 0 ? [Number(only)] : [];
  if (wanted !== undefined) {
    const words = wanted.split('|');
    mine = mine.filter((n) => words.every((word) => describe(rowAt(seed, n)).includes(word)));
  }
  const clients = new Set<string>();
  const judged = async (own: Env, row: Row): Promise<readonly Fault[]> => {
    const outcome = await run(own, row, false);
    const ofMessage = judgeMessage(row, outcome);
    const same = ofMessage.length > 0 && (await isNodes(own, row, outcome, log));
    if (same) {
      count(rows, "as Node's");
      count(asNodes, `${row.client.name}: ${ofMessage[0]?.kind}`);
    }
    if (outcome.happened.uncaught.length > 0) count(rows, 'uncaught as told');
    const { socket, response } = outcome;
    const ending = endingOf(row);
    count(rows, expectedOf(row, response, ending).whole ? 'whole' : 'cut');
    if (socket !== null) {
      const side = ending.truth === 'close_notify' ? 'closed' : 'cut';
      count(verdicts, `${side}: ${own.lib.socketClosure(socket)?.verdict}`);
      for (const { outcome } of own.messagesOf(socket).truncated) {
        count(channels, `${side}: truncated, ${outcome}`);
      }
    }
    return [...(same ? [] : ofMessage), ...judgeConnection(own, row, outcome, same)];
  };
  const play = async (n: number): Promise<void> => {
    const row = rowAt(seed, n);
    const own = env.fork();
    current.add(n);
    let faults: readonly Fault[];
    try {
      faults = await judged(own, row);
    } catch (error) {
      faults = [{ kind: 'wrong fact', what: String((error as Error).stack ?? error) }];
    } finally {
      await own.finish();
      current.delete(n);
    }
    count(rows, 'runs');
    clients.add(row.client.name);
    for (const kind of new Set(faults.map((one) => one.kind))) count(rows, kind);
    if (faults.length > 0) {
      const what = faults.map((one) => `${one.kind}: ${one.what}`).join('\n  ');
      fail(`row ${n}: ${describe(row)}\n  ${what}`);
    }
    if ((rows['runs'] ?? 0) % 1_000 === 0) log(`${rows['runs']} rows, ${mine.length} to go`);
  };
  const go = async () => {
    for (let n = mine.shift(); n !== undefined; n = mine.shift()) await play(n);
  };
  await Promise.all(Array.from({ length: WORKERS }, go));
  // One by one, each error is that of the row that is being run.
  const before = strays;
  const told = rows['uncaught as told'] ?? 0;
  for (const n of suspects) await play(n);
  if (strays > before || (before > 0 && (rows['uncaught as told'] ?? 0) === told)) {
    count(rows, 'uncaught');
    fail(`${before} errors that nobody caught, of none of the rows ${[...suspects].join(', ')}`);
  }
  log(`${rows['runs']} rows, ${clients.size} clients`);
  const sizes = shard.index === 0 ? { table: ROWS, clients: CLIENTS.length } : {};
  return { rows, verdicts, channels, asNodes, sizes };
}
