/* How fast a model is: prompt processing (pp), text generation (tg), and one after the other.
 *
 *   bench -m model.gguf -p 512 -n 128 -t 1,2,4 -o md
 *
 * Flags that take lists make one test of each combination. Every test runs once to warm up and -r
 * times for the result: mean and standard deviation of tokens per second. The tokens are random;
 * speed does not depend on them (but in a sparse model, where it does a little). */
#include "measure.h"
#include "powerinfer.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* One test: what runs, and how. */
struct test {
    const char *path;
    int32_t n_gpu_layers, n_prompt, n_gen, n_depth, n_batch, n_ubatch, n_threads;
    const char *type_k, *type_v, *flash_attn;
};

struct result {
    double *samples_ns;
    int64_t n_samples;
    double avg_ns, stddev_ns, avg_ts, stddev_ts;
    char model[128], time[32];
    uint64_t size, n_params;
};

/* Of all tests. */
static struct gpu_options gpus_used = GPU_DEFAULTS;
static bool kv_offload = true;
static double vram_budget = -1;

/* ---- running ---- */

static struct llama_context *make_context(struct llama_model *model, const struct test *test) {
    struct llama_context_params params = llama_context_default_params();
    params.n_ctx = (uint32_t)(test->n_prompt + test->n_gen + test->n_depth);
    params.n_batch = (uint32_t)test->n_batch;
    params.n_ubatch = (uint32_t)test->n_ubatch;
    params.n_threads = params.n_threads_batch = test->n_threads;
    params.type_k = cache_type("-ctk", test->type_k);
    params.type_v = cache_type("-ctv", test->type_v);
    params.flash_attn_type = flash_attention(test->flash_attn);
    params.offload_kqv = kv_offload;
    params.abort_callback = should_abort;
    log_forget();
    struct llama_context *ctx = llama_init_from_model(model, params);
    if (!ctx) die_with_reason("cannot make a context of %u tokens", params.n_ctx);
    return ctx;
}

/* The first token of an empty context is BOS where the vocabulary wants one. */
static llama_token next_token(struct llama_context *ctx, bool first) {
    const struct llama_vocab *vocab = llama_model_get_vocab(llama_get_model(ctx));
    return first && llama_vocab_get_add_bos(vocab) ? llama_vocab_bos(vocab) : random_token(vocab);
}

static void run_prompt(struct llama_context *ctx, int32_t n, int32_t n_batch) {
    llama_token *tokens = xrealloc(NULL, (size_t)n_batch * sizeof *tokens);
    for (int32_t done = 0; done < n;) {
        int32_t len = n - done < n_batch ? n - done : n_batch;
        for (int32_t i = 0; i < len; i++) tokens[i] = next_token(ctx, done + i == 0);
        decode_batch(ctx, llama_batch_get_one(tokens, len));
        done += len;
    }
    llama_synchronize(ctx);
    free(tokens);
}

static void run_gen(struct llama_context *ctx, int32_t n) {
    for (int32_t i = 0; i < n; i++) {
        llama_token token = next_token(ctx, i == 0);
        decode_batch(ctx, llama_batch_get_one(&token, 1));
        llama_synchronize(ctx);
    }
}

static void run_once(struct llama_context *ctx, const struct test *test) {
    if (test->n_prompt) run_prompt(ctx, test->n_prompt, test->n_batch);
    if (test->n_gen) run_gen(ctx, test->n_gen);
}

/* Fills the context up to the depth; the state of the first time serves all others. */
static void go_to_depth(struct llama_context *ctx, const struct test *test, struct text *state) {
    llama_memory_clear(llama_get_memory(ctx), false);
    if (!test->n_depth) return;
    if (state->len) {
        const uint8_t *data = (const uint8_t *)state->data;
        if (!llama_state_seq_set_data(ctx, data, state->len, 0))
            die_with_reason("cannot go back to depth %d", test->n_depth);
        return;
    }
    run_prompt(ctx, test->n_depth, test->n_batch);
    size_t size = llama_state_seq_get_size(ctx, 0);
    state->data = xrealloc(state->data, size);
    state->len = state->cap = llama_state_seq_get_data(ctx, (uint8_t *)state->data, size, 0);
}

/* Mean and sample deviation. */
static void statistics(const double *values, int64_t n, double *mean, double *deviation) {
    double sum = 0, squares = 0;
    for (int64_t i = 0; i < n; i++) sum += values[i];
    *mean = sum / (double)n;
    for (int64_t i = 0; i < n; i++) squares += (values[i] - *mean) * (values[i] - *mean);
    *deviation = n > 1 ? sqrt(squares / (double)(n - 1)) : 0;
}

static void run_test(struct llama_model *model, const struct test *test, int64_t reps, bool warm_up,
                     struct result *result) {
    struct llama_context *ctx = make_context(model, test);
    if (warm_up) {
        if (test->n_prompt) run_prompt(ctx, test->n_prompt, test->n_batch);
        if (test->n_gen) run_gen(ctx, 1);
    }
    struct text state = {0};
    for (int64_t i = 0; i < reps; i++) {
        go_to_depth(ctx, test, &state);
        double start = now_ms();
        run_once(ctx, test);
        result->samples_ns[i] = (now_ms() - start) * 1e6;
    }
    text_free(&state);
    llama_free(ctx);

    double *ts = xrealloc(NULL, (size_t)reps * sizeof *ts);
    for (int64_t i = 0; i < reps; i++)
        ts[i] = 1e9 * (test->n_prompt + test->n_gen) / result->samples_ns[i];
    statistics(result->samples_ns, reps, &result->avg_ns, &result->stddev_ns);
    statistics(ts, reps, &result->avg_ts, &result->stddev_ts);
    free(ts);
    llama_model_desc(model, result->model, sizeof result->model);
    result->size = llama_model_size(model);
    result->n_params = llama_model_n_params(model);
    time_t now = time(NULL);
    strftime(result->time, sizeof result->time, "%Y-%m-%dT%H:%M:%SZ", gmtime(&now));
}

/* ---- output ---- */

/* A column of csv, json, jsonl and sql. */
enum { N_FIELDS = 24 };
struct field {
    const char *name;
    enum { TEXT, INTEGER, REAL } type;
    char value[512];
};

/* Names of the devices that are (or are not) the CPU, "a, b". */
static void device_names(bool cpu, bool describe, char *out, size_t size) {
    out[0] = '\0';
    for (size_t i = 0; i < ggml_backend_dev_count(); i++) {
        ggml_backend_dev_t device = ggml_backend_dev_get(i);
        if ((ggml_backend_dev_type(device) == GGML_BACKEND_DEVICE_TYPE_CPU) != cpu) continue;
        if (out[0]) strncat(out, ", ", size - strlen(out) - 1);
        const char *name = describe ? ggml_backend_dev_description(device) : ggml_backend_dev_name(device);
        strncat(out, name, size - strlen(out) - 1);
    }
}

static void make_fields(struct field fields[N_FIELDS], const struct test *t, const struct result *r) {
    size_t n = 0;
#define FIELD(type_, name_, ...)                                                   \
    do {                                                                           \
        fields[n].name = name_;                                                    \
        fields[n].type = type_;                                                    \
        snprintf(fields[n].value, sizeof fields[n].value, __VA_ARGS__);            \
        n++;                                                                       \
    } while (0)
    char cpu[256], gpu[256], gpus[64];
    device_names(true, true, cpu, sizeof cpu);
    device_names(false, true, gpu, sizeof gpu);
    device_names(false, false, gpus, sizeof gpus);
    FIELD(TEXT, "build_commit", "%s", powerinfer_version());
    FIELD(TEXT, "cpu_info", "%s", cpu);
    FIELD(TEXT, "gpu_info", "%s", gpu);
    FIELD(TEXT, "backends", "%s", gpus[0] ? gpus : "CPU");
    FIELD(TEXT, "model_filename", "%s", t->path);
    FIELD(TEXT, "model_type", "%s", r->model);
    FIELD(INTEGER, "model_size", "%" PRIu64, r->size);
    FIELD(INTEGER, "model_n_params", "%" PRIu64, r->n_params);
    FIELD(INTEGER, "n_batch", "%d", t->n_batch);
    FIELD(INTEGER, "n_ubatch", "%d", t->n_ubatch);
    FIELD(INTEGER, "n_threads", "%d", t->n_threads);
    FIELD(TEXT, "type_k", "%s", t->type_k);
    FIELD(TEXT, "type_v", "%s", t->type_v);
    FIELD(INTEGER, "n_gpu_layers", "%d", t->n_gpu_layers);
    FIELD(INTEGER, "flash_attn", "%d", (int)flash_attention(t->flash_attn));
    FIELD(INTEGER, "n_prompt", "%d", t->n_prompt);
    FIELD(INTEGER, "n_gen", "%d", t->n_gen);
    FIELD(INTEGER, "n_depth", "%d", t->n_depth);
    FIELD(TEXT, "test_time", "%s", r->time);
    FIELD(INTEGER, "avg_ns", "%.0f", r->avg_ns);
    FIELD(INTEGER, "stddev_ns", "%.0f", r->stddev_ns);
    FIELD(REAL, "avg_ts", "%.6f", r->avg_ts);
    FIELD(REAL, "stddev_ts", "%.6f", r->stddev_ts);
    FIELD(INTEGER, "n_repetitions", "%" PRId64, r->n_samples);
#undef FIELD
}

static void print_quoted(const char *value, char quote) {
    putchar(quote);
    for (; *value; value++) {
        if (*value == quote) putchar(quote); /* twice means once, in CSV and SQL */
        putchar(*value);
    }
    putchar(quote);
}

static void print_json(const struct field *fields, const struct test *t, const struct result *r,
                       bool lines) {
    const char *end = lines ? ", " : ",\n    ";
    fputs(lines ? "{" : "  {\n    ", stdout);
    for (size_t i = 0; i < N_FIELDS; i++) {
        printf("\"%s\": ", fields[i].name);
        struct text quoted = {0};
        if (fields[i].type == TEXT) text_add_json(&quoted, fields[i].value, strlen(fields[i].value));
        fputs(fields[i].type == TEXT ? quoted.data : fields[i].value, stdout);
        text_free(&quoted);
        fputs(end, stdout);
    }
    fputs("\"samples_ns\": [", stdout);
    for (int64_t i = 0; i < r->n_samples; i++) printf("%s%.0f", i ? ", " : "", r->samples_ns[i]);
    printf("]%s\"samples_ts\": [", end);
    for (int64_t i = 0; i < r->n_samples; i++)
        printf("%s%.6f", i ? ", " : "", 1e9 * (t->n_prompt + t->n_gen) / r->samples_ns[i]);
    fputs(lines ? "]}\n" : "]\n  }", stdout);
}

static void print_sql(const struct field *fields, bool header) {
    static const char *const types[] = {"TEXT", "INTEGER", "REAL"};
    if (header) puts("CREATE TABLE IF NOT EXISTS llama_bench (");
    else fputs("INSERT INTO llama_bench (", stdout);
    for (size_t i = 0; i < N_FIELDS; i++) {
        const char *comma = i + 1 < N_FIELDS ? "," : "";
        if (header) printf("  %s %s%s\n", fields[i].name, types[fields[i].type], comma);
        else printf("%s%s", fields[i].name, *comma ? ", " : ") VALUES (");
    }
    for (size_t i = 0; !header && i < N_FIELDS; i++) {
        print_quoted(fields[i].value, '\'');
        if (i + 1 < N_FIELDS) fputs(", ", stdout);
    }
    puts(");");
    if (header) putchar('\n');
}

/* A column of the table for people. Some are shown only when they are not what they always are. */
struct column {
    const char *title, *field;
    int width; /* negative: left-aligned */
    bool shown;
};

static void print_markdown_header(const struct column *columns, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (columns[i].shown) printf("| %*s ", columns[i].width, columns[i].title);
    puts("|");
    for (size_t i = 0; i < n; i++) {
        if (!columns[i].shown) continue;
        fputs("| ", stdout);
        for (int k = 1; k < abs(columns[i].width); k++) putchar('-');
        fputs(columns[i].width < 0 ? "- " : ": ", stdout);
    }
    puts("|");
}

/* The value of a column that is not as in the other formats; NULL: it is. */
static const char *markdown_value(const char *name, const struct test *t, const struct result *r,
                                  char *out, size_t size) {
    double mib = (double)r->size / 1048576.0, millions = (double)r->n_params / 1e6;
    char depth[32] = "";
    if (t->n_depth) snprintf(depth, sizeof depth, " @ d%d", t->n_depth);
    if (!strcmp(name, "size"))
        snprintf(out, size, mib < 1024 ? "%.2f MiB" : "%.2f GiB", mib < 1024 ? mib : mib / 1024);
    else if (!strcmp(name, "params"))
        snprintf(out, size, millions < 1e3 ? "%.2f M" : "%.2f B", millions < 1e3 ? millions : millions / 1e3);
    else if (!strcmp(name, "t/s"))
        snprintf(out, size, "%.2f ± %.2f", r->avg_ts, r->stddev_ts);
    else if (strcmp(name, "test"))
        return NULL;
    else if (!t->n_gen)
        snprintf(out, size, "pp%d%s", t->n_prompt, depth);
    else if (!t->n_prompt)
        snprintf(out, size, "tg%d%s", t->n_gen, depth);
    else
        snprintf(out, size, "pp%d+tg%d%s", t->n_prompt, t->n_gen, depth);
    return out;
}

static void print_markdown(const struct column *columns, size_t n, const struct field *fields,
                           const struct test *t, const struct result *r) {
    for (size_t i = 0; i < n; i++) {
        if (!columns[i].shown) continue;
        char own[128];
        const char *value = markdown_value(columns[i].title, t, r, own, sizeof own);
        for (size_t k = 0; !value && k < N_FIELDS; k++)
            if (!strcmp(fields[k].name, columns[i].field)) value = fields[k].value;
        /* "±" has two bytes and one column. */
        int width = columns[i].width + (strstr(value, "±") ? 1 : 0);
        printf("| %*s ", width, value);
    }
    puts("|");
}

/* ---- combinations ---- */

struct lists {
    struct names paths, types_k, types_v, flash_attns;
    struct numbers n_prompts, n_gens, n_depths, n_batches, n_ubatches, n_threads, n_gpu_layers;
    struct numbers pairs; /* prompt, generated, prompt, generated, .. */
    struct test *tests;
    size_t n_tests;
};

static void add_test(struct lists *l, struct test test, int32_t n_prompt, int32_t n_gen) {
    test.n_prompt = n_prompt;
    test.n_gen = n_gen;
    if (!n_prompt && !n_gen) return; /* "-p 0" and "-n 0" take these tests away */
    l->tests = xrealloc(l->tests, (l->n_tests + 1) * sizeof *l->tests);
    l->tests[l->n_tests++] = test;
}

/* All tests of one way to run. */
static void add_tests(struct lists *l, struct test test) {
    for (size_t i = 0; i < l->n_prompts.len; i++) add_test(l, test, l->n_prompts.data[i], 0);
    for (size_t i = 0; i < l->n_gens.len; i++) add_test(l, test, 0, l->n_gens.data[i]);
    for (size_t i = 0; i + 1 < l->pairs.len; i += 2)
        add_test(l, test, l->pairs.data[i], l->pairs.data[i + 1]);
}

/* Every combination; models vary slowest, as loading them takes longest. */
static void combine(struct lists *l) {
    const size_t sizes[] = {l->paths.len,      l->n_gpu_layers.len, l->flash_attns.len,
                            l->n_batches.len,  l->n_ubatches.len,   l->types_k.len,
                            l->types_v.len,    l->n_threads.len,    l->n_depths.len};
    enum { N = sizeof sizes / sizeof *sizes };
    size_t at[N] = {0};
    for (;;) {
        add_tests(l, (struct test){
                         .path = l->paths.data[at[0]], .n_gpu_layers = l->n_gpu_layers.data[at[1]],
                         .flash_attn = l->flash_attns.data[at[2]], .n_batch = l->n_batches.data[at[3]],
                         .n_ubatch = l->n_ubatches.data[at[4]], .type_k = l->types_k.data[at[5]],
                         .type_v = l->types_v.data[at[6]], .n_threads = l->n_threads.data[at[7]],
                         .n_depth = l->n_depths.data[at[8]]});
        size_t digit = N; /* count up, the last digit fastest */
        while (digit > 0 && ++at[digit - 1] == sizes[digit - 1]) at[--digit] = 0;
        if (!digit) return;
    }
}

static struct llama_model *load(const struct test *test) {
    struct llama_model_kv_override overrides[2] = {
        {.tag = LLAMA_KV_OVERRIDE_TYPE_FLOAT, .key = "powerinfer.vram_budget_gib"}};
    overrides[0].val_f64 = vram_budget;
    struct llama_model_params params = llama_model_default_params();
    params.n_gpu_layers = test->n_gpu_layers;
    use_gpus(&gpus_used, &params);
    if (vram_budget >= 0) params.kv_overrides = overrides;
    return load_model(test->path, params, &interrupted);
}

int main(int argc, char **argv) {
    struct names m = {0}, p = {0}, n = {0}, pg = {0}, d = {0}, b = {0}, ub = {0}, t = {0}, ngl = {0};
    struct names ctk = {0}, ctv = {0}, fa = {0};
    const char *format = "md";
    bool json = false;
    int64_t reps = 5;
    bool warm_up = true;
    const struct flag flags[] = {
        {FLAG_LIST, {"-m", "--model"}, "FILE,..", &m, "the models, GGUF files", 0, 0},
        {FLAG_LIST, {"-p", "--n-prompt"}, "N,..", &p, "tokens of prompt (default: 512)", 0, 0},
        {FLAG_LIST, {"-n", "--n-gen"}, "N,..", &n, "tokens to generate (default: 128)", 0, 0},
        {FLAG_LIST, {"-pg"}, "P,N", &pg, "a prompt of P tokens and N generated", 0, 0},
        {FLAG_LIST, {"-d", "--n-depth"}, "N,..", &d, "tokens before the test (default: 0)", 0, 0},
        {FLAG_LIST, {"-b", "--batch-size"}, "N,..", &b, "tokens a decode (default: 2048)", 0, 0},
        {FLAG_LIST, {"-ub", "--ubatch-size"}, "N,..", &ub, "tokens computed at once (default: 512)", 0, 0},
        {FLAG_LIST, {"-ctk", "--cache-type-k"}, "T,..", &ctk, "type of the keys (default: f16)", 0, 0},
        {FLAG_LIST, {"-ctv", "--cache-type-v"}, "T,..", &ctv, "type of the values (default: f16)", 0, 0},
        {FLAG_LIST, {"-t", "--threads"}, "N,..", &t, "threads (default: one a CPU)", 0, 0},
        {FLAG_LIST, {"-ngl", "--n-gpu-layers"}, "N,..", &ngl, "layers on the GPU (default: what fits)", 0, 0},
        GPU_FLAGS(gpus_used),
        {FLAG_NOT, {"-nkvo", "--no-kv-offload"}, 0, &kv_offload, "keep the cache in RAM", 0, 0},
        {FLAG_FLOAT, {"--vram-budget"}, "GIB", &vram_budget, "GPU memory to use at most, in GiB; -1: what is free", -1, 1e6},
        {FLAG_LIST, {"-fa", "--flash-attn"}, "F,..", &fa, "on, off, auto (default: auto)", 0, 0},
        {FLAG_INT, {"-r", "--repetitions"}, "N", &reps, "runs of each test", 1, 1 << 20},
        {FLAG_NOT, {"--no-warmup"}, 0, &warm_up, "measure the first run already", 0, 0},
        {FLAG_STRING, {"-o", "--output"}, "FORMAT", &format, "md, csv, json, jsonl or sql", 0, 0},
        {FLAG_BOOL, {"--json"}, 0, &json, "the same as -o json", 0, 0},
    };
    parse_flags(argc, argv, "[flags]: how fast a model is", flags, sizeof flags / sizeof *flags, NULL);

    if (gpus_used.list) show_devices();
    static const char *const formats[] = {"md", "csv", "json", "jsonl", "sql"};
    enum { MD, CSV, JSON, JSONL, SQL, N_FORMATS };
    int out = 0;
    if (json) format = "json";
    while (out < N_FORMATS && strcmp(format, formats[out])) out++;
    if (out == N_FORMATS) die("-o is md, csv, json, jsonl or sql, not '%s'", format);

    struct lists l = {0};
    struct text texts[4] = {0};
    const int32_t most = 1 << 24;
    split_commas(&m, &texts[0], &l.paths);
    if (!l.paths.len) die("no model: give its file with -m FILE");
    struct names *const words[] = {&ctk, &ctv, &fa};
    struct names *const parts[] = {&l.types_k, &l.types_v, &l.flash_attns};
    for (size_t i = 0; i < 3; i++) {
        if (!words[i]->len) names_push(words[i], i < 2 ? "f16" : "auto");
        split_commas(words[i], &texts[i + 1], parts[i]);
    }
    /* Wrong names are found before the first model is loaded. */
    for (size_t i = 0; i < l.types_k.len; i++) cache_type("-ctk", l.types_k.data[i]);
    for (size_t i = 0; i < l.types_v.len; i++) cache_type("-ctv", l.types_v.data[i]);
    for (size_t i = 0; i < l.flash_attns.len; i++) flash_attention(l.flash_attns.data[i]);
    numbers_parse(&l.n_prompts, "-p", &p, 512, 0, most);
    numbers_parse(&l.n_gens, "-n", &n, 128, 0, most);
    numbers_parse(&l.n_depths, "-d", &d, 0, 0, most);
    numbers_parse(&l.n_batches, "-b", &b, 2048, 1, most);
    numbers_parse(&l.n_ubatches, "-ub", &ub, 512, 1, most);
    numbers_parse(&l.n_threads, "-t", &t, default_threads(), 1, 512);
    numbers_parse(&l.n_gpu_layers, "-ngl", &ngl, -1, -1, most);
    if (pg.len) numbers_parse(&l.pairs, "-pg", &pg, 0, 0, most);
    if (l.pairs.len != 2 * pg.len) die("-pg needs two numbers: P,N");
    combine(&l);

    log_init(false);
    catch_sigint();
    struct column columns[] = {
        {"model", "model_type", -30, true},
        {"size", "", 10, true},
        {"params", "", 10, true},
        {"backend", "backends", -10, true},
        {"ngl", "n_gpu_layers", 3, ngl.len > 0},
        {"threads", "n_threads", 7, true},
        {"n_batch", "n_batch", 7, b.len > 0},
        {"n_ubatch", "n_ubatch", 8, ub.len > 0},
        {"type_k", "type_k", 6, strcmp(l.types_k.data[0], "f16") || l.types_k.len > 1},
        {"type_v", "type_v", 6, strcmp(l.types_v.data[0], "f16") || l.types_v.len > 1},
        {"fa", "flash_attn", 3, strcmp(l.flash_attns.data[0], "auto") || l.flash_attns.len > 1},
        {"test", "", 15, true},
        {"t/s", "", 20, true},
    };
    const size_t n_columns = sizeof columns / sizeof *columns;
    struct result result = {.n_samples = reps};
    result.samples_ns = xrealloc(NULL, (size_t)reps * sizeof *result.samples_ns);
    struct llama_model *model = NULL;
    for (size_t i = 0; i < l.n_tests; i++) {
        const struct test *test = &l.tests[i], *before = i ? test - 1 : NULL;
        if (!before || strcmp(before->path, test->path) || before->n_gpu_layers != test->n_gpu_layers) {
            llama_model_free(model);
            model = load(test);
        }
        progress("test %zu of %zu", i + 1, l.n_tests);
        run_test(model, test, reps, warm_up, &result);
        progress_end();

        struct field fields[N_FIELDS];
        make_fields(fields, test, &result);
        if (!before && out == MD) print_markdown_header(columns, n_columns);
        if (!before && out == SQL) print_sql(fields, true);
        if (!before && out == CSV)
            for (size_t k = 0; k < N_FIELDS; k++)
                printf("%s%c", fields[k].name, k + 1 < N_FIELDS ? ',' : '\n');
        if (out == MD) print_markdown(columns, n_columns, fields, test, &result);
        if (out == SQL) print_sql(fields, false);
        for (size_t k = 0; out == CSV && k < N_FIELDS; k++) {
            print_quoted(fields[k].value, '"');
            putchar(k + 1 < N_FIELDS ? ',' : '\n');
        }
        if (out == JSON) fputs(before ? ",\n" : "[\n", stdout);
        if (out == JSON || out == JSONL) print_json(fields, test, &result, out == JSONL);
        fflush(stdout);
    }
    if (out == JSON) puts(l.n_tests ? "\n]" : "[]");
    if (out == MD) printf("\nbuild: %s\n", powerinfer_version());

    free(result.samples_ns);
    llama_model_free(model);
    free(l.tests);
    struct names *const names[] = {&m, &p, &n, &pg, &d, &b, &ub, &t, &ngl, &ctk, &ctv, &fa,
                                   &l.paths, &l.types_k, &l.types_v, &l.flash_attns};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) names_free(names[i]);
    struct numbers *const numbers[] = {&l.n_prompts, &l.n_gens, &l.n_depths, &l.n_batches,
                                       &l.n_ubatches, &l.n_threads, &l.n_gpu_layers, &l.pairs};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) numbers_free(numbers[i]);
    for (size_t i = 0; i < 4; i++) text_free(&texts[i]);
    return 0;
}
