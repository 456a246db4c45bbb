'use strict';
// The package once more, in another context of this thread, with a cache of its own: as a test runner
// loads what it tests.

const { readFileSync } = require('node:fs');
const { createRequire } = require('node:module');
const { join } = require('node:path');
const { runInNewContext } = require('node:vm');
const { HOME, load, main } = require('./lib.cjs');

main(async () => {
  load();
  const file = join(HOME, 'index.js');
  const local = createRequire(file);
  delete require.cache[local.resolve(local('node-gyp-build').path(HOME))];
  const body = `(function (require, exports, __dirname) {${readFileSync(file, 'utf8')}})`;
  const again = {};
  runInNewContext(body, { process })(local, again, HOME);
  return again;
});
