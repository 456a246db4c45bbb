/** TLS that knows how a connection ended. */
export { type AsioErrorCode, toAsioErrorCode } from './closure/asio.ts';
export type { AlertDetail, CutCause, CutPoint, TransportEnd } from './closure/machine.ts';
export type { Deadlines, Policy, PolicyOptions } from './closure/policy.ts';
export type { Closure, Verdict } from './closure/verdict.ts';
export * from './errors.ts';
export {
  type AcceptOptions,
  accept,
  type ClientCertificateOption,
  type ConnectOptions,
  connect,
  type StreamOptions,
} from './stream/connect.ts';
export type { ClientTlsOptions, ServerTlsOptions } from './stream/engine.ts';
export type { Direction, Observation, Observer } from './stream/observer.ts';
export { createServer, type OnStream, type ServerOptions, TlsServer } from './stream/server.ts';
export type {
  CloseOptions,
  ShutdownOptions,
  TlsInfo,
  TlsStream,
  Unwrapped,
} from './stream/tls-stream.ts';
export type { TransportOptions } from './stream/transport.ts';
export type { WaitOptions } from './stream/wait.ts';
export {
  type ArrowRow,
  type ArrowStyle,
  type Drawing,
  type DrawingOptions,
  drawLanes,
  type Foot,
  type GapRow,
  type Lane,
  type RecordedLane,
  type Row,
  type RowBase,
  type SpanRow,
  type StepRow,
  type Tone,
} from './transcript/lanes.ts';
export { renderText, type TextOptions } from './transcript/text.ts';
export {
  type EntryTimes,
  type EventEntry,
  type HandshakeEntry,
  type NoteEntry,
  type TrafficEntry,
  Transcript,
  type TranscriptEntry,
  type TranscriptOptions,
} from './transcript/transcript.ts';
