/* What the programs that generate text share: Ctrl-C, progress, batches, samplers, JSON strings. */
#ifndef POWERINFER_EXAMPLES_GENERATE_H
#define POWERINFER_EXAMPLES_GENERATE_H

#include "common.h"

/* ---- Ctrl-C: the first one stops what is running, the second one the program ---- */

extern volatile sig_atomic_t interrupted;

/* Makes Ctrl-C set `interrupted`; reading a line ends by it too. */
void catch_sigint(void);

/* For llama_context_params.abort_callback: a decode that runs ends as well. */
bool should_abort(void *data);

/* Says that the program was interrupted, and ends it with code 130. */
#if defined(__GNUC__)
__attribute__((noreturn))
#endif
void exit_interrupted(void);

/* ---- decoding ---- */

/* A context for up to n_ctx tokens (in all) and n_seq sequences in one cache, which Ctrl-C stops;
 * or dies. n_batch: tokens handed over at once. n_threads 0: one for each CPU. */
struct llama_context *new_context(struct llama_model *model, uint32_t n_ctx, uint32_t n_batch,
                                   uint32_t n_seq, int32_t n_threads);

void batch_add(struct llama_batch *batch, llama_token token, llama_pos pos, llama_seq_id seq,
               bool logits);

/* Decodes the batch; dies when that fails, and ends the program after Ctrl-C. */
void decode_batch(struct llama_context *ctx, struct llama_batch batch);

/* Decodes tokens of a sequence from position `from` on, in as many batches as they need; the last
 * one has logits. */
void decode_tokens(struct llama_context *ctx, const llama_token *tokens, size_t n, llama_pos from,
                   llama_seq_id seq);

/* temp 0: always the most likely token; else the best 40 tokens, of them 90 % of the probability. */
struct llama_sampler *make_sampler(double temp, uint32_t seed);

/* ---- output ---- */

/* Shows "what done/total" on a line of its own when stderr is a terminal, and clears the line when
 * all is done. */
void show_count(const char *what, uint64_t done, uint64_t total);

/* Adds a JSON string with its quotes. What is no UTF-8 becomes U+FFFD. */
void text_add_json(struct text *text, const char *data, size_t len);

/* Adds formatted text. */
#if defined(__GNUC__)
__attribute__((format(printf, 2, 3)))
#endif
void text_addf(struct text *text, const char *format, ...);

#endif
