/** The rules that the conformance kit holds streams to, in the words of the standards. */

/** A rule, in a standard's words or, where no standard has any, in ours. */
export interface Requirement {
  readonly text: string;
  /** Such as 'RFC 9846 section 6.1'; null for a rule that is not a standard's. */
  readonly source: string | null;
}

/** Each rule by a name of ours. */
export const RULES = {
  notify: {
    text: 'This alert notifies the recipient that the sender will not send any more messages on this connection.',
    source: 'RFC 9846 section 6.1',
  },
  ignore: {
    text: 'Any data received after a closure alert has been received MUST be ignored.',
    source: 'RFC 9846 section 6.1',
  },
  truncation: {
    text: 'If a transport-level close is received prior to a close_notify, the receiver cannot know that all the data that was sent has been received.',
    source: 'RFC 9846 section 6.1',
  },
  before: {
    text: 'Each party MUST send a close_notify alert before closing its write side of the connection, unless it has already sent some error alert.',
    source: 'RFC 9846 section 6.1',
  },
  halfClose: {
    text: 'This does not have any effect on its read side of the connection.',
    source: 'RFC 9846 section 6.1',
  },
  answer: {
    text: 'The other party MUST respond with a close_notify alert of its own and close down the connection immediately, discarding any pending writes.',
    source: 'RFC 5246 section 7.2.1',
  },
  needNotWait: {
    text: 'Both parties need not wait to receive a close_notify alert before closing their read side of the connection, though doing so would introduce the possibility of truncation.',
    source: 'RFC 9846 section 6.1',
  },
  needNotWait12: {
    text: 'It is not required for the initiator of the close to wait for the responding close_notify alert before closing the read side of the connection.',
    source: 'RFC 5246 section 7.2.1',
  },
  endOfData: {
    text: 'the TLS implementation MUST receive a close_notify alert before indicating end-of-data to the application layer',
    source: 'RFC 9846 section 6.1',
  },
  badMac: {
    text: 'This alert is returned if a record is received which cannot be deprotected.',
    source: 'RFC 9846 section 6.2',
  },
  deadline: {
    text: 'A silent peer holds nobody up for longer than the deadline, and silence is not closure.',
    source: null,
  },
  bytes: { text: 'Every byte arrives, once and in order.', source: null },
} as const satisfies Record<string, Requirement>;
