/**
 * Somebody on the path between a client and a server, without their keys: passes records on, holds them
 * back, changes them, cuts.
 *
 * What was passed on is read with a key log that a party gives, for the judge only: `passed` is what
 * truly reached the other side.
 */
import net from 'node:net';
import { type Env, until } from './env.ts';
import { type Crossed, type Sender, WireReader } from './wire-reader.ts';

/** What becomes of a record: other bytes, or null for none. `index` counts those of its sender. */
export type Tamper = (sender: Sender, record: Buffer, index: number) => Buffer | null;

class Side {
  readonly from: net.Socket;
  readonly to: net.Socket;
  waiting = Buffer.alloc(0);
  records = 0;
  held: Buffer[] | null = null;
  ended = false;
  cut = false;

  constructor(from: net.Socket, to: net.Socket) {
    this.from = from;
    this.to = to;
  }
}

/** One connection through a relay. */
export class Link {
  /** What was passed on, by sender. */
  readonly passed: Record<Sender, Crossed[]> = { client: [], server: [] };
  /** Whether FIN was passed on. */
  readonly finPassed: Record<Sender, boolean> = { client: false, server: false };
  readonly #sides: Record<Sender, Side>;
  readonly #tamper: Tamper;
  readonly #reader = new WireReader((sender, crossed) => this.passed[sender].push(crossed));

  constructor(down: net.Socket, up: net.Socket, tamper: Tamper) {
    this.#tamper = tamper;
    this.#sides = { client: new Side(down, up), server: new Side(up, down) };
    for (const sender of ['client', 'server'] as const) {
      const side = this.#sides[sender];
      side.from.setNoDelay(true);
      side.from.on('data', (bytes) => this.#take(sender, side, bytes));
      side.from.on('error', () => {});
      side.from.on('end', () => this.#end(sender, side));
      side.from.on('close', () => this.#end(sender, side));
    }
  }

  addKeyLog(line: Buffer): void {
    this.#reader.addKeyLog(line);
  }

  /** Keeps what this party sends back, FIN too, until `release`. */
  hold(sender: Sender): void {
    this.#sides[sender].held ??= [];
  }

  /** How many bytes are kept back. */
  heldBack(sender: Sender): number {
    return (this.#sides[sender].held ?? []).reduce((sum, { length }) => sum + length, 0);
  }

  /** Whether this party has sent FIN, or is gone. */
  ended(sender: Sender): boolean {
    return this.#sides[sender].ended;
  }

  /** How many records this party has sent. */
  records(sender: Sender): number {
    return this.#sides[sender].records;
  }

  /** Passes on what was kept back, in one segment, and FIN with it where it had come or is asked for. */
  release(sender: Sender, fin = false): void {
    const side = this.#sides[sender];
    const held = Buffer.concat(side.held ?? []);
    side.held = null;
    side.to.cork();
    if (held.length > 0) this.#pass(sender, side, held);
    if (side.ended || fin) this.#fin(sender, side);
    side.to.uncork();
  }

  /** Passes these bytes on as if this party had sent them, in one segment with FIN, and nothing else. */
  inject(sender: Sender, bytes: Buffer): void {
    const side = this.#sides[sender];
    side.held = null;
    side.to.cork();
    this.#pass(sender, side, bytes);
    this.#fin(sender, side);
    side.to.uncork();
  }

  /** Passes a record of garbage on, as if this party had sent it: the other side refuses it, and says so. */
  garble(sender: Sender): void {
    this.#sides[sender].to.write(Buffer.concat([Buffer.of(23, 3, 3, 0, 40), Buffer.alloc(40, 7)]));
  }

  /** Passes FIN on, and nothing that this party sends from now on. */
  cut(sender: Sender): void {
    const side = this.#sides[sender];
    side.held = null;
    this.#fin(sender, side);
  }

  destroy(): void {
    this.#sides.client.from.destroy();
    this.#sides.server.from.destroy();
  }

  #take(sender: Sender, side: Side, bytes: Buffer): void {
    side.waiting = Buffer.concat([side.waiting, bytes]);
    const out: Buffer[] = [];
    while (side.waiting.length >= 5) {
      const length = 5 + side.waiting.readUInt16BE(3);
      if (side.waiting.length < length) break;
      const record = Buffer.from(side.waiting.subarray(0, length));
      side.waiting = side.waiting.subarray(length);
      const kept = this.#tamper(sender, record, side.records++);
      if (kept !== null) out.push(kept);
    }
    if (side.held !== null) side.held.push(...out);
    else if (out.length > 0) this.#pass(sender, side, Buffer.concat(out));
  }

  #pass(sender: Sender, side: Side, bytes: Buffer): void {
    if (side.cut || side.to.destroyed || side.to.writableEnded) return;
    side.to.write(bytes);
    this.#reader.push(sender, bytes);
  }

  #end(sender: Sender, side: Side): void {
    if (side.ended) return;
    side.ended = true;
    if (side.held === null) this.#fin(sender, side);
  }

  #fin(sender: Sender, side: Side): void {
    side.cut = true;
    this.finPassed[sender] = true;
    if (!side.to.destroyed) side.to.end();
  }
}

export class Relay {
  readonly port: number;
  readonly links: Link[];

  private constructor(port: number, links: Link[]) {
    this.port = port;
    this.links = links;
  }

  /** A relay to a port on loopback. */
  static async to(env: Env, port: number, tamper?: Tamper, host?: string): Promise<Relay> {
    const passOn: Tamper = (_, record) => record;
    const links: Link[] = [];
    const server = net.createServer({ allowHalfOpen: true }, (down) => {
      const up = net.connect({ port, host: '127.0.0.1', allowHalfOpen: true });
      const link = new Link(down, up, tamper ?? passOn);
      links.push(link);
      env.defer(() => link.destroy());
    });
    const at = await env.listen(server, false, host);
    return new Relay(at.port, links);
  }

  /** The newest connection, once there is one. @throws {Error} where none comes. */
  async link(): Promise<Link> {
    if (!(await until(() => this.links.length > 0))) throw new Error('no connection');
    return this.links.at(-1)!;
  }
}
