/** After a full shutdown the transport carries plaintext, or TLS again: us with us. */
import { expect, it } from 'vitest';
import { accept, connect, type TlsStream } from '../../../src/index.ts';
import { describeWith } from '../../support/interop-peers.ts';
import { begun, optionsFor, type Pair, tcpPair, wirePair } from './pair.ts';
import { TLS_VERSIONS } from './party.ts';
import { Plain, talk } from './plain.ts';

const ROLES = ['client', 'server'] as const;
type Role = (typeof ROLES)[number];

const text = (bytes: Uint8Array | null) => (bytes === null ? null : Buffer.from(bytes).toString());

/** A full shutdown, begun by `initiator`. */
async function shutDown(pair: Pick<Pair, Role>, initiator: Role): Promise<void> {
  const first = pair[initiator];
  const second = pair[initiator === 'client' ? 'server' : 'client'];
  const [closure] = await Promise.all([
    first.shutdown(),
    (async () => {
      expect(await second.read()).toBeNull();
      await second.shutdown();
    })(),
  ]);
  expect(closure.verdict).toBe('secure');
  expect(second.closure.verdict).toBe('secure');
}

async function exchange({ client, server }: Pick<Pair, Role>): Promise<void> {
  const say = async (from: TlsStream, to: TlsStream, what: string) => {
    await from.write(what);
    expect(text(await to.read())).toBe(what);
  };
  await say(client, server, 'from the client');
  await say(server, client, 'from the server');
}

const RULE =
  '"If the application protocol using TLS provides that any data may be carried over the underlying transport after the TLS connection is closed, the TLS implementation MUST receive a close_notify alert before indicating end-of-data to the application layer" (RFC 9846 section 6.1)';

describeWith(['openssl'], `unwrap, us with us: ${RULE}`, () => {
  for (const tls of TLS_VERSIONS) {
    for (const initiator of ROLES) {
      it(`plaintext goes on over the same TCP connection (TLS ${tls}, the ${initiator} closes first)`, async () => {
        using pair = await tcpPair(tls);
        await exchange(pair);
        await shutDown(pair, initiator);
        const [client, server] = await Promise.all([pair.client.unwrap(), pair.server.unwrap()]);
        expect(client.transport).toBe(pair.clientEnd);
        expect(server.transport).toBe(pair.serverEnd);
        await talk(new Plain(client), new Plain(server));
        expect(pair.client.closure).toMatchObject({ verdict: 'secure', transportEnd: 'released' });
        expect(pair.server.closure).toMatchObject({ verdict: 'secure', transportEnd: 'released' });
      });

      it(`TLS, plaintext, TLS and plaintext again over one transport (TLS ${tls}, the ${initiator} closes first)`, async () => {
        using pair = await tcpPair(tls);
        const options = await optionsFor(tls);
        let streams: Pick<Pair, Role> = pair;
        for (let round = 1; round <= 3; round++) {
          await exchange(streams);
          await shutDown(streams, initiator);
          const client = new Plain(await streams.client.unwrap());
          const server = new Plain(await streams.server.unwrap());
          await talk(client, server, 630);
          if (round === 3) break;
          const [again, accepted] = await Promise.all([
            connect({ ...options.client, transport: client.transport, head: client.takeRest() }),
            accept(server.transport, { ...options.server, head: server.takeRest() }),
          ]);
          streams = { client: again, server: accepted };
        }
      });
    }

    it(`a ClientHello in the same segment as close_notify begins the next TLS connection (TLS ${tls})`, async () => {
      using pair = await wirePair(tls);
      const options = await optionsFor(tls);
      await exchange(pair);
      const closing = begun(pair.server.shutdown());
      expect(await pair.client.read()).toBeNull();
      // What the client does from here on arrives at the server as one segment.
      const { line } = pair.clientEnd;
      line.hold();
      await pair.client.shutdown();
      const closeNotify = line.held.length;
      const { transport, trailing } = await pair.client.unwrap();
      expect(trailing).toHaveLength(0);
      const connecting = begun(connect({ ...options.client, transport }));
      // The ClientHello goes out within the call, or at the latest when the engine gets its turn.
      while (line.held.length === closeNotify) {
        await new Promise((resolve) => setImmediate(resolve));
      }
      line.deliver();
      line.flow();
      expect((await closing).verdict).toBe('secure');
      const back = await pair.server.unwrap();
      // ContentType handshake, HandshakeType client_hello.
      expect([back.trailing[0], back.trailing[5]]).toEqual([22, 1]);
      const [client, server] = await Promise.all([
        connecting,
        accept(back.transport, { ...options.server, head: back.trailing }),
      ]);
      await exchange({ client, server });
      await shutDown({ client, server }, 'client');
    });
  }

  it('is refused before both close_notify, and a second time', async () => {
    using pair = await tcpPair('1.3');
    const refused = { code: 'ERR_TLS_NOT_SHUTDOWN' };
    await expect(pair.client.unwrap()).rejects.toMatchObject(refused);
    await pair.client.shutdown({ wait: false });
    await expect(pair.client.unwrap()).rejects.toMatchObject(refused);
    expect(await pair.server.read()).toBeNull();
    await expect(pair.server.unwrap()).rejects.toMatchObject(refused);
    await Promise.all([pair.server.shutdown(), pair.client.shutdown()]);
    await pair.client.unwrap();
    await pair.server.unwrap();
    await expect(pair.client.unwrap()).rejects.toMatchObject(refused);
  });

  it('data that nobody read before unwrap stays readable, apart from the plaintext', async () => {
    using pair = await tcpPair('1.3');
    await pair.server.write('unread');
    const [closure] = await Promise.all([pair.client.shutdown(), pair.server.shutdown()]);
    expect(closure).toMatchObject({ verdict: 'secure', late: 6 });
    const server = new Plain(await pair.server.unwrap());
    const client = new Plain(await pair.client.unwrap());
    await talk(client, server, 630);
    expect(text(await pair.client.read())).toBe('unread');
    expect(await pair.client.read()).toBeNull();
  });
});
