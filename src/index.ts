/**
 * TLS that knows how a connection ended.
 *
 * @module close-notify
 */

export type { NativeMessage } from './add-on.ts';
export { allOf, KeyLog, keyLogFile } from './capture/keylog.ts';
export type { Unusable } from './capture/packet.ts';
export { type PcapngOptions, PcapngRecorder } from './capture/pcapng.ts';
export {
  type CapturedConnection,
  type CapturedParty,
  type ReplayOptions,
  replayConnection,
} from './capture/replay.ts';
export { type CaptureSurvey, surveyCapture } from './capture/survey.ts';
export type { TcpConnection } from './capture/tcp.ts';
export { type AsioErrorCode, toAsioErrorCode } from './closure/asio.ts';
export type {
  AlertDetail,
  CutCause,
  CutPoint,
  Evidence,
  ReceiveKind,
  SendKind,
  TransportEnd,
} from './closure/machine.ts';
export type { Deadlines, Linger, Policy, PolicyOptions } from './closure/policy.ts';
export type {
  AlertClosure,
  Closure,
  ClosureFacts,
  Crossed,
  DirectedAlert,
  GivenUpClosure,
  OneSidedClosure,
  OpenClosure,
  SecureClosure,
  TruncatedClosure,
  Truncation,
  Verdict,
} from './closure/verdict.ts';
export type {
  ArrowRow,
  ArrowStyle,
  Detail,
  Drawing,
  Foot,
  GapRow,
  Lane,
  Layer,
  Resemblance,
  Row,
  RowBase,
  Rule,
  SpanRow,
  StepRow,
  Story,
  TearRow,
  Tone,
  WaitRow,
} from './drawing/drawing.ts';
export { type HtmlOptions, type PageSection, renderHtml } from './drawing/html.ts';
export { type DrawingOptions, drawLanes, type RecordedLane } from './drawing/lanes.ts';
export { renderMermaid } from './drawing/mermaid.ts';
export { renderSvg, type SvgOptions } from './drawing/svg.ts';
export { renderText, type TextOptions } from './drawing/text.ts';
export type { EngineName, TlsInfo } from './engine/contract.ts';
export type { ClientTlsOptions, ServerTlsOptions } from './engine/options.ts';
export * from './errors.ts';
export type { KeyLogEntry } from './record/keys.ts';
export type { CloseOptions, ShutdownOptions, Unwrapped } from './stream/closing.ts';
export {
  type AcceptOptions,
  accept,
  type ClientCertificateOption,
  type ConnectOptions,
  connect,
  type StreamOptions,
} from './stream/connect.ts';
export type { DuplexOptions, TlsDuplex } from './stream/duplex.ts';
export type { TransportMembers } from './stream/peer.ts';
export type { OnStreamContext } from './stream/served.ts';
export {
  createServer,
  type ListenHandle,
  type OnStream,
  type ServerAddress,
  type ServerCloseOptions,
  type ServerErrorMessage,
  type ServerOptions,
  TlsServer,
} from './stream/server.ts';
export type { TlsStream } from './stream/tls-stream.ts';
export type {
  ClosureMessage,
  ConnectMessage,
  Outcome,
  StrictConnection,
  Strictness,
  TruncatedMessage,
  UnwatchedMessage,
} from './strict/channels.ts';
export { type SecureSocketOptions, secureSocket, socketClosure } from './strict/secure-socket.ts';
export { type StrictServerOptions, strictServer } from './strict/strict-server.ts';
export type {
  EntryTimes,
  EventEntry,
  HandshakeEntry,
  MessageCount,
  NoteEntry,
  RecordDetail,
  TrafficEntry,
  TranscriptEntry,
  UnreadableEntry,
} from './transcript/entries.ts';
export type { Direction, Observation, Observer } from './transcript/observer.ts';
export type { RecordedMessage } from './transcript/on-truncation.ts';
export { Transcript, type TranscriptOptions } from './transcript/transcript.ts';
export type { TranscriptJson } from './transcript/transcript-json.ts';
export type { TransportOptions } from './transport/open.ts';
export type { WaitOptions } from './wait.ts';
