/** SMTP: STARTTLS, RFC 3207. */
import type { Dialogue } from './dialogue.ts';
import { readReply } from './reply.ts';

/** Greeting, EHLO, STARTTLS, and the server's 220. */
export async function smtp(dialogue: Dialogue): Promise<void> {
  const greeting = await readReply(dialogue, 'SMTP greeting', 'coded');
  if (greeting.code !== 220) throw dialogue.refused('the connection', greeting.said);

  // A client that has no name gives its address (RFC 5321 section 4.1.4); we look for no name.
  dialogue.write(`EHLO ${dialogue.localAddressLiteral ?? 'localhost'}\r\n`);
  const hello = await readReply(dialogue, 'answer to EHLO', 'coded');
  if (hello.code !== 250) throw dialogue.refused('EHLO', hello.said);
  // The first line is the server's name and words of welcome.
  const keywords = hello.lines.slice(1).map((line) => line.split(' ')[0]?.toUpperCase() ?? '');
  if (!keywords.includes('STARTTLS')) throw dialogue.notOffered(keywords.join(' '));

  dialogue.write('STARTTLS\r\n');
  // "220 Ready to start TLS", 501 syntax error, 454 "TLS not available due to temporary reason".
  const answer = await readReply(dialogue, 'answer to STARTTLS', 'coded');
  if (answer.code !== 220) throw dialogue.refused('STARTTLS', answer.said);
}
