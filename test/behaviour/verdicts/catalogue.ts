/**
 * The catalogue of endings: what a peer with the keys, or somebody on the path without them, can do to the
 * end of a connection; what each has to come to; and the sentence that says so.
 *
 * Each ending is played by a crafted peer (crafted-peer.ts). `truth` is how the peer's
 * direction ended, and EXPECTED gives the verdict for each truth. Who judges a run reads from the wire
 * what truly crossed, and holds `truth` against that: so nothing rests on the name of an ending.
 */
import { type CraftedPeer, forged, plaintext, turn, type Version } from './crafted-peer.ts';

/** What a peer has to play an ending with. */
export interface Stage {
  readonly peer: CraftedPeer;
  /** Waits until the program has what was sent so far, or has stopped reading it. */
  later(): Promise<void>;
}

/** How the peer's direction ended, as it is on the wire. */
export type Truth = 'close_notify' | 'alert' | 'refused' | 'eof' | 'reset';

/** What a stream or socket that reads to its end has to say. */
export const EXPECTED = {
  /** And of our side's own close_notify too, which answers it: else one-sided. */
  close_notify: 'secure',
  /** The peer sent a fatal alert. */
  alert: 'alert',
  /** We sent one. */
  refused: 'alert',
  eof: 'truncated',
  reset: 'truncated',
} as const satisfies Record<Truth, string>;

/** Where EOF is. */
export type Where = 'record-boundary' | 'inside-record';

/** The sentences that the endings rest on. */
export const RULES = {
  closure:
    'RFC 9846 section 6.1: "close_notify: This alert notifies the recipient that the sender will not send any more messages on this connection."',
  ignored:
    'RFC 9846 section 6.1: "Any data received after a closure alert has been received MUST be ignored."',
  truncation:
    'RFC 9846 section 6.1: "If a transport-level close is received prior to a "close_notify", the receiver cannot know that all the data that was sent has been received."',
  userCanceled:
    'RFC 9846 section 6.1: "user_canceled: [...] This alert SHOULD be followed by a "close_notify"." It ends nothing itself.',
  severity:
    'RFC 9846 section 6: "in TLS 1.3, the severity is implicit in the type of alert being sent and the "level" field can safely be ignored."',
  fatal:
    'RFC 9846 section 6.2: "Upon transmission or receipt of a fatal alert message, both parties MUST immediately close the connection."',
  unknownAlert: 'RFC 9846 section 6: "Unknown Alert types MUST be treated as error alerts."',
  fatal12:
    'RFC 5246 section 7.2: "Alert messages with a level of fatal result in the immediate termination of the connection."',
  warning:
    'RFC 5246 section 7.2.2: "If an alert with a level of warning is sent and received, generally the connection can continue normally."',
  decryption:
    'RFC 9846 section 5.2: "If the decryption fails, the receiver MUST terminate the connection with a "bad_record_mac" alert."',
  overflow:
    'RFC 9846 section 5.2: "An endpoint that receives a record that exceeds this length MUST terminate the connection with a "record_overflow" alert."',
  padding:
    'RFC 9846 section 5.4: "All encrypted TLS records can be padded to inflate the size of the TLSCiphertext."',
  onlyPadding:
    'RFC 9846 section 5.4: "If a receiving implementation does not find a non-zero octet in the cleartext, it MUST terminate the connection with an "unexpected_message" alert."',
  emptyContent:
    'RFC 9846 section 5.4: "Implementations MUST NOT send Handshake and Alert records that have a zero-length TLSInnerPlaintext.content; if such a message is received, the receiving implementation MUST terminate the connection with an "unexpected_message" alert."',
  emptyData:
    'RFC 9846 section 5.1: "Zero-length fragments of Application Data MAY be sent, as they are potentially useful as a traffic analysis countermeasure."',
  alertFraming:
    'RFC 9846 section 5.1: "Alert messages (Section 6) MUST NOT be fragmented across records, and multiple alert messages MUST NOT be coalesced into a single TLSPlaintext record."',
  interleaved:
    'RFC 9846 section 5.1: "Handshake messages MUST NOT be interleaved with other record types."',
  keyChange: 'RFC 9846 section 5.1: "Handshake messages MUST NOT span key changes."',
  recordType:
    'RFC 9846 section 5: "If a TLS implementation receives an unexpected record type, it MUST terminate the connection with an "unexpected_message" alert."',
  changeCipherSpec:
    'RFC 9846 section 5: "An implementation which receives any other change_cipher_spec value or which receives a protected change_cipher_spec record MUST abort the handshake with an "unexpected_message" alert."',
  keyUpdate:
    'RFC 9846 section 4.7.3: "Both sender and receiver MUST encrypt their KeyUpdate messages with the old keys." What follows is under the new ones.',
  keyUpdateValue:
    'RFC 9846 section 4.7.3: "If an implementation receives any other value, it MUST terminate the connection with an "illegal_parameter" alert."',
  limit:
    'OpenSSL, ssl/record: MAX_WARN_ALERT_COUNT. No RFC says how many warnings in a row are too many.',
} as const;

export interface Ending {
  readonly truth: Truth;
  readonly rule: keyof typeof RULES;
  readonly only?: Version;
  /** Behind 'eof'; where it hangs on how long records are, by version. */
  readonly where?: Where | Readonly<Record<Version, Where>>;
  /** Whether there is more in one segment with the first data than what ends it. */
  readonly crowded?: boolean;
  /**
   * Who reads the wire with the keys does not see what is wrong: all data but the first is then behind
   * what has to be refused.
   */
  readonly lenient?: true;
  play(stage: Stage): unknown;
}

const turns = async (count: number): Promise<void> => {
  for (let i = 0; i < count; i++) await turn();
};

/** The data in front of an ending. */
export const HELLO = 'hello';
const PADDING = 200;

/** Fatal alerts (RFC 9846 section 6.2), by description. */
const FATAL = {
  unexpected_message: 10,
  bad_record_mac: 20,
  handshake_failure: 40,
  certificate_unknown: 46,
  access_denied: 49,
  internal_error: 80,
  certificate_required: 116,
  // No standard has given it out.
  'alert 200': 200,
} as const;

/** Endings that either party can play. */
export const ENDINGS: Readonly<Record<string, Ending>> = {
  'close_notify and FIN in the segment of data': {
    truth: 'close_notify',
    rule: 'closure',
    play: ({ peer }) => peer.fin(peer.data(HELLO), peer.closeNotify()),
  },
  'close_notify and FIN in a segment of their own': {
    truth: 'close_notify',
    rule: 'closure',
    async play({ peer, later }) {
      peer.send(peer.data(HELLO));
      await later();
      peer.fin(peer.closeNotify());
    },
  },
  'close_notify in the segment of data, no FIN': {
    truth: 'close_notify',
    rule: 'closure',
    play: ({ peer }) => peer.send(peer.data(HELLO), peer.closeNotify()),
  },
  'close_notify in a segment of its own, no FIN': {
    truth: 'close_notify',
    rule: 'closure',
    async play({ peer, later }) {
      peer.send(peer.data(HELLO));
      await later();
      peer.send(peer.closeNotify());
    },
  },
  'close_notify, then FIN in a segment of its own': {
    truth: 'close_notify',
    rule: 'closure',
    async play({ peer, later }) {
      peer.send(peer.data(HELLO), peer.closeNotify());
      await later();
      peer.fin();
    },
  },
  'close_notify alone, no data': {
    truth: 'close_notify',
    rule: 'closure',
    play: ({ peer }) => peer.fin(peer.closeNotify()),
  },
  'padded close_notify in the segment of data': {
    truth: 'close_notify',
    rule: 'padding',
    only: 'TLSv1.3',
    play: ({ peer }) => peer.fin(peer.data(HELLO, 9), peer.closeNotify(PADDING)),
  },
  'padded close_notify in a segment of its own': {
    truth: 'close_notify',
    rule: 'padding',
    only: 'TLSv1.3',
    async play({ peer, later }) {
      peer.send(peer.data(HELLO, PADDING));
      await later();
      peer.send(peer.closeNotify(16));
    },
  },
  // RFC 9846 section 6: "All the alerts listed in Section 6.2 MUST be sent with AlertLevel=fatal"; but "in
  // TLS 1.3, the severity is implicit in the type of alert being sent and the 'level' field can safely be
  // ignored".
  'close_notify of level fatal': {
    truth: 'close_notify',
    rule: 'severity',
    only: 'TLSv1.3',
    play: ({ peer }) => peer.fin(peer.data(HELLO), peer.alert(2, 0)),
  },
  'close_notify, byte by byte': {
    truth: 'close_notify',
    rule: 'closure',
    async play({ peer }) {
      await peer.sendSplit([1], peer.data(HELLO), peer.closeNotify());
      peer.fin();
    },
  },
  'close_notify, its header in the segment of data': {
    truth: 'close_notify',
    rule: 'closure',
    async play({ peer, later }) {
      const data = peer.data(HELLO);
      const alert = peer.closeNotify();
      peer.send(data, alert.subarray(0, 5));
      await later();
      peer.fin(alert.subarray(5));
    },
  },
  'large data, then close_notify in its segment': {
    truth: 'close_notify',
    rule: 'closure',
    crowded: true,
    play: ({ peer }) =>
      peer.fin(peer.data(16_384), peer.data(16_384), peer.data(9), peer.closeNotify()),
  },
  'two records of data and close_notify in one segment': {
    truth: 'close_notify',
    rule: 'closure',
    crowded: true,
    play: ({ peer }) => peer.fin(peer.data(HELLO), peer.data('world'), peer.closeNotify()),
  },
  'empty records, then close_notify, in one segment': {
    truth: 'close_notify',
    rule: 'emptyData',
    crowded: true,
    play: ({ peer }) =>
      peer.fin(peer.data(HELLO), peer.data(''), peer.data(''), peer.closeNotify()),
  },
  'an empty record, data, an empty record, close_notify': {
    truth: 'close_notify',
    rule: 'emptyData',
    async play({ peer, later }) {
      peer.send(peer.data(''));
      peer.send(peer.data(HELLO));
      await later();
      peer.fin(peer.data(''), peer.closeNotify());
    },
  },
  'close_notify, then data': {
    truth: 'close_notify',
    rule: 'ignored',
    play: ({ peer }) => peer.fin(peer.data(HELLO), peer.closeNotify(), peer.data('too late')),
  },
  'close_notify, then data in a segment of its own': {
    truth: 'close_notify',
    rule: 'ignored',
    async play({ peer, later }) {
      peer.send(peer.data(HELLO), peer.closeNotify());
      await later();
      peer.fin(peer.data('too late'));
    },
  },
  'close_notify, then a fatal alert': {
    truth: 'close_notify',
    rule: 'ignored',
    play: ({ peer }) => peer.fin(peer.data(HELLO), peer.closeNotify(), peer.alert(2, 80)),
  },
  'close_notify twice': {
    truth: 'close_notify',
    rule: 'ignored',
    play: ({ peer }) => peer.fin(peer.data(HELLO), peer.closeNotify(), peer.closeNotify()),
  },
  // RFC 9846 section 6.1: "user_canceled: [...] This alert SHOULD be followed by a close_notify."
  'user_canceled, close_notify, FIN': {
    truth: 'close_notify',
    rule: 'userCanceled',
    only: 'TLSv1.3',
    crowded: true,
    play: ({ peer }) => peer.fin(peer.data(HELLO), peer.userCanceled(), peer.closeNotify()),
  },
  'user_canceled, close_notify, no FIN': {
    truth: 'close_notify',
    rule: 'userCanceled',
    only: 'TLSv1.3',
    crowded: true,
    play: ({ peer }) => peer.send(peer.data(HELLO), peer.userCanceled(), peer.closeNotify()),
  },
  'padded user_canceled and close_notify, as JSSE sends them, no FIN': {
    truth: 'close_notify',
    rule: 'userCanceled',
    only: 'TLSv1.3',
    async play({ peer, later }) {
      peer.send(peer.data(HELLO));
      await later();
      peer.send(peer.userCanceled(16), peer.closeNotify(16));
    },
  },
  'user_canceled and close_notify, a segment each': {
    truth: 'close_notify',
    rule: 'userCanceled',
    only: 'TLSv1.3',
    async play({ peer, later }) {
      peer.send(peer.data(HELLO));
      await later();
      peer.send(peer.userCanceled());
      await turns(3);
      peer.send(peer.closeNotify());
    },
  },
  'user_canceled that calls itself fatal, then close_notify, no FIN': {
    truth: 'close_notify',
    rule: 'severity',
    only: 'TLSv1.3',
    crowded: true,
    play: ({ peer }) => peer.send(peer.data(HELLO), peer.alert(2, 90), peer.closeNotify()),
  },
  'a warning of TLS 1.2 (user_canceled), then close_notify': {
    truth: 'close_notify',
    rule: 'warning',
    only: 'TLSv1.2',
    crowded: true,
    play: ({ peer }) => peer.fin(peer.data(HELLO), peer.userCanceled(), peer.closeNotify()),
  },
  'KeyUpdate, then close_notify': {
    truth: 'close_notify',
    rule: 'keyUpdate',
    only: 'TLSv1.3',
    crowded: true,
    play: ({ peer }) => peer.fin(peer.data(HELLO), peer.keyUpdate(), peer.closeNotify()),
  },
  'KeyUpdate that asks for one, data, KeyUpdate, close_notify': {
    truth: 'close_notify',
    rule: 'keyUpdate',
    only: 'TLSv1.3',
    async play({ peer, later }) {
      peer.send(peer.keyUpdate(true), peer.data(HELLO));
      await later();
      peer.send(peer.keyUpdate(), peer.closeNotify());
    },
  },
  'three KeyUpdates in segments of their own, then close_notify': {
    truth: 'close_notify',
    rule: 'keyUpdate',
    only: 'TLSv1.3',
    async play({ peer, later }) {
      peer.send(peer.data(HELLO));
      await later();
      for (let i = 0; i < 3; i++) {
        peer.send(peer.keyUpdate());
        await turns(2);
      }
      peer.fin(peer.closeNotify());
    },
  },
  // Fatal alerts

  ...Object.fromEntries(
    Object.entries(FATAL).map(([name, description]): [string, Ending] => [
      `${name} in the segment of data, FIN`,
      {
        truth: 'alert',
        rule: name === 'alert 200' ? 'unknownAlert' : 'fatal',
        play: ({ peer }) => peer.fin(peer.data(HELLO), peer.alert(2, description)),
      },
    ]),
  ),
  'internal_error in the segment of data, no FIN': {
    truth: 'alert',
    rule: 'fatal',
    play: ({ peer }) => peer.send(peer.data(HELLO), peer.alert(2, 80)),
  },
  'internal_error in a segment of its own, FIN': {
    truth: 'alert',
    rule: 'fatal',
    async play({ peer, later }) {
      peer.send(peer.data(HELLO));
      await later();
      peer.fin(peer.alert(2, 80));
    },
  },
  'bad_record_mac in a segment of its own, no FIN': {
    truth: 'alert',
    rule: 'fatal',
    async play({ peer, later }) {
      peer.send(peer.data(HELLO));
      await later();
      peer.send(peer.alert(2, 20));
    },
  },
  'padded internal_error in the segment of data': {
    truth: 'alert',
    rule: 'fatal',
    only: 'TLSv1.3',
    play: ({ peer }) => peer.fin(peer.data(HELLO), peer.alert(2, 80, PADDING)),
  },
  // As long as JSSE's close_notify.
  'padded internal_error in a segment of its own': {
    truth: 'alert',
    rule: 'fatal',
    only: 'TLSv1.3',
    async play({ peer, later }) {
      peer.send(peer.data(HELLO));
      await later();
      peer.fin(peer.alert(2, 80, 16));
    },
  },
  'two records of data and internal_error in one segment': {
    truth: 'alert',
    rule: 'fatal',
    crowded: true,
    play: ({ peer }) => peer.fin(peer.data(HELLO), peer.data('world'), peer.alert(2, 80)),
  },
  // RFC 9846 section 6: "Unknown Alert types MUST be treated as error alerts", whatever the level.
  'internal_error of level warning': {
    truth: 'alert',
    rule: 'severity',
    only: 'TLSv1.3',
    play: ({ peer }) => peer.fin(peer.data(HELLO), peer.alert(1, 80)),
  },
  'internal_error, then close_notify': {
    truth: 'alert',
    rule: 'fatal',
    play: ({ peer }) => peer.fin(peer.data(HELLO), peer.alert(2, 80), peer.closeNotify()),
  },
  // More than anybody keeps; OpenSSL takes five in a row, and data between them.
  'thirty warnings between data, then internal_error': {
    truth: 'alert',
    rule: 'fatal',
    crowded: true,
    play: ({ peer }) =>
      peer.fin(
        ...Array.from({ length: 30 }, () => [peer.data(HELLO), peer.userCanceled()]).flat(),
        peer.alert(2, 80),
      ),
  },
  'user_canceled, then internal_error': {
    truth: 'alert',
    rule: 'fatal',
    only: 'TLSv1.3',
    crowded: true,
    play: ({ peer }) => peer.fin(peer.data(HELLO), peer.userCanceled(), peer.alert(2, 80)),
  },
  // RFC 5246 section 7.2: level fatal means the connection is terminated at once, whatever the description.
  'close_notify of level fatal in TLS 1.2': {
    truth: 'alert',
    rule: 'fatal12',
    only: 'TLSv1.2',
    play: ({ peer }) => peer.fin(peer.data(HELLO), peer.alert(2, 0)),
  },
  // What the receiver has to refuse

  'forged close_notify in the segment of data': {
    truth: 'refused',
    rule: 'decryption',
    play: ({ peer }) => peer.fin(peer.data(HELLO), forged(peer.closeNotify())),
  },
  'forged close_notify in a segment of its own': {
    truth: 'refused',
    rule: 'decryption',
    async play({ peer, later }) {
      peer.send(peer.data(HELLO));
      await later();
      peer.fin(forged(peer.closeNotify()));
    },
  },
  'forged close_notify, then a true one': {
    truth: 'refused',
    rule: 'decryption',
    play: ({ peer }) => peer.fin(peer.data(HELLO), forged(peer.closeNotify()), peer.closeNotify()),
  },
  'close_notify in the clear, in the segment of data': {
    truth: 'refused',
    rule: 'recordType',
    play: ({ peer }) => peer.fin(peer.data(HELLO), plaintext(21, Buffer.of(1, 0))),
  },
  'close_notify in the clear, in a segment of its own, no FIN': {
    truth: 'refused',
    rule: 'recordType',
    async play({ peer, later }) {
      peer.send(peer.data(HELLO));
      await later();
      peer.send(plaintext(21, Buffer.of(1, 0)));
    },
  },
  'a fatal alert in the clear, in a segment of its own': {
    truth: 'refused',
    rule: 'recordType',
    async play({ peer, later }) {
      peer.send(peer.data(HELLO));
      await later();
      peer.fin(plaintext(21, Buffer.of(2, 80)));
    },
  },
  'data in the clear': {
    truth: 'refused',
    rule: 'recordType',
    play: ({ peer }) => peer.fin(peer.data(HELLO), plaintext(23, Buffer.from('hello, hello'))),
  },
  'the record of data a second time': {
    truth: 'refused',
    rule: 'decryption',
    async play({ peer, later }) {
      const data = peer.data(HELLO);
      peer.send(data);
      await later();
      peer.fin(data);
    },
  },
  'a record that is missing, then close_notify': {
    truth: 'refused',
    rule: 'decryption',
    async play({ peer, later }) {
      peer.send(peer.data(HELLO));
      await later();
      peer.data('this one is cut out');
      peer.fin(peer.closeNotify());
    },
  },
  'an alert of one byte': {
    truth: 'refused',
    rule: 'alertFraming',
    play: ({ peer }) => peer.fin(peer.data(HELLO), peer.record(21, Buffer.of(1))),
  },
  'an alert of four bytes': {
    truth: 'refused',
    rule: 'alertFraming',
    play: ({ peer }) => peer.fin(peer.data(HELLO), peer.record(21, Buffer.of(1, 0, 1, 0))),
  },
  // RFC 9846 section 5: "an implementation that receives an unexpected record type MUST terminate the
  // connection with an 'unexpected_message' alert".
  'a record of no known type': {
    truth: 'refused',
    rule: 'recordType',
    play: ({ peer }) => peer.fin(peer.data(HELLO), peer.record(99, Buffer.of(1, 0))),
  },
  'an alert of no bytes': {
    truth: 'refused',
    lenient: true,
    rule: 'emptyContent',
    play: ({ peer }) => peer.fin(peer.data(HELLO), peer.record(21, Buffer.alloc(0))),
  },
  'close_notify split over two records': {
    truth: 'refused',
    lenient: true,
    rule: 'alertFraming',
    play: ({ peer }) =>
      peer.fin(peer.data(HELLO), peer.record(21, Buffer.of(1)), peer.record(21, Buffer.of(0))),
  },
  'a handshake record of no bytes, then close_notify': {
    truth: 'refused',
    lenient: true,
    rule: 'emptyContent',
    only: 'TLSv1.3',
    play: ({ peer }) =>
      peer.fin(peer.data(HELLO), peer.record(22, Buffer.alloc(0)), peer.closeNotify()),
  },
  'a record of nothing but padding, then close_notify': {
    truth: 'refused',
    lenient: true,
    rule: 'onlyPadding',
    only: 'TLSv1.3',
    play: ({ peer }) =>
      peer.fin(peer.data(HELLO), peer.record(0, Buffer.alloc(0), 16), peer.closeNotify()),
  },
  'a record of 16,385 bytes, then close_notify': {
    truth: 'refused',
    lenient: true,
    rule: 'overflow',
    play: ({ peer }) => peer.fin(peer.data(HELLO), peer.data(16_385), peer.closeNotify()),
  },
  'a header that promises 20,000 bytes': {
    truth: 'refused',
    rule: 'overflow',
    play: ({ peer }) => peer.fin(peer.data(HELLO), plaintext(23, Buffer.alloc(20_000))),
  },
  'half of a KeyUpdate, then close_notify': {
    truth: 'refused',
    lenient: true,
    rule: 'interleaved',
    only: 'TLSv1.3',
    play: ({ peer }) =>
      peer.fin(peer.data(HELLO), peer.record(22, Buffer.of(24, 0, 0)), peer.closeNotify()),
  },
  'two KeyUpdates in one record, then close_notify': {
    truth: 'refused',
    lenient: true,
    rule: 'keyChange',
    only: 'TLSv1.3',
    play: ({ peer }) =>
      peer.fin(
        peer.data(HELLO),
        peer.record(22, Buffer.of(24, 0, 0, 1, 0, 24, 0, 0, 1, 0)),
        peer.closeNotify(),
      ),
  },
  'a KeyUpdate and half a message in one record, then close_notify under the new key': {
    truth: 'refused',
    lenient: true,
    rule: 'keyChange',
    only: 'TLSv1.3',
    play: ({ peer }) =>
      peer.fin(peer.data(HELLO), peer.keyUpdate(false, Buffer.of(24, 0)), peer.closeNotify()),
  },
  'a protected change_cipher_spec, then close_notify': {
    truth: 'refused',
    lenient: true,
    rule: 'changeCipherSpec',
    only: 'TLSv1.3',
    play: ({ peer }) =>
      peer.fin(peer.data(HELLO), peer.record(20, Buffer.of(1)), peer.closeNotify()),
  },
  'a KeyUpdate of value 2, then close_notify': {
    truth: 'refused',
    lenient: true,
    rule: 'keyUpdateValue',
    only: 'TLSv1.3',
    play: ({ peer }) =>
      peer.fin(peer.data(HELLO), peer.record(22, Buffer.of(24, 0, 0, 1, 2)), peer.closeNotify()),
  },
  'a KeyUpdate, but close_notify under the old key': {
    truth: 'refused',
    rule: 'decryption',
    only: 'TLSv1.3',
    play: ({ peer }) =>
      peer.fin(peer.data(HELLO), peer.record(22, Buffer.of(24, 0, 0, 1, 0)), peer.closeNotify()),
  },
  'close_notify in front of data that was made before it': {
    truth: 'refused',
    rule: 'decryption',
    play: ({ peer }) => {
      const data = peer.data(HELLO);
      peer.fin(peer.closeNotify(), data);
    },
  },
  'five user_canceled in a row, then close_notify': {
    truth: 'refused',
    lenient: true,
    rule: 'limit',
    crowded: true,
    play: ({ peer }) =>
      peer.fin(
        peer.data(HELLO),
        ...Array.from({ length: 5 }, () => peer.userCanceled()),
        peer.closeNotify(),
      ),
  },
  'three user_canceled in a row, then close_notify': {
    truth: 'close_notify',
    rule: 'userCanceled',
    crowded: true,
    play: ({ peer }) =>
      peer.fin(
        peer.data(HELLO),
        ...Array.from({ length: 3 }, () => peer.userCanceled()),
        peer.closeNotify(),
      ),
  },
  'an alert that nobody knows, of level warning, then close_notify': {
    truth: 'close_notify',
    rule: 'warning',
    only: 'TLSv1.2',
    crowded: true,
    play: ({ peer }) => peer.fin(peer.data(HELLO), peer.alert(1, 200), peer.closeNotify()),
  },
  'an alert that nobody knows, of level warning, then FIN': {
    truth: 'eof',
    rule: 'truncation',
    where: 'record-boundary',
    only: 'TLSv1.2',
    crowded: true,
    play: ({ peer }) => peer.fin(peer.data(HELLO), peer.alert(1, 200)),
  },
  'an alert that nobody knows, of level warning': {
    truth: 'alert',
    rule: 'unknownAlert',
    only: 'TLSv1.3',
    play: ({ peer }) => peer.fin(peer.data(HELLO), peer.alert(1, 200)),
  },
  '200 KeyUpdates, then close_notify': {
    truth: 'close_notify',
    rule: 'keyUpdate',
    only: 'TLSv1.3',
    crowded: true,
    play: ({ peer }) =>
      peer.fin(
        peer.data(HELLO),
        ...Array.from({ length: 200 }, () => peer.keyUpdate()),
        peer.closeNotify(),
      ),
  },
  '200 KeyUpdates, then FIN': {
    truth: 'eof',
    rule: 'truncation',
    where: 'record-boundary',
    only: 'TLSv1.3',
    crowded: true,
    play: ({ peer }) =>
      peer.fin(peer.data(HELLO), ...Array.from({ length: 200 }, () => peer.keyUpdate())),
  },
  '20 KeyUpdates that ask for one, a segment each, then close_notify': {
    truth: 'close_notify',
    rule: 'keyUpdate',
    only: 'TLSv1.3',
    async play({ peer, later }) {
      peer.send(peer.data(HELLO));
      await later();
      for (let i = 0; i < 20; i++) {
        peer.send(peer.keyUpdate(true));
        await turns(1);
      }
      peer.fin(peer.closeNotify());
    },
  },
  'close_notify, then a forged record': {
    truth: 'close_notify',
    rule: 'ignored',
    play: ({ peer }) => peer.fin(peer.data(HELLO), peer.closeNotify(), forged(peer.data('late'))),
  },
  'close_notify, then half a record in the clear': {
    truth: 'close_notify',
    rule: 'ignored',
    play: ({ peer }) =>
      peer.fin(
        peer.data(HELLO),
        peer.closeNotify(),
        plaintext(23, Buffer.alloc(99)).subarray(0, 40),
      ),
  },
  'close_notify, then a KeyUpdate that asks for one': {
    truth: 'close_notify',
    rule: 'ignored',
    only: 'TLSv1.3',
    play: ({ peer }) => peer.fin(peer.data(HELLO), peer.closeNotify(), peer.keyUpdate(true)),
  },
  // EOF and reset

  'FIN in the segment of data': {
    truth: 'eof',
    rule: 'truncation',
    where: 'record-boundary',
    play: ({ peer }) => peer.fin(peer.data(HELLO)),
  },
  'FIN in a segment of its own': {
    truth: 'eof',
    rule: 'truncation',
    where: 'record-boundary',
    async play({ peer, later }) {
      peer.send(peer.data(HELLO));
      await later();
      peer.fin();
    },
  },
  'FIN behind two records of data': {
    truth: 'eof',
    rule: 'truncation',
    where: 'record-boundary',
    crowded: true,
    play: ({ peer }) => peer.fin(peer.data(HELLO), peer.data('world')),
  },
  'FIN inside a header': {
    truth: 'eof',
    rule: 'truncation',
    where: 'inside-record',
    play: ({ peer }) => peer.fin(peer.data(HELLO), peer.data('world').subarray(0, 3)),
  },
  'FIN inside a body': {
    truth: 'eof',
    rule: 'truncation',
    where: 'inside-record',
    play: ({ peer }) => peer.fin(peer.data(HELLO), peer.data('world').subarray(0, 12)),
  },
  'FIN inside a body, in a segment of its own': {
    truth: 'eof',
    rule: 'truncation',
    where: 'inside-record',
    async play({ peer, later }) {
      peer.send(peer.data(HELLO));
      await later();
      peer.fin(peer.data(16_384).subarray(0, 9_000));
    },
  },
  'FIN inside close_notify': {
    truth: 'eof',
    rule: 'truncation',
    where: 'inside-record',
    play: ({ peer }) => peer.fin(peer.data(HELLO), peer.closeNotify().subarray(0, -1)),
  },
  'FIN behind the header of close_notify': {
    truth: 'eof',
    rule: 'truncation',
    where: 'inside-record',
    play: ({ peer }) => peer.fin(peer.data(HELLO), peer.closeNotify().subarray(0, 5)),
  },
  'FIN alone, no data': {
    truth: 'eof',
    rule: 'truncation',
    where: 'record-boundary',
    play: ({ peer }) => peer.fin(),
  },
  'FIN behind an empty record': {
    truth: 'eof',
    rule: 'truncation',
    where: 'record-boundary',
    crowded: true,
    play: ({ peer }) => peer.fin(peer.data(HELLO), peer.data('')),
  },
  // A man in the middle can cut the close_notify off.
  'user_canceled, then FIN': {
    truth: 'eof',
    rule: 'truncation',
    where: 'record-boundary',
    only: 'TLSv1.3',
    crowded: true,
    play: ({ peer }) => peer.fin(peer.data(HELLO), peer.userCanceled()),
  },
  'user_canceled in a segment of its own, then FIN': {
    truth: 'eof',
    rule: 'truncation',
    where: 'record-boundary',
    only: 'TLSv1.3',
    async play({ peer, later }) {
      peer.send(peer.data(HELLO));
      await later();
      peer.send(peer.userCanceled(16));
      await turns(3);
      peer.fin();
    },
  },
  'user_canceled that calls itself fatal, then FIN': {
    truth: 'eof',
    rule: 'severity',
    where: 'record-boundary',
    only: 'TLSv1.3',
    crowded: true,
    play: ({ peer }) => peer.fin(peer.data(HELLO), peer.alert(2, 90)),
  },
  'a warning of TLS 1.2 (user_canceled), then FIN': {
    truth: 'eof',
    rule: 'truncation',
    where: 'record-boundary',
    only: 'TLSv1.2',
    crowded: true,
    play: ({ peer }) => peer.fin(peer.data(HELLO), peer.userCanceled()),
  },
  'KeyUpdate, then FIN': {
    truth: 'eof',
    rule: 'truncation',
    where: 'record-boundary',
    only: 'TLSv1.3',
    crowded: true,
    play: ({ peer }) => peer.fin(peer.data(HELLO), peer.keyUpdate()),
  },
  'RST in a segment of its own': {
    truth: 'reset',
    rule: 'truncation',
    async play({ peer, later }) {
      peer.send(peer.data(HELLO));
      await later();
      peer.reset();
    },
  },
  'RST inside a record': {
    truth: 'reset',
    rule: 'truncation',
    async play({ peer, later }) {
      peer.send(peer.data(HELLO), peer.data('world').subarray(0, 12));
      await later();
      peer.reset();
    },
  },
};

/** What servers alone can send: tickets, so these are played towards clients. */
export const TICKETS: Readonly<Record<string, Ending>> = {
  'a ticket, then close_notify': {
    truth: 'close_notify',
    rule: 'closure',
    only: 'TLSv1.3',
    crowded: true,
    play: ({ peer }) => peer.fin(peer.data(HELLO), peer.ticket(), peer.closeNotify()),
  },
  'a ticket in a segment of its own, close_notify, no FIN': {
    truth: 'close_notify',
    rule: 'closure',
    only: 'TLSv1.3',
    async play({ peer, later }) {
      peer.send(peer.ticket(), peer.data(HELLO));
      await later();
      peer.send(peer.ticket(), peer.closeNotify());
    },
  },
  'a ticket, then FIN': {
    truth: 'eof',
    rule: 'truncation',
    where: 'record-boundary',
    only: 'TLSv1.3',
    crowded: true,
    play: ({ peer }) => peer.fin(peer.data(HELLO), peer.ticket()),
  },
  'close_notify, then a ticket': {
    truth: 'close_notify',
    rule: 'ignored',
    only: 'TLSv1.3',
    play: ({ peer }) => peer.fin(peer.data(HELLO), peer.closeNotify(), peer.ticket()),
  },
  'a ticket, its header in the segment of data, then close_notify': {
    truth: 'close_notify',
    rule: 'closure',
    only: 'TLSv1.3',
    async play({ peer, later }) {
      const [data, ticket] = [peer.data(HELLO), peer.ticket()];
      peer.send(data, ticket.subarray(0, 5));
      await later();
      peer.fin(ticket.subarray(5), peer.closeNotify());
    },
  },
  'a ticket, then internal_error': {
    truth: 'alert',
    rule: 'fatal',
    only: 'TLSv1.3',
    crowded: true,
    play: ({ peer }) => peer.fin(peer.data(HELLO), peer.ticket(), peer.alert(2, 80)),
  },
};

// ---- families, for who tries very many

/** How long the records of HELLO and of close_notify are, that of HELLO first. */
const LENGTHS = {
  'TLSv1.2': [5 + 8 + 5 + 16, 5 + 8 + 2 + 16],
  'TLSv1.3': [5 + 6 + 16, 5 + 3 + 16],
};
const LONGEST = LENGTHS['TLSv1.2'][0]! + LENGTHS['TLSv1.2'][1]!;
/** Behind this one only TLS 1.2 has another byte. */
const SHORTER = LENGTHS['TLSv1.3'][0]! + LENGTHS['TLSv1.3'][1]!;

const offsets = Array.from({ length: LONGEST - 1 }, (_, i) => i + 1);
const onlyLonger = (at: number): { only?: Version } => (at < SHORTER ? {} : { only: 'TLSv1.2' });

/** Data and close_notify in two segments, the second from each byte on. */
export const SPLIT: Readonly<Record<string, Ending>> = Object.fromEntries(
  offsets.map((at) => [
    `data and close_notify, split before byte ${at}`,
    {
      ...{ truth: 'close_notify', rule: 'closure', ...onlyLonger(at) },
      async play({ peer, later }) {
        const all = Buffer.concat([peer.data(HELLO), peer.closeNotify()]);
        peer.send(all.subarray(0, at));
        await later();
        peer.fin(all.subarray(at));
      },
    } satisfies Ending,
  ]),
);

/** FIN in the place of each byte of data and close_notify. */
export const CUT: Readonly<Record<string, Ending>> = Object.fromEntries(
  offsets.map((at) => {
    const where = (version: Version): Where =>
      at === LENGTHS[version][0] ? 'record-boundary' : 'inside-record';
    return [
      `data and close_notify, FIN in the place of byte ${at}`,
      {
        ...{ truth: 'eof', rule: 'truncation', ...onlyLonger(at) },
        where: { 'TLSv1.2': where('TLSv1.2'), 'TLSv1.3': where('TLSv1.3') },
        play: ({ peer }) =>
          peer.fin(Buffer.concat([peer.data(HELLO), peer.closeNotify()]).subarray(0, at)),
      } satisfies Ending,
    ];
  }),
);

/** Every description but close_notify and user_canceled, of level fatal, known and unknown. */
export const ALERTS: Readonly<Record<string, Ending>> = Object.fromEntries(
  Array.from({ length: 255 }, (_, i) => i + 1)
    .filter((code) => code !== 90)
    .map((code) => [
      `alert ${code}, of level fatal`,
      {
        ...{ truth: 'alert', rule: 'fatal' },
        play: ({ peer }) => peer.fin(peer.data(HELLO), peer.alert(2, code)),
      } satisfies Ending,
    ]),
);

const ALL = { ...ENDINGS, ...TICKETS, ...SPLIT, ...CUT, ...ALERTS };

/** @throws {Error} for a name that no ending has. */
export function endingOf(name: string): Ending {
  const ending = ALL[name];
  if (ending === undefined) throw new Error(`no ending is called ${name}`);
  return ending;
}
