/**
 * A write that fails while an answer is there already. A server that refuses an upload answers, closes
 * properly, and its kernel then resets what we go on to write; the answer is in our own kernel by then.
 *
 * RFC 9112 section 9.6: "If a server performs an immediate close of a TCP connection, there is a
 * significant risk that the client will not be able to read the last HTTP response." What has arrived can
 * be read all the same, and is to be, before the failure is told.
 */
import { once } from 'node:events';
import https from 'node:https';
import net from 'node:net';
import { Readable } from 'node:stream';
import type tls from 'node:tls';
import undici from 'undici';
import { family } from './case.ts';
import { CraftedPeer } from './crafted-peer.ts';
import { FACES, type Facts, turns, until, Watch } from './env.ts';

const { cases, addRows } = family();

export { cases };

const VERSIONS = ['TLSv1.2', 'TLSv1.3'] as const;

/** What the peer says, and how its transport goes: all of it is in our kernel before we write on. */
const ENDINGS = {
  'answers, close_notify, RST': {
    closes: true,
    play(peer: CraftedPeer, answer: Buffer) {
      peer.send(answer, peer.closeNotify());
      peer.reset();
    },
  },
  'answers, close_notify, FIN, and is gone': {
    closes: true,
    play(peer: CraftedPeer, answer: Buffer) {
      peer.fin(answer, peer.closeNotify());
      peer.wire.destroy();
    },
  },
  'answers, RST': {
    closes: false,
    play(peer: CraftedPeer, answer: Buffer) {
      peer.send(answer);
      peer.reset();
    },
  },
  'answers, FIN, and is gone': {
    closes: false,
    play(peer: CraftedPeer, answer: Buffer) {
      peer.fin(answer);
      peer.wire.destroy();
    },
  },
} as const;
type EndingName = keyof typeof ENDINGS;

/** How a program writes on. */
const WRITES: Readonly<Record<string, (socket: tls.TLSSocket) => unknown>> = {
  'one write': (socket) => socket.write('more'),
  'three writes': (socket) => {
    for (let i = 0; i < 3; i++) socket.write('more');
  },
  'writes, turn by turn': async (socket) => {
    for (let i = 0; i < 8 && socket.writable; i++) {
      socket.write('more');
      await turns(1);
    }
  },
  'a large write': (socket) => socket.write(Buffer.alloc(4_000_000)),
  'end(data)': (socket) => socket.end('the last'),
  'a write and end()': (socket) => {
    socket.write('more');
    socket.end();
  },
};

interface Told extends Facts {
  readonly text: string;
}

for (const version of VERSIONS) {
  for (const face of FACES) {
    addRows(
      `${face}, ${version}: it writes on when the peer has gone`,
      (Object.keys(ENDINGS) as EndingName[])
        // A reset exists on TCP alone.
        .filter((ending) => face !== 'unix' || !ending.endsWith('RST'))
        .flatMap((ending) =>
          Object.entries(WRITES).flatMap(([writes, write]) =>
            (['data', 'readable', 'data, another write in flight'] as const)
              .filter((reads) => !reads.endsWith('flight') || /^(one|a large) write$/.test(writes))
              .map((reads) => ({ ending, write, reads, row: `${ending}; ${writes}; ${reads}` })),
          ),
        ),
      async (env, { ending, write, reads }): Promise<Told> => {
        let watch: Watch | null = null;
        const peer = await env.open({ face, version, allowHalfOpen: true }, (socket) => {
          watch = new Watch(env, socket);
          if (reads !== 'readable') socket.on('data', (chunk) => watch!.took(chunk));
          else {
            socket.on('readable', () => {
              for (let chunk = socket.read(); chunk !== null; chunk = socket.read()) {
                watch!.took(chunk);
              }
            });
          }
          socket.on('end', () => socket.end());
        });
        await peer.ready;
        await until(() => watch !== null);
        const made = watch as unknown as Watch;
        if (reads.endsWith('in flight')) {
          // More than the kernel takes, and nobody reads it.
          peer.wire.pause();
          made.socket.write(Buffer.alloc(8_000_000));
          await turns(4);
        }
        ENDINGS[ending].play(peer, peer.data('the answer'));
        // Ours are still on their way to the peer's kernel.
        if (ending.endsWith('gone')) await turns(0);
        void write(made.socket);
        const facts = await made.over();
        return { ...facts, text: made.text };
      },
      (facts, { ending }) => judge(facts, ENDINGS[ending].closes, face.endsWith('duplex')),
    );
  }
}

/** @param passes whether somebody else's Duplex passes the bytes on, and may drop them when it fails. */
function judge(facts: Told, closes: boolean, passes: boolean): string[] {
  const { events, text, received, verdict, truncated } = facts;
  const wrong: string[] = [];
  const told = events.join(', ');
  if (facts.hangs !== null) wrong.push(`never closed: ${facts.hangs}`);
  if (text !== 'the answer' && !(passes && text === '')) wrong.push(`read ${JSON.stringify(text)}`);
  if (closes && text !== '') {
    if (!events.includes('end')) wrong.push(`no 'end': ${told}`);
    if (received === null) wrong.push(`received lacks the close_notify; the verdict is ${verdict}`);
    // The write may be told of, behind it.
    const [end, error] = ['end', 'error'].map((kind) =>
      events.findIndex((one) => one.startsWith(kind)),
    ) as [number, number];
    if (error >= 0 && error < end) wrong.push(`an error before 'end': ${told}`);
    if (truncated.length > 0) wrong.push('the channel told of a truncation');
  } else {
    if (events.includes('end')) wrong.push(`'end': ${told}`);
    if (!events.some((one) => one.startsWith('error '))) wrong.push(`no error: ${told}`);
    if (received !== null) wrong.push('received claims a close_notify');
    if (verdict !== 'truncated') wrong.push(`the verdict is ${verdict}`);
  }
  return wrong;
}

// ---- by HTTP

const ANSWER = 'HTTP/1.1 413 Content Too Large\r\n';
const FRAMINGS = {
  'Content-Length': `${ANSWER}connection: close\r\ncontent-length: 5\r\n\r\nno!!!`,
  'to the end': `${ANSWER}connection: close\r\n\r\nno!!!`,
} as const;

for (const version of VERSIONS) {
  for (const client of ['StrictAgent', 'strictConnector'] as const) {
    addRows(
      `${client}, ${version}: an upload is refused and reset`,
      (Object.keys(ENDINGS) as EndingName[]).flatMap((ending) =>
        (Object.keys(FRAMINGS) as Array<keyof typeof FRAMINGS>).map((framing) => ({
          ...{ ending, framing },
          row: `${ending}, ${framing}`,
        })),
      ),
      async (env, { ending, framing }): Promise<Told & { readonly outcome: string }> => {
        const server = net.createServer({ allowHalfOpen: true });
        const { port } = await env.listen(server);
        const connected = once(server, 'connection') as Promise<[net.Socket]>;
        let outcome = '';
        let text = '';
        let watch: Watch | null = null;
        let over = false;
        let more = () => {};
        if (client === 'StrictAgent') {
          const agent = new env.https.StrictAgent({ rejectUnauthorized: false });
          env.defer(() => agent.destroy());
          const request = https.request(
            { host: '127.0.0.1', port, agent, method: 'POST' },
            (response) => {
              response.on('data', (chunk) => {
                text += chunk;
              });
              response.on('end', () => {
                outcome += 'end ';
              });
              response.on('error', (error: NodeJS.ErrnoException) => {
                outcome += `error ${error.code} `;
              });
              response.on('close', () => {
                over = true;
              });
            },
          );
          request.on('socket', (socket) => {
            watch = new Watch(env, socket as tls.TLSSocket);
          });
          request.on('error', (error: NodeJS.ErrnoException) => {
            outcome += `request error ${error.code} `;
            setImmediate(() => {
              over = true;
            });
          });
          request.write('upload');
          more = () => {
            for (let i = 0; i < 3; i++) request.write('more of it');
          };
        } else {
          const connect = env.undici.strictConnector({ rejectUnauthorized: false });
          const dispatcher = new undici.Agent({
            connect: ((options: never, callback: (...args: unknown[]) => void) =>
              connect(options, (...args) => {
                if (args[1] !== null) watch = new Watch(env, args[1] as tls.TLSSocket);
                callback(...args);
              })) as never,
          });
          env.defer(() => dispatcher.destroy());
          const body = new Readable({ read() {} });
          body.on('error', () => {});
          body.push('upload');
          more = () => {
            for (let i = 0; i < 3; i++) body.push('more of it');
          };
          undici
            .request(`https://127.0.0.1:${port}/`, { dispatcher, method: 'POST', body })
            .then(async (response) => {
              for await (const chunk of response.body) text += chunk;
              outcome += 'end';
            })
            .catch((error: NodeJS.ErrnoException) => {
              outcome += `error ${error.code}`;
            })
            .finally(() => {
              over = true;
            });
        }
        const [wire] = await connected;
        const peer = new CraftedPeer(wire, { role: 'server', version, identity: env.identity });
        env.defer(() => peer.destroy());
        await peer.ready;
        await peer.until(() => peer.received.includes('upload'));
        ENDINGS[ending].play(peer, peer.data(FRAMINGS[framing]));
        more();
        await until(() => over);
        const facts = await (watch as unknown as Watch).over();
        return { ...facts, text, outcome };
      },
      ({ outcome, text, ...facts }, { ending, framing }) => {
        const wrong: string[] = [];
        if (facts.hangs !== null) wrong.push(`never closed: ${facts.hangs}`);
        const { closes } = ENDINGS[ending];
        if (!closes && facts.received !== null) wrong.push('received claims a close_notify');
        if (closes || framing === 'Content-Length') {
          if (!/^end\b/.test(outcome) || text !== 'no!!!') wrong.push(`${text}: ${outcome}`);
        } else if (/\bend\b/.test(outcome) || !outcome.includes('error')) {
          wrong.push(`${text}: ${outcome}`);
        }
        return wrong;
      },
    );
  }
}
