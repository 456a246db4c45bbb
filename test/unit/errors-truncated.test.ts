/** `isTruncated`: whether an error, or one that it stands for, says that bytes may be missing. */
import { expect, test } from 'vitest';
import { INITIAL, step } from '../../src/closure/machine.ts';
import { closureOf } from '../../src/closure/verdict.ts';
import { AbortedError, isTruncated, TimeoutError, TruncatedError } from '../../src/errors.ts';

const open = step(INITIAL, { type: 'established' }, 0);
const cut = closureOf(step(open, { type: 'transport-eof', where: 'record-boundary' }, 1));
const closed = closureOf(
  step(step(open, { type: 'close' }, 1), { type: 'abandon', how: 'closed' }, 2),
);
const truncated = new TruncatedError('cut', { closure: cut });

test.each<[string, unknown, boolean]>([
  ['a truncation', truncated, true],
  [
    'the cause of another error, as with fetch',
    new TypeError('failed', { cause: truncated }),
    true,
  ],
  ['one of several', new AggregateError([new Error('a'), truncated]), true],
  ['one of several in a cause', new Error('x', { cause: new AggregateError([truncated]) }), true],
  [
    'suppressed',
    Object.assign(new Error('s'), { error: new Error('a'), suppressed: truncated }),
    true,
  ],
  ['that suppressed another', Object.assign(new Error('s'), { error: truncated }), true],
  [
    'with a code that a client put on it, as nodemailer does',
    Object.assign(new TruncatedError('cut', { closure: cut }), { code: 'ESOCKET' }),
    true,
  ],
  ['of another copy of this library', { code: 'ERR_TLS_TRUNCATED', incomplete: true }, true],
  ['a stream that was closed by us', new AbortedError('closed', { closure: closed }), false],
  ['a deadline', new TimeoutError('late', { closure: closureOf(open) }), false],
  [
    'where HTTP knew that nothing was missing',
    { code: 'ERR_TLS_TRUNCATED', incomplete: false },
    false,
  ],
  ["somebody else's", { code: 'EINCOMPLETE', incomplete: true }, false],
  ['a text', 'ERR_TLS_TRUNCATED', false],
  ['nothing', undefined, false],
  ['null', null, false],
])('%s', (_name, error, expected) => {
  expect(isTruncated(error)).toBe(expected);
});

test('errors that are causes of each other come to an end', () => {
  const a = new Error('a');
  const b = new Error('b', { cause: a });
  a.cause = b;
  expect(isTruncated(a)).toBe(false);
});
