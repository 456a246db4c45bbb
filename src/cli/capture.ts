/**
 * Captures on the command line: `probe --pcapng FILE` writes one, `draw --pcap FILE` reads one that
 * somebody else made. And SSLKEYLOGFILE.
 */
import { closeSync, fchmodSync, fstatSync, openSync, readSync, writeFileSync } from 'node:fs';
import type { Duplex } from 'node:stream';
import { KeyLog, keyLogFile } from '../capture/keylog.ts';
import { PcapngRecorder } from '../capture/pcapng.ts';
import {
  type CapturedConnection,
  type CapturedParty,
  replayConnection,
} from '../capture/replay.ts';
import { type CaptureSurvey, surveyCapture } from '../capture/survey.ts';
import type { TcpConnection } from '../capture/tcp.ts';
import { MalformedError, OptionError } from '../errors.ts';
import type { Observer } from '../transcript/observer.ts';
import { Transcript } from '../transcript/transcript.ts';
import { STANDARD, usingFile } from './files.ts';
import type { Terminal } from './terminal.ts';

/** A capture of a connection of ours, on its way into a file or to standard output. */
export class PcapngFile {
  readonly #file: string;
  readonly #terminal: Pick<Terminal, 'write'>;
  /** Null for standard output. */
  readonly #descriptor: number | null;
  #recorder: PcapngRecorder | null = null;

  /** @throws {OptionError} where the file cannot be written to. */
  constructor(file: string, terminal: Pick<Terminal, 'write'>) {
    this.#file = file;
    this.#terminal = terminal;
    this.#descriptor =
      file === STANDARD ? null : usingFile('--pcapng', file, () => openSecret(file));
  }

  /** An observer for the connection over this transport. */
  record(transport: Duplex): Observer {
    this.#recorder = new PcapngRecorder({ transport });
    return this.#recorder;
  }

  /**
   * Writes the file; without a connection it holds none.
   *
   * @throws {OptionError} where the file cannot be written to.
   */
  finish(): void {
    const bytes = (this.#recorder ?? new PcapngRecorder()).bytes();
    const descriptor = this.#descriptor;
    if (descriptor === null) {
      this.#terminal.write(bytes);
      return;
    }
    usingFile('--pcapng', this.#file, () => {
      try {
        writeFileSync(descriptor, bytes);
      } finally {
        closeSync(descriptor);
      }
    });
  }
}

/** Opens a file for its owner alone, and empties it. */
function openSecret(file: string): number {
  const descriptor = openSync(file, 'w', 0o600);
  // There are secrets in it, and it may have been there before, for all to read.
  if (fstatSync(descriptor).isFile()) fchmodSync(descriptor, 0o600);
  return descriptor;
}

/**
 * The key log that the variable SSLKEYLOGFILE names, as an observer.
 *
 * @throws {OptionError} where the file cannot be written to.
 */
export function environmentKeyLog(
  environment: NodeJS.ProcessEnv = process.env,
): Observer | undefined {
  const file = environment['SSLKEYLOGFILE'] ?? '';
  return usingFile('SSLKEYLOGFILE', file, () => keyLogFile(file));
}

/** Options of `draw` as commander hands them over. */
export interface CaptureOptions {
  /** The capture: pcap or pcapng. */
  readonly pcap: string;
  /** A key log, for a capture that brings none. */
  readonly keylog?: string | undefined;
  /** Which connection, counted from 1; may be left out where only one speaks TLS. */
  readonly connection?: number | undefined;
}

/** A lane, ready for `drawLanes`. */
export interface CaptureLane {
  readonly name: string;
  readonly transcript: Transcript;
}

/** A connection of a capture, ready to be drawn. */
export interface DrawableCapture {
  readonly left: CaptureLane;
  readonly right: CaptureLane;
  /** For `drawLanes`: both lanes have one clock. */
  readonly options: { readonly protocol?: string; readonly offset: 0 };
  /** What to print under the drawing: what is known of each party, and what is not. */
  readonly remarks: readonly string[];
  readonly captured: CapturedConnection;
}

/**
 * Reads one connection of a capture.
 *
 * @throws {OptionError} for a file that cannot be read or is no capture, and where it has to be said
 *   which connection is meant; the message then lists them.
 */
export function readCapture({ pcap, keylog, connection }: CaptureOptions): DrawableCapture {
  const keys = new KeyLog();
  if (keylog !== undefined) {
    reading('--keylog', keylog, () => addKeyLog(keys, keylog));
    if (keys.size === 0) throw new OptionError(`--keylog: ${keylog} has no secrets in it`);
  }
  const survey = reading('--pcap', pcap, () => surveyCapture(chunksOf(pcap), keys));
  const number = choose(survey, connection);
  const client = new Transcript();
  const server = new Transcript();
  const captured = reading('--pcap', pcap, () =>
    replayConnection(chunksOf(pcap), { number, keyLog: keys, client, server }),
  );
  if (captured === null) throw new OptionError('--pcap: the file has changed while it was read');
  for (const [name, transcript] of [
    ['client', server],
    ['server', client],
  ] as const) {
    for (const [at, text] of openEnds(name, captured[name])) transcript.note(text, at);
  }
  const protocol = captured.protocol === null ? {} : { protocol: captured.protocol };
  return {
    left: { name: `client ${captured.client.address}`, transcript: client },
    right: { name: `server ${captured.server.address}`, transcript: server },
    options: { ...protocol, offset: 0 },
    remarks: remarksOn(captured, survey),
    captured,
  };
}

/** An end of which nobody can say whether close_notify came before it. */
function openEnds(name: string, party: CapturedParty): Array<[number, string]> {
  if (party.doubt === null) return [];
  return [
    ...(party.fin === null
      ? []
      : [
          [party.fin, `FIN from the ${name}; what came before it cannot be read`] as [
            number,
            string,
          ],
        ]),
    ...(party.reset === null
      ? []
      : [
          [party.reset, `RST from the ${name}; what came before it cannot be read`] as [
            number,
            string,
          ],
        ]),
  ];
}

/** What is known of each party, in words. */
export function remarksOn(captured: CapturedConnection, survey: CaptureSurvey): string[] {
  const { protocol, cipher, established, plaintext } = captured;
  const remarks: string[] = [];
  if (protocol === null) remarks.push('No ServerHello: TLS was never agreed on.');
  else {
    const what = `${protocol}, ${cipher ?? 'an unknown suite'}`;
    // Without keys TLS 1.3 does not show the end of the handshake.
    const sealed = protocol === 'TLSv1.3' && captured.server.doubt !== null;
    remarks.push(established || sealed ? `${what}.` : `${what}; the handshake was not completed.`);
  }
  if (plaintext > 0) remarks.push(`${plaintext} bytes crossed in the clear, not as TLS.`);
  remarks.push(
    partyRemark('client', captured.client),
    partyRemark('server', captured.server),
    'This is what crossed the wire where it was captured; whether it was read, only the parties know.',
  );
  if (survey.cutShort) remarks.push('The file stops in the middle of a packet.');
  if (survey.unusable.fragment > 0) {
    remarks.push(`${survey.unusable.fragment} pieces of IP packets were not put together.`);
  }
  if (survey.ignored > 0) {
    remarks.push(`${survey.ignored} packets of too many connections were not looked at.`);
  }
  return remarks;
}

function partyRemark(name: string, party: CapturedParty): string {
  const { closeNotify, fin, reset, doubt, closure, trailing } = party;
  const ms = (at: number) => `at ${at.toFixed(3)} ms`;
  const sent =
    doubt !== null
      ? `it cannot be told whether it sent close_notify (${doubt})`
      : closeNotify === null
        ? 'no close_notify'
        : `close_notify ${ms(closeNotify)}`;
  const ends = [
    ...(fin === null ? [] : [`FIN ${ms(fin)}`]),
    ...(reset === null ? [] : [`RST ${ms(reset)}`]),
  ];
  if (ends.length === 0) ends.push('neither FIN nor RST');
  const after = trailing > 0 ? `, ${trailing} bytes after close_notify` : '';
  const verdict = closure === null ? 'no verdict' : closure.verdict;
  return `The ${name} (${party.address}): ${verdict}. From it: ${[sent, ...ends].join(', ')}${after}.`;
}

/** The connection that is meant. */
function choose({ connections, packets, unusable }: CaptureSurvey, wanted?: number): number {
  if (wanted !== undefined) {
    if (connections[wanted - 1] !== undefined) return wanted;
    throw new OptionError(
      `--connection: there is none of number ${wanted}\n${listOf(connections)}`,
    );
  }
  const tls = connections.filter((one) => one.tls);
  const [only] = tls;
  if (tls.length === 1 && only !== undefined) return only.number;
  if (tls.length > 1) {
    throw new OptionError(
      `--pcap: ${tls.length} connections speak TLS: choose one with --connection\n${listOf(tls)}`,
    );
  }
  if (connections.length > 0) {
    throw new OptionError(
      `--pcap: no TLS handshake begins in any connection\n${listOf(connections)}`,
    );
  }
  const link = unusable.link === packets && packets > 0 ? ': its link type is not known here' : '';
  throw new OptionError(`--pcap: ${packets} packets, and none is of TCP${link}`);
}

/** Lines that anybody wants to read at once. */
const MOST_LISTED = 50;

function listOf(connections: readonly TcpConnection[]): string {
  const lines = connections.slice(0, MOST_LISTED).map(({ number, client, server, ...one }) => {
    const at = new Date(Number(one.at / 1_000_000n));
    // A time that no calendar has is a hostile file's.
    const when = Number.isNaN(at.getTime()) ? '' : `  ${at.toISOString()}`;
    return `  ${number}  ${client} to ${server}  ${one.packets} packets, ${one.bytes} bytes${when}`;
  });
  const more = connections.length - lines.length;
  return [...lines, ...(more > 0 ? [`  and ${more} more`] : [])].join('\n');
}

// ---- files

const CHUNK = 1 << 18;

/** A file in pieces. Each is memory of its own: who reads it may keep it. */
function* chunksOf(file: string): Generator<Uint8Array, void, undefined> {
  const descriptor = openSync(file, 'r');
  try {
    for (;;) {
      const chunk = Buffer.allocUnsafeSlow(CHUNK);
      const length = readSync(descriptor, chunk, 0, CHUNK, null);
      if (length === 0) return;
      yield chunk.subarray(0, length);
    }
  } finally {
    closeSync(descriptor);
  }
}

/** Adds a key log line by line, however long it is. */
function addKeyLog(keys: KeyLog, file: string): void {
  let rest = '';
  for (const chunk of chunksOf(file)) {
    const text = rest + Buffer.from(chunk).toString('latin1');
    const end = text.lastIndexOf('\n') + 1;
    keys.add(text.slice(0, end));
    rest = text.slice(end);
    if (rest.length > MOST_LINE) throw new MalformedError('no key log: a line without an end', 0);
  }
  keys.add(rest);
}

/** No line of a key log is nearly as long. */
const MOST_LINE = 1 << 20;

function reading<T>(option: string, file: string, read: () => T): T {
  return usingFile(option, file, () => {
    try {
      return read();
    } catch (error) {
      if (!(error instanceof MalformedError)) throw error;
      throw new OptionError(`${option}: ${file}: ${error.message}`, { cause: error });
    }
  });
}
