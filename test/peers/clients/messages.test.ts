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
import { judge } from './judge.ts';

const records = { answer: 7, request: 3 };

describeTls('messages', () => {
  judge({ program: 'ws', page: 'ws', server: wsServer, whole: TEXT, hook: true, records });
  judge({ program: 'mqtt', page: 'mqtt', server: mqttBroker, whole: ROWS, hook: true, records });
  judge({ program: 'grpc', page: 'grpc', server: grpcServer, whole: TEXT, hook: false, records });
  const mail = { whole: Buffer.from(taken(20_725)), records: { answer: 7, request: 7 } };
  judge({
    ...mail,
    program: 'nodemailer',
    page: 'nodemailer',
    server: () => smtpServer('implicit'),
    hook: true,
  });
  judge({
    ...mail,
    program: 'nodemailer-starttls',
    server: () => smtpServer('starttls'),
    hook: false,
  });
});
