/** What `close-notify issuers` is asked, and what it answers. */
import type { FindResult } from '../client-cert/finder.ts';
import type { Match } from '../client-cert/match.ts';
import type { ClosureReport, ErrorReport, TargetReport } from './report.ts';
import type { TargetOptions } from './targets.ts';

/** Options as commander hands them over. */
export interface IssuersOptions extends TargetOptions {
  readonly json?: boolean;
  readonly identity?: readonly string[];
  readonly passFile?: string;
  readonly http?: string;
}

/** One identity, judged. */
export interface MatchReport {
  /** The file that it came from. */
  readonly source: string;
  /** Its subject, by RFC 4514. */
  readonly subject: string;
  readonly usable: boolean;
  readonly reasons: Match['reasons'];
}

/** What `--json` prints, for each target. What is not known is null; `request` is null where all failed before it. */
export interface IssuersReport
  extends Pick<
    FindResult,
    | 'when'
    | 'signatureAlgorithms'
    | 'certificateTypes'
    | 'oidFilters'
    | 'tls'
    | 'authorized'
    | 'authorizationError'
    | 'limitation'
  > {
  readonly target: TargetReport;
  readonly request: FindResult['request'] | null;
  /** Empty with a request: it names nobody. `der` is in hexadecimal. */
  readonly issuers: ReadonlyArray<{ readonly name: string; readonly der: string }>;
  readonly closure: ClosureReport | null;
  /** Empty where nothing is known of the server. */
  readonly matches: readonly MatchReport[];
  readonly error: ErrorReport | null;
}
