/**
 * What Boost.Asio reports for the same ending, for people who port from C++.
 *
 * The values were measured with Boost 1.74 on OpenSSL 3.0 (docs/closure.md holds the runs): what
 * `async_shutdown` reports at this side, or `async_read_some` where nobody shut down.
 */
import type { Closure } from './verdict.ts';

/** The parts of a `boost::system::error_code`. */
export interface AsioErrorCode {
  /** `category().name()`: `system`, `asio.misc`, `asio.ssl` or `asio.ssl.stream`. */
  readonly category: 'system' | 'asio.misc' | 'asio.ssl' | 'asio.ssl.stream';
  /** `value()`, as on Linux. */
  readonly value: number;
  /** `message()`. */
  readonly message: string;
}

const SUCCESS: AsioErrorCode = { category: 'system', value: 0, message: 'Success' };
const CANCELED: AsioErrorCode = { category: 'system', value: 125, message: 'Operation canceled' };
const TRUNCATED: AsioErrorCode = {
  category: 'asio.ssl.stream',
  value: 1,
  message: 'stream truncated',
};
const END_OF_FILE: AsioErrorCode = { category: 'asio.misc', value: 2, message: 'End of file' };

/** Linux errno values and strerror texts of the transport errors that end connections. */
const SYSTEM: Readonly<Record<string, AsioErrorCode>> = {
  ECONNRESET: { category: 'system', value: 104, message: 'Connection reset by peer' },
  EPIPE: { category: 'system', value: 32, message: 'Broken pipe' },
  ECONNABORTED: {
    category: 'system',
    value: 103,
    message: 'Software caused connection abort',
  },
  ETIMEDOUT: { category: 'system', value: 110, message: 'Connection timed out' },
  ENETUNREACH: { category: 'system', value: 101, message: 'Network is unreachable' },
  EHOSTUNREACH: { category: 'system', value: 113, message: 'No route to host' },
};

/** An OpenSSL error code is its library (20 is SSL) in the bits from 23 up, and a reason below. */
const ERR_LIB_SSL = 20 << 23;

const ssl = (reason: number, message: string): AsioErrorCode => ({
  category: 'asio.ssl',
  value: ERR_LIB_SSL | reason,
  message,
});

/** SSL_R_APPLICATION_DATA_AFTER_CLOSE_NOTIFY. */
const LATE_DATA = ssl(291, 'application data after close notify');

/** OpenSSL's reason for a received alert is this plus the alert's number (SSL_AD_REASON_OFFSET). */
const ALERT_REASON_OFFSET = 1000;

/** Alerts that SSL 3.0 had already, and those that TLS 1.3 brought: OpenSSL says so in its texts. */
const SSLV3_ALERTS: ReadonlySet<number> = new Set([10, 20, 30, 40, 41, 42, 43, 44, 45, 46, 47]);
const TLSV13_ALERTS: ReadonlySet<number> = new Set([109, 116]);
/** Alerts whose text lacks the word. */
const WORDLESS_ALERTS: ReadonlySet<number> = new Set([110, 111, 112, 113, 114]);

/** OpenSSL's reasons for the errors that make it send an alert, by the alert. */
const REFUSALS: ReadonlyMap<number, AsioErrorCode> = new Map([
  [10, ssl(244, 'unexpected message')],
  [20, ssl(281, 'decryption failed or bad record mac')],
  [22, ssl(198, 'packet length too long')],
  [40, ssl(193, 'no shared cipher')],
  [70, ssl(258, 'unsupported protocol')],
  [116, ssl(199, 'peer did not return a certificate')],
]);

function ofAlert(alert: NonNullable<Closure['alert']>): AsioErrorCode {
  const { code, name, direction } = alert;
  // SSL_R_SSL_HANDSHAKE_FAILURE stands for what the engine did not tell.
  if (code === null) return ssl(229, 'ssl handshake failure');
  if (direction === 'sent') return REFUSALS.get(code) ?? ssl(229, 'ssl handshake failure');
  const version = SSLV3_ALERTS.has(code) ? 'sslv3' : TLSV13_ALERTS.has(code) ? 'tlsv13' : 'tlsv1';
  const word = WORDLESS_ALERTS.has(code) ? '' : 'alert ';
  return ssl(ALERT_REASON_OFFSET + code, `${version} ${word}${name.replaceAll('_', ' ')}`);
}

/**
 * The code that Boost.Asio reports for the ending that `closure` records.
 *
 * A wait that a deadline ended is `operation_aborted`, since a timer that cancels is how Asio times
 * out. Data that nobody read before `shutdown` is an error to Asio though the closure is secure.
 */
export function toAsioErrorCode(closure: Closure): AsioErrorCode {
  switch (closure.verdict) {
    case 'open':
      return closure.receive === 'closed' ? END_OF_FILE : SUCCESS;
    case 'secure':
      return closure.late > 0 ? LATE_DATA : SUCCESS;
    case 'one-sided':
      return closure.received === null ? CANCELED : END_OF_FILE;
    case 'aborted':
    case 'timed-out':
      return CANCELED;
    case 'truncated': {
      const code = closure.truncation?.code ?? null;
      return (code === null ? undefined : SYSTEM[code]) ?? TRUNCATED;
    }
    case 'alert':
      return closure.alert === null ? ssl(229, 'ssl handshake failure') : ofAlert(closure.alert);
  }
}
