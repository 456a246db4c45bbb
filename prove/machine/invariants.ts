/**
 * What must hold in every world, for either party, each with the sentence that asks for it.
 *
 * They look at what a caller can see (the verdict, the closure, how calls settle), at the machine's
 * states, and at the truth that the world keeps; never at the machine's tables. Each tells what it
 * saw where it does not hold, and is null where it does.
 *
 * Most are about one party alone, and are asked of each of its steps. Those about both parties are
 * asked of each world, from either side.
 */
import type { Verdict } from '../../src/closure/verdict.ts';
import type { Rule } from '../../src/drawing/drawing.ts';
import {
  directionKey,
  HOUR,
  isClosing,
  mayBeLost,
  type Party,
  type Rules,
  type Step,
  type Truth,
} from './world.ts';

/** A named rule. */
interface Named {
  /** The function's. */
  readonly name: string;
  /** The sentence that it holds, and where that stands. */
  readonly rule: Rule;
}

/** About one party: what a step did to it. */
export interface StepInvariant extends Named {
  readonly holds: (step: Step, rules: Rules) => string | null;
}

/** About both: `me` and `peer` in one world. */
export interface WorldInvariant extends Named {
  readonly holds: (me: Party, peer: Party, rules: Rules) => string | null;
}

/** The transport ended before the peer's close_notify. Whom that cuts is another question. */
const isCut = (end: Truth['received']) =>
  end === 'reset' || end === 'error' || end?.startsWith('eof') === true;

/** Who had said that it wants no more is not cut. */
const isTruncation = ({ received, done }: Truth) => isCut(received) && !done;

/** `secure` is said only when both close_notify have passed, the peer's under its keys. */
function secureMeansBothClosed({ after: me }: Step): string | null {
  if (me.verdict !== 'secure') return null;
  if (me.truth.received !== 'closed')
    return `secure, but the peer's bytes were ${me.truth.received}`;
  return me.truth.sent === 'said' ? null : `secure, but our close_notify was ${me.truth.sent}`;
}

/** A caller who is told that the peer's close_notify came has every byte that the peer sent. */
function closedMeansWhole(me: Party, peer: Party): string | null {
  const { verdict, received, receive } = me.closure;
  if (verdict !== 'secure' && received === null && receive !== 'closed') return null;
  if (peer.truth.sent !== 'said') return 'told of a close_notify that the peer never sent';
  return me.got === peer.wrote ? null : `${me.got} of ${peer.wrote} records came`;
}

/** A stream that ended otherwise never ends like a whole one: `read` gives null only when told to. */
function readEndsOnlyByCloseNotify({ after: me, read }: Step, rules: Rules): string | null {
  if (read !== 'null') return null;
  if (me.unread > 0) return 'read gave null before the last bytes';
  if (me.truth.received === 'closed') return null;
  const reported = !rules.requireCloseNotify && me.verdict === 'truncated';
  return reported ? null : `read gave null, though the peer's bytes were ${me.truth.received}`;
}

/** And one that is whole never ends like a truncated one. */
function readFailsOnlyWithoutCloseNotify({ after: me, read }: Step): string | null {
  if (read !== 'error' || me.truth.received !== 'closed') return null;
  return 'read failed, though close_notify had come';
}

/** What ended the peer's bytes first has ended them: nothing upgrades it, nothing retells it. */
function anEndStays({ before, after: me }: Step): string | null {
  const was = before.state.receive;
  if (was.kind === 'handshaking' || was.kind === 'open' || was.kind === 'closing') return null;
  const [then, now] = [directionKey(was), directionKey(me.state.receive)];
  // Of it, HTTP may know later that nothing was missing.
  const found = me.truth.idle && now === `${then}, not lacking`;
  return then === now || found ? null : `${then} became ${now}`;
}

/** A truncation is seen as one, whatever else the caller does, and where and how it happened. */
function noTruncationIsMissed({ after: me }: Step): string | null {
  const end = me.truth.received;
  if (!isTruncation(me.truth)) return null;
  const { truncation } = me.closure;
  if (me.verdict !== 'truncated' || truncation === null) return `${end}, but ${me.verdict}`;
  const cause = end?.startsWith('eof') ? 'eof' : end;
  const code = end === 'reset' ? 'ECONNRESET' : end === 'error' ? 'ETIMEDOUT' : null;
  const where = !me.truth.established
    ? 'handshake'
    : end === 'eof inside-record'
      ? 'inside-record'
      : 'record-boundary';
  const same = truncation.cause === cause && truncation.code === code && truncation.where === where;
  return same ? null : `${end}, but told as ${JSON.stringify(truncation)}`;
}

/** And where there was none, none is told. */
function noTruncationIsInvented({ after: me }: Step): string | null {
  if (me.verdict !== 'truncated' && me.closure.truncation === null) return null;
  if (isTruncation(me.truth)) return null;
  return `truncated, but ${me.truth.received}${me.truth.done ? ', behind close()' : ''}`;
}

/** A peer that closed as it should is not suspected, where nobody meddled. */
function noFalseAlarm(me: Party, peer: Party, rules: Rules): string | null {
  if (me.verdict !== 'truncated' || rules.network === 'hostile') return null;
  return peer.truth.sent === 'said' ? 'truncated, but the peer sent close_notify' : null;
}

/** Only the kinds of change that closing allows. */
const MOVES: Readonly<Record<Verdict, readonly Verdict[]>> = {
  open: ['secure', 'one-sided', 'truncated', 'alert', 'aborted', 'timed-out'],
  // What nobody waited for may still come, or fail to. For `open` see below.
  'one-sided': ['open', 'secure', 'truncated', 'alert', 'aborted', 'timed-out'],
  // So may what was waited for too short a time. For `one-sided` see below.
  'timed-out': ['secure', 'one-sided', 'truncated', 'alert'],
  aborted: ['secure', 'one-sided', 'truncated', 'alert'],
  secure: [],
  truncated: [],
  alert: [],
};

/**
 * Verdicts move along the table, and the last three nowhere. A caller whose wait was in vain, or who
 * gave the stream up, cannot choose afterwards not to have waited: `one-sided` comes after that only
 * where the peer's close_notify came after all, and the transport broke before ours was out. Only `close`
 * opens again what was one-sided: it looks once more whether the peer's close_notify comes.
 */
function verdictsMoveAlongTheTable({ before, after: me }: Step): string | null {
  if (before.verdict === me.verdict) return null;
  if (me.verdict === 'open' && (before.close !== 'no' || !isClosing(me))) {
    return `${before.verdict} became open, and nobody has called close`;
  }
  const gaveUp = before.verdict === 'timed-out' || before.verdict === 'aborted';
  const late = gaveUp && me.verdict === 'one-sided' && me.truth.received !== 'closed';
  return MOVES[before.verdict].includes(me.verdict) && !late
    ? null
    : `${before.verdict} became ${me.verdict}`;
}

/** The verdict is what the truth makes of it; no more was lost than was said, and no less. */
function theVerdictIsTheTruth({ after: me }: Step): string | null {
  const verdict = verdictOfTruth(me.truth);
  return me.verdict === verdict ? null : `${me.verdict}, but it was ${verdict}`;
}

function verdictOfTruth(truth: Truth): Verdict {
  const { received, sent, gaveUp, waived, done } = truth;
  const vain = gaveUp === null ? null : gaveUp === 'deadline' ? 'timed-out' : 'aborted';
  const oneSided = waived && sent === 'said' ? 'one-sided' : null;
  // Who closes looks for the peer's close_notify still, though it does not insist.
  if (received === null) return vain ?? (done ? null : oneSided) ?? 'open';
  if (received === 'alerted' || received === 'refused') return 'alert';
  if (isTruncation(truth)) return 'truncated';
  if (received !== 'closed') return vain ?? oneSided ?? (sent === null ? 'open' : 'aborted');
  if (sent === 'said') return 'secure';
  if (sent === 'cut') return 'one-sided';
  return vain ?? (sent === null ? 'open' : 'aborted');
}

/** Whether bytes of the peer's may be missing is told as it is: of those that somebody here wanted. */
function incompleteIsTheTruth({ after: me }: Step): string | null {
  const { received, done, idle } = me.truth;
  const ended = received !== null && received !== 'closed';
  const due = ended ? !done && !idle : received === null ? null : false;
  const { incomplete } = me.closure;
  if (incomplete === due) return null;
  const before = done ? ', behind close() or abort()' : idle ? ', with HTTP idle' : '';
  return `the peer's bytes were ${received}${before}, but incomplete is ${incomplete}`;
}

/** Once a wait's deadline is an event, the wait is over, and the verdict says so. */
function everyWaitEnds({ before, after: me, move }: Step): string | null {
  if (!/^(a deadline passes|cancels)/.test(move.what)) return null;
  if (me.verdict === 'open') return 'a wait ended, and the verdict is still open';
  const calls = (one: Party) => (one.call === '' ? 0 : 1) + (isClosing(one) ? 1 : 0);
  return calls(me) < Math.max(1, calls(before)) ? null : 'the wait is over, and the call goes on';
}

/** A wait ends also by what it waits for: no call is left waiting for what has come already. */
function noWaitForWhatHasCome({ after: me }: Step): string | null {
  const { sent, received } = me.truth;
  if (me.call !== '') {
    if (me.verdict === 'secure') return 'secure, and a shutdown still waits';
    if (me.failed) return 'the stream has failed, and a shutdown still waits';
  }
  if (!isClosing(me) || sent === null) return null;
  if (me.close === 'waive') return `our direction was ${sent}, and a close still waits`;
  return received === null ? null : `the peer's bytes were ${received}, and a close still waits`;
}

/** A shutdown that resolves has had what it asked for, or what the policy lets pass. */
function whatResolvesIsClosed({ after: me, settled }: Step, rules: Rules): string | null {
  if (settled === null || settled === 'rejected') return null;
  const { received, sent } = me.truth;
  const broken = sent === 'cut' && received === 'closed';
  if (sent !== 'said' && !broken) return `resolved, and our close_notify was ${sent}`;
  const reported = isTruncation(me.truth) && !rules.requireCloseNotify;
  if (received === 'closed' || settled !== 'resolved' || reported) return null;
  return `resolved a wait, and the peer's bytes were ${received}`;
}

/** By its caller's own doing, and not by what came. */
const isCutShort = ({ what }: Step['move']) => /^abort|^(a deadline passes|cancels)/.test(what);

/** close ends by what the peer's transport says, and gives up nothing that could still come. */
function closeEndsByWhatCame({ before, after: me, move, closed }: Step): string | null {
  if (closed === null || isCutShort(move)) return null;
  const { sent, received } = me.truth;
  if (before.truth.sent === null && sent === 'abandoned') {
    return 'close is over, and close_notify could still have gone out';
  }
  const waits = before.close === 'wait' || move.what === 'close()';
  if (!waits || before.truth.received !== null || received !== 'abandoned') return null;
  return 'close is over, and the peer had said neither close_notify nor FIN';
}

/** close fails where bytes of ours may be lost and nobody knows, and where its caller wants that; nowhere else. */
function closeFailsOnlyForOurBytes({ before, after: me, move, closed }: Step): string | null {
  if (closed === null) return null;
  const lost = mayBeLost(me) && me.truth.sent !== 'said';
  const { told } = before.truth;
  const cancelled = move.what === 'cancels in close';
  // Where a shutdown is told of it in the same move, either may have been first.
  if (lost && !told && me.truth.told && !cancelled) return null;
  const due = move.what !== 'abort()' && ((lost && !told) || cancelled) ? 'rejected' : 'resolved';
  if (closed === due) return null;
  return `close ${closed}, and our bytes were ${lost ? `lost, ${told ? 'as told' : 'untold'}` : 'taken'}`;
}

/** Our direction ends by close_notify, unless something broke it: the transport's FIN comes after. */
function closeNotifyComesBeforeFin({ before, after: me }: Step, rules: Rules): string | null {
  if (before.out !== 'open' || me.out !== 'fin') return null;
  const closed = me.truth.sent === 'said' || me.truth.sent === 'alerted' || me.truth.sent === 'cut';
  // One may do without: whom a truncation has failed. That stream ends as one that is given up does: what its owner
  // still had to say is lost, and close_notify would have the peer take what it has for the whole. Where a truncation
  // is only reported, the stream has not failed, and the rule stands.
  const cutOff = rules.requireCloseNotify && isTruncation(me.truth);
  if (closed || cutOff) return null;
  return `FIN, and our direction was ${me.truth.sent}`;
}

/** And who closes sends FIN right behind it: a peer that waits for FIN alone waits for nothing more. */
function closeSendsFinBehindCloseNotify({ after: me }: Step): string | null {
  if (me.close === 'no' || me.truth.sent !== 'said' || me.out !== 'open') return null;
  return 'close was called and close_notify is out, without FIN';
}

/** shutdown ends in close_notify: it is on its way, out, or known to be impossible. */
function shutdownIsObeyed({ after: me }: Step): string | null {
  const asked = me.calls > 0 || me.close !== 'no';
  if (!asked || !me.truth.established || me.failed) return null;
  return me.state.send.kind === 'open' ? 'shutdown was called, and nothing came of it' : null;
}

/** Nothing is sent behind close_notify. */
function nothingFollowsCloseNotify({ before, after: me }: Step): string | null {
  if (before.truth.sent === null) return null;
  return me.wrote > before.wrote
    ? `a record was sent after our direction was ${before.truth.sent}`
    : null;
}

/** TLS 1.2: the responder answers at once, and its pending writes are gone. */
function tls12AnswersAtOnce({ before, after: me, move }: Step, rules: Rules): string | null {
  const came = before.truth.received === null && me.truth.received === 'closed';
  const answers = rules.version === 'TLSv1.2' && rules.answers[move.to] === 'at-once';
  if (!came || !answers || before.state.send.kind !== 'open') return null;
  if (me.pending > 0) return 'pending writes were kept';
  return me.state.send.kind === 'closing' ? null : `not answered: ${me.state.send.kind}`;
}

/** TLS 1.3: each direction closes by itself; the end of one leaves the other as it was. */
function directionsCloseOnTheirOwn({ before, after: me, move }: Step, rules: Rules): string | null {
  const cameNow = before.truth.received === null && me.truth.received === 'closed';
  if (
    cameNow &&
    rules.answers[move.to] === 'when-told' &&
    me.state.send.kind !== before.state.send.kind
  ) {
    return `close_notify came, and our direction became ${me.state.send.kind}`;
  }
  const wentNow = before.truth.sent === null && me.truth.sent === 'said';
  const { kind } = me.state.receive;
  if (wentNow && me.truth.received === null && kind !== 'open' && kind !== 'closing') {
    return `close_notify was sent, and the peer's bytes became ${kind}`;
  }
  const eofNow = before.truth.received === null && me.truth.received?.startsWith('eof') === true;
  const same = me.state.send.kind === before.state.send.kind || me.truth.sent === 'abandoned';
  return eofNow && !same ? `EOF came, and our direction became ${me.state.send.kind}` : null;
}

/** The caller of a half-closed stream can go on: what is open by right is open in the machine. */
function whatIsAliveIsOpen({ after: me }: Step): string | null {
  const { established, received, sent, done } = me.truth;
  const alive = (end: string | null) =>
    end !== null ? null : established ? 'open' : 'handshaking';
  const receive = done && received === null ? 'closing' : alive(received);
  if (receive !== null && me.state.receive.kind !== receive) {
    return `nothing ended the peer's bytes, and they are ${me.state.receive.kind}`;
  }
  const send = alive(sent);
  const kind = me.state.send.kind;
  const asked = kind === 'closing' && established;
  return send === null || kind === send || asked ? null : `nothing ended our direction: ${kind}`;
}

/** Closing begins when somebody asked for it, and for no other reason. */
function closingIsAsked({ before, after: me, move }: Step, rules: Rules): string | null {
  if (before.state.send.kind === 'closing' || me.state.send.kind !== 'closing') return null;
  const told = me.calls > before.calls || (before.close === 'no' && me.close !== 'no');
  const answers = me.truth.received === 'closed' && rules.answers[move.to] === 'at-once';
  return told || answers ? null : `closing, after: ${move.what}`;
}

/** How our own direction ended is told as it was. */
function ourEndIsTheTruth({ after: me }: Step): string | null {
  const { sent } = me.truth;
  if (sent === null) return me.closure.sent === null ? null : 'told of a close_notify never sent';
  const kind = sent === 'said' ? 'closed' : sent;
  return me.state.send.kind === kind ? null : `${sent}, but told as ${me.state.send.kind}`;
}

/** How the peer's bytes ended, and by which alert, is told as it was. */
function theirEndIsTheTruth({ after: me }: Step): string | null {
  const { received, established } = me.truth;
  if (received === null || isTruncation(me.truth)) return null;
  const kind = received === 'refused' ? 'rejected' : isCut(received) ? 'abandoned' : received;
  if (me.state.receive.kind !== kind) return `${received}, but told as ${me.state.receive.kind}`;
  const { alert } = me.closure;
  if (received !== 'alerted' && received !== 'refused') {
    return alert === null ? null : `an alert, ${alert.name}, though the bytes were ${received}`;
  }
  const direction = received === 'alerted' ? 'received' : 'sent';
  const same = alert?.direction === direction && alert.authenticated === established;
  return same && alert.code === (received === 'alerted' && !established ? 0 : 20)
    ? null
    : `${received}, but the alert is ${JSON.stringify(alert)}`;
}

/** The times of the two close_notify, and who was first, are told as they were. */
function theRecordIsTheTruth({ after: me }: Step): string | null {
  const { closure, truth } = me;
  const sent = closure.sent?.at ?? null;
  const received = closure.received?.at ?? null;
  if (sent !== (truth.sent === 'said' ? HOUR['close-notify-sent'] : null)) {
    return `close_notify ${truth.sent}, but told of at ${sent}`;
  }
  if (received !== (truth.received === 'closed' ? HOUR['close-notify-received'] : null)) {
    return `the peer's close_notify ${truth.received}, but told of at ${received}`;
  }
  if (closure.initiator !== truth.first)
    return `first was ${truth.first}, not ${closure.initiator}`;
  return closure.transportEnd === truth.transport
    ? null
    : `the transport was ${truth.transport}, not ${closure.transportEnd}`;
}

/** Two parties may know differently much, but what one knows of the other is so. */
function thePartiesAgree(me: Party, peer: Party, rules: Rules): string | null {
  if (me.state.receive.kind === 'closed' && peer.state.send.kind !== 'closed') {
    return `got a close_notify that the peer's machine does not know of: ${peer.state.send.kind}`;
  }
  const { initiator } = me.closure;
  if (initiator === 'peer' && peer.closure.initiator !== 'local') {
    return `each says that the other began: ${initiator}, ${peer.closure.initiator}`;
  }
  if (me.verdict !== 'secure' || rules.network === 'hostile') return null;
  const suspects = peer.verdict === 'truncated' || peer.verdict === 'alert';
  return suspects ? `secure here, ${peer.verdict} there, and nobody meddled` : null;
}

const RFC9846 = 'RFC 9846 section 6.1';
const RFC5246 = 'RFC 5246 section 7.2.1';

const KNOWLEDGE: Rule = {
  quote:
    'The client and the server must share knowledge that the connection is ending in order to avoid a truncation attack.',
  source: RFC9846,
};
const NO_MORE: Rule = {
  quote:
    'This alert notifies the recipient that the sender will not send any more messages on this connection.',
  source: RFC9846,
};
const IGNORED: Rule = {
  quote: 'Any data received after a closure alert has been received MUST be ignored.',
  source: RFC9846,
};
const BEFORE_CLOSING: Rule = {
  quote:
    'Each party MUST send a close_notify alert before closing its write side of the connection, unless it has already sent some error alert.',
  source: RFC9846,
};
const OWN_SIDE: Rule = {
  quote: 'This does not have any effect on its read side of the connection.',
  source: RFC9846,
};
const NEED_NOT_WAIT: Rule = {
  quote:
    'It is not required for the initiator of the close to wait for the responding close_notify alert before closing the read side of the connection.',
  source: RFC5246,
};
const AT_ONCE: Rule = {
  quote:
    'The other party MUST respond with a close_notify alert of its own and close down the connection immediately, discarding any pending writes.',
  source: RFC5246,
};

const INCOMPLETE: Rule = {
  quote:
    "It is false when the peer's close_notify came, when close() or abort() was called before the transport ended, and when HTTP had no message in progress; otherwise it is true.",
  source: 'docs/closure.md',
};
const DONE: Rule = {
  quote:
    "close() ends at whichever of the peer's close_notify and FIN is first, and rejects only where bytes that this side wrote are not known to have been taken by the transport, or when its signal aborts.",
  source: 'docs/closure.md',
};

const named = <T extends Omit<StepInvariant, 'name'> | Omit<WorldInvariant, 'name'>>(one: T) => ({
  ...one,
  name: one.holds.name,
});

/** About one party; those that a truncated stream would have to get past come first. */
export const STEP_INVARIANTS: readonly StepInvariant[] = [
  { rule: KNOWLEDGE, holds: secureMeansBothClosed },
  { rule: KNOWLEDGE, holds: noTruncationIsMissed },
  { rule: KNOWLEDGE, holds: readEndsOnlyByCloseNotify },
  { rule: IGNORED, holds: anEndStays },
  { rule: KNOWLEDGE, holds: verdictsMoveAlongTheTable },
  { rule: KNOWLEDGE, holds: noTruncationIsInvented },
  { rule: NO_MORE, holds: readFailsOnlyWithoutCloseNotify },
  { rule: NEED_NOT_WAIT, holds: everyWaitEnds },
  { rule: NEED_NOT_WAIT, holds: noWaitForWhatHasCome },
  { rule: NEED_NOT_WAIT, holds: whatResolvesIsClosed },
  { rule: DONE, holds: closeEndsByWhatCame },
  { rule: DONE, holds: closeFailsOnlyForOurBytes },
  { rule: BEFORE_CLOSING, holds: closeNotifyComesBeforeFin },
  { rule: DONE, holds: closeSendsFinBehindCloseNotify },
  { rule: BEFORE_CLOSING, holds: shutdownIsObeyed },
  { rule: BEFORE_CLOSING, holds: closingIsAsked },
  { rule: NO_MORE, holds: nothingFollowsCloseNotify },
  { rule: AT_ONCE, holds: tls12AnswersAtOnce },
  { rule: OWN_SIDE, holds: directionsCloseOnTheirOwn },
  { rule: OWN_SIDE, holds: whatIsAliveIsOpen },
  { rule: BEFORE_CLOSING, holds: ourEndIsTheTruth },
  { rule: KNOWLEDGE, holds: theirEndIsTheTruth },
  { rule: KNOWLEDGE, holds: theRecordIsTheTruth },
  { rule: KNOWLEDGE, holds: theVerdictIsTheTruth },
  { rule: INCOMPLETE, holds: incompleteIsTheTruth },
].map(named);

/** About both. */
export const WORLD_INVARIANTS: readonly WorldInvariant[] = [
  { rule: NO_MORE, holds: closedMeansWhole },
  { rule: KNOWLEDGE, holds: noFalseAlarm },
  { rule: KNOWLEDGE, holds: thePartiesAgree },
].map(named);
