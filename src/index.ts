/** TLS that knows how a connection ended. */

export { type AsioErrorCode, toAsioErrorCode } from './closure/asio.ts';
export type {
  AlertDetail,
  CutCause,
  CutPoint,
  Evidence,
  TransportEnd,
} from './closure/machine.ts';
export type { Deadlines, Policy, PolicyOptions } from './closure/policy.ts';
export type { Closure, Crossed, Verdict } from './closure/verdict.ts';
export * from './errors.ts';
export type { KeyLogEntry } from './record/keys.ts';
export { MalformedError } from './record/reader.ts';
export {
  type AcceptOptions,
  accept,
  type ClientCertificateOption,
  type ConnectOptions,
  connect,
  type StreamOptions,
} from './stream/connect.ts';
export type { DuplexOptions, TlsDuplex } from './stream/duplex.ts';
export type { ClientTlsOptions, ServerTlsOptions } from './stream/engine.ts';
export type { Direction, Observation, Observer } from './stream/observer.ts';
export type { TransportMembers } from './stream/peer.ts';
export { createServer, type OnStream, type ServerOptions, TlsServer } from './stream/server.ts';
export type {
  CloseOptions,
  ShutdownOptions,
  TlsInfo,
  TlsStream,
  Unwrapped,
} from './stream/tls-stream.ts';
export {
  type EntryTimes,
  type EventEntry,
  type HandshakeEntry,
  type MessageCount,
  type NoteEntry,
  type RecordDetail,
  type TrafficEntry,
  Transcript,
  type TranscriptEntry,
  type TranscriptOptions,
  type UnreadableEntry,
} from './stream/transcript.ts';
export type { TranscriptJson } from './stream/transcript-json.ts';
export type { TransportOptions } from './stream/transport.ts';
export type { NativeMessage } from './strict/add-on.ts';
export type {
  ClosureMessage,
  ConnectMessage,
  Outcome,
  Strictness,
  TruncatedMessage,
  UnwatchedMessage,
} from './strict/guard.ts';
export { type SecureSocketOptions, secureSocket, socketClosure } from './strict/secure-socket.ts';
export { type StrictServerOptions, strictServer } from './strict/strict-server.ts';
export {
  type CapturedConnection,
  type CapturedParty,
  type CaptureSurvey,
  type ReplayOptions,
  replayConnection,
  surveyCapture,
} from './transcript/capture.ts';
export { allOf, KeyLog, keyLogFile } from './transcript/capture-keylog.ts';
export type { Unusable } from './transcript/capture-packet.ts';
export type { TcpConnection } from './transcript/capture-tcp.ts';
export { type HtmlOptions, type PageSection, renderHtml } from './transcript/html.ts';
export {
  type ArrowRow,
  type ArrowStyle,
  type Detail,
  type Drawing,
  type DrawingOptions,
  drawLanes,
  type Foot,
  type GapRow,
  type Lane,
  type Layer,
  type RecordedLane,
  type Row,
  type RowBase,
  type SpanRow,
  type StepRow,
  type TearRow,
  type Tone,
  type WaitRow,
} from './transcript/lanes.ts';
export { renderMermaid } from './transcript/mermaid.ts';
export { type PcapngOptions, PcapngRecorder } from './transcript/pcapng.ts';
export type { Resemblance, Rule, Story } from './transcript/story.ts';
export { renderSvg, type SvgOptions } from './transcript/svg.ts';
export { renderText, type TextOptions } from './transcript/text.ts';
export type { WaitOptions } from './wait.ts';
