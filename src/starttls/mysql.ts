/** MySQL and MariaDB: the first two messages of the connection phase, protocol version 10. */
import type { Dialogue } from './dialogue.ts';

const CLIENT_LONG_PASSWORD = 0x1;
const CLIENT_PROTOCOL_41 = 0x200;
const CLIENT_SSL = 0x800;
const CLIENT_SECURE_CONNECTION = 0x8000;
const UTF8_GENERAL_CI = 33;
const GREETING = 'MySQL handshake';

/**
 * The server's handshake, and SSLRequest: a login message cut off before the user's name. There is no
 * answer to it; the server's offer was its go-ahead, and it waits for TLS now.
 */
export async function mysql(dialogue: Dialogue): Promise<void> {
  const capabilities = await readCapabilities(dialogue);
  if ((capabilities & CLIENT_SSL) === 0) throw dialogue.notOffered('plaintext');

  const request = Buffer.alloc(4 + 32);
  request.writeUIntLE(32, 0, 3);
  request[3] = 1; // the second message of the conversation
  const wanted = CLIENT_LONG_PASSWORD | CLIENT_PROTOCOL_41 | CLIENT_SSL | CLIENT_SECURE_CONNECTION;
  request.writeUInt32LE(wanted, 4);
  request.writeUInt32LE(2 ** 24, 8); // the longest message we take
  request[12] = UTF8_GENERAL_CI;
  dialogue.write(request);
}

/** Reads the server's handshake. Of its capabilities the low half is enough: CLIENT_SSL is in it. */
async function readCapabilities(dialogue: Dialogue): Promise<number> {
  const header = await dialogue.bytes(4, GREETING);
  const length = header.readUIntLE(0, 3);
  // The first message has number 0. What has another is none, and its length is no length.
  if (header[3] !== 0 || length === 0) throw dialogue.unexpected(GREETING, header);
  const body = await dialogue.bytes(length, GREETING);
  if (body[0] === 0xff) {
    // An error: its number, a state such as '#08004' or none yet, and words.
    const words = body.subarray(3).toString();
    throw dialogue.refused('the connection', words.replace(/^#.{5}/, ''));
  }
  // Version, the server's name up to a NUL, thread (4), scramble (8), filler (1), capabilities (2).
  const name = body.indexOf(0);
  const at = name + 1 + 4 + 8 + 1;
  if (body[0] !== 10 || name < 0 || at + 2 > body.length) {
    throw dialogue.unexpected(`${GREETING} of version 10`, body);
  }
  return body.readUInt16LE(at);
}
