/**
 * The mutants: one fault each, of a kind that somebody could make, in what decides how a connection ended.
 *
 * An edit names the one place where its text is. One whose text is not there, or is there twice, stops the run: a
 * mutant that does nothing would count as one that nothing kills.
 */

/** Tests that kill, by the name that mutants call them. */
export const KILLERS = {
  reader: ['vitest', 'test/unit/record/alert-reader.test.ts'],
  decoder: ['vitest', 'test/unit/record/decoder.test.ts', 'test/unit/record/keys.test.ts'],
  suites: ['vitest', 'test/unit/strict/pass/passing-suites.test.ts'],
  passing: [
    'vitest',
    'test/unit/strict/pass/passing.test.ts',
    'test/unit/strict/pass/passing-endings.test.ts',
  ],
  socket: [
    'vitest',
    'test/behaviour/strict/secure-socket.test.ts',
    'test/behaviour/strict/strict-server.test.ts',
  ],
  guard: [
    'vitest',
    'test/unit/strict/guard.test.ts',
    'test/unit/strict/witnessed-ending.test.ts',
    'test/unit/strict/failed-write.test.ts',
  ],
  register: ['vitest', 'test/behaviour/strict/register.test.ts'],
  http1: ['vitest', 'test/unit/http-messages.test.ts', 'test/behaviour/strict/https.test.ts'],
  http2: ['vitest', 'test/behaviour/strict/http2.test.ts'],
  undici: ['vitest', 'test/behaviour/strict/undici.test.ts'],
  shutdown: ['vitest', 'test/behaviour/strict/shutdown-in-handshake.test.ts'],
  closure: ['vitest', 'test/unit/closure/machine.test.ts', 'test/unit/closure/verdict.test.ts'],
  native: ['vitest', 'test/behaviour/native/witness.test.ts'],
  /** Cases of test/behaviour/verdicts on one Node, with the add-on and without. */
  endings: ['verdicts', '20', 'endings'],
  streams: [
    'vitest',
    'test/unit/testing/conformance.test.ts',
    'test/behaviour/stream/transport.test.ts',
    'test/behaviour/stream/handshake-cut.test.ts',
    'test/behaviour/stream/duplex.test.ts',
    'test/behaviour/stream/web.test.ts',
  ],
  late: ['verdicts', '20', 'late'],
  facts: ['verdicts', '20', 'facts'],
  engines: ['verdicts', '20', 'engines'],
  uploads: ['verdicts', '20', 'uploads'],
  failures: ['verdicts', '20', 'failures'],
  /** 400 rows on Node 20 (OpenSSL 3.0), with the add-on and without; the same on Node 24 (3.5). */
  'matrix 20': ['matrix', '20'],
  'matrix 24': ['matrix', '24'],
} as const;
export type Killer = keyof typeof KILLERS;

export interface Mutant {
  readonly file: string;
  /** What is wrong then. */
  readonly fault: string;
  readonly from: string;
  readonly to: string;
  /** Tests that should kill it, the quickest first: the first that fails is enough. */
  readonly by: readonly Killer[];
  /** Why nothing can kill it, or nothing here does; told with the survivors. */
  readonly lives?: string;
}

const READER: readonly Killer[] = ['reader', 'passing', 'matrix 20'];
const GUARD: readonly Killer[] = ['guard', 'socket', 'matrix 20', 'matrix 24', 'http1'];
const NATIVE: readonly Killer[] = ['native', 'matrix 20', 'matrix 24'];

const inFile =
  (file: string, by: readonly Killer[]) =>
  (
    fault: string,
    from: string,
    to: string,
    more: { by?: readonly Killer[]; lives?: string } = {},
  ): Mutant => ({ file, fault, from, to, by, ...more });

const conversation = inFile('src/record/conversation.ts', READER);
const reader = inFile('src/record/alert-reader.ts', READER);
const keys = inFile('src/record/live-keys.ts', [...READER, 'suites']);
const cutter = inFile('src/record/cutter.ts', READER);
const unprotect = inFile('src/record/unprotect.ts', ['reader', 'decoder', 'suites']);
const witness = inFile('src/strict/witness.ts', GUARD);
const guard = inFile('src/strict/guard.ts', GUARD);
const reading = inFile('src/strict/reading.ts', GUARD);
const intercept = inFile('src/strict/intercept.ts', GUARD);
const channels = inFile('src/strict/channels.ts', GUARD);
const witnessed = inFile('src/strict/witnessed-ending.ts', GUARD);
const records = inFile('src/strict/pass/record-witness.ts', ['passing', 'matrix 20', 'matrix 24']);
const messages = inFile('src/http-messages.ts', ['http1', 'http2', 'undici']);
const sockets = inFile('src/strict/secure-socket.ts', ['socket', 'passing', 'matrix 20']);
const STREAMS: readonly Killer[] = ['streams'];
const tap = inFile('src/tap/tap.ts', STREAMS);
const engine = inFile('src/engine/tapped.ts', STREAMS);
const ending = inFile('src/closure/ending.ts', STREAMS);
const connection = inFile('src/stream/connection.ts', STREAMS);
const stream = inFile('src/stream/reading.ts', STREAMS);
const machine = inFile('src/closure/machine.ts', ['closure', 'matrix 20']);
const verdict = inFile('src/closure/verdict.ts', ['closure', 'matrix 20']);
const native = inFile('native/src/witness.cc', NATIVE);

export const MUTANTS: readonly Mutant[] = [
  // ---- what ends a direction
  conversation(
    'an alert of three bytes counts',
    'if (content.length !== 2) throw new Refusal',
    'if (content.length < 2) throw new Refusal',
  ),
  conversation(
    'an alert in the clear counts as authenticated',
    'authenticated: isProtected && from.finished,',
    'authenticated: from.finished,',
    {
      lives:
        'behind Finished every alert that is not refused is protected: readRecord refuses what is in the clear',
    },
  ),
  conversation(
    'close_notify counts during the handshake',
    'authenticated: isProtected && from.finished,',
    'authenticated: true,',
  ),
  conversation(
    'warnings of TLS 1.2 end the connection',
    'if (tls13 ? description === USER_CANCELED : level === WARNING && description !== CLOSE_NOTIFY) {',
    'if (description === USER_CANCELED) {',
  ),
  conversation(
    'in TLS 1.3 a fatal alert that calls itself a warning ends nothing',
    'if (tls13 ? description === USER_CANCELED : level === WARNING && description !== CLOSE_NOTIFY) {',
    'if (level === WARNING && description !== CLOSE_NOTIFY) {',
  ),
  conversation(
    'any number of warnings is taken',
    'if (++from.warnings === MAX_WARNINGS)',
    'if (++from.warnings === 1e9)',
  ),
  conversation(
    'any number of empty records is taken',
    'if (++from.empty > MAX_EMPTY)',
    'if (++from.empty > 1e9)',
  ),
  conversation(
    'a protected ChangeCipherSpec is taken',
    "if (isProtected) throw new Refusal('a ChangeCipherSpec that is protected');",
    '',
    { by: ['reader', 'endings'] },
  ),
  conversation('a KeyUpdate changes no keys', 'this.#updateKeys(from);', ''),
  conversation(
    'a KeyUpdate of any value is taken',
    '|| (kept[0] as number) > 1 || !last',
    '|| !last',
  ),
  conversation(
    'a message behind a KeyUpdate in its record is taken',
    '(kept[0] as number) > 1 || !last',
    '(kept[0] as number) > 1',
    { by: ['reader', 'endings'] },
  ),
  conversation(
    'a Finished in the clear counts',
    "if (!isProtected) throw new Refusal('a Finished in the clear');",
    '',
  ),
  conversation(
    'user_canceled is forgotten: OpenSSL 3.5 then waits for ever',
    'from.warned = true;',
    '',
    { by: ['reader', 'matrix 24'] },
  ),
  conversation(
    'close_notify of level fatal is no close_notify in TLS 1.3',
    'level: tls13 && description === CLOSE_NOTIFY ? WARNING : level,',
    'level,',
  ),
  conversation(
    'in TLS 1.3 records come between the pieces of a message',
    'if (tls13 || type === CONTENT_TYPE.changeCipherSpec) {',
    'if (type === CONTENT_TYPE.changeCipherSpec) {',
  ),
  conversation('our own warnings count as the peer', 'if (from.ours) return null;', ''),
  conversation(
    'application data before Finished is taken',
    "if (!from.finished) throw new Refusal('application data before Finished');",
    '',
    {
      by: ['reader'],
      lives:
        'a renegotiation that Node refuses is the one warning that it sends, and five in a row need a peer that asks five times',
    },
  ),
  conversation(
    'a record of 32,768 bytes is taken',
    'if (content.length > MAX_PLAINTEXT)',
    'if (content.length > 2 * MAX_PLAINTEXT)',
  ),

  // ---- records
  reader(
    'a forged record is passed over',
    "if (plain === null) throw new Refusal('a record that is not authentic');",
    'if (plain === null) return true;',
  ),
  reader(
    'a record in the clear counts behind the handshake',
    "if (tls13 && type !== CONTENT_TYPE.applicationData) throw new Refusal('a record in the clear');",
    'if (tls13 && type !== CONTENT_TYPE.applicationData) { this.#take(from, type, body, true, end); return true; }',
  ),
  reader(
    'what comes behind an ending is read',
    'if (alert === null) return;\n    this.#stop(from);',
    'if (alert === null) return;',
  ),
  reader(
    'our close_notify counts as sent before it left',
    'this.#events.onSent(alert, end)',
    'this.#events.onSent(alert, 0)',
    { by: ['reader', 'passing'] },
  ),
  reader(
    'a record that the engine proved is not counted',
    'this.#received.protection?.unprotector.skip();',
    '',
  ),
  reader(
    'what the engine gave nothing for is not read',
    'if (record !== null && data > 0 && data < (record.body?.length ?? 0)) {',
    'if (record !== null) {',
  ),
  reader(
    'our short records are not read',
    'return length <= KEY_UPDATE_LENGTH + this.#keys.tagLength;',
    'return length < this.#keys.tagLength;',
  ),
  reader(
    'a connection that cannot be read is not told of',
    'this.#unreadable ??= error.message;',
    '',
  ),
  reader(
    'an engine that gives data late is trusted',
    'if (this.#data > 0 && data === 0) this.#trusts = false;',
    '',
  ),
  reader(
    'records that wait for a key fill the memory',
    'if (from.waitingLength > MAX_WAITING)',
    'if (from.waitingLength > 1e12)',
  ),
  reader(
    'a record that is held is never read',
    'if (record !== null && !this.#received.over) this.#read(this.#received, record);',
    '',
  ),
  reader(
    'ciphertext of any length is taken in TLS 1.3',
    'body.length > MAX_CIPHERTEXT_13)',
    'body.length > 1e9)',
    {
      by: ['reader'],
      lives:
        'what is longer is longer than 16,384 bytes in the clear, too, and is refused for that',
    },
  ),
  cutter('a header may promise any length', '|| this.#length > MAX_LENGTH;', ';'),
  cutter('all records end at byte 0', 'end: this.#total }', 'end: 0 }'),
  cutter('every place is between two records', 'return this.#have === 0;', 'return true;'),
  keys(
    'secrets of any connection are taken',
    "if (text.toString('latin1', at + 1, at + 65).toLowerCase() !== this.#name) return;",
    '',
    {
      by: ['reader'],
      lives:
        'two bytes of length promise at most 64 KB, and what is too long is refused when it is read',
    },
  ),
  keys('a second ClientHello begins a handshake', 'if (this.#name === name) return false;', '', {
    lives:
      'a HelloRetryRequest comes before any secret: what is begun again has nothing to forget yet',
  }),
  unprotect('padding is content', 'while (end > 0 && content[end - 1] === 0) end--;', '', {
    by: ['reader', 'matrix 20'],
  }),
  unprotect(
    'the padding of CBC is not checked',
    'if (padded.subarray(unpadded).some((one) => one !== padding)) return null;',
    '',
  ),
  unprotect(
    'any MAC fits',
    'return wanted.length === mac.length && timingSafeEqual(wanted, mac);',
    'return wanted.length > 0;',
  ),
  unprotect(
    'the tag is not checked',
    '      decipher.final();\n      return content;',
    '      return content;',
  ),

  // ---- what closes
  witness(
    'in TLS 1.3 alerts that call themselves warnings end nothing',
    'return tls13 && description !== USER_CANCELED;',
    'return false;',
    { by: ['socket', 'endings'] },
  ),
  witness(
    'user_canceled is a fatal alert',
    'return tls13 && description !== USER_CANCELED;',
    'return tls13;',
  ),
  witness(
    'an alert that waits for the transport counts as sent',
    'return written !== null && (this.#alone || this.#watch.pending() === 0) ? written : null;',
    'return written;',
    { by: ['facts', 'engines'] },
  ),
  witness(
    'an alert that went out alone waits for OpenSSL to say so',
    '(this.#alone || this.#watch.pending() === 0)',
    'this.#watch.pending() === 0',
  ),
  witness(
    'a close_notify that OpenSSL 3.5 ignores is not told of',
    'return received !== null && closes(received) && this.#canceled;',
    'return received !== null && this.startedAt < 0;',
    { by: ['matrix 24'] },
  ),
  witness(
    'where the bytes ended is forgotten with the SSL',
    'if (place !== null) this.#where = PLACES[place];',
    '',
    { by: ['socket', 'endings'] },
  ),

  // ---- the guard
  intercept(
    'every end passes',
    'return guard.onEnd() && push.call(socket, null);',
    'return push.call(socket, null);',
  ),
  guard(
    'ZERO_RETURN is closure: an end behind a fatal alert passes',
    "if (ending.receive === 'alerted' || ending.receive === 'rejected') return this.#alertError();",
    "if (ending.receive === 'alerted' || ending.receive === 'rejected') return null;",
  ),
  guard(
    "a destroyed socket's end counts",
    'if (this.#failed || this.#socket.destroyed) return false;\n    const error',
    'if (this.#failed) return false;\n    const error',
  ),
  witnessed(
    'an unwatchable socket is handed out: its end passes',
    'return this.#ending.state.receive.kind;',
    "return this.#witness === null && this.#established ? 'closed' : this.#ending.state.receive.kind;",
  ),
  guard(
    'an unwatchable socket is not told of',
    'if (reason !== null) tellUnwatched({ socket, reason });',
    '',
  ),
  witnessed(
    'a cut in a record is told as one between two',
    "return this.#witness?.where ?? 'unknown';",
    "return 'record-boundary';",
  ),
  guard(
    'the error overtakes the bytes that came before it',
    'afterReading(socket, ended, finish);',
    'finish();',
  ),
  intercept(
    'end() in a listener drops the record behind',
    'if (guard.shutdownReads()) setImmediate(shutDown);\n    else shutDown();',
    'shutDown();',
    { by: ['socket', 'shutdown', 'matrix 20', 'matrix 24'] },
  ),
  witnessed(
    'an own close_notify that went out last is not told of',
    'setImmediate(() => this.look());',
    'this.look();',
  ),
  guard(
    'who closes behind an own close_notify has aborted',
    "if (closed && receive === 'open') ending.happened({ type: 'waive' });",
    '',
  ),
  guard(
    'a socket whose close_notify OpenSSL ignores is not ended',
    'this.#socket.push(null);\n    this.#socket.read(0);',
    '',
    { by: ['matrix 24'] },
  ),
  guard(
    'a reset is told as nothing',
    'if (whole || !isEstablished) return error;',
    'if (error !== null) return error;',
    { by: ['undici', 'failures', 'facts'] },
  ),
  intercept(
    'a failed write throws away what has come',
    'if (isTransportError(error)) guard.onWriteFailed(error, done);\n    else done(error);',
    'done(error);',
    { by: ['uploads', 'failures'] },
  ),
  guard(
    'a guard that is put on late believes the end',
    'if (hasEnded(socket)) this.#onEarlyEnd();',
    'if (hasEnded(socket)) this.#ended = true;',
    { by: ['late', 'engines'] },
  ),
  guard(
    'in report mode a cut is an error',
    "if (this.mode === 'report') {\n      this.#write.tellBehindEnd();",
    "if (this.mode === ('none' as Strictness)) {\n      this.#write.tellBehindEnd();",
  ),
  channels(
    'a truncation is not told on the channel',
    'if (truncations.hasSubscribers) truncations.publish(message);',
    '',
  ),
  reading(
    'who asks for more bytes than are left waits for ever',
    'size !== undefined && size > left && left > 0 ? left : size',
    'size',
  ),
  reading(
    'who waits for more bytes is not told of the last',
    "if (!ended && socket.listenerCount('readable') > 0) {",
    'if (ended && !ended) {',
  ),
  reading(
    'a body that undici has taken, and counts as whole only when it goes on, is called cut',
    'if (socket.readableLength === 0 && !isPausedWithin(socket)) {',
    'if (socket.readableLength === 0) {',
    { by: ['undici'] },
  ),
  records(
    'our alert counts as sent before the transport has it',
    'if (this.written !== null && this.#end <= this.#taken) this.sent = this.written;',
    'this.sent = this.written;',
  ),
  records(
    'a close_notify that OpenSSL 3.5 ignores is not told of, without the add-on',
    'this.#ignored = warned && closes(this.#received);',
    'this.#ignored = warned && !warned;',
    { by: ['matrix 24'] },
  ),

  // ---- who reads
  messages(
    'a response of undici has nothing to lose',
    'responding: Boolean(statusCode)',
    'responding: false',
    { by: ['undici'] },
  ),
  messages('an HTTP/2 stream has nothing to lose', 'if (!isWhole(stream)) open.push(stream);', '', {
    by: ['http2'],
  }),
  messages(
    'a response that is being read has nothing to lose',
    'message: res && !res.complete ? res : null',
    'message: null',
    { by: ['http1'] },
  ),
  messages(
    'a whole response is failed',
    'message: res && !res.complete ? res : null',
    'message: res ?? null',
    { by: ['http1'] },
  ),
  messages(
    'an upload that is being read has nothing to lose',
    'message: incoming && !incoming.complete ? incoming : null',
    'message: null',
    { by: ['http1', 'socket'] },
  ),
  messages(
    'a reset completes a body that only the end can complete',
    "return readerOf(socket)?.kind === 'undici';",
    'return socket === null;',
    { by: ['undici'] },
  ),
  sockets(
    'TLS on a Duplex of a program is not watched by its records',
    'return transport !== null && transport !== undefined && !(transport instanceof net.Socket);',
    'return transport === undefined && transport !== undefined;',
    { by: ['passing', 'socket', 'matrix 20'] },
  ),

  // ---- streams
  tap(
    'a pause alone is closure: what waits behind it is not told of',
    "if (ending.cause === 'eof' && (this.#told === 'eof' || this.#paused)) return;",
    "if (ending.cause === 'eof' && this.#told === 'eof') return;",
  ),
  tap(
    'EOF overtakes what TLS has not been fed',
    'if (this.#queue.length > 0 && !this.#stopped && !this.#paused && !this.destroyed) return;',
    '',
  ),
  tap(
    'TLS is fed behind the close_notify: there is no trailing data',
    'this.#stopped = true;\n    if (!this.#detached) this.#transport.pause();',
    'if (!this.#detached) this.#transport.pause();',
  ),
  tap(
    'bytes that were read before TLS began are lost, as behind a 200 of a proxy',
    'this.#queue = head === undefined || head.length === 0 ? [] : [head];',
    'this.#queue = [];\n    void head;',
  ),
  tap(
    'several records are fed at once',
    "const end = this.#scan('received', chunk, 0);",
    "this.#scan('received', chunk, 0);\n    const end = chunk.length;",
  ),
  tap(
    'an error of the transport discards what it delivered',
    "const broken = this.#ending !== null && this.#ending.cause !== 'eof';",
    'const broken = false as boolean;',
  ),
  tap(
    'a slow reader fills the memory',
    'return (this.#events.wants || broken) && !this.#detached;',
    'return !this.#detached || broken;',
  ),
  tap(
    "an end that this side made is the peer's EOF",
    "if (this.#ending === null) this.#onEnd('destroyed', null);",
    "if (this.#ending === null) this.#onEnd('eof', null);",
  ),
  engine(
    'alerts are told of during the handshake as if it were complete',
    'if (waits && one.alert.authenticated) this.#alerts.push(one);',
    'if (waits && one.alert.description === -1) this.#alerts.push(one);',
  ),
  engine(
    'TLS is fed on behind the alert that ended it',
    "if (way === 'received' && alert.authenticated) this.#tap.stop();",
    '',
  ),
  engine(
    'close_notify overtakes what was written',
    'if ((this.#outgoing?.length ?? 0) > 0) return;\n    this.#closing',
    'this.#closing',
  ),
  engine(
    'EOF behind a fatal alert is what ended it',
    'if (!this.#failing && !this.#doomed) this.#events.onTransportEnd(ending);',
    'if (!this.#failing) this.#events.onTransportEnd(ending);',
  ),
  ending(
    'any authenticated alert closes',
    'return authenticated && description === CLOSE_NOTIFY && level === WARNING;',
    'return authenticated && level !== null;',
  ),
  ending(
    'close_notify counts during the handshake',
    'return authenticated && description === CLOSE_NOTIFY && level === WARNING;',
    'return description === CLOSE_NOTIFY && level === WARNING;',
  ),
  ending(
    'in TLS 1.2 a fatal close_notify closes',
    'return authenticated && description === CLOSE_NOTIFY && level === WARNING;',
    'return authenticated && description === CLOSE_NOTIFY;',
    { by: ['socket', 'endings'] },
  ),
  ending(
    'what is known later counts as later',
    'const before = this.#history.findIndex((one) => one.at > at);',
    'const before = -1 as number;',
    { by: ['streams', 'facts', 'endings'] },
  ),
  ending(
    'the last failure counts, not the first',
    'this.#failure ??= failure(',
    'this.#failure = failure(',
  ),
  connection(
    'an EOF is no failure',
    "if (cause === 'eof' && (whole || this.onlyReports)) {",
    "if (cause === 'eof') {",
  ),
  connection(
    'TLS 1.2 does not answer a close_notify',
    "if (answer === 'when-told' || (answer === 'by-version' && !tls12)) return;",
    'if (answer !== answer.trim() || tls12) return;',
  ),
  connection(
    'what is written behind our close_notify is dropped in silence',
    "if (send.kind === 'open') return;",
    "if (send.kind === 'open' || send.kind === 'closed') return;",
  ),
  stream(
    'a failure overtakes the bytes that came before it',
    'const bytes = this.#aborted ? null : this.#next();',
    'const bytes = this.#aborted || connection.failure !== null ? null : this.#next();',
  ),
  stream(
    'reading ends when the transport did',
    "if (receive.kind === 'closed' && !this.#aborted) return null;",
    "if (receive.kind !== 'open' && !this.#aborted) return null;",
  ),
  stream('two reads wait at once', 'if (this.#pending) {', 'if (this.#pending && this.#aborted) {'),

  // ---- the machine
  machine(
    'close_notify counts during the handshake',
    "handshaking: stay('handshaking', { ...receiveEnds, established: 'open' }),",
    "handshaking: stay('handshaking', { ...receiveEnds, established: 'open', 'close-notify-received': 'closed' }),",
  ),
  machine(
    'a truncation is upgraded by what comes later',
    "truncated: stay('truncated'),\n  abandoned",
    "truncated: stay('truncated', { 'close-notify-received': 'closed' }),\n  abandoned",
  ),
  verdict(
    "an own close_notify is enough for 'secure'",
    "return 'one-sided';\n    case 'abandoned'",
    "return 'secure';\n    case 'abandoned'",
  ),

  // ---- the add-on
  native(
    'every alert is authenticated',
    'const bool authenticated = sent ? own_finished_ : peer_finished_;',
    'const bool authenticated = sent || !sent;',
  ),
  native('the peer never proves itself', '    peer_finished_ = true;\n    return;', '    return;'),
  native(
    'a fatal alert of TLS 1.2 ends nothing',
    'description == kCloseNotify || level == kFatal ||',
    'description == kCloseNotify ||',
    {
      lives:
        'witness.ts judges again what ends; the flag only keeps the first end when more alerts come than are kept',
    },
  ),
  native(
    'an alert behind a write that waits counts as alone',
    'wbio != nullptr && BIO_ctrl_pending(wbio) <= last_sent_',
    'wbio != nullptr',
    { by: ['native', 'socket', 'http1', 'matrix 20'] },
  ),
  native(
    'every place is between two records',
    'if (read == shown_) return Place::kBoundary;',
    'if (read != shown_ + (1u << 30)) return Place::kBoundary;',
  ),
  native(
    'of two connections of one name one is taken',
    'if (match != nullptr) return nullptr;\n    match = watch;',
    'match = watch;',
  ),
  native(
    'a connection of OpenSSL 3.5 is not watched',
    'if (witness == nullptr || witness->half_made_ == nullptr) return;\n  std::lock_guard<std::mutex> guard(lock);\n  witness->SetCallbackOfHalfMade();',
    'if (witness == nullptr || witness->half_made_ == nullptr) return;',
    { by: ['matrix 24'], lives: '`Since` sets the callback behind the making of each socket, too' },
  ),
  native(
    'user_canceled is forgotten: OpenSSL 3.5 then waits for ever',
    'if (!ends) warned_ = true;',
    '',
    { by: ['matrix 24'] },
  ),
  native(
    'where the bytes ended is forgotten with the BIO',
    'watch->last_place_ = watch->PlaceOf(BIO_number_read(static_cast<BIO*>(parent)));',
    '',
  ),
  native(
    'a sent alert is a received one',
    'if (length == 2) watch->OnAlert(sent != 0, version, data[0], data[1]);',
    'if (length == 2) watch->OnAlert(false, version, data[0], data[1]);',
  ),
  native(
    'a Finished of the other side names the connection',
    '  if (!sent) {\n    peer_finished_ = true;\n    return;\n  }',
    '  if (!sent) {\n    peer_finished_ = true;\n  }',
  ),
];
