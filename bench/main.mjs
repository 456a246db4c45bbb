// @ts-check
/**
 * `npm run bench`: how fast this library is beside what else there is. See docs/performance.md for
 * what is measured and how to read it.
 */
import { writeFileSync } from 'node:fs';
import { availableParallelism, loadavg } from 'node:os';
import { Command, InvalidArgumentError } from 'commander';
import { compiled, obstacle, sample, useNode } from './processes.mjs';
import { Comparer, formatTable } from './results.mjs';
import { PEER_NAMES, sizesFor, works } from './works.mjs';

/** @typedef {import('./works.mjs').Work} Work */
/** @typedef {import('./processes.mjs').Entry} Entry */

const MIB = 1024 * 1024;

/** @param {string} text @returns {number} */
function parseSize(text) {
  const found = /^(\d+)\s*(KB|MB|GB)?$/i.exec(text);
  if (found === null) throw new InvalidArgumentError('such as 256MB or 1GB');
  const unit = { KB: 1024, MB: MIB, GB: 1024 * MIB }[(found[2] ?? '').toUpperCase()] ?? 1;
  const bytes = Number(found[1]) * unit;
  if (bytes < MIB) throw new InvalidArgumentError('at least 1MB');
  return bytes;
}

/** @param {string} text @returns {number} */
function parseCount(text) {
  const count = Number(text);
  if (!Number.isInteger(count) || count < 1) throw new InvalidArgumentError('a number from 1');
  return count;
}

const program = new Command('npm run bench --')
  .description('Measures this library and its peers in turn, and prints the ratios.')
  .option('--json', 'print [{ case, ours, peer, peerName, unit, ratio }]; above 1 ours is better')
  .option('--only <words...>', 'only what has all these words in its name, group or peer')
  .option('--runs <count>', 'turns for each', parseCount, 5)
  .option(
    '--size <bytes>',
    'of a transfer in 64 KB writes; messages take less',
    parseSize,
    1024 * MIB,
  )
  .option('--full', '1 GB in every transfer, whatever the message: takes hours')
  .option('--node <path>', 'the Node that is measured, instead of the one that runs this')
  .option('--against-itself', 'put node:tls in our place: what the ratios are worth')
  .option('--list', 'print the names of the cases, and measure nothing')
  .option('--out <file>', 'write all samples there, as JSON')
  .option('--write', 'write the table and the plot into docs/')
  .parse();

/**
 * @type {{ json?: true, only?: string[], runs: number, size: number, full?: true,
 *   node?: string, againstItself?: true, list?: true, out?: string, write?: true }}
 */
const options = program.opts();

if (options.node !== undefined) {
  try {
    useNode(options.node);
  } catch (error) {
    program.error(/** @type {Error} */ (error).message);
  }
}

const sizes = sizesFor(options.full ? 1024 * MIB : options.size, options.full === true);
const chosen = works(sizes)
  .map(only)
  .filter((work) => work.cases.length > 0);
if (chosen.length === 0) program.error('nothing has these words in its name; see --list');

/** The part of a work that was asked for. @param {Work} work @returns {Work} */
function only(work) {
  const words = (options.only ?? []).map((word) => word.toLowerCase());
  const cases = work.cases.filter((one) => {
    const text = `${work.group} ${work.name} ${one.name} ${PEER_NAMES[one.peer]}`.toLowerCase();
    return words.every((word) => text.includes(word));
  });
  const ids = new Set(cases.flatMap((one) => [one.ours, one.peer]));
  return { ...work, cases, entries: work.entries.filter((entry) => ids.has(entry.id)) };
}

/** @param {Entry} entry @returns {Entry} */
function itself(entry) {
  const { engine, ...rest } = entry;
  return entry.face === 'stream' || entry.face === 'duplex' ? { ...rest, face: 'tls' } : entry;
}

/** @param {string} text */
const say = (text) => process.stderr.write(`${text}\n`);

if (options.list) {
  for (const work of chosen) {
    for (const one of work.cases) {
      process.stdout.write(`${work.group}: ${one.name}, against ${PEER_NAMES[one.peer]}\n`);
    }
  }
  process.exit(0);
}

/** Turns of an entry. @param {Work} work @param {Entry} entry */
const turnsOf = (work, entry) => {
  // What is no process of its own is measured once.
  if (entry.program === 'openssl') return 1;
  return Math.min(options.runs, work.runs ?? options.runs) * (work.times ?? 1);
};

const estimate = chosen
  .flatMap((work) => work.entries.map((entry) => work.seconds * turnsOf(work, entry)))
  .reduce((sum, seconds) => sum + seconds, 0);
say(`about ${Math.ceil(estimate / 60)} min for ${chosen.length} works, each done by all in turn`);
if ((await compiled('load')) === null) {
  say('no g++ or no OpenSSL headers: the load is plain node:tls, and may be the slower end');
}

const [busy = 0] = loadavg();
if (busy > availableParallelism() / 2) {
  say(
    `the machine is busy (load ${busy.toFixed(1)}): trust the CPU times rather than the wall times`,
  );
}

const comparer = new Comparer();
for (const work of chosen) {
  /** @type {Map<string, string>} */
  const absent = new Map();
  for (const entry of work.entries) {
    const why = await obstacle(entry);
    if (why !== null) absent.set(entry.id, why);
  }
  // Whose counterpart is absent is not measured either.
  const cases = work.cases.filter((one) => !absent.has(one.ours) && !absent.has(one.peer));
  const ids = new Set(cases.flatMap((one) => [one.ours, one.peer]));
  const turns = Math.max(...work.entries.map((entry) => turnsOf(work, entry)));
  for (let turn = 0; turn < turns; turn++) {
    for (const entry of work.entries) {
      if (!ids.has(entry.id) || absent.has(entry.id) || turn >= turnsOf(work, entry)) continue;
      const measured = options.againstItself ? itself(entry) : entry;
      try {
        const { amount, load, seconds } = work;
        // Twenty times what it should take: only what hangs takes longer, even on a busy machine.
        const taken = await sample(measured, amount, load, 60 + 20 * seconds);
        comparer.add(work, entry.id, taken);
      } catch (error) {
        absent.set(entry.id, /** @type {Error} */ (error).message);
        say(`failed: ${work.name}, ${entry.id}: ${/** @type {Error} */ (error).message}`);
        process.exitCode = 1;
      }
    }
  }
  const rows = comparer.finish(work, absent);
  if (!options.json) process.stdout.write(formatTable(work, rows));
  for (const row of rows)
    if (row.why !== undefined) say(`not run: ${row.case}, against ${row.peerName}: ${row.why}`);
}

if (options.json) process.stdout.write(`${JSON.stringify(comparer.json(), null, 2)}\n`);
if (options.out !== undefined) {
  writeFileSync(options.out, `${JSON.stringify(comparer.details(), null, 2)}\n`);
}
if (options.write) {
  const { writePage } = await import('./page.mjs');
  writePage(comparer.details(), { runs: options.runs, megabytes: sizes.large / MIB, busy });
}
// The loads would keep this process alive; they end with it.
process.exit();
