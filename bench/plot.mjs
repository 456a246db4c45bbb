// @ts-check
/** The plot of docs/performance.md: every headline ratio, in a column for each kind of peer. */
import * as Plot from '@observablehq/plot';
import { parseHTML } from 'linkedom';

/** @typedef {import('./results.mjs').Row} Row */

const ROW_HEIGHT = 18;
/** Of a column, and of a letter of a label. */
const COLUMN = 163;
const LETTER = 6;
/** Ratios beyond these are drawn at the edge, with their figure. */
const RANGE = /** @type {const} */ ([0.08, 3.5]);

const FONT = 'ui-sans-serif, system-ui, sans-serif';
// Each reads on white and on near-black; text follows the reader's colour scheme.
const COLOURS = { met: '#2f81d8', missed: '#d9621c', none: '#7d8590' };
const STYLE = `
  svg { color: #1f2328; background: none; font-family: ${FONT}; }
  @media (prefers-color-scheme: dark) { svg { color: #e6edf3; } }
`;

/** The column of a peer. @param {string} peer */
function columnOf(peer) {
  if (peer.startsWith('Boost')) return peer;
  if (peer.startsWith('Python')) return peer;
  if (['plain TCP', 'openssl', 'a tap'].some((limit) => peer.startsWith(limit))) {
    return `limit: ${peer}`;
  }
  return 'node:tls, or as said';
}

/**
 * @param {readonly Row[]} rows
 * @param {string} date
 * @returns {string} an SVG document
 */
export function plot(rows, date) {
  const points = rows
    .filter((row) => row.headline && row.why === undefined)
    .map((row) => {
      const column = columnOf(row.peerName);
      const said = row.peerName !== 'node:tls' && column.startsWith('node:tls');
      return {
        label: said ? `${row.case}, against ${row.peerName}` : row.case,
        group: row.group,
        column,
        ratio: clamp(row.ratio),
        from: clamp(row.spread[0]),
        to: clamp(row.spread[1]),
        text: row.ratio.toFixed(2),
        target: row.target === undefined ? undefined : clamp(row.target),
        kind: row.target === undefined ? 'none' : row.ratio >= row.target ? 'met' : 'missed',
      };
    });
  const labels = [...new Set(points.map(({ label }) => label))];
  const columns = [...new Set(points.map(({ column }) => column))];
  const margin = LETTER * Math.max(...labels.map(({ length }) => length));
  const { document } = parseHTML('<!doctype html><html><body></body></html>');
  const svg = Plot.plot({
    document,
    width: COLUMN * columns.length + margin,
    height: labels.length * ROW_HEIGHT + 80,
    marginLeft: margin,
    marginRight: 24,
    marginTop: 40,
    style: { fontSize: '11px', background: 'none' },
    x: {
      type: 'log',
      domain: [...RANGE],
      ticks: [0.1, 0.25, 0.5, 1, 2],
      tickFormat: (/** @type {number} */ ratio) => `${ratio}`,
      label: 'ratio: right of 1, close-notify is better →',
    },
    y: { type: 'band', domain: labels, label: null, padding: 0.3 },
    fx: { domain: columns, label: null, padding: 0.06 },
    color: { domain: Object.keys(COLOURS), range: Object.values(COLOURS) },
    marks: [
      Plot.gridX([0.1, 0.25, 0.5, 2], { strokeOpacity: 0.12 }),
      Plot.gridY({ strokeOpacity: 0.08 }),
      Plot.ruleX([1], { stroke: 'currentColor', strokeOpacity: 0.6 }),
      Plot.tickX(
        points.filter(({ target }) => target !== undefined),
        { x: 'target', y: 'label', fx: 'column', stroke: 'kind', strokeWidth: 2 },
      ),
      Plot.ruleY(points, {
        ...{ x1: 'from', x2: 'to', y: 'label', fx: 'column', stroke: 'kind' },
        ...{ strokeWidth: 5, strokeOpacity: 0.35 },
      }),
      Plot.dot(points, { x: 'ratio', y: 'label', fx: 'column', fill: 'kind', r: 4 }),
      // On the side away from 1, where the targets are, but not over the labels.
      ...[true, false].map((right) =>
        Plot.text(
          points.filter(({ ratio }) => (ratio >= 1 || ratio < 0.2) === right),
          {
            ...{ x: 'ratio', y: 'label', fx: 'column', text: 'text', fontSize: 10 },
            ...(right ? { dx: 8, textAnchor: 'start' } : { dx: -8, textAnchor: 'end' }),
            fill: 'currentColor',
          },
        ),
      ),
    ],
  });
  const missed = points.filter(({ kind }) => kind === 'missed').length;
  const withTarget = points.filter(({ kind }) => kind !== 'none').length;
  const title = document.createElement('title');
  title.textContent = 'close-notify beside its peers';
  const description = document.createElement('desc');
  description.textContent =
    `Ratios measured on ${date}, on a logarithmic scale; right of 1, close-notify is better. ` +
    'A bar is the middle half of the turns, a tick the target: ' +
    `${withTarget - missed} of ${withTarget} targets are met (blue), ${missed} are not (orange). ` +
    'The table in performance.md has all figures.';
  // Plot's own style sheet is for pages, and has what only old browsers take.
  svg.querySelector('style')?.remove();
  const style = document.createElement('style');
  style.textContent = STYLE;
  svg.prepend(title, description, style);
  svg.setAttribute('xmlns', 'http://www.w3.org/2000/svg');
  svg.setAttribute('role', 'img');
  return `${svg.outerHTML}\n`;
}

/** @param {number} ratio */
const clamp = (ratio) => Math.min(Math.max(ratio, RANGE[0]), RANGE[1]);
