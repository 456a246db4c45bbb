/**
 * HTTP: responses × endings × clients, and servers that close properly, in each Node that is installed, with the
 * add-on and without it.
 *
 * Theory of operation. A crafted peer answers a client's request with a response of the table (responses.ts,
 * frames.ts) and ends the connection in one of the ways of endings.ts: behind the response, in its body, in its head.
 * The client is one that programs use (clients.ts), made strict by a drop-in. What it has to tell of the message
 * follows from two things alone (rows.ts): whether the message was whole by itself, and whether close_notify came.
 * Then the socket's verdict and the diagnostics channels are asked. All rows are some twenty thousand; the seed
 * draws some of them.
 *
 * Clients break by themselves, too: undici drops what a late reader has not taken, Node's http2 says 'end' where
 * END_STREAM is missing. So a message that fails is asked for again by the same client on Node's own socket; what is
 * just the same there is counted apart. A cut that TLS tells is never excused, if it is taken for whole.
 *
 * The second half asks real servers (servers.ts) by way of a relay that reads the wire. Behind a server's own
 * close_notify whatever speaks of a truncation is a false alarm, counted by who gave it: client, verdict, channel.
 *
 * To look at one row: HTTP_ROW=n npm run prove -- --only http --seed SEED. HTTP_NODE=22 takes that Node alone;
 * HTTP_ROWS='undici 6|FIN' all rows that have these words, HTTP_SAMPLE=n another number of them, HTTP_SAMPLE=all every
 * one. HTTP_SHOW=1 prints what is the same on Node's own socket. REQUIRE_PEERS=1 fails where a server is missing.
 */
import {
  type Context,
  type Counted,
  type Figure,
  inShards,
  nodesFor,
  type Part,
} from '../harness.ts';
import type { FaultKind } from './work.ts';

const WAYS = {
  'with the add-on': { CLOSE_NOTIFY_REQUIRE_NATIVE: '1' },
  'without it': { CLOSE_NOTIFY_NATIVE: '0' },
} as const;

const FAULTS: Readonly<Record<FaultKind, string>> = {
  'missed cut': 'missed cuts',
  'false alarm by the client': 'false alarms by the client',
  'false alarm by verdict': 'false alarms by the verdict',
  'false alarm by channel': 'false alarms by a channel',
  'lost bytes': 'lost bytes',
  hang: 'hangs',
  uncaught: 'errors that nobody caught',
  'wrong fact': 'wrong facts',
};

const faultsOf = (name: string, counts: Counted[string] = {}): Figure[] =>
  Object.entries(FAULTS).map(([kind, what]) => ({
    name: `${name}: ${what}`,
    value: counts[kind] ?? 0,
    must: 0,
  }));

/** Counts by name, as one text. */
const list = (counts: Counted[string] = {}): string =>
  Object.entries(counts)
    .sort()
    .map(([name, count]) => `${name} ${count}`)
    .join('; ') || 'none';

async function tableIn(name: string, node: string, env: object, context: Context) {
  const url = new URL('work.ts', import.meta.url);
  const { rows, verdicts, channels, asNodes, sizes } = await inShards(url, context, {
    node,
    env: env as Record<string, string>,
  });
  const asked = ['HTTP_ROW', 'HTTP_ROWS', 'HTTP_SAMPLE'].some((one) => one in process.env);
  const least = asked ? 1 : context.short ? 250 : 2_000;
  context.log(`as Node's: ${list(asNodes)}`);
  return [
    { name: `${name}: rows in the table`, value: sizes?.['table'] ?? 0, least: 10_000 },
    { name: `${name}: clients`, value: sizes?.['clients'] ?? 0, least: 15 },
    { name: `${name}: rows tried`, value: rows?.['runs'] ?? 0, least },
    { name: `${name}: of these, messages that are whole`, value: rows?.['whole'] ?? 0 },
    {
      name: `${name}: messages that the client treats as on Node's own socket`,
      value: rows?.["as Node's"] ?? 0,
    },
    { name: `${name}: verdicts`, value: list(verdicts) },
    { name: `${name}: messages of the channels`, value: list(channels) },
    ...faultsOf(name, rows),
  ];
}

async function serversIn(name: string, node: string, env: object, context: Context) {
  const url = new URL('real.ts', import.meta.url);
  const counted = await inShards(url, context, { node, env: env as Record<string, string> });
  const { counts, properly, otherwise, verdicts, channels, skipped } = counted;
  const missing = list(skipped);
  if (missing !== 'none') context.log(`skipped: ${missing}`);
  const required = process.env['REQUIRE_PEERS'] === '1';
  return [
    { name: `${name}, servers: exchanges`, value: counts?.['runs'] ?? 0, least: 30 },
    { name: `${name}, servers: closed by close_notify`, value: list(properly) },
    { name: `${name}, servers: left by the client before that`, value: list(otherwise) },
    {
      name: `${name}, servers: not installed`,
      value: missing,
      ...(required ? { must: 'none' } : {}),
    },
    { name: `${name}, servers: verdicts behind close_notify`, value: list(verdicts) },
    { name: `${name}, servers: messages of the channels`, value: list(channels) },
    ...faultsOf(`${name}, servers`, counts),
  ];
}

export const part: Part = {
  name: 'http',
  title: 'HTTP responses × endings × clients, and servers that close properly',
  seconds: 1_800,
  async run(context) {
    const { nodes, missing: figures } = nodesFor(context, 'HTTP_NODE', 'rows tried');
    for (const [major, node] of nodes) {
      for (const [way, env] of Object.entries(WAYS)) {
        const name = `Node ${major} ${way}`;
        context.log(name);
        figures.push(...(await tableIn(name, node, env, context)));
        figures.push(...(await serversIn(name, node, env, context)));
      }
    }
    return figures;
  },
};
