/* Calls of llama.h that can fail, with the reason that the library gives. The log is one for the process
 * and a message comes on the thread that calls: so the reason is collected by thread, within one call. */
#ifndef POWERINFER_CALLS_H
#define POWERINFER_CALLS_H

#include "llama.h"

/* Where the reason of a failure goes: text, with a NUL at its end. */
struct reason {
    char text[512];
};

void calls_init(void);
struct llama_model *call_load(const char *path, struct llama_model_params params,
                              struct reason *reason);
struct llama_context *call_context(struct llama_model *model, struct llama_context_params params,
                                   struct reason *reason);
/* The next tokens of sequence 0; logits of the last one. */
int32_t call_decode_next(struct llama_context *ctx, llama_token *tokens, int32_t n,
                         struct reason *reason);
int32_t call_decode(struct llama_context *ctx, struct llama_batch batch, struct reason *reason);

#endif
