/** What is published: the bundles that `npm run build` makes. */
import { execFileSync } from 'node:child_process';
import { PassThrough } from 'node:stream';
import { expect, test } from 'vitest';
import packed from '../../package.json' with { type: 'json' };

const entries = Object.entries(packed.exports).flatMap(([name, target]) =>
  typeof target === 'string' || name === './register' ? [] : [name.replace('.', 'close-notify')],
);

test('what one entry throws is an instance of what another one exports', async () => {
  // By another name: for the tests themselves, `close-notify` is src/.
  const load = (file: string) => import(new URL(`../../dist/${file}`, import.meta.url).href);
  const { OptionError } = await load('index.js');
  const { startTls } = await load('starttls/starttls.js');
  const { loadIdentities } = await load('client-cert/index.js');
  await expect(startTls(new PassThrough(), 'gopher', { host: 'a' })).rejects.toThrow(OptionError);
  await expect(loadIdentities('/none/of/this.pem')).rejects.toThrow(OptionError);
});

test.each(entries)('%s names its classes and functions as it exports them', (entry) => {
  const script = `import * as all from '${entry}';
    const named = Object.entries(all).filter(([, value]) => typeof value === 'function');
    console.log(JSON.stringify(named.map(([name, { name: own }]) => [name, own])));`;
  const pairs: [string, string][] = JSON.parse(
    execFileSync(process.execPath, ['--input-type=module', '-e', script], { encoding: 'utf8' }),
  );
  expect(pairs.length).toBeGreaterThan(0);
  for (const [exported, own] of pairs) expect(own).toBe(exported);
});

test('an error points to the sources, for who asks for source maps', () => {
  const script = `import { connect } from 'close-notify';
    await connect({ port: -1 }).catch(({ stack }) => console.log(stack));`;
  const stack = execFileSync(
    process.execPath,
    ['--enable-source-maps', '--input-type=module', '-e', script],
    { encoding: 'utf8' },
  );
  expect(stack).toMatch(/src\/stream\/connect\.ts:\d+/);
});
