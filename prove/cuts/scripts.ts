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
  large: Side | null = null,
): Script {
  const size = large === null ? '' : `, a record of 16 KB from the ${large}`;
  return {
    name: `${version} ${cipher}, ${resumed ? 'resumed' : 'full handshake'}, the ${closes} closes first${size}`,
    version,
    suite: SUITES[version][cipher],
    resumed,
    client: large === 'client' ? [LARGE, 1] : [5, 40],
    server: large === 'server' ? [LARGE, 1] : [1, 30, 100],
    closes,
  };
}

/** The most that a record holds. */
const LARGE = 16_384;

/** One for each version: a full handshake, with certificate and session tickets. */
export const FULL: readonly Script[] = [
  script('TLSv1.2', 'AES-128-GCM', false, 'server'),
  script('TLSv1.3', 'AES-128-GCM', false, 'client'),
];

/** One for each version: a session that is resumed. */
export const RESUMED: readonly Script[] = [
  script('TLSv1.2', 'AES-128-GCM', true, 'client'),
  script('TLSv1.3', 'AES-128-GCM', true, 'server'),
];

/** The other suites. */
export const SUITE_SCRIPTS: readonly Script[] = [
  script('TLSv1.2', 'AES-256-GCM', true, 'server'),
  script('TLSv1.2', 'ChaCha20', true, 'client'),
  script('TLSv1.3', 'AES-256-GCM', true, 'client'),
  script('TLSv1.3', 'ChaCha20', true, 'server'),
];

/** A record as large as they get, in either direction. */
export const LARGE_SCRIPTS: readonly Script[] = [
  script('TLSv1.2', 'AES-256-GCM', true, 'server', 'client'),
  script('TLSv1.3', 'AES-128-GCM', true, 'server', 'server'),
];
