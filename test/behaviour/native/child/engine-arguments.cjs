'use strict';
// Arguments and receivers of every wrong type, for each method of the native engine, in each state of a connection: it
// throws what JavaScript can catch, or answers, and the process goes on. What a right argument does, other tests say.

const assert = require('node:assert');
const { anything, main } = require('./lib.cjs');
const { End, contextOf, engine, exchange, left, pair, sockets } = require('./engine-lib.cjs');

const detached = () => {
  const view = new Uint8Array(32);
  structuredClone(view.buffer, { transfer: [view.buffer] });
  return view;
};

const everything = () => [
  ...anything(),
  false,
  2 ** 31,
  2 ** 32,
  2 ** 53,
  new Uint8Array(new SharedArrayBuffer(32)),
  detached(),
  Buffer.alloc(1 << 20),
];

const isBytes = (value) => value instanceof Uint8Array;
const isBoolean = (value) => typeof value === 'boolean';
const isNumber = (value) => typeof value === 'number';

/** What each argument of each method has to be. */
const METHODS = {
  open: [isNumber],
  start: [isBytes],
  feed: [isBytes],
  write: [isBytes, isBoolean],
  flush: [],
  closeWrite: [],
  updateKeys: [isBoolean],
  discard: [],
  output: [],
  taken: [isNumber],
  break: [],
  proceed: [isBoolean],
  // No value of the above is a context.
  identify: [() => false, isBoolean],
  setReading: [isBoolean],
  setReference: [isBoolean],
  trailing: [isBoolean],
  cut: [],
  isDestroyed: [],
  bytes: [isBoolean],
  facts: [],
  info: [],
  servername: [],
  certificate: [],
  chain: [],
  session: [],
  exportKeyingMaterial: [isNumber, isBytes, (value) => value === undefined || isBytes(value)],
  close: [],
  destroy: [],
};

/** A right value for each kind. */
const right = (is) => [true, 5, new Uint8Array(3)].find(is);

const KNOWN = new Set(['ERR_INVALID_ARG_TYPE', 'ERR_OUT_OF_RANGE', 'ERR_CLOSED', 'ERR_NATIVE']);

function check(name, call, fits, isClosed) {
  let code = null;
  try {
    call();
  } catch (error) {
    code = error.code;
    assert.ok(KNOWN.has(code), `${name}: ${error}`);
  }
  if (!fits && !isClosed) assert.equal(code, 'ERR_INVALID_ARG_TYPE', name);
}

function tryAll(end) {
  const { connection } = end;
  const isClosed = connection.isDestroyed();
  for (const [name, kinds] of Object.entries(METHODS)) {
    // Of these the right argument would end what is tried.
    if (name === 'destroy' || name === 'close') continue;
    for (const [place, is] of kinds.entries()) {
      for (const value of everything()) {
        const given = kinds.map((kind, index) => (index === place ? value : right(kind)));
        // Of descriptors this process has more than it knows.
        if (name === 'open' && isNumber(value)) given[0] = value >= 0 ? 999_999 : value;
        check(
          `${name}(${String(place)}: ${typeof value})`,
          () => connection[name](...given),
          is(value),
          isClosed,
        );
      }
    }
    // Without any, and with more than there are.
    check(
      name,
      () => connection[name](),
      kinds.every((is) => is(undefined)),
      isClosed,
    );
    check(name, () => connection[name](...kinds.map(right), 1, 2, 3, 4, 5), true, isClosed);
  }
}

const states = {
  new: () => [new End(false), new End(true)],
  'within the handshake': () => {
    const ends = pair({ begun: false });
    ends[1].feed(ends[0].takeOutput());
    return ends;
  },
  suspended: () => {
    const ends = pair({
      client: { servername: Buffer.from('a.example') },
      server: { wantsCertificate: true },
      begun: false,
    });
    ends[1].feed(ends[0].takeOutput());
    assert.ok(ends[1].has('want-certificate'));
    return ends;
  },
  established: () => pair(),
  'of TLS 1.2': () => pair({ version: 'TLSv1.2' }),
  closed: () => {
    const ends = pair();
    for (const end of ends) end.closeWrite();
    exchange(...ends);
    return ends;
  },
  failed: () => {
    const ends = pair();
    for (const end of ends) end.feed(Buffer.alloc(100, 'x'));
    return ends;
  },
  destroyed: () => {
    const ends = pair();
    for (const end of ends) end.connection.destroy();
    return ends;
  },
};

main(async () => {
  for (const make of Object.values(states)) {
    for (const end of make()) {
      tryAll(end);
      // In any order.
      for (const name of Object.keys(METHODS).reverse()) {
        const given = METHODS[name].map(right);
        if (name === 'open') given[0] = 999_999;
        check(name, () => end.connection[name](...given), true, true);
      }
      end.connection.destroy();
    }
  }

  const [end, peer] = pair();
  for (const name of Object.keys(METHODS)) {
    const method = end.connection[name];
    const heirs = [
      Object.create(end.connection),
      new Proxy(end.connection, {}),
      engine.Connection.prototype,
    ];
    for (const self of [...everything(), ...heirs, globalThis]) {
      // V8 itself sees to it, or else the add-on.
      assert.throws(() => Reflect.apply(method, self, [true, true]), TypeError, name);
    }
  }
  peer.connection.destroy();
  end.connection.destroy();

  const context = contextOf({});
  for (const value of everything()) {
    const name = typeof value;
    assert.throws(() => new engine.Connection(value, {}), TypeError, name);
    assert.throws(() => Reflect.apply(engine.Connection, value, [context, {}]), TypeError, name);
    if (typeof value !== 'object' || value === null) {
      assert.throws(() => new engine.Connection(context, value), TypeError, name);
    }
    if (typeof value !== 'function') {
      for (const member of ['ownContext', 'foreignContext', 'setDispatch']) {
        assert.throws(() => engine[member](value), { code: 'ERR_INVALID_ARG_TYPE' }, member);
      }
    }
  }
  const options = {
    server: isBoolean,
    verify: isNumber,
    records: isBoolean,
    bytes: isBoolean,
    secrets: isBoolean,
    tickets: isBoolean,
    wantsCertificate: isBoolean,
    alpnCallback: isBoolean,
    ticketCount: isNumber,
    servername: isBytes,
    session: isBytes,
    alpn: isBytes,
  };
  for (const [name, is] of Object.entries(options)) {
    for (const value of everything()) {
      const fits = value === undefined || is(value);
      check(name, () => new engine.Connection(context, { [name]: value }).destroy(), fits, false);
    }
  }
  const throwing = {
    get server() {
      throw new RangeError('of the program');
    },
  };
  assert.throws(() => new engine.Connection(context, throwing), RangeError);
  class Heir extends engine.Connection {}
  new Heir(context, {}).destroy();
  Reflect.construct(engine.Connection, [context, {}], Object);
  // Descriptors that are no sockets.
  const other = new engine.Connection(context, {});
  for (const descriptor of [-1, 999_999, 2 ** 31, Number.NaN, Number.POSITIVE_INFINITY]) {
    const refusal = other.open(descriptor);
    // 0 is what NaN becomes: standard input, which may be a socket.
    if (refusal === null) other.close();
    else assert.equal(typeof refusal, 'string');
  }
  other.destroy();
  const [near, far] = await sockets();
  const twice = new engine.Connection(context, {});
  assert.equal(twice.open(near._handle.fd), null);
  assert.throws(() => twice.open(near._handle.fd), { code: 'ERR_NATIVE' });
  twice.close();
  assert.equal(twice.open(near._handle.fd), null);
  twice.destroy();
  near.destroy();
  far.destroy();
  return left();
});
