/** FTP: AUTH TLS, RFC 4217. */
import type { Dialogue } from './dialogue.ts';
import { type Reply, readReply } from './reply.ts';

/** Greeting, AUTH TLS, and the server's 234. */
export async function ftp(dialogue: Dialogue): Promise<void> {
  let greeting: Reply;
  do {
    // "120 Service ready in nnn minutes" comes ahead of 220 (RFC 959 section 5.4).
    greeting = await readReply(dialogue, 'FTP greeting', 'free');
  } while (greeting.code === 120);
  if (greeting.code !== 220) throw dialogue.refused('the connection', greeting.said);

  dialogue.write('AUTH TLS\r\n');
  const answer = await readReply(dialogue, 'answer to AUTH TLS', 'free');
  if (answer.code !== 234) throw dialogue.refused('AUTH TLS', answer.said);
}
