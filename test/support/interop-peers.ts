/**
 * Which real peers this machine has. A missing peer's tests are skipped by name; with
 * REQUIRE_PEERS=1 they fail instead, so that a run that must be complete cannot pass by skipping.
 */
import { spawnSync } from 'node:child_process';
import { describe, it } from 'vitest';

export type PeerName = 'openssl' | 'boost' | 'python';

const LABELS: Readonly<Record<PeerName, string>> = {
  openssl: 'openssl (command-line tool)',
  boost: 'Boost.Asio (g++, Boost and OpenSSL headers)',
  python: 'python3 with ssl',
};

/** What the preprocessor says the headers are, or null where there is no compiler or no header. */
export const boostVersions: string | null = (() => {
  const source = `
#include <boost/version.hpp>
#include <openssl/opensslv.h>
#if !__has_include(<boost/asio/ssl.hpp>) || !__has_include(<openssl/ssl.h>)
#error missing
#endif
versions BOOST_LIB_VERSION OPENSSL_VERSION_TEXT
`;
  const { status, stdout } = spawnSync('g++', ['-E', '-P', '-x', 'c++', '-'], {
    input: source,
    encoding: 'utf8',
  });
  const found = /^versions "(\d+)_(\d+)\w*" "OpenSSL (\d+\.\d+)/m.exec(stdout ?? '');
  return status === 0 && found !== null
    ? `Boost ${found[1]}.${found[2]} on OpenSSL ${found[3]}`
    : null;
})();

function succeeds(command: string, ...args: string[]): boolean {
  return spawnSync(command, args, { stdio: 'ignore' }).status === 0;
}

const AVAILABLE: Readonly<Record<PeerName, boolean>> = {
  openssl: succeeds('openssl', 'version'),
  boost: boostVersions !== null,
  python: succeeds('python3', '-c', 'import ssl, sys; sys.exit(not ssl.HAS_TLSv1_3)'),
};

/** Those of `names` that this machine lacks. */
export function missingPeers(names: readonly PeerName[]): PeerName[] {
  return names.filter((name) => !AVAILABLE[name]);
}

/**
 * `describe` for tests that need these peers. Where one is missing the whole block becomes one test
 * whose name says which: skipped, or failing with REQUIRE_PEERS=1.
 */
export function describeWith(
  peers: readonly PeerName[],
  name: string,
  body: () => void,
  describeAs: (name: string, body: () => void) => unknown = describe,
): void {
  const missing = missingPeers(peers);
  if (missing.length === 0) {
    describeAs(name, body);
    return;
  }
  const what = missing.map((peer) => LABELS[peer]).join(' and ');
  describe(name, () => {
    const required = process.env['REQUIRE_PEERS'] === '1';
    it.skipIf(!required)(`needs ${what}, which is not installed`, () => {
      throw new Error(`${what} is not installed, and REQUIRE_PEERS=1 asks for all peers`);
    });
  });
}
