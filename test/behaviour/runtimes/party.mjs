// @ts-check
/**
 * A party of this package in whichever runtime started it, at the end of a TCP connection. What it is
 * to do comes in by lines of JSON, one call each, and what came of it goes out the same way; `remote.ts`
 * is at the other end. Plain JavaScript, on the compiled package, because not every runtime here reads
 * TypeScript.
 *
 *     <runtime> party.mjs <URL of the compiled close-notify/testing>
 */
import { Buffer } from 'node:buffer';
import { once } from 'node:events';
import net from 'node:net';
import process from 'node:process';
import { createInterface } from 'node:readline';

const [, , module = ''] = process.argv;
const { closeNotifyAdapter } = await import(module);
const adapter = closeNotifyAdapter();

/** @param {object} line */
const tell = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);

for (const name of ['uncaughtException', 'unhandledRejection']) {
  process.on(name, (/** @type {unknown} */ error) => {
    tell({ stray: `${name}: ${error instanceof Error ? error.message : String(error)}` });
  });
}

/** @type {Map<number, any>} */
const parties = new Map();

/** @param {any} asked */
async function open({ party, port, ...options }) {
  const transport = net.connect({ port, host: '127.0.0.1', allowHalfOpen: true });
  await once(transport, 'connect');
  transport.setNoDelay(true);
  parties.set(party, await adapter.open({ ...options, transport }));
}

/** @param {any} asked */
async function answer(asked) {
  if (asked.call === 'open') return open(asked);
  const party = parties.get(asked.party);
  switch (asked.call) {
    case 'write':
      return party.write(Buffer.from(asked.bytes, 'base64'));
    case 'read': {
      const bytes = await party.read();
      return bytes === null ? null : Buffer.from(bytes).toString('base64');
    }
    case 'closeWrite':
      return party.closeWrite();
    case 'close':
      return party.close();
    case 'destroy':
      parties.delete(asked.party);
      return party?.destroy();
    default:
      throw new TypeError(`no such call: ${asked.call}`);
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  const asked = JSON.parse(line);
  const ending = () => parties.get(asked.party)?.ending?.();
  answer(asked).then(
    (value) => tell({ id: asked.id, value: value ?? null, ending: ending() }),
    (error) => tell({ id: asked.id, error: String(error?.message ?? error), ending: ending() }),
  );
}
process.exit(0);
