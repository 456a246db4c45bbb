/** Strictness for a TLS server that exists already. */
import type { Duplex } from 'node:stream';
import type { Server } from 'node:tls';
import { OptionError } from '../errors.ts';
import { noteRequest, REQUESTS } from '../http-messages.ts';
import { checkOptionNames } from '../option-names.ts';
import type { Strictness } from './channels.ts';
import { acceptStrict, checkMode, guardSocket, strictAddOn } from './secure-socket.ts';

/** Options of `strictServer`. */
export interface StrictServerOptions {
  /** What to do about a truncation; `error` by default. */
  readonly mode?: Strictness | undefined;
}

/** The mode of each strict server. */
const modes = new WeakMap<Server, Strictness>();

/**
 * Makes the connections of a `tls.Server`, `https.Server` or secure `http2` server strict, from now on:
 * its sockets emit 'error' (`ERR_TLS_TRUNCATED`) instead of 'end' when the transport ended without
 * close_notify, and an HTTP upload cut short is an error on the request. A second call sets the mode of
 * connections whose handshake completes from then on.
 *
 * @returns the same server.
 * @throws {OptionError} for something that is not Node's TLS server, and {RuntimeError} on Deno and Bun.
 */
export function strictServer<T extends Server>(server: T, options: StrictServerOptions = {}): T {
  checkOptionNames(options, ['mode']);
  const { mode = 'error' } = options;
  checkMode(mode);
  // Loaded before the next connection comes, so that it is watched from its first byte.
  strictAddOn();
  if (modes.has(server)) {
    modes.set(server, mode);
    return server;
  }
  const modeNow = () => modes.get(server) as Strictness;
  // One listener is Node's own: it puts a TLS socket on the connection. Others, which a program added,
  // go on getting the connection itself.
  const listeners = (server?.rawListeners?.('connection') ?? []) as Array<
    (this: Server, transport: Duplex) => void
  >;
  const secure = listeners.find(({ name }) => name === 'tlsConnectionListener');
  if (secure === undefined) {
    throw new OptionError('server must be a tls.Server, an https.Server or a secure http2 server');
  }
  modes.set(server, mode);
  // Before whoever reads the socket gets hold of it.
  server.prependListener('secureConnection', (socket) => {
    noteRequests(server);
    guardSocket(socket, modeNow());
  });
  server.removeAllListeners('connection');
  for (const listener of listeners) {
    const onConnection =
      listener === secure
        ? (transport: Duplex) => acceptStrict(server, transport, modeNow(), secure)
        : listener;
    server.on('connection', onConnection);
  }
  return server;
}

/** To a server that nobody listens to for requests a listener of ours would be http2's compatibility API, switched on. */
function noteRequests(server: Server): void {
  for (const event of REQUESTS) {
    if (server.listenerCount(event) > 0 && !server.listeners(event).includes(noteRequest)) {
      server.prependListener(event, noteRequest);
    }
  }
}
