// The page on the real server with a real model: POWERINFER_SERVER is its address, POWERINFER_SPARSE that of
// one with a sparse model, POWERINFER_SHOTS a folder for pictures to look at.

import assert from 'node:assert/strict';
import path from 'node:path';
import { DESK, PHONE, until, visit } from './browser.mjs';

const at = (address) => ({ url: `${address?.replace(/\/$/, '')}/`, skip: address ? false : 'no server' });
const dense = at(process.env.POWERINFER_SERVER);
const sparse = at(process.env.POWERINFER_SPARSE);

async function picture({ page }, name) {
  const folder = process.env.POWERINFER_SHOTS;
  if (folder) await page.screenshot({ path: path.join(folder, `real-${name}.png`) });
}

/** The same answer every time, of at most this many tokens. */
async function settle({ page }, tokens) {
  await page.locator('#settings-open').click();
  await page.getByLabel('Temperature').fill('0');
  await page.getByLabel('Longest answer').fill(String(tokens));
  await page.getByRole('button', { name: 'Save' }).click();
}

/** What the server says to that without a stream. */
async function expected({ page }, text) {
  return page.evaluate(async (content) => {
    const body = JSON.stringify({ messages: [{ role: 'user', content }], temperature: 0, max_tokens: 24 });
    const response = await fetch('v1/chat/completions', { method: 'POST', body });
    return (await response.json()).choices[0].message.content;
  }, text);
}

/** What is seen: without Markdown and with spaces as the browser lays them out. */
const plain = (text) => text.replace(/[*_`#]/g, '').replace(/\s+/g, ' ').trim();

visit('send, stream, regenerate, edit, reload', async (seen) => {
  const { page } = seen;
  await seen.open();
  await until('the model', async () => (await page.locator('#model').innerText()) !== '');
  assert.match(await page.locator('#model').innerText(), /smollm2.* · [\d,]+ tokens of context/i);
  // The server's own defaults are shown where nothing is set.
  await until('defaults', async () => (
    /^[\d.]+$/.test(await page.locator('#set-temperature').getAttribute('placeholder'))));
  await settle(seen, 24);
  const question = 'Who wrote the play about Romeo and Juliet?';
  const first = await seen.askFor(question);
  assert.ok(first.length > 20);
  assert.equal(plain(first), plain(await expected(seen, question)));
  await until('figures', async () => /answer [\d.]+\stokens\/s/.test(await page.locator('#speed').innerText()));
  assert.match(await seen.answers.last().innerText(), /\d+ tokens? · [\d.]+\stokens\/s/);
  await page.getByText('Dense model: all neurons are computed.').waitFor();
  await picture(seen, 'desk');

  await page.getByRole('button', { name: 'Regenerate answer' }).click();
  assert.equal(await seen.answer(), first);
  await page.locator('.message.user').hover();
  await page.getByRole('button', { name: 'Edit message' }).click();
  const other = 'Name a fruit that is yellow.';
  await page.getByRole('textbox', { name: 'Edit message' }).fill(other);
  await page.getByRole('button', { name: 'Send again' }).click();
  const second = await seen.answer();
  assert.notEqual(second, first);
  assert.equal(plain(second), plain(await expected(seen, other)));
  await page.reload();
  assert.deepEqual(await seen.texts(), [other, second]);
}, dense);

visit('stop reaches the server: its slot is free', async (seen) => {
  const { page } = seen;
  await seen.open();
  await settle(seen, 900);
  await seen.ask('Count from one to a thousand, each number on a line of its own.');
  await until('some words', async () => (await seen.answers.last().locator('.body').innerText()).length > 20);
  const busy = () => page.evaluate(async () => (await (await fetch('stats')).json()).slots_busy);
  assert.equal(await busy(), 1);
  await page.keyboard.press('Escape');
  await seen.answer();
  assert.match(await seen.answers.last().innerText(), /You stopped this answer/);
  await until('the slot to be free', async () => (await busy()) === 0);
}, dense);

visit('a refusal of the server is shown in its words', async (seen) => {
  await seen.open();
  await seen.ask(`All of this: ${'many words, '.repeat(4000)}`);
  await seen.answer();
  assert.match(await seen.answers.last().locator('.failure p').innerText(), /token|context/);
}, { ...dense, expected: /status of 4\d\d/ });

visit('on a phone in the dark', async (seen) => {
  const { page } = seen;
  await seen.open();
  await settle(seen, 24);
  assert.notEqual(await seen.askFor('Who wrote the play about Romeo and Juliet?'), '');
  await seen.checkWidth();
  await seen.checkAccess();
  await page.locator('#activity-toggle').tap();
  await picture(seen, 'phone');
}, { ...dense, device: PHONE, colorScheme: 'dark' });

visit('a sparse model: the chart shows each layer', async (seen) => {
  const { page } = seen;
  await seen.open();
  await settle(seen, 8);
  await seen.askFor('a');
  const chart = page.getByRole('img', { name: /Share of active neurons in each layer/ });
  await chart.waitFor();
  const stats = await page.evaluate(async () => (await fetch('stats')).json());
  const shares = stats.layers.filter((layer) => layer.active_share !== null);
  assert.ok(shares.length > 0);
  assert.equal(await chart.locator('.bar').count(), shares.length);
  assert.ok(shares.every(({ active_share: share }) => share > 0 && share <= 1));
  await picture(seen, 'sparse');
}, { ...sparse, device: DESK });
