/** Endings and certificates in plain words, for people who have never looked at how TLS closes. */
import type { RequestStatus, RequestTime } from '../client-cert/finder.ts';
import type { Closure } from '../closure/verdict.ts';

/** Who is who in a sentence. */
export interface Wording {
  /** The other party, as a sentence begins: 'The server'. */
  readonly peer: string;
  /** The deadline of the shutdown, in milliseconds, if it is known. */
  readonly deadline?: number | undefined;
  /** Whether nothing was asked of the peer, and no data came: then nothing can be lost. */
  readonly idle?: boolean | undefined;
}

/** What happened, and what it means. */
export function explain(closure: Closure, { peer, deadline, idle = false }: Wording): string {
  const late =
    closure.late > 0
      ? ` (It had sent ${closure.late.toLocaleString('en-US')} bytes that nobody read.)`
      : '';
  return happened(closure, peer, deadline, idle && closure.late === 0) + late;
}

function happened(
  closure: Closure,
  peer: string,
  deadline: number | undefined,
  idle: boolean,
): string {
  const { verdict, truncation, alert, initiator, received } = closure;
  switch (verdict) {
    case 'open':
      return 'Nothing has ended yet.';
    case 'secure':
      return initiator === 'peer'
        ? `${peer} closed first, with close_notify, and got ours: nothing was cut off.`
        : `${peer} answered our close_notify with its own: nothing was cut off.`;
    case 'one-sided':
      return received === null
        ? `We sent close_notify and, as asked, did not wait for an answer: permitted, but it says nothing about how ${lower(peer)} closes.`
        : `${peer} sent close_notify, so its bytes are complete; its transport was gone before ours could follow.`;
    case 'truncated': {
      const how =
        truncation?.cause === 'eof'
          ? 'ended the TCP connection (FIN)'
          : truncation?.cause === 'reset'
            ? 'reset the TCP connection (RST)'
            : `lost the TCP connection (${truncation?.code ?? 'unknown error'})`;
      if (truncation?.where === 'handshake') {
        return `${peer} ${how} before the handshake was complete: no TLS connection was made.`;
      }
      const where = truncation?.where === 'inside-record' ? ' in the middle of a record,' : '';
      if (idle && where === '') {
        return `${peer} does not answer close_notify (many do not): it ${how}. Nothing was asked, so nothing was lost.`;
      }
      return `${peer} ${how}${where} without close_notify: nobody can tell whether its last bytes were cut off, by an attacker for instance.`;
    }
    case 'alert': {
      const name = alert?.name ?? 'unknown';
      return alert?.direction === 'received'
        ? `${peer} ended the connection with the fatal alert ${name}.`
        : `We refused what ${lower(peer)} sent, with the fatal alert ${name}.`;
    }
    case 'aborted':
      return received === null
        ? `We gave up before ${lower(peer)} had sent close_notify: nothing is known of its last bytes.`
        : `${peer} sent close_notify; we gave up before ours was out.`;
    case 'timed-out': {
      const within = deadline === undefined ? 'in time' : `within ${deadline} ms`;
      return received === null
        ? `${peer} sent no close_notify ${within}, and kept the connection open: whoever waits for it without a deadline hangs.`
        : `${peer} sent close_notify, but did not take ours ${within}.`;
    }
  }
}

/** What the peer did, for a line among others, behind the verdict. @param deadline of the shutdown, in milliseconds. */
export function explainBriefly(closure: Closure, deadline: number | undefined): string {
  const { verdict, truncation, alert, initiator, received } = closure;
  switch (verdict) {
    case 'open':
      return 'nothing has ended yet';
    case 'secure':
      return initiator === 'peer' ? 'closed first' : 'answered';
    case 'one-sided':
      return received === null ? 'not waited for' : 'gone before our close_notify';
    case 'truncated': {
      const cause = truncation?.cause;
      const how =
        cause === 'eof' ? 'FIN' : cause === 'reset' ? 'RST' : (truncation?.code ?? 'lost');
      return `${how}, no close_notify`;
    }
    case 'alert': {
      const which = alert?.direction === 'received' ? 'sent' : 'got';
      return `${which} ${alert?.name ?? 'an unknown alert'}`;
    }
    case 'aborted':
      return 'given up';
    case 'timed-out':
      return `no close_notify ${deadline === undefined ? 'in time' : `in ${deadline} ms`}`;
  }
}

/** 'The server' inside a sentence; a name stays as it is. */
const lower = (peer: string): string => peer.replace(/^The /, 'the ');

/** What a server asked of a client, and what it was asked in return. */
export interface Asked {
  readonly request: RequestStatus;
  readonly when: RequestTime | null;
  /** The path that was requested, if any. */
  readonly path?: string | undefined;
}

/** Whether a server asks for a client certificate, when, and what it does without. */
export function explainRequest({ request, when, path }: Asked): string {
  if (request === 'none') {
    const neither = path === undefined ? '' : `, neither in the handshake nor for ${path}`;
    return `The server asks for no client certificate${neither}.`;
  }
  const late = when === 'renegotiation' ? 'in a renegotiation' : 'behind the handshake';
  const where =
    when === 'handshake'
      ? 'in the handshake'
      : `${late}${path === undefined ? '' : `, for ${path}`}`;
  const asks = `The server asks for a client certificate ${where}`;
  switch (request) {
    case 'optional':
      return `${asks}, and goes on without one.`;
    case 'required':
      return `${asks}, and ends the connection without one.`;
    case 'unknown':
      return `${asks}; what it does without one was not to be seen.`;
  }
}

const REASONS: Readonly<Record<string, string>> = {
  CERT_HAS_EXPIRED: 'it has expired',
  CERT_NOT_YET_VALID: 'it is not valid yet',
  CERT_REVOKED: 'it was revoked',
  CERT_UNTRUSTED: 'its issuer is not trusted for this',
  DEPTH_ZERO_SELF_SIGNED_CERT: 'it is self-signed',
  ERR_TLS_CERT_ALTNAME_INVALID: 'it is for another name',
  HOSTNAME_MISMATCH: 'it is for another name',
  INVALID_PURPOSE: 'it is not for servers',
  SELF_SIGNED_CERT_IN_CHAIN: 'its chain ends in an authority that is not trusted',
  UNABLE_TO_GET_ISSUER_CERT: 'an issuer is missing',
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: 'its issuer is not trusted',
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: 'its issuer is not known',
};

/** Why a certificate does not verify, without the code where there are words for it. */
export const certificateTrouble = (code: string): string => REASONS[code] ?? code;

/** Why a certificate does not verify, with the code. */
export function explainCertificate(code: string): string {
  const reason = REASONS[code];
  return reason === undefined ? code : `${reason} (${code})`;
}
