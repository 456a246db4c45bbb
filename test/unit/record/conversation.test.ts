/** What a side may say, record by record: which alert counts, and what has the reader stop for good. */
import { describe, expect, test, vi } from 'vitest';
import { AlertReader } from '../../../src/record/alert-reader.ts';
import type { Sender } from '../../../src/record/decoder.ts';
import { Unprotector } from '../../../src/record/unprotect.ts';
import { VERSIONS, type Version } from '../../support/core-streams.ts';
import {
  ALERT,
  CHANGE_CIPHER_SPEC,
  CraftedWire,
  clear,
  DATA,
  FINISHED,
  FINISHED12,
  HANDSHAKE,
  message,
} from './crafted-wire.ts';

const CLOSE_NOTIFY = { level: 1, description: 0, authenticated: true };
const ROLES = ['client', 'server'] as const;
const HELLO_RETRY_REQUEST = Buffer.from(
  'cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c',
  'hex',
);

/** Both sides have finished. */
const open = (role: Sender, version: Version) => new CraftedWire(role, version).handshake();

const times = (count: number, make: () => Buffer) =>
  Buffer.concat(Array.from({ length: count }, make));

/** The peer's direction was closed by it. */
function closed(wire: CraftedWire): void {
  expect(wire.reader.refused).toBeNull();
  expect(wire.reader.unreadable).toBeNull();
  expect(wire.received).toEqual([CLOSE_NOTIFY]);
}

/** The peer's direction is not read any further: no close_notify behind it counts. */
function refused(wire: CraftedWire): void {
  expect(wire.received).toEqual([]);
  expect(wire.reader.refused).not.toBeNull();
}

describe.each(ROLES)('at a %s', (role) => {
  const sender: Sender = role === 'client' ? 'server' : 'client';

  describe.each(VERSIONS)('%s', (version) => {
    test('close_notify closes, and nothing behind it is looked at', () => {
      const wire = open(role, version);
      const { peer } = wire;
      closed(wire.hear(Buffer.concat([peer.closeNotify(), peer.alert(2, 20), Buffer.from('GET')])));
    });

    test('an alert has two bytes', () => {
      // RFC 9846 section 5.1: "a record with an Alert type MUST contain exactly one message."
      for (const content of [[], [1], [1, 0, 0], [1, 0, 1, 0]]) {
        const wire = open(role, version);
        const { peer } = wire;
        refused(wire.hear(Buffer.concat([peer.record(ALERT, content), peer.closeNotify()])));
      }
    });

    test('a fatal alert is told, and no close_notify behind it', () => {
      const wire = open(role, version);
      const { peer } = wire;
      wire.hear(Buffer.concat([peer.alert(2, 40), peer.closeNotify()]));
      expect(wire.received).toEqual([{ level: 2, description: 40, authenticated: true }]);
    });

    test('warnings are counted in a row: data is between them', () => {
      // OpenSSL's MAX_WARN_ALERT_COUNT: the fifth is one too many.
      const wire = open(role, version);
      const { peer } = wire;
      const warnings = () => times(4, () => peer.alert(1, 90));
      wire.hear(Buffer.concat([warnings(), peer.data(), warnings(), peer.closeNotify()]));
      closed(wire);
      // In TLS 1.2 OpenSSL heeds a close_notify behind a warning.
      expect(wire.warned).toBe(version === 'TLSv1.3');
      const other = open(role, version);
      refused(
        other.hear(
          Buffer.concat([times(5, () => other.peer.alert(1, 90)), other.peer.closeNotify()]),
        ),
      );
    });

    test('without a warning before it, close_notify says so', () => {
      const wire = open(role, version);
      wire.hear(wire.peer.closeNotify());
      expect(wire.warned).toBe(false);
    });

    test('empty records are counted in a row', () => {
      // RFC 9846 section 5.1: "Zero-length fragments of Application Data MAY be sent". OpenSSL's MAX_EMPTY_RECORDS: 32.
      const wire = open(role, version);
      const { peer } = wire;
      const empty = () => times(32, () => peer.data(''));
      closed(wire.hear(Buffer.concat([empty(), peer.data(), empty(), peer.closeNotify()])));
      const other = open(role, version);
      refused(
        other.hear(Buffer.concat([times(33, () => other.peer.data('')), other.peer.closeNotify()])),
      );
    });

    test('what the engine proved is between them, too', () => {
      const wire = open(role, version);
      const { peer } = wire;
      for (let i = 0; i < 3; i++) {
        wire.hear(times(4, () => peer.alert(1, 90)));
        wire.hear(times(30, () => peer.data('')));
        wire.hear(peer.data('proved'), 6);
      }
      expect(wire.reader.data).toBe(18);
      closed(wire.hear(peer.closeNotify()));
    });

    test('data that the reader has read itself is counted as well', () => {
      const wire = open(role, version);
      wire.hear(Buffer.concat([wire.peer.data('four'), wire.peer.data('seventh')]));
      expect(wire.reader.data).toBe(11);
    });

    test('a record of data that is too long', () => {
      // RFC 9846 section 5.1: "The length MUST NOT exceed 2^14 bytes."
      const longest = open(role, version);
      closed(
        longest.hear(
          Buffer.concat([longest.peer.data('x'.repeat(1 << 14)), longest.peer.closeNotify()]),
        ),
      );
      const longer = open(role, version);
      refused(
        longer.hear(
          Buffer.concat([longer.peer.data('x'.repeat((1 << 14) + 1)), longer.peer.closeNotify()]),
        ),
      );
    });

    test('a handshake message that nobody asked for', () => {
      // RFC 9846 section 4: "Protocol messages MUST be sent in the order defined [...]. A peer which receives a
      // handshake message in an unexpected order MUST abort the handshake".
      for (const type of [2, 11, 13, 20]) {
        const wire = open(role, version);
        const { peer } = wire;
        refused(
          wire.hear(Buffer.concat([peer.record(HANDSHAKE, message(type, 0)), peer.closeNotify()])),
        );
      }
    });

    test('a header that is none', () => {
      for (const header of [
        [19, 3, 3, 0, 1],
        [25, 3, 3, 0, 1],
        [23, 2, 3, 0, 1],
        [23, 4, 3, 0, 1],
        [23, 3, 3, 0x48, 0x01],
      ]) {
        const wire = open(role, version);
        refused(
          wire.hear(Buffer.concat([Buffer.from(header), Buffer.alloc(1), wire.peer.closeNotify()])),
        );
        expect(wire.reader.where).toBe('unknown');
      }
    });

    test('another version in the header of a protected record', () => {
      // RFC 9846 section 5.2: "The legacy_record_version field is always 0x0303."
      const wire = open(role, version);
      const { peer } = wire;
      refused(wire.hear(Buffer.concat([peer.record(DATA, [1], 0, 2), peer.closeNotify()])));
    });

    test('a ChangeCipherSpec behind the handshake, in the clear and protected', () => {
      // RFC 9846 section 5: "An implementation which receives any other change_cipher_spec value or which receives a
      // protected change_cipher_spec record MUST abort the handshake with an "unexpected_message" alert."
      for (const spec of [clear(CHANGE_CIPHER_SPEC, [1]), null]) {
        const wire = open(role, version);
        const { peer } = wire;
        const record = spec ?? peer.record(CHANGE_CIPHER_SPEC, [1]);
        refused(wire.hear(Buffer.concat([record, peer.closeNotify()])));
      }
    });

    test('one that is none, within the handshake', () => {
      for (const content of [[2], [1, 1], [0]]) {
        const wire = new CraftedWire(role, version).handshake('ServerHello');
        wire.says(sender, clear(CHANGE_CIPHER_SPEC, content));
        refused(wire);
      }
    });

    test('a Finished in the clear', () => {
      const wire = new CraftedWire(role, version).handshake('ClientHello');
      const finished = version === 'TLSv1.3' ? FINISHED : FINISHED12;
      refused(wire.hear(Buffer.concat([clear(HANDSHAKE, finished), clear(ALERT, [1, 0])])));
    });

    test('what was sent counts, where its record ends', () => {
      const wire = open(role, version);
      let sent = 0;
      const { reader, own } = wire;
      const before = new AlertReader(role, { onReceived: () => {}, onSent: () => {} });
      expect(before.handshaking).toBe(false);
      const records = [own.data('some'), own.data('x'.repeat(20_00)), own.closeNotify()];
      for (const record of records) sent += record.length;
      for (const record of records) wire.say(record);
      expect(wire.sent).toHaveLength(1);
      expect(wire.sent[0]?.alert).toEqual(CLOSE_NOTIFY);
      expect(reader.refused).toBeNull();
      const total = wire.sent[0]?.end ?? 0;
      // All of the handshake went before.
      expect(total).toBeGreaterThan(sent);
      const again = open(role, version);
      for (const record of [again.own.data('some'), again.own.data('x'.repeat(20_00))])
        again.say(record);
      again.say(again.own.closeNotify());
      expect(again.sent[0]?.end).toBe(total);
    });

    test('closed, it has overwritten the keys of both directions', () => {
      const wiped = vi.spyOn(Unprotector.prototype, 'wipe');
      try {
        const wire = open(role, version);
        // Keys are made when there is a record to be read with them.
        wire.hear(wire.peer.data()).say(wire.own.alert(1, 90));
        wiped.mockClear();
        wire.reader.close();
        expect(wiped).toHaveBeenCalledTimes(2);
      } finally {
        wiped.mockRestore();
      }
    });

    test('no secret of a connection is there behind its end', () => {
      const secrets: Uint8Array[] = [];
      const from = Uint8Array.from;
      const wire = new CraftedWire(role, version);
      // What the reader makes of a key log's line.
      const spy = vi.spyOn(Uint8Array, 'from').mockImplementation(((...args: [never]) => {
        const made = from.apply(Uint8Array, args) as Uint8Array;
        if (made.length === 32 || made.length === 48) secrets.push(made);
        return made;
      }) as never);
      try {
        wire.handshake();
        if (version === 'TLSv1.3') wire.hear(wire.peer.keyUpdate());
        wire.reader.close();
      } finally {
        spy.mockRestore();
      }
      expect(secrets.length).toBeGreaterThanOrEqual(version === 'TLSv1.3' ? 4 : 1);
      for (const secret of secrets) expect(secret.every((byte) => byte === 0)).toBe(true);
    });
  });

  describe('TLS 1.3', () => {
    const version = 'TLSv1.3';

    test.each([0, 1, 2, 255, 16_000])('close_notify with %d zeros of padding', (padding) => {
      // RFC 9846 section 5.4: "All encrypted TLS records can be padded to inflate the size of the TLSCiphertext."
      const wire = open(role, version);
      closed(wire.hear(wire.peer.closeNotify(padding)));
    });

    test('its level is not looked at', () => {
      // RFC 9846 section 6: "the severity is implicit in the type of alert being sent and the "level" field can
      // safely be ignored."
      for (const level of [0, 1, 2, 7]) {
        const wire = open(role, version);
        closed(wire.hear(wire.peer.alert(level, 0)));
        const other = open(role, version);
        other.hear(Buffer.concat([other.peer.alert(level, 112), other.peer.closeNotify()]));
        expect(other.received).toEqual([{ level, description: 112, authenticated: true }]);
      }
    });

    test('an empty handshake record', () => {
      // RFC 9846 section 5.4: "Implementations MUST NOT send Handshake and Alert records that have a zero-length
      // TLSInnerPlaintext.content; if such a message is received, the receiving implementation MUST terminate".
      const wire = open(role, version);
      const { peer } = wire;
      refused(wire.hear(Buffer.concat([peer.record(HANDSHAKE, []), peer.closeNotify()])));
    });

    test('an unknown ContentType', () => {
      // RFC 9846 section 5: "If a TLS implementation receives an unexpected record type, it MUST terminate".
      const wire = open(role, version);
      const { peer } = wire;
      refused(wire.hear(Buffer.concat([peer.record(25, [1, 0]), peer.closeNotify()])));
    });

    test('a record in the clear', () => {
      const wire = open(role, version);
      refused(wire.hear(Buffer.concat([clear(ALERT, [1, 0]), wire.peer.closeNotify()])));
    });

    test('a record within a handshake message, whoever proves it', () => {
      // RFC 9846 section 5.1: "Handshake messages MUST NOT be interleaved with other record types."
      for (const given of [0, 1]) {
        const wire = open(role, version);
        const { peer } = wire;
        wire.hear(peer.record(HANDSHAKE, [24, 0]));
        wire.hear(peer.data(), given);
        wire.hear(peer.keyUpdate().subarray(0, 0));
        wire.reader.look();
        expect(wire.reader.refused).not.toBeNull();
      }
    });

    test('each KeyUpdate puts what follows under the next keys', () => {
      // RFC 9846 section 4.7.3: "Both sender and receiver MUST encrypt their KeyUpdate messages with the old keys."
      const wire = open(role, version);
      const { peer } = wire;
      for (let i = 0; i < 4; i++) wire.hear(peer.keyUpdate(i % 2)).hear(peer.data());
      closed(wire.hear(peer.closeNotify()));
      // Ours, too, which are not decrypted where they are data.
      const { own } = wire;
      for (let i = 0; i < 3; i++) wire.say(own.keyUpdate()).say(own.data('x'.repeat(500)));
      wire.say(own.closeNotify());
      expect(wire.sent.map(({ alert }) => alert)).toEqual([CLOSE_NOTIFY]);
    });

    test('a KeyUpdate of another value', () => {
      // RFC 9846 section 4.7.3: "If an implementation receives any other value, it MUST terminate the connection with an
      // "illegal_parameter" alert."
      const wire = open(role, version);
      const { peer } = wire;
      refused(wire.hear(Buffer.concat([peer.keyUpdate(2), peer.closeNotify()])));
    });

    test('a KeyUpdate with a byte too many', () => {
      // RFC 9846 section 6.2, decode_error: "This alert is used for errors where the message does not conform to the formal
      // protocol syntax." It is fatal, and nothing behind it is read.
      const wire = open(role, version);
      const { peer } = wire;
      const record = peer.record(HANDSHAKE, message(24, 0, 0));
      peer.updateKeys();
      refused(wire.hear(Buffer.concat([record, peer.closeNotify()])));
    });

    test('a record that is padding alone', () => {
      // RFC 9846 section 5.4: "If a receiving implementation does not find a non-zero octet in the cleartext, it MUST
      // terminate the connection with an "unexpected_message" alert."
      const wire = open(role, version);
      const { peer } = wire;
      refused(wire.hear(Buffer.concat([peer.record(0, [0, 0, 0]), peer.closeNotify()])));
    });

    test('a message behind a KeyUpdate in its record, under whichever keys the rest is', () => {
      // RFC 9846 section 5.1: "Handshake messages MUST NOT span key changes. Implementations MUST verify that all messages
      // immediately preceding a key change align with a record boundary".
      for (const updates of [0, 1, 2]) {
        const wire = open(role, version);
        const { peer } = wire;
        const record = peer.record(HANDSHAKE, [...message(24, 0), ...message(24, 0)]);
        for (let i = 0; i < updates; i++) peer.updateKeys();
        refused(wire.hear(Buffer.concat([record, peer.closeNotify()])));
      }
    });

    test('one that begins in a record before and ends at a record is taken', () => {
      const wire = open(role, version);
      const { peer } = wire;
      const first = peer.record(HANDSHAKE, [24, 0, 0]);
      const second = peer.record(HANDSHAKE, [1, 0]);
      peer.updateKeys();
      closed(wire.hear(Buffer.concat([first, second, peer.closeNotify()])));
    });

    test('a KeyUpdate before Finished', () => {
      // RFC 9846 section 4.7.3: "Implementations that receive a KeyUpdate message prior to receiving a Finished message
      // MUST terminate the connection with an "unexpected_message" alert."
      const stop = role === 'client' ? 'ServerHello' : "the server's Finished";
      const wire = new CraftedWire(role, version).handshake(stop);
      wire.hear(wire.peer.keyUpdate()).finish13(sender);
      refused(wire.hear(wire.peer.closeNotify()));
    });

    test('a message behind Finished in its record', () => {
      const stop = role === 'client' ? 'ServerHello' : "the server's Finished";
      for (const behind of [message(24, 0), message(4, 0)]) {
        const wire = new CraftedWire(role, version).handshake(stop).finish13(sender, [...behind]);
        refused(wire.hear(wire.peer.closeNotify()));
      }
    });

    test('application data before Finished', () => {
      // RFC 9846 section 2: "Application Data MUST NOT be sent prior to sending the Finished message".
      const stop = role === 'client' ? 'ServerHello' : "the server's Finished";
      const wire = new CraftedWire(role, version).handshake(stop);
      wire.hear(wire.peer.data()).finish13(sender);
      refused(wire.hear(wire.peer.closeNotify()));
    });

    test('close_notify before Finished is no proof of anything', () => {
      const stop = role === 'client' ? 'ServerHello' : "the server's Finished";
      const wire = new CraftedWire(role, version).handshake(stop);
      wire.hear(wire.peer.closeNotify());
      expect(wire.received).toEqual([{ ...CLOSE_NOTIFY, authenticated: false }]);
    });

    test('a ChangeCipherSpec in the clear within the handshake says nothing', () => {
      // RFC 9846 section 5: "An implementation may receive an unencrypted record of type change_cipher_spec [...] at any
      // time after the first ClientHello message has been sent or received and before the peer's Finished message has
      // been received and MUST simply drop it without further processing."
      const stop = role === 'client' ? 'ServerHello' : "the server's Finished";
      const wire = new CraftedWire(role, version).handshake(stop);
      wire.hear(clear(CHANGE_CIPHER_SPEC, [1])).finish13(sender);
      if (role === 'client') wire.finish13('client');
      closed(wire.hear(wire.peer.closeNotify()));
    });

    test('a secret that comes behind its records is waited for', () => {
      const wire = new CraftedWire(role, version).handshake(
        role === 'client' ? 'ServerHello' : "the server's Finished",
      );
      const { peer } = wire;
      wire.hear(peer.record(HANDSHAKE, FINISHED));
      const secret = Buffer.alloc(32, 9);
      peer.useSecret(secret);
      wire.hear(Buffer.concat([peer.data(), peer.keyUpdate(), peer.closeNotify()]));
      expect(wire.received).toEqual([]);
      wire.secret(`${sender.toUpperCase()}_TRAFFIC_SECRET_0`, secret);
      wire.hear(Buffer.of(23));
      closed(wire);
    });
  });

  describe('TLS 1.2', () => {
    const version = 'TLSv1.2';

    test('of level fatal it is a fatal alert', () => {
      // RFC 5246 section 7.2: "Alert messages with a level of fatal result in the immediate termination of the
      // connection."
      const wire = open(role, version);
      wire.hear(wire.peer.alert(2, 0));
      expect(wire.received).toEqual([{ ...CLOSE_NOTIFY, level: 2 }]);
    });

    test('a level that there is not', () => {
      const wire = open(role, version);
      refused(wire.hear(Buffer.concat([wire.peer.alert(3, 0), wire.peer.closeNotify()])));
    });

    test('a warning ends nothing, but for no_renegotiation, which nobody had asked for', () => {
      // RFC 5246 section 7.2.2: "If an alert with a level of warning is sent and received, generally the connection can
      // continue normally."
      const wire = open(role, version);
      closed(wire.hear(Buffer.concat([wire.peer.alert(1, 112), wire.peer.closeNotify()])));
      const other = open(role, version);
      refused(other.hear(Buffer.concat([other.peer.alert(1, 100), other.peer.closeNotify()])));
    });

    test('our own warnings are many, and end nothing', () => {
      const wire = open(role, version);
      for (let i = 0; i < 7; i++) wire.say(wire.own.alert(1, 100));
      wire.say(wire.own.closeNotify());
      expect(wire.sent.map(({ alert }) => alert)).toEqual([CLOSE_NOTIFY]);
    });

    test('data and alerts come between the pieces of a message, as OpenSSL has it', () => {
      const wire = open(role, version);
      const { peer } = wire;
      wire.hear(
        Buffer.concat([peer.record(HANDSHAKE, [role === 'client' ? 0 : 1, 0]), peer.data()]),
      );
      closed(wire.hear(peer.closeNotify()));
    });

    test('nothing comes between ChangeCipherSpec and Finished', () => {
      // RFC 5246 section 7.4.9: "A Finished message is always sent immediately after a change cipher spec message".
      for (const what of ['alert', 'data', 'hello'] as const) {
        const stop = role === 'client' ? 'ServerHello' : "the server's Finished";
        const wire = new CraftedWire(role, version).handshake(stop).changeCipherSpec12(sender);
        const { peer } = wire;
        wire.hear(
          what === 'alert'
            ? peer.alert(1, 112)
            : what === 'data'
              ? peer.data()
              : peer.record(HANDSHAKE, message(0)),
        );
        wire.hear(peer.record(HANDSHAKE, FINISHED12));
        refused(wire.hear(peer.closeNotify()));
      }
    });

    test('a renegotiation is under way until both have finished it', () => {
      const wire = open(role, version);
      expect(wire.reader.handshaking).toBe(false);
      wire.says('client', wire.clientHello(0xc2));
      expect(wire.reader.handshaking).toBe(true);
      wire.negotiate12(Buffer.alloc(32, 0x5f)).finish12('server');
      expect(wire.reader.handshaking).toBe(true);
      wire.finish12('client');
      expect(wire.reader.handshaking).toBe(false);
      closed(wire.hear(wire.peer.closeNotify()));
      wire.say(wire.own.closeNotify());
      expect(wire.sent.map(({ alert }) => alert)).toEqual([CLOSE_NOTIFY]);
    });

    test('a KeyUpdate, which TLS 1.2 has not', () => {
      const wire = open(role, version);
      const { peer } = wire;
      refused(
        wire.hear(Buffer.concat([peer.record(HANDSHAKE, message(24, 0)), peer.closeNotify()])),
      );
    });
  });
});

test('tickets come from a server alone', () => {
  // RFC 9846 section 4.7.1: "At any time after the server has received the client Finished message, it MAY send a
  // NewSessionTicket message."
  for (const role of ROLES) {
    const wire = open(role, 'TLSv1.3');
    const { peer } = wire;
    wire.hear(Buffer.concat([peer.record(HANDSHAKE, message(4, 1, 2, 3)), peer.closeNotify()]));
    if (role === 'client') closed(wire);
    else refused(wire);
  }
});

test('behind its ServerHello no alert of a server is in the clear; a client may not have its keys', () => {
  // RFC 9846 section 4.3.1: "This is the first message that is encrypted under keys derived from the
  // [sender]_handshake_traffic_secret", of what follows a ServerHello.
  const client = new CraftedWire('client', 'TLSv1.3').handshake('ServerHello');
  client.hear(clear(ALERT, [2, 40]));
  refused(client);
  const server = new CraftedWire('server', 'TLSv1.3').handshake("the server's Finished");
  server.hear(clear(ALERT, [2, 40]));
  expect(server.received).toEqual([{ level: 2, description: 40, authenticated: false }]);
});

test.each(ROLES)('a HelloRetryRequest makes no keys, at a %s', (role) => {
  // RFC 9846 section 4.1.4: the client answers it by a second ClientHello, and the ServerHello comes behind that.
  const wire = new CraftedWire(role, 'TLSv1.3');
  wire.says('client', wire.clientHello());
  wire.says('server', wire.serverHello(HELLO_RETRY_REQUEST));
  wire.handshake();
  closed(wire.hear(wire.peer.closeNotify()));
});

test('a suite that is not known: nothing is claimed, and the reason told', () => {
  const wire = new CraftedWire('client', 'TLSv1.3');
  wire.says('client', wire.clientHello());
  wire.says('server', wire.serverHello(Buffer.alloc(32, 1), 0x13ff));
  expect(wire.reader.unreadable).toContain('0x13ff');
  expect(wire.reader.refused).toBeNull();
});
