/**
 * HTTP/1 messages and how their connection ends: what Node's parser and undici's, which take the socket's
 * reading over in C++, make of crafted endings.
 *
 * RFC 9112 section 8: "A response that has neither chunked transfer coding nor Content-Length is
 * terminated by closure of the connection and, if the header section was received intact, is considered
 * complete unless an error was indicated by the underlying connection (e.g., an 'incomplete close' in TLS
 * would leave the response incomplete, as described in Section 9.8)." Section 9.8: "When encountering an
 * incomplete close, a client SHOULD treat as completed all requests for which it has received either: as
 * much data as specified in the Content-Length header field; or the terminal zero-length chunk."
 */
import https from 'node:https';
import net from 'node:net';
import type tls from 'node:tls';
import undici from 'undici';
import { family } from './case.ts';
import { CraftedPeer, forged, plaintext, type Version } from './crafted-peer.ts';
import { AS_REGISTERED, type Env, type Facts, turns, until, Watch } from './env.ts';

const { cases, addRows } = family();

export { cases };

const VERSIONS = ['TLSv1.2', 'TLSv1.3'] as const;

// ---- endings, behind the last bytes of a message

type Truth = 'close_notify' | 'eof' | 'reset' | 'alert' | 'refused';

interface Ending {
  readonly truth: Truth;
  readonly only?: Version;
  /** @param last the message's last bytes, in a record; send them together with the ending, or before. */
  play(peer: CraftedPeer, last: Buffer, later: () => Promise<void>): unknown;
}

const ENDINGS: Readonly<Record<string, Ending>> = {
  'close_notify and FIN with the body': {
    truth: 'close_notify',
    play: (peer, last) => peer.fin(last, peer.closeNotify()),
  },
  'close_notify with the body, no FIN': {
    truth: 'close_notify',
    play: (peer, last) => peer.send(last, peer.closeNotify()),
  },
  'close_notify and FIN later': {
    truth: 'close_notify',
    async play(peer, last, later) {
      peer.send(last);
      await later();
      peer.fin(peer.closeNotify());
    },
  },
  'padded user_canceled and close_notify with the body, no FIN': {
    truth: 'close_notify',
    only: 'TLSv1.3',
    play: (peer, last) => peer.send(last, peer.userCanceled(16), peer.closeNotify(16)),
  },
  'user_canceled and close_notify later, FIN': {
    truth: 'close_notify',
    only: 'TLSv1.3',
    async play(peer, last, later) {
      peer.send(last);
      await later();
      peer.fin(peer.userCanceled(), peer.closeNotify());
    },
  },
  'KeyUpdate and close_notify with the body': {
    truth: 'close_notify',
    only: 'TLSv1.3',
    play: (peer, last) => peer.fin(last, peer.keyUpdate(), peer.closeNotify()),
  },
  'FIN with the body': { truth: 'eof', play: (peer, last) => peer.fin(last) },
  'FIN later': {
    truth: 'eof',
    async play(peer, last, later) {
      peer.send(last);
      await later();
      peer.fin();
    },
  },
  'FIN inside a record': {
    truth: 'eof',
    play: (peer, last) => peer.fin(last, peer.closeNotify().subarray(0, 9)),
  },
  'user_canceled with the body, FIN': {
    truth: 'eof',
    only: 'TLSv1.3',
    play: (peer, last) => peer.fin(last, peer.userCanceled()),
  },
  'RST later': {
    truth: 'reset',
    async play(peer, last, later) {
      peer.send(last);
      await later();
      peer.reset();
    },
  },
  'a fatal alert with the body': {
    truth: 'alert',
    play: (peer, last) => peer.fin(last, peer.alert(2, 20)),
  },
  'a padded fatal alert later, no FIN': {
    truth: 'alert',
    async play(peer, last, later) {
      peer.send(last);
      await later();
      peer.send(peer.alert(2, 80, peer.version === 'TLSv1.3' ? 16 : 0));
    },
  },
  'forged close_notify with the body': {
    truth: 'refused',
    play: (peer, last) => peer.fin(last, forged(peer.closeNotify())),
  },
  'close_notify in the clear with the body': {
    truth: 'refused',
    play: (peer, last) => peer.fin(last, plaintext(21, Buffer.of(1, 0))),
  },
};

/** How a message says where it ends; whether it is whole by itself, or lacks bytes. */
const FRAMINGS = {
  'to the end': { head: 'connection: close\r\n', tail: '', cut: false },
  'Content-Length': { head: 'connection: close\r\ncontent-length: 11\r\n', tail: '', cut: false },
  'Content-Length, cut': { head: 'content-length: 20\r\n', tail: '', cut: true },
  chunked: { head: 'transfer-encoding: chunked\r\n', tail: '0\r\n\r\n', cut: false },
  'chunked, cut': { head: 'transfer-encoding: chunked\r\n', tail: '', cut: true },
} as const;
type Framing = keyof typeof FRAMINGS;

const BODY = 'hello world';

/** The parts of a response: its head with the first of the body, and the last bytes. */
function partsOf(framing: Framing): [first: string, last: string] {
  const { head, tail } = FRAMINGS[framing];
  const chunked = framing.startsWith('chunked');
  const chunk = (text: string) => (chunked ? `${text.length.toString(16)}\r\n${text}\r\n` : text);
  return [`HTTP/1.1 200 OK\r\n${head}\r\n${chunk('hello ')}`, `${chunk('world')}${tail}`];
}

// ---- clients

/** What a request came to. */
interface Got {
  /** 'response', 'end', 'aborted', 'error CODE', 'close', as they were told; 'whole' or 'error CODE'. */
  readonly events: string[];
  body: string;
  complete: boolean | null;
  closed: boolean;
}

interface Told extends Facts {
  readonly got: Got;
}

type Reader = (
  env: Env,
  port: number,
  got: Got,
  paused: boolean,
  watch: (socket: tls.TLSSocket) => void,
) => (() => void) | null;

const codeOf = (error: unknown): string => {
  const { code, message } = error as NodeJS.ErrnoException;
  return code ?? message;
};

function byHttps(options: https.RequestOptions, got: Got, paused: boolean): () => void {
  let resume = () => {};
  const request = https.get({ ...options, rejectUnauthorized: false }, (response) => {
    got.events.push('response');
    if (paused) {
      response.pause();
      resume = () => response.resume();
    }
    response.on('data', (chunk) => {
      got.body += chunk;
    });
    if (paused) response.pause();
    response.on('end', () => got.events.push('end'));
    response.on('aborted', () => got.events.push('aborted'));
    response.on('error', (error) => got.events.push(`error ${codeOf(error)}`));
    response.on('close', () => {
      got.complete = response.complete;
      got.closed = true;
    });
  });
  request.on('error', (error) => {
    got.events.push(`request error ${codeOf(error)}`);
    if (!got.events.includes('response')) got.closed = true;
  });
  return () => resume();
}

async function byUndici(
  dispatcher: undici.Dispatcher,
  origin: string,
  got: Got,
  waits: Promise<void> | null,
): Promise<void> {
  try {
    const { body } = await undici.request(`${origin}/`, { dispatcher });
    got.events.push('response');
    await waits;
    for await (const chunk of body) got.body += chunk;
    got.events.push('end');
    got.complete = true;
  } catch (error) {
    const cause = (error as Error).cause;
    got.events.push(`error ${codeOf(error)}${cause === undefined ? '' : ` of ${codeOf(cause)}`}`);
  }
  got.closed = true;
}

const READERS: Readonly<Record<string, Reader>> = {
  StrictAgent(env, port, got, paused, watch) {
    const agent = new env.https.StrictAgent({ rejectUnauthorized: false });
    const create = agent.createConnection.bind(agent);
    agent.createConnection = (...args: unknown[]) => {
      const socket = create(...args);
      watch(socket as tls.TLSSocket);
      return socket;
    };
    env.defer(() => agent.destroy());
    return byHttps({ agent, host: '127.0.0.1', port }, got, paused);
  },
  'https under register'(env, port, got, paused, watch) {
    const agent = new https.Agent();
    const { createConnection } = agent as unknown as {
      createConnection: (...args: unknown[]) => tls.TLSSocket;
    };
    (agent as unknown as { createConnection: unknown }).createConnection = (...args: unknown[]) => {
      const socket = createConnection.apply(agent, args);
      watch(socket);
      return socket;
    };
    env.defer(() => agent.destroy());
    return byHttps({ agent, port, ...AS_REGISTERED }, got, paused);
  },
  strictConnector(env, port, got, paused, watch) {
    const connect = env.undici.strictConnector({ rejectUnauthorized: false });
    const dispatcher = new undici.Agent({
      connect: ((options: never, callback: (...args: unknown[]) => void) =>
        connect(options, (...args) => {
          const [, socket] = args;
          if (socket !== null) watch(socket as tls.TLSSocket);
          callback(...args);
        })) as never,
    });
    env.defer(() => dispatcher.destroy());
    let resume = () => {};
    const waits = paused
      ? new Promise<void>((resolve) => {
          resume = resolve;
        })
      : null;
    void byUndici(dispatcher, `https://127.0.0.1:${port}`, got, waits);
    return () => resume();
  },
};

const CLIENT_ROWS = (Object.keys(FRAMINGS) as Framing[]).flatMap((framing) =>
  Object.entries(ENDINGS).flatMap(([ending, one]) =>
    (framing === 'to the end' ? [false, true] : [false]).map((paused) => ({
      ...one,
      framing,
      paused,
      row: `${framing}, ${ending}${paused ? ', read late' : ''}`,
    })),
  ),
);

for (const version of VERSIONS) {
  for (const [name, reader] of Object.entries(READERS)) {
    for (const framing of Object.keys(FRAMINGS) as Framing[]) {
      // Below the socket it is what a StrictAgent's requests are.
      if (name === 'https under register' && !/to the end|chunked, cut/.test(framing)) continue;
      addRows(
        `${name}, ${version}: a response, ${framing}`,
        CLIENT_ROWS.filter(
          (row) => row.framing === framing && (row.only === undefined || row.only === version),
        ),
        async (env, { paused, play }): Promise<Told> => {
          const server = net.createServer({ allowHalfOpen: true });
          const { port } = await env.listen(server);
          let peer: CraftedPeer | null = null;
          server.on('connection', (wire) => {
            peer = new CraftedPeer(wire, { role: 'server', version, identity: env.identity });
            env.defer(() => peer!.destroy());
          });
          const got: Got = { events: [], body: '', complete: null, closed: false };
          let watch: Watch | null = null;
          const resume = reader(env, port, got, paused, (socket) => {
            watch = new Watch(env, socket);
          });
          await until(() => peer !== null);
          const made = peer as unknown as CraftedPeer;
          await made.ready;
          await made.until(() => made.received.includes('\r\n\r\n'));
          const [first, last] = partsOf(framing);
          made.send(made.data(first));
          await until(() => got.events.includes('response'));
          await turns(2);
          await play(made, made.data(last), () => turns(6));
          if (paused) {
            await turns(6);
            resume?.();
          }
          await until(() => got.closed);
          const facts = await (watch as unknown as Watch).over();
          return { ...facts, got };
        },
        ({ got, ...facts }, { truth }) => {
          const { cut } = FRAMINGS[framing];
          const byEnd = framing === 'to the end';
          // A message that says itself where it ends is whole whatever comes then.
          const whole = !cut && (!byEnd || truth === 'close_notify');
          const wrong = judgeFacts(facts, truth);
          const told = got.events.join(', ');
          if (!got.closed) wrong.push(`the response never closed: ${told}`);
          const errors = got.events.some((one) => one.startsWith('error'));
          if (whole) {
            if (!got.events.includes('end') || got.complete !== true)
              wrong.push(`no 'end': ${told}`);
            if (got.body !== BODY) wrong.push(`the body is ${got.body}`);
            if (errors) wrong.push(`an error: ${told}`);
          } else {
            if (got.events.includes('end')) wrong.push(`'end': ${told}`);
            if (got.complete === true) wrong.push('it says that it is complete');
            if (!errors) wrong.push(`no error: ${told}`);
            if (!BODY.startsWith(got.body)) wrong.push(`the body is ${got.body}`);
            if (byEnd && truth === 'eof' && !told.includes('ERR_TLS_TRUNCATED')) {
              wrong.push(`not ERR_TLS_TRUNCATED but ${told}`);
            }
          }
          return wrong;
        },
      );
    }
  }
}

/** What the socket's own ending has to be, whoever reads it. */
function judgeFacts(facts: Facts, truth: Truth): string[] {
  const { verdict, received, truncated } = facts;
  const wrong: string[] = [];
  if (facts.hangs !== null) wrong.push(`the socket never closed: ${facts.hangs}`);
  if (facts.closures.length !== 1) wrong.push(`closure was told ${facts.closures.length} times`);
  if (truth === 'close_notify') {
    // A reader that has all it wants may go before close_notify is read.
    if (received === null && verdict !== 'one-sided' && verdict !== 'aborted') {
      wrong.push(`close_notify came, the verdict is ${verdict}`);
    }
    if (truncated.length > 0) wrong.push('the channel told of a truncation');
  } else {
    if (received !== null) wrong.push('received claims a close_notify');
    if (verdict === 'secure') wrong.push('the verdict is secure');
  }
  return wrong;
}

// ---- servers: uploads

const UPLOADS = (['Content-Length', 'Content-Length, cut', 'chunked', 'chunked, cut'] as const).map(
  (framing) => ({ framing, ...FRAMINGS[framing] }),
);

for (const version of VERSIONS) {
  for (const { framing, head, cut } of UPLOADS) {
    addRows(
      `strictServer, ${version}: an upload, ${framing}`,
      CLIENT_ROWS.filter(
        (row) =>
          row.framing === framing &&
          !row.paused &&
          (row.only === undefined || row.only === version),
      ),
      async (env, { play }): Promise<Told & { readonly answered: boolean }> => {
        const got: Got = { events: [], body: '', complete: null, closed: false };
        let watch: Watch | null = null;
        const server = env.lib.strictServer(
          https.createServer(
            { ...env.identity, minVersion: version, maxVersion: version },
            (request, response) => {
              request.on('data', (chunk) => {
                got.body += chunk;
              });
              request.on('end', () => {
                got.events.push('end');
                response.end('thank you');
              });
              request.on('aborted', () => got.events.push('aborted'));
              request.on('error', (error) => got.events.push(`error ${codeOf(error)}`));
              request.on('close', () => {
                got.complete = request.complete;
                got.closed = true;
              });
              response.on('error', () => {});
            },
          ),
        );
        server.on('secureConnection', (socket) => {
          watch = new Watch(env, socket);
        });
        server.on('clientError', (error, socket) => {
          got.events.push(`clientError ${codeOf(error)}`);
          socket.destroy();
        });
        const { port } = await env.listen(server);
        const wire = net.connect({ port, host: '127.0.0.1', allowHalfOpen: true });
        const peer = new CraftedPeer(wire, { role: 'client', version });
        env.defer(() => peer.destroy());
        await peer.ready;
        const [, last] = partsOf(framing);
        const chunk = framing.startsWith('chunked') ? '6\r\nhello \r\n' : 'hello ';
        const length = head.replace('connection: close\r\n', '');
        peer.send(peer.data(`POST / HTTP/1.1\r\nhost: localhost\r\n${length}\r\n${chunk}`));
        await until(() => got.body !== '');
        await play(peer, peer.data(last), () => turns(6));
        await until(() => got.closed);
        await until(() => peer.received.includes('thank you') || peer.transportEnd !== null, 500);
        const answered = peer.received.includes('thank you');
        // A server keeps the connection where its client only ended its side.
        if (peer.transportEnd === null) await turns(10);
        peer.destroy();
        const facts = await (watch as unknown as Watch).over();
        return { ...facts, got, answered };
      },
      ({ got, ...facts }, { truth }) => {
        const wrong = judgeFacts(facts, truth);
        const told = got.events.join(', ');
        if (cut) {
          if (got.events.includes('end')) wrong.push(`'end': ${told}`);
          if (got.complete === true) wrong.push('it says that it is complete');
          if (!/error|aborted/.test(told)) wrong.push(`nothing told: ${told}`);
        } else {
          if (!got.events.includes('end') || got.body !== BODY) wrong.push(`read ${told}`);
          if (truth === 'close_notify' && !facts.answered) wrong.push('no answer');
        }
        return wrong;
      },
    );
  }
}
