/* Text generation with the flags of PowerInfer's and llama.cpp's `main`.
 *
 *   main -m model.gguf -p "Once upon a time"        continue a text
 *   main -m model.gguf --chat -p "Why is it blue?"  one question in the model's own chat format
 *   main -m model.gguf --chat                       a conversation
 *   main -m model.gguf -i -p "..."                  continue, and take more text line by line
 *
 * The text goes to stdout and everything else to stderr, so the output can be piped. */
#define _POSIX_C_SOURCE 200809L
#include "adapters.h"
#include "dialogue.h"
#include "report.h"
#include "session.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

/* The program runs with any libllama; with others than libpowerinfer these are NULL. */
#pragma weak powerinfer_get_stats
#pragma weak powerinfer_save_activation
#pragma weak powerinfer_calibrate
#pragma weak powerinfer_json_schema_to_grammar

struct options {
    const char *model, *prompt, *file, *system, *sparse, *save_activation, *calibrate;
    const char *grammar, *grammar_file, *schema, *schema_file;
    const char *chat_template, *chat_template_file;
    int64_t n_ctx, n_batch, n_ubatch, threads, threads_batch, seed, n_gpu_layers;
    int64_t top_k, repeat_last_n;
    double temp, top_p, min_p, repeat_penalty, vram_budget, sparse_threshold, target_sparsity;
    struct gpu_options gpu;
    struct adapters adapters;
    bool kv_offload, reset_gpu_index, disable_gpu_index;
    bool ignore_eos, display_prompt, interactive, chat, escapes, verbose;
};

/* Static, so that what it holds stays reachable when a program ends through die(). */
static struct session session;
static struct options options;

/* ---- options ---- */

static void read_options(struct options *o, struct session *s, int argc, char **argv) {
    s->n_predict = -1;
    *o = (struct options){
        .n_ctx = 4096, .n_batch = 2048, .n_ubatch = 512,
        .threads = default_threads(), .threads_batch = 0, .seed = -1, .n_gpu_layers = -1, .kv_offload = true,
        .top_k = 40, .repeat_last_n = 64, .temp = 0.8, .top_p = 0.95, .min_p = 0.05,
        .repeat_penalty = 1.0, .vram_budget = -1.0, .sparse_threshold = NAN, .target_sparsity = 0.4, .display_prompt = true, .escapes = true,
    };
    const struct flag flags[] = {
        {FLAG_HEADING, {0}, 0, 0, "Model and text", 0, 0},
        {FLAG_STRING, {"-m", "--model"}, "FILE", &o->model, "the model, a GGUF file", 0, 0},
        {FLAG_STRING, {"-p", "--prompt"}, "TEXT", &o->prompt, "the text to continue, or with --chat the question", 0, 0},
        {FLAG_STRING, {"-f", "--file"}, "FILE", &o->file, "read the prompt from a file ('-' is stdin)", 0, 0},
        {FLAG_INT, {"-n", "--predict", "--n-predict"}, "N", &s->n_predict, "tokens to generate, per answer; -1: until the model ends its text", -1, INT32_MAX},
        {FLAG_NOT, {"--no-escape"}, 0, &o->escapes, "take \\n, \\t and the like in -p literally", 0, 0},
        {FLAG_NOT, {"--no-display-prompt"}, 0, &o->display_prompt, "do not repeat the prompt on stdout", 0, 0},
        {FLAG_BOOL, {"--verbose-prompt"}, 0, &s->verbose_prompt, "list the prompt's tokens on stderr", 0, 0},
        {FLAG_BOOL, {"-v", "--verbose"}, 0, &o->verbose, "show everything the library logs", 0, 0},

        {FLAG_HEADING, {0}, 0, 0, "Conversation", 0, 0},
        {FLAG_BOOL, {"-i", "--interactive"}, 0, &o->interactive, "read more text from the terminal after each answer", 0, 0},
        {FLAG_BOOL, {"--chat", "-cnv", "--conversation"}, 0, &o->chat, "use the model's own chat format; interactive unless -p or -f asks the question", 0, 0},
        {FLAG_STRING, {"-sys", "--system-prompt"}, "TEXT", &o->system, "what the model is told first, with --chat", 0, 0},
        {FLAG_STRING, {"--chat-template"}, "TEMPLATE", &o->chat_template, "another chat format than the model's: the name of a built-in one, or a Jinja template", 0, 0},
        {FLAG_STRING, {"--chat-template-file"}, "FILE", &o->chat_template_file, "the same with a Jinja template from a file", 0, 0},

        {FLAG_HEADING, {0}, 0, 0, "Computing", 0, 0},
        {FLAG_INT, {"-t", "--threads"}, "N", &o->threads, "threads that generate", 1, 512},
        {FLAG_INT, {"-tb", "--threads-batch"}, "N", &o->threads_batch, "threads that read the prompt; 0: as many as -t", 0, 512},
        {FLAG_INT, {"-c", "--ctx-size"}, "N", &o->n_ctx, "context size in tokens; 0: what the model was trained with", 0, INT32_MAX},
        {FLAG_BOOL, {"--context-shift"}, 0, &s->context_shift, "go on when the context is full: forget half of it", 0, 0},
        {FLAG_NOT, {"--no-context-shift"}, 0, &s->context_shift, "end when the context is full (the default)", 0, 0},
        {FLAG_INT, {"--keep"}, "N", &s->n_keep, "tokens at the start of the prompt that are never forgotten; -1: all of it", -1, INT32_MAX},
        {FLAG_STRING, {"--prompt-cache"}, "FILE", &s->cache.path, "keep the state of the prompt here, and take from here what is the same", 0, 0},
        {FLAG_BOOL, {"--prompt-cache-all"}, 0, &s->cache.all, "also keep what was generated", 0, 0},
        {FLAG_BOOL, {"--prompt-cache-ro"}, 0, &s->cache.read_only, "only read the prompt cache", 0, 0},
        {FLAG_INT, {"-b", "--batch-size"}, "N", &o->n_batch, "tokens handed to the library at once", 1, INT32_MAX},
        {FLAG_INT, {"-ub", "--ubatch-size"}, "N", &o->n_ubatch, "tokens computed at once", 1, INT32_MAX},
        {FLAG_INT, {"-ngl", "--gpu-layers", "--n-gpu-layers"}, "N", &o->n_gpu_layers, "layers on the GPU; 0: none, -1: what fits", -1, INT32_MAX},
        GPU_FLAGS(o->gpu),
        {FLAG_NOT, {"-nkvo", "--no-kv-offload"}, 0, &o->kv_offload, "keep the cache in RAM", 0, 0},
        {FLAG_FLOAT, {"--vram-budget"}, "GIB", &o->vram_budget, "GPU memory to use at most, in GiB; -1: what is free", -1, 1e6},
        {FLAG_BOOL, {"--reset-gpu-index"}, 0, &o->reset_gpu_index, "work out anew which neurons the GPU gets", 0, 0},
        {FLAG_BOOL, {"--disable-gpu-index"}, 0, &o->disable_gpu_index, "divide no layer between GPU and CPU", 0, 0},

        {FLAG_HEADING, {0}, 0, 0, "What changes the model", 0, 0},
        {FLAG_LIST, {"--lora"}, "FILE,...", &o->adapters.lora, "LoRA adapters, GGUF files", 0, 0},
        {FLAG_LIST, {"--lora-scaled"}, "FILE:SCALE,...", &o->adapters.lora_scaled, "LoRA adapters of other strengths than 1", 0, 0},
        {FLAG_LIST, {"--control-vector"}, "FILE,...", &o->adapters.control, "control vectors, GGUF files", 0, 0},
        {FLAG_LIST, {"--control-vector-scaled"}, "FILE:SCALE,...", &o->adapters.control_scaled, "control vectors of other strengths than 1", 0, 0},
        {FLAG_PAIR, {"--control-vector-layer-range"}, "START END", o->adapters.layers, "first and last layer of the control vectors", 1, INT32_MAX},

        {FLAG_HEADING, {0}, 0, 0, "Models whose neurons mostly stay silent", 0, 0},
        {FLAG_STRING, {"--sparse"}, "MODE", &o->sparse, "which neurons are computed: auto, exact, predictor, sign, magnitude; off: all of them", 0, 0},
        {FLAG_FLOAT, {"--sparse-threshold"}, "X", &o->sparse_threshold, "least score at which a predictor has a neuron computed", -1e30, 1e30},
        {FLAG_BOOL, {"--sparse-stats"}, 0, &s->layer_stats, "show at the end what each layer skipped", 0, 0},
        {FLAG_STRING, {"--save-activation"}, "FILE", &o->save_activation, "write how often each neuron fired, as GGUF", 0, 0},
        {FLAG_STRING, {"--calibrate"}, "FILE", &o->calibrate, "find the thresholds of --sparse magnitude on this text, keep them beside the model, and end", 0, 0},
        {FLAG_FLOAT, {"--target-sparsity"}, "S", &o->target_sparsity, "share of the neurons that --calibrate silences", 0, 0.999},

        {FLAG_HEADING, {0}, 0, 0, "Choosing the next token", 0, 0},
        {FLAG_INT, {"-s", "--seed"}, "N", &o->seed, "seed of the random choice; -1: a new one each time", -1, UINT32_MAX},
        {FLAG_FLOAT, {"--temp"}, "T", &o->temp, "temperature; 0: always the most likely token", 0, 1e6},
        {FLAG_INT, {"--top-k"}, "K", &o->top_k, "keep the K most likely tokens; 0: all", 0, INT32_MAX},
        {FLAG_FLOAT, {"--top-p"}, "P", &o->top_p, "keep the fewest tokens that hold P of the probability; 1: all", 0, 1},
        {FLAG_FLOAT, {"--min-p"}, "P", &o->min_p, "keep tokens at least P times as likely as the best; 0: all", 0, 1},
        {FLAG_FLOAT, {"--repeat-penalty"}, "X", &o->repeat_penalty, "make recent tokens less likely; 1: off", 0, 1e6},
        {FLAG_INT, {"--repeat-last-n"}, "N", &o->repeat_last_n, "how many tokens are recent", 0, INT32_MAX},
        {FLAG_STRING, {"--grammar"}, "GBNF", &o->grammar, "write only text of this grammar, from its rule 'root' on", 0, 0},
        {FLAG_STRING, {"--grammar-file"}, "FILE", &o->grammar_file, "the same with a grammar from a file ('-' is stdin)", 0, 0},
        {FLAG_STRING, {"-j", "--json-schema"}, "SCHEMA", &o->schema, "write only JSON of this JSON schema; '{}' is any JSON", 0, 0},
        {FLAG_STRING, {"-jf", "--json-schema-file"}, "FILE", &o->schema_file, "the same with a schema from a file ('-' is stdin)", 0, 0},
        {FLAG_BOOL, {"--ignore-eos"}, 0, &o->ignore_eos, "never end the text: the end tokens cannot be chosen", 0, 0},
    };
    parse_flags(argc, argv, "text generation", flags, sizeof flags / sizeof *flags, NULL);

    if (o->gpu.list) show_devices();
    if (!o->model) die("no model: give its file with -m FILE (-h lists the flags)");
    if (o->prompt && o->file) die("-p and -f both give the prompt: use one of them");
    if (!!o->grammar + !!o->grammar_file + !!o->schema + !!o->schema_file > 1)
        die("two of --grammar, --grammar-file, -j and -jf both give the grammar: use one of them");
    if (o->chat_template && o->chat_template_file)
        die("--chat-template and --chat-template-file both give the template: use one of them");
    if (o->system && !o->chat) die("-sys needs --chat");
    if ((o->chat_template || o->chat_template_file) && !o->chat) die("--chat-template needs --chat");
    if ((s->cache.all || s->cache.read_only) && !s->cache.path)
        die("--prompt-cache-all and --prompt-cache-ro need --prompt-cache");
    if (o->chat && !o->prompt && !o->file) o->interactive = true;
    if (!o->prompt && !o->file && !o->interactive && !o->calibrate && !s->cache.path)
        die("no prompt: give it with -p TEXT or -f FILE, or talk with -i or --chat");
    if (!o->threads_batch) o->threads_batch = o->threads;
}

/* ---- set-up ---- */

/* Options of the library; the last one, empty, ends the list. */
struct overrides {
    struct llama_model_kv_override list[8];
    size_t n;
};

/* Adds one: a text, or without it a number. */
static void override(struct overrides *all, const char *key, const char *text, double number) {
    struct llama_model_kv_override *one = &all->list[all->n++];
    snprintf(one->key, sizeof one->key, "%s", key);
    one->tag = text ? LLAMA_KV_OVERRIDE_TYPE_STR : LLAMA_KV_OVERRIDE_TYPE_FLOAT;
    if (text) snprintf(one->val_str, sizeof one->val_str, "%s", text);
    else one->val_f64 = number;
}

static void open_model(struct session *s) {
    struct llama_model_params params = llama_model_default_params();
    params.n_gpu_layers = (int32_t)options.n_gpu_layers;
    use_gpus(&options.gpu, &params);

    struct overrides overrides = {0};
    if (options.vram_budget >= 0)
        override(&overrides, "powerinfer.vram_budget_gib", NULL, options.vram_budget);
    if (options.reset_gpu_index) override(&overrides, "powerinfer.reset_gpu_index", "on", 0);
    if (options.disable_gpu_index) override(&overrides, "powerinfer.disable_gpu_index", "on", 0);
    if (options.sparse) override(&overrides, "powerinfer.sparse", options.sparse, 0);
    if (!isnan(options.sparse_threshold))
        override(&overrides, "powerinfer.sparse_threshold", NULL, options.sparse_threshold);
    if (s->layer_stats) override(&overrides, "powerinfer.stats", "on", 0);
    if (options.save_activation) override(&overrides, "powerinfer.count_activations", "on", 0);
    if (overrides.n) params.kv_overrides = overrides.list;

    bool wants_gpu = options.vram_budget > 0 || options.n_gpu_layers > 0;
    if (wants_gpu && !llama_supports_gpu_offload())
        note("no GPU is in use: all layers run on the CPU, -ngl and --vram-budget have no effect");
    if ((s->layer_stats && !powerinfer_get_stats) ||
        (options.save_activation && !powerinfer_save_activation))
        die("this libllama is not libpowerinfer: it has no statistics of neurons");

    double start = now_ms();
    s->model = load_model(options.model, params, &interrupted);
    s->vocab = llama_model_get_vocab(s->model);
    s->time.load = now_ms() - start;
    if (llama_model_has_encoder(s->model))
        die("'%s' is an encoder model, which does not continue text", options.model);
}

static void open_context(struct session *s) {
    struct llama_context_params params = llama_context_default_params();
    params.n_ctx = (uint32_t)options.n_ctx;
    params.n_batch = (uint32_t)options.n_batch;
    params.n_ubatch = (uint32_t)options.n_ubatch;
    params.offload_kqv = options.kv_offload;
    params.n_threads = (int32_t)options.threads;
    params.n_threads_batch = (int32_t)options.threads_batch;
    params.abort_callback = should_abort;
    log_forget();
    s->ctx = llama_init_from_model(s->model, params);
    if (!s->ctx) die_with_reason("cannot make a context of %lld tokens", (long long)options.n_ctx);
    adapters_apply(&options.adapters, s->model, s->ctx);
    if (s->context_shift && !llama_memory_can_shift(llama_get_memory(s->ctx)))
        die("the cache of this model cannot be shifted: run it without --context-shift");
}

static void ban_end_of_text(struct session *s) {
    int32_t n_vocab = llama_vocab_n_tokens(s->vocab), n_banned = 0;
    struct llama_logit_bias *banned = xrealloc(NULL, (size_t)n_vocab * sizeof *banned);
    for (llama_token token = 0; token < n_vocab; token++)
        if (llama_vocab_is_eog(s->vocab, token))
            banned[n_banned++] = (struct llama_logit_bias){.token = token, .bias = -1e9F};
    llama_sampler_chain_add(s->sampler, llama_sampler_init_logit_bias(n_vocab, n_banned, banned));
    free(banned);
}

/* The grammar that a JSON schema stands for, in its place. */
static void schema_to_grammar(struct text *text) {
    if (!powerinfer_json_schema_to_grammar)
        die("this libllama is not libpowerinfer: it makes no grammars of JSON schemas");
    int32_t len = powerinfer_json_schema_to_grammar(text->data, NULL, 0);
    if (len < 0) die_with_reason("cannot use the JSON schema");
    char *grammar = xrealloc(NULL, (size_t)len + 1);
    powerinfer_json_schema_to_grammar(text->data, grammar, len + 1);
    text->len = 0;
    text_add(text, grammar, (size_t)len);
    free(grammar);
}

/* What the text has to keep to, if anything. */
static void open_grammar(struct session *s) {
    const struct options *o = &options;
    const char *given = o->grammar ? o->grammar : o->schema;
    const char *file = o->grammar_file ? o->grammar_file : o->schema_file;
    if (!given && !file) return;
    struct text text = {0};
    if (file) text_add_file(&text, file);
    else text_add(&text, given, strlen(given));
    log_forget();
    if (o->schema || o->schema_file) schema_to_grammar(&text);
    s->grammar = llama_sampler_init_grammar(s->vocab, text.data, "root");
    if (!s->grammar) die_with_reason("cannot use the grammar");
    text_free(&text);
    llama_sampler_chain_add(s->sampler, s->grammar);
}

static void open_sampler(struct session *s) {
    const struct options *o = &options;
    s->sampler = llama_sampler_chain_init(llama_sampler_chain_default_params());
    struct llama_sampler *chain = s->sampler;
    open_grammar(s);
    if (o->ignore_eos) ban_end_of_text(s);
    llama_sampler_chain_add(chain, llama_sampler_init_penalties(llama_vocab_n_tokens(s->vocab),
        (int32_t)o->repeat_last_n, (float)o->repeat_penalty, 0.0F, 0.0F));
    if (o->temp == 0) {
        llama_sampler_chain_add(chain, llama_sampler_init_greedy());
        return;
    }
    llama_sampler_chain_add(chain, llama_sampler_init_top_k((int32_t)o->top_k));
    llama_sampler_chain_add(chain, llama_sampler_init_top_p((float)o->top_p, 1));
    llama_sampler_chain_add(chain, llama_sampler_init_min_p((float)o->min_p, 1));
    llama_sampler_chain_add(chain, llama_sampler_init_temp((float)o->temp));
    llama_sampler_chain_add(chain, llama_sampler_init_dist((uint32_t)o->seed)); /* -1 is random */
}

/* ---- conversation ---- */

/* Reads a line without its newline. False: end of input, or Ctrl-C. */
static bool read_line(struct text *line) {
    if (isatty(STDIN_FILENO)) {
        fputs("\n> ", stdout);
        fflush(stdout);
    }
    char *data = NULL;
    size_t cap = 0;
    ssize_t len = getline(&data, &cap, stdin);
    line->len = 0;
    if (len > 0) text_add(line, data, (size_t)len - (data[len - 1] == '\n'));
    free(data);
    return len > 0;
}

/* Ctrl-C during an answer only ends the answer: forget it before waiting for the next line. */
static bool next_line(struct text *line) {
    interrupted = 0;
    bool got = read_line(line);
    interrupted = 0;
    return got;
}

/* Makes the history the whole conversation, ready for an answer. */
static void lay_out(struct session *s, struct dialogue *dialogue) {
    struct tokens now = {0};
    dialogue_tokens(dialogue, &now);
    while (s->context_shift && !session_fits(s, now.len) && dialogue_forget(dialogue)) {
        now.len = 0;
        dialogue_tokens(dialogue, &now);
    }
    session_become(s, &now);
}

static enum stop run_chat(struct session *s, struct text *prompt) {
    static struct dialogue dialogue;
    struct text line = {0}, answer = {0}, file = {0};
    enum stop why = STOP_LIMIT;
    dialogue = (struct dialogue){.model = s->model, .template_text = options.chat_template};
    if (options.chat_template_file) {
        text_add_file(&file, options.chat_template_file);
        dialogue.template_text = file.data;
    }
    if (options.system) dialogue_add(&dialogue, "system", options.system, strlen(options.system));
    bool ask = prompt->len > 0;
    if (ask) text_add(&line, prompt->data, prompt->len);
    while (ask || (options.interactive && next_line(&line))) {
        if (!line.len) continue;
        ask = false;
        dialogue_add(&dialogue, "user", line.data, line.len);
        lay_out(s, &dialogue);
        answer.len = 0;
        text_add(&answer, "", 0);
        why = session_generate(s, &answer);
        putchar('\n');
        if (why == STOP_CONTEXT_FULL || !options.interactive) break;
        dialogue_add(&dialogue, "assistant", answer.data, answer.len);
    }
    text_free(&line);
    text_free(&answer);
    text_free(&file);
    dialogue_free(&dialogue);
    return why;
}

/* The text of the history. */
static void add_tokens(struct text *text, const struct session *s) {
    struct text piece = {0};
    for (size_t i = 0; i < s->history.len; i++) {
        token_piece(&piece, s->vocab, s->history.data[i], false);
        text_add(text, piece.data, piece.len);
    }
    text_free(&piece);
}

static enum stop run_text(struct session *s, struct text *prompt) {
    struct text line = {0};
    enum stop why = STOP_LIMIT;
    bool given = options.prompt || options.file;
    if (!given && !options.interactive) {
        if (!s->history.len)
            die("no prompt, and '%s' has none: give it with -p TEXT or -f FILE", s->cache.path);
        if (options.display_prompt) add_tokens(prompt, s);
        session_add_text(s, "", 0); /* what the cache's file holds goes on */
    } else if (given) {
        session_add_text(s, prompt->data, prompt->len);
    }
    if (given || !options.interactive) {
        if (options.display_prompt) utf8_write(&s->out, stdout, prompt->data, prompt->len);
        why = session_generate(s, NULL);
        putchar('\n');
    }
    while (options.interactive && why != STOP_CONTEXT_FULL && next_line(&line)) {
        text_add(&line, "\n", 1);
        session_add_text(s, line.data, line.len);
        why = session_generate(s, NULL);
        putchar('\n');
    }
    text_free(&line);
    return why;
}

/* Thresholds of the mode magnitude from a text, and what they cost. */
static void calibrate(struct session *s) {
    struct text text = {0};
    struct tokens tokens = {0};
    text_add_file(&text, options.calibrate);
    tokens_add_text(&tokens, s->vocab, text.data, text.len, false, false);
    struct powerinfer_calibration found;
    note("reading %zu tokens three times", tokens.len);
    log_forget();
    if (powerinfer_calibrate(s->model, tokens.data, tokens.len, (float)options.target_sparsity, NULL,
                             &found, sizeof found) != 0)
        die_with_reason("no thresholds found with '%s'", options.calibrate);
    note("%.1f %% of the neurons are silent; perplexity %.3f with all neurons, %.3f without these "
         "(%+.2f %%)", 100 * (double)found.sparsity, found.perplexity_dense,
         found.perplexity_sparse,
         100 * (found.perplexity_sparse / found.perplexity_dense - 1));
    note("--sparse magnitude uses them from now on");
    tokens_free(&tokens);
    text_free(&text);
    llama_model_free(s->model);
    llama_backend_free();
}

int main(int argc, char **argv) {
    struct session *s = &session;
    s->time.start = now_ms();
    read_options(&options, s, argc, argv);
    log_init(options.verbose);
    catch_sigint();

    struct text prompt = {0};
    if (options.prompt) {
        text_add(&prompt, options.prompt, strlen(options.prompt));
        if (options.escapes) text_unescape(&prompt);
    } else if (options.file) {
        text_add_file(&prompt, options.file);
        if (prompt.len && prompt.data[prompt.len - 1] == '\n') prompt.data[--prompt.len] = '\0';
    }

    llama_backend_init();
    if (options.calibrate && !powerinfer_calibrate)
        die("this libllama is not libpowerinfer: it finds no thresholds");
    open_model(s);
    if (options.calibrate) {
        calibrate(s);
        text_free(&prompt);
        return 0;
    }
    open_context(s);
    open_sampler(s);
    session_load(s);

    enum stop why = options.chat ? run_chat(s, &prompt) : run_text(s, &prompt);
    if (why == STOP_CONTEXT_FULL)
        note("the context is full: it holds %u tokens, a larger -c holds more",
             llama_n_ctx(s->ctx));
    session_save(s);
    report_times(s, why);
    if (s->layer_stats) report_layers(s);
    log_forget();
    if (options.save_activation && !powerinfer_save_activation(s->ctx, options.save_activation))
        die_with_reason("cannot save the activations to '%s'", options.save_activation);

    adapters_free(&options.adapters);
    text_free(&prompt);
    session_free(s);
    llama_backend_free();
    return why == STOP_CONTEXT_FULL ? 1 : 0;
}
