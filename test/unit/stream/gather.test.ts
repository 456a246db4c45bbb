/** What is decrypted within one feeding comes in one piece, to whom it belongs, on its side of the end. */
import { once } from 'node:events';
import http from 'node:http';
import { expect, test } from 'vitest';
import { channel } from '../../../src/testing/index.ts';
import { clean, turn } from '../../support/core-scope.ts';
import {
  type Pair,
  pair,
  pairInMemory,
  pattern,
  readAll,
  VERSIONS,
} from '../../support/core-streams.ts';

for (const version of VERSIONS) {
  test(
    `${version}: a hundred records that arrive together are one read, and one 'data'`,
    clean(async (scope) => {
      const wire = channel();
      const { client, server } = await pairInMemory(scope, version, { transports: wire.ends });
      const said = pattern(100 * 64);
      const say = async () => {
        wire.back.hold();
        for (let at = 0; at < said.length; at += 64) {
          await server.write(said.subarray(at, at + 64));
          await turn();
        }
        wire.back.deliver();
        wire.back.flow();
      };
      const reading = client.read();
      await say();
      expect(await reading).toEqual(said);
      const [[chunk]] = await Promise.all([once(client.socket, 'data'), say()]);
      expect(chunk).toEqual(said);
      await Promise.all([client.close(), server.close()]);
    }),
  );

  test(
    `${version}: records of all sizes, on three connections at once, one of them within another`,
    clean(async (scope) => {
      const [outer, other] = await Promise.all([pair(scope, version), pair(scope, version)]);
      const transports = [outer.client.socket, outer.server.socket] as const;
      const inner = await pair(scope, version, { transports });
      const conversation = async ({ client, server }: Pair, said: Buffer) => {
        const say = async () => {
          for (let at = 0, size = 1; at < said.length; at += size, size = (size * 7) % 20_011) {
            await server.write(said.subarray(at, at + size));
            if (size % 3 === 0) await turn();
          }
          return server.close();
        };
        const saying = say();
        expect((await readAll(client)).equals(said)).toBe(true);
        expect((await client.close()).verdict).toBe('secure');
        expect((await saying).verdict).toBe('secure');
      };
      const said = pattern(700_000);
      await Promise.all([
        conversation(inner, said),
        conversation(other, Buffer.from(said).reverse()),
      ]);
    }),
  );

  test(
    `${version}: what was read in bulk stays as it was, and keeps no more than four times its own memory`,
    clean(async (scope) => {
      const wire = channel();
      const { client, server } = await pairInMemory(scope, version, { transports: wire.ends });
      const said = pattern(40 * 71_000);
      const pieces: Uint8Array[] = [];
      for (let at = 0; at < said.length; at += 71_000) {
        wire.back.hold();
        await server.write(said.subarray(at, at + 70_000));
        await turn();
        await server.write(said.subarray(at + 70_000, at + 71_000));
        await turn();
        wire.back.deliver();
        wire.back.flow();
        for (let left = 71_000; left > 0; left -= pieces.at(-1)?.length ?? 0) {
          pieces.push((await client.read()) as Uint8Array);
        }
      }
      expect(Buffer.concat(pieces).equals(said)).toBe(true);
      // Small ones are in Node's own pool, whose memory some versions make a little larger than they say.
      const pool = Buffer.from('x').buffer.byteLength;
      const wasteful = pieces.filter(
        ({ length, buffer }) => buffer.byteLength > Math.max(4 * length, pool),
      );
      expect(wasteful).toEqual([]);
      await Promise.all([client.close(), server.close()]);
    }),
  );

  test(
    `${version}: Node's HTTP server reads from the handle of a stream's socket itself`,
    clean(async (scope) => {
      const { client, server } = await pair(scope, version);
      const body = pattern(300_000);
      const web = http.createServer((request, response) => {
        request.pipe(response);
      });
      web.emit('connection', server.socket);
      const request = http.request({
        method: 'POST',
        createConnection: () => client.socket,
        headers: { connection: 'close' },
      });
      request.end(body);
      const [response] = (await once(request, 'response')) as [http.IncomingMessage];
      expect(Buffer.concat(await response.toArray()).equals(body)).toBe(true);
    }),
  );
}
