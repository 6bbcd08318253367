/* Texts in chunks, and how likely their tokens are: what perplexity and imatrix share. */
#ifndef POWERINFER_EXAMPLES_CHUNKS_H
#define POWERINFER_EXAMPLES_CHUNKS_H

#include "measure.h"

/* ---- probabilities ---- */

/* The greatest of n logits. */
float greatest(const float *logits, int32_t n);

/* The number to take off a logit to have the logarithm of its probability. */
double log_sum_exp(const float *logits, int32_t n);

/* A mean and its standard error, of values that come one by one. Start from {0}. */
struct mean {
    double sum, squares;
    size_t n;
};
void mean_add(struct mean *mean, double value);
double mean_of(const struct mean *mean);
double error_of(const struct mean *mean);

/* ---- chunks ---- */

/* The text, how it is cut, and what to do with the logits before each scored token. */
struct chunks {
    const llama_token *tokens;
    int32_t n_ctx, n_chunks, step, first; /* chunk i begins at i * step; scored are first + 1.. */
    bool whole; /* compute the last layer for all tokens, also those whose logits nobody needs */
    void (*score)(void *to, const float *logits, llama_token token); /* NULL: nothing is scored */
    void (*chunk_done)(void *to, int32_t chunk);
    void *to;
};

/* Settings for chunks of n_ctx tokens: as many at once, each a sequence, as fit n_batch tokens, where
 * one fits. Ctrl-C stops the context. */
struct llama_context_params chunk_params(int64_t n_ctx, int64_t n_chunks, int64_t n_batch);

/* Each chunk is read from an empty cache; its first token is BOS where the vocabulary adds one. */
void run_chunks(struct llama_context *ctx, const struct chunks *chunks);

#endif
