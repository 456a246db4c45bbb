/** HTTP clients, against Node's servers and nginx. */

import {
  BODIES,
  describeAdapter,
  http2Server,
  httpsServer,
  MUCH,
  muchServer,
  nginx,
  TEXT,
} from '../../support/adapter-servers.ts';
import { describeTls } from '../../support/core-pki.ts';
import type { RecordOf } from './clients.ts';
import { judge, middle } from './judge.ts';

const http = {
  server: httpsServer,
  whole: TEXT,
  bodies: BODIES,
  records: { answer: 7, request: 2 },
};

const methods = { GET: middle, POST: middle };
/** The first record behind the session tickets, which are as long as each other. */
const head: RecordOf = () => (length, before) => before.length > 0 && length !== before[0];
const http1 = { ...methods, 'POST, before its headers': head };

describeTls('over HTTP/1.1', () => {
  judge({ ...http, program: 'fetch', page: 'fetch', hook: true, again: http1 });
  judge({
    ...http,
    program: 'undici',
    page: 'undici',
    hook: true,
    again: {
      ...http1,
      'GET by a `RetryAgent`': middle,
      'GET by the `RetryAgent` below': middle,
      'POST by the `RetryAgent` below': middle,
    },
  });
  judge({ ...http, program: 'https', page: 'https', hook: true, again: http1 });
  judge({
    ...http,
    program: 'got',
    page: 'got',
    hook: true,
    again: { ...http1, 'GET by the instance below': middle },
  });
  judge({
    ...http,
    program: 'axios',
    page: 'axios',
    hook: true,
    again: {
      ...http1,
      'GET by the instance below': middle,
      'POST by the instance below': middle,
    },
  });
});

describeTls('much, read slowly', () => {
  const much = { ...http, server: muchServer, whole: MUCH, bodies: ['close'] as const };
  judge({ ...much, program: 'https-slow', hook: true });
});

describeTls('through a proxy', () => {
  judge({ ...http, bodies: ['close'], program: 'undici-proxy', hook: true });
});

describeTls('over HTTP/2', () => {
  const http2 = { server: http2Server, whole: TEXT, records: http.records, hook: true };
  judge({ ...http2, program: 'http2', page: 'http2', again: methods });
  judge({ ...http2, program: 'undici-h2' });
});

describeAdapter(['nginx'], 'against nginx', () => {
  judge({ ...http, server: nginx, program: 'https', hook: true });
  judge({ ...http, server: nginx, program: 'fetch', hook: true });
});
