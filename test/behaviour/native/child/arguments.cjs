'use strict';
// Arguments and receivers of every wrong type: a TypeError each, and nothing else.

const assert = require('node:assert');
const { anything, close, connection, load, main, settle } = require('./lib.cjs');

const native = load();

/** What came of a call: a code, or 'fine'. */
function outcome(call) {
  try {
    call();
    return 'fine';
  } catch (error) {
    assert.ok(error instanceof TypeError || error instanceof RangeError, String(error));
    return error.code;
  }
}

function tried(name, call, right) {
  for (const value of anything()) {
    const expected = right(value);
    const got = outcome(() => call(value));
    assert.equal(
      got,
      expected,
      `${name}(${typeof value} ${Object.prototype.toString.call(value)})`,
    );
  }
}

main(async () => {
  const wrong = 'ERR_INVALID_ARG_TYPE';
  tried('watch', native.watch, (value) => (typeof value === 'function' ? 'fine' : wrong));
  tried('find', native.find, (value) => (value instanceof Uint8Array ? 'fine' : wrong));
  tried('since', native.since, (value) => {
    if (typeof value !== 'number') return wrong;
    return Number.isSafeInteger(value) && value >= 0 ? 'fine' : 'ERR_OUT_OF_RANGE';
  });
  for (const length of [0, 1, 3, 4, 12, 48, 64, 65, 1 << 20]) {
    assert.equal(native.find(new Uint8Array(length)), null);
  }
  const detached = new Uint8Array(32);
  structuredClone(detached.buffer, { transfer: [detached.buffer] });
  assert.equal(native.find(detached), null);
  // What is not asked for is not looked at.
  assert.equal(native.mark('x', {}), native.mark());
  assert.deepEqual(Object.keys(native.live(1)), [
    'ssl',
    'watches',
    'connections',
    'sessions',
    'contexts',
  ]);

  const pair = await connection(native);
  const { watch } = pair;
  for (const state of ['open', 'freed']) {
    tried(
      'retake',
      (value) => watch.retake(value),
      (value) => (typeof value === 'boolean' ? 'fine' : wrong),
    );
    watch.retake(false);
    tried(
      'alerts',
      (value) => watch.alerts(value),
      (value) => (typeof value === 'number' ? 'fine' : wrong),
    );
    for (const name of ['alerts', 'born', 'pending', 'place', 'retake']) {
      const method = watch[name];
      const heirs = [Object.create(watch), new Proxy(watch, {}), watch.constructor.prototype];
      for (const self of [...anything(), ...heirs]) {
        // V8 itself sees to it, or else the add-on.
        assert.throws(() => Reflect.apply(method, self, [true]), TypeError, name);
      }
    }
    if (state === 'open') {
      await settle(pair);
      const all = Promise.all([close(pair.socket), close(pair.peer)]);
      pair.socket.end();
      await all;
    }
  }
  const Watch = watch.constructor;
  const illegal = 'ERR_ILLEGAL_CONSTRUCTOR';
  assert.equal(
    outcome(() => new Watch()),
    illegal,
  );
  assert.equal(
    outcome(() => new (class extends Watch {})()),
    illegal,
  );
  assert.equal(
    outcome(() => Reflect.construct(Watch, [], Object)),
    illegal,
  );
  assert.throws(() => Reflect.apply(Watch, watch, []), TypeError);
  assert.throws(() => Reflect.apply(Watch, undefined, []), TypeError);
  // The face itself cannot be changed for others who share it.
  assert.ok(Object.isFrozen(native));
  return 'fine';
});
