/**
 * From plaintext to TLS on one connection: asks the server, in the words of its protocol, to begin
 * TLS. The dialogue's rules of safety are in dialogue.ts.
 *
 * @module close-notify/starttls
 */
import type { Duplex } from 'node:stream';
import { AbortError, OptionError, TimeoutError } from '../errors.ts';
import { checkWaitOptions, withLimits } from '../wait.ts';
import { Dialogue } from './dialogue.ts';
import { ftp } from './ftp.ts';
import { imap } from './imap.ts';
import { ldap } from './ldap.ts';
import { mysql } from './mysql.ts';
import { pop3 } from './pop3.ts';
import { postgres } from './postgres.ts';
import { smtp } from './smtp.ts';
import { xmpp } from './xmpp.ts';

/** The protocols that begin in plaintext and can go on in TLS. `mysql` is MariaDB's, too. */
export type StartTlsProtocol =
  | 'smtp'
  | 'imap'
  | 'pop3'
  | 'ftp'
  | 'ldap'
  | 'postgres'
  | 'mysql'
  | 'xmpp';

/** Where servers of each protocol listen by default. */
export const STARTTLS_PORTS: Readonly<Record<StartTlsProtocol, number>> = {
  smtp: 25,
  imap: 143,
  pop3: 110,
  ftp: 21,
  ldap: 389,
  postgres: 5432,
  mysql: 3306,
  xmpp: 5222,
};

/** All protocols, by name. */
export const STARTTLS_PROTOCOLS = Object.keys(STARTTLS_PORTS) as readonly StartTlsProtocol[];

/** Options of `startTls`. */
export interface StartTlsOptions {
  /** The server's name: XMPP servers are told it, and messages say it. */
  readonly host: string;
  /** Cancels the dialogue. */
  readonly signal?: AbortSignal | undefined;
  /** Milliseconds for the whole dialogue, 10 000 by default; `Infinity` for no limit. */
  readonly deadline?: number | undefined;
}

const DIALOGUES: Readonly<Record<StartTlsProtocol, (dialogue: Dialogue) => Promise<void>>> = {
  smtp,
  imap,
  pop3,
  ftp,
  ldap,
  postgres,
  mysql,
  xmpp,
};

/** Protocols in which the client speaks first, so that silence is not a sign of TLS on that port. */
const CLIENT_FIRST: ReadonlySet<StartTlsProtocol> = new Set(['ldap', 'postgres', 'xmpp']);

/**
 * Runs the plaintext dialogue of a protocol over an open transport, up to the point where TLS begins.
 *
 * When it resolves, the transport is paused, has no listener of ours, and is ready for
 * `connect({ transport })`. Bytes that the server sends behind its go-ahead are refused as an
 * injection. When it rejects, the transport is of no use to anyone: it is left open, paused and
 * without listeners, and the caller destroys it.
 *
 * @throws {OptionError} for an argument that is none.
 * @throws {StartTlsError} when the server refuses, closes, spoke out of turn or in another protocol.
 * @throws {TimeoutError} after the deadline, with phase 'starttls'.
 * @throws {AbortError} when the signal cancelled it.
 */
export async function startTls(
  transport: Duplex,
  protocol: StartTlsProtocol,
  options: StartTlsOptions,
): Promise<void> {
  checkArguments(transport, protocol, options);
  const { host, signal, deadline = 10_000 } = options;
  let dialogue: Dialogue | undefined;
  await withLimits<void>(
    (done, fail) => {
      const opened = new Dialogue(transport, host);
      dialogue = opened;
      DIALOGUES[protocol](opened)
        .then(() => opened.finish())
        .then(done, fail);
      return () => opened.detach();
    },
    { signal, deadline },
    {
      onDeadline: (ms) =>
        new TimeoutError(`${host} sent no ${dialogue?.waitingFor} within ${ms} ms`, {
          phase: 'starttls',
          hint: CLIENT_FIRST.has(protocol)
            ? 'check the port, or raise the deadline'
            : 'check the port (one that speaks TLS from the start stays silent), or raise the deadline',
        }),
      onAbort: (reason) => new AbortError({ phase: 'starttls', cause: reason }),
    },
  );
}

function checkArguments(
  transport: Duplex,
  protocol: StartTlsProtocol,
  options: StartTlsOptions,
): void {
  if (!STARTTLS_PROTOCOLS.includes(protocol)) {
    throw new OptionError(`protocol must be one of ${STARTTLS_PROTOCOLS.join(', ')}`);
  }
  const methods = ['on', 'off', 'write', 'pause', 'resume'] as const;
  if (
    typeof transport !== 'object' ||
    transport === null ||
    methods.some((name) => typeof transport[name] !== 'function')
  ) {
    throw new OptionError('transport must be a Duplex stream');
  }
  if (transport.readableObjectMode || transport.readableEncoding) {
    throw new OptionError('transport must deliver bytes: no object mode, no setEncoding');
  }
  checkWaitOptions(options, 'host');
  // It goes into what the server is told: no line of its own may begin in it.
  if (typeof options?.host !== 'string' || !/^[^\s\p{C}]+$/u.test(options.host)) {
    throw new OptionError('host must be a non-empty string without blanks');
  }
}
