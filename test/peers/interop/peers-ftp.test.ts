/**
 * A transport that goes back to plaintext, by a protocol that has it so: FTP's CCC (RFC 2228 section 3,
 * RFC 4217) clears the control connection of its TLS, and the session goes on in plaintext. ProFTPD as
 * the server, and curl as the client, which closes first and waits for the answer ('active'), or never
 * sends close_notify and goes on in plaintext once the server's has come ('passive').
 */
import { once } from 'node:events';
import net, { type AddressInfo } from 'node:net';
import { describe, expect, it } from 'vitest';
import { accept, connect, type TlsStream } from '../../../src/index.ts';
import { startTls } from '../../../src/starttls/starttls.ts';
import { missingPeers } from '../../support/interop-peers.ts';
import { testPki } from '../../support/interop-pki.ts';
import { PeerProcess } from '../../support/interop-process.ts';
import { startServer } from '../../support/starttls-servers.ts';
import { optionsFor } from './pair.ts';
import { TLS_VERSIONS, type TlsVersion } from './party.ts';
import { LOGIN, lineReader, PROFTPD } from './peers-ftp.ts';
import { find } from './peers-parties.ts';
import { Plain } from './plain.ts';

/** Skipped by name where the peer is missing, unless REQUIRE_PEERS=1. */
function describePeer(name: string, missing: string | null, body: () => void): void {
  describe(name, () => {
    if (missing === null) {
      body();
      return;
    }
    it.skipIf(process.env['REQUIRE_PEERS'] !== '1')(`needs ${missing}, which is missing`, () => {
      throw new Error(`${missing} is not installed, and REQUIRE_PEERS=1 asks for all peers`);
    });
  });
}

const openssl = missingPeers(['openssl']).length > 0 ? 'openssl' : null;

/** Lines over TLS. */
const secureLines = (stream: TlsStream) =>
  lineReader(async () => {
    const bytes = await stream.read();
    if (bytes === null) throw new Error('the peer closed');
    return Buffer.from(bytes).toString();
  });

/** Lines over what `unwrap` gave back. */
const plainLines = (plain: Plain) => lineReader(() => plain.read(1));

describePeer(
  'ProFTPD, us as the client',
  openssl ?? (PROFTPD.binary ? null : PROFTPD.package),
  () => {
    for (const tls of TLS_VERSIONS) {
      it(`AUTH TLS, login, CCC: "Any data received after a closure alert has been received MUST be ignored" by TLS, and is FTP's again (TLS ${tls})`, async () => {
        const server = await startServer(PROFTPD, true);
        const transport = net.connect({ port: server.port, host: '127.0.0.1', noDelay: true });
        try {
          await once(transport, 'connect');
          await startTls(transport, 'ftp', { host: 'localhost' });
          const { client } = await optionsFor(tls);
          const stream = await connect({ ...client, transport });
          const line = secureLines(stream);
          const say = async (command: string) => {
            await stream.write(`${command}\r\n`);
            return line();
          };
          expect(await say(`USER ${LOGIN.user}`)).toMatch(/^331 /);
          expect(await say(`PASS ${LOGIN.password}`)).toMatch(/^230 /);
          const folder = await say('PWD');
          expect(folder).toMatch(/^257 "/);
          expect(await say('CCC')).toMatch(/^200 /);

          // ProFTPD sends its close_notify behind that reply, and waits for ours.
          expect(await stream.read()).toBeNull();
          const closure = await stream.shutdown();
          expect(closure).toMatchObject({
            verdict: 'secure',
            initiator: 'peer',
            transportEnd: null,
          });
          const plain = new Plain(await stream.unwrap());
          expect(plain.transport).toBe(transport);

          const answer = plainLines(plain);
          await plain.write('PWD\r\n');
          expect(await answer()).toBe(folder);
          // The session is the one that logged in over TLS, and its server knows what became of that.
          await plain.write('AUTH TLS\r\n');
          expect(await answer()).toMatch(/^534 /);
          await plain.write('QUIT\r\n');
          expect(await answer()).toMatch(/^221 /);
          expect(stream.closure.verdict).toBe('secure');
        } finally {
          transport.on('error', () => {}).destroy();
          await server.stop();
        }
      });
    }
  },
);

/** What curl is told to have after CCC: it is a server's answer, in plaintext, to its PWD. */
const FOLDER = '257 "/"';

/** An FTP server's control connection over TLS, up to the answer to CCC; it logs what it was told. */
async function serve(transport: net.Socket, tls: TlsVersion) {
  const heard: string[] = [];
  const before = new Plain({ transport, trailing: new Uint8Array() });
  const clear = plainLines(before);
  await before.write('220 ready\r\n');
  heard.push(`plain ${await clear()}`);
  await before.write('234 begin\r\n');
  const { server } = await optionsFor(tls);
  const stream = await accept(transport, { ...server, head: before.takeRest() });
  const line = secureLines(stream);
  const ANSWERS: Readonly<Record<string, string>> = { USER: '331 password', PASS: '230 in' };
  for (;;) {
    const command = await line();
    heard.push(`TLS ${command}`);
    const [verb = ''] = command.split(' ');
    await stream.write(`${ANSWERS[verb] ?? '200 fine'}\r\n`);
    if (verb === 'CCC') return { stream, heard };
  }
}

/** The same session in plaintext, until QUIT. */
async function goOn(plain: Plain): Promise<string[]> {
  const heard: string[] = [];
  const line = plainLines(plain);
  for (;;) {
    const command = await line();
    heard.push(command);
    if (command === 'QUIT') {
      await plain.write('221 goodbye\r\n');
      return heard;
    }
    await plain.write(command === 'PWD' ? `${FOLDER}\r\n` : '200 fine\r\n');
  }
}

/** Has curl connect to us, and gives what it is told to `run`. */
async function withCurl(
  mode: 'active' | 'passive',
  run: (transport: net.Socket, curl: PeerProcess) => Promise<void>,
): Promise<void> {
  const listener = net.createServer({ noDelay: true });
  listener.listen(0, '127.0.0.1');
  await once(listener, 'listening');
  const { port } = listener.address() as AddressInfo;
  const { certFile } = await testPki();
  const curl = new PeerProcess('curl', [
    ...['-q', '-sS', '--noproxy', '*', '--cacert', certFile, '--ssl-reqd'],
    ...['--ftp-ssl-ccc', '--ftp-ssl-ccc-mode', mode, '--user', 'tester:secret'],
    // Nothing is transferred: commands on the control connection, and no more.
    ...['--resolve', `localhost:${port}:127.0.0.1`, '-I', '-Q', 'NOOP'],
    `ftp://localhost:${port}/`,
  ]);
  let transport: net.Socket | null = null;
  try {
    [transport] = (await once(listener, 'connection')) as [net.Socket];
    await run(transport, curl);
  } finally {
    await curl.kill();
    transport?.on('error', () => {}).destroy();
    listener.close();
  }
}

describePeer('curl, us as the server', openssl ?? (find('curl') ? null : 'curl'), () => {
  for (const tls of TLS_VERSIONS) {
    it(`CCC, active: curl closes first, and the session goes on in plaintext (TLS ${tls})`, async () => {
      await withCurl('active', async (transport, curl) => {
        const { stream, heard } = await serve(transport, tls);
        expect(heard[0]).toMatch(/^plain AUTH /);
        expect(heard.slice(1).every((one) => one.startsWith('TLS '))).toBe(true);
        expect(await stream.read()).toBeNull();
        const closure = await stream.shutdown();
        expect(closure).toMatchObject({ verdict: 'secure', initiator: 'peer', transportEnd: null });
        expect(await goOn(new Plain(await stream.unwrap()))).toEqual(
          expect.arrayContaining(['PWD', 'NOOP', 'QUIT']),
        );
        transport.end();
        expect(await curl.ended()).toBe('exit 0');
      });
    });

    it(`CCC, passive: curl's plaintext where its close_notify is due is never closure, and gives no transport back (TLS ${tls})`, async () => {
      await withCurl('passive', async (transport) => {
        const { stream } = await serve(transport, tls);
        // Behind our own close_notify no alert can say so.
        await expect(stream.shutdown()).rejects.toMatchObject({ code: 'ERR_TLS_ABORTED' });
        expect(stream.closure).toMatchObject({ verdict: 'aborted', received: null });
        await expect(stream.unwrap()).rejects.toMatchObject({ code: 'ERR_TLS_NOT_SHUTDOWN' });
        stream.abort();
      });
    });
  }
});
