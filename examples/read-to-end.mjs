// @ts-check
// Read a response that runs to the end of the connection, and know whether all of it came.
//
//   node examples/read-to-end.mjs HOST PORT [CA.pem]
import { readFileSync } from 'node:fs';
import { CloseNotifyError, connect } from 'close-notify';

const [host = 'localhost', port = '443', caFile] = process.argv.slice(2);

const stream = await connect({
  host,
  port: Number(port),
  ...(caFile === undefined ? {} : { ca: readFileSync(caFile) }),
});
try {
  await stream.write(`GET / HTTP/1.0\r\nHost: ${host}\r\n\r\n`);
  for await (const bytes of stream) process.stdout.write(bytes);
  const closure = await stream.close();
  console.log(`\n-- whole (${closure.verdict})`);
} catch (error) {
  if (!(error instanceof CloseNotifyError)) throw error;
  console.log(`\n-- not to be trusted: ${error.code}: ${error.message}`);
  process.exitCode = 1;
} finally {
  await stream.close();
}
