/** Real servers that ask for client certificates, each on a free port of loopback, killed by its test. */
import { existsSync } from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { describe, test } from 'vitest';
import type { Issuer } from './cert-der.ts';
import { keyPem } from './cert-der.ts';
import { ecServer, testFile, testFolder } from './cert-pki.ts';
import type { Scope } from './core-scope.ts';
import { turn } from './core-scope.ts';
import { freePort } from './core-transport.ts';
import { PeerProcess } from './interop-process.ts';

function find(name: string): string | null {
  const folders = [...(process.env['PATH'] ?? '').split(':'), '/usr/sbin'];
  return folders.map((one) => path.join(one, name)).find((file) => existsSync(file)) ?? null;
}

const APACHE_MODULES = '/usr/lib/apache2/modules';

/** The servers that may be missing, with the Debian packages that bring them. */
export const SERVERS = {
  openssl: { label: 'openssl', package: 'openssl', binary: find('openssl') },
  nginx: { label: 'nginx', package: 'nginx-light', binary: find('nginx') },
  apache: {
    label: 'Apache httpd',
    package: 'apache2-bin',
    binary: existsSync(`${APACHE_MODULES}/mod_ssl.so`) ? find('apache2') : null,
  },
  gnutls: { label: 'gnutls-serv', package: 'gnutls-bin', binary: find('gnutls-serv') },
} as const;
export type ServerName = keyof typeof SERVERS;

/** `describe` for tests that need a server: skipped by name where it is missing, unless REQUIRE_PEERS=1. */
export function describeServer(server: ServerName, name: string, body: () => void): void {
  const { label, package: debian, binary } = SERVERS[server];
  if (binary !== null) {
    describe(name, body);
    return;
  }
  describe(name, () => {
    test.skipIf(process.env['REQUIRE_PEERS'] !== '1')(`needs ${label} (${debian})`, () => {
      throw new Error(`${label} is not installed, and REQUIRE_PEERS=1 asks for all peers`);
    });
  });
}

const made = new Map<Issuer, { cert: string; key: string }>();

/** A certificate and its key as files. */
export function filesOf(issuer: Issuer): { cert: string; key: string } {
  let files = made.get(issuer);
  if (files === undefined) {
    files = {
      cert: testFile('cert.pem', issuer.pem),
      key: testFile('key.pem', keyPem(issuer.keys)),
    };
    made.set(issuer, files);
  }
  return files;
}

/** A real server that listens. */
export interface Running {
  readonly port: number;
  readonly process: PeerProcess;
}

/** `openssl s_server`, on a port that it chose. */
export async function sServer(
  scope: Scope,
  args: readonly string[],
  server: Issuer = ecServer(),
): Promise<Running> {
  const { cert, key } = filesOf(server);
  const child = new PeerProcess('openssl', [
    ...['s_server', '-accept', '127.0.0.1:0', '-cert', cert, '-key', key, ...args],
  ]);
  scope.peersStay();
  scope.defer(() => child.kill());
  const port = await child.until((output) => /^ACCEPT .*:(\d+)$/m.exec(output)?.[1]);
  return { port: Number(port), process: child };
}

/** Starts a server that has to be told its port; another one if that is taken meanwhile. */
async function onFreePort(
  scope: Scope,
  start: (port: number) => readonly [command: string, args: readonly string[]],
): Promise<Running> {
  for (let attempt = 1; ; attempt++) {
    const port = await freePort();
    const [command, args] = start(port);
    const child = new PeerProcess(command, args);
    scope.peersStay();
    scope.defer(() => child.kill());
    if (await listening(port, child)) return { port, process: child };
    if (attempt === 5) throw new Error(`${command}: ${child.exit}\n${child.output}`);
  }
}

/** Waits until somebody listens. @returns false when the process has ended instead. */
async function listening(port: number, child: PeerProcess): Promise<boolean> {
  while (child.exit === null) {
    const connected = await new Promise<boolean>((resolve) => {
      const socket = net.connect(port, '127.0.0.1');
      socket.once('connect', () => resolve(true));
      socket.once('error', () => resolve(false));
      socket.once('close', () => socket.destroy());
      socket.once('connect', () => socket.destroy());
    });
    if (connected) return child.exit === null;
    await turn();
  }
  return false;
}

/** nginx, with these lines in its server block. */
export function nginx(scope: Scope, lines: readonly string[]): Promise<Running> {
  const { cert, key } = filesOf(ecServer());
  return onFreePort(scope, (port) => {
    const folder = testFolder();
    const config = testFile(
      'nginx.conf',
      `daemon off;
master_process off;
pid ${folder}/nginx-${port}.pid;
error_log stderr;
events {}
http {
  access_log off;
  client_body_temp_path ${folder}/nginx-body;
  proxy_temp_path ${folder}/nginx-proxy;
  fastcgi_temp_path ${folder}/nginx-fastcgi;
  uwsgi_temp_path ${folder}/nginx-uwsgi;
  scgi_temp_path ${folder}/nginx-scgi;
  server {
    listen 127.0.0.1:${port} ssl;
    ssl_protocols TLSv1.2 TLSv1.3;
    ssl_certificate ${cert};
    ssl_certificate_key ${key};
    ${lines.join('\n    ')}
    location / {
      return 200 "hello $ssl_client_verify\\n";
    }
  }
}
`,
    );
    return [SERVERS.nginx.binary ?? 'nginx', ['-p', folder, '-e', 'stderr', '-c', config]] as const;
  });
}

/** Apache httpd, with these lines in its virtual host. */
export function apache(
  scope: Scope,
  lines: readonly string[],
  address = '127.0.0.1',
): Promise<Running> {
  const { cert, key } = filesOf(ecServer());
  return onFreePort(scope, (port) => {
    const folder = testFolder();
    const modules = ['mpm_event', 'authz_core', 'ssl', 'socache_shmcb'].map(
      (name) => `LoadModule ${name}_module ${APACHE_MODULES}/mod_${name}.so`,
    );
    const config = testFile(
      'apache.conf',
      `${modules.join('\n')}
ServerName localhost
ServerRoot ${folder}
DefaultRuntimeDir ${folder}
PidFile ${folder}/apache-${port}.pid
ErrorLog ${folder}/apache-${port}.log
DocumentRoot ${folder}
User #${process.getuid?.() === 0 ? 65534 : process.getuid?.()}
Listen 127.0.0.1:${port}
${address === '127.0.0.1' ? '' : `Listen ${address}:${port}`}
SSLSessionCache none
<VirtualHost *:${port}>
  SSLEngine on
  SSLCertificateFile ${cert}
  SSLCertificateKeyFile ${key}
  ${lines.join('\n  ')}
</VirtualHost>
`,
    );
    return [SERVERS.apache.binary ?? 'apache2', ['-X', '-f', config]] as const;
  });
}

/** gnutls-serv, with these arguments. */
export function gnutlsServ(scope: Scope, args: readonly string[]): Promise<Running> {
  const { cert, key } = filesOf(ecServer());
  return onFreePort(scope, (port) => [
    SERVERS.gnutls.binary ?? 'gnutls-serv',
    ['--port', String(port), '--x509certfile', cert, '--x509keyfile', key, ...args],
  ]);
}
