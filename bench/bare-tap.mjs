// @ts-check
/**
 * A limit: TLS on a tap that passes on what it gets, either way, and does nothing else. It knows no record, keeps
 * no promise and handles no error, and is for messages so small that the kernel takes them at once. What it costs
 * beside `node:tls` is what bytes cost on their way through JavaScript, and what a tap has to cost.
 *
 * It is put together from the parts of Node that src/tap/js-stream.ts and src/tap/user-buffer.ts use and explain.
 */
import { EventEmitter, once } from 'node:events';
import net from 'node:net';
import { Duplex } from 'node:stream';
import tls from 'node:tls';

/** @typedef {any} Internal a part of Node that is not documented */
/**
 * @typedef {object} JsStream
 * @property {(bytes: Uint8Array) => void} readBuffer
 * @property {(request: object, status: number) => void} finishWrite
 * @property {(request: object, status: number) => void} finishShutdown
 */

const MEMORY = Buffer.allocUnsafeSlow(65_536);
const NOW = Promise.resolve();

/** The class of the handles that Node puts under TLS on a Duplex. @returns {new () => JsStream} */
function findJsStream() {
  const socket = tls.connect({ socket: new Duplex({ read() {}, write() {} }) });
  const found = /** @type {Internal} */ (socket)._handle._parent.constructor;
  socket.destroy();
  return found;
}

class Handle extends findJsStream() {
  /** @type {Internal} */
  below = null;
  /** @type {Internal} */
  ending = null;
  writing = 0;

  onreadstart() {
    return 0;
  }

  onreadstop() {
    return 0;
  }

  /** @param {Internal} request @param {Uint8Array[]} buffers */
  onwrite(request, buffers) {
    const own = new request.constructor();
    const status =
      buffers.length === 1
        ? this.below.writeBuffer(own, buffers[0])
        : this.below.writev(own, buffers, true);
    this.writing++;
    void NOW.then(() => {
      this.writing--;
      this.finishWrite(request, status);
      this.end();
    });
    return 0;
  }

  /** @param {Internal} request */
  onshutdown(request) {
    this.ending = request;
    process.nextTick(() => this.end());
    return 0;
  }

  /** Behind the last write. */
  end() {
    const request = this.ending;
    if (request === null || this.writing > 0) return;
    this.ending = null;
    this.finishShutdown(request, 0);
  }

  isClosing() {
    return false;
  }
}

/** What Node takes for a socket that it can put TLS on. */
class Below extends EventEmitter {
  /** @type {Internal} */
  _handle = new Handle();
  _parent = null;
  connecting = false;
  readableLength = 0;
  writableLength = 0;
  allowHalfOpen = false;

  /** @param {net.Socket} transport */
  constructor(transport) {
    super();
    this._handle.below = /** @type {Internal} */ (transport)._handle;
    this.once('close', () => transport.resume().end());
  }

  get destroyed() {
    return this._handle === null;
  }

  pause() {}

  resume() {}

  destroy() {
    this._handle = null;
    process.nextTick(() => this.emit('close'));
  }
}
// Node asks whether it is one.
Object.setPrototypeOf(Below.prototype, net.Socket.prototype);

/** What one transport reads goes to `to`, once that is there. */
class Reading {
  /** @type {Below | null} */
  to = null;
  #last = new Uint8Array(MEMORY.buffer, 0, 0);

  onread = {
    buffer: MEMORY,
    /** @param {number} length */
    callback: (length) => {
      if (this.#last.length !== length) this.#last = new Uint8Array(MEMORY.buffer, 0, length);
      this.to?._handle?.readBuffer(this.#last);
      return true;
    },
  };
}

/** @param {{ host: string, port: number, ca: string }} target */
export async function connectBare(target) {
  const reading = new Reading();
  const { host, port } = target;
  const transport = net.connect({ host, port, noDelay: true, onread: reading.onread });
  await once(transport, 'connect');
  const below = new Below(transport);
  reading.to = below;
  const socket = tls.connect({ ...target, socket: /** @type {Internal} */ (below) });
  await once(socket, 'secureConnect');
  return socket;
}

/** What `net.Socket` keeps its option `onread` under. @param {string} name @returns {symbol} */
function symbolOf(name) {
  const made = new net.Socket(/** @type {Internal} */ ({ onread: new Reading().onread }));
  const found = Object.getOwnPropertySymbols(made).find((one) => one.description === name);
  if (found === undefined) throw new Error(`net.Socket has no ${name}`);
  return found;
}

/** A server that reads until its peers close, and closes. @param {{ key: string, cert: string }} identity */
export function serveBare(identity) {
  const [kBuffer, kBufferCb] = [symbolOf('kBuffer'), symbolOf('kBufferCb')];
  const secureContext = tls.createSecureContext(identity);
  return net.createServer({ allowHalfOpen: true, noDelay: true }, (transport) => {
    const own = /** @type {Internal} */ (transport);
    const reading = new Reading();
    own[kBuffer] = MEMORY;
    own[kBufferCb] = reading.onread.callback;
    own._handle.useUserBuffer(MEMORY);
    const below = new Below(transport);
    reading.to = below;
    const options = { isServer: true, secureContext };
    const socket = new tls.TLSSocket(/** @type {Internal} */ (below), options);
    socket.on('error', ignore).resume();
    transport.on('error', ignore).resume();
  });
}

function ignore() {}
