/**
 * Crafted endings: what a peer with the keys, or somebody on the path without them, can do to the end of
 * a connection, against every way in which a program has a strict socket, reads it and reacts.
 *
 * Theory of operation. Each ending says how a crafted peer plays it. What truly crossed is read back from
 * the wire (`said`, `heard`), and the judge knows the RFC's rules for it: so the truth of a row does not
 * rest on the name of its ending. Each ending also says what it is to be, which the reading of the wire
 * has to agree with.
 *
 * RFC 9846 section 6.1: "close_notify: This alert notifies the recipient that the sender will not send any
 * more messages on this connection. Any data received after a closure alert has been received MUST be
 * ignored." And: "Each party MUST send a 'close_notify' alert before closing its write side of the
 * connection, unless it has already sent some error alert." RFC 5246 section 7.2.1: "The client and the
 * server must share knowledge that the connection is ending in order to avoid a truncation attack."
 *
 * The rows are not the full product: all pairs of values, and all of ending, version and act, chosen by a
 * seed (VERDICTS_SEED). One row by itself: VERDICTS_ROW='text that its description contains'.
 */
import { Writable } from 'node:stream';
import type tls from 'node:tls';
import { type CraftedPeer, forged, plaintext, type Version } from '../../support/crafted-peer.ts';
import { pairwise, type RowOf, randomOf } from '../../support/pairwise.ts';
import { type About, family } from '../../support/verdict-case.ts';
import {
  type Env,
  FACES,
  type Face,
  type Facts,
  isServer,
  Thrown,
  turns,
  until,
  Watch,
} from '../../support/verdict-env.ts';
import type { Crossed } from '../../support/wire-reader.ts';

const { cases, add } = family();

export { cases };

// ---- endings

/** What a peer has to play an ending with. */
interface Stage {
  readonly peer: CraftedPeer;
  /** Waits until the program has what was sent so far, or has stopped reading it. */
  later(): Promise<void>;
}

/** How the peer's direction ended, as it is on the wire. */
type Truth = 'close_notify' | 'alert' | 'refused' | 'eof' | 'reset';

interface Ending {
  readonly truth: Truth;
  readonly only?: Version;
  /** Where EOF is, behind 'eof'. */
  readonly where?: 'record-boundary' | 'inside-record';
  /** Whether there is more in one segment with the first data than what ends it. */
  readonly crowded?: boolean;
  play(stage: Stage): unknown;
}

const HELLO = 'hello';
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

const ENDINGS: Record<string, Ending> = {
  'close_notify and FIN in the segment of data': {
    truth: 'close_notify',
    play: ({ peer }) => peer.fin(peer.data(HELLO), peer.closeNotify()),
  },
  'close_notify and FIN in a segment of their own': {
    truth: 'close_notify',
    async play({ peer, later }) {
      peer.send(peer.data(HELLO));
      await later();
      peer.fin(peer.closeNotify());
    },
  },
  'close_notify in the segment of data, no FIN': {
    truth: 'close_notify',
    play: ({ peer }) => peer.send(peer.data(HELLO), peer.closeNotify()),
  },
  'close_notify in a segment of its own, no FIN': {
    truth: 'close_notify',
    async play({ peer, later }) {
      peer.send(peer.data(HELLO));
      await later();
      peer.send(peer.closeNotify());
    },
  },
  'close_notify, then FIN in a segment of its own': {
    truth: 'close_notify',
    async play({ peer, later }) {
      peer.send(peer.data(HELLO), peer.closeNotify());
      await later();
      peer.fin();
    },
  },
  'close_notify alone, no data': {
    truth: 'close_notify',
    play: ({ peer }) => peer.fin(peer.closeNotify()),
  },
  'padded close_notify in the segment of data': {
    truth: 'close_notify',
    only: 'TLSv1.3',
    play: ({ peer }) => peer.fin(peer.data(HELLO, 9), peer.closeNotify(PADDING)),
  },
  'padded close_notify in a segment of its own': {
    truth: 'close_notify',
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
    only: 'TLSv1.3',
    play: ({ peer }) => peer.fin(peer.data(HELLO), peer.alert(2, 0)),
  },
  'close_notify, byte by byte': {
    truth: 'close_notify',
    async play({ peer }) {
      await peer.sendSplit([1], peer.data(HELLO), peer.closeNotify());
      peer.fin();
    },
  },
  'close_notify, its header in the segment of data': {
    truth: 'close_notify',
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
    crowded: true,
    play: ({ peer }) =>
      peer.fin(peer.data(16_384), peer.data(16_384), peer.data(9), peer.closeNotify()),
  },
  'two records of data and close_notify in one segment': {
    truth: 'close_notify',
    crowded: true,
    play: ({ peer }) => peer.fin(peer.data(HELLO), peer.data('world'), peer.closeNotify()),
  },
  'empty records, then close_notify, in one segment': {
    truth: 'close_notify',
    crowded: true,
    play: ({ peer }) =>
      peer.fin(peer.data(HELLO), peer.data(''), peer.data(''), peer.closeNotify()),
  },
  'an empty record, data, an empty record, close_notify': {
    truth: 'close_notify',
    async play({ peer, later }) {
      peer.send(peer.data(''));
      peer.send(peer.data(HELLO));
      await later();
      peer.fin(peer.data(''), peer.closeNotify());
    },
  },
  'close_notify, then data': {
    truth: 'close_notify',
    play: ({ peer }) => peer.fin(peer.data(HELLO), peer.closeNotify(), peer.data('too late')),
  },
  'close_notify, then data in a segment of its own': {
    truth: 'close_notify',
    async play({ peer, later }) {
      peer.send(peer.data(HELLO), peer.closeNotify());
      await later();
      peer.fin(peer.data('too late'));
    },
  },
  'close_notify, then a fatal alert': {
    truth: 'close_notify',
    play: ({ peer }) => peer.fin(peer.data(HELLO), peer.closeNotify(), peer.alert(2, 80)),
  },
  'close_notify twice': {
    truth: 'close_notify',
    play: ({ peer }) => peer.fin(peer.data(HELLO), peer.closeNotify(), peer.closeNotify()),
  },
  // RFC 9846 section 6.1: "user_canceled: [...] This alert SHOULD be followed by a close_notify."
  'user_canceled, close_notify, FIN': {
    truth: 'close_notify',
    only: 'TLSv1.3',
    crowded: true,
    play: ({ peer }) => peer.fin(peer.data(HELLO), peer.userCanceled(), peer.closeNotify()),
  },
  'user_canceled, close_notify, no FIN': {
    truth: 'close_notify',
    only: 'TLSv1.3',
    crowded: true,
    play: ({ peer }) => peer.send(peer.data(HELLO), peer.userCanceled(), peer.closeNotify()),
  },
  'padded user_canceled and close_notify, as JSSE sends them, no FIN': {
    truth: 'close_notify',
    only: 'TLSv1.3',
    async play({ peer, later }) {
      peer.send(peer.data(HELLO));
      await later();
      peer.send(peer.userCanceled(16), peer.closeNotify(16));
    },
  },
  'user_canceled and close_notify, a segment each': {
    truth: 'close_notify',
    only: 'TLSv1.3',
    async play({ peer, later }) {
      peer.send(peer.data(HELLO));
      await later();
      peer.send(peer.userCanceled());
      await turns(3);
      peer.send(peer.closeNotify());
    },
  },
  'a warning of TLS 1.2 (user_canceled), then close_notify': {
    truth: 'close_notify',
    only: 'TLSv1.2',
    crowded: true,
    play: ({ peer }) => peer.fin(peer.data(HELLO), peer.userCanceled(), peer.closeNotify()),
  },
  'KeyUpdate, then close_notify': {
    truth: 'close_notify',
    only: 'TLSv1.3',
    crowded: true,
    play: ({ peer }) => peer.fin(peer.data(HELLO), peer.keyUpdate(), peer.closeNotify()),
  },
  'KeyUpdate that asks for one, data, KeyUpdate, close_notify': {
    truth: 'close_notify',
    only: 'TLSv1.3',
    async play({ peer, later }) {
      peer.send(peer.keyUpdate(true), peer.data(HELLO));
      await later();
      peer.send(peer.keyUpdate(), peer.closeNotify());
    },
  },
  'three KeyUpdates in segments of their own, then close_notify': {
    truth: 'close_notify',
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
        play: ({ peer }) => peer.fin(peer.data(HELLO), peer.alert(2, description)),
      },
    ]),
  ),
  'internal_error in the segment of data, no FIN': {
    truth: 'alert',
    play: ({ peer }) => peer.send(peer.data(HELLO), peer.alert(2, 80)),
  },
  'internal_error in a segment of its own, FIN': {
    truth: 'alert',
    async play({ peer, later }) {
      peer.send(peer.data(HELLO));
      await later();
      peer.fin(peer.alert(2, 80));
    },
  },
  'bad_record_mac in a segment of its own, no FIN': {
    truth: 'alert',
    async play({ peer, later }) {
      peer.send(peer.data(HELLO));
      await later();
      peer.send(peer.alert(2, 20));
    },
  },
  'padded internal_error in the segment of data': {
    truth: 'alert',
    only: 'TLSv1.3',
    play: ({ peer }) => peer.fin(peer.data(HELLO), peer.alert(2, 80, PADDING)),
  },
  // As long as JSSE's close_notify.
  'padded internal_error in a segment of its own': {
    truth: 'alert',
    only: 'TLSv1.3',
    async play({ peer, later }) {
      peer.send(peer.data(HELLO));
      await later();
      peer.fin(peer.alert(2, 80, 16));
    },
  },
  'two records of data and internal_error in one segment': {
    truth: 'alert',
    crowded: true,
    play: ({ peer }) => peer.fin(peer.data(HELLO), peer.data('world'), peer.alert(2, 80)),
  },
  // RFC 9846 section 6: "Unknown Alert types MUST be treated as error alerts", whatever the level.
  'internal_error of level warning': {
    truth: 'alert',
    only: 'TLSv1.3',
    play: ({ peer }) => peer.fin(peer.data(HELLO), peer.alert(1, 80)),
  },
  'internal_error, then close_notify': {
    truth: 'alert',
    play: ({ peer }) => peer.fin(peer.data(HELLO), peer.alert(2, 80), peer.closeNotify()),
  },
  'user_canceled, then internal_error': {
    truth: 'alert',
    only: 'TLSv1.3',
    crowded: true,
    play: ({ peer }) => peer.fin(peer.data(HELLO), peer.userCanceled(), peer.alert(2, 80)),
  },
  // RFC 5246 section 7.2: level fatal means the connection is terminated at once, whatever the description.
  'close_notify of level fatal in TLS 1.2': {
    truth: 'alert',
    only: 'TLSv1.2',
    play: ({ peer }) => peer.fin(peer.data(HELLO), peer.alert(2, 0)),
  },
  // What the receiver has to refuse

  'forged close_notify in the segment of data': {
    truth: 'refused',
    play: ({ peer }) => peer.fin(peer.data(HELLO), forged(peer.closeNotify())),
  },
  'forged close_notify in a segment of its own': {
    truth: 'refused',
    async play({ peer, later }) {
      peer.send(peer.data(HELLO));
      await later();
      peer.fin(forged(peer.closeNotify()));
    },
  },
  'forged close_notify, then a true one': {
    truth: 'refused',
    play: ({ peer }) => peer.fin(peer.data(HELLO), forged(peer.closeNotify()), peer.closeNotify()),
  },
  'close_notify in the clear, in the segment of data': {
    truth: 'refused',
    play: ({ peer }) => peer.fin(peer.data(HELLO), plaintext(21, Buffer.of(1, 0))),
  },
  'close_notify in the clear, in a segment of its own, no FIN': {
    truth: 'refused',
    async play({ peer, later }) {
      peer.send(peer.data(HELLO));
      await later();
      peer.send(plaintext(21, Buffer.of(1, 0)));
    },
  },
  'a fatal alert in the clear, in a segment of its own': {
    truth: 'refused',
    async play({ peer, later }) {
      peer.send(peer.data(HELLO));
      await later();
      peer.fin(plaintext(21, Buffer.of(2, 80)));
    },
  },
  'data in the clear': {
    truth: 'refused',
    play: ({ peer }) => peer.fin(peer.data(HELLO), plaintext(23, Buffer.from('hello, hello'))),
  },
  'the record of data a second time': {
    truth: 'refused',
    async play({ peer, later }) {
      const data = peer.data(HELLO);
      peer.send(data);
      await later();
      peer.fin(data);
    },
  },
  'a record that is missing, then close_notify': {
    truth: 'refused',
    async play({ peer, later }) {
      peer.send(peer.data(HELLO));
      await later();
      peer.data('this one is cut out');
      peer.fin(peer.closeNotify());
    },
  },
  'an alert of one byte': {
    truth: 'refused',
    play: ({ peer }) => peer.fin(peer.data(HELLO), peer.record(21, Buffer.of(1))),
  },
  'an alert of four bytes': {
    truth: 'refused',
    play: ({ peer }) => peer.fin(peer.data(HELLO), peer.record(21, Buffer.of(1, 0, 1, 0))),
  },
  // RFC 9846 section 5: "an implementation that receives an unexpected record type MUST terminate the
  // connection with an 'unexpected_message' alert".
  'a record of no known type': {
    truth: 'refused',
    play: ({ peer }) => peer.fin(peer.data(HELLO), peer.record(99, Buffer.of(1, 0))),
  },
  // EOF and reset

  'FIN in the segment of data': {
    truth: 'eof',
    where: 'record-boundary',
    play: ({ peer }) => peer.fin(peer.data(HELLO)),
  },
  'FIN in a segment of its own': {
    truth: 'eof',
    where: 'record-boundary',
    async play({ peer, later }) {
      peer.send(peer.data(HELLO));
      await later();
      peer.fin();
    },
  },
  'FIN behind two records of data': {
    truth: 'eof',
    where: 'record-boundary',
    crowded: true,
    play: ({ peer }) => peer.fin(peer.data(HELLO), peer.data('world')),
  },
  'FIN inside a header': {
    truth: 'eof',
    where: 'inside-record',
    play: ({ peer }) => peer.fin(peer.data(HELLO), peer.data('world').subarray(0, 3)),
  },
  'FIN inside a body': {
    truth: 'eof',
    where: 'inside-record',
    play: ({ peer }) => peer.fin(peer.data(HELLO), peer.data('world').subarray(0, 12)),
  },
  'FIN inside a body, in a segment of its own': {
    truth: 'eof',
    where: 'inside-record',
    async play({ peer, later }) {
      peer.send(peer.data(HELLO));
      await later();
      peer.fin(peer.data(16_384).subarray(0, 9_000));
    },
  },
  'FIN inside close_notify': {
    truth: 'eof',
    where: 'inside-record',
    play: ({ peer }) => peer.fin(peer.data(HELLO), peer.closeNotify().subarray(0, -1)),
  },
  'FIN behind the header of close_notify': {
    truth: 'eof',
    where: 'inside-record',
    play: ({ peer }) => peer.fin(peer.data(HELLO), peer.closeNotify().subarray(0, 5)),
  },
  'FIN alone, no data': {
    truth: 'eof',
    where: 'record-boundary',
    play: ({ peer }) => peer.fin(),
  },
  'FIN behind an empty record': {
    truth: 'eof',
    where: 'record-boundary',
    crowded: true,
    play: ({ peer }) => peer.fin(peer.data(HELLO), peer.data('')),
  },
  // A man in the middle can cut the close_notify off.
  'user_canceled, then FIN': {
    truth: 'eof',
    where: 'record-boundary',
    only: 'TLSv1.3',
    crowded: true,
    play: ({ peer }) => peer.fin(peer.data(HELLO), peer.userCanceled()),
  },
  'user_canceled in a segment of its own, then FIN': {
    truth: 'eof',
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
  'a warning of TLS 1.2 (user_canceled), then FIN': {
    truth: 'eof',
    where: 'record-boundary',
    only: 'TLSv1.2',
    crowded: true,
    play: ({ peer }) => peer.fin(peer.data(HELLO), peer.userCanceled()),
  },
  'KeyUpdate, then FIN': {
    truth: 'eof',
    where: 'record-boundary',
    only: 'TLSv1.3',
    crowded: true,
    play: ({ peer }) => peer.fin(peer.data(HELLO), peer.keyUpdate()),
  },
  'RST in a segment of its own': {
    truth: 'reset',
    async play({ peer, later }) {
      peer.send(peer.data(HELLO));
      await later();
      peer.reset();
    },
  },
  'RST inside a record': {
    truth: 'reset',
    async play({ peer, later }) {
      peer.send(peer.data(HELLO), peer.data('world').subarray(0, 12));
      await later();
      peer.reset();
    },
  },
};

/** Tickets: servers only, so only towards clients. */
const TICKETS: Record<string, Ending> = {
  'a ticket, then close_notify': {
    truth: 'close_notify',
    only: 'TLSv1.3',
    crowded: true,
    play: ({ peer }) => peer.fin(peer.data(HELLO), peer.ticket(), peer.closeNotify()),
  },
  'a ticket in a segment of its own, close_notify, no FIN': {
    truth: 'close_notify',
    only: 'TLSv1.3',
    async play({ peer, later }) {
      peer.send(peer.ticket(), peer.data(HELLO));
      await later();
      peer.send(peer.ticket(), peer.closeNotify());
    },
  },
  'a ticket, then FIN': {
    truth: 'eof',
    where: 'record-boundary',
    only: 'TLSv1.3',
    crowded: true,
    play: ({ peer }) => peer.fin(peer.data(HELLO), peer.ticket()),
  },
  'a ticket, then internal_error': {
    truth: 'alert',
    only: 'TLSv1.3',
    crowded: true,
    play: ({ peer }) => peer.fin(peer.data(HELLO), peer.ticket(), peer.alert(2, 80)),
  },
};

const endingOf = (name: string): Ending => (ENDINGS[name] ?? TICKETS[name])!;

// ---- programs

const READS = [
  "'data'",
  "'readable', read()",
  "'readable', read(3)",
  'for await',
  'pipe to a slow sink',
  'paused, resumed late',
  'onread',
  'highWaterMark 1',
] as const;

const ACTS = ['nothing', 'end()', 'destroySoon()', 'pause()', 'destroy()', 'throw', 'write()'];
const WHEN = ['now', 'a microtask', 'process.nextTick', 'setImmediate'] as const;

const DIMENSIONS = {
  ending: [...Object.keys(ENDINGS), ...Object.keys(TICKETS)],
  version: ['TLSv1.2', 'TLSv1.3'],
  face: FACES,
  read: READS,
  act: ACTS,
  when: WHEN,
  allowHalfOpen: ['false', 'true'],
} as const;
type Row = RowOf<typeof DIMENSIONS>;

/** Whether a row makes sense: some ways to read do not exist everywhere. */
function valid({ ending, version, face, read, act, when }: Row): boolean {
  const { only, truth } = endingOf(ending);
  if (only !== undefined && only !== version) return false;
  if (ending in TICKETS && isServer(face as Face)) return false;
  // A reset exists on TCP alone.
  if (truth === 'reset' && face === 'unix') return false;
  // Options of the socket, which a server's connections do not have; Node takes `onread` only where
  // the transport is its own.
  if (read === 'highWaterMark 1' && isServer(face as Face)) return false;
  if (read === 'onread' && (isServer(face as Face) || face === 'duplex')) return false;
  // Node gives paused streams to those who call pause(); read() and iterators pause by not reading.
  const flows = ["'data'", 'paused, resumed late', 'onread', 'highWaterMark 1'].includes(read);
  if (act === 'pause()' && !flows) return false;
  // What a listener throws stops a stream that flows from its buffer, whatever else is in there: Node's
  // own sockets stand still, too.
  const { crowded = false } = endingOf(ending);
  if (act === 'throw' && when === 'now' && crowded && read === 'paused, resumed late') return false;
  if (act === 'throw' && (read === 'for await' || read === 'pipe to a slow sink')) return false;
  return act !== 'nothing' || when === 'now';
}

const SEED = Number(process.env['VERDICTS_SEED'] ?? 20_260_727);

function plan(): Row[] {
  const random = randomOf(SEED);
  const pick = <T>(values: readonly T[]) => values[Math.floor(random() * values.length)]!;
  const rows: Row[] = [];
  // What an ending comes to is between it and what the program does about the first data.
  for (const ending of DIMENSIONS.ending) {
    for (const version of DIMENSIONS.version) {
      for (const act of DIMENSIONS.act) {
        for (let tries = 0; tries < 100; tries++) {
          const row = {
            ...{ ending, version, act },
            face: pick(DIMENSIONS.face),
            read: pick(DIMENSIONS.read),
            when: pick(DIMENSIONS.when),
            allowHalfOpen: pick(DIMENSIONS.allowHalfOpen),
          };
          if (!valid(row)) continue;
          rows.push(row);
          break;
        }
      }
    }
  }
  return [...rows, ...pairwise(DIMENSIONS, valid, random, rows)];
}

const describeRow = ({ version, face, read, act, when, allowHalfOpen }: Row): string =>
  [
    version,
    face,
    read,
    act === 'nothing' ? 'nothing' : `${act} ${when}`,
    ...(allowHalfOpen === 'true' ? ['allowHalfOpen'] : []),
  ].join(', ');

const ROWS = plan().filter((row) => {
  const only = process.env['VERDICTS_ROW'];
  return only === undefined || describeRow(row).includes(only);
});

/** How many rows there are, for whoever wants to know what was tried. */
export const COUNTS = `${ROWS.length} rows of ${DIMENSIONS.ending.length} endings, seed ${SEED}`;

/** What a row came to. */
interface Outcome extends Facts {
  readonly row: Row;
  /** Whether the bytes are those that were sent, as far as they go. */
  readonly asSent: boolean;
  /** What the peer said behind the handshake, and what it heard. */
  readonly said: readonly string[];
  readonly heard: readonly string[];
  readonly heardEnd: string | null;
  /** Whether the peer played all of the ending. */
  readonly played: boolean;
  /** Whether the program came to act. */
  readonly acted: boolean;
}

async function run(env: Env, row: Row): Promise<Outcome> {
  const ending = endingOf(row.ending);
  const version = row.version as Version;
  let watch: Watch | null = null;
  let resume: (() => void) | null = null;
  const onread = {
    buffer: Buffer.alloc(65_536),
    callback: (length: number, buffer: Uint8Array): boolean => {
      took(buffer.subarray(0, length));
      return true;
    },
  };
  const act = (socket: tls.TLSSocket) => {
    switch (row.act) {
      case 'end()':
        return void socket.end();
      case 'destroySoon()':
        return void socket.destroySoon();
      case 'destroy()':
        return void socket.destroy();
      case 'write()':
        return void socket.write('answer');
      case 'pause()':
        socket.pause();
        return void turns(4).then(() => socket.resume());
      case 'throw':
        throw new Thrown();
    }
  };
  let acted = false;
  const took = (chunk: Uint8Array) => {
    const { socket } = watch!;
    watch!.took(chunk);
    if (acted || chunk.length === 0) return;
    acted = true;
    const go = () => act(socket);
    if (row.when === 'now') go();
    else if (row.when === 'a microtask') queueMicrotask(go);
    else if (row.when === 'process.nextTick') process.nextTick(go);
    else setImmediate(go);
  };
  const peer = await env.open(
    {
      ...{ face: row.face as Face, version, allowHalfOpen: row.allowHalfOpen === 'true' },
      socket: {
        ...(row.read === 'onread' ? { onread } : {}),
        ...(row.read === 'highWaterMark 1' ? { highWaterMark: 1 } : {}),
      },
    },
    (socket) => {
      watch = new Watch(env, socket);
      resume = read(socket, row.read, watch, took);
      // A program that keeps its side open ends it when it has read all.
      if (row.allowHalfOpen === 'true') socket.on('end', () => socket.end());
    },
  );
  await peer.ready;
  const start = peer.said.length;
  const heardStart = peer.heard.length;
  if (!(await until(() => watch !== null))) throw new Error('no socket');
  const { socket } = watch!;
  let played = false;
  const stage: Stage = {
    peer,
    async later() {
      const sent = bytesOf(peer.said.slice(start)).length;
      for (let i = 0; i < 12 && !socket.destroyed && watch!.bytes < sent; i++) await turns(1);
      await turns(2);
    },
  };
  const playing = (async () => {
    await ending.play(stage);
    played = true;
  })();
  await playing;
  if (resume !== null) {
    await turns(6);
    (resume as () => void)();
  }
  const facts = await watch!.over();
  // Ours has closed: the peer hears of that.
  await until(() => peer.transportEnd !== null, 500);
  const sent = bytesOf(peer.said.slice(start));
  const got = Buffer.concat(watch!.chunks);
  const outcome: Outcome = {
    ...facts,
    row,
    asSent: got.equals(sent.subarray(0, got.length)),
    said: peer.said.slice(start).map(inShort),
    heard: peer.heard.slice(heardStart).map(inShort),
    heardEnd: peer.transportEnd,
    played,
    acted,
  };
  peer.destroy();
  return outcome;
}

/**
 * Reads a socket in one of the ways.
 *
 * @returns what makes a reader go on that waits; null for others.
 */
function read(
  socket: tls.TLSSocket,
  way: string,
  watch: Watch,
  took: (chunk: Uint8Array) => void,
): (() => void) | null {
  switch (way) {
    case "'readable', read()":
    case "'readable', read(3)": {
      const size = way.endsWith('(3)') ? 3 : undefined;
      socket.on('readable', () => {
        for (let chunk = socket.read(size); chunk !== null; chunk = socket.read(size)) took(chunk);
      });
      return null;
    }
    case 'for await':
      void (async () => {
        try {
          for await (const chunk of socket) took(chunk as Buffer);
          watch.events.push('loop ends');
        } catch (error) {
          watch.events.push(`loop throws ${(error as NodeJS.ErrnoException).code}`);
        }
      })();
      return null;
    case 'pipe to a slow sink':
      socket.pipe(
        new Writable({
          highWaterMark: 1,
          write(chunk, _encoding, done) {
            took(chunk);
            setImmediate(done);
          },
        }),
      );
      return null;
    case 'paused, resumed late':
      socket.pause();
      return () => {
        socket.on('data', took);
        socket.resume();
      };
    case 'onread':
      return null;
    default:
      socket.on('data', took);
      return null;
  }
}

// ---- judging

const inShort = (one: Crossed): string => {
  const where = one.protectedBy === null ? 'clear ' : '';
  switch (one.kind) {
    case 'alert':
      return `${where}alert ${one.level}/${one.description}`;
    case 'data':
      return `data ${one.bytes.length}`;
    case 'handshake':
      return `${where}handshake ${one.type}`;
    case 'other':
      return `${where}type ${one.type}`;
    case 'unreadable':
      return 'unreadable';
  }
};

/** The data before whatever ended it. */
function bytesOf(said: readonly Crossed[]): Buffer {
  const chunks: Buffer[] = [];
  for (const one of said) {
    if (one.kind === 'data') chunks.push(one.bytes);
    else if (one.kind !== 'handshake' && !passes(inShort(one))) break;
  }
  return Buffer.concat(chunks);
}

/** user_canceled, which ends nothing (RFC 9846 section 6.1). */
const passes = (said: string): boolean => said === 'alert 1/90';

/** What the peer's direction came to, by what it said. */
function truthOf({ said, row }: Outcome): {
  truth: Truth | null;
  code: number | null;
  bytes: number;
} {
  let bytes = 0;
  for (const one of said) {
    const data = /^data (\d+)$/.exec(one);
    const alert = /^alert (\d+)\/(\d+)$/.exec(one);
    if (data !== null) bytes += Number(data[1]);
    else if (alert !== null) {
      const [level, code] = [Number(alert[1]), Number(alert[2])];
      if (passes(one)) continue;
      const closes = code === 0 && (level === 1 || row.version === 'TLSv1.3');
      return { truth: closes ? 'close_notify' : 'alert', code, bytes };
    } else if (!one.startsWith('handshake')) return { truth: 'refused', code: null, bytes };
  }
  return { truth: null, code: null, bytes };
}

/** What is wrong with an outcome. */
function judge(outcome: Outcome, { native }: About): string[] {
  const wrong: string[] = [];
  const { row, events, verdict, received, sent, alert, truncation } = outcome;
  const ending = endingOf(row.ending);
  const { truth: said, code, bytes } = truthOf(outcome);
  const truth = said ?? ending.truth;
  if (outcome.played && truth !== ending.truth) wrong.push(`the ending is ${truth} on the wire`);
  const closed = outcome.hangs === null;

  // Whatever the program does.
  if (!closed) wrong.push(`never closed: ${outcome.hangs}`);
  else if (events.filter((one) => one === 'close').length !== 1)
    wrong.push("'close' is not told once");
  if (!outcome.asSent) wrong.push('the bytes are not those that were sent');
  if (outcome.bytes > bytes) wrong.push(`${outcome.bytes} bytes of ${bytes}`);
  const ends = events.includes('end');
  if (ends && truth !== 'close_notify') wrong.push("'end' without close_notify");
  if (ends && outcome.bytes !== bytes) wrong.push(`'end' with ${outcome.bytes} bytes of ${bytes}`);
  // A write that comes when the program has ended its side already, or Node has for it, is its own fault.
  const late = row.act === 'write()' && row.when !== 'now' && ends;
  const errors = events.filter(
    (one) => one.startsWith('error ') && !(late && /EPIPE|WRITE_AFTER_END/.test(one)),
  );
  if (ends && errors.length > 0) wrong.push("both 'end' and 'error'");
  // Node may tell a second one: of a write that TLS refuses, of an iterator that is left.
  if (errors.filter((one) => one.endsWith('ERR_TLS_TRUNCATED')).length > 1) {
    wrong.push('ERR_TLS_TRUNCATED twice');
  }
  if (received !== null && truth !== 'close_notify') wrong.push('received claims a close_notify');
  const crossed = outcome.heard.includes('alert 1/0');
  if (closed && (sent !== null) !== crossed) {
    wrong.push(crossed ? 'sent lacks our close_notify' : 'sent claims a close_notify');
  }
  if (verdict === 'secure' && (received === null || sent === null)) wrong.push('secure');
  if (received !== null && sent !== null && verdict !== 'secure')
    wrong.push(`both, yet ${verdict}`);
  if (closed && verdict === 'open') wrong.push('the verdict is open');
  if (crossed && received === null && verdict === 'aborted') wrong.push('aborted, yet we sent it');
  if (alert?.direction === 'received' && (truth !== 'alert' || alert.code !== code)) {
    wrong.push(`an alert that did not come: ${alert.code}`);
  }
  // The channels.
  if (closed && outcome.closures.join() !== verdict) {
    wrong.push(`the channel told ${outcome.closures.join()}, the verdict is ${verdict}`);
  }
  if (outcome.connect.length !== 1) wrong.push(`connect was told ${outcome.connect.length} times`);
  const [{ evidence, engine } = { evidence: null, engine: null }] = outcome.connect;
  // On a Duplex a witness of either kind will do.
  const rests = native && !row.face.endsWith('duplex') ? ['openssl'] : ['openssl', 'record'];
  if (
    !rests.includes(String(evidence)) ||
    engine !== (evidence === 'openssl' ? 'node' : 'tapped')
  ) {
    wrong.push(`connect told evidence ${evidence}, engine ${engine}`);
  }
  for (const claim of [received, sent]) {
    if (claim !== null && claim !== evidence) wrong.push(`a claim rests on ${claim}`);
  }
  if (truth === 'close_notify' && received !== null && outcome.truncated.length > 0) {
    wrong.push('the channel told of a truncation that was none');
  }

  // Who goes away himself is told nothing more.
  if (row.act === 'destroy()' || row.act === 'destroySoon()') {
    return wrong;
  }
  // After end() Node reads the next record within its second SSL_shutdown, and drops what that holds; what
  // a listener throws ends the feeding of a Duplex. Then an error is right: bytes are missing.
  const drops = row.act === 'end()' || (row.act === 'throw' && row.face.endsWith('duplex'));
  const lossy = drops && ending.crowded === true && row.when !== 'setImmediate';
  // What read(n) cannot give, since less came, is nobody's.
  const least =
    row.read.endsWith('read(3)') && truth !== 'close_notify' ? bytes - (bytes % 3) : bytes;
  const lost = `${outcome.bytes} bytes of ${bytes}`;
  switch (truth) {
    case 'close_notify':
      if (lossy && errors.length > 0) return wrong;
      if (!ends) wrong.push(`no 'end' but ${events.join(', ')}`);
      if (outcome.bytes < bytes) wrong.push(lost);
      if (received === null) wrong.push('received lacks the close_notify');
      if (outcome.truncated.length > 0) wrong.push('the channel told of a truncation');
      // Iterators destroy the stream when they are through.
      if (verdict !== 'secure' && row.read !== 'for await' && !late) {
        wrong.push(`the verdict is ${verdict}`);
      }
      // Later it may be a write behind our own end.
      if (row.act === 'write()' && row.when === 'now' && outcome.acted) {
        if (!outcome.heard.includes('data 6')) wrong.push('our write is lost');
      }
      return wrong;
    case 'eof':
      if (errors[0] !== 'error ERR_TLS_TRUNCATED') {
        wrong.push(`not ERR_TLS_TRUNCATED but ${events.join(', ')}`);
      }
      if (verdict !== 'truncated') wrong.push(`the verdict is ${verdict}`);
      if (truncation?.cause !== 'eof') wrong.push(`the cause is ${truncation?.cause}`);
      if (![ending.where, 'unknown'].includes(truncation?.where as never)) {
        wrong.push(`cut at ${truncation?.where}`);
      }
      if (outcome.truncated.map((one) => one.outcome).join() !== 'error') {
        wrong.push(`the channel told ${JSON.stringify(outcome.truncated)}`);
      }
      break;
    case 'reset':
      // The write that a reset refuses may be the first to know (EPIPE).
      if (!/^error (ECONNRESET|ERR_TLS_TRUNCATED|EPIPE)$/.test(errors[0] ?? '')) {
        wrong.push(`not ECONNRESET but ${events.join(', ')}`);
      }
      if (verdict !== 'truncated') wrong.push(`the verdict is ${verdict}`);
      break;
    case 'alert':
      if (errors.length === 0) wrong.push(`no 'error' but ${events.join(', ')}`);
      // What was dropped may have been the alert itself.
      if (lossy && verdict === 'truncated') break;
      if (verdict !== 'alert' || alert?.direction !== 'received' || !alert.authenticated) {
        wrong.push(`the verdict is ${verdict}, the alert ${JSON.stringify(alert)}`);
      }
      break;
    case 'refused':
      if (errors.length === 0) wrong.push(`no 'error' but ${events.join(', ')}`);
      // Where our side has ended already, no alert goes out any more.
      if (verdict !== 'alert' && !(row.act === 'end()' && verdict === 'truncated')) {
        wrong.push(`the verdict is ${verdict}`);
      }
      if (alert !== null && alert.direction !== 'sent') wrong.push('an alert was received');
      break;
  }
  if (outcome.bytes < least && !(lossy || truth === 'reset')) wrong.push(lost);
  return wrong;
}

/** Rows that run side by side: what waits for a limit does not keep the others. */
const WORKERS = 4;

for (const name of DIMENSIONS.ending) {
  const rows = ROWS.filter((row) => row.ending === name);
  if (rows.length === 0) continue;
  add<Outcome[]>(
    name,
    async (env) => {
      const outcomes: Outcome[] = [];
      const left = [...rows];
      const work = async () => {
        for (let row = left.shift(); row !== undefined; row = left.shift()) {
          outcomes.push(await run(env, row));
        }
      };
      await Promise.all(Array.from({ length: WORKERS }, work));
      return outcomes;
    },
    (outcomes, about) => [
      ...(outcomes.length === rows.length ? [] : [`${outcomes.length} of ${rows.length} rows`]),
      ...outcomes.flatMap((outcome) =>
        judge(outcome, about).map((what) => `${describeRow(outcome.row)}: ${what}`),
      ),
    ],
  );
}
