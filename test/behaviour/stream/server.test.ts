/** A server: programs that use the socket alone, many clients at once, transports taken back. */
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import tls from 'node:tls';
import { expect, test } from 'vitest';
import { connect, createServer, type TlsStream } from '../../../src/index.ts';
import { describeTls, pki } from '../../support/core-pki.ts';
import { clean, until } from '../../support/core-scope.ts';
import { only, VERSIONS } from '../../support/core-streams.ts';

for (const version of VERSIONS) {
  describeTls(`${version}: a client that closes in the very segment of its Finished`, () => {
    test(
      "the program that takes a Duplex afterwards hears 'end', and the client is answered",
      clean(async (scope) => {
        const streams: TlsStream[] = [];
        const events: string[] = [];
        const server = createServer({ ...pki().server, ...only(version) }, (stream) => {
          streams.push(stream);
          const duplex = stream.toDuplex({ allowHalfOpen: false });
          for (const name of ['end', 'error', 'close']) duplex.on(name, () => events.push(name));
          duplex.resume();
        });
        const port = await server.listen(0, '127.0.0.1');
        const client = tls.connect({ port, host: 'localhost', ca: pki().ca, ...only(version) });
        scope.defer(() => client.destroy());
        await once(client, 'secureConnect');
        client.end();
        client.resume();
        await once(client, 'close');
        await until('the socket is closed', () => events.includes('close'));
        expect(events).toEqual(['end', 'close']);
        expect(streams[0]?.closure.verdict).toBe('secure');
        await server.close();
      }),
    );

    test(
      'the program that looks at the address, and reads the stream, gets null',
      clean(async (scope) => {
        const server = createServer({ ...pki().server, ...only(version) }, async (stream) => {
          expect(stream.remoteAddress).toBe('127.0.0.1');
          expect(await stream.read()).toBe(null);
          expect((await stream.close()).verdict).toBe('secure');
        });
        const port = await server.listen(0, '127.0.0.1');
        const client = tls.connect({ port, host: 'localhost', ca: pki().ca, ...only(version) });
        scope.defer(() => client.destroy());
        await once(client, 'secureConnect');
        client.end();
        client.resume();
        await once(client, 'close');
        await server.close();
      }),
    );
  });

  // "Each party is required to send a 'close_notify' alert before closing the write side" (RFC 5246
  // section 7.2.1, RFC 9846 section 6.1): what follows it on the transport is not TLS any more.
  describeTls(`${version}: clients that send at once`, () => {
    test(
      'what each sends comes whole and unmixed, in TLS and behind it, slow readers included',
      clean(async () => {
        const digest = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');
        const server = createServer({ ...pki().server, ...only(version) }, async (stream) => {
          const pieces: Uint8Array[] = [];
          for await (const piece of stream) {
            pieces.push(piece);
            if (pieces.length % 3 === 0) await new Promise((resolve) => setImmediate(resolve));
          }
          await stream.shutdown();
          const { transport, trailing } = await stream.unwrap();
          const plain: Uint8Array[] = [trailing];
          transport.on('data', (chunk: Uint8Array) => plain.push(chunk)).resume();
          await once(transport, 'end');
          transport.end(`${digest(Buffer.concat(pieces))} ${digest(Buffer.concat(plain))}`);
        });
        const port = await server.listen(0, '127.0.0.1');
        const one = async () => {
          const [inside, behind] = [randomBytes(700_000), randomBytes(300_000)];
          const stream = await connect({ host: '127.0.0.1', port, ca: pki().ca, ...only(version) });
          for (let at = 0; at < inside.length; at += 9_000) {
            await stream.write(inside.subarray(at, at + 9_000));
          }
          await stream.shutdown();
          const { transport } = await stream.unwrap();
          const heard: Uint8Array[] = [];
          transport.on('data', (chunk: Uint8Array) => heard.push(chunk)).resume();
          transport.end(behind);
          await once(transport, 'end');
          expect(Buffer.concat(heard).toString()).toBe(`${digest(inside)} ${digest(behind)}`);
        };
        await Promise.all(Array.from({ length: 12 }, one));
        await server.close();
      }),
    );
  });
}
