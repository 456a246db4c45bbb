/** A side under test on a pass, and a crafted peer at the other end of its TCP connection. */
import net from 'node:net';
import type { Duplex } from 'node:stream';
import tls from 'node:tls';
import {
  acceptPassing,
  connectPassing,
  type Passing,
  type PassingOptions,
} from '../../../../src/strict/pass/passing.ts';
import { pki } from '../../../support/core-pki.ts';
import { type Scope, until } from '../../../support/core-scope.ts';
import type { Version } from '../../../support/core-streams.ts';
import { listen } from '../../../support/core-transport.ts';
import { type CraftedOptions, CraftedPeer } from '../../../support/crafted-records.ts';

/** What a program sees of a socket. */
export class Seen {
  data = Buffer.alloc(0);
  readonly events: string[] = [];

  constructor(socket: tls.TLSSocket) {
    socket.on('data', (chunk: Buffer) => {
      this.data = Buffer.concat([this.data, chunk]);
    });
    socket.on('end', () => this.events.push('end'));
    socket.on('error', (error: NodeJS.ErrnoException) => this.events.push(`error ${error.code}`));
    socket.on('close', () => this.events.push('close'));
  }

  get closed(): boolean {
    return this.events.includes('close');
  }
}

export interface UnderTest extends Passing {
  readonly peer: CraftedPeer;
  readonly seen: Seen;
  /** Waits for the socket's 'close'. */
  closed(): Promise<void>;
}

/** A tls.Server whose connections are all on passes. */
export function passingServer(
  scope: Scope,
  options: tls.TlsOptions,
  onSocket: (passing: Passing) => void,
): tls.Server {
  const server = tls.createServer({ ...pki().server, ...options });
  const [secure] = server.listeners('connection') as Array<(transport: Duplex) => void>;
  server.removeAllListeners('connection');
  server.on('connection', (raw: net.Socket) => {
    scope.defer(() => raw.destroy());
    acceptPassing(server, raw, secure!, onSocket);
  });
  return server;
}

/** Listens on a free port of loopback. */
export async function opened(scope: Scope, server: net.Server): Promise<number> {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  scope.defer(() => new Promise((resolve) => server.close(resolve)));
  return (server.address() as net.AddressInfo).port;
}

/** Options of a client for servers of ours. */
export const client = (port: number, more: PassingOptions = {}): PassingOptions => ({
  host: '127.0.0.1',
  port,
  ca: pki().ca,
  servername: 'localhost',
  ...more,
});

/**
 * Connects the side `role`, which is under test, to a crafted peer.
 *
 * @returns once the handshake is complete at the peer, and at the side under test where that is a server.
 */
export async function underTest(
  scope: Scope,
  role: 'client' | 'server',
  version: Version,
  crafted: CraftedOptions = {},
): Promise<UnderTest> {
  let peer: CraftedPeer | null = null;
  let own: (Passing & { readonly seen: Seen }) | null = null;
  const take = (passing: Passing) => {
    own = { ...passing, seen: new Seen(passing.socket) };
  };
  if (role === 'client') {
    const port = await listen(
      scope,
      (wire) => {
        peer = new CraftedPeer('server', version, wire, crafted);
      },
      { allowHalfOpen: true },
    );
    take(connectPassing(client(port)));
  } else {
    const server = passingServer(scope, {}, take);
    const port = await opened(scope, server);
    const wire = net.connect({ host: '127.0.0.1', port, allowHalfOpen: true });
    peer = new CraftedPeer('client', version, wire, crafted);
  }
  await until('both are there', () => peer !== null && own !== null);
  const { socket, witness, pass, seen } = own as unknown as Passing & { readonly seen: Seen };
  const other = peer as unknown as CraftedPeer;
  scope.defer(() => {
    socket.destroy();
    other.destroy();
  });
  await other.ready();
  return {
    ...{ socket, witness, pass, seen, peer: other },
    closed: () => until('closed', () => seen.closed),
  };
}

/** A whole connection with both sides on passes. */
export interface Life {
  readonly client: Passing & { readonly seen: Seen };
  readonly server: Passing & { readonly seen: Seen };
}

/**
 * Opens a connection whose server answers all that comes with itself, has 'ping' answered, does `during`, and ends it
 * by the client.
 */
export async function live(
  scope: Scope,
  serverOptions: tls.TlsOptions,
  clientOptions: PassingOptions,
  during: (life: Life) => Promise<void> = async () => {},
): Promise<Life> {
  let accepted: (Passing & { readonly seen: Seen }) | null = null;
  const server = passingServer(scope, serverOptions, (passing) => {
    const { socket } = passing;
    accepted = { ...passing, seen: new Seen(socket) };
    socket.on('data', (chunk: Buffer) => socket.write(chunk));
  });
  const port = await opened(scope, server);
  const passing = connectPassing(client(port, clientOptions));
  const { socket } = passing;
  scope.defer(() => socket.destroy());
  const seen = new Seen(socket);
  socket.write('ping');
  await until('pong', () => seen.data.toString() === 'ping' || seen.closed);
  if (accepted === null) throw new Error(`no connection: ${seen.events}`);
  const life: Life = { client: { ...passing, seen }, server: accepted };
  await during(life);
  socket.end();
  await until('closed', () => seen.closed && life.server.seen.closed);
  return life;
}
