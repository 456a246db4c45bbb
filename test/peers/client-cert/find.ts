/** Finding, and what was found in a form that compares well. */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import {
  ClientCertificateFinder,
  type FindOptions,
  type FindResult,
} from '../../../src/client-cert/finder.ts';
import { hex } from '../../../src/record/handshake.ts';
import { serverCa } from '../../support/cert-pki.ts';

/** Finds at localhost, trusting the servers of these tests. */
export const find = (port: number, options: FindOptions = {}): Promise<FindResult> =>
  new ClientCertificateFinder({ ca: serverCa().pem }).find({ host: 'localhost', port }, options);

/** The encodings of the names, in the server's order. */
export const dersOf = ({ issuers }: FindResult): string[] =>
  [...issuers].map(({ der }) => hex(der));

const run = promisify(execFile);

/** The lines of s_client under this heading, up to the next one. */
export async function listedByClient(port: number, version: string): Promise<string[]> {
  const args = ['s_client', '-connect', `127.0.0.1:${port}`, '-nameopt', 'RFC2253,-esc_msb,utf8'];
  const child = run('openssl', [...args, version === 'TLSv1.2' ? '-tls1_2' : '-tls1_3']);
  child.child.stdin?.end();
  // A server that requires a certificate makes it end with an error.
  const { stdout } = await child.catch((error: { stdout: string }) => error);
  if (stdout.includes('No client certificate CA names sent')) return [];
  const [, list] =
    /^Acceptable client certificate CA names\n([\s\S]*?)\n(?:Client Cert|Request)/m.exec(
      stdout,
    ) ?? [null, null];
  if (list === null || list === undefined) throw new Error(stdout);
  return list.split('\n');
}

/** The markers of `variedNames` in these texts, in their order. */
export const markersOf = (texts: Iterable<unknown>): string[] =>
  Array.from(texts, (text) => /n-\d+/.exec(String(text))?.[0] ?? String(text));
