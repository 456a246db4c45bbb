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
import { judge } from './judge.ts';

const http = {
  server: httpsServer,
  whole: TEXT,
  bodies: BODIES,
  records: { answer: 7, request: 2 },
};

describeTls('over HTTP/1.1', () => {
  judge({ ...http, program: 'fetch', page: 'fetch', hook: true });
  judge({ ...http, program: 'undici', page: 'undici', hook: true });
  judge({ ...http, program: 'https', page: 'https', hook: true });
  judge({ ...http, program: 'got', page: 'got', hook: true });
  judge({ ...http, program: 'axios', page: 'axios', hook: true });
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
  judge({ ...http2, program: 'http2', page: 'http2' });
  judge({ ...http2, program: 'undici-h2' });
});

describeAdapter(['nginx'], 'against nginx', () => {
  judge({ ...http, server: nginx, program: 'https', hook: true });
  judge({ ...http, server: nginx, program: 'fetch', hook: true });
});
