/* Computes an importance matrix: what meets the columns of a model's tensors while it reads a text.
 *
 *   imatrix -m model-F16.gguf -f text.txt -o imatrix.gguf
 *   imatrix --in-file a.gguf,b.dat -o both.gguf          adds up what was computed before
 *   imatrix --in-file imatrix.gguf --show-statistics
 *   quantize -m model-F16.gguf -o model-IQ2_M.gguf -q IQ2_M --imatrix imatrix.gguf
 *
 * Of every product of a weight matrix with activations the squares of the activations are added up,
 * column by column; for matrices of experts apart for each expert that the router chose. A model's
 * output.weight counts with --process-output alone. The perplexity of the text comes along. */
#include "chunks.h"
#include "importance.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct options {
    const char *path, *prompt, *file, *output, *format;
    struct names in_files;
    int64_t n_ctx, n_batch, n_ubatch, n_threads, n_gpu_layers;
    int64_t n_chunks, from_chunk, output_frequency, save_frequency;
    bool process_output, ppl, statistics, special, json, old;
};

/* ---- collecting ---- */

struct collector {
    const struct options *options;
    struct importances all;
    int64_t n_saved; /* chunks when it was saved last */
    struct mean nll;
    int32_t n_vocab;
};

static void add_squares(double *sums, const struct ggml_tensor *x, int64_t i1, int64_t i2, int64_t i3) {
    const char *at = (const char *)x->data + (size_t)i1 * x->nb[1] + (size_t)i2 * x->nb[2] +
                     (size_t)i3 * x->nb[3];
    const float *row = (const float *)(const void *)at;
    for (int64_t k = 0; k < x->ne[0]; k++) sums[k] += (double)row[k] * (double)row[k];
}

/* A product with the matrices of the experts that the router chose for each token: activations are
 * [columns, experts chosen or 1, tokens], their numbers [experts chosen, tokens]. */
static void collect_experts(struct collector *c, const struct ggml_tensor *weight,
                            const struct ggml_tensor *x, const struct ggml_tensor *ids) {
    const int64_t n_experts = weight->ne[2], n_columns = x->ne[0];
    struct importance *e = importances_entry(&c->all, weight->name, (size_t)(n_columns * n_experts),
                                             (size_t)n_experts);
    for (int64_t token = 0; token < ids->ne[1]; token++)
        for (int64_t i = 0; i < ids->ne[0]; i++) {
            int32_t expert;
            memcpy(&expert, (const char *)ids->data + (size_t)token * ids->nb[1] + (size_t)i * ids->nb[0],
                   sizeof expert);
            if (expert < 0 || expert >= n_experts) continue;
            add_squares(e->sums + expert * n_columns, x, i % x->ne[1], token, 0);
            e->counts[expert]++;
        }
}

/* A product with a matrix, or with several that each have their own activations. */
static void collect_dense(struct collector *c, const struct ggml_tensor *weight,
                          const struct ggml_tensor *x) {
    const int64_t n_matrices = weight->ne[2] * weight->ne[3], n_columns = x->ne[0];
    struct importance *e =
        importances_entry(&c->all, weight->name, (size_t)(n_columns * n_matrices), 1);
    for (int64_t i3 = 0; i3 < x->ne[3]; i3++)
        for (int64_t i2 = 0; i2 < x->ne[2]; i2++) {
            const int64_t matrix = i3 % weight->ne[3] * weight->ne[2] + i2 % weight->ne[2];
            for (int64_t i1 = 0; i1 < x->ne[1]; i1++)
                add_squares(e->sums + matrix * n_columns, x, i1, i2, i3);
        }
    for (size_t k = 0; k < e->n_counts; k++) e->counts[k] += ggml_nrows(x) / n_matrices;
}

/* llama_context_params.cb_eval */
static bool collect(struct ggml_tensor *node, bool ask, void *data) {
    struct collector *c = data;
    const bool experts = node->op == GGML_OP_MUL_MAT_ID;
    if (!experts && node->op != GGML_OP_MUL_MAT) return !ask; /* what was not asked for goes on */
    const struct ggml_tensor *weight = node->src[0], *x = node->src[1];
    const bool counts = !strncmp(weight->name, "blk.", 4) ||
                        (c->options->process_output && !strcmp(weight->name, "output.weight"));
    if (ask) return counts && x->type == GGML_TYPE_F32;
    if (experts) collect_experts(c, weight, x, node->src[2]);
    else collect_dense(c, weight, x);
    return true;
}

/* Numbers that are none come from a damaged model, and would spoil a quantized one. */
static void check_finite(const struct importances *all) {
    for (size_t i = 0; i < all->n; i++)
        for (size_t k = 0; k < all->entries[i].n_sums; k++)
            if (!isfinite((float)all->entries[i].sums[k]))
                die("column %zu of %s met a number that is not finite", k, all->entries[i].name);
}

static void save(struct collector *c, const char *path) {
    check_finite(&c->all);
    importances_save(&c->all, path, c->options->n_ctx, c->options->old);
}

/* Whether a multiple of `every` lies behind `before`, up to `now`. */
static bool is_due(int64_t every, int64_t before, int64_t now) {
    return every > 0 && now / every > before / every;
}

static void score_token(void *to, const float *logits, llama_token token) {
    struct collector *c = to;
    mean_add(&c->nll, log_sum_exp(logits, c->n_vocab) - (double)logits[token]);
}

static void chunk_done(void *to, int32_t chunk) {
    struct collector *c = to;
    const struct options *o = c->options;
    if (o->ppl && !o->json) {
        progress_end();
        printf("[%d]%.4f,", chunk + 1, exp(mean_of(&c->nll)));
        fflush(stdout);
    }
    /* Of chunks that were read together the first has counted all of them. */
    const int64_t n = importances_chunks(&c->all, o->n_ctx), before = c->n_saved;
    if (n == before) return;
    c->n_saved = c->all.n_chunks = n;
    if (is_due(o->output_frequency, before, n)) save(c, o->output);
    if (is_due(o->save_frequency, before, n)) {
        struct text copy = {0};
        text_addf(&copy, "%s.at_%lld", o->output, (long long)n);
        save(c, copy.data);
        text_free(&copy);
    }
}

static void compute(struct collector *c, struct text *text) {
    const struct options *o = c->options;
    struct llama_model_params model_params = llama_model_default_params();
    model_params.n_gpu_layers = (int32_t)o->n_gpu_layers;
    struct llama_model *model = load_model(o->path, model_params, &interrupted);
    const struct llama_vocab *vocab = llama_model_get_vocab(model);
    if (!llama_model_has_decoder(model)) die("'%s' is an encoder, which predicts no text", o->path);
    c->n_vocab = llama_vocab_n_tokens(vocab);

    struct tokens tokens = {0};
    tokens_add_text(&tokens, vocab, text->data, text->len, true, o->special);
    const int64_t all = (int64_t)tokens.len / o->n_ctx;
    int64_t n_chunks = all - o->from_chunk;
    if (n_chunks < 1 || (int64_t)tokens.len < 2 * o->n_ctx)
        die("the text has %zu tokens, that is %lld chunks of %lld; at least two are needed, and one "
            "after --chunk %lld", tokens.len, (long long)all, (long long)o->n_ctx, (long long)o->from_chunk);
    if (o->n_chunks >= 0 && o->n_chunks < n_chunks) n_chunks = o->n_chunks;

    struct llama_context_params params = chunk_params(o->n_ctx, n_chunks, o->n_batch);
    params.n_ubatch = (uint32_t)o->n_ubatch;
    params.n_threads = params.n_threads_batch = (int32_t)o->n_threads;
    params.cb_eval = collect;
    params.cb_eval_user_data = c;
    log_forget();
    struct llama_context *ctx = llama_init_from_model(model, params);
    if (!ctx) die_with_reason("cannot make a context of %u tokens", params.n_ctx);
    run_chunks(ctx, &(struct chunks){
                        .tokens = tokens.data + o->from_chunk * o->n_ctx, .n_ctx = (int32_t)o->n_ctx,
                        .n_chunks = (int32_t)n_chunks, .step = (int32_t)o->n_ctx,
                        .first = (int32_t)(o->n_ctx / 2), .whole = true,
                        .score = o->ppl ? score_token : NULL, .chunk_done = chunk_done, .to = c});
    if (o->ppl && !o->json)
        printf("\nFinal estimate: PPL = %.4f +/- %.5f\n", exp(mean_of(&c->nll)),
               exp(mean_of(&c->nll)) * error_of(&c->nll));
    tokens_free(&tokens);
    llama_free(ctx);
    llama_model_free(model);
}

/* Says what became of it all; rows without tokens are experts that the text never needed. */
static void report(const struct collector *c) {
    const struct options *o = c->options;
    size_t n_partial = 0;
    for (size_t i = 0; i < c->all.n; i++) {
        const struct importance *e = &c->all.entries[i];
        bool partial = false;
        for (size_t k = 0; k < e->n_counts; k++) partial |= !e->counts[k];
        n_partial += partial;
    }
    if (!o->json) {
        if (n_partial) note("%zu tensors have experts that met no token", n_partial);
        note("%zu tensors, %lld chunks of %lld tokens: %s", c->all.n, (long long)c->all.n_chunks,
             (long long)o->n_ctx, o->output);
        return;
    }
    struct text line = {0};
    text_addf(&line, "{\"output\": ");
    text_add_json(&line, o->output, strlen(o->output));
    text_addf(&line, ", \"entries\": %zu, \"entries_partial\": %zu, \"n_chunks\": %lld, \"chunk_size\": %lld",
              c->all.n, n_partial, (long long)c->all.n_chunks, (long long)o->n_ctx);
    if (c->nll.n)
        text_addf(&line, ", \"n_scored\": %zu, \"ppl\": %.6f, \"ppl_error\": %.6f", c->nll.n,
                  exp(mean_of(&c->nll)), exp(mean_of(&c->nll)) * error_of(&c->nll));
    text_addf(&line, "}");
    puts(line.data);
    text_free(&line);
}

/* ---- statistics ---- */

/* Of the mean squares of one tensor. */
struct statistics {
    const struct importance *entry;
    int layer;        /* -1: none */
    char tensor[64];  /* its name without layer and ".weight" */
    size_t n;
    double total, min, max, mean, deviation;
    double active;    /* share of those above 1e-5 */
    double entropy;   /* in bits, of their distribution */
    double zd;        /* share of those more than a deviation above the mean */
    double cosine;    /* with the same tensor one layer before; 0 without one */
};

static void name_parts(struct statistics *s) {
    const char *name = s->entry->name;
    int used = 0;
    s->layer = -1;
    if (sscanf(name, "blk.%d.%n", &s->layer, &used) != 1 || !used) used = 0;
    snprintf(s->tensor, sizeof s->tensor, "%s", name + used);
    char *end = strstr(s->tensor, ".weight");
    if (end) *end = '\0';
}

static struct statistics statistics_of(const struct importance *e) {
    struct statistics s = {.entry = e, .min = INFINITY};
    const size_t row = e->n_sums / e->n_counts;
    double squares = 0, n_active = 0, n_far = 0;
    name_parts(&s);
    for (int pass = 0; pass < 2; pass++) { /* the mean and deviation come before what needs them */
        for (size_t k = 0; k < e->n_sums; k++) {
            if (!e->counts[k / row]) continue;
            const double x = e->sums[k] / (double)e->counts[k / row];
            if (pass) {
                n_active += x > 1e-5;
                n_far += s.deviation > 0 && (x - s.mean) / s.deviation > 1;
                if (x > 0) s.entropy -= x / s.total * log2(x / s.total);
                continue;
            }
            s.n++;
            s.total += x;
            squares += x * x;
            s.min = x < s.min ? x : s.min;
            s.max = x > s.max ? x : s.max;
        }
        if (!s.n) return s;
        s.mean = s.total / (double)s.n;
        const double variance = squares / (double)s.n - s.mean * s.mean;
        s.deviation = variance > 0 ? sqrt(variance) : 0;
    }
    s.active = n_active / (double)s.n;
    s.zd = n_far / (double)s.n;
    return s;
}

/* How alike the sums are to those of the same tensor in the layer before. */
static void compare_layers(struct statistics *all, size_t n) {
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; all[i].layer >= 0 && j < n; j++) {
            const struct importance *a = all[i].entry, *b = all[j].entry;
            if (all[j].layer != all[i].layer - 1 || strcmp(all[i].tensor, all[j].tensor)) continue;
            if (all[j].layer < 0 || a->n_sums != b->n_sums) continue;
            double ab = 0, aa = 0, bb = 0;
            for (size_t k = 0; k < a->n_sums; k++) {
                ab += a->sums[k] * b->sums[k];
                aa += a->sums[k] * a->sums[k];
                bb += b->sums[k] * b->sums[k];
            }
            all[i].cosine = aa > 0 && bb > 0 ? ab / (sqrt(aa) * sqrt(bb)) : 0;
        }
}

/* By tensor, and of those the greatest sums first. */
static int by_tensor(const void *a, const void *b) {
    const struct statistics *x = a, *y = b;
    const int order = strcmp(x->tensor, y->tensor);
    return order ? order : (x->total < y->total) - (x->total > y->total);
}

/* The entropy as a share of the most that so many values can have. */
static double norm_entropy(const struct statistics *s) {
    return s->n > 1 ? s->entropy / log2((double)s->n) : 0;
}

static void print_layers(const struct statistics *all, size_t n) {
    int last = -1, n_layers = 0;
    for (size_t i = 0; i < n; i++) last = all[i].layer > last ? all[i].layer : last;
    for (int pass = 0; pass < 2; pass++) {
        if (pass)
            printf("\nComputing weighted average statistics per layer (%d layers)\n\n  Layer\t     "
                   "μΣ(Act²)\t      μZD\tμCosSim\n"
                   "================================================\n", n_layers);
        for (int layer = 0; layer <= last; layer++) {
            double weight = 0, total = 0, zd = 0, cosine = 0;
            for (size_t i = 0; i < n; i++) {
                if (all[i].layer != layer) continue;
                const double w = (double)all[i].n;
                weight += w;
                total += w * all[i].total;
                zd += w * all[i].zd;
                cosine += w * all[i].cosine;
            }
            if (weight <= 0) continue;
            n_layers += !pass;
            if (pass)
                printf("%5d\t%14.2f\t%10.4f%%\t%6.4f\n", layer, total / weight, 100 * zd / weight,
                       cosine / weight);
        }
    }
    putchar('\n');
}

static void print_statistics(const struct statistics *all, size_t n, const char *path) {
    printf("\nComputing statistics for %s (%zu tensors)\n\n", path, n);
    puts(" Layer\t       Tensor\t          Σ(Act²)\t  Min\t            Max\t           μ\t   σ\t"
         " % Active\tN\t   Entropy\tE (norm)\tZD\t  CosSim");
    for (int i = 0; i < 169; i++) putchar('=');
    putchar('\n');
    for (size_t i = 0; i < n; i++) {
        const struct statistics *s = &all[i];
        char layer[16] = "-";
        if (s->layer >= 0) snprintf(layer, sizeof layer, "%d", s->layer);
        printf("%5s\t%-20s\t%10.2f\t%8.4f\t%11.4f\t%6.2f\t%6.2f\t%8.2f%%\t%6zu\t%10.4f\t%6.2f%%\t"
               "%10.2f%%\t%8.4f\n",
               layer, s->tensor, s->total, s->min, s->max, s->mean, s->deviation, 100 * s->active, s->n,
               s->entropy, 100 * norm_entropy(s), 100 * s->zd, s->cosine);
    }
    print_layers(all, n);
}

/* A line for each tensor. */
static void print_json(const struct statistics *all, size_t n) {
    for (size_t i = 0; i < n; i++) {
        const struct statistics *s = &all[i];
        struct text line = {0};
        text_addf(&line, "{\"name\": ");
        text_add_json(&line, s->entry->name, strlen(s->entry->name));
        text_addf(&line, ", \"layer\": %d, \"n\": %zu, \"sum\": %.9g, \"min\": %.9g, \"max\": %.9g, "
                  "\"mean\": %.9g, \"stddev\": %.9g, \"active\": %.6f, \"entropy\": %.6f, "
                  "\"entropy_norm\": %.6f, \"zd\": %.6f, \"cossim\": %.6f}",
                  s->layer, s->n, s->total, s->min, s->max, s->mean, s->deviation, s->active, s->entropy,
                  norm_entropy(s), s->zd, s->cosine);
        puts(line.data);
        text_free(&line);
    }
}

static void show_statistics(const char *path, bool json) {
    struct importances all = {0};
    importances_load(&all, path);
    struct statistics *list = xrealloc(NULL, all.n * sizeof *list);
    size_t n = 0;
    for (size_t i = 0; i < all.n; i++) {
        struct statistics one = statistics_of(&all.entries[i]);
        if (one.n) list[n++] = one;
    }
    compare_layers(list, n);
    qsort(list, n, sizeof *list, by_tensor);
    if (json) print_json(list, n);
    else print_statistics(list, n, path);
    free(list);
    importances_free(&all);
}

/* ---- the program ---- */

static void read_options(struct options *o, int argc, char **argv) {
    *o = (struct options){.n_ctx = 512, .n_batch = 512, .n_ubatch = 512, .n_threads = default_threads(),
                          .n_gpu_layers = -1, .n_chunks = -1, .output = "imatrix.gguf", .format = "gguf",
                          .output_frequency = 10, .ppl = true};
    const struct flag flags[] = {
        {FLAG_STRING, {"-m", "--model"}, "FILE", &o->path, "the model, a GGUF file", 0, 0},
        {FLAG_STRING, {"-f", "--file"}, "FILE", &o->file, "the text ('-' is stdin)", 0, 0},
        {FLAG_STRING, {"-p", "--prompt"}, "TEXT", &o->prompt, "the text", 0, 0},
        {FLAG_STRING, {"-o", "--output", "--output-file"}, "FILE", &o->output, "the importance matrix (default: imatrix.gguf)", 0, 0},
        {FLAG_STRING, {"--output-format"}, "NAME", &o->format, "gguf or dat, the old format (default: gguf)", 0, 0},
        {FLAG_INT, {"-ofreq", "--output-frequency"}, "N", &o->output_frequency, "save after every N chunks; 0: at the end", 0, INT32_MAX},
        {FLAG_INT, {"--save-frequency"}, "N", &o->save_frequency, "keep a copy FILE.at_N after every N chunks; 0: none", 0, INT32_MAX},
        {FLAG_LIST, {"--in-file"}, "FILE,...", &o->in_files, "importance matrices to add to; may be repeated", 0, 0},
        {FLAG_BOOL, {"--process-output"}, 0, &o->process_output, "output.weight too", 0, 0},
        {FLAG_NOT, {"--no-ppl"}, 0, &o->ppl, "do not compute the text's perplexity", 0, 0},
        {FLAG_BOOL, {"--ppl"}, 0, &o->ppl, "compute it (the default)", 0, 0},
        {FLAG_INT, {"--chunk", "--from-chunk"}, "N", &o->from_chunk, "leave out the first N chunks", 0, 1 << 24},
        {FLAG_INT, {"--chunks"}, "N", &o->n_chunks, "chunks to use; -1: all", -1, INT32_MAX},
        {FLAG_BOOL, {"--parse-special"}, 0, &o->special, "read <|im_start|> and the like in the text as tokens", 0, 0},
        {FLAG_BOOL, {"--show-statistics"}, 0, &o->statistics, "show what is in the one --in-file", 0, 0},
        {FLAG_INT, {"-c", "--ctx-size"}, "N", &o->n_ctx, "tokens of a chunk", 4, 1 << 24},
        {FLAG_INT, {"-b", "--batch-size"}, "N", &o->n_batch, "tokens a decode; more than -c: several chunks", 1, 1 << 24},
        {FLAG_INT, {"-ub", "--ubatch-size"}, "N", &o->n_ubatch, "tokens computed at once", 1, 1 << 24},
        {FLAG_INT, {"-t", "--threads"}, "N", &o->n_threads, "threads", 1, 512},
        {FLAG_INT, {"-ngl", "--gpu-layers", "--n-gpu-layers"}, "N", &o->n_gpu_layers, "layers on the GPU; -1: what fits", -1, INT32_MAX},
        {FLAG_BOOL, {"--json"}, 0, &o->json, "print JSON: one line, with --show-statistics one for each tensor", 0, 0},
    };
    parse_flags(argc, argv, "computes an importance matrix over a text", flags,
                sizeof flags / sizeof *flags, NULL);
    static const char *const formats[] = {"gguf", "dat", NULL};
    o->old = choice("--output-format", o->format, formats);
    if (o->prompt && o->file) die("-p and -f both give the text: use one of them");
    if (!o->n_chunks) die("--chunks 0 leaves nothing to do");
}

int main(int argc, char **argv) {
    static struct options o; /* static: what they hold stays reachable when die() ends the program */
    static struct collector c;
    read_options(&o, argc, argv);
    log_init(false);
    catch_sigint();
    struct text paths = {0}, text = {0};
    struct names in_files = {0};
    split_commas(&o.in_files, &paths, &in_files);
    if (o.statistics) {
        if (in_files.len != 1) die("--show-statistics needs one file: --in-file FILE");
        show_statistics(in_files.data[0], o.json);
    } else {
        if (!o.prompt && !o.file && !in_files.len)
            die("nothing to do: give a text with -f FILE, or files to add up with --in-file");
        c.options = &o;
        for (size_t i = 0; i < in_files.len; i++) {
            struct importances one = {0};
            importances_load(&one, in_files.data[i]);
            importances_add(&c.all, &one, o.n_ctx);
            importances_free(&one);
        }
        c.n_saved = c.all.n_chunks;
        if (o.file) text_add_file(&text, o.file);
        if (text.len && text.data[text.len - 1] == '\n') text.data[--text.len] = '\0';
        if (o.file) importances_add_dataset(&c.all, o.file);
        if (o.prompt) text_add(&text, o.prompt, strlen(o.prompt));
        if (o.file || o.prompt) compute(&c, &text);
        save(&c, o.output);
        report(&c);
    }
    importances_free(&c.all);
    names_free(&in_files);
    names_free(&o.in_files);
    text_free(&paths);
    text_free(&text);
    return 0;
}
