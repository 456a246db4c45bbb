/** Clients that exchange messages: WebSocket, mail, MQTT, gRPC. */

import {
  grpcServer,
  mqttBroker,
  ROWS,
  smtpServer,
  TEXT,
  taken,
  wsServer,
} from '../../support/adapter-servers.ts';
import { describeTls } from '../../support/core-pki.ts';
import type { RecordOf } from './clients.ts';
import { judge, middle } from './judge.ts';

/** What a record of TLS 1.3 has beside what it carries: its header, its type and its tag. */
const OVERHEAD = 22;
/** Behind CONNACK, PUBACK or PUBREC: each has four bytes. */
const acknowledgement: RecordOf = () => (length, before) =>
  length === 4 + OVERHEAD && before.includes(length);
/** The first message has 900 bytes. It goes out together with the headers. */
const headers: RecordOf = () => (length) => length > 900;

const records = { answer: 7, request: 3 };

describeTls('messages', () => {
  judge({
    program: 'ws',
    page: 'ws',
    server: wsServer,
    whole: TEXT,
    hook: true,
    records,
    again: { 'a connection': middle },
  });
  judge({
    program: 'mqtt',
    page: 'mqtt',
    server: mqttBroker,
    whole: ROWS,
    hook: true,
    records,
    again: {
      'a message, QoS 1': acknowledgement,
      'a message, QoS 1, `reconnectPeriod: 0`': acknowledgement,
      'a message, QoS 2': acknowledgement,
      'a message, QoS 2, `clean: false`': acknowledgement,
    },
  });
  judge({
    program: 'grpc',
    page: 'grpc',
    server: grpcServer,
    whole: TEXT,
    hook: false,
    host: '127.0.0.1',
    records,
    again: {
      'a call': middle,
      'a call, before its headers': headers,
      'one with a `retryPolicy` for UNAVAILABLE, before its headers': headers,
      'one with a `retryPolicy` for INTERNAL, before its headers': headers,
      'one with a `retryPolicy` for INTERNAL': middle,
    },
  });
  const whole = Buffer.from(taken(20_725));
  const taking: RecordOf = () => (length) => length === whole.length + 2 + OVERHEAD;
  const mail = { whole, records: { answer: 7, request: 7 } };
  judge({
    ...mail,
    program: 'nodemailer',
    page: 'nodemailer',
    server: () => smtpServer('implicit'),
    hook: true,
    // It looks up the address itself.
    host: '127.0.0.1',
    again: { 'a message': taking, 'a message, `pool: true`': taking },
  });
  judge({
    ...mail,
    program: 'nodemailer-starttls',
    server: () => smtpServer('starttls'),
    hook: false,
  });
});
