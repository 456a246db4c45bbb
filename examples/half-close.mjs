// @ts-check
// Send a request, say that there is no more of it, and read the answer: half-close, as TLS 1.3 has
// it. "wait: false" sends close_notify and goes on reading.
//
//   node examples/half-close.mjs HOST PORT CA.pem WORDS...
import { readFileSync } from 'node:fs';
import { connect } from 'close-notify';

const [host = 'localhost', port = '443', caFile = '', ...words] = process.argv.slice(2);

const stream = await connect({
  host,
  port: Number(port),
  ca: readFileSync(caFile),
  minVersion: 'TLSv1.3',
});
try {
  await stream.write(words.join(' '));
  const half = await stream.shutdown({ wait: false });
  console.log(`after our close_notify: ${half.verdict}`);
  for await (const bytes of stream) console.log(`answer: ${Buffer.from(bytes)}`);
  console.log(`after the peer's: ${stream.closure.verdict}`);
} finally {
  await stream.close();
}
