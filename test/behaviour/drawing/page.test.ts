/** The page and the other printers in a real browser. */
import { readFileSync } from 'node:fs';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import pixelmatch from 'pixelmatch';
import type { Browser, Page } from 'playwright-core';
import { PNG } from 'pngjs';
import { afterAll, beforeAll, expect, it } from 'vitest';
import {
  type Drawing,
  drawLanes,
  type Observation,
  renderHtml,
  renderMermaid,
  renderSvg,
  Transcript,
} from '../../../src/index.ts';
import { describeInBrowser, launch } from './browser.ts';

/** A truncated connection with an alert, a wait, and the other side recorded. */
function truncated(peer = 'B (server)', local = 'A (client)'): Drawing {
  const transcript = (entries: ReadonlyArray<readonly [number, Observation]>) => {
    const made = new Transcript();
    for (const [at, observation] of entries) made.observe(observation, at);
    return made;
  };
  const a = transcript([
    [5, { type: 'phase', name: 'handshake', protocol: 'TLSv1.3' }],
    [6, { type: 'data', direction: 'sent', bytes: 100 }],
    [6, { type: 'record', direction: 'sent', contentType: 23, length: 117 }],
    [10, { type: 'call', name: 'shutdown', detail: null }],
    [11, { type: 'close-notify', direction: 'sent' }],
    [260, { type: 'transport-eof', where: 'record-boundary' }],
    [260, { type: 'verdict', verdict: 'truncated' }],
  ]);
  a.note('shutdown() rejects: ERR_TLS_TRUNCATED', 261);
  const b = transcript([
    [5, { type: 'phase', name: 'handshake', protocol: 'TLSv1.3' }],
    [12, { type: 'close-notify', direction: 'received' }],
    [259, { type: 'call', name: 'abort', detail: null }],
    [259, { type: 'transport-closed', how: 'destroy' }],
    [259, { type: 'verdict', verdict: 'aborted' }],
  ]);
  return drawLanes({ name: local, transcript: a }, { name: peer, transcript: b }, { offset: 0 });
}

/** Both sides say as much as there is room for, late. */
function wordy(): Drawing {
  const lane = (name: string) => {
    const transcript = new Transcript();
    for (const at of [12_345.6, 99_999.9]) {
      transcript.note('shutdown() resolves: one-sided!', at);
      transcript.note(`noteworthy ${'and more of it '.repeat(9)}`, at);
      transcript.note('of-a-host-'.repeat(8), at);
    }
    transcript.observe({ type: 'verdict', verdict: 'timed-out' }, 99_999.9);
    return { name, transcript };
  };
  return drawLanes(lane('A (client)'), lane('B (server)'), { offset: 0 });
}

describeInBrowser('in Chromium', () => {
  let browser: Browser;
  let folder: string;
  beforeAll(async () => {
    browser = await launch();
    folder = await mkdtemp(join(tmpdir(), 'close-notify-page-'));
  });
  afterAll(async () => {
    await browser?.close();
    if (folder !== undefined) await rm(folder, { recursive: true, force: true });
  });

  /** Opens a page from a file, as a user would, and does something on it. */
  async function onPage<T>(
    html: string,
    visit: (page: Page, seen: { requests: string[]; problems: string[] }) => Promise<T>,
    colorScheme: 'light' | 'dark' = 'light',
    width = 1360,
  ): Promise<T> {
    const file = join(folder, `${Math.random().toString(36).slice(2)}.html`);
    await writeFile(file, html);
    const page = await browser.newPage({ colorScheme, viewport: { width, height: 900 } });
    const seen = { requests: [] as string[], problems: [] as string[] };
    page.on('request', (request) => seen.requests.push(request.url()));
    page.on('pageerror', (error) => seen.problems.push(error.message));
    page.on('console', (message) => {
      if (message.type() === 'error') seen.problems.push(message.text());
    });
    page.on('dialog', (dialog) => {
      seen.problems.push(`dialog: ${dialog.message()}`);
      void dialog.dismiss();
    });
    try {
      await page.goto(pathToFileURL(file).href);
      return await visit(page, seen);
    } finally {
      await page.close();
    }
  }

  it('works from a file, asks for nothing else, and breaks none of its own policy', async () => {
    await onPage(renderHtml(truncated()), async (page, { requests, problems }) => {
      expect(requests.map((url) => new URL(url).protocol)).toEqual(['file:']);
      expect(problems).toEqual([]);
      const policy = await page
        .locator('meta[http-equiv="Content-Security-Policy"]')
        .getAttribute('content');
      expect(policy).toMatch(
        /^default-src 'none'; script-src 'sha256-\S+'; style-src 'sha256-\S+'; /,
      );
      // The policy holds: what is put into the page can load nothing and run nothing.
      // As text: the types of a browser are not those of these tests.
      await page.evaluate(`{
        const image = document.createElement('img');
        image.src = 'http://127.0.0.1:9/x.png';
        const script = document.createElement('script');
        script.textContent = 'globalThis.ran = true';
        document.body.append(image, script);
      }`);
      expect(await page.evaluate(() => 'ran' in globalThis)).toBe(false);
      expect(problems.join()).toContain('Content Security Policy');
    });
  });

  it('says in plain words who failed to do what, with the sentence of the RFC and the ending', async () => {
    await onPage(renderHtml(truncated()), async (page) => {
      const words = await page.locator('.verdict').innerText();
      expect(words).toContain(
        'A sent close_notify. B sent none: it ended the TCP connection (FIN).',
      );
      expect(words).toContain(
        'If a transport-level close is received prior to a close_notify, the receiver cannot know that all the data that was sent has been received.',
      );
      expect(words).toContain('RFC 9846 section 6.1');
      await page.getByRole('link', { name: 'ending 2, as A sees it' }).click();
      expect(await page.locator('#ending-2').innerText()).toContain(
        'A calls shutdown; B closes its transport without answering',
      );
      expect(new URL(page.url()).hash).toBe('#ending-2');
    });
  });

  it('steps through the connection with keys', async () => {
    await onPage(renderHtml(truncated()), async (page) => {
      const shown = () => page.locator('.panel-body').innerText();
      const later = () => page.locator('svg .row.later').count();
      const rows = await page.locator('svg .row').count();
      await page.keyboard.press('ArrowRight');
      expect(await shown()).toContain('handshake TLSv1.3');
      expect(await later()).toBe(rows - 1);
      await page.keyboard.press('j');
      expect(await shown()).toContain('write: 100 bytes');
      await page.keyboard.press('k');
      expect(await shown()).toContain('handshake TLSv1.3');
      // In the drawing the other keys work as well.
      await page.keyboard.press('End');
      expect(await shown()).toContain('shutdown() rejects: ERR_TLS_TRUNCATED');
      expect(await later()).toBe(0);
      await page.keyboard.press('ArrowUp');
      await page.keyboard.press('Home');
      expect(await page.locator('.step').innerText()).toBe(`1 of ${rows}`);
      await page.keyboard.press('Escape');
      expect(await later()).toBe(0);
      expect(await shown()).toContain('Point at a row');
    });
  });

  it('shows the header of a record, and what was in it, to the mouse and to the keyboard', async () => {
    const transcript = new Transcript();
    const entry = {
      type: 'event',
      at: 1,
      until: 1,
      observation: { type: 'close-notify', direction: 'received' },
      record: { contentType: 23, length: 19, protected: true, level: 'warning' },
    };
    const json = { ...JSON.parse(JSON.stringify(transcript)), entries: [entry] };
    const drawing = drawLanes({ name: 'us', transcript: Transcript.fromJSON(json) }, 'them');
    await onPage(renderHtml(drawing), async (page) => {
      const details = [
        'header',
        'type 23 (application_data), length 19',
        ...['encrypted', 'yes'],
        ...['alert', 'level 1 (warning), description 0 (close_notify)'],
      ];
      const panel = page.locator('.panel-body');
      await page.locator('svg .row').hover();
      for (const words of details) expect(await panel.innerText()).toContain(words);
      await page.mouse.move(1, 1);
      expect(await panel.innerText()).not.toContain('header');
      await page.locator('svg .row').focus();
      for (const words of details) expect(await panel.innerText()).toContain(words);
    });
  });

  it('filters by kind and by words', async () => {
    await onPage(renderHtml(truncated()), async (page) => {
      const visible = () =>
        page
          .locator('svg .row:not(.hidden)')
          .evaluateAll((rows) => rows.map((row) => row.getAttribute('aria-label') ?? ''));
      const all = await visible();
      await page.getByLabel('calls').uncheck();
      await page.getByLabel('handshake, data').uncheck();
      const closing = await visible();
      expect(closing.length).toBeLessThan(all.length);
      expect(closing.every((row) => /close_notify|FIN|TRUNCATED/.test(row))).toBe(true);
      await page.getByLabel('show only rows with these words').fill('trunc');
      expect(await visible()).toEqual([expect.stringContaining('TRUNCATED')]);
      // Stepping skips what is hidden.
      await page.locator('.next').click();
      expect(await page.locator('.panel-body').innerText()).toContain('TRUNCATED');
    });
  });

  it('runs nothing that a hostile peer put into a name, an alert or a remark', async () => {
    const attack = `<img src=x onerror="alert(1)"></style></script><script>alert(2)</script>'"&`;
    const transcript = new Transcript({ peer: attack });
    transcript.observe({ type: 'phase', name: 'handshake', protocol: attack }, 1);
    const alert = { code: 40, name: attack, authenticated: true };
    transcript.observe({ type: 'alert', direction: 'received', alert }, 2);
    transcript.observe({ type: 'transport-reset', where: 'unknown', code: attack }, 3);
    transcript.observe({ type: 'deadline', phase: attack }, 3);
    transcript.observe({ type: 'verdict', verdict: 'alert' }, 4);
    transcript.note(attack, 5);
    const drawing = drawLanes({ name: attack, transcript }, attack);
    const section = { title: attack, drawing };
    await onPage(renderHtml([section, section], { title: attack }), async (page, { problems }) => {
      expect(await page.locator('img').count()).toBe(0);
      expect(await page.locator('script').count()).toBe(1);
      for (let row = 0; row < drawing.rows.length; row++) await page.keyboard.press('ArrowRight');
      expect(await page.locator('.panel-body').first().innerText()).toContain('<img src=x');
      expect(problems).toEqual([]);
    });
    // As a picture it is one, not a broken one.
    await onPage(imagePage(renderSvg(drawing)), async (page) => {
      expect(
        await page
          .locator('img')
          .evaluate((img) => (img as unknown as { naturalWidth: number }).naturalWidth),
      ).toBe(1000);
    });
  });

  it.each(['light', 'dark'] as const)('looks as before, %s', async (scheme) => {
    await onPage(
      renderHtml(truncated()),
      async (page) => {
        const shot = await page.locator('section.drawing figure svg').screenshot();
        await expectSame(shot, `page-${scheme}.png`);
      },
      scheme,
    );
    await onPage(
      imagePage(renderSvg(truncated())),
      async (page) => {
        await expectSame(await page.locator('img').screenshot(), `svg-${scheme}.png`);
      },
      scheme,
    );
  });

  const long = (name: string) => `${name}-${'of-a-host-'.repeat(7)}.example`;
  const PAGES: ReadonlyArray<readonly [name: string, page: () => string]> = [
    ['one drawing', () => renderHtml(truncated())],
    ['long texts', () => renderHtml(wordy())],
    ['long names', () => renderHtml(truncated(long('b'), long('a')))],
    [
      'nothing happened',
      () => renderHtml(drawLanes({ name: 'us', transcript: new Transcript() }, 'b')),
    ],
    [
      'several drawings',
      () =>
        renderHtml(
          [truncated(), truncated(long('b'))].map((drawing, index) => ({
            ...{ title: `${index}. A calls shutdown; ${long('B')} never answers`, drawing },
            ending: index + 1,
          })),
          { title: 'Ways to end a connection' },
        ),
    ],
  ];
  for (const [name, html] of PAGES) {
    it.each([375, 768, 1280])(`${name}: %i pixels wide, all of it can be read`, async (width) => {
      await onPage(
        html(),
        async (page) => {
          // With the details of a row, and the table.
          if (name !== 'nothing happened') await page.locator('.next').first().click();
          await page.locator('summary').first().click();
          const { problems, texts, pageWidth } = await page.evaluate<Layout>(LAYOUT);
          expect(problems).toEqual([]);
          expect(texts).toBeGreaterThan(30);
          expect(pageWidth).toBe(width);
        },
        ...(['light', width] as const),
      );
    });

    it.each(['light', 'dark'] as const)(`${name}: axe finds nothing, %s`, async (scheme) => {
      for (const width of [375, 1280]) {
        await onPage(
          html(),
          async (page) => {
            // As an expression: the page's policy allows no script from elsewhere.
            await page.evaluate(axeSource());
            const { violations, passes } = await page.evaluate<Findings>('axe.run()');
            expect(violations.map(({ id, impact, nodes }) => ({ id, impact, nodes }))).toEqual([]);
            expect(passes.length).toBeGreaterThan(10);
          },
          ...([scheme, width] as const),
        );
      }
    });
  }

  it('the small drawings of an overview are without text, which nobody could read', async () => {
    const drawn = truncated();
    const renamed = { ...drawn, rows: drawn.rows.map((row) => ({ ...row, text: 'other words' })) };
    const small = (drawing: Drawing) =>
      onPage(renderHtml([drawing, drawing].map((one) => ({ title: 'it', drawing: one }))), (page) =>
        page.locator('.overview svg').first().screenshot(),
      );
    const [one, other] = [await small(drawn), await small(renamed)];
    expect(one.equals(other)).toBe(true);
    expect(new Set(PNG.sync.read(one).data).size).toBeGreaterThan(20);
  });

  it('a truncation is seen without colours, by its torn edges', async () => {
    await onPage(renderHtml(truncated()), async (page) => {
      const tear = page.locator('svg .row.closing:has(.paper)');
      expect(await tear.locator('text').last().textContent()).toContain('TRUNCATED');
      expect(
        (await tear.locator('path.line').getAttribute('d'))?.match(/L/g)?.length,
      ).toBeGreaterThan(90);
      const box = await tear.locator('path.paper').boundingBox();
      const whole = await page.locator('figure svg').boundingBox();
      expect(box?.width).toBeCloseTo(whole?.width ?? 0, -1);
    });
  });

  it('Mermaid takes its diagram, whatever the names are', async () => {
    const script = createRequire(import.meta.url).resolve('mermaid/dist/mermaid.min.js');
    const hostile = `end; participant X #35; <b>x</b> %% A->>B: y {"a": 1} \u202e`;
    const page = await browser.newPage();
    try {
      await page.setContent('<!doctype html><div id="at"></div>');
      await page.addScriptTag({ path: script });
      for (const drawing of [
        truncated(),
        truncated(hostile),
        drawLanes({ name: hostile, transcript: new Transcript() }, hostile),
      ]) {
        const svg = await page.evaluate(async (text) => {
          const { mermaid } = globalThis as unknown as {
            mermaid: { render(id: string, text: string): Promise<{ svg: string }> };
          };
          return (await mermaid.render('drawn', text)).svg;
        }, renderMermaid(drawing));
        expect(svg).toContain('</svg>');
        if (drawing.rows.length > 0) expect(svg).toContain('TRUNCATED');
        expect(svg.match(/actor-top/g)?.length).toBe(drawing.known[1] ? 6 : 4);
      }
    } finally {
      await page.close();
    }
  });
});

/** axe-core, as text. */
const axeSource = (): string =>
  readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

/** What axe found, as far as it is looked at here. */
interface Findings {
  readonly violations: ReadonlyArray<Record<'id' | 'impact' | 'nodes', unknown>>;
  readonly passes: readonly unknown[];
}

/** What `LAYOUT` found. */
interface Layout {
  readonly problems: readonly string[];
  /** How many texts it looked at. */
  readonly texts: number;
  readonly pageWidth: number;
}

/**
 * Looks at every text that is shown: none smaller than 11 pixels, none over another, none outside the
 * page, unless it is in a box that scrolls. As text: the types of a browser are not those of these
 * tests.
 */
const LAYOUT = `(() => {
  const problems = [];
  const shown = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node !== null; node = walker.nextNode()) {
    const parent = node.parentElement;
    const text = node.data.trim();
    if (text === '' || parent.closest('script, style, title, desc') !== null) continue;
    // Closed, or hidden in another way.
    if (!parent.checkVisibility()) continue;
    const range = document.createRange();
    range.selectNodeContents(node);
    const rects = [...range.getClientRects()].filter(({ width, height }) => width > 0 && height > 0);
    if (rects.length === 0) continue;
    const svg = parent.closest('svg text');
    const scale = svg === null ? 1 : svg.getScreenCTM().a;
    const size = Number.parseFloat(getComputedStyle(parent).fontSize) * scale;
    if (size < 11) problems.push(size.toFixed(1) + ' px: ' + text);
    const scrolls = parent.closest('.scroll') !== null;
    for (const rect of rects) {
      if (!scrolls && (rect.left < 0 || rect.right > innerWidth)) problems.push('outside: ' + text);
      for (const other of shown) {
        const x = Math.min(rect.right, other.rect.right) - Math.max(rect.left, other.rect.left);
        const y = Math.min(rect.bottom, other.rect.bottom) - Math.max(rect.top, other.rect.top);
        if (x > 1 && y > 3) problems.push(text + ' over ' + other.text);
      }
      shown.push({ rect, text });
    }
  }
  return { problems, texts: shown.length, pageWidth: document.documentElement.scrollWidth };
})()`;

const imagePage = (svg: string): string =>
  `<!doctype html><meta name="color-scheme" content="light dark"><body style="margin:0"><img src="data:image/svg+xml;base64,${Buffer.from(svg).toString('base64')}">`;

/**
 * Compares with the picture that is kept. The fonts of two machines differ, so text may; the shapes,
 * which are most of the picture's edges and all of its areas, may not.
 */
async function expectSame(shot: Buffer, name: string): Promise<void> {
  const file = new URL(`./screenshots/${name}`, import.meta.url);
  if (process.env['UPDATE_SCREENSHOTS'] === '1') {
    await writeFile(file, shot);
    return;
  }
  const [seen, held] = [PNG.sync.read(shot), PNG.sync.read(await readFile(file))];
  expect([seen.width, seen.height]).toEqual([held.width, held.height]);
  const { width, height } = held;
  const wrong = pixelmatch(seen.data, held.data, undefined, width, height, { threshold: 0.2 });
  expect(wrong / (width * height), `UPDATE_SCREENSHOTS=1 rewrites ${name}`).toBeLessThan(0.02);
}
