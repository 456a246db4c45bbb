// @ts-check
// Use TLS for a part of a connection, then take the transport back for plaintext.
//
//   node examples/back-to-plaintext.mjs KEY.pem CERT.pem [CA.pem]
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import net from 'node:net';
import { accept, connect } from 'close-notify';

const [keyFile = '', certFile = '', caFile = certFile] = process.argv.slice(2);
const key = readFileSync(keyFile);
const cert = readFileSync(certFile);

const listener = net.createServer({ allowHalfOpen: true }).listen(0, '127.0.0.1');
await once(listener, 'listening');
const { port } = /** @type {net.AddressInfo} */ (listener.address());
const accepted = once(listener, 'connection');
const client = net.connect(port, '127.0.0.1');
const [server] = /** @type {[net.Socket]} */ (await accepted);

// TLS over the connection that exists already.
const [inside, answering] = await Promise.all([
  connect({ transport: client, host: 'localhost', ca: readFileSync(caFile) }),
  accept(server, { key, cert }),
]);
await inside.write('a secret');
console.log(`server, in TLS: ${Buffer.from((await answering.read()) ?? [])}`);

// Both close_notify, then the transports come back, with what had come behind close_notify.
await Promise.all([inside.shutdown(), answering.shutdown()]);
const ours = await inside.unwrap();
const theirs = await answering.unwrap();

ours.transport.end('and now for everyone');
const plain = [theirs.trailing];
for await (const bytes of theirs.transport) plain.push(bytes);
console.log(`server, in plaintext: ${Buffer.concat(plain)}`);
theirs.transport.end();
listener.close();
