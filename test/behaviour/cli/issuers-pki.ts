/** Authorities and identities for `close-notify issuers`, as files. */
import { execFileSync } from 'node:child_process';
import { createPrivateKey, X509Certificate } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { namesOf } from '../../../src/client-cert/match.ts';
import { pki } from '../../support/core-pki.ts';

/** Names that are hard to print: UTF-8, wide characters, several values, escapes, length. */
const SUBJECTS = [
  '/C=JP/O=日本語の組織名/CN=ルート認証局',
  `/O=Multi+OU=Valued/OU=${'long '.repeat(12)}name/OU=${'x'.repeat(60)}/CN=Comma\\, Inc. "quoted"; #1`,
];

/** How many authorities a server names. */
export const COUNTS = [0, 1, 3] as const;
type Count = (typeof COUNTS)[number];

/** Files in a directory of the caller's; with `pki()`'s CA among the authorities. */
export interface IssuersPki {
  /** So many authorities, in PEM. */
  readonly authorities: Readonly<Record<Count, readonly string[]>>;
  /** What `--json` says of them. */
  readonly names: Readonly<Record<Count, ReadonlyArray<{ name: string; der: string }>>>;
  /** A file with them. */
  readonly bundles: Readonly<Record<Exclude<Count, 0>, string>>;
  readonly client: string;
  /** Its key is encrypted with the passphrase of `passFile`. */
  readonly encrypted: string;
  readonly pkcs12: string;
  readonly passFile: string;
  readonly stranger: string;
  readonly expired: string;
  readonly keyless: string;
  /** A folder with `client`, `stranger` and their authority. */
  readonly folder: string;
}

/** Makes them. */
export function makeIssuersPki(directory: string): IssuersPki {
  const openssl = (...args: string[]) =>
    execFileSync('openssl', args, { cwd: directory, stdio: 'pipe' });
  const file = (name: string, ...content: string[]) => {
    const path = join(directory, name);
    writeFileSync(path, content.join('\n'));
    return path;
  };
  const { ca, client, stranger, expired } = pki();
  const [wide = '', long = ''] = SUBJECTS.map((subject, i) =>
    openssl(
      ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'],
      ...['-keyout', `authority${i}.key`, '-days', '30', '-subj', subject, '-utf8'],
    ).toString(),
  );
  const authorities = { 0: [], 1: [ca], 3: [wide, ca, long] } as const;
  const namesIn = (list: readonly string[]) =>
    list.map((pem) => namesOf(new X509Certificate(pem)).subject.toJSON());
  const passphrase = 'sésame, ouvre-toi';
  const passFile = file('pass.txt', `${passphrase}\r`, 'not this line');
  const encryptedKey = createPrivateKey(client.key)
    .export({ type: 'pkcs8', format: 'pem', cipher: 'aes-256-cbc', passphrase })
    .toString();
  const plain = file('client.pem', client.cert, client.key);
  openssl(
    'pkcs12',
    '-export',
    '-in',
    plain,
    '-out',
    'client.p12',
    '-passout',
    `pass:${passphrase}`,
  );
  const folder = join(directory, 'folder');
  mkdirSync(folder);
  file('folder/client.crt', client.cert);
  file('folder/client.key', client.key);
  file('folder/stranger.pem', stranger.cert, stranger.key);
  file('folder/ca.pem', ca);
  return {
    authorities,
    names: { 0: [], 1: namesIn(authorities[1]), 3: namesIn(authorities[3]) },
    bundles: { 1: file('one.pem', ca), 3: file('three.pem', ...authorities[3]) },
    client: plain,
    encrypted: file('encrypted.pem', client.cert, encryptedKey),
    pkcs12: join(directory, 'client.p12'),
    passFile,
    stranger: file('stranger.pem', stranger.cert, stranger.key),
    expired: file('expired.pem', expired.cert, expired.key),
    keyless: file('keyless.pem', client.cert),
    folder,
  };
}
