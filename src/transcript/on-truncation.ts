/**
 * The record of a connection that failed: `record: 'on-truncation'`, and `CLOSE_NOTIFY_RECORD=folder`.
 *
 * Theory of operation. Who finds a truncation in a log wants to know what had happened, and nobody had recorded it. So
 * every connection is recorded, in a way that may be left on: no payload, no secrets, nothing is decrypted a second
 * time, and a bounded number of entries. What a connection leaves is thrown away, unless its closure says that bytes
 * may be missing (`incomplete`). Then it is the stream's transcript, and where a folder was named it is a file there,
 * which `close-notify draw` draws. The folder is a ring as well: a process writes so many files, then over its oldest.
 */
import { channel } from 'node:diagnostics_channel';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Closure } from '../closure/verdict.ts';
import { process } from '../runtime.ts';
import { Transcript } from './transcript.ts';

/** What the channel `close-notify.recorded` carries: a connection that lacks bytes, as it was recorded. */
export interface RecordedMessage {
  readonly transcript: Transcript;
  readonly closure: Closure;
  /** Where it was written; null without a folder, or where that failed. */
  readonly file: string | null;
  /** Why it could not be written. */
  readonly error: Error | null;
}

const recorded = channel('close-notify.recorded');

/** Entries of one connection, half of its beginning, half of its end. */
const ENTRIES = 64;
/** Files of one process. */
const FILES = 100;

let written = 0;

/** A transcript that counts only where bytes may be missing. */
export class TruncationTranscript extends Transcript {
  constructor(names: { readonly local?: string | undefined; readonly peer?: string | undefined }) {
    super({ limit: ENTRIES, decode: false, ...names });
  }

  /** The connection is over. Keeps its record where bytes may be missing. */
  conclude(closure: Closure): void {
    this.stop();
    if (closure.incomplete !== true) return;
    const folder = recordFolder();
    let file: string | null = null;
    let failure: Error | null = null;
    if (folder !== null) {
      try {
        file = save(folder, this);
      } catch (error) {
        failure = error as Error;
        process.emitWarning(`CLOSE_NOTIFY_RECORD: ${failure.message}`, 'CloseNotifyWarning');
      }
    }
    if (recorded.hasSubscribers) {
      const message: RecordedMessage = { transcript: this, closure, file, error: failure };
      recorded.publish(message);
    }
  }
}

/** The folder that `CLOSE_NOTIFY_RECORD` names; null without. */
export function recordFolder(): string | null {
  return process.env['CLOSE_NOTIFY_RECORD'] || null;
}

function save(folder: string, transcript: Transcript): string {
  mkdirSync(folder, { recursive: true });
  const file = join(folder, `close-notify-${process.pid}-${written++ % FILES}.json`);
  // At once: a program that dies of a truncation is what this is for. Names of hosts are in it.
  writeFileSync(file, `${JSON.stringify(transcript)}\n`, { mode: 0o600 });
  return file;
}
