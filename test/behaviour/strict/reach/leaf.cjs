/** A worker or a process that looks, and tells whoever made it. */
const { isMainThread, parentPort } = require('node:worker_threads');
const { look } = require('./look.cjs');

look(Number(process.argv[2])).then((seen) => {
  if (!isMainThread) parentPort.postMessage(seen);
  else if (process.send) process.send(seen, () => process.disconnect());
  else console.log(seen);
});
