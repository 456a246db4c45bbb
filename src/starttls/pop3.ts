/** POP3: STLS, RFC 2595 section 4. */
import type { Dialogue } from './dialogue.ts';

/** Greeting, STLS, and the server's +OK. */
export async function pop3(dialogue: Dialogue): Promise<void> {
  await readStatus(dialogue, 'POP3 greeting', 'the connection');
  dialogue.write('STLS\r\n');
  await readStatus(dialogue, 'answer to STLS', 'STLS');
}

/** "There are currently two status indicators: positive ("+OK") and negative ("-ERR")", RFC 1939. */
async function readStatus(dialogue: Dialogue, what: string, command: string): Promise<void> {
  const line = await dialogue.line(what);
  if (/^\+OK( |$)/.test(line)) return;
  throw /^-ERR( |$)/.test(line) ? dialogue.refused(command, line) : dialogue.unexpected(what, line);
}
