/** Whether an error is of a connection: by what was noted, and along all by which errors tell of others. */
import { Duplex } from 'node:stream';
import { describe, expect, test } from 'vitest';
import { INITIAL, step } from '../../../src/closure/machine.ts';
import { type Closure, closureOf } from '../../../src/closure/verdict.ts';
import {
  AbortError,
  ConnectError,
  OptionError,
  ShutdownError,
  TimeoutError,
  TruncatedError,
  UsageError,
} from '../../../src/errors.ts';
import { isOfConnection, noteOrigin, type Origin } from '../../../src/stream/origin.ts';

const open = closureOf(step(INITIAL, { type: 'established' }, 0));
const cut: Closure = closureOf(
  step(
    step(INITIAL, { type: 'established' }, 0),
    { type: 'transport-reset', where: 'record-boundary', code: 'ECONNRESET' },
    1,
  ),
);

const transport = new Duplex();
const origin: Origin = { transport, closure: open, reason: undefined };

/** An error that a call of a stream on this transport has rejected with. */
function noted<T extends Error>(error: T, on: Duplex = transport): T {
  noteOrigin(error, on);
  return error;
}

const bug = new TypeError('bug');
const ours = noted(new TruncatedError('cut'));
const another = noted(new TruncatedError('cut', { phase: 'read' }), new Duplex());

describe('an error is of a connection', () => {
  test('if a call of its stream has rejected with it, and not if one of another has', () => {
    expect(isOfConnection(ours, origin)).toBe(true);
    expect(isOfConnection(noted(new ShutdownError('over')), origin)).toBe(true);
    expect(isOfConnection(another, origin)).toBe(false);
    expect(isOfConnection(bug, origin)).toBe(false);
  });

  test('but not if that call was made at the wrong time, or with a wrong option', () => {
    for (const error of [
      new UsageError('ERR_TLS_READ_PENDING', 'twice'),
      new UsageError('ERR_TLS_TAKEN', 'taken'),
      new UsageError('ERR_TLS_NOT_SHUTDOWN', 'early', { closure: open }),
      new OptionError('wrong'),
    ]) {
      expect(isOfConnection(noted(error), origin), error.code).toBe(false);
    }
  });

  test('if nobody has noted it, by its phase', () => {
    const phases = ['read', 'write', 'shutdown', 'close', 'open'] as const;
    for (const phase of phases) {
      expect(isOfConnection(new AbortError({ phase }), origin), phase).toBe(true);
    }
    expect(isOfConnection(new AbortError({ phase: 'connect' }), origin)).toBe(false);
    expect(isOfConnection(new TimeoutError('late', { phase: 'resolve' }), origin)).toBe(false);
    expect(isOfConnection(new ConnectError('refused'), origin)).toBe(false);
  });

  test('along causes and the members of an AggregateError', () => {
    const wrapped = new Error('wrapped', { cause: new Error('again', { cause: ours }) });
    expect(isOfConnection(wrapped, origin)).toBe(true);
    expect(isOfConnection(new AggregateError([bug, wrapped]), origin)).toBe(true);
    expect(isOfConnection(new AggregateError([bug, another]), origin)).toBe(false);
    expect(isOfConnection(new Error('x', { cause: bug }), origin)).toBe(false);
  });

  test('along both errors that `using` tells of: one bug makes it a bug', () => {
    const both = (error: unknown, suppressed: unknown) =>
      Object.assign(new Error('suppressed'), { error, suppressed });
    expect(isOfConnection(both(ours, ours), origin)).toBe(true);
    expect(isOfConnection(both(ours, bug), origin)).toBe(false);
    expect(isOfConnection(both(bug, ours), origin)).toBe(false);
  });

  test('a chain that leads back into itself ends', () => {
    const one: Error & { cause?: unknown } = new Error('one');
    one.cause = new Error('two', { cause: one });
    expect(isOfConnection(one, origin)).toBe(false);
    (one.cause as { cause: unknown }).cause = new AggregateError([one, ours]);
    expect(isOfConnection(one, origin)).toBe(true);
  });

  test('if it is the reason of the signal, or what the transport failed with', () => {
    const reason = AbortSignal.abort().reason as unknown;
    expect(isOfConnection(reason, origin)).toBe(false);
    expect(isOfConnection(reason, { ...origin, reason })).toBe(true);
    expect(isOfConnection(new Error('x', { cause: reason }), { ...origin, reason })).toBe(true);
    const error = new Error('read ECONNRESET');
    const failed = new Duplex().on('error', () => {}).destroy(error);
    expect(isOfConnection(error, { ...origin, transport: failed })).toBe(true);
    expect(isOfConnection(error, origin)).toBe(false);
  });

  test("if Node's streams say that the stream is gone, and it is", () => {
    for (const code of ['ERR_STREAM_DESTROYED', 'ERR_STREAM_PREMATURE_CLOSE']) {
      const error = Object.assign(new Error('gone'), { code });
      expect(isOfConnection(error, { ...origin, closure: cut })).toBe(true);
      expect(isOfConnection(error, origin)).toBe(false);
    }
  });

  test('if the peer has made unwrap impossible', () => {
    const error = new UsageError('ERR_TLS_NOT_SHUTDOWN', 'closed', { closure: cut });
    expect(isOfConnection(error, origin)).toBe(true);
  });

  test('not if it is no object', () => {
    for (const thrown of [undefined, null, 'ERR_TLS_TRUNCATED', 7]) {
      expect(isOfConnection(thrown, origin)).toBe(false);
    }
  });
});
