/**
 * Node's own TLS sockets on a pass: what `tls.connect` and a TLS server make, with a witness that reads the records.
 *
 * Theory of operation. Node is given the pass as the connection to put TLS on, and makes its socket as always. Two
 * things are missing then. A socket that opens its connection itself has members and events of its own for that: here
 * the transport connects, and the socket is told. And the records are read with the secrets of the key log, which Node
 * writes only for somebody who listens: a client's socket is listened to for a moment, a server is given to the
 * connection as a view of it, which says yes when it is asked whether anybody does.
 */
import { channel } from 'node:diagnostics_channel';
import net from 'node:net';
import type { Duplex } from 'node:stream';
import tls from 'node:tls';
import { readInto } from './onread.ts';
import { Pass } from './pass.ts';
import { RecordWitness } from './record-witness.ts';

/** A TLS socket, and what tells which alerts crossed its wire. */
export interface Passing {
  readonly socket: tls.TLSSocket;
  readonly witness: RecordWitness;
  readonly pass: Pass;
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

/** The passes of TLS sockets that are transports themselves. */
const passes = new WeakMap<object, Pass>();

/** Whether this is a pass: TLS on it is watched already. */
export function isPass(transport: unknown): boolean {
  return transport instanceof Pass;
}

/**
 * As `tls.connect`, on `options.socket` or on a connection of its own.
 *
 * @param make what makes the TLS socket, with these options on a pass.
 * @throws whatever `make` throws.
 */
export function connectPassing(
  options: PassingOptions,
  make: (options: tls.ConnectionOptions) => tls.TLSSocket = (passing) => tls.connect(passing),
): Passing {
  const given: Duplex | undefined = options.socket ?? undefined;
  const transport = given ?? new net.Socket();
  const witness = new RecordWitness('client');
  const connecting = given === undefined || (given instanceof net.Socket && given.pending);
  const pass = new Pass(transport, witness, connecting, isFromKernel(transport));
  if (given === undefined) pass.allowHalfOpen = options.allowHalfOpen ?? false;
  const socket = make({ ...options, socket: pass as unknown as Duplex });
  adopt(pass, socket);
  tellKeyLog(pass, socket, witness);
  if (given === undefined) connect(transport as net.Socket, options, socket, pass);
  else if (connecting) transport.once('connect', () => pass.connected());
  return { socket, witness, pass };
}

/** Opens a connection as its TLS socket would have done. @throws whatever `connect` throws. */
function connect(
  transport: net.Socket,
  options: PassingOptions,
  socket: tls.TLSSocket,
  pass: Pass,
): void {
  const { onread, timeout } = options;
  pass.onFailure = (error) => {
    socket.destroy(error);
    return null;
  };
  for (const name of CONNECTING) {
    transport.on(name as string, (...args: unknown[]) => {
      const { autoSelectFamilyAttemptedAddresses: attempted } = transport;
      if (attempted !== undefined)
        Object.assign(socket, { autoSelectFamilyAttemptedAddresses: attempted });
      socket.emit(name, ...args);
    });
  }
  // A socket keeps what it is told of its own address, which it may have asked for too early.
  transport.once('connect', () => {
    Object.assign(socket, { _sockname: null });
    pass.connected();
  });
  if (onread) readInto(socket, pass, onread);
  if (timeout) socket.setTimeout(timeout);
  try {
    tellOf(socket, () => transport.connect(options as net.NetConnectOpts));
  } catch (error) {
    socket.destroy();
    throw error;
  }
}

const opened = channel('net.client.socket');

/**
 * Node 22 and later tell that channel of a socket that connects. Here it is a transport; whoever hears of it is to
 * have the TLS socket.
 */
function tellOf(socket: tls.TLSSocket, connect: () => void): void {
  if (!opened.hasSubscribers) {
    connect();
    return;
  }
  const { publish } = opened;
  opened.publish = () => publish.call(opened, { socket });
  try {
    connect();
  } finally {
    Reflect.deleteProperty(opened, 'publish');
  }
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
  onSocket: (passing: Passing) => void,
): void {
  const witness = new RecordWitness('server');
  const pass = new Pass(transport, witness, false, isFromKernel(transport));
  let known: tls.TLSSocket | null = null;
  const know = (socket: tls.TLSSocket) => {
    if (known !== null) return;
    known = socket;
    adopt(pass, socket);
    // It was given the view.
    (socket as { server?: tls.Server }).server = server;
  };
  // Without more of it the handshake comes to nothing. Node waits for its time to be over, where the transport is
  // half-open.
  pass.incoming.onEnded = () => {
    if (!witness.finished) setImmediate(() => pass.destroy());
  };
  // The server says only "here is a secure socket", not which connection it belongs to. So this connection gets a
  // view of the server that tells by itself.
  const view: tls.Server = Object.create(server);
  view.emit = (name: string | symbol, ...args: unknown[]): boolean => {
    if (name === 'keylog') {
      const [line, socket] = args as [Buffer, tls.TLSSocket];
      know(socket);
      witness.onSecret(line);
    } else if (name === 'secureConnection') {
      const [socket] = args as [tls.TLSSocket];
      know(socket);
      onSocket({ socket, witness, pass });
    } else if (name === 'tlsClientError') {
      know(args[1] as tls.TLSSocket);
    }
    return pass.incoming.callListeners(() => server.emit(name, ...args));
  };
  // A server asks its sockets for the key log only if somebody listens to it.
  view.listenerCount = ((name: string) =>
    name === 'keylog' ? 1 : server.listenerCount(name)) as typeof server.listenerCount;
  secure.call(view, pass as unknown as Duplex);
}

/** Whether no code of a program's is being run when this transport gives bytes. */
function isFromKernel(transport: Duplex): boolean {
  if (transport instanceof tls.TLSSocket) return passes.get(transport)?.fromKernel ?? false;
  return transport instanceof net.Socket;
}

function adopt(pass: Pass, socket: tls.TLSSocket): void {
  passes.set(socket, pass);
  pass.adopt(socket);
}

/**
 * Has the witness told of the key log, which Node writes as soon as somebody has listened to it. A listener that
 * stays would be seen, so it is `emit` that tells.
 */
function tellKeyLog(pass: Pass, socket: tls.TLSSocket, witness: RecordWitness): void {
  const ignore = () => {};
  socket.on('keylog', ignore).off('keylog', ignore);
  const emit: (name: string, ...args: unknown[]) => boolean = socket.emit;
  Object.defineProperty(socket, 'emit', {
    configurable: true,
    writable: true,
    value(name: string, ...args: unknown[]) {
      if (name === 'keylog') witness.onSecret(args[0] as Buffer);
      return pass.incoming.callListeners(() => emit.call(socket, name, ...args));
    },
  });
}
