/**
 * Servers that close properly: Node's, nginx, HAProxy, Apache httpd, JSSE. Those that are programs stand in front of a
 * plaintext server of ours, so that all of them give the same.
 */
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import http from 'node:http';
import http2 from 'node:http2';
import https from 'node:https';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';

export const TEXT = Buffer.from(
  'Count the ways. One, two, three, four, five, six, seven.\n'.repeat(20),
);
export const LARGE = Buffer.alloc(300_000, TEXT);
const ZIPPED = gzipSync(TEXT);

/** What each path gives; to HEAD nothing. */
export const PATHS: Readonly<Record<string, Buffer>> = {
  '/length': TEXT,
  '/chunked': TEXT,
  '/close': TEXT,
  '/large': LARGE,
  '/large-close': LARGE,
  '/gzip': TEXT,
  '/empty': Buffer.alloc(0),
  '/204': Buffer.alloc(0),
  '/304': Buffer.alloc(0),
};

/** Milliseconds for which a connection without a request is kept. */
const KEPT = 300;

function respond(request: http.IncomingMessage, response: http.ServerResponse): void {
  response.on('error', () => {});
  request.resume();
  const path = String(request.url);
  const byClosure = path === '/close' || path === '/large-close';
  const body = PATHS[path] ?? Buffer.alloc(0);
  if (byClosure) {
    response.shouldKeepAlive = false;
    response.setHeader('Connection', 'close');
    response.removeHeader('Transfer-Encoding');
  }
  if (path === '/204' || path === '/304') response.writeHead(Number(path.slice(1))).end();
  else if (path === '/gzip') {
    response.writeHead(200, { 'Content-Encoding': 'gzip', 'Content-Length': ZIPPED.length });
    response.end(ZIPPED);
  } else if (byClosure || path === '/chunked') {
    response.write(body.subarray(0, 100));
    setImmediate(() => response.end(body.subarray(100)));
  } else {
    response.writeHead(200, { 'Content-Length': body.length });
    response.end(body);
  }
}

/** Where a server may be told to read and write, and what it is. */
export interface Ground {
  readonly folder: string;
  readonly key: string;
  readonly cert: string;
  /** The port of the plaintext server. */
  readonly backend: number;
}

export interface Server {
  readonly name: string;
  /** What Debian calls it; null for what is always there. */
  readonly package: string | null;
  readonly isThere: boolean;
  readonly protocols: readonly ('http1' | 'http2')[];
  readonly paths: readonly string[];
  /** @returns the port, and how to stop it. */
  start(ground: Ground): Promise<Running>;
}

export interface Running {
  /** A connection's port: for some each connection has its own. */
  port(): Promise<number>;
  stop(): Promise<void>;
}

const find = (name: string): string | null =>
  [...(process.env['PATH'] ?? '').split(':'), '/usr/sbin']
    .map((folder) => join(folder, name))
    .find((file) => existsSync(file)) ?? null;

async function listening(server: net.Server): Promise<Running> {
  const sockets = new Set<net.Socket>();
  server.on('connection', (socket: net.Socket) => {
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as net.AddressInfo;
  return {
    port: async () => port,
    async stop() {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

async function freePort(): Promise<number> {
  const { port, stop } = await listening(net.createServer());
  await stop();
  return port();
}

/** A program that listens on a port that it is told. */
async function program(command: string, args: readonly string[], port: number): Promise<Running> {
  const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  let said = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (text) => {
      said = `${said}${text}`.slice(-2_000);
    });
  }
  let ended: string | null = null;
  const end = new Promise<void>((resolve) => {
    child.once('error', (error) => {
      ended = error.message;
      resolve();
    });
    child.once('close', (code, signal) => {
      ended = signal ?? `exit ${code}`;
      resolve();
    });
  });
  // Whoever ends this process ends it, too.
  process.once('exit', () => child.kill('SIGKILL'));
  for (;;) {
    if (ended !== null) throw new Error(`${command}: ${ended}\n${said}`);
    const socket = net.connect(port, '127.0.0.1');
    const isThere = await new Promise<boolean>((resolve) => {
      socket.once('connect', () => resolve(true));
      socket.once('error', () => resolve(false));
    });
    socket.destroy();
    if (isThere) break;
    await new Promise((resolve) => setImmediate(resolve));
  }
  return {
    port: async () => port,
    async stop() {
      child.kill('SIGKILL');
      await end;
    },
  };
}

/** A folder of its own for a server that runs as somebody else. */
function folderOf({ folder }: Ground, name: string): string {
  const own = join(folder, name);
  mkdirSync(own, { mode: 0o777 });
  return own;
}

async function node({ key, cert }: Ground): Promise<Running> {
  const server = https.createServer({ key, cert, keepAliveTimeout: KEPT }, respond);
  // The newest adds this to what it was told.
  if ('keepAliveTimeoutBuffer' in server) Object.assign(server, { keepAliveTimeoutBuffer: 0 });
  server.on('tlsClientError', () => {});
  return listening(server);
}

async function node2({ key, cert }: Ground): Promise<Running> {
  const server = http2.createSecureServer({ key, cert });
  server.on('sessionError', () => {});
  server.on('tlsClientError', () => {});
  server.on('stream', (stream, headers) => {
    stream.on('error', () => {});
    const path = String(headers[':path']);
    const status = path === '/204' || path === '/304' ? Number(path.slice(1)) : 200;
    const body = path === '/gzip' ? ZIPPED : (PATHS[path] ?? Buffer.alloc(0));
    const ends = status !== 200 || headers[':method'] === 'HEAD';
    const coding = path === '/gzip' ? { 'content-encoding': 'gzip' } : {};
    stream.respond({ ':status': status, ...coding }, { endStream: ends });
    if (!ends) stream.end(body);
    // GOAWAY, and close_notify behind it. (undici fails what a GOAWAY finds in progress.)
    const { session } = stream;
    stream.once('close', () => session?.close());
  });
  return listening(server);
}

async function nginx(ground: Ground): Promise<Running> {
  const folder = folderOf(ground, 'nginx');
  const port = await freePort();
  const file = join(folder, 'nginx.conf');
  const upstream = `proxy_pass http://127.0.0.1:${ground.backend};`;
  writeFileSync(
    file,
    `daemon off;
master_process off;
pid ${folder}/pid;
error_log stderr;
events {}
http {
  access_log off;
  ${['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map((one) => `${one}_temp_path ${folder}/${one};`).join('\n  ')}
  server {
    listen 127.0.0.1:${port} ssl http2;
    ssl_certificate ${ground.folder}/cert.pem;
    ssl_certificate_key ${ground.folder}/key.pem;
    keepalive_timeout ${KEPT}ms;
    proxy_http_version 1.1;
    location / { ${upstream} }
    # Neither a length nor chunks: the body ends with the connection.
    location /close { chunked_transfer_encoding off; ${upstream} }
    location /large-close { chunked_transfer_encoding off; ${upstream} }
  }
}
`,
  );
  return program(find('nginx') as string, ['-p', folder, '-e', 'stderr', '-c', file], port);
}

async function haproxy(ground: Ground): Promise<Running> {
  const folder = folderOf(ground, 'haproxy');
  const port = await freePort();
  const file = join(folder, 'haproxy.cfg');
  const pem = join(folder, 'both.pem');
  writeFileSync(pem, `${ground.cert}\n${ground.key}`);
  writeFileSync(
    file,
    `defaults
  mode http
  timeout connect 5s
  timeout server 5s
  # Also for a handshake, on a machine that is busy.
  timeout client 3s
  timeout http-keep-alive ${KEPT}ms
frontend front
  bind 127.0.0.1:${port} ssl crt ${pem} alpn h2,http/1.1
  default_backend back
backend back
  server one 127.0.0.1:${ground.backend}
`,
  );
  return program(find('haproxy') as string, ['-db', '-f', file], port);
}

const APACHE = '/usr/lib/apache2/modules';
const APACHE_MODULES = [
  ...['mpm_event', 'authz_core', 'ssl', 'socache_shmcb', 'proxy', 'proxy_http', 'setenvif'],
  'http2',
];

async function apache(ground: Ground): Promise<Running> {
  const folder = folderOf(ground, 'apache');
  const port = await freePort();
  const file = join(folder, 'apache.conf');
  writeFileSync(
    file,
    `${APACHE_MODULES.map((name) => `LoadModule ${name}_module ${APACHE}/mod_${name}.so`).join('\n')}
ServerName localhost
ServerRoot ${folder}
DefaultRuntimeDir ${folder}
PidFile ${folder}/pid
ErrorLog ${folder}/log
DocumentRoot ${folder}
User #${process.getuid?.() === 0 ? 65534 : process.getuid?.()}
Listen 127.0.0.1:${port}
SSLSessionCache none
KeepAliveTimeout ${KEPT}ms
Protocols h2 http/1.1
# Neither a length nor chunks: the body ends with the connection.
SetEnvIf Request_URI close$ force-response-1.0 nokeepalive
<VirtualHost *:${port}>
  SSLEngine on
  SSLCertificateFile ${ground.folder}/cert.pem
  SSLCertificateKeyFile ${ground.folder}/key.pem
  ProxyPass / http://127.0.0.1:${ground.backend}/
</VirtualHost>
`,
  );
  return program(find('apache2') as string, ['-X', '-f', file], port);
}

function hasJdk(): boolean {
  try {
    const modules = execFileSync('java', ['--list-modules'], { encoding: 'utf8', stdio: 'pipe' });
    return modules.includes('jdk.compiler');
  } catch {
    return false;
  }
}

const JSSE = fileURLToPath(new URL('../../test/support/Jsse.java', import.meta.url));

/** It says "hello", to the end of the connection. */
export const JSSE_TEXT = Buffer.from('hello');

async function jsse(ground: Ground): Promise<Running> {
  const identity = join(ground.folder, 'identity.p12');
  execFileSync(
    'openssl',
    [
      ...['pkcs12', '-export', '-inkey', `${ground.folder}/key.pem`],
      ...['-in', `${ground.folder}/cert.pem`, '-out', identity, '-passout', 'pass:changeit'],
    ],
    { stdio: 'pipe' },
  );
  const child = spawn('java', [JSSE, identity, 'changeit'], { stdio: ['pipe', 'pipe', 'pipe'] });
  process.once('exit', () => child.kill('SIGKILL'));
  let said = '';
  child.stderr.on('data', (text) => {
    said += text;
  });
  const control = await new Promise<number>((resolve, reject) => {
    createInterface({ input: child.stdout }).once('line', (line) => resolve(Number(line)));
    child.once('error', reject);
    child.once('close', () => reject(new Error(`java ended: ${said}`)));
  });
  let turns = 0;
  return {
    async port() {
      const socket = net.connect(control, '127.0.0.1');
      // close() sends user_canceled and close_notify, shutdownOutput() close_notify alone.
      const how = turns++ % 2 === 0 ? 'close' : 'half';
      socket.write(`serve ${turns % 4 < 2 ? 'TLSv1.3' : 'TLSv1.2'} ${how}\n`);
      let answer = '';
      for await (const chunk of socket) answer += chunk;
      return Number(answer);
    },
    async stop() {
      const end = once(child, 'close');
      child.stdin.end();
      await end;
    },
  };
}

const ALL = Object.keys(PATHS);
const BOTH = ['http1', 'http2'] as const;

export const SERVERS: readonly Server[] = [
  {
    ...{ name: 'Node https', package: null, isThere: true, protocols: ['http1'], paths: ALL },
    start: node,
  },
  {
    ...{ name: 'Node http2', package: null, isThere: true, protocols: ['http2'], paths: ALL },
    start: node2,
  },
  {
    ...{ name: 'nginx', package: 'nginx-light', isThere: find('nginx') !== null },
    ...{ protocols: BOTH, paths: ALL },
    start: nginx,
  },
  {
    ...{ name: 'HAProxy', package: 'haproxy', isThere: find('haproxy') !== null },
    ...{ protocols: BOTH, paths: ALL },
    start: haproxy,
  },
  {
    ...{ name: 'Apache httpd', package: 'apache2-bin' },
    isThere: find('apache2') !== null && existsSync(`${APACHE}/mod_http2.so`),
    ...{ protocols: BOTH, paths: ALL },
    start: apache,
  },
  {
    ...{ name: 'JSSE', package: 'default-jdk-headless', isThere: hasJdk() },
    ...{ protocols: ['http1'], paths: ['/jsse'] },
    start: jsse,
  },
];

/** What all servers stand on. */
export async function prepareGround(identity: {
  readonly key: string;
  readonly cert: string;
}): Promise<Ground & { readonly end: () => Promise<void> }> {
  const folder = mkdtempSync(join(tmpdir(), 'close-notify-http-'));
  const { key, cert } = identity;
  writeFileSync(join(folder, 'key.pem'), key);
  writeFileSync(join(folder, 'cert.pem'), cert);
  const server = http.createServer(respond);
  const backend = await listening(server);
  return {
    ...{ folder, key, cert, backend: await backend.port() },
    async end() {
      await backend.stop();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}
