/**
 * The mutants: one fault each, of a kind that somebody could make, in what decides how a connection ended.
 *
 * An edit names the one place where its text is. One whose text is not there, or is there twice, stops the run: a
 * mutant that does nothing would count as one that nothing kills.
 */

/** Tests that kill, by the name that mutants call them. The quickest that hold the behaviour are enough. */
export const KILLERS = {
  conversation: [
    'vitest',
    'test/unit/record/conversation.test.ts',
    'test/unit/record/unprotect.test.ts',
  ],
  record: [
    'vitest',
    'test/unit/record/alert-reader.test.ts',
    'test/unit/record/keys.test.ts',
    'test/unit/record/record.test.ts',
    'test/unit/record/unprotect-rfc8448.test.ts',
  ],
  decoder: ['vitest', 'test/unit/record/decoder.test.ts'],
  suites: ['vitest', 'test/unit/strict/pass/passing-suites.test.ts'],
  passing: [
    'vitest',
    'test/unit/strict/pass/passing.test.ts',
    'test/unit/strict/pass/passing-endings.test.ts',
  ],
  closure: ['vitest', 'test/unit/closure'],
  tap: ['vitest', 'test/unit/tap'],
  engine: ['vitest', 'test/unit/engine'],
  streams: [
    'vitest',
    'test/behaviour/stream/close.test.ts',
    'test/behaviour/stream/closing.test.ts',
    'test/behaviour/stream/closure.test.ts',
    'test/behaviour/stream/data.test.ts',
    'test/behaviour/stream/handshake-cut.test.ts',
    'test/behaviour/stream/handshake.test.ts',
    'test/behaviour/stream/hostile.test.ts',
    'test/behaviour/stream/transport.test.ts',
    'test/behaviour/stream/bad-input.test.ts',
  ],
  web: ['vitest', 'test/behaviour/stream/web.test.ts', 'test/behaviour/stream/server.test.ts'],
  guard: [
    'vitest',
    'test/unit/strict/guard.test.ts',
    'test/unit/strict/witnessed-ending.test.ts',
    'test/unit/strict/failed-write.test.ts',
  ],
  socket: [
    'vitest',
    'test/behaviour/strict/secure-socket.test.ts',
    'test/behaviour/strict/strict-server.test.ts',
    'test/behaviour/strict/shutdown-in-handshake.test.ts',
  ],
  register: [
    'vitest',
    'test/behaviour/strict/register.test.ts',
    'test/behaviour/strict/register-scope.test.ts',
  ],
  proxy: ['vitest', 'test/behaviour/strict/proxy.test.ts'],
  faces: [
    'vitest',
    'test/behaviour/stream/duplex.test.ts',
    'test/behaviour/stream/web.test.ts',
    'test/behaviour/stream/idle.test.ts',
  ],
  http1: ['vitest', 'test/unit/http-messages.test.ts', 'test/behaviour/strict/https.test.ts'],
  http2: ['vitest', 'test/behaviour/strict/http2.test.ts'],
  undici: ['vitest', 'test/behaviour/strict/undici.test.ts'],
  incomplete: ['vitest', 'test/behaviour/strict/incomplete.test.ts'],
  /** Cases of test/behaviour/verdicts on one Node, with the add-on and without: 20 has OpenSSL 3.0, 24 has 3.5. */
  endings: ['verdicts', '20', 'endings'],
  'endings 24': ['verdicts', '24', 'endings'],
  late: ['verdicts', '20', 'late'],
  facts: ['verdicts', '20', 'facts'],
  'facts 24': ['verdicts', '24', 'facts'],
  engines: ['verdicts', '20', 'engines'],
  uploads: ['verdicts', '20', 'uploads'],
  failures: ['verdicts', '20', 'failures'],
  mitm: ['verdicts', '20', 'mitm'],
  responses: ['verdicts', '20', 'http1'],
  sessions: ['verdicts', '20', 'http2'],
  /** The add-on by itself, on one Node. */
  'native 20': ['native', '20'],
  'native 24': ['native', '24'],
  /** Streams on Deno, which infers alerts, and on Node and Bun, which read them. */
  evidence: ['built', 'test/behaviour/runtimes/evidence.test.ts'],
  /** How the add-on is loaded. */
  load: ['built', 'test/behaviour/native/load.test.ts'],
  /** 400 rows on one Node, with the add-on and without. */
  'matrix 20': ['prove', '20', 'matrix'],
  'matrix 24': ['prove', '24', 'matrix'],
  /** The add-on and the records on the same connections. */
  'witnesses 20': ['prove', '20', 'witnesses'],
  'witnesses 24': ['prove', '24', 'witnesses'],
} as const;
export type Killer = keyof typeof KILLERS;

export interface Mutant {
  /** A file, or a folder, which ends with '/': then the text is once in all of its files. */
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

const inFile =
  (file: string, by: readonly Killer[]) =>
  (
    fault: string,
    from: string,
    to: string,
    more: { by?: readonly Killer[]; lives?: string } = {},
  ): Mutant => ({ file, fault, from, to, by, ...more });

const READER: readonly Killer[] = ['conversation', 'record', 'passing'];
const conversation = inFile('src/record/conversation.ts', READER);
const reader = inFile('src/record/alert-reader.ts', READER);
const keys = inFile('src/record/live-keys.ts', [...READER, 'suites']);
const cutter = inFile('src/record/cutter.ts', READER);
const skimmer = inFile('src/record/skimmer.ts', READER);
const unprotect = inFile('src/record/unprotect.ts', [
  'conversation',
  'record',
  'suites',
  'decoder',
]);
/** What drop-ins are made of: a mutant is in one of those files. */
const strict = inFile('src/strict/', ['guard', 'socket', 'passing', 'facts', 'endings']);
const unread = inFile('src/unread.ts', ['guard', 'socket', 'passing', 'facts', 'endings']);
const messages = inFile('src/http-messages.ts', ['http1', 'http2', 'undici', 'responses']);
const tap = inFile('src/tap/tap.ts', ['tap', 'streams']);
const engine = inFile('src/engine/tapped.ts', ['engine', 'streams']);
const outgoing = inFile('src/engine/outgoing.ts', ['engine', 'streams']);
const listeners = inFile('src/transport/listeners.ts', ['tap', 'streams']);
const ending = inFile('src/closure/ending.ts', ['closure', 'streams']);
const connection = inFile('src/stream/connection.ts', ['streams', 'web']);
const stream = inFile('src/stream/reading.ts', ['streams', 'web']);
const writing = inFile('src/stream/writing.ts', ['streams', 'web']);
const waiting = inFile('src/stream/waiting.ts', ['streams', 'web']);
const duplex = inFile('src/stream/duplex.ts', ['faces']);
const web = inFile('src/stream/web.ts', ['faces']);
const failure = inFile('src/engine/failure.ts', ['engine', 'streams']);
const closing = inFile('src/stream/closing.ts', ['streams', 'web']);
const machine = inFile('src/closure/machine.ts', ['closure', 'streams']);
const verdict = inFile('src/closure/verdict.ts', ['closure', 'streams']);
const native = inFile('native/src/witness.cc', ['native 20', 'native 24']);
const addOn = inFile('native/src/addon.cc', ['native 20']);
const loading = inFile('src/add-on.ts', ['load', 'guard']);

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
    { by: ['conversation', 'record', 'passing', 'endings'] },
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
    { by: ['conversation', 'record', 'passing', 'endings'] },
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
    { by: ['conversation', 'record', 'passing', 'facts 24', 'matrix 24'] },
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
    'this.#events.onSent(alert, end, length)',
    'this.#events.onSent(alert, 0, length)',
    { by: ['conversation', 'record', 'passing'] },
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
      by: ['conversation', 'record'],
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
  ),
  keys('a second ClientHello begins a handshake', 'if (this.#name === name) return false;', '', {
    lives:
      'a HelloRetryRequest comes before any secret: what is begun again has nothing to forget yet',
  }),
  unprotect('padding is content', 'while (end > 0 && content[end - 1] === 0) end--;', '', {
    by: ['conversation', 'record', 'passing'],
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
  strict(
    'in TLS 1.3 alerts that call themselves warnings end nothing',
    'return tls13 ? description !== USER_CANCELED : level === FATAL;',
    'return level === FATAL && !(tls13 && description === USER_CANCELED);',
  ),
  strict(
    'user_canceled is a fatal alert',
    'return tls13 ? description !== USER_CANCELED : level === FATAL;',
    'return tls13 || level === FATAL;',
  ),
  strict(
    'user_canceled is a fatal alert where it calls itself one',
    'return tls13 ? description !== USER_CANCELED : level === FATAL;',
    'return level === FATAL || (tls13 && description !== USER_CANCELED);',
  ),
  strict(
    'an alert that waits for the transport counts as sent',
    'return written !== null && (this.#alone || this.#watch.pending() === 0) ? written : null;',
    'return written;',
    { by: ['facts', 'engines'] },
  ),
  strict(
    'an alert that went out alone waits for OpenSSL to say so',
    '(this.#alone || this.#watch.pending() === 0)',
    'this.#watch.pending() === 0',
  ),
  strict(
    'a close_notify that OpenSSL 3.5 ignores is not told of',
    'return received !== null && closes(received) && this.#canceled;',
    'return received !== null && this.startedAt < 0;',
    { by: ['witnesses 24'] },
  ),
  strict(
    'where the bytes ended is forgotten with the SSL',
    'if (place !== null) this.#where = PLACES[place];',
    '',
  ),

  // ---- the guard
  strict(
    'every end passes',
    'return guard.onEnd() && before.push.call(socket, null);',
    'return before.push.call(socket, null);',
  ),
  strict(
    'ZERO_RETURN is closure: an end behind a fatal alert passes',
    'return () => this.#alertError();',
    'return null;',
  ),
  strict(
    "a destroyed socket's end counts",
    'if (this.#failed || this.socket.destroyed) return false;\n    const cut',
    'if (this.#failed) return false;\n    const cut',
  ),
  strict(
    'an unwatchable socket is handed out: its end passes',
    'return this.#ending.state.receive.kind;',
    "return this.#witness === null && this.#established ? 'closed' : this.#ending.state.receive.kind;",
  ),
  strict(
    'an unwatchable socket is not told of',
    'if (reason !== null) tellUnwatched(() => ({ ...this.#about(), reason }));',
    '',
  ),
  strict(
    'a cut in a record is told as one between two',
    "return this.#witness?.where ?? 'unknown';",
    "return 'record-boundary';",
  ),
  strict(
    'the error overtakes the bytes that came before it',
    'afterReading(socket, ended, finish);',
    'finish();',
  ),
  strict(
    'end() in a listener drops the record behind',
    'if (guard.shutdownReads()) setImmediate(shutDown);\n  else shutDown();',
    'shutDown();',
  ),
  strict(
    'an own close_notify that went out last is not told of',
    'setImmediate(() => this.look());',
    'this.look();',
  ),
  strict(
    'who closes behind an own close_notify has aborted',
    "ending.happened({ type: 'waive' });",
    '',
  ),
  strict(
    'a socket whose close_notify OpenSSL ignores is not ended',
    'this.socket.push(null);\n    this.socket.read(0);',
    '',
    { by: ['facts 24', 'native 24', 'endings 24'] },
  ),
  strict(
    'a reset is told as nothing',
    'if (whole || !isEstablished) return error;',
    'if (error !== null) return error;',
    { by: ['undici', 'failures', 'facts'] },
  ),
  strict(
    'a failed write throws away what has come',
    'if (isTransportError(error)) guard.onWriteFailed(error, done);\n  else done(error);',
    'done(error);',
    { by: ['uploads', 'failures'] },
  ),
  strict(
    'a guard that is put on late believes the end',
    'if (hasEnded(socket)) this.#onEarlyEnd();',
    'if (hasEnded(socket)) this.#ended = true;',
    { by: ['late', 'engines'] },
  ),
  strict(
    'in report mode a cut is an error',
    "if (this.mode === 'report') {\n      this.#write.tellBehindEnd();",
    "if (this.mode === ('none' as Strictness)) {\n      this.#write.tellBehindEnd();",
  ),
  strict(
    'a truncation is not told on the channel',
    'if (truncations.hasSubscribers) truncations.publish(message());',
    '',
  ),
  strict(
    'a body that undici has taken, and counts as whole only when it goes on, is called cut',
    'unread.afterReading(socket, ended, then, () => isPausedWithin(socket));',
    'unread.afterReading(socket, ended, then);',
    { by: ['undici'] },
  ),
  unread(
    'who asks for more bytes than are left waits for ever',
    'size !== undefined && size > left && left > 0 ? left : size',
    'size',
  ),
  unread(
    'who waits for more bytes is not told of the last',
    "if (!ended && stream.listenerCount('readable') > 0) {",
    'if (ended && !ended) {',
  ),
  strict(
    'our alert counts as sent before the transport has it',
    'if (this.written !== null && this.#end <= this.#taken) this.sent = this.written;',
    'this.sent = this.written;',
  ),
  strict(
    'a close_notify that OpenSSL 3.5 ignores is not told of, without the add-on',
    'this.#ignored = warned && closes(this.#received);',
    'this.#ignored = warned && !warned;',
    { by: ['facts 24', 'native 24', 'endings 24'] },
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
  strict(
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
    {
      lives:
        'no alert comes between the record that completes a handshake and its end; one that ends a handshake is told in front of the failure either way',
    },
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
  ),
  ending(
    'what is known later counts as later',
    'this.#last !== null && this.#last.at > at;',
    'this.#last !== null && this.#last.at > Number.POSITIVE_INFINITY;',
    { by: ['closure', 'streams'] },
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
    'if (this.#aborted) return null;',
    'if (this.#aborted || this.#connection.failure !== null) return null;',
  ),
  stream(
    'reading ends when the transport did',
    'if (hasEnded && !this.#aborted && !this.#discarded) return null;',
    "if (receive.kind !== 'open' && !this.#aborted && !this.#discarded) return null;",
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
  native('a fatal alert of TLS 1.2 ends nothing', ': level == kFatal);', ': level > kFatal);', {
    by: ['native 20', 'endings'],
    lives: 'only behind more alerts than are kept, and there the error that Node gives names it',
  }),
  native(
    'an alert behind a write that waits counts as alone',
    'wbio != nullptr && BIO_ctrl_pending(wbio) <= last_sent_',
    'wbio != nullptr',
    { by: ['native 20', 'native 24', 'socket', 'http1', 'facts'] },
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
    {
      lives:
        'a name is a Finished message, twelve bytes of a PRF or more: nobody can make two of them that are equal',
    },
  ),
  native(
    'a connection of OpenSSL 3.5 is not watched',
    'if (witness == nullptr || witness->half_made_ == nullptr) return;\n  std::lock_guard<std::mutex> guard(lock);\n  witness->SetCallbackOfHalfMade();',
    'if (witness == nullptr || witness->half_made_ == nullptr) return;',
    {
      by: ['facts 24', 'native 24', 'endings 24'],
    },
  ),
  native(
    'user_canceled is forgotten: OpenSSL 3.5 then waits for ever',
    'if (!ends) warned_ = true;',
    '',
    { by: ['facts 24', 'native 24', 'endings 24'] },
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

  // ---- more of each
  conversation(
    'an unknown type of record is passed over',
    "throw new Refusal('an unknown type of record');",
    'break;',
  ),
  conversation(
    'an empty handshake record is passed over in TLS 1.3',
    "throw new Refusal('an empty message');",
    'from.empty++;',
  ),
  conversation(
    'no_renegotiation is a warning like others',
    "if (!tls13 && description === NO_RENEGOTIATION) throw new Refusal('no renegotiation');",
    '',
  ),
  conversation(
    'warnings are counted over all of the connection',
    'if (content.length > 0) from.warnings = 0;',
    '',
  ),
  conversation('empty records are counted over all of the connection', 'from.empty = 0;', ''),
  conversation(
    'any handshake message is taken behind Finished',
    "throw new Refusal('a handshake message that nobody asked for');",
    'return;',
  ),
  conversation(
    'a ticket of a client is taken',
    "(type === HANDSHAKE_TYPE.newSessionTicket && from.sender === 'server')",
    'type === HANDSHAKE_TYPE.newSessionTicket',
  ),
  conversation(
    'a KeyUpdate before Finished is taken',
    'if (!from.finished || (kept[0] as number) > 1',
    'if ((kept[0] as number) > 1',
  ),
  conversation(
    'keys change within a record',
    "if (!last) throw new Refusal('a change of keys within a record');",
    '',
  ),
  conversation(
    'any ChangeCipherSpec is one',
    'if (content.length !== 1 || content[0] !== 1 || !this.#keys.answered) {',
    'if (!this.#keys.answered) {',
  ),
  conversation(
    'a ChangeCipherSpec without a handshake is taken',
    "if (!this.#handshaking) throw new Refusal('a ChangeCipherSpec without a handshake');",
    '',
  ),
  conversation(
    'alerts and data come between ChangeCipherSpec and Finished',
    'if (from.finishing && type !== CONTENT_TYPE.handshake) {',
    'if (from.finishing && type === CONTENT_TYPE.changeCipherSpec) {',
  ),
  conversation(
    'a handshake is over when one side has finished it',
    'if (tls13 || this.#halfDone) this.#handshaking = false;',
    'this.#handshaking = false;',
    { by: ['conversation', 'record', 'passing', 'streams'] },
  ),
  conversation(
    'the secrets that were in use are not overwritten',
    'from.protection?.secret?.fill(0);',
    '',
  ),
  reader(
    'a warning that came before is not told of',
    'this.#events.onReceived(alert, this.#keys.tls13 && from.warned)',
    'this.#events.onReceived(alert, false)',
    { by: ['conversation', 'record', 'passing', 'facts 24', 'matrix 24'] },
  ),
  reader(
    'a warning of TLS 1.2 is one that OpenSSL 3.5 does not forget',
    'this.#keys.tls13 && from.warned',
    'from.warned',
  ),
  reader(
    'the version of a record is not looked at',
    "throw new Refusal('another version in a record');",
    'void TLS12;',
  ),
  reader(
    'behind its ServerHello an alert of the server may be in the clear',
    "const mayBeClear = from.ours || from.sender === 'client';",
    'const mayBeClear = true;',
  ),
  reader(
    'a ChangeCipherSpec in the clear is taken behind the handshake',
    'return !this.#received.finished || !this.#sent.finished;',
    'return true;',
  ),
  reader('data that the engine proved is not counted', 'this.#total += data;', ''),
  reader(
    'a record within a handshake message is left to the engine',
    '      !from.messages.midMessage &&\n',
    '',
    { by: ['conversation', 'record', 'passing', 'streams'] },
  ),
  reader('bytes that are no records end between two', "if (cutter.lost) return 'unknown';", ''),
  reader(
    'a connection that is over keeps its keys',
    '    this.#stop(this.#received);\n    this.#stop(this.#sent);',
    '    this.#received.over = true;\n    this.#sent.over = true;',
  ),
  keys(
    'behind a KeyUpdate the keys are those of the epoch before',
    'return { unprotector: new Unprotector(trafficKeys13(suite, next), true), secret: next };',
    'return { unprotector: new Unprotector(trafficKeys13(suite, secret), true), secret: next };',
  ),
  keys(
    'the second KeyUpdate makes its keys of the first secret',
    'trafficKeys13(suite, next), true), secret: next };',
    'trafficKeys13(suite, next), true), secret: Uint8Array.from(secret) };',
  ),
  keys('a HelloRetryRequest makes keys', 'return !hello.retry;', 'return true;'),
  keys(
    'a cipher suite that is not known is read as any other',
    'if (suite === null) {\n      throw new Error(`a cipher suite',
    'if (suite === undefined) {\n      throw new Error(`a cipher suite',
  ),
  keys(
    'encrypt-then-MAC is not looked for',
    'const macAfter = hello.extensions.has(ENCRYPT_THEN_MAC);',
    'const macAfter = false;',
  ),
  cutter(
    'a header of any type is one',
    'major !== 3 || type < 20 || type > 24 ||',
    'major !== 3 ||',
  ),
  cutter('a header of any version is one', 'major !== 3 || type < 20', 'type < 20'),
  skimmer('each message ends where its record ends', 'last: at === content.length,', 'last: true,'),
  skimmer('no message is ever half there', 'return this.#header.length > 0;', 'return false;'),
  unprotect(
    'one zero of the padding is taken off',
    'while (end > 0 && content[end - 1] === 0) end--;',
    'if (end > 0 && content[end - 1] === 0) end--;',
    { by: ['conversation', 'record', 'passing'] },
  ),
  unprotect(
    'the padding stays behind the content',
    'content: content.subarray(0, end - 1) };',
    'content: content.subarray(0, content.length - 1) };',
    { by: ['conversation', 'record', 'passing'] },
  ),
  unprotect(
    'records that were read are not counted',
    'if (content === null) return null;\n    this.#sequence++;',
    'if (content === null) return null;',
  ),
  unprotect(
    'records that were passed over are not counted',
    'skip(): void {\n    this.#sequence++;',
    'skip(): void {',
  ),
  unprotect(
    'a record that is not authentic counts',
    '    if (content === null) return null;\n    this.#sequence++;',
    '    this.#sequence++;\n    if (content === null) return null;',
    { by: ['conversation', 'record', 'decoder', 'suites'] },
  ),
  unprotect('keys are not overwritten', 'wipeKeys(this.#keys);', ''),

  strict(
    'level and description change places',
    'const level = (word >> 8) & 255;\n      const description = word & 255;',
    'const description = (word >> 8) & 255;\n      const level = word & 255;',
  ),
  strict(
    'what was sent was received',
    'const sent = (flags & SENT) !== 0;',
    'const sent = (flags & SENT) === 0;',
  ),
  strict(
    'all that the add-on saw is authenticated',
    'const authenticated = (flags & AUTHENTICATED) !== 0;',
    'const authenticated = true;',
    { by: ['guard', 'failures', 'witnesses 20'] },
  ),
  strict(
    'the last alert of a direction counts, not the first',
    'if ((sent ? this.#written : this.#received) !== null) continue;',
    '',
    {
      by: ['guard', 'facts', 'witnesses 20'],
      lives:
        'OpenSSL reads nothing behind an alert that ends a direction, and sends none behind one of its own',
    },
  ),
  strict(
    'a fatal close_notify is one in TLS 1.2',
    'level: tls13 && description === CLOSE_NOTIFY ? WARNING : level,\n        description,\n        authenticated,\n        at',
    'level: description === CLOSE_NOTIFY ? WARNING : level,\n        description,\n        authenticated,\n        at',
  ),
  strict(
    'an alert crossed when it is asked for',
    'const crossedAt = (at: number): number => Math.min(at - BEHIND, performance.now());',
    'const crossedAt = (_at: number): number => performance.now();',
    { by: ['late'] },
  ),
  strict(
    'an alert of ours is first, whenever it was sent',
    'const sentFirst = sent !== null && (received === null || sent.at <= received.at);',
    'const sentFirst = sent !== null;',
    {
      by: ['guard', 'facts'],
      lives:
        'the closure puts what is known later in its place by its time; only the record of it would have the two the other way round',
    },
  ),
  strict(
    'a message that ends with its connection is left to Node',
    "failMessages(this.socket, error, cut ? 'all' : 'endless');",
    'void cut;',
    { by: ['http1', 'http2', 'undici', 'responses'] },
  ),
  strict(
    'a program that destroys its socket makes its response whole',
    "failMessages(this.socket, error, cut ? 'all' : 'endless');",
    "if (cut) failMessages(this.socket, error, 'all');",
    { by: ['http1', 'responses', 'facts'] },
  ),
  strict(
    'a reset behind close_notify fails who has heard the end',
    'if (!lost && this.#isOver) {',
    'if (!lost && this.#isOver && socket.destroyed) {',
    { by: ['socket', 'failures', 'uploads', 'facts'] },
  ),
  strict(
    'a reset behind close_notify overtakes what was not read',
    'if (!this.#ended || socket.destroyed) return false;',
    'if (this.#ended || !this.#ended) return false;',
    { by: ['socket', 'failures', 'uploads', 'facts'] },
  ),
  strict(
    'bytes that OpenSSL refused are told of without the alert',
    'if (witness !== null && written !== null && !closes(written)) {',
    'if (witness === null && written !== null && !closes(written)) {',
    { by: ['guard', 'facts'] },
  ),
  strict(
    'an error of OpenSSL leaves the socket standing',
    'setImmediate(() => afterReading(this.socket, false, () => this.socket.destroy()));',
    '',
    { by: ['socket', 'facts', 'endings', 'mitm'] },
  ),
  strict(
    'any error that a program destroys its socket with is the transport',
    'return ofSocket && message.startsWith(',
    'return ofSocket || message !== String(',
    { by: ['socket', 'facts', 'http1', 'undici'] },
  ),
  strict(
    'a record witness takes the last alert of the peer',
    'this.#received = { ...alert, at: performance.now() };',
    'this.#received = { ...alert, description: 0, at: performance.now() };',
    { by: ['passing'] },
  ),
  strict(
    'FIN overtakes close_notify',
    'if (this.#writing === null || mayFollow) process.nextTick(() => this.#end());',
    'process.nextTick(() => this.#end());',
    { by: ['passing', 'socket', 'facts', 'engines'] },
  ),
  strict(
    'what the transport took behind its failure has left',
    'if (!error && !this.#failed) this.#observer.onSent(total);',
    'this.#observer.onSent(total);',
    { by: ['passing', 'facts', 'failures'] },
  ),
  strict(
    'what was received last, EOF above all, overtakes what TLS has not been given',
    'this.#received.push(bytes);',
    'this.#received.unshift(bytes);',
    { by: ['passing', 'socket', 'endings'] },
  ),
  strict(
    'TLS is given all records of a chunk at once',
    'const end = this.#observer.onReceived(chunk);\n    const record = chunk.subarray(0, end);',
    'let end = 0;\n    while (end < chunk.length) end += this.#observer.onReceived(chunk.subarray(end));\n    const record = chunk.subarray(0, end);',
    { by: ['passing', 'endings'] },
  ),
  messages(
    'a body without a length is not known as one',
    "headers !== undefined && !('content-length' in headers) && !('transfer-encoding' in headers)",
    'headers === null',
    { by: ['http1', 'responses', 'facts'] },
  ),
  messages(
    'a response that was cut becomes complete',
    'get: () => false,\n      set: () => {},',
    'value: false,\n      writable: true,',
    { by: ['http1', 'responses', 'facts'] },
  ),
  messages(
    'an HTTP/2 session that is over has something to lose',
    "if (session === undefined && hadSession(socket)) return { kind: 'http2', streams: [] };",
    '',
    { by: ['http2', 'responses', 'facts'] },
  ),

  tap(
    'an alert counts as sent before the transport has it',
    'if (this.#alert === null || this.#told || this.#end > total) return null;',
    'if (this.#alert === null || this.#told) return null;',
  ),
  tap(
    'an error behind EOF is not told of',
    "if (known !== null && (known.cause !== 'eof' || error === null)) return;",
    'if (known !== null) return;',
  ),
  tap(
    'the last error of a transport counts',
    "if (known !== null && (known.cause !== 'eof' || error === null)) return;",
    'if (known !== null && error === null) return;',
  ),
  tap(
    'a failed write ends the transport before what it holds was read',
    'this.#listeners.afterWriteError(() => this.#onEnd(causeOf(error), error));',
    'this.#onEnd(causeOf(error), error);',
  ),
  listeners('FIN is sent before our close_notify', '    transport.allowHalfOpen = true;\n', ''),
  tap(
    'ciphertext that was not fed is trailing data',
    'return this.#stopped ? Buffer.concat(unfed) : Buffer.alloc(0);',
    'return Buffer.concat(unfed);',
  ),
  tap(
    'trailing data is lost',
    'return this.#stopped ? Buffer.concat(unfed) : Buffer.alloc(0);',
    'return Buffer.alloc(0 * unfed.length);',
  ),
  tap(
    'a KeyUpdate is answered behind our close_notify',
    'if (!this.writableEnded) return super.write(chunk, ...(rest as []));',
    'if (rest.length < 100) return super.write(chunk, ...(rest as []));',
  ),
  tap('a write that failed was taken', 'else this.#onTaken(total);', 'this.#onTaken(total);'),
  tap(
    'a reset is an EOF',
    'onError: (error) => this.#onEnd(causeOf(error), error),',
    "onError: () => this.#onEnd('eof', null),",
  ),
  engine(
    'data that TLS has lost is not missed',
    'return received !== null && received !== this.#given;',
    'return received !== null && received < 0;',
  ),
  engine('a fatal alert fails nothing', 'this.#doomed = true;', 'if (name !== null) return;'),
  engine(
    'close_notify is sent within a renegotiation',
    "if (this.#closing !== 'asked' || feeding || handshaking || this.#failing) return;",
    "if (this.#closing !== 'asked' || feeding || (handshaking && this.#failing)) return;",
  ),
  engine(
    'TLS shuts down within its own call',
    "if (this.#closing !== 'asked' || feeding || handshaking || this.#failing) return;",
    "if (this.#closing !== 'asked' || (feeding && this.#failing) || handshaking) return;",
    {
      lives:
        'closeWrite asks whether TLS is being fed, too, and nothing else comes here within that',
    },
  ),
  engine(
    'TLS is fed without end',
    'return this.#waiting < WAITING;',
    'return this.#waiting < 1e12;',
  ),
  engine(
    'a failure is told before its alert has left',
    'else if (quiet > 2) then();',
    'else if (quiet >= 0) then();',
  ),
  engine(
    'the alert of a failure is told behind it',
    '      engine.#tellAlerts();\n      events.onFailure(failure);',
    '      events.onFailure(failure);\n      engine.#tellAlerts();',
  ),
  outgoing(
    'what TLS does not take for now is lost',
    'while (this.#length > 0 && !this.#socket.writableNeedDrain) this.#socket.write(this.#next());',
    'while (this.#length > 0) {\n      const next = this.#next();\n      if (!this.#socket.writableNeedDrain) this.#socket.write(next);\n    }',
  ),
  outgoing(
    'what is written within a call of TLS goes into it',
    'if (!this.#tap.feeding) this.flush();',
    'this.flush();',
  ),
  ending(
    'what is known later forgets what came behind it',
    'this.#append(one.event, one.at);',
    'if (one.at < at) this.#append(one.event, one.at);',
  ),
  ending(
    'of two at the same time the one that is known later comes first',
    'this.#last !== null && this.#last.at > at;',
    'this.#last !== null && this.#last.at >= at;',
  ),
  ending(
    'a closure stays as it was when it was asked for first',
    '    if (this.state === state) return false;\n    this.#closure = null;',
    '    if (this.state === state) return false;',
  ),
  ending('a reset is an EOF', "return cause === 'eof'\n", "return cause !== 'error'\n"),
  connection(
    'a transport that this side destroyed was ended by the peer',
    "if (cause === 'destroyed') {",
    "if (cause === ('none' as typeof cause)) {",
  ),
  connection(
    'a cut in the handshake is one behind it',
    "const place = this.established ? where : 'handshake';",
    'const place = where;',
  ),
  connection(
    'a transport that takes no more is not told of',
    "this.dispatch({ type: 'send-failed' });",
    '',
  ),
  connection(
    'what TLS 1.2 discards is not counted',
    'if (tls12) this.counters.unsent += this.engine.discardWrites();',
    'if (tls12) this.engine.discardWrites();',
  ),
  connection(
    'TLS 1.2 sends what waits behind its answer',
    'if (tls12) this.counters.unsent += this.engine.discardWrites();',
    '',
  ),
  connection(
    'a broken transport behind close_notify is a truncation',
    '} else if (whole) {\n      this.fail(',
    '} else if (whole && cause === null) {\n      this.fail(',
  ),
  connection(
    'a failure is asked for before it stands',
    'this.ending.fail(failure, this.counters);\n    this.questions.ask();',
    'this.questions.ask();\n    this.ending.fail(failure, this.counters);',
  ),
  stream(
    'shutdown takes data from who reads',
    'if ((this.#pending || this.taken) && !this.#discarded) return;',
    '',
  ),
  stream(
    'unread data is kept without a limit',
    'const room = connection.policy.unreadLimit - this.#keptBytes;',
    'const room = 1e12 - this.#keptBytes;',
  ),
  stream(
    'what close() has discarded is not missed: an end is told',
    "this.#discarded ||= full || (unread === 'discard' && this.#begun);",
    "this.#discarded ||= unread === 'discard' && this.#begun;",
  ),
  stream(
    'what a shutdown finds unread is lost',
    "if (unread === 'keep' && !this.#discarded) this.#keep(chunk);",
    '',
  ),
  stream(
    'what nobody has read goes with the engine',
    'if (!this.#discarded) this.#keep(chunk);',
    '',
  ),
  stream('what is unread is not counted', 'connection.counters.late += chunk.length;', ''),
  stream('abort() leaves what was not read', 'this.#aborted = true;', 'this.#aborted = false;'),
  stream(
    'a cut is an end though nobody asked for reports',
    "receive.cause === 'eof' && connection.onlyReports;",
    "receive.cause === 'eof';",
  ),
  writing(
    'a write behind shutdown is taken',
    '      connection.mayWrite();\n      const bytes',
    '      const bytes',
  ),
  writing(
    'a write whose bytes were discarded was taken',
    'if (connection.discarded) connection.mayWrite();',
    '',
  ),
  writing(
    'a write that waits when close_notify is to follow it was taken',
    "case 'closing':\n        return undefined;",
    "case 'closing':\n        return true;",
  ),
  writing(
    'a write that waits hears of no failure',
    'if (connection.failure !== null) throw connection.failure;\n    switch',
    'switch',
    {
      lives:
        'what fails lets go of the transport in the same step, and a direction that ended so throws the same failure',
    },
  ),
  closing(
    'shutdown does not wait for the peer',
    "if (send.kind === 'closed' && (receive.kind === 'closed' || !wait)) return true;",
    "if (send.kind === 'closed') return true;",
  ),
  closing(
    'wait: false waits',
    "if (send.kind === 'closed' && (receive.kind === 'closed' || !wait)) return true;",
    "if (send.kind === 'closed' && receive.kind === 'closed') return true;",
  ),
  closing(
    'a peer that closed and did not want our answer fails shutdown',
    "if (send.kind === 'cut' && receive.kind === 'closed') return true;",
    '',
  ),
  closing('an aborted shutdown is one', 'if (this.#aborted) throw connection.failure;', ''),
  closing(
    'the transport is given back before both have closed',
    "if (send.kind !== 'closed' || receive.kind !== 'closed' || gone) {",
    "if (send.kind !== 'closed' || gone) {",
  ),
  closing(
    'the transport is given back twice',
    'const gone = connection.released || this.#closing !== null;',
    'const gone = this.#closing !== null;',
  ),
  closing(
    'close({ wait: false }) hangs on a race with the peer',
    'if (!wait) connection.engine.pause();',
    '',
  ),
  closing(
    'close() waits for the answer of who waits for FIN',
    "if (send.kind === 'closed') this.#finish();",
    '',
  ),
  closing(
    'close() waits for close_notify alone, not for FIN',
    "return !wait || (receive.kind !== 'open' && receive.kind !== 'closing');",
    "return !wait || receive.kind === 'closed';",
  ),
  closing(
    'close() does not wait for the peer',
    "return !wait || (receive.kind !== 'open' && receive.kind !== 'closing');",
    'return wait || !wait;',
  ),
  closing(
    'close() hides that bytes of ours are lost',
    'const error = gaveUp instanceof AbortError ? gaveUp : lost && (gaveUp ?? lost());',
    'void lost;\n    const error = gaveUp instanceof AbortError ? gaveUp : null;',
  ),
  closing(
    'close() says again what another call has said',
    'const lost = connection.heard[unless] ? null : this.#loss;',
    'const lost = this.#loss;',
  ),
  closing(
    'close() fails though the transport has taken all',
    "if (!connection.untaken || send.kind === 'closed') return null;",
    "if (send.kind === 'closed') return null;",
  ),
  closing(
    'who cancels close() is not told so',
    'const error = gaveUp instanceof AbortError ? gaveUp : lost && (gaveUp ?? lost());',
    'const error = lost && (gaveUp ?? lost());',
  ),
  closing(
    'the transport is not closed behind a failure',
    'connection.onFailed = () => void this.goodbye();',
    'connection.onFailed = () => {};',
  ),
  closing('abort() says what failed before it', 'connection.ending.forgive();', ''),
  closing('unread data is lost when the transport goes', 'this.#reading.keepUnread();', '', {
    lives:
      'the tapped engine gives what it has decrypted behind its end, too; the contract promises that of no engine',
  }),
  machine(
    'a reset takes nothing from what was received',
    "'transport-reset': 'truncated',",
    "'transport-reset': 'open' as never,",
  ),
  machine('the last end of a transport counts', "return state ?? 'reset';", "return 'reset';"),
  verdict(
    'a truncation is one-sided where our close_notify went out',
    "return 'truncated';",
    "return state.send.kind === 'closed' ? 'one-sided' : 'truncated';",
  ),
  verdict(
    "a fatal alert of ours behind the peer's close_notify is forgotten",
    "case 'alerted':\n      return 'alert';\n    case 'cut'",
    "case 'alerted':\n      return 'secure';\n    case 'cut'",
  ),
  verdict(
    'who chose not to wait is done before close_notify is out',
    "return caller.kind === 'waived' && send.kind === 'closed' ? 'one-sided' : null;",
    "return caller.kind === 'waived' ? 'one-sided' : null;",
  ),
  verdict(
    'a received alert is told as sent',
    "return { ...receive.alert, direction: 'received' };",
    "return { ...receive.alert, direction: 'sent' };",
  ),
  verdict(
    'what was cut lacks nothing',
    "if ('lacking' in receive) return receive.lacking;",
    "if ('lacking' in receive) return false;",
  ),
  verdict(
    'a direction that is open lacks nothing',
    "return receive.kind === 'closed' ? false : null;",
    'return false;',
  ),
  verdict(
    'close_notify that is on its way is told as sent',
    "if (direction.kind !== 'closed') return null;",
    "if (direction.kind !== 'closed') return direction.kind === 'closing' ? { at: 0, evidence: 'record' } : null;",
  ),
  verdict(
    'a deadline is an abort',
    "if (caller.kind === 'expired') return 'timed-out';",
    "if (caller.kind === 'expired') return 'aborted';",
  ),

  native(
    'level and description change places',
    'watch->OnAlert(sent != 0, version, data[0], data[1]);',
    'watch->OnAlert(sent != 0, version, data[1], data[0]);',
  ),
  native(
    'our own warnings have the peer close in vain',
    '  if (sent) return;\n  if (!ends) warned_',
    '  if (!ends) warned_',
    { lives: "Node's OpenSSL sends no warning but close_notify in TLS 1.3" },
  ),
  native(
    'a close_notify that OpenSSL heeds is told as ignored',
    'return SSL_get_error(ssl_, 0) != SSL_ERROR_ZERO_RETURN;',
    'return true;',
  ),
  native(
    "an error that others left in the queue is the connection's own",
    '  ERR_clear_error();\n  return SSL_get_error(ssl_, 0)',
    '  return SSL_get_error(ssl_, 0)',
  ),
  native(
    'a watch is found twice',
    '  TakeOut(match);\n  match->found_ = true;',
    '  match->found_ = true;',
  ),
  native(
    'a renegotiation names a connection that was found anew',
    'if (found_ || length < sizeof(uint32_t)',
    'if (length < sizeof(uint32_t)',
  ),
  native(
    'an SSL is counted for ever',
    '  live_ssl.fetch_sub(1, std::memory_order_relaxed);\n  watch->Release();',
    '  watch->Release();',
  ),
  native(
    'the watch of an SSL is never freed',
    '  live_ssl.fetch_sub(1, std::memory_order_relaxed);\n  watch->Release();',
    '  live_ssl.fetch_sub(1, std::memory_order_relaxed);',
  ),
  native(
    'the watch of a BIO is never freed',
    '    watch->rbio_ = nullptr;\n  }\n  watch->Release();',
    '    watch->rbio_ = nullptr;\n  }',
  ),
  native(
    'an SSL is used behind its end',
    '    watch->ssl_ = nullptr;\n  }\n  live_ssl',
    '  }\n  live_ssl',
  ),
  native(
    'what was read while others traced is explained',
    'if (WhereRead() == Place::kUnknown) gap_ = true;',
    '',
  ),
  native(
    'bytes are missing of a header',
    'return read - shown_ < kRecordHeader ? Place::kHeader : Place::kUnknown;',
    'return Place::kUnknown;',
  ),
  native(
    'an end behind many warnings is not kept',
    'if (alert_count_ < kFirstAlerts || (ends && !ended)) {',
    'if (alert_count_ < kFirstAlerts) {',
  ),
  native(
    'bytes that wait for the transport are none',
    '*bytes = BIO_ctrl_pending(wbio);',
    '*bytes = 0 * BIO_ctrl_pending(wbio);',
  ),
  native(
    'our Finished proves the peer',
    '  own_finished_ = true;\n',
    '  own_finished_ = peer_finished_ = true;\n',
  ),
  addOn(
    'the flags of alerts change places',
    '(alert.sent ? kSent : 0) | (alert.authenticated ? kAuthenticated : 0)',
    '(alert.sent ? kAuthenticated : 0) | (alert.authenticated ? kSent : 0)',
  ),
  addOn(
    'the watch of an object is never freed',
    '  handle->watch->Release();\n  delete handle;',
    '  delete handle;',
  ),
  addOn('each call makes another object of a watch', 'if (object != nullptr) return object;', ''),
  addOn(
    'a watch that waits in the queue of a thread is never told of',
    'if (!watch->ClosureIgnored()) {',
    'if (watch->ClosureIgnored() || watch != nullptr) {',
    { by: ['native 24'] },
  ),

  // ---- what a judge tried besides
  conversation(
    'two bytes of application data are an alert: any record may be our close_notify',
    'if (type === CONTENT_TYPE.alert) return this.#alert(from, content, isProtected);',
    'if (type === CONTENT_TYPE.alert || content.length === 2) return this.#alert(from, content, isProtected);',
  ),
  conversation(
    'an alert of no level counts in TLS 1.2',
    "if (!tls13 && level !== WARNING && level !== FATAL) throw new Refusal('an alert of no level');",
    '',
  ),
  conversation(
    'a handshake message of any length is taken',
    'if (wanted !== undefined && length !== wanted) {',
    'if (wanted !== undefined && length < wanted) {',
  ),
  conversation(
    'any handshake message is taken for the Finished behind ChangeCipherSpec',
    'if (from.finishing && type !== HANDSHAKE_TYPE.finished) {',
    'if (from.finishing && type === HANDSHAKE_TYPE.keyUpdate) {',
  ),
  conversation(
    'a ServerHello of the client makes keys',
    "if (from.sender !== 'server') throw new Refusal('a ServerHello of the client');",
    '',
    {
      lives:
        'a handshake with such a message fails in OpenSSL, and nothing of one that failed is claimed',
    },
  ),
  conversation(
    'a ChangeCipherSpec in TLS 1.3 puts its direction under other keys',
    "      if (isProtected) throw new Refusal('a ChangeCipherSpec that is protected');\n      return;",
    "      if (isProtected) throw new Refusal('a ChangeCipherSpec that is protected');",
  ),
  reader(
    'our records of TLS 1.2 are read for alerts alone, not for what changes keys',
    'return type !== CONTENT_TYPE.applicationData;',
    'return type === CONTENT_TYPE.alert;',
    { by: ['conversation', 'record', 'passing', 'engine', 'suites'] },
  ),
  reader(
    'a record that waits for its key is passed over',
    'if (from.waiting.length > 0 || !this.#read(from, record)) this.#wait(from, record);',
    'if (from.waiting.length === 0) this.#read(from, record);',
  ),
  reader(
    'an engine that gave more than is in a record has proven the record',
    'data > 0 && data < (record.body?.length ?? 0)',
    'data > 0',
    {
      lives:
        'who gives more than a record has gave nothing for one before, and by then nothing is left to its word',
    },
  ),
  unprotect(
    'the sequence number of TLS 1.2 is not in what the MAC is of',
    '    view.setBigUint64(0, this.#sequence);\n',
    '',
  ),
  unprotect(
    'a record of TLS 1.3 that is padding alone counts as data',
    'if (end === 0) return null;',
    'if (end === 0) return { type: 23, content: content.subarray(0, 0) };',
    { by: ['conversation', 'record', 'passing', 'endings'] },
  ),
  keys(
    'a direction of TLS 1.2 begins with the keys of the other one',
    'const keys = this.#keys12[sender];',
    "const keys = this.#keys12[sender === 'client' ? 'server' : 'client'];",
  ),
  strict(
    'a pause alone is closure: the end of a paused socket passes',
    "    ending.look();\n    if (ending.receive === 'closed') {\n      this.#write",
    "    ending.look();\n    if (ending.receive === 'closed' || this.#socket.isPaused()) {\n      this.#write",
    { by: ['guard', 'socket', 'passing', 'facts', 'endings', 'matrix 20'] },
  ),
  strict(
    "an end that came when our own close_notify was out is the peer's",
    "    ending.look();\n    if (ending.receive === 'closed') {\n      this.#write",
    "    ending.look();\n    if (ending.receive === 'closed' || ending.send === 'closed') {\n      this.#write",
  ),
  strict(
    'an unwatchable socket of a server is handed out without a guard',
    'else\n    new Guard(\n      socket,\n      native === null ? UNWATCHED(mode) : new AddOnWatching(native, mode, SOME_CLIENT),\n    );',
    'else if (native !== null)\n    new Guard(socket, new AddOnWatching(native, mode, SOME_CLIENT));',
    { by: ['late'] },
  ),
  strict(
    'what came together with the end of the handshake came before it',
    "this.happened({ type: 'established' }, this.#startedAt);",
    "this.happened({ type: 'established' });",
    { by: ['guard', 'socket', 'late', 'facts', 'endings', 'engines'] },
  ),
  strict(
    'a reset behind close_notify fails the body that close_notify completed',
    "if (isEstablished && strict && ending.receive !== 'closed') {",
    'if (isEstablished && strict) {',
    {
      by: ['http1', 'undici', 'responses', 'failures'],
      lives:
        'HTTP is told the end in the call that tells of close_notify: by the time of the reset the body is complete',
    },
  ),
  strict(
    'a reset is told as one between two records',
    "const where = isEstablished ? 'unknown' : 'handshake';",
    "const where = isEstablished ? 'record-boundary' : 'handshake';",
  ),
  strict(
    'a socket that was destroyed behind its own close_notify alone was closed',
    "const how = closed && receive === 'closed' ? 'closed' : 'destroyed';",
    "const how = closed ? 'closed' : 'destroyed';",
  ),
  strict(
    'what a proxy sends behind its 200 is lost',
    'if (first.length > 0) socket.unshift(first);',
    '',
    { by: ['proxy', 'undici'] },
  ),
  strict(
    'a 101 of a proxy opens a tunnel',
    'if (status >= 200 && status < 300) this.#open',
    'if (status >= 100 && status < 300) this.#open',
    { by: ['proxy'] },
  ),
  strict(
    'an interim answer of a proxy opens a tunnel',
    'if (status >= 100 && status < 200 && status !== 101) {',
    'if (status >= 100 && status < 103 && status !== 101) {',
    { by: ['proxy'] },
  ),
  strict(
    'what a socket had read before TLS was put on it is lost',
    'for (let bytes = socket.read(); bytes !== null; bytes = socket.read()) user.onBytes(bytes);',
    'while (socket.read() !== null);',
    { by: ['passing', 'proxy', 'engines', 'matrix 20'] },
  ),
  strict(
    'TLS that reads no more is given all that comes',
    '  stop(): void {\n    this.#reading = false;',
    '  stop(): void {\n    void this.#reading;',
  ),
  loading(
    'an add-on of another interface is taken',
    'if (found.native === null || found.native.interface === INTERFACE) return found;',
    'if (found !== null) return found;',
  ),
  strict(
    'a second strictServer() changes nothing',
    '    guardSocket(socket, modeNow());',
    '    guardSocket(socket, mode);',
    { by: ['socket', 'http1'] },
  ),
  strict(
    'a session whose certificate was checked in one way serves who asks for another',
    'if (check !== undefined && check !== this.options.checkServerIdentity) return undefined;',
    'void check;',
    { by: ['http1'] },
  ),
  strict(
    'a Duplex that fails is left to Node',
    'if (isForeign(given)) pass.onFailure = (error) => guard.onTransportFailed(error);',
    '',
    { by: ['passing', 'socket', 'engines', 'matrix 20'] },
  ),
  strict(
    'FIN of this side goes out ahead of close_notify',
    '    // Its own FIN would be ahead of close_notify.\n    socket.allowHalfOpen = true;\n',
    '',
    {
      by: ['passing', 'facts'],
      lives:
        'the stream of a transport under a pass never ends, since its push is taken: it has no end to answer',
    },
  ),
  strict(
    'a peer that is cut off is told as idle in report mode',
    "this.#weigh();\n      this.#tell(cut, 'end');",
    "this.#ending.happened({ type: 'idle' });\n      this.#tell(cut, 'end');",
    { by: ['incomplete', 'facts'] },
  ),
  strict(
    'whoever is to be left alone is made strict',
    'included(host) && !excluded(host)',
    'included(host)',
    { by: ['register'] },
  ),
  strict(
    'behind a proxy the address of the proxy decides who is strict',
    'if (host) return String(host);',
    '',
    { by: ['register'] },
  ),
  messages(
    'undici that has paused within a body has nothing left to read',
    "return reader?.kind === 'undici' && reader.paused;",
    "return reader?.kind === 'undici' && !reader;",
    { by: ['undici'] },
  ),
  messages(
    'an idle connection of an agent fails',
    "if (exchange === null && socket.listenerCount('agentRemove') > 0) {",
    "if (exchange === null && socket.listenerCount('agentRemove') > 1e6) {",
    { by: ['http1', 'responses'] },
  ),
  messages(
    'an error overtakes the bytes that wait in a response',
    "if (which === 'all' && isAwaited(message, side)) failBehindUnread(socket, message, error);\n    else process",
    'process',
    { by: ['http1', 'responses', 'facts'] },
  ),
  messages(
    "a response that was cut says 'end' behind the bytes that wait in it",
    'message.push = (chunk, encoding) => chunk !== null && push.call(message, chunk, encoding);',
    '',
    { by: ['http1', 'responses', 'facts'] },
  ),
  messages(
    'an error overtakes the bytes that wait in a body of undici',
    'else afterReading(body, false, () => tell.apply(handler, args));',
    'else tell.apply(handler, args);',
    { by: ['undici', 'responses'] },
  ),
  messages(
    'a request of http2 that was cut says end',
    'if (request !== undefined) failRequest(request, error);',
    '',
    { by: ['http2', 'sessions'] },
  ),
  tap(
    'a transport that was given back is written to',
    '    if (this.#detached) done();\n    else this.#send(chunk, done);',
    '    this.#send(chunk, done);',
  ),
  tap(
    'TLS is fed before anybody hears of it',
    'if (this.#feeding || this.#detached || !this.#ready) return;',
    'if (this.#feeding || this.#detached) return;',
    { lives: 'a transport gives nothing before the next tick, and by then the engine is there' },
  ),
  listeners('whoever listened to the plaintext gets ciphertext', '    this.#mute();\n', ''),
  listeners(
    'a transport that was given back stays half-open',
    '    transport.allowHalfOpen = this.#allowHalfOpen;\n',
    '',
  ),
  tap(
    'a close_notify that is on its way is data that was not taken',
    'return this.#taken >= Math.min(this.#start, this.#written);',
    'return this.#taken >= this.#written;',
    { by: ['tap', 'streams'] },
  ),
  listeners(
    'a broken pipe is an error of the transport itself',
    "new Set(['ECONNRESET', 'EPIPE', 'ECONNABORTED'])",
    "new Set(['ECONNRESET', 'ECONNABORTED'])",
  ),
  tap(
    'what waits behind a listener that threw is lost',
    'if (!fed) process.nextTick(() => this.#pump());',
    '',
  ),
  tap(
    'the secrets of a transport that was given back are kept',
    '      this.#reader?.close();\n',
    '',
  ),
  engine(
    'TLS that ends its stream is closure, as ZERO_RETURN is',
    "if (!HAS_KEY_LOG && this.#tap.feeding && !this.#failing)\n        this.#infer('received', CLOSE_NOTIFY);",
    "if (this.#tap.feeding && !this.#failing) this.#infer('received', CLOSE_NOTIFY);",
  ),
  outgoing(
    'what TLS has not taken was sent',
    'const waiting = this.#length + this.#socket.writableLength;',
    'const waiting = this.#tap.taken ? 0 : this.#length + this.#socket.writableLength;',
  ),
  engine(
    'a failure waits for ever for a transport that takes nothing',
    'const stop = after(this.#linger, tell);',
    'const stop = () => {};',
  ),
  engine(
    'one quiet turn is enough for an alert to leave',
    'else if (quiet > 2) then();',
    'else if (quiet > 0) then();',
  ),
  engine(
    'an alert that came in the handshake is proven',
    'if (waits && one.alert.authenticated) this.#alerts.push(one);',
    'if (waits) this.#alerts.push(one);',
  ),
  engine(
    'nobody is told of a failure behind an alert that TLS says nothing of',
    'if (closes(alert)) return;\n    const name',
    'if (closes(alert) || alert.level !== null) return;\n    const name',
  ),
  closing(
    'close() whose signal is aborted says close_notify',
    'if (!signal?.aborted) connection.sendCloseNotify();',
    'connection.sendCloseNotify();',
  ),
  closing(
    'whoever listened to the transport hears nothing of it behind unwrap',
    'const trailing = connection.release(true);',
    'const trailing = connection.release(false);',
  ),
  closing(
    'a transport that close() has begun to close is given back',
    'const gone = connection.released || this.#closing !== null;',
    'const gone = connection.released;',
  ),
  waiting(
    'a read that runs out of time ends the connection',
    "if (ends) connection.dispatch({ type: 'deadline' });",
    "connection.dispatch({ type: 'deadline' });",
  ),
  waiting(
    'a read that is cancelled ends the connection',
    "if (ends) connection.dispatch({ type: 'cancel' });",
    "connection.dispatch({ type: 'cancel' });",
  ),
  waiting(
    'what a read has said is not remembered',
    'this.#connection.hear(this.#waiting.phase, error);',
    '',
  ),
  stream(
    'what a shutdown discards is a beginning to nobody: an end is told to who has begun to read',
    "this.#discarded ||= full || (unread === 'discard' && this.#begun);",
    'this.#discarded ||= full;',
  ),
  connection(
    'silence behind a shutdown is a failure',
    "if (over || receive.kind === 'closing' || this.failure !== null) return;",
    "if (receive.kind === 'closing' || this.failure !== null) return;",
    { by: ['faces', 'streams'] },
  ),
  connection(
    'what the transport had not taken when it broke is forgotten',
    'this.counters.unsent += unsent;',
    '',
  ),
  duplex(
    'a failure of the stream overtakes the bytes that wait in the Duplex',
    'if (error === null || this.readableLength > 0 || this.destroyed) return;',
    'if (error === null || this.destroyed) return;',
  ),
  duplex(
    'destroy() of a Duplex that was read to its end aborts',
    'if (error === null && allWritten && (this.#ended || this.#soon)) {',
    'if (error === null && allWritten && this.#soon) {',
  ),
  duplex(
    'destroy() of a Duplex that was not read to its end closes',
    'if (error === null && allWritten && (this.#ended || this.#soon)) {',
    'if (error === null && allWritten) {',
  ),
  web(
    'a readable whose writable failed looks whole to the peer',
    "if (this.#readSide === 'ended' && this.#writeSide === 'failed') this.#source.abort();\n    else ",
    '',
  ),
  web(
    'a readable that was cut closes',
    '      this.#settle();\n      throw error;\n    }\n    // Cancelled',
    '      this.#settle();\n      controller.close();\n      return;\n    }\n    // Cancelled',
  ),
  engine(
    'what is inferred is told as read',
    "HAS_KEY_LOG ? 'record' : 'inferred'",
    "HAS_KEY_LOG ? 'record' : 'record'",
    { by: ['evidence'] },
  ),
  engine(
    'on Deno an alert that ended TLS is not told of',
    'if (inferred !== null) this.#alerts.push(',
    'if (inferred === undefined) this.#alerts.push(',
    { by: ['evidence'] },
  ),
  engine(
    'on Deno a close_notify that was sent is not told of',
    "if (!HAS_KEY_LOG) this.#socket?.once('finish', () => this.#inferSent());",
    '',
    { by: ['evidence'] },
  ),
  engine(
    "on Deno a stranger's certificate is a handshake that failed",
    'judged || unverified(error)',
    'judged',
    { by: ['evidence'] },
  ),
  failure(
    'an alert is inferred from the code of an error',
    "way: name === undefined ? 'sent' : 'received',",
    "way: error.code?.includes('ALERT') ? 'received' : 'sent',",
  ),
  native(
    'ZERO_RETURN is closure: a connection whose peer said nothing counts as one whose close_notify is ignored',
    'if (ssl_ == nullptr || (SSL_get_shutdown(ssl_) & SSL_RECEIVED_SHUTDOWN) == 0) return false;',
    'if (ssl_ == nullptr) return false;',
    { lives: 'only a connection is asked whose close_notify was shown' },
  ),
  native(
    'of two whose close_notify is ignored in one turn the second is lost',
    '    ignored_last_->queued_ = watch;\n',
    '',
    { lives: 'no test has two in one turn yet' },
  ),
  native(
    'a warning in the clear is none',
    'description == kCloseNotify || (tls13 && authenticated',
    'description == kCloseNotify || (tls13',
    {
      by: ['native 24', 'facts 24', 'endings 24'],
      lives: 'no test has one on a connection that then closes behind it yet',
    },
  ),
  native(
    'user_canceled that calls itself fatal is no warning: OpenSSL 3.5 then waits for ever',
    '? description != kUserCanceled',
    '? description != kUserCanceled || level == kFatal',
    { by: ['native 24', 'facts 24', 'endings 24'] },
  ),
  native(
    'an alert crossed when TLS began',
    'description, authenticated, alone, Now()};',
    'description, authenticated, alone, born_};',
    { by: ['native 20', 'socket', 'facts'] },
  ),
  native(
    'who traces a connection ends its watching',
    'if (ssl_ != nullptr) SSL_set_msg_callback(ssl_, Witness::OnMessage);',
    '',
  ),
  native(
    'any bytes that are missing are those of the last record',
    'return shown_ - read <= last_body_ ? Place::kBody : Place::kUnknown;',
    'return Place::kBody;',
    { lives: 'what was read unseen is known as a gap by then' },
  ),
  native(
    'a connection that was watched before a thread ended is watched on',
    '    while (first_ != nullptr) Remove(first_);\n',
    '',
    { lives: 'no test has an SSL that outlives its thread yet' },
  ),
  addOn(
    'what a listener throws is swallowed',
    '(void)napi_fatal_exception(env, error);',
    '(void)error;',
    {
      by: ['load', 'native 24'],
      lives: 'index.js keeps what its listeners throw from getting there',
    },
  ),
  addOn(
    'a Finished of any type of array is looked up',
    'if (!is_typedarray || type != napi_uint8_array) {',
    'if (!is_typedarray) {',
  ),
];
