/**
 * Looks at each undocumented member of Node and undici that the drop-ins rest on, at the moments at which they do. It
 * uses Node's own sockets, and nothing of what it tests but a certificate.
 *
 * Arguments: 'node', or the file of an undici, or 'fetch' for Node's own. It prints a JSON list of members that are not
 * as they have to be.
 */
import { executionAsyncResource } from 'node:async_hooks';
import { once } from 'node:events';
import http2 from 'node:http2';
import https from 'node:https';
import { createRequire, syncBuiltinESMExports } from 'node:module';
import net from 'node:net';
import { Duplex } from 'node:stream';
import tls from 'node:tls';
import { selfSigned } from 'close-notify/testing';

const identity = selfSigned();
const missing = [];
let looked = 0;

/** @param member as it is written in the sources. */
function look(member, when, holds) {
  looked++;
  let fine = false;
  try {
    fine = holds();
  } catch {
    // A member of nothing: it is missing.
  }
  if (fine !== true) missing.push(`${member} (${when})`);
}

const bySymbol = (holder, description) => {
  const symbol = Object.getOwnPropertySymbols(holder).find(
    (one) => one.description === description,
  );
  return symbol === undefined ? undefined : holder[symbol];
};

/** A server that says what `say` says to each request. @returns its port. */
async function serve(say) {
  const server = tls.createServer({ ...identity, ALPNProtocols: ['http/1.1'] }, (socket) => {
    socket.on('error', () => {});
    socket.on('data', () => say(socket));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return server.address().port;
}

const HEAD = 'HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n';
const plain = { host: '127.0.0.1', rejectUnauthorized: false };

// ---- http-messages.ts: Node's HTTP/1

async function httpClient() {
  let peer;
  const port = await serve((socket) => {
    peer = socket;
  });
  const agent = new https.Agent({ keepAlive: true });
  const create = agent.createConnection;
  let socket;
  let options;
  agent.createConnection = function (...args) {
    options = args[0];
    socket = create.apply(this, args);
    return socket;
  };
  const request = https.get({ ...plain, port, agent });
  await once(request, 'finish');
  while (peer === undefined) await new Promise((resolve) => setImmediate(resolve));
  const asked = 'https, behind the request';
  look('socket._httpMessage', asked, () => socket._httpMessage === request);
  look("'res' in socket._httpMessage", asked, () => 'res' in socket._httpMessage && !request.res);
  look('options._agentKey', asked, () => typeof options._agentKey === 'string');
  peer.write(`${HEAD}hello`);
  const [response] = await once(request, 'response');
  await once(response, 'data');
  const within = 'https, within a response';
  look('socket.parser', within, () => typeof socket.parser === 'object' && socket.parser !== null);
  look('socket.parser.incoming', within, () => socket.parser.incoming === response);
  look('socket._httpMessage.res', within, () => socket._httpMessage.res === response);
  look('response.complete', within, () => response.complete === false);
  let told = 0;
  Object.defineProperty(response, 'complete', {
    configurable: true,
    get: () => false,
    set: () => {
      told++;
    },
  });
  peer.write('world');
  await once(response, 'end');
  await new Promise((resolve) => setImmediate(resolve));
  look('response.complete, set by the parser', 'https, behind a response', () => told === 1);
  const idle = 'https, an idle connection';
  look('socket._httpMessage === null', idle, () => socket._httpMessage === null);
  look("socket.listenerCount('agentRemove')", idle, () => {
    return socket.listenerCount('agentRemove') > 0;
  });
  agent.destroy();
}

async function httpServer() {
  const server = https.createServer(identity);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  look("the listener 'tlsConnectionListener'", 'https.Server', () =>
    server.listeners('connection').some(({ name }) => name === 'tlsConnectionListener'),
  );
  const client = tls.connect({ ...plain, port: server.address().port });
  client.write('POST / HTTP/1.1\r\nhost: here\r\ncontent-length: 10\r\n\r\nhello');
  const [request, response] = await once(server, 'request');
  await once(request, 'data');
  const within = 'https.Server, within a request';
  const { socket } = request;
  look('socket.parser.incoming', within, () => socket.parser.incoming === request);
  look('request.complete', within, () => request.complete === false);
  look('socket._httpMessage', within, () => socket._httpMessage === response);
  look("no 'res' in socket._httpMessage", within, () => !('res' in socket._httpMessage));
  client.write('world');
  await once(request, 'end');
  look('request.complete', 'https.Server, behind a request', () => request.complete === true);
  client.destroy();
}

// ---- http-messages.ts: Node's HTTP/2

function sessionOf(socket) {
  return bySymbol(socket, 'kBoundSession') ?? socket.undefined;
}

function lookAtSession(side, socket, stream) {
  const within = `http2 ${side}, within a message`;
  look("socket[kBoundSession], or socket['undefined']", within, () => {
    const session = sessionOf(socket);
    return session === stream.session;
  });
  const state = () => bySymbol(sessionOf(socket), 'state');
  look('session[state].streams', within, () => {
    const { streams } = state();
    let has = false;
    streams.forEach((one) => {
      has ||= one === stream;
    });
    return has && streams.size === 1;
  });
  look('session[state].pendingStreams', within, () => {
    const { pendingStreams } = state();
    return pendingStreams.size === 0 && typeof pendingStreams.forEach === 'function';
  });
  look('stream._readableState.ended', within, () => stream._readableState.ended === false);
}

async function http2Both() {
  const server = http2.createSecureServer(identity);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const accepted = once(server, 'secureConnection');
  const port = server.address().port;
  const socket = tls.connect({ ...plain, port, ALPNProtocols: ['h2'] });
  const session = http2.connect('https://localhost', { createConnection: () => socket });
  const stream = session.request({ ':method': 'POST', ':path': '/' });
  stream.write('hello');
  const [serving] = await once(server, 'stream');
  await once(serving, 'data');
  serving.respond({ ':status': 200 });
  serving.write('hello');
  await once(stream, 'data');
  const [far] = await accepted;
  lookAtSession('client', socket, stream);
  lookAtSession('server', far, serving);
  serving.end();
  stream.resume();
  stream.end();
  await once(stream, 'end');
  look('stream._readableState.ended', 'http2, behind END_STREAM', () => {
    return stream._readableState.ended === true;
  });
  look('handle[owner_symbol]', 'http2', () => {
    const handle = bySymbol(session, 'kHandle') ?? socket._handle;
    return bySymbol(handle, 'owner_symbol') !== undefined;
  });
  session.destroy();
  await new Promise((resolve) => setImmediate(resolve));
  look(
    "socket[kBoundSession], or socket['undefined'], stays",
    'http2, a session that is over',
    () => {
      const symbols = Object.getOwnPropertySymbols(socket);
      const has = symbols.some(({ description }) => description === 'kBoundSession');
      return has || Object.hasOwn(socket, 'undefined');
    },
  );
  look('it is let go', 'http2, a session that is over', () => sessionOf(socket) === undefined);
}

// ---- strict/: the socket itself

async function sockets() {
  let peer;
  const port = await serve((socket) => {
    peer = socket;
  });
  const socket = tls.connect({ ...plain, port });
  look('socket.secureConnecting', 'before the handshake', () => socket.secureConnecting === true);
  await once(socket, 'secureConnect');
  look('socket.secureConnecting', 'behind the handshake', () => socket.secureConnecting === false);
  for (const name of ['_write', '_writev', '_final', '_read']) {
    look(`socket.${name}`, 'tls.TLSSocket', () => typeof socket[name] === 'function');
  }
  look('socket._readableState.ended', 'before the end', () => !socket._readableState.ended);
  const ends = [];
  const { push } = socket;
  socket.push = (chunk, encoding) => {
    if (chunk === null) ends.push(chunk);
    return push.call(socket, chunk, encoding);
  };
  let finals = 0;
  const final = socket._final;
  socket._final = (done) => {
    finals++;
    final.call(socket, done);
  };
  socket.resume();
  socket.write('x');
  while (peer === undefined) await new Promise((resolve) => setImmediate(resolve));
  peer.end();
  await once(socket, 'close');
  look('socket.push(null), by which Node ends it', 'tls.TLSSocket', () => ends.length === 1);
  look('socket._final, by which Node shuts it down', 'tls.TLSSocket', () => finals === 1);
  look('socket._readableState.ended', 'behind the end', () => socket._readableState.ended);
  socket.address();
  look('socket._sockname', 'net.Socket', () => '_sockname' in socket);
  const named = net.connect({ host: 'localhost', port });
  named.on('error', () => {});
  await once(named, 'lookup');
  look('socket._host', 'net.Socket, behind the lookup', () => named._host === 'localhost');
  named.destroy();
  look('server[enableTrace]', 'tls.Server', () => {
    const server = tls.createServer({ ...identity, enableTrace: true });
    return bySymbol(server, 'enableTrace') === true;
  });
  look('process._tickCallback', 'Node', () => typeof process._tickCallback === 'function');
  look('executionAsyncResource()', 'Node', () => typeof executionAsyncResource() === 'object');
  const over = new tls.TLSSocket(new Duplex({ read() {}, write() {} }));
  const parent = () => over._handle._parent;
  look(
    'socket._handle._parent',
    'TLS over a Duplex',
    () => parent().constructor.name === 'JSStream',
  );
  for (const name of ['readBuffer', 'emitEOF', 'finishWrite', 'finishShutdown']) {
    look(
      `JSStream.prototype.${name}`,
      'TLS over a Duplex',
      () => typeof parent()[name] === 'function',
    );
  }
  over.destroy();
}

// ---- http-messages.ts: undici

async function undici(file) {
  let socket;
  const { connect } = tls;
  // As `register` does.
  tls.connect = (...args) => {
    socket = Reflect.apply(connect, tls, args);
    return socket;
  };
  syncBuiltinESMExports();
  let peer;
  let serving = 0;
  const port = await serve((one) => {
    peer = one;
    serving++;
  });
  const url = `https://127.0.0.1:${port}/`;
  const asking =
    file === 'fetch'
      ? fetch(url)
      : (() => {
          const { Agent, request } = createRequire(import.meta.url)(file);
          return request(url, { dispatcher: new Agent({ connect: plain }) });
        })();
  while (serving === 0) await new Promise((resolve) => setImmediate(resolve));
  const name = file === 'fetch' ? `Node's own undici ${process.versions.undici}` : 'undici';
  look('tls.connect, looked up at each call', name, () => socket instanceof tls.TLSSocket);
  const parser = () => bySymbol(socket, 'parser');
  look('socket[parser]', `${name}, behind the request`, () => typeof parser() === 'object');
  look("'statusCode' in socket[parser]", `${name}, behind the request`, () => {
    return 'statusCode' in parser() && !parser().statusCode;
  });
  look("'shouldKeepAlive' in socket[parser]", `${name}, behind the request`, () => {
    return 'shouldKeepAlive' in parser();
  });
  peer.write(`${HEAD}hello`);
  const response = await asking;
  look(
    'socket[parser].statusCode',
    `${name}, within a response`,
    () => parser().statusCode === 200,
  );
  const { client } = parser();
  look('socket[parser].client[queue]', `${name}, within a response`, () => {
    return Array.isArray(bySymbol(client, 'queue'));
  });
  look('socket[parser].client[running index]', `${name}, within a response`, () => {
    return typeof bySymbol(client, 'running index') === 'number';
  });
  const handler = () =>
    bySymbol(bySymbol(client, 'queue')[bySymbol(client, 'running index')], 'handler');
  const member = file === 'fetch' ? 'body' : 'res';
  look(`request[handler].${member}`, `${name}, within a response`, () => {
    return handler()[member].readableLength === 5 && (member === 'res' || !('res' in handler()));
  });
  look('request[handler].onError, or onResponseError', `${name}, within a response`, () => {
    return typeof (handler().onError ?? handler().onResponseError) === 'function';
  });
  peer.write('world');
  const text = file === 'fetch' ? await response.text() : await response.body.text();
  await new Promise((resolve) => setImmediate(resolve));
  look('socket[parser].statusCode', `${name}, an idle connection`, () => {
    return text === 'helloworld' && !parser().statusCode;
  });
}

process.env.NODE_TLS_REJECT_UNAUTHORIZED = '0';
const [, , what] = process.argv;
if (what === 'node') {
  for (const check of [httpClient, httpServer, http2Both, sockets]) await check();
} else {
  await undici(what);
}
process.stdout.write(JSON.stringify({ looked, missing }), () => process.exit(0));
