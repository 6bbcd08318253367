#define _POSIX_C_SOURCE 200809L
#include "generate.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- Ctrl-C ---- */

volatile sig_atomic_t interrupted;

static void on_sigint(int signal) {
    (void)signal;
    if (interrupted) _exit(130);
    interrupted = 1;
}

bool should_abort(void *data) {
    (void)data;
    return interrupted != 0;
}

void catch_sigint(void) {
    struct sigaction action = {0};
    action.sa_handler = on_sigint; /* without SA_RESTART: reading a line ends too */
    sigaction(SIGINT, &action, NULL);
}

void exit_interrupted(void) {
    if (isatty(STDERR_FILENO)) fputs("\r\033[K", stderr);
    note("interrupted");
    exit(130);
}

/* ---- decoding ---- */

struct llama_context *new_context(struct llama_model *model, uint32_t n_ctx, uint32_t n_batch,
                                   uint32_t n_seq, int32_t n_threads) {
    if (llama_model_has_encoder(model))
        die("this is an encoder model, which does not continue text");
    struct llama_context_params params = llama_context_default_params();
    params.n_ctx = n_ctx;
    params.n_batch = n_batch;
    params.n_seq_max = n_seq;
    params.kv_unified = true; /* one cache for all: none has a share that others cannot use */
    params.n_threads = params.n_threads_batch = n_threads ? n_threads : default_threads();
    params.abort_callback = should_abort;
    log_forget();
    struct llama_context *ctx = llama_init_from_model(model, params);
    if (!ctx) die_with_reason("cannot make a context of %u tokens", n_ctx);
    return ctx;
}

void batch_add(struct llama_batch *batch, llama_token token, llama_pos pos, llama_seq_id seq,
               bool logits) {
    int32_t i = batch->n_tokens++;
    batch->token[i] = token;
    batch->pos[i] = pos;
    batch->n_seq_id[i] = 1;
    batch->seq_id[i][0] = seq;
    batch->logits[i] = logits;
}

void decode_batch(struct llama_context *ctx, struct llama_batch batch) {
    log_forget();
    int32_t status = llama_decode(ctx, batch);
    llama_synchronize(ctx);
    if (status == 2 || interrupted) exit_interrupted();
    if (status == 1) die("no room in the KV cache for %d tokens: use a larger -c", batch.n_tokens);
    if (status) die_with_reason("decoding failed with status %d", status);
}

void decode_tokens(struct llama_context *ctx, const llama_token *tokens, size_t n, llama_pos from,
                   llama_seq_id seq) {
    size_t most = llama_n_batch(ctx);
    if (most > n) most = n;
    struct llama_batch batch = llama_batch_init((int32_t)most, 0, 1);
    for (size_t i = 0; i < n; i++) {
        batch_add(&batch, tokens[i], from + (llama_pos)i, seq, i + 1 == n);
        if ((size_t)batch.n_tokens < most && i + 1 < n) continue;
        decode_batch(ctx, batch);
        batch.n_tokens = 0;
    }
    llama_batch_free(batch);
}

struct llama_sampler *make_sampler(double temp, uint32_t seed) {
    struct llama_sampler *chain = llama_sampler_chain_init(llama_sampler_chain_default_params());
    if (temp == 0) {
        llama_sampler_chain_add(chain, llama_sampler_init_greedy());
        return chain;
    }
    llama_sampler_chain_add(chain, llama_sampler_init_top_k(40));
    llama_sampler_chain_add(chain, llama_sampler_init_top_p(0.9F, 1));
    llama_sampler_chain_add(chain, llama_sampler_init_temp((float)temp));
    llama_sampler_chain_add(chain, llama_sampler_init_dist(seed));
    return chain;
}

/* ---- output ---- */

void show_count(const char *what, uint64_t done, uint64_t total) {
    if (!isatty(STDERR_FILENO)) return;
    fflush(stdout);
    if (done < total)
        fprintf(stderr, "\r%s %llu/%llu", what, (unsigned long long)done,
                (unsigned long long)total);
    else fputs("\r\033[K", stderr);
    fflush(stderr);
}

/* Bytes of the UTF-8 character at the start of data; 0 when there is none. */
static size_t utf8_length(const unsigned char *data, size_t len) {
    if (data[0] < 0x80) return 1;
    size_t n = data[0] >= 0xF0 ? 4 : data[0] >= 0xE0 ? 3 : 2;
    if (data[0] < 0xC2 || data[0] > 0xF4 || n > len) return 0;
    for (size_t i = 1; i < n; i++)
        if ((data[i] & 0xC0) != 0x80) return 0;
    /* Written longer than needed, half of a UTF-16 pair, past the last character. */
    if ((data[0] == 0xE0 && data[1] < 0xA0) || (data[0] == 0xED && data[1] > 0x9F) ||
        (data[0] == 0xF0 && data[1] < 0x90) || (data[0] == 0xF4 && data[1] > 0x8F))
        return 0;
    return n;
}

void text_add_json(struct text *text, const char *data, size_t len) {
    text_add(text, "\"", 1);
    for (size_t i = 0; i < len;) {
        unsigned char c = (unsigned char)data[i];
        size_t n = utf8_length((const unsigned char *)data + i, len - i);
        if (!n) text_add(text, "\xEF\xBF\xBD", 3);
        else if (c == '"' || c == '\\') text_addf(text, "\\%c", c);
        else if (c == '\n') text_add(text, "\\n", 2);
        else if (c < 0x20 || c == 0x7F) text_addf(text, "\\u%04x", c);
        else text_add(text, data + i, n);
        i += n ? n : 1;
    }
    text_add(text, "\"", 1);
}

void text_addf(struct text *text, const char *format, ...) {
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (n < 0) die("cannot format a text");
    char *made = xrealloc(NULL, (size_t)n + 1);
    vsnprintf(made, (size_t)n + 1, format, again);
    va_end(again);
    text_add(text, made, (size_t)n);
    free(made);
}
