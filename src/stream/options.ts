/**
 * What becomes of every option that `connect`, `accept` and `createServer` are given.
 *
 * Theory of operation. An option that is silently ignored is a promise that is broken: somebody believes that there is
 * a timeout, and there is none. So each name has one place in one of the two tables below. It goes to TLS, or to the
 * transport, or it is ours; or it is refused, with the reason and with what to use instead. The tables name all that
 * the documentation of Node 20 to 26 has for `tls.connect`, `tls.createServer`, `tls.createSecureContext`,
 * `net.connect` and `net.createServer`. An option that only a newer Node has goes where it belongs on every Node, and
 * does there what it does in Node's own functions: on an older one, nothing. A name that is in no table is refused,
 * with the nearest name that is.
 */
import type { ClientTlsOptions, ServerTlsOptions } from '../engine/options.ts';
import { OptionError } from '../errors.ts';
import { unknownOption } from '../option-names.ts';

/**
 * Where an option goes: to TLS; to the transport that is opened, or listened for; to the stream itself. Or nowhere: a
 * server has no use for it, but it stands beside key and certificate in options that both sides share.
 */
type Place = 'tls' | 'transport' | 'ours' | 'nowhere';

/** Why an option is not taken, and what to use in its place. */
interface Refusal {
  readonly why: string;
  readonly instead: string;
}

type Options = Readonly<Record<string, Place | Refusal>>;

const refused = (why: string, instead: string): Refusal => ({ why, instead });

/** Options of `tls.createSecureContext`. */
const CONTEXT = {
  ca: 'tls',
  cert: 'tls',
  certificateCompression: 'tls',
  ciphers: 'tls',
  clientCertEngine: 'tls',
  crl: 'tls',
  dhparam: 'tls',
  ecdhCurve: 'tls',
  honorCipherOrder: 'tls',
  key: 'tls',
  maxVersion: 'tls',
  minVersion: 'tls',
  passphrase: 'tls',
  pfx: 'tls',
  privateKeyEngine: 'tls',
  privateKeyIdentifier: 'tls',
  secureOptions: 'tls',
  secureProtocol: 'tls',
  sessionIdContext: 'tls',
  sessionTimeout: 'tls',
  sigalgs: 'tls',
  ticketKeys: 'tls',
} as const;

/** Options of both sides that are ours. */
const STREAM = {
  answer: 'ours',
  deadlines: 'ours',
  engine: 'ours',
  idleTimeout: 'ours',
  linger: 'ours',
  record: 'ours',
  requireCloseNotify: 'ours',
  requireEvidence: 'ours',
  signal: 'ours',
  head: 'ours',
  unread: 'ours',
  unreadLimit: 'ours',
} as const;

const WATER = refused(
  'a stream reads when it is asked to, and has no buffer of its own',
  'toDuplex({ readableHighWaterMark, writableHighWaterMark }) has two',
);
const HALF = refused(
  'each direction of a stream ends on its own',
  "see the option answer, and toDuplex({ allowHalfOpen }) for Node's way",
);
const GIVEN = 'give a transport that is made so: connect({ transport })';
const OF_SERVERS = refused('it is an option of servers', 'accept and createServer take it');
const OF_CLIENTS = refused('it is an option of clients', 'connect takes it');

/** Options of `connect`. */
export const CLIENT_OPTIONS = {
  ...CONTEXT,
  ...STREAM,
  clientCertificate: 'ours',
  onSession: 'ours',
  transport: 'ours',
  // tls.connect
  allowPartialTrustChain: 'tls',
  ALPNProtocols: 'tls',
  checkServerIdentity: 'tls',
  enableTrace: 'tls',
  minDHSize: 'tls',
  pskCallback: 'tls',
  rejectUnauthorized: 'tls',
  secureContext: 'tls',
  servername: 'tls',
  session: 'tls',
  socket: refused('it has another name here', 'transport'),
  requestOCSP: refused(
    "the answer is an event of Node's TLSSocket, which a stream has not",
    'secureSocket() makes one, which has',
  ),
  timeout: refused(
    'it would only emit an event, which a stream has not',
    'idleTimeout ends a connection that is silent; deadlines limits each wait',
  ),
  // net.connect and net.Socket
  autoSelectFamily: 'transport',
  autoSelectFamilyAttemptTimeout: 'transport',
  blockList: 'transport',
  family: 'transport',
  hints: 'transport',
  host: 'transport',
  keepAlive: 'transport',
  keepAliveInitialDelay: 'transport',
  localAddress: 'transport',
  localPort: 'transport',
  lookup: 'transport',
  noDelay: 'transport',
  path: 'transport',
  port: 'transport',
  typeOfService: 'transport',
  allowHalfOpen: HALF,
  fd: refused('connect opens its transport by name', GIVEN),
  handle: refused('connect opens its transport by name', GIVEN),
  highWaterMark: WATER,
  onread: refused(
    'a stream has no callback for what arrives',
    'read(), or for await (const bytes of stream)',
  ),
  readable: refused('TLS needs both directions', GIVEN),
  writable: refused('TLS needs both directions', GIVEN),
  // Of the other side.
  ALPNCallback: OF_SERVERS,
  SNICallback: OF_SERVERS,
  handshakeTimeout: refused('it has another name here', 'deadlines: { handshake }'),
  pauseOnConnect: OF_SERVERS,
  pskIdentityHint: OF_SERVERS,
  requestCert: refused('a client always asks for the certificate', 'rejectUnauthorized'),
} as const satisfies Options;

const ACCEPTED = {
  ...CONTEXT,
  ...STREAM,
  // tls.createServer
  ALPNCallback: 'tls',
  ALPNProtocols: 'tls',
  SNICallback: 'tls',
  enableTrace: 'tls',
  pskCallback: 'tls',
  pskIdentityHint: 'tls',
  rejectUnauthorized: 'tls',
  requestCert: 'tls',
  handshakeTimeout: refused('it has another name here', 'deadlines: { handshake }'),
  allowPartialTrustChain: refused(
    "Node's tls.createServer does not heed it",
    'give the whole chain of issuers as ca',
  ),
  // net.createServer
  allowHalfOpen: HALF,
  highWaterMark: WATER,
  pauseOnConnect: refused(
    'TLS has to read the handshake; what follows is read when you ask for it',
    'a net.Server that pauses, and accept(transport, options)',
  ),
  // Of the other side.
  checkServerIdentity: OF_CLIENTS,
  minDHSize: OF_CLIENTS,
  requestOCSP: OF_CLIENTS,
  secureContext: refused(
    "Node's tls.createServer does not heed it",
    'give key and cert; SNICallback gives a context for each name',
  ),
  servername: 'nowhere',
  session: OF_CLIENTS,
  timeout: CLIENT_OPTIONS.timeout,
} as const satisfies Options;

const OF_THE_TRANSPORT = refused('the transport is yours already', 'set it on the transport');

/** Options of `accept`. */
export const ACCEPT_OPTIONS = {
  ...ACCEPTED,
  blockList: OF_THE_TRANSPORT,
  keepAlive: OF_THE_TRANSPORT,
  keepAliveInitialDelay: OF_THE_TRANSPORT,
  noDelay: OF_THE_TRANSPORT,
} as const satisfies Options;

const ONE_EACH = refused('each connection has its own', 'accept(transport, options) takes it');

/** Options of `createServer`. */
export const SERVER_OPTIONS = {
  ...ACCEPTED,
  blockList: 'transport',
  keepAlive: 'transport',
  keepAliveInitialDelay: 'transport',
  noDelay: 'transport',
  head: ONE_EACH,
  signal: refused('each connection has its own', 'listen({ signal }), close({ signal })'),
  maxConnections: 'ours',
  onDrop: 'ours',
  onError: 'ours',
} as const satisfies Options;

/** What a client's own transport is not asked about: it names the server, and picks no way to it. */
const OF_THE_NAME: ReadonlySet<string> = new Set(['host', 'port', 'path']);

/** @throws {OptionError} for an option that is refused, and for one that nobody knows. */
export function checkNames(table: Options, options: object): void {
  if (typeof options !== 'object' || options === null) {
    throw new OptionError('options must be an object');
  }
  const hasTransport = (options as { readonly transport?: unknown }).transport !== undefined;
  for (const [name, value] of Object.entries(options)) {
    if (value === undefined) continue;
    const place = placeOf(table, name);
    if (place === undefined) throw unknownOption(name, Object.keys(table));
    if (typeof place === 'object') throw refusal(name, place);
    if (place === 'transport' && hasTransport && !OF_THE_NAME.has(name)) {
      throw refusal(name, OF_THE_TRANSPORT);
    }
  }
}

/** The same for new TLS options of a server that is there. @throws {OptionError} */
export function checkTlsNames(options: object): void {
  checkNames(SERVER_OPTIONS, options);
  for (const [name, value] of Object.entries(options)) {
    if (value === undefined || placeOf(SERVER_OPTIONS, name) === 'tls') continue;
    throw refusal(
      name,
      refused('it is none of TLS, and stays as it is', 'createServer(options) takes it'),
    );
  }
}

/** The options that go to a place. */
export function optionsFor<T extends object>(table: Options, place: Place, options: T): Partial<T> {
  return Object.fromEntries(
    Object.entries(options).filter(
      ([name, value]) => value !== undefined && placeOf(table, name) === place,
    ),
  ) as Partial<T>;
}

const placeOf = (table: Options, name: string) =>
  Object.hasOwn(table, name) ? table[name] : undefined;

function refusal(name: string, { why, instead }: Refusal): OptionError {
  return new OptionError(`the option ${name} is refused: ${why}`, { hint: instead });
}

// Whoever adds an option to the types is told here to say what becomes of it.
CLIENT_OPTIONS satisfies Readonly<Record<keyof ClientTlsOptions, unknown>>;
ACCEPT_OPTIONS satisfies Readonly<Record<keyof ServerTlsOptions, unknown>>;
