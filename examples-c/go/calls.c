#include "calls.h"

#include <stdio.h>
#include <string.h>

static _Thread_local struct reason *current;

/* Errors and warnings become the reason; outside of a call they go to stderr. */
static void listen(enum ggml_log_level level, const char *text, void *data) {
    static _Thread_local enum ggml_log_level last;
    (void)data;
    if (level != GGML_LOG_LEVEL_CONT) last = level;
    if (last < GGML_LOG_LEVEL_WARN) return;
    if (!current) {
        fputs(text, stderr);
        return;
    }
    size_t len = strlen(current->text);
    snprintf(current->text + len, sizeof current->text - len, "%s", text);
}

void calls_init(void) {
    llama_log_set(listen, NULL);
    llama_backend_init();
}

static void begin(struct reason *reason) {
    reason->text[0] = '\0';
    current = reason;
}

struct llama_model *call_load(const char *path, struct llama_model_params params,
                              struct reason *reason) {
    begin(reason);
    struct llama_model *model = llama_model_load_from_file(path, params);
    current = NULL;
    return model;
}

struct llama_context *call_context(struct llama_model *model, struct llama_context_params params,
                                   struct reason *reason) {
    begin(reason);
    struct llama_context *ctx = llama_init_from_model(model, params);
    current = NULL;
    return ctx;
}

int32_t call_decode_next(struct llama_context *ctx, llama_token *tokens, int32_t n,
                         struct reason *reason) {
    return call_decode(ctx, llama_batch_get_one(tokens, n), reason);
}

int32_t call_decode(struct llama_context *ctx, struct llama_batch batch, struct reason *reason) {
    begin(reason);
    int32_t status = llama_decode(ctx, batch);
    current = NULL;
    return status;
}
