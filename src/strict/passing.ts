/**
 * Node's own TLS sockets on a pass: what `tls.connect` and a TLS server make, with a witness that reads the records.
 */
import net from 'node:net';
import type { Duplex } from 'node:stream';
import tls from 'node:tls';
import { lendTransport, readInto } from './lent.ts';
import { type Pass, passTo } from './pass.ts';
import { RecordWitness } from './record-witness.ts';

/** A TLS socket, and what tells which alerts crossed its wire. */
export interface Passing {
  readonly socket: tls.TLSSocket;
  readonly witness: RecordWitness;
}

/** What `tls.connect` takes. */
export type PassingOptions = tls.ConnectionOptions & {
  readonly allowHalfOpen?: boolean | undefined;
  readonly onread?: net.OnReadOpts | undefined;
};

/** Events of a `net.Socket` that connects, besides 'connect'. */
const CONNECTING = [
  'lookup',
  'connectionAttempt',
  'connectionAttemptFailed',
  'connectionAttemptTimeout',
  'ready',
] as const;

/**
 * As `tls.connect`, on `options.socket` or on a connection of its own.
 *
 * @param listener for 'secureConnect'.
 * @throws whatever `tls.connect` throws.
 */
export function connectPassing(options: PassingOptions, listener?: () => void): Passing {
  const given: Duplex | undefined = options.socket ?? undefined;
  const transport = given ?? new net.Socket({ allowHalfOpen: true });
  const witness = new RecordWitness('client');
  const connecting = given === undefined || (given instanceof net.Socket && given.pending);
  const pass = passTo(transport, witness, connecting);
  const { allowHalfOpen = false } = given ?? options;
  const socket = atHalfOpen(pass, allowHalfOpen, () =>
    tls.connect({ ...options, socket: pass }, listener),
  );
  watchKeyLog(socket, witness);
  serve(pass, socket, transport);
  if (connecting) transport.once('connect', () => connect(pass));
  if (given !== undefined) return { socket, witness };

  const own = transport as net.Socket;
  pass.onFailure = (error) => socket.destroy(error);
  if (options.onread) readInto(socket, options.onread);
  for (const name of CONNECTING) {
    own.on(name as string, (...args: unknown[]) => socket.emit(name as string, ...args));
  }
  const { timeout } = options;
  if (timeout) socket.setTimeout(timeout);
  try {
    own.connect(options as net.NetConnectOpts);
  } catch (error) {
    socket.destroy();
    throw error;
  }
  return { socket, witness };
}

/** What a pass and a transport do for their TLS socket. */
function serve(pass: Pass, socket: tls.TLSSocket, transport: Duplex): void {
  pass.http2 = () => socket.alpnProtocol === 'h2';
  pass.onReadError = (error) => socket.destroy(error);
  if (transport instanceof net.Socket) lendTransport(socket, transport);
}

/** TLS on this pass can begin. */
function connect(pass: Pass): void {
  (pass as { connecting?: boolean }).connecting = false;
  pass.emit('connect');
}

/**
 * Gives a connection to a server.
 *
 * @param secure what the server does with a connection: its own listener for 'connection'.
 * @param onSocket told right before the server emits 'secureConnection'.
 */
export function acceptPassing(
  server: tls.Server,
  transport: Duplex,
  secure: (this: tls.Server, transport: Duplex) => void,
  onSocket: (socket: tls.TLSSocket, witness: RecordWitness) => void,
): void {
  const witness = new RecordWitness('server');
  const pass = passTo(transport, witness, false);
  const { allowHalfOpen } = transport;
  let known: tls.TLSSocket | null = null;
  const adopt = (socket: tls.TLSSocket) => {
    if (known !== null) return;
    known = socket;
    serve(pass, socket, transport);
  };
  // The server says only "here is a secure socket", not which connection it belongs to. So this connection gets a
  // view of the server that tells by itself.
  const view: tls.Server = Object.create(server);
  view.emit = (name: string | symbol, ...args: unknown[]): boolean => {
    if (name === 'keylog') {
      const [line, socket] = args as [Buffer, tls.TLSSocket];
      adopt(socket);
      witness.onSecret(line.toString('latin1'));
    } else if (name === 'secureConnection') {
      const [socket] = args as [tls.TLSSocket];
      adopt(socket);
      onSocket(socket, witness);
    } else if (name === 'tlsClientError') {
      adopt(args[1] as tls.TLSSocket);
    }
    return server.emit(name, ...args);
  };
  // A server asks its sockets for the key log only if somebody listens to it.
  view.listenerCount = ((name: string) =>
    name === 'keylog' ? 1 : server.listenerCount(name)) as typeof server.listenerCount;
  atHalfOpen(pass, allowHalfOpen, () => secure.call(view, pass));
}

/**
 * Node looks at the transport's `allowHalfOpen` once, when it puts TLS on it. Behind that, the pass must not end
 * on its own when EOF comes: FIN would be ahead of close_notify.
 */
function atHalfOpen<T>(pass: Duplex, allowHalfOpen: boolean, make: () => T): T {
  pass.allowHalfOpen = allowHalfOpen;
  const made = make();
  pass.allowHalfOpen = true;
  return made;
}

/**
 * Has the witness told of the key log, which Node writes as soon as somebody has listened to it. A listener that
 * stays would be seen, so it is `emit` that tells.
 */
function watchKeyLog(socket: tls.TLSSocket, witness: RecordWitness): void {
  const ignore = () => {};
  socket.on('keylog', ignore).off('keylog', ignore);
  const emit: (name: string, ...args: unknown[]) => boolean = socket.emit;
  Object.defineProperty(socket, 'emit', {
    configurable: true,
    writable: true,
    value(name: string, ...args: unknown[]) {
      if (name === 'keylog') witness.onSecret((args[0] as Buffer).toString('latin1'));
      return emit.call(socket, name, ...args);
    },
  });
}
