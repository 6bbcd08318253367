#include "embed.h"
#include "measure.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- numbers ---- */

void normalize(float *row, size_t n, int64_t norm) {
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        const double x = fabs((double)row[i]);
        if (norm == 0) sum = x > sum ? x : sum;
        else sum += norm == 2 ? x * x : pow(x, (double)norm);
    }
    if (norm < 0) return;
    if (norm == 0) sum /= 32760;
    else if (norm == 2) sum = sqrt(sum);
    else sum = pow(sum, 1.0 / (double)norm);
    const float scale = sum > 0 ? (float)(1.0 / sum) : 0;
    for (size_t i = 0; i < n; i++) row[i] *= scale;
}

double cosine(const float *a, const float *b, size_t n) {
    double ab = 0, aa = 0, bb = 0;
    for (size_t k = 0; k < n; k++) {
        ab += (double)a[k] * (double)b[k];
        aa += (double)a[k] * (double)a[k];
        bb += (double)b[k] * (double)b[k];
    }
    if (aa == 0 || bb == 0) return aa == bb; /* two empty vectors are the same */
    return ab / (sqrt(aa) * sqrt(bb));
}

/* ---- computing ---- */

static void take_rows(struct llama_context *ctx, struct llama_batch *batch, int32_t n_seq,
                      struct rows *rows, int64_t norm) {
    if (!batch->n_tokens) return;
    llama_memory_t memory = llama_get_memory(ctx);
    if (memory) llama_memory_clear(memory, false);
    decode_batch(ctx, *batch);
    const bool pooled = llama_pooling_type(ctx) != LLAMA_POOLING_TYPE_NONE;
    const int32_t n = pooled ? n_seq : batch->n_tokens;
    rows->data = xrealloc(rows->data, (rows->n + (size_t)n) * rows->n_embd * sizeof *rows->data);
    for (int32_t i = 0; i < n; i++) {
        const float *embd = pooled ? llama_get_embeddings_seq(ctx, i) : llama_get_embeddings_ith(ctx, i);
        if (!embd) die_with_reason("the model gave no embedding");
        float *row = rows->data + rows->n++ * rows->n_embd;
        memcpy(row, embd, rows->n_embd * sizeof *row);
        if (llama_pooling_type(ctx) != LLAMA_POOLING_TYPE_RANK) normalize(row, rows->n_embd, norm);
    }
    batch->n_tokens = 0;
}

void embed(struct llama_context *ctx, const struct tokens *texts, size_t n_texts, struct rows *rows,
           int64_t norm) {
    const int32_t n_batch = (int32_t)llama_n_batch(ctx), n_seq_max = (int32_t)llama_n_seq_max(ctx);
    struct llama_batch batch = llama_batch_init(n_batch, 0, 1);
    int32_t n_seq = 0;
    for (size_t k = 0; k < n_texts; k++) {
        if (batch.n_tokens + (int32_t)texts[k].len > n_batch || n_seq == n_seq_max) {
            take_rows(ctx, &batch, n_seq, rows, norm);
            n_seq = 0;
            progress("%zu of %zu texts", k, n_texts);
        }
        for (size_t i = 0; i < texts[k].len; i++)
            batch_add(&batch, texts[k].data[i], (llama_pos)i, n_seq, true);
        n_seq++;
    }
    take_rows(ctx, &batch, n_seq, rows, norm);
    progress_end();
    llama_batch_free(batch);
}

/* ---- flags ---- */

/* The names are in the order of the enums, which begin at -1. */
enum llama_pooling_type pooling_named(const char *name) {
    static const char *const names[] = {"model", "none", "mean", "cls", "last", "rank", NULL};
    return (enum llama_pooling_type)(choice("--pooling", name, names) - 1);
}

enum llama_attention_type attention_named(const char *name) {
    static const char *const names[] = {"model", "causal", "non-causal", NULL};
    return (enum llama_attention_type)(choice("--attention", name, names) - 1);
}

struct llama_context *embed_context(struct llama_model *model, const struct embed_options *options,
                                    size_t n_texts) {
    if (llama_model_has_encoder(model) && llama_model_has_decoder(model))
        die("the model has an encoder and a decoder: no embeddings of those");

    struct llama_context_params params = llama_context_default_params();
    params.n_ctx = params.n_batch = params.n_ubatch = (uint32_t)options->n_batch;
    params.n_seq_max = n_texts < 64 ? (uint32_t)n_texts : 64;
    params.kv_unified = true;
    params.embeddings = true;
    params.pooling_type = options->pooling;
    params.attention_type = options->attention;
    params.n_threads = params.n_threads_batch = (int32_t)options->n_threads;
    params.abort_callback = should_abort;
    log_forget();
    struct llama_context *ctx = llama_init_from_model(model, params);
    if (!ctx) die_with_reason("cannot make a context of %u tokens", params.n_ctx);
    return ctx;
}
