/** Servers for the probe: each ends its connections in a way of its own. */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import tls from 'node:tls';
import {
  type AcceptOptions,
  accept,
  createServer,
  type OnStream,
  type ServerOptions,
} from '../../src/index.ts';
import { type Identity, pki } from './core-pki.ts';
import { perform } from './starttls-script.ts';

/** A server that listens on 127.0.0.1 until disposed of. */
export interface Listening extends AsyncDisposable {
  readonly port: number;
}

/** A server of this library. */
export async function ours(
  onStream: OnStream,
  options: Partial<ServerOptions> = {},
): Promise<Listening> {
  const { cert, key } = pki().server;
  const server = createServer({ cert, key, ...options }, onStream);
  const { port } = await server.listen(0, '127.0.0.1');
  return { port, [Symbol.asyncDispose]: () => server.close({ deadline: 0 }) };
}

/** Any server of Node. Its connections are destroyed with it. */
export async function listening(server: net.Server): Promise<Listening> {
  const open = new Set<net.Socket>();
  server.on('connection', (socket: net.Socket) => {
    open.add(socket);
    socket.on('error', () => {});
    socket.once('close', () => open.delete(socket));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    port: (server.address() as net.AddressInfo).port,
    [Symbol.asyncDispose]: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        for (const socket of open) socket.destroy();
      }),
  };
}

/** `tls.createServer`, plain: it answers close_notify by itself. */
export function plainNode(identity: Identity = pki().server): Promise<Listening> {
  const server = tls.createServer({ cert: identity.cert, key: identity.key }, (socket) => {
    socket.on('error', () => {});
    socket.resume();
  });
  server.on('tlsClientError', () => {});
  return listening(server);
}

/** A TCP server that does `serve` with each connection, and no TLS. */
export function raw(serve: (socket: net.Socket) => void): Promise<Listening> {
  return listening(net.createServer(serve));
}

/** A mail server with STARTTLS: a plain dialogue, then TLS until the client is done. */
export function smtp(
  options: AcceptOptions,
  offers: readonly string[] = ['STARTTLS'],
): Promise<Listening> {
  const lines = ['mail.example', ...offers].map((line, i, all) =>
    i + 1 < all.length ? `250-${line}` : `250 ${line}`,
  );
  const serve = async (socket: net.Socket): Promise<void> => {
    const head = await perform(socket, [
      '220 mail.example ESMTP\r\n',
      /^EHLO .+\r\n/,
      `${lines.join('\r\n')}\r\n`,
      /^STARTTLS\r\n/,
      '220 go ahead\r\n',
    ]);
    await using stream = await accept(socket, { ...options, head });
    for await (const _ of stream) {
      // Nothing is expected.
    }
  };
  return listening(
    net.createServer({ allowHalfOpen: true }, (socket) => {
      // How it ends is for the client to say.
      serve(socket).catch(() => socket.destroy());
    }),
  );
}

/** A port where nobody listens. It was free a moment ago. */
export async function refusedPort(): Promise<number> {
  const server = await raw(() => {});
  await server[Symbol.asyncDispose]();
  return server.port;
}

/** `openssl s_server`, on a port that it chose. */
export async function opensslServer(...args: string[]): Promise<Listening> {
  const { cert, key } = pki().server;
  const directory = mkdtempSync(join(tmpdir(), 'close-notify-cli-'));
  writeFileSync(join(directory, 'cert.pem'), cert);
  writeFileSync(join(directory, 'key.pem'), key);
  const child: ChildProcess = spawn(
    'openssl',
    ['s_server', '-accept', '127.0.0.1:0', '-cert', 'cert.pem', '-key', 'key.pem', ...args],
    // Its input stays open: s_server closes connections when it ends.
    { cwd: directory, stdio: ['pipe', 'pipe', 'ignore'] },
  );
  const closed = new Promise<void>((resolve) => child.once('close', () => resolve()));
  const end = async () => {
    child.kill('SIGKILL');
    await closed;
    rmSync(directory, { recursive: true, force: true });
  };
  try {
    const port = await new Promise<number>((resolve, reject) => {
      let text = '';
      child.stdout?.setEncoding('utf8').on('data', (more: string) => {
        text += more;
        const found = /ACCEPT 127\.0\.0\.1:(\d+)/.exec(text)?.[1];
        if (found !== undefined) resolve(Number(found));
      });
      child.once('error', reject);
      child.once('close', () => reject(new Error(`openssl s_server ended: ${text}`)));
    });
    return { port, [Symbol.asyncDispose]: end };
  } catch (error) {
    await end();
    throw error;
  }
}
