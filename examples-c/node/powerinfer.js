'use strict';
/* libpowerinfer from Node: load a model, stream a completion.
 *
 *   const { Model } = require('./powerinfer');
 *   const model = await Model.load('model.gguf');
 *   const context = model.context({ nCtx: 1024 });
 *   for await (const text of context.complete('Once upon a time')) process.stdout.write(text);
 *   context.close();
 *   model.close();
 *
 * Everything that takes long (loading, computing) runs on koffi's worker threads: the event loop stays
 * free. The declarations below are those of llama.h; its structures are passed by value, so they must
 * have exactly the fields of the header that the library was built with. */

const koffi = require('koffi');
const os = require('os');
const { promisify } = require('util');

// A call runs on a stack of koffi's; 128 KiB, its default, is little for a library that computes.
try {
  koffi.config({ ...koffi.config(), async_stack_size: 2 << 20 });
} catch {
  // Too late: the program has opened another library through koffi. It works with the default too.
}

// ---- llama.h ----

const modelParams = koffi.struct('llama_model_params', {
  devices: 'void *',
  tensor_buft_overrides: 'void *',
  n_gpu_layers: 'int32_t',
  split_mode: 'int32_t',
  load_mode: 'int32_t',
  lazy_mode: 'int32_t',
  main_gpu: 'int32_t',
  tensor_split: 'void *',
  progress_callback: 'void *',
  progress_callback_user_data: 'void *',
  kv_overrides: 'void *',
  vocab_only: 'bool',
  check_tensors: 'bool',
  use_extra_bufts: 'bool',
  no_host: 'bool',
  no_alloc: 'bool',
  load_mtp: 'bool',
});

const contextParams = koffi.struct('llama_context_params', {
  n_ctx: 'uint32_t',
  n_batch: 'uint32_t',
  n_ubatch: 'uint32_t',
  n_seq_max: 'uint32_t',
  n_rs_seq: 'uint32_t',
  n_outputs_max: 'uint32_t',
  n_outputs_max_per_seq: 'uint32_t',
  n_threads: 'int32_t',
  n_threads_batch: 'int32_t',
  ctx_type: 'int32_t',
  rope_scaling_type: 'int32_t',
  pooling_type: 'int32_t',
  attention_type: 'int32_t',
  flash_attn_type: 'int32_t',
  rope_freq_base: 'float',
  rope_freq_scale: 'float',
  yarn_ext_factor: 'float',
  yarn_attn_factor: 'float',
  yarn_beta_fast: 'float',
  yarn_beta_slow: 'float',
  yarn_orig_ctx: 'uint32_t',
  defrag_thold: 'float',
  cb_eval: 'void *',
  cb_eval_user_data: 'void *',
  type_k: 'int32_t',
  type_v: 'int32_t',
  abort_callback: 'void *',
  abort_callback_data: 'void *',
  embeddings: 'bool',
  offload_kqv: 'bool',
  no_perf: 'bool',
  op_offload: 'bool',
  swa_full: 'bool',
  kv_unified: 'bool',
  samplers: 'void *',
  n_samplers: 'size_t',
  ctx_other: 'void *',
});

const batch = koffi.struct('llama_batch', {
  n_tokens: 'int32_t',
  token: 'void *',
  embd: 'void *',
  pos: 'void *',
  n_seq_id: 'void *',
  seq_id: 'void *',
  logits: 'void *',
});

const chainParams = koffi.struct('llama_sampler_chain_params', { no_perf: 'bool' });
const chatMessage = koffi.struct('llama_chat_message', { role: 'const char *', content: 'const char *' });
const logCallback = koffi.proto('void llama_log_callback(int level, const char *text, void *data)');

/* What the structures measure in the header. */
const SIZES = new Map([[modelParams, 80], [contextParams, 160], [batch, 56], [chainParams, 1], [chatMessage, 16]]);

const FUNCTIONS = [
  'void llama_backend_init(void)',
  'void llama_log_set(llama_log_callback *callback, void *data)',
  'llama_model_params llama_model_default_params(void)',
  'void *llama_model_load_from_file(const char *path, llama_model_params params)',
  'void llama_model_free(void *model)',
  'void *llama_model_get_vocab(void *model)',
  'const char *llama_model_chat_template(void *model, const char *name)',
  'int32_t llama_model_n_ctx_train(void *model)',
  'llama_context_params llama_context_default_params(void)',
  'void *llama_init_from_model(void *model, llama_context_params params)',
  'void llama_free(void *context)',
  'uint32_t llama_n_ctx(void *context)',
  'uint32_t llama_n_batch(void *context)',
  'void *llama_get_memory(void *context)',
  'void llama_memory_clear(void *memory, bool data)',
  'int32_t llama_decode(void *context, llama_batch batch)',
  'int32_t llama_tokenize(void *vocab, const uint8_t *text, int32_t n_text, _Out_ int32_t *tokens, int32_t n_tokens, bool add_special, bool parse_special)',
  'int32_t llama_token_to_piece(void *vocab, int32_t token, _Out_ uint8_t *piece, int32_t length, int32_t lstrip, bool special)',
  'bool llama_vocab_is_eog(void *vocab, int32_t token)',
  'int32_t llama_chat_apply_template(const char *template, llama_chat_message *messages, size_t n, bool add_assistant, _Out_ uint8_t *text, int32_t length)',
  'void *llama_sampler_chain_init(llama_sampler_chain_params params)',
  'void llama_sampler_chain_add(void *chain, void *sampler)',
  'void *llama_sampler_init_greedy(void)',
  'void *llama_sampler_init_top_k(int32_t k)',
  'void *llama_sampler_init_top_p(float p, size_t min_keep)',
  'void *llama_sampler_init_temp(float temperature)',
  'void *llama_sampler_init_dist(uint32_t seed)',
  'int32_t llama_sampler_sample(void *sampler, void *context, int32_t i)',
  'void llama_sampler_free(void *sampler)',
];

const LOG_WARN = 3;
const LOG_ERROR = 4;
const LOG_CONT = 5;

/* The library's functions by name, without "llama_". One library for a process: its log is one. */
let loaded = null;
/* What the library said is wrong, until someone throws it. */
let complaints = [];

function library(path) {
  if (loaded) return loaded;
  const file = path || process.env.POWERINFER_LIBRARY || 'libpowerinfer.so';
  for (const [type, size] of SIZES) {
    if (koffi.sizeof(type) !== size) throw new Error(`a structure of ${koffi.sizeof(type)} bytes should have ${size}`);
  }
  let handle;
  try {
    handle = koffi.load(file);
  } catch (error) {
    throw new Error(`cannot load ${file}: ${error.message} (POWERINFER_LIBRARY names another file)`);
  }
  const functions = {};
  for (const declaration of FUNCTIONS) {
    const name = /llama_(\w+)\(/.exec(declaration)[1];
    functions[name] = handle.func(declaration);
  }
  // Structures carry no version. That fields are where they should be shows in the defaults.
  const [model, context] = [functions.model_default_params(), functions.context_default_params()];
  if (model.n_gpu_layers !== -1 || !model.use_extra_bufts || context.n_ctx !== 512 || !context.swa_full) {
    throw new Error(`${file} is built for another version of llama.h`);
  }
  // Errors become the messages of exceptions; the library would print them to stderr.
  let level = 0;
  const listen = (now, text) => {
    level = now === LOG_CONT ? level : now;
    if (level >= LOG_WARN) complaints.push(text.trimEnd());
    if (complaints.length > 32) complaints.shift();
  };
  functions.log_set(koffi.register(listen, koffi.pointer(logCallback)), null);
  functions.backend_init();
  loaded = functions;
  return loaded;
}

/* An error with what the library said about it. */
function failure(what) {
  const reasons = complaints.filter(Boolean);
  complaints = [];
  return new Error(reasons.length ? `${what}: ${reasons.join('; ')}` : what);
}

/* Calls a function on a worker thread. */
function call(f, ...args) {
  return promisify(f.async)(...args);
}

/* ---- models ---- */

class Model {
  #lib;
  #handle;
  #contexts = new Set();
  #closed = false;

  /* Loads a GGUF file. options: library (a path; also by POWERINFER_LIBRARY), nGpuLayers. */
  static async load(path, { library: file, nGpuLayers } = {}) {
    const lib = library(file);
    const params = lib.model_default_params();
    params.n_gpu_layers = nGpuLayers ?? params.n_gpu_layers;
    complaints = [];
    const handle = await call(lib.model_load_from_file, path, params);
    if (!handle) throw failure(`cannot load ${path}`);
    return new Model(lib, handle);
  }

  constructor(lib, handle) {
    this.#lib = lib;
    this.#handle = handle;
    this.vocab = lib.model_get_vocab(handle);
  }

  /* The handle of a model that is not closed. */
  #open() {
    if (this.#closed) throw new Error('the model is closed');
    return this.#handle;
  }

  /* Tokens of a text, as an Int32Array. special: "<|im_start|>" and the like are tokens. */
  tokenize(text, { addSpecial = true, special = true } = {}) {
    const bytes = Buffer.from(text); // a text may have a NUL in it
    const tokens = new Int32Array(bytes.length + 2); // a token is a byte or more, and two may come around them
    this.#open();
    const n = this.#lib.tokenize(this.vocab, bytes, bytes.length, tokens, tokens.length, addSpecial, special);
    if (n < 0) throw failure('cannot tokenize the text');
    return tokens.subarray(0, n);
  }

  /* The bytes of a token: perhaps only a part of a character. */
  piece(token, special = false) {
    this.#open();
    let bytes = new Uint8Array(64);
    let n = this.#lib.token_to_piece(this.vocab, token, bytes, bytes.length, 0, special);
    if (n < 0) {
      bytes = new Uint8Array(-n);
      n = this.#lib.token_to_piece(this.vocab, token, bytes, bytes.length, 0, special);
    }
    return bytes.subarray(0, n);
  }

  /* A conversation, [{ role, content }, ...], as the text that the model was trained on. */
  chat(messages, { template = null, addAssistant = true } = {}) {
    const format = template ?? this.#lib.model_chat_template(this.#open(), null);
    const room = messages.reduce((sum, m) => sum + 2 * Buffer.byteLength(m.role + m.content) + 64, 256);
    let text = new Uint8Array(room);
    const apply = () => this.#lib.chat_apply_template(
      format, messages, messages.length, addAssistant, text, text.length);
    let n = apply();
    if (n > text.length) {
      text = new Uint8Array(n);
      n = apply();
    }
    if (n < 0) throw failure("the library does not know the model's chat template");
    return Buffer.from(text.subarray(0, n)).toString('utf8');
  }

  /* Whether a token says that the text has ended. */
  isEnd(token) {
    this.#open();
    return this.#lib.vocab_is_eog(this.vocab, token);
  }

  /* A context: what one conversation remembers. options: nCtx (tokens; 0 as long as the model was
   * trained for), nThreads. */
  context(options = {}) {
    const params = this.#lib.context_default_params();
    params.n_ctx = options.nCtx ?? 2048;
    params.n_threads = params.n_threads_batch = options.nThreads ?? os.availableParallelism?.() ?? os.cpus().length;
    complaints = [];
    const handle = this.#lib.init_from_model(this.#open(), params);
    if (!handle) throw failure(`cannot make a context of ${params.n_ctx} tokens`);
    const context = new Context(this.#lib, this, handle, () => {
      this.#contexts.delete(context);
      this.#freeWhenUnused();
    });
    this.#contexts.add(context);
    return context;
  }

  /* Frees the model and its contexts; a completion under way ends first. */
  close() {
    this.#closed = true;
    for (const context of [...this.#contexts]) context.close();
    this.#freeWhenUnused();
  }

  #freeWhenUnused() {
    if (!this.#closed || this.#contexts.size || !this.#handle) return;
    this.#lib.model_free(this.#handle);
    this.#handle = null;
  }
}

/* ---- contexts ---- */

class Context {
  #lib;
  #handle;
  #freed;
  #closed = false;
  #busy = false;
  #memory; // of the tokens of a call, which a worker thread reads

  constructor(lib, model, handle, freed) {
    this.#lib = lib;
    this.#handle = handle;
    this.#freed = freed;
    this.model = model;
    this.nCtx = lib.n_ctx(handle);
    this.nBatch = lib.n_batch(handle);
    this.#memory = koffi.alloc('int32_t', this.nBatch);
  }

  /* Continues a text: an async iterator of pieces of text, none of which has half a character. It ends
   * when the model ends, after maxTokens, when the context is full, or when signal (an AbortSignal) says
   * so. At temperature 0 the best token is taken; otherwise seed makes a text that comes again. */
  async *complete(prompt, options = {}) {
    const { maxTokens = 256, signal, special = false } = options;
    if (this.#closed) throw new Error('the context is closed');
    if (this.#busy) throw new Error('the context is in use: one completion at a time');
    this.#busy = true;
    const sampler = this.#sampler(options);
    try {
      const tokens = this.model.tokenize(prompt);
      if (!tokens.length) throw new Error('the prompt is empty');
      if (tokens.length > this.nCtx) {
        throw new Error(`the prompt has ${tokens.length} tokens, the context has room for ${this.nCtx}`);
      }
      this.#lib.memory_clear(this.#lib.get_memory(this.#handle), true);
      for (let i = 0; i < tokens.length; i += this.nBatch) {
        signal?.throwIfAborted();
        await this.#decode(tokens.subarray(i, i + this.nBatch));
      }
      const utf8 = new TextDecoder();
      let used = tokens.length;
      for (let n = 0; n < maxTokens; n++) {
        signal?.throwIfAborted();
        if (this.#closed) break;
        const token = this.#lib.sampler_sample(sampler, this.#handle, -1);
        if (this.model.isEnd(token)) break;
        const text = utf8.decode(this.model.piece(token, special), { stream: true });
        if (text) yield text;
        if (n + 1 === maxTokens || used === this.nCtx) break;
        await this.#decode(Int32Array.of(token));
        used++;
      }
      const rest = utf8.decode();
      if (rest) yield rest;
    } finally {
      this.#lib.sampler_free(sampler);
      this.#busy = false;
      this.#freeWhenUnused();
    }
  }

  #sampler({ temperature = 0.8, topK = 40, topP = 0.95, seed = 0xffffffff }) {
    const lib = this.#lib;
    const chain = lib.sampler_chain_init({ no_perf: true });
    if (temperature <= 0) {
      lib.sampler_chain_add(chain, lib.sampler_init_greedy());
    } else {
      lib.sampler_chain_add(chain, lib.sampler_init_top_k(topK));
      lib.sampler_chain_add(chain, lib.sampler_init_top_p(topP, 1));
      lib.sampler_chain_add(chain, lib.sampler_init_temp(temperature));
      lib.sampler_chain_add(chain, lib.sampler_init_dist(seed));
    }
    return chain;
  }

  async #decode(tokens) {
    koffi.encode(this.#memory, 'int32_t', tokens, tokens.length);
    complaints = [];
    const status = await call(this.#lib.decode, this.#handle, {
      n_tokens: tokens.length,
      token: this.#memory,
      // The library fills in the rest: the next positions, sequence 0, logits of the last token.
      embd: null, pos: null, n_seq_id: null, seq_id: null, logits: null,
    });
    if (status === 1) throw failure('the context is full');
    if (status !== 0) throw failure(`llama_decode gave ${status}`);
  }

  /* Frees the context; a completion under way ends first. */
  close() {
    this.#closed = true;
    this.#freeWhenUnused();
  }

  #freeWhenUnused() {
    if (!this.#closed || this.#busy || !this.#handle) return;
    this.#lib.free(this.#handle);
    koffi.free(this.#memory);
    this.#handle = null;
    this.#freed();
  }
}

module.exports = { Model, Context, SIZES, library };
