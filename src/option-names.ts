/**
 * Names of options. One that is silently ignored is a promise that is broken: so whoever takes options refuses those
 * that it does not know, with the nearest name that it does know, since most of them are slips.
 */
import { OptionError } from './errors.ts';

/**
 * @param path what stands in front of the names, where they are members of an option: `deadlines.`
 * @throws {OptionError} for what is no object, and for the first name that is none of `names`.
 */
export function checkOptionNames(options: unknown, names: readonly string[], path = ''): void {
  if (typeof options !== 'object' || options === null) {
    throw new OptionError(`${path === '' ? 'options' : path.slice(0, -1)} must be an object`);
  }
  for (const [name, value] of Object.entries(options)) {
    if (value !== undefined && !names.includes(name)) throw unknownOption(name, names, path);
  }
}

/** The error for an option that nobody knows. */
export function unknownOption(name: string, names: readonly string[], path = ''): OptionError {
  const nearest = nearestTo(name, names);
  const hint =
    nearest !== null
      ? `did you mean ${path}${nearest}?`
      : names.length <= FEW
        ? `there is ${names.map((one) => path + one).join(', ')}`
        : undefined;
  return new OptionError(
    `there is no option ${path}${name}${nearest === null ? '' : `: ${hint}`}`,
    { hint },
  );
}

/** So many names are told where none is near. */
const FEW = 12;

/** The name that is so near that the other is likely to be a slip; null where none is. */
function nearestTo(name: string, names: readonly string[]): string | null {
  const most = Math.max(2, Math.floor(name.length / 2));
  let nearest: string | null = null;
  let least = most + 1;
  for (const one of names) {
    const distance = distanceOf(name.toLowerCase(), one.toLowerCase());
    if (distance >= least) continue;
    nearest = one;
    least = distance;
  }
  return nearest;
}

/** How many letters one would have to add, leave out, change, or swap with the next one (Damerau, 1964). */
function distanceOf(from: string, to: string): number {
  let beforeLast: number[] = [];
  let last = Array.from({ length: to.length + 1 }, (_, i) => i);
  for (let i = 1; i <= from.length; i++) {
    const row = [i];
    for (let j = 1; j <= to.length; j++) {
      const cost = from[i - 1] === to[j - 1] ? 0 : 1;
      const swapped = i > 1 && j > 1 && from[i - 1] === to[j - 2] && from[i - 2] === to[j - 1];
      row[j] = Math.min(
        (last[j] as number) + 1,
        (row[j - 1] as number) + 1,
        (last[j - 1] as number) + cost,
        swapped ? (beforeLast[j - 2] as number) + 1 : Number.POSITIVE_INFINITY,
      );
    }
    beforeLast = last;
    last = row;
  }
  return last[to.length] as number;
}

/** Options of `tls.createSecureContext` on Node 20 to 26. */
export const CONTEXT_OPTIONS: readonly string[] = [
  ...['allowPartialTrustChain', 'ca', 'cert', 'certificateCompression', 'ciphers'],
  ...['clientCertEngine', 'crl', 'dhparam', 'ecdhCurve', 'honorCipherOrder', 'key', 'maxVersion'],
  ...['minVersion', 'passphrase', 'pfx', 'privateKeyEngine', 'privateKeyIdentifier'],
  ...['secureOptions', 'secureProtocol', 'sessionIdContext', 'sessionTimeout', 'sigalgs'],
  'ticketKeys',
];

/** What `tls.connect` takes besides: its own, those of `net.connect` and `net.Socket`. */
export const CONNECT_OPTIONS: readonly string[] = [
  ...['ALPNProtocols', 'checkServerIdentity', 'enableTrace', 'minDHSize', 'pskCallback'],
  ...['rejectUnauthorized', 'requestOCSP', 'secureContext', 'servername', 'session', 'socket'],
  ...['allowHalfOpen', 'autoSelectFamily', 'autoSelectFamilyAttemptTimeout', 'blockList', 'family'],
  ...['fd', 'highWaterMark', 'hints', 'host', 'keepAlive', 'keepAliveInitialDelay', 'localAddress'],
  ...['localPort', 'lookup', 'noDelay', 'onread', 'path', 'port', 'readable', 'signal', 'timeout'],
  ...['typeOfService', 'writable'],
];
