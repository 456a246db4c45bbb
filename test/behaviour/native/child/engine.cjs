'use strict';
// What a rude user does to the native engine: a named fact for each case, and nothing left behind.

const assert = require('node:assert');
const { createPrivateKey } = require('node:crypto');
const { once } = require('node:events');
const fs = require('node:fs');
const { factsOf, main, turn, until } = require('./lib.cjs');
const { End, contextOf, engine, exchange, left, onSockets, pair } = require('./engine-lib.cjs');

const destroy = (...ends) => {
  for (const { connection, socket } of ends) {
    connection.destroy();
    socket?.destroy();
  }
};

/** A protocol list as on the wire. */
const alpn = (...names) =>
  Buffer.concat(names.map((name) => Buffer.from(`${String.fromCharCode(name.length)}${name}`)));

const cases = {
  async 'a conversation, fed'(version) {
    const [client, server] = pair({ version });
    client.write('to the server');
    server.write('to the client');
    exchange(client, server);
    client.closeWrite();
    server.closeWrite();
    exchange(client, server);
    const facts = [client.text, server.text, client.names.at(-1), server.names.at(-1)];
    destroy(client, server);
    return facts;
  },

  async 'a conversation, on descriptors'(version) {
    const [client, server] = await onSockets({ version });
    client.start();
    server.start();
    await until(() => client.has('secure') && server.has('secure'));
    client.write('x'.repeat(1 << 22));
    client.closeWrite();
    await until(() => server.has('alert'));
    server.closeWrite();
    await until(() => client.facts.some(([name, sent]) => name === 'alert' && sent === 0));
    destroy(client, server);
    return server.text.length;
  },

  /** Within each of its events, of both kinds. */
  async 'destroyed within its own event'(version) {
    let destroyed = 0;
    for (const event of ['secure', 'data', 'alert', 'eof']) {
      const [client, server] = await onSockets({ version });
      const kill = () => {
        server.connection.destroy();
        server.connection.destroy();
        destroyed++;
      };
      if (event === 'data') {
        server.onFlags = (flags) => {
          if (flags & 1) kill();
        };
      } else {
        server.onFact = (name) => name === event && kill();
      }
      client.start();
      server.start();
      await until(() => client.has('secure'));
      client.write('some');
      if (event === 'eof') client.socket.end();
      else client.closeWrite();
      await until(() => server.connection.isDestroyed());
      destroy(client, server);
    }
    return destroyed;
  },

  async 'an exception in the dispatch'() {
    const heard = [];
    const hear = (error) => heard.push(error.message);
    process.on('uncaughtException', hear);
    const [client, server] = await onSockets();
    server.onFact = (name) => {
      if (name === 'secure') throw new Error('of the program');
    };
    client.start();
    server.start();
    await until(() => client.has('secure') && heard.length > 0);
    client.write('goes on');
    await until(() => server.text === 'goes on');
    destroy(client, server);
    process.off('uncaughtException', hear);
    return heard;
  },

  async 'closed twice, destroyed twice, used behind it'() {
    const [client, server] = await onSockets();
    client.start();
    const { connection } = client;
    connection.close();
    connection.close();
    connection.setReading(true);
    connection.setReference(false);
    client.write('kept');
    destroy(client, client);
    const { length } = connection.output();
    assert.throws(() => connection.start(new Uint8Array(0)), { code: 'ERR_CLOSED' });
    assert.throws(() => connection.write(new Uint8Array(1), true), { code: 'ERR_CLOSED' });
    assert.throws(() => connection.info(), { code: 'ERR_CLOSED' });
    connection.break();
    connection.close();
    const facts = [length, connection.trailing(false), connection.taken(5), connection.discard()];
    destroy(server);
    return facts;
  },

  /** Handshakes that nobody goes on with, and connections that nobody closes. */
  async 'collected without a close'() {
    for (let made = 0; made < 20; made++) {
      pair({ begun: made % 2 === 0 });
      new End(false);
    }
    return left();
  },

  async 'within the function that chooses the protocol'(version) {
    const facts = [];
    const offers = {
      client: { alpn: alpn('one', 'two') },
      server: { alpnCallback: true },
      version,
    };
    const doings = {
      chooses: () => 4,
      refuses: () => undefined,
      'chooses what is none': () => 1,
      'chooses beyond the end': () => 1000,
      'chooses no number': () => Number.NaN,
      throws: () => {
        throw new Error('of the program');
      },
      destroys: (end) => {
        end.connection.destroy();
        assert.ok(end.connection.isDestroyed());
        return 0;
      },
      closes: (end) => {
        end.connection.close();
        return 0;
      },
      'goes on by itself': (end) => {
        const { connection } = end;
        const busy = { code: 'ERR_NATIVE' };
        for (const call of [
          () => connection.start(new Uint8Array(0)),
          () => connection.feed(new Uint8Array(5)),
          () => connection.proceed(true),
          () => connection.updateKeys(true),
          () => connection.open(0),
          () => connection.exportKeyingMaterial(8, new Uint8Array(1), undefined),
        ]) {
          assert.throws(call, busy);
        }
        connection.write(Buffer.from('early'), true);
        connection.flush();
        connection.closeWrite();
        connection.taken(1);
        connection.facts();
        connection.output();
        connection.info();
        connection.chain();
        return 0;
      },
      'has another conversation': () => {
        const others = pair({ version });
        others[0].write('other');
        exchange(...others);
        assert.equal(others[1].text, 'other');
        destroy(...others);
        return 0;
      },
      collects: () => {
        globalThis.gc();
        return 0;
      },
    };
    for (const [name, what] of Object.entries(doings)) {
      const [client, server] = pair({ ...offers, begun: false });
      server.connection.onAlpn = () => what(server);
      exchange(client, server);
      const outcome = server.connection.isDestroyed()
        ? 'destroyed'
        : server.has('secure')
          ? server.connection.info().alpn
          : (server.facts.find(([fact]) => fact === 'failed')?.[4].split('\n')[0] ?? 'neither');
      facts.push(`${name}: ${outcome}`);
      destroy(client, server);
    }
    return facts;
  },

  /** The fed memory is the caller's: it may be gone before OpenSSL has read on. */
  async 'what is fed is transferred within it'(version) {
    const [client, server] = pair({
      client: { alpn: alpn('one') },
      server: { alpnCallback: true },
      version,
      begun: false,
    });
    const rest = Buffer.from([22, 3, 3, 0, 4, 0, 0, 0, 0]);
    const fed = new Uint8Array(Buffer.concat([client.takeOutput(), Buffer.alloc(4000, rest)]));
    let transferred = false;
    server.connection.onAlpn = () => {
      structuredClone(fed.buffer, { transfer: [fed.buffer] });
      transferred = fed.length === 0;
      globalThis.gc();
      return 0;
    };
    server.told(server.connection.feed(fed));
    const failed = server.has('failed');
    destroy(client, server);
    return [transferred, failed];
  },

  /** Nobody can do this to the views that a stream gives, but by this one method. */
  async 'the memory of what was decrypted is transferred'() {
    const [client, server] = pair();
    const texts = [];
    for (const word of ['first', 'second', 'third']) {
      client.write(word);
      exchange(client, server);
      texts.push(server.plain.at(-1).toString());
      const { buffer } = engine.slab();
      structuredClone(buffer, { transfer: [buffer] });
      globalThis.gc();
    }
    destroy(client, server);
    return texts;
  },

  /** Node's tls would call what is theirs with an SSL of ours. */
  async 'a context of somebody else'() {
    const { createSecureContext, TLSSocket } = require('node:tls');
    const { Duplex } = require('node:stream');
    const sockets = [];
    const foreign = engine.foreignContext(() => {
      const duplex = new Duplex({ read() {}, write: (_chunk, _encoding, done) => done() });
      sockets.push(
        new TLSSocket(duplex, { isServer: true, secureContext: createSecureContext({}) }),
      );
    });
    for (const socket of sockets) socket.destroy();
    assert.throws(() => new engine.Connection(foreign, {}), TypeError);
    assert.equal(
      engine.ownContext(() => {}),
      null,
    );
    assert.equal(
      engine.ownContext(() => [createSecureContext(), createSecureContext()]),
      null,
    );
    assert.throws(
      () =>
        engine.ownContext(() => {
          throw new RangeError('of the program');
        }),
      RangeError,
    );
    assert.throws(() => engine.Connection(contextOf({}), {}), TypeError);
    return 'refused';
  },

  async 'options that OpenSSL refuses leave no error behind'() {
    const message = () => {
      try {
        return createPrivateKey('no key');
      } catch (error) {
        return `${error.code} ${error.message}`;
      }
    };
    const before = message();
    const context = contextOf({});
    const refused = [
      { servername: Buffer.alloc(300, 'x') },
      { alpn: Buffer.of(0) },
      { alpn: Buffer.from('\x05ab') },
    ];
    let thrown = 0;
    for (const options of refused) {
      try {
        new engine.Connection(context, options).destroy();
      } catch {
        thrown++;
      }
    }
    // What is no session is none.
    new engine.Connection(context, { session: Buffer.alloc(50, 1) }).destroy();
    return [thrown, message() === before];
  },

  async 'the descriptor is closed by somebody else'() {
    const facts = [];
    for (const whose of ['of the socket', 'of the engine']) {
      const [client, server] = await onSockets();
      client.start();
      server.start();
      await until(() => client.has('secure') && server.has('secure'));
      const { fd } = server.socket._handle;
      const link = fs.readlinkSync(`/proc/self/fd/${fd}`);
      const same = fs
        .readdirSync('/proc/self/fd')
        .filter((name) => Number(name) !== fd && isLink(name, link));
      assert.equal(same.length, 1);
      const closed = whose === 'of the socket' ? fd : Number(same[0]);
      fs.closeSync(closed);
      client.write('still');
      await until(() => server.text === 'still' || server.has('receive-error'));
      facts.push(`${whose}: ${server.text || server.facts.at(-1).slice(0, 2)}`);
      // Nobody else has got that number meanwhile, so that it can be closed again.
      fs.openSync('/dev/null');
      destroy(client, server);
      await turn();
    }
    return facts;
  },

  /** What a peer breaks while nobody reads what we send. */
  async 'a fatal alert while output is blocked'(version) {
    const [client, server] = await onSockets({ version });
    client.start();
    server.start();
    await until(() => client.has('secure') && server.has('secure'));
    client.connection.setReading(false);
    server.write(Buffer.alloc(1 << 24));
    // As text that is no record.
    client.connection.close();
    client.socket.write('GET / HTTP/1.1\r\n\r\n');
    await until(() => server.has('failed'));
    const waiting = engine.state[2] > 0;
    client.socket.resume();
    let came = 0;
    client.socket.on('data', ({ length }) => {
      came += length;
    });
    await until(() => server.facts.some(([name, sent]) => name === 'alert' && sent === 1));
    destroy(client, server);
    return [waiting, came > 0];
  },

  async 'reset at each point'(version) {
    const points = ['before it begins', 'within the handshake', 'behind it', 'with output'];
    const facts = [];
    for (const point of points) {
      const [client, server] = await onSockets({ version });
      if (point === 'within the handshake') client.start();
      else if (point !== 'before it begins') {
        client.start();
        server.start();
        await until(() => client.has('secure') && server.has('secure'));
      }
      if (point === 'with output') {
        client.connection.setReading(false);
        server.write(Buffer.alloc(1 << 24));
      }
      client.connection.close();
      client.socket.resetAndDestroy();
      await once(client.socket, 'close');
      if (point === 'before it begins' || point === 'within the handshake') server.start();
      await until(
        () => server.has('receive-error') || server.has('eof') || server.has('send-error'),
      );
      facts.push(server.has('eof') && !server.has('send-error') ? 'eof' : 'told');
      // Behind it everything can be called.
      server.write('more');
      server.closeWrite();
      server.told(server.connection.flush());
      destroy(client, server);
    }
    return facts;
  },

  async 'EOF in a record'() {
    const cuts = [];
    for (const bytes of [[], [23], [23, 3, 3, 0, 9], [23, 3, 3, 0, 9, 1]]) {
      const [client, server] = await onSockets();
      client.start();
      server.start();
      await until(() => client.has('secure') && server.has('secure'));
      client.connection.close();
      client.socket.end(Buffer.from(bytes));
      await until(() => server.has('eof'));
      cuts.push(server.facts.at(-1)[1]);
      destroy(client, server);
    }
    return cuts;
  },

  async 'a huge write'() {
    const [client, server] = await onSockets();
    client.start();
    server.start();
    await until(() => client.has('secure') && server.has('secure'));
    const bytes = Buffer.alloc(1 << 26, 'huge');
    client.write(bytes);
    client.closeWrite();
    await until(() => server.has('alert'));
    const same = Buffer.concat(server.plain).equals(bytes);
    destroy(client, server);
    return same;
  },

  /** The server waits for its certificate, and is given far more than a slab meanwhile. */
  async 'fed without end while the handshake is suspended'(version) {
    const facts = [];
    for (const given of [true, false]) {
      const [client, server] = pair({
        client: { servername: Buffer.from('a.example') },
        server: { wantsCertificate: true },
        version,
        begun: false,
      });
      server.feed(client.takeOutput());
      assert.ok(server.has('want-certificate'));
      server.feed(Buffer.alloc(1 << 20, 7));
      server.told(server.connection.proceed(given));
      server.told(server.connection.proceed(given));
      facts.push(server.names.filter((name) => name === 'failed').length);
      destroy(client, server);
    }
    return facts;
  },

  /** JavaScript of another context may give what it likes. */
  async 'arguments of another context'() {
    const { runInNewContext } = require('node:vm');
    const [client, server] = pair();
    const bytes = runInNewContext('new Uint8Array([104, 105])');
    client.told(client.connection.write(bytes, true));
    exchange(client, server);
    const options = runInNewContext('({ server: true, get verify() { return 0; } })');
    const other = new engine.Connection(contextOf({}), options);
    other.destroy();
    destroy(client, server);
    return server.text;
  },

  async 'shared, resizable and detached memory'() {
    const [client, server] = pair();
    const shared = new Uint8Array(new SharedArrayBuffer(4)).fill(97);
    client.told(client.connection.write(shared, true));
    const detached = new Uint8Array(8);
    structuredClone(detached.buffer, { transfer: [detached.buffer] });
    client.told(client.connection.write(detached, true));
    client.told(client.connection.feed(detached));
    const resizable = new ArrayBuffer(8, { maxByteLength: 16 });
    const view = new Uint8Array(resizable).fill(98);
    client.told(client.connection.write(view, true));
    resizable.resize(2);
    client.told(client.connection.write(view, true));
    exchange(client, server);
    destroy(client, server);
    return server.text;
  },

  /** The last case: nobody has the numbers any more. */
  async 'the shared numbers are transferred'() {
    const { buffer } = engine.state;
    try {
      structuredClone(buffer, { transfer: [buffer] });
    } catch {
      // Node does not let memory go that is not its own.
    }
    buffer.transfer?.();
    globalThis.gc();
    const [client, server] = pair();
    client.write('still');
    exchange(client, server);
    destroy(client, server);
    return client.has('secure');
  },
};

function isLink(name, target) {
  try {
    return fs.readlinkSync(`/proc/self/fd/${name}`) === target;
  } catch {
    // The folder itself, which is closed by now.
    return false;
  }
}

main(async () => {
  const facts = await factsOf(cases);
  facts.left = await left();
  return facts;
});
