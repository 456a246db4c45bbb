/** Every way to play a scenario that is played here, and the playing of it. */
import { type Action, SCENARIOS, type Scenario } from '../../../src/cli/scenarios.ts';
import type { Closure } from '../../../src/index.ts';
import type { TestPki } from '../../support/interop-pki.ts';
import {
  type Handshake,
  OurParty,
  outcome,
  type Part,
  type Party,
  type Side,
  TLS_VERSIONS,
  type TlsVersion,
} from './party.ts';
import { BoostParty } from './party-boost.ts';
import { NodeParty } from './party-node.ts';
import { OpensslParty, opensslPlays } from './party-openssl.ts';

export const PEERS = ['close-notify', 'openssl', 'Boost.Asio', 'node:tls'] as const;
export type Peer = (typeof PEERS)[number];

/** One run. Against ourselves we are both; `our` is then A. */
export interface Case {
  readonly scenario: Scenario;
  readonly peer: Peer;
  readonly our: Side;
  /** Our role in the handshake. */
  readonly handshake: Handshake;
  readonly tls: TlsVersion;
}

/** What came out. */
export interface Result {
  readonly A: PartyResult;
  readonly B: PartyResult;
  /** In scenario 8: what A read after its shutdown had succeeded. */
  readonly kept: readonly string[];
  /** In scenario 4, where we are A: what close() came to in the end. */
  readonly closed: Closure | null;
}

export interface PartyResult {
  readonly closure: Closure | null;
  readonly reported: readonly string[];
  /** What Boost.Asio would have reported by our own table; empty for others. */
  readonly asio: readonly string[];
}

const other = (side: Side): Side => (side === 'A' ? 'B' : 'A');
const opposite = (role: Handshake): Handshake => (role === 'client' ? 'server' : 'client');

/** Whether `peer` can play that part; openssl's file says which it cannot, and why. */
function plays(peer: Peer, scenario: Scenario, side: Side, handshake: Handshake): boolean {
  switch (peer) {
    case 'openssl':
      return opensslPlays(scenario.number, side, handshake);
    case 'node:tls':
      return !scenario.steps.some(([who, action]) => who === side && action === 'cancel');
    default:
      return true;
  }
}

/** All cases against `peer`, in the order in which they are listed. */
export function casesOf(peer: Peer): Case[] {
  const cases: Case[] = [];
  for (const scenario of SCENARIOS) {
    for (const our of peer === 'close-notify' ? (['A'] as const) : (['A', 'B'] as const)) {
      for (const handshake of ['client', 'server'] as const) {
        if (!plays(peer, scenario, other(our), opposite(handshake))) continue;
        for (const tls of TLS_VERSIONS) cases.push({ scenario, peer, our, handshake, tls });
      }
    }
  }
  return cases;
}

export function titleOf({ scenario, peer, our, handshake, tls }: Case): string {
  const we = peer === 'close-notify' ? `A is the ${handshake}` : `we are ${our}, the ${handshake}`;
  return `${scenario.number}. ${scenario.title} (TLS ${tls}, ${we}, against ${peer})`;
}

const PARTIES: Readonly<Record<Peer, new (part: Part) => Party>> = {
  'close-notify': OurParty,
  openssl: OpensslParty,
  'Boost.Asio': BoostParty,
  'node:tls': NodeParty,
};

/** Longer than any run takes: it only keeps a party that hangs from outliving its test. */
const HANGS = 20_000;

/** Plays one case. Whatever happens, no process and no socket is left. */
export async function play(one: Case, pki: TestPki): Promise<Result> {
  const { scenario, tls, our } = one;
  const part = (side: Side): Part => ({
    scenario,
    side,
    handshake: side === our ? one.handshake : opposite(one.handshake),
    tls,
    pki,
  });
  const ours = new OurParty(part(our));
  const peer = new PARTIES[one.peer](part(other(our)));
  const parties: Record<Side, Party> = our === 'A' ? { A: ours, B: peer } : { A: peer, B: ours };
  let timer: NodeJS.Timeout | undefined;
  try {
    const hang = new Promise<never>((_, reject) => {
      timer = setTimeout(() => {
        const state = JSON.stringify({ ours: closureIfAny(ours), peer: peer.reported });
        reject(new Error(`${titleOf(one)}: hangs at '${step}': ${state}`));
      }, HANGS);
    });
    let step = 'handshake';
    const at = (name: string) => {
      step = name;
    };
    return await Promise.race([run(one, parties, at), hang]);
  } finally {
    clearTimeout(timer);
    // The peer first: a close of ours may be waiting for the end of its transport.
    await peer.dispose();
    await ours.dispose();
  }
}

function closureIfAny(party: OurParty): Closure | null {
  try {
    return party.closure;
  } catch {
    return null;
  }
}

async function run(
  { scenario, our, handshake }: Case,
  parties: Record<Side, Party>,
  at: (step: string) => void,
): Promise<Result> {
  const [server, client] =
    handshake === 'server'
      ? [parties[our], parties[other(our)]]
      : [parties[other(our)], parties[our]];
  const port = await server.listen();
  await Promise.all([client.meet(port), server.meet(port)]);
  at('prepare');
  await parties.A.prepare(parties.B);
  await parties.B.prepare(parties.A);
  for (const [side, action] of scenario.steps) {
    at(`${side} ${action}`);
    await parties[side].perform(action as Action);
    at(`${other(side)} notices ${side} ${action}`);
    await parties[other(side)].noticed(action as Action);
  }
  at('settled');
  await Promise.all([parties.A.settled(), parties.B.settled()]);
  const resultOf = (party: Party): PartyResult => ({
    closure: party.closure,
    reported: [...party.reported],
    asio: party instanceof OurParty ? [...party.asio] : [],
  });
  const result = { A: resultOf(parties.A), B: resultOf(parties.B) };
  const kept: string[] = [];
  if (scenario.number === 8 && parties.A instanceof OurParty) {
    kept.push(await outcome(parties.A.read()));
  }
  let closed: Closure | null = null;
  if (scenario.number === 4 && parties.A instanceof OurParty) {
    at('close');
    await parties.B.dispose();
    closed = await parties.A.closed();
  }
  return { ...result, kept, closed };
}
