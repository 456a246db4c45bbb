/** Hooks of `module.register`, in a thread that Node makes for them. */
import { createRequire } from 'node:module';

export async function initialize({ port, theirs }) {
  const { look } = createRequire(import.meta.url)('./look.cjs');
  look(port).then((seen) => theirs.postMessage(seen));
}
