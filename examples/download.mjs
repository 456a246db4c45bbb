// @ts-check
// A download that gets its final name only when all of it came.
//
//   node examples/download.mjs URL FILE [CA.pem]
import { createWriteStream, readFileSync } from 'node:fs';
import { rename, rm } from 'node:fs/promises';
import https from 'node:https';
import { pipeline } from 'node:stream/promises';
import { StrictAgent } from 'close-notify/https';

const [url = '', file = '', caFile] = process.argv.slice(2);

const agent = new StrictAgent(caFile === undefined ? {} : { ca: readFileSync(caFile) });
const part = `${file}.part`;
try {
  /** @type {import('node:http').IncomingMessage} */
  const response = await new Promise((resolve, reject) => {
    // The listener stays: a reset is told to the request as well.
    https.get(url, { agent }, resolve).on('error', reject);
  });
  if (response.statusCode !== 200) throw new Error(`status ${response.statusCode}`);
  // Fails where the body is cut: it ends well only with its length, its last chunk or close_notify.
  await pipeline(response, createWriteStream(part));
  await rename(part, file);
  console.log(`${file} is whole`);
} catch (error) {
  await rm(part, { force: true });
  const { code, message } = /** @type {NodeJS.ErrnoException} */ (error);
  console.log(`no ${file}: ${code ?? 'error'}: ${message}`);
  process.exitCode = 1;
}
