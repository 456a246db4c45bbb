/**
 * A party played by `openssl s_client` or `s_server`.
 *
 * They read all the time, and answer a close_notify with theirs at once. So what they can play is:
 *
 * - B, who answers (3, 4, 8): by itself.
 * - B, who must not answer (2, 7, 9): frozen before A begins.
 * - B, who closes its transport without shutdown (1, 2, 5): killed.
 * - B, who calls shutdown (6): `Q` makes s_client send close_notify. On s_server it closes the
 *   transport without an alert, and no other command sends one, so s_server cannot play this.
 * - A, who reads (5, 6): by itself.
 * - A, who shuts down and does not wait (4): `Q` again, so s_client alone.
 * - Not A where it waits for the answer (2, 3, 7, 8, 9), which neither of them ever does; and not A
 *   of 1, because it would have read the end before it shut down, which is scenario 5.
 */
import type { Action } from '../../../src/cli/scenarios.ts';
import { PeerProcess } from '../../support/interop-process.ts';
import { type Handshake, OurParty, type Part, type Party, type Side, TEXT } from './party.ts';

/** Whether the part is one of those above. */
export function opensslPlays(scenario: number, side: Side, handshake: Handshake): boolean {
  if (side === 'B') return scenario !== 6 || handshake === 'client';
  return scenario === 5 || scenario === 6 || (scenario === 4 && handshake === 'client');
}

export class OpensslParty implements Party {
  readonly closure = null;
  readonly reported: string[] = [];
  readonly #part: Part;
  #process: PeerProcess | null = null;

  constructor(part: Part) {
    this.#part = part;
  }

  get #version(): string {
    return `-tls${this.#part.tls.replace('.', '_')}`;
  }

  /** Whether the first step is this party's shutdown. */
  get #begins(): boolean {
    const [side, action] = this.#part.scenario.steps[0] ?? [];
    return side === this.#part.side && action === 'shutdown';
  }

  async listen(): Promise<number> {
    const { certFile, keyFile } = this.#part.pki;
    this.#process = new PeerProcess('openssl', [
      ...['s_server', '-accept', '127.0.0.1:0', '-naccept', '1', this.#version],
      ...['-cert', certFile, '-key', keyFile],
    ]);
    const port = await this.#process.until((output) => /^ACCEPT .*:(\d+)$/m.exec(output)?.[1]);
    return Number(port);
  }

  async meet(port: number): Promise<void> {
    if (this.#part.handshake === 'client') {
      this.#process = new PeerProcess('openssl', [
        ...['s_client', '-connect', `127.0.0.1:${port}`, '-servername', 'localhost'],
        ...[this.#version, '-CAfile', this.#part.pki.certFile, '-verify_return_error'],
      ]);
      await this.#process.until((output) => /Verify return code: 0/.exec(output));
    } else {
      await this.#process?.until((output) => /^CIPHER is /m.exec(output));
    }
  }

  async prepare(other: Party): Promise<void> {
    // s_client does not tell when it has read its session tickets. It has once it shows data that
    // came behind them.
    if (
      this.#part.handshake === 'client' &&
      this.#part.tls === '1.3' &&
      other instanceof OurParty
    ) {
      await other.stream.write('greetings\n');
      await this.#process?.until((output) => /^greetings$/m.exec(output));
    }
    const { steps } = this.#part.scenario;
    const answers = steps.some(([side, action]) => side === 'B' && action === 'shutdown');
    if (this.#part.side === 'B' && steps[0]?.[0] === 'A' && !answers) await this.#process?.freeze();
  }

  async perform(action: Action): Promise<void> {
    switch (action) {
      case 'write':
        this.#process?.send(TEXT);
        return;
      case 'drop':
        await this.#process?.kill();
        return;
      case 'shutdown-no-wait':
        this.#process?.send('Q');
        return;
      case 'shutdown':
        // An answer it gives by itself.
        if (this.#begins) this.#process?.send('Q');
        return;
      case 'read':
        return;
      case 'cancel':
        throw new Error('openssl cannot cancel');
    }
  }

  async noticed(): Promise<void> {}

  async settled(): Promise<void> {
    if (this.#part.side === 'B' || this.#process === null) return;
    const exit = await this.#process.ended();
    const said = /unexpected eof while reading|^closed$|^DONE$|Connection reset by peer/m.exec(
      this.#process.output,
    );
    this.reported.push(said === null ? exit : `${said[0]}, ${exit}`);
  }

  async dispose(): Promise<void> {
    await this.#process?.kill();
  }
}
