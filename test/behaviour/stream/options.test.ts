/** Every option of Node's own functions does what it does there, or is refused by name. */
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import net from 'node:net';
import tls from 'node:tls';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { describe, expect, test } from 'vitest';
import { ClientCertificateFinder, loadIdentities } from '../../../src/client-cert/index.ts';
import {
  type AcceptOptions,
  accept,
  type ConnectOptions,
  connect,
  createServer,
  OptionError,
  PcapngRecorder,
  type ServerOptions,
  strictServer,
  type TlsStream,
  Transcript,
} from '../../../src/index.ts';
import { startTls } from '../../../src/starttls/starttls.ts';
import { register, unregister } from '../../../src/strict/register.ts';
import { strictConnector } from '../../../src/strict/undici.ts';
import { channel } from '../../../src/testing/channel.ts';
import { describeTls, pki } from '../../support/core-pki.ts';
import { clean, type Scope } from '../../support/core-scope.ts';
import { pair, rejection } from '../../support/core-streams.ts';
import { tcpPair } from '../../support/core-transport.ts';
import { describeNodes } from '../../support/describe-nodes.ts';

// Loading it registers.
unregister();

const ROOT = fileURLToPath(new URL('../../../', import.meta.url));

/** A value that Node takes, for each option of `tls.createSecureContext` in the documentation of Node 20 to 26. */
const context = (): Readonly<Record<string, unknown>> => ({
  ca: pki().ca,
  cert: pki().server.cert,
  key: pki().server.key,
  certificateCompression: ['zlib'],
  ciphers: 'TLS_AES_128_GCM_SHA256:ECDHE-ECDSA-AES128-GCM-SHA256',
  crl: [],
  dhparam: 'auto',
  ecdhCurve: 'auto',
  honorCipherOrder: true,
  maxVersion: 'TLSv1.3',
  minVersion: 'TLSv1.2',
  passphrase: 'not needed',
  secureOptions: 0,
  sessionIdContext: 'here',
  sessionTimeout: 60,
  sigalgs: 'ECDSA+SHA256',
  ticketKeys: Buffer.alloc(48),
});

/** Taken, but with a value of their own only: another option stands against them, or an engine is needed. */
const CONTEXT_ALONE = [
  'clientCertEngine',
  'pfx',
  'privateKeyEngine',
  'privateKeyIdentifier',
  'secureProtocol',
];

const client = (): Readonly<Record<string, unknown>> => ({
  ...context(),
  allowPartialTrustChain: true,
  ALPNProtocols: ['one'],
  checkServerIdentity: () => undefined,
  enableTrace: false,
  minDHSize: 1024,
  rejectUnauthorized: true,
  servername: 'localhost',
  autoSelectFamily: true,
  autoSelectFamilyAttemptTimeout: 300,
  family: 4,
  hints: 0,
  host: 'localhost',
  keepAlive: true,
  keepAliveInitialDelay: 60_000,
  localAddress: '127.0.0.1',
  lookup: (_: string, __: object, done: (error: null, found: object[]) => void) =>
    done(null, [{ address: '127.0.0.1', family: 4 }]),
  noDelay: false,
  typeOfService: 0,
  blockList: new net.BlockList(),
});
const CLIENT_ALONE = ['pskCallback', 'secureContext', 'session', 'path', 'port', 'localPort'];
const CLIENT_REFUSED = [
  ...['allowHalfOpen', 'fd', 'handle', 'highWaterMark', 'onread', 'readable', 'requestOCSP'],
  ...['socket', 'timeout', 'writable', 'requestCert', 'SNICallback', 'ALPNCallback'],
  ...['pskIdentityHint', 'handshakeTimeout', 'pauseOnConnect'],
];

const served = (): Readonly<Record<string, unknown>> => ({
  ...context(),
  ALPNCallback: () => undefined,
  SNICallback: (_: string, done: (error: null) => void) => done(null),
  enableTrace: false,
  pskIdentityHint: 'hint',
  rejectUnauthorized: false,
  requestCert: true,
  // In options that both sides share.
  servername: 'localhost',
});
const SERVED_ALONE = ['ALPNProtocols', 'pskCallback'];
const listening = (): Readonly<Record<string, unknown>> => ({
  keepAlive: true,
  keepAliveInitialDelay: 60_000,
  noDelay: false,
  blockList: new net.BlockList(),
});
const SERVED_REFUSED = [
  ...['allowHalfOpen', 'allowPartialTrustChain', 'handshakeTimeout', 'highWaterMark'],
  ...['pauseOnConnect', 'timeout', 'secureContext', 'session', 'minDHSize'],
  ...['checkServerIdentity', 'requestOCSP'],
];

/** A server of ours that answers each byte. */
async function serve(scope: Scope, options: object = {}) {
  const server = createServer({ ...pki().server, ...options } as ServerOptions, async (stream) => {
    for await (const bytes of stream) await stream.write(bytes);
    await stream.close();
  });
  await server.listen(0, '127.0.0.1');
  scope.defer(() => server.close({ deadline: 0 }));
  return server;
}

/** Says something, and hears it. */
async function talk(options: ConnectOptions): Promise<void> {
  const stream = await connect(options);
  await stream.write('hello');
  expect(Buffer.from((await stream.read()) ?? []).toString()).toBe('hello');
  await stream.close();
}

describeTls('every option of Node, by name', () => {
  test(
    'connect takes those that mean something, all at once',
    clean(async (scope) => {
      const { port } = await serve(scope);
      await talk({ ...client(), port } as ConnectOptions);
    }),
  );

  test(
    'createServer takes those that mean something, all at once',
    clean(async (scope) => {
      const { port } = await serve(scope, { ...served(), ...listening() });
      await talk({ host: 'localhost', port, ca: pki().ca });
    }),
  );

  test(
    'accept takes those of TLS',
    clean(async (scope) => {
      const [near, far] = await tcpPair(scope);
      const [stream, other] = await Promise.all([
        connect({ transport: near, host: 'localhost', ca: pki().ca }),
        accept(far, { ...served(), ...pki().server } as AcceptOptions),
      ]);
      await Promise.all([stream.close(), other.close()]);
    }),
  );

  test.each(CLIENT_REFUSED)('connect refuses %s', async (name) => {
    const error = await rejection(
      connect({ host: 'localhost', port: 1, [name]: 1 } as ConnectOptions),
    );
    expect(error).toBeInstanceOf(OptionError);
    expect(error.message).toContain(`the option ${name} is refused`);
    expect(error.hint).not.toBeNull();
  });

  test.each(SERVED_REFUSED)('createServer refuses %s, and accept', async (name) => {
    const options = { ...pki().server, [name]: 1 };
    let error: unknown;
    try {
      createServer(options as ServerOptions, () => {});
    } catch (thrown) {
      error = thrown;
    }
    const refusal = { code: 'ERR_TLS_OPTION', hint: expect.any(String) };
    expect(error).toMatchObject(refusal);
    expect((error as Error).message).toContain(`the option ${name} is refused`);
    const [near, far] = (await import('../../../src/testing/channel.ts')).channel().ends;
    const other = await rejection(accept(far, options as AcceptOptions));
    expect(other).toMatchObject(refusal);
    near.destroy();
    far.destroy();
  });

  test('the tests above go through every option that this Node looks at', () => {
    /** What the functions of Node read of their options, and no documentation names. */
    const undocumented = [
      ...['credentials', 'singleUse', 'isServer', 'server', 'pipe', 'pauseOnCreate'],
      ...['manualStart', 'autoDestroy', 'emitClose', 'decodeStrings', 'objectMode'],
      ...['readableObjectMode', 'writableObjectMode'],
    ];
    const known = new Set([
      ...['signal', ...Object.keys(client()), ...CLIENT_ALONE, ...CLIENT_REFUSED, ...CONTEXT_ALONE],
      ...[...Object.keys(served()), ...SERVED_ALONE, ...SERVED_REFUSED],
      ...[...Object.keys(listening()), ...undocumented],
    ]);
    const { Server, TLSSocket } = tls as unknown as Record<string, { prototype: object }>;
    const read = [
      ...[net.Socket, net.Socket.prototype.connect, net.Server, tls.connect, Server, TLSSocket],
      ...[tls.createSecureContext, Object.getOwnPropertyDescriptors(Server?.prototype)],
      ...[Object.getOwnPropertyDescriptors(TLSSocket?.prototype)],
    ].flatMap((one) => {
      const sources =
        typeof one === 'function'
          ? [String(one)]
          : Object.values(one as Record<string, PropertyDescriptor>).map(({ value }) => `${value}`);
      return sources.flatMap((source) =>
        [...source.matchAll(/\boptions\??\.([A-Za-z]+)/g)].map((found) => found[1] as string),
      );
    });
    expect(read.length).toBeGreaterThan(40);
    expect([...new Set(read)].filter((name) => !known.has(name))).toEqual([]);
  });

  test('an option of the way to the server is refused where the transport is there', async () => {
    const { channel } = await import('../../../src/testing/channel.ts');
    const [near, far] = channel().ends;
    const error = await rejection(connect({ transport: near, keepAlive: true }));
    expect(error.message).toBe('the option keepAlive is refused: the transport is yours already');
    expect(near.destroyed).toBe(false);
    near.destroy();
    far.destroy();
  });
});

describe('a name that nobody knows', () => {
  const unknown = (options: object) => rejection(connect({ port: 1, ...options }));

  test.each([
    ['servrname', 'servername'],
    ['serverName', 'servername'],
    ['rejectUnauthorised', 'rejectUnauthorized'],
    ['alpnProtocols', 'ALPNProtocols'],
    ['prot', 'port'],
    ['deadline', 'deadlines'],
    ['chiper', 'ciphers'],
  ])('%s: did you mean ...?', async (wrong, right) => {
    const error = await unknown({ [wrong]: 'x' });
    expect(error).toMatchObject({ code: 'ERR_TLS_OPTION', phase: 'options' });
    expect(error.message).toContain(`there is no option ${wrong}: did you mean ${right}`);
    expect(error.hint).toContain(right);
  });

  test('far from all: no guess', async () => {
    const error = await unknown({ colour: 'red' });
    expect(error.message).toBe('there is no option colour');
    expect(error.hint).toBeNull();
  });

  test('undefined is as good as not given', async () => {
    const error = await rejection(
      connect({ port: 'x', timeout: undefined, nonsense: undefined } as ConnectOptions),
    );
    expect(error.message).toContain('port must be');
  });

  test('a server says so when it is made, and when its certificate is renewed', () => {
    const make = (options: object) => createServer(options as ServerOptions, () => {});
    expect(() => make({ maxConnection: 5 })).toThrow('did you mean maxConnections?');
    const server = make({});
    expect(() => server.setSecureContext({ certs: 'x' } as never)).toThrow('did you mean cert?');
    expect(() => server.setSecureContext({ maxConnections: 5 } as never)).toThrow(
      'the option maxConnections is refused: it is none of TLS',
    );
  });
});

type Call = (stream: TlsStream) => unknown;

describeTls('a name that nobody knows, in the options of a call', () => {
  test.each<readonly [string, string, Call]>([
    ['read', 'deadline', (stream) => stream.read({ deadlin: 5 } as never)],
    ['write', 'signal', (stream) => stream.write('x', { singal: null } as never)],
    ['shutdown', 'unread', (stream) => stream.shutdown({ unred: 'discard' } as never)],
    ['close', 'wait', (stream) => stream.close({ wiat: false } as never)],
    [
      'toDuplex',
      'allowHalfOpen',
      async (stream) => stream.toDuplex({ allowHalfopen: false } as never),
    ],
  ])('%s: did you mean %s?', (_, right, call) =>
    clean(async (scope) => {
      const { client, server } = await pair(scope, 'TLSv1.3');
      const error = await rejection(Promise.resolve(call(client)));
      expect(error).toMatchObject({ code: 'ERR_TLS_OPTION', hint: `did you mean ${right}?` });
      // Nothing has come of it.
      expect(client.closure.verdict).toBe('open');
      await Promise.all([client.close(), server.close()]);
    })(),
  );

  test('of a server', async () => {
    const server = createServer({}, () => {});
    const listening = rejection(server.listen({ port: 0, hots: '127.0.0.1' } as never));
    expect((await listening).message).toBe('there is no option hots: did you mean host?');
    expect(server.address()).toBeNull();
    for (const deadline of [0, 5]) {
      const closing = rejection(server.close({ deadline, abort: true } as never));
      expect(await closing).toMatchObject({
        message: 'there is no option abort',
        hint: 'there is signal, deadline',
      });
    }
    await server.close();
  });

  test('what listens already is no options', async () => {
    const listening = net.createServer();
    await once(listening.listen(0, '127.0.0.1'), 'listening');
    const server = createServer({}, () => {});
    const address = await server.listen(listening);
    expect(address).toMatchObject({ port: (listening.address() as net.AddressInfo).port });
    await server.close();
    listening.close();
  });

  test.each([
    ['deadlines', { conect: 5 }, 'deadlines.conect', 'did you mean deadlines.connect?'],
    ['linger', { tiem: 5 }, 'linger.tiem', 'did you mean linger.time?'],
    ['linger', { bytes: 5 }, 'linger.bytes', 'there is linger.time, linger.count'],
  ])('of the option %s: %j', async (name, value, wrong, hint) => {
    const error = await rejection(connect({ port: 1, [name]: value } as never));
    expect(error).toMatchObject({ code: 'ERR_TLS_OPTION', hint });
    expect(error.message).toContain(`there is no option ${wrong}`);
  });

  const others: ReadonlyArray<readonly [string, () => unknown]> = [
    ['Transcript', () => new Transcript({ secret: true } as never)],
    // It would have written the secrets into the file.
    ['PcapngRecorder', () => new PcapngRecorder({ secret: false } as never)],
    ['strictServer', () => strictServer(tls.createServer(), { mod: 'report' } as never)],
    ['register', () => register({ exclud: ['localhost'] } as never)],
    // It would have gone by no proxy.
    ['strictConnector', () => strictConnector({ proxi: { uri: 'http://localhost' } } as never)],
    ['proxy', () => strictConnector({ proxy: { url: 'http://localhost' } } as never)],
    ['ClientCertificateFinder', () => new ClientCertificateFinder({ identites: [] } as never)],
    ['find', () => new ClientCertificateFinder().find({ port: 1 }, { htpp: '/' } as never)],
    ['loadIdentities', () => loadIdentities([], { passphrse: 'x' } as never)],
    ['startTls', () => startTls(channel().ends[0], 'smtp', { hostt: 'x' } as never)],
  ];
  test.each(others)('of %s', async (_, call) => {
    const error = await rejection((async () => call())());
    expect(error.code).toBe('ERR_TLS_OPTION');
    expect(error.hint).toMatch(/^did you mean [\w.]+\?$/);
  });
});

describeTls('what options do', () => {
  test(
    'a port as text, as it comes from the environment',
    clean(async (scope) => {
      const { port } = await serve(scope);
      await talk({ host: 'localhost', port: `${port}`, ca: pki().ca });
    }),
  );

  test.each([['443x'], [''], ['0'], ['65536'], ['-1'], [1.5], [null]])(
    'port %j is none',
    async (port) => {
      const error = await rejection(connect({ port } as ConnectOptions));
      expect(error.message).toBe('port must be a whole number from 1 to 65535');
    },
  );

  test.skipIf(process.platform !== 'linux').each([[true], [false]])(
    'keepAlive %j of a server reaches its connections',
    (keepAlive) =>
      clean(async (scope) => {
        const server = await serve(scope, { keepAlive, keepAliveInitialDelay: 5_000 });
        const stream = await connect({ host: 'localhost', port: server.port, ca: pki().ca });
        await stream.write('hello');
        await stream.read();
        // The kernel's table: addresses, state, queues, then which timer runs. 02 is the keep-alive's.
        const hex = (port: number) => port.toString(16).toUpperCase().padStart(4, '0');
        const row = readFileSync('/proc/net/tcp', 'latin1')
          .split('\n')
          .map((line) => line.trim().split(/\s+/))
          .find(
            ([, local, remote]) =>
              local?.endsWith(`:${hex(server.port)}`) &&
              remote?.endsWith(`:${hex(stream.localPort ?? 0)}`),
          );
        expect(row?.[5]?.startsWith('02')).toBe(keepAlive);
        await stream.close();
      })(),
  );

  test(
    'a handshake may take longer than the 120 s of Node, where deadlines.handshake says so',
    clean(async (scope) => {
      const [near, far] = await tcpPair(scope);
      const timers: number[] = [];
      const { setTimeout: original } = tls.TLSSocket.prototype;
      tls.TLSSocket.prototype.setTimeout = function (this: tls.TLSSocket, ms, ...rest) {
        timers.push(ms);
        return original.call(this, ms, ...rest);
      };
      scope.defer(() => {
        tls.TLSSocket.prototype.setTimeout = original;
      });
      const [stream, other] = await Promise.all([
        connect({ transport: near, host: 'localhost', ca: pki().ca }),
        accept(far, { ...pki().server, deadlines: { handshake: 300_000 } }),
      ]);
      expect(timers.filter((ms) => ms > 0 && ms < 300_000)).toEqual([]);
      await Promise.all([stream.close(), other.close()]);
    }),
  );
});

describeNodes('a value that Node itself checks, from some version on', (node, major) => {
  test('is an option error', async () => {
    const program = `
      import { connect } from 'close-notify';
      const codes = {};
      for (const option of [{ typeOfService: 300 }, { blockList: {} }]) {
        const error = await connect({ host: '127.0.0.1', port: 1, ...option }).catch((error) => error);
        codes[Object.keys(option)] = error.code;
      }
      console.log(JSON.stringify(codes));`;
    const args = ['--input-type=module', '-e', program];
    const { stdout } = await promisify(execFile)(node, args, { cwd: ROOT });
    const from = (version: number) => (major < version ? 'ERR_TLS_CONNECT' : 'ERR_TLS_OPTION');
    // Nobody listens on the port of the older Nodes, which pass these by.
    expect(JSON.parse(stdout)).toEqual({ typeOfService: from(24), blockList: from(22) });
  });
});
