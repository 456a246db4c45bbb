/**
 * The lines of README.md for undici, with the undici and in the Node that this is started with. Prints what becomes of a
 * body that is cut, for each way to ask for it.
 */
import tls from 'node:tls';
import { strictConnector } from '../../../src/strict/undici.ts';
import { selfSigned } from '../../../src/testing/credentials.ts';

const undici = await import(process.argv[2]);
const { Agent, fetch: own, setGlobalDispatcher } = undici.default ?? undici;
const { key, cert, ca } = selfSigned();

const server = tls.createServer({ key, cert }, (socket) => {
  socket.on('error', () => {});
  socket.once('data', () => {
    // No length, and FIN without close_notify.
    socket.write('HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nhalf', () => socket.destroy());
  });
});
await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
const url = `https://localhost:${server.address().port}/`;

async function outcome(ask) {
  try {
    const response = await ask();
    return `whole: ${await response.text()}`;
  } catch (error) {
    return error.cause?.code ?? error.cause?.message ?? error.message;
  }
}

const outcomes = {};
outcomes.own = await outcome(() =>
  own(url, { dispatcher: new Agent({ connect: strictConnector({ ca }) }) }),
);
setGlobalDispatcher(new Agent({ connect: strictConnector({ ca }) }));
outcomes.ownByDefault = await outcome(() => own(url));
outcomes.ofNode = await outcome(() => fetch(url));
process.stdout.write(JSON.stringify(outcomes), () => process.exit());
