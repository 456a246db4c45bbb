// Writes beside each binary its SHA-256, by which index.js knows it again: a damaged library is refused
// instead of run.

const { createHash } = require('node:crypto');
const { existsSync, readdirSync, readFileSync, writeFileSync } = require('node:fs');
const { join } = require('node:path');

/** @param {string} home the package's folder */
function writeDigests(home) {
  for (const folder of ['build/Release', 'prebuilds']) {
    if (!existsSync(join(home, folder))) continue;
    for (const name of readdirSync(join(home, folder), { recursive: true })) {
      const file = join(home, folder, String(name));
      if (!file.endsWith('.node') || file.includes('obj.target')) continue;
      writeFileSync(
        `${file}.sha256`,
        `${createHash('sha256').update(readFileSync(file)).digest('hex')}\n`,
      );
    }
  }
}

module.exports = { writeDigests };

if (require.main === module) writeDigests(join(__dirname, '..'));
