/**
 * What a flood of KeyUpdates costs whoever receives it: `npx tsx bench/key-updates.ts [COUNT]`.
 *
 * A KeyUpdate is the dearest record there is for its length (27 bytes): both OpenSSL and the reader of a stream's
 * evidence derive new keys for each. So this is the most that a peer can have us compute for a byte. A peer with keys
 * of its own sends them in a row, then one byte and close_notify, to `node:tls` and to a stream on each engine, in turn.
 */
import { once } from 'node:events';
import net, { type AddressInfo } from 'node:net';
import tls from 'node:tls';
import { connect } from '../src/index.ts';
import { selfSigned } from '../src/testing/index.ts';
import { CraftedPeer } from '../test/behaviour/verdicts/crafted-peer.ts';

const TURNS = 5;
/** A stream is measured on both engines. */
const FACES = ['node:tls', 'native', 'tapped'] as const;
type Face = (typeof FACES)[number];
const count = Number(process.argv[2] ?? 20_000);
const { key, cert, ca } = selfSigned();
const server = net.createServer().listen(0, '127.0.0.1');
await once(server, 'listening');
const { port } = server.address() as AddressInfo;
const options = { host: 'localhost', port, ca, minVersion: 'TLSv1.3' } as const;

/** @returns CPU time for each KeyUpdate, in microseconds. */
async function turn(face: Face): Promise<number> {
  const connection = once(server, 'connection');
  const dialled =
    face === 'node:tls' ? tls.connect(options) : connect({ ...options, engine: face });
  const [wire] = await connection;
  const peer = new CraftedPeer(wire, {
    role: 'server',
    version: 'TLSv1.3',
    identity: { key, cert },
  });
  await peer.ready;
  const side = await dialled;
  const flood = Array.from({ length: count }, () => peer.keyUpdate());
  const bytes = Buffer.concat([...flood, peer.data('x'), peer.closeNotify()]);
  const start = process.cpuUsage();
  wire.end(bytes);
  if (side instanceof tls.TLSSocket) await once(side.resume(), 'end');
  else for await (const _ of side);
  const { user, system } = process.cpuUsage(start);
  if (!(side instanceof tls.TLSSocket)) await side.close();
  return (user + system) / count;
}

const figures = new Map<Face, number[]>(FACES.map((face) => [face, []]));
for (let i = 0; i < TURNS; i++) {
  for (const [face, all] of figures) all.push(await turn(face));
}
for (const [face, all] of figures) {
  const median = all.sort((a, b) => a - b)[TURNS >> 1] as number;
  console.log(`${face}: ${median.toFixed(1)} µs of CPU time for a KeyUpdate (${count} in a row)`);
}
server.close();
