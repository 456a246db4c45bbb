/**
 * What watches a program's TLS socket, and fails it where the peer's bytes were cut.
 *
 * Theory of operation. In a TlsStream we act for the caller: answer a close_notify, keep the transport, wait
 * kindly. Here the program at the socket goes on deciding as it always did, and everything is to happen as on a
 * plain socket, but for one thing: a stream that the transport cut gives an error where Node gives 'end'. So the
 * socket is Node's `tls.TLSSocket`, made by Node, and a guard watches it at three places:
 *
 * - `push(null)`, by which Node ends a stream, for EOF and for close_notify alike. The guard asks its witness
 *   which it was. Only an authenticated close_notify lets the end pass.
 * - `destroy`, by which Node fails a socket for what the kernel said of it.
 * - The callbacks of writes. A write that fails would have Node destroy the socket, and with it an answer that has
 *   arrived; so its failure is told behind what there is to read.
 *
 * The guard feeds the closure machine, so that the ending has a verdict, and tells `diagnostics_channel` what it
 * did. Errors that Node gives anyway stay Node's: a reset is ECONNRESET, for programs that try again when they see
 * it, and a cut during the handshake is what `tls.connect` calls it.
 */
import { channel } from 'node:diagnostics_channel';
import { errorMonitor } from 'node:events';
import type { TLSSocket } from 'node:tls';
import { alertEvent, closes, Ending, transportEvent } from '../closure/ending.ts';
import type { ClosureEvent, Evidence } from '../closure/machine.ts';
import type { Closure } from '../closure/verdict.ts';
import { type EngineError, eventOf, isTlsError } from '../engine/failure.ts';
import { truncatedError } from '../engine/truncation.ts';
import { AlertError, type TruncatedError } from '../errors.ts';
import {
  endByMessages,
  failMessages,
  isAbandoned,
  stakeOf,
  trustsResets,
} from '../http-messages.ts';
import { alertName } from '../record/alert.ts';
import { process } from '../runtime.ts';
import { causeOf } from '../tap/tap.ts';
import { afterReading } from './reading.ts';
import type { Witness, WitnessedAlert } from './witness.ts';

/** What to do about a truncation: raise it, or let it pass as Node does and only report it. */
export type Strictness = 'error' | 'report';

/** What became of a socket whose stream had ended without closure. */
export type Outcome = 'error' | 'end';

/** What the channel `close-notify.connect` carries: a connection that is made strict. */
export interface ConnectMessage {
  readonly socket: TLSSocket;
  readonly mode: Strictness;
  /** What the closure of this connection will rest on. */
  readonly evidence: Exclude<Evidence, 'inferred'>;
  /** `node`: Node's TLS on the transport itself; `tapped`: on a tap, where the add-on is not. */
  readonly engine: 'node' | 'tapped';
}

/** What the channel `close-notify.unwatched` carries: a connection of which nothing can be claimed. */
export interface UnwatchedMessage {
  readonly socket: TLSSocket;
  readonly reason: string;
}

/** What the channel `close-notify.truncated` carries. */
export interface TruncatedMessage {
  readonly socket: TLSSocket;
  /** An AlertError where a fatal alert cut the stream and Node did not say so. */
  readonly error: TruncatedError | AlertError;
  /**
   * `error`: the program got an error. `end`: it saw an ordinary end, because it asked only for a
   * report, or because HTTP knew that nothing was missing.
   */
  readonly outcome: Outcome;
}

/** What the channel `close-notify.closure` carries: a connection is over. */
export interface ClosureMessage {
  readonly socket: TLSSocket;
  readonly closure: Closure;
}

const connects = channel('close-notify.connect');
const unwatched = channel('close-notify.unwatched');
const truncations = channel('close-notify.truncated');
const closures = channel('close-notify.closure');

const guards = new WeakMap<TLSSocket, Guard>();

/** The guard of a socket, or undefined. */
export const guardOf = (socket: TLSSocket): Guard | undefined => guards.get(socket);

/** How a connection is watched. */
export interface Watching {
  readonly mode: Strictness;
  readonly evidence: ConnectMessage['evidence'];
  readonly engine: ConnectMessage['engine'];
  /** Asked when the handshake is complete; null where nothing is known of this connection. */
  witness(guard: Guard): Witness | null;
  /** Traces the connection in place of Node, whose tracing would keep the witness from seeing any more. */
  readonly trace?: () => void;
}

type Callback = (error?: Error | null) => void;

/** Watches one socket. */
export class Guard {
  mode: Strictness;
  readonly #socket: TLSSocket;
  readonly #watching: Watching;
  #witness: Witness | null = null;
  #startedAt = performance.now();
  #established = false;
  readonly #ending = new Ending();
  readonly #told: Record<'received' | 'sent', WitnessedAlert | null> = {
    received: null,
    sent: null,
  };
  /** The stream was let end. */
  #ended = false;
  /** The socket has failed, or is about to: no end and no error of Node's counts any more. */
  #failed = false;
  /** What the transport failed with. */
  #cause: Error | null = null;
  /** Fails the socket for a transport that broke behind the peer's close_notify; null while there is none. */
  #broken: (() => void) | null = null;
  /** A write that failed, and how to tell of it. */
  #unwritten: { readonly error: Error; readonly tell: Callback } | null = null;
  /** Fails the socket though its reader has not taken all that came; null where nothing waits for that. */
  #giveUp: (() => void) | null = null;
  readonly #push: TLSSocket['push'];

  /** Watches a socket that Node has made; a server's, once its handshake is complete. */
  constructor(socket: TLSSocket, watching: Watching) {
    this.mode = watching.mode;
    this.#socket = socket;
    this.#watching = watching;
    this.#push = socket.push;
    guards.set(socket, this);
    this.#intercept();
    socket.on(errorMonitor as unknown as 'error', (error) => this.#onError(error));
    socket.on('close', () => this.#onClosed());
    const { evidence, engine } = watching;
    if (connects.hasSubscribers) {
      connects.publish({ socket, mode: this.mode, evidence, engine } satisfies ConnectMessage);
    }
    const secure = (socket as { secureConnecting?: boolean }).secureConnecting === false;
    if (secure) this.#onSecure();
    else socket.prependOnceListener('secureConnect', () => this.#onSecure());
  }

  get socket(): TLSSocket {
    return this.#socket;
  }

  /** How the connection ended, or stands. */
  get closure(): Closure {
    this.#readAlerts();
    return this.#ending.closure();
  }

  #intercept(): void {
    const socket = this.#socket;
    const { push, destroy, _write, _writev, _final } = socket;
    socket.push = (chunk: unknown, encoding?: BufferEncoding): boolean => {
      if (this.#unwritten !== null) this.#checkReader();
      if (chunk !== null) return push.call(socket, chunk, encoding);
      return this.#onEnd() && push.call(socket, null);
    };
    socket.destroy = (error?: Error, ...rest: []) => {
      this.#readAlerts();
      if (!(error instanceof Error) || this.#failed || !isTransportError(error)) {
        return destroy.call(socket, error, ...rest);
      }
      const told = this.#onTransportError(error);
      if (this.#failBehindEnd(told)) return socket;
      return destroy.call(socket, told, ...rest);
    };
    socket._write = (chunk, encoding, done) => {
      if (this.#broken !== null) this.#broken();
      else _write.call(socket, chunk, encoding, (error) => this.#onWritten(error, done));
    };
    if (_writev !== undefined) {
      socket._writev = (chunks, done) => {
        if (this.#broken !== null) this.#broken();
        else _writev.call(socket, chunks, (error) => this.#onWritten(error, done));
      };
    }
    socket._final = (done) => {
      if (this.#broken !== null) {
        this.#broken();
        return;
      }
      const shutDown = () =>
        _final.call(socket, (error) => {
          done(error);
          this.#readAlerts();
          // What Node handed to the transport, it takes out of OpenSSL's buffer in the next turn.
          if (this.#told.sent === null) setImmediate(() => this.#readAlerts());
        });
      // Within a call of OpenSSL, in which data and the end of the handshake are told, Node's shutdown would read the
      // next record and drop it. So it waits for the end of this turn. A tap gives OpenSSL one record at a time, and
      // behind the peer's close_notify OpenSSL reads none: there close_notify leaves in one segment with what OpenSSL
      // has made in this call, a server's session tickets above all.
      const mayRead = !this.#ended || this.#ending.state.receive.kind !== 'closed';
      if (this.#watching.engine === 'node' && mayRead) setImmediate(shutDown);
      else shutDown();
    };
    const { trace } = this.#watching;
    if (trace !== undefined) socket.enableTrace = trace;
  }

  /**
   * The transport has failed, with an error that does not say so itself.
   *
   * @returns what the socket is to fail with now; null where it fails later, or has already.
   */
  onTransportFailed(error: Error): Error | null {
    this.#readAlerts();
    if (this.#failed) return null;
    const told = this.#onTransportError(error);
    if (this.#failBehindEnd(told)) return null;
    if (!isAbandoned(this.#socket)) return told;
    this.#socket.destroy();
    return null;
  }

  #onSecure(): void {
    const socket = this.#socket;
    this.#established = true;
    this.#witness = this.#watching.witness(this);
    this.#startedAt = this.#witness?.startedAt ?? this.#startedAt;
    // An alert may have come together with the last of the handshake, and Node tells of that later.
    this.#dispatch({ type: 'established' }, this.#startedAt);
    const reason =
      this.#witness === null
        ? 'its TLS began before the add-on was loaded'
        : this.#witness.unreadable;
    if (reason !== null && unwatched.hasSubscribers) {
      unwatched.publish({ socket, reason } satisfies UnwatchedMessage);
    }
    // A server may learn of its socket late, after a callback that took its time.
    if (hasEnded(socket)) this.#onEarlyEnd();
    else if (this.#witness?.ignored) this.onIgnored();
  }

  // ---- the end

  /** Node ends the stream. @returns whether it may. */
  #onEnd(): boolean {
    if (this.#failed || this.#socket.destroyed) return false;
    const error = this.#howItEnded();
    if (error === null) {
      this.#ended = true;
      return true;
    }
    if (this.mode === 'report') {
      this.#failUnwrittenLater();
      this.#tell(error, 'end');
      return true;
    }
    this.#fail(error, false);
    return false;
  }

  /** The stream had ended before there was a guard. */
  #onEarlyEnd(): void {
    const error = this.#howItEnded();
    if (error === null) this.#ended = true;
    else if (this.mode === 'report') this.#tell(error, 'end');
    else this.#fail(error, true);
  }

  /** The end of the stream, judged. @returns the error that belongs there, or null. */
  #howItEnded(): TruncatedError | AlertError | null {
    this.#readAlerts();
    const { receive } = this.#ending.state;
    if (receive.kind === 'closed') {
      this.#failUnwrittenLater();
      return null;
    }
    // Node ends the handshake in its own words.
    if (!this.#established) {
      this.#dispatch(transportEvent('eof', 'handshake', null));
      return null;
    }
    if (receive.kind === 'alerted' || receive.kind === 'rejected') return this.#alertError();
    const failed: EngineError | undefined = this.#unwritten?.error;
    if (failed === undefined) {
      const where = this.#witness?.where ?? 'unknown';
      this.#dispatch(transportEvent('eof', where, null));
      return truncatedError('eof', where, this.closure, null);
    }
    // The kernel tells of a reset once, and told the write.
    const cause = causeOf(failed);
    this.#dispatch(transportEvent(cause, 'unknown', failed.code ?? null));
    return truncatedError(cause, 'unknown', this.closure, failed);
  }

  #alertError(): AlertError {
    const { closure } = this;
    const sent = closure.alert?.direction === 'sent';
    const name = closure.alert?.name ?? 'unknown';
    return new AlertError(
      sent ? `the peer's bytes were refused (${name})` : `the peer sent the fatal alert ${name}`,
      { phase: 'open', closure },
    );
  }

  /** OpenSSL has seen close_notify, and Node will not be told. */
  onIgnored(): void {
    if (this.#ended || this.#failed || !this.#established || this.#socket.destroyed) return;
    this.#socket.push(null);
    this.#socket.read(0);
  }

  /**
   * Ends a socket whose stream was cut: whoever reads it gets what was decrypted before, then `error`, never
   * 'end'. Only an HTTP reader that has no message in progress sees an end as Node's own: it knows by itself
   * what it has.
   */
  #fail(error: TruncatedError | AlertError, ended: boolean): void {
    const socket = this.#socket;
    this.#failed = true;
    // A write that failed says more, and programs look for its code.
    const told = this.#unwritten?.error ?? error;
    let done = false;
    const finish = () => {
      if (done) return;
      done = true;
      const stake = stakeOf(socket);
      if (stake === 'safe' && this.#unwritten !== null) this.#tellUnwritten();
      else if (stake === 'safe') this.#pushEnd();
      else if (stake === 'unknown' || !endByMessages(socket, told, () => this.#pushEnd())) {
        const mistaken = stake === 'at-stake' && trustsResets(socket);
        this.#cause = mistaken ? error : told;
        socket.destroy(isAbandoned(socket) ? undefined : this.#cause);
      }
      this.#tell(error, stake === 'safe' ? 'end' : 'error');
      this.#tellUnwritten();
    };
    this.#giveUp = finish;
    afterReading(socket, ended, finish);
  }

  #pushEnd(): void {
    const socket = this.#socket;
    if (socket.destroyed) return;
    this.#push.call(socket, null);
    socket.read(0);
  }

  // ---- failures

  /** The transport has failed. @returns what the socket is to fail with. */
  #onTransportError(error: EngineError): Error {
    this.#cause = error;
    const whole = this.#ending.state.receive.kind === 'closed';
    // A kernel that was reset may have dropped bytes that had come.
    const where = this.#established ? 'unknown' : 'handshake';
    const cause = causeOf(error);
    this.#dispatch(transportEvent(cause, where, error.code ?? null));
    if (whole || !this.#established) return error;
    const truncated = truncatedError(cause, where, this.closure, error);
    this.#tell(truncated, 'error');
    // An error already. Only who takes it for an end gets another.
    const mistaken = trustsResets(this.#socket) && stakeOf(this.#socket) === 'at-stake';
    if (this.mode === 'error' && mistaken) this.#cause = truncated;
    return this.#cause;
  }

  /**
   * The transport has failed behind the peer's close_notify: all that the peer sent has come, and whoever reads the
   * socket gets it first. Whoever then writes to it, or ends it, fails. Who has heard the end, and of whose own bytes
   * the transport has taken all, hears of no error: all that is lost is an answer to close_notify, which the peer did
   * not want. (An error behind 'end' has a pipe drop what its other end still holds.)
   *
   * @returns false where the socket is to fail now.
   */
  #failBehindEnd(error: Error): boolean {
    const socket = this.#socket;
    if (!this.#ended || socket.destroyed) return false;
    // Bytes of our own are lost. Node does not count them any more.
    const lost = (error as { syscall?: string }).syscall === 'write';
    if (!lost && this.#isOver) {
      this.#failed = true;
      socket.destroy();
      return true;
    }
    const busy = socket.writableLength > 0 || (socket.writableEnded && !socket.writableFinished);
    const waits = lost || busy;
    if (socket.readableEnded || (waits && !this.#isRead)) return false;
    this.#failed = true;
    this.#broken = () => {
      if (socket.destroyed) return;
      const over = !lost && this.#isOver;
      this.#cause = over ? null : error;
      socket.destroy(over ? undefined : error);
    };
    socket.once('end', () => process.nextTick(() => this.#broken?.()));
    if (waits) {
      this.#giveUp = this.#broken;
      this.#checkReader();
    }
    return true;
  }

  /** The program has heard the end of its socket, and all that it had to say was taken but close_notify. */
  get #isOver(): boolean {
    const socket = this.#socket;
    const said = socket.writableEnded || !socket.allowHalfOpen;
    return socket.readableEnded && said && socket.writableLength === 0;
  }

  /** A write is over. One that failed is told behind what there is to read, where somebody reads. */
  #onWritten(error: Error | null | undefined, tell: Callback): void {
    if (!error || !this.#established || !isTransportError(error) || !this.#isRead) {
      tell(error);
      return;
    }
    this.#unwritten = { error, tell };
    // Who pauses may be waiting for this very write.
    this.#socket.once('pause', () => this.#tellUnwritten());
    if (this.#ended) this.#failUnwrittenLater();
    this.#checkReader();
  }

  /** Whether somebody takes what comes, so that its end will be found. */
  get #isRead(): boolean {
    const socket = this.#socket;
    if (this.#failed || socket.destroyed || socket.readableEnded) return false;
    return socket.readableFlowing === true || socket.listenerCount('readable') > 0;
  }

  /**
   * Whoever reads takes what has come within this turn of the event loop. Who does not (an iterator whose body waits
   * for its write, say) may be waiting for what is kept from it.
   */
  #checkReader(): void {
    setImmediate(() => {
      const socket = this.#socket;
      const isOver = hasEnded(socket) && !socket.readableEnded;
      if (socket.readableLength === 0 && !isOver) return;
      if (this.#giveUp !== null) this.#giveUp();
      else this.#tellUnwritten();
    });
  }

  /** Nothing more comes of the peer. Who has read all may hear of the write. */
  #failUnwrittenLater(): void {
    if (this.#unwritten !== null) this.#socket.once('end', () => this.#tellUnwritten());
  }

  /** Node destroys the socket for it. */
  #tellUnwritten(): void {
    const unwritten = this.#unwritten;
    this.#unwritten = null;
    unwritten?.tell(unwritten.error);
  }

  /** Before anyone else hears of it: Node's HTTP parser would take what it has for the whole. */
  #onError(error: EngineError): void {
    // An error that the program destroyed its socket with is its own affair, but for a body that only the
    // connection's end could complete.
    const cut = error === this.#cause || isTlsError(error);
    const strict = this.mode === 'error';
    if (this.#established && strict && this.#ending.state.receive.kind !== 'closed') {
      failMessages(this.#socket, error, cut ? 'all' : 'endless');
    }
    if (this.#failed) return;
    this.#readAlerts();
    this.#readRefusal();
    const { authorizationError } = this.#socket as unknown as { authorizationError: string | null };
    const unauthorized = this.#established ? null : authorizationError || null;
    this.#dispatch(eventOf(error, unauthorized, this.#established));
    if (!this.#established || !isTlsError(error) || !strict) return;
    // 'end' must not follow that, and Node leaves the socket standing. But whoever listens hears the error
    // first, and this may be a call of OpenSSL, which cannot be freed under its own feet.
    this.#failed = true;
    setImmediate(() => afterReading(this.#socket, false, () => this.#socket.destroy()));
  }

  #onClosed(): void {
    // Whoever waits for it.
    this.#tellUnwritten();
    this.#readAlerts();
    const { send, receive } = this.#ending.state;
    const closed = send.kind === 'closed';
    // Who closes behind an own close_notify chose not to wait for the peer's.
    if (closed && receive.kind === 'open') this.#dispatch({ type: 'waive' });
    const how = closed && receive.kind === 'closed' ? 'closed' : 'destroyed';
    this.#dispatch({ type: 'abandon', how });
    if (closures.hasSubscribers) {
      const { closure } = this;
      closures.publish({ socket: this.#socket, closure } satisfies ClosureMessage);
    }
  }

  #tell(error: TruncatedError | AlertError, outcome: Outcome): void {
    if (truncations.hasSubscribers) {
      truncations.publish({ socket: this.#socket, error, outcome } satisfies TruncatedMessage);
    }
  }

  // ---- what the witness says

  /** Tells the machine of the alerts that have crossed, in the order in which they did. */
  #readAlerts(): void {
    const witness = this.#witness;
    if (witness === null || (this.#told.received !== null && this.#told.sent !== null)) return;
    const { received, sent } = witness;
    const sentFirst = sent !== null && (received === null || sent.at <= received.at);
    if (sentFirst) this.#dispatchAlert('sent', sent, witness);
    if (received !== null) this.#dispatchAlert('received', received, witness);
    if (sent !== null && !sentFirst) this.#dispatchAlert('sent', sent, witness);
  }

  /** OpenSSL has refused the peer's bytes; the alert that says so may be on its way still. */
  #readRefusal(): void {
    const witness = this.#witness;
    const written = witness?.written ?? null;
    if (witness !== null && written !== null && !closes(written)) {
      this.#dispatchAlert('sent', written, witness);
    }
  }

  #dispatchAlert(
    direction: 'received' | 'sent',
    alert: WitnessedAlert,
    { evidence }: Witness,
  ): void {
    // Once each: asked again, a witness says the same.
    if (this.#told[direction] !== null) return;
    this.#told[direction] = alert;
    this.#dispatch(alertEvent(direction, alert, alertName(alert.description), evidence), alert.at);
  }

  /** @param at when it happened, on the clock of `performance.now()`. */
  #dispatch(event: ClosureEvent, at: number = performance.now()): void {
    this.#ending.happened(event, Math.max(0, at - this.#startedAt));
  }
}

/** Whether an error is Node's, about reading or writing a socket. Errors of files have other words. */
function isTransportError({ code, syscall, message }: EngineError & { syscall?: string }): boolean {
  const ofSocket = syscall === 'read' || syscall === 'write' || syscall === 'shutdown';
  return ofSocket && message.startsWith(`${syscall} ${code}`);
}

/** Whether Node has ended the stream, told or not. Undocumented, and as old as streams. */
function hasEnded(socket: TLSSocket): boolean {
  const { _readableState: state } = socket as unknown as { _readableState?: { ended?: boolean } };
  return socket.readableEnded || state?.ended === true;
}
