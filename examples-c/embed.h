/* Texts as vectors: what `embedding` and `retrieval` share. */
#ifndef POWERINFER_EXAMPLES_EMBED_H
#define POWERINFER_EXAMPLES_EMBED_H

#include "generate.h"

struct embed_options {
    int64_t n_batch, n_threads; /* a batch holds every text whole */
    enum llama_pooling_type pooling;
    enum llama_attention_type attention;
};

/* By their names in flags; "model" is what the file says. Die of other names. */
enum llama_pooling_type pooling_named(const char *name);
enum llama_attention_type attention_named(const char *name);

/* A context for up to n_texts texts at once (or fewer: not all fit a batch), which Ctrl-C stops; or
 * dies. */
struct llama_context *embed_context(struct llama_model *model, const struct embed_options *options,
                                    size_t n_texts);

/* Rows of n_embd numbers, a text each (without pooling: a token each). Start from {0} with n_embd. */
struct rows {
    float *data;
    size_t n, n_embd;
};

/* Adds the rows of the texts, each a sequence of its own in a batch. Every text has tokens, and fits
 * a batch. norm: as in normalize(); scores of rerankers stay as they are. */
void embed(struct llama_context *ctx, const struct tokens *texts, size_t n_texts, struct rows *rows,
           int64_t norm);

/* Makes a row's norm 1: -1 leaves it, 0 makes the greatest number 32760, 1 is the sum of absolute
 * values, 2 the Euclidean norm, p the p-norm. */
void normalize(float *row, size_t n, int64_t norm);

/* How alike two rows of n numbers are, -1 to 1. */
double cosine(const float *a, const float *b, size_t n);

#endif
