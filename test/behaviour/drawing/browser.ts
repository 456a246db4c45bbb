/** Debian's Chromium, for the tests that look at pages. */
import { existsSync } from 'node:fs';
import { type Browser, chromium } from 'playwright-core';
import { describe } from 'vitest';

const CHROMIUM = '/usr/bin/chromium';
const found = existsSync(CHROMIUM);

/** Describes tests that need Chromium: skipped without, unless REQUIRE_PEERS=1. */
export function describeInBrowser(name: string, tests: () => void): void {
  if (found || process.env['REQUIRE_PEERS'] === '1') describe(name, tests);
  else describe.skip(`${name} (skipped: ${CHROMIUM} is not installed)`, tests);
}

/** Starts it. It talks to nobody: no updates, no sync, no sandbox inside a container. */
export function launch(): Promise<Browser> {
  return chromium.launch({
    executablePath: CHROMIUM,
    args: [
      ...['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run'],
      ...['--disable-background-networking', '--disable-component-update', '--disable-sync'],
      ...['--force-color-profile=srgb', '--font-render-hinting=none', '--hide-scrollbars'],
    ],
  });
}
