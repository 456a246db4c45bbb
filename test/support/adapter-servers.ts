/** Servers for the clients of the tests, with TLS and the test certificate, on loopback. */
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import http from 'node:http';
import http2 from 'node:http2';
import https from 'node:https';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import tls from 'node:tls';
import grpc from '@grpc/grpc-js';
import { Aedes } from 'aedes';
import { describe, test } from 'vitest';
import { WebSocketServer } from 'ws';
import { turn } from './core-scope.ts';
import { freePort } from './core-transport.ts';
import { testPki } from './interop-pki.ts';
import { PeerProcess } from './interop-process.ts';
import { REAL_SERVERS, startServer } from './starttls-servers.ts';

/** A server that takes connections. */
export interface TestServer {
  readonly port: number;
  /** How many requests, calls or messages it has seen so far. Real servers are asked by a client of theirs. */
  readonly seen?: () => number;
  close(): Promise<unknown>;
}

/** What every server gives in its own way: twelve parts, each written by itself. */
export const PARTS: readonly Buffer[] = Array.from({ length: 12 }, (_, n) =>
  Buffer.from(n === 0 ? 'Pay $100 to Alice, not '.padEnd(900, '.') : `part ${n} `.repeat(110)),
);
export const TEXT = Buffer.concat(PARTS);

/** What the databases give: sixty rows of 1000 letters. */
export const ROWS = Buffer.from(
  Array.from({ length: 60 }, (_, n) => String.fromCharCode(65 + ((n + 1) % 26)).repeat(1000)).join(
    '',
  ),
);

/** How an HTTP body says where it ends. */
export const BODIES = ['length', 'chunked', 'close'] as const;
export type Body = (typeof BODIES)[number];

/** Writes the parts, each when the one before has been taken, so that each has its own records. */
async function writeParts(to: { write(part: Buffer, taken: () => void): unknown }): Promise<void> {
  for (const part of PARTS) {
    await new Promise<void>((resolve) => to.write(part, () => resolve()));
    // A stream that is gone calls back at once.
    await turn();
  }
}

/** Counts the events of this name. */
function counter(of: NodeJS.EventEmitter, event: string): () => number {
  let count = 0;
  of.on(event, () => count++);
  return () => count;
}

async function serve(
  server: net.Server,
  { seen, also = () => {} }: { seen?: () => number; also?: () => unknown } = {},
): Promise<TestServer> {
  const sockets = new Set<net.Socket>();
  server.on('connection', (socket: net.Socket) => {
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
  });
  // Their connections are cut, which is what the tests are about.
  server.on('tlsClientError', () => {});
  server.on('secureConnection', (socket: tls.TLSSocket) => socket.on('error', () => {}));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    port: (server.address() as net.AddressInfo).port,
    ...(seen && { seen }),
    async close() {
      await also();
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

/**
 * Answers `/length`, `/chunked` and `/close`, and closes the connection behind the answer; `/length` also in part
 * (`Range: bytes=FIRST-`).
 */
export function respond(request: http.IncomingMessage, response: http.ServerResponse): void {
  response.on('error', () => {});
  // What is uploaded is read: a socket that is closed with unread bytes resets its connection.
  request.resume();
  response.shouldKeepAlive = false;
  response.setHeader('Connection', 'close');
  response.setHeader('Content-Type', 'text/plain');
  if (request.url === '/length') response.setHeader('Content-Length', TEXT.length);
  // Without a length and without chunks, the body ends with the connection.
  if (request.url === '/close') response.removeHeader('Transfer-Encoding');
  const first = Number(/^bytes=(\d+)-/.exec(request.headers.range ?? '')?.[1]);
  if (request.url === '/length' && Number.isInteger(first)) {
    response.writeHead(206, {
      'Content-Length': TEXT.length - first,
      'Content-Range': `bytes ${first}-${TEXT.length - 1}/${TEXT.length}`,
    });
    response.end(TEXT.subarray(first));
    return;
  }
  void writeParts(response).then(() => response.end());
}

/** As much as no buffer on the way holds: whoever reads slowly makes the server wait. */
export const MUCH = Buffer.alloc(1_000_000, TEXT);

/** Gives it all at once to every request, as a body that ends with the connection. */
export async function muchServer(): Promise<TestServer> {
  const { cert, key } = await testPki();
  return serve(
    https.createServer({ cert, key }, (_request, response) => {
      response.on('error', () => {});
      response.shouldKeepAlive = false;
      response.removeHeader('Transfer-Encoding');
      response.write(MUCH);
      response.end();
    }),
  );
}

/** HTTP/1.1, by Node. */
export async function httpsServer(options: tls.SecureContextOptions = {}): Promise<TestServer> {
  const { cert, key } = await testPki();
  const server = https.createServer({ cert, key, ...options }, respond);
  return serve(server, { seen: counter(server, 'request') });
}

/** HTTP/2, by Node. */
export async function http2Server(): Promise<TestServer> {
  const { cert, key } = await testPki();
  const server = http2.createSecureServer({ cert, key });
  server.on('stream', (stream) => {
    stream.on('error', () => {});
    stream.respond({ ':status': 200 });
    void writeParts(stream).then(() => stream.end());
  });
  server.on('sessionError', () => {});
  return serve(server, { seen: counter(server, 'stream') });
}

/** Sends the parts as messages over WebSocket, then closes it. */
export async function wsServer(): Promise<TestServer> {
  const { cert, key } = await testPki();
  const server = https.createServer({ cert, key });
  const sockets = new WebSocketServer({ server });
  sockets.on('connection', async (socket) => {
    socket.on('error', () => {});
    for (const part of PARTS) {
      await new Promise((resolve) => socket.send(part, resolve));
      await turn();
    }
    socket.close(1000);
  });
  return serve(server, { seen: counter(sockets, 'connection'), also: () => sockets.close() });
}

/** A message that waits in the topic 'text', as MQTT's retained messages do. */
export async function mqttBroker(): Promise<TestServer> {
  const { cert, key } = await testPki();
  const broker = await Aedes.createBroker();
  await new Promise<void>((resolve, reject) =>
    broker.publish(
      { cmd: 'publish', topic: 'text', payload: ROWS, retain: true, qos: 0, dup: false },
      (error) => (error ? reject(error) : resolve()),
    ),
  );
  broker.on('clientError', () => {});
  broker.on('connectionError', () => {});
  let published = 0;
  // The broker also publishes messages of its own.
  broker.on('publish', (_packet, client) => {
    if (client !== null) published++;
  });
  return serve(tls.createServer({ cert, key }, broker.handle), {
    seen: () => published,
    also: () => broker.close(),
  });
}

/** Streams the parts as messages. */
export async function grpcServer(): Promise<TestServer> {
  const { cert, key } = await testPki();
  const identity = (bytes: Buffer) => bytes;
  let seen = 0;
  const server = new grpc.Server();
  server.addService(
    {
      Text: {
        path: '/test.Texts/Text',
        requestStream: false,
        responseStream: true,
        requestSerialize: identity,
        requestDeserialize: identity,
        responseSerialize: identity,
        responseDeserialize: identity,
      },
    },
    {
      Text: (call: grpc.ServerWritableStream<Buffer, Buffer>) => {
        seen++;
        call.on('error', () => {});
        void writeParts(call).then(() => call.end());
      },
    },
  );
  const credentials = grpc.ServerCredentials.createSsl(null, [
    { cert_chain: Buffer.from(cert), private_key: Buffer.from(key) },
  ]);
  const port = await new Promise<number>((resolve, reject) =>
    server.bindAsync('127.0.0.1:0', credentials, (error, port) =>
      error === null ? resolve(port) : reject(error),
    ),
  );
  return { port, seen: () => seen, close: async () => server.forceShutdown() };
}

/** What the server of `smtpServer` answers to a message that it has taken whole. */
export const taken = (bytes: number) => `250 took ${bytes} bytes`;

/**
 * SMTP, as much of it as it takes to deliver a message. It takes a message only with the line that
 * ends it, and answers with its size.
 */
export async function smtpServer(kind: 'implicit' | 'starttls'): Promise<TestServer> {
  const { cert, key } = await testPki();
  const secureContext = tls.createSecureContext({ cert, key });
  let seen = 0;
  const talk = (socket: net.Socket, secure: boolean) => {
    socket.on('error', () => {});
    const lines = createInterface({ input: socket, crlfDelay: Number.POSITIVE_INFINITY });
    // It repeats the errors of its input.
    lines.on('error', () => {});
    let size = -1;
    const onLine = (line: string) => {
      if (size >= 0) {
        if (line !== '.') {
          size += line.length + 2;
          return;
        }
        seen++;
        socket.write(`${taken(size)}\r\n`);
        size = -1;
        return;
      }
      const verb = line.slice(0, 4).toUpperCase();
      if (verb === 'STAR' && !secure) {
        lines.close();
        socket.removeAllListeners('data');
        socket.write('220 go on\r\n');
        talk(new tls.TLSSocket(socket, { isServer: true, secureContext }), true);
        return;
      }
      if (verb === 'DATA') size = 0;
      if (verb === 'QUIT') {
        socket.end('221 bye\r\n');
        return;
      }
      socket.write(
        verb === 'EHLO'
          ? `250-localhost\r\n${secure ? '' : '250-STARTTLS\r\n'}250 8BITMIME\r\n`
          : verb === 'DATA'
            ? '354 go on\r\n'
            : '250 yes\r\n',
      );
    };
    lines.on('line', onLine);
    return socket;
  };
  if (kind === 'starttls') {
    return serve(
      net.createServer((socket) => talk(socket, false).write('220 localhost\r\n')),
      { seen: () => seen },
    );
  }
  return serve(
    tls.createServer({ cert, key }, (socket) => talk(socket, true).write('220 localhost\r\n')),
    { seen: () => seen },
  );
}

function find(name: string): string | null {
  const folders = [...(process.env['PATH'] ?? '').split(':'), '/usr/sbin'];
  return folders.map((one) => path.join(one, name)).find((file) => existsSync(file)) ?? null;
}

/** The real servers, with the Debian packages that bring them. */
export const PEERS = {
  postgres: {
    label: 'PostgreSQL',
    package: 'postgresql',
    binary: REAL_SERVERS.find(({ protocol }) => protocol === 'postgres')?.binary ?? null,
  },
  mysql: {
    label: 'MariaDB',
    package: 'mariadb-server-core',
    binary: REAL_SERVERS.find(({ protocol }) => protocol === 'mysql')?.binary ?? null,
  },
  redis: { label: 'Redis', package: 'redis-server', binary: find('redis-server') },
  nginx: { label: 'nginx', package: 'nginx-light', binary: find('nginx') },
} as const;
export type Peer = keyof typeof PEERS;

/** `describe` for tests that need these; a missing one's tests are skipped by name, unless REQUIRE_PEERS=1. */
export function describeAdapter(peers: readonly Peer[], name: string, body: () => void): void {
  const missing = peers.map((peer) => PEERS[peer]).filter(({ binary }) => binary === null);
  describe(name, () => {
    if (missing.length === 0) {
      body();
      return;
    }
    const what = missing.map((peer) => `${peer.label} (${peer.package})`).join(' and ');
    test.skipIf(process.env['REQUIRE_PEERS'] !== '1')(`needs ${what}`, () => {
      throw new Error(`${what} is not installed, and REQUIRE_PEERS=1 asks for all peers`);
    });
  });
}

/** PostgreSQL: user test, no password. */
export const postgres = () => database('postgres');
/** MariaDB: any user. */
export const mysql = () => database('mysql');

async function database(protocol: 'postgres' | 'mysql'): Promise<TestServer> {
  const server = REAL_SERVERS.find((one) => one.protocol === protocol);
  if (server === undefined) throw new Error(`no server for ${protocol}`);
  const running = await startServer(server, true);
  return { port: running.port, close: () => running.stop() };
}

/** Waits until somebody listens. @throws when the process ends instead. */
async function listening(port: number, child: PeerProcess): Promise<void> {
  for (;;) {
    if (child.exit !== null) throw new Error(`${child.exit}\n${child.output}`);
    const connected = await new Promise<boolean>((resolve) => {
      const socket = net.connect(port, '127.0.0.1');
      socket.once('connect', () => {
        socket.destroy();
        resolve(true);
      });
      socket.once('error', () => resolve(false));
    });
    if (connected) return;
    await turn();
  }
}

/** Starts a server that has its settings in a file. */
async function configured(
  command: string,
  configure: (folder: string, port: number) => { settings: string; args(file: string): string[] },
): Promise<TestServer> {
  const folder = await mkdtemp(path.join(os.tmpdir(), 'close-notify-adapter-'));
  const port = await freePort();
  const file = path.join(folder, 'settings');
  await chmod(folder, 0o700);
  const { settings, args } = configure(folder, port);
  await writeFile(file, settings);
  const child = new PeerProcess(command, args(file));
  const close = async () => {
    await child.kill();
    await rm(folder, { recursive: true, force: true });
  };
  try {
    await listening(port, child);
  } catch (error) {
    await close();
    throw error;
  }
  return { port, close };
}

/** Redis: the key 'text' holds `ROWS`. */
export async function redis(): Promise<TestServer> {
  const { certFile, keyFile, ca } = await testPki();
  const server = await configured(PEERS.redis.binary ?? 'redis-server', (folder, port) => ({
    settings: `bind 127.0.0.1
port 0
tls-port ${port}
tls-cert-file ${certFile}
tls-key-file ${keyFile}
tls-ca-cert-file ${certFile}
tls-auth-clients no
dir ${folder}
save ""
appendonly no
`,
    args: (file) => [file],
  }));
  const socket = tls.connect({ port: server.port, host: '127.0.0.1', ca, servername: 'localhost' });
  socket.write(`*3\r\n$3\r\nSET\r\n$4\r\ntext\r\n$${ROWS.length}\r\n${ROWS}\r\n`);
  const [answer] = await once(socket, 'data');
  socket.destroy();
  if (String(answer) !== '+OK\r\n') throw new Error(`Redis: ${answer}`);
  return server;
}

/** nginx in front of a plaintext HTTP server, so that the bodies are those of `respond`. */
export async function nginx(): Promise<TestServer> {
  const { certFile, keyFile } = await testPki();
  const upstream = await serve(http.createServer(respond));
  const server = await configured(PEERS.nginx.binary ?? 'nginx', (folder, port) => ({
    settings: `daemon off;
master_process off;
pid ${folder}/pid;
error_log stderr;
events {}
http {
  access_log off;
  client_body_temp_path ${folder}/body;
  proxy_temp_path ${folder}/proxy;
  fastcgi_temp_path ${folder}/fastcgi;
  uwsgi_temp_path ${folder}/uwsgi;
  scgi_temp_path ${folder}/scgi;
  server {
    listen 127.0.0.1:${port} ssl;
    ssl_certificate ${certFile};
    ssl_certificate_key ${keyFile};
    keepalive_timeout 0;
    proxy_buffering off;
    proxy_http_version 1.1;
    location / { proxy_pass http://127.0.0.1:${upstream.port}; }
    # Neither a length nor chunks: the body ends with the connection.
    location /close { chunked_transfer_encoding off; proxy_pass http://127.0.0.1:${upstream.port}; }
  }
}
`,
    args: (file) => ['-p', folder, '-e', 'stderr', '-c', file],
  }));
  return {
    port: server.port,
    close: () => Promise.all([server.close(), upstream.close()]),
  };
}
