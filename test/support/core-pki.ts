/**
 * Certificates for the tests, made by the `openssl` command into a directory that is gone when the
 * process ends. Made once per process.
 */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe } from 'vitest';

/** A certificate and its key, as PEM. */
export interface Identity {
  readonly cert: string;
  readonly key: string;
}

export interface Pki {
  /** The certificate that clients and servers trust. */
  readonly ca: string;
  /** For localhost, 127.0.0.1 and ::1. */
  readonly server: Identity;
  /** For other.example only. */
  readonly otherName: Identity;
  /** As `server`, but its time ran out in 2021. */
  readonly expired: Identity;
  /** For localhost, signed by itself. */
  readonly selfSigned: Identity;
  /** A client's certificate from the CA. */
  readonly client: Identity;
  /** A client's certificate that nobody vouches for. */
  readonly stranger: Identity;
}

let made: Pki | undefined;

/** The certificates; the first call of a process makes them. */
export function pki(): Pki {
  made ??= make();
  return made;
}

function opensslWorks(): boolean {
  try {
    execFileSync('openssl', ['version'], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
}

/**
 * `describe` for tests that need certificates: skipped by name where there is no `openssl` command,
 * and failing there with REQUIRE_PEERS=1.
 */
export const describeTls: (name: string, body: () => void) => void =
  process.env['REQUIRE_PEERS'] === '1' || opensslWorks()
    ? describe
    : (name, body) => describe.skip(`${name} (skipped: no openssl command)`, body);

function make(): Pki {
  const dir = mkdtempSync(join(tmpdir(), 'close-notify-pki-'));
  const openssl = (...args: string[]) => execFileSync('openssl', args, { cwd: dir, stdio: 'pipe' });
  const text = (name: string) => readFileSync(join(dir, name), 'utf8');
  try {
    writeFileSync(
      join(dir, 'ca.cnf'),
      `[ca]
default_ca = here
[here]
dir = .
new_certs_dir = .
database = index.txt
serial = serial
default_md = sha256
policy = any
copy_extensions = copy
unique_subject = no
[any]
commonName = supplied
[req]
distinguished_name = dn
[dn]
[v3_ca]
basicConstraints = critical,CA:TRUE
keyUsage = critical,keyCertSign,cRLSign
`,
    );
    writeFileSync(join(dir, 'index.txt'), '');
    writeFileSync(join(dir, 'serial'), '1000\n');
    const newKey = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'];
    openssl(
      ...['req', '-x509', ...newKey, '-keyout', 'ca.key', '-out', 'ca.pem', '-days', '3650'],
      ...['-subj', '/CN=close-notify test CA', '-config', 'ca.cnf', '-extensions', 'v3_ca'],
    );
    const local = 'DNS:localhost,IP:127.0.0.1,IP:::1';
    const issue = (name: string, altName: string, from: string, to: string): Identity => {
      openssl(
        ...['req', ...newKey, '-keyout', `${name}.key`, '-out', `${name}.csr`],
        ...['-subj', `/CN=${name}`, '-config', 'ca.cnf', '-addext', `subjectAltName=${altName}`],
      );
      openssl(
        ...['ca', '-config', 'ca.cnf', '-batch', '-notext', '-in', `${name}.csr`],
        ...['-out', `${name}.pem`, '-cert', 'ca.pem', '-keyfile', 'ca.key'],
        ...['-startdate', from, '-enddate', to],
      );
      return { cert: text(`${name}.pem`), key: text(`${name}.key`) };
    };
    const selfSign = (name: string): Identity => {
      openssl(
        ...['req', '-x509', ...newKey, '-keyout', `${name}.key`, '-out', `${name}.pem`],
        ...['-days', '3650', '-subj', `/CN=${name}`, '-config', 'ca.cnf'],
        ...['-addext', `subjectAltName=${local}`],
      );
      return { cert: text(`${name}.pem`), key: text(`${name}.key`) };
    };
    const [from, to] = ['20200101000000Z', '20491231000000Z'];
    return {
      ca: text('ca.pem'),
      server: issue('server', local, from, to),
      otherName: issue('other', 'DNS:other.example', from, to),
      expired: issue('expired', local, from, '20210101000000Z'),
      selfSigned: selfSign('self'),
      client: issue('client', 'DNS:client.example', from, to),
      stranger: selfSign('stranger'),
    };
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}
