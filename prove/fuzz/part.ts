/**
 * Fuzzing of the native engine's core: a Session at each end of a wire, by libFuzzer with AddressSanitizer and UBSan, on
 * the system's OpenSSL. What is fuzzed, and what must hold, stands in native/test/session_fuzz.cc.
 */
import { spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Context, Figure, Part } from '../harness.ts';

const NATIVE = fileURLToPath(new URL('../../native/', import.meta.url));
const SOURCES = ['test/session_fuzz.cc', 'src/session.cc', 'src/peer.cc'];
const SANITIZERS = ['-fsanitize=fuzzer,address,undefined', '-fno-sanitize-recover=all'];
const WARNINGS = ['-Wall', '-Wextra', '-Werror'];

/** Seconds of fuzzing. */
const LONG = 600;
const SHORT = 3;

/** How much of what a program said is told, from its end. */
const TOLD = 4_000;

interface Outcome {
  readonly code: number | null;
  readonly said: string;
}

function run(
  program: string,
  args: readonly string[],
  environment: Record<string, string>,
  signal: AbortSignal,
): Promise<Outcome> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { env: { ...process.env, ...environment }, signal });
    let said = '';
    const hear = (chunk: Buffer) => {
      said = (said + chunk.toString()).slice(-100_000);
    };
    child.stdout.on('data', hear);
    child.stderr.on('data', hear);
    child.on('error', reject);
    child.on('close', (code) => resolve({ code, said }));
  });
}

/** @throws {Error} where it does not end well. */
async function must(...call: Parameters<typeof run>): Promise<string> {
  const { code, said } = await run(...call);
  if (code === 0) return said;
  throw new Error(`${call[0]} ended with ${code}: ${said.slice(-TOLD)}`);
}

/** The number behind a name in what libFuzzer says at its end. */
const count = (said: string, name: string) =>
  Number(new RegExp(`stat::${name}:\\s*(\\d+)`).exec(said)?.[1] ?? Number.NaN);

async function fuzz(context: Context, folder: string): Promise<readonly Figure[]> {
  const { seed, short, signal, log, fail } = context;
  const program = join(folder, 'fuzz');
  const sources = SOURCES.map((name) => join(NATIVE, name));
  const flags = ['-std=c++17', '-O1', '-g', ...WARNINGS, ...SANITIZERS];
  await must('clang++', [...flags, '-o', program, ...sources, '-lssl', '-lcrypto'], {}, signal);
  const [recorded, grown] = [join(folder, 'recorded'), join(folder, 'grown')];
  for (const name of [recorded, grown]) mkdirSync(name);
  await must(program, [], { SESSION_FUZZ_RECORD: recorded }, signal);
  const inputs = readdirSync(recorded).length;
  log(`fuzz: ${inputs} recorded inputs`);

  // libFuzzer takes 0 for "any".
  const options = [`-seed=${(seed % 0x7fffffff) + 1}`, '-max_len=8192', '-print_final_stats=1'];
  const time = `-max_total_time=${short ? SHORT : LONG}`;
  const artifacts = `-artifact_prefix=${join(folder, 'found-')}`;
  const { code, said } = await run(
    program,
    [...options, time, artifacts, grown, recorded],
    { ASAN_OPTIONS: 'quarantine_size_mb=16' },
    signal,
  );
  const found = readdirSync(folder).filter((name) => name.startsWith('found-'));
  for (const name of found) {
    const input = readFileSync(join(folder, name)).toString('base64');
    fail(`native/test/session_fuzz.cc, with this input in base64: ${input}\n${said.slice(-TOLD)}`);
  }
  if (code !== 0 && found.length === 0) fail(`libFuzzer ended with ${code}: ${said.slice(-TOLD)}`);
  return [
    { name: 'recorded conversations to begin with', value: inputs, least: 200 },
    {
      name: 'inputs tried',
      value: count(said, 'number_of_executed_units'),
      least: short ? inputs : 10_000,
    },
    {
      name: 'of these, such as reached something new',
      value: count(said, 'new_units_added'),
      least: short ? 0 : 100,
    },
    { name: 'crashes, sanitizer reports, leaks and broken claims', value: found.length, must: 0 },
  ];
}

export const part: Part = {
  name: 'fuzz',
  title: "The native engine's core, fuzzed",
  seconds: LONG + 200,
  async run(context) {
    const folder = mkdtempSync(join(tmpdir(), 'prove-fuzz-'));
    try {
      return await fuzz(context, folder);
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  },
};
