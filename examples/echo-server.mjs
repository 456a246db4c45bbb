// @ts-check
// Echo everything back, and say how each connection ended.
//
//   node examples/echo-server.mjs KEY.pem CERT.pem [PORT]
import { readFileSync } from 'node:fs';
import { createServer } from 'close-notify';

const [keyFile, certFile, port = '0'] = process.argv.slice(2);
if (keyFile === undefined || certFile === undefined) {
  console.error('usage: node echo-server.mjs KEY.pem CERT.pem [PORT]');
  process.exit(2);
}

const server = createServer(
  {
    key: readFileSync(keyFile),
    cert: readFileSync(certFile),
    onError: (error) => console.log(`failed: ${error.message}`),
  },
  async (stream) => {
    // Ends only on the client's close_notify, and throws when the client was cut off.
    for await (const bytes of stream) await stream.write(bytes);
    const closure = await stream.close();
    console.log(`ended: ${closure.verdict}`);
  },
);
const address = await server.listen(Number(port), '127.0.0.1');
console.log(`listening on ${address.port}`);
// Connections may come to their end by themselves; after five seconds they are aborted.
process.once('SIGTERM', () => server.close({ deadline: 5_000 }));
