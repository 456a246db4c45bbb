/**
 * Somebody on the path who has no keys. He can make a party fail, by a bit that he flips, and then has an
 * authenticated fatal alert of that party to deliver when and with what he likes; he can drop, repeat,
 * swap and cut records, and say anything in the clear. None of that may look like close_notify.
 *
 * RFC 9846 section 6.1 and appendix E.1: closure alerts are there so that "an attacker cannot truncate".
 * RFC 9846 section 6.2: "Upon transmission or receipt of a fatal alert message, both parties MUST
 * immediately close the connection."
 */
import { once } from 'node:events';
import net from 'node:net';
import tls from 'node:tls';
import { family } from './case.ts';
import { plaintext } from './crafted-peer.ts';
import { AS_REGISTERED, duplexOver, type Env, type Facts, turns, until, Watch } from './env.ts';
import { type Link, Relay, type Tamper } from './record-relay.ts';
import type { Sender } from './wire-reader.ts';

const { cases, add } = family();

export { cases };

const VERSIONS = ['TLSv1.2', 'TLSv1.3'] as const;
type Version = (typeof VERSIONS)[number];

/** What a program does in its first 'data' listener. */
const ACTS: Readonly<Record<string, (socket: tls.TLSSocket) => void>> = {
  nothing: () => {},
  'end()': (socket) => socket.end(),
  'end() a microtask later': (socket) => queueMicrotask(() => socket.end()),
  'end() a tick later': (socket) => process.nextTick(() => socket.end()),
  'end() in setImmediate': (socket) => setImmediate(() => socket.end()),
  'pause(), resume() later': (socket) => {
    socket.pause();
    void turns(3).then(() => socket.resume());
  },
};

const FACES = ['tcp', 'duplex', 'register'] as const;

/** A strict client's socket to a port. */
function connect(env: Env, face: (typeof FACES)[number], port: number): tls.TLSSocket {
  const common = { rejectUnauthorized: false, allowHalfOpen: true };
  const target = { port, host: '127.0.0.1' };
  if (face === 'register') return tls.connect({ ...target, ...common, ...AS_REGISTERED });
  if (face === 'tcp') return env.lib.secureSocket({ ...target, ...common });
  const socket = duplexOver(net.connect({ ...target, allowHalfOpen: true }));
  return env.lib.secureSocket({ ...common, socket });
}

interface Told extends Facts {
  readonly text: string;
  /** What reached the strict side, and what left it. */
  readonly came: readonly string[];
  readonly went: readonly string[];
}

const told = (watch: Watch, facts: Facts, link: Link, peer: Sender): Told => ({
  ...facts,
  text: watch.text,
  came: alerts(link, peer),
  went: alerts(link, peer === 'client' ? 'server' : 'client'),
});

/** The alerts of a party that were passed on, as 'level/description'. */
const alerts = (link: Link, sender: Sender): string[] =>
  link.passed[sender].flatMap((one) =>
    one.kind === 'alert' && one.protectedBy === 'traffic'
      ? [`${one.level}/${one.description}`]
      : [],
  );

const flip = (record: Buffer): Buffer => {
  const copy = Buffer.from(record);
  copy[copy.length - 1] = copy[copy.length - 1]! ^ 1;
  return copy;
};

// ---- a party is made to fail, and its alert comes with data in one segment

/** Which record of the client is its first data: behind Finished, which TLS 1.3 protects, too. */
const isData = (version: Version) => {
  let handshake = version === 'TLSv1.3' ? 1 : 0;
  return (sender: Sender, record: Buffer): boolean =>
    sender === 'client' && record[0] === 23 && handshake-- <= 0;
};

for (const version of VERSIONS) {
  for (const face of FACES) {
    for (const attack of [false, true]) {
      for (const [act, go] of Object.entries(ACTS)) {
        const name = `a client, ${face}, ${version}, ${act}: ${attack ? 'the answer’s first half and the server’s fatal alert in one segment' : 'nobody attacks'}`;
        add<Told>(
          name,
          async (env) => {
            const server = tls.createServer({
              ...env.identity,
              ...{ minVersion: version, maxVersion: version, allowHalfOpen: true, noDelay: true },
            });
            server.on('secureConnection', (socket) => {
              socket.on('error', () => socket.destroy());
              socket.once('data', () => {
                socket.write('part 1, ');
                socket.once('data', () => socket.end('part 2'));
              });
            });
            const { port } = await env.listen(server);
            const data = isData(version);
            let requests = 0;
            const relay = await Relay.to(env, port, (sender, record) => {
              if (!data(sender, record)) return record;
              return ++requests === 2 && attack ? flip(record) : record;
            });
            const socket = connect(env, face, relay.port);
            socket.setNoDelay(true);
            const watch = new Watch(env, socket);
            const link = await relay.link();
            socket.on('keylog', (line) => link.addKeyLog(line));
            await once(socket, 'secureConnect');
            // Tickets are out of the way.
            socket.resume();
            await turns(8);
            link.hold('server');
            const before = link.records('server');
            let acted = false;
            socket.on('data', (chunk) => {
              watch.took(chunk);
              if (acted) return;
              acted = true;
              go(socket);
            });
            socket.on('end', () => socket.end());
            socket.write('request');
            await until(() => link.records('server') > before);
            socket.write('ping');
            await until(() => link.ended('server') || link.records('server') > before + 2);
            await turns(4);
            link.release('server');
            const facts = await watch.over();
            await turns(4);
            return told(watch, facts, link, 'server');
          },
          (facts) => judge(facts, attack, attack ? 'part 1, ' : 'part 1, part 2', act),
        );
      }
    }
  }
}

for (const version of VERSIONS) {
  for (const attack of [false, true]) {
    for (const [act, go] of Object.entries(ACTS)) {
      const name = `strictServer, ${version}, ${act}: ${attack ? 'half of an upload and the client’s fatal alert in one segment' : 'nobody attacks'}`;
      add<Told>(
        name,
        async (env) => {
          const server = env.lib.strictServer(
            tls.createServer({
              ...env.identity,
              ...{ minVersion: version, maxVersion: version, allowHalfOpen: true, noDelay: true },
            }),
          );
          let watch: Watch | null = null;
          server.on('secureConnection', (socket) => {
            watch = new Watch(env, socket);
            let acted = false;
            socket.on('data', (chunk) => {
              watch!.took(chunk);
              if (acted) return;
              acted = true;
              go(socket);
            });
            socket.on('end', () => socket.end());
          });
          const { port } = await env.listen(server);
          let spoil = false;
          const relay = await Relay.to(env, port, (sender, record) =>
            spoil && sender === 'server' ? flip(record) : record,
          );
          const client = tls.connect({
            ...{ port: relay.port, host: '127.0.0.1', rejectUnauthorized: false },
          });
          client.setNoDelay(true);
          client.on('error', () => client.destroy());
          env.defer(() => client.destroy());
          const link = await relay.link();
          client.on('keylog', (line) => link.addKeyLog(line));
          await once(client, 'secureConnect');
          client.resume();
          await until(() => watch !== null);
          await turns(8);
          const { socket } = watch as unknown as Watch;
          link.hold('client');
          const before = link.records('client');
          client.write('part 1, ');
          await until(() => link.records('client') > before);
          if (attack) {
            // What the server says now makes the client fail.
            spoil = true;
            socket.write('more');
          } else {
            client.end('part 2');
          }
          await until(() => link.ended('client') || link.records('client') > before + 2);
          await turns(4);
          spoil = false;
          link.release('client');
          const facts = await (watch as unknown as Watch).over();
          await turns(4);
          return told(watch as unknown as Watch, facts, link, 'client');
        },
        (facts) => judge(facts, attack, attack ? 'part 1, ' : 'part 1, part 2', act),
      );
    }
  }
}

function judge(facts: Told, attack: boolean, text: string, act: string): string[] {
  const wrong: string[] = [];
  const { events, verdict, received, alert, came } = facts;
  if (came.join() !== (attack ? '2/20' : '1/0')) wrong.push(`${came} reached us`);
  if (facts.hangs !== null) wrong.push(`never closed: ${facts.hangs}`);
  // Node drops a record that it finds within SSL_shutdown.
  const lossy = !attack && act.startsWith('end()') && !act.includes('setImmediate');
  if (attack) {
    if (events.includes('end')) wrong.push("'end' for half of it");
    if (!events.some((one) => one.startsWith('error '))) wrong.push(`no 'error': ${events}`);
    if (received !== null) wrong.push('received claims a close_notify');
    if (verdict !== 'alert' || alert?.direction !== 'received' || alert.code !== 20) {
      wrong.push(`the verdict is ${verdict}, the alert ${JSON.stringify(alert)}`);
    }
  } else if (!lossy || facts.text === text) {
    if (!events.includes('end')) wrong.push(`no 'end': ${events}`);
    if (verdict !== 'secure') wrong.push(`the verdict is ${verdict}`);
    if (facts.truncated.length > 0) wrong.push('the channel told of a truncation');
  } else if (events.includes('end')) {
    wrong.push(`'end' behind ${facts.text}`);
  }
  if (facts.text !== text && !lossy) wrong.push(`read ${JSON.stringify(facts.text)}`);
  return wrong;
}

// ---- what else he can do to the end of an answer, all of it delivered in one segment

/** Of the records of an answer: three of data, and close_notify. */
const TAMPERS: Readonly<Record<string, (records: Buffer[]) => Buffer[]>> = {
  'close_notify dropped': ([a, b, c]) => [a!, b!, c!],
  'the last two dropped': ([a, b]) => [a!, b!],
  'all but the first dropped': ([a]) => [a!],
  'a record dropped from the middle': ([a, , c, d]) => [a!, c!, d!],
  'data and close_notify swapped': ([a, b, c, d]) => [a!, b!, d!, c!],
  'close_notify put first': ([a, b, c, d]) => [d!, a!, b!, c!],
  'data repeated': ([a, b, , d]) => [a!, b!, b!, d!],
  'a bit of close_notify flipped': ([a, b, c, d]) => [a!, b!, c!, flip(d!)],
  'a bit of the data before it flipped': ([a, b, c, d]) => [a!, b!, flip(c!), d!],
  'close_notify cut short': ([a, b, c, d]) => [a!, b!, c!, d!.subarray(0, -1)],
  'close_notify in the clear in place of it': ([a, b, c]) => [
    ...[a!, b!, c!],
    plaintext(21, Buffer.of(1, 0)),
  ],
  'close_notify in the clear in front of it': ([a, b, c, d]) => [
    ...[a!, b!, c!],
    plaintext(21, Buffer.of(1, 0)),
    d!,
  ],
  'a fatal alert in the clear in place of it': ([a, b, c]) => [
    ...[a!, b!, c!],
    plaintext(21, Buffer.of(2, 80)),
  ],
  'its type changed to alert': ([a, b, c, d]) => [a!, b!, Buffer.from(c!).fill(21, 0, 1), d!],
  'an empty record of no type in front of it': ([a, b, c, d]) => [
    ...[a!, b!, c!],
    plaintext(0, Buffer.alloc(0)),
    d!,
  ],
};

for (const version of VERSIONS) {
  for (const side of ['a client', 'strictServer'] as const) {
    for (const act of ['nothing', 'end()', 'pause(), resume() later']) {
      add<Array<Told & { readonly tamper: string }>>(
        `${side}, ${version}, ${act}: the tail of what the peer says is tampered with`,
        async (env) => {
          const all: Array<Told & { readonly tamper: string }> = [];
          for (const tamper of Object.keys(TAMPERS)) {
            const one = await tampered(env, version, side, tamper, ACTS[act]!);
            all.push({ ...one, tamper });
          }
          return all;
        },
        (all) =>
          all.flatMap((facts) => {
            const { events, received, verdict, tamper } = facts;
            const wrong: string[] = [];
            if (facts.hangs !== null) wrong.push(`never closed: ${facts.hangs}`);
            if (events.includes('end')) wrong.push("'end'");
            if (!events.some((one) => one.startsWith('error ')))
              wrong.push(`no 'error': ${events}`);
            if (received !== null) wrong.push('received claims a close_notify');
            if (verdict !== 'truncated' && verdict !== 'alert') wrong.push(`verdict ${verdict}`);
            return wrong.map((what) => `${tamper}: ${what}`);
          }),
      );
    }
  }
}

async function tampered(
  env: Env,
  version: Version,
  side: 'a client' | 'strictServer',
  tamper: string,
  go: (socket: tls.TLSSocket) => void,
): Promise<Told> {
  const strictIsServer = side === 'strictServer';
  const peer: Sender = strictIsServer ? 'client' : 'server';
  const plain = tls.createServer({
    ...env.identity,
    ...{ minVersion: version, maxVersion: version, allowHalfOpen: true, noDelay: true },
  });
  const server = strictIsServer ? env.lib.strictServer(plain) : plain;
  const accepted = once(server, 'secureConnection') as Promise<[tls.TLSSocket]>;
  const { port } = await env.listen(server);
  let kept: Buffer[] | null = null;
  const keep: Tamper = (sender, record) => {
    if (sender !== peer || kept === null) return record;
    kept.push(record);
    return null;
  };
  const relay = await Relay.to(env, port, keep);
  const options = {
    ...{ port: relay.port, host: '127.0.0.1', rejectUnauthorized: false, allowHalfOpen: true },
  };
  const client = strictIsServer ? tls.connect(options) : env.lib.secureSocket(options);
  client.setNoDelay(true);
  client.on('error', () => {});
  const link = await relay.link();
  client.on('keylog', (line) => link.addKeyLog(line));
  const [, [served]] = await Promise.all([once(client, 'secureConnect'), accepted]);
  served.on('error', () => {});
  const [strict, other] = strictIsServer ? [served, client] : [client, served];
  env.defer(() => other.destroy());
  const watch = new Watch(env, strict);
  let acted = false;
  strict.on('data', (chunk) => {
    watch.took(chunk);
    if (acted) return;
    acted = true;
    go(strict);
  });
  strict.on('end', () => strict.end());
  other.resume();
  // Tickets are out of the way.
  await turns(8);
  kept = [];
  const records = kept as Buffer[];
  for (const text of ['one ', 'two ', 'three ']) {
    const before = records.length;
    other.write(text);
    await until(() => records.length > before);
  }
  other.end();
  await until(() => records.length === 4);
  link.hold(peer);
  await turns(2);
  // What is kept goes out as it was changed, and FIN with it.
  link.inject(peer, Buffer.concat(TAMPERS[tamper]!(records)));
  const facts = await watch.over();
  return told(watch, facts, link, peer);
}
