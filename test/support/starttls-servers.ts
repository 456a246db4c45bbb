/**
 * Real servers that begin in plaintext, each started by a test: on loopback, on a free port, with a
 * folder of its own and the test certificate. They run as `nobody` where the tests run as root, as
 * some of them refuse to be root.
 */
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, chownSync, existsSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { chmod, mkdtemp } from 'node:fs/promises';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import type { StartTlsProtocol } from '../../src/starttls/starttls.ts';
import { after } from '../../src/wait.ts';
import { testPki } from './interop-pki.ts';

/** What a server's settings are made of. */
interface Place {
  readonly folder: string;
  readonly port: number;
  /** Whether the server does TLS; the certificate is there in any case. */
  readonly tls: boolean;
  readonly cert: string;
  readonly key: string;
  /** Writes a file into the folder. @returns its path. */
  file(name: string, text: string): string;
  /** Runs a command that prepares the folder. */
  run(command: string, ...args: string[]): void;
}

/** A real server: which it is, where it is found, and how it is started. */
export interface RealServer {
  readonly name: string;
  readonly protocol: StartTlsProtocol;
  /** The Debian package. */
  readonly package: string;
  readonly binary: string | null;
  /** A daemon listens itself; the others are started for each connection, with it as their stdio. */
  readonly kind: 'daemon' | 'per socket' | 'per pipe';
  /** The arguments, after writing its settings. */
  configure(place: Place): string[];
  /** What the error of `startTls` says where the server does no TLS. */
  readonly refusal: RegExp;
}

function find(name: string, ...more: string[]): string | null {
  const folders = [...more, ...(process.env['PATH'] ?? '').split(':'), '/usr/sbin'];
  return folders.map((folder) => path.join(folder, name)).find((file) => existsSync(file)) ?? null;
}

const POSTGRES = '/usr/lib/postgresql';
/** Debian keeps PostgreSQL's own commands out of PATH, by version; the newest is taken. */
const postgresBin = existsSync(POSTGRES)
  ? readdirSync(POSTGRES)
      .sort((a, b) => Number(b) - Number(a))
      .map((version) => path.join(POSTGRES, version, 'bin'))
  : [];

const isRoot = process.getuid?.() === 0;
/** nobody and nogroup, on Debian. */
const NOBODY = 65_534;
const identity = isRoot ? { uid: NOBODY, gid: NOBODY } : {};
const user = isRoot ? 'nobody' : os.userInfo().username;
const group = () => (isRoot ? 'nogroup' : execFileSync('id', ['-gn'], { encoding: 'utf8' }).trim());

function dovecot(place: Place, protocol: 'imap' | 'pop3'): string[] {
  const { folder, port, tls, cert, key } = place;
  const file = place.file(
    'dovecot.conf',
    `protocols = ${protocol}
base_dir = ${folder}/run
state_dir = ${folder}/state
log_path = /dev/stderr
listen = 127.0.0.1
ssl = ${tls ? 'required' : 'no'}
ssl_cert = <${cert}
ssl_key = <${key}
default_internal_user = ${user}
default_login_user = ${user}
default_internal_group = ${group()}
service anvil {
  chroot =
}
service ${protocol}-login {
  chroot =
  inet_listener ${protocol} {
    port = ${port}
  }
  inet_listener ${protocol}s {
    port = 0
  }
}
passdb {
  driver = static
  args = password=x
}
userdb {
  driver = static
  args = uid=${user} gid=${group()} home=${folder}
}
`,
  );
  return ['-F', '-c', file];
}

/** All real servers, one or more for each protocol. */
export const REAL_SERVERS: readonly RealServer[] = [
  {
    name: 'Exim',
    protocol: 'smtp',
    package: 'exim4-daemon-light',
    binary: find('exim4'),
    // Only root may have it listen; anybody may have it speak on pipes.
    kind: 'per pipe',
    configure({ folder, tls, cert, key, file }) {
      return [
        '-bs',
        '-C',
        file(
          'exim.conf',
          `primary_hostname = localhost
spool_directory = ${folder}
log_file_path = ${folder}/%slog
tls_advertise_hosts = ${tls ? '*' : ''}
tls_certificate = ${cert}
tls_privatekey = ${key}
host_lookup =
keep_environment =
`,
        ),
      ];
    },
    refusal: /^localhost does not offer STARTTLS, only '.*PIPELINING/,
  },
  {
    name: 'Dovecot',
    protocol: 'imap',
    package: 'dovecot-imapd',
    // The package's own program: dovecot itself comes with another package.
    binary: existsSync('/usr/lib/dovecot/imap-login') ? find('dovecot') : null,
    kind: 'daemon',
    configure: (place) => dovecot(place, 'imap'),
    refusal: /^localhost refused STARTTLS: 'a1 BAD /,
  },
  {
    name: 'Dovecot',
    protocol: 'pop3',
    package: 'dovecot-pop3d',
    binary: existsSync('/usr/lib/dovecot/pop3-login') ? find('dovecot') : null,
    kind: 'daemon',
    configure: (place) => dovecot(place, 'pop3'),
    refusal: /^localhost refused STLS: '-ERR /,
  },
  {
    name: 'vsftpd',
    protocol: 'ftp',
    package: 'vsftpd',
    binary: find('vsftpd'),
    kind: 'per socket',
    configure({ folder, tls, cert, key, file }) {
      return [
        file(
          'vsftpd.conf',
          `listen=NO
run_as_launching_user=YES
ssl_ciphers=HIGH
ssl_enable=${tls ? 'YES' : 'NO'}
rsa_cert_file=${cert}
rsa_private_key_file=${key}
anonymous_enable=YES
anon_root=${folder}
secure_chroot_dir=${folder}
seccomp_sandbox=NO
`,
        ),
      ];
    },
    refusal: /^localhost refused AUTH TLS: '530 /,
  },
  {
    name: 'OpenLDAP slapd',
    protocol: 'ldap',
    package: 'slapd',
    binary: find('slapd'),
    kind: 'daemon',
    configure({ port, tls, cert, key, file }) {
      const lines = tls ? `TLSCertificateFile ${cert}\nTLSCertificateKeyFile ${key}\n` : '\n';
      // -d keeps it in the foreground.
      return ['-d', '256', '-h', `ldap://127.0.0.1:${port}`, '-f', file('slapd.conf', lines)];
    },
    refusal: /^localhost refused StartTLS: 'resultCode \d+ /,
  },
  {
    name: 'PostgreSQL',
    protocol: 'postgres',
    package: 'postgresql',
    binary: find('postgres', ...postgresBin),
    kind: 'daemon',
    configure({ folder, port, tls, cert, key, run }) {
      const data = path.join(folder, 'data');
      const initdb = find('initdb', ...postgresBin);
      if (initdb === null) throw new Error('postgres without initdb');
      run(initdb, '-D', data, '-A', 'trust', '--no-sync', '-U', 'test');
      const settings = {
        port,
        listen_addresses: '127.0.0.1',
        unix_socket_directories: '',
        ssl: tls ? 'on' : 'off',
        ssl_cert_file: cert,
        ssl_key_file: key,
        // With authorities to trust, it asks clients for certificates from them.
        ...(tls ? { ssl_ca_file: cert } : {}),
        fsync: 'off',
      };
      return [
        '-D',
        data,
        ...Object.entries(settings).flatMap(([name, to]) => ['-c', `${name}=${to}`]),
      ];
    },
    refusal: /^localhost refused SSLRequest: 'N'$/,
  },
  {
    name: 'MariaDB',
    protocol: 'mysql',
    package: 'mariadb-server-core',
    binary: find('mariadbd'),
    kind: 'daemon',
    configure({ folder, port, tls, cert, key }) {
      return [
        '--no-defaults', // has to be the first
        `--datadir=${folder}`,
        `--tmpdir=${folder}`,
        `--socket=${folder}/socket`,
        `--port=${port}`,
        '--bind-address=127.0.0.1',
        // No database has to be made for a handshake.
        '--skip-grant-tables',
        '--skip-innodb',
        '--default-storage-engine=MyISAM',
        ...(tls ? [`--ssl-cert=${cert}`, `--ssl-key=${key}`] : ['--skip-ssl']),
      ];
    },
    refusal: /^localhost does not offer STARTTLS, only 'plaintext'$/,
  },
  {
    name: 'Prosody',
    protocol: 'xmpp',
    package: 'prosody',
    binary: find('prosody'),
    kind: 'daemon',
    configure({ folder, port, tls, cert, key, file }) {
      return [
        '-F',
        '--config',
        file(
          'prosody.cfg.lua',
          `data_path = "${folder}"
modules_enabled = { ${tls ? '"tls", ' : ''}"saslauth" }
modules_disabled = { "s2s"${tls ? '' : ', "tls"'} }
interfaces = { "127.0.0.1" }
c2s_ports = { ${port} }
c2s_direct_tls_ports = {}
c2s_require_encryption = ${tls}
log = { info = "*console" }
ssl = { key = "${key}", certificate = "${cert}" }
VirtualHost "localhost"
`,
        ),
      ];
    },
    refusal: /^localhost does not offer STARTTLS, only '<stream:features/,
  },
];

/** A server that runs. */
export interface RunningServer {
  readonly port: number;
  /** Ends it and all its processes; its folder is gone then. */
  stop(): Promise<void>;
}

/** Starts a server; resolves when it takes connections. */
export async function startServer(server: RealServer, tls: boolean): Promise<RunningServer> {
  const { binary } = server;
  if (binary === null) throw new Error(`${server.name} is not installed`);
  const folder = await mkdtemp(path.join(os.tmpdir(), 'close-notify-starttls-'));
  const removeFolder = () => rmSync(folder, { recursive: true, force: true });
  try {
    const place = await prepare(folder, await freePort(), tls);
    const args = server.configure(place);
    return server.kind === 'daemon'
      ? await startDaemon(binary, args, place.port, removeFolder)
      : await startPerConnection(binary, args, server.kind, removeFolder);
  } catch (error) {
    removeFolder();
    throw error;
  }
}

async function prepare(folder: string, port: number, tls: boolean): Promise<Place> {
  const give = (file: string) => {
    if (isRoot) chownSync(file, NOBODY, NOBODY);
  };
  const file = (name: string, text: string) => {
    const whole = path.join(folder, name);
    writeFileSync(whole, text);
    chmodSync(whole, 0o600); // as keys have to be
    give(whole);
    return whole;
  };
  await chmod(folder, 0o700);
  give(folder);
  const { cert, key } = await testPki();
  return {
    folder,
    port,
    tls,
    cert: file('cert.pem', cert),
    key: file('key.pem', key),
    file,
    run: (command, ...args) =>
      void execFileSync(command, args, { ...identity, cwd: folder, stdio: 'pipe' }),
  };
}

/** A port that was free a moment ago: these servers cannot be told to pick one and say which. */
async function freePort(): Promise<number> {
  const probe = net.createServer().listen(0, '127.0.0.1');
  await once(probe, 'listening');
  const { port } = probe.address() as net.AddressInfo;
  probe.close();
  await once(probe, 'close');
  return port;
}

/** A process at the head of a group, so that it can be ended with all that it has started. */
class Group {
  readonly #child;
  readonly #closed: Promise<unknown>;
  output = '';
  over = false;

  constructor(
    binary: string,
    args: readonly string[],
    stdio: ['ignore' | 'pipe' | net.Socket, 'pipe' | net.Socket, 'pipe'],
  ) {
    this.#child = spawn(binary, args, { ...identity, stdio, detached: true, cwd: '/' });
    const { stdout, stderr } = this.#child;
    for (const stream of [stdio[0] === 'ignore' ? stdout : null, stderr]) {
      stream?.setEncoding('utf8').on('data', (text: string) => {
        this.output += text;
      });
    }
    // 'close' is when the last process that holds its pipes has gone.
    this.#closed = new Promise<void>((resolve) => {
      this.#child.on('close', resolve);
      this.#child.on('error', (error) => {
        this.output += error.message;
        resolve();
      });
    }).then(() => {
      this.over = true;
    });
  }

  get stdin() {
    return this.#child.stdin;
  }

  get stdout() {
    return this.#child.stdout;
  }

  async stop(): Promise<void> {
    this.#signal('SIGTERM');
    const cancel = after(5_000, () => this.#signal('SIGKILL'));
    await this.#closed;
    cancel();
    // Those that let go of the pipes, if any.
    this.#signal('SIGKILL');
  }

  #signal(name: NodeJS.Signals): void {
    try {
      if (this.#child.pid !== undefined) process.kill(-this.#child.pid, name);
    } catch {
      // The group is empty.
    }
  }
}

async function startDaemon(
  binary: string,
  args: readonly string[],
  port: number,
  onStopped: () => void,
): Promise<RunningServer> {
  const group = new Group(binary, args, ['ignore', 'pipe', 'pipe']);
  while (!(await answers(port))) {
    if (group.over) throw new Error(`${binary} ended:\n${group.output}`);
    await new Promise((resolve) => setImmediate(resolve));
  }
  return {
    port,
    async stop() {
      await group.stop();
      onStopped();
    },
  };
}

async function answers(port: number): Promise<boolean> {
  const socket = net.connect(port, '127.0.0.1');
  try {
    await once(socket, 'connect');
    return true;
  } catch {
    return false;
  } finally {
    socket.destroy();
  }
}

/** As inetd would. */
async function startPerConnection(
  binary: string,
  args: readonly string[],
  kind: 'per socket' | 'per pipe',
  onStopped: () => void,
): Promise<RunningServer> {
  const groups: Group[] = [];
  const sockets: net.Socket[] = [];
  const listener = net.createServer(
    { pauseOnConnect: kind === 'per socket', allowHalfOpen: true, noDelay: true },
    (socket) => {
      socket.on('error', () => {});
      sockets.push(socket);
      if (kind === 'per socket') {
        groups.push(new Group(binary, args, [socket, socket, 'pipe']));
        // The process has it now.
        socket.destroy();
        return;
      }
      const group = new Group(binary, args, ['pipe', 'pipe', 'pipe']);
      groups.push(group);
      // A process that has ended reads no more.
      group.stdin?.on('error', () => {});
      if (group.stdin !== null) socket.pipe(group.stdin);
      group.stdout?.pipe(socket);
    },
  );
  listener.listen(0, '127.0.0.1');
  await once(listener, 'listening');
  return {
    port: (listener.address() as net.AddressInfo).port,
    async stop() {
      listener.close();
      await Promise.all(groups.map((group) => group.stop()));
      for (const socket of sockets) socket.destroy();
      onStopped();
    },
  };
}
