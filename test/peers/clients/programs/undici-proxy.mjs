import { once } from 'node:events';
import http from 'node:http';
import net from 'node:net';
import { Agent, ProxyAgent } from 'undici';
import { client as one } from './undici.mjs';

/** An HTTP proxy that does nothing but tunnel. */
const proxy = http.createServer().on('connect', (request, socket) => {
  const { hostname, port } = new URL(`http://${request.url}`);
  const upstream = net.connect(Number(port), hostname, () => {
    socket.write('HTTP/1.1 200 OK\r\n\r\n');
    upstream.pipe(socket).pipe(upstream);
  });
  upstream.on('error', () => socket.destroy());
  socket.on('error', () => upstream.destroy());
});
proxy.listen(0, '127.0.0.1').unref();
await once(proxy, 'listening');
const uri = `http://127.0.0.1:${proxy.address().port}`;

export const client = (connector) =>
  one(connector === undefined ? new ProxyAgent(uri) : new Agent({ connect: connector(uri) }));

export const exchange = client();
