/** The hostile peer, and what our streams make of it. */
import { describe, expect, test } from 'vitest';
import { connect } from '../../../src/index.ts';
import type { TlsStream } from '../../../src/stream/tls-stream.ts';
import { channel, type HostilePeer, hostilePeer, selfSigned } from '../../../src/testing/index.ts';
import { rejection } from '../../support/core-streams.ts';

const credentials = selfSigned();

async function meet(version: 'TLSv1.2' | 'TLSv1.3') {
  const wire = channel({ highWaterMark: 16_384 });
  const [victim, peer] = await Promise.all([
    connect({
      transport: wire.ends[0],
      ca: credentials.ca,
      servername: credentials.servername,
      minVersion: version,
      maxVersion: version,
    }),
    hostilePeer(wire, { role: 'server', version, credentials, deadline: 5_000 }),
  ]);
  return { victim, peer };
}

type Deed = readonly [string, (peer: HostilePeer) => void, RegExp];

/** What it does, and which failures a read may give. */
const DEEDS: readonly Deed[] = [
  ['ends without close_notify', (peer) => peer.cut('fin'), /TRUNCATED/],
  ['resets', (peer) => peer.cut('reset'), /TRUNCATED/],
  ['sends garbage', (peer) => peer.sendGarbage(), /ALERT/],
  ['forges close_notify', (peer) => peer.forgeCloseNotify(), /ALERT/],
];

describe.each(['TLSv1.2', 'TLSv1.3'] as const)('%s: a peer that', (version) => {
  test.each(DEEDS)('%s', async (_name, misbehave, code) => {
    const { victim, peer } = await meet(version);
    using _ = peer;
    misbehave(peer);
    expect((await rejection(victim.read())).code).toMatch(code);
    expect(victim.closure.verdict).not.toBe('secure');
    victim.abort();
  });

  test('ends inside a record', async () => {
    const { victim, peer } = await meet(version);
    using _ = peer;
    peer.cutAfter(7, 'fin');
    await peer.party.write(Buffer.from('never whole'));
    await rejection(victim.read());
    expect(victim.closure.truncation?.where).toBe('inside-record');
    victim.abort();
  });

  const ended = async (victim: TlsStream, call: Promise<unknown>) => {
    expect((await rejection(call)).code).toBe('ERR_TLS_TIMEOUT');
    expect(victim.closure.verdict).not.toBe('secure');
    victim.abort();
  };

  test('falls silent, and never closes', async () => {
    const { victim, peer } = await meet(version);
    using _ = peer;
    peer.fallSilent();
    await ended(victim, victim.shutdown({ deadline: 50 }));
    expect(victim.closure).toMatchObject({
      receive: 'abandoned',
      sent: { at: expect.any(Number) },
    });
  });

  test('never reads', async () => {
    const { victim, peer } = await meet(version);
    using _ = peer;
    peer.stopReading();
    await ended(victim, victim.write(Buffer.alloc(1_000_000), { deadline: 50 }));
  });
});
