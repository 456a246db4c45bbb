// @ts-check
// A response that was cut on its way, before and after: by Node as it is, by an agent, by register.
//
//   NODE_EXTRA_CA_CERTS=CA.pem node examples/truncated-response.mjs KEY.pem CERT.pem
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import https from 'node:https';
import net from 'node:net';
import tls from 'node:tls';
import { StrictAgent } from 'close-notify/https';

const [keyFile = '', certFile = ''] = process.argv.slice(2);
const key = readFileSync(keyFile);
const cert = readFileSync(certFile);

// The server would go on, but somebody on the path ends the transport: FIN, and no close_notify.
const server = net.createServer((transport) => {
  const socket = new tls.TLSSocket(transport, { isServer: true, key, cert });
  socket.on('error', () => {});
  socket.once('data', () => {
    // Neither a length nor chunks: this body ends with the connection (RFC 9112 section 9.8).
    const head = 'HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n';
    socket.write(`${head}Pay $100 to Alice, not `, () => transport.end());
  });
});
server.listen(0, '127.0.0.1');
await once(server, 'listening');
const { port } = /** @type {net.AddressInfo} */ (server.address());
const url = `https://localhost:${port}/`;

/** @param {https.RequestOptions} options @returns {Promise<string>} */
const get = (options) =>
  new Promise((resolve, reject) => {
    https
      .get(url, options, (response) => {
        let body = '';
        response.setEncoding('utf8');
        response.on('data', (text) => {
          body += text;
        });
        response.on('end', () => resolve(body));
        response.on('error', reject);
      })
      .on('error', reject);
  });

/** @param {string} who @param {() => Promise<string>} read */
async function show(who, read) {
  try {
    console.log(`${who}: '${await read()}', and no error`);
  } catch (error) {
    // fetch says 'terminated', and why in the cause.
    const { code, message } = /** @type {any} */ (error).cause ?? error;
    console.log(`${who}: ${code}: ${message}`);
  }
}

const fetched = async () => (await fetch(url)).text();

await show('https', () => get({}));
await show('https with StrictAgent', () => get({ agent: new StrictAgent() }));
await show('fetch', fetched);
await import('close-notify/register'); // or: node --import close-notify/register
await show('fetch after register', fetched);

server.close();
