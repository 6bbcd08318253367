#!/usr/bin/env node
'use strict';
/* node complete.js MODEL "PROMPT" [--max-tokens 64] [--temperature 0.8] [--seed 1] [--chat] */

const { Model } = require('./powerinfer');
const { parseArgs } = require('util');

async function main() {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      'max-tokens': { type: 'string', default: '128' },
      temperature: { type: 'string', default: '0.8' },
      seed: { type: 'string' },
      chat: { type: 'boolean', default: false },
    },
  });
  const [path, prompt] = positionals;
  if (!path || !prompt) throw new Error('usage: node complete.js MODEL "PROMPT" [--max-tokens N] [--chat] ...');
  const numbers = { maxTokens: Number(values['max-tokens']), temperature: Number(values.temperature) };
  if (values.seed !== undefined) numbers.seed = Number(values.seed);
  for (const [name, value] of Object.entries(numbers)) {
    if (!(value >= 0)) throw new Error(`${name} is no number`);
  }

  const stop = new AbortController();
  process.once('SIGINT', () => stop.abort(new Error('interrupted')));
  const model = await Model.load(path);
  try {
    const context = model.context();
    const text = values.chat ? model.chat([{ role: 'user', content: prompt }]) : prompt;
    if (!values.chat) process.stdout.write(prompt);
    for await (const part of context.complete(text, { ...numbers, signal: stop.signal })) {
      process.stdout.write(part);
    }
    process.stdout.write('\n');
  } finally {
    model.close();
  }
}

main().catch((error) => {
  process.stderr.write(`complete.js: ${error.message}\n`);
  process.exitCode = 1;
});
