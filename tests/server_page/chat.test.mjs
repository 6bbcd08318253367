// A conversation from its first message to its export.

import assert from 'node:assert/strict';
import fs from 'node:fs';
import { until, visit } from './browser.mjs';

const words = (count) => Array.from({ length: count }, (_, i) => ` word${i}`);

visit('a message is sent, its answer streams in and is told when complete', async (seen, state) => {
  const { page } = seen;
  state.reply = () => ({ pieces: words(30), delay: 30 });
  await seen.open();
  await seen.ask('Hello there');
  assert.equal(await seen.input.inputValue(), '');
  const last = seen.answers.last();
  await until('the first words', async () => /word3/.test(await last.innerText()));
  assert.doesNotMatch(await last.innerText(), /word29/);
  assert.equal(await last.getAttribute('aria-busy'), 'true');
  // A screen reader is not read each token.
  assert.doesNotMatch(await page.locator('#announcer').textContent(), /word/);
  assert.equal(await page.locator('#log').getAttribute('aria-live'), 'off');
  assert.match(await seen.answer(), /^word0 word1 .* word29$/);
  await seen.said(/^Answer: word0 .* word29$/);
  assert.match(await last.innerText(), /30 tokens · 41\.3\stokens\/s/);
  assert.equal(await page.locator('#title').innerText(), 'Hello there');
  assert.deepEqual(await seen.titles(), ['Hello there']);
  assert.deepEqual(state.requests.map(({ messages, stream }) => ({ messages, stream })),
    [{ messages: [{ role: 'user', content: 'Hello there' }], stream: true }]);
  // What is empty in the settings is left to the server.
  assert.equal('temperature' in state.requests[0], false);
});

visit('the next request has the conversation so far', async (seen, state) => {
  state.reply = (_, n) => `Answer ${n}.`;
  await seen.open();
  await seen.askFor('One');
  assert.equal(await seen.askFor('Two'), 'Answer 2.');
  assert.deepEqual(state.requests[1].messages.map(({ content }) => content), ['One', 'Answer 1.', 'Two']);
});

visit('stop ends the answer, tells the server, and keeps what came', async (seen, state) => {
  const { page } = seen;
  state.reply = (_, n) => (n === 1 ? { pieces: words(2000), delay: 20 } : 'Again.');
  await seen.open();
  await seen.ask('Count');
  await until('some words', async () => /word5/.test(await seen.answers.last().innerText()));
  await page.locator('#stop').click();
  const text = await seen.answer();
  assert.match(text, /^word0 word1/);
  await until('the server to see it', () => state.gone === 1);
  assert.match(await seen.answers.last().innerText(), /You stopped this answer/);
  assert.equal(await page.evaluate(() => document.activeElement.id), 'input');
  assert.equal(await seen.askFor('And now'), 'Again.');
  assert.equal(state.requests[1].messages[1].content.trim(), text);
});

visit('an answer is written again, and the old one can be had back', async (seen, state) => {
  const { page } = seen;
  state.reply = (_, n) => `Answer ${n}.`;
  await seen.open();
  await seen.askFor('Tell me');
  await page.getByRole('button', { name: 'Regenerate answer' }).click();
  await until('the second answer', async () => (await seen.texts()).includes('Answer 2.'));
  await seen.answer();
  assert.deepEqual(await seen.texts(), ['Tell me', 'Answer 2.']);
  assert.deepEqual(state.requests[1].messages, [{ role: 'user', content: 'Tell me' }]);
  await page.getByRole('button', { name: 'Undo' }).click();
  assert.deepEqual(await seen.texts(), ['Tell me', 'Answer 1.']);
  await page.reload();
  assert.deepEqual(await seen.texts(), ['Tell me', 'Answer 1.']);
});

visit('a message is edited and sent again from there', async (seen, state) => {
  const { page } = seen;
  state.reply = (_, n) => `Answer ${n}.`;
  await seen.open();
  await seen.askFor('First');
  await seen.askFor('Second');
  const first = page.locator('.message.user').first();
  await first.hover();
  await first.getByRole('button', { name: 'Edit message' }).click();
  const field = first.getByLabel('Edit message');
  assert.equal(await field.inputValue(), 'First');
  await field.fill('Changed');
  await first.getByRole('button', { name: 'Send again' }).click();
  await until('the new answer', async () => (await seen.texts()).includes('Answer 3.'));
  await seen.answer();
  assert.deepEqual(await seen.texts(), ['Changed', 'Answer 3.']);
  assert.deepEqual(state.requests[2].messages, [{ role: 'user', content: 'Changed' }]);
  await page.getByRole('button', { name: 'Undo' }).click();
  assert.deepEqual(await seen.texts(), ['First', 'Answer 1.', 'Second', 'Answer 2.']);

  // What would drop a newer message cannot be undone any more.
  await page.getByRole('button', { name: 'Regenerate answer' }).last().click();
  await page.getByRole('button', { name: 'Undo' }).waitFor();
  await seen.answer();
  await seen.askFor('Third');
  assert.equal(await page.getByRole('button', { name: 'Undo' }).count(), 0);
  assert.equal((await seen.texts()).length, 6);
});

visit('editing can be given up', async (seen) => {
  const { page } = seen;
  await seen.open();
  await seen.askFor('Stay');
  await seen.input.press('ArrowUp');
  const field = page.getByLabel('Edit message').and(page.locator('textarea'));
  await field.fill('Go');
  await field.press('Escape');
  assert.deepEqual(await seen.texts(), ['Stay', 'All is well.']);
  assert.equal(await page.evaluate(() => document.activeElement.getAttribute('aria-label')), 'Edit message');
});

visit('a reload finds the history, also in the middle of an answer', async (seen, state) => {
  const { page } = seen;
  await seen.open();
  await seen.askFor('Remember this');
  state.reply = () => ({ pieces: words(2000), delay: 20 });
  await seen.ask('And this');
  await until('some words', async () => /word9/.test(await seen.answers.last().innerText()));
  await page.reload();
  const texts = await seen.texts();
  assert.deepEqual(texts.slice(0, 3), ['Remember this', 'All is well.', 'And this']);
  assert.match(texts[3], /^word0 word1/);
  assert.match(await seen.answers.last().innerText(), /was interrupted/);
  assert.deepEqual(await seen.titles(), ['Remember this']);
  await seen.open();
  assert.deepEqual(await seen.texts(), []);
  await page.locator('#conversations .open').click();
  assert.equal((await seen.texts()).length, 4);
});

visit('several conversations: new, open, rename, delete and undo, back', async (seen, state) => {
  const { page } = seen;
  state.reply = ({ messages }) => `On ${messages.at(-1).content}.`;
  await seen.open();
  await seen.askFor('apples');
  await page.locator('#new').click();
  assert.deepEqual(await seen.texts(), []);
  await seen.askFor('pears');
  assert.deepEqual(await seen.titles(), ['pears', 'apples']);
  assert.equal(state.requests[1].messages.length, 1);

  await page.getByRole('button', { name: 'Rename pears' }).click();
  await page.getByLabel('Name of the conversation').fill('Fruit');
  await page.keyboard.press('Enter');
  assert.deepEqual(await seen.titles(), ['Fruit', 'apples']);
  assert.equal(await page.locator('#title').innerText(), 'Fruit');
  assert.equal(await page.evaluate(() => document.activeElement.getAttribute('aria-label')), 'Rename Fruit');

  await page.locator('#conversations .open', { hasText: 'apples' }).click();
  assert.deepEqual(await seen.texts(), ['apples', 'On apples.']);
  await page.goBack();
  await until('the one before', async () => (await seen.texts())[0] === 'pears');
  await page.getByRole('button', { name: 'Delete Fruit' }).click();
  assert.deepEqual(await seen.titles(), ['apples']);
  assert.deepEqual(await seen.texts(), []);
  await page.getByRole('button', { name: 'Undo' }).click();
  await until('it to come back', async () => (await seen.texts())[0] === 'pears');
  assert.deepEqual(await seen.titles(), ['Fruit', 'apples']);
});

visit('an answer goes on while another conversation is open', async (seen, state) => {
  const { page } = seen;
  state.reply = ({ messages }) => (messages[0].content === 'long' ? { pieces: words(60), delay: 25 } : 'Short.');
  await seen.open();
  await seen.ask('long');
  await until('some words', async () => /word2/.test(await seen.answers.last().innerText()));
  await page.locator('#new').click();
  assert.equal(await seen.askFor('short'), 'Short.');
  assert.equal(await page.locator('#conversations .dot').count(), 1);
  await page.locator('#conversations .open', { hasText: 'long' }).click();
  assert.match(await seen.answer(), /word0 .* word59$/);
  assert.equal(await page.locator('#conversations .dot').count(), 0);
});

visit('a conversation is exported and imported', async (seen) => {
  const { page } = seen;
  await seen.open();
  assert.equal(await page.locator('#export').isDisabled(), true);
  await seen.askFor('Keep me: “well”');
  const [saved] = await Promise.all([page.waitForEvent('download'), page.locator('#export').click()]);
  assert.equal(saved.suggestedFilename(), 'Keep-me-well.json');
  const file = await saved.path();
  const { format, messages } = JSON.parse(fs.readFileSync(file, 'utf8'));
  assert.equal(format, 'powerinfer-conversation');
  assert.deepEqual(messages.map(({ role, content }) => [role, content]),
    [['user', 'Keep me: “well”'], ['assistant', 'All is well.']]);
  await page.getByRole('button', { name: /^Delete Keep/ }).click();
  await page.locator('#import-file').setInputFiles(file);
  await until('it to be shown', async () => (await seen.texts())[0] === 'Keep me: “well”');
  // Once more is a second conversation, not a change of the first.
  await page.locator('#import-file').setInputFiles(file);
  await until('two of them', async () => (await seen.titles()).length === 2);
  const wrong = { name: 'no.json', mimeType: 'application/json', buffer: Buffer.from('{"id":1}') };
  await page.locator('#import-file').setInputFiles(wrong);
  await page.getByText('no.json is not a conversation').waitFor();
});

visit('settings are sent, checked, kept and reset', async (seen, state) => {
  const { page } = seen;
  const save = page.getByRole('button', { name: 'Save' });
  await seen.open();
  await until('defaults', async () => await page.locator('#set-top_p').getAttribute('placeholder') === '0.95');
  await page.getByRole('button', { name: 'Settings', exact: true }).click();
  await page.getByLabel('System prompt').fill('You are a pirate.');
  await page.getByLabel('Temperature').fill('0.35');
  await page.getByLabel('Top-k').fill('2.5');
  await page.getByLabel('Seed').fill('42');
  await save.click();
  // 2.5 is not whole: it is said, and the field has the focus.
  await page.getByText('A whole number from 0 to 100000.').waitFor();
  assert.equal(await page.evaluate(() => document.activeElement.id), 'set-top_k');
  assert.equal(await page.getByLabel('Top-k').getAttribute('aria-invalid'), 'true');
  await page.getByLabel('Top-k').fill('20');
  await page.getByLabel('Longest answer').fill('64');
  await save.click();
  await page.reload();
  await seen.askFor('Ahoy');
  const { messages, temperature, top_k: topK, seed, max_tokens: most, top_p: topP } = state.requests[0];
  assert.deepEqual(messages[0], { role: 'system', content: 'You are a pirate.' });
  assert.deepEqual([temperature, topK, seed, most, topP], [0.35, 20, 42, 64, undefined]);
  await page.getByRole('button', { name: 'Settings', exact: true }).click();
  await page.getByRole('button', { name: 'Reset to defaults' }).click();
  await save.click();
  await seen.askFor('Hello');
  assert.equal('temperature' in state.requests[1], false);
  assert.equal(state.requests[1].messages[0].role, 'user');
});

visit('speed and activity: figures, the chart and its table; polled while busy alone', async (seen, state) => {
  const { page } = seen;
  const layers = [0.08, 0.31, 0.12].map((share, i) => (
    { layer: i + 4, mode: i === 2 ? 'off' : 'exact', active_share: share }));
  await seen.open();
  const panel = page.getByRole('complementary', { name: 'Speed and activity' });
  await panel.getByText('Dense model: all neurons are computed.').waitFor();
  // Before the first token.
  state.stats = { ...state.stats, active_share: 0, layers: layers.map((layer) => ({ ...layer, active_share: 0 })) };
  await page.reload();
  await panel.getByText('Not measured yet').waitFor();
  assert.doesNotMatch(await page.locator('#speed').innerText(), /active/);
  state.stats = { ...state.stats, active_share: 0.17, layers };
  state.reply = () => ({ pieces: words(40), delay: 40 });
  await seen.ask('Go');
  await panel.getByText('of the neurons are active per token').waitFor();
  assert.match(await panel.innerText(), /17\s%/);
  const chart = panel.getByRole('img');
  assert.match(await chart.getAttribute('aria-label'),
    /3 layers, mode exact\. Least: layer 4 with 8\.0\s%; most: layer 5 with 31\s%/);
  const tall = await chart.locator('.bar').evaluateAll((bars) => bars.map((bar) => bar.getBBox().height));
  assert.equal(await chart.locator('.bar.off').count(), 1);
  assert.deepEqual(tall.map((height) => (height / tall[1]).toFixed(2)), ['0.26', '1.00', '0.39']);
  await until('a live speed', async () => /answer [\d.]+\stokens\/s/.test(await page.locator('#speed').innerText()));
  await seen.answer();
  assert.match(await page.locator('#speed').innerText(), /^prompt 812 · answer 41\.3\stokens\/s · 17\s% active$/);
  await panel.getByText('Layers as a table').click();
  const row = panel.locator('tbody tr').nth(1).locator('th, td');
  assert.deepEqual(await row.allInnerTexts(), ['5', 'exact', '31\u00a0%']);
  // The last poll may be on its way.
  await page.waitForTimeout(300);
  const asked = state.statsAsked;
  assert.ok(asked >= 3, `asked ${asked} times`);
  await page.waitForTimeout(1500);
  assert.equal(state.statsAsked, asked);
});

visit('the keyboard alone', async (seen, state) => {
  const { page } = seen;
  state.reply = (_, n) => (n === 2 ? { pieces: words(2000), delay: 20 } : `Answer ${n}.`);
  await seen.open();
  await until('the server', async () => (await page.locator('#model').innerText()) !== '');
  const focused = () => page.evaluate(() => {
    const { id, innerText, ariaLabel } = document.activeElement;
    return id || ariaLabel || innerText;
  });
  // The field has the focus from the beginning; the skip link is the first stop.
  assert.equal(await focused(), 'input');
  await page.locator('.brand span').click();
  await page.keyboard.press('Shift+Tab');
  assert.equal(await focused(), 'skip');
  await page.keyboard.press('Enter');
  assert.equal(await focused(), 'input');

  await page.keyboard.type('First line');
  await page.keyboard.press('Shift+Enter');
  await page.keyboard.type('second');
  await page.keyboard.press('Enter');
  await seen.answer();
  assert.equal(state.requests[0].messages[0].content, 'First line\nsecond');
  assert.equal(await focused(), 'input');

  await page.keyboard.type('Long one');
  await page.keyboard.press('Enter');
  await until('some words', async () => /word3/.test(await seen.answers.last().innerText()));
  // What is typed meanwhile waits.
  await page.keyboard.type('next');
  await page.keyboard.press('Enter');
  assert.equal(await seen.input.inputValue(), 'next');
  await page.keyboard.press('Escape');
  await seen.answer();
  assert.equal(await focused(), 'input');
  assert.equal(state.requests.length, 2);

  // Backwards from the field: the last answer's buttons.
  await page.keyboard.press('Shift+Tab');
  assert.equal(await focused(), 'Regenerate answer');
  const ring = await page.evaluate(() => getComputedStyle(document.activeElement).outlineStyle);
  assert.equal(ring, 'solid');
  await page.keyboard.press('Enter');
  await until('a third request', () => state.requests.length === 3);
  await seen.answer();
  assert.equal(await focused(), 'input');

  // The dialog takes the focus and gives it back.
  await page.locator('#settings-open').focus();
  await page.keyboard.press('Enter');
  assert.equal(await page.evaluate(() => document.querySelector('#settings').contains(document.activeElement)), true);
  await page.keyboard.press('Escape');
  assert.equal(await focused(), 'settings-open');

  // A new conversation, and its deletion.
  await page.locator('#new').focus();
  await page.keyboard.press('Tab');
  assert.equal(await focused(), 'First line');
  await page.keyboard.press('Tab');
  await page.keyboard.press('Tab');
  assert.equal(await focused(), 'Delete First line');
  await page.keyboard.press('Space');
  assert.deepEqual(await seen.titles(), []);
  assert.equal(await focused(), 'input');
});

visit('another tab sees what this one wrote', async (seen) => {
  await seen.open();
  const other = await seen.context.newPage();
  await other.goto(seen.url);
  await seen.askFor('From the first tab');
  await until('the list there', async () => (
    await other.locator('#conversations .open').count() === 1));
  assert.match(await other.locator('#conversations').innerText(), /From the first tab/);
  await other.close();
});
