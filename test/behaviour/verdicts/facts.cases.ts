/**
 * What a closure says, held against the wire: who sent what and when, which verdict follows, what the
 * channels tell; in both modes.
 *
 * RFC 9846 section 6.1: "Each party MUST send a 'close_notify' alert before closing its write side of the
 * connection [...]. This does not have any effect on its read side of the connection." So who has sent it
 * and then closes has ended properly, whether the answer is waited for or not.
 */
import type tls from 'node:tls';
import { family } from './case.ts';
import { type CraftedPeer, forged } from './crafted-peer.ts';
import {
  ALL_FACES,
  type AnyFace,
  type Env,
  FACES,
  type Facts,
  isServer,
  turns,
  until,
  Watch,
} from './env.ts';

const { cases, addRows } = family();

export { cases };

const VERSIONS = ['TLSv1.2', 'TLSv1.3'] as const;

interface Told extends Facts {
  /** What the closure says of the transport. */
  readonly transport: string | null;
  readonly heard: readonly string[];
  readonly heardEnd: string | null;
}

/** An established connection. */
async function established(
  env: Env,
  face: AnyFace,
  version: (typeof VERSIONS)[number],
  more: { readonly mode?: 'error' | 'report'; readonly allowHalfOpen?: boolean } = {},
  program: (socket: tls.TLSSocket, watch: Watch) => void = () => {},
): Promise<{ peer: CraftedPeer; watch: Watch }> {
  let watch: Watch | null = null;
  const peer = await env.open(
    { face, version, allowHalfOpen: true, ...more },
    (socket: tls.TLSSocket) => {
      watch = new Watch(env, socket);
      socket.on('data', (chunk) => watch!.took(chunk));
      program(socket, watch);
    },
  );
  await peer.ready;
  if (!(await until(() => watch !== null))) throw new Error('no socket');
  const made = watch as unknown as Watch;
  await until(() => made.socket.getProtocol() !== null && !made.socket.connecting);
  await turns(4);
  return { peer, watch: made };
}

async function over(peer: CraftedPeer, watch: Watch): Promise<Told> {
  const facts = await watch.over();
  await until(() => peer.transportEnd !== null, 500);
  await turns(2);
  const { transportEnd } = watch.closure()!;
  return {
    ...facts,
    transport: transportEnd,
    heard: peer.heardAlerts,
    heardEnd: peer.transportEnd,
  };
}

// ---- who sent what, and the verdict that follows

interface Scene {
  readonly row: string;
  play(peer: CraftedPeer, watch: Watch): Promise<unknown>;
  readonly verdicts: readonly string[];
  readonly received: boolean;
  /** Whether our close_notify has to be on the wire; null: as it is. */
  readonly sent: boolean | null;
  /** Who ended the transport, where only this side did. */
  readonly transport?: 'destroyed' | 'closed';
}

const SCENES: readonly Scene[] = [
  {
    row: 'we end, the peer answers',
    async play(peer, { socket }) {
      socket.end('bye');
      await peer.until(() => peer.heardAlerts.length > 0);
      peer.fin(peer.closeNotify());
    },
    ...{ verdicts: ['secure'], received: true, sent: true },
  },
  {
    row: 'the peer ends, we answer',
    async play(peer, { socket }) {
      socket.on('end', () => socket.end('bye'));
      peer.send(peer.data('hello'), peer.closeNotify());
      await peer.until(() => peer.heardAlerts.length > 0);
    },
    ...{ verdicts: ['secure'], received: true, sent: true },
  },
  {
    row: 'both end at once',
    async play(peer, { socket }) {
      socket.end();
      peer.fin(peer.closeNotify());
    },
    ...{ verdicts: ['secure'], received: true, sent: true },
  },
  {
    row: 'we end, close_notify has crossed, we destroy',
    async play(peer, { socket }) {
      socket.end('bye');
      await peer.until(() => peer.heardAlerts.length > 0);
      socket.destroy();
    },
    ...{ verdicts: ['one-sided'], received: false, sent: true, transport: 'destroyed' },
  },
  {
    row: 'both have ended, we destroy',
    async play(peer, { socket }) {
      socket.on('end', () => socket.destroy());
      socket.end('bye');
      await peer.until(() => peer.heardAlerts.length > 0);
      peer.send(peer.closeNotify());
    },
    ...{ verdicts: ['secure'], received: true, sent: true, transport: 'closed' },
  },
  {
    row: "we end, and destroy on 'finish'",
    async play(_peer, { socket }) {
      socket.on('finish', () => socket.destroy());
      socket.end('bye');
    },
    ...{ verdicts: ['one-sided'], received: false, sent: true },
  },
  {
    row: 'destroySoon()',
    async play(_peer, { socket }) {
      socket.write('bye');
      socket.destroySoon();
    },
    ...{ verdicts: ['one-sided'], received: false, sent: true },
  },
  {
    row: 'we end with a large write, and destroy when all is written',
    async play(peer, { socket }) {
      socket.end(Buffer.alloc(300_000));
      await peer.until(() => peer.heardAlerts.length > 0);
      socket.destroy();
    },
    ...{ verdicts: ['one-sided'], received: false, sent: true },
  },
  {
    row: 'we end and destroy in the same turn',
    async play(_peer, { socket }) {
      socket.end('bye');
      socket.destroy();
    },
    // Node has not begun to write by then.
    ...{ verdicts: ['aborted', 'one-sided'], received: false, sent: null },
  },
  {
    row: 'we destroy',
    play: async (_peer, { socket }) => void socket.destroy(),
    ...{ verdicts: ['aborted'], received: false, sent: false },
  },
  {
    row: 'we destroy with an error of our own',
    play: async (_peer, { socket }) => void socket.destroy(new Error('ours')),
    ...{ verdicts: ['aborted'], received: false, sent: false },
  },
  {
    row: 'we destroy while a write is under way',
    async play(peer, { socket }) {
      peer.wire.pause();
      socket.write(Buffer.alloc(8_000_000));
      await turns(4);
      socket.destroy();
      peer.wire.resume();
    },
    ...{ verdicts: ['aborted'], received: false, sent: false },
  },
  {
    row: 'we end while a write is under way that nobody reads, and destroy',
    async play(peer, { socket }) {
      peer.wire.pause();
      socket.write(Buffer.alloc(8_000_000));
      socket.end();
      await turns(8);
      socket.destroy();
      peer.wire.resume();
    },
    ...{ verdicts: ['aborted'], received: false, sent: false },
  },
  {
    row: 'the peer ends, we destroy without an answer',
    async play(peer, { socket }) {
      socket.on('end', () => socket.destroy());
      peer.send(peer.data('hello'), peer.closeNotify());
    },
    ...{ verdicts: ['aborted', 'one-sided'], received: true, sent: false },
  },
  {
    row: 'we end, then FIN comes',
    async play(peer, { socket }) {
      socket.end('bye');
      await peer.until(() => peer.heardAlerts.length > 0);
      peer.fin();
    },
    ...{ verdicts: ['truncated'], received: false, sent: true },
  },
  {
    row: 'we end, then a fatal alert comes',
    async play(peer, { socket }) {
      socket.end('bye');
      await peer.until(() => peer.heardAlerts.length > 0);
      peer.fin(peer.alert(2, 80));
    },
    ...{ verdicts: ['alert'], received: false, sent: true },
  },
  {
    row: 'the peer ends and goes on: data behind close_notify, then RST',
    async play(peer, { socket }) {
      socket.on('end', () => socket.end());
      peer.send(peer.data('hello'), peer.closeNotify(), peer.data('late'));
      await turns(2);
      if (peer.wire.remoteAddress !== undefined) peer.reset();
      else peer.wire.destroy();
    },
    ...{ verdicts: ['secure', 'one-sided', 'aborted'], received: true, sent: null },
  },
];

for (const version of VERSIONS) {
  for (const face of FACES) {
    addRows(
      `${face}, ${version}: sent and received are what crossed`,
      SCENES,
      async (env, { play }): Promise<Told> => {
        const { peer, watch } = await established(env, face, version);
        void play(peer, watch);
        return over(peer, watch);
      },
      (facts, { verdicts, received, sent, transport }) => {
        const wrong: string[] = [];
        if (transport !== undefined && facts.transport !== transport)
          wrong.push(`the transport is ${facts.transport}`);
        const crossed = facts.heard.includes('1/0');
        if (facts.hangs !== null) wrong.push(`never closed: ${facts.hangs}`);
        if (sent !== null && crossed !== sent) wrong.push(`on the wire is ${facts.heard}`);
        if (!verdicts.includes(String(facts.verdict)))
          wrong.push(`the verdict is ${facts.verdict}`);
        if ((facts.received !== null) !== received) wrong.push(`received is ${facts.received}`);
        // What left in the turn of a reset may not have come.
        if (facts.sent === null && crossed) wrong.push('sent lacks what crossed');
        if (facts.sent !== null && !crossed && sent !== null) wrong.push('sent did not cross');
        if (facts.closures.join() !== facts.verdict) wrong.push(`told ${facts.closures}`);
        return wrong;
      },
    );
  }
}

// TLS has records of its own on their way then: its Finished, session tickets, the answer to a KeyUpdate. Where its
// close_notify has to wait for them, Node may send FIN first, and never send it.
for (const version of VERSIONS) {
  for (const face of ALL_FACES) {
    addRows(
      `${face}, ${version}: an end within what TLS itself writes is told as sent only if it crossed`,
      [
        { row: 'in the handshake', when: 'handshake' },
        { row: 'behind a KeyUpdate', when: 'KeyUpdate' },
        // Libuv reads 64 KB, and goes on within the same turn.
        { row: "at the peer's close_notify, far behind a KeyUpdate", when: 'end' },
      ].filter(({ when }) => when === 'handshake' || version === 'TLSv1.3'),
      async (env, { when }): Promise<Told> => {
        let watch: Watch | null = null;
        const peer = await env.open({ face, version, allowHalfOpen: true }, (socket) => {
          watch = new Watch(env, socket);
          const end = () => socket.end();
          if (when === 'KeyUpdate') socket.on('data', end);
          else if (when === 'end') socket.on('end', end).resume();
          else if (isServer(face)) end();
          else socket.once('secureConnect', end);
        });
        await peer.ready;
        if (when === 'KeyUpdate') peer.send(peer.keyUpdate(true), peer.data('hello'));
        if (when === 'end') {
          const update = peer.keyUpdate(true);
          const data = Array.from({ length: 6 }, () => peer.data('x'.repeat(16_000)));
          peer.send(update, ...data, peer.closeNotify());
        }
        await peer.until(() => peer.heardAlerts.length > 0 || peer.transportEnd !== null);
        peer.fin();
        return over(peer, watch as unknown as Watch);
      },
      (facts) => {
        const crossed = facts.heard.includes('1/0');
        return (facts.sent !== null) === crossed ? [] : [`${facts.heard} crossed; ${facts.sent}`];
      },
    );
  }
}

// ---- when

for (const version of VERSIONS) {
  for (const face of FACES) {
    addRows(
      `${face}, ${version}: sent and received count from the connection’s start`,
      [
        { row: 'the peer ends first', first: 'peer' },
        { row: 'we end first', first: 'local' },
      ],
      async (env, { first }) => {
        const start = performance.now();
        const { peer, watch } = await established(env, face, version);
        const { socket } = watch;
        if (first === 'peer') {
          socket.on('end', () => socket.end());
          peer.send(peer.closeNotify());
        } else {
          socket.end();
          await peer.until(() => peer.heardAlerts.length > 0);
          peer.fin(peer.closeNotify());
        }
        await watch.over();
        const elapsed = performance.now() - start;
        const { sent, received, initiator } = env.lib.socketClosure(socket)!;
        return { sent, received, initiator, elapsed, start, messages: env.messagesOf(socket) };
      },
      ({ sent, received, initiator, elapsed, start, messages }, { first }) => {
        const wrong: string[] = [];
        const times = { sent: sent?.at, received: received?.at };
        for (const [name, at] of Object.entries(times)) {
          if (typeof at !== 'number' || !(at >= 0)) wrong.push(`${name} is at ${at}`);
          else if (at > elapsed) wrong.push(`${name} is at ${at}, ${elapsed} after the start`);
        }
        // A clock of the process would be past this by now.
        if (start < 50) wrong.push('too early to tell one clock from another');
        if (initiator !== first) wrong.push(`the initiator is ${initiator}`);
        const [one, two] = first === 'peer' ? [received, sent] : [sent, received];
        if ((one?.at ?? 0) > (two?.at ?? 0)) wrong.push(`${JSON.stringify(times)}, ${first} first`);
        const [told] = messages.closure;
        if (told?.sent?.at !== sent?.at || told?.received?.at !== received?.at) {
          wrong.push('the channel told other times');
        }
        return wrong;
      },
    );
  }
}

// ---- where the bytes ended

for (const version of VERSIONS) {
  for (const face of FACES) {
    addRows(
      `${face}, ${version}: a cut is told with its place`,
      // RFC 9846 section 5.1: a record's header is ContentType, ProtocolVersion and length, of five bytes in all.
      [
        { row: 'between two records', bytes: 0, place: 'record-boundary' },
        { row: 'within a header', bytes: 3, place: 'inside-record' },
        { row: 'behind a header', bytes: 5, place: 'inside-record' },
        { row: 'within a body', bytes: 9, place: 'inside-record' },
        { row: 'before the last byte', bytes: -1, place: 'inside-record' },
        // A kernel that was reset may have dropped bytes that had come.
        { row: 'a reset', bytes: null, place: 'unknown' },
      ].filter(({ bytes }) => bytes !== null || face !== 'unix'),
      async (env, { bytes }) => {
        const { peer, watch } = await established(env, face, version);
        if (bytes === null) {
          peer.send(peer.data('hello'));
          await until(() => watch.text === 'hello');
          peer.reset();
        } else {
          peer.fin(peer.data('hello'), peer.closeNotify().subarray(0, bytes));
        }
        await watch.over();
        return env.lib.socketClosure(watch.socket)!.truncation;
      },
      (truncation, { bytes, place }) =>
        truncation?.where === place && truncation.cause === (bytes === null ? 'reset' : 'eof')
          ? []
          : [`the truncation is ${JSON.stringify(truncation)}`],
    );
  }
}

// ---- the channels, and both modes

for (const version of VERSIONS) {
  for (const face of FACES.filter((one) => one !== 'register')) {
    for (const mode of ['error', 'report'] as const) {
      addRows(
        `${face}, ${version}, mode ${mode}: what the channels and the program are told`,
        [
          {
            row: 'close_notify',
            truth: 'closed',
            play: (peer: CraftedPeer) => peer.fin(peer.data('hello'), peer.closeNotify()),
          },
          {
            row: 'FIN',
            truth: 'cut',
            play: (peer: CraftedPeer) => peer.fin(peer.data('hello')),
          },
          {
            row: 'FIN inside a record',
            truth: 'cut',
            play: (peer: CraftedPeer) =>
              peer.fin(peer.data('hello'), peer.closeNotify().subarray(0, 9)),
          },
          {
            row: 'a fatal alert',
            truth: 'failed',
            play: (peer: CraftedPeer) => peer.fin(peer.data('hello'), peer.alert(2, 80)),
          },
          {
            row: 'forged close_notify',
            truth: 'failed',
            play: (peer: CraftedPeer) => peer.fin(peer.data('hello'), forged(peer.closeNotify())),
          },
          {
            row: "a fatal alert, and end() in 'data'",
            truth: 'eaten',
            ends: true,
            play: (peer: CraftedPeer) => peer.fin(peer.data('hello'), peer.alert(2, 80)),
          },
        ],
        async (env, { play, ends = false }): Promise<Told & { readonly text: string }> => {
          const { peer, watch } = await established(env, face, version, { mode }, (socket) => {
            socket.on('end', () => socket.end());
            if (ends) socket.once('data', () => socket.end());
          });
          play(peer);
          return { ...(await over(peer, watch)), text: watch.text };
        },
        (facts, { truth }) => {
          const { events, truncated, verdict, connect, text, received } = facts;
          const wrong: string[] = [];
          const ended = events.includes('end');
          const failed = events.some((one) => one.startsWith('error '));
          const told = `${events.join(', ')}; ${JSON.stringify(truncated)}; ${verdict}`;
          if (facts.hangs !== null) wrong.push(`never closed: ${facts.hangs}`);
          if (text !== 'hello') wrong.push(`read ${text}`);
          if (connect.length !== 1 || connect[0]?.mode !== mode) {
            wrong.push(`connect was told ${JSON.stringify(connect)}`);
          }
          if ((received !== null) !== (truth === 'closed')) wrong.push(`received is ${received}`);
          const outcome = truncated.map((one) => one.outcome).join();
          if (truth === 'closed') {
            if (!ended || failed || truncated.length > 0 || verdict !== 'secure') wrong.push(told);
          } else if (truth === 'cut') {
            const [code] = truncated;
            if (verdict !== 'truncated' || code?.code !== 'ERR_TLS_TRUNCATED') wrong.push(told);
            if (mode === 'error' && (ended || !failed || outcome !== 'error')) wrong.push(told);
            // As on Node's own socket, but that the channel tells.
            if (mode === 'report' && (!ended || failed || outcome !== 'end')) wrong.push(told);
          } else if (truth === 'failed') {
            if (verdict !== 'alert' || !failed) wrong.push(told);
            if (mode === 'error' && ended) wrong.push(told);
          } else {
            if (verdict !== 'alert') wrong.push(told);
            // Node itself says 'end' there: it would have been a truncation that passes.
            if (mode === 'error' && (ended || !failed)) wrong.push(told);
            if (mode === 'report' && !failed && outcome !== 'end') wrong.push(told);
          }
          return wrong;
        },
      );
    }
  }
}
