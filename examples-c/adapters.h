/* LoRA adapters and control vectors, by the flags of llama.cpp's programs. */
#ifndef POWERINFER_EXAMPLES_ADAPTERS_H
#define POWERINFER_EXAMPLES_ADAPTERS_H

#include "common.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What the flags said. Start from {0}. */
struct adapters {
    struct names lora, lora_scaled;       /* "FILE,..." and "FILE:SCALE,..." */
    struct names control, control_scaled; /* the same */
    int64_t layers[2];                    /* of the control vectors, both in; 0: all */
};

/* Calls `use` with each file of such lists, and its scale; 1 where they have none. */
void each_adapter(const struct names *lists, const char *flag, bool scaled,
                  void (*use)(void *data, const char *path, float scale), void *data);

/* Loads what was asked for and sets it in the context, or dies. The LoRA adapters are freed with the
 * model. */
void adapters_apply(const struct adapters *all, struct llama_model *model,
                    struct llama_context *ctx);

void adapters_free(struct adapters *all);

#ifdef __cplusplus
}
#endif

#endif
