/**
 * Failures that are not the peer's: a write that nobody would ever hear of, errors of files, a program's own
 * errors; and alerts in the clear that end nothing.
 */
import { once } from 'node:events';
import { createReadStream, createWriteStream, existsSync } from 'node:fs';
import https from 'node:https';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { pipeline } from 'node:stream';
import type tls from 'node:tls';
import { family } from './case.ts';
import { CraftedPeer } from './crafted-peer.ts';
import { AS_REGISTERED, type Env, type Face, type Facts, turns, until, Watch } from './env.ts';

const { cases, addRows } = family();

export { cases };

const VERSIONS = ['TLSv1.2', 'TLSv1.3'] as const;
type Version = (typeof VERSIONS)[number];

async function opened(
  env: Env,
  face: Face,
  version: Version,
  allowHalfOpen: boolean,
  program: (watch: Watch) => void,
): Promise<{ readonly peer: CraftedPeer; readonly watch: Watch }> {
  let watch: Watch | null = null;
  const peer = await env.open({ face, version, allowHalfOpen }, (socket) => {
    watch = new Watch(env, socket);
    program(watch);
  });
  await peer.ready;
  await until(() => watch !== null);
  await turns(4);
  return { peer, watch: watch as unknown as Watch };
}

const failed = ({ events }: Facts): boolean => events.some((one) => one.startsWith('error '));

// ---- whoever waits for a write hears of it

const GONE: Readonly<Record<string, (peer: CraftedPeer) => void>> = {
  RST: (peer) => peer.reset(),
  'close_notify, RST': (peer) => {
    peer.send(peer.closeNotify());
    peer.reset();
  },
  'data, close_notify, RST': (peer) => {
    peer.send(peer.data('more'), peer.closeNotify());
    peer.reset();
  },
};

/** What waits for a write; `gone` is fulfilled in the very turn in which the peer has gone. */
const WAITING: Readonly<
  Record<string, (socket: tls.TLSSocket, gone: Promise<void>) => Promise<unknown>>
> = {
  'an iterator whose body writes': async (socket, gone) => {
    for await (const _ of socket) {
      await gone;
      await written(socket);
      await written(socket);
    }
  },
  'who reads once, and writes': async (socket, gone) => {
    await once(socket, 'readable');
    socket.read();
    await gone;
    await written(socket);
    await written(socket);
  },
  "'data', which is paused before": async (socket, gone) => {
    socket.on('data', () => socket.pause());
    await gone;
    await written(socket);
    await written(socket);
  },
  "'data', which is paused behind": async (socket, gone) => {
    socket.resume();
    await gone;
    const first = written(socket);
    socket.pause();
    await first;
    await written(socket);
  },
};

const written = (socket: tls.TLSSocket): Promise<void> =>
  new Promise((resolve, reject) => {
    socket.write('x', (error) => (error ? reject(error) : resolve()));
  });

for (const version of VERSIONS) {
  for (const face of ['tcp', 'register', 'server'] as const) {
    addRows(
      `${face}, ${version}: a program waits for a write that fails`,
      Object.entries(GONE).flatMap(([ending, go]) =>
        Object.entries(WAITING).map(([who, wait]) => ({ row: `${who}; ${ending}`, go, wait })),
      ),
      async (env, { go, wait }): Promise<Facts & { readonly heard: string | null }> => {
        let heard: string | null = null;
        let left = () => {};
        const gone = new Promise<void>((resolve) => {
          left = resolve;
        });
        const { peer, watch } = await opened(env, face, version, true, ({ socket }) => {
          wait(socket, gone).then(
            () => {
              heard = 'nothing';
            },
            (error: NodeJS.ErrnoException) => {
              heard = `error ${error.code}`;
            },
          );
        });
        peer.send(peer.data('hello'));
        await until(() => watch.socket.bytesRead > 0);
        await turns(4);
        go(peer);
        left();
        await until(() => heard !== null);
        const facts = await watch.over();
        return { ...facts, heard };
      },
      (facts, { row }) => [
        ...(facts.heard?.startsWith('error ') ? [] : [`its write heard ${facts.heard}`]),
        ...(facts.hangs === null ? [] : [`never closed: ${facts.hangs}`]),
        ...(failed(facts) ? [] : [`no error: ${facts.events}`]),
        ...(row.includes('close_notify') || facts.received === null
          ? []
          : ['close_notify claimed']),
      ],
    );
  }
}

// Without `onread` a socket goes on reading until it holds what it may.
for (const version of VERSIONS) {
  addRows(
    `tcp, ${version}: a socket that reads no more, and waits for a write that fails`,
    Object.entries(GONE).map(([row, go]) => ({ row, go })),
    async (env, { go }): Promise<Facts & { readonly heard: string | null }> => {
      let watch: Watch | null = null;
      const onread = { buffer: Buffer.alloc(1_000), callback: () => true };
      const peer = await env.open({ face: 'tcp', version, socket: { onread } }, (socket) => {
        watch = new Watch(env, socket);
        socket.resume();
      });
      await peer.ready;
      const made = watch as unknown as Watch;
      await until(() => made.socket.getProtocol() !== null);
      await turns(6);
      go(peer);
      let heard: string | null = null;
      made.socket.write('x', (error) => {
        heard = error ? 'error' : 'nothing';
      });
      made.socket.pause();
      await until(() => heard !== null);
      return { ...(await made.over()), heard };
    },
    (facts) => [
      ...(facts.heard === 'error' ? [] : [`its write heard ${facts.heard}`]),
      ...(facts.hangs === null && failed(facts) ? [] : [`${facts.events}; ${facts.hangs}`]),
    ],
  );
}

// ---- errors of files

const FILES: Readonly<
  Record<string, { readonly code: string; pipe(socket: tls.TLSSocket): void }>
> = {
  'a directory that is sent': {
    code: 'EISDIR',
    pipe(socket) {
      socket.resume();
      pipeline(createReadStream(tmpdir()), socket, () => {});
    },
  },
  'a device that is full': {
    code: 'ENOSPC',
    pipe(socket) {
      // A pipeline destroys what it reads from without an error.
      const file = createWriteStream('/dev/full');
      file.on('error', (error) => socket.destroy(error));
      socket.pipe(file);
    },
  },
};

for (const version of VERSIONS) {
  for (const face of ['tcp', 'unix', 'duplex', 'server'] as const) {
    addRows(
      `${face}, ${version}: an error of a file is not the transport's`,
      Object.entries(FILES)
        .filter(([, { code }]) => code !== 'ENOSPC' || existsSync('/dev/full'))
        .map(([row, file]) => ({ row, ...file })),
      async (env, { pipe }): Promise<Facts> => {
        const { peer, watch } = await opened(env, face, version, false, () => {});
        pipe(watch.socket);
        peer.send(peer.data('hello'));
        return watch.over();
      },
      (facts, { code }) => [
        ...(facts.events.join() === `error ${code},close` ? [] : [`told ${facts.events}`]),
        ...(facts.verdict === 'aborted' ? [] : [`the verdict is ${facts.verdict}`]),
        ...(facts.truncated.length === 0 ? [] : ['the channel told of a truncation']),
        ...(facts.hangs === null ? [] : [`never closed: ${facts.hangs}`]),
      ],
    );
  }
}

// ---- bytes of our own that are lost behind the peer's close_notify

const LAST: Readonly<
  Record<string, { readonly allowHalfOpen: boolean; write(socket: tls.TLSSocket): unknown }>
> = {
  'end(data)': { allowHalfOpen: true, write: (socket) => socket.end('the last') },
  'a write, and end()': {
    allowHalfOpen: true,
    write(socket) {
      socket.write('the last');
      socket.end();
    },
  },
  'a write, in a socket that Node ends': {
    allowHalfOpen: false,
    write: (socket) => socket.write('the last'),
  },
};

for (const version of VERSIONS) {
  for (const face of ['tcp', 'unix', 'register', 'server'] as const) {
    addRows(
      `${face}, ${version}: it writes when it has heard the end, and the peer has gone`,
      Object.entries(LAST).map(([row, one]) => ({ row, ...one })),
      async (env, { allowHalfOpen, write }): Promise<Facts> => {
        const { peer, watch } = await opened(env, face, version, allowHalfOpen, ({ socket }) => {
          socket.on('data', () => {});
          socket.prependListener('end', () => write(socket));
        });
        peer.send(peer.data('hello'), peer.closeNotify());
        if (face === 'unix') peer.wire.destroy();
        else peer.reset();
        return watch.over();
      },
      (facts) => [
        ...(facts.events[0] === 'end' && failed(facts) ? [] : [`told ${facts.events}`]),
        ...(facts.received === null ? ['received lacks the close_notify'] : []),
        ...(facts.hangs === null ? [] : [`never closed: ${facts.hangs}`]),
      ],
    );
  }
}

// ---- warnings in the clear, before the version is known

const WARNINGS = { unrecognized_name: 112, user_canceled: 90 } as const;

const ENDINGS: Readonly<
  Record<string, { readonly closes: boolean; play(peer: CraftedPeer): void }>
> = {
  'close_notify, FIN': {
    closes: true,
    play: (peer) => peer.fin(peer.data('hello'), peer.closeNotify()),
  },
  'close_notify, no FIN': {
    closes: true,
    play: (peer) => peer.send(peer.data('hello'), peer.closeNotify()),
  },
  FIN: { closes: false, play: (peer) => peer.fin(peer.data('hello')) },
};

for (const version of VERSIONS) {
  for (const face of ['tcp', 'duplex'] as const) {
    addRows(
      `${face}, ${version}: a warning in front of ServerHello`,
      Object.entries(WARNINGS).flatMap(([name, description]) =>
        Object.entries(ENDINGS).map(([ending, one]) => ({
          ...{ ...one, description },
          row: `${name}; ${ending}`,
        })),
      ),
      async (env, { description, play }): Promise<Facts & { readonly text: string }> => {
        const server = net.createServer({ allowHalfOpen: true });
        const { port } = await env.listen(server);
        const connected = once(server, 'connection') as Promise<[net.Socket]>;
        const target = { port, host: '127.0.0.1' };
        const socket =
          face === 'tcp'
            ? env.lib.secureSocket({ ...target, rejectUnauthorized: false })
            : env.duplexSocket(target);
        const watch = new Watch(env, socket);
        socket.on('data', (chunk) => watch.took(chunk));
        const [wire] = await connected;
        wire.write(Buffer.of(21, 3, 3, 0, 2, 1, description));
        const peer = new CraftedPeer(wire, { role: 'server', version, identity: env.identity });
        env.defer(() => peer.destroy());
        await peer.ready;
        play(peer);
        const facts = await watch.over();
        return { ...facts, text: watch.text };
      },
      (facts, { closes }) => {
        const wrong: string[] = [];
        const told = `${facts.events}; ${facts.verdict}`;
        if (facts.text !== 'hello') wrong.push(`read ${facts.text}; ${told}`);
        if (facts.hangs !== null) wrong.push(`never closed: ${facts.hangs}`);
        if (closes) {
          if (facts.events.join() !== 'end,close' || facts.verdict !== 'secure') wrong.push(told);
          if (facts.received === null) wrong.push('received lacks the close_notify');
        } else if (facts.events[0] !== 'error ERR_TLS_TRUNCATED' || facts.verdict !== 'truncated') {
          wrong.push(told);
        }
        return wrong;
      },
    );
  }
}

// ---- a body that only the connection's end completes, and a program that does not want it any more

interface Exchange {
  readonly told: readonly string[];
  readonly complete: boolean;
  readonly text: string;
  readonly facts: Facts;
}

const QUITS: Readonly<
  Record<string, (request: ReturnType<typeof https.get>, response: NodeJS.ReadableStream) => void>
> = {
  'request.destroy(error)': (request) => request.destroy(new Error('enough')),
  'socket.destroy(error)': (request) => request.socket?.destroy(new Error('enough')),
  'its timeout': (request) => {
    request.on('timeout', () => request.destroy(new Error('too late')));
    request.setTimeout(1);
  },
};

for (const version of VERSIONS) {
  for (const client of ['StrictAgent', 'register'] as const) {
    addRows(
      `${client}, ${version}: a body without a length, and a program that gives it up`,
      Object.entries(QUITS).map(([row, quit]) => ({ row, quit })),
      async (env, { quit }): Promise<Exchange> => {
        const server = net.createServer({ allowHalfOpen: true });
        const { port } = await env.listen(server);
        const connected = once(server, 'connection') as Promise<[net.Socket]>;
        const common = { rejectUnauthorized: false };
        const agent =
          client === 'StrictAgent' ? new env.https.StrictAgent(common) : new https.Agent(common);
        env.defer(() => agent.destroy());
        const told: string[] = [];
        let text = '';
        let over = false;
        let complete = (): boolean => false;
        let watch: Watch | null = null;
        const request = https.get({ port, agent, ...AS_REGISTERED }, (response) => {
          complete = () => response.complete;
          response.on('data', (chunk) => {
            text += chunk;
            setImmediate(quit, request, response);
          });
          response.on('end', () => told.push('end'));
          response.on('error', (error: NodeJS.ErrnoException) => told.push(`error ${error.code}`));
          response.on('close', () => {
            over = true;
          });
        });
        request.on('socket', (socket) => {
          watch = new Watch(env, socket as tls.TLSSocket);
        });
        request.on('error', () => {});
        const [wire] = await connected;
        const peer = new CraftedPeer(wire, { role: 'server', version, identity: env.identity });
        env.defer(() => peer.destroy());
        await peer.ready;
        await peer.until(() => peer.received.includes('\r\n\r\n'));
        peer.send(peer.data('HTTP/1.1 200 OK\r\n\r\nhalf of it'));
        await until(() => over);
        const facts = await (watch as unknown as Watch).over();
        return { told, text, complete: complete(), facts };
      },
      ({ told, text, complete, facts }) => [
        ...(text === 'half of it' ? [] : [`read ${text}`]),
        ...(told.includes('end') || complete ? [`told ${told}; complete ${complete}`] : []),
        ...(facts.received === null ? [] : ['received claims a close_notify']),
        ...(facts.hangs === null ? [] : [`never closed: ${facts.hangs}`]),
      ],
    );
  }
}
