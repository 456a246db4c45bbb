// @ts-check
/** Writes what was measured into docs/: the plot, and the table between its two marks. */
import { readFileSync, writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { join } from 'node:path';
import { plot } from './plot.mjs';
import { nodeVersions, printed, ROOT } from './processes.mjs';
import { digits, verdict } from './results.mjs';

/** @typedef {import('./results.mjs').Row} Row */

const BEGIN = '<!-- made by: npm run bench -- --write -->';
const END = '<!-- end of what the bench made -->';

/** @param {readonly Row[]} rows @param {{ runs: number, megabytes: number, busy: number }} how */
export function writePage(rows, how) {
  const date = new Date().toISOString().slice(0, 10);
  writeFileSync(join(ROOT, 'docs', 'performance.svg'), plot(rows, date));
  const file = join(ROOT, 'docs', 'performance.md');
  const page = readFileSync(file, 'utf8');
  const [begin, end] = [page.indexOf(BEGIN), page.indexOf(END)];
  if (begin < 0 || end < begin) throw new Error(`${file} has lost its marks`);
  writeFileSync(
    file,
    `${page.slice(0, begin)}${BEGIN}\n\n${table(rows, date, how)}\n\n${page.slice(end)}`,
  );
}

/** @param {readonly Row[]} rows @param {string} date @param {{ runs: number, megabytes: number, busy: number }} how */
function table(rows, date, { runs, megabytes, busy }) {
  const versions = nodeVersions();
  const lines = [
    `Measured on ${date}: Node ${versions.node}, OpenSSL ${versions.openssl} in it, ` +
      `${printed('openssl', 'version')?.split(' ').slice(0, 2).join(' ')} in the load; ` +
      `${cpus().length} × ${cpus()[0]?.model.trim()}; ${runs} turns each, ${megabytes} MB in 64 KB writes; load average ${busy.toFixed(1)} at the start.`,
  ];
  for (const group of new Set(rows.map((row) => row.group))) {
    lines.push(
      '',
      `### ${group}`,
      '',
      '| case | ours | peer | unit | against | ratio | spread | target |',
      '|---|---:|---:|---|---|---:|---|---|',
    );
    for (const row of rows) {
      if (row.group !== group) continue;
      lines.push(
        row.why === undefined
          ? `| ${row.case} | ${digits(row.ours)} | ${digits(row.peer)} | ${row.unit} | ${row.peerName} | ` +
              `${row.ratio.toFixed(2)} | ${row.spread.map((end) => end.toFixed(2)).join('-')} | ${verdict(row)} |`
          : `| ${row.case} | | | | ${row.peerName} | not run: ${row.why} | | |`,
      );
    }
  }
  return lines.join('\n');
}
