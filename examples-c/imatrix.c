#include "imatrix.h"

#include <stdlib.h>
#include <string.h>

static char *copied(const char *text, size_t len) {
    char *copy = xrealloc(NULL, len + 1);
    memcpy(copy, text, len);
    copy[len] = '\0';
    return copy;
}

/* A new entry, or the old one of this name: room for so many values. */
static float *entry(struct imatrix *all, const char *name, size_t len, size_t n_values) {
    char *own = copied(name, len);
    size_t i = 0;
    while (i < all->n && strcmp(all->entries[i].name, own)) i++;
    if (i == all->n) {
        all->entries = xrealloc(all->entries, (all->n + 2) * sizeof *all->entries);
        all->n++;
        all->entries[i + 1] = (struct llama_model_imatrix_data){0};
    } else {
        free((void *)all->entries[i].name);
        free((void *)all->entries[i].data);
    }
    float *data = xrealloc(NULL, n_values * sizeof *data);
    all->entries[i] = (struct llama_model_imatrix_data){own, data, n_values};
    return data;
}

/* ---- GGUF: two F32 tensors for each one of the model ----
 *
 * NAME.in_sum2: sums of the squares of what met each column, a row for each expert.
 * NAME.counts: how many tokens these were, one number for each expert. */

static const char sums_suffix[] = ".in_sum2", counts_suffix[] = ".counts";

/* The length of the name before a suffix; 0 without it. */
static size_t stem(const char *name, const char *suffix) {
    size_t len = strlen(name), tail = strlen(suffix);
    return len > tail && !strcmp(name + len - tail, suffix) ? len - tail : 0;
}

static struct ggml_tensor *partner(struct ggml_context *ctx, const char *name, size_t len,
                                   const char *suffix) {
    struct text text = {0};
    text_add(&text, name, len);
    text_add(&text, suffix, strlen(suffix));
    struct ggml_tensor *tensor = ggml_get_tensor(ctx, text.data);
    text_free(&text);
    return tensor;
}

static void add_means(struct imatrix *all, const char *path, struct ggml_tensor *sums,
                      struct ggml_tensor *counts, size_t len) {
    const float *sum = ggml_get_data_f32(sums), *count = ggml_get_data_f32(counts);
    if (sums->type != GGML_TYPE_F32 || counts->type != GGML_TYPE_F32 || !sum || !count)
        die("'%s': the sums and counts of %.*s are not F32", path, (int)len, sums->name);
    size_t n = (size_t)ggml_nelements(sums), n_experts = (size_t)ggml_nelements(counts);
    if (!n_experts || n % n_experts)
        die("'%s': %zu sums but %zu counts of %.*s", path, n, n_experts, (int)len, sums->name);
    float *mean = entry(all, sums->name, len, n);
    for (size_t i = 0; i < n; i++) {
        float tokens = count[i / (n / n_experts)];
        mean[i] = tokens > 0 ? sum[i] / tokens : 1; /* an expert that no token met: all alike */
    }
}

static void load_gguf(struct imatrix *all, const char *path) {
    struct ggml_context *ctx = NULL;
    struct gguf_init_params params = {.no_alloc = false, .ctx = &ctx};
    log_forget();
    struct gguf_context *gguf = gguf_init_from_file(path, params);
    if (!gguf) die_with_reason("cannot read '%s'", path);

    int64_t datasets = gguf_find_key(gguf, "imatrix.datasets");
    int64_t n_chunks = gguf_find_key(gguf, "imatrix.chunk_count");
    if (datasets < 0 || n_chunks < 0 || gguf_find_key(gguf, "imatrix.chunk_size") < 0)
        die("'%s' has no keys of an importance matrix (imatrix.datasets, ...)", path);
    if (gguf_get_kv_type(gguf, datasets) == GGUF_TYPE_ARRAY &&
        gguf_get_arr_type(gguf, datasets) == GGUF_TYPE_STRING && gguf_get_arr_n(gguf, datasets)) {
        const char *first = gguf_get_arr_str(gguf, datasets, 0);
        all->dataset = copied(first, strlen(first));
    }
    if (gguf_get_kv_type(gguf, n_chunks) == GGUF_TYPE_UINT32)
        all->n_chunks = gguf_get_val_u32(gguf, n_chunks);

    for (struct ggml_tensor *t = ggml_get_first_tensor(ctx); t; t = ggml_get_next_tensor(ctx, t)) {
        size_t sums = stem(t->name, sums_suffix), counts = stem(t->name, counts_suffix);
        if (!sums && !counts) continue;
        struct ggml_tensor *other = partner(ctx, t->name, sums ? sums : counts,
                                            sums ? counts_suffix : sums_suffix);
        if (!other) die("'%s': %s is alone, sums and counts come in pairs", path, t->name);
        if (sums) add_means(all, path, t, other, sums);
    }
    gguf_free(gguf);
    ggml_free(ctx);
}

/* ---- the old format, little-endian ----
 *
 * int32 number of entries, then for each: int32 length of the name, name, int32 number of calls,
 * int32 number of values, and as many floats: means of squares times the number of calls. Then, in
 * files that are not very old, int32 number of chunks, int32 length, name of the text. */

struct reader {
    const char *path;
    const struct text *text;
    size_t at;
};

static const char *take(struct reader *r, size_t n, const char *what) {
    if (n > r->text->len - r->at)
        die("'%s' is no importance matrix: it ends inside of %s", r->path, what);
    r->at += n;
    return r->text->data + r->at - n;
}

static int32_t take_int(struct reader *r, const char *what) {
    int32_t value;
    memcpy(&value, take(r, sizeof value, what), sizeof value);
    return value;
}

/* A number of things that are there. */
static size_t take_count(struct reader *r, const char *what) {
    int32_t n = take_int(r, what);
    if (n < 1) die("'%s' is no importance matrix: %s is %d", r->path, what, n);
    return (size_t)n;
}

static void load_old(struct imatrix *all, const char *path, const struct text *text) {
    struct reader r = {path, text, 0};
    size_t n = take_count(&r, "the number of entries");
    for (size_t i = 0; i < n; i++) {
        size_t len = take_count(&r, "the length of a name");
        const char *name = take(&r, len, "a name");
        int32_t n_calls = take_int(&r, "a number of calls");
        size_t n_values = take_count(&r, "a number of values");
        const char *values = take(&r, n_values * sizeof(float), "the values");
        float *mean = entry(all, name, len, n_values);
        memcpy(mean, values, n_values * sizeof *mean);
        for (size_t k = 0; n_calls > 0 && k < n_values; k++) mean[k] /= (float)n_calls;
    }
    if (r.at == text->len) return;
    all->n_chunks = take_int(&r, "the number of chunks");
    if (r.at == text->len) return;
    int32_t len = take_int(&r, "the length of the text's name");
    if (len > 0) all->dataset = copied(take(&r, (size_t)len, "the text's name"), (size_t)len);
}

void imatrix_load(struct imatrix *all, const char *path) {
    struct text text = {0};
    text_add_file(&text, path);
    if (text.len >= 4 && !memcmp(text.data, "GGUF", 4)) load_gguf(all, path);
    else load_old(all, path, &text);
    text_free(&text);
    if (!all->n) die("'%s' has no importances", path);
}

static bool contains_one(const char *name, const struct names *parts) {
    for (size_t i = 0; i < parts->len; i++)
        if (strstr(name, parts->data[i])) return true;
    return false;
}

static void free_entry(struct llama_model_imatrix_data *one) {
    free((void *)one->name);
    free((void *)one->data);
    *one = (struct llama_model_imatrix_data){0};
}

void imatrix_select(struct imatrix *all, const struct names *include, const struct names *exclude) {
    size_t kept = 0;
    for (size_t i = 0; i < all->n; i++) {
        const char *name = all->entries[i].name;
        if (contains_one(name, exclude) || (include->len && !contains_one(name, include))) {
            free_entry(&all->entries[i]);
            continue;
        }
        struct llama_model_imatrix_data one = all->entries[i];
        all->entries[i] = (struct llama_model_imatrix_data){0};
        all->entries[kept++] = one;
    }
    all->n = kept;
}

void imatrix_free(struct imatrix *all) {
    for (size_t i = 0; i < all->n; i++) free_entry(&all->entries[i]);
    free(all->entries);
    free(all->dataset);
    *all = (struct imatrix){0};
}
