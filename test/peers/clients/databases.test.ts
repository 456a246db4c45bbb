/** Database clients, against real servers. */

import { describeAdapter, mysql, postgres, ROWS, redis } from '../../support/adapter-servers.ts';
import { judge } from './judge.ts';

const database = { whole: ROWS, records: { answer: 7, request: 3 } };

describeAdapter(['postgres'], 'PostgreSQL', () => {
  judge({ ...database, program: 'pg', page: 'pg', server: postgres, hook: false });
});
describeAdapter(['mysql'], 'MariaDB', () => {
  judge({ ...database, program: 'mysql2', page: 'mysql2', server: mysql, hook: false });
});
describeAdapter(['redis'], 'Redis', () => {
  judge({ ...database, program: 'ioredis', page: 'ioredis', server: redis, hook: true });
});
