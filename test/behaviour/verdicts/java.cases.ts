/**
 * JSSE as server and as client. In TLS 1.3 its close() sends user_canceled and then close_notify, each
 * padded; OpenSSL 3.5 (Node 22 and later) ignores what follows user_canceled, and Node then says nothing
 * until FIN.
 *
 * RFC 9846 section 6.1: "user_canceled: This alert notifies the recipient that the sender is canceling the
 * handshake for some reason unrelated to a protocol failure. [...] This alert SHOULD be followed by a
 * 'close_notify'." And: "Any data received after a closure alert has been received MUST be ignored."
 */
import { once } from 'node:events';
import https from 'node:https';
import net from 'node:net';
import tls from 'node:tls';
import undici from 'undici';
import { family } from './case.ts';
import { AS_REGISTERED, duplexOver, type Facts, turns, until, Watch } from './env.ts';
import { type Link, Relay } from './record-relay.ts';
import type { Sender } from './wire-reader.ts';

const { cases, addRows } = family();

export { cases };

const VERSIONS = ['TLSv1.2', 'TLSv1.3'] as const;
const HOW = ['close', 'half', 'cut'] as const;

interface Told extends Facts {
  readonly text: string;
  /** 'end' or an error, for those who ask by HTTP. */
  readonly outcome: string;
  /** Alerts that reached us, and that left us. */
  readonly came: readonly string[];
  readonly went: readonly string[];
}

/** Asks the JVM for something: one line, one answer. */
async function ask(line: string): Promise<string> {
  const control = net.connect(Number(process.env['VERDICTS_JAVA']), '127.0.0.1');
  control.write(`${line}\n`);
  let answer = '';
  for await (const chunk of control) answer += chunk;
  return answer.trim();
}

const alerts = (link: Link, sender: Sender): string[] =>
  link.passed[sender].flatMap((one) =>
    one.kind === 'alert' && one.protectedBy === 'traffic'
      ? [`${one.level}/${one.description}`]
      : [],
  );

function judge(facts: Told, how: string): string[] {
  const wrong: string[] = [];
  const { came, went, received, verdict, truncated } = facts;
  if (facts.hangs !== null) wrong.push(`never closed: ${facts.hangs}`);
  if (how === 'cut') {
    if (came.length > 0) wrong.push(`${came} came`);
    if (received !== null) wrong.push('received claims a close_notify');
    if (verdict !== 'truncated') wrong.push(`the verdict is ${verdict}`);
    return wrong;
  }
  if (came.at(-1) !== '1/0') wrong.push(`${came} came`);
  if (received === null) wrong.push('received lacks the close_notify');
  if (truncated.length > 0) wrong.push('the channel told of a truncation');
  const verdicts = went.includes('1/0') ? ['secure'] : ['one-sided', 'aborted'];
  if (!verdicts.includes(String(verdict))) wrong.push(`${went} went, the verdict is ${verdict}`);
  return wrong;
}

// ---- JSSE as a server

const PLAIN = ['tcp', 'duplex', 'register'] as const;
const HTTP = ['StrictAgent', 'strictConnector'] as const;

const SERVER_ROWS = [...PLAIN, ...HTTP].flatMap((face) =>
  HOW.flatMap((how) =>
    // Together or apart: behind a man in the middle who waits, or on the wire as it is.
    ['as it comes', 'in one segment'].map((delivery) => ({
      ...{ face, how, hold: delivery === 'in one segment' },
      row: `${face}, ${how}, ${delivery}`,
    })),
  ),
);

for (const version of VERSIONS) {
  addRows(
    `JSSE as a server, ${version}`,
    SERVER_ROWS,
    async (env, { face, how, hold }): Promise<Told> => {
      const port = Number(await ask(`serve ${version} ${how}`));
      const relay = await Relay.to(env, port);
      const target = { port: relay.port, host: '127.0.0.1', rejectUnauthorized: false };
      let watch: Watch | null = null;
      let outcome = '';
      const adopt = (socket: tls.TLSSocket) => {
        watch = new Watch(env, socket);
        socket.on('keylog', (line) => relay.links[0]?.addKeyLog(line));
      };
      const plain = face === 'tcp' || face === 'duplex' || face === 'register';
      if (plain) {
        const raw = face === 'duplex' ? net.connect({ ...target, allowHalfOpen: true }) : null;
        const socket =
          face === 'register'
            ? tls.connect({ ...target, ...AS_REGISTERED })
            : env.lib.secureSocket(raw === null ? target : { ...target, socket: duplexOver(raw) });
        adopt(socket);
        const made = watch as unknown as Watch;
        socket.on('data', (chunk) => made.took(chunk));
        // Who keeps its side open ends it when it has read all.
        socket.on('end', () => socket.end());
        await once(socket, 'secureConnect');
        if (hold) relay.links[0]!.hold('server');
        socket.write('GET / HTTP/1.1\r\n\r\n');
      } else if (face === 'StrictAgent') {
        const agent = new env.https.StrictAgent({ rejectUnauthorized: false });
        env.defer(() => agent.destroy());
        const request = https.get({ ...target, agent }, (response) => {
          response.on('data', (chunk) => (watch as unknown as Watch).took(chunk));
          response.on('end', () => {
            outcome = 'end';
          });
          response.on('error', (error: NodeJS.ErrnoException) => {
            outcome = `error ${error.code}`;
          });
        });
        request.on('error', (error: NodeJS.ErrnoException) => {
          outcome = `request error ${error.code}`;
        });
        request.on('socket', (socket) => {
          adopt(socket as tls.TLSSocket);
          socket.once('secureConnect', () => {
            if (hold) relay.links[0]!.hold('server');
          });
        });
      } else {
        const connect = env.undici.strictConnector({ rejectUnauthorized: false });
        const dispatcher = new undici.Agent({
          connect: ((options: never, callback: (...args: unknown[]) => void) =>
            connect(options, (...args) => {
              if (args[1] !== null) adopt(args[1] as tls.TLSSocket);
              if (hold) relay.links[0]!.hold('server');
              callback(...args);
            })) as never,
        });
        env.defer(() => dispatcher.destroy());
        undici
          .request(`https://127.0.0.1:${relay.port}/`, { dispatcher })
          .then(async ({ body }) => {
            for await (const chunk of body) (watch as unknown as Watch).took(chunk);
            outcome = 'end';
          })
          .catch((error: NodeJS.ErrnoException) => {
            outcome = `error ${error.code}`;
          });
      }
      const link = await relay.link();
      if (hold) {
        // A half-closed server waits for our end: it is held back no longer than its own.
        await until(() => link.ended('server') || link.heldBack('server') > 90);
        await turns(10);
        link.release('server');
      }
      await until(() => watch !== null);
      const facts = await (watch as unknown as Watch).over();
      await until(() => plain || outcome !== '');
      await turns(4);
      return {
        ...{ ...facts, outcome, text: (watch as unknown as Watch).text },
        ...{ came: alerts(link, 'server'), went: alerts(link, 'client') },
      };
    },
    (facts, { face, how }) => {
      const wrong: string[] = [];
      const { events, outcome, text } = facts;
      const isHttp = face === 'StrictAgent' || face === 'strictConnector';
      // undici's sockets give no key log behind their handshake: what crossed is not known there.
      if (face !== 'strictConnector') wrong.push(...judge(facts, how));
      else if ((facts.received === null) !== (how === 'cut')) {
        wrong.push(`received is ${facts.received}`);
      }
      if (!text.endsWith('hello')) wrong.push(`read ${JSON.stringify(text)}`);
      // What undici destroys its socket with is its own affair.
      const told = isHttp ? outcome : events.join(', ');
      const ended = /\bend\b/.test(told);
      if (how === 'cut') {
        if (ended) wrong.push(`'end': ${told}`);
        // A kernel that is closed with bytes unread resets.
        if (!/ERR_TLS_TRUNCATED|ECONNRESET/.test(told))
          wrong.push(`not ERR_TLS_TRUNCATED: ${told}`);
      } else if (!ended || told.includes('error')) wrong.push(`no 'end': ${told}`);
      return wrong;
    },
  );
}

// ---- JSSE as a client

for (const version of VERSIONS) {
  addRows(
    `JSSE as a client of strictServer, ${version}`,
    HOW.flatMap((how) =>
      ['tls', 'https'].flatMap((kind) =>
        ['as it comes', 'in one segment'].map((delivery) => ({
          ...{ how, kind, hold: delivery === 'in one segment' },
          row: `${kind}, ${how}, ${delivery}`,
        })),
      ),
    ),
    async (env, { how, kind, hold }): Promise<Told & { readonly said: string }> => {
      const plain: tls.Server =
        kind === 'tls'
          ? tls.createServer(env.identity)
          : // Its upload is no HTTP, and that is refused.
            https.createServer(env.identity);
      const server = env.lib.strictServer(plain);
      let watch: Watch | null = null;
      server.on('clientError', (_error: Error, socket: net.Socket) => socket.end());
      server.on('secureConnection', (socket) => {
        watch = new Watch(env, socket);
        if (kind === 'tls') socket.on('data', (chunk) => watch!.took(chunk));
      });
      const { port } = await env.listen(server);
      const relay = await Relay.to(env, port);
      server.on('keylog', (line) => {
        for (const link of relay.links) link.addKeyLog(line);
      });
      const said = ask(`connect ${version} ${how} ${relay.port}`);
      const link = await relay.link();
      await until(() => watch !== null);
      if (hold) {
        link.hold('client');
        await until(() => link.ended('client') || link.heldBack('client') > 40);
        await turns(10);
        link.release('client');
      }
      const made = watch as unknown as Watch;
      const facts = await made.over();
      await turns(4);
      return {
        ...{ ...facts, outcome: '', text: made.text, said: await said },
        ...{ came: alerts(link, 'client'), went: alerts(link, 'server') },
      };
    },
    (facts, { how, kind }) => {
      const { events, text } = facts;
      const wrong: string[] = [];
      if (facts.hangs !== null) wrong.push(`never closed: ${facts.hangs}`);
      // A server that has refused what came does not wait for the end of it.
      if (kind === 'https') {
        if (facts.received !== null && how === 'cut') wrong.push('received claims a close_notify');
        return wrong;
      }
      wrong.push(...judge(facts, how));
      if (text !== 'hello') wrong.push(`read ${JSON.stringify(text)}`);
      if (how === 'cut') {
        if (events.includes('end')) wrong.push(`'end': ${events}`);
        if (!/ERR_TLS_TRUNCATED|ECONNRESET/.test(events.join())) wrong.push(`told ${events}`);
      } else if (!events.includes('end') || events.some((one) => one.startsWith('error'))) {
        wrong.push(`no 'end': ${events}`);
      }
      return wrong;
    },
  );
}
