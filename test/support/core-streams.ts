/** Pairs of established streams, with the test's certificates. */
import type { Duplex } from 'node:stream';
import {
  type AcceptOptions,
  accept,
  type CloseNotifyError,
  type ConnectOptions,
  connect,
  type Observation,
  type Observer,
} from '../../src/index.ts';
import type { TlsStream } from '../../src/stream/tls-stream.ts';
import { channel } from '../../src/testing/channel.ts';
import { pki } from './core-pki.ts';
import type { Scope } from './core-scope.ts';
import { tcpPair } from './core-transport.ts';

/** The two versions; tests run in both. */
export const VERSIONS = ['TLSv1.2', 'TLSv1.3'] as const;
export type Version = (typeof VERSIONS)[number];

/** Options that fix the version, for either side. */
export const only = (version: Version) => ({ minVersion: version, maxVersion: version }) as const;

export interface Pair {
  readonly client: TlsStream;
  readonly server: TlsStream;
  readonly clientTransport: Duplex;
  readonly serverTransport: Duplex;
}

export interface PairOptions {
  readonly client?: ConnectOptions;
  readonly server?: AcceptOptions;
  /** The two transports, client's first; TCP on loopback by default. */
  readonly transports?: readonly [Duplex, Duplex];
}

/** A client and a server of ours, both established. */
export async function pair(
  scope: Scope,
  version: Version,
  options: PairOptions = {},
): Promise<Pair> {
  const [near, far] = options.transports ?? (await tcpPair(scope));
  scope.defer(() => near.destroy());
  scope.defer(() => far.destroy());
  const [client, server] = await Promise.all([
    connect({
      transport: near,
      host: 'localhost',
      ca: pki().ca,
      ...only(version),
      ...options.client,
    }),
    accept(far, { ...pki().server, ...only(version), ...options.server }),
  ]);
  return { client, server, clientTransport: near, serverTransport: far };
}

/** As `pair`, in memory. */
export const pairInMemory = (scope: Scope, version: Version, options: PairOptions = {}) =>
  pair(scope, version, { transports: channel({ onDestroy: 'reset' }).ends, ...options });

/** Both sides end as they should. */
export async function closeBoth({ client, server }: Pair): Promise<void> {
  await Promise.all([client.close(), server.close()]);
}

/** Everything up to the end, joined. */
export async function readAll(stream: TlsStream): Promise<Buffer> {
  const parts: Uint8Array[] = [];
  for await (const bytes of stream) parts.push(bytes);
  return Buffer.concat(parts);
}

/** What the promise rejects with; an error when it does not. */
export async function rejection(promise: Promise<unknown>): Promise<CloseNotifyError> {
  try {
    await promise;
  } catch (error) {
    return error as CloseNotifyError;
  }
  throw new Error('it resolved');
}

/** An observer that keeps what it is told. */
export class Log implements Observer {
  readonly seen: Observation[] = [];
  readonly times: number[] = [];

  observe(observation: Observation, at: number): void {
    this.seen.push(observation);
    this.times.push(at);
  }

  /** The observations of one type. */
  of<T extends Observation['type']>(type: T): Array<Extract<Observation, { type: T }>> {
    return this.seen.filter((one): one is Extract<Observation, { type: T }> => one.type === type);
  }
}

/** Bytes in which every position can be told from its neighbours. */
export function pattern(length: number): Buffer {
  const bytes = Buffer.alloc(length);
  for (let i = 0; i < length; i++) bytes[i] = (i * 31 + (i >> 8)) & 0xff;
  return bytes;
}
