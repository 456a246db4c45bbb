/** Transports for the tests over TCP: pairs on loopback, and a relay that cuts. */
import net from 'node:net';
import type { Duplex } from 'node:stream';
import { type Scope, until } from './core-scope.ts';

/** A TCP server on a free port of loopback; it is closed when the test ends. */
export async function listen(
  scope: Scope,
  onConnection: (socket: net.Socket) => void,
  options: net.ServerOpts = {},
): Promise<number> {
  const server = net.createServer({ noDelay: true, ...options }, (socket) => {
    scope.defer(() => socket.destroy());
    // The peers of these tests may be reset; that concerns nobody here.
    socket.on('error', () => {});
    onConnection(socket);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  scope.defer(() => new Promise((resolve) => server.close(resolve)));
  return (server.address() as net.AddressInfo).port;
}

/** A port on which nobody listens. */
export async function freePort(): Promise<number> {
  const server = net.createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as net.AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** RST at once; `resetAndDestroy()` sends FIN before it. */
export function reset(socket: net.Socket): void {
  Object.assign(socket, { resetAndClosing: true });
  socket.destroy();
}

/** Waits until `to` has read all that `from` has written; before that, a reset may look like EOF. */
export async function delivered(from: Duplex, to: Duplex): Promise<void> {
  const [near, far] = [from as net.Socket, to as net.Socket];
  let last = -1;
  await until('all is delivered', () => {
    const still = near.bytesWritten === last && far.bytesRead === near.bytesWritten;
    last = near.bytesWritten;
    return still;
  });
}

/** Two ends of one TCP connection. */
export async function tcpPair(
  scope: Scope,
  options: { readonly allowHalfOpen?: boolean } = {},
): Promise<[net.Socket, net.Socket]> {
  const { allowHalfOpen = true } = options;
  let accepted: (socket: net.Socket) => void = () => {};
  const other = new Promise<net.Socket>((resolve) => {
    accepted = resolve;
  });
  const port = await listen(scope, (socket) => accepted(socket), { allowHalfOpen });
  const near = net.connect({ port, host: '127.0.0.1', noDelay: true, allowHalfOpen });
  scope.defer(() => near.destroy());
  await new Promise<void>((resolve, reject) => {
    near.once('connect', resolve);
    near.once('error', reject);
  });
  near.removeAllListeners('error');
  const far = await other;
  far.removeAllListeners('error');
  return [near, far];
}

/** Where in a record a relay cuts, and how many of its bytes that lets through. */
export const POINTS = {
  'before a record': () => 0,
  'inside a header': () => 3,
  'behind a header': () => 5,
  'inside a body': (length: number) => Math.floor((length + 5) / 2),
  'before the last byte': (length: number) => length - 1,
} as const;

/** Where a relay cuts: in one direction, in one record. */
export interface Cut {
  readonly direction: 'to-client' | 'to-server';
  readonly record: number;
  readonly point: keyof typeof POINTS;
  /** Who sees the cut. */
  readonly victim: 'client' | 'server';
  readonly how: 'fin' | 'reset';
}

/** How many records passed through a relay; `flight` are the server's before the client's second. */
export interface Passed {
  'to-client': number;
  'to-server': number;
  flight: number;
}

/**
 * Passes bytes between a client and `port`, record by record, until `cut`: then `victim` gets FIN or
 * RST, and the other party's connection is destroyed.
 *
 * @returns the relay's port, and a live count of the records that have passed.
 */
export async function relay(
  scope: Scope,
  port: number,
  cut: Cut | null,
): Promise<{ port: number; passed: Passed }> {
  const passed: Passed = { 'to-client': 0, 'to-server': 0, flight: 0 };
  const relayPort = await listen(
    scope,
    (client) => {
      const server = net.connect({ port, host: '127.0.0.1', noDelay: true, allowHalfOpen: true });
      scope.defer(() => server.destroy());
      server.on('error', () => {});
      let over = false;
      const end = () => {
        over = true;
        const [victim, other] = cut?.victim === 'client' ? [client, server] : [server, client];
        if (cut?.how === 'reset') {
          reset(victim);
          other.destroy();
        } else {
          victim.end();
          victim.resume();
          victim.once('end', () => victim.destroy());
          victim.once('close', () => other.destroy());
        }
      };
      const pass = (from: net.Socket, to: net.Socket, direction: Cut['direction']) => {
        let waiting = Buffer.alloc(0);
        from.on('data', (chunk) => {
          waiting = Buffer.concat([waiting, chunk]);
          while (!over && waiting.length >= 5) {
            const length = 5 + waiting.readUInt16BE(3);
            if (waiting.length < length) return;
            const record = waiting.subarray(0, length);
            waiting = waiting.subarray(length);
            if (cut?.direction === direction && cut.record === passed[direction]) {
              to.write(record.subarray(0, POINTS[cut.point](length)));
              end();
              return;
            }
            to.write(record);
            passed[direction]++;
            if (passed['to-server'] < 2) passed.flight = passed['to-client'];
          }
        });
        from.on('end', () => {
          if (!over) to.end();
        });
        from.on('close', () => {
          if (!over) to.destroySoon();
        });
      };
      pass(client, server, 'to-server');
      pass(server, client, 'to-client');
    },
    { allowHalfOpen: true },
  );
  return { port: relayPort, passed };
}
