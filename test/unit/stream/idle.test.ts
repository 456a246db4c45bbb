import { performance } from 'node:perf_hooks';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { Idleness } from '../../../src/stream/idle.ts';

let now = 0;

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
  vi.spyOn(performance, 'now').mockImplementation(() => now);
});
afterEach(() => {
  vi.useRealTimers();
  vi.restoreAllMocks();
});

/** The clock and the timers, together. */
function pass(milliseconds: number): void {
  for (let i = 0; i < milliseconds; i++) {
    now += 1;
    vi.advanceTimersByTime(1);
  }
}

test('as long as something crosses, it is not told; then it is told once', () => {
  const told = vi.fn();
  const idleness = new Idleness(100, told);
  idleness.begin();
  for (let i = 0; i < 20; i++) {
    pass(90);
    idleness.active();
  }
  expect(told).not.toHaveBeenCalled();
  pass(99);
  expect(told).not.toHaveBeenCalled();
  pass(1);
  expect(told).toHaveBeenCalledExactlyOnceWith(100);
  pass(1_000);
  expect(told).toHaveBeenCalledTimes(1);
});

test('stopped, it is never told', () => {
  const told = vi.fn();
  const idleness = new Idleness(100, told);
  idleness.begin();
  idleness.stop();
  pass(1_000);
  expect(told).not.toHaveBeenCalled();
});

test('beyond the longest timer of Node it is never told, where setTimeout would fire at once', () => {
  const told = vi.fn();
  const idleness = new Idleness(2 ** 31, told);
  expect(idleness.matters).toBe(false);
  idleness.begin();
  pass(10);
  expect(told).not.toHaveBeenCalled();
});
