/** A JVM with JSSE peers in it (`Jsse.java`), as long as the tests of a file run. */
import { execFileSync, spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { pki } from './core-pki.ts';

const PROGRAM = fileURLToPath(new URL('Jsse.java', import.meta.url));

/** Whether there is a JDK: a JRE runs no sources. */
export function hasJdk(): boolean {
  try {
    return execFileSync('java', ['--list-modules'], { encoding: 'utf8' }).includes('jdk.compiler');
  } catch {
    return false;
  }
}

/**
 * Starts it.
 *
 * @returns the port of its control connection, and what ends it.
 * @throws {Error} what it said instead.
 */
export async function startJsse(): Promise<{ port: number; stop: () => void }> {
  const folder = mkdtempSync(join(tmpdir(), 'close-notify-jsse-'));
  const { server } = pki();
  writeFileSync(join(folder, 'key.pem'), server.key);
  writeFileSync(join(folder, 'cert.pem'), server.cert);
  execFileSync(
    'openssl',
    [
      ...['pkcs12', '-export', '-inkey', 'key.pem', '-in', 'cert.pem', '-out', 'identity.p12'],
      ...['-passout', 'pass:changeit'],
    ],
    { cwd: folder, stdio: 'pipe' },
  );
  const child = spawn('java', [PROGRAM, join(folder, 'identity.p12'), 'changeit'], {
    stdio: ['pipe', 'pipe', 'pipe'],
  });
  let complaints = '';
  child.stderr.on('data', (text: Buffer) => {
    complaints += text;
  });
  const stop = () => {
    child.stdin.end();
    rmSync(folder, { recursive: true, force: true });
  };
  const lines = createInterface({ input: child.stdout });
  const port = await new Promise<number>((resolve, reject) => {
    lines.once('line', (line) => resolve(Number(line)));
    child.once('error', reject);
    child.once('close', () => reject(new Error(`java ended: ${complaints}`)));
  });
  return { port, stop };
}
