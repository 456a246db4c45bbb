/** docs/closure.md, made from what a run of the scenarios measured. */
import { SCENARIOS } from '../../../src/cli/scenarios.ts';
import { boostVersions } from '../../support/interop-peers.ts';
import type { Case, PartyResult, Result } from './matrix.ts';

/** A case and what came out of it. */
export type Measured = readonly [Case, Result];

/** Names the versions that Boost's reports hang on. */
export const measuredWith = (versions: string | null): string =>
  `Boost.Asio's reports were measured with ${versions}.`;

const INTRODUCTION = `<!-- Made by test/peers/interop/closure.test.ts. Do not edit: UPDATE_DOCS=1 npx vitest run test/peers/interop -->

# How connections end

A TLS party that is done sends a \`close_notify\` alert: "This alert notifies the recipient that the
sender will not send any more messages on this connection" (RFC 9846 section 6.1; RFC 5246 section
7.2.1 for TLS 1.2). Once an authenticated close_notify has arrived, the bytes before it are all that
the peer sent. The transport's EOF or reset proves nothing of the kind: anyone on the path can cause
it, and "the receiver cannot know that all the data that was sent has been received" (RFC 9846
section 6.1). A connection that ends like that is truncated.

close-notify keeps a record of how each connection ended, \`stream.closure\`. Its verdict says it in
one word:

| verdict | in plain words |
| --- | --- |
| \`open\` | Nothing has ended yet, or only one direction has. |
| \`secure\` | close_notify was sent and received: all that the peer sent has come, and ours was handed to the transport behind all that we wrote. |
| \`one-sided\` | Ours was sent and the peer's by choice not insisted on: permitted, but nothing is known of the peer's last bytes. |
| \`truncated\` | The transport ended (EOF, reset or error) before the peer's close_notify. Bytes may be missing. |
| \`alert\` | A fatal alert was sent or received. |
| \`aborted\` | The caller here cancelled, or gave the transport up first. |
| \`timed-out\` | A deadline passed while waiting for the peer's close_notify. |

A verdict says what happened; \`closure.incomplete\` says whether what this side has read may lack bytes.
It is null while the peer's direction is open. It is false when the peer's close_notify came, when
\`close()\` or \`abort()\` was called before the transport ended, and when HTTP had no message in progress;
otherwise it is true.

\`shutdown()\` is the exchange itself: it rejects when the peer does not answer. \`close()\` means 'I am
done': close_notify goes out, and FIN right behind it. \`close()\` ends at whichever of the peer's
close_notify and FIN is first, and rejects only where bytes that this side wrote are not known to have
been taken by the transport, or when its signal aborts. With close_notify the verdict is \`secure\`; with
FIN, a reset or the deadline it is \`one-sided\`; a connection that was cut before stays \`truncated\`.

Below are nine ways for two parties to end a connection, played over TCP in both TLS versions. A is
the party whose view is asked for. We play A or B, as client or server; the other party is ourselves,
OpenSSL's command-line tools, a Boost.Asio program, or plain \`node:tls\`. Against ourselves
we are both, and the role is A's. A dash stands where a party keeps no verdict. "eof or reset" stands where the peer's kernel decides: it sends a reset when a
socket is closed with bytes in it that nobody has read.

The last column holds what the peer's own calls gave: Boost.Asio's error codes, as category, value and
message; the events of a \`node:tls\` socket, which are the same for a truncation as for a closure; what
OpenSSL's tools printed, with their exit code.

${measuredWith(boostVersions)}

Each scenario is drawn, with this library on both sides in TLS 1.3: time runs downwards, and each party
has its application, its TLS and its TCP. [drawings.md](drawings.md) says how to read a drawing, and how
to have one of a connection of your own.
`;

const CANNOT = `## Parts that a peer cannot play

- \`openssl s_client\` and \`s_server\` read all the time and answer a close_notify at once. As B that
  must not answer (2, 7, 9) they are frozen; as B that closes its transport without shutdown they are
  killed. As A they cannot shut down and wait (2, 3, 7, 8, 9), nor shut down after the transport's end
  (1): they would have read that end before, which is 5.
- \`s_server\` has no command that sends close_notify: it cannot begin a shutdown (4 as A, 6 as B).
- \`node:tls\` cannot cancel an \`end()\`, so it does not play A in 7.
`;

/** The whole document. */
export function renderDocument(measured: readonly Measured[]): string {
  const sections = SCENARIOS.map(({ number, title }) => {
    const rows = measured.filter(([{ scenario }]) => scenario.number === number);
    return `## ${number}. ${title}\n\n![${ALT(number, title)}](closure/${number}.svg)\n\n${table(HEAD, merge(rows.map(rowOf), 1, 3))}`;
  });
  return [INTRODUCTION, ...sections, comparison(measured), CANNOT].join('\n');
}

const ALT = (number: number, title: string): string =>
  `Scenario ${number} as a drawing: ${title.replace(/[[\]]/g, '')}.`;

const HEAD = [
  'peer',
  'TLS',
  'we are',
  'our role',
  'verdict at A',
  'verdict at B',
  'the peer reported',
];

function rowOf([one, { A, B }]: Measured): string[] {
  const { scenario, peer, our, handshake, tls } = one;
  const ourselves = peer === 'close-notify';
  const theirs = our === 'A' ? B : A;
  return [
    peer,
    tls,
    ourselves ? 'A and B' : our,
    handshake,
    verdict(A, scenario.number),
    verdict(B, scenario.number),
    ourselves ? '–' : theirs.reported.join('; ') || '–',
  ];
}

function verdict({ closure }: PartyResult, scenario: number): string {
  if (closure === null) return '–';
  if (closure.truncation === null) return closure.verdict;
  const { cause } = closure.truncation;
  return `${closure.verdict} (${scenario === 2 && cause !== 'error' ? 'eof or reset' : cause})`;
}

/** Rows that differ in nothing but the TLS version, or else in nothing but the role, become one. */
function merge(rows: readonly string[][], tls: number, role: number): string[][] {
  return mergeBy(mergeBy(rows, tls), role);
}

/** Rows that differ in nothing but one column become one. */
export function mergeBy(rows: readonly string[][], column: number): string[][] {
  const merged = new Map<string, string[]>();
  for (const row of rows) {
    const key = JSON.stringify(row.toSpliced(column, 1));
    const same = merged.get(key);
    if (same === undefined) merged.set(key, [...row]);
    else same[column] += `, ${row[column]}`;
  }
  return [...merged.values()];
}

/** What the calls of a scenario gave at A, by Boost.Asio and by our own table. */
export interface AsioPair {
  readonly scenario: number;
  readonly tls: string;
  readonly handshake: string;
  readonly boost: readonly string[];
  readonly ours: readonly string[];
}

/**
 * Boost.Asio's A and our A, each against our own B, in the same scenario, TLS version and role.
 */
export function asioPairs(measured: readonly Measured[]): AsioPair[] {
  const pairs: AsioPair[] = [];
  for (const [one, { A }] of measured) {
    if (one.peer !== 'Boost.Asio' || one.our !== 'B') continue;
    const handshake = one.handshake === 'client' ? 'server' : 'client';
    const twin = measured.find(
      ([other]) =>
        other.peer === 'close-notify' &&
        other.scenario === one.scenario &&
        other.tls === one.tls &&
        other.handshake === handshake,
    );
    if (twin === undefined) throw new Error('every scenario is played against ourselves');
    pairs.push({
      scenario: one.scenario.number,
      tls: one.tls,
      handshake,
      boost: A.reported,
      ours: twin[1].A.asio,
    });
  }
  return pairs;
}

/** Where the two differ, and why. All other pairs are the same. */
export const ASIO_DIFFERENCES: ReadonlyArray<{
  readonly holds: (pair: AsioPair) => boolean;
  readonly boost: readonly string[];
  readonly ours: readonly string[];
  readonly why: string;
}> = [
  {
    holds: ({ scenario, tls, handshake }) =>
      scenario === 4 && tls === '1.3' && handshake === 'client',
    boost: ['shutdown: system:9 Bad file descriptor'],
    ours: ['shutdown: system:125 Operation canceled'],
    why: 'The work-around closes the socket while its shutdown is still busy with session tickets that it has not read. We read them.',
  },
  {
    holds: ({ scenario }) => scenario === 8,
    boost: [
      'shutdown: asio.ssl:167772451 application data after close notify',
      'read: asio.ssl.stream:2 unspecified system error',
    ],
    ours: [
      'shutdown: asio.ssl:167772451 application data after close notify',
      'read: system:0 Success',
    ],
    why: 'The shutdown is reported alike. Reading afterwards fails in Boost.Asio; here it gives the data, then the end.',
  },
  {
    holds: ({ scenario }) => scenario === 9,
    boost: ['shutdown: nothing, it has no deadline'],
    ours: ['shutdown: system:125 Operation canceled'],
    why: 'Boost.Asio waits for ever. Our deadline is reported as what a timer that cancels gives there.',
  },
];

function comparison(measured: readonly Measured[]): string {
  const rows = asioPairs(measured).map(({ scenario, tls, handshake, boost, ours }) => [
    String(scenario),
    tls,
    handshake,
    boost.join('; '),
    ours.join('; '),
    boost.join() === ours.join() ? 'yes' : 'no',
  ]);
  const differences = ASIO_DIFFERENCES.map(
    ({ boost, ours, why }) => `- \`${boost.join('; ')}\` against \`${ours.join('; ')}\`: ${why}`,
  );
  return `## toAsioErrorCode against Boost.Asio

What Boost.Asio reported as A, and what \`toAsioErrorCode(stream.closure)\` gave when the same call of
our A ended, both with us as B. (A read that gave data is a success, whatever the closure.)

${table(['scenario', 'TLS', 'A is', 'Boost.Asio', 'toAsioErrorCode', 'same'], merge(rows, 1, 2))}
They differ in:

${differences.join('\n')}
`;
}

function table(head: readonly string[], rows: readonly string[][]): string {
  const line = (cells: readonly string[]) => `| ${cells.join(' | ')} |\n`;
  return line(head) + line(head.map(() => '---')) + rows.map(line).join('');
}
