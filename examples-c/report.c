#include "report.h"

#pragma weak powerinfer_get_gpu_memory
#pragma weak powerinfer_get_gpu_stats

#include <stdlib.h>
#include <string.h>

static bool meta_number(const struct session *s, const char *key, double *value) {
    char arch[64], full[128], text[64];
    if (llama_model_meta_val_str(s->model, "general.architecture", arch, sizeof arch) < 0)
        return false;
    snprintf(full, sizeof full, "%s.%s", arch, key);
    if (llama_model_meta_val_str(s->model, full, text, sizeof text) < 0) return false;
    *value = strtod(text, NULL);
    return true;
}

/* MiB of an F16 cache: K and V rows of every layer for every cell. */
static double kv_cache_mib(const struct session *s) {
    double head = (double)llama_model_n_embd(s->model) / llama_model_n_head(s->model);
    double k = head, v = head;
    meta_number(s, "attention.key_length", &k);
    meta_number(s, "attention.value_length", &v);
    double per_cell = llama_model_n_layer(s->model) * llama_model_n_head_kv(s->model) * (k + v) * 2;
    return per_cell * llama_n_ctx(s->ctx) / (1024.0 * 1024.0);
}

static void print_rate(const char *name, double ms, size_t n) {
    fprintf(stderr, "  %-11s %10.1f ms", name, ms);
    if (n) fprintf(stderr, " %7zu tokens %9.2f ms/token %10.1f tokens/s", n, ms / (double)n,
                   ms > 0 ? 1e3 * (double)n / ms : 0.0);
    fputc('\n', stderr);
}

/* What of the GPU is in use, for programs on one. */
static void report_gpu(const struct session *s) {
    struct powerinfer_gpu_memory use;
    if (!powerinfer_get_gpu_memory || !powerinfer_get_gpu_memory(s->ctx, &use, sizeof use)) return;
    const double mib = 1024.0 * 1024.0;
    fprintf(stderr, "  %-11s %10.1f MiB of %.1f (weights %.1f, neurons %.1f, KV cache %.1f, activations %.1f)\n",
            "GPU memory", (double)(use.weights + use.neurons + use.kv + use.compute) / mib,
            (double)use.budget / mib, (double)use.weights / mib, (double)use.neurons / mib,
            (double)use.kv / mib, (double)use.compute / mib);
}

void report_times(const struct session *s, enum stop why) {
    static const char *const stop_names[] = {"end of text", "-n reached", "interrupted",
                                             "context full"};
    fflush(stdout);
    fputc('\n', stderr);
    print_rate("load", s->time.load, 0);
    print_rate("prompt", s->time.prompt, s->time.n_prompt);
    print_rate("generation", s->time.generation, s->time.n_generation);
    print_rate("sampling", s->time.sampling, s->time.n_sampled);
    print_rate("total", now_ms() - s->time.start, 0);
    fprintf(stderr, "  %-11s %10.1f MiB at most (model %.1f MiB, KV cache of %u tokens %.1f MiB)\n",
            "memory", peak_rss_mib(), (double)llama_model_size(s->model) / (1024.0 * 1024.0),
            llama_n_ctx(s->ctx), kv_cache_mib(s));
    report_gpu(s);
    if (s->time.n_shifts == 1) fprintf(stderr, "  %-11s half of the context once\n", "forgot");
    else if (s->time.n_shifts)
        fprintf(stderr, "  %-11s half of the context %zu times\n", "forgot", s->time.n_shifts);
    fprintf(stderr, "  %-11s %s\n", "stopped by", stop_names[why]);
}

static void print_share(double part, double whole) {
    if (whole > 0) fprintf(stderr, " %9.2f%%", 100 * part / whole);
    else fprintf(stderr, " %10s", "-");
}

static void print_layer(const char *name, const char *mode, const struct powerinfer_layer_stats *l,
                        double neurons, double tokens) {
    fprintf(stderr, "  %-5s %-9s", name, mode);
    print_share((double)l->fired, neurons);
    print_share((double)l->guessed, neurons);
    print_share((double)l->found, (double)l->checked);
    double mib = 1024.0 * 1024.0 * (tokens > 0 ? tokens : 1);
    fprintf(stderr, " %12.3f %12.3f %10.4f\n", (double)l->bytes / mib,
            (double)l->dense_bytes / mib, l->timed ? (double)l->time_ns / 1e6 / (double)l->timed : 0);
}

/* How the GPU and the CPU shared the networks, a token. */
static void report_split(const struct session *s) {
    struct powerinfer_gpu_stats all;
    if (!powerinfer_get_gpu_stats || !powerinfer_get_gpu_stats(s->ctx, &all, sizeof all)) return;
    if (!all.tokens) return;
    double n = (double)all.tokens, ms = 1e6 * n, kib = 1024.0 * n;
    fprintf(stderr, "\n  GPU and CPU, a token of %zu\n", (size_t)all.tokens);
    fprintf(stderr, "  %-12s %10.1f on the GPU, %.1f on the CPU", "neurons", (double)all.hot / n,
            (double)all.cold / n);
    if (all.hot + all.cold)
        fprintf(stderr, ": %.1f%% are hot", 100 * (double)all.hot / (double)(all.hot + all.cold));
    fprintf(stderr, "\n  %-12s %10.3f ms, the CPU %.3f ms\n", "GPU works", (double)all.gpu_ns / ms,
            (double)all.cpu_ns / ms);
    fprintf(stderr, "  %-12s %10.3f ms of %.3f ms", "exposed wait", (double)all.exposed_ns / ms,
            (double)all.time_ns / ms);
    if (all.time_ns)
        fprintf(stderr, " (%.1f%%)", 100 * (double)all.exposed_ns / (double)all.time_ns);
    fprintf(stderr, "\n  %-12s %10.1f KiB to the CPU, %.1f KiB back\n", "crossings",
            (double)all.to_cpu / kib, (double)all.to_gpu / kib);
}

void report_layers(const struct session *s) {
    report_split(s);
    static const char *const modes[] = {"default", "auto", "exact", "predictor", "sign",
                                        "magnitude", "off"};
    if (!s->n_layers) {
        note("no layer of this model can skip neurons (or no token was generated)");
        return;
    }
    struct powerinfer_layer_stats all = {0};
    double neurons = 0, ms = 0, tokens = 0;
    fprintf(stderr, "\n  neurons while generating, a token of each layer\n");
    fprintf(stderr, "  %-5s %-9s %10s %10s %10s %12s %12s %10s\n", "layer", "chosen by", "active",
            "predicted", "recall", "MiB read", "MiB if dense", "ms");
    for (int32_t i = 0; i < s->n_layers; i++) {
        const struct powerinfer_layer_stats *l = &s->layers[i];
        double own = (double)l->tokens * (double)l->n_neurons;
        char name[16];
        snprintf(name, sizeof name, "%d", (int)l->layer);
        size_t mode = (size_t)l->mode < sizeof modes / sizeof *modes ? (size_t)l->mode : 0;
        print_layer(name, modes[mode], l, own, (double)l->tokens);
        neurons += own;
        if ((double)l->tokens > tokens) tokens = (double)l->tokens;
        if (l->timed) ms += (double)l->time_ns / 1e6 / (double)l->timed;
        all.fired += l->fired;
        all.guessed += l->guessed;
        all.found += l->found;
        all.checked += l->checked;
        all.bytes += l->bytes;
        all.dense_bytes += l->dense_bytes;
    }
    all.timed = 1;
    all.time_ns = (uint64_t)(ms * 1e6);
    print_layer("all", "", &all, neurons, tokens);
}
