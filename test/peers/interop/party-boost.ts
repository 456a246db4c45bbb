/**
 * A party played by Boost.Asio: test/peers/interop/boost/party.cpp, told each step by its name. What it
 * reports is the error_code that Asio gave to the handler.
 */
import type { Action } from '../../../src/cli/scenarios.ts';
import { PeerProcess } from '../../support/interop-process.ts';
import { boostParty } from './boost.ts';
import { isUnanswered, type Part, type Party, TEXT } from './party.ts';

interface Line {
  readonly op?: string;
  readonly id?: number;
  readonly event?: string;
  readonly port?: number;
  readonly category?: string;
  readonly value?: number;
  readonly message?: string;
}

export class BoostParty implements Party {
  readonly closure = null;
  readonly reported: string[] = [];
  readonly #part: Part;
  #process: PeerProcess | null = null;
  #commands = 0;
  #shutdown: number | null = null;
  #pending: Promise<void> = Promise.resolve();

  constructor(part: Part) {
    this.#part = part;
  }

  async #start(...args: string[]): Promise<PeerProcess> {
    const program = await boostParty();
    this.#process = new PeerProcess(program, [
      ...['--role', this.#part.handshake, '--tls', this.#part.tls],
      ...args,
    ]);
    return this.#process;
  }

  async listen(): Promise<number> {
    const { certFile, keyFile } = this.#part.pki;
    const process = await this.#start('--cert', certFile, '--key', keyFile);
    return process.until((output) => lines(output).find(({ event }) => event)?.port);
  }

  async meet(port: number): Promise<void> {
    if (this.#part.handshake === 'client') {
      await this.#start('--port', String(port), '--ca', this.#part.pki.certFile);
    }
    const { value, message } = await this.#result(this.#send('handshake'));
    if (value !== 0) throw new Error(`Boost: handshake: ${message}`);
  }

  async prepare(): Promise<void> {}

  async perform(action: Action): Promise<void> {
    switch (action) {
      case 'write':
        await this.#result(this.#send(`write ${TEXT}`));
        return;
      case 'read':
        this.#report('read', await this.#result(this.#send('read')));
        return;
      case 'shutdown':
        this.#shutdown = this.#send('shutdown');
        this.#pending = this.#result(this.#shutdown).then((line) => this.#report('shutdown', line));
        // It fails when the process ends, which is how a scenario that left it pending is ended.
        this.#pending.catch(() => {});
        return;
      case 'shutdown-no-wait': {
        const id = this.#send('shutdown-no-wait');
        this.#report('shutdown', await this.#result(id, 'shutdown-no-wait'));
        return;
      }
      case 'drop':
        await this.#result(this.#send('close'));
        return;
      case 'cancel':
        // Asio cancels what is waiting at that moment, and a shutdown that has just been woken is
        // not. A turn of its event loop later it is waiting again.
        do {
          await this.#result(this.#send('cancel'));
          await this.#turn();
        } while (this.#find(this.#shutdown) === undefined);
        return;
    }
  }

  async noticed(): Promise<void> {}

  async settled(): Promise<void> {
    if (this.#shutdown === null) return;
    if (isUnanswered(this.#part.scenario) && this.#part.side === 'A') {
      await this.#turn();
      if (this.#find(this.#shutdown) === undefined) {
        this.reported.push('shutdown: nothing, it has no deadline');
        return;
      }
    }
    await this.#pending;
  }

  async dispose(): Promise<void> {
    await this.#process?.kill();
  }

  #send(command: string): number {
    this.#process?.send(command);
    return ++this.#commands;
  }

  #find(id: number | null, op?: string): Line | undefined {
    return lines(this.#process?.output ?? '').find(
      (line) => line.id === id && (op === undefined || line.op === op),
    );
  }

  #result(id: number, op?: string): Promise<Line> {
    if (this.#process === null) throw new Error('not started');
    return this.#process.until(() => this.#find(id, op));
  }

  /** A turn of its event loop: the answer to a line that is no command, twice. */
  async #turn(): Promise<void> {
    await this.#result(this.#send('turn'));
    await this.#result(this.#send('turn'));
  }

  #report(call: string, { category, value, message }: Line): void {
    this.reported.push(`${call}: ${category}:${value} ${message}`);
  }
}

function lines(output: string): Line[] {
  return output
    .slice(0, output.lastIndexOf('\n') + 1)
    .split('\n')
    .filter((line) => line.startsWith('{'))
    .map((line) => JSON.parse(line) as Line);
}
