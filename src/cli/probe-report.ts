/** What `close-notify probe` is asked, and what it answers. */
import type { TlsInfo } from '../engine/contract.ts';
import type { OpeningPhase } from './connection.ts';
import type { DiagramOptions } from './diagram.ts';
import type { ClosureReport, ErrorReport, TargetReport } from './report.ts';
import type { TargetOptions } from './targets.ts';

/** Options as commander hands them over. */
export interface ProbeOptions extends TargetOptions, DiagramOptions {
  readonly json?: boolean;
  /** The file that the transcript goes to. */
  readonly transcript?: string;
  /** The file that a capture goes to. */
  readonly pcapng?: string;
  /** False for `--no-wait`. */
  readonly wait: boolean;
  readonly cert?: string;
  readonly key?: string;
  /** The file whose first line is the passphrase of the key. */
  readonly passFile?: string;
}

/** A step of the probe, and how long it took in milliseconds. */
export interface ProbePhase {
  readonly name: PhaseName;
  readonly ms: number;
}

/** The steps of the probe, in order. */
export type PhaseName = OpeningPhase | 'handshake' | 'shutdown' | 'close';

/** The server's certificate. Dates are in ISO 8601. */
export interface ProbeCertificate {
  readonly subject: string;
  readonly issuer: string;
  readonly validFrom: string;
  readonly validTo: string;
  readonly fingerprint256: string;
  /** As `DNS:example.org, IP Address:192.0.2.1`; null without that extension. */
  readonly subjectAltName: string | null;
}

/** What `--json` prints, for each target. What is not known is null. */
export interface ProbeReport {
  readonly target: TargetReport;
  readonly phases: readonly ProbePhase[];
  readonly tls: Pick<
    TlsInfo,
    'protocol' | 'cipher' | 'alpn' | 'authorized' | 'authorizationError'
  > | null;
  readonly certificate: ProbeCertificate | null;
  /** Whose client certificates the server accepts; null where it was not seen to ask for one. */
  readonly issuers: ReadonlyArray<{ readonly name: string; readonly der: string }> | null;
  readonly closure: ClosureReport | null;
  readonly error: ErrorReport | null;
}
