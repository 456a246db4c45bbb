/** The conformance kit, held against streams in another process: what it says there it says here. */
import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { type Check, conformance, ROLES } from '../../../src/testing/index.ts';
import { RUNTIMES } from './list.ts';
import { Remote } from './remote.ts';

const url = (path: string) => new URL(path, import.meta.url).href;
const TSX = ['--import', 'tsx'];

/** A process of this Node, with streams of a kind of its own. */
const remote = (module: string) => new Remote([process.execPath, ...TSX], url(module));

const checksOf = (party: Remote): Check[] => conformance(party.adapter(ROLES), { limit: 20_000 });

test('streams in another process pass every check, over TCP', { timeout: 120_000 }, async () => {
  using party = remote('../../../src/testing/index.ts');
  const checks = checksOf(party);
  expect(checks.length).toBe(138);
  // Some at a time: they wait for deadlines more than for the processor.
  for (let at = 0; at < checks.length; at += 12) {
    await Promise.all(checks.slice(at, at + 12).map((check) => check.run()));
  }
  expect(party.strays()).toEqual([]);
});

describe('streams of plain node:tls there', () => {
  test.each([
    ['truncation/record-boundary/client/TLSv1.3', 'reading to fail'],
    ['truncation/inside-data/server/TLSv1.2', 'reading to fail'],
    ['truncation/after-own-close/client/TLSv1.2', 'reading to fail'],
  ])('fail %s as they do here', async (id, expected) => {
    using party = remote('./node-tls.ts');
    const check = checksOf(party).find((one) => one.id === id);
    await expect(check?.run()).rejects.toMatchObject({ check: id, expected });
  });
});

test('a process that ends fails what it was asked, and what it is asked after', async () => {
  using party = new Remote([process.execPath], url('no-such-module.js'), undefined, 'ignore');
  const [first, second] = checksOf(party);
  await expect(first?.run()).rejects.toThrow('the runtime has ended');
  await expect(second?.run()).rejects.toThrow('the runtime has ended');
});

test('every exception of a runtime is named in docs/testing.md', () => {
  const page = readFileSync(new URL('../../../docs/testing.md', import.meta.url), 'utf8');
  for (const { name, exceptions, never } of RUNTIMES) {
    for (const check of exceptions.flatMap(({ checks }) => checks)) {
      expect(page, name).toContain(`\`${check}\``);
    }
    for (const role of never) expect(page, name).toContain(`no ${role}`);
  }
});
