// @ts-check
/**
 * Two streams in whichever runtime started it, on one channel: each ending of theirs, as a line of JSON, and why a
 * client takes no stranger's certificate. Plain JavaScript, on the compiled package, because not every runtime here
 * reads TypeScript.
 *
 *     <runtime> evidence.child.mjs <URL of the compiled package's folder>
 */
import process from 'node:process';

const [, , dist = ''] = process.argv;
const { accept, connect } = await import(`${dist}index.js`);
const { channel, selfSigned } = await import(`${dist}testing/index.js`);
const { key, cert, ca, servername } = selfSigned();

/** @param {any} stream */
const ending = ({ closure: { verdict, sent, received, alert } }) => ({
  verdict,
  sent: sent?.evidence ?? null,
  received: received?.evidence ?? null,
  alert: alert && { code: alert.code, direction: alert.direction },
});

/** What the stream's next read comes to. @param {any} stream */
const next = (stream) =>
  stream.read().then(
    (/** @type {Uint8Array | null} */ bytes) => (bytes === null ? 'end' : 'data'),
    (/** @type {{ code?: string }} */ { code }) => code ?? 'an error without a code',
  );

for (const version of ['TLSv1.2', 'TLSv1.3']) {
  for (const how of ['closed', 'refused']) {
    const wire = channel();
    const [near, far] = wire.ends;
    const only = { minVersion: version, maxVersion: version };
    const [client, server] = await Promise.all([
      connect({ transport: near, ca, servername, ...only }),
      accept(far, { key, cert, ...only }),
    ]);
    await server.write('first');
    const first = await next(client);
    if (how === 'closed') {
      await Promise.all([client.shutdown(), server.shutdown()]);
    } else {
      // A record of application data that nobody can have made.
      wire.back.inject(Uint8Array.of(23, 3, 3, 0, 40, ...new Uint8Array(40)));
    }
    const reads = [first, await next(client), await next(server)];
    const told = { version, how, reads, client: ending(client), server: ending(server) };
    process.stdout.write(`${JSON.stringify(told)}\n`);
    client.abort();
    server.abort();
  }
}
// Nobody has told it whom to trust.
const wire = channel();
const [opening] = await Promise.allSettled([
  connect({ transport: wire.ends[0], servername }),
  accept(wire.ends[1], { key, cert }),
]);
const { code, cause } = /** @type {any} */ (opening).reason;
process.stdout.write(`${JSON.stringify({ how: 'untrusted', code, why: cause.code })}\n`);
process.exit(0);
