import { describe, expect, test } from 'vitest';
import { checkDeadline, DEFAULT_POLICY, resolvePolicy } from '../../../src/closure/policy.ts';

describe('resolvePolicy', () => {
  test('defaults: strict, answering as each version asks, keeping unread data, every wait but reading limited', () => {
    const policy = resolvePolicy();
    expect(policy).toEqual({
      requireCloseNotify: true,
      answer: 'by-version',
      unread: 'keep',
      unreadLimit: 16 * 1024 * 1024,
      deadlines: {
        resolve: 5_000,
        connect: 10_000,
        handshake: 10_000,
        read: Number.POSITIVE_INFINITY,
        write: 300_000,
        shutdown: 5_000,
        close: 5_000,
      },
      idleTimeout: Number.POSITIVE_INFINITY,
      linger: { time: 2_000, count: 1_000 },
    });
  });

  test('linger: in parts, and refused by name', () => {
    expect(resolvePolicy({ linger: { time: 5 } }).linger).toEqual({ time: 5, count: 1_000 });
    expect(resolvePolicy({ linger: { count: 0 } }).linger).toEqual({ time: 2_000, count: 0 });
    for (const linger of [{ time: 0 }, { count: -1 }, { count: 0.5 }, { bytes: 1 }, 7, null]) {
      expect(() => resolvePolicy({ linger } as unknown as object), JSON.stringify(linger)).toThrow(
        /\blinger\b/,
      );
    }
  });

  test('undefined is the default, also for a single deadline', () => {
    const none = { requireCloseNotify: undefined, deadlines: { read: undefined } };
    expect(resolvePolicy(none as unknown as object)).toEqual(DEFAULT_POLICY);
    expect(resolvePolicy({ deadlines: undefined })).toEqual(DEFAULT_POLICY);
  });

  test('each knob is its own: one changed, the others stay', () => {
    for (const change of [
      { requireCloseNotify: false },
      { answer: 'at-once' },
      { answer: 'when-told' },
      { unread: 'discard' },
      { unreadLimit: 0 },
      { unreadLimit: Number.POSITIVE_INFINITY },
      { idleTimeout: 30_000 },
    ] as const) {
      expect(resolvePolicy(change)).toEqual({ ...DEFAULT_POLICY, ...change });
    }
    for (const name of Object.keys(DEFAULT_POLICY.deadlines)) {
      expect(resolvePolicy({ deadlines: { [name]: 7 } })).toEqual({
        ...DEFAULT_POLICY,
        deadlines: { ...DEFAULT_POLICY.deadlines, [name]: 7 },
      });
    }
  });

  test('a base of its own', () => {
    const base = resolvePolicy({ answer: 'at-once', deadlines: { read: 9 } });
    expect(resolvePolicy({ unread: 'discard', deadlines: { write: 8 } }, base)).toEqual({
      ...base,
      unread: 'discard',
      deadlines: { ...base.deadlines, write: 8 },
    });
  });

  test('what it returns shares nothing with what was given', () => {
    const policy = resolvePolicy();
    expect(policy.deadlines).not.toBe(DEFAULT_POLICY.deadlines);
  });

  const wrong: Array<[string, unknown, RegExp]> = [
    ['requireCloseNotify', 'yes', /^requireCloseNotify must be a boolean$/],
    ['requireCloseNotify', 1, /^requireCloseNotify/],
    ['requireCloseNotify', 0, /^requireCloseNotify/],
    ['answer', 'never', /^answer must be/],
    ['answer', true, /^answer/],
    ['unread', 'drop', /^unread must be/],
    ['unread', {}, /^unread/],
    ['unreadLimit', -1, /^unreadLimit must be a number of bytes, 0 or more$/],
    ['unreadLimit', Number.NaN, /^unreadLimit/],
    ['unreadLimit', '5', /^unreadLimit/],
    ['deadlines', 5, /^deadlines must be an object$/],
    ['deadlines', null, /^deadlines/],
    ['deadlines', 'x', /^deadlines/],
    ['deadlines', { hello: 1 }, /^there is no option deadlines\.hello$/],
    ['deadlines', { toString: 1 }, /^there is no option deadlines\.toString/],
    ['deadlines', { read: 0 }, /^deadlines\.read must be a number of milliseconds above 0$/],
    ['deadlines', { read: -1 }, /^deadlines\.read/],
    ['deadlines', { read: Number.NaN }, /^deadlines\.read/],
    ['deadlines', { read: '5' }, /^deadlines\.read/],
    ['deadlines', { read: null }, /^deadlines\.read/],
  ];
  test.each(wrong)('%s: %j is refused, by name', (name, value, message) => {
    expect(() => resolvePolicy({ [name]: value })).toThrow(message);
  });
});

test('checkDeadline takes Infinity, and no text', () => {
  expect(() => checkDeadline(Number.POSITIVE_INFINITY, 'x')).not.toThrow();
  expect(() => checkDeadline(0.5, 'x')).not.toThrow();
  for (const value of [0, -1, Number.NaN, '1', null, undefined, 1n]) {
    expect(() => checkDeadline(value, 'x')).toThrow('x must be a number of milliseconds above 0');
  }
});
