/** Replies with a three-digit code, as SMTP and FTP have them. */
import type { Dialogue } from './dialogue.ts';

/** A reply: its code, and its lines without codes. */
export interface Reply {
  readonly code: number;
  readonly lines: readonly string[];
  /** The last line as it came, to be quoted. */
  readonly said: string;
}

/**
 * Reads a reply of one line or more: all but the last have a hyphen behind the code.
 *
 * In SMTP every line has the code (RFC 5321 section 4.2.1); in FTP the lines between may be anything,
 * and the last one "will begin with the same code, followed immediately by Space" (RFC 959 section 4.2).
 */
export async function readReply(
  dialogue: Dialogue,
  what: string,
  between: 'coded' | 'free',
): Promise<Reply> {
  const lines: string[] = [];
  let code: string | undefined;
  for (;;) {
    const line = await dialogue.line(what);
    const [, digits, separator] = /^([1-5]\d\d)([ -]|$)/.exec(line) ?? [];
    const own = digits !== undefined && (code === undefined || digits === code);
    if (!own && (code === undefined || between === 'coded')) throw dialogue.unexpected(what, line);
    code ??= digits;
    lines.push(own ? line.slice(4) : line);
    if (own && separator !== '-') return { code: Number(code), lines, said: line };
  }
}
