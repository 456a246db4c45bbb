/** `record: true`: what a stream's transcript has of a real connection, in both versions and roles. */
import { describe, expect, it } from 'vitest';
import {
  connect,
  createServer,
  type HandshakeEntry,
  Transcript,
  type TranscriptEntry,
} from '../../../src/index.ts';
import { opensslServer } from '../../support/cli-servers.ts';
import { pki } from '../../support/core-pki.ts';
import { describeWith } from '../../support/interop-peers.ts';

const VERSIONS = ['TLSv1.2', 'TLSv1.3'] as const;

/** An echo over a connection that both parties record, closed by the client. */
async function echo(version: (typeof VERSIONS)[number]) {
  const { cert, key } = pki().server;
  const theirs = new Transcript({ local: 'server' });
  const versions = { minVersion: version, maxVersion: version };
  const closed: Array<Promise<unknown>> = [];
  await using server = createServer({ cert, key, ...versions, record: () => theirs }, (stream) => {
    const done = (async () => {
      for await (const bytes of stream) await stream.write(bytes);
      await stream.close();
    })();
    closed.push(done);
    return done;
  });
  const { port } = await server.listen(0, '127.0.0.1');
  const stream = await connect({ host: 'localhost', port, ca: pki().ca, record: true });
  await stream.write('hello');
  await stream.read();
  await stream.close();
  await Promise.all(closed);
  return { stream, ours: stream.transcript, theirs };
}

const messages = (entries: readonly TranscriptEntry[], direction: 'sent' | 'received') =>
  entries
    .filter((entry): entry is HandshakeEntry => entry.type === 'handshake')
    .filter((entry) => entry.direction === direction)
    .flatMap((entry) => entry.messages.map(({ name }) => name));

const CLIENT_FLIGHTS = {
  'TLSv1.2': ['client_hello', 'client_key_exchange', 'change_cipher_spec', 'finished'],
  'TLSv1.3': ['client_hello', 'change_cipher_spec', 'finished'],
};
const SERVER_FLIGHTS = {
  'TLSv1.2': [
    ...['server_hello', 'certificate', 'server_key_exchange', 'server_hello_done'],
    ...['new_session_ticket', 'change_cipher_spec', 'finished'],
  ],
  'TLSv1.3': [
    ...['server_hello', 'change_cipher_spec', 'encrypted_extensions', 'certificate'],
    ...['certificate_verify', 'finished', 'new_session_ticket'],
  ],
};

describe.each(VERSIONS)('%s', (version) => {
  it('has the handshake by name, on both sides', async () => {
    const { ours, theirs } = await echo(version);
    expect(ours?.role).toBe('client');
    expect(theirs.role).toBe('server');
    for (const transcript of [ours, theirs]) expect(transcript?.protocol).toBe(version);
    expect(messages(ours?.entries ?? [], 'sent')).toEqual(CLIENT_FLIGHTS[version]);
    expect(messages(ours?.entries ?? [], 'received')).toEqual(SERVER_FLIGHTS[version]);
    expect(messages(theirs.entries, 'received')).toEqual(CLIENT_FLIGHTS[version]);
    expect(messages(theirs.entries, 'sent')).toEqual(SERVER_FLIGHTS[version]);
  });

  it('has close_notify with the record that it came in, decrypted', async () => {
    const { ours, theirs } = await echo(version);
    const tls13 = version === 'TLSv1.3';
    for (const transcript of [ours, theirs]) {
      for (const direction of ['sent', 'received'] as const) {
        const found = transcript?.entries.filter(
          (entry) =>
            entry.type === 'event' &&
            entry.observation.type === 'close-notify' &&
            entry.observation.direction === direction,
        );
        expect(found).toMatchObject([
          {
            record: {
              contentType: tls13 ? 23 : 21,
              length: tls13 ? 19 : 26,
              protected: true,
              level: 'warning',
            },
          },
        ]);
      }
      // It is told of once: not as an alert, nor as a record of data.
      expect(
        transcript?.entries.filter(
          (entry) => entry.type === 'event' && entry.observation.type === 'alert',
        ),
      ).toEqual([]);
      expect(transcript?.verdict).toBe('secure');
    }
  });

  it('has data as data, and knows that it is', async () => {
    const { ours } = await echo(version);
    const traffic = ours?.entries.filter(({ type }) => type === 'traffic');
    expect(traffic).toMatchObject([
      { direction: 'sent', records: 1, calls: 1, bytes: 5, decrypted: true },
      { direction: 'received', records: 1, calls: 1, bytes: 5, decrypted: true },
    ]);
  });

  it('has no secrets', async () => {
    const { ours } = await echo(version);
    expect(ours?.secrets).toBeNull();
    expect(JSON.stringify(ours)).not.toMatch(/CLIENT_RANDOM|TRAFFIC_SECRET|[0-9a-f]{64}/i);
  });

  it('has them when asked for, in the form of RFC 9850', async () => {
    const { cert, key } = pki().server;
    await using server = createServer(
      { cert, key, minVersion: version, maxVersion: version },
      (stream) => stream.close(),
    );
    const { port } = await server.listen(0, '127.0.0.1');
    const transcript = new Transcript({ secrets: true });
    const stream = await connect({ host: 'localhost', port, ca: pki().ca, record: transcript });
    await stream.close();
    expect(stream.transcript).toBe(transcript);
    const label = version === 'TLSv1.2' ? 'CLIENT_RANDOM' : 'CLIENT_TRAFFIC_SECRET_0';
    expect(transcript.secrets).toContainEqual(
      expect.stringMatching(new RegExp(`^${label} [0-9a-f]{64} ([0-9a-f]{2})+$`)),
    );
    const json = JSON.parse(JSON.stringify(transcript));
    expect(Transcript.fromJSON(json).secrets).toEqual(transcript.secrets);
  });

  it('has records by their headers alone with decode: false', async () => {
    const { cert, key } = pki().server;
    await using server = createServer(
      { cert, key, minVersion: version, maxVersion: version },
      (stream) => stream.close(),
    );
    const { port } = await server.listen(0, '127.0.0.1');
    const transcript = new Transcript({ decode: false });
    const stream = await connect({ host: 'localhost', port, ca: pki().ca, record: transcript });
    await stream.close();
    expect(transcript.onBytes).toBeUndefined();
    expect(transcript.onSecret).toBeUndefined();
    expect(messages(transcript.entries, 'received')).toEqual([]);
    expect(transcript.entries.some(({ type }) => type === 'handshake')).toBe(true);
    expect(transcript.verdict).toBe('secure');
  });
});

it('without record there is none', async () => {
  const { cert, key } = pki().server;
  await using server = createServer({ cert, key }, (stream) => stream.close());
  const { port } = await server.listen(0, '127.0.0.1');
  const stream = await connect({ host: 'localhost', port, ca: pki().ca });
  await stream.close();
  expect(stream.transcript).toBeNull();
});

it('a deadline says how long was waited', async () => {
  const { cert, key } = pki().server;
  const options = { cert, key, answer: 'when-told' } as const;
  const done: Array<() => void> = [];
  await using server = createServer(options, () => new Promise<void>((end) => done.push(end)));
  const { port } = await server.listen(0, '127.0.0.1');
  const stream = await connect({ host: 'localhost', port, ca: pki().ca, record: true });
  await expect(stream.shutdown({ deadline: 20 })).rejects.toThrow();
  stream.abort();
  for (const end of done) end();
  expect(stream.transcript?.entries).toContainEqual(
    expect.objectContaining({ observation: { type: 'deadline', phase: 'shutdown', ms: 20 } }),
  );
});

describeWith(['openssl'], 'against openssl s_server', () => {
  it('a fatal alert of TLS 1.3 is decoded, with its record', async () => {
    // "certificate_required: Sent by servers when a client certificate is desired but none was
    // provided by the client" (RFC 9846 section 6.2)
    await using server = await opensslServer('-Verify', '1', '-tls1_3');
    const transcript = new Transcript();
    const options = { host: 'localhost', port: server.port, ca: pki().ca, record: transcript };
    const stream = await connect(options);
    await expect(stream.read()).rejects.toMatchObject({ code: 'ERR_TLS_ALERT' });
    const alerts = transcript.entries.filter(
      (entry) => entry.type === 'event' && entry.observation.type === 'alert',
    );
    expect(alerts).toMatchObject([
      {
        observation: {
          direction: 'received',
          alert: { code: 116, name: 'certificate_required', authenticated: true },
        },
        record: { contentType: 23, length: 19, protected: true, level: 'fatal' },
      },
    ]);
    expect(messages(transcript.entries, 'received')).toContain('certificate_request');
  });
});
