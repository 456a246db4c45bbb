/**
 * What comes before anybody watches: in the segment of Finished, or while a callback of the handshake
 * takes its time.
 *
 * RFC 7918 (False Start): a TLS 1.2 client may send data right behind its own Finished, before the
 * server's has come. RFC 9846 section 4.4.4: a server may send data right behind its Finished. A
 * close_notify may follow at once, and so may whatever somebody on the path makes of it.
 */
import constants from 'node:constants';
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { once } from 'node:events';
import net from 'node:net';
import tls from 'node:tls';
import { family } from './case.ts';
import { CraftedPeer, type Version } from './crafted-peer.ts';
import { duplexOver, type Facts, turns, until, Watch } from './env.ts';
import { Relay } from './record-relay.ts';

const { cases, add, addRows } = family();

export { cases };

const VERSIONS = ['TLSv1.2', 'TLSv1.3'] as const;

/** Behind the data. */
const ENDINGS: Readonly<
  Record<
    string,
    { truth: 'close_notify' | 'eof' | 'alert'; play(peer: CraftedPeer, data: Buffer[]): void }
  >
> = {
  'close_notify and FIN': {
    truth: 'close_notify',
    play: (peer, data) => peer.fin(...data, peer.closeNotify()),
  },
  'close_notify, no FIN': {
    truth: 'close_notify',
    play: (peer, data) => peer.send(...data, peer.closeNotify()),
  },
  // OpenSSL 3.5 does not heed it in TLS 1.3.
  'user_canceled, close_notify, no FIN': {
    truth: 'close_notify',
    play: (peer, data) => peer.send(...data, peer.userCanceled(), peer.closeNotify()),
  },
  FIN: { truth: 'eof', play: (peer, data) => peer.fin(...data) },
  'a fatal alert and FIN': {
    truth: 'alert',
    play: (peer, data) => peer.fin(...data, peer.alert(2, 80)),
  },
};

const ENDING_ROWS = Object.entries(ENDINGS).map(([row, ending]) => ({ row, ...ending }));
const CLIENT_ROWS = ['', 'hello'].flatMap((text) =>
  ENDING_ROWS.map((one) => ({ ...one, text, row: text === '' ? one.row : `data, ${one.row}` })),
);

interface Told extends Facts {
  readonly text: string;
  readonly heard: readonly string[];
  /** Errors that the server tells of a handshake. */
  readonly refused: readonly string[];
}

/**
 * What an ending has to come to.
 *
 * @param answers whether Node answers a close_notify with its own: it has destroyed the connection by then
 *   where it made a program wait for its socket.
 */
function judge(
  facts: Told,
  truth: 'close_notify' | 'eof' | 'alert',
  text: string,
  answers = true,
): string[] {
  const { events, verdict, received, sent, truncated } = facts;
  const wrong: string[] = [];
  if (facts.refused.length > 0) wrong.push(`refused: ${facts.refused}`);
  if (facts.hangs !== null) wrong.push(`never closed: ${facts.hangs}`);
  if (facts.text !== text) wrong.push(`read ${JSON.stringify(facts.text)}`);
  if (facts.connect.length !== 1) wrong.push(`connect was told ${facts.connect.length} times`);
  if (truth === 'close_notify') {
    if (!events.includes('end') || events.some((one) => one.startsWith('error'))) {
      wrong.push(`no 'end' but ${events}`);
    }
    const crossed = facts.heard.includes('1/0');
    if (answers && !crossed) wrong.push('our close_notify did not cross');
    if ((sent !== null) !== crossed) wrong.push(`sent is ${sent}, on the wire is ${facts.heard}`);
    if (received === null) wrong.push('received lacks the close_notify');
    const verdicts = crossed ? ['secure'] : ['one-sided', 'aborted'];
    if (!verdicts.includes(String(verdict))) wrong.push(`the verdict is ${verdict}`);
    if (truncated.length > 0) wrong.push('the channel told of a truncation');
    return wrong;
  }
  if (events.includes('end')) wrong.push("'end' without close_notify");
  if (received !== null) wrong.push('received claims a close_notify');
  const error = events.find((one) => one.startsWith('error '));
  if (truth === 'eof') {
    if (error !== 'error ERR_TLS_TRUNCATED') wrong.push(`not ERR_TLS_TRUNCATED but ${events}`);
    if (verdict !== 'truncated') wrong.push(`the verdict is ${verdict}`);
    if (truncated.length !== 1) wrong.push(`the channel told ${JSON.stringify(truncated)}`);
  } else {
    if (error === undefined) wrong.push(`no 'error' but ${events}`);
    if (verdict !== 'alert' || facts.alert?.direction !== 'received' || facts.alert.code !== 80) {
      wrong.push(`the verdict is ${verdict}, the alert ${JSON.stringify(facts.alert)}`);
    }
  }
  return wrong;
}

// ---- servers: the client's Finished, data and ending in one segment

/** What a server waits for before it is secure, and before its program gets the socket. */
const CALLBACKS: Readonly<
  Record<
    string,
    {
      readonly only?: Version;
      readonly options?: (secureContext: tls.SecureContext) => tls.TlsOptions;
      readonly listen?: (server: tls.Server) => void;
      readonly alpn?: readonly string[];
    }
  >
> = {
  'nothing waits': {},
  "'newSession' answered at once": {
    options: () => ({ secureOptions: constants.SSL_OP_NO_TICKET }),
    listen: (server) => server.on('newSession', (_id, _data, done) => done()),
  },
  "'newSession' answered late": {
    options: () => ({ secureOptions: constants.SSL_OP_NO_TICKET }),
    listen: (server) =>
      server.on('newSession', (_id, _data, done) => {
        // By then all has come that the client sends.
        void turns(30).then(() => done());
      }),
  },
  "'resumeSession' answered late": {
    options: () => ({ secureOptions: constants.SSL_OP_NO_TICKET }),
    listen: (server) =>
      server.on('resumeSession', (_id, done) => {
        void turns(10).then(() => done(null, null as never));
      }),
  },
  'SNICallback answered late': {
    options: (secureContext) => ({
      SNICallback: (_name, done) => {
        void turns(10).then(() => done(null, secureContext));
      },
    }),
  },
  "'OCSPRequest' answered late, SNICallback at once": {
    options: (secureContext) => ({ SNICallback: (_name, done) => done(null, secureContext) }),
    listen: (server) =>
      server.on('OCSPRequest', (_certificate, _issuer, done) => {
        void turns(10).then(() => done(null, Buffer.alloc(0)));
      }),
  },
  ALPNCallback: {
    options: () =>
      ({ ALPNCallback: ({ protocols }: { protocols: string[] }) => protocols[0] }) as never,
    alpn: ['one', 'two'],
  },
};

for (const version of VERSIONS) {
  for (const [callback, { options, listen, alpn }] of Object.entries(CALLBACKS)) {
    for (const face of ['tcp', 'duplex'] as const) {
      addRows(
        `strictServer, ${face}, ${version}, ${callback}: Finished, data and an ending in one segment`,
        ENDING_ROWS,
        async (env, { play }): Promise<Told | Pick<Told, 'refused'>> => {
          const secureContext = tls.createSecureContext(env.identity);
          const server = env.lib.strictServer(
            tls.createServer({
              ...env.identity,
              ...{ minVersion: version, maxVersion: version },
              ...options?.(secureContext),
            }),
          );
          listen?.(server);
          let watch: Watch | null = null;
          const refused: string[] = [];
          server.on('secureConnection', (socket) => {
            watch = new Watch(env, socket);
            socket.on('data', (chunk) => watch!.took(chunk));
          });
          server.on('tlsClientError', (error) => refused.push(error.message));
          const front =
            face === 'tcp'
              ? server
              : net.createServer({ allowHalfOpen: true }, (raw) => {
                  server.emit('connection', duplexOver(raw, false));
                });
          const { port } = await env.listen(front);
          const wire = net.connect({ port, host: '127.0.0.1', allowHalfOpen: true });
          const peer = new CraftedPeer(wire, {
            ...{ role: 'client', version, hold: true, servername: 'localhost', alpn },
          });
          env.defer(() => peer.destroy());
          await peer.ready;
          play(peer, [peer.data('an upload')]);
          await until(() => watch !== null || refused.length > 0);
          // A program that has no socket yet is told nothing of it.
          if (watch === null) return { refused };
          const made = watch as unknown as Watch;
          const facts = await made.over();
          await until(() => peer.transportEnd !== null, 500);
          return { ...facts, text: made.text, heard: peer.heardAlerts, refused };
        },
        (facts, { truth }) => {
          const late = callback.endsWith("'newSession' answered late");
          if ('events' in facts) return judge(facts, truth, 'an upload', !late);
          // Before its program has the socket, Node refuses what fails; on a Duplex that has ended, all.
          const refuses = late && (truth === 'alert' || face === 'duplex');
          return refuses ? [] : [`refused: ${facts.refused}`];
        },
      );
    }
  }
}

// ---- servers that are made strict while a handshake is going on

for (const version of VERSIONS) {
  addRows(
    `strictServer, ${version}, called when the client is connected already`,
    ENDING_ROWS,
    async (env, { play }): Promise<Told & { readonly unwatched: number }> => {
      const server = tls.createServer({
        ...env.identity,
        ...{ minVersion: version, maxVersion: version },
      });
      const told: unknown[] = [];
      const tell = (message: unknown) => told.push((message as { socket: unknown }).socket);
      subscribe('close-notify.unwatched', tell);
      env.defer(() => unsubscribe('close-notify.unwatched', tell));
      let watch: Watch | null = null;
      server.on('connection', () => setImmediate(() => env.lib.strictServer(server)));
      server.on('secureConnection', (socket) => {
        watch = new Watch(env, socket);
        socket.on('data', (chunk) => watch!.took(chunk));
      });
      const { port } = await env.listen(server);
      const wire = net.connect({ port, host: '127.0.0.1', allowHalfOpen: true });
      await once(wire, 'connect');
      await until(() => server.listenerCount('secureConnection') > 1);
      const peer = new CraftedPeer(wire, { role: 'client', version });
      env.defer(() => peer.destroy());
      await peer.ready;
      await until(() => watch !== null);
      const made = watch as unknown as Watch;
      play(peer, [peer.data('an upload')]);
      await turns(10);
      peer.fin();
      const facts = await made.over();
      const unwatched = told.filter((socket) => socket === made.socket).length;
      return { ...facts, text: made.text, heard: peer.heardAlerts, refused: [], unwatched };
    },
    (facts, { truth }, { native }) => {
      // The add-on watches every connection of the process. Without it nothing is known of this one, so nothing is
      // claimed, also where close_notify came.
      if (native) return judge(facts, truth, 'an upload');
      const wrong = facts.unwatched === 1 ? [] : [`unwatched was told ${facts.unwatched} times`];
      if (facts.received !== null) wrong.push('received claims a close_notify');
      if (facts.events.includes('end')) wrong.push("'end' of a connection that nobody watched");
      if (!facts.events.some((one) => one.startsWith('error '))) wrong.push(`${facts.events}`);
      if (facts.text !== 'an upload') wrong.push(`read ${JSON.stringify(facts.text)}`);
      return wrong;
    },
  );
}

// ---- servers: an alert is older than their socket

add<{ readonly latest: number; readonly at: number | null }>(
  'strictServer, TLSv1.2: a close_notify is told with the time when it crossed, not when it was asked for',
  async (env) => {
    const server = env.lib.strictServer(
      tls.createServer({
        ...env.identity,
        ...{ maxVersion: 'TLSv1.2', secureOptions: constants.SSL_OP_NO_TICKET },
      }),
    );
    let earliest = 0;
    let latest = 0;
    server.prependListener('connection', () => {
      earliest = performance.now();
    });
    server.on('newSession', (_id, _data, done) => {
      // By then all has come that the client sends. The program is busy for a while.
      void turns(30).then(() => {
        latest = performance.now();
        while (performance.now() - latest < 50);
        done();
      });
    });
    let watch: Watch | null = null;
    server.on('secureConnection', (socket) => {
      watch = new Watch(env, socket);
      socket.resume();
    });
    const { port } = await env.listen(server);
    const wire = net.connect({ port, host: '127.0.0.1', allowHalfOpen: true });
    const peer = new CraftedPeer(wire, { role: 'client', version: 'TLSv1.2', hold: true });
    env.defer(() => peer.destroy());
    await peer.ready;
    peer.fin(peer.data('an upload'), peer.closeNotify());
    await until(() => watch !== null);
    const made = watch as unknown as Watch;
    await made.over();
    const { received } = env.lib.socketClosure(made.socket)!;
    return { latest: latest - earliest, at: received?.at ?? null };
  },
  ({ latest, at }) =>
    at !== null && at <= latest ? [] : [`received is at ${at}, and crossed before ${latest}`],
);

// ---- servers that resume a session, late

for (const [ending, cut] of Object.entries({ close_notify: false, FIN: true })) {
  add<Told & { readonly resumed: boolean }>(
    `strictServer, TLSv1.2, a session is resumed late: Finished, data, ${ending} in one segment`,
    async (env) => {
      const server = env.lib.strictServer(
        tls.createServer({
          ...env.identity,
          ...{ maxVersion: 'TLSv1.2', secureOptions: constants.SSL_OP_NO_TICKET },
        }),
      );
      const sessions = new Map<string, Buffer>();
      server.on('newSession', (id, data, done) => {
        sessions.set(id.toString('hex'), data);
        void turns(5).then(() => done());
      });
      server.on('resumeSession', (id, done) => {
        void turns(10).then(() => done(null, sessions.get(id.toString('hex')) ?? (null as never)));
      });
      const watches: Watch[] = [];
      server.on('secureConnection', (socket) => {
        const watch = new Watch(env, socket);
        watches.push(watch);
        socket.on('data', (chunk) => watch.took(chunk));
      });
      const { port } = await env.listen(server);
      let second = false;
      const relay = await Relay.to(env, port, (sender, record) =>
        // An alert of TLS 1.2 says what it is.
        second && cut && sender === 'client' && record[0] === 21 ? null : record,
      );
      const options = { port: relay.port, host: '127.0.0.1', rejectUnauthorized: false };
      const first = tls.connect(options);
      first.resume().on('error', () => {});
      await once(first, 'secureConnect');
      const session = first.getSession();
      first.end();
      await once(first, 'close');
      second = true;
      const client = tls.connect({ ...options, ...(session ? { session } : {}) });
      client.on('error', () => {});
      env.defer(() => client.destroy());
      await until(() => relay.links.length === 2);
      const link = await relay.link();
      client.on('keylog', (line) => link.addKeyLog(line));
      // All that it says behind its hello comes at once.
      await until(() => link.records('client') > 0);
      link.hold('client');
      await once(client, 'secureConnect');
      const resumed = client.isSessionReused();
      client.end('an upload');
      await until(() => link.ended('client'));
      link.release('client');
      await until(() => watches.length === 2);
      const facts = await watches[1]!.over();
      await turns(4);
      const heard = link.passed.server.flatMap((one) =>
        one.kind === 'alert' && one.protectedBy === 'traffic'
          ? [`${one.level}/${one.description}`]
          : [],
      );
      return { ...facts, text: watches[1]!.text, heard, refused: [], resumed };
    },
    (facts) => [
      ...judge(facts, cut ? 'eof' : 'close_notify', 'an upload'),
      ...(facts.resumed ? [] : ['the session was not resumed']),
    ],
  );
}

// ---- clients: the server's Finished and its ending in one segment

/** When the client ends its side. */
const ENDS: Readonly<Record<string, (socket: tls.TLSSocket) => void>> = {
  'end(request) before the handshake': (socket) => socket.end('request'),
  'end() at once': (socket) => socket.on('secureConnect', () => socket.end()),
  'end() a microtask later': (socket) =>
    socket.on('secureConnect', () => queueMicrotask(() => socket.end())),
  'end() a tick later': (socket) =>
    socket.on('secureConnect', () => process.nextTick(() => socket.end())),
  'end() in setImmediate': (socket) =>
    socket.on('secureConnect', () => setImmediate(() => socket.end())),
  'end() when the peer has': () => {},
};

for (const version of VERSIONS) {
  for (const face of ['tcp', 'unix', 'duplex', 'register'] as const) {
    for (const [when, go] of Object.entries(ENDS)) {
      addRows(
        `a client, ${face}, ${version}, ${when}: Finished and an ending in one segment`,
        CLIENT_ROWS,
        async (env, { play, text }): Promise<Told> => {
          let watch: Watch | null = null;
          const peer = await env.open({ face, version, crafted: { hold: true } }, (socket) => {
            watch = new Watch(env, socket);
            socket.on('data', (chunk) => watch!.took(chunk));
            go(socket);
          });
          await peer.ready;
          play(peer, text === '' ? [] : [peer.data(text)]);
          const made = watch as unknown as Watch;
          const facts = await made.over();
          await until(() => peer.transportEnd !== null, 500);
          return { ...facts, text: made.text, heard: peer.heardAlerts, refused: [] };
        },
        (facts, { truth, text }) => {
          const wrong = judge(facts, truth, text);
          // Node 20 reads what comes with Finished within SSL_shutdown, and drops data. Then an error is
          // right, whatever came behind it: bytes are missing.
          const lost =
            text !== '' && facts.bytes === 0 && /at once|before|microtask|tick/.test(when);
          if (!lost || facts.hangs !== null || facts.events.includes('end')) return wrong;
          return facts.events.some((one) => one.startsWith('error ')) ? [] : wrong;
        },
      );
    }
  }
}
