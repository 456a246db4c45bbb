/** Data: flowing and paused, piped and iterated, big and small, counted and waited for. */
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import net from 'node:net';
import { PassThrough, Readable, Transform, Writable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import type tls from 'node:tls';
import { type Env, family } from './env.ts';

const { cases, add } = family();

export { cases };

const BIG = Buffer.alloc(5_000_000, 'The quick brown fox jumps over the lazy dog. ');
const digest = (bytes: Buffer) => createHash('sha256').update(bytes).digest('hex').slice(0, 12);

/** A server that sends something and ends. */
const sends = (env: Env, what: string | Buffer, options: tls.TlsOptions = {}) =>
  env.serve(options, (socket) => {
    socket.resume();
    socket.end(what);
  });

/** A server that sends back what it gets. */
const echo = (env: Env, options: tls.TlsOptions = {}) =>
  env.serve({ allowHalfOpen: true, ...options }, (socket) => void socket.pipe(socket));

/** A server that tells how much it got, and its digest. */
const counts = (env: Env) =>
  env.serve({ allowHalfOpen: true }, (socket) => {
    // Not `for await`: that destroys the socket at its end.
    const chunks: Buffer[] = [];
    socket.on('data', (chunk: Buffer) => chunks.push(chunk));
    socket.on('end', () => {
      const all = Buffer.concat(chunks);
      socket.end(`${all.length} ${digest(all)}`);
    });
  });

for (const version of ['TLSv1.2', 'TLSv1.3'] as const) {
  add(`a big download, ${version}`, 'test-tls-fast-writing', async (env) => {
    const { port } = await sends(env, BIG);
    const client = env.connect(port, { maxVersion: version }, 'data');
    await env.closed(client);
    env.note('read', client.bytesRead);
  });

  add(`a big upload, ${version}`, 'test-tls-large-push', async (env) => {
    const { port } = await counts(env);
    const client = env.connect(port, { maxVersion: version, allowHalfOpen: true }, 'data apart');
    client.removeAllListeners('drain');
    client.end(BIG, () => env.note('end', 'called back'));
    await env.closed(client);
    env.note('written', client.bytesWritten);
  });

  add(`a big echo, ${version}`, 'test-tls-interleave', async (env) => {
    const { port } = await echo(env);
    const client = env.connect(port, { maxVersion: version, allowHalfOpen: true }, 'data apart');
    client.removeAllListeners('drain');
    client.end(BIG);
    await env.closed(client);
  });

  add(`ten thousand small writes, ${version}`, 'test-tls-multiple-cas-as-string', async (env) => {
    const { port } = await counts(env);
    const client = env.connect(port, { maxVersion: version, allowHalfOpen: true }, 'data');
    client.removeAllListeners('drain');
    for (let i = 0; i < 10_000; i++) client.write(`line ${i}\n`);
    client.end();
    await env.closed(client);
  });
}

add('an empty write', 'test-tls-zero-clear-in', async (env) => {
  const { port } = await counts(env);
  const client = env.connect(port, { allowHalfOpen: true }, 'data');
  client.on('secureConnect', () => {
    client.write('', () => env.note('write', 'empty'));
    client.write(Buffer.alloc(0), () => env.note('write', 'empty again'));
    client.end('x');
  });
  await env.closed(client);
});

for (const size of [1, 100, 16_383, 16_384, 16_385, 65_537, 500_001]) {
  add(`an echo of ${size} bytes`, 'test-tls-buffersize', async (env) => {
    const { port } = await echo(env);
    const client = env.connect(port, { allowHalfOpen: true }, 'data apart');
    client.removeAllListeners('drain');
    client.end(BIG.subarray(0, size));
    await env.closed(client);
    env.note('counted', client.bytesRead, client.bytesWritten);
  });
}

add('bytesRead and bytesWritten while it lives', 'test-tls-bytes-read', async (env) => {
  const { port } = await echo(env);
  const client = env.connect(port);
  env.note('counted', 'at once', client.bytesRead, client.bytesWritten);
  client.write('early');
  env.note('counted', 'written early', client.bytesRead, client.bytesWritten);
  const [first] = await once(client, 'data');
  env.note('counted', String(first), client.bytesRead, client.bytesWritten);
  client.write('hello, world');
  env.note('counted', 'written', client.bytesRead, client.bytesWritten);
  await once(client, 'data');
  env.note('counted', 'read', client.bytesRead, client.bytesWritten);
  client.destroy();
  env.note('counted', 'destroyed', client.bytesRead, client.bytesWritten);
  await env.closed(client);
  env.note('counted', 'closed', client.bytesRead, client.bytesWritten);
});

add('bytesWritten counts text in its encoding', 'test-net-bytes-written-large', async (env) => {
  const { port } = await counts(env);
  const client = env.connect(port, { allowHalfOpen: true }, 'data');
  client.cork();
  client.write('äöü', 'utf8');
  client.write('äöü', 'latin1');
  client.write('616263', 'hex');
  client.write(new Uint8Array([1, 2, 3]));
  env.note('counted', client.bytesWritten, client.writableLength);
  client.uncork();
  env.note('counted', client.bytesWritten, client.writableLength);
  client.end();
  await env.closed(client);
  env.note('counted', client.bytesWritten);
});

add('bufferSize and writableLength', 'test-tls-buffersize', async (env) => {
  const { port } = await counts(env);
  const client = env.connect(port, { allowHalfOpen: true }, 'data');
  for (let i = 1; i <= 5; i++) {
    client.write('x'.repeat(100));
    env.note('waiting', client.bufferSize, client.writableLength, client.writableNeedDrain);
  }
  client.on('finish', () =>
    env.note('waiting', 'finish', client.bufferSize, client.writableLength),
  );
  client.end();
  await env.closed(client);
  env.note('waiting', 'closed', client.bufferSize, client.writableLength);
});

// Pausing

add('pause and resume', 'test-tls-pause', async (env) => {
  const { port } = await sends(env, BIG);
  const client = env.connect(port, {}, 'data');
  let seen = 0;
  let pauses = 0;
  client.on('data', (chunk: Buffer) => {
    seen += chunk.length;
    if (pauses < 10 && seen > pauses * 400_000) {
      pauses++;
      client.pause();
      env.note('paused', client.isPaused(), client.readableFlowing);
      setTimeout(() => client.resume(), 5);
    }
  });
  await env.closed(client);
  env.note('paused', pauses);
});

add('no data while paused', 'test-tls-pause', async (env) => {
  const { port } = await sends(env, 'hello');
  const client = env.connect(port, {}, 'data', 'pause', 'resume');
  client.on('secureConnect', () => client.pause());
  await env.event(client, 'secureConnect');
  await new Promise((resolve) => setTimeout(resolve, 50));
  env.note('client', 'still nothing');
  client.resume();
  await env.closed(client);
});

add('paused from the start', 'test-net-pause-resume-connecting', async (env) => {
  const { port } = await sends(env, 'hello');
  const client = env.connect(port, {}, 'data', 'pause', 'resume');
  client.pause();
  await env.event(client, 'secureConnect');
  await new Promise((resolve) => setTimeout(resolve, 50));
  env.note('client', 'still nothing');
  client.resume();
  await env.closed(client);
});

add('backpressure reaches the server', 'test-tls-client-pause', async (env) => {
  let waiting: Promise<void> = Promise.resolve();
  const { port } = await env.serve({}, (socket) => {
    const big = Buffer.alloc(1_000_000);
    let sent = 0;
    waiting = (async () => {
      while (sent < 60 && socket.write(big)) {
        sent++;
        await new Promise((resolve) => setImmediate(resolve));
      }
      env.note('server', sent < 60 ? 'has to wait' : 'never has to wait');
      socket.end();
    })();
    socket.resume();
  });
  const client = env.connect(port);
  await env.event(client, 'secureConnect');
  await new Promise((resolve) => setTimeout(resolve, 100));
  await waiting;
  env.note('client', 'holds less than 200 KB', client.readableLength < 200_000);
  let bytes = 0;
  client.on('data', (chunk: Buffer) => {
    bytes += chunk.length;
  });
  await env.closed(client);
  env.note('client', bytes % 1_000_000 === 0 && bytes > 0);
});

add('drain after a write that was too much', 'test-tls-connect-stream-writes', async (env) => {
  const { port } = await env.serve({}, (socket) => {
    setTimeout(() => socket.resume(), 30);
  });
  const client = env.connect(port);
  client.on('secureConnect', () => {
    env.note('write', client.write(Buffer.alloc(8_000_000)), client.writableNeedDrain);
  });
  await env.event(client, 'drain');
  env.note('write', 'drained', client.writableNeedDrain, client.writableLength);
  client.end();
  await env.closed(client);
});

add('write returns false at the mark', 'test-tls-connect-hwm-option', async (env) => {
  const { port } = await counts(env);
  const client = env.connect(port, { allowHalfOpen: true }, 'data');
  const mark = client.writableHighWaterMark;
  client.cork();
  env.note('write', client.write(Buffer.alloc(mark - 1)), client.write('x'), client.write('y'));
  client.uncork();
  client.end();
  await env.closed(client);
});

for (const highWaterMark of [1, 1_000, 1_000_000]) {
  add(`highWaterMark ${highWaterMark}`, 'test-tls-connect-hwm-option', async (env) => {
    const { port } = await echo(env);
    const client = env.connect(port, { highWaterMark, allowHalfOpen: true }, 'data');
    client.removeAllListeners('drain');
    env.note('marks', client.readableHighWaterMark, client.writableHighWaterMark);
    client.end(BIG.subarray(0, 300_001));
    await env.closed(client);
  });
}

// Readable, iterated, piped

add('readable and read(n)', 'test-tls-over-http-tunnel', async (env) => {
  const { port } = await sends(env, '0123456789');
  const client = env.connect(port);
  client.on('readable', () => {
    for (;;) {
      const bytes = client.read(3) as Buffer | null;
      if (bytes === null) break;
      env.note('read', bytes);
    }
  });
  await env.closed(client);
});

add('unshift', null, async (env) => {
  const { port } = await sends(env, 'tail');
  const client = env.connect(port, {}, 'data');
  client.pause();
  client.unshift('head ');
  await env.event(client, 'secureConnect');
  client.resume();
  await env.closed(client);
});

add('async iteration to the end', 'test-stream-readable-async-iterators', async (env) => {
  const { port } = await sends(env, 'iterate over this');
  const client = env.connect(port);
  for await (const chunk of client) env.data('read', chunk as Buffer);
  env.note('read', 'done', client.destroyed, client.readableEnded);
  await env.closed(client);
});

add('async iteration with a break', 'test-stream-readable-async-iterators', async (env) => {
  const { port } = await env.serve({}, (socket) => {
    socket.resume();
    socket.write('first');
  });
  const client = env.connect(port);
  for await (const chunk of client) {
    env.data('read', chunk as Buffer);
    break;
  }
  env.note('read', 'done', client.destroyed);
  await env.closed(client);
});

add(
  'async iteration of a stream that is reset',
  'test-stream-readable-async-iterators',
  async (env) => {
    const { port } = await env.serve({}, (socket) => void socket.write('first'));
    const cutter = await env.cutter(port);
    const client = env.connect(cutter.port);
    try {
      for await (const chunk of client) {
        env.data('read', chunk as Buffer);
        cutter.rst();
      }
      env.note('read', 'done');
    } catch (error) {
      env.note('read', error);
    }
    await env.closed(client);
  },
);

add(
  'truncated: async iteration',
  null,
  async (env) => {
    const { port } = await env.serve({}, (socket) => void socket.write('first'));
    const cutter = await env.cutter(port);
    const client = env.connect(cutter.port);
    try {
      for await (const chunk of client) {
        env.data('read', chunk as Buffer);
        cutter.fin();
      }
      env.note('read', 'done');
    } catch (error) {
      env.note('read', (error as NodeJS.ErrnoException).code);
    }
    await env.closed(client);
  },
  {
    read: { plain: ['done'], strict: ['ERR_TLS_TRUNCATED'] },
    client: {
      plain: ['end', 'close false'],
      strict: ['error ERR_TLS_TRUNCATED', 'close true'],
    },
  },
);

add(
  'truncated: pipeline',
  'test-stream-pipeline',
  async (env) => {
    const { port } = await env.serve({}, (socket) => void socket.write('first'));
    const cutter = await env.cutter(port);
    const client = env.connect(cutter.port, { allowHalfOpen: true });
    const out = new PassThrough();
    out.on('data', (chunk: Buffer) => {
      env.data('out', chunk);
      cutter.fin();
    });
    await pipeline(client, out).then(
      () => env.note('pipeline', 'whole'),
      (error: NodeJS.ErrnoException) => env.note('pipeline', error.code),
    );
  },
  {
    pipeline: { plain: ['whole'], strict: ['ERR_TLS_TRUNCATED'] },
    client: {
      plain: ['end'],
      strict: ['error ERR_TLS_TRUNCATED'],
    },
  },
);

add('pipeline through a transform and back', 'test-tls-connect-pipe', async (env) => {
  const { port } = await echo(env);
  const client = env.connect(port, { allowHalfOpen: true });
  client.removeAllListeners('drain');
  const upper = new Transform({
    transform: (chunk: Buffer, _encoding, done) => done(null, chunk.toString().toUpperCase()),
  });
  const chunks: Buffer[] = [];
  const into = new Writable({
    write: (chunk: Buffer, _encoding, done) => {
      chunks.push(chunk);
      done();
    },
  });
  await pipeline(Readable.from([BIG.subarray(0, 200_001), 'tail']), client, upper, into);
  env.note('out', Buffer.concat(chunks));
  await env.closed(client);
});

add('pipe and unpipe', 'test-net-pipe-with-long-path', async (env) => {
  const { port } = await env.serve({}, (socket) => {
    socket.write('first');
    socket.on('data', () => socket.end('second'));
  });
  const client = env.connect(port, {}, 'pause', 'resume');
  const into = new PassThrough();
  env.watch('into', into, 'data', 'pipe', 'unpipe');
  client.pipe(into);
  await env.event(into, 'data');
  client.unpipe(into);
  env.note('client', 'unpiped', client.readableFlowing);
  client.write('go on');
  await new Promise((resolve) => setTimeout(resolve, 50));
  client.pipe(into);
  await env.closed(into);
  await env.closed(client);
});

add('pipe a socket into itself', 'test-tls-connect-pipe', async (env) => {
  const { port } = await env.serve({}, (socket) => {
    env.watch('server', socket, 'data');
    socket.end('ping');
  });
  const client = env.connect(port);
  client.pipe(client);
  await env.closed(client);
});

add('pipe between two connections', 'test-tls-inception', async (env) => {
  const { port: far } = await sends(env, BIG.subarray(0, 700_001));
  const { port: near } = await counts(env);
  const from = env.connect(far);
  const into = tlsQuiet(env, near);
  from.pipe(into);
  const answer = await once(into, 'data');
  env.note('answer', String(answer[0]));
  await env.closed(into);
});

function tlsQuiet(env: Env, port: number): tls.TLSSocket {
  const socket = env.connect(port, { allowHalfOpen: true });
  socket.removeAllListeners('drain');
  return socket;
}

add('a server pipes a file-like stream', 'test-https-drain', async (env) => {
  const { port } = await env.serve({}, (socket) => {
    socket.resume();
    Readable.from(
      (function* () {
        for (let i = 0; i < 50; i++) yield BIG.subarray(0, 10_000 + i);
      })(),
    ).pipe(socket);
  });
  await env.closed(env.connect(port, {}, 'data'));
});

add('a piped destination that fails', null, async (env) => {
  const { port } = await env.serve({}, (socket) => {
    socket.resume();
    socket.write('some');
  });
  const client = env.connect(port);
  const into = new Writable({
    write: (_chunk, _encoding, done) => done(new Error('no more')),
  });
  await pipeline(client, into).catch((error) => env.note('pipeline', error));
  await env.closed(client);
});

// Encodings, callbacks, cork

add('setEncoding across records', 'test-tls-set-encoding', async (env) => {
  const { port } = await env.serve({}, (socket) => {
    socket.resume();
    const text = Buffer.from('a € b');
    socket.write(text.subarray(0, 3));
    setTimeout(() => socket.end(text.subarray(3)), 20);
  });
  const client = env.connect(port);
  client.setEncoding('utf8');
  let text = '';
  client.on('data', (chunk) => {
    env.note('type', typeof chunk);
    text += chunk;
  });
  await env.closed(client);
  env.note('text', text === 'a € b');
});

add('write callbacks in order', 'test-tls-connect-stream-writes', async (env) => {
  const { port } = await env.serve({}, (socket) => void env.watch('server', socket, 'data'));
  const client = env.connect(port);
  for (const text of ['a', 'b', 'c']) client.write(text, () => env.note('callback', text));
  client.on('secureConnect', () => {
    env.note('callback', 'secure');
    client.write('d', () => env.note('callback', 'd'));
    client.end('e', () => env.note('callback', 'e'));
  });
  client.on('finish', () => env.note('callback', 'finish'));
  await env.closed(client);
});

add('write callbacks come in a later turn', null, async (env) => {
  const { port } = await env.serve({}, (socket) => void socket.resume());
  const client = env.connect(port);
  await env.event(client, 'secureConnect');
  let late = false;
  client.write('x', () => {
    env.note('callback', late);
    client.end();
  });
  late = true;
  await env.closed(client);
});

add('cork and uncork', 'test-net-writable', async (env) => {
  const { port } = await counts(env);
  const client = env.connect(port, { allowHalfOpen: true }, 'data');
  await env.event(client, 'secureConnect');
  client.cork();
  client.cork();
  client.write('a');
  client.write('b', 'utf8', () => env.note('callback', 'b'));
  client.uncork();
  env.note('corked', client.writableCorked, client.writableLength);
  client.uncork();
  env.note('corked', client.writableCorked, client.writableLength);
  client.end('c');
  await env.closed(client);
});

add('write takes only bytes and text', 'test-net-write-arguments', async (env) => {
  const { port } = await env.serve();
  const client = env.connect(port);
  for (const bad of [null, undefined, 1, true, {}, [], () => {}]) {
    env.attempt('write', String(bad), () => client.write(bad as unknown as string));
  }
  env.attempt('write', 'unknown encoding', () => client.write('x', 'no-such' as BufferEncoding));
  client.destroy();
  await env.closed(client);
});

add('data written before the handshake, read after', 'test-tls-invoke-queued', async (env) => {
  const { port } = await echo(env);
  const client = env.connect(port, { allowHalfOpen: true }, 'data');
  client.write('one ');
  client.on('connect', () => client.write('two '));
  client.on('secureConnect', () => client.end('three'));
  await env.closed(client);
});

add('setMaxSendFragment', 'test-tls-max-send-fragment', async (env) => {
  const { port } = await counts(env);
  const client = env.connect(port, { allowHalfOpen: true }, 'data');
  await env.event(client, 'secureConnect');
  env.note('fragment', client.setMaxSendFragment(600), client.setMaxSendFragment(100_000));
  client.end(BIG.subarray(0, 20_001));
  await env.closed(client);
});

// onread: Node's TLS sockets take it

add('onread', 'test-tls-onread-static-buffer', async (env) => {
  const { port } = await sends(env, 'straight into a buffer');
  const client = env.connect(
    port,
    {
      onread: {
        buffer: Buffer.alloc(1_000),
        callback: (bytes, buffer) => {
          env.data('onread', Buffer.from(buffer.subarray(0, bytes)));
          return true;
        },
      },
    },
    'data',
  );
  await env.closed(client);
});

add('onread into a small buffer', 'test-tls-onread-static-buffer', async (env) => {
  const { port } = await sends(env, BIG.subarray(0, 100_001));
  const client = env.connect(port, {
    onread: {
      buffer: Buffer.alloc(70),
      callback: (bytes, buffer) => {
        env.data('onread', Buffer.from(buffer.subarray(0, bytes)));
        return true;
      },
    },
  });
  await env.closed(client);
});

add('onread that pauses', 'test-tls-onread-static-buffer', async (env) => {
  const { port } = await sends(env, BIG.subarray(0, 300_001));
  let pauses = 0;
  const client = env.connect(port, {
    onread: {
      buffer: () => Buffer.alloc(65_536),
      callback: (bytes, buffer) => {
        env.data('onread', Buffer.from(buffer.subarray(0, bytes)));
        if (pauses++ > 0) return true;
        setTimeout(() => client.resume(), 30);
        return false;
      },
    },
  });
  await env.closed(client);
});

add(
  'TLS over a slow transport: one byte at a time',
  'test-tls-hello-parser-failure',
  async (env) => {
    const { port } = await sends(env, 'hello');
    const slow = net.createServer({ allowHalfOpen: true }, (near) => {
      const far = net.connect({ host: '127.0.0.1', port, allowHalfOpen: true });
      near.pipe(far);
      near.on('error', () => far.destroy());
      far.on('error', () => near.destroy());
      near.setNoDelay(true);
      void (async () => {
        for await (const bytes of far) {
          for (const byte of bytes as Buffer) {
            near.write(Buffer.of(byte));
            await env.turns(1);
          }
        }
        near.end();
      })().catch(() => {});
    });
    await env.closed(env.connect(await env.listen(slow), {}, 'data'));
  },
);
