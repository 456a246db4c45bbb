/** Two of our streams, connected, and all that belongs to them gone when the test is over. */
import { once } from 'node:events';
import net, { type AddressInfo } from 'node:net';
import type { Duplex } from 'node:stream';
import { accept, connect, type TlsStream } from '../../../src/index.ts';
import { type ChannelEnd, channel } from '../../../src/testing/channel.ts';
import { testPki } from '../../support/interop-pki.ts';
import type { TlsVersion } from './party.ts';

/** Options of both roles. Both answer when told: the test says who closes when. */
export async function optionsFor(tls: TlsVersion) {
  const { key, cert, ca } = await testPki();
  const version = `TLSv${tls}` as const;
  const common = { minVersion: version, maxVersion: version, answer: 'when-told' } as const;
  return {
    client: { ...common, ca, servername: 'localhost' },
    server: { ...common, key, cert },
  };
}

/** Two connected streams, and their transports. */
export interface Pair<Transport extends Duplex = Duplex> extends Disposable {
  readonly client: TlsStream;
  readonly server: TlsStream;
  readonly clientEnd: Transport;
  readonly serverEnd: Transport;
}

/** Two TCP sockets, connected over loopback. */
export async function tcpEnds(): Promise<[client: net.Socket, server: net.Socket]> {
  const listener = net.createServer({ allowHalfOpen: true, noDelay: true });
  listener.listen(0, '127.0.0.1');
  await once(listener, 'listening');
  const { port } = listener.address() as AddressInfo;
  const client = net.connect({ port, host: '127.0.0.1', allowHalfOpen: true, noDelay: true });
  const [server] = (await once(listener, 'connection')) as [net.Socket];
  if (client.connecting) await once(client, 'connect');
  listener.close();
  return [client, server];
}

/** Handshakes over two ends of a transport. */
export async function handshake<Transport extends Duplex>(
  [clientEnd, serverEnd]: readonly [Transport, Transport],
  tls: TlsVersion,
): Promise<Pair<Transport>> {
  const options = await optionsFor(tls);
  const [client, server] = await Promise.all([
    connect({ ...options.client, transport: clientEnd }),
    accept(serverEnd, options.server),
  ]);
  return {
    client,
    server,
    clientEnd,
    serverEnd,
    [Symbol.dispose]() {
      // The streams may have given them back, so it is for the test to end them.
      for (const end of [clientEnd, serverEnd]) end.on('error', () => {}).destroy();
    },
  };
}

export const tcpPair = async (tls: TlsVersion) => handshake(await tcpEnds(), tls);

/** In memory, each segment in a turn of its own: no network is faster. */
export const wirePair = (tls: TlsVersion): Promise<Pair<ChannelEnd>> =>
  handshake(channel({ delay: 'turn' }).ends, tls);

/**
 * A call that is awaited only after others: should one of those fail first, nobody awaits it, and
 * its own failure is not to be reported beside theirs.
 */
export function begun<T>(call: Promise<T>): Promise<T> {
  call.catch(() => {});
  return call;
}
