/**
 * Breadth first through all worlds of one set of rules, each once.
 *
 * Breadth first, so that the first world in which something is broken is also the nearest to the
 * start: its trace is the shortest there is. Worlds are kept only while they wait for their turn;
 * of those behind them stays a number and where they came from, which is enough to walk the trace
 * again.
 */
import type { Rule } from '../../src/drawing/drawing.ts';
import { STEP_INVARIANTS, WORLD_INVARIANTS } from './invariants.ts';
import { type Edge, Model, type Rules, type Step, type Subject, type World } from './world.ts';

/** A broken invariant, and the shortest way to it. */
export interface Counterexample {
  /** The invariant's name, and the sentence that it holds. */
  readonly name: string;
  readonly rule: Rule;
  /** What was seen, in words. */
  readonly what: string;
  readonly rules: Rules;
  /** From the start to the world in which it broke. */
  readonly trace: readonly Edge[];
}

/** What a search has seen. */
export interface Found {
  readonly worlds: number;
  /** Moves between them: each was looked at. */
  readonly edges: number;
  /** Moves from the start to the farthest world that was reached. */
  readonly depth: number;
  /** Whether there is nothing beyond: every order of moves, of any length, was looked at. */
  readonly complete: boolean;
  readonly counterexample: Counterexample | null;
}

/** How far to search. */
export interface SearchOptions {
  /** Moves from the start, at most; no bound by default. */
  readonly depth?: number | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Told of each step of a party, once. */
  readonly onStep?: ((step: Step) => void) | undefined;
}

/**
 * Searches until all worlds have been seen, or an invariant breaks.
 *
 * @throws the signal's reason.
 */
export function search(rules: Rules, subject: Subject, options: SearchOptions = {}): Found {
  const { depth: limit = Number.POSITIVE_INFINITY, signal, onStep } = options;
  /** What is wrong with a step, if anything: asked once, however many worlds it is taken in. */
  const wrong = new Map<Step, Broken>();
  const model = new Model(rules, subject, (step) => {
    onStep?.(step);
    const broken = brokenByStep(step, rules);
    if (broken !== null) wrong.set(step, broken);
  });
  const seen = new NumberSet();
  seen.add(model.keyOf(model.start));
  const links = new Links();
  let ring: World[] = [model.start];
  let first = 0;
  let depth = 0;
  let edges = 0;

  while (ring.length > 0 && depth < limit) {
    const next: World[] = [];
    for (const [place, world] of ring.entries()) {
      if ((place & 1023) === 0) signal?.throwIfAborted();
      let choice = 0;
      for (const side of SIDES) {
        for (const step of model.stepsFrom(world, side)) {
          edges++;
          const isNew = seen.add(model.keyAfter(world, step));
          const reached = isNew ? model.after(world, step) : null;
          const broken =
            (wrong.size > 0 ? wrong.get(step) : null) ?? (reached && brokenByWorld(reached, rules));
          if (broken !== null && broken !== undefined) {
            const trace = walk(model, [...links.pathTo(first + place), choice]);
            const counterexample = { ...broken, rules, trace };
            return { worlds: seen.size, edges, depth: depth + 1, complete: false, counterexample };
          }
          if (reached !== null) {
            links.add(first + place, choice);
            next.push(reached);
          }
          choice++;
        }
      }
    }
    first += ring.length;
    if (next.length > 0) depth++;
    ring = next;
  }
  const complete = ring.length === 0;
  return { worlds: seen.size, edges, depth, complete, counterexample: null };
}

const SIDES = [0, 1] as const;

type Broken = Pick<Counterexample, 'name' | 'rule' | 'what'>;

function brokenByStep(step: Step, rules: Rules): Broken | null {
  for (const { name, rule, holds } of STEP_INVARIANTS) {
    const what = holds(step, rules);
    if (what !== null) return { name, rule, what: `${'AB'[step.move.to]}: ${what}` };
  }
  return null;
}

function brokenByWorld({ parties: [a, b] }: World, rules: Rules): Broken | null {
  for (const { name, rule, holds } of WORLD_INVARIANTS) {
    const [atA, atB] = [holds(a, b, rules), holds(b, a, rules)];
    if (atA !== null) return { name, rule, what: `A: ${atA}` };
    if (atB !== null) return { name, rule, what: `B: ${atB}` };
  }
  return null;
}

function walk(model: Model, path: readonly number[]): Edge[] {
  let world = model.start;
  return path.map((choice) => {
    const edge = model.expand(world)[choice] as Edge;
    world = edge.world;
    return edge;
  });
}

// ---- millions of worlds in little memory

/** A set of whole numbers from 0 up: a Set would take five times the room, and twice the time. */
class NumberSet {
  size = 0;
  #slots = new Float64Array(1024).fill(-1);

  /** Whether it was not there yet. */
  add(key: number): boolean {
    if (this.size * 2 >= this.#slots.length) this.#grow();
    const slot = this.#slotOf(key);
    if (this.#slots[slot] === key) return false;
    this.#slots[slot] = key;
    this.size++;
    return true;
  }

  #slotOf(key: number): number {
    const slots = this.#slots;
    const mask = slots.length - 1;
    const low = (key % 2 ** 32) | 0;
    const high = Math.floor(key / 2 ** 32);
    let slot = Math.imul(low ^ Math.imul(high, 0x9e3779b1), 0x85ebca6b);
    slot = (slot ^ (slot >>> 15)) & mask;
    while (slots[slot] !== -1 && slots[slot] !== key) slot = (slot + 1) & mask;
    return slot;
  }

  #grow(): void {
    const old = this.#slots;
    this.#slots = new Float64Array(old.length * 2).fill(-1);
    for (const key of old) if (key !== -1) this.#slots[this.#slotOf(key)] = key;
  }
}

/** Of each world but the first, in the order in which they were found: which one led to it, and how. */
class Links {
  #from = new Int32Array(1024);
  #choice = new Uint8Array(1024);
  #size = 1;

  add(from: number, choice: number): void {
    if (this.#size === this.#from.length) {
      const [oldFrom, oldChoice] = [this.#from, this.#choice];
      this.#from = new Int32Array(this.#size * 2);
      this.#from.set(oldFrom);
      this.#choice = new Uint8Array(this.#size * 2);
      this.#choice.set(oldChoice);
    }
    this.#from[this.#size] = from;
    this.#choice[this.#size] = choice;
    this.#size++;
  }

  /** The choices that lead from the first world to this one. */
  pathTo(world: number): number[] {
    const path: number[] = [];
    for (let at = world; at > 0; at = this.#from[at] as number) {
      path.unshift(this.#choice[at] as number);
    }
    return path;
  }
}
