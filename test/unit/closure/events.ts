/** One event of each type, for tests of the closure machine. */
import type { ClosureEvent, EventType } from '../../../src/closure/machine.ts';

const alert = { code: 40, name: 'handshake_failure', authenticated: true } as const;

/** Typed so that a new event type cannot be forgotten here. */
const byType: { readonly [T in EventType]: Extract<ClosureEvent, { type: T }> } = {
  established: { type: 'established' },
  shutdown: { type: 'shutdown' },
  'close-notify-sent': { type: 'close-notify-sent', evidence: 'record' },
  'close-notify-received': { type: 'close-notify-received', evidence: 'record' },
  'alert-sent': { type: 'alert-sent', alert },
  'alert-received': { type: 'alert-received', alert },
  'transport-eof': { type: 'transport-eof', where: 'inside-record' },
  'transport-reset': { type: 'transport-reset', where: 'record-boundary', code: 'ECONNRESET' },
  'transport-error': { type: 'transport-error', where: 'handshake', code: 'ETIMEDOUT' },
  'send-failed': { type: 'send-failed' },
  close: { type: 'close' },
  idle: { type: 'idle' },
  wait: { type: 'wait' },
  waive: { type: 'waive' },
  deadline: { type: 'deadline' },
  cancel: { type: 'cancel' },
  abandon: { type: 'abandon', how: 'closed' },
  release: { type: 'release' },
};

export const EVENT = byType;
export const EVENTS: readonly ClosureEvent[] = Object.values(byType);
