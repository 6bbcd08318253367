// What a server, a network, a model or a browser's storage may do to the page.

import assert from 'node:assert/strict';
import { until, visit } from './browser.mjs';

/** Chromium itself writes such an answer to the console. */
const status = (code) => ({ expected: new RegExp(`status of ${code}`) });

visit('a full queue is said, with when to come again, and trying again works', async (seen, state) => {
  const { page } = seen;
  state.reply = (_, n) => (n === 1 ? { status: 503, error: 'queue is full', headers: { 'Retry-After': '3' } } : 'Now.');
  await seen.open();
  await seen.ask('Please');
  const failure = page.getByRole('alert').filter({ hasText: 'The server is busy' });
  await failure.getByText('The server is busy (queue is full). Try again in 3 seconds.').waitFor();
  await failure.getByRole('button', { name: 'Try again' }).click();
  await until('the answer', async () => (await seen.texts()).includes('Now.'));
  assert.deepEqual(await seen.texts(), ['Please', 'Now.']);
  assert.equal(await failure.count(), 0);
}, status(503));

visit('the server’s own words are shown when it refuses, and are kept', async (seen, state) => {
  const { page } = seen;
  state.reply = () => ({ status: 400, error: 'the prompt has 5000 tokens, the context holds 4096' });
  await seen.open();
  await seen.ask('Too long');
  const words = page.getByText('the prompt has 5000 tokens, the context holds 4096');
  await words.waitFor();
  await page.reload();
  await words.waitFor();
  // Two questions in a row become one turn.
  state.reply = () => 'Fine.';
  assert.equal(await seen.askFor('Shorter'), 'Fine.');
  assert.deepEqual(state.requests[1].messages, [{ role: 'user', content: 'Too long\n\nShorter' }]);
}, status(400));

visit('an error in the stream keeps what came before it', async (seen, state) => {
  state.reply = () => ({ pieces: ['Half', ' an', ' answer'], failure: 'the slot was lost' });
  await seen.open();
  assert.equal(await seen.askFor('Go'), 'Half an answer');
  assert.match(await seen.answers.last().innerText(), /the slot was lost/);
});

visit('a connection that breaks is not taken for a whole answer', async (seen, state) => {
  state.reply = () => ({ pieces: ['Half', ' an', ' answer'], drop: true, delay: 60 });
  await seen.open();
  assert.equal(await seen.askFor('Go'), 'Half an answer');
  assert.match(await seen.answers.last().innerText(), /connection/);
  assert.equal(await seen.page.getByRole('button', { name: 'Try again' }).count(), 1);
}, { expected: /ERR_INCOMPLETE_CHUNKED_ENCODING|ERR_CONNECTION_RESET/ });

visit('an answer cut at the limit says so', async (seen, state) => {
  state.reply = () => ({ pieces: ['One', ' two'], finish: 'length' });
  await seen.open();
  await seen.askFor('Count');
  assert.match(await seen.answers.last().innerText(), /Stopped at the limit of tokens/);
});

visit('while the model is loaded the page says so and waits', async (seen, state) => {
  const { page } = seen;
  state.health = 503;
  await seen.open();
  await page.getByText('The server is loading the model.').waitFor();
  await seen.input.fill('Early');
  assert.equal(await page.locator('#send').isDisabled(), true);
  state.health = 200;
  await until('the banner to go', async () => !(await page.locator('#banner').isVisible()));
  await page.locator('#send').click();
  assert.equal(await seen.answer(), 'All is well.');
  assert.match(await page.locator('#model').innerText(), /prosparse-llama-2-7b · 4,096 tokens of context/);
}, status(503));

visit('a key is asked for, sent, and forgotten with the tab', async (seen, state) => {
  const { page } = seen;
  state.key = 'secret-1';
  await seen.open();
  await page.getByText('This server asks for an API key.').waitFor();
  await page.getByRole('button', { name: 'Enter the key' }).click();
  assert.equal(await page.evaluate(() => document.activeElement.id), 'key');
  await page.keyboard.type('secret-1');
  await page.keyboard.press('Enter');
  await until('the banner to go', async () => !(await page.locator('#banner').isVisible()));
  assert.equal(await seen.askFor('Hello'), 'All is well.');
  await page.reload();
  assert.equal(await seen.askFor('Again'), 'All is well.');
  const kept = await page.evaluate(() => JSON.stringify({ ...localStorage }));
  assert.doesNotMatch(kept, /secret-1/);
}, status(401));

visit('a full storage is said once, and the page goes on', async (seen) => {
  const { page } = seen;
  await page.addInitScript(() => {
    Storage.prototype.setItem = () => { throw new DOMException('full', 'QuotaExceededError'); };
  });
  await seen.open();
  await seen.askFor('One');
  await page.getByText(/storage is full or switched off/).waitFor();
  await page.getByRole('button', { name: 'Close this notice' }).click();
  assert.equal(await seen.askFor('Two'), 'All is well.');
  assert.deepEqual(await seen.titles(), ['One']);
  assert.equal(await page.locator('#banner').isVisible(), false);
});

visit('no storage at all', async (seen) => {
  const { page } = seen;
  await page.addInitScript(() => {
    for (const name of ['localStorage', 'sessionStorage']) {
      Object.defineProperty(window, name, { get() { throw new DOMException('denied', 'SecurityError'); } });
    }
  });
  await seen.open();
  assert.equal(await seen.askFor('One'), 'All is well.');
  await page.locator('#new').click();
  await page.locator('#conversations .open').click();
  assert.deepEqual(await seen.texts(), ['One', 'All is well.']);
});

visit('bad data in the storage is left out, and left alone', async (seen) => {
  const { page } = seen;
  const good = { id: 'good', title: '', created: 1, updated: 2, messages: [
    { role: 'user', content: 'Good' }, { role: 'root', content: 'x' }, null, 7, { role: 'assistant', content: 5 },
    { role: 'assistant', content: 'Yes', timings: { predicted_n: 'many' }, finish: 'sideways' }] };
  const bad = {
    a: '{', b: 'null', c: '[]', d: '{"id":"d"}', e: '{"id":"other","messages":[]}', f: '7',
    '"><img src=x>': '{"id":"\\"><img src=x>","messages":[]}', good: JSON.stringify(good),
  };
  await page.addInitScript((entries) => {
    if (localStorage.length) return;
    for (const [key, value] of Object.entries(entries)) {
      localStorage.setItem(`powerinfer.conversation.${key}`, value);
    }
    localStorage.setItem('powerinfer.settings', '{"temperature":"hot","top_k":-1,"seed":1e99,"system":{}}');
    localStorage.setItem('powerinfer.theme', 'pink');
  }, bad);
  await seen.open('#good');
  assert.deepEqual(await seen.titles(), ['Good']);
  assert.deepEqual(await seen.texts(), ['Good', 'Yes']);
  await seen.askFor('More');
  assert.equal(await page.evaluate(() => localStorage.getItem('powerinfer.conversation.a')), '{');
});

const ATTACKS = [
  '<script>window.hit = 1</script>',
  '<img src=x onerror="window.hit = 1">',
  '[click](javascript:window.hit=1) [data](data:text/html,<script>window.hit=1</script>)',
  '![picture](https://elsewhere.invalid/track.png) ![local](x" onerror="window.hit=1)',
  '[a](https://a.invalid/"onmouseover="window.hit=1) <javascript:window.hit=1>',
  '```html"><script>window.hit = 1</script>\n</code></pre><script>window.hit = 1</script>\n```',
  '| <b>a</b> | <svg onload="window.hit=1"> |\n|---|---|\n| </table><iframe src="javascript:window.hit=1"> | `<i>` |',
  '# <style>*{display:none}</style>\n\n- <a href="javascript:window.hit=1">x</a>\n\n> <base href="https://elsewhere.invalid">',
];

visit('what a model writes stays text', async (seen, state) => {
  const { page } = seen;
  state.reply = () => ({ pieces: [ATTACKS.join('\n\n')] });
  await seen.open();
  const text = await seen.askFor('<img src=x onerror="window.hit = 1"> <script>window.hit = 1</script>');
  for (const part of ['<script>window.hit = 1</script>', '<img src=x', '[click](javascript:window.hit=1)',
    '<svg onload=', '</table><iframe', '<style>*{display:none}</style>', '<base href=']) {
    assert.ok(text.includes(part), `${part} in ${text}`);
  }
  const check = async () => {
    assert.equal(await page.evaluate(() => window.hit), undefined);
    const tags = await page.locator('.message').evaluateAll((messages) => [...new Set(messages.flatMap((message) => (
      [...message.querySelectorAll('*')].map((node) => node.localName))))]);
    for (const tag of ['script', 'img', 'iframe', 'style', 'base', 'b']) assert.ok(!tags.includes(tag), tag);
    const links = await page.locator('.message a').evaluateAll((nodes) => nodes.map((node) => (
      [new URL(node.href).protocol, node.rel, node.target])));
    assert.ok(links.length > 0);
    for (const link of links) assert.deepEqual(link, ['https:', 'noopener noreferrer', '_blank']);
  };
  await check();
  // The same from the history, as a title, and in the list.
  await page.reload();
  await page.locator('.message').first().waitFor();
  await check();
  assert.match((await seen.titles())[0], /^<img src=x onerror=/);
});

visit('the policy is in force: what would offend it is refused', async (seen) => {
  const { page } = seen;
  await seen.open();
  await page.evaluate(() => {
    const script = document.createElement('script');
    script.textContent = 'window.hit = 1';
    document.body.append(script);
    document.body.setAttribute('style', 'color: red');
  });
  await until('both offences', async () => (await page.evaluate(() => window.offences.length)) === 2);
  assert.equal(await page.evaluate(() => window.hit), undefined);
  assert.equal(seen.faults.length, 2);
  // As they were wanted here.
  await page.evaluate(() => { window.offences = []; });
}, { expected: /Content Security Policy/ });
