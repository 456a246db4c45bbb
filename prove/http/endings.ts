/**
 * Where and how a connection ends behind a request, and what that makes of a response.
 *
 * An ending sends the last bytes that come of the response itself, so that they share its segment or do not.
 */
import type { CraftedPeer } from '../../test/behaviour/verdicts/crafted-peer.ts';

/** What an ending is played with. */
export interface Stage {
  readonly peer: CraftedPeer;
  /** The last bytes that come; empty where none do. */
  readonly last: Buffer;
  /** Waits until the client has what was sent. */
  later(): Promise<void>;
}

/** Where in the response it ends. */
export type Where = 'behind it' | 'in the body' | 'behind the head' | 'in the head' | 'before it';

export interface Ending {
  readonly where: Where;
  /** What the peer says of its end. */
  readonly truth: 'close_notify' | 'eof' | 'reset' | 'alert';
  /** Whether the last bytes are in a record that is not whole. */
  readonly torn?: true;
  /**
   * The ending that means the same, where Node's own socket makes nothing of this one: OpenSSL 3.5 ignores what comes
   * behind user_canceled, and Node does not close behind an alert.
   */
  readonly plainly?: string;
  play(stage: Stage): unknown;
}

/** A record holds 2^14 bytes (RFC 9846 section 5.1). */
const LIMIT = 16_384;

/** These bytes in records. */
export function recordsOf(peer: CraftedPeer, bytes: Buffer): Buffer {
  const records: Buffer[] = [];
  for (let at = 0; at < bytes.length; at += LIMIT) {
    records.push(peer.data(bytes.subarray(at, at + LIMIT)));
  }
  return Buffer.concat(records);
}

async function apart({ peer, last, later }: Stage, end: () => unknown): Promise<void> {
  peer.send(recordsOf(peer, last));
  await later();
  await end();
}

export const ENDINGS: Readonly<Record<string, Ending>> = {
  'close_notify, FIN': {
    where: 'behind it',
    truth: 'close_notify',
    play: (stage) => apart(stage, () => stage.peer.fin(stage.peer.closeNotify())),
  },
  'close_notify with the last data, FIN': {
    where: 'behind it',
    truth: 'close_notify',
    play: ({ peer, last }) => peer.fin(recordsOf(peer, last), peer.closeNotify()),
  },
  'close_notify with the last data, no FIN': {
    where: 'behind it',
    truth: 'close_notify',
    play: ({ peer, last }) => peer.send(recordsOf(peer, last), peer.closeNotify()),
  },
  'close_notify, no FIN': {
    where: 'behind it',
    truth: 'close_notify',
    play: (stage) => apart(stage, () => stage.peer.send(stage.peer.closeNotify())),
  },
  'user_canceled, close_notify, no FIN': {
    where: 'behind it',
    truth: 'close_notify',
    plainly: 'close_notify, no FIN',
    play: (stage) =>
      apart(stage, () => stage.peer.send(stage.peer.userCanceled(), stage.peer.closeNotify())),
  },
  'user_canceled and close_notify with the last data, FIN': {
    where: 'behind it',
    truth: 'close_notify',
    plainly: 'close_notify with the last data, FIN',
    play: ({ peer, last }) =>
      peer.fin(recordsOf(peer, last), peer.userCanceled(), peer.closeNotify()),
  },
  FIN: {
    where: 'behind it',
    truth: 'eof',
    play: (stage) => apart(stage, () => stage.peer.fin()),
  },
  'FIN with the last data': {
    where: 'behind it',
    truth: 'eof',
    play: ({ peer, last }) => peer.fin(recordsOf(peer, last)),
  },
  'FIN inside the last record': {
    where: 'behind it',
    truth: 'eof',
    torn: true,
    play: ({ peer, last }) => peer.fin(recordsOf(peer, last).subarray(0, -3)),
  },
  RST: {
    where: 'behind it',
    truth: 'reset',
    play: (stage) => apart(stage, () => stage.peer.reset()),
  },
  'a fatal alert with the last data, FIN': {
    where: 'behind it',
    truth: 'alert',
    play: ({ peer, last }) => peer.fin(recordsOf(peer, last), peer.alert(2, 80)),
  },
  'a fatal alert, no FIN': {
    where: 'behind it',
    truth: 'alert',
    plainly: 'a fatal alert with the last data, FIN',
    play: (stage) => apart(stage, () => stage.peer.send(stage.peer.alert(2, 20))),
  },
  'in the body: FIN': {
    where: 'in the body',
    truth: 'eof',
    play: (stage) => apart(stage, () => stage.peer.fin()),
  },
  'in the body: RST': {
    where: 'in the body',
    truth: 'reset',
    play: (stage) => apart(stage, () => stage.peer.reset()),
  },
  // As some proxies do whose own server went: TLS is whole, HTTP is not.
  'in the body: close_notify, FIN': {
    where: 'in the body',
    truth: 'close_notify',
    play: ({ peer, last }) => peer.fin(recordsOf(peer, last), peer.closeNotify()),
  },
  'in the body: a fatal alert': {
    where: 'in the body',
    truth: 'alert',
    play: ({ peer, last }) => peer.fin(recordsOf(peer, last), peer.alert(2, 80)),
  },
  'behind the head: FIN': {
    where: 'behind the head',
    truth: 'eof',
    play: ({ peer, last }) => peer.fin(recordsOf(peer, last)),
  },
  'behind the head: close_notify, FIN': {
    where: 'behind the head',
    truth: 'close_notify',
    play: (stage) => apart(stage, () => stage.peer.fin(stage.peer.closeNotify())),
  },
  'in the head: FIN': {
    where: 'in the head',
    truth: 'eof',
    play: (stage) => apart(stage, () => stage.peer.fin()),
  },
  'in the head: close_notify, FIN': {
    where: 'in the head',
    truth: 'close_notify',
    play: ({ peer, last }) => peer.fin(recordsOf(peer, last), peer.closeNotify()),
  },
  'before it: FIN': {
    where: 'before it',
    truth: 'eof',
    play: ({ peer }) => peer.fin(),
  },
  'before it: close_notify, FIN': {
    where: 'before it',
    truth: 'close_notify',
    play: ({ peer }) => peer.fin(peer.closeNotify()),
  },
  'before it: RST': {
    where: 'before it',
    truth: 'reset',
    play: ({ peer }) => peer.reset(),
  },
};
