/** Memory that is given back. */
import { afterEach, expect, test, vi } from 'vitest';

afterEach(() => vi.unstubAllGlobals());

test.each([undefined, class Fake {}])(
  'is gone at once, also where the global MessageChannel is %s',
  async (MessageChannel) => {
    vi.stubGlobal('MessageChannel', MessageChannel);
    // What it is given back by is made once.
    vi.resetModules();
    const { giveBack } = await import('../../../src/tap/memory.ts');
    const large = Buffer.alloc(100_000);
    const part = Buffer.from(new ArrayBuffer(10), 2, 4);
    giveBack([large]);
    giveBack([part]);
    expect(large.length).toBe(0);
    // Somebody else has the rest of it.
    expect(part.length).toBe(4);
  },
);
