/** docs/peers.md, made from what a run of the matrix measured. */
import { spawnSync } from 'node:child_process';
import { mergeBy } from './doc.ts';
import {
  ENDINGS,
  type Ending,
  type MatrixCase,
  type MatrixPeer,
  type MatrixResult,
  PEERS,
} from './peers-matrix.ts';
import { find } from './peers-parties.ts';

/** A run and what came out of it. */
export type MeasuredPeer = readonly [MatrixCase, MatrixResult];

/** How each peer is asked for its version. */
const VERSIONS: Readonly<
  Record<MatrixPeer, { readonly command: string; readonly args: readonly string[] }>
> = {
  curl: { command: 'curl', args: ['--version'] },
  'gnutls-cli': { command: 'gnutls-cli', args: ['--version'] },
  'gnutls-serv': { command: 'gnutls-serv', args: ['--version'] },
  nginx: { command: 'nginx', args: ['-v'] },
  'nginx-proxy': { command: 'nginx', args: ['-v'] },
  python: { command: 'python3', args: ['--version'] },
  stunnel: { command: 'stunnel4', args: ['-version'] },
};

/** Which Debian package brings it. */
export const PACKAGES: Readonly<Record<MatrixPeer, string>> = {
  curl: 'curl',
  'gnutls-cli': 'gnutls-bin',
  'gnutls-serv': 'gnutls-bin',
  nginx: 'nginx-light',
  'nginx-proxy': 'nginx-light',
  python: 'python3',
  stunnel: 'stunnel4',
};

/** A peer's version, as far as its words may hang on it; null where it is not installed. */
export function versionOf(peer: MatrixPeer): string | null {
  const { command, args } = VERSIONS[peer];
  const binary = find(command);
  if (binary === null) return null;
  const { stdout, stderr } = spawnSync(binary, args, { encoding: 'utf8' });
  const found = /(?:curl|gnutls-\w+|nginx\/|Python|stunnel) ?(\d+\.\d+)/.exec(`${stdout}${stderr}`);
  return found?.[1] ?? null;
}

/** Names the versions that the peers' words hang on. */
export function measuredPeers(): string {
  const names = (Object.keys(PEERS) as MatrixPeer[]).map(
    (peer) => `${VERSIONS[peer].command} ${versionOf(peer)}`,
  );
  return `Measured with ${[...new Set(names)].join(', ')}.`;
}

const introduction =
  () => `<!-- Made by test/peers/interop/peers.test.ts. Do not edit: UPDATE_DOCS=1 npx vitest run test/peers/interop/peers.test.ts -->

# How other programs end a connection

Each way to end, played over TCP against programs that were not made for it, in both TLS versions and
in the roles that they have: what our calls gave, our verdict, and what the program itself said.
It says what to expect of such a peer, and what it will make of a truncation on its side.

The same for OpenSSL's command-line tools, Boost.Asio and \`node:tls\`, with the order of the calls on
both sides, is in [closure.md](closure.md). What a program does with a transport that goes back to
plaintext is tested in test/peers/interop/unwrap-python.test.ts (Python) and
test/peers/interop/peers-ftp.test.ts (FTP's \`CCC\`: ProFTPD as the server, curl as the client).

Nobody is asked to misbehave. For a bare FIN or RST the program is killed and its kernel ends the
connection: with FIN, or with RST where data was unread. To never answer, it is stopped. So it says
nothing in those three. curl and gnutls-cli are clients and gnutls-serv is a server, so that they have
one role. Bodies that curl and the proxy fetch have no length but the connection's.

${measuredPeers()}
`;

/** The whole document. */
export function renderPeers(measured: readonly MeasuredPeer[]): string {
  const sections = (Object.keys(ENDINGS) as Ending[]).map((ending) => {
    const rows = measured.filter(([one]) => one.ending === ending).map(rowOf);
    return `## ${ENDINGS[ending]}\n\n${table(HEAD, mergeBy(mergeBy(rows, 1), 2))}`;
  });
  return [introduction(), ...sections, findings(measured)].join('\n');
}

const HEAD = ['peer', 'TLS', 'its role', 'our calls', 'verdict', 'the peer said'];

function rowOf([{ peer, tls, role }, { calls, closure, said }]: MeasuredPeer): string[] {
  const cause = closure.truncation === null ? '' : ` (${closure.truncation.cause})`;
  return [
    PEERS[peer].label,
    tls,
    role,
    calls.join('; '),
    `${closure.verdict}${cause}`,
    said?.replaceAll('|', '\\|') ?? '–',
  ];
}

/** What the tables come to, computed from them. */
function findings(measured: readonly MeasuredPeer[]): string {
  const those = (holds: (runs: (ending: Ending) => MatrixResult[]) => boolean) =>
    (Object.keys(PEERS) as MatrixPeer[])
      .filter((peer) =>
        holds((ending) =>
          measured
            .filter(([one]) => one.peer === peer && one.ending === ending)
            .map(([, result]) => result),
        ),
      )
      .map((peer) => PEERS[peer].label)
      .join(', ') || 'none';
  const says = (results: MatrixResult[]) => results.map(({ said }) => said).join('\n');
  const silent = those((runs) => runs('we-close').every((run) => run.closure.received === null));
  const blind = those((runs) => says(runs('we-close')) === says(runs('we-cut')));
  return `## What it comes to

- Who sends no close_notify in answer to ours, but ends the transport: ${silent}.
  \`shutdown()\` rejects there with \`ERR_TLS_TRUNCATED\`: after our close_notify nobody can know that all
  came. Who has read all that it wanted takes \`shutdown({ wait: false })\`.
- Who says the same when we close and when the connection is cut: ${blind}.
  To such a peer a truncation is an end like any other; a proxy passes it on as one.
`;
}

function table(head: readonly string[], rows: readonly string[][]): string {
  const line = (cells: readonly string[]) => `| ${cells.join(' | ')} |\n`;
  return line(head) + line(head.map(() => '---')) + rows.map(line).join('');
}
