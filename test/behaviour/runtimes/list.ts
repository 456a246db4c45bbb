/** The runtimes that hold the conformance kit, and what each is known not to do. */
import type { Role } from '../../../src/testing/index.ts';
import type { Major, RuntimeName } from '../../support/runtimes.ts';

/**
 * Where the kit runs. In memory, the whole kit is in the runtime (`guest.mjs`). Over TCP, only the stream
 * under test is there, and the kit with its reference is here (`remote.ts`): that is for sockets, and for a
 * runtime that cannot be its own reference. Bun cannot: the kit needs one that answers close_notify
 * only when told.
 */
export type Way = 'in memory' | 'over TCP';

/** One runtime. */
export interface Runtime {
  readonly name: string;
  readonly program: RuntimeName;
  readonly args: readonly string[];
  readonly ways: readonly Way[];
  /** Roles that it cannot take at all. */
  readonly never: readonly Role[];
  readonly exceptions: readonly Exception[];
}

/** Checks that are known to fail for one reason: in every role and version, in one way. */
export interface Exception {
  readonly checks: readonly string[];
  readonly way: Way;
}

const node = (major: Major): Runtime => ({
  name: `Node ${major}`,
  program: `node-${major}`,
  args: [],
  ways: ['in memory'],
  never: [],
  exceptions: [],
});

/** See docs/testing.md, "Runtimes", for what is behind the exceptions. */
export const RUNTIMES: readonly Runtime[] = [
  node(20),
  node(22),
  node(24),
  node(26),
  {
    name: 'Deno 2',
    program: 'deno',
    args: ['run', '-A'],
    ways: ['in memory', 'over TCP'],
    never: [],
    exceptions: [],
  },
  {
    name: 'Bun 1',
    program: 'bun',
    args: [],
    ways: ['over TCP'],
    never: [],
    exceptions: [{ checks: ['closure/half-close-of-the-peer'], way: 'over TCP' }],
  },
];
