/**
 * A certificate for tests, made by OpenSSL at run time: no key is kept in the repository, and
 * nothing expires. Made once per test file and removed after it.
 */
import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { afterAll } from 'vitest';

/** A self-signed certificate for localhost and 127.0.0.1 (EC P-256), as files and as text. */
export interface TestPki {
  readonly certFile: string;
  readonly keyFile: string;
  readonly cert: string;
  readonly key: string;
  /** What a client needs to verify it. */
  readonly ca: string;
}

const run = promisify(execFile);
let made: Promise<TestPki> | undefined;
let directory: Promise<string> | undefined;

/** A directory of this test file's own, removed after its tests. */
export function temporaryDirectory(): Promise<string> {
  directory ??= mkdtemp(path.join(os.tmpdir(), 'close-notify-test-'));
  return directory;
}

/** The certificate; the first call makes it. */
export function testPki(): Promise<TestPki> {
  made ??= make();
  return made;
}

async function make(): Promise<TestPki> {
  const folder = await temporaryDirectory();
  const certFile = path.join(folder, 'cert.pem');
  const keyFile = path.join(folder, 'key.pem');
  await run('openssl', [
    ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'],
    ...['-keyout', keyFile, '-out', certFile, '-days', '2', '-subj', '/CN=localhost'],
    ...['-addext', 'subjectAltName=DNS:localhost,IP:127.0.0.1'],
  ]);
  const [cert, key] = await Promise.all([readFile(certFile, 'utf8'), readFile(keyFile, 'utf8')]);
  return { certFile, keyFile, cert, key, ca: cert };
}

afterAll(async () => {
  if (directory !== undefined) await rm(await directory, { recursive: true, force: true });
});
