// @ts-check
/** From samples to ratios: medians, and how far the turns are apart. */
import Table from 'cli-table3';
import { median, quantile } from 'simple-statistics';
import { PEER_NAMES } from './works.mjs';

/** @typedef {import('./works.mjs').Work} Work */
/** @typedef {import('./works.mjs').Metric} Metric */
/** @typedef {import('./processes.mjs').Sample} Sample */

/**
 * One line of the result.
 *
 * @typedef {object} Row
 * @property {string} group
 * @property {string} case
 * @property {number} ours the median
 * @property {number} peer the median
 * @property {string} peerName
 * @property {string} unit
 * @property {boolean} less whether less is better
 * @property {number} ratio the median of the ratios of the single turns; above 1 ours is better
 * @property {readonly [number, number]} spread the middle half of those ratios
 * @property {readonly number[]} oursAll by turn
 * @property {readonly number[]} peerAll by turn
 * @property {boolean} headline
 * @property {number} [target]
 * @property {string} [why] it was not run; then there are no figures
 */

export class Comparer {
  /** @type {Map<string, Sample[]>} */
  #samples = new Map();
  /** @type {Row[]} */
  #rows = [];

  /** @param {Work} work @param {string} id @param {Sample} sample */
  add(work, id, sample) {
    const key = `${work.name}\n${id}`;
    const all = this.#samples.get(key) ?? [];
    all.push(sample);
    this.#samples.set(key, all);
  }

  /**
   * The rows of a work, all turns done.
   *
   * @param {Work} work @param {ReadonlyMap<string, string>} absent ids, and why
   * @returns {Row[]}
   */
  finish(work, absent) {
    /** @type {Row[]} */
    const rows = [];
    const at = (/** @type {string} */ id) => this.#samples.get(`${work.name}\n${id}`) ?? [];
    for (const one of work.cases) {
      const peerName = PEER_NAMES[one.peer] ?? one.peer;
      const why = absent.get(one.ours) ?? absent.get(one.peer);
      for (const metric of work.metrics) {
        const target = metric.part === undefined ? one.target : one.targets?.[metric.part];
        const row = {
          ...{ group: work.group, case: `${one.name}${metric.suffix}`, peerName },
          ...{ unit: metric.unit, less: metric.less, headline: metric.headline },
          ...(target !== undefined && metric.headline ? { target } : {}),
        };
        if (why !== undefined) {
          if (row.headline) rows.push({ ...row, ...NOTHING, why });
          continue;
        }
        const oursAll = figures(at(one.ours), metric);
        const peerAll = figures(at(one.peer), metric);
        if (oursAll.length > 0 && peerAll.length > 0) {
          rows.push({ ...row, ...compare(oursAll, peerAll, metric.less) });
        }
      }
    }
    this.#rows.push(...rows);
    return rows;
  }

  /** What `--json` prints. */
  json() {
    return this.#rows
      .filter(({ why }) => why === undefined)
      .map(({ case: name, ours, peer, peerName, unit, ratio }) => ({
        ...{ case: name, ours, peer, peerName, unit, ratio },
      }));
  }

  /** All there is to know. */
  details() {
    return this.#rows;
  }
}

const NOTHING = {
  ...{ ours: Number.NaN, peer: Number.NaN, ratio: Number.NaN, oursAll: [], peerAll: [] },
  spread: /** @type {const} */ ([Number.NaN, Number.NaN]),
};

/** @param {readonly Sample[]} samples @param {Metric} metric */
const figures = (samples, metric) =>
  samples.map((sample) => metric.of(sample) ?? Number.NaN).filter(Number.isFinite);

/** @param {readonly number[]} oursAll @param {readonly number[]} peerAll @param {boolean} less */
function compare(oursAll, peerAll, less) {
  const better = (/** @type {number} */ ours, /** @type {number} */ peer) =>
    less ? peer / ours : ours / peer;
  const [ours, peer] = [median([...oursAll]), median([...peerAll])];
  // Ours of a turn to the peer's of the same turn: what slowed both down cancels out. On a busy
  // machine that is much steadier than the ratio of the medians.
  const turns = oursAll.map((one, turn) => better(one, peerAll[turn] ?? peer));
  const spread = /** @type {const} */ ([quantile(turns, 0.25), quantile(turns, 0.75)]);
  return { ours, peer, ratio: median(turns), spread, oursAll, peerAll };
}

/** @param {number} figure three digits that count */
export function digits(figure) {
  const magnitude = Math.abs(figure);
  return figure.toFixed(magnitude >= 100 ? 0 : magnitude >= 10 ? 1 : 2);
}

/** @param {Row} row */
export const verdict = ({ ratio, target }) =>
  target === undefined ? '' : `${ratio >= target ? '✓' : '✗'} ${target.toFixed(2)}`;

/** @param {Work} work @param {readonly Row[]} rows */
export function formatTable(work, rows) {
  const table = new Table({
    head: [work.name, 'ours', 'peer', '', 'unit', 'ratio', 'spread', 'target'],
    style: { head: [], border: [] },
    colAligns: ['left', 'right', 'right', 'left', 'left', 'right', 'left', 'left'],
  });
  for (const row of rows) {
    if (row.why !== undefined) {
      table.push([row.case, { colSpan: 7, content: `not run: ${row.why}` }]);
      continue;
    }
    table.push([
      ...[row.case, digits(row.ours), digits(row.peer), row.peerName, row.unit],
      ...[row.ratio.toFixed(2), row.spread.map((end) => end.toFixed(2)).join('-'), verdict(row)],
    ]);
  }
  return `${table}\n`;
}
