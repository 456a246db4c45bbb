/** What one shard does: its conversations, each with two witnesses. */
import { once } from 'node:events';
import net from 'node:net';
import type { Duplex } from 'node:stream';
import tls from 'node:tls';
import { type AddOn, addOn } from '../../src/add-on.ts';
import { alertEvent, Ending, transportEvent } from '../../src/closure/ending.ts';
import { alertName } from '../../src/record/alert.ts';
import { acceptPassing, connectPassing, type Passing } from '../../src/strict/pass/passing.ts';
import { openSslWitness, type Witness, type WitnessedAlert } from '../../src/strict/witness.ts';
import { selfSigned } from '../../src/testing/credentials.ts';
import {
  ALERTS,
  CUT,
  ENDINGS,
  endingOf,
  HELLO,
  SPLIT,
  TICKETS,
} from '../../test/behaviour/verdicts/catalogue.ts';
import { CraftedPeer, turn, type Version } from '../../test/behaviour/verdicts/crafted-peer.ts';
import { Random } from '../../test/support/random.ts';
import { type Counted, isMine, type Shard } from '../harness.ts';

const ACTS = ['nothing', 'write()', 'end()'] as const;

interface Row {
  readonly ending: string;
  readonly version: Version;
  readonly role: 'client' | 'server';
  readonly act: (typeof ACTS)[number];
}

/** All of them: ending × version × role × act. */
function rows(): Row[] {
  const all: Row[] = [];
  for (const ending of Object.keys({ ...ENDINGS, ...TICKETS, ...SPLIT, ...CUT, ...ALERTS })) {
    for (const version of ['TLSv1.2', 'TLSv1.3'] as const) {
      const { only } = endingOf(ending);
      if (only !== undefined && only !== version) continue;
      for (const role of ['client', 'server'] as const) {
        if (role === 'server' && ending in TICKETS) continue;
        // Whole families are alike in what a program makes of them.
        const isFamily = ending in SPLIT || ending in CUT || ending in ALERTS;
        const acts = isFamily ? (['nothing'] as const) : ACTS;
        for (const act of acts) all.push({ ending, version, role, act });
      }
    }
  }
  return all;
}

const SHORT = 240;
const WORKERS = 6;

/** Milliseconds until a socket that OpenSSL leaves open is closed from here: 3.5 ignores some close_notify. */
const LIMIT = 300;

/** A connection whose side under test is on a pass. */
interface Open {
  readonly passing: Passing;
  readonly peer: CraftedPeer;
}

const identity = selfSigned();

async function open({ version, role }: Row, defer: (end: () => void) => void): Promise<Open> {
  const { key, cert } = identity;
  const common = { minVersion: version, maxVersion: version };
  if (role === 'client') {
    const front = net.createServer({ allowHalfOpen: true });
    defer(() => front.close());
    front.listen(0, '127.0.0.1');
    await once(front, 'listening');
    const connected = once(front, 'connection') as Promise<[net.Socket]>;
    const { port } = front.address() as net.AddressInfo;
    const passing = connectPassing({
      port,
      host: '127.0.0.1',
      rejectUnauthorized: false,
      ...common,
    });
    const [wire] = await connected;
    const peer = new CraftedPeer(wire, { role: 'server', version, identity: { key, cert } });
    return { passing, peer };
  }
  const server = tls.createServer({ key, cert, ...common });
  const [secure] = server.listeners('connection') as Array<(transport: Duplex) => void>;
  const front = net.createServer();
  defer(() => front.close());
  front.listen(0, '127.0.0.1');
  await once(front, 'listening');
  const passing = new Promise<Passing>((resolve) => {
    front.once('connection', (raw) =>
      acceptPassing(server, raw, secure as (transport: Duplex) => void, resolve),
    );
  });
  const { port } = front.address() as net.AddressInfo;
  const wire = net.connect({ port, host: '127.0.0.1', allowHalfOpen: true });
  const peer = new CraftedPeer(wire, { role: 'client', version });
  return { passing: await passing, peer };
}

/** What a witness says of it all, in words. */
interface Said {
  readonly received: string;
  readonly written: string;
  readonly sent: string;
  readonly ignored: boolean;
  readonly verdict: string;
}

const inWords = (alert: WitnessedAlert | null): string =>
  alert === null
    ? 'none'
    : `${alert.level}/${alert.description}${alert.authenticated ? '' : ' in the clear'}`;

/** What the witness comes to, with what the transport did. */
function ask(witness: Witness, sent: WitnessedAlert | null, broke: boolean): Said {
  const { received, written, ignored } = witness;
  const ending = new Ending();
  ending.happened({ type: 'established' }, 0);
  for (const [way, alert] of [
    ['sent', sent],
    ['received', received],
  ] as const) {
    if (alert === null) continue;
    const event = alertEvent(way, alert, alertName(alert.description), witness.evidence);
    ending.happened(event, alert.at);
  }
  ending.happened(transportEvent(broke ? 'reset' : 'eof', 'unknown', null), performance.now());
  const { verdict, initiator, alert } = ending.closure();
  return {
    received: inWords(received),
    written: inWords(written),
    sent: inWords(sent),
    ignored,
    verdict: `${verdict}, begun by ${initiator}, ${alert?.direction ?? 'no'} ${alert?.name ?? 'alert'}`,
  };
}

interface Outcome {
  readonly openssl: Said;
  readonly record: Said;
  /** Where the bytes ended, by each; null where one of them does not know. */
  readonly places: readonly [string, string] | null;
}

async function play(native: AddOn, row: Row): Promise<Outcome> {
  const ends: Array<() => void> = [];
  try {
    const { passing, peer } = await open(row, (end) => ends.push(end));
    const { socket, witness: record } = passing;
    ends.push(
      () => socket.destroy(),
      () => peer.destroy(),
    );
    let bytes = 0;
    let closed = false;
    let broke = false;
    socket.on('error', ({ code }: NodeJS.ErrnoException) => {
      broke ||= code === 'ECONNRESET' || code === 'EPIPE';
    });
    socket.on('close', () => {
      closed = true;
    });
    if (row.role === 'client') await once(socket, 'secureConnect');
    const found = openSslWitness(native, socket);
    if (found === null) throw new Error('the add-on knows nothing of this connection');
    socket.on('data', (chunk: Buffer) => {
      const first = bytes === 0;
      bytes += chunk.length;
      if (!first) return;
      if (row.act === 'write()') socket.write('answer');
      else if (row.act === 'end()') socket.end();
    });
    await peer.ready;
    await endingOf(row.ending).play({
      peer,
      async later() {
        for (let i = 0; i < 12 && bytes < HELLO.length && !closed; i++) await turn();
        await turn();
      },
    });
    const start = performance.now();
    let sent: WitnessedAlert | null = null;
    const look = async () => {
      // As a guard does: once its SSL is freed, the add-on does not learn any more of what has left.
      sent ??= found.witness.sent;
      await turn();
    };
    while (!closed && performance.now() - start < LIMIT) await look();
    socket.destroy();
    for (let i = 0; i < 3 || !closed; i++) await look();
    const places = [found.witness.where, record.where] as const;
    return {
      openssl: ask(found.witness, sent, broke),
      record: ask(record, record.sent, broke),
      places: places.includes('unknown') ? null : places,
    };
  } finally {
    for (const end of ends.reverse()) end();
  }
}

export async function work(shard: Shard): Promise<Counted> {
  const { seed, short, fail } = shard;
  const { native, reason } = addOn();
  if (native === null) throw new Error(reason);
  native.watch(() => {});
  const counts: Record<string, number> = {};
  const count = (name: string) => {
    counts[name] = (counts[name] ?? 0) + 1;
  };
  const all = rows();
  const random = Random.for(seed, 'witnesses');
  const chosen = short ? Array.from({ length: SHORT }, () => random.of(all)) : all;
  const left = chosen.filter((_, n) => isMine(shard, n));
  const go = async () => {
    for (let row = left.shift(); row !== undefined; row = left.shift()) {
      const { openssl, record, places } = await play(native, row);
      count('conversations');
      for (const way of ['received', 'sent'] as const) {
        count(openssl[way] === 'none' ? 'none' : way);
      }
      // Behind what ended the peer's direction, or was refused of it, OpenSSL reads no more, and the records go on.
      const cut = endingOf(row.ending).truth === 'eof';
      if (places !== null && cut) count('places');
      const told = JSON.stringify({ openssl, record, places });
      const same =
        JSON.stringify(openssl) === JSON.stringify(record) &&
        (places === null || !cut || places[0] === places[1]);
      if (same) continue;
      count('disagreements');
      fail(`${row.ending}; ${row.version}, ${row.role}, ${row.act}\n  ${told}`);
    }
  };
  await Promise.all(Array.from({ length: WORKERS }, go));
  return { counts };
}
