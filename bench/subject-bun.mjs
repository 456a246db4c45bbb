/**
 * The measured process, as a program for Bun would be written: `Bun.connect`, whose TLS is uSockets on BoringSSL.
 *
 * What it is asked, and what it prints, is as in subject.mjs. It does not resume: `Bun.connect` takes no session.
 *
 *   bun subject-bun.mjs --task receive|send|both|echo|lives --port N --ca FILE --total N --warm N
 *                       --size N --connections N
 */
import { readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';

const { values } = parseArgs({
  options: Object.fromEntries(
    ['task', 'port', 'ca', 'total', 'warm', 'size', 'connections'].map((name) => [
      name,
      { type: /** @type {const} */ ('string'), default: '0' },
    ]),
  ),
});
const { task } = values;
const [total, warm, size, connections] = ['total', 'warm', 'size', 'connections'].map((name) =>
  Number(values[name]),
);

const request = (name, ...numbers) => Buffer.from([name, ...numbers].join(' ').padEnd(64));

/** Reports what ends the measurement. */
function fail(error) {
  console.error(`Error: ${error.message}`);
  process.exit(1);
}

/** One connection. What it does when bytes or room come is set by whoever works with it. */
class Worker {
  onData = (_bytes) => {};
  onRoom = () => {};
  onClose = () => fail(new Error('the load closed early'));

  /** Writes all of it; what does not fit goes when there is room. @returns whether it went at once. */
  write(bytes) {
    const written = this.socket.write(bytes);
    if (written === bytes.length) return true;
    if (written < 0) fail(new Error('nothing can be written'));
    const rest = bytes.subarray(written);
    const { onRoom } = this;
    this.onRoom = () => {
      this.onRoom = onRoom;
      if (this.write(rest)) onRoom();
    };
    return false;
  }

  receive(wanted) {
    return new Promise((resolve) => {
      let left = wanted;
      this.onData = (bytes) => {
        left -= bytes.length;
        if (left <= 0) resolve();
      };
    });
  }

  send(bytes, message) {
    return new Promise((resolve) => {
      let left = bytes;
      this.onRoom = () => {
        while (left > 0) {
          left -= message.length;
          if (!this.write(message)) return;
        }
        this.onRoom = () => {};
        resolve();
      };
      this.onRoom();
    });
  }

  echo(count, message) {
    return new Promise((resolve) => {
      let left = count;
      let missing = message.length;
      this.onData = (bytes) => {
        missing -= bytes.length;
        if (missing > 0) return;
        if (--left === 0) {
          resolve();
          return;
        }
        missing = message.length;
        this.write(message);
      };
      this.write(message);
    });
  }

  async work(amount, message) {
    const { length } = message;
    if (task === 'receive') {
      const all = this.receive(amount);
      this.write(request('source', amount, length));
      await all;
    } else if (task === 'send') {
      const answer = this.receive(1);
      this.write(request('sink', amount));
      await this.send(amount, message);
      await answer;
    } else if (task === 'both') {
      const all = this.receive(amount + 1);
      this.write(request('both', amount, length));
      await this.send(amount, message);
      await all;
    } else if (task === 'echo') {
      this.write(request('echo', amount, length));
      await this.echo(amount, message);
    } else {
      throw new Error(`no task ${task}`);
    }
  }

  /** Both close_notify, and the end of the transport. */
  close() {
    return new Promise((resolve) => {
      this.onClose = resolve;
      this.socket.end();
    });
  }
}

const ca = readFileSync(values.ca, 'utf8');

/** @returns {Promise<Worker>} behind its handshake */
function open() {
  return new Promise((resolve, reject) => {
    const worker = new Worker();
    Bun.connect({
      hostname: '127.0.0.1',
      port: Number(values.port),
      tls: { ca, serverName: 'localhost' },
      socket: {
        open(socket) {
          worker.socket = socket;
        },
        handshake(_socket, success, error) {
          if (success && !error) resolve(worker);
          else reject(error ?? new Error('the handshake failed'));
        },
        data(_socket, bytes) {
          worker.onData(bytes);
        },
        drain() {
          worker.onRoom();
        },
        close() {
          worker.onClose();
        },
        error(_socket, error) {
          fail(error);
        },
      },
    }).catch(reject);
  });
}

const workers = [];
async function transfer(amount) {
  const message = Buffer.alloc(size, 'x');
  const unit = task === 'echo' ? 1 : size;
  const share = Math.max(1, Math.round(amount / connections / unit)) * unit;
  await Promise.all(workers.map((worker) => worker.work(share, message)));
}

async function lives(amount) {
  let left = amount;
  const loop = async () => {
    while (left-- > 0) await (await open()).close();
  };
  await Promise.all(Array.from({ length: connections }, loop));
}

if (task !== 'lives') {
  while (workers.length < connections) workers.push(await open());
}
const once = task === 'lives' ? lives : transfer;
await once(warm);
const cpu = process.cpuUsage();
const start = performance.now();
await once(total);
const wall = (performance.now() - start) / 1e3;
const { user, system } = process.cpuUsage(cpu);
console.log(JSON.stringify({ amount: total, wall, cpu: (user + system) / 1e6 }));
process.exit(0);
