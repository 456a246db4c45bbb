/** What this process can do, and why not more: `close-notify doctor`. */

import { addOn } from '../add-on.ts';
import type { Evidence } from '../closure/machine.ts';
import { EVIDENCE } from '../engine/tapped.ts';
import { IS_NODE, process } from '../runtime.ts';
import { EXIT } from './exit.ts';
import { writeJson } from './report.ts';
import { fold, type Terminal } from './terminal.ts';

/** What `doctor` prints with `--json`. */
export interface DoctorReport {
  /** The version of this library. */
  readonly closeNotify: string;
  readonly runtime: string;
  /** The version of its OpenSSL, or of what it has instead. */
  readonly openssl: string | null;
  readonly platform: string;
  /** The optional add-on. */
  readonly native: { readonly version: string | null; readonly reason: string | null };
  /** What drop-ins (`register`, `strictServer`, ...) rest on here; null where there are none. */
  readonly dropIns: 'openssl' | 'record' | null;
  /** What the closure of streams (`connect`, `accept`, `createServer`) rests on here. */
  readonly streams: Evidence;
}

/** Looks at this process. @param closeNotify the version of this library. */
export function examine(closeNotify: string): DoctorReport {
  const { native, reason } = addOn();
  const { versions } = process;
  const runtime = ['bun', 'deno', 'node'].find((name) => name in versions) ?? 'node';
  return {
    closeNotify,
    runtime: `${runtime} ${versions[runtime]}`,
    openssl: versions.openssl ?? null,
    platform: `${process.platform}-${process.arch}`,
    native: { version: native?.version ?? null, reason },
    dropIns: native !== null ? 'openssl' : IS_NODE ? 'record' : null,
    streams: native === null ? EVIDENCE : 'openssl',
  };
}

/** Says what drop-ins and streams rest on. @returns the exit code. */
export function doctor(
  { json = false }: { readonly json?: boolean },
  terminal: Terminal,
  closeNotify: string,
): number {
  const report = examine(closeNotify);
  if (json) {
    writeJson(terminal, report);
    return EXIT.ok;
  }
  const row = (label: string, text: string) => {
    const [first = '', ...more] = fold(text, terminal.width - LABEL, terminal);
    terminal.write(`${label.padEnd(LABEL)}${first}\n`);
    for (const line of more) terminal.write(`${' '.repeat(LABEL)}${line}\n`);
  };
  const { native, dropIns } = report;
  row('close-notify', closeNotify);
  row('runtime', `${report.runtime}, OpenSSL ${report.openssl ?? 'none'}, ${report.platform}`);
  row(
    'add-on',
    native.version === null
      ? `not loaded: ${native.reason}`
      : `close-notify-native ${native.version}`,
  );
  row('drop-ins', DROP_INS[dropIns ?? 'none']);
  row('streams', STREAMS[report.streams]);
  return EXIT.ok;
}

const STREAMS: Readonly<Record<Evidence, string>> = {
  openssl: "by OpenSSL's own word, on the native engine",
  record: 'by the alerts in the records, on node:tls: as strict, and slower',
  inferred:
    'inferred: this runtime gives no secrets to read alerts with; requireEvidence refuses that',
};

/** Columns of a label. */
const LABEL = 14;

const DROP_INS = {
  openssl: "by OpenSSL's own word: nothing is between a socket and the kernel",
  record: 'by the records, on a tap: as strict as with the add-on, and slower',
  none: 'none here: secureSocket, strictServer, StrictAgent, strictConnector and register are for Node',
} as const;
