/** PostgreSQL: SSLRequest, "SSL Session Encryption" in its frontend/backend protocol. */
import { StartTlsError } from '../errors.ts';
import type { Dialogue } from './dialogue.ts';

/** Its length, 8, and the number that no protocol version has: 1234 and 5679. */
const SSL_REQUEST = Buffer.from([0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f]);

/** SSLRequest, and the server's one byte: S, N, or the E of an error. */
export async function postgres(dialogue: Dialogue): Promise<void> {
  const what = 'answer to SSLRequest';
  dialogue.write(SSL_REQUEST);
  const answer = await dialogue.bytes(1, what);
  switch (answer.toString('latin1')) {
    case 'S':
      // What would follow here is the buffer-stuffing attack of CVE-2021-23222: see `finish`.
      return;
    case 'N':
      throw dialogue.refused('SSLRequest', answer);
    case 'E':
      // The error's own words are not shown: they come from nobody in particular (CVE-2024-10977).
      throw new StartTlsError(`${dialogue.host} refused SSLRequest: it answered with an error`, {
        hint: 'the server may be too old for TLS or unable to start a session; its log says more',
      });
    default:
      throw dialogue.unexpected(what, answer);
  }
}
