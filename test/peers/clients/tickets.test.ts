/**
 * Clients that only write, and close without having read: what a TLS 1.3 server sends them behind the handshake stands
 * unread at their socket, so their system sends a reset and drops the end of what they wrote. With `tickets: 0` nothing
 * stands there.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { createServer, type ServerOptions } from '../../../src/index.ts';
import type { TlsStream } from '../../../src/stream/tls-stream.ts';
import { ecServer, identityOf, serverCa, testFile, testFolder } from '../../support/cert-pki.ts';
import { clean, type Scope } from '../../support/core-scope.ts';
import { only, pattern } from '../../support/core-streams.ts';
import { PeerProcess } from '../../support/interop-process.ts';

const SIZE = 3_000_000;

const there = (command: string, ...args: string[]) => spawnSync(command, args).status === 0;

interface Uploader {
  readonly name: string;
  /** Where it is to be had. */
  readonly from: string;
  readonly there: boolean;
  upload(
    scope: Scope,
    file: string,
    tickets: number,
  ): Promise<{ peer: PeerProcess; got: Promise<Got> }>;
}

interface Got {
  readonly digest: string;
  readonly verdict: string;
}

const digestOf = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');

/** Reads slowly at first: what the client wrote stands in the kernels when it closes. */
async function take(stream: TlsStream): Promise<Got> {
  const hash = createHash('sha256');
  try {
    for (;;) {
      const bytes = await stream.read();
      if (bytes === null) break;
      hash.update(bytes);
      await new Promise(setImmediate);
    }
  } catch {
    // The verdict says how it ended.
  }
  await stream.close().catch(() => {});
  return { digest: hash.digest('hex'), verdict: stream.closure.verdict };
}

async function serve(
  scope: Scope,
  tickets: number,
  onStream: (stream: TlsStream) => unknown,
): Promise<number> {
  const options: ServerOptions = {
    ...{ ...identityOf(ecServer()), ...only('TLSv1.3'), engine: 'native', tickets },
    onError: () => {},
  };
  const server = createServer(options, onStream);
  scope.defer(() => server.close({ deadline: 0 }));
  return (await server.listen(0, '127.0.0.1')).port;
}

/** A server that takes one upload, and a client that is a process. */
const direct =
  (start: (port: number, file: string) => PeerProcess): Uploader['upload'] =>
  async (scope, file, tickets) => {
    let done: (got: Promise<Got>) => void = () => {};
    const got = new Promise<Got>((resolve) => {
      done = resolve;
    });
    const port = await serve(scope, tickets, (stream) => done(take(stream)));
    const peer = start(port, file);
    scope.peersStay();
    scope.defer(() => peer.kill());
    return { peer, got };
  };

const PYTHON = `
import socket, ssl, sys
context = ssl.create_default_context(cafile=sys.argv[3])
context.minimum_version = ssl.TLSVersion.TLSv1_3
connection = context.wrap_socket(
    socket.create_connection(("127.0.0.1", int(sys.argv[1]))), server_hostname="localhost")
connection.sendall(open(sys.argv[2], "rb").read())
connection.close()
`;

const GO = `package main

import (
	"crypto/tls"
	"io"
	"os"
)

func main() {
	connection, err := tls.Dial("tcp", "127.0.0.1:"+os.Args[1], &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		panic(err)
	}
	file, err := os.Open(os.Args[2])
	if err != nil {
		panic(err)
	}
	if _, err := io.Copy(connection, file); err != nil {
		panic(err)
	}
	if err := connection.Close(); err != nil {
		panic(err)
	}
}
`;

let built: string | null = null;

/** Built once: its TLS is compiled with it, which takes a while. */
function goProgram(): string {
  if (built === null) {
    const program = testFile('upload', '');
    execFileSync('go', ['build', '-o', program, testFile('upload.go', GO)], {
      env: { ...process.env, GOCACHE: testFolder(), GOFLAGS: '-mod=mod', GO111MODULE: 'off' },
    });
    built = program;
  }
  return built;
}

/** FTP over TLS (RFC 4217), as far as one upload needs it: the file comes by a connection of its own. */
async function ftp(scope: Scope, tickets: number, onUpload: (stream: TlsStream) => void) {
  const dataPort = await serve(scope, tickets, onUpload);
  const answers: Readonly<Record<string, string>> = {
    FEAT: '211-Features\r\n AUTH TLS\r\n PASV\r\n PBSZ\r\n PROT\r\n211 End',
    PASV: `227 Entering Passive Mode (127,0,0,1,${dataPort >> 8},${dataPort & 255})`,
    PASS: '230 Welcome',
    PWD: '257 "/"',
    QUIT: '221 Bye',
    USER: '331 Password?',
  };
  let stored: () => void = () => {};
  const whole = new Promise<void>((resolve) => {
    stored = resolve;
  });
  const port = await serve(scope, 2, async (stream) => {
    await stream.write('220 Ready\r\n');
    let text = '';
    for await (const bytes of stream) {
      text += Buffer.from(bytes).toString();
      for (let end = text.indexOf('\r\n'); end >= 0; end = text.indexOf('\r\n')) {
        const command = text.slice(0, end).split(' ')[0]?.toUpperCase() ?? '';
        text = text.slice(end + 2);
        if (command === 'STOR') {
          await stream.write('150 Go on\r\n');
          await whole;
          await stream.write('226 Stored\r\n');
        } else {
          await stream.write(`${answers[command] ?? '200 OK'}\r\n`);
        }
      }
    }
    await stream.close();
  });
  return { port, stored };
}

const UPLOADERS: readonly Uploader[] = [
  {
    name: 'ncat --send-only',
    from: 'ncat',
    there: there('ncat', '--version'),
    upload: direct(
      (port, file) =>
        new PeerProcess('sh', ['-c', `exec ncat --ssl --send-only 127.0.0.1 ${port} < ${file}`]),
    ),
  },
  {
    name: 'Python that only writes',
    from: 'python3',
    there: there('python3', '-c', 'import ssl'),
    upload: direct(
      (port, file) =>
        new PeerProcess('python3', [
          ...['-c', PYTHON, String(port), file, testFile('ca.pem', serverCa().pem)],
        ]),
    ),
  },
  {
    name: 'Go that only writes',
    from: 'golang-go',
    there: there('go', 'version'),
    upload: direct((port, file) => new PeerProcess(goProgram(), [String(port), file])),
  },
  {
    name: 'lftp',
    from: 'lftp',
    there: there('lftp', '--version'),
    upload: async (scope, file, tickets) => {
      let done: (got: Promise<Got>) => void = () => {};
      const got = new Promise<Got>((resolve) => {
        done = resolve;
      });
      const server = await ftp(scope, tickets, (stream) => {
        const taken = take(stream);
        void taken.then(() => server.stored());
        done(taken);
      });
      const settings = [
        ...['ssl:verify-certificate no', 'ftp:ssl-protect-data yes', 'ftp:use-mlsd no'],
        ...['net:max-retries 1', 'net:timeout 10', 'ftp:use-allo no', 'ftp:use-site-utime no'],
      ];
      const peer = new PeerProcess('lftp', [
        ...['-e', `${settings.map((one) => `set ${one};`).join(' ')} put ${file} -o f; quit`],
        ...['-u', 'user,password', `ftps://127.0.0.1:${server.port}`],
      ]);
      scope.peersStay();
      scope.defer(() => peer.kill());
      return { peer, got };
    },
  },
];

describe.each(UPLOADERS)('an upload by $name', ({ from, there: isThere, upload }) => {
  if (!isThere) {
    test.skipIf(process.env['REQUIRE_PEERS'] !== '1')(`needs ${from}`, () => {
      throw new Error(`${from} is not installed, and REQUIRE_PEERS=1 asks for all peers`);
    });
    return;
  }

  test(
    'tickets: 0: nothing is lost',
    () =>
      clean(async (scope) => {
        const bytes = pattern(SIZE);
        const file = testFile('upload', bytes);
        for (let nth = 0; nth < 3; nth++) {
          const { peer, got } = await upload(scope, file, 0);
          const { digest, verdict } = await got;
          expect(digest, peer.output).toBe(digestOf(bytes));
          // Not every client says close_notify; none is reset.
          expect(verdict).toMatch(/^(secure|one-sided|truncated)$/);
          expect(await peer.ended(), peer.output).toBe('exit 0');
        }
      })(),
    120_000,
  );
});
