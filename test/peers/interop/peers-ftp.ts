/**
 * ProFTPD, whose CCC command ends TLS on a control connection that goes on in plaintext (RFC 4217
 * section 12), and a control connection to speak with it.
 */
import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import type { RealServer } from '../../support/starttls-servers.ts';

/**
 * Where ProFTPD may be. Debian lets only one FTP server be installed, and another test has vsftpd, so
 * that its package may have been unpacked into a folder of its own.
 */
const ROOTS = ['/', '/opt/proftpd'];
const root =
  ROOTS.find(
    (one) =>
      existsSync(path.join(one, 'usr/sbin/proftpd')) &&
      existsSync(path.join(one, 'usr/lib/proftpd/mod_tls.so')),
  ) ?? null;

const NOBODY = { uid: 65_534, gid: 65_534, username: 'nobody' };

/** Who may log in. */
export const LOGIN = { user: 'tester', password: 'correct horse' } as const;

export const PROFTPD: RealServer = {
  name: 'ProFTPD',
  protocol: 'ftp',
  package: 'proftpd-core and proftpd-mod-crypto',
  binary: root === null ? null : path.join(root, 'usr/sbin/proftpd'),
  kind: 'per socket',
  configure({ folder, cert, key, file }) {
    const hash = execFileSync('openssl', ['passwd', '-6', LOGIN.password], { encoding: 'utf8' });
    // Started as root it runs as nobody.
    const isRoot = process.getuid?.() === 0;
    const { uid, gid, username } = isRoot ? NOBODY : os.userInfo();
    const group = isRoot ? 'nogroup' : execFileSync('id', ['-gn'], { encoding: 'utf8' }).trim();
    const users = file('users', `${LOGIN.user}:${hash.trim()}:${uid}:${gid}::${folder}:/bin/sh\n`);
    const config = file(
      'proftpd.conf',
      `ServerName "test"
ServerType inetd
User ${username}
Group ${group}
DefaultServer on
ModulePath ${path.join(root ?? '/', 'usr/lib/proftpd')}
LoadModule mod_tls.c
AuthOrder mod_auth_file.c
AuthUserFile ${users}
RequireValidShell off
ScoreboardFile ${folder}/scoreboard
PidFile ${folder}/pid
DelayEngine off
UseReverseDNS off
WtmpLog off
SystemLog none
TransferLog none
TLSEngine on
TLSLog ${folder}/tls.log
TLSProtocol TLSv1.2 TLSv1.3
TLSECCertificateFile ${cert}
TLSECCertificateKeyFile ${key}
`,
    );
    return ['-c', config];
  },
  refusal: /^localhost refused AUTH TLS: '5/,
};

/** Reads lines, without their ends, from whatever gives text piece by piece. */
export function lineReader(more: () => Promise<string>): () => Promise<string> {
  let have = '';
  return async () => {
    for (;;) {
      const end = have.indexOf('\r\n');
      if (end >= 0) {
        const line = have.slice(0, end);
        have = have.slice(end + 2);
        return line;
      }
      have += await more();
    }
  };
}
