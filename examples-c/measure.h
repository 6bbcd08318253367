/* What the measuring programs share (bench, perplexity, embedding, ...): lists and choices in
 * flags, random tokens, a progress line. */
#ifndef POWERINFER_EXAMPLES_MEASURE_H
#define POWERINFER_EXAMPLES_MEASURE_H

#include "generate.h"

/* ---- lists and choices in flags ---- */

/* A growing list of numbers. Start from {0}. */
struct numbers {
    int32_t *data;
    size_t len, cap;
};
void numbers_push(struct numbers *numbers, int32_t number);
void numbers_free(struct numbers *numbers);

/* Adds what a flag's values stand for: numbers and ranges, "1,2,8-32*2,40-60+10", all between min
 * and max. Without values it adds `otherwise`. Dies of anything else. */
void numbers_parse(struct numbers *numbers, const char *flag, const struct names *values,
                   int32_t otherwise, int32_t min, int32_t max);

/* Adds the parts of the values between commas; they live in `scratch`, which must be empty. */
void split_commas(const struct names *values, struct text *scratch, struct names *parts);

/* Position of a name in a list that ends with NULL, or dies. */
int choice(const char *flag, const char *name, const char *const *names);

/* The type of a KV cache by its name, or dies. */
enum ggml_type cache_type(const char *flag, const char *name);

/* Flash attention by "on", "off", "auto" or 1, 0, -1, or dies. */
enum llama_flash_attn_type flash_attention(const char *name);

/* ---- tokens ---- */

/* Any token of the vocabulary; each run of a program gets the same ones. */
llama_token random_token(const struct llama_vocab *vocab);

/* ---- progress ---- */

/* Shows a line on stderr in place of the one before, when stderr is a terminal. */
#if defined(__GNUC__)
__attribute__((format(printf, 1, 2)))
#endif
void progress(const char *format, ...);
/* Takes the line away. */
void progress_end(void);

#endif
