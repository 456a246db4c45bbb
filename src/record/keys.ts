/**
 * From the secrets of a key log to the keys of a direction. Pure, by way of node:crypto's hashes.
 *
 * TLS 1.3: RFC 9846 section 7. TLS 1.2: RFC 5246 sections 5 and 6.3. The key log's format:
 * RFC 9850 (SSLKEYLOGFILE).
 */
import { createHmac } from 'node:crypto';
import type { Cbc, Suite } from './suite.ts';

/** What unprotects one direction's records. */
export interface DirectionKeys {
  readonly suite: Suite;
  readonly key: Uint8Array;
  /** TLS 1.3 and ChaCha20: 12 bytes. TLS 1.2 GCM and CCM: the 4 implicit bytes. CBC: unused. */
  readonly iv: Uint8Array;
  /** The MAC key of a CBC suite; empty for others. */
  readonly mac: Uint8Array;
}

/** Overwrites them. */
export function wipeKeys({ key, iv, mac }: DirectionKeys): void {
  for (const secret of [key, iv, mac]) secret.fill(0);
}

/** One line of a key log. */
export interface KeyLogEntry {
  /** Such as `SERVER_HANDSHAKE_TRAFFIC_SECRET`, or `CLIENT_RANDOM` for a TLS 1.2 master secret. */
  readonly label: string;
  /** The ClientHello's random, in lower-case hexadecimal: the connection's name. */
  readonly clientRandom: string;
  readonly secret: Uint8Array;
}

/** Reads a line of a key log; null for a comment, or a line of another form. */
export function parseKeyLogLine(line: string): KeyLogEntry | null {
  const match = /^([A-Z0-9_]+) ([0-9a-fA-F]{64}) ((?:[0-9a-fA-F]{2})+)\s*$/.exec(line);
  if (match === null) return null;
  const [, label, random, secret] = match as unknown as [string, string, string, string];
  return {
    label,
    clientRandom: random.toLowerCase(),
    secret: Uint8Array.from(Buffer.from(secret, 'hex')),
  };
}

/** HKDF-Expand (RFC 5869 section 2.3). */
function hkdfExpand(hash: string, secret: Uint8Array, info: Uint8Array, length: number) {
  const blocks: Uint8Array[] = [];
  let block: Uint8Array = new Uint8Array(0);
  for (let have = 0, i = 1; have < length; have += block.length, i++) {
    block = createHmac(hash, secret).update(block).update(info).update(Uint8Array.of(i)).digest();
    blocks.push(block);
  }
  return joined(blocks, length);
}

/** The first bytes of blocks, which are overwritten. */
function joined(blocks: readonly Uint8Array[], length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  let at = 0;
  for (const block of blocks) {
    bytes.set(block.subarray(0, length - at), at);
    at += block.length;
    block.fill(0);
  }
  return bytes;
}

/** HKDF-Expand-Label (RFC 9846 section 7.1), with an empty context, as keys have it. */
export function expandLabel(
  hash: string,
  secret: Uint8Array,
  label: string,
  length: number,
): Uint8Array {
  const name = Buffer.from(`tls13 ${label}`, 'ascii');
  const info = Buffer.concat([
    Uint8Array.of(length >> 8, length & 255, name.length),
    name,
    Uint8Array.of(0),
  ]);
  return hkdfExpand(hash, secret, info, length);
}

/** The keys of a TLS 1.3 traffic secret (RFC 9846 section 7.3). */
export function trafficKeys13(suite: Suite, secret: Uint8Array): DirectionKeys {
  return {
    suite,
    key: expandLabel(suite.hash, secret, 'key', suite.keyLength),
    iv: expandLabel(suite.hash, secret, 'iv', 12),
    mac: new Uint8Array(0),
  };
}

/** The traffic secret after a KeyUpdate (RFC 9846 section 7.2). */
export function nextTrafficSecret(suite: Suite, secret: Uint8Array): Uint8Array {
  return expandLabel(suite.hash, secret, 'traffic upd', secret.length);
}

/** The PRF of TLS 1.2: P_hash (RFC 5246 section 5). */
export function prf12(
  hash: string,
  secret: Uint8Array,
  label: string,
  seed: Uint8Array,
  length: number,
): Uint8Array {
  const labelled = Buffer.concat([Buffer.from(label, 'ascii'), seed]);
  const blocks: Uint8Array[] = [];
  let a: Uint8Array = labelled;
  for (let have = 0; have < length; ) {
    a = createHmac(hash, secret).update(a).digest();
    const block = createHmac(hash, secret).update(a).update(labelled).digest();
    blocks.push(block);
    have += block.length;
  }
  return joined(blocks, length);
}

/** Both directions' keys of a TLS 1.2 master secret (RFC 5246 section 6.3). */
export function connectionKeys12(
  suite: Suite,
  master: Uint8Array,
  clientRandom: Uint8Array,
  serverRandom: Uint8Array,
): { client: DirectionKeys; server: DirectionKeys } {
  const macLength = suite.kind === 'cbc' ? (suite satisfies Cbc).macLength : 0;
  // CBC in TLS 1.2 takes its IV from the record (RFC 5246 section 6.2.3.2), so none is derived.
  const ivLength = suite.kind === 'cbc' ? 0 : 12 - suite.explicitNonce12;
  const block = prf12(
    suite.hash,
    master,
    'key expansion',
    Buffer.concat([serverRandom, clientRandom]),
    2 * (macLength + suite.keyLength + ivLength),
  );
  let at = 0;
  const take = (length: number) => {
    at += length;
    return block.slice(at - length, at);
  };
  const macs = [take(macLength), take(macLength)] as const;
  const keys = [take(suite.keyLength), take(suite.keyLength)] as const;
  const ivs = [take(ivLength), take(ivLength)] as const;
  return {
    client: { suite, mac: macs[0], key: keys[0], iv: ivs[0] },
    server: { suite, mac: macs[1], key: keys[1], iv: ivs[1] },
  };
}
