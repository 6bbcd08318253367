// Markdown, light and dark, phones, and the rules of accessibility.

import assert from 'node:assert/strict';
import { DESK, PHONE, until, visit } from './browser.mjs';
import { SPARSE } from './mock.mjs';

const SAMPLE = `Plain *italic*, **bold**, ***both***, ~~gone~~, \`a * b\`, snake_case_name and 2 * 3 * 4.
Second line with a [link](https://example.org/a_(b)) and https://example.org/x_y.

# Title

### Deep

1. one
   - nested **strong**
   - second

     with a paragraph
2. two

7) seven

| Left | Right |
|:--|--:|
| \`a|b\` | 1 |
| x | 22 |

> quoted
> twice

---

\`\`\`python
def f(x):
    return x  # **not bold**
\`\`\`

Formula \\(a_1 * b_2\\) and unclosed **bold and \`code

\`\`\`
open`;

visit('Markdown becomes elements', async (seen, state) => {
  const { page } = seen;
  state.reply = () => SAMPLE;
  await seen.open();
  await seen.askFor('Show me');
  const body = seen.answers.last().locator('.body');
  const texts = (selector) => body.locator(selector).allInnerTexts();
  assert.deepEqual(await texts('p em'), ['italic', 'both']);
  assert.deepEqual(await texts('p strong'), ['bold', 'both']);
  assert.deepEqual(await texts('del'), ['gone']);
  assert.deepEqual(await texts('p code'), ['a * b', 'a_1 * b_2']);
  assert.match((await texts('p'))[0], /snake_case_name and 2 \* 3 \* 4\.\nSecond line/);
  assert.deepEqual(await body.locator('a').evaluateAll((nodes) => nodes.map((node) => node.href)),
    ['https://example.org/a_(b)', 'https://example.org/x_y']);
  assert.deepEqual(await texts('h3'), ['Title']);
  // Levels are not left out.
  assert.deepEqual(await texts('h4'), ['Deep']);
  assert.equal(await body.locator('> ol').count(), 2);
  assert.equal(await body.locator('> ol').nth(1).getAttribute('start'), '7');
  assert.deepEqual(await texts('> ol > li > ul > li strong'), ['strong']);
  assert.deepEqual(await texts('> ol > li > ul > li p'), ['with a paragraph']);
  assert.deepEqual(await texts('td'), ['a|b', '1', 'x', '22']);
  assert.deepEqual(await texts('td.right'), ['1', '22']);
  assert.match((await texts('blockquote'))[0], /quoted\ntwice/);
  assert.equal(await body.locator('hr').count(), 1);
  assert.deepEqual(await body.locator('pre').allInnerTexts(), ['def f(x):\n    return x  # **not bold**', 'open']);
  assert.match((await texts('p')).at(-1), /unclosed \*\*bold and `code$/);
  await seen.context.grantPermissions(['clipboard-read', 'clipboard-write']);
  await body.getByRole('button', { name: 'Copy code' }).first().click();
  await seen.said(/^Copied$/);
  assert.equal(await page.evaluate(() => navigator.clipboard.readText()), 'def f(x):\n    return x  # **not bold**');
});

visit('text that streams in ends as text that came at once, and finished blocks stay', async (seen, state) => {
  const { page } = seen;
  state.reply = () => ({ pieces: [SAMPLE] });
  await seen.open();
  await seen.askFor('At once');
  const html = () => seen.answers.last().locator('.body').evaluate((node) => node.innerHTML);
  const whole = await html();
  state.reply = () => ({ pieces: SAMPLE.match(/[^]{1,7}/g), delay: 15 });
  await seen.ask('Slowly');
  await until('the first heading', async () => (await seen.answers.last().locator('h3').count()) === 1);
  await seen.answers.last().locator('p').first().evaluate((node) => { node.dataset.mark = 'same'; });
  await seen.answer();
  assert.equal(await seen.answers.last().locator('[data-mark=same]').count(), 1);
  assert.equal((await html()).replace(' data-mark="same"', ''), whole);
});

visit('Markdown made to be slow is not', async (seen, state) => {
  const { page } = seen;
  await seen.open();
  const hard = ['*a '.repeat(20_000), '[a'.repeat(20_000), '`'.repeat(20_000), '` '.repeat(20_000), '> '.repeat(5000),
    '- '.repeat(5000), '**a*'.repeat(20_000), '|-'.repeat(20_000), `${'|a'.repeat(5000)}\n${'|-'.repeat(5000)}`,
    '\n- a\n\n'.repeat(5000), `# ${' #'.repeat(20_000)}`, '<http://'.repeat(20_000), '\\('.repeat(20_000),
    '_a __b ~~c '.repeat(9000)];
  const slow = await page.evaluate(async (texts) => {
    const { MarkdownView } = await import('./markdown.js');
    return texts.map((text) => {
      const begin = performance.now();
      new MarkdownView(document.createElement('div'), () => {}).update(text);
      return [text.slice(0, 8), performance.now() - begin];
    }).filter(([, took]) => took > 20_000);
  }, hard);
  // Seconds are no pace but a hang, also where the machine is busy.
  assert.deepEqual(slow, []);
}, { reducedMotion: 'no-preference' });

visit('what a model thought is folded away and not sent again', async (seen, state) => {
  state.reply = (_, n) => (n === 1 ? '<think>\nHm, *well*.\n</think>\n\nThe **answer**.' : 'Next.');
  await seen.open();
  assert.equal(await seen.askFor('Think'), 'The answer.');
  const thought = seen.answers.last().locator('details');
  assert.equal(await thought.locator('div').isVisible(), false);
  await thought.locator('summary').click();
  assert.equal(await thought.locator('div').innerText(), 'Hm, *well*.');
  await seen.askFor('More');
  assert.equal(state.requests[1].messages[1].content, 'The **answer**.');
});

/** Every state of the page that looks different, each checked. */
async function allStates(seen, state, phone) {
  const { page } = seen;
  state.stats = { ...state.stats, active_share: 0.147, layers: SPARSE };
  await seen.open();
  await seen.checkAccess();
  await seen.checkWidth();
  state.reply = () => SAMPLE;
  await seen.askFor('Show me everything that you can do, in one answer, with a_very_long_word_'.padEnd(300, 'x'));
  await seen.checkAccess();
  await seen.checkWidth();
  state.reply = () => ({ status: 503, error: 'full', headers: { 'Retry-After': '1' } });
  await seen.ask('Busy?');
  await page.getByRole('button', { name: 'Try again' }).waitFor();
  await seen.checkAccess();
  state.reply = () => ({ pieces: ['One', ' two', ' three'], first: 800, delay: 300 });
  await seen.ask('Slowly');
  await page.locator('#stop').waitFor();
  await seen.checkAccess();
  await seen.answer();
  await page.locator('.message.user').last().hover();
  await page.getByRole('button', { name: 'Edit message' }).last().click();
  await seen.checkAccess();
  await seen.checkWidth();
  await page.keyboard.press('Escape');
  await page.getByRole('button', { name: 'Regenerate answer' }).last().click();
  await page.getByRole('button', { name: 'Undo' }).waitFor();
  await seen.checkAccess();
  await seen.checkWidth();
  await seen.answer();
  await page.locator('#settings-open').click();
  await page.getByLabel('Temperature').fill('9');
  await page.getByRole('button', { name: 'Save' }).click();
  await seen.checkAccess();
  await seen.checkWidth();
  await page.keyboard.press('Escape');
  if (!phone) {
    await page.getByText('Layers as a table').click();
    await seen.checkAccess();
    return;
  }
  for (const [opener, closer] of [['#activity-toggle', '#activity-close'], ['#sidebar-open', '#sidebar-close']]) {
    await page.locator(opener).click();
    await until('the drawer to have the focus', () => page.evaluate((id) => (
      document.activeElement.id === id), closer.slice(1)));
    await seen.checkAccess();
    await seen.checkWidth();
    await page.keyboard.press('Escape');
    assert.equal(await page.evaluate(() => document.activeElement.id), opener.slice(1));
  }
}

const busy = { expected: /status of 503/ };

visit('accessible in light', (seen, state) => allStates(seen, state, false), { ...busy, colorScheme: 'light' });
visit('accessible in dark', (seen, state) => allStates(seen, state, false), { ...busy, colorScheme: 'dark' });
visit('accessible and within the screen of a phone', (seen, state) => allStates(seen, state, true),
  { ...busy, device: PHONE, colorScheme: 'light' });
visit('accessible and within the screen of a phone in dark', (seen, state) => allStates(seen, state, true),
  { ...busy, device: PHONE, colorScheme: 'dark' });

visit('light and dark: the system’s at first, then as chosen, also after a reload', async (seen) => {
  const { page } = seen;
  const paper = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  await seen.open();
  const toggle = page.getByRole('button', { name: 'Dark theme' });
  const dark = await paper();
  assert.equal(await toggle.getAttribute('aria-pressed'), 'true');
  await page.emulateMedia({ colorScheme: 'light' });
  const light = await paper();
  assert.notEqual(light, dark);
  await until('the button to follow', async () => await toggle.getAttribute('aria-pressed') === 'false');
  await toggle.click();
  assert.equal(await paper(), dark);
  await page.reload();
  assert.equal(await paper(), dark);
  await toggle.click();
  assert.equal(await paper(), light);
  // The system's own again: the page follows it.
  await page.emulateMedia({ colorScheme: 'dark' });
  assert.equal(await paper(), dark);
}, { colorScheme: 'dark' });

visit('a phone: drawers, and Enter makes a line', async (seen, state) => {
  const { page } = seen;
  await seen.open();
  assert.equal(await page.locator('#sidebar').isVisible(), false);
  assert.equal(await page.locator('#activity').isVisible(), false);
  await seen.input.tap();
  await page.keyboard.type('One');
  await page.keyboard.press('Enter');
  await page.keyboard.type('two');
  await page.locator('#send').tap();
  await seen.answer();
  assert.equal(state.requests[0].messages[0].content, 'One\ntwo');
  await page.locator('#sidebar-open').tap();
  assert.deepEqual(await seen.titles(), ['One']);
  await page.locator('#new').tap();
  assert.equal(await page.locator('#sidebar').isVisible(), false);
  assert.deepEqual(await seen.texts(), []);
  // Fingers need room.
  const small = await page.locator('button:visible').evaluateAll((nodes) => nodes
    .filter((node) => Math.min(node.offsetWidth, node.offsetHeight) < 40).map((node) => node.id || node.innerText));
  assert.deepEqual(small, []);
}, { device: PHONE });

visit('reduced motion is respected', async (seen, state) => {
  const { page } = seen;
  state.reply = () => ({ pieces: ['Late'], first: 1500 });
  const seconds = () => page.locator('.markdown').last().evaluate((node) => (
    getComputedStyle(node, '::before').animationDuration));
  await seen.open();
  await seen.ask('Wait');
  await page.locator('.busy').waitFor();
  assert.equal(await seconds(), '1.4s');
  await page.emulateMedia({ reducedMotion: 'reduce' });
  assert.equal(await seconds(), '1e-05s');
  await seen.answer();
}, { reducedMotion: 'no-preference' });

visit('the end stays in sight unless the reader scrolled away', async (seen, state) => {
  const { page } = seen;
  const distance = () => page.locator('#log').evaluate((node) => (
    node.scrollHeight - node.scrollTop - node.clientHeight));
  state.reply = () => ({ pieces: Array.from({ length: 90 }, (_, i) => `Line ${i}\n\n`), delay: 20 });
  await seen.open();
  await seen.ask('Long');
  await until('it to scroll', () => page.locator('#log').evaluate((node) => node.scrollTop > 100));
  await until('the end to be in sight', async () => await distance() < 60);
  await page.locator('#log').hover();
  await page.mouse.wheel(0, -400);
  await page.locator('#jump').waitFor();
  await seen.answer();
  assert.ok(await distance() > 200);
  await page.locator('#jump').click();
  assert.ok(await distance() < 2);
}, { device: { ...DESK, viewport: { width: 1000, height: 600 } } });
