/** A worker that is an ES module; it looks, and tells whoever made it. */
import { createRequire } from 'node:module';
import { parentPort } from 'node:worker_threads';

const { look } = createRequire(import.meta.url)('./look.cjs');
parentPort.postMessage(await look(Number(process.argv[2])));
