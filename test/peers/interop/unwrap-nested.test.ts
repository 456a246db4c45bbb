/** TLS inside TLS: the outer stream's Duplex is the transport of an inner one. */
import { expect, it } from 'vitest';
import { describeWith } from '../../support/interop-peers.ts';
import { begun, handshake, type Pair, tcpPair } from './pair.ts';
import { TLS_VERSIONS, type TlsVersion } from './party.ts';
import { Plain, talk } from './plain.ts';

const text = (bytes: Uint8Array | null) => (bytes === null ? null : Buffer.from(bytes).toString());

/** Inner streams over the Duplexes of the outer ones. */
const inside = ({ client, server }: Pair, tls: TlsVersion) =>
  handshake([client.toDuplex(), server.toDuplex()], tls);

async function secure({ client, server }: Pair): Promise<void> {
  const closures = await Promise.all([client.shutdown(), server.shutdown()]);
  expect(closures.map(({ verdict }) => verdict)).toEqual(['secure', 'secure']);
}

describeWith(['openssl'], 'TLS inside TLS', () => {
  for (const outerTls of TLS_VERSIONS) {
    for (const innerTls of TLS_VERSIONS) {
      const versions = `TLS ${innerTls} in TLS ${outerTls}`;

      it(`the inner closure is secure, then the outer one (${versions})`, async () => {
        using outer = await tcpPair(outerTls);
        using inner = await inside(outer, innerTls);
        await inner.client.write('through two layers');
        expect(text(await inner.server.read())).toBe('through two layers');
        await secure(inner);
        expect(outer.client.closure.verdict).toBe('open');
        // The outer stream goes on: what is plaintext to the inner one is its data.
        const client = new Plain(await inner.client.unwrap());
        const server = new Plain(await inner.server.unwrap());
        expect(client.transport).toBe(outer.client.toDuplex());
        await talk(client, server, 6300);
        await secure(outer);
        await talk(
          new Plain(await outer.client.unwrap()),
          new Plain(await outer.server.unwrap()),
          6300,
        );
      });

      it(`cutting the outer one truncates the inner one (${versions})`, async () => {
        using outer = await tcpPair(outerTls);
        using inner = await inside(outer, innerTls);
        await inner.client.write('half of it');
        expect(text(await inner.server.read())).toBe('half of it');
        const reading = begun(inner.server.read());
        outer.clientEnd.destroy();
        await expect(reading).rejects.toMatchObject({ code: 'ERR_TLS_TRUNCATED' });
        expect(inner.server.closure).toMatchObject({ verdict: 'truncated', received: null });
        expect(outer.server.closure).toMatchObject({ verdict: 'truncated', received: null });
      });

      it(`a secure outer closure does not make the inner one so (${versions})`, async () => {
        using outer = await tcpPair(outerTls);
        using inner = await inside(outer, innerTls);
        await inner.client.write('half of it');
        expect(text(await inner.server.read())).toBe('half of it');
        const reading = begun(inner.server.read());
        const closing = begun(outer.client.shutdown());
        await expect(reading).rejects.toMatchObject({ code: 'ERR_TLS_TRUNCATED' });
        expect(inner.server.closure).toMatchObject({
          verdict: 'truncated',
          truncation: { cause: 'eof', where: 'record-boundary' },
        });
        await outer.server.shutdown();
        expect((await closing).verdict).toBe('secure');
        expect(outer.server.closure.verdict).toBe('secure');
      });
    }
  }
});
