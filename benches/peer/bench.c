/* One measurement of a libllama through llama.h alone.
 *
 *   bench MODEL THREADS REPETITIONS TEST
 *
 * TEST is one of
 *   pp512    decode a prompt of 512 tokens at once
 *   tg128    decode 128 tokens one after another
 *   b8x32    8 sequences, 32 steps of one token each
 *   ttft16   load the model, make a context, decode 16 tokens, choose the next one
 *
 * It prints one JSON object: the seconds of every repetition and the tokens in each, the peak
 * resident memory and what the KV cache takes by the model's numbers. The same binary runs on any
 * library that calls itself libllama.so.0: LD_LIBRARY_PATH says which. */
#define _POSIX_C_SOURCE 200809L
#include "llama.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void fail(const char *what) {
    fprintf(stderr, "bench: %s\n", what);
    exit(1);
}

static void only_errors(enum ggml_log_level level, const char *text, void *user_data) {
    (void)user_data;
    if (level == GGML_LOG_LEVEL_ERROR) fputs(text, stderr);
}

/* The same tokens for every library: a linear congruential generator (Knuth's MMIX constants). */
static llama_token next_token(int32_t n_vocab) {
    static uint64_t state = 42;
    state = state * 6364136223846793005U + 1442695040888963407U;
    return (llama_token)((state >> 33) % (uint64_t)n_vocab);
}

static struct llama_model *load(const char *path) {
    struct llama_model *model = llama_model_load_from_file(path, llama_model_default_params());
    if (!model) fail("cannot load the model");
    return model;
}

static struct llama_context *open_context(struct llama_model *model, int threads, int n_ctx,
                                          int n_seq) {
    struct llama_context_params params = llama_context_default_params();
    params.n_ctx = (uint32_t)n_ctx;
    params.n_seq_max = (uint32_t)n_seq;
    params.n_threads = params.n_threads_batch = threads;
    struct llama_context *ctx = llama_init_from_model(model, params);
    if (!ctx) fail("cannot make a context");
    return ctx;
}

static void decode(struct llama_context *ctx, struct llama_batch batch) {
    if (llama_decode(ctx, batch)) fail("decode failed");
    llama_synchronize(ctx);
}

static double prompt_seconds(struct llama_context *ctx, int32_t n_vocab, int n) {
    llama_token *tokens = malloc((size_t)n * sizeof *tokens);
    if (!tokens) fail("out of memory");
    for (int i = 0; i < n; i++) tokens[i] = next_token(n_vocab);
    llama_memory_clear(llama_get_memory(ctx), true);
    double start = now();
    decode(ctx, llama_batch_get_one(tokens, n));
    double seconds = now() - start;
    free(tokens);
    return seconds;
}

static double generation_seconds(struct llama_context *ctx, int32_t n_vocab, int n) {
    llama_memory_clear(llama_get_memory(ctx), true);
    double start = now();
    for (int i = 0; i < n; i++) {
        llama_token token = next_token(n_vocab);
        decode(ctx, llama_batch_get_one(&token, 1));
    }
    return now() - start;
}

static double batched_seconds(struct llama_context *ctx, int32_t n_vocab, int n_seq, int steps) {
    llama_memory_clear(llama_get_memory(ctx), true);
    struct llama_batch batch = llama_batch_init(n_seq, 0, 1);
    batch.n_tokens = n_seq;
    double start = now();
    for (int step = 0; step < steps; step++) {
        for (int s = 0; s < n_seq; s++) {
            batch.token[s] = next_token(n_vocab);
            batch.pos[s] = step;
            batch.n_seq_id[s] = 1;
            batch.seq_id[s][0] = s;
            batch.logits[s] = 1;
        }
        decode(ctx, batch);
    }
    double seconds = now() - start;
    llama_batch_free(batch);
    return seconds;
}

/* Bytes of an F16 KV cache for n_ctx cells. */
static double kv_bytes(const struct llama_model *model, uint32_t n_ctx) {
    double head = (double)llama_model_n_embd(model) / llama_model_n_head(model);
    return 2.0 * 2.0 * llama_model_n_layer(model) * llama_model_n_head_kv(model) * head * n_ctx;
}

int main(int argc, char **argv) {
    if (argc != 5) fail("usage: bench MODEL THREADS REPETITIONS pp512|tg128|b8x32|ttft16");
    const char *path = argv[1], *test = argv[4];
    int threads = atoi(argv[2]), repetitions = atoi(argv[3]), n = 0, n_seq = 1;
    if (threads < 1 || repetitions < 1) fail("THREADS and REPETITIONS are at least 1");
    bool pp = sscanf(test, "pp%d", &n) == 1, tg = sscanf(test, "tg%d", &n) == 1;
    bool ttft = sscanf(test, "ttft%d", &n) == 1, batched = sscanf(test, "b%dx%d", &n_seq, &n) == 2;
    if (!(pp || tg || ttft || batched) || n < 1 || n_seq < 1) fail("unknown test");

    llama_log_set(only_errors, NULL);
    llama_backend_init();
    printf("{\"test\": \"%s\", \"tokens\": %d, \"seconds\": [", test, n * n_seq);

    struct llama_model *model = NULL;
    struct llama_context *ctx = NULL;
    if (ttft) {
        for (int r = 0; r < repetitions; r++) {
            if (ctx) llama_free(ctx);
            if (model) llama_model_free(model);
            double start = now();
            model = load(path);
            ctx = open_context(model, threads, 512, 1);
            prompt_seconds(ctx, llama_vocab_n_tokens(llama_model_get_vocab(model)), n);
            struct llama_sampler *greedy = llama_sampler_init_greedy();
            llama_sampler_sample(greedy, ctx, -1);
            printf("%s%.6f", r ? ", " : "", now() - start);
            llama_sampler_free(greedy);
        }
    } else {
        model = load(path);
        int32_t n_vocab = llama_vocab_n_tokens(llama_model_get_vocab(model));
        int n_ctx = n * n_seq < 512 ? 512 : n * n_seq;
        ctx = open_context(model, threads, n_ctx, n_seq);
        for (int r = -1; r < repetitions; r++) { /* r = -1 warms up and is not counted */
            int size = r < 0 && n > 4 ? (pp ? n : 4) : n;
            double seconds = pp   ? prompt_seconds(ctx, n_vocab, size)
                             : tg ? generation_seconds(ctx, n_vocab, size)
                                  : batched_seconds(ctx, n_vocab, n_seq, size);
            if (r >= 0) printf("%s%.6f", r ? ", " : "", seconds);
        }
    }

    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    printf("], \"peak_rss_mib\": %.1f, \"kv_mib\": %.1f, \"n_ctx\": %u}\n",
           (double)usage.ru_maxrss / 1024.0, kv_bytes(model, llama_n_ctx(ctx)) / (1024.0 * 1024.0),
           llama_n_ctx(ctx));
    llama_free(ctx);
    llama_model_free(model);
    llama_backend_free();
    return 0;
}
