/** Database clients, against real servers. */

import { describeAdapter, mysql, postgres, ROWS, redis } from '../../support/adapter-servers.ts';
import type { RecordOf } from './clients.ts';
import { judge, middle } from './judge.ts';

const database = { whole: ROWS, records: { answer: 7, request: 3 } };

/** The first full record: what Redis says before, to INFO, is shorter. */
const value: RecordOf = () => (length) => length > 2 ** 14;

describeAdapter(['postgres'], 'PostgreSQL', () => {
  judge({
    ...database,
    program: 'pg',
    page: 'pg',
    server: postgres,
    hook: false,
    again: { "a Client's query": middle, "a Pool's query": middle },
  });
});
describeAdapter(['mysql'], 'MariaDB', () => {
  judge({
    ...database,
    program: 'mysql2',
    page: 'mysql2',
    server: mysql,
    hook: false,
    // It has tls.connect take a socket, and names no host.
    host: null,
    again: { "a connection's query": middle, "a pool's query": middle },
  });
});
describeAdapter(['redis'], 'Redis', () => {
  judge({
    ...database,
    program: 'ioredis',
    page: 'ioredis',
    server: redis,
    hook: true,
    again: {
      GET: value,
      'GET, `maxRetriesPerRequest: 0`': value,
    },
  });
});
