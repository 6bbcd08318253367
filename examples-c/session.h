/* A text in the making: what was read and written, the cache that holds it, and what generates. */
#ifndef POWERINFER_EXAMPLES_SESSION_H
#define POWERINFER_EXAMPLES_SESSION_H

#include "generate.h"
#include "powerinfer.h"

/* Why text stopped coming. */
enum stop { STOP_END_OF_TEXT, STOP_LIMIT, STOP_INTERRUPT, STOP_CONTEXT_FULL };

/* A file that keeps the state of the prompt from run to run. */
struct prompt_cache {
    const char *path; /* NULL: none */
    bool all;         /* also what was generated, at the end */
    bool read_only;
    bool pending; /* to be written once the prompt has been read */
};

struct session {
    struct llama_model *model;
    const struct llama_vocab *vocab;
    struct llama_context *ctx;
    struct llama_sampler *sampler;
    struct llama_sampler *grammar; /* in the chain; NULL without one */
    int64_t n_predict;             /* tokens of an answer; -1: until the model ends it */
    /* What was said so far. The first n_past tokens are in the KV cache, the others wait; the
     * samplers know of the first n_seen. */
    struct tokens history;
    size_t n_past, n_seen;
    /* When the context is full: forget half of what comes behind the first n_keep tokens. */
    bool context_shift;
    int64_t n_keep; /* -1: all of the first prompt */
    size_t n_kept;  /* the same, once the first prompt is there */
    bool has_prompt, verbose_prompt;
    struct prompt_cache cache;
    struct utf8_stream out;
    struct {
        double load, prompt, generation, sampling, start; /* ms */
        size_t n_prompt, n_generation, n_sampled, n_shifts;
    } time;
    /* Layers that can skip neurons, over all generated tokens. */
    bool layer_stats;
    struct powerinfer_layer_stats *layers;
    int32_t n_layers;
};

/* Reads the prompt cache's file, if it has one that is there: the history is its tokens then. */
void session_load(struct session *s);

/* Writes it at the end, if it is to keep everything. */
void session_save(struct session *s);

/* Adds tokens, the first time with the start token. */
void session_add_text(struct session *s, const char *text, size_t len);

/* Makes these tokens the history. What is the same as before stays in the KV cache. Takes them over. */
void session_become(struct session *s, struct tokens *now);

/* Do these tokens and one more fit into the context? */
bool session_fits(const struct session *s, size_t n_tokens);

/* Generates until something stops it. The text goes to stdout and, if given, to `answer`. */
enum stop session_generate(struct session *s, struct text *answer);

void session_free(struct session *s);

#endif
