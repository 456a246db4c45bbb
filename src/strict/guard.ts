/**
 * What watches a program's TLS socket, and fails it where the peer's bytes were cut.
 *
 * Theory of operation. In a TlsStream we act for the caller: answer a close_notify, keep the transport, wait
 * kindly. Here the program at the socket goes on deciding as it always did, and everything is to happen as on a
 * plain socket, but for one thing: a stream that the transport cut gives an error where Node gives 'end'. So the
 * socket is Node's `tls.TLSSocket`, made by Node, and a guard watches it at three places (intercept.ts):
 *
 * - `push(null)`, by which Node ends a stream, for EOF and for close_notify alike. The guard asks its witness
 *   which it was. Only an authenticated close_notify lets the end pass.
 * - `destroy`, by which Node fails a socket for what the kernel said of it.
 * - The callbacks of writes. A write that fails would have Node destroy the socket, and with it an answer that has
 *   arrived; so its failure is told behind what there is to read (failed-write.ts).
 *
 * What the witness has seen goes to the closure machine, so that the ending has a verdict (witnessed-ending.ts), and
 * `diagnostics_channel` is told what the guard did (channels.ts). Errors that Node gives anyway stay Node's: a reset is ECONNRESET, for programs that try again when they see
 * it, and a cut during the handshake is what `tls.connect` calls it.
 */
import { errorMonitor } from 'node:events';
import type { TLSSocket } from 'node:tls';
import { transportEvent } from '../closure/ending.ts';
import type { Closure } from '../closure/verdict.ts';
import { type EngineError, eventOf, isTlsError } from '../engine/failure.ts';
import { truncatedError } from '../engine/truncation.ts';
import { AlertError, type TruncatedError } from '../errors.ts';
import {
  endByMessages,
  failMessages,
  isAbandoned,
  isPausedWithin,
  parseUnread,
  type Stake,
  stakeOf,
  trustsResets,
} from '../http-messages.ts';
import { process } from '../runtime.ts';
import { hostAndPort } from '../server-name.ts';
import { recordFolder, TruncationTranscript } from '../transcript/on-truncation.ts';
import { causeOf } from '../transport/listeners.ts';
import {
  type ConnectMessage,
  isHeard,
  type Outcome,
  type StrictConnection,
  type Strictness,
  tellClosure,
  tellConnect,
  tellTruncated,
  tellUnwatched,
} from './channels.ts';
import { type Done, FailedWrite } from './failed-write.ts';
import { type Interceptor, intercept, interceptorOf } from './intercept.ts';
import { afterReading, hasEnded, isRead } from './reading.ts';
import type { Witness } from './witness.ts';
import { WitnessedEnding } from './witnessed-ending.ts';

/** The guard of a socket, or of what watches it; or undefined. */
export const guardOf = (guarded: object): Guard | undefined =>
  interceptorOf(guarded) as Guard | undefined;

/** How a connection is watched. */
export interface Watching {
  readonly mode: Strictness;
  readonly evidence: ConnectMessage['evidence'];
  readonly engine: ConnectMessage['engine'];
  readonly role: StrictConnection['role'];
  /** What the connection is to, as far as that is known before the handshake. */
  readonly host: string | null;
  readonly port: number | null;
  /** Asked when the handshake is complete; null where nothing is known of this connection. */
  witness(guard: Guard): Witness | null;
  /** Traces the connection in place of Node, whose tracing would keep the witness from seeing any more. */
  trace?(): void;
}

/** Watches one socket. */
export class Guard implements Interceptor {
  mode: Strictness;
  readonly socket: TLSSocket;
  readonly before: Interceptor['before'];
  readonly #watching: Watching;
  readonly #record: TruncationTranscript | null;
  readonly #ending: WitnessedEnding;
  readonly #write: FailedWrite;
  /** Which connection it is, once that was asked for. */
  #connection: StrictConnection | null = null;
  /** The channel has heard of a cut. */
  #told = false;
  /** The stream was let end. */
  #ended = false;
  /** The socket has failed, or is about to: no end and no error of Node's counts any more. */
  #failed = false;
  /** What the transport failed with. */
  #cause: Error | null = null;
  /**
   * Tells the channel of a cut that waits for the socket's reader: the program hears of another failure before that.
   * Null while there is none.
   */
  #overtake: (() => void) | null = null;
  /** The same where a reset waits for its reader: the program destroys the socket before that. */
  #forestall: (() => void) | null = null;
  /** Fails the socket for a transport that broke behind the peer's close_notify; null while there is none. */
  #broken: (() => void) | null = null;

  /** Watches a socket that Node has made; a server's, once its handshake is complete. */
  constructor(socket: TLSSocket, watching: Watching) {
    this.mode = watching.mode;
    this.socket = socket;
    this.#watching = watching;
    this.#write = new FailedWrite(socket);
    const { role, host, port } = watching;
    const someone = role === 'client' ? 'the server' : 'the client';
    const peer = host === null ? someone : hostAndPort(host, port);
    this.#record = recordFolder() === null ? null : new TruncationTranscript({ local: 'us', peer });
    this.#ending = new WitnessedEnding(this.#record);
    this.before = intercept(socket, this);
    if (watching.trace !== undefined) socket.enableTrace = enableTrace;
    socket.on(errorMonitor as unknown as 'error', onError);
    socket.on('close', onClosed);
    tellConnect(() => {
      const { mode, evidence, engine } = watching;
      return { ...this.#about(), mode, evidence, engine };
    });
    const secure = (socket as { secureConnecting?: boolean }).secureConnecting === false;
    if (secure) this.onSecure();
    else socket.prependOnceListener('secureConnect', onSecure);
  }

  /** Traces the connection from now on. */
  trace(): void {
    this.#watching.trace?.();
  }

  /** Which connection it is. A server's peer has no address any more once the socket is closed. */
  #about(): StrictConnection {
    const socket = this.socket;
    if (this.#connection?.protocol) return this.#connection;
    const { role, host, port } = this.#watching;
    const isServer = role === 'server';
    const { isEstablished } = this.#ending;
    this.#connection = {
      socket,
      role,
      host: this.#connection?.host ?? (isServer ? (socket.remoteAddress ?? null) : host),
      port: this.#connection?.port ?? (isServer ? (socket.remotePort ?? null) : port),
      servername: (isEstablished && (socket as { servername?: string | false }).servername) || null,
      protocol: isEstablished ? socket.getProtocol() : null,
    };
    return this.#connection;
  }

  /** How the connection ended, or stands. */
  get closure(): Closure {
    return this.#ending.closure;
  }

  onPush(): void {
    this.#write.onPush();
  }

  onTransportError(error: EngineError): Error | null {
    this.#ending.look();
    if (!this.#failed) return this.#failBy(error);
    this.#overtake?.();
    return this.#unmistaken(error);
  }

  mayWrite(): boolean {
    this.#broken?.();
    return this.#broken === null;
  }

  onShutdown(): void {
    this.#ending.lookForOwn();
  }

  /**
   * A tap gives OpenSSL one record at a time, and behind the peer's close_notify OpenSSL reads none: there close_notify
   * leaves in one segment with what OpenSSL has made in this call, a server's session tickets above all.
   */
  shutdownReads(): boolean {
    const isOver = this.#ended && this.#ending.receive === 'closed';
    return this.#watching.engine === 'node' && !isOver;
  }

  /**
   * The transport has failed, with an error that does not say so itself.
   *
   * @returns what the socket is to fail with now; null where it fails later, or has already.
   */
  onTransportFailed(error: Error): Error | null {
    this.#ending.look();
    if (this.#failed) return null;
    const told = this.#failBy(error);
    if (told === null || !isAbandoned(this.socket)) return told;
    this.socket.destroy();
    return null;
  }

  /** The handshake is complete. */
  onSecure(): void {
    const socket = this.socket;
    const witness = this.#watching.witness(this);
    this.#ending.establish(witness, this.#record && socket.getProtocol());
    const reason =
      witness === null ? 'its TLS began before the add-on was loaded' : witness.unreadable;
    if (isHeard()) this.#about();
    if (reason !== null) tellUnwatched(() => ({ ...this.#about(), reason }));
    // A server may learn of its socket late, after a callback that took its time.
    if (hasEnded(socket)) this.#onEarlyEnd();
    else if (witness?.ignored) this.onIgnored();
  }

  /** The program destroys its socket, or Node does behind its end. Node's TLS does it for bytes that it refuses. */
  onDestroy(error: unknown): void {
    this.#ending.look();
    this.#forestall?.();
    if (!this.#failed && !(error instanceof Error && isTlsError(error))) {
      this.#ending.happened({ type: 'close' });
    }
  }

  /**
   * Asks what is at stake, behind the end: HTTP that has no message in progress knows by itself that nothing is
   * missing.
   */
  #weigh(stake: Stake = stakeOf(this.socket)): Stake {
    if (stake === 'safe') this.#ending.happened({ type: 'idle' });
    return stake;
  }

  // ---- the end

  /** Node ends the stream. @returns whether it may. */
  onEnd(): boolean {
    if (this.#failed || this.socket.destroyed) return false;
    const cut = this.#howItEnded();
    if (cut === null) {
      this.#ended = true;
      return true;
    }
    if (this.mode === 'report') {
      this.#write.tellBehindEnd();
      this.#report(cut);
      return true;
    }
    this.#fail(cut, false);
    return false;
  }

  /**
   * Tells of a cut that the program hears nothing of. It is told when all was read, as the socket of a program that
   * wants errors fails then: one that destroys its socket before hears nothing in either mode.
   */
  #report(cut: Cut): void {
    afterReading(this.socket, true, () => {
      if (this.#told) return;
      this.#weigh();
      this.#tell(cut, 'end');
    });
  }

  /** The stream had ended before there was a guard. */
  #onEarlyEnd(): void {
    const cut = this.#howItEnded();
    if (cut === null) this.#ended = true;
    else if (this.mode === 'report') this.#report(cut);
    else this.#fail(cut, true);
  }

  /** The end of the stream, judged. @returns what makes the error that belongs there, or null. */
  #howItEnded(): Cut | null {
    const ending = this.#ending;
    ending.look();
    if (ending.receive === 'closed') {
      this.#write.tellBehindEnd();
      return null;
    }
    // Node ends the handshake in its own words.
    if (!ending.isEstablished) {
      ending.happened(transportEvent('eof', 'handshake', null));
      return null;
    }
    if (ending.receive === 'alerted' || ending.receive === 'rejected') {
      return () => this.#alertError();
    }
    const failed = this.#write.error;
    if (failed === null) {
      const { where } = ending;
      ending.happened(transportEvent('eof', where, null));
      return () => truncatedError('eof', where, this.closure, null);
    }
    // The kernel tells of a reset once, and told the write.
    const cause = causeOf(failed);
    ending.happened(transportEvent(cause, 'unknown', failed.code ?? null));
    return () => truncatedError(cause, 'unknown', this.closure, failed);
  }

  /** @param cause what Node said of it; undefined where it swallowed the alert. */
  #alertError(cause?: Error): AlertError {
    const { closure } = this;
    const sent = closure.alert?.direction === 'sent';
    const name = closure.alert?.name ?? 'unknown';
    return new AlertError(
      sent ? `the peer's bytes were refused (${name})` : `the peer sent the fatal alert ${name}`,
      { phase: 'open', closure, cause },
    );
  }

  /** OpenSSL has seen close_notify, and Node will not be told. */
  onIgnored(): void {
    const mayEnd = this.#ending.isEstablished && !this.#ended && !this.#failed;
    if (!mayEnd || this.socket.destroyed) return;
    this.socket.push(null);
    this.socket.read(0);
  }

  /**
   * Ends a socket whose stream was cut: whoever reads it gets what was decrypted before, then `error`, never
   * 'end'. Only an HTTP reader that has no message in progress sees an end as Node's own: it knows by itself
   * what it has.
   */
  #fail(cut: Cut, ended: boolean): void {
    const socket = this.socket;
    this.#failed = true;
    // A write that failed says more, and programs look for its code.
    const unwritten = this.#write.error;
    let done = false;
    this.#overtake = () => {
      if (this.#told) return;
      this.#weigh();
      this.#tell(cut, 'error');
    };
    const finish = () => {
      if (done) return;
      done = true;
      const stake = this.#weigh();
      const error = cut();
      const told = unwritten ?? error;
      if (stake === 'safe' && this.#write.error !== null) this.#write.tell();
      else if (stake === 'safe') this.#pushEnd();
      else if (stake === 'unknown' || !endByMessages(socket, told, () => this.#pushEnd())) {
        const mistaken = stake === 'at-stake' && trustsResets(socket);
        this.#cause = mistaken ? error : told;
        socket.destroy(isAbandoned(socket) ? undefined : this.#cause);
      }
      this.#tell(() => error, stake === 'safe' ? 'end' : 'error');
      this.#write.tell();
    };
    this.#write.giveUp = finish;
    afterReading(socket, ended, finish);
  }

  #pushEnd(): void {
    const socket = this.socket;
    if (socket.destroyed) return;
    this.before.push.call(socket, null);
    socket.read(0);
  }

  // ---- failures

  /** The transport has failed. @returns what the socket is to fail with now; null where it fails later. */
  #failBy(error: EngineError): Error | null {
    const socket = this.socket;
    if (this.mode === 'error' && this.#ending.isEstablished && !this.#ended) {
      parseUnread(socket);
      if (isPausedWithin(socket)) {
        this.#failed = true;
        this.#forestall = () => void this.#judge(error);
        afterReading(socket, false, () => socket.destroy(this.#judge(error)));
        return null;
      }
    }
    const told = this.#judge(error);
    return this.#failBehindEnd(told) ? null : told;
  }

  /** @returns the error, or another where whoever reads the socket would take it for the end of a message. */
  #unmistaken(error: EngineError): Error {
    const socket = this.socket;
    const whole = !this.#ending.isEstablished || this.#ending.receive === 'closed';
    const mistaken = !whole && trustsResets(socket) && stakeOf(socket) === 'at-stake';
    if (this.mode === 'report' || !mistaken) return error;
    this.#cause = truncatedError(causeOf(error), 'unknown', this.closure, error);
    return this.#cause;
  }

  /** The failure of the transport, judged. @returns what the socket is to fail with. */
  #judge(error: EngineError): Error {
    const { isEstablished, receive } = this.#ending;
    this.#cause = error;
    const whole = receive === 'closed';
    // A kernel that was reset may have dropped bytes that had come.
    const where = isEstablished ? 'unknown' : 'handshake';
    const cause = causeOf(error);
    this.#ending.happened(transportEvent(cause, where, error.code ?? null));
    if (whole || !isEstablished) return error;
    if (!this.#told) this.#weigh();
    const truncated = truncatedError(cause, where, this.closure, error);
    this.#tell(() => truncated, 'error');
    // An error already. Only who takes it for an end gets another.
    const mistaken = trustsResets(this.socket) && stakeOf(this.socket) === 'at-stake';
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
    const socket = this.socket;
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
    if (socket.readableEnded || (waits && !isRead(socket))) return false;
    this.#failed = true;
    this.#broken = () => {
      if (socket.destroyed) return;
      const over = !lost && this.#isOver;
      this.#cause = over ? null : error;
      socket.destroy(over ? undefined : error);
    };
    socket.once('end', () => process.nextTick(() => this.#broken?.()));
    if (waits) {
      this.#write.giveUp = this.#broken;
      this.#write.checkReader();
    }
    return true;
  }

  /** The program has heard the end of its socket, and all that it had to say was taken but close_notify. */
  get #isOver(): boolean {
    const socket = this.socket;
    const said = socket.writableEnded || !socket.allowHalfOpen;
    return socket.readableEnded && said && socket.writableLength === 0;
  }

  /** A write that failed is told behind what there is to read, where somebody reads. */
  onWriteFailed(error: EngineError, done: Done): void {
    if (!this.#ending.isEstablished || this.#failed || !isRead(this.socket)) {
      done(error);
      return;
    }
    this.#write.keep(error, done);
    if (this.#ended) this.#write.tellBehindEnd();
  }

  /** Before anyone else hears of it: Node's HTTP parser would take what it has for the whole. */
  onError(error: EngineError): void {
    const ending = this.#ending;
    const { isEstablished } = ending;
    // An error that the program destroyed its socket with is its own affair, but for a body that only the
    // connection's end could complete.
    const cut = error === this.#cause || isTlsError(error);
    const strict = this.mode === 'error';
    // As it is before the messages fail.
    const stake = stakeOf(this.socket);
    if (isEstablished && strict && ending.receive !== 'closed') {
      failMessages(this.socket, error, cut ? 'all' : 'endless');
    }
    if (this.#failed) {
      if (cut) this.#overtake?.();
      return;
    }
    ending.lookForRefusal();
    const { authorizationError } = this.socket as unknown as { authorizationError: string | null };
    const unauthorized = isEstablished ? null : authorizationError || null;
    ending.happened(eventOf(error, unauthorized, isEstablished));
    if (!isEstablished || !isTlsError(error)) return;
    if (ending.receive === 'alerted' || ending.receive === 'rejected') {
      this.#weigh(stake);
      this.#tell(() => this.#alertError(error), 'error');
    }
    if (!strict) return;
    // 'end' must not follow that, and Node leaves the socket standing. But whoever listens hears the error
    // first, and this may be a call of OpenSSL, which cannot be freed under its own feet.
    this.#failed = true;
    setImmediate(() => afterReading(this.socket, false, () => this.socket.destroy()));
  }

  /** The socket is closed. */
  onClosed(): void {
    // Whoever waits for it.
    this.#write.tell();
    const ending = this.#ending;
    ending.look();
    const closed = ending.send === 'closed';
    const { receive } = ending;
    // Who closes behind an own close_notify chose not to wait for the peer's.
    if (closed && (receive === 'open' || receive === 'closing')) {
      ending.happened({ type: 'waive' });
    }
    const how = closed && receive === 'closed' ? 'closed' : 'destroyed';
    ending.happened({ type: 'abandon', how });
    ending.conclude();
    this.#conclude();
    tellClosure(() => {
      const { closure } = this;
      return { ...this.#about(), closure, incomplete: closure.incomplete };
    });
  }

  /** Keeps the record of a connection that lacks bytes. */
  #conclude(): void {
    const record = this.#record;
    if (record === null) return;
    const { bytesRead, bytesWritten } = this.socket;
    record.note(`${bytesRead} bytes of data were read, ${bytesWritten} written`);
    record.conclude(this.closure);
  }

  #tell(cut: Cut, outcome: Outcome): void {
    // Of one connection once: an alert that ends the stream may come up as an error and as an end.
    if (this.#told) return;
    this.#told = true;
    const incomplete = this.closure.incomplete === true;
    tellTruncated(() => ({ ...this.#about(), error: cut(), outcome, incomplete }));
  }
}

// The same functions for all sockets: see intercept.ts.

function onSecure(this: TLSSocket): void {
  guardOf(this)?.onSecure();
}

function onError(this: TLSSocket, error: EngineError): void {
  guardOf(this)?.onError(error);
}

function onClosed(this: TLSSocket): void {
  guardOf(this)?.onClosed();
}

function enableTrace(this: TLSSocket): void {
  guardOf(this)?.trace();
}

/** Makes the error of a cut, with the closure as it is then. */
type Cut = () => TruncatedError | AlertError;
