/** Plaintext after TLS, and TLS again, with Python's `SSLSocket.unwrap()` at the other end. */
import { once } from 'node:events';
import net, { type AddressInfo } from 'node:net';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';
import { accept, connect, type TlsStream } from '../../../src/index.ts';
import { describeWith } from '../../support/interop-peers.ts';
import { testPki } from '../../support/interop-pki.ts';
import { PeerProcess } from '../../support/interop-process.ts';
import { begun, optionsFor } from './pair.ts';
import { TLS_VERSIONS, type TlsVersion } from './party.ts';
import { Plain } from './plain.ts';

const PARTY = fileURLToPath(new URL('./python/party.py', import.meta.url));

type Role = 'client' | 'server';

interface Line {
  readonly event?: string;
  readonly port?: number;
  readonly op?: string;
  readonly text?: string | null;
  readonly error?: string;
}

/** Python at the other end of a TCP connection. */
class Python implements AsyncDisposable {
  readonly #process: PeerProcess;
  #sent = 0;

  constructor(role: Role, tls: TlsVersion, certFile: string, keyFile: string, port?: number) {
    const args = [PARTY, role, tls, certFile, keyFile];
    this.#process = new PeerProcess('python3', port === undefined ? args : [...args, `${port}`]);
  }

  get #lines(): Line[] {
    const { output } = this.#process;
    const whole = output.slice(0, output.lastIndexOf('\n') + 1).split('\n');
    return whole.filter((line) => line.startsWith('{')).map((line) => JSON.parse(line) as Line);
  }

  port(): Promise<number> {
    return this.#process.until(() => this.#lines.find(({ event }) => event)?.port);
  }

  /** Gives it a command; resolves to what the call returned. */
  async do(command: string): Promise<string | null> {
    const index = this.#sent++;
    this.#process.send(command);
    const line = await this.#process.until(() => this.#lines.filter(({ op }) => op)[index]);
    if (line.error !== undefined) throw new Error(`python: ${command}: ${line.error}`);
    return line.text ?? null;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#process.kill();
  }
}

interface Meeting {
  readonly stream: TlsStream;
  readonly python: Python;
}

/** Meets with Python, which is the other role. */
async function meet(our: Role, tls: TlsVersion, run: (meeting: Meeting) => Promise<void>) {
  const { certFile, keyFile } = await testPki();
  const options = await optionsFor(tls);
  if (our === 'client') {
    await using python = new Python('server', tls, certFile, keyFile);
    const handshake = begun(python.do('handshake'));
    const transport = net.connect({ port: await python.port(), host: '127.0.0.1', noDelay: true });
    try {
      const stream = await connect({ ...options.client, transport });
      expect(await handshake).toBe(`TLSv${tls}`);
      await run({ stream, python });
    } finally {
      transport.on('error', () => {}).destroy();
    }
    return;
  }
  const listener = net.createServer({ noDelay: true });
  listener.listen(0, '127.0.0.1');
  await once(listener, 'listening');
  await using python = new Python(
    'client',
    tls,
    certFile,
    keyFile,
    (listener.address() as AddressInfo).port,
  );
  const handshake = begun(python.do('handshake'));
  const [transport] = (await once(listener, 'connection')) as [net.Socket];
  listener.close();
  try {
    const stream = await accept(transport, options.server);
    expect(await handshake).toBe(`TLSv${tls}`);
    await run({ stream, python });
  } finally {
    transport.on('error', () => {}).destroy();
  }
}

const text = (bytes: Uint8Array | null) => (bytes === null ? null : Buffer.from(bytes).toString());

const say = async ({ stream, python }: Meeting) => {
  await stream.write('hello, python');
  expect(await python.do('read 13')).toBe('hello, python');
  await python.do('write hello, node');
  expect(text(await stream.read())).toBe('hello, node');
};

/** Both close; `first` says who begins. Then plaintext goes both ways. */
async function unwrap({ stream, python }: Meeting, first: 'us' | 'python'): Promise<Plain> {
  let unwrapping: Promise<string | null>;
  if (first === 'us') {
    const closing = begun(stream.shutdown());
    unwrapping = begun(python.do('unwrap'));
    expect((await closing).verdict).toBe('secure');
  } else {
    unwrapping = begun(python.do('unwrap'));
    expect(await stream.read()).toBeNull();
    expect((await stream.shutdown()).verdict).toBe('secure');
  }
  // It waits there already, and is sent right behind Python's close_notify where that comes last.
  const writing = begun(python.do('plain-write plaintext from python'));
  const plain = new Plain(await stream.unwrap());
  await Promise.all([unwrapping, writing]);
  expect(await plain.read(21)).toBe('plaintext from python');
  await plain.write('plaintext from node');
  expect(await python.do('plain-read 19')).toBe('plaintext from node');
  return plain;
}

describeWith(['openssl', 'python'], "unwrap, us with Python's ssl", () => {
  for (const tls of TLS_VERSIONS) {
    for (const our of ['client', 'server'] as const) {
      for (const first of ['us', 'python'] as const) {
        it(`plaintext, then TLS again over the same TCP connection (TLS ${tls}, we are the ${our}, closed first by ${first})`, async () => {
          await meet(our, tls, async (meeting) => {
            const { python } = meeting;
            await say(meeting);
            const plain = await unwrap(meeting, first);
            const options = await optionsFor(tls);
            const wrapping = begun(python.do('wrap'));
            const { transport } = plain;
            const head = plain.takeRest();
            const stream =
              our === 'client'
                ? await connect({ ...options.client, transport, head })
                : await accept(transport, { ...options.server, head });
            expect(await wrapping).toBe(`TLSv${tls}`);
            await say({ stream, python });
            await unwrap({ stream, python }, first);
          });
        });
      }

      it(`plaintext sent right behind Python's close_notify (TLS ${tls}, we are the ${our})`, async () => {
        await meet(our, tls, async ({ stream, python }) => {
          const closing = begun(stream.shutdown());
          // One after another, without waiting: Python answers and writes in one go.
          const commands = ['unwrap', 'plain-write one ', 'plain-write two'].map((command) =>
            begun(python.do(command)),
          );
          expect((await closing).verdict).toBe('secure');
          // All of it is in our kernel by now, if not in `trailing`.
          await Promise.all(commands);
          const plain = new Plain(await stream.unwrap());
          expect(await plain.read(7)).toBe('one two');
        });
      });
    }
  }
});
