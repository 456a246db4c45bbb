/**
 * One page of HTML with one drawing or several: step through it, point at a record to see its header
 * and what was in it, filter, read the verdict in plain words and the sentence that governs it.
 *
 * The page stands by itself: no file beside it, no framework, no network. A Content-Security-Policy
 * says so to the browser: nothing may be loaded, and of scripts and styles only the page's own two,
 * by their hashes. A peer has a say in names and reasons; all text is escaped, and the policy stands
 * behind that.
 */
import { createHash } from 'node:crypto';
import type { Detail, Drawing, Row } from './drawing.ts';
import { ENDINGS, type Ending } from './endings.ts';
import { escapeXml } from './escape.ts';
import { PAGE_SCRIPT } from './page-script.ts';
import { MARGINS, type RowGroup, renderSvg } from './svg.ts';
import { LEGEND_ITEMS, SVG_STYLE } from './svg-glyphs.ts';
import { sentence, VERDICT_TONES } from './words.ts';

/** A drawing on a page of several. */
export interface PageSection {
  /** What stands above it. */
  readonly title: string;
  /** What is drawn. */
  readonly drawing: Drawing;
  /** The number of the ending that it is, where that is known; by default what it resembles. */
  readonly ending?: number | undefined;
}

/** Options of a page. */
export interface HtmlOptions {
  /** The page's title; the drawing's headline by default. */
  readonly title?: string | undefined;
}

/**
 * A drawing that is narrower scrolls in its box: it is 1000 units wide, and its smallest text of
 * 12.25 units would have less than 11 pixels. Where it stands beside the words, it has the room.
 */
const NARROWEST = 900;

const PAGE_STYLE = `*{box-sizing:border-box}
html{color-scheme:light dark;scroll-padding-top:12px}
body.cn{margin:0;color:var(--fg);font-size:15px;line-height:1.5}
main{overflow-wrap:break-word;max-width:1400px;margin:0 auto;padding:20px 24px 60px}
h1{font-size:24px;line-height:1.25;margin:8px 0 4px}
h2{font-size:19px;line-height:1.3;margin:0 0 10px}
h3{font-size:15px;margin:0 0 6px}
p{margin:0 0 8px}
a{color:inherit}
.lead{color:var(--quiet);max-width:75ch}
.legend-list{display:flex;flex-wrap:wrap;gap:4px 22px;list-style:none;margin:12px 0 18px;padding:0;color:var(--quiet);font-size:13px}
.legend-list li{display:flex;align-items:center;gap:6px}
.legend,.cn .legend{background:none}
.overview{--words:none;display:grid;grid-template-columns:repeat(auto-fill,minmax(min(380px,100%),1fr));gap:14px;list-style:none;margin:0 0 34px;padding:0}
.overview a{display:block;height:100%;padding:10px 12px;border:1px solid var(--lane);border-radius:8px;text-decoration:none}
.overview a:hover,.overview a:focus-visible{outline:2px solid currentColor}
.overview svg{display:block;width:100%;height:auto;margin-top:8px;border-radius:4px}
.cn :is(text,.box){display:var(--words,inline)}
.overview .row{pointer-events:none}
section.drawing{margin:0 0 46px;padding-top:10px;border-top:1px solid var(--lane)}
.layout{display:grid;grid-template-columns:minmax(0,1fr) 288px;gap:20px;align-items:start}
.layout>figure{margin:0;min-width:0}
figure svg{display:block;width:100%;min-width:${NARROWEST}px;height:auto}
.cn figure :is(.small,.time,.call){font-size:12.25px}
.scroll{overflow-x:auto}
.scroll:focus-visible{outline:2px solid var(--fg)}
aside{position:sticky;top:12px;display:grid;gap:14px}
.card{border:1px solid var(--lane);border-radius:8px;padding:12px 14px;background:var(--band);min-width:0;overflow-wrap:anywhere}
.pill{display:inline-block;border:2px solid currentColor;border-radius:99px;padding:0 10px;font-weight:700;font-size:13px}
.card .headline{font-size:16px;font-weight:700;margin:8px 0 4px}
blockquote{margin:8px 0;padding:2px 0 2px 12px;border-left:3px solid var(--lane);font-style:italic}
cite{display:block;font-style:normal;color:var(--quiet);font-size:13px}
.tools{display:flex;flex-wrap:wrap;gap:8px 14px;align-items:center;margin:0 0 10px;font-size:13px;color:var(--quiet)}
button,input.words{font:inherit;color:var(--fg);background:var(--bg);border:1px solid var(--lane);border-radius:6px;padding:3px 10px}
button{cursor:pointer}
button:focus-visible,input:focus-visible{outline:2px solid var(--fg)}
kbd{border:1px solid var(--lane);border-radius:4px;padding:0 5px;font-size:12px}
dl{display:grid;grid-template-columns:max-content 1fr;gap:2px 12px;margin:6px 0 0;font-size:13px}
dt{color:var(--quiet)}
dd{margin:0;font-family:ui-monospace,"DejaVu Sans Mono",monospace;font-size:12px;overflow-wrap:anywhere}
table{border-collapse:collapse;width:100%;font-size:13px}
th,td{text-align:left;vertical-align:top;padding:4px 10px 4px 0;border-bottom:1px solid var(--lane)}
td.at{font-variant-numeric:tabular-nums;color:var(--quiet);white-space:nowrap}
td p{margin:0}
td.what{overflow-wrap:anywhere}
summary{cursor:pointer;color:var(--quiet);font-size:13px;margin:8px 0}
tr:target,.current{background:var(--band)}
.toned{color:inherit}
.row{cursor:pointer;transition:opacity .12s}
.row.later{opacity:.13}
.row.hidden{opacity:0;pointer-events:none}
.row:hover .area,.row.shown .area{fill:var(--band)}
.row:focus{outline:none}
.row:focus-visible .area,.row.shown:focus .area{stroke:currentColor;stroke-width:2}
@media(max-width:1275px){.layout{grid-template-columns:minmax(0,1fr)}aside{position:static}}
@media(prefers-reduced-motion:reduce){.row{transition:none}}
@media(max-width:600px){main{padding:16px 14px 48px}}
@media print{.tools,summary{display:none}.layout{grid-template-columns:1fr}figure svg{min-width:0}}`;

const STYLE = `${SVG_STYLE}\n${PAGE_STYLE}`;

const hash = (text: string): string =>
  `'sha256-${createHash('sha256').update(text).digest('base64')}'`;

const POLICY = [
  "default-src 'none'",
  `script-src ${hash(PAGE_SCRIPT)}`,
  `style-src ${hash(STYLE)}`,
  "base-uri 'none'",
  "form-action 'none'",
].join('; ');

const xml = escapeXml;

/** Draws one page. @returns a whole HTML document that needs nothing else. */
export function renderHtml(
  drawings: Drawing | readonly PageSection[],
  options: HtmlOptions = {},
): string {
  const sections = isSections(drawings)
    ? drawings
    : [{ title: titleOf(drawings), drawing: drawings }];
  const [first] = sections;
  const title = options.title ?? first?.drawing.story.headline ?? '';
  const several = sections.length > 1;
  const svgs = sections.map(({ drawing }, index) =>
    renderSvg(drawing, { inline: true, id: `d${index}` }).replace(
      '<svg ',
      `<svg id="d${index}-svg" `,
    ),
  );
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="${xml(POLICY)}">
<meta name="referrer" content="no-referrer">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${xml(title)}</title>
<style>${STYLE}</style>
</head>
<body class="cn">
<main>
<h1>${xml(title)}</h1>
<p class="lead">A party that is done sends <strong>close_notify</strong>: “this was all”. If TCP ends without one, the last bytes may have been cut off by anybody on the way. Time runs downwards; each party has its application, its TLS and its TCP.</p>
<ul class="legend-list">${LEGEND_ITEMS.map(({ svg, words }) => `<li>${svg}${xml(words)}</li>`).join('')}</ul>
${several ? overview(sections, svgs) : ''}
${sections.map((section, index) => sectionHtml(section, index, svgs[index] as string)).join('\n')}
${endings(sections)}
</main>
<script>${PAGE_SCRIPT}</script>
</body>
</html>
`;
}

function isSections(
  drawings: Drawing | readonly PageSection[],
): drawings is readonly PageSection[] {
  return Array.isArray(drawings);
}

const titleOf = ({ names: [left, right] }: Drawing): string => `${left} and ${right}`;

/** All drawings side by side, small, as shapes: their text could not be read. */
function overview(sections: readonly PageSection[], svgs: readonly string[]): string {
  const heights = svgs.map((svg) => Number(/viewBox="0 0 1000 (\d+)"/.exec(svg)?.[1]));
  const { top, bottom } = MARGINS;
  const height = Math.max(...heights) - top - bottom;
  const items = sections.map(({ title, drawing }, index) => {
    const { verdict, tone } = drawing.story;
    // The drawing itself, small: it is in the page already.
    const small = `<svg class="cn" viewBox="0 ${top} 1000 ${height}" preserveAspectRatio="xMidYMin meet" aria-hidden="true"><use href="#d${index}-svg"/></svg>`;
    return `<li><a href="#d${index}"><strong>${xml(title)}</strong><br><span class="pill ${tone}">${verdict}</span>${small}</a></li>`;
  });
  return `<ul class="overview">${items.join('')}</ul>`;
}

const GROUPS: ReadonlyArray<readonly [RowGroup, string]> = [
  ['calls', 'calls'],
  ['traffic', 'handshake, data'],
  ['closing', 'closing'],
];

function sectionHtml({ title, drawing, ending }: PageSection, index: number, svg: string): string {
  const { story, rows } = drawing;
  const id = `d${index}`;
  const boxes = GROUPS.map(
    ([group, words]) =>
      `<label><input type="checkbox" class="group" value="${group}" checked> ${words}</label>`,
  );
  const cells = rows.map((row) => {
    const at = drawing.timed && row.kind !== 'wait' ? `${row.at.toFixed(1)} ms` : '';
    return `<tr><td class="at">${at}</td><td class="what">${rowHtml(drawing, row)}</td></tr>`;
  });
  return `<section class="drawing" id="${id}" aria-label="${xml(title)}">
<h2>${xml(title)}</h2>
<div class="layout">
<figure>
<div class="tools">
<span><button type="button" class="back">← back</button> <button type="button" class="next">next →</button> <button type="button" class="all">show all</button> <span class="step" aria-live="polite"></span></span>
${boxes.join('\n')}
<input class="words" type="search" placeholder="filter" aria-label="show only rows with these words">
</div>
<div class="scroll" tabindex="0" role="group" aria-label="the drawing, which may scroll">
${svg}</div>
<details><summary>As a table</summary><table><thead><tr><th>at</th><th>what</th></tr></thead><tbody>${cells.join('\n')}</tbody></table></details>
</figure>
<aside>
<div class="card verdict"><span class="pill ${story.tone}">${story.verdict}</span>
<p class="headline">${xml(story.headline)}</p>
<p>${xml(story.meaning)}</p>
<blockquote>“${xml(story.rule.quote)}”<cite>${xml(story.rule.source)}</cite></blockquote>
${resembling(story.resembles, ending)}</div>
<div class="card panel" aria-live="polite"><div class="panel-body"><p>Point at a row to see what is known of it. Step with <kbd>→</kbd> and <kbd>←</kbd> (or <kbd>j</kbd>, <kbd>k</kbd>), <kbd>Esc</kbd> shows all.</p></div></div>
</aside>
</div>
</section>`;
}

function rowHtml(drawing: Drawing, row: Row): string {
  const words = xml(sentence({ ...drawing, timed: false }, row));
  return `<p class="${row.tone}">${words}</p>${detailsHtml(row.details)}`;
}

function detailsHtml(details: readonly Detail[]): string {
  if (details.length === 0) return '';
  const items = details.map(({ label, value }) => `<dt>${xml(label)}</dt><dd>${xml(value)}</dd>`);
  return `<dl>${items.join('')}</dl>`;
}

function resembling(resembles: Drawing['story']['resembles'], known: number | undefined): string {
  const number = known ?? resembles?.number;
  const ending = ENDINGS.find((one) => one.number === number);
  if (ending === undefined) return '';
  const from = known === undefined ? `, as ${resembles?.seenFrom} sees it` : '';
  const verb = known === undefined ? 'Resembles' : 'Is';
  return `<p>${verb} <a href="#ending-${ending.number}">ending ${ending.number}${from}</a>: ${xml(ending.title)}.</p>`;
}

/** The list of endings that the sections refer to. */
function endings(sections: readonly PageSection[]): string {
  const numbers = sections.map(({ ending, drawing }) => ending ?? drawing.story.resembles?.number);
  const row = ({ number, title, verdicts }: Ending): string => {
    const section = numbers.indexOf(number);
    const name = section >= 0 ? `<a href="#d${section}">${xml(title)}</a>` : xml(title);
    const cell = (verdict: Ending['verdicts']['B']) =>
      verdict === null ? '' : `<strong class="${VERDICT_TONES[verdict]}">${verdict}</strong>`;
    return `<tr id="ending-${number}"${section >= 0 && sections.length === 1 ? ' class="current"' : ''}><td>${number}</td><td>${name}</td><td>${cell(verdicts.A)}</td><td>${cell(verdicts.B)}</td></tr>`;
  };
  return `<section><h2>Nine ways to end a connection</h2>
<table><thead><tr><th>no.</th><th>what happens</th><th>verdict at A</th><th>at B</th></tr></thead><tbody>${ENDINGS.map(row).join('\n')}</tbody></table></section>`;
}
