/* powerinfer_calibrate, and a load with what it found.
 *
 *   calibrate MODEL SIDECAR TARGET
 *
 * Prints the share of silent neurons, and the layers and the share of firing neurons of a run in the
 * mode magnitude. */
#include "common.h"
#include "powerinfer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { N_TEXT = 2000, N_RUN = 8 };

static void log_lines(enum ggml_log_level level, const char *text, void *data) {
    (void)data;
    if (level == GGML_LOG_LEVEL_ERROR || level == GGML_LOG_LEVEL_WARN) fputs(text, stderr);
}

int main(int argc, char **argv) {
    if (argc != 4) die("usage: calibrate MODEL SIDECAR TARGET");
    const char *path = argv[1], *sidecar = argv[2];
    const float target = (float)atof(argv[3]);
    llama_log_set(log_lines, NULL);
    llama_backend_init();
    struct llama_model *model = llama_model_load_from_file(path, llama_model_default_params());
    if (!model) die("no model");
    const int32_t n_vocab = llama_vocab_n_tokens(llama_model_get_vocab(model));
    int32_t text[N_TEXT];
    for (int i = 0; i < N_TEXT; i++) text[i] = (i * i / 7 + i) % n_vocab;

    struct powerinfer_calibration found;
    const size_t size = sizeof found;
    if (powerinfer_calibrate(NULL, text, N_TEXT, 0.5f, sidecar, &found, size) != -1 ||
        powerinfer_calibrate(model, NULL, N_TEXT, 0.5f, sidecar, &found, size) != -1 ||
        powerinfer_calibrate(model, text, 100, 0.5f, sidecar, &found, size) != -1 ||
        powerinfer_calibrate(model, text, N_TEXT, NAN, sidecar, &found, size) != -1)
        die("calibrated what makes no sense");
    /* A newer structure: what this version does not know is zero. */
    struct {
        struct powerinfer_calibration known;
        uint64_t more;
    } newer;
    memset(&newer, 0x55, sizeof newer);
    if (powerinfer_calibrate(model, text, N_TEXT, target, sidecar, &newer.known, sizeof newer))
        die("not calibrated");
    found = newer.known;
    if (newer.more || found.target_sparsity != target) die("a wrong result");
    if (!(found.perplexity_dense > 1 && found.perplexity_sparse > 1)) die("no perplexity");
    printf("silent %.2f\n", found.sparsity);
    llama_model_free(model);

    struct powerinfer_params sparse;
    powerinfer_default_params(&sparse, sizeof sparse);
    sparse.sparse = POWERINFER_SPARSE_MODE_MAGNITUDE;
    sparse.sidecar = sidecar;
    model = powerinfer_model_load_from_file(path, llama_model_default_params(), &sparse);
    if (!model) die("no model with these thresholds");
    struct llama_context *ctx = llama_init_from_model(model, llama_context_default_params());
    if (!ctx || llama_decode(ctx, llama_batch_get_one(text, N_RUN))) die("not decoded");
    struct powerinfer_layer_stats layers[16];
    const int32_t n = powerinfer_get_stats(ctx, layers, 16, sizeof layers[0]);
    double fired = 0, all = 0;
    for (int32_t i = 0; i < n; i++) {
        fired += (double)layers[i].fired;
        all += (double)layers[i].tokens * (double)layers[i].n_neurons;
    }
    printf("layers %d fired %.2f\n", (int)n, fired / all);
    llama_free(ctx);
    llama_model_free(model);
    llama_backend_free();
    return 0;
}
