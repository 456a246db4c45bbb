const { join } = require('node:path');

/** @returns {{ native: import('./index.js').Binding | null, reason: string | null }} */
function load() {
  try {
    return {
      native: share(require(join(__dirname, 'build/Release/close_notify_native.node'))),
      reason: null,
    };
  } catch (error) {
    return { native: null, reason: String(error?.message ?? error).split('\n')[0] };
  }
}

/**
 * More than one copy of close-notify may use the binding of a thread, each with a function of its own.
 */
function share(binding) {
  const listeners = new Set();
  const onIgnored = (watch) => {
    for (const listener of listeners) {
      try {
        listener(watch);
      } catch (error) {
        // The other listeners hear of it all the same; this one's error is an uncaught exception.
        process.nextTick(() => {
          throw error;
        });
      }
    }
  };
  return Object.freeze({
    version: binding.version,
    openssl: binding.openssl,
    find: binding.find,
    mark: binding.mark,
    since: binding.since,
    live: binding.live,
    watch(listener) {
      if (typeof listener !== 'function') {
        throw new TypeError("watch: 'onIgnored' must be a function");
      }
      listeners.add(listener);
      binding.watch(onIgnored);
    },
  });
}

const { native, reason } = load();
exports.native = native;
exports.reason = reason;
