/** docs/threat-model.md: each promise points at tests, and they exist. */
import { existsSync, readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { titlesOf } from './titles.ts';

const root = new URL('../../', import.meta.url);
const read = (path: string): string => readFileSync(new URL(path, root), 'utf8');

interface Promised {
  readonly id: string;
  readonly tests: ReadonlyArray<{ readonly file: string; readonly title: string }>;
}

/** `- **N1.** ...`, and below it `  - \`file\`: "title"`. */
function promisesOf(document: string): Promised[] {
  return document
    .split(/^(?=- \*\*)/m)
    .slice(1)
    .map((part) => ({
      id: /^- \*\*(\w+)\.\*\*/.exec(part)?.[1] ?? '',
      tests: [...part.matchAll(/^ {2}- `([^`]+)`: "(.+)"$/gm)].map(([, file = '', title = '']) => ({
        file,
        title,
      })),
    }));
}

const document = read('docs/threat-model.md');
const promises = promisesOf(document);

describe('docs/threat-model.md', () => {
  test('has promises against each attacker, each with a name of its own', () => {
    const ids = promises.map(({ id }) => id);
    expect(new Set(ids).size).toBe(ids.length);
    expect(new Set(ids.map((id) => id[0]))).toEqual(new Set(['N', 'P', 'E', 'L']));
  });

  test('no line that names a test is left out by how it is written', () => {
    const named = promises.flatMap(({ tests }) => tests).length;
    expect(document.match(/^\s+- .*\.test\.ts/gm)).toHaveLength(named);
  });

  test.each(promises)('promise $id is held by tests that exist', ({ tests }) => {
    expect(tests).not.toHaveLength(0);
    const missing = tests.filter(({ file, title }) => {
      if (!existsSync(new URL(file, root))) return true;
      return !titlesOf(read(file)).some((pattern) => pattern.test(title));
    });
    expect(missing).toEqual([]);
  });

  test('its links lead somewhere', () => {
    const links = [...document.matchAll(/\]\(([^)#]+)\)/g)].map(([, link = '']) => link);
    expect(links).not.toHaveLength(0);
    const here = new URL('docs/', root);
    expect(links.filter((link) => !existsSync(new URL(link, here)))).toEqual([]);
  });
});

describe('a title', () => {
  const has = (source: string, title: string) => titlesOf(source).some((one) => one.test(title));

  test('is that of a test or a block of them, whatever hangs on the call', () => {
    expect(has("test('what it does', () => {});", 'what it does')).toBe(true);
    expect(has("describe.concurrent('what it does', body);", 'what it does')).toBe(true);
    expect(has("test.each(rows)('what $name does', () => {});", 'what it does')).toBe(true);
    expect(has(`it(\`what \${name} does\`, () => {});`, 'what it does')).toBe(true);
  });

  test('is not one in a comment, of another call, or of a test that does not run', () => {
    expect(has("// test('what it does', () => {});", 'what it does')).toBe(false);
    expect(has("socket.on('what it does', () => {});", 'what it does')).toBe(false);
    expect(has("test.skip('what it does', () => {});", 'what it does')).toBe(false);
    expect(has("test.todo('what it does');", 'what it does')).toBe(false);
  });

  test('is not one of which nearly all is known only when it runs', () => {
    expect(has(`test(\`\${name}: \${what}\`, () => {});`, 'anything: at all')).toBe(false);
  });

  test('is all of it', () => {
    expect(has("test('what it does', () => {});", 'what it does not')).toBe(false);
    expect(has("test('what it does', () => {});", 'what it')).toBe(false);
  });
});
