/* The functions of powerinfer.h, on a model whose neurons are known.
 *
 *   sparse MODEL ROUTE MODE THRESHOLD [FILE]
 *
 * ROUTE is `params` (powerinfer_model_load_from_file), `kv` (overrides as text and number), `flag`
 * (an override of bool or int: MODE is "true" or "0") or `none` (whatever the environment says).
 * THRESHOLD is a number or "-". Prints five greedy tokens, then what is known of each layer, and
 * saves the counts of activations to FILE. */
#include "common.h"
#include "powerinfer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static void log_lines(enum ggml_log_level level, const char *text, void *data) {
    (void)data;
    if (level == GGML_LOG_LEVEL_ERROR || level == GGML_LOG_LEVEL_WARN) fputs(text, stderr);
}

static const char *const modes[] = {"default", "auto", "exact", "predictor", "sign", "magnitude",
                                    "off"};

static struct llama_model *by_params(const char *path, const char *mode, const char *threshold) {
    struct powerinfer_params sparse;
    powerinfer_default_params(&sparse, sizeof sparse);
    if (sparse.size != sizeof sparse || !isnan(sparse.sparse_threshold) || sparse.sidecar)
        die("the defaults give something");
    sparse.sparse = (enum powerinfer_sparse_mode)99; /* refused when no mode has the name */
    for (int i = 0; i < 7; i++)
        if (!strcmp(modes[i], mode)) sparse.sparse = (enum powerinfer_sparse_mode)i;
    if (strcmp(threshold, "-")) sparse.sparse_threshold = (float)atof(threshold);
    sparse.stats = POWERINFER_SWITCH_ON;
    sparse.count_activations = POWERINFER_SWITCH_ON;
    return powerinfer_model_load_from_file(path, llama_model_default_params(), &sparse);
}

static struct llama_model *by_overrides(const char *path, const char *mode, const char *threshold,
                                        bool as_flag) {
    struct llama_model_kv_override list[4];
    memset(list, 0, sizeof list);
    int n = 0;
    strcpy(list[n].key, "powerinfer.sparse");
    if (as_flag && !strcmp(mode, "true")) {
        list[n].tag = LLAMA_KV_OVERRIDE_TYPE_BOOL;
        list[n++].val_bool = true;
    } else if (as_flag) {
        list[n].tag = LLAMA_KV_OVERRIDE_TYPE_INT;
        list[n++].val_i64 = atoi(mode);
    } else {
        list[n].tag = LLAMA_KV_OVERRIDE_TYPE_STR;
        snprintf(list[n].val_str, sizeof list[n].val_str, "%s", mode);
        n++;
    }
    if (strcmp(threshold, "-")) {
        strcpy(list[n].key, "powerinfer.sparse_threshold");
        list[n].tag = LLAMA_KV_OVERRIDE_TYPE_FLOAT;
        list[n++].val_f64 = atof(threshold);
    }
    if (as_flag) {
        strcpy(list[n].key, "powerinfer.sprase"); /* a warning */
        list[n].tag = LLAMA_KV_OVERRIDE_TYPE_BOOL;
        n++;
    }
    struct llama_model_params params = llama_model_default_params();
    params.kv_overrides = list;
    return llama_model_load_from_file(path, params);
}

/* What a careless program might do. Nothing of it may crash. */
static void misuse(const char *path, struct llama_context *ctx) {
    struct llama_model_params params = llama_model_default_params();
    struct powerinfer_params sparse;
    powerinfer_default_params(NULL, sizeof sparse);
    powerinfer_default_params(&sparse, 3);
    powerinfer_default_params(&sparse, sizeof sparse);
    if (powerinfer_model_load_from_file(NULL, params, &sparse)) die("a model without a path");
    sparse.size = 0;
    if (powerinfer_model_load_from_file(path, params, &sparse)) die("a structure without a size");
    struct {
        struct powerinfer_params known;
        char more[16];
    } newer;
    memset(&newer, 0, sizeof newer);
    powerinfer_default_params(&newer.known, sizeof newer);
    newer.more[9] = 1;
    if (powerinfer_model_load_from_file(path, params, &newer.known)) die("an unknown option");

    struct powerinfer_layer_stats layer;
    if (powerinfer_get_stats(NULL, &layer, 1, sizeof layer) != -1) die("stats of no context");
    if (powerinfer_get_stats(ctx, NULL, 1, sizeof layer) != -1) die("stats to nowhere");
    if (powerinfer_get_stats(ctx, &layer, 1, 0) != -1) die("stats of no size");
    /* An older structure: nothing behind it is written. */
    memset(&layer, 0x55, sizeof layer);
    if (powerinfer_get_stats(ctx, &layer, 1, 16) < 1) die("stats of an older program");
    if (layer.layer != 0 || layer.n_neurons != 96 || layer.tokens != 0x5555555555555555) die("cut");
    /* A newer one: what this version does not know is zero. */
    struct {
        struct powerinfer_layer_stats known;
        uint64_t more;
    } later[2];
    memset(later, 0x55, sizeof later);
    if (powerinfer_get_stats(ctx, &later[0].known, 2, sizeof later[0]) < 2) die("newer stats");
    if (later[0].more || later[1].more || later[1].known.layer != 1) die("newer stats: layout");

    powerinfer_reset_stats(NULL);
    powerinfer_count_activations(NULL, true);
    if (powerinfer_save_activation(NULL, "x") || powerinfer_save_activation(ctx, NULL))
        die("saved nothing to nowhere");
    if (powerinfer_import_activation(NULL, "x") || powerinfer_import_activation("x", NULL) ||
        powerinfer_import_activation("no/such/folder", "x"))
        die("imported nothing");
}

int main(int argc, char **argv) {
    if (argc < 5) die("usage: sparse MODEL ROUTE MODE THRESHOLD [FILE]");
    const char *path = argv[1], *route = argv[2], *mode = argv[3], *threshold = argv[4];
    llama_log_set(log_lines, NULL);
    llama_backend_init();
    struct llama_model *model =
        !strcmp(route, "params") ? by_params(path, mode, threshold)
        : !strcmp(route, "none") ? llama_model_load_from_file(path, llama_model_default_params())
                                 : by_overrides(path, mode, threshold, !strcmp(route, "flag"));
    if (!model) return 1;

    struct llama_context_params params = llama_context_default_params();
    params.n_ctx = 64;
    params.n_threads = params.n_threads_batch = 2;
    struct llama_context *ctx = llama_init_from_model(model, params);
    if (!ctx) die("no context");

    llama_token token = 7;
    int32_t n_vocab = llama_vocab_n_tokens(llama_model_get_vocab(model));
    for (int i = 0; i < 5; i++) {
        if (llama_decode(ctx, llama_batch_get_one(&token, 1))) die("decoding");
        const float *logits = llama_get_logits_ith(ctx, -1);
        token = 0;
        for (int32_t t = 1; t < n_vocab; t++)
            if (logits[t] > logits[token]) token = t;
        printf("%d ", token);
    }
    printf("\n");

    struct powerinfer_layer_stats layers[8];
    int32_t n = powerinfer_get_stats(ctx, layers, 8, sizeof layers[0]);
    for (int32_t i = 0; i < n && i < 8; i++) {
        const struct powerinfer_layer_stats *l = &layers[i];
        printf("%d %s neurons %d tokens %d guessed %d fired %d checked %d found %d less %d timed %d\n",
               (int)l->layer, modes[l->mode], (int)l->n_neurons, (int)l->tokens, (int)l->guessed,
               (int)l->fired, (int)l->checked, (int)l->found, l->bytes < l->dense_bytes,
               l->timed && l->time_ns);
    }
    if (argc > 5) {
        if (!powerinfer_save_activation(ctx, argv[5])) die("no counts");
        powerinfer_reset_stats(ctx);
        if (powerinfer_get_stats(ctx, layers, 1, sizeof layers[0]) != n || layers[0].tokens)
            die("a reset without effect");
        llama_log_set(NULL, NULL);
        misuse(path, ctx);
    }
    llama_free(ctx);
    llama_model_free(model);
    llama_backend_free();
    return 0;
}
