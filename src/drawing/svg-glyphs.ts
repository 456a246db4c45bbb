/** What arrows are made of in SVG, and the colours and style of all of it. */
import type { ArrowStyle, Row, Tone } from './drawing.ts';

/** Light, then dark: each pair has a contrast of at least 4.5 to its background. */
const COLOURS: ReadonlyArray<readonly [name: string, light: string, dark: string]> = [
  ['bg', '#ffffff', '#14181d'],
  ['fg', '#1b1f24', '#e6e9ed'],
  ['quiet', '#59636e', '#9aa5b1'],
  ['lane', '#aab4bf', '#4d5965'],
  ['band', '#f2f5f8', '#1c232b'],
  ['good', '#14712f', '#57c776'],
  ['warn', '#8a5800', '#e5ac3f'],
  ['bad', '#b3151e', '#ff7b72'],
  ['paper', '#fdeceb', '#3a1717'],
];

const variables = (dark: boolean): string =>
  COLOURS.map(([name, light, night]) => `--${name}:${dark ? night : light}`).join(';');

/** The style of the drawings: a page that has some inline needs it once. */
export const SVG_STYLE = `.cn{${variables(false)};font:13px system-ui,"Segoe UI","DejaVu Sans",sans-serif;fill:var(--fg);background:var(--bg)}
@media(prefers-color-scheme:dark){.cn{${variables(true)}}}
.cn text{fill:var(--fg)}
.cn .bg{fill:var(--bg)}
.cn .lane{stroke:var(--lane);stroke-width:2}
.cn .halo{paint-order:stroke;stroke:var(--bg);stroke-width:5px;stroke-linejoin:round}
.cn .small{font-size:11px}
.cn .time{font-size:11px;font-variant-numeric:tabular-nums}
.cn .time,.cn .dim{fill:var(--quiet)}
.cn .headline{font-size:17px;font-weight:700}
.cn .name{font-size:15px;font-weight:700}
.cn .call{font-family:ui-monospace,"DejaVu Sans Mono",monospace;font-size:12px}
.cn .strong{font-weight:700}
.cn .line{fill:none;stroke:currentColor;stroke-width:2}
.cn .shape{fill:currentColor}
.cn .cut{fill:none;stroke:var(--bg);stroke-width:2.5;stroke-linecap:round;stroke-linejoin:round}
.cn .paper{fill:var(--paper)}
.cn .area{fill:none;pointer-events:all}
.cn .box{fill:var(--band);stroke:var(--lane)}
.cn .plain{color:var(--fg)}.cn .quiet{color:var(--quiet)}.cn .good{color:var(--good)}.cn .warn{color:var(--warn)}.cn .bad{color:var(--bad)}
.cn .toned{fill:currentColor}`;

/** The tip of an arrow that ends at `x`. */
export const head = (x: number, y: number, towards: number): string =>
  `<path class="shape" d="M${x} ${y}l${-towards * 11} -5.5v11Z"/>`;

/** What an arrow's line is made of. */
export function lineOf(style: ArrowStyle, from: number, to: number, y: number): string {
  const path = (d: string, more = '') => `<path class="line"${more} d="${d}"/>`;
  switch (style) {
    case 'data':
      return path(`M${from} ${y}H${to}`, ' stroke-width="1.2"');
    case 'close-notify':
      return path(`M${from} ${y - 2.5}H${to}M${from} ${y + 2.5}H${to}`);
    case 'eof':
      return path(`M${from} ${y}H${to}`, ' stroke-dasharray="9 6"');
    case 'missing':
      return path(`M${from} ${y}H${to}`, ' stroke-dasharray="1 6" stroke-linecap="round"');
    case 'reset':
    case 'alert': {
      const step = style === 'reset' ? 8 : 12;
      const height = style === 'reset' ? 4 : 3;
      const towards = Math.sign(to - from);
      let d = `M${from} ${y}`;
      for (let x = from + towards * step, up = true; (to - x) * towards > 0; up = !up) {
        const level = y + (up ? -height : height);
        d +=
          style === 'reset' ? `L${x} ${level}` : `Q${x - (towards * step) / 2} ${level} ${x} ${y}`;
        x += towards * step;
      }
      return path(`${d}L${to} ${y}`);
    }
  }
}

/** What stands in the middle of an arrow. */
export function glyphOf(style: ArrowStyle, x: number, y: number): string {
  const behind = `<circle class="bg" cx="${x}" cy="${y}" r="14"/>`;
  switch (style) {
    case 'data':
      return '';
    case 'close-notify':
      return `${behind}<circle class="shape" cx="${x}" cy="${y}" r="9.5"/><path class="cut" d="M${x - 4.5} ${y + 0.5}l3.2 3.4l6 -7"/>`;
    case 'eof':
      return `${behind}<rect class="shape" x="${x - 8}" y="${y - 8}" width="16" height="16"/>`;
    case 'reset':
      return `${behind}<path class="shape" d="M${x + 3} ${y - 12}l-10 13h6l-3 11l11 -14h-6.5Z"/>`;
    case 'alert':
      return `${behind}<path class="shape" d="M${x} ${y - 11}l11 19h-22Z"/><path class="cut" d="M${x} ${y - 3.5}v5M${x} ${y + 5}v0.1"/>`;
    case 'missing':
      return `${behind}<circle class="line" stroke-dasharray="3 3" cx="${x}" cy="${y}" r="9.5"/><path class="line" d="M${x - 4} ${y - 4}l8 8m0 -8l-8 8"/>`;
  }
}

/** What the glyphs mean, in the order in which they matter. */
const LEGEND: ReadonlyArray<readonly [ArrowStyle, Tone, string]> = [
  ['close-notify', 'good', 'close_notify: “this was all”'],
  ['eof', 'quiet', 'FIN: the transport ends'],
  ['reset', 'bad', 'RST: the transport is reset'],
  ['alert', 'bad', 'alert'],
  ['missing', 'bad', 'never came'],
];

/** The glyphs of the drawing, explained on one line. */
export function legendOf(rows: readonly Row[], y: number): string {
  const used = new Set(rows.flatMap((row) => (row.kind === 'arrow' ? [row.style] : [])));
  let x = 34;
  return LEGEND.filter(([style]) => used.has(style))
    .map(([style, tone, words]) => {
      const item = `<g class="${tone}">${glyphOf(style, x, y)}<text class="small dim" x="${x + 16}" y="${y + 4}">${words}</text></g>\n`;
      x += 46 + words.length * 6.6;
      return item;
    })
    .join('');
}

/** All glyphs with what they mean, as elements for a page. */
export const LEGEND_ITEMS: ReadonlyArray<{ readonly svg: string; readonly words: string }> =
  LEGEND.map(([style, tone, words]) => ({
    svg: `<svg class="cn legend" viewBox="0 0 30 30" width="26" height="26" aria-hidden="true"><g class="${tone}">${glyphOf(style, 15, 15)}</g></svg>`,
    words,
  }));
