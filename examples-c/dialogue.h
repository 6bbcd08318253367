/* A conversation, and its text in a model's chat format. */
#ifndef POWERINFER_EXAMPLES_DIALOGUE_H
#define POWERINFER_EXAMPLES_DIALOGUE_H

#include "common.h"

#ifdef __cplusplus
extern "C" {
#endif

struct message {
    const char *role; /* "system", "user", "assistant" */
    struct text content;
};

/* Start from {.model = ...}. */
struct dialogue {
    const struct llama_model *model;
    /* The template in the model's place, Jinja or the name of a built-in format; NULL: the model's. */
    const char *template_text;
    struct message *messages;
    size_t n_messages;
};

/* Adds what somebody says. */
void dialogue_add(struct dialogue *dialogue, const char *role, const char *data, size_t len);

/* Forgets the oldest question and its answer; the system prompt stays. False: there is only one. */
bool dialogue_forget(struct dialogue *dialogue);

/* Adds the whole conversation as tokens, ready for an answer: by the Jinja template, and where that
 * fails or libllama has no Jinja, by the built-in format that resembles it. Dies when neither works. */
void dialogue_tokens(const struct dialogue *dialogue, struct tokens *tokens);

void dialogue_free(struct dialogue *dialogue);

#ifdef __cplusplus
}
#endif

#endif
