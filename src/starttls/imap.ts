/** IMAP: STARTTLS, RFC 9051 section 6.2.1. */
import type { Dialogue } from './dialogue.ts';

const TAG = 'a1';

/** Greeting, STARTTLS, and the server's tagged OK. */
export async function imap(dialogue: Dialogue): Promise<void> {
  const greeting = await dialogue.line('IMAP greeting');
  if (/^\* (BYE|PREAUTH)\b/i.test(greeting)) {
    // STARTTLS is for the not authenticated state. A PREAUTH that the server did not mean is an old
    // way to keep a client from TLS.
    throw dialogue.refused('the connection', greeting);
  }
  if (!/^\* OK( |$)/i.test(greeting)) throw dialogue.unexpected('IMAP greeting', greeting);
  // "A client MUST be prepared to accept any server response at all times" (section 2.2.2): what has
  // come unasked must be untagged.
  while (dialogue.hasMore) await readUntagged(dialogue, 'IMAP response');

  dialogue.write(`${TAG} STARTTLS\r\n`);
  let answer: string | null;
  do {
    answer = await readUntagged(dialogue, 'answer to STARTTLS', TAG);
  } while (answer === null);
  if (!/^OK( |$)/i.test(answer)) throw dialogue.refused('STARTTLS', `${TAG} ${answer}`);
}

/** @returns null for an untagged response, or what follows the tag, where one is awaited. */
async function readUntagged(
  dialogue: Dialogue,
  what: string,
  tag?: string,
): Promise<string | null> {
  const line = await dialogue.line(what);
  if (tag !== undefined && line.startsWith(`${tag} `)) return line.slice(tag.length + 1);
  if (/^\* BYE\b/i.test(line)) throw dialogue.refused('STARTTLS', line);
  if (!line.startsWith('* ')) throw dialogue.unexpected(what, line);
  return null;
}
