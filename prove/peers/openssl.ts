/** The OpenSSL peer that sends KeyUpdate: how it is compiled, started, talked to and stopped. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { settled } from '../../test/support/splice.ts';
import { compile } from './compile.ts';

/** What the peer saw of a connection; keyupdate.cpp says more. */
export interface PeerReport {
  readonly heard: Buffer;
  /** Our close_notify came. */
  readonly clean: boolean;
  /** Its own was sent. */
  readonly closed: boolean;
  /** How many bytes the kernel took from it. */
  readonly written: number;
  /** KeyUpdates that it sent and that it got: with update_not_requested, with update_requested. */
  readonly sent: readonly [number, number];
  readonly got: readonly [number, number];
  readonly error: string;
}

/** What to ask of it on a connection. */
export interface Ask {
  /** Its TLS role. */
  readonly role: 'client' | 'server';
  /** Whether it closes as soon as it has heard all, or once it has been closed on. */
  readonly closes: 'first' | 'second';
  /** As a client: whose session it resumes. */
  readonly slot: number;
}

/** What it says and hears on every connection. */
export interface Talk {
  readonly cert: string;
  readonly key: string;
  /** Three pieces; it sends KeyUpdate behind the first and the second. */
  readonly says: readonly Buffer[];
  /** How many bytes it hears. */
  readonly hears: number;
}

const SOURCE = fileURLToPath(new URL('keyupdate.cpp', import.meta.url));

/** What OpenSSL's headers say they are; null where there are none, or no compiler. */
export function opensslHeaders(): string | null {
  const input =
    '#include <openssl/opensslv.h>\n#include <openssl/ssl.h>\nversion OPENSSL_VERSION_TEXT\n';
  const { status, stdout } = spawnSync('g++', ['-E', '-P', '-x', 'c++', '-'], {
    input,
    encoding: 'utf8',
    maxBuffer: 1 << 26,
  });
  const found = /^version "(.+)"/m.exec(stdout ?? '');
  return status === 0 && found !== null ? (found[1] as string) : null;
}

/** @returns the path of the compiled program. */
export const compilePeer = (headers: string): Promise<string> => compile(SOURCE, headers);

type Line = { event?: string; port?: number; id?: number; heard?: string } & Omit<
  PeerReport,
  'heard'
>;

/** How long a report may take once its connection is over, in milliseconds. */
const PATIENCE = 20_000;

/** The running peer. */
export class KeyUpdatePeer implements AsyncDisposable {
  readonly #child: ChildProcess;
  readonly #folder: string;
  readonly #waiting = new Map<number, (report: PeerReport) => void>();
  #ids = 0;
  #port = 0;

  private constructor(child: ChildProcess, folder: string) {
    this.#child = child;
    this.#folder = folder;
  }

  /** Starts it, on a free port. */
  static async start(program: string, { cert, key, says, hears }: Talk): Promise<KeyUpdatePeer> {
    const folder = await mkdtemp(path.join(os.tmpdir(), 'close-notify-keyupdate-'));
    const files = { cert: path.join(folder, 'cert.pem'), key: path.join(folder, 'key.pem') };
    await writeFile(files.cert, cert);
    await writeFile(files.key, key, { mode: 0o600 });
    const hex = says.map((piece) => piece.toString('hex')).join(',');
    const child = spawn(
      program,
      [...['--cert', files.cert, '--key', files.key], ...['--says', hex, '--hears', String(hears)]],
      { stdio: ['pipe', 'pipe', 'inherit'] },
    );
    const peer = new KeyUpdatePeer(child, folder);
    await peer.#listening();
    return peer;
  }

  #listening(): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#child.once('error', reject);
      this.#child.once('close', () => reject(new Error('the OpenSSL peer has ended')));
      createInterface({ input: this.#child.stdout as NodeJS.ReadableStream }).on('line', (text) => {
        const { event, port = 0, id = -1, heard = '', ...rest } = JSON.parse(text) as Line;
        if (event === 'listening') {
          this.#port = port;
          resolve();
          return;
        }
        this.#waiting.get(id)?.({ ...rest, heard: Buffer.from(heard, 'hex') });
        this.#waiting.delete(id);
      });
    });
  }

  /** Opens a connection to it, on which nothing has been said but what it is to do. */
  async meet({ role, closes, slot }: Ask): Promise<{
    readonly tcp: net.Socket;
    /** What it saw, or 'hang' if it does not say. */
    readonly report: () => Promise<PeerReport | 'hang'>;
  }> {
    const tcp = net.connect({
      port: this.#port,
      host: '127.0.0.1',
      allowHalfOpen: true,
      noDelay: true,
    });
    await once(tcp, 'connect');
    const id = this.#ids++;
    const reported = new Promise<PeerReport>((resolve) => this.#waiting.set(id, resolve));
    tcp.write(`${role} ${closes} ${slot} ${id}\n`);
    return { tcp, report: () => settled(reported, PATIENCE) };
  }

  /** Stops it. */
  async [Symbol.asyncDispose](): Promise<void> {
    const ended = once(this.#child, 'close');
    this.#child.kill('SIGKILL');
    await ended;
    await rm(this.#folder, { recursive: true, force: true });
  }
}
