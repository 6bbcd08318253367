// What the tests share: a browser, a page whose console and policy are watched, and waiting.
//
// PAGE_PACKAGES names the folder whose node_modules has playwright-core and axe-core; CHROMIUM the browser.

import assert from 'node:assert/strict';
import fs from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { startMock } from './mock.mjs';

const require = createRequire(path.resolve(process.env.PAGE_PACKAGES ?? import.meta.dirname, 'here.js'));
const { chromium, devices } = require('playwright-core');
const AXE = fs.readFileSync(require.resolve('axe-core/axe.min.js'), 'utf8');

/** How long anything may take, in ms; the machine may be busy. */
const PATIENCE = 45_000;

export const DESK = { viewport: { width: 1440, height: 900 } };
export const PHONE = { ...devices['Pixel 7'], viewport: { width: 360, height: 740 } };

let browser;
let mock;

before(async () => {
  // Chromium's sandbox does not start for root.
  const args = process.getuid() === 0 ? ['--no-sandbox'] : [];
  browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args });
  mock = await startMock();
});

after(async () => {
  await browser?.close();
  await mock?.close();
});

/** Asks until it is true. */
export async function until(what, condition) {
  const end = Date.now() + PATIENCE;
  for (;;) {
    if (await condition()) return;
    assert.ok(Date.now() < end, `waited for: ${what}`);
    await new Promise((done) => { setTimeout(done, 25); });
  }
}

/** A page with what is done to it most often. */
export class Visit {
  constructor(context, page, url) {
    Object.assign(this, { context, page, url, faults: [] });
    this.input = page.locator('#input');
    this.answers = page.locator('.message.assistant');
    page.on('console', (message) => {
      if (message.type() === 'error' || message.type() === 'warning') this.faults.push(message.text());
    });
    page.on('pageerror', (error) => this.faults.push(error.stack));
    page.on('request', (request) => {
      if (!/^(blob|data):/.test(request.url()) && !request.url().startsWith(url)) {
        this.faults.push(`asked elsewhere: ${request.url()}`);
      }
    });
  }

  async open(hash = '') {
    await this.page.goto(this.url + hash);
    await this.page.locator('#messages > *').first().waitFor();
  }

  async ask(text) {
    await this.input.fill(text);
    await until('the server to be ready', () => this.page.locator('#send').isEnabled());
    await this.page.locator('#send').click();
  }

  /** The last answer's text, when it is complete. */
  async answer() {
    await until('the answer to end', async () => (
      await this.page.locator('#send').isVisible() &&
      await this.answers.last().getAttribute('aria-busy') === 'false'));
    return this.answers.last().locator('.body').innerText();
  }

  async askFor(text) {
    await this.ask(text);
    return this.answer();
  }

  /** Texts of all messages, in order. */
  async texts() {
    return this.page.locator('.message .body').allInnerTexts();
  }

  async titles() {
    return this.page.locator('#conversations .open > span:first-child').allInnerTexts();
  }

  /** What the screen reader is told next. */
  async said(pattern) {
    await until(`"${pattern}" to be said`, async () => (
      pattern.test(await this.page.locator('#announcer').textContent())));
  }

  /** Rules of accessibility that the page breaks as it is now. */
  async checkAccess() {
    await this.page.evaluate(AXE);
    const { violations, passes } = await this.page.evaluate(() => window.axe.run(document, {
      runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'],
    }));
    // That the check itself works.
    assert.ok(passes.some(({ id, nodes }) => id === 'color-contrast' && nodes.length > 2));
    const found = violations.map(({ id, help, nodes }) => (
      `${id}: ${help}: ${nodes.map((node) => `${node.target} ${node.any[0]?.message ?? ''}`).join('; ')}`));
    assert.deepEqual(found, []);
  }

  /** Whether anything is wider than the screen. */
  async checkWidth() {
    const [wide, screen] = await this.page.evaluate(() => (
      [Math.max(document.documentElement.scrollWidth, document.body.scrollWidth,
        document.querySelector('#log').scrollWidth), window.innerWidth]));
    assert.ok(wide <= screen, `${wide} of ${screen} pixels wide`);
  }
}

/**
 * A test on a fresh page of the mock, or of the server at `url`. It fails when the console has an error that
 * `expected` (a pattern) does not allow, or when the content security policy was offended.
 */
export function visit(name, body, { device = DESK, expected = null, url = null, skip = false, ...options } = {}) {
  test(name, { skip }, async (t) => {
    mock.reset();
    const context = await browser.newContext({ reducedMotion: 'reduce', ...device, ...options });
    context.setDefaultTimeout(PATIENCE);
    await context.addInitScript(() => {
      window.offences = [];
      document.addEventListener('securitypolicyviolation', (event) => {
        window.offences.push(`${event.violatedDirective} ${event.blockedURI}`);
      });
    });
    try {
      const page = await context.newPage();
      const seen = new Visit(context, page, url ?? mock.url);
      await body(seen, mock.state, t);
      assert.deepEqual(await page.evaluate(() => window.offences), []);
      assert.deepEqual(seen.faults.filter((fault) => !expected?.test(fault)), []);
    } finally {
      await context.close();
    }
  });
}
