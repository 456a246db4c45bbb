/**
 * Key logs: SSLKEYLOGFILE, whose lines let other tools read a connection (RFC 9850), written by a
 * stream and read for a capture.
 */
import { appendFileSync } from 'node:fs';
import { MalformedError } from '../errors.ts';
import { type KeyLogEntry, parseKeyLogLine } from '../record/keys.ts';
import type { Observation, Observer } from '../transcript/observer.ts';

/**
 * Appends the secrets of connections to a file, as browsers and curl do: `connect({ record:
 * keyLogFile() })`. A file that it makes can be read by its owner alone (mode 0600).
 *
 * The library never does so by itself: an environment variable that is set by whoever starts a
 * process must not make every connection in it readable without the program knowing.
 *
 * @param file by default what the variable SSLKEYLOGFILE says.
 * @returns an observer; undefined where no file is named, or an empty one.
 * @throws where the file cannot be written to.
 */
export function keyLogFile(file = process.env['SSLKEYLOGFILE']): Observer | undefined {
  if (file === undefined || file === '') return undefined;
  // Now rather than in the middle of a handshake.
  appendFileSync(file, '', { mode: 0o600 });
  let failed = false;
  return {
    observe() {},
    onSecret(line) {
      if (failed) return;
      try {
        appendFileSync(file, line.endsWith('\n') ? line : `${line}\n`, { mode: 0o600 });
      } catch (error) {
        // A full disk is no reason to end a connection.
        failed = true;
        process.emitWarning(`the key log is not complete: ${(error as Error).message}`);
      }
    },
  };
}

/** One observer that tells several, in order; those that are undefined are left out. */
export function allOf(...observers: ReadonlyArray<Observer | undefined>): Observer {
  const all = observers.filter((one) => one !== undefined);
  const combined: Observer = {
    observe(observation: Observation, at: number) {
      for (const one of all) one.observe(observation, at);
    },
  };
  // Without a method, a stream does not even prepare what it would be told.
  if (all.some((one) => one.onBytes !== undefined)) {
    combined.onBytes = (direction, bytes, at) => {
      for (const one of all) one.onBytes?.(direction, bytes, at);
    };
  }
  if (all.some((one) => one.onSecret !== undefined)) {
    combined.onSecret = (line) => {
      for (const one of all) one.onSecret?.(line);
    };
  }
  return combined;
}

/** More secrets than any honest key log of one capture holds. */
const MAX_SECRETS = 500_000;

/** The secrets of many connections, by the client random that names each. */
export class KeyLog {
  readonly #entries = new Map<string, Map<string, KeyLogEntry>>();
  #count = 0;

  /** How many secrets there are. */
  get size(): number {
    return this.#count;
  }

  /**
   * Takes the text of a key log; lines of any other form are passed over.
   *
   * @throws {MalformedError} for more than 500,000 secrets.
   */
  add(text: string): void {
    for (let at = 0; at < text.length; ) {
      const newline = text.indexOf('\n', at);
      const end = newline < 0 ? text.length : newline;
      // The longest real line has 187 characters.
      if (end - at < 1_000) this.#addLine(text.slice(at, end));
      at = end + 1;
    }
  }

  #addLine(line: string): void {
    const entry = parseKeyLogLine(line);
    if (entry === null) return;
    let connection = this.#entries.get(entry.clientRandom);
    if (connection === undefined) {
      connection = new Map();
      this.#entries.set(entry.clientRandom, connection);
    }
    if (!connection.has(entry.label)) this.#count++;
    if (this.#count > MAX_SECRETS) {
      throw new MalformedError(`a key log with more than ${MAX_SECRETS} secrets`, 0);
    }
    connection.set(entry.label, entry);
  }

  /** The secrets of the connection with this client random, in lower-case hexadecimal. */
  of(clientRandom: string): readonly KeyLogEntry[] {
    return [...(this.#entries.get(clientRandom)?.values() ?? [])];
  }
}
