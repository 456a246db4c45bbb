/** Which connections `register` is for: what its `include` and `exclude` go by. */
import { once } from 'node:events';
import http from 'node:http';
import https from 'node:https';
import net from 'node:net';
import tls from 'node:tls';
import { HttpsProxyAgent } from 'https-proxy-agent';
import { ProxyAgent, request } from 'undici';
import { afterEach, expect, test } from 'vitest';
import { socketClosure } from '../../../src/index.ts';
import { type RegisterOptions, register, unregister } from '../../../src/strict/register.ts';
import { describeTls, pki } from '../../support/core-pki.ts';
import { clean, type Scope } from '../../support/core-scope.ts';
import { listen } from '../../support/core-transport.ts';
import { ANSWERS, site, Wire } from '../../support/strict-wire.ts';

unregister();
afterEach(() => unregister());

/** Whom it is asked of each connection whether it counts as one to this name. */
const counts = (name: string): readonly (readonly [RegisterOptions, strict: boolean])[] => [
  [{ include: [name] }, true],
  [{ exclude: [name] }, false],
];
const countsNot = (name: string) =>
  counts(name).map(([options, strict]) => [options, !strict] as const);

/** A site that answers with half of something and is cut. */
const cutSite = (scope: Scope) =>
  site(scope, async ({ send, wire }) => {
    await send(ANSWERS['to the connection’s end'].cut);
    await wire.cut('FIN');
  });

/** Whether a socket was made strict; it is not used any further. */
function isStrict(socket: tls.TLSSocket): boolean {
  const strict = socketClosure(socket) !== null;
  socket.on('error', () => {}).destroy();
  return strict;
}

function check(
  expected: readonly (readonly [RegisterOptions, strict: boolean])[],
  connect: () => tls.TLSSocket,
): void {
  for (const [options, strict] of expected) {
    register(options);
    expect(isStrict(connect()), JSON.stringify(options)).toBe(strict);
    unregister();
  }
}

/** The same of a whole request, which is cut: what it fails with, or null. */
async function checkRequests(
  expected: readonly (readonly [RegisterOptions, strict: boolean])[],
  ask: () => Promise<unknown>,
): Promise<void> {
  for (const [options, strict] of expected) {
    register(options);
    const error = await ask();
    unregister();
    if (strict) expect(error, JSON.stringify(options)).toMatchObject({ code: 'ERR_TLS_TRUNCATED' });
    else expect(error, JSON.stringify(options)).toBe(null);
  }
}

/** What a response of `https` that is cut fails with. */
const ask = (port: number, options: https.RequestOptions) =>
  new Promise<unknown>((resolve) => {
    const asked = https.get({ host: '127.0.0.1', port, ca: pki().ca, agent: false, ...options });
    asked.on('error', resolve);
    asked.on('response', (response) => {
      response.on('error', resolve);
      response.on('end', () => resolve(null));
      response.resume();
    });
  });

/** A proxy that opens tunnels, in the clear. */
async function tunnels(scope: Scope): Promise<number> {
  const server = http.createServer();
  server.on('connect', (asked: http.IncomingMessage, socket: net.Socket) => {
    const { hostname, port } = new URL(`http://${asked.url}`);
    const through = net.connect({ host: hostname, port: Number(port), allowHalfOpen: true });
    for (const one of [socket, through]) {
      one.on('error', () => {});
      scope.defer(() => one.destroy());
    }
    through.on('connect', () => {
      socket.write('HTTP/1.1 200 OK\r\n\r\n');
      socket.pipe(through).pipe(socket);
    });
  });
  return listen(scope, (raw) => server.emit('connection', raw), { allowHalfOpen: true });
}

describeTls('include and exclude go by', () => {
  const options = { port: 1, ca: pki().ca };

  test('the host, not the servername', () => {
    const connect = () => tls.connect({ ...options, host: '127.0.0.1', servername: 'a.example' });
    check(counts('127.0.0.1'), connect);
    check(countsNot('a.example'), connect);
  });

  test('localhost, where no host is given', () => {
    check(counts('localhost'), () => tls.connect({ ...options, servername: 'a.example' }));
  });

  test('the path of a Unix socket, whatever host is given beside it', () => {
    const connect = () => tls.connect({ ...options, path: '/nowhere/a.sock', host: 'a.example' });
    check(counts('/nowhere/a.sock'), connect);
    check(countsNot('a.example'), connect);
  });

  test(
    'what https was told to connect to, not the Host header',
    clean(async (scope) => {
      const { port } = await cutSite(scope);
      const servername = 'localhost';
      const asked = () =>
        ask(port, { headers: { host: servername }, checkServerIdentity: () => undefined });
      await checkRequests(counts('127.0.0.1'), asked);
      await checkRequests(countsNot(servername), asked);
    }),
  );
});

describeTls('on a socket that is given, include and exclude go by', () => {
  const options = { ca: pki().ca, servername: 'a.example' };

  for (const [what, host, when] of [
    ['the name that it was connected to', 'localhost', 'once it is connected'],
    ['that name', 'localhost', 'while it connects'],
    ['the address that it is connected to', '127.0.0.1', 'once it is connected'],
  ] as const) {
    test(
      `${what}, ${when}`,
      clean(async (scope) => {
        scope.peersStay();
        const port = await listen(scope, (raw) => raw.on('error', () => {}));
        const transports: net.Socket[] = [];
        for (let at = 0; at < 4; at++) {
          const transport = net.connect({ host, port, family: 4 });
          scope.defer(() => transport.on('error', () => {}).destroy());
          transports.push(transport);
          if (when === 'once it is connected') await once(transport, 'connect');
        }
        const connect = () => tls.connect({ ...options, socket: transports.pop() as net.Socket });
        check(counts(host), connect);
        check(countsNot('a.example'), connect);
      }),
    );
  }

  test(
    'nothing, where it tells nothing: only * stands for it',
    clean(async (scope) => {
      scope.peersStay();
      const port = await listen(scope, (raw) => raw.on('error', () => {}));
      const connect = () => {
        const raw = net.connect(port, '127.0.0.1');
        scope.defer(() => raw.destroy());
        return tls.connect({ ...options, socket: new Wire(raw) });
      };
      check(counts('*'), connect);
      for (const name of ['localhost', '127.0.0.1', 'a.example']) check(countsNot(name), connect);
    }),
  );

  test(
    'what TLS was connected to, where that is the transport',
    clean(async (scope) => {
      scope.peersStay();
      const port = await listen(scope, (raw) => raw.on('error', () => {}));
      const connect = () => {
        const outer = tls.connect({
          ca: pki().ca,
          host: 'localhost',
          port,
          servername: 'b.example',
        });
        scope.defer(() => outer.on('error', () => {}).destroy());
        return tls.connect({ ...options, socket: outer });
      };
      check(counts('localhost'), connect);
      for (const name of ['a.example', 'b.example']) check(countsNot(name), connect);
    }),
  );

  test('the host that is given beside it', () => {
    const connect = () => {
      const transport = new net.Socket();
      return tls.connect({ ...options, socket: transport, host: 'b.example' });
    };
    check(counts('b.example'), connect);
    check(countsNot('a.example'), connect);
  });
});

describeTls('behind a proxy, include and exclude go by', () => {
  test(
    'the name of the proxy with https-proxy-agent, which tells no other',
    clean(async (scope) => {
      scope.peersStay();
      const { port } = await cutSite(scope);
      const agent = new HttpsProxyAgent(`http://127.0.0.1:${await tunnels(scope)}`);
      const asked = () => ask(port, { host: 'localhost', agent });
      await checkRequests(counts('127.0.0.1'), asked);
      await checkRequests(countsNot('localhost'), asked);
    }),
  );

  test(
    'the name of the site with undici’s ProxyAgent',
    clean(async (scope) => {
      scope.peersStay();
      const { port } = await cutSite(scope);
      const uri = `http://127.0.0.1:${await tunnels(scope)}`;
      const asked = async () => {
        const dispatcher = new ProxyAgent({ uri, requestTls: { ca: pki().ca } });
        try {
          const { body } = await request(`https://localhost:${port}/`, { dispatcher });
          return await body.text().then(
            () => null,
            (error) => (error.code === 'ERR_TLS_TRUNCATED' ? error : error.cause),
          );
        } finally {
          await dispatcher.destroy();
        }
      };
      await checkRequests(counts('localhost'), asked);
      await checkRequests(countsNot('127.0.0.1'), asked);
    }),
  );

  /** Since Node 24.5 and 22.21. */
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
  const hasProxyEnv = major > 24 || (major === 24 && minor >= 5) || (major === 22 && minor >= 21);
  test.runIf(hasProxyEnv)(
    'the name of the site with Node’s own proxyEnv',
    clean(async (scope) => {
      scope.peersStay();
      const { port } = await cutSite(scope);
      const proxyEnv = { HTTPS_PROXY: `http://127.0.0.1:${await tunnels(scope)}` };
      const agent = () => new https.Agent({ proxyEnv } as https.AgentOptions);
      const asked = () => ask(port, { host: 'localhost', agent: agent() });
      await checkRequests(counts('localhost'), asked);
      await checkRequests(countsNot('127.0.0.1'), asked);
    }),
  );
});
