/**
 * A party played by plain `node:tls`, told what to do through nothing but the socket's own methods.
 *
 * `end()` is the only way to send close_notify, and sends a FIN behind it. With `allowHalfOpen` it
 * is not called by Node itself as soon as the peer has ended. What a shutdown came to can only be
 * guessed from the events that follow, so they are what is reported. Nothing cancels an `end()`, so
 * this party cannot play A of scenario 7.
 */
import type { AddressInfo } from 'node:net';
import { setImmediate as turn } from 'node:timers/promises';
import tls from 'node:tls';
import type { Action } from '../../../src/cli/scenarios.ts';
import { isUnanswered, type Part, type Party, TEXT } from './party.ts';

export class NodeParty implements Party {
  readonly closure = null;
  readonly #part: Part;
  readonly #events: string[] = [];
  readonly #questions = new Set<() => void>();
  #server: tls.Server | null = null;
  #accepted: Promise<tls.TLSSocket> | null = null;
  #socket: tls.TLSSocket | null = null;

  constructor(part: Part) {
    this.#part = part;
  }

  get socket(): tls.TLSSocket {
    if (this.#socket === null) throw new Error('no handshake yet');
    return this.#socket;
  }

  /** Events, for A. B's would hang on when A's end of the transport goes, which proves nothing. */
  get reported(): readonly string[] {
    return this.#part.side === 'A' ? this.#events : [];
  }

  get #versions() {
    const version = `TLSv${this.#part.tls}` as const;
    return { minVersion: version, maxVersion: version, allowHalfOpen: true } as const;
  }

  async listen(): Promise<number> {
    const { key, cert } = this.#part.pki;
    const server = tls.createServer({ ...this.#versions, key, cert });
    this.#server = server;
    this.#accepted = new Promise((resolve, reject) => {
      server.once('secureConnection', resolve).once('tlsClientError', reject);
    });
    this.#accepted.catch(() => {});
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    return (server.address() as AddressInfo).port;
  }

  async meet(port: number): Promise<void> {
    if (this.#part.handshake === 'server') {
      this.#adopt((await this.#accepted) as tls.TLSSocket);
      return;
    }
    const { ca } = this.#part.pki;
    const socket = tls.connect({
      ...this.#versions,
      host: '127.0.0.1',
      port,
      ca,
      servername: 'localhost',
    });
    let tickets = 0;
    await new Promise<void>((resolve, reject) => {
      // As in OurParty: tickets that nobody read would turn a drop into a reset.
      socket.on('session', () => {
        if (this.#part.tls === '1.3' && ++tickets === 2) resolve();
      });
      socket.once('secureConnect', () => {
        if (this.#part.tls === '1.2') resolve();
      });
      socket.once('error', reject);
    });
    // Node emits 'session' from within OpenSSL's reading. A write or end() called in there is lost.
    await turn();
    this.#adopt(socket);
  }

  async prepare(): Promise<void> {}

  async perform(action: Action): Promise<void> {
    const { socket } = this;
    switch (action) {
      case 'write':
        await new Promise<void>((resolve) => socket.write(TEXT, () => resolve()));
        return;
      case 'read':
        socket.resume();
        await this.#until(() => this.#events.length > 0);
        return;
      case 'shutdown':
        socket.end();
        await this.#until(() => socket.writableFinished || socket.destroyed);
        return;
      case 'shutdown-no-wait':
        socket.end();
        await this.#until(() => socket.writableFinished || socket.destroyed);
        socket.destroy();
        return;
      case 'drop':
        socket.destroy();
        await this.#until(() => socket.closed);
        return;
      case 'cancel':
        throw new Error('node:tls cannot cancel an end()');
    }
  }

  async noticed(action: Action): Promise<void> {
    if (action === 'drop') await this.#until(() => this.#events.length > 0 || this.socket.closed);
  }

  async settled(): Promise<void> {
    if (this.#part.side === 'B') return;
    if (isUnanswered(this.#part.scenario)) {
      this.#events.push('nothing: it has no deadline');
      return;
    }
    this.socket.resume();
    const sent = this.socket.writableEnded;
    await this.#until(() =>
      sent ? this.#events.some((event) => event.startsWith('close')) : this.#events.length > 0,
    );
  }

  async dispose(): Promise<void> {
    this.#socket?.destroy();
    const server = this.#server;
    if (server !== null) await new Promise<void>((resolve) => server.close(() => resolve()));
  }

  #adopt(socket: tls.TLSSocket): void {
    this.#socket = socket;
    const saw = (event: string) => {
      this.#events.push(event);
      this.#ask();
    };
    // Scenario 8 is about data that A has not read; in the others it always reads.
    if (this.#part.side === 'A' && this.#part.scenario.number === 8) socket.pause();
    else socket.resume();
    socket.on('data', () => saw('data'));
    socket.on('end', () => saw('end'));
    socket.on('error', (error: Error & { code?: string }) => saw(`error ${error.code}`));
    socket.on('close', (failed) => saw(`close(${failed})`));
    socket.on('finish', () => this.#ask());
  }

  #ask(): void {
    for (const question of this.#questions) question();
  }

  #until(holds: () => boolean): Promise<void> {
    return new Promise((resolve) => {
      const question = () => {
        if (!holds()) return;
        this.#questions.delete(question);
        resolve();
      };
      this.#questions.add(question);
      question();
    });
  }
}
