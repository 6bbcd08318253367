'use strict';
/* node --test. POWERINFER_TEST_MODEL names SmolLM2 135M Instruct in Q4_1, POWERINFER_SIMPLE the example
 * program `simple`, whose text is compared; without them those tests are skipped. */

const assert = require('node:assert/strict');
const { execFileSync } = require('node:child_process');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const test = require('node:test');
const koffi = require('koffi');
const { Model, SIZES, library } = require('./powerinfer');

const FILE = process.env.POWERINFER_TEST_MODEL;
const PROMPT = 'The three primary colours are';

async function collect(stream) {
  const parts = [];
  for await (const part of stream) parts.push(part);
  return parts;
}

/* Runs a test on a model and a context, which are closed afterwards. */
function withModel(name, body, options = { nCtx: 512, nThreads: 2 }) {
  test(name, { skip: FILE ? false : 'POWERINFER_TEST_MODEL is not set' }, async (t) => {
    const model = await Model.load(FILE);
    try {
      await body(model, model.context(options), t);
    } finally {
      model.close();
    }
  });
}

test('structures have the sizes of llama.h, and the library fills them so', () => {
  assert.deepEqual([...SIZES.keys()].map((type) => koffi.sizeof(type)), [80, 160, 56, 1, 16]);
  const params = library().context_default_params();
  assert.deepEqual([params.n_ctx, params.n_batch, params.type_k, params.kv_unified], [512, 2048, 1, false]);
});

/* POWERINFER_LAYOUT: offsets as the C compiler sees them, tests/abi/layout.json of the repository. */
const LAYOUT = process.env.POWERINFER_LAYOUT;
test('every field is where the C compiler puts it', { skip: !LAYOUT && 'POWERINFER_LAYOUT is not set' }, () => {
  const { structs } = JSON.parse(fs.readFileSync(LAYOUT));
  for (const type of SIZES.keys()) {
    const { name, members } = koffi.type(type);
    const ours = Object.values(members).map((m) => [m.name, m.offset, koffi.sizeof(m.type)]);
    assert.deepEqual(ours, structs[name].fields.map((f) => [f.name, f.offset, f.size]), name);
  }
});

test('a file that is no model is an error with its reason', async () => {
  await assert.rejects(Model.load('absent.gguf'), /cannot load absent\.gguf: .*absent\.gguf/);
  const file = path.join(fs.mkdtempSync(path.join(os.tmpdir(), 'powerinfer-')), 'no.gguf');
  fs.writeFileSync(file, 'not a model');
  await assert.rejects(Model.load(file), /cannot load .*no\.gguf: .+/);
  fs.rmSync(path.dirname(file), { recursive: true });
});

withModel('greedy text is that of the C program', async (model, context, t) => {
  const parts = await collect(context.complete(PROMPT, { temperature: 0, maxTokens: 24 }));
  assert.ok(parts.length > 12, 'it is streamed');
  assert.deepEqual(await collect(context.complete(PROMPT, { temperature: 0, maxTokens: 24 })), parts);
  const simple = process.env.POWERINFER_SIMPLE;
  if (!simple) return t.skip('POWERINFER_SIMPLE is not set');
  const text = execFileSync(simple, ['-m', FILE, '-n', '24', PROMPT], { stdio: ['ignore', 'pipe', 'ignore'] });
  assert.equal(`${PROMPT}${parts.join('')}\n`, text.toString());
});

withModel('a seed makes a text that comes again', async (model, context) => {
  const told = async (seed) => (await collect(context.complete(PROMPT, { seed, maxTokens: 12, temperature: 1.2 }))).join('');
  const [first, second, again] = [await told(1), await told(2), await told(1)];
  assert.equal(again, first);
  assert.notEqual(second, first);
});

withModel('the event loop turns while tokens are computed', async (model, context) => {
  let turns = 0;
  const timer = setInterval(() => turns++, 1);
  const long = 'The river was high that spring. '.repeat(40);
  await collect(context.complete(long, { temperature: 0, maxTokens: 4 }));
  clearInterval(timer);
  assert.ok(turns > 5, `${turns} turns`);
});

withModel('characters of several tokens come whole', async (model, context) => {
  const text = 'naïve café 🦙 日本';
  const tokens = model.tokenize(text);
  const pieces = [...tokens].map((token) => model.piece(token));
  assert.ok(pieces.some((piece) => new TextDecoder().decode(piece).includes('\ufffd')), 'some are parts');
  assert.equal(Buffer.concat(pieces).toString(), text);
  assert.equal(Buffer.concat([...model.tokenize('a\0b')].map((token) => model.piece(token))).toString(), 'a\0b');
  const parts = await collect(context.complete('🦙🦙🦙🦙🦙🦙', { temperature: 0, maxTokens: 12 }));
  assert.ok(!parts.join('').includes('\ufffd'));
});

withModel('conversations are laid out by the model', async (model) => {
  assert.equal(
    model.chat([{ role: 'user', content: 'Hé' }]),
    '<|im_start|>user\nHé<|im_end|>\n<|im_start|>assistant\n');
  assert.throws(() => model.chat([{ role: 'user', content: 'a' }], { template: 'no such format' }), /template/);
});

withModel('what cannot be done says why', async (model, context) => {
  await assert.rejects(collect(context.complete('a '.repeat(600))), /the prompt has \d+ tokens, the context has room for 512/);
  await assert.rejects(collect(context.complete('')), /the prompt is empty/);
  const one = context.complete(PROMPT);
  await one.next();
  await assert.rejects(collect(context.complete(PROMPT)), /one completion at a time/);
  await one.return();
  const stop = new AbortController();
  const stopped = context.complete(PROMPT, { signal: stop.signal, temperature: 0 });
  await stopped.next();
  stop.abort(new Error('enough'));
  await assert.rejects(collect(stopped), /enough/);
  assert.equal((await collect(context.complete(PROMPT, { temperature: 0, maxTokens: 4 }))).length, 4);
});

withModel('a full context ends the text', async (model, context) => {
  const prompt = ' a'.repeat(context.nCtx - 6);
  assert.equal(model.tokenize(prompt).length, context.nCtx - 6);
  const parts = await collect(context.complete(prompt, { temperature: 0, maxTokens: 1 << 20 }));
  assert.ok(parts.length > 0 && parts.length <= 7, `${parts.length} parts`);
}, { nCtx: 256, nThreads: 2 });

withModel('closing waits for a completion', async (model, context) => {
  const running = context.complete(PROMPT, { temperature: 0, maxTokens: 64 });
  await running.next();
  model.close();
  assert.ok((await collect(running)).length < 4, 'it ends soon');
  for (const use of [() => model.context(), () => model.tokenize('a'), () => model.piece(1), () => model.isEnd(1)]) {
    assert.throws(use, /the model is closed/);
  }
  await assert.rejects(collect(context.complete(PROMPT)), /the context is closed/);
  model.close();
});
