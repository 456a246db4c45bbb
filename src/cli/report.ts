/** What the commands' `--json` have in common. What is not known is null. */
import net from 'node:net';
import { type AsioErrorCode, toAsioErrorCode } from '../closure/asio.ts';
import type { Closure } from '../closure/verdict.ts';
import type { CloseNotifyError } from '../errors.ts';
import type { Target } from './target.ts';
import type { Terminal } from './terminal.ts';

/** Where it was connected to. */
export interface TargetReport {
  readonly host: string;
  readonly port: number;
  readonly address: string | null;
}

/** How the connection ended. `sent` and `received` are milliseconds since the start. */
export type ClosureReport = Closure & { readonly asio: AsioErrorCode };

/** What went wrong. */
export interface ErrorReport {
  readonly code: string;
  readonly message: string;
  readonly phase: string | null;
}

/** @param address the transport's; @param addresses what the name resolved to. */
export function reportTarget(
  { host, port }: Target,
  address: string | null,
  addresses: readonly string[],
): TargetReport {
  const only = addresses.length === 1 ? (addresses[0] ?? null) : null;
  return { host, port, address: address ?? (net.isIP(host) ? host : only) };
}

/** @param offset milliseconds from the start to where the connection's own clock begins. */
export function reportClosure(closure: Closure, offset: number): ClosureReport {
  const since = (crossed: Closure['sent']) =>
    crossed === null ? null : { ...crossed, at: microseconds(crossed.at + offset) };
  const { sent, received } = closure;
  const rounded = { ...closure, sent: since(sent), received: since(received) } as Closure;
  return { ...rounded, asio: toAsioErrorCode(closure) };
}

/** The error, with its hint. */
export function reportError({ code, message, hint, phase }: CloseNotifyError): ErrorReport {
  return {
    code,
    message: hint === null ? message : `${message} (${hint})`,
    // The commands do little with an open stream but to shut it down.
    phase: phase === 'open' ? 'shutdown' : phase,
  };
}

/** Milliseconds, with no more digits than mean something. */
export const microseconds = (ms: number): number => Math.round(ms * 1000) / 1000;

/** Prints one object, for programs and people. */
export function writeJson(terminal: Terminal, report: unknown): void {
  terminal.write(`${harmlessJson(report, 2)}\n`);
}

/** Prints one object of several, each on a line. */
export function writeJsonLine(terminal: Terminal, report: unknown): void {
  terminal.write(`${harmlessJson(report)}\n`);
}

/** A terminal that shows it is safe from what a server wrote into its names. */
function harmlessJson(report: unknown, indent?: number): string {
  return JSON.stringify(report, null, indent).replace(
    /[\p{Cf}\u007f-\u009f\u2028\u2029]/gu,
    (character) =>
      Array.from(
        { length: character.length },
        (_, i) => `\\u${character.charCodeAt(i).toString(16).padStart(4, '0')}`,
      ).join(''),
  );
}
