/** The parts of `npm run prove`, in the order in which they run. How to add one: see main.ts. */
import type { Part } from './part.ts';

/** Loads a part, so that `--only` runs no line of the others. */
export type Loader = () => Promise<{ readonly part: Part }>;

/** By the name that `--only` takes. */
export const PARTS: Readonly<Record<string, Loader>> = {
  machine: () => import('./machine/part.ts'),
  lockstep: () => import('./lockstep/part.ts'),
  cuts: () => import('./cuts/part.ts'),
  bytes: () => import('./bytes/part.ts'),
  load: () => import('./load/part.ts'),
  runtimes: () => import('./runtimes/part.ts'),
};
