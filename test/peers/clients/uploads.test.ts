/** What reaches a server that was made strict, cut on its way. */
import https from 'node:https';
import tls from 'node:tls';
import { expect, test } from 'vitest';
import { strictServer } from '../../../src/index.ts';
import { CuttingProxy, type Passage, type Plan } from '../../support/adapter-proxy.ts';
import { PARTS, TEXT } from '../../support/adapter-servers.ts';
import { describeTls } from '../../support/core-pki.ts';
import { clean, type Scope, turn } from '../../support/core-scope.ts';
import { testPki } from '../../support/interop-pki.ts';
import { cutsOf } from './clients.ts';

/** What a server made of one upload. */
interface Upload {
  readonly outcome: 'whole' | 'cut' | Error;
  readonly bytes: Buffer;
}

/** The server reads in this process: it has, after a turn of the event loop. */
const settled = async () => {
  for (let turns = 0; turns < 3; turns++) await turn();
};

async function listen(scope: Scope, server: tls.Server): Promise<number> {
  server.on('tlsClientError', () => {});
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  scope.defer(() => new Promise((resolve) => server.close(resolve)));
  return (server.address() as import('node:net').AddressInfo).port;
}

/** The parts, one record or more each, and then the end. */
async function send(to: NodeJS.WritableStream): Promise<void> {
  for (const part of PARTS) {
    await new Promise<void>((resolve) => to.write(part, () => resolve()));
    await turn();
  }
  to.end();
}

/** Uploads through a proxy with this plan. @returns what became of it, and what passed. */
type Play = (plan: Plan) => Promise<{ upload: Upload; passage: Passage }>;

async function overTls(scope: Scope, strict: boolean): Promise<Play> {
  const { cert, key, ca } = await testPki();
  let done: (upload: Upload) => void = () => {};
  const server = tls.createServer({ cert, key }, (socket) => {
    const chunks: Buffer[] = [];
    const bytes = () => Buffer.concat(chunks);
    socket.on('data', (chunk) => chunks.push(chunk));
    socket.on('end', () => done({ outcome: 'whole', bytes: bytes() }));
    socket.on('error', (outcome) => done({ outcome, bytes: bytes() }));
  });
  const port = await listen(scope, strict ? strictServer(server) : server);
  return (plan) =>
    through(
      port,
      plan,
      (upload) => (done = upload),
      async (to) => {
        const socket = tls.connect({ port: to, host: '127.0.0.1', servername: 'localhost', ca });
        socket.on('error', () => {});
        await send(socket);
        return () => socket.destroy();
      },
    );
}

async function overHttps(scope: Scope, strict: boolean): Promise<Play> {
  const { cert, key, ca } = await testPki();
  let done: (upload: Upload) => void = () => {};
  const server = https.createServer({ cert, key }, (request, response) => {
    const chunks: Buffer[] = [];
    const bytes = () => Buffer.concat(chunks);
    request.on('data', (chunk) => chunks.push(chunk));
    request.on('end', () => {
      done({ outcome: request.complete ? 'whole' : 'cut', bytes: bytes() });
      response.end();
    });
    request.on('error', (outcome) => done({ outcome, bytes: bytes() }));
  });
  server.on('clientError', (_error, socket) => socket.destroy());
  const port = await listen(scope, strict ? strictServer(server) : server);
  return (plan) =>
    through(
      port,
      plan,
      (upload) => (done = upload),
      async (to) => {
        const request = https.request({
          port: to,
          host: '127.0.0.1',
          servername: 'localhost',
          ca,
          method: 'POST',
          agent: false,
        });
        request.on('error', () => {});
        request.on('response', (response) => response.resume());
        await send(request);
        return () => request.destroy();
      },
    );
}

async function through(
  port: number,
  plan: Plan,
  onDone: (done: (upload: Upload) => void) => void,
  client: (port: number) => Promise<() => void>,
): Promise<{ upload: Upload; passage: Passage }> {
  const proxy = await CuttingProxy.listen(port, plan, settled);
  try {
    const result = new Promise<Upload>((resolve) => onDone(resolve));
    const end = await client(proxy.port);
    const upload = await result;
    end();
    return { upload, passage: proxy.passages[0]! };
  } finally {
    await proxy.close();
  }
}

describeTls('uploads', () => {
  test.each([
    ['a tls.Server', overTls],
    ['an https.Server', overHttps],
  ] as const)(
    '%s that is strict takes none that was cut for whole, and all that are whole',
    async (_name, make) => {
      await clean(async (scope) => {
        const play = await make(scope, true);
        const { upload, passage } = await play('pass');
        expect(upload.outcome).toBe('whole');
        expect(upload.bytes.equals(TEXT)).toBe(true);
        // Record 0 is the client's Finished: without it there is no connection to speak of.
        const cuts = cutsOf(passage, { answer: 0, request: 9 }).filter(
          (plan) => typeof plan === 'object' && Number(plan.record) > 1,
        );
        expect(cuts.length).toBeGreaterThan(50);
        for (const cut of cuts) {
          const played = await play({ ...(cut as object), victim: 'server' } as Plan);
          const { outcome, bytes } = played.upload;
          const told = `${JSON.stringify(cut)}: ${outcome}, ${bytes.length} bytes`;
          if (outcome === 'whole') expect(bytes.equals(TEXT), told).toBe(true);
          else expect(outcome, told).toBeInstanceOf(Error);
        }
      })();
    },
    120_000,
  );

  test('as it is, a tls.Server takes one that was cut for whole', async () => {
    await clean(async (scope) => {
      const play = await overTls(scope, false);
      const { upload } = await play({
        direction: 'to-server',
        record: 6,
        bytes: 100,
        how: 'fin',
      });
      expect(upload.outcome).toBe('whole');
      expect(upload.bytes.length).toBeLessThan(TEXT.length);
    })();
  });
});
