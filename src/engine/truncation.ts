/** The words for a truncation: one error, whoever raises it. */
import type { CutCause, CutPoint } from '../closure/machine.ts';
import type { Closure } from '../closure/verdict.ts';
import { TruncatedError } from '../errors.ts';

const HOW: Readonly<Record<CutCause, string>> = {
  eof: 'the transport ended',
  reset: 'the transport was reset',
  error: 'the transport failed',
};

const WHERE: Readonly<Record<CutPoint, string>> = {
  handshake: ' during the handshake,',
  'record-boundary': ' between two records,',
  'inside-record': ' inside a record,',
  unknown: '',
};

/** @param error the transport's own, or null for EOF. */
export function truncatedError(
  how: CutCause,
  where: CutPoint,
  closure: Closure,
  error: Error | null,
): TruncatedError {
  return new TruncatedError(`${HOW[how]}${WHERE[where]} without close_notify`, {
    phase: where === 'handshake' ? 'handshake' : 'open',
    closure,
    ...(error === null ? {} : { cause: error }),
    hint:
      where === 'handshake'
        ? 'the peer may not speak TLS here, or refuses this one'
        : 'bytes may be missing: do not use what was read as if it were whole',
  });
}
