// @ts-check
/**
 * Bundles `src/` into what the package exports and its command: a program that imports sixty modules waits for
 * each of them to be found, read and linked, which takes longer than all that is in them. What several entries need
 * is in chunks that they share, so that there is one of each class, whoever imports it.
 */
import { chmodSync, copyFileSync, readFileSync } from 'node:fs';
import { rolldown } from 'rolldown';

/** @typedef {string | { readonly default: string }} Target */

/** @type {{ exports: Record<string, Target>, bin: Record<string, string>, dependencies: object }} */
const { exports, bin, dependencies } = JSON.parse(
  readFileSync(new URL('../package.json', import.meta.url), 'utf8'),
);
const commands = Object.values(bin);
const files = Object.values(exports).flatMap((target) =>
  typeof target === 'string' ? [] : [target.default],
);
const names = [...files, ...commands].map((file) => file.replace(/^(?:\.\/)?dist\/|\.js$/g, ''));

const bundle = await rolldown({
  input: Object.fromEntries(names.map((name) => [name, `src/${name}.ts`])),
  external: [/^node:/, ...Object.keys(dependencies)],
  platform: 'node',
  transform: { target: 'node20.19' },
});
await bundle.write({
  dir: 'dist',
  format: 'esm',
  entryFileNames: '[name].js',
  chunkFileNames: 'chunks/[name]-[hash].js',
  sourcemap: true,
  comments: false,
});
// What is not bundled, but loaded by its path.
copyFileSync('src/strict/preload.cjs', 'dist/strict/preload.cjs');
for (const command of commands) chmodSync(command, 0o755);
