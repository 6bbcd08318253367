/* How well a model predicts a text, how far it is from another one, and how often it picks the right
 * answer.
 *
 *   perplexity -m model.gguf -f text.txt                                  perplexity
 *   perplexity -m F16.gguf -f text.txt --kl-divergence-base logits.bin    ... and its logits
 *   perplexity -m Q4_0.gguf --kl-divergence-base logits.bin --kl-divergence
 *   perplexity -m model.gguf -f hellaswag.txt --hellaswag                 also --winogrande,
 *   perplexity -m model.gguf -f truthfulqa.bin --multiple-choice
 *
 * Perplexity: the text is cut into chunks of -c tokens. Of each chunk the second half is scored, so
 * that every scored token has a past; its first token is BOS where the vocabulary adds one. With
 * --ppl-stride S the chunks overlap, begin every S tokens, and the last S tokens are scored.
 *
 * KL divergence: the file of logits is llama.cpp's: "_logits_", n_ctx, n_vocab, n_chunk, the tokens,
 * then for each scored token a scale, the least log probability (floats), and each token's log
 * probability above that in units of scale (16 bits, padded to an even number). */
#include "chunks.h"
#include "tasks.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

struct options {
    int64_t n_ctx, n_batch, n_ubatch, n_threads, n_chunks, stride, n_gpu_layers;
    int64_t n_hellaswag, n_winogrande, n_multiple_choice; /* tasks; 0: all */
    const char *path, *prompt, *file, *logits, *type_k, *type_v, *attention;
    bool divergence, hellaswag, winogrande, multiple_choice, escapes, json;
};

/* ---- the file of logits ---- */

/* Half words of one scored token: two floats and a log probability for each token. */
static size_t record_len(int32_t n_vocab) { return 4 + 2 * (((size_t)n_vocab + 1) / 2); }

static void write_or_die(const void *data, size_t size, FILE *file, const char *path) {
    if (fwrite(data, 1, size, file) != size) die("cannot write '%s': %s", path, strerror(errno));
}

static void read_or_die(void *data, size_t size, FILE *file, const char *path) {
    if (fread(data, 1, size, file) != size) die("'%s' is cut short", path);
}

static void write_record(const float *logits, int32_t n_vocab, double norm, uint16_t *record,
                         FILE *file, const char *path) {
    const float max = greatest(logits, n_vocab);
    float min = max;
    for (int32_t i = 0; i < n_vocab; i++) min = logits[i] < min ? logits[i] : min;
    if (min < max - 16) min = max - 16; /* what is less likely does not count */
    const float head[2] = {(max - min) / 65535.0F, (float)((double)min - norm)};
    memset(record, 0, record_len(n_vocab) * sizeof *record);
    memcpy(record, head, sizeof head);
    for (int32_t i = 0; head[0] > 0 && i < n_vocab; i++)
        if (logits[i] > min) record[4 + i] = (uint16_t)lrintf((logits[i] - min) / head[0]);
    write_or_die(record, record_len(n_vocab) * sizeof *record, file, path);
}

/* ---- contexts ---- */

/* These settings with those of the flags. */
static struct llama_context_params with_flags(const struct options *o, struct llama_context_params params) {
    params.n_ubatch = (uint32_t)o->n_ubatch;
    params.n_threads = params.n_threads_batch = (int32_t)o->n_threads;
    params.type_k = cache_type("-ctk", o->type_k);
    params.type_v = cache_type("-ctv", o->type_v);
    params.flash_attn_type = flash_attention(o->attention);
    return params;
}

/* A context for chunks, or dies. */
static struct llama_context *make_context(struct llama_model *model, const struct options *o,
                                          int64_t n_ctx, int64_t n_chunks) {
    struct llama_context_params params = with_flags(o, chunk_params(n_ctx, n_chunks, o->n_batch));
    log_forget();
    struct llama_context *ctx = llama_init_from_model(model, params);
    if (!ctx) die_with_reason("cannot make a context of %u tokens", params.n_ctx);
    return ctx;
}

/* ---- perplexity ---- */

struct perplexity {
    struct mean nll; /* negative logarithms of the probabilities of the text's tokens */
    int32_t n_vocab;
    FILE *base; /* where the logits go, or NULL */
    const char *path;
    uint16_t *record;
    bool quiet;
};

static void score_token(void *to, const float *logits, llama_token token) {
    struct perplexity *p = to;
    const double norm = log_sum_exp(logits, p->n_vocab);
    mean_add(&p->nll, norm - (double)logits[token]);
    if (p->base) write_record(logits, p->n_vocab, norm, p->record, p->base, p->path);
}

static void show_chunk(void *to, int32_t chunk) {
    const struct perplexity *p = to;
    if (p->quiet) return;
    progress_end();
    printf("[%d]%.4f,", chunk + 1, exp(mean_of(&p->nll)));
    fflush(stdout);
}

static void perplexity(struct llama_model *model, const struct options *o, const struct text *text) {
    const struct llama_vocab *vocab = llama_model_get_vocab(model);
    struct tokens tokens = {0};
    tokens_add_text(&tokens, vocab, text->data, text->len, true, false);
    const int64_t len = (int64_t)tokens.len, n_ctx = o->n_ctx + o->stride / 2;
    if (len < 2 * n_ctx)
        die("the text has %lld tokens; chunks of %lld need at least twice as many (see -c)",
            (long long)len, (long long)n_ctx);

    int64_t n_chunks = o->stride ? (len - n_ctx + o->stride - 1) / o->stride : len / n_ctx;
    if (o->n_chunks >= 0 && o->n_chunks < n_chunks) n_chunks = o->n_chunks;
    struct perplexity p = {.n_vocab = llama_vocab_n_tokens(vocab), .path = o->logits, .quiet = o->json};
    struct llama_context *ctx = make_context(model, o, n_ctx, n_chunks);
    if (o->logits) {
        p.base = fopen(o->logits, "wb");
        if (!p.base) die("cannot write '%s': %s", o->logits, strerror(errno));
        p.record = xrealloc(NULL, record_len(p.n_vocab) * sizeof *p.record);
        const int32_t head[] = {(int32_t)n_ctx, p.n_vocab, (int32_t)n_chunks};
        write_or_die("_logits_", 8, p.base, o->logits);
        write_or_die(head, sizeof head, p.base, o->logits);
        write_or_die(tokens.data, (size_t)(n_chunks * n_ctx) * sizeof *tokens.data, p.base, o->logits);
    }
    run_chunks(ctx, &(struct chunks){
                        .tokens = tokens.data, .n_ctx = (int32_t)n_ctx, .n_chunks = (int32_t)n_chunks,
                        .step = (int32_t)(o->stride ? o->stride : n_ctx),
                        .first = (int32_t)(o->stride ? n_ctx - o->stride - 1 : n_ctx / 2),
                        .score = score_token, .chunk_done = show_chunk, .to = &p});
    if (p.base && fclose(p.base)) die("cannot write '%s': %s", o->logits, strerror(errno));

    const double ppl = exp(mean_of(&p.nll)), error = ppl * error_of(&p.nll);
    if (o->json)
        printf("{\"n_ctx\": %lld, \"n_chunks\": %lld, \"n_scored\": %zu, \"ppl\": %.6f, "
               "\"ppl_error\": %.6f}\n",
               (long long)n_ctx, (long long)n_chunks, p.nll.n, ppl, error);
    else
        printf("\nFinal estimate: PPL = %.4f +/- %.5f\n", ppl, error);
    free(p.record);
    tokens_free(&tokens);
    llama_free(ctx);
}

/* ---- KL divergence ---- */

struct divergence {
    struct mean nll, nll_base, kld, p_diff, p_diff_squared;
    double sum_nll_nll_base;
    size_t n_same_top;
    float *klds, *p_diffs;
    int32_t n_vocab;
    FILE *base;
    const char *path;
    uint16_t *record;
    bool quiet;
};

static void compare_token(void *to, const float *logits, llama_token token) {
    struct divergence *d = to;
    read_or_die(d->record, record_len(d->n_vocab) * sizeof *d->record, d->base, d->path);
    float head[2];
    memcpy(head, d->record, sizeof head);
    const double norm = log_sum_exp(logits, d->n_vocab), scale = (double)head[0], least = (double)head[1];
    int32_t top = 0, top_base = 0;
    double kld = 0;
    for (int32_t i = 0; i < d->n_vocab; i++) {
        const double log_base = scale * d->record[4 + i] + least;
        if (log_base > -16) kld += exp(log_base) * (log_base - (double)logits[i] + norm);
        if (logits[i] > logits[top]) top = i;
        if (d->record[4 + i] > d->record[4 + top_base]) top_base = i;
    }
    const double nll = norm - (double)logits[token];
    const double nll_base = -(scale * d->record[4 + token] + least);
    const double p_diff = exp(-nll) - exp(-nll_base);
    d->klds[d->kld.n] = (float)kld;
    d->p_diffs[d->kld.n] = (float)p_diff;
    mean_add(&d->nll, nll);
    mean_add(&d->nll_base, nll_base);
    mean_add(&d->kld, kld);
    mean_add(&d->p_diff, p_diff);
    mean_add(&d->p_diff_squared, p_diff * p_diff);
    d->sum_nll_nll_base += nll * nll_base;
    d->n_same_top += top == top_base;
}

/* What follows from the sums. Errors of differences know that both models saw the same text. */
struct comparison {
    double ppl, ppl_error, base, base_error, log_ratio, log_ratio_error, correlation;
    double rms, rms_error, same_top, same_top_error;
};

static struct comparison compare(const struct divergence *d) {
    struct comparison c = {0};
    const double n = (double)d->kld.n, error = error_of(&d->nll), error_base = error_of(&d->nll_base);
    double covariance = d->sum_nll_nll_base / n - mean_of(&d->nll) * mean_of(&d->nll_base);
    covariance /= n > 1 ? n - 1 : 1;
    c.ppl = exp(mean_of(&d->nll));
    c.ppl_error = c.ppl * error;
    c.base = exp(mean_of(&d->nll_base));
    c.base_error = c.base * error_base;
    c.log_ratio = mean_of(&d->nll) - mean_of(&d->nll_base);
    const double variance = error * error + error_base * error_base - 2 * covariance;
    c.log_ratio_error = variance > 0 ? sqrt(variance) : 0;
    c.correlation = error > 0 && error_base > 0 ? covariance / (error * error_base) : 0;
    c.rms = sqrt(mean_of(&d->p_diff_squared));
    c.rms_error = c.rms > 0 ? 0.5 / c.rms * error_of(&d->p_diff_squared) : 0;
    c.same_top = (double)d->n_same_top / n;
    c.same_top_error = n > 1 ? sqrt(c.same_top * (1 - c.same_top) / (n - 1)) : 0;
    return c;
}

static void show_comparison(void *to, int32_t chunk) {
    const struct divergence *d = to;
    if (d->quiet) return;
    progress_end();
    if (!chunk)
        puts("\nchunk             PPL               ln(PPL(Q)/PPL(base))          KL Divergence"
             "              Δp RMS            Same top p");
    const struct comparison c = compare(d);
    printf("%4d    %9.4f ± %9.4f    %10.5f ± %10.5f    %10.5f ± %10.5f    %6.3f ± %6.3f %%"
           "    %6.3f ± %6.3f %%\n",
           chunk + 1, c.ppl, c.ppl_error, c.log_ratio, c.log_ratio_error, mean_of(&d->kld),
           error_of(&d->kld), 100 * c.rms, 100 * c.rms_error, 100 * c.same_top, 100 * c.same_top_error);
    fflush(stdout);
}

static int by_value(const void *a, const void *b) {
    const float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

/* Between the two nearest of sorted values. */
static double percentile(const float *sorted, size_t n, double percent) {
    const double at = percent / 100 * (double)(n - 1);
    const size_t low = (size_t)at, high = low + 1 < n ? low + 1 : low;
    return (double)sorted[low] + (at - (double)low) * (double)(sorted[high] - sorted[low]);
}

static void show_statistics(struct divergence *d) {
    const size_t n = d->kld.n;
    const struct comparison c = compare(d);
    qsort(d->klds, n, sizeof *d->klds, by_value);
    qsort(d->p_diffs, n, sizeof *d->p_diffs, by_value);
    if (d->quiet) {
        printf("{\"n_scored\": %zu, \"ppl\": %.6f, \"ppl_base\": %.6f, \"log_ppl_ratio\": %.6f, "
               "\"kld_mean\": %.6f, \"kld_error\": %.6f, \"kld_median\": %.6f, \"kld_max\": %.6f, "
               "\"p_diff_rms\": %.6f, \"same_top\": %.6f}\n",
               n, c.ppl, c.base, c.log_ratio, mean_of(&d->kld), error_of(&d->kld),
               percentile(d->klds, n, 50), percentile(d->klds, n, 100), c.rms, c.same_top);
        return;
    }
    static const double percents[] = {100, 99.9, 99, 95, 90, 50, 10, 5, 1, 0.1, 0};
    enum { N = sizeof percents / sizeof *percents };
    puts("\n====== Perplexity statistics ======");
    printf("Mean PPL(Q)                   : %10.6f ± %10.6f\n", c.ppl, c.ppl_error);
    printf("Mean PPL(base)                : %10.6f ± %10.6f\n", c.base, c.base_error);
    printf("Cor(ln(PPL(Q)), ln(PPL(base))): %6.2f%%\n", 100 * c.correlation);
    printf("Mean ln(PPL(Q)/PPL(base))     : %10.6f ± %10.6f\n", c.log_ratio, c.log_ratio_error);
    puts("\n====== KL divergence statistics ======");
    printf("Mean    KLD: %10.6f ± %10.6f\n", mean_of(&d->kld), error_of(&d->kld));
    for (size_t i = 0; i < N; i++)
        printf("%5.1f%%  KLD: %10.6f\n", percents[i], percentile(d->klds, n, percents[i]));
    puts("\n====== Token probability statistics ======");
    printf("Mean    Δp: %6.3f ± %5.3f %%\n", 100 * mean_of(&d->p_diff), 100 * error_of(&d->p_diff));
    for (size_t i = 0; i < N; i++)
        printf("%5.1f%%  Δp: %6.3f%%\n", percents[i], 100 * percentile(d->p_diffs, n, percents[i]));
    printf("RMS Δp    : %6.3f ± %5.3f %%\n", 100 * c.rms, 100 * c.rms_error);
    printf("Same top p: %6.3f ± %5.3f %%\n", 100 * c.same_top, 100 * c.same_top_error);
}

static void divergence(struct llama_model *model, const struct options *o) {
    struct divergence d = {.n_vocab = llama_vocab_n_tokens(llama_model_get_vocab(model)),
                           .path = o->logits, .quiet = o->json};
    d.base = fopen(o->logits, "rb");
    if (!d.base) die("cannot open '%s': %s", o->logits, strerror(errno));
    char magic[8];
    int32_t head[3]; /* n_ctx, n_vocab, n_chunk */
    read_or_die(magic, sizeof magic, d.base, o->logits);
    if (memcmp(magic, "_logits_", sizeof magic)) die("'%s' is no file of logits", o->logits);
    read_or_die(head, sizeof head, d.base, o->logits);
    if (head[0] < 4 || head[0] > 1 << 24 || head[2] < 1 || head[2] > 1 << 24)
        die("'%s' has %d chunks of %d tokens", o->logits, head[2], head[0]);
    if (head[1] != d.n_vocab)
        die("'%s' is of a vocabulary of %d tokens, the model has %d", o->logits, head[1], d.n_vocab);

    struct tokens tokens = {0};
    for (int32_t chunk = 0; chunk < head[2]; chunk++) /* not all at once: the file may lie */
        for (int32_t i = 0; i < head[0]; i++) {
            llama_token token;
            read_or_die(&token, sizeof token, d.base, o->logits);
            if (token < 0 || token >= d.n_vocab) die("'%s' has a token %d", o->logits, token);
            tokens_push(&tokens, token);
        }
    int32_t n_chunks = head[2];
    if (o->n_chunks >= 0 && o->n_chunks < n_chunks) n_chunks = (int32_t)o->n_chunks;
    const size_t n_scored = (size_t)n_chunks * (size_t)(head[0] - 1 - head[0] / 2);
    d.klds = xrealloc(NULL, n_scored * sizeof *d.klds);
    d.p_diffs = xrealloc(NULL, n_scored * sizeof *d.p_diffs);
    d.record = xrealloc(NULL, record_len(d.n_vocab) * sizeof *d.record);

    struct llama_context *ctx = make_context(model, o, head[0], n_chunks);
    run_chunks(ctx, &(struct chunks){
                        .tokens = tokens.data, .n_ctx = head[0], .n_chunks = n_chunks, .step = head[0],
                        .first = head[0] / 2, .score = compare_token, .chunk_done = show_comparison,
                        .to = &d});
    show_statistics(&d);
    fclose(d.base);
    free(d.klds);
    free(d.p_diffs);
    free(d.record);
    tokens_free(&tokens);
    llama_free(ctx);
}

int main(int argc, char **argv) {
    struct options o = {.n_ctx = 512, .n_batch = 2048, .n_ubatch = 512, .n_threads = default_threads(),
                        .n_chunks = -1, .n_hellaswag = 400, .n_gpu_layers = -1, .escapes = true,
                        .type_k = "f16", .type_v = "f16", .attention = "auto"};
    struct gpu_options gpu = GPU_DEFAULTS;
    const struct flag flags[] = {
        {FLAG_STRING, {"-m", "--model"}, "FILE", &o.path, "the model, a GGUF file", 0, 0},
        {FLAG_STRING, {"-f", "--file"}, "FILE", &o.file, "the text", 0, 0},
        {FLAG_STRING, {"-p", "--prompt"}, "TEXT", &o.prompt, "the text", 0, 0},
        {FLAG_INT, {"-c", "--ctx-size"}, "N", &o.n_ctx, "tokens of a chunk", 4, 1 << 24},
        {FLAG_INT, {"-b", "--batch-size"}, "N", &o.n_batch, "tokens a decode", 1, 1 << 24},
        {FLAG_INT, {"-ub", "--ubatch-size"}, "N", &o.n_ubatch, "tokens computed at once", 1, 1 << 24},
        {FLAG_INT, {"-t", "--threads"}, "N", &o.n_threads, "threads", 1, 512},
        {FLAG_INT, {"-ngl"}, "N", &o.n_gpu_layers, "layers on the GPU; -1: what fits", -1, INT32_MAX},
        GPU_FLAGS(gpu),
        {FLAG_STRING, {"-ctk", "--cache-type-k"}, "T", &o.type_k, "type of the keys (default: f16)", 0, 0},
        {FLAG_STRING, {"-ctv", "--cache-type-v"}, "T", &o.type_v, "type of the values (default: f16)", 0, 0},
        {FLAG_STRING, {"-fa", "--flash-attn"}, "F", &o.attention, "on, off, auto (default: auto)", 0, 0},
        {FLAG_INT, {"--chunks"}, "N", &o.n_chunks, "chunks to use; -1: all", -1, INT32_MAX},
        {FLAG_INT, {"--ppl-stride"}, "N", &o.stride, "overlapping chunks, N tokens apart; 0: none", 0, 1 << 24},
        {FLAG_STRING, {"--kl-divergence-base", "--save-all-logits"}, "FILE", &o.logits,
         "write the logits here; with --kl-divergence: read them", 0, 0},
        {FLAG_BOOL, {"--kl-divergence"}, 0, &o.divergence, "compare with the logits of the file", 0, 0},
        {FLAG_BOOL, {"--hellaswag"}, 0, &o.hellaswag, "the text has HellaSwag's tasks", 0, 0},
        {FLAG_INT, {"--hellaswag-tasks"}, "N", &o.n_hellaswag, "tasks to use; 0: all", 0, INT32_MAX},
        {FLAG_BOOL, {"--winogrande"}, 0, &o.winogrande, "the text has Winogrande's tasks", 0, 0},
        {FLAG_INT, {"--winogrande-tasks"}, "N", &o.n_winogrande, "tasks to use; 0: all", 0, INT32_MAX},
        {FLAG_BOOL, {"--multiple-choice"}, 0, &o.multiple_choice, "the file has multiple-choice tasks (TruthfulQA, MMLU, ARC)", 0, 0},
        {FLAG_INT, {"--multiple-choice-tasks"}, "N", &o.n_multiple_choice, "tasks to use; 0: all", 0, INT32_MAX},
        {FLAG_NOT, {"--no-escape"}, 0, &o.escapes, "take \\n, \\t and the like in -p literally", 0, 0},
        {FLAG_BOOL, {"--json"}, 0, &o.json, "print one JSON object", 0, 0},
    };
    parse_flags(argc, argv, "[flags]: how well a model predicts a text", flags,
                sizeof flags / sizeof *flags, NULL);
    if (gpu.list) show_devices();
    if (o.divergence && !o.logits) die("--kl-divergence needs --kl-divergence-base FILE");
    if (o.divergence + o.hellaswag + o.winogrande + o.multiple_choice > 1)
        die("--kl-divergence, --hellaswag, --winogrande and --multiple-choice: one at a time");
    if (o.multiple_choice && !o.file) die("--multiple-choice needs a file of tasks: -f FILE");
    if (!o.divergence && !o.file == !o.prompt) die("give the text one way: -f FILE or -p TEXT");
    if (o.stride && o.logits) die("--kl-divergence-base is not for overlapping chunks (--ppl-stride)");
    if (o.stride >= o.n_ctx) die("--ppl-stride is at least -c: %lld", (long long)o.stride);
    if (!o.n_chunks) die("--chunks 0 leaves nothing to do");

    struct text text = {0};
    if (o.file && !o.divergence) text_add_file(&text, o.file);
    if (o.prompt) text_add(&text, o.prompt, strlen(o.prompt));
    if (o.prompt && o.escapes) text_unescape(&text);
    if (o.file && !o.multiple_choice && text.len && text.data[text.len - 1] == '\n') text.data[--text.len] = '\0';

    log_init(false);
    catch_sigint();
    struct llama_model_params params = llama_model_default_params();
    params.n_gpu_layers = (int32_t)o.n_gpu_layers;
    use_gpus(&gpu, &params);
    struct llama_model *model = load_model(o.path, params, &interrupted);
    const struct task_options tasks = {
        .params = with_flags(&o, llama_context_default_params()), .n_batch = o.n_batch, .json = o.json,
        .n_tasks = o.hellaswag ? o.n_hellaswag : o.winogrande ? o.n_winogrande : o.n_multiple_choice};
    if (o.divergence) divergence(model, &o);
    else if (o.hellaswag) hellaswag(model, &tasks, &text);
    else if (o.winogrande) winogrande(model, &tasks, &text);
    else if (o.multiple_choice) multiple_choice(model, &tasks, &text);
    else perplexity(model, &o, &text);
    text_free(&text);
    llama_model_free(model);
    return 0;
}
