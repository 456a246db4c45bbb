/**
 * Judges what a program saw of an ending. What is due is read from the wire: what the peer said, and what it
 * heard, as whoever has the keys reads it.
 */

import type { About } from './case.ts';
import { type Ending, EXPECTED, endingOf, HELLO, type Truth, type Where } from './catalogue.ts';
import type { Version } from './crafted-peer.ts';
import { endsOurs, type Outcome, passes } from './program.ts';

/** What can be wrong with an outcome. */
export type FaultKind = 'missed cut' | 'false alarm' | 'lost bytes' | 'hang' | 'wrong fact';

export interface Fault {
  readonly kind: FaultKind;
  readonly what: string;
}

/** What the peer's direction came to, by what it said. */
export function truthOf({
  said,
  row,
}: {
  readonly said: readonly string[];
  readonly row: { readonly ending: string; readonly version: string };
}): {
  truth: Truth | null;
  code: number | null;
  bytes: number;
} {
  const ending = endingOf(row.ending);
  if (ending.lenient) return { truth: ending.truth, code: null, bytes: HELLO.length };
  let bytes = 0;
  for (const one of said) {
    const data = /^data (\d+)$/.exec(one);
    const alert = /^alert (\d+)\/(\d+)$/.exec(one);
    if (data !== null) bytes += Number(data[1]);
    else if (alert !== null) {
      const [level, code] = [Number(alert[1]), Number(alert[2])];
      if (passes(one, row.version)) continue;
      const closes = code === 0 && (level === 1 || row.version === 'TLSv1.3');
      return { truth: closes ? 'close_notify' : 'alert', code, bytes };
    } else if (!one.startsWith('handshake')) return { truth: 'refused', code: null, bytes };
  }
  return { truth: null, code: null, bytes };
}

/** What is wrong with an outcome. */
export function judge(outcome: Outcome, { native }: About): Fault[] {
  const faults: Fault[] = [];
  const fault = (kind: FaultKind, what: string) => void faults.push({ kind, what });
  const fact = (what: string) => fault('wrong fact', what);
  const { row, events, verdict, received, sent, alert, truncation } = outcome;
  const ending = endingOf(row.ending);
  const { truth: said, code, bytes } = truthOf(outcome);
  const truth = said ?? ending.truth;
  if (outcome.played && truth !== ending.truth) fact(`the ending is ${truth} on the wire`);
  const closed = outcome.hangs === null;

  // Whatever the program does.
  if (!closed) fault('hang', `never closed: ${outcome.hangs}`);
  else if (events.filter((one) => one === 'close').length !== 1) fact("'close' is not told once");
  if (!outcome.asSent) fault('lost bytes', 'the bytes are not those that were sent');
  if (outcome.bytes > bytes) fact(`${outcome.bytes} bytes of ${bytes}`);
  const ends = events.includes('end');
  if (ends && truth !== 'close_notify') fault('missed cut', "'end' without close_notify");
  if (ends && outcome.bytes !== bytes) {
    fault('lost bytes', `'end' with ${outcome.bytes} bytes of ${bytes}`);
  }
  if (events.includes('loop ends') && truth !== 'close_notify' && !endedByItself(row.act)) {
    fault('missed cut', 'the loop ends without close_notify');
  }
  // A write that comes when the program has ended its side already, or Node has for it, is its own fault.
  const writes = /write|data\)/.test(row.act);
  const late = writes && row.when !== 'now' && ends;
  // So is what its own signal, or an iterator that it leaves, does to a socket that has not ended ours yet.
  const aborts = row.act === 'abort' || ['for await', 'a web stream'].includes(row.read);
  const errors = events.filter(
    (one) =>
      one.startsWith('error ') &&
      !(late && /EPIPE|WRITE_AFTER_END/.test(one)) &&
      !(aborts && one === 'error ABORT_ERR'),
  );
  if (ends && errors.length > 0) fault('false alarm', "both 'end' and 'error'");
  // Node may tell a second one: of a write that TLS refuses, of an iterator that is left.
  if (errors.filter((one) => one.endsWith('ERR_TLS_TRUNCATED')).length > 1) {
    fact('ERR_TLS_TRUNCATED twice');
  }
  if (received !== null && truth !== 'close_notify') {
    fault('missed cut', 'received claims a close_notify');
  }
  const crossed = outcome.heard.includes('alert 1/0');
  // Who resets hears nothing more. And a transport that is TLS itself may send behind the end of what is on it:
  // then nothing is claimed, though it came.
  const unheard = truth === 'reset' && !crossed;
  const unclaimed = row.face === 'tls in tls' && sent === null;
  if (closed && (sent !== null) !== crossed && !unheard && !unclaimed) {
    fact(crossed ? 'sent lacks our close_notify' : 'sent claims a close_notify');
  }
  if (verdict === 'secure' && (received === null || sent === null)) fault('missed cut', 'secure');
  if (received !== null && sent !== null && verdict !== 'secure') fact(`both, yet ${verdict}`);
  if (closed && verdict === 'open') fact('the verdict is open');
  if (crossed && received === null && verdict === 'aborted') fact('aborted, yet we sent it');
  if (alert?.direction === 'received' && (truth !== 'alert' || alert.code !== code)) {
    fact(`an alert that did not come: ${alert.code}`);
  }
  // The channels.
  if (closed && outcome.closures.join() !== verdict) {
    fact(`the channel told ${outcome.closures.join()}, the verdict is ${verdict}`);
  }
  if (outcome.connect.length !== 1) fact(`connect was told ${outcome.connect.length} times`);
  const [{ evidence, engine } = { evidence: null, engine: null }] = outcome.connect;
  // On a Duplex a witness of either kind will do.
  const overDuplex = row.face.endsWith('duplex') || row.face === 'tls in tls';
  const rests = native && !overDuplex ? ['openssl'] : ['openssl', 'record'];
  if (
    !rests.includes(String(evidence)) ||
    engine !== (evidence === 'openssl' ? 'node' : 'tapped')
  ) {
    fact(`connect told evidence ${evidence}, engine ${engine}`);
  }
  for (const claim of [received, sent]) {
    if (claim !== null && claim !== evidence) fact(`a claim rests on ${claim}`);
  }
  if (truth === 'close_notify' && received !== null && outcome.truncated.length > 0) {
    fault('false alarm', 'the channel told of a truncation that was none');
  }

  // Who goes away himself is told nothing more.
  if (endedByItself(row.act)) return faults;
  // After end() Node reads the next record within its second SSL_shutdown, and drops what that holds; what
  // a listener throws ends the feeding of a Duplex. Then an error is right: bytes are missing.
  const drops = endsOurs(row.act) || (row.act === 'throw' && overDuplex);
  const lossy = drops && ending.crowded === true && row.when !== 'setImmediate';
  // What read(n) cannot give, since less came, is nobody's.
  const least =
    row.read.endsWith('read(3)') && truth !== 'close_notify' ? bytes - (bytes % 3) : bytes;
  const lost = `${outcome.bytes} bytes of ${bytes}`;
  switch (truth) {
    case 'close_notify':
      if (lossy && errors.length > 0) return faults;
      if (!ends) fault('false alarm', `no 'end' but ${events.join(', ')}`);
      if (outcome.bytes < bytes) fault('lost bytes', lost);
      if (received === null) fault('false alarm', 'received lacks the close_notify');
      if (outcome.truncated.length > 0) fault('false alarm', 'the channel told of a truncation');
      // Iterators destroy the stream when they are through.
      if (
        verdict !== EXPECTED[truth] &&
        !['for await', 'a web stream'].includes(row.read) &&
        !late
      ) {
        fault('false alarm', `the verdict is ${verdict}`);
      }
      // Later it may be a write behind our own end.
      if (writes && row.when === 'now' && outcome.acted) {
        if (!outcome.heard.includes('data 6')) fault('lost bytes', 'our write is lost');
      }
      return faults;
    case 'eof':
      if (errors[0] !== 'error ERR_TLS_TRUNCATED') {
        fault('missed cut', `not ERR_TLS_TRUNCATED but ${events.join(', ')}`);
      }
      if (verdict !== EXPECTED[truth]) fault('missed cut', `the verdict is ${verdict}`);
      if (truncation?.cause !== 'eof') fact(`the cause is ${truncation?.cause}`);
      if (![whereOf(ending, row.version), 'unknown'].includes(truncation?.where)) {
        fact(`cut at ${truncation?.where}`);
      }
      if (outcome.truncated.map((one) => one.outcome).join() !== 'error') {
        fact(`the channel told ${JSON.stringify(outcome.truncated)}`);
      }
      break;
    case 'reset':
      // The write that a reset refuses may be the first to know (EPIPE).
      if (!/^error (ECONNRESET|ERR_TLS_TRUNCATED|EPIPE)$/.test(errors[0] ?? '')) {
        fault('missed cut', `not ECONNRESET but ${events.join(', ')}`);
      }
      if (verdict !== EXPECTED[truth]) fault('missed cut', `the verdict is ${verdict}`);
      break;
    case 'alert':
      if (errors.length === 0) fault('missed cut', `no 'error' but ${events.join(', ')}`);
      // What was dropped may have been the alert itself.
      if (lossy && verdict === 'truncated') break;
      if (verdict !== EXPECTED[truth] || alert?.direction !== 'received' || !alert.authenticated) {
        fact(`the verdict is ${verdict}, the alert ${JSON.stringify(alert)}`);
      }
      break;
    case 'refused':
      if (errors.length === 0) fault('missed cut', `no 'error' but ${events.join(', ')}`);
      // Where our side has ended already, no alert goes out any more.
      if (verdict !== EXPECTED[truth] && !(endsOurs(row.act) && verdict === 'truncated')) {
        fact(`the verdict is ${verdict}`);
      }
      if (alert !== null && alert.direction !== 'sent') fact('an alert was received');
      break;
  }
  // A web stream that fails forgets what is queued (Streams Standard, ReadableStreamDefaultControllerError).
  const forgets = row.read === 'a web stream';
  if (outcome.bytes < least && !(lossy || forgets || truth === 'reset')) fault('lost bytes', lost);
  return faults;
}

/** Whether the program itself went away. */
const endedByItself = (act: string): boolean =>
  ['destroy()', 'destroySoon()', 'abort'].includes(act);

const whereOf = ({ where }: Ending, version: string): Where | undefined =>
  typeof where === 'object' ? where[version as Version] : where;
