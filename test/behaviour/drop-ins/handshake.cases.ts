/** The handshake: certificates, versions, names, protocols, sessions, and what can be asked after. */
import { X509Certificate } from 'node:crypto';
import tls from 'node:tls';
import { type ConnectOptions, type Env, family, type Undocumented } from './env.ts';

const { cases, add } = family();

export { cases };

const VERSIONS = ['TLSv1.2', 'TLSv1.3'] as const;

/** A server that reads, and ends when its client does. */
const quiet = (socket: tls.TLSSocket) => void socket.resume();

/** Connects, notes what the handshake decided, and ends. */
async function handshake(
  env: Env,
  port: number,
  options: ConnectOptions,
  after: (client: tls.TLSSocket) => void = () => {},
): Promise<tls.TLSSocket> {
  const client = env.connect(port, options, 'data');
  client.on('secureConnect', () => {
    env.note(
      'decided',
      client.getProtocol(),
      client.authorized,
      client.authorizationError,
      client.alpnProtocol,
    );
    after(client);
    client.end();
  });
  await env.closed(client);
  return client;
}

// Certificates

type Certificates = 'server' | 'otherName' | 'expired' | 'selfSigned';
const wrongCertificates: Readonly<Record<string, readonly [Certificates, ConnectOptions]>> = {
  'another name': ['otherName', {}],
  'out of date': ['expired', {}],
  'self-signed': ['selfSigned', {}],
  'a CA that nobody trusts': ['server', { ca: [] }],
};
for (const version of VERSIONS) {
  for (const [name, [which, options]] of Object.entries(wrongCertificates)) {
    for (const rejectUnauthorized of [true, false]) {
      add(
        `certificate: ${name}, ${version}, rejectUnauthorized ${rejectUnauthorized}`,
        'test-tls-client-reject',
        async (env) => {
          const { port } = await env.serve({ ...env.pki[which] }, quiet);
          const client = await handshake(env, port, {
            ...options,
            maxVersion: version,
            rejectUnauthorized,
          });
          env.facts('facts', 'closed', client);
        },
      );
    }
  }

  add(
    `certificate: data written before it is refused, ${version}`,
    'test-tls-client-reject',
    async (env) => {
      const { port } = await env.serve({ ...env.pki.expired }, quiet);
      const client = env.connect(port, { maxVersion: version });
      client.write('secret', (error) => env.note('write', error));
      await env.closed(client);
    },
  );

  add(
    `client certificate required, none given, ${version}`,
    'test-tls-client-auth',
    async (env) => {
      const { port, server } = await env.serve(
        { ca: env.pki.ca, requestCert: true, rejectUnauthorized: true },
        quiet,
      );
      server.on('tlsClientError', (error: NodeJS.ErrnoException) => env.note('server', error.code));
      const client = env.connect(port, { maxVersion: version }, 'data');
      client.setTimeout(2_000, () => client.destroy(new Error('nothing happened')));
      await env.closed(client);
    },
    // In TLS 1.3 the alert comes when the client takes itself for connected. Node emits 'end' behind
    // the error; a stream that a fatal alert ended has no end.
    version === 'TLSv1.3'
      ? { client: { plain: ['end', 'finish', 'close false'], strict: ['close false'] } }
      : {},
  );

  add(
    `client certificate required, a stranger’s given, ${version}`,
    'test-tls-client-verify',
    async (env) => {
      const { port } = await env.serve(
        { ca: env.pki.ca, requestCert: true, rejectUnauthorized: true },
        quiet,
      );
      const client = tls.connect(
        env.options(port, { maxVersion: version, ...env.pki.stranger }) as tls.ConnectionOptions,
      );
      // Node's server cuts such a client off without an alert; what it meets first is a matter of time.
      client.on('error', () => {});
      client.on('secureConnect', () => env.note('decided', client.authorized));
      client.resume();
      await env.closed(client);
      env.note('client', 'closed', client.destroyed);
    },
  );

  add(`client certificate given, ${version}`, 'test-tls-client-verify', async (env) => {
    const { port, server } = await env.serve(
      { ca: env.pki.ca, requestCert: true, rejectUnauthorized: true },
      (socket) => void socket.resume(),
    );
    server.on('secureConnection', (socket) =>
      env.note('server', socket.authorized, socket.getPeerCertificate().subject.CN),
    );
    await handshake(env, port, { maxVersion: version, ...env.pki.client });
  });

  add(`no cipher in common, ${version}`, 'test-tls-alert', async (env) => {
    const { port, server } = await env.serve(
      version === 'TLSv1.2'
        ? { maxVersion: version, ciphers: 'ECDHE-ECDSA-AES256-GCM-SHA384' }
        : { minVersion: version, ciphers: 'TLS_AES_256_GCM_SHA384' },
    );
    server.on('tlsClientError', (error: NodeJS.ErrnoException) => env.note('server', error.code));
    const client = env.connect(port, {
      ciphers:
        version === 'TLSv1.2' ? 'ECDHE-ECDSA-AES128-GCM-SHA256' : 'TLS_CHACHA20_POLY1305_SHA256',
    });
    await env.closed(client);
    env.facts('facts', 'closed', client);
  });

  add(`what can be asked of a connection, ${version}`, 'test-tls-getcipher', async (env) => {
    const { port } = await env.serve({}, quiet);
    await handshake(env, port, { maxVersion: version }, (client) => {
      env.note('cipher', JSON.stringify(client.getCipher()));
      env.note('certificate', JSON.stringify(client.getPeerCertificate().subject));
      env.note('certificate', client.getPeerCertificate(true).issuerCertificate.subject.CN);
      env.note('certificate', client.getPeerX509Certificate() instanceof X509Certificate);
      env.note('own', JSON.stringify(client.getCertificate()), client.getX509Certificate());
      env.note('ephemeral', JSON.stringify(client.getEphemeralKeyInfo()));
      env.note('finished', client.getFinished()?.length, client.getPeerFinished()?.length);
      env.note('sigalgs', client.getSharedSigalgs().join(' '));
      env.note('export', client.exportKeyingMaterial(32, 'label', Buffer.from('context')).length);
      env.note('session', typeof client.getSession(), client.isSessionReused());
      env.note('ticket', typeof client.getTLSTicket());
    });
  });

  add(
    `both sides export the same keying material, ${version}`,
    'test-tls-exportkeyingmaterial',
    async (env) => {
      let theirs: Buffer | undefined;
      const { port } = await env.serve({}, (socket) => {
        socket.once('data', () => {
          theirs = socket.exportKeyingMaterial(64, 'label', Buffer.from('context'));
          socket.end();
        });
      });
      const client = env.connect(port, { maxVersion: version }, 'data');
      let ours: Buffer | undefined;
      client.on('secureConnect', () => {
        ours = client.exportKeyingMaterial(64, 'label', Buffer.from('context'));
        client.write('x');
      });
      await env.closed(client);
      env.note('material', theirs !== undefined && ours?.equals(theirs));
    },
  );

  // Sessions

  add(`a session is resumed, ${version}`, 'test-tls-client-resume', async (env) => {
    const { port } = await env.serve({}, (socket) => {
      env.note('server', socket.isSessionReused());
      socket.end('hello');
      socket.resume();
    });
    let session: Buffer | undefined;
    const first = env.connect(port, { maxVersion: version }, 'data');
    first.on('session', (given: Buffer) => {
      session = given;
    });
    await env.closed(first);
    const second = tls.connect(
      env.options(port, {
        maxVersion: version,
        ...(session && { session }),
      }) as tls.ConnectionOptions,
    );
    env.watch('second', second, 'data');
    env.note('second', second.isSessionReused());
    second.on('secureConnect', () => env.note('second', second.isSessionReused()));
    await env.closed(second);
  });

  add(`getSession is resumed by setSession, ${version}`, 'test-tls-client-resume', async (env) => {
    const { port } = await env.serve({}, (socket) => {
      socket.end('hello');
      socket.resume();
    });
    const first = env.connect(port, { maxVersion: version });
    let session: Buffer | undefined;
    first.on('end', () => {
      session = first.getSession();
    });
    first.resume();
    await env.closed(first);
    const second = tls.connect(env.options(port, { maxVersion: version }) as tls.ConnectionOptions);
    (second as unknown as Undocumented).setSession(session!);
    env.watch('second', second, 'data');
    second.on('secureConnect', () => env.note('second', second.isSessionReused()));
    await env.closed(second);
  });

  add(
    `a session of another server is not resumed, ${version}`,
    'test-tls-client-resume',
    async (env) => {
      const one = await env.serve({}, (socket) => void socket.resume().end('one'));
      const two = await env.serve({}, (socket) => void socket.resume().end('two'));
      const first = env.connect(one.port, { maxVersion: version }, 'data');
      let session: Buffer | undefined;
      first.on('session', (given: Buffer) => {
        session = given;
      });
      await env.closed(first);
      const second = tls.connect(
        env.options(two.port, { maxVersion: version, session: session! }) as tls.ConnectionOptions,
      );
      env.watch('second', second, 'data');
      second.on('secureConnect', () => env.note('second', second.isSessionReused()));
      await env.closed(second);
    },
  );

  add(`tickets off, ${version}`, 'test-tls-ticket', async (env) => {
    const { SSL_OP_NO_TICKET } = (await import('node:constants')) as unknown as {
      SSL_OP_NO_TICKET: number;
    };
    const { port } = await env.serve({ secureOptions: SSL_OP_NO_TICKET }, (socket) => {
      socket.resume();
      socket.end('x');
    });
    await env.closed(env.connect(port, { maxVersion: version }, 'data'));
  });

  add(`keylog, ${version}`, 'test-tls-keylog-tlsv13', async (env) => {
    const { port } = await env.serve({}, quiet);
    const client = env.connect(port, { maxVersion: version }, 'keylog');
    client.on('secureConnect', () => client.end());
    await env.closed(client);
  });
}

const identities: Readonly<Record<string, () => Error | undefined>> = {
  accepts: () => undefined,
  refuses: () => Object.assign(new Error('not you'), { code: 'ERR_NOT_YOU' }),
  throws: () => {
    throw new Error('cannot say');
  },
};
for (const [name, checkServerIdentity] of Object.entries(identities)) {
  add(`checkServerIdentity ${name}`, 'test-tls-check-server-identity', async (env) => {
    const { port } = await env.serve({ ...env.pki.otherName }, quiet);
    const client = env.connect(port, {
      checkServerIdentity: (host, certificate) => {
        env.note('asked', host, certificate.subject.CN);
        return checkServerIdentity();
      },
    });
    client.on('secureConnect', () => client.end());
    client.setTimeout(400, () => client.destroy());
    await env.closed(client);
  });
}

add(
  'the name to check is servername, or else host',
  'test-tls-check-server-identity',
  async (env) => {
    const { port } = await env.serve({}, quiet);
    for (const servername of ['localhost', undefined]) {
      const client = tls.connect({
        port,
        host: '127.0.0.1',
        ca: env.pki.ca,
        ...(servername !== undefined && { servername }),
        checkServerIdentity: (host) => {
          env.note('asked', host);
          return undefined;
        },
      });
      client.on('error', (error) => env.note('error', error));
      client.on('secureConnect', () => {
        env.note('secure', client.servername);
        client.end();
      });
      client.resume();
      await env.closed(client);
    }
  },
);

// Versions

const versions: Readonly<Record<string, readonly [tls.TlsOptions, ConnectOptions]>> = {
  'the server is too old': [{ maxVersion: 'TLSv1.2' }, { minVersion: 'TLSv1.3' }],
  'the client is too old': [{ minVersion: 'TLSv1.3' }, { maxVersion: 'TLSv1.2' }],
  'both have 1.2': [{ maxVersion: 'TLSv1.2' }, {}],
  'secureProtocol of the client': [{}, { secureProtocol: 'TLSv1_2_method' }],
  'minVersion above maxVersion': [{}, { minVersion: 'TLSv1.3', maxVersion: 'TLSv1.2' }],
};
for (const [name, [server, client]] of Object.entries(versions)) {
  add(`versions: ${name}`, 'test-tls-min-max-version', async (env) => {
    const { port } = await env.serve(server, quiet);
    await handshake(env, port, client);
  });
}

// ALPN and SNI

const alpn: Readonly<Record<string, readonly [string[] | undefined, string[] | undefined]>> = {
  'one in common': [
    ['a', 'b'],
    ['b', 'c'],
  ],
  'none in common': [['a'], ['b']],
  'the client asks, the server does not know': [undefined, ['a']],
  'the server offers, the client does not ask': [['a'], undefined],
};
for (const [name, [server, client]] of Object.entries(alpn)) {
  add(`ALPN: ${name}`, 'test-tls-alpn-server-client', async (env) => {
    const { port } = await env.serve(server ? { ALPNProtocols: server } : {}, quiet);
    await handshake(env, port, client ? { ALPNProtocols: client } : {});
  });
}

add('SNI: the server sees the name', 'test-tls-sni-option', async (env) => {
  const { port } = await env.serve(
    {
      SNICallback: (name, done) => {
        env.note('server', name);
        done(null, tls.createSecureContext(env.pki.otherName));
      },
    },
    (socket) => {
      env.note('server', socket.servername);
      socket.resume();
    },
  );
  await handshake(env, port, { servername: 'other.example' }, (client) =>
    env.note('name', client.servername),
  );
});

add('SNI: no name for an address', 'test-tls-ip-servername-deprecation', async (env) => {
  const { port } = await env.serve({}, (socket) => {
    env.note('server', socket.servername);
    socket.resume();
  });
  const client = tls.connect({ port, host: '127.0.0.1', ca: env.pki.ca });
  env.watch('client', client);
  client.on('secureConnect', () => {
    env.note('name', client.servername);
    client.end();
  });
  await env.closed(client);
});

add('SNI: the host is the name', 'test-tls-sni-servername', async (env) => {
  const { port } = await env.serve({}, (socket) => {
    env.note('server', socket.servername);
    socket.resume();
  });
  const client = tls.connect({
    port,
    host: 'localhost',
    family: 4,
    ca: env.pki.ca,
  } as ConnectOptions);
  env.watch('client', client);
  client.on('secureConnect', () => {
    env.note('name', client.servername);
    client.end();
  });
  await env.closed(client);
});

add('SNI: setServername', 'test-tls-error-servername', async (env) => {
  const { port } = await env.serve({}, (socket) => {
    env.note('server', socket.servername);
    socket.resume();
  });
  const client = env.connect(port) as tls.TLSSocket & Undocumented;
  env.attempt('set', 'a number', () => client.setServername(1));
  client.setServername('other.example');
  client.on('secureConnect', () => client.end());
  await env.closed(client);
});

add('SNI: the server has an error', 'test-tls-sni-server-client', async (env) => {
  const { port } = await env.serve({
    SNICallback: (_name, done) => done(new Error('no such name')),
  });
  const client = env.connect(port);
  client.setTimeout(1_000, () => client.destroy());
  await env.closed(client);
});

// Renegotiation, OCSP, PSK

add('renegotiation, TLSv1.2', 'test-tls-disable-renegotiation', async (env) => {
  const { port } = await env.serve({ maxVersion: 'TLSv1.2' }, quiet);
  const client = env.connect(port);
  client.once('secureConnect', () => {
    const given = client.renegotiate({ rejectUnauthorized: true }, (error) => {
      env.note('renegotiated', error);
      client.end();
    });
    env.note('renegotiate', given);
  });
  await env.closed(client);
});

add('renegotiation, TLSv1.3', 'test-tls-client-renegotiation-13', async (env) => {
  const { port } = await env.serve({ minVersion: 'TLSv1.3' }, quiet);
  const client = env.connect(port);
  client.on('secureConnect', () => {
    const given = client.renegotiate({}, (error) => {
      env.note('renegotiated', error);
      client.destroy();
    });
    env.note('renegotiate', given);
  });
  await env.closed(client);
});

add('renegotiation is off', 'test-tls-disable-renegotiation', async (env) => {
  const { port } = await env.serve({ maxVersion: 'TLSv1.2' }, quiet);
  const client = env.connect(port);
  client.on('secureConnect', () => {
    client.disableRenegotiation();
    env.attempt('renegotiate', 'call', () =>
      client.renegotiate({}, (error) => {
        env.note('renegotiated', error);
        client.destroy();
      }),
    );
  });
  client.setTimeout(500, () => client.destroy());
  await env.closed(client);
});

add('OCSP response', 'test-tls-ocsp-callback', async (env) => {
  const { port, server } = await env.serve({}, quiet);
  server.on('OCSPRequest', (_certificate, _issuer, done) => done(null, Buffer.from('fine')));
  const client = env.connect(port, { requestOCSP: true }, 'OCSPResponse');
  client.on('secureConnect', () => client.end());
  await env.closed(client);
});

add('no OCSP response', 'test-tls-ocsp-callback', async (env) => {
  const { port, server } = await env.serve({}, quiet);
  server.on('OCSPRequest', (_certificate, _issuer, done) => done(null, null as unknown as Buffer));
  const client = env.connect(port, { requestOCSP: true }, 'OCSPResponse');
  client.on('secureConnect', () => client.end());
  await env.closed(client);
});

for (const good of [true, false]) {
  add(
    `pre-shared key, ${good ? 'the right one' : 'a wrong one'}`,
    'test-tls-psk-circuit',
    async (env) => {
      const key = Buffer.from('d731ef57be09e5204f0b205b60627028', 'hex');
      const ciphers = 'PSK-AES128-GCM-SHA256';
      const server = tls.createServer(
        {
          maxVersion: 'TLSv1.2',
          ciphers,
          pskIdentityHint: 'hint',
          pskCallback: (_socket, identity) => {
            env.note('server', identity);
            return key;
          },
        },
        (socket) => void socket.resume().on('error', () => {}),
      );
      const port = await env.listen(server);
      const client = env.connect(port, {
        ciphers,
        maxVersion: 'TLSv1.2',
        checkServerIdentity: () => undefined,
        pskCallback: (hint) => {
          env.note('client hint', hint);
          return { psk: good ? key : Buffer.alloc(16), identity: 'me' };
        },
      });
      client.on('secureConnect', () => client.end());
      client.setTimeout(1_000, () => client.destroy());
      await env.closed(client);
    },
  );
}

add('a secure context of one’s own', 'test-tls-connect-secure-context', async (env) => {
  const { port } = await env.serve({}, quiet);
  const secureContext = tls.createSecureContext({ ca: env.pki.ca });
  const client = tls.connect({ port, host: '127.0.0.1', servername: 'localhost', secureContext });
  env.watch('client', client);
  client.on('secureConnect', () => client.end());
  await env.closed(client);
});

add('a context whose key does not match', 'test-tls-key-mismatch', async (env) => {
  env.attempt('call', 'tls.connect', () =>
    tls.connect({ port: 1, cert: env.pki.client.cert, key: env.pki.server.key }),
  );
});

add('asked before the handshake, and after the end', 'test-tls-getprotocol', async (env) => {
  const { port } = await env.serve({}, quiet);
  const client = env.connect(port);
  const ask = (when: string) => {
    // Not getSharedSigalgs and the like: before the handshake they take Node 24 and 26 down.
    for (const name of [
      'getProtocol',
      'getCipher',
      'getPeerCertificate',
      'getSession',
      'isSessionReused',
    ]) {
      env.attempt(when, name, () => {
        const value = (client as unknown as Record<string, () => unknown>)[name]!();
        return Buffer.isBuffer(value)
          ? 'bytes'
          : typeof value === 'object'
            ? JSON.stringify(value)
            : value;
      });
    }
    env.attempt(when, 'exportKeyingMaterial', () =>
      client.exportKeyingMaterial(8, 'x', Buffer.alloc(0)),
    );
  };
  ask('at once');
  client.on('secureConnect', () => client.end());
  await env.closed(client);
  ask('closed');
});

add('enableTrace', 'test-tls-enable-trace', async (env) => {
  const { port } = await env.serve({}, quiet);
  const client = env.connect(port);
  env.note('trace', typeof client.enableTrace);
  client.on('secureConnect', () => client.end());
  await env.closed(client);
});
