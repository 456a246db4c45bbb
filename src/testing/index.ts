/**
 * Transports, schedules and checks for testing how TLS streams end.
 *
 * @module close-notify/testing
 */
export type { Carrier, MemoryEnd } from '../transport/pair.ts';
export * from './channel.ts';
export * from './conformance.ts';
export * from './credentials.ts';
export * from './hostile.ts';
export * from './lockstep.ts';
export * from './party.ts';
