/**
 * A proxy that cuts: it passes TCP bytes both ways, and ends the connection where it was told to.
 *
 * Theory of operation. Where a connection is cut is said in TLS records, because their number is the
 * same from one connection to the next, while the number of bytes is not (an ECDSA signature has no
 * fixed length). Records are counted from the 'answer' on, by which is meant all that the server
 * sends after its handshake: the first record of type application_data from the client is its
 * Finished in TLS 1.3, and its first data in TLS 1.2; the server's flight has passed by then.
 *
 * Protocols that begin in plaintext are followed until the client's ClientHello: they take turns, so
 * whatever the server sends after it is TLS.
 */
import { once } from 'node:events';
import net from 'node:net';
import { reset } from './core-transport.ts';

export type Direction = 'to-client' | 'to-server';

/** Ends the connection after `record` records of one direction and `bytes` bytes of the next one. */
export interface Cut {
  readonly direction: Direction;
  /**
   * Records of the answer (or, to the server, of all from its first application_data on) that pass; or which one is the
   * next, by its length and those of all before it, headers included, where their number is not always the same.
   */
  readonly record: number | ((length: number, before: readonly number[]) => boolean);
  /** Bytes of the next record that pass; where it is not longer than that, nothing is cut. */
  readonly bytes: number;
  /** What the victim sees; the other party's connection is reset. */
  readonly how: 'fin' | 'reset';
  /** Who sees the end; by default the receiver of that direction. */
  readonly victim?: 'client' | 'server';
}

/**
 * What to do with a connection: nothing; take out the server's close_notify, and pass its FIN; or
 * cut it.
 */
export type Plan = 'pass' | 'drop-close-notify' | Cut;

/** What went through one connection: the lengths of its records, headers included. */
export interface Passage {
  readonly 'to-client': number[];
  readonly 'to-server': number[];
  /** Whether the plan was carried out: a cut that was never reached proves nothing. */
  done: boolean;
  /** Whether the last record that passed to the client is its close_notify. */
  closed: boolean;
  /** Whether the record that was cut, or would have been next, is the server's close_notify. */
  cutClosing: boolean;
}

const HANDSHAKE = 22;
const ALERT = 21;
const APPLICATION_DATA = 23;
const CLIENT_HELLO = 1;

/**
 * An alert: in TLS 1.3, two bytes, one for the type within, 16 to authenticate. No message of the
 * tests is as short.
 */
const mayBeAlert = (record: Buffer) =>
  record[0] === ALERT || (record[0] === APPLICATION_DATA && record.readUInt16BE(3) === 19);

/** Where TLS begins in what a client sends, or -1. */
function helloAt(bytes: Buffer): number {
  for (let at = 0; at + 5 < bytes.length; at++) {
    if (bytes[at] === HANDSHAKE && bytes[at + 1] === 3 && bytes[at + 5] === CLIENT_HELLO) return at;
  }
  return -1;
}

/** A listener in front of a server on loopback that treats each connection by a plan. */
export class CuttingProxy {
  readonly #listener: net.Server;
  readonly #sockets = new Set<net.Socket>();
  /** One for each connection, oldest first. */
  readonly passages: Passage[] = [];

  private constructor(target: number, first: Plan, settled: () => Promise<void>, later: Plan) {
    this.#listener = net.createServer({ allowHalfOpen: true, noDelay: true }, (client) => {
      const plan = this.passages.length === 0 ? first : later;
      const server = net.connect({
        port: target,
        host: '127.0.0.1',
        noDelay: true,
        allowHalfOpen: true,
      });
      for (const socket of [client, server]) {
        this.#sockets.add(socket);
        // Both parties are often reset; each side's 'close' tells the other.
        socket.on('error', () => {});
        socket.on('close', () => this.#sockets.delete(socket));
      }
      const passage: Passage = {
        'to-client': [],
        'to-server': [],
        done: plan === 'pass',
        closed: false,
        cutClosing: false,
      };
      this.passages.push(passage);
      pass(client, server, plan, passage, settled);
    });
  }

  /**
   * @param target - the server's port.
   * @param settled - resolves when the victim has read what has arrived. Without it a reset may
   *   overtake that: libuv takes a reset that it finds together with data for an EOF.
   * @param later - the plan for all connections but the first; by default the same.
   */
  static async listen(
    target: number,
    plan: Plan,
    settled: () => Promise<void> = async () => {},
    later: Plan = plan,
  ): Promise<CuttingProxy> {
    const proxy = new CuttingProxy(target, plan, settled, later);
    proxy.#listener.listen(0, '127.0.0.1');
    await once(proxy.#listener, 'listening');
    return proxy;
  }

  get port(): number {
    return (this.#listener.address() as net.AddressInfo).port;
  }

  /** Ends the listener and whatever is still connected. */
  async close(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise((resolve) => this.#listener.close(resolve));
  }
}

/** Whether the record of this length, behind all of these, is the one to cut. */
const isNext = ({ record }: Cut, length: number, before: readonly number[]) =>
  typeof record === 'number' ? record === before.length : record(length, before);

function pass(
  client: net.Socket,
  server: net.Socket,
  plan: Plan,
  passage: Passage,
  settled: () => Promise<void>,
): void {
  let tls = false;
  let answering = false;
  let over = false;

  const cutNow = ({ direction, how, victim }: Cut, last: Buffer) => {
    over = true;
    passage.done = true;
    const receiver = direction === 'to-client' ? 'client' : 'server';
    const [seeing, other] = (victim ?? receiver) === 'client' ? [client, server] : [server, client];
    const to = receiver === 'client' ? client : server;
    const end = async () => {
      if (how === 'reset') {
        // A victim that has gone reads nothing more.
        await settled().catch(() => {});
        reset(seeing);
        reset(other);
        return;
      }
      reset(other);
      // What the victim still sends is read, or its arrival would turn the FIN into a reset.
      seeing.resume();
      seeing.end();
      seeing.once('end', () => seeing.destroy());
    };
    to.write(last, () => void end());
  };

  const direct = (from: net.Socket, to: net.Socket, direction: Direction) => {
    let waiting: Buffer = Buffer.alloc(0);
    let held: Buffer | null = null;

    const passRecord = (record: Buffer) => {
      if (held !== null) to.write(held);
      held = null;
      if (answering) passage[direction].push(record.length);
      if (direction === 'to-client') passage.closed = mayBeAlert(record);
      if (plan === 'drop-close-notify' && direction === 'to-client' && mayBeAlert(record)) {
        // Whether it is close_notify shows when the transport ends behind it.
        held = record;
      } else {
        to.write(record);
      }
    };

    const passRecords = () => {
      while (!over && waiting.length >= 5) {
        const length = 5 + waiting.readUInt16BE(3);
        if (waiting.length < length) return;
        if (direction === 'to-server' && waiting[0] === APPLICATION_DATA) answering = true;
        const record = waiting.subarray(0, length);
        waiting = waiting.subarray(length);
        if (
          typeof plan === 'object' &&
          answering &&
          plan.direction === direction &&
          isNext(plan, length, passage[direction]) &&
          // Elsewhere the same record was longer.
          plan.bytes < length
        ) {
          passage.cutClosing = direction === 'to-client' && mayBeAlert(record);
          cutNow(plan, record.subarray(0, plan.bytes));
          return;
        }
        passRecord(record);
      }
    };

    from.on('data', (chunk) => {
      if (over) return;
      waiting = Buffer.concat([waiting, chunk]);
      if (!tls) {
        const start = direction === 'to-server' ? helloAt(waiting) : -1;
        const plaintext = start < 0 ? waiting.length : start;
        if (plaintext > 0) to.write(waiting.subarray(0, plaintext));
        waiting = waiting.subarray(plaintext);
        if (start < 0) return;
        tls = true;
      }
      passRecords();
    });
    from.on('end', () => {
      if (over) return;
      if (held !== null) {
        passage.done = true;
        passage.closed = false;
      }
      if (waiting.length > 0) to.write(waiting);
      to.end();
    });
    from.on('close', (failed) => {
      if (over) return;
      if (failed) reset(to);
      else to.destroySoon();
    });
  };
  direct(client, server, 'to-server');
  direct(server, client, 'to-client');
}
