/**
 * Peers of the matrix in peers-matrix.ts: each a program that was not made for it, driven by what it
 * takes from anybody (its standard input, a plaintext side, HTTP).
 *
 * None is asked to misbehave. Where a transport has to end without closure, the program is killed and
 * its kernel ends it; where it must not answer, it is stopped.
 */
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import net, { type AddressInfo } from 'node:net';
import path from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { TlsStream } from '../../../src/index.ts';
import { freePort } from '../../support/core-transport.ts';
import { type TestPki, temporaryDirectory } from '../../support/interop-pki.ts';
import { PeerProcess } from '../../support/interop-process.ts';
import type { Handshake } from './party.ts';
import { TEXT } from './party.ts';
import type { Ending } from './peers-matrix.ts';

/** What a peer is to be in one run. */
export interface PeerPlace {
  /** Its role in the handshake. */
  readonly role: Handshake;
  readonly ending: Ending;
  readonly pki: TestPki;
}

/** One run's peer. */
export abstract class PeerParty {
  protected readonly place: PeerPlace;
  protected process: PeerProcess | null = null;

  constructor(place: PeerPlace) {
    this.place = place;
  }

  /** As a server: begins to listen. Resolves to its port. */
  abstract listen(): Promise<number>;
  /** As a client: begins to connect. */
  abstract connect(port: number): Promise<void>;
  /** Data goes both ways, so that both handshakes are over and all that was sent has been read. */
  abstract greet(stream: TlsStream): Promise<void>;
  /** Has it close first, as it does when it is done. */
  abstract close(stream: TlsStream): Promise<void>;
  /** Has it write `TEXT`. */
  abstract write(stream: TlsStream): Promise<void>;
  /** Has it do what it does when we have ended, if it does not by itself. */
  async react(): Promise<void> {}
  /** What it said of our ending, once it has seen it; null where it says nothing. */
  abstract said(): Promise<string | null>;

  get running(): PeerProcess {
    if (this.process === null) throw new Error('the peer has not been started');
    return this.process;
  }

  async dispose(): Promise<void> {
    await this.process?.kill();
  }
}

// ---- text over a TLS stream, at our side

const text = (bytes: Uint8Array | null): string =>
  bytes === null ? '' : Buffer.from(bytes).toString();

/** Reads until `pattern` has come. */
async function readUntil(stream: TlsStream, pattern: RegExp): Promise<void> {
  let have = '';
  while (!pattern.test(have)) {
    const bytes = await stream.read();
    if (bytes === null) throw new Error(`closed after '${have}'`);
    have += text(bytes);
  }
}

/** Those lines of an output that say something of the ending, without what differs from run to run. */
function lines(output: string, pattern: RegExp): string[] {
  return output
    .split('\n')
    .map((line) => pattern.exec(line)?.[0].trim())
    .filter((line) => line !== undefined);
}

// ---- Python

const PYTHON_PARTY = fileURLToPath(new URL('./python/party.py', import.meta.url));

/** Python's ssl, blocking, with nothing between: each command is one call. */
export class PythonPeer extends PeerParty {
  #sent = 0;

  #start(port?: number): void {
    const { certFile, keyFile } = this.place.pki;
    const args = [PYTHON_PARTY, this.place.role, this.version, certFile, keyFile];
    this.process = new PeerProcess('python3', port === undefined ? args : [...args, `${port}`]);
    void this.#do('handshake').catch(() => {});
  }

  /** Set by the matrix: Python has to be told. */
  version = '1.3';

  async listen(): Promise<number> {
    this.#start();
    return this.running
      .until((output) => /"listening", "port": (\d+)/.exec(output)?.[1])
      .then(Number);
  }

  async connect(port: number): Promise<void> {
    this.#start(port);
  }

  async greet(stream: TlsStream): Promise<void> {
    await stream.write('hello');
    if ((await this.#do('read 5')) !== 'hello') throw new Error('no greeting');
    await this.#do('write greetings');
    await readUntil(stream, /greetings/);
  }

  async close(): Promise<void> {
    // It blocks until we answer.
    for (const command of ['unwrap', 'close']) void this.#do(command).catch(() => {});
  }

  async write(): Promise<void> {
    await this.#do(`write ${TEXT}`);
  }

  readonly #reactions: string[] = [];

  override async react(): Promise<void> {
    for (const call of ['recv', 'unwrap'] as const) {
      const gave = await this.#do(call === 'recv' ? 'read 1' : call).then(
        (value) => (value === 'end' ? "b''" : (value ?? 'returns')),
        (error: Error) => error.message.replace(/ \(_ssl\.c:\d+\)/, ''),
      );
      this.#reactions.push(`${call}: ${gave}`);
    }
    await this.#do('close');
  }

  async said(): Promise<string | null> {
    return this.#reactions.length > 0 ? this.#reactions.join('; ') : null;
  }

  async #do(command: string): Promise<string | null> {
    const index = this.#sent++;
    this.running.send(command);
    const line = await this.running.until((output) => {
      const whole = output.slice(0, output.lastIndexOf('\n') + 1).split('\n');
      return whole.filter((one) => one.startsWith('{"op"'))[index];
    });
    const { text: value, error } = JSON.parse(line) as { text?: string | null; error?: string };
    if (error !== undefined) throw new Error(error);
    return value ?? null;
  }
}

// ---- GnuTLS

/** gnutls-serv: echoes; told to speak HTTP it closes first. */
export class GnutlsServ extends PeerParty {
  async listen(): Promise<number> {
    const { certFile, keyFile } = this.place.pki;
    const mode = this.place.ending === 'peer-closes' ? '--http' : '--echo';
    return onFreePort(async (port) => {
      this.process = new PeerProcess('gnutls-serv', [
        ...[mode, '--disable-client-cert', '--port', `${port}`],
        ...['--x509certfile', certFile, '--x509keyfile', keyFile],
      ]);
      await this.process.until((output) => /IPv4 .*done/.exec(output));
    });
  }

  async connect(): Promise<void> {
    throw new Error('gnutls-serv is a server');
  }

  async greet(stream: TlsStream): Promise<void> {
    // As an HTTP server it has one answer to give, with which it closes.
    if (this.place.ending === 'peer-closes') return;
    await stream.write('hello\n');
    await readUntil(stream, /hello\n/);
  }

  async close(stream: TlsStream): Promise<void> {
    await stream.write('GET / HTTP/1.0\r\n\r\n');
  }

  async write(stream: TlsStream): Promise<void> {
    await stream.write(`${TEXT}\n`);
  }

  async said(): Promise<string | null> {
    // It has nothing to say of a proper end.
    if (this.place.ending !== 'we-cut') return null;
    return this.running.until((output) => /^Error: (.*)$/m.exec(output)?.[1]?.trim());
  }
}

/** gnutls-cli: sends what it is told on its standard input, and closes when that ends. */
export class GnutlsCli extends PeerParty {
  async listen(): Promise<number> {
    throw new Error('gnutls-cli is a client');
  }

  async connect(port: number): Promise<void> {
    // A line "quit" ends its standard input; the shell's place is taken by gnutls-cli itself.
    const script = `exec gnutls-cli "$@" < <(exec sed -un '/^quit$/q;p' 2>/dev/null)`;
    this.process = new PeerProcess('bash', [
      ...['-c', script, 'gnutls-cli', '--x509cafile', this.place.pki.certFile],
      ...['--port', `${port}`, '--sni-hostname', 'localhost', '--verify-hostname', 'localhost'],
      '127.0.0.1',
    ]);
  }

  async greet(stream: TlsStream): Promise<void> {
    this.running.send('hello');
    await readUntil(stream, /hello\n/);
    await stream.write('greetings\n');
    await this.running.until((output) => /^greetings$/m.exec(output));
  }

  async close(): Promise<void> {
    this.running.send('quit');
  }

  async write(): Promise<void> {
    this.running.send(TEXT);
  }

  async said(): Promise<string | null> {
    const exit = await this.running.ended();
    const found = lines(this.running.output, /^(- Peer has closed.*|\*\*\* .*)$/);
    return [...found, exit].join('; ');
  }
}

// ---- stunnel

/** stunnel between our TLS and a plaintext side, which the test plays as well. */
export class StunnelPeer extends PeerParty {
  #backend: net.Server | null = null;
  /** The plaintext side: as a server stunnel connects to it, as a client it is connected to. */
  #plain: net.Socket | null = null;
  #plainSide: Promise<net.Socket> | null = null;
  #heard = '';
  #plainEnded: Promise<string> | null = null;

  async listen(): Promise<number> {
    const backend = net.createServer();
    this.#backend = backend;
    backend.listen(0, '127.0.0.1');
    await once(backend, 'listening');
    this.#plainSide = once(backend, 'connection').then(([socket]) => this.#hear(socket));
    const { certFile, keyFile } = this.place.pki;
    const { port } = backend.address() as AddressInfo;
    return this.#start(`connect = 127.0.0.1:${port}\ncert = ${certFile}\nkey = ${keyFile}\n`);
  }

  async connect(port: number): Promise<void> {
    const { certFile } = this.place.pki;
    const plainPort = await this.#start(
      `client = yes\nconnect = 127.0.0.1:${port}\nsni = localhost\nverifyChain = yes\n` +
        `checkHost = localhost\nCAfile = ${certFile}\n`,
    );
    const socket = net.connect({ port: plainPort, host: '127.0.0.1', noDelay: true });
    this.#plainSide = Promise.resolve(this.#hear(socket));
  }

  async #start(service: string): Promise<number> {
    const config = path.join(await temporaryDirectory(), `stunnel-${++counter}.conf`);
    const common = 'foreground = yes\npid =\nsyslog = no\ndebug = info\n';
    const options =
      'socket = a:TCP_NODELAY=1\nsocket = l:TCP_NODELAY=1\nsocket = r:TCP_NODELAY=1\n';
    await writeFile(config, `${common}${options}[peer]\naccept = 127.0.0.1:0\n${service}`);
    this.process = new PeerProcess(find('stunnel4') ?? 'stunnel', [config]);
    const port = await this.process.until((out) => /bound to 127\.0\.0\.1:(\d+)/.exec(out)?.[1]);
    return Number(port);
  }

  #hear(socket: net.Socket): net.Socket {
    this.#plain = socket;
    socket.setEncoding('latin1').on('data', (chunk: string) => {
      this.#heard += chunk;
    });
    this.#plainEnded = new Promise((resolve) => {
      socket.once('end', () => resolve('end'));
      socket.once('error', (error: Error & { code?: string }) => resolve(error.code ?? 'error'));
    });
    return socket;
  }

  async greet(stream: TlsStream): Promise<void> {
    const plain = (await this.#plainSide) as net.Socket;
    plain.write('hello\n');
    await readUntil(stream, /hello\n/);
    await stream.write('greetings\n');
    while (!this.#heard.includes('greetings')) await turn();
  }

  async close(): Promise<void> {
    this.#plain?.end();
  }

  async write(): Promise<void> {
    this.#plain?.write(TEXT);
  }

  async said(): Promise<string | null> {
    const plain = await this.#plainEnded;
    await this.running.until((output) => /Connection (closed|reset):/.exec(output));
    const found = lines(
      this.running.output.replace(/^.*LOG\d\[\w+\]: /gm, ''),
      /^(SSL_read|SSL_write|SSL_shutdown|TLS closed|TLS socket|Connection (closed|reset)).*/,
    );
    const log = found.map((line) =>
      line
        .replace(/ \(\d+\)$/, '')
        .replace(/ssl\/[\w./]+:\d+: /, '')
        .replace(/: \d+ byte.*/, ''),
    );
    return `${log.join('; ')}; plaintext side: ${plain}`;
  }

  override async dispose(): Promise<void> {
    await super.dispose();
    this.#plain?.on('error', () => {}).destroy();
    const backend = this.#backend;
    if (backend !== null) await new Promise((resolve) => backend.close(resolve));
  }
}

// ---- nginx

/** Starts nginx with one server of these lines; `lines` is given its port. */
async function startNginx(
  lines: (port: number) => readonly string[],
): Promise<{ port: number; process: PeerProcess }> {
  const folder = await temporaryDirectory();
  let process: PeerProcess | null = null;
  const port = await onFreePort(async (own) => {
    const config = path.join(folder, `nginx-${own}.conf`);
    const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map(
      (one) => `${one}_temp_path ${folder}/nginx-${one};`,
    );
    await writeFile(
      config,
      `daemon off;
master_process off;
pid ${folder}/nginx-${own}.pid;
error_log stderr info;
events {}
http {
  access_log off;
  ${temporary.join('\n  ')}
  server {
    ${lines(own).join('\n    ')}
  }
}
`,
    );
    process = new PeerProcess(find('nginx') ?? 'nginx', [
      '-p',
      folder,
      '-e',
      'stderr',
      '-c',
      config,
    ]);
    // It listens before it says which way it will wait for events.
    await process.until((output) => /using the .* event method/.exec(output));
  });
  return { port, process: process as unknown as PeerProcess };
}

const REQUEST = 'GET / HTTP/1.1\r\nHost: localhost\r\n';

/** nginx, on a connection that HTTP keeps alive until somebody ends it. */
export class NginxPeer extends PeerParty {
  async listen(): Promise<number> {
    const { certFile, keyFile } = this.place.pki;
    const { port, process } = await startNginx((own) => [
      `listen 127.0.0.1:${own} ssl;`,
      'ssl_protocols TLSv1.2 TLSv1.3;',
      `ssl_certificate ${certFile};`,
      `ssl_certificate_key ${keyFile};`,
      'location / {',
      `  return 200 "${TEXT}";`,
      '}',
    ]);
    this.process = process;
    return port;
  }

  async connect(): Promise<void> {
    throw new Error('nginx is a server here');
  }

  async greet(stream: TlsStream): Promise<void> {
    await stream.write(`${REQUEST}\r\n`);
    await readUntil(stream, new RegExp(`${TEXT}$`));
  }

  async close(stream: TlsStream): Promise<void> {
    await stream.write(`${REQUEST}Connection: close\r\n\r\n`);
  }

  async write(stream: TlsStream): Promise<void> {
    await stream.write(`${REQUEST}\r\n`);
  }

  async said(): Promise<string | null> {
    if (this.place.ending === 'peer-closes') return null;
    const line = await this.running.until(
      (output) =>
        /\[\w+\] .*(SSL_\w+\(\) failed|closed keepalive|reset by peer).*\n/.exec(output)?.[0],
    );
    return line
      .trim()
      .replace(/^\[(\w+)\] [\d#*: ]+/, '$1: ')
      .replace(/^(\w+: )\*?\d+ /, '$1')
      .replace(/client 127\.0\.0\.1 /, 'client ')
      .replace(/, client: .*/, '')
      .replace(/ \(SSL: error:\w+:SSL routines::([^)]*)\)/, ' ($1)');
  }
}

/** nginx in front of us: it fetches over TLS what somebody asks of it in plaintext. */
export class NginxProxy extends PeerParty {
  #plain: net.Socket | null = null;
  #heard = '';
  #plainEnded: Promise<string> | null = null;

  async listen(): Promise<number> {
    throw new Error('as a proxy nginx is a client');
  }

  async connect(port: number): Promise<void> {
    const plainPort = await startNginx((own) => [
      `listen 127.0.0.1:${own};`,
      'location / {',
      `  proxy_pass https://127.0.0.1:${port};`,
      '  proxy_ssl_protocols TLSv1.2 TLSv1.3;',
      '  proxy_ssl_name localhost;',
      '  proxy_ssl_server_name on;',
      '  proxy_ssl_verify on;',
      `  proxy_ssl_trusted_certificate ${this.place.pki.certFile};`,
      '  proxy_buffering off;',
      '  proxy_request_buffering off;',
      '}',
    ]).then((started) => {
      this.process = started.process;
      return started.port;
    });
    const socket = net.connect({ port: plainPort, host: '127.0.0.1', noDelay: true });
    this.#plain = socket;
    socket.setEncoding('latin1').on('data', (chunk: string) => {
      this.#heard += chunk;
    });
    this.#plainEnded = new Promise((resolve) => {
      socket.once('end', () => resolve('end'));
      socket.once('error', (error: Error & { code?: string }) => resolve(error.code ?? 'error'));
    });
    // What it uploads goes through as it comes.
    const upload = this.place.ending === 'unread';
    const [method, length] = upload ? ['POST', `Content-Length: ${TEXT.length}\r\n`] : ['GET', ''];
    socket.write(`${method} / HTTP/1.0\r\nHost: localhost\r\n${length}\r\n`);
  }

  async greet(stream: TlsStream): Promise<void> {
    await readUntil(stream, /\r\n\r\n/);
    // It passes no response on while it waits for the rest of the request.
    if (this.place.ending === 'unread') return;
    const length = this.place.ending === 'peer-closes' ? 'Content-Length: 10\r\n' : '';
    await stream.write(`HTTP/1.0 200 OK\r\n${length}\r\nhalf\n`);
    while (!this.#heard.includes('half\n')) await turn();
  }

  async close(stream: TlsStream): Promise<void> {
    await stream.write('whole');
  }

  async write(): Promise<void> {
    this.#plain?.write(TEXT);
  }

  async said(): Promise<string | null> {
    const ended = (await this.#plainEnded) ?? '';
    // An upload that gets no response is the one thing that it complains of.
    if (this.place.ending === 'unread') {
      await this.running.until((output) => /upstream .*, client: /.exec(output));
    }
    const log = lines(this.running.output, /upstream .*?(?=, client: )|SSL_\w+\(\) failed.*?\)/);
    const status = /^HTTP\/1\.\d (\d+)/.exec(this.#heard)?.[1] ?? 'no response';
    return [...log, `plaintext side: ${status}, ${ended}`].join('; ');
  }

  override async dispose(): Promise<void> {
    await super.dispose();
    this.#plain?.on('error', () => {}).destroy();
  }
}

// ---- curl

/** curl, of which most bodies that it fetches here have no length but the connection's. */
export class CurlPeer extends PeerParty {
  async listen(): Promise<number> {
    throw new Error('curl is a client');
  }

  async connect(port: number): Promise<void> {
    // What it uploads comes from its standard input as it is written there.
    const upload = this.place.ending === 'unread' ? ['-T', '.', '-H', 'Expect:'] : [];
    this.process = new PeerProcess('curl', [
      ...['-q', '-sS', '-N', '--http1.1', '--noproxy', '*', '--cacert', this.place.pki.certFile],
      ...['--resolve', `localhost:${port}:127.0.0.1`, ...upload, `https://localhost:${port}/`],
    ]);
  }

  async greet(stream: TlsStream): Promise<void> {
    await readUntil(stream, /\r\n\r\n/);
    // An upload is the greeting itself: curl shows no response before all of it is sent.
    if (this.place.ending === 'unread') return;
    const length = this.place.ending === 'peer-closes' ? 'Content-Length: 10\r\n' : '';
    // Until it has the response's head it would not tell that it has seen anything.
    await stream.write(`HTTP/1.1 200 OK\r\nConnection: close\r\n${length}\r\nhalf\n`);
    await this.running.until((output) => /^half$/m.exec(output));
  }

  async close(stream: TlsStream): Promise<void> {
    await stream.write('whole');
  }

  async write(): Promise<void> {
    this.running.send(TEXT);
  }

  async said(): Promise<string | null> {
    const exit = await this.running.ended();
    return [...lines(this.running.output, /^curl: .*/), exit].join('; ');
  }
}

// ---- shared

let counter = 0;

/** Where a program is, or null. */
export function find(name: string): string | null {
  const folders = [...(process.env['PATH'] ?? '').split(':'), '/usr/sbin', '/usr/bin'];
  return folders.map((one) => path.join(one, name)).find((file) => existsSync(file)) ?? null;
}

/** Starts a server that has to be told its port; with another one if that was taken meanwhile. */
async function onFreePort(start: (port: number) => Promise<void>): Promise<number> {
  for (let attempt = 1; ; attempt++) {
    const port = await freePort();
    try {
      await start(port);
      return port;
    } catch (error) {
      if (attempt === 5) throw error;
    }
  }
}

/**
 * What the kernel (Linux) holds for the peer's end of this connection, and the peer has not read, in
 * bytes; null when it has no such socket any more.
 */
export function unreadByPeer({ localPort, remotePort }: net.Socket): number | null {
  const hex = (port = 0) => `:${port.toString(16).toUpperCase().padStart(4, '0')}`;
  for (const line of readFileSync('/proc/net/tcp', 'latin1').split('\n')) {
    const [, local, remote, , queues] = line.trim().split(/\s+/);
    if (!local?.endsWith(hex(remotePort)) || !remote?.endsWith(hex(localPort))) continue;
    return Number.parseInt(queues?.split(':')[1] ?? '0', 16);
  }
  return null;
}
