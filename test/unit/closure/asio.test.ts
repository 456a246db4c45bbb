/** What Boost.Asio reports for each ending. docs/closure.md holds the measured runs. */
import { describe, expect, test } from 'vitest';
import { toAsioErrorCode } from '../../../src/closure/asio.ts';
import { type ClosureEvent, INITIAL, step } from '../../../src/closure/machine.ts';
import { type Closure, type Counters, closureOf } from '../../../src/closure/verdict.ts';
import { EVENT } from './events.ts';

const closure = (events: readonly ClosureEvent[], counters?: Counters): Closure =>
  closureOf(
    events.reduce(
      (state, event, at) => step(state, event, at),
      step(INITIAL, EVENT.established, 0),
    ),
    counters,
  );

const SUCCESS = { category: 'system', value: 0, message: 'Success' };
const EOF_MISC = { category: 'asio.misc', value: 2, message: 'End of file' };
const CANCELED = { category: 'system', value: 125, message: 'Operation canceled' };
const TRUNCATED = { category: 'asio.ssl.stream', value: 1, message: 'stream truncated' };

const received = (code: number | null, name: string): ClosureEvent => ({
  type: 'alert-received',
  alert: { code, name, authenticated: true },
});
const sent = (code: number | null, name: string): ClosureEvent => ({
  type: 'alert-sent',
  alert: { code, name, authenticated: true },
});
const both = [EVENT['close-notify-sent'], EVENT['close-notify-received']];

describe('toAsioErrorCode', () => {
  test.each<[string, Closure, object]>([
    ['open', closure([]), SUCCESS],
    ['open, the peer has closed', closure([EVENT['close-notify-received']]), EOF_MISC],
    ['secure', closure(both), SUCCESS],
    [
      'secure, with data that nobody had read',
      closure(both, { late: 1, unsent: 0 }),
      {
        category: 'asio.ssl',
        value: 167_772_451,
        message: 'application data after close notify',
      },
    ],
    ['one-sided, not waited for', closure([EVENT.waive, EVENT['close-notify-sent']]), CANCELED],
    [
      'one-sided, ours could not follow',
      closure([EVENT['close-notify-received'], EVENT['transport-reset']]),
      EOF_MISC,
    ],
    ['aborted by closing', closure([EVENT.abandon]), CANCELED],
    ['aborted by cancelling', closure([EVENT.wait, EVENT.cancel]), CANCELED],
    ['timed-out', closure([EVENT.wait, EVENT.deadline]), CANCELED],
    ['truncated by EOF', closure([EVENT['transport-eof']]), TRUNCATED],
    [
      'truncated by a reset',
      closure([EVENT['transport-reset']]),
      { category: 'system', value: 104, message: 'Connection reset by peer' },
    ],
    [
      'truncated by a broken pipe',
      closure([{ type: 'transport-reset', where: 'record-boundary', code: 'EPIPE' }]),
      { category: 'system', value: 32, message: 'Broken pipe' },
    ],
    [
      'truncated by an error of the network',
      closure([EVENT['transport-error']]),
      { category: 'system', value: 110, message: 'Connection timed out' },
    ],
    [
      'truncated by an error that has no number',
      closure([{ type: 'transport-error', where: 'record-boundary', code: 'ECABLE' }]),
      TRUNCATED,
    ],
    [
      'certificate_required received',
      closure([received(116, 'certificate_required')]),
      {
        category: 'asio.ssl',
        value: 167_773_276,
        message: 'tlsv13 alert certificate required',
      },
    ],
    [
      'handshake_failure received',
      closure([received(40, 'handshake_failure')]),
      { category: 'asio.ssl', value: 167_773_200, message: 'sslv3 alert handshake failure' },
    ],
    [
      'unknown_ca received',
      closure([received(48, 'unknown_ca')]),
      { category: 'asio.ssl', value: 167_773_208, message: 'tlsv1 alert unknown ca' },
    ],
    [
      'unrecognized_name received, whose text lacks a word',
      closure([received(112, 'unrecognized_name')]),
      { category: 'asio.ssl', value: 167_773_272, message: 'tlsv1 unrecognized name' },
    ],
    [
      'bad_record_mac received, of more words than two',
      closure([received(20, 'bad_record_mac')]),
      { category: 'asio.ssl', value: 167_773_180, message: 'sslv3 alert bad record mac' },
    ],
    [
      'an alert received of which the engine did not tell the code',
      closure([received(null, 'unknown')]),
      { category: 'asio.ssl', value: 167_772_389, message: 'ssl handshake failure' },
    ],
    [
      'bad_record_mac sent',
      closure([sent(20, 'bad_record_mac')]),
      {
        category: 'asio.ssl',
        value: 167_772_441,
        message: 'decryption failed or bad record mac',
      },
    ],
    [
      'an alert sent for which OpenSSL has no one reason',
      closure([sent(80, 'internal_error')]),
      { category: 'asio.ssl', value: 167_772_389, message: 'ssl handshake failure' },
    ],
    [
      'an alert that the engine did not tell',
      closure([sent(null, 'unknown')]),
      { category: 'asio.ssl', value: 167_772_389, message: 'ssl handshake failure' },
    ],
  ])('%s', (_name, given, wanted) => {
    expect(toAsioErrorCode(given)).toEqual(wanted);
  });

  test('a received alert whose detail is missing still has a code', () => {
    const given = {
      ...closure([received(40, 'handshake_failure')]),
      alert: null,
    } as unknown as Closure;
    expect(toAsioErrorCode(given)).toMatchObject({ category: 'asio.ssl', value: 167_772_389 });
  });
});
