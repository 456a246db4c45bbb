/**
 * A capture that somebody else made, told as if its parties had been recorded.
 *
 * Theory of operation. A capture is read twice: once to find its connections and the key logs in it,
 * so that one can be chosen, and once to replay that one. The replay puts TCP's two byte streams
 * together, decodes TLS with the secrets, and tells two observers what each party's own stream would
 * have told: bytes, records, alerts, close_notify, and how the transport ended. A `Transcript`, or
 * whatever else watches a stream, cannot tell the difference.
 *
 * Who stands in the middle knows less than a party, and must not claim more. What crossed may not
 * have been read. And where a direction cannot be read (no key, or bytes that were not captured),
 * whether close_notify was in it is not known: its FIN is then neither an orderly end nor a
 * truncation. Such a doubt is told in words; the observers are told of no end, and no verdict is
 * given. One case needs no key: TLS 1.2 shows which records are alerts, so a direction that ends
 * without any has no close_notify in it.
 */
import { alertEvent, closes, Ending, type SeenAlert, transportEvent } from '../closure/ending.ts';
import type { ClosureEvent } from '../closure/machine.ts';
import type { Closure, Verdict } from '../closure/verdict.ts';
import { type Decoded, type Sender, WireDecoder } from '../record/decoder.ts';
import { HANDSHAKE_TYPE, hex, parseClientRandom } from '../record/handshake.ts';
import { CONTENT_TYPE, RecordScanner } from '../record/record.ts';
import { SUITE_NAMES } from '../record/suite-names.ts';
import type { Observation, Observer } from '../transcript/observer.ts';
import type { KeyLog } from './keylog.ts';
import { eachSegment } from './survey.ts';
import {
  ConnectionTable,
  type End,
  startsClientHello,
  startsHandshake,
  type TcpConnection,
  type TcpEvent,
  TcpStreams,
} from './tcp.ts';

/** What is known of one party. Times are milliseconds since the connection's first packet. */
export interface CapturedParty {
  /** Its address and port. */
  readonly address: string;
  /** When its close_notify crossed, authenticated; null where none was seen. */
  readonly closeNotify: number | null;
  /** When its FIN crossed, behind all its bytes; null where none was seen. */
  readonly fin: number | null;
  /** When its RST crossed. */
  readonly reset: number | null;
  /** TLS records that it sent. */
  readonly records: number;
  /** Bytes that it sent after its close_notify. */
  readonly trailing: number;
  /** Why it is not known whether it sent close_notify; null where that is known. */
  readonly doubt: string | null;
  /**
   * How the connection ended for it, as far as somebody in the middle can say; null where a doubt is
   * in the way. Its times are milliseconds since the connection's first packet.
   */
  readonly closure: Closure | null;
}

/** One connection of a capture, looked into. */
export interface CapturedConnection {
  /** As the survey has it. */
  readonly connection: TcpConnection;
  /** Such as `TLSv1.3`; null where no ServerHello was seen. */
  readonly protocol: string | null;
  /** The suite's standard name; null where it is not known. */
  readonly cipher: string | null;
  /** Whether the handshake was completed. */
  readonly established: boolean;
  /** Bytes that crossed before TLS, both ways: those of a STARTTLS dialogue, for instance. */
  readonly plaintext: number;
  /** The party that sent the ClientHello. */
  readonly client: CapturedParty;
  /** Its peer. */
  readonly server: CapturedParty;
}

/** What `replayConnection` needs. */
export interface ReplayOptions {
  /** Which connection, as the survey counts them. */
  readonly number: number;
  /** The secrets. */
  readonly keyLog: KeyLog;
  /** Told what the client's stream would have told. */
  readonly client?: Observer | undefined;
  /** Told what the server's stream would have told. */
  readonly server?: Observer | undefined;
}

/**
 * Replays one connection of a capture.
 *
 * @param chunks the same file again.
 * @returns null where the file has no connection of this number.
 * @throws {MalformedError} where it is no capture file, or a broken one.
 */
export function replayConnection(
  chunks: Iterable<Uint8Array>,
  { number, keyLog, client, server }: ReplayOptions,
): CapturedConnection | null {
  const table = new ConnectionTable();
  let replay: Replay | null = null;
  let streams: TcpStreams | null = null;
  eachSegment(chunks, table, {
    secrets: () => {},
    packet: () => {},
    segment: (segment, connection, from, at) => {
      if (connection !== number) return;
      if (streams === null) {
        const run = new Replay(at, keyLog, { client, server });
        replay = run;
        streams = new TcpStreams((event) => run.take(event));
      }
      streams.take(segment, from, at);
    },
  });
  const connection = table.connections[number - 1];
  // The compiler does not see that the callback has assigned them.
  const [run, ends] = [replay, streams] as [Replay | null, TcpStreams | null];
  if (connection === undefined || run === null || ends === null) return null;
  ends.end();
  return run.result(connection);
}

/** A direction: what one party sent. */
interface Lane {
  readonly scanner: RecordScanner;
  /** TLS has not begun in it. */
  plain: boolean;
  records: number;
  /** Of these, decoded or in the clear. */
  read: number;
  /** ChangeCipherSpec has gone by, and the first record behind it, which is Finished (TLS 1.2). */
  changed: boolean;
  changedFinished: boolean;
  /** Finished, authenticated (TLS 1.3). */
  finished: boolean;
  /** Alerts that TLS 1.2 shows by their type and no key opens. */
  sealedAlerts: number;
  closeNotify: number | null;
  /** close_notify came before the other side's Finished. */
  early: boolean;
  trailing: number;
  missing: number;
  unreadable: string | null;
  fin: number | null;
  reset: number | null;
}

/** A party: who watches it, and its closure so far. */
interface Party {
  readonly observer: Observer | undefined;
  readonly ending: Ending;
  verdict: Verdict;
}

const peerOf = (sender: Sender): Sender => (sender === 'client' ? 'server' : 'client');

const SENDERS = ['client', 'server'] as const;

class Replay {
  readonly #base: bigint;
  readonly #keyLog: KeyLog;
  readonly #parties: Record<Sender, Party>;
  readonly #lanes: Record<Sender, Lane>;
  readonly #decoder = new WireDecoder((decoded) => this.#decoded.push(decoded));
  /** What the decoder has reported and nobody has looked at. */
  readonly #decoded: Decoded[] = [];
  /** The record that the piece at hand completes, if it does. */
  readonly #records: Array<{ contentType: number; length: number }> = [];
  /** Which end sent the ClientHello. */
  #client: End = 0;
  #begun = false;
  #established = false;
  #plaintext = 0;
  /** A direction's first bytes, while they are too few to be told from plaintext. */
  readonly #prefixes: [Buffer, Buffer] = [Buffer.alloc(0), Buffer.alloc(0)];

  constructor(base: bigint, keyLog: KeyLog, observers: Record<Sender, Observer | undefined>) {
    this.#base = base;
    this.#keyLog = keyLog;
    const party = (observer: Observer | undefined): Party => ({
      observer,
      ending: new Ending(),
      verdict: 'open',
    });
    this.#parties = { client: party(observers.client), server: party(observers.server) };
    this.#lanes = { client: this.#lane('client'), server: this.#lane('server') };
  }

  /** What happened in TCP. */
  take(event: TcpEvent): void {
    const at = Number(event.at - this.#base) / 1e6;
    const sender = event.from === this.#client ? 'client' : 'server';
    switch (event.type) {
      case 'open':
        for (const one of SENDERS) this.#observe(one, { type: 'phase', name: 'connect' }, at);
        return;
      case 'data':
        this.#data(event.from, event.bytes, at);
        return;
      case 'gap':
        this.#lanes[sender].missing += event.length;
        return;
      case 'fin':
        this.#fin(sender, at);
        return;
      case 'rst':
        this.#reset(sender, at);
        return;
    }
  }

  result(connection: TcpConnection): CapturedConnection {
    const { hello } = this.#decoder;
    const doubts = { client: this.#doubt('client'), server: this.#doubt('server') };
    const certain = doubts.client === null && doubts.server === null;
    const addresses =
      this.#client === 0
        ? { client: connection.client, server: connection.server }
        : { client: connection.server, server: connection.client };
    const party = (sender: Sender): CapturedParty => {
      const { closeNotify, fin, reset, records, trailing } = this.#lanes[sender];
      const closure = certain ? this.#parties[sender].ending.closure() : null;
      const address = addresses[sender];
      const doubt = doubts[sender];
      return { address, closeNotify, fin, reset, records, trailing, doubt, closure };
    };
    for (const sender of SENDERS) {
      const { trailing, fin, reset } = this.#lanes[sender];
      const at = fin ?? reset ?? this.#lanes[sender].closeNotify ?? 0;
      if (trailing > 0) this.#observe(peerOf(sender), { type: 'trailing', bytes: trailing }, at);
    }
    return {
      connection,
      protocol: hello === null ? null : protocolName(hello.version),
      cipher: hello === null ? null : (SUITE_NAMES.get(hello.cipherSuite) ?? null),
      established: this.#established,
      plaintext: this.#plaintext,
      client: party('client'),
      server: party('server'),
    };
  }

  #lane(sender: Sender): Lane {
    return {
      scanner: new RecordScanner((type, length) => this.#onRecord(sender, type, length)),
      plain: true,
      records: 0,
      read: 0,
      changed: false,
      changedFinished: false,
      finished: false,
      sealedAlerts: 0,
      closeNotify: null,
      early: false,
      trailing: 0,
      missing: 0,
      unreadable: null,
      fin: null,
      reset: null,
    };
  }

  // ---- bytes

  #data(from: End, data: Uint8Array, at: number): void {
    const bytes = this.#beginning(from, data);
    if (bytes === null) return;
    const sender = from === this.#client ? 'client' : 'server';
    const lane = this.#lanes[sender];
    // Where bytes are missing nobody knows where the next record begins.
    if (lane.missing > 0) return;
    for (let offset = 0; offset < bytes.length; ) {
      // "Any data received after a closure alert has been received MUST be ignored".
      if (lane.closeNotify !== null) {
        lane.trailing += bytes.length - offset;
        return;
      }
      offset = this.#piece(sender, bytes, offset, at);
    }
  }

  /**
   * Looks for the beginning of TLS, which stands at the beginning of a segment.
   *
   * @returns null for bytes in the clear, or too few to tell.
   */
  #beginning(from: End, data: Uint8Array): Uint8Array | null {
    const sender = from === this.#client ? 'client' : 'server';
    if (!this.#lanes[sender].plain) return data;
    const bytes = Buffer.concat([this.#prefixes[from], data]);
    if (bytes.length < LEAST_RECORD && couldBeginTls(bytes)) {
      this.#prefixes[from] = bytes;
      return null;
    }
    this.#prefixes[from] = Buffer.alloc(0);
    if (!this.#begun && startsClientHello(bytes)) {
      this.#begun = true;
      if (from !== this.#client) this.#swap(from);
    }
    const lane = this.#lanes[from === this.#client ? 'client' : 'server'];
    if (!this.#begun || !(startsHandshake(bytes) || startsAlert(bytes))) {
      this.#plaintext += bytes.length;
      return null;
    }
    lane.plain = false;
    // What was missed before was in the clear.
    lane.missing = 0;
    return bytes;
  }

  /** The end that took the connection is the client of TLS. */
  #swap(client: End): void {
    this.#client = client;
    const lanes = this.#lanes;
    [lanes.client.missing, lanes.server.missing] = [lanes.server.missing, lanes.client.missing];
  }

  /** Bytes up to a record's end: told as a stream tells of them, then decoded. */
  #piece(sender: Sender, bytes: Uint8Array, from: number, at: number): number {
    const lane = this.#lanes[sender];
    // The end of the record is known before anybody is told, as in a stream's tap.
    this.#records.length = 0;
    const end = lane.scanner.take(bytes, from);
    const piece = bytes.subarray(from, end);
    const near = this.#parties[sender].observer;
    const far = this.#parties[peerOf(sender)].observer;
    near?.onBytes?.('sent', piece, at);
    for (const { contentType, length } of this.#records) {
      near?.observe({ type: 'record', direction: 'sent', contentType, length }, at);
      far?.observe({ type: 'record', direction: 'received', contentType, length }, at);
    }
    far?.onBytes?.('received', piece, at);
    this.#decoder.push(sender, piece);
    // Secrets may free what waited, and that may name more secrets.
    for (let next = this.#decoded.shift(); next !== undefined; next = this.#decoded.shift()) {
      this.#onDecoded(next, at);
    }
    if (!this.#established) this.#maybeEstablished(at);
    return end;
  }

  #onRecord(sender: Sender, contentType: number, length: number): void {
    this.#records.push({ contentType, length });
    const lane = this.#lanes[sender];
    lane.records++;
    if (lane.changed && contentType === CONTENT_TYPE.handshake) lane.changedFinished = true;
    if (lane.changed && contentType === CONTENT_TYPE.alert) lane.sealedAlerts++;
    if (contentType === CONTENT_TYPE.changeCipherSpec) lane.changed = true;
  }

  #onDecoded(decoded: Decoded, at: number): void {
    const lane = this.#lanes[decoded.sender];
    switch (decoded.type) {
      case 'record':
        lane.read++;
        return;
      case 'unreadable':
        lane.unreadable = decoded.reason;
        return;
      case 'alert':
        this.#onAlert(decoded, at);
        return;
      case 'handshake':
        if (decoded.messageType === HANDSHAKE_TYPE.clientHello && decoded.sender === 'client') {
          this.#addSecrets(decoded.body);
        }
        if (decoded.messageType === HANDSHAKE_TYPE.finished && decoded.authenticated) {
          lane.finished = true;
        }
    }
  }

  #addSecrets(clientHello: Uint8Array): void {
    for (const entry of this.#keyLog.of(hex(parseClientRandom(clientHello)))) {
      const line = `${entry.label} ${entry.clientRandom} ${hex(entry.secret)}`;
      for (const one of SENDERS) this.#parties[one].observer?.onSecret?.(line);
      this.#decoder.addSecret(entry);
    }
  }

  #maybeEstablished(at: number): void {
    const { hello, tls13 } = this.#decoder;
    if (hello === null) return;
    const { client, server } = this.#lanes;
    const done = tls13
      ? client.finished && server.finished
      : client.changedFinished && server.changedFinished;
    if (!done) return;
    this.#established = true;
    const protocol = protocolName(hello.version);
    for (const one of SENDERS) {
      this.#observe(one, { type: 'phase', name: 'handshake', protocol }, at);
      this.#dispatch(one, { type: 'established' }, at);
    }
    for (const one of SENDERS) if (this.#lanes[one].early) this.#closeNotify(one, at);
  }

  #onAlert({ sender, alert, authenticated }: Extract<Decoded, { type: 'alert' }>, at: number) {
    const { tls13 } = this.#decoder;
    // In TLS 1.3 the level says nothing.
    const level = tls13 || alert.level === 'warning' ? 1 : 2;
    const seen: SeenAlert = { level, description: alert.code, authenticated };
    if (closes(seen)) {
      if (this.#established) this.#closeNotify(sender, at);
      else this.#lanes[sender].early = true;
      return;
    }
    // Once there are keys, an alert in the clear is nobody's.
    if (!authenticated && this.#established) return;
    // In TLS 1.3 all but two alerts are fatal, whatever their level (RFC 9846 section 6).
    const fatal = tls13 ? alert.code !== USER_CANCELED : alert.level === 'fatal';
    if (authenticated && !fatal) return;
    const { code, name } = alert;
    const detail = { code, name, authenticated };
    this.#observe(sender, { type: 'alert', direction: 'sent', alert: detail }, at);
    this.#observe(peerOf(sender), { type: 'alert', direction: 'received', alert: detail }, at);
    if (!fatal && code !== 0) return;
    this.#dispatch(sender, alertEvent('sent', seen, name, 'record'), at);
    this.#dispatch(peerOf(sender), alertEvent('received', seen, name, 'record'), at);
  }

  #closeNotify(sender: Sender, at: number): void {
    if (this.#lanes[sender].closeNotify !== null) return;
    this.#lanes[sender].closeNotify = at;
    this.#observe(sender, { type: 'close-notify', direction: 'sent' }, at);
    this.#observe(peerOf(sender), { type: 'close-notify', direction: 'received' }, at);
    this.#dispatch(sender, { type: 'close-notify-sent', evidence: 'record' }, at);
    this.#dispatch(peerOf(sender), { type: 'close-notify-received', evidence: 'record' }, at);
  }

  // ---- the transport's end

  #fin(sender: Sender, at: number): void {
    const lane = this.#lanes[sender];
    lane.fin = at;
    if (this.#doubt(sender) !== null) return;
    const peer = peerOf(sender);
    const event = transportEvent('eof', this.#where(sender), null);
    this.#observe(sender, { type: 'transport-closed', how: 'end' }, at);
    this.#observe(peer, event, at);
    this.#dispatch(peer, event, at);
    // Whoever ends its transport wants no more, as far as the wire can say. Behind close_notify FIN is one direction's
    // end. Without, its sender has given up.
    this.#dispatch(sender, { type: 'close' }, at);
    const given: ClosureEvent =
      lane.closeNotify === null ? { type: 'abandon', how: 'closed' } : { type: 'waive' };
    this.#dispatch(sender, given, at);
  }

  #reset(sender: Sender, at: number): void {
    this.#lanes[sender].reset = at;
    if (this.#doubt(sender) !== null) return;
    const peer = peerOf(sender);
    const event = transportEvent('reset', this.#where(sender), 'ECONNRESET');
    this.#observe(sender, { type: 'transport-closed', how: 'destroy' }, at);
    this.#observe(peer, event, at);
    this.#dispatch(peer, event, at);
    this.#dispatch(sender, { type: 'close' }, at);
    this.#dispatch(sender, { type: 'abandon', how: 'destroyed' }, at);
  }

  #where(sender: Sender): 'handshake' | 'record-boundary' | 'inside-record' {
    if (!this.#established) return 'handshake';
    return this.#lanes[sender].scanner.atBoundary ? 'record-boundary' : 'inside-record';
  }

  /** Why it is not known whether this party has sent close_notify. */
  #doubt(sender: Sender): string | null {
    const lane = this.#lanes[sender];
    if (lane.closeNotify !== null) return null;
    if (lane.missing > 0) return `${lane.missing} of its bytes were not captured`;
    if (!this.#begun) {
      // The capture may have begun in the middle of it.
      return this.#plaintext > 0 ? 'no TLS handshake begins in what was captured' : null;
    }
    if (lane.read === lane.records && lane.unreadable === null) return null;
    // What does not authenticate was changed on its way, or is not what the keys are for.
    if (lane.unreadable !== null && lane.unreadable !== NO_KEY) return lane.unreadable;
    const { hello, tls13 } = this.#decoder;
    if (hello !== null && !tls13 && lane.sealedAlerts === 0) return null;
    return NO_KEY;
  }

  // ---- state

  #dispatch(sender: Sender, event: ClosureEvent, at: number): void {
    const party = this.#parties[sender];
    party.ending.happened(event, at);
    const { verdict } = party.ending.closure();
    if (verdict === party.verdict) return;
    party.verdict = verdict;
    this.#observe(sender, { type: 'verdict', verdict }, at);
  }

  #observe(sender: Sender, observation: Observation, at: number): void {
    this.#parties[sender].observer?.observe(observation, at);
  }
}

/** As the decoder says it. */
const NO_KEY = 'no key for its records';

const USER_CANCELED = 90;

/** As OpenSSL has it: `TLSv1`, `TLSv1.1`, `TLSv1.2`, `TLSv1.3`. */
const protocolName = (version: number): string =>
  version === 0x0301 ? 'TLSv1' : `TLSv1.${(version & 0xff) - 1}`;

/** The header of a record, and as much as an alert has. */
const LEAST_RECORD = 7;

const couldBeginTls = (bytes: Uint8Array): boolean =>
  (bytes[0] === CONTENT_TYPE.handshake || bytes[0] === CONTENT_TYPE.alert) && (bytes[1] ?? 3) === 3;

/** A server may answer a ClientHello with an alert and nothing else. */
const startsAlert = (bytes: Uint8Array): boolean =>
  bytes.length >= LEAST_RECORD && bytes[0] === CONTENT_TYPE.alert && bytes[1] === 3;
