#include "adapters.h"

#include <stdlib.h>
#include <string.h>

/* ---- "FILE:SCALE,FILE:SCALE" ---- */

/* Moves the next piece of a list into `piece`. Commas between double quotes do not end it. */
static bool next_piece(const char **rest, struct text *piece) {
    if (!*rest) return false;
    bool quoted = false;
    const char *at = *rest;
    piece->len = 0;
    text_add(piece, "", 0);
    for (; *at && (quoted || *at != ','); at++) {
        if (*at == '"') quoted = !quoted;
        else text_add(piece, at, 1);
    }
    *rest = *at ? at + 1 : NULL;
    return true;
}

/* Takes ":SCALE" off a piece. */
static float take_scale(const char *flag, struct text *piece) {
    char *colon = strrchr(piece->data, ':'), *end = NULL;
    double scale = colon ? strtod(colon + 1, &end) : 0;
    if (!colon || end == colon + 1 || *end || colon == piece->data)
        die("%s: '%s' is not FILE:SCALE", flag, piece->data);
    *colon = '\0';
    piece->len = (size_t)(colon - piece->data);
    return (float)scale;
}

void each_adapter(const struct names *lists, const char *flag, bool scaled,
                  void (*use)(void *data, const char *path, float scale), void *data) {
    struct text piece = {0};
    for (size_t i = 0; i < lists->len; i++) {
        const char *rest = lists->data[i];
        while (next_piece(&rest, &piece)) {
            float scale = scaled ? take_scale(flag, &piece) : 1;
            if (!piece.len) die("%s: no file in '%s'", flag, lists->data[i]);
            use(data, piece.data, scale);
        }
    }
    text_free(&piece);
}

/* ---- LoRA ---- */

struct loras {
    struct llama_model *model;
    struct llama_adapter_lora **list;
    float *scales;
    size_t n;
};

static void add_lora(void *data, const char *path, float scale) {
    struct loras *all = data;
    log_forget();
    struct llama_adapter_lora *lora = llama_adapter_lora_init(all->model, path);
    if (!lora) die_with_reason("cannot load the LoRA adapter '%s'", path);
    all->list = xrealloc(all->list, (all->n + 1) * sizeof(struct llama_adapter_lora *));
    all->scales = xrealloc(all->scales, (all->n + 1) * sizeof *all->scales);
    all->list[all->n] = lora;
    all->scales[all->n++] = scale;
}

/* ---- control vectors ----
 *
 * A file has an F32 tensor "direction.N" for each layer N that it moves, from 1 on. */

struct control {
    int64_t n_embd;
    float *data; /* the sum of all, layer by layer from 1 on */
    size_t n_layers;
};

/* The layer in the name of a direction; dies when there is none. */
static size_t layer_of(const char *path, const char *name) {
    static const char prefix[] = "direction.";
    char *end = NULL;
    long layer = 0;
    if (!strncmp(name, prefix, sizeof prefix - 1))
        layer = strtol(name + sizeof prefix - 1, &end, 10);
    if (!end || *end || layer < 1 || layer > 1 << 16)
        die("'%s' is no control vector: the tensor '%s' is not direction.N", path, name);
    return (size_t)layer;
}

static void add_direction(struct control *all, const char *path, struct ggml_tensor *tensor,
                          float scale) {
    size_t layer = layer_of(path, tensor->name);
    const float *values = ggml_get_data_f32(tensor);
    if (tensor->type != GGML_TYPE_F32 || !values || ggml_n_dims(tensor) != 1)
        die("'%s': %s is not a row of F32", path, tensor->name);
    if (ggml_nelements(tensor) != all->n_embd)
        die("'%s': %s has %lld numbers, the model %lld", path, tensor->name,
            (long long)ggml_nelements(tensor), (long long)all->n_embd);
    size_t n = (size_t)all->n_embd;
    if (layer > all->n_layers) {
        all->data = xrealloc(all->data, layer * n * sizeof *all->data);
        for (size_t i = all->n_layers * n; i < layer * n; i++) all->data[i] = 0;
        all->n_layers = layer;
    }
    float *sum = all->data + (layer - 1) * n;
    for (size_t i = 0; i < n; i++) sum[i] += scale * values[i];
}

static void add_control(void *data, const char *path, float scale) {
    struct ggml_context *ctx = NULL;
    struct gguf_init_params params = {.no_alloc = false, .ctx = &ctx};
    log_forget();
    struct gguf_context *gguf = gguf_init_from_file(path, params);
    if (!gguf) die_with_reason("cannot load the control vector '%s'", path);
    struct ggml_tensor *tensor = ggml_get_first_tensor(ctx);
    if (!tensor) die("'%s' is no control vector: it has no tensors", path);
    for (; tensor; tensor = ggml_get_next_tensor(ctx, tensor))
        add_direction(data, path, tensor, scale);
    gguf_free(gguf);
    ggml_free(ctx);
}

static void apply_control(const struct adapters *all, const struct control *control,
                          struct llama_model *model, struct llama_context *ctx) {
    int32_t first = all->layers[0] > 0 ? (int32_t)all->layers[0] : 1;
    int32_t last = all->layers[1] > 0 ? (int32_t)all->layers[1] : llama_model_n_layer(model);
    log_forget();
    if (llama_set_adapter_cvec(ctx, control->data, control->n_layers * (size_t)control->n_embd,
                               (int32_t)control->n_embd, first, last) != 0)
        die_with_reason("cannot use the control vector in the layers %d to %d", first, last);
}

void adapters_apply(const struct adapters *all, struct llama_model *model,
                    struct llama_context *ctx) {
    struct loras loras = {.model = model};
    each_adapter(&all->lora, "--lora", false, add_lora, &loras);
    each_adapter(&all->lora_scaled, "--lora-scaled", true, add_lora, &loras);
    log_forget();
    if (loras.n && llama_set_adapters_lora(ctx, loras.list, loras.n, loras.scales) != 0)
        die_with_reason("cannot use the LoRA adapters");
    free(loras.list);
    free(loras.scales);

    struct control control = {.n_embd = llama_model_n_embd(model)};
    each_adapter(&all->control, "--control-vector", false, add_control, &control);
    each_adapter(&all->control_scaled, "--control-vector-scaled", true, add_control, &control);
    if (control.n_layers) apply_control(all, &control, model, ctx);
    free(control.data);
}

void adapters_free(struct adapters *all) {
    names_free(&all->lora);
    names_free(&all->lora_scaled);
    names_free(&all->control);
    names_free(&all->control_scaled);
}
