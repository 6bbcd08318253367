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
#include "generate.h"
#include "powerinfer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

/* The program runs with any libllama; with others than libpowerinfer these are NULL. */
#pragma weak powerinfer_get_stats
#pragma weak powerinfer_reset_stats
#pragma weak powerinfer_save_activation
#pragma weak powerinfer_calibrate

struct options {
    const char *model, *prompt, *file, *system, *sparse, *save_activation, *calibrate;
    const char *grammar, *grammar_file;
    int64_t n_predict, n_ctx, n_batch, n_ubatch, threads, threads_batch, seed, n_gpu_layers;
    int64_t top_k, repeat_last_n;
    double temp, top_p, min_p, repeat_penalty, vram_budget, sparse_threshold, target_sparsity;
    struct adapters adapters;
    bool sparse_stats;
    bool ignore_eos, display_prompt, verbose_prompt, interactive, chat, escapes, verbose;
};

/* Why text stopped coming. */
enum stop { STOP_END_OF_TEXT, STOP_LIMIT, STOP_INTERRUPT, STOP_CONTEXT_FULL };
static const char *const stop_names[] = {"end of text", "-n reached", "interrupted",
                                         "context full"};

struct session {
    struct options opt;
    struct llama_model *model;
    const struct llama_vocab *vocab;
    struct llama_context *ctx;
    struct llama_sampler *sampler;
    struct llama_sampler *grammar; /* in the chain; NULL without one */
    /* What was said so far. The first n_past tokens are in the KV cache, the others wait. */
    struct tokens history;
    size_t n_past;
    struct utf8_stream out;
    struct {
        double load, prompt, generation, sampling, start; /* ms */
        size_t n_prompt, n_generation, n_sampled;
    } time;
    /* Layers that can skip neurons, over all generated tokens. */
    struct powerinfer_layer_stats *layers;
    int32_t n_layers;
};

/* Static, so that what it holds stays reachable when a program ends through die(). */
static struct session session;

/* ---- options ---- */

static void read_options(struct options *o, int argc, char **argv) {
    *o = (struct options){
        .n_predict = -1, .n_ctx = 4096, .n_batch = 2048, .n_ubatch = 512,
        .threads = default_threads(), .threads_batch = 0, .seed = -1, .n_gpu_layers = -1,
        .top_k = 40, .repeat_last_n = 64, .temp = 0.8, .top_p = 0.95, .min_p = 0.05,
        .repeat_penalty = 1.0, .vram_budget = -1.0, .sparse_threshold = NAN, .target_sparsity = 0.4, .display_prompt = true, .escapes = true,
    };
    const struct flag flags[] = {
        {FLAG_HEADING, {0}, 0, 0, "Model and text", 0, 0},
        {FLAG_STRING, {"-m", "--model"}, "FILE", &o->model, "the model, a GGUF file", 0, 0},
        {FLAG_STRING, {"-p", "--prompt"}, "TEXT", &o->prompt, "the text to continue, or with --chat the question", 0, 0},
        {FLAG_STRING, {"-f", "--file"}, "FILE", &o->file, "read the prompt from a file ('-' is stdin)", 0, 0},
        {FLAG_INT, {"-n", "--predict", "--n-predict"}, "N", &o->n_predict, "tokens to generate, per answer; -1: until the model ends its text", -1, INT32_MAX},
        {FLAG_NOT, {"--no-escape"}, 0, &o->escapes, "take \\n, \\t and the like in -p literally", 0, 0},
        {FLAG_NOT, {"--no-display-prompt"}, 0, &o->display_prompt, "do not repeat the prompt on stdout", 0, 0},
        {FLAG_BOOL, {"--verbose-prompt"}, 0, &o->verbose_prompt, "list the prompt's tokens on stderr", 0, 0},
        {FLAG_BOOL, {"-v", "--verbose"}, 0, &o->verbose, "show everything the library logs", 0, 0},

        {FLAG_HEADING, {0}, 0, 0, "Conversation", 0, 0},
        {FLAG_BOOL, {"-i", "--interactive"}, 0, &o->interactive, "read more text from the terminal after each answer", 0, 0},
        {FLAG_BOOL, {"--chat"}, 0, &o->chat, "use the model's own chat format; interactive unless -p or -f asks the question", 0, 0},
        {FLAG_STRING, {"-sys", "--system-prompt"}, "TEXT", &o->system, "what the model is told first, with --chat", 0, 0},

        {FLAG_HEADING, {0}, 0, 0, "Computing", 0, 0},
        {FLAG_INT, {"-t", "--threads"}, "N", &o->threads, "threads that generate", 1, 512},
        {FLAG_INT, {"-tb", "--threads-batch"}, "N", &o->threads_batch, "threads that read the prompt; 0: as many as -t", 0, 512},
        {FLAG_INT, {"-c", "--ctx-size"}, "N", &o->n_ctx, "context size in tokens; 0: what the model was trained with", 0, INT32_MAX},
        {FLAG_INT, {"-b", "--batch-size"}, "N", &o->n_batch, "tokens handed to the library at once", 1, INT32_MAX},
        {FLAG_INT, {"-ub", "--ubatch-size"}, "N", &o->n_ubatch, "tokens computed at once", 1, INT32_MAX},
        {FLAG_INT, {"-ngl", "--gpu-layers", "--n-gpu-layers"}, "N", &o->n_gpu_layers, "layers on the GPU; 0: none, -1: what fits", -1, INT32_MAX},
        {FLAG_FLOAT, {"--vram-budget"}, "GIB", &o->vram_budget, "GPU memory to use at most, in GiB; -1: what is free", -1, 1e6},

        {FLAG_HEADING, {0}, 0, 0, "What changes the model", 0, 0},
        {FLAG_LIST, {"--lora"}, "FILE,...", &o->adapters.lora, "LoRA adapters, GGUF files", 0, 0},
        {FLAG_LIST, {"--lora-scaled"}, "FILE:SCALE,...", &o->adapters.lora_scaled, "LoRA adapters of other strengths than 1", 0, 0},
        {FLAG_LIST, {"--control-vector"}, "FILE,...", &o->adapters.control, "control vectors, GGUF files", 0, 0},
        {FLAG_LIST, {"--control-vector-scaled"}, "FILE:SCALE,...", &o->adapters.control_scaled, "control vectors of other strengths than 1", 0, 0},
        {FLAG_PAIR, {"--control-vector-layer-range"}, "START END", o->adapters.layers, "first and last layer of the control vectors", 1, INT32_MAX},

        {FLAG_HEADING, {0}, 0, 0, "Models whose neurons mostly stay silent", 0, 0},
        {FLAG_STRING, {"--sparse"}, "MODE", &o->sparse, "which neurons are computed: auto, exact, predictor, sign, magnitude; off: all of them", 0, 0},
        {FLAG_FLOAT, {"--sparse-threshold"}, "X", &o->sparse_threshold, "least score at which a predictor has a neuron computed", -1e30, 1e30},
        {FLAG_BOOL, {"--sparse-stats"}, 0, &o->sparse_stats, "show at the end what each layer skipped", 0, 0},
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
        {FLAG_BOOL, {"--ignore-eos"}, 0, &o->ignore_eos, "never end the text: the end tokens cannot be chosen", 0, 0},
    };
    parse_flags(argc, argv, "text generation", flags, sizeof flags / sizeof *flags, NULL);

    if (!o->model) die("no model: give its file with -m FILE (-h lists the flags)");
    if (o->prompt && o->file) die("-p and -f both give the prompt: use one of them");
    if (o->grammar && o->grammar_file)
        die("--grammar and --grammar-file both give the grammar: use one of them");
    if (o->system && !o->chat) die("-sys needs --chat");
    if (o->chat && !o->prompt && !o->file) o->interactive = true;
    if (!o->prompt && !o->file && !o->interactive && !o->calibrate)
        die("no prompt: give it with -p TEXT or -f FILE, or talk with -i or --chat");
    if (!o->threads_batch) o->threads_batch = o->threads;
}

/* ---- set-up ---- */

/* Options of the library; the last one, empty, ends the list. */
struct overrides {
    struct llama_model_kv_override list[6];
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
    params.n_gpu_layers = (int32_t)s->opt.n_gpu_layers;

    struct overrides overrides = {0};
    if (s->opt.vram_budget >= 0)
        override(&overrides, "powerinfer.vram_budget_gib", NULL, s->opt.vram_budget);
    if (s->opt.sparse) override(&overrides, "powerinfer.sparse", s->opt.sparse, 0);
    if (!isnan(s->opt.sparse_threshold))
        override(&overrides, "powerinfer.sparse_threshold", NULL, s->opt.sparse_threshold);
    if (s->opt.sparse_stats) override(&overrides, "powerinfer.stats", "on", 0);
    if (s->opt.save_activation) override(&overrides, "powerinfer.count_activations", "on", 0);
    if (overrides.n) params.kv_overrides = overrides.list;

    bool wants_gpu = s->opt.vram_budget > 0 || s->opt.n_gpu_layers > 0;
    if (wants_gpu && !llama_supports_gpu_offload())
        note("no GPU is in use: all layers run on the CPU, -ngl and --vram-budget have no effect");
    if ((s->opt.sparse_stats && !powerinfer_get_stats) ||
        (s->opt.save_activation && !powerinfer_save_activation))
        die("this libllama is not libpowerinfer: it has no statistics of neurons");

    double start = now_ms();
    s->model = load_model(s->opt.model, params, &interrupted);
    s->vocab = llama_model_get_vocab(s->model);
    s->time.load = now_ms() - start;
    if (llama_model_has_encoder(s->model))
        die("'%s' is an encoder model, which does not continue text", s->opt.model);
}

static void open_context(struct session *s) {
    struct llama_context_params params = llama_context_default_params();
    params.n_ctx = (uint32_t)s->opt.n_ctx;
    params.n_batch = (uint32_t)s->opt.n_batch;
    params.n_ubatch = (uint32_t)s->opt.n_ubatch;
    params.n_threads = (int32_t)s->opt.threads;
    params.n_threads_batch = (int32_t)s->opt.threads_batch;
    params.abort_callback = should_abort;
    log_forget();
    s->ctx = llama_init_from_model(s->model, params);
    if (!s->ctx) die_with_reason("cannot make a context of %lld tokens", (long long)s->opt.n_ctx);
    adapters_apply(&s->opt.adapters, s->model, s->ctx);
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

static void open_grammar(struct session *s) {
    struct text text = {0};
    if (s->opt.grammar_file) text_add_file(&text, s->opt.grammar_file);
    else text_add(&text, s->opt.grammar, strlen(s->opt.grammar));
    log_forget();
    s->grammar = llama_sampler_init_grammar(s->vocab, text.data, "root");
    if (!s->grammar) die_with_reason("cannot use the grammar");
    text_free(&text);
    llama_sampler_chain_add(s->sampler, s->grammar);
}

static void open_sampler(struct session *s) {
    const struct options *o = &s->opt;
    s->sampler = llama_sampler_chain_init(llama_sampler_chain_default_params());
    struct llama_sampler *chain = s->sampler;
    if (o->grammar || o->grammar_file) open_grammar(s);
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

/* ---- generation ---- */

static bool context_full(const struct session *s) {
    return s->history.len > llama_n_ctx(s->ctx);
}

/* Decodes the tokens of the history that wait. False: Ctrl-C came first. */
static bool catch_up(struct session *s, bool is_prompt) {
    while (s->n_past < s->history.len) {
        size_t n = s->history.len - s->n_past, most = llama_n_batch(s->ctx);
        if (n > most) n = most;
        double start = now_ms();
        log_forget();
        int32_t status = llama_decode(
            s->ctx, llama_batch_get_one(s->history.data + s->n_past, (int32_t)n));
        llama_synchronize(s->ctx);
        *(is_prompt ? &s->time.prompt : &s->time.generation) += now_ms() - start;
        if (status == 2) { /* aborted: some of the batch may have got in */
            s->n_past = (size_t)(llama_memory_seq_pos_max(llama_get_memory(s->ctx), 0) + 1);
            return false;
        }
        if (status == 1) die("no room in the KV cache for %zu tokens: use a larger -c", n);
        if (status != 0) die_with_reason("decoding failed with status %d", status);
        *(is_prompt ? &s->time.n_prompt : &s->time.n_generation) += n;
        s->n_past += n;
    }
    return true;
}

/* ---- what the layers skipped ---- */

/* Adds what the layers did since the last reset. Prompts do not count: with many tokens at once
 * nearly every neuron fires for one of them. */
static void collect_stats(struct session *s) {
    if (!s->opt.sparse_stats) return;
    int32_t n = powerinfer_get_stats(s->ctx, NULL, 0, 0);
    if (n <= 0) return;
    struct powerinfer_layer_stats *now = xrealloc(NULL, (size_t)n * sizeof *now);
    powerinfer_get_stats(s->ctx, now, (size_t)n, sizeof *now);
    if (!s->layers) {
        s->layers = now;
        s->n_layers = n;
        return;
    }
    for (int32_t i = 0; i < n && i < s->n_layers; i++) {
        struct powerinfer_layer_stats *all = &s->layers[i];
        all->tokens += now[i].tokens;
        all->guessed += now[i].guessed;
        all->fired += now[i].fired;
        all->checked += now[i].checked;
        all->found += now[i].found;
        all->bytes += now[i].bytes;
        all->dense_bytes += now[i].dense_bytes;
        all->timed += now[i].timed;
        all->time_ns += now[i].time_ns;
    }
    free(now);
}

/* Generates until something stops it. The text goes to stdout and, if given, to `answer`. */
static enum stop generate(struct session *s, struct text *answer) {
    struct text piece = {0};
    enum stop why = STOP_LIMIT;
    bool is_prompt = true;
    for (int64_t i = 0; s->opt.n_predict < 0 || i < s->opt.n_predict; i++) {
        if (context_full(s)) {
            why = STOP_CONTEXT_FULL;
            break;
        }
        if (!catch_up(s, is_prompt) || interrupted) {
            why = STOP_INTERRUPT;
            break;
        }
        if (is_prompt && s->opt.sparse_stats) powerinfer_reset_stats(s->ctx);
        is_prompt = false;

        double start = now_ms();
        llama_token token = llama_sampler_sample(s->sampler, s->ctx, -1);
        s->time.sampling += now_ms() - start;
        s->time.n_sampled++;
        if (llama_vocab_is_eog(s->vocab, token)) {
            why = STOP_END_OF_TEXT;
            break;
        }
        tokens_push(&s->history, token);
        token_piece(&piece, s->vocab, token, false);
        utf8_write(&s->out, stdout, piece.data, piece.len);
        if (answer) text_add(answer, piece.data, piece.len);
    }
    utf8_flush(&s->out, stdout);
    text_free(&piece);
    if (!is_prompt) collect_stats(s);
    return why;
}

static void show_tokens(const struct session *s, size_t from) {
    struct text piece = {0};
    note("prompt: %zu tokens", s->history.len - from);
    for (size_t i = from; i < s->history.len; i++) {
        token_piece(&piece, s->vocab, s->history.data[i], true);
        fprintf(stderr, "%7d -> '%s'\n", s->history.data[i], piece.data);
    }
    text_free(&piece);
}

/* The sampler's penalties count what was read as well as what was written. A grammar is for what
 * is written alone. */
static void prompt_added(struct session *s, size_t from) {
    for (int32_t n = 0; n < llama_sampler_chain_n(s->sampler); n++) {
        struct llama_sampler *one = llama_sampler_chain_get(s->sampler, n);
        for (size_t i = from; i < s->history.len && one != s->grammar; i++)
            llama_sampler_accept(one, s->history.data[i]);
    }
    if (s->grammar) llama_sampler_reset(s->grammar);
    if (s->opt.verbose_prompt) show_tokens(s, from);
    if (context_full(s))
        die("the prompt does not fit: %zu tokens, but the context holds %u (-c)", s->history.len,
            llama_n_ctx(s->ctx));
}

static void add_prompt(struct session *s, const char *text, size_t len) {
    size_t from = s->history.len;
    tokens_add_text(&s->history, s->vocab, text, len, from == 0, true);
    if (s->history.len == 0) { /* nothing to continue: start a text */
        llama_token bos = llama_vocab_bos(s->vocab);
        if (bos == LLAMA_TOKEN_NULL) die("the prompt is empty and the model has no start token");
        tokens_push(&s->history, bos);
    }
    prompt_added(s, from);
}

/* ---- conversation ---- */

struct chat {
    const char *template_text;
    struct llama_chat_message *messages;
    size_t n_messages;
};

static void chat_add(struct chat *chat, const char *role, const char *content) {
    size_t size = (chat->n_messages + 1) * sizeof *chat->messages;
    chat->messages = xrealloc(chat->messages, size);
    chat->messages[chat->n_messages++] =
        (struct llama_chat_message){.role = role, .content = strdup(content)};
}

static void chat_open(struct session *s, struct chat *chat) {
    chat->template_text = llama_model_chat_template(s->model, NULL);
    if (!chat->template_text) die("the model brings no chat format: run it without --chat");
    if (s->opt.system) chat_add(chat, "system", s->opt.system);
}

static void chat_free(struct chat *chat) {
    for (size_t i = 0; i < chat->n_messages; i++) free((char *)chat->messages[i].content);
    free(chat->messages);
}

/* Makes the history the whole conversation, ready for an answer. What is the same as before stays
 * in the KV cache; only the rest is decoded. */
static void chat_to_history(struct session *s, const struct chat *chat) {
    int32_t len = llama_chat_apply_template(chat->template_text, chat->messages, chat->n_messages,
                                            true, NULL, 0);
    if (len < 0) die("the model's chat format is not one that the library knows");
    char *text = xrealloc(NULL, (size_t)len + 1);
    llama_chat_apply_template(chat->template_text, chat->messages, chat->n_messages, true, text,
                              len + 1);
    struct tokens now = {0};
    tokens_add_text(&now, s->vocab, text, (size_t)len, true, true);
    free(text);
    if (!now.len) die("the chat format made an empty prompt");

    size_t same = 0; /* the last token is decoded again: its logits choose the answer's first */
    while (same < s->n_past && same + 1 < now.len && now.data[same] == s->history.data[same])
        same++;
    llama_memory_t memory = llama_get_memory(s->ctx);
    if (same < s->n_past && !llama_memory_seq_rm(memory, 0, (llama_pos)same, -1)) {
        llama_memory_clear(memory, true); /* a memory that cannot forget a part forgets all */
        same = 0;
    }
    s->n_past = same;
    tokens_free(&s->history);
    s->history = now;
    prompt_added(s, same);
}

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

static enum stop run_chat(struct session *s, struct text *prompt) {
    struct chat chat = {0};
    struct text line = {0}, answer = {0};
    enum stop why = STOP_LIMIT;
    chat_open(s, &chat);
    bool ask = prompt->len > 0;
    if (ask) text_add(&line, prompt->data, prompt->len);
    while (ask || (s->opt.interactive && next_line(&line))) {
        if (!line.len) continue;
        ask = false;
        chat_add(&chat, "user", line.data);
        chat_to_history(s, &chat);
        answer.len = 0;
        text_add(&answer, "", 0);
        why = generate(s, &answer);
        putchar('\n');
        if (why == STOP_CONTEXT_FULL || !s->opt.interactive) break;
        chat_add(&chat, "assistant", answer.data);
    }
    text_free(&line);
    text_free(&answer);
    chat_free(&chat);
    return why;
}

static enum stop run_text(struct session *s, struct text *prompt) {
    struct text line = {0};
    enum stop why = STOP_LIMIT;
    bool given = s->opt.prompt || s->opt.file;
    if (given) {
        add_prompt(s, prompt->data, prompt->len);
        if (s->opt.display_prompt) utf8_write(&s->out, stdout, prompt->data, prompt->len);
        why = generate(s, NULL);
        putchar('\n');
    }
    while (s->opt.interactive && why != STOP_CONTEXT_FULL && next_line(&line)) {
        text_add(&line, "\n", 1);
        add_prompt(s, line.data, line.len);
        why = generate(s, NULL);
        putchar('\n');
    }
    text_free(&line);
    return why;
}

/* ---- the table at the end ---- */

static bool meta_number(const struct session *s, const char *key, double *value) {
    char arch[64], full[128], text[64];
    if (llama_model_meta_val_str(s->model, "general.architecture", arch, sizeof arch) < 0)
        return false;
    snprintf(full, sizeof full, "%s.%s", arch, key);
    if (llama_model_meta_val_str(s->model, full, text, sizeof text) < 0) return false;
    *value = strtod(text, NULL);
    return true;
}

/* MiB of an F16 cache: K and V rows of every layer for every cell. */
static double kv_cache_mib(const struct session *s) {
    double head = (double)llama_model_n_embd(s->model) / llama_model_n_head(s->model);
    double k = head, v = head;
    meta_number(s, "attention.key_length", &k);
    meta_number(s, "attention.value_length", &v);
    double per_cell = llama_model_n_layer(s->model) * llama_model_n_head_kv(s->model) * (k + v) * 2;
    return per_cell * llama_n_ctx(s->ctx) / (1024.0 * 1024.0);
}

static void print_rate(const char *name, double ms, size_t n) {
    fprintf(stderr, "  %-11s %10.1f ms", name, ms);
    if (n) fprintf(stderr, " %7zu tokens %9.2f ms/token %10.1f tokens/s", n, ms / (double)n,
                   ms > 0 ? 1e3 * (double)n / ms : 0.0);
    fputc('\n', stderr);
}

static void print_table(const struct session *s, enum stop why) {
    fflush(stdout);
    fputc('\n', stderr);
    print_rate("load", s->time.load, 0);
    print_rate("prompt", s->time.prompt, s->time.n_prompt);
    print_rate("generation", s->time.generation, s->time.n_generation);
    print_rate("sampling", s->time.sampling, s->time.n_sampled);
    print_rate("total", now_ms() - s->time.start, 0);
    fprintf(stderr, "  %-11s %10.1f MiB at most (model %.1f MiB, KV cache of %u tokens %.1f MiB)\n",
            "memory", peak_rss_mib(), (double)llama_model_size(s->model) / (1024.0 * 1024.0),
            llama_n_ctx(s->ctx), kv_cache_mib(s));
    fprintf(stderr, "  %-11s %s\n", "stopped by", stop_names[why]);
}

static void print_share(double part, double whole) {
    if (whole > 0) fprintf(stderr, " %9.2f%%", 100 * part / whole);
    else fprintf(stderr, " %10s", "-");
}

static void print_layer(const char *name, const char *mode, const struct powerinfer_layer_stats *l,
                        double neurons, double tokens) {
    fprintf(stderr, "  %-5s %-9s", name, mode);
    print_share((double)l->fired, neurons);
    print_share((double)l->guessed, neurons);
    print_share((double)l->found, (double)l->checked);
    double mib = 1024.0 * 1024.0 * (tokens > 0 ? tokens : 1);
    fprintf(stderr, " %12.3f %12.3f %10.4f\n", (double)l->bytes / mib,
            (double)l->dense_bytes / mib, l->timed ? (double)l->time_ns / 1e6 / (double)l->timed : 0);
}

static void print_layers(const struct session *s) {
    static const char *const modes[] = {"default", "auto", "exact", "predictor", "sign",
                                        "magnitude", "off"};
    if (!s->n_layers) {
        note("no layer of this model can skip neurons (or no token was generated)");
        return;
    }
    struct powerinfer_layer_stats all = {0};
    double neurons = 0, ms = 0, tokens = 0;
    fprintf(stderr, "\n  neurons while generating, a token of each layer\n");
    fprintf(stderr, "  %-5s %-9s %10s %10s %10s %12s %12s %10s\n", "layer", "chosen by", "active",
            "predicted", "recall", "MiB read", "MiB if dense", "ms");
    for (int32_t i = 0; i < s->n_layers; i++) {
        const struct powerinfer_layer_stats *l = &s->layers[i];
        double own = (double)l->tokens * (double)l->n_neurons;
        char name[16];
        snprintf(name, sizeof name, "%d", (int)l->layer);
        size_t mode = (size_t)l->mode < sizeof modes / sizeof *modes ? (size_t)l->mode : 0;
        print_layer(name, modes[mode], l, own, (double)l->tokens);
        neurons += own;
        if ((double)l->tokens > tokens) tokens = (double)l->tokens;
        if (l->timed) ms += (double)l->time_ns / 1e6 / (double)l->timed;
        all.fired += l->fired;
        all.guessed += l->guessed;
        all.found += l->found;
        all.checked += l->checked;
        all.bytes += l->bytes;
        all.dense_bytes += l->dense_bytes;
    }
    all.timed = 1;
    all.time_ns = (uint64_t)(ms * 1e6);
    print_layer("all", "", &all, neurons, tokens);
}

/* Thresholds of the mode magnitude from a text, and what they cost. */
static void calibrate(struct session *s) {
    struct text text = {0};
    struct tokens tokens = {0};
    text_add_file(&text, s->opt.calibrate);
    tokens_add_text(&tokens, s->vocab, text.data, text.len, false, false);
    struct powerinfer_calibration found;
    note("reading %zu tokens three times", tokens.len);
    log_forget();
    if (powerinfer_calibrate(s->model, tokens.data, tokens.len, (float)s->opt.target_sparsity, NULL,
                             &found, sizeof found) != 0)
        die_with_reason("no thresholds found with '%s'", s->opt.calibrate);
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
    read_options(&s->opt, argc, argv);
    log_init(s->opt.verbose);
    catch_sigint();

    struct text prompt = {0};
    if (s->opt.prompt) {
        text_add(&prompt, s->opt.prompt, strlen(s->opt.prompt));
        if (s->opt.escapes) text_unescape(&prompt);
    } else if (s->opt.file) {
        text_add_file(&prompt, s->opt.file);
        if (prompt.len && prompt.data[prompt.len - 1] == '\n') prompt.data[--prompt.len] = '\0';
    }

    llama_backend_init();
    if (s->opt.calibrate && !powerinfer_calibrate)
        die("this libllama is not libpowerinfer: it finds no thresholds");
    open_model(s);
    if (s->opt.calibrate) {
        calibrate(s);
        text_free(&prompt);
        return 0;
    }
    open_context(s);
    open_sampler(s);

    enum stop why = s->opt.chat ? run_chat(s, &prompt) : run_text(s, &prompt);
    if (why == STOP_CONTEXT_FULL)
        note("the context is full: it holds %u tokens, a larger -c holds more",
             llama_n_ctx(s->ctx));
    print_table(s, why);
    if (s->opt.sparse_stats) print_layers(s);
    log_forget();
    if (s->opt.save_activation && !powerinfer_save_activation(s->ctx, s->opt.save_activation))
        die_with_reason("cannot save the activations to '%s'", s->opt.save_activation);

    free(s->layers);
    adapters_free(&s->opt.adapters);
    tokens_free(&s->history);
    text_free(&prompt);
    llama_sampler_free(s->sampler);
    llama_free(s->ctx);
    llama_model_free(s->model);
    llama_backend_free();
    return why == STOP_CONTEXT_FULL ? 1 : 0;
}
