/** Certificates for the tests of client certificates, made once per process, when first asked for. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll } from 'vitest';
import {
  type Attribute,
  authority,
  bmp,
  certificate,
  commonName,
  type Issuer,
  ia5,
  type Keys,
  keyPem,
  name,
  newKeys,
  printable,
  t61,
} from './cert-der.ts';

function once<T>(make: () => T): () => T {
  let made: { readonly value: T } | undefined;
  return () => {
    made ??= { value: make() };
    return made.value;
  };
}

let folder: string | undefined;

/** A folder of this test file's own, removed after its tests. */
export function testFolder(): string {
  folder ??= mkdtempSync(join(tmpdir(), 'close-notify-cert-'));
  return folder;
}

afterAll(() => {
  if (folder !== undefined) rmSync(folder, { recursive: true, force: true });
});

let files = 0;

/** Writes a file of a name that ends so. @returns its path. */
export function testFile(ending: string, content: string | Uint8Array): string {
  const path = join(testFolder(), `${files++}-${ending}`);
  writeFileSync(path, content);
  return path;
}

/** A new folder with these files. @returns its path. */
export function folderOf(content: Readonly<Record<string, string | Uint8Array>>): string {
  const path = mkdtempSync(join(testFolder(), 'folder-'));
  for (const [file, bytes] of Object.entries(content)) writeFileSync(join(path, file), bytes);
  return path;
}

/** Whom the clients of these tests trust. */
export const serverCa = once(() => authority(commonName('server CA')));

const serverCertificate = (keys: Keys) =>
  certificate({ subject: commonName('localhost'), issuer: serverCa(), keys, altNames: true });

/** A server's certificate for localhost, 127.0.0.1 and ::1. */
export const ecServer = once(() => serverCertificate(newKeys('ec-p256')));
export const rsaServer = once(() => serverCertificate(newKeys('rsa')));

/** As `tls` takes them. */
export const identityOf = ({ pem, keys }: Issuer) => ({ cert: pem, key: keyPem(keys) });

/** Issuers of clients' certificates: root, and an intermediate below it. */
export const root = once(() => authority(name(['O', 'close-notify'], ['CN', 'client root'])));
export const intermediate = once(() =>
  authority(name(['O', 'close-notify'], ['CN', 'client intermediate']), root()),
);
/** Nobody's issuer whom a server lists. */
export const otherRoot = once(() => authority(commonName('another root')));

const caKeys = once(() => newKeys());

/** A CA certificate with this subject; all of them share a key. */
export const caNamed = (subject: Uint8Array): Issuer =>
  certificate({ subject, keys: caKeys(), ca: true, keyUsage: [5, 6] });

/** Names with everything that names can have; each with a marker of its own, `n-0` and on. */
export function variedNames(count: number): Buffer[] {
  const kinds: ReadonlyArray<(marker: Attribute) => Buffer> = [
    (marker) => name(['C', printable('DE')], ['O', 'Müller & Söhne'], marker),
    (marker) => name([['CN', 'several'], ['UID', 'values'], marker]),
    (marker) => name(['O', 'a, "b" + c; <d> = \\e#'], ['OU', ' #leading and trailing '], marker),
    (marker) => name(['DC', ia5('org')], ['DC', ia5('example')], ['CN', '日本語 Ω 😀'], marker),
    (marker) => name(['CN', bmp('Größe')], ['O', t61('Stra\xdfe')], marker),
    (marker) => name(['emailAddress', ia5('ca@example.org')], ['1.2.3.4.5', 'unknown'], marker),
    (marker) => name(['O', 'x'.repeat(120)], marker),
  ];
  return Array.from({ length: count }, (_, i) => {
    const kind = kinds[i % kinds.length] as (typeof kinds)[number];
    return kind(['OU', printable(`n-${i}`)]);
  });
}
