/** The conversations that are cut and spoilt. */
import type { Script, Side } from './conversation.ts';

const SUITES = {
  'TLSv1.2': {
    'AES-128-GCM': 'ECDHE-ECDSA-AES128-GCM-SHA256',
    'AES-256-GCM': 'ECDHE-ECDSA-AES256-GCM-SHA384',
    ChaCha20: 'ECDHE-ECDSA-CHACHA20-POLY1305',
  },
  'TLSv1.3': {
    'AES-128-GCM': 'TLS_AES_128_GCM_SHA256',
    'AES-256-GCM': 'TLS_AES_256_GCM_SHA384',
    ChaCha20: 'TLS_CHACHA20_POLY1305_SHA256',
  },
} as const;

type Cipher = keyof (typeof SUITES)['TLSv1.2'];

function script(
  version: Script['version'],
  cipher: Cipher,
  resumed: boolean,
  closes: Side,
  server: readonly number[],
): Script {
  return {
    name: `${version} ${cipher}, ${resumed ? 'resumed' : 'full handshake'}, the ${closes} closes first`,
    version,
    suite: SUITES[version][cipher],
    resumed,
    client: [5, 40],
    server,
    closes,
  };
}

const SMALL = [1, 30, 100];
const LARGE = [16_384, 20_000, 1];

/** One for each version: a full handshake, with certificate and session tickets. */
export const FULL: readonly Script[] = [
  script('TLSv1.2', 'AES-128-GCM', false, 'server', SMALL),
  script('TLSv1.3', 'AES-128-GCM', false, 'client', SMALL),
];

/** One for each version: a session that is resumed. */
export const RESUMED: readonly Script[] = [
  script('TLSv1.2', 'AES-128-GCM', true, 'client', SMALL),
  script('TLSv1.3', 'AES-128-GCM', true, 'server', SMALL),
];

/** The other suites. */
export const SUITE_SCRIPTS: readonly Script[] = [
  script('TLSv1.2', 'AES-256-GCM', true, 'server', SMALL),
  script('TLSv1.2', 'ChaCha20', true, 'client', SMALL),
  script('TLSv1.3', 'AES-256-GCM', true, 'client', SMALL),
  script('TLSv1.3', 'ChaCha20', true, 'server', SMALL),
];

/** Records as large as they get. */
export const LARGE_SCRIPTS: readonly Script[] = [
  script('TLSv1.2', 'AES-256-GCM', true, 'client', LARGE),
  script('TLSv1.3', 'AES-128-GCM', true, 'server', LARGE),
];
