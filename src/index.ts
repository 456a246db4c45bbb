/** TLS that knows how a connection ended. */
export { type AsioErrorCode, toAsioErrorCode } from './closure/asio.ts';
export type { AlertDetail, CutCause, CutPoint, TransportEnd } from './closure/machine.ts';
export type { Deadlines, Policy, PolicyOptions } from './closure/policy.ts';
export type { Closure, Verdict } from './closure/verdict.ts';
export * from './errors.ts';
export { type AcceptOptions, accept, type ConnectOptions, connect } from './stream/connect.ts';
export type { Observation, Observer } from './stream/observer.ts';
export { createServer, type OnStream, type ServerOptions, TlsServer } from './stream/server.ts';
export type {
  CloseOptions,
  ShutdownOptions,
  TlsInfo,
  TlsStream,
  Unwrapped,
} from './stream/tls-stream.ts';
export type { WaitOptions } from './stream/wait.ts';
