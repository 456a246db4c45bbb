/**
 * What one shard does with real servers: each of its servers, asked by all clients, by way of a relay that shows what
 * truly crossed. Whatever is told of an ending behind the server's own close_notify is a false alarm.
 */

import type tls from 'node:tls';
import { type Env, turns, until } from '../../test/behaviour/verdicts/env.ts';
import { Relay } from '../../test/behaviour/verdicts/record-relay.ts';
import { Random } from '../../test/support/random.ts';
import { type Counted, isMine, type Shard } from '../harness.ts';
import { CLIENTS, type Client, hostOf, Told } from './clients.ts';
import { JSSE_TEXT, PATHS, prepareGround, type Running, SERVERS, type Server } from './servers.ts';
import { type Fault, happening, prepare } from './work.ts';

/** What waits for a server to close does not keep the others. */
const WORKERS = 8;
/** How many exchanges the short form draws, of each server. */
const SAMPLE = 15;
/** And the full form. */
const MOST = 200;

interface Exchange {
  readonly server: Server;
  readonly client: Client;
  readonly method: 'GET' | 'HEAD';
  readonly path: string;
}

function exchangesOf(server: Server): Exchange[] {
  const clients = CLIENTS.filter(({ protocol }) => server.protocols.includes(protocol));
  return clients.flatMap((client) =>
    server.paths.flatMap((path) =>
      (path === '/length' ? (['GET', 'HEAD'] as const) : (['GET'] as const)).map((method) => ({
        ...{ server, client, method, path },
      })),
    ),
  );
}

const describe = ({ server, client, method, path }: Exchange): string =>
  `${server.name} | ${client.name} | ${method} ${path}`;

interface Exchanged {
  readonly faults: readonly Fault[];
  readonly verdict: string;
  /** Whether the server sent close_notify. */
  readonly properly: boolean;
  readonly messages: readonly string[];
}

async function exchange(env: Env, running: Running, the: Exchange): Promise<Exchanged> {
  const { client, method, path, server } = the;
  const faults: Fault[] = [];
  const fault = (kind: Fault['kind'], what: string) => void faults.push({ kind, what });
  const relay = await Relay.to(env, await running.port(), undefined, hostOf(client, false));
  const told = new Told();
  const happened = {
    sockets: [] as tls.TLSSocket[],
    uncaught: [] as unknown[],
    onSocket(socket: tls.TLSSocket) {
      socket.on('keylog', (line) => {
        for (const link of relay.links) link.addKeyLog(line);
      });
    },
  };
  const task = { env, port: relay.port, plain: false, method, path, second: false, begin: null };
  const asking = happening.run(happened, () => client.ask({ ...task, told }));
  await until(() => told.done);
  const [socket] = happened.sockets;
  // Each of the servers ends a connection that it has nothing to say on.
  const closed = await until(
    () => socket !== undefined && env.messagesOf(socket).closure.length > 0,
  );
  await turns(4);
  if (told.done) await asking;
  const came = (relay.links[0]?.passed.server ?? []).flatMap((one) =>
    one.kind === 'alert' && one.protectedBy === 'traffic'
      ? [`${one.level}/${one.description}`]
      : [],
  );
  const properly = came.at(-1) === '1/0';
  const whole = path === '/jsse' ? JSSE_TEXT : (PATHS[path] as Buffer);
  const due = method === 'HEAD' ? Buffer.alloc(0) : whole;
  const got = Buffer.concat(told.chunks);
  const said = `${told.whole ? 'whole' : 'not whole'}, ${got.length} bytes of ${due.length}, errors: ${told.errors.join('; ') || 'none'}`;
  if (!told.done) fault('hang', said);
  else if (!told.whole || told.errors.length > 0) {
    // A body to the connection's end, of a server that did not close properly, is rightly refused.
    if (properly || !path.endsWith('close')) fault('false alarm by the client', said);
  } else if (path !== '/gzip' || client.decodes) {
    if (!got.equals(due)) fault('lost bytes', said);
  }
  for (const error of happened.uncaught) fault('uncaught', String(error));
  if (socket === undefined) {
    fault('wrong fact', 'no strict socket');
    return { faults, verdict: 'none', properly, messages: [] };
  }
  if (!closed) fault('hang', `the socket never closed; ${server.name} said ${came}`);
  const { truncated } = env.messagesOf(socket);
  const verdict = env.lib.socketClosure(socket)?.verdict ?? 'none';
  if (properly) {
    if (closed && !['secure', 'one-sided', 'aborted'].includes(verdict)) {
      fault('false alarm by verdict', `the verdict is ${verdict}`);
    }
    if (truncated.length > 0) {
      fault('false alarm by channel', `${truncated[0]?.code}, outcome ${truncated[0]?.outcome}`);
    }
  }
  const messages = truncated.map(({ outcome }) => `truncated, ${outcome}`);
  return { faults, verdict, properly, messages };
}

export async function work(shard: Shard): Promise<Counted> {
  const { seed, short, fail, log } = shard;
  const counts: Record<string, number> = { runs: 0 };
  const properly: Record<string, number> = {};
  const otherwise: Record<string, number> = {};
  const verdicts: Record<string, number> = {};
  const channels: Record<string, number> = {};
  const skipped: Record<string, number> = {};
  const count = (into: Record<string, number>, name: string) => {
    into[name] = (into[name] ?? 0) + 1;
  };
  const env = await prepare();
  for (const event of ['uncaughtException', 'unhandledRejection'] as const) {
    process.on(event, (error: unknown) => {
      const during = happening.getStore();
      if (during !== undefined) {
        during.uncaught.push(error);
        return;
      }
      count(counts, 'uncaught');
      fail(`nobody caught: ${error instanceof Error ? error.stack : error}`);
    });
  }
  const ground = await prepareGround(env.identity);
  const words = process.env['HTTP_ROWS']?.split('|');
  try {
    for (const server of SERVERS.filter((_, n) => isMine(shard, n))) {
      if (!server.isThere) {
        count(skipped, `${server.name} (${server.package})`);
        continue;
      }
      const running = await server.start(ground);
      try {
        let mine = exchangesOf(server);
        if (words !== undefined) {
          mine = mine.filter((one) => words.every((word) => describe(one).includes(word)));
        }
        const random = Random.for(seed, server.name);
        while (mine.length > (short ? SAMPLE : MOST)) mine.splice(random.below(mine.length), 1);
        const go = async () => {
          for (let the = mine.shift(); the !== undefined; the = mine.shift()) {
            const own = env.fork();
            let faults: readonly Fault[];
            try {
              const told = await exchange(own, running, the);
              faults = told.faults;
              count(told.properly ? properly : otherwise, server.name);
              if (told.properly) count(verdicts, told.verdict);
              for (const message of told.messages) {
                count(channels, `${told.properly ? 'closed' : 'not closed'}: ${message}`);
              }
            } catch (error) {
              faults = [{ kind: 'wrong fact', what: String((error as Error).stack ?? error) }];
            } finally {
              await own.finish();
            }
            count(counts, 'runs');
            for (const kind of new Set(faults.map((one) => one.kind))) count(counts, kind);
            if (faults.length > 0) {
              const what = faults.map((one) => `${one.kind}: ${one.what}`).join('\n  ');
              fail(`${describe(the)}\n  ${what}`);
            }
          }
        };
        await Promise.all(Array.from({ length: WORKERS }, go));
      } finally {
        await running.stop();
      }
      log(`${server.name}: ${properly[server.name] ?? 0} closed properly`);
    }
  } finally {
    await ground.end();
  }
  return { counts, properly, otherwise, verdicts, channels, skipped };
}
