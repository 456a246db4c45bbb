/**
 * What a transcript comes to, for people who have never looked at how TLS closes: which side failed
 * to do what, what that means, the sentence of the standard that governs it, and which of the nine
 * endings it resembles.
 */
import type { Verdict } from '../closure/verdict.ts';
import type { Observation } from '../transcript/observer.ts';
import type { Transcript } from '../transcript/transcript.ts';
import type { Resemblance, Rule, Story } from './drawing.ts';

/** Who is who. */
export interface Parties {
  /** The party whose view it is; 'us' speaks of itself. */
  readonly local: string;
  readonly peer: string;
  /** The TLS version, if it is known: the two differ in what they ask of the responder. */
  readonly protocol: string | null;
  /** Whether it is known that no application data crossed. */
  readonly idle?: boolean | undefined;
}

const RULES = {
  share: {
    quote:
      'The client and the server must share knowledge that the connection is ending in order to avoid a truncation attack.',
    source: 'RFC 9846 section 6.1',
  },
  unknown: {
    quote:
      'If a transport-level close is received prior to a close_notify, the receiver cannot know that all the data that was sent has been received.',
    source: 'RFC 9846 section 6.1',
  },
  notify: {
    quote:
      'This alert notifies the recipient that the sender will not send any more messages on this connection.',
    source: 'RFC 9846 section 6.1',
  },
  mustSend: {
    quote:
      'Each party MUST send a close_notify alert before closing its write side of the connection, unless it has already sent some error alert.',
    source: 'RFC 9846 section 6.1',
  },
  mustAnswer: {
    quote: 'The other party MUST respond with a close_notify alert of its own',
    source: 'RFC 5246 section 7.2.1',
  },
  needNotWait: {
    quote:
      'It is not required for the initiator of the close to wait for the responding close_notify alert before closing the read side of the connection.',
    source: 'RFC 5246 section 7.2.1',
  },
  error: {
    quote:
      'Upon receiving an error alert, the TLS implementation SHOULD indicate an error to the application and MUST NOT allow any further data to be sent or received on the connection.',
    source: 'RFC 9846 section 6',
  },
} as const satisfies Readonly<Record<string, Rule>>;

/** What became of a connection, in the order in which its party learnt of it. */
interface Facts {
  readonly sent: number | null;
  readonly received: number | null;
  readonly end: Extract<
    Observation,
    { type: 'transport-eof' | 'transport-reset' | 'transport-error' }
  > | null;
  readonly endAt: number | null;
  /** The first call that was to close the connection. */
  readonly closeAt: number | null;
  readonly cancelled: boolean;
  /** The peer's transport had ended before this party began to close, though it had not noticed. */
  readonly goneBefore: boolean;
  /** Data that had come before was read only after this party began to close. */
  readonly lateRead: boolean;
  readonly waited: number | null;
  readonly alert: Extract<Observation, { type: 'alert' }> | null;
  readonly established: boolean;
}

function factsOf({ entries }: Transcript, otherSide: OtherSide | null): Facts {
  const at = (found: (one: Observation) => boolean): number | null => {
    const index = entries.findIndex((entry) => entry.type === 'event' && found(entry.observation));
    return index < 0 ? null : index;
  };
  const observations = entries.flatMap((entry) =>
    entry.type === 'event' ? [entry.observation] : [],
  );
  const isEnd = (one: Observation): one is NonNullable<Facts['end']> =>
    ['transport-eof', 'transport-reset', 'transport-error'].includes(one.type);
  const closeAt = at(
    (one) => one.type === 'call' && (one.name === 'shutdown' || one.name === 'close'),
  );
  const sent = at((one) => one.type === 'close-notify' && one.direction === 'sent');
  const received = at((one) => one.type === 'close-notify' && one.direction === 'received');
  const gone = otherSide?.transcript.entries.find(
    (entry) => entry.type === 'event' && entry.observation.type === 'transport-closed',
  );
  const goneAt = gone === undefined ? null : gone.at + (otherSide?.offset ?? 0);
  const deadline = observations.findLast((one) => one.type === 'deadline');
  return {
    sent,
    received,
    end: observations.find(isEnd) ?? null,
    endAt: at(isEnd),
    closeAt,
    cancelled: observations.some((one) => one.type === 'call' && one.name === 'cancel'),
    goneBefore: closeAt !== null && goneAt !== null && goneAt < (entries[closeAt]?.at ?? 0),
    lateRead: entries.some(
      (entry, index) =>
        entry.type === 'traffic' &&
        entry.direction === 'received' &&
        entry.calls > 0 &&
        closeAt !== null &&
        index > closeAt,
    ),
    waited: deadline?.type === 'deadline' ? (deadline.ms ?? null) : null,
    alert:
      (observations.findLast((one) => one.type === 'alert' && one.alert.code !== 0) as
        | Extract<Observation, { type: 'alert' }>
        | undefined) ?? null,
    established:
      observations.some((one) => one.type === 'phase' && one.name === 'handshake') ||
      sent !== null ||
      received !== null,
  };
}

/** The other party's own record, and what to add to its times. */
export interface OtherSide {
  readonly transcript: Transcript;
  readonly offset: number;
}

/** What a transcript comes to; the other side's, if there is one, settles who was first. */
export function tellStory(
  transcript: Transcript,
  parties: Parties,
  otherSide: OtherSide | null = null,
): Story {
  const facts = factsOf(transcript, otherSide);
  const words = new Words(parties);
  const { verdict } = transcript;
  return {
    verdict,
    ...TELLERS[verdict](facts, words, parties),
    resembles: resemblance(verdict, facts),
  };
}

type Told = Pick<Story, 'tone' | 'headline' | 'meaning' | 'rule'>;

/** Names as a sentence has them. */
class Words {
  /** The party whose view it is: as the subject, and as whose something is. */
  readonly We: string;
  readonly our: string;
  readonly peer: string;
  readonly Peer: string;

  constructor({ local, peer }: Parties) {
    // The role after a name explains the lane; a sentence does without.
    const bare = (name: string) => name.replace(/ \([^()]*\)$/, '');
    const us = local === 'us' || local === 'we';
    this.We = us ? 'We' : bare(local);
    this.our = us ? 'our' : `${bare(local)}'s`;
    this.peer = bare(peer);
    // A name stays as it is; 'the server' begins a sentence with a capital.
    this.Peer = this.peer.replace(/^the /, 'The ');
  }
}

const TELLERS: Readonly<Record<Verdict, (facts: Facts, words: Words, parties: Parties) => Told>> = {
  open: () => ({
    tone: 'plain',
    headline: 'Nothing has ended yet.',
    meaning: 'There is no verdict before somebody closes, or the transport ends.',
    rule: RULES.share,
  }),
  secure: ({ sent, received }, { We, Peer }) => ({
    tone: 'good',
    headline:
      (sent ?? 0) < (received ?? 0)
        ? `Both sides closed properly: ${We} sent close_notify, and ${Peer} answered with its own.`
        : `Both sides closed properly: ${Peer} sent close_notify first, and ${We} answered.`,
    meaning: 'Each side knows that it has all that the other one sent: nothing was cut off.',
    rule: RULES.notify,
  }),
  'one-sided': ({ received, end, waited }, { We, Peer, peer, our }) =>
    received === null && (end !== null || waited !== null)
      ? {
          tone: 'warn',
          headline:
            end === null
              ? `${We} closed. ${Peer} sent neither close_notify nor FIN${withinOf(waited)}.`
              : `${We} closed. ${Peer} ended the TCP connection, too, without close_notify of its own.`,
          meaning: `That is permitted: who closes wants no more, so nothing that was wanted is missing.`,
          rule: RULES.needNotWait,
        }
      : received === null
        ? {
            tone: 'warn',
            headline: `${We} sent close_notify and did not wait for ${peer}.`,
            meaning: `That is permitted; but nothing is known of the last bytes that ${peer} sent.`,
            rule: RULES.needNotWait,
          }
        : {
            tone: 'warn',
            headline: `${Peer} sent close_notify, but its transport was gone before it took ${our} answer.`,
            meaning: `All that ${peer} sent has arrived; ${peer} cannot know the same.`,
            rule: RULES.needNotWait,
          },
  truncated: ({ end, established, sent }, { Peer, peer, We }, { idle }) => {
    const how =
      end?.type === 'transport-eof'
        ? 'ended the TCP connection (FIN)'
        : end?.type === 'transport-reset'
          ? 'reset the TCP connection (RST)'
          : 'lost the TCP connection';
    if (!established || end?.where === 'handshake') {
      return {
        tone: 'bad',
        headline: `${Peer} ${how} before the handshake was complete.`,
        meaning: 'No TLS connection was made.',
        rule: RULES.share,
      };
    }
    const where = end?.where === 'inside-record' ? ', in the middle of a record' : '';
    const harmless = idle === true && where === '';
    return {
      tone: harmless ? 'warn' : 'bad',
      headline:
        sent === null
          ? `${Peer} ${how}${where} without sending close_notify.`
          : `${We} sent close_notify. ${Peer} sent none: it ${how}${where}.`,
      meaning: harmless
        ? `${Peer} does not answer close_notify (many do not). Nothing was asked, so nothing was lost.`
        : `Nobody can tell whether the last bytes that ${peer} sent were cut off, by an attacker for instance.`,
      rule: harmless ? RULES.mustSend : RULES.unknown,
    };
  },
  alert: ({ alert }, { Peer, We, peer }) => {
    const name = alert?.alert.name ?? 'unknown';
    return {
      tone: 'bad',
      headline:
        alert?.direction === 'sent'
          ? `${We} refused what ${peer} sent, with the fatal alert ${name}.`
          : `${Peer} ended the connection with the fatal alert ${name}.`,
      meaning: 'The connection failed. What was read may be only a part.',
      rule: RULES.error,
    };
  },
  aborted: ({ received, sent }, { We, Peer, peer }) => ({
    tone: 'warn',
    headline:
      received === null
        ? sent === null
          ? `${We} gave the connection up without sending close_notify.`
          : `${We} sent close_notify, then gave up before ${peer} had answered.`
        : `${Peer} sent close_notify; ${We} gave up without sending one.`,
    meaning:
      received === null
        ? `Nothing is known of the last bytes that ${peer} sent.`
        : `All that ${peer} sent has arrived; ${peer} cannot know the same.`,
    rule: sent === null ? RULES.mustSend : RULES.share,
  }),
  'timed-out': ({ received, waited, sent }, { Peer, peer, our, We }, { protocol }) => {
    const within = withinOf(waited);
    return received === null && sent !== null
      ? {
          tone: 'bad',
          headline: `${Peer} never answered ${our} close_notify${within}, and kept the connection open.`,
          meaning: `Nothing is known of the last bytes that ${peer} sent. Whoever waits without a deadline hangs.`,
          rule: protocol === 'TLSv1.2' ? RULES.mustAnswer : RULES.share,
        }
      : {
          tone: 'warn',
          headline:
            received === null
              ? `${We} ran out of time${within}.`
              : `${Peer} sent close_notify, but did not take ${our} answer${within}.`,
          meaning: 'A deadline ended what the peer did not.',
          rule: RULES.share,
        };
  },
};

const withinOf = (waited: number | null): string =>
  waited === null ? '' : ` within ${waited.toLocaleString('en-US')} ms`;

/** The ending that a verdict and what led to it are like. */
function resemblance(verdict: Verdict, facts: Facts): Resemblance | null {
  const { sent, received, endAt, closeAt, cancelled, established } = facts;
  const as = (number: number, seenFrom: 'A' | 'B' = 'A'): Resemblance => ({ number, seenFrom });
  switch (verdict) {
    case 'truncated':
      if (!established) return null;
      if (facts.goneBefore) return as(1);
      if (sent !== null && endAt !== null && sent < endAt) return as(2);
      return closeAt !== null && endAt !== null && closeAt > endAt ? as(1) : as(5);
    case 'secure':
      if (facts.lateRead) return as(8);
      return sent !== null && received !== null && sent < received ? as(3) : as(6);
    case 'one-sided':
      return received === null ? as(4) : null;
    case 'aborted':
      if (cancelled) return as(7);
      return received === null ? as(5, 'B') : as(2, 'B');
    case 'timed-out':
      return received === null && sent !== null ? as(9) : null;
    case 'alert':
    case 'open':
      return null;
  }
}
