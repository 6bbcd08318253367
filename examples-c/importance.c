#define _POSIX_C_SOURCE 200809L
#include "importance.h"
#include "gguf.h"
#include "generate.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static char *copied(const char *text, size_t len) {
    char *copy = xrealloc(NULL, len + 1);
    memcpy(copy, text, len);
    copy[len] = '\0';
    return copy;
}

static void add_dataset(struct importances *all, char *own) {
    all->datasets = xrealloc(all->datasets, (all->n_datasets + 1) * sizeof *all->datasets);
    all->datasets[all->n_datasets++] = own;
}

void importances_add_dataset(struct importances *all, const char *name) {
    add_dataset(all, copied(name, strlen(name)));
}

struct importance *importances_entry(struct importances *all, const char *name, size_t n_sums,
                                     size_t n_counts) {
    size_t i = 0;
    while (i < all->n && strcmp(all->entries[i].name, name)) i++;
    if (i == all->n) {
        all->entries = xrealloc(all->entries, (all->n + 1) * sizeof *all->entries);
        struct importance *e = &all->entries[all->n++];
        *e = (struct importance){.name = copied(name, strlen(name)), .n_sums = n_sums};
        e->sums = xrealloc(NULL, n_sums * sizeof *e->sums);
        for (size_t k = 0; k < n_sums; k++) e->sums[k] = 0;
    }
    struct importance *e = &all->entries[i];
    if (e->n_sums != n_sums)
        die("%s has %zu importances in one place and %zu in another", name, e->n_sums, n_sums);
    if (e->n_counts < n_counts) {
        if (e->n_counts > 1)
            die("%s has %zu experts in one place and %zu in another", name, e->n_counts, n_counts);
        e->counts = xrealloc(e->counts, n_counts * sizeof *e->counts);
        if (!e->n_counts) e->counts[0] = 0;
        for (size_t k = 1; k < n_counts; k++) e->counts[k] = e->counts[0];
        e->n_counts = n_counts;
    }
    return e;
}

/* ---- reading GGUF: two F32 tensors for each one of the model ----
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
    text_addf(&text, "%.*s%s", (int)len, name, suffix);
    struct ggml_tensor *tensor = ggml_get_tensor(ctx, text.data);
    text_free(&text);
    return tensor;
}

static void add_pair(struct importances *all, const char *path, struct ggml_tensor *sums,
                     struct ggml_tensor *counts, size_t len) {
    const float *sum = ggml_get_data_f32(sums), *count = ggml_get_data_f32(counts);
    if (sums->type != GGML_TYPE_F32 || counts->type != GGML_TYPE_F32 || !sum || !count)
        die("'%s': the sums and counts of %.*s are not F32", path, (int)len, sums->name);
    size_t n = (size_t)ggml_nelements(sums), n_counts = (size_t)ggml_nelements(counts);
    if (!n_counts || n % n_counts)
        die("'%s': %zu sums but %zu counts of %.*s", path, n, n_counts, (int)len, sums->name);
    char *name = copied(sums->name, len);
    struct importance *e = importances_entry(all, name, n, n_counts);
    for (size_t i = 0; i < n; i++) e->sums[i] = (double)sum[i];
    for (size_t i = 0; i < n_counts; i++) {
        if (!(count[i] >= 0 && count[i] < 1e15F))
            die("'%s': %s met %g tokens", path, name, (double)count[i]);
        e->counts[i] = llroundf(count[i]);
    }
    free(name);
}

static void load_gguf(struct importances *all, const char *path) {
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
        gguf_get_arr_type(gguf, datasets) == GGUF_TYPE_STRING)
        for (size_t i = 0; i < gguf_get_arr_n(gguf, datasets); i++)
            importances_add_dataset(all, gguf_get_arr_str(gguf, datasets, i));
    if (gguf_get_kv_type(gguf, n_chunks) == GGUF_TYPE_UINT32)
        all->n_chunks = gguf_get_val_u32(gguf, n_chunks);

    for (struct ggml_tensor *t = ggml_get_first_tensor(ctx); t; t = ggml_get_next_tensor(ctx, t)) {
        size_t sums = stem(t->name, sums_suffix), counts = stem(t->name, counts_suffix);
        if (!sums && !counts) continue;
        struct ggml_tensor *other = partner(ctx, t->name, sums ? sums : counts,
                                            sums ? counts_suffix : sums_suffix);
        if (!other) die("'%s': %s is alone, sums and counts come in pairs", path, t->name);
        if (sums) add_pair(all, path, t, other, sums);
    }
    gguf_free(gguf);
    ggml_free(ctx);
}

/* ---- reading the old format, little-endian ----
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

static void load_old(struct importances *all, const char *path, const struct text *text) {
    struct reader r = {path, text, 0};
    size_t n = take_count(&r, "the number of entries");
    all->old = true;
    for (size_t i = 0; i < n; i++) {
        size_t len = take_count(&r, "the length of a name");
        char *name = copied(take(&r, len, "a name"), len);
        int32_t n_calls = take_int(&r, "a number of calls");
        size_t n_values = take_count(&r, "a number of values");
        const char *values = take(&r, n_values * sizeof(float), "the values");
        struct importance *e = importances_entry(all, name, n_values, 1);
        e->counts[0] = n_calls > 0 ? n_calls : 1;
        for (size_t k = 0; k < n_values; k++) {
            float value;
            memcpy(&value, values + k * sizeof value, sizeof value);
            e->sums[k] = (double)value;
        }
        free(name);
    }
    if (r.at == text->len) return;
    all->n_chunks = take_int(&r, "the number of chunks");
    if (r.at == text->len) return;
    int32_t len = take_int(&r, "the length of the text's name");
    if (len > 0) add_dataset(all, copied(take(&r, (size_t)len, "the text's name"), (size_t)len));
}

void importances_load(struct importances *all, const char *path) {
    struct text text = {0};
    text_add_file(&text, path);
    if (text.len >= 4 && !memcmp(text.data, "GGUF", 4)) load_gguf(all, path);
    else load_old(all, path, &text);
    text_free(&text);
    if (!all->n) die("'%s' has no importances", path);
}

/* ---- together ---- */

void importances_add(struct importances *all, const struct importances *more, int64_t chunk_size) {
    const int64_t tokens = more->old ? chunk_size : 1;
    for (size_t i = 0; i < more->n; i++) {
        const struct importance *from = &more->entries[i];
        struct importance *to = importances_entry(all, from->name, from->n_sums, from->n_counts);
        if (from->n_counts > 1 && from->n_counts != to->n_counts)
            die("%s has %zu experts in one place and %zu in another", from->name, to->n_counts,
                from->n_counts);
        for (size_t k = 0; k < from->n_sums; k++) to->sums[k] += from->sums[k] * (double)tokens;
        for (size_t k = 0; k < to->n_counts; k++)
            to->counts[k] += from->counts[from->n_counts > 1 ? k : 0] * tokens;
    }
    for (size_t i = 0; i < more->n_datasets; i++) importances_add_dataset(all, more->datasets[i]);
    all->n_chunks = importances_chunks(all, chunk_size);
}

/* The most tokens in any row. */
static int64_t most_tokens(const struct importance *e) {
    int64_t most = 0;
    for (size_t k = 0; k < e->n_counts; k++)
        if (e->counts[k] > most) most = e->counts[k];
    return most;
}

int64_t importances_chunks(const struct importances *all, int64_t chunk_size) {
    int64_t most = 0;
    for (size_t i = 0; i < all->n; i++) {
        int64_t one = most_tokens(&all->entries[i]);
        most = one > most ? one : most;
    }
    return most / chunk_size;
}

/* ---- writing ---- */

static int by_name(const void *a, const void *b) {
    const struct importance *const *x = a, *const *y = b;
    return strcmp((*x)->name, (*y)->name);
}

static bool write_gguf(const struct importances *all, const struct importance *const *sorted,
                       const char *path, int64_t chunk_size) {
    struct gguf_context *gguf = gguf_init_empty();
    struct ggml_context *ctx = ggml_init((struct ggml_init_params){.no_alloc = false});
    gguf_set_val_str(gguf, "general.type", "imatrix");
    gguf_set_arr_str(gguf, "imatrix.datasets", (const char **)all->datasets, all->n_datasets);
    gguf_set_val_u32(gguf, "imatrix.chunk_count", (uint32_t)all->n_chunks);
    gguf_set_val_u32(gguf, "imatrix.chunk_size", (uint32_t)chunk_size);
    for (size_t i = 0; i < all->n; i++) {
        const struct importance *e = sorted[i];
        int64_t n_rows = (int64_t)e->n_counts;
        struct ggml_tensor *sums =
            ggml_new_tensor_2d(ctx, GGML_TYPE_F32, (int64_t)e->n_sums / n_rows, n_rows);
        struct ggml_tensor *counts = ggml_new_tensor_2d(ctx, GGML_TYPE_F32, 1, n_rows);
        float *sum = sums ? ggml_get_data_f32(sums) : NULL;
        float *count = counts ? ggml_get_data_f32(counts) : NULL;
        if (!sum || !count) die_with_reason("no memory for %s", e->name);
        for (size_t k = 0; k < e->n_sums; k++) sum[k] = (float)e->sums[k];
        for (size_t k = 0; k < e->n_counts; k++) count[k] = (float)e->counts[k];
        ggml_format_name(sums, "%s%s", e->name, sums_suffix);
        ggml_format_name(counts, "%s%s", e->name, counts_suffix);
        gguf_add_tensor(gguf, sums);
        gguf_add_tensor(gguf, counts);
    }
    bool good = gguf_write_to_file(gguf, path, false);
    gguf_free(gguf);
    ggml_free(ctx);
    return good;
}

static void add_int(struct text *text, int64_t number) {
    int32_t value = (int32_t)number;
    text_add(text, (const char *)&value, sizeof value);
}

/* One entry of the old format. Rows that met no token count 1, as quantize would have them. */
static void add_old_entry(struct text *out, const struct importance *e, int64_t n_calls) {
    size_t len = strlen(e->name), row = e->n_sums / e->n_counts;
    add_int(out, (int64_t)len);
    text_add(out, e->name, len);
    add_int(out, n_calls);
    add_int(out, (int64_t)e->n_sums);
    for (size_t k = 0; k < e->n_sums; k++) {
        const int64_t count = e->counts[k / row];
        const double mean = count ? e->sums[k] / (double)count : 1;
        const float value = (float)(mean * (double)n_calls);
        text_add(out, (const char *)&value, sizeof value);
    }
}

static bool write_old(const struct importances *all, const struct importance *const *sorted,
                      const char *path, int64_t chunk_size) {
    struct text out = {0};
    int64_t n = 0;
    for (size_t i = 0; i < all->n; i++) n += most_tokens(sorted[i]) > 0;
    add_int(&out, n);
    for (size_t i = 0; i < all->n; i++) {
        const int64_t tokens = most_tokens(sorted[i]);
        if (tokens) add_old_entry(&out, sorted[i], (tokens + chunk_size - 1) / chunk_size);
    }
    add_int(&out, all->n_chunks);
    const char *dataset = all->n_datasets ? all->datasets[all->n_datasets - 1] : "";
    add_int(&out, (int64_t)strlen(dataset));
    text_add(&out, dataset, strlen(dataset));
    FILE *file = fopen(path, "wb");
    bool good = file && fwrite(out.data, 1, out.len, file) == out.len;
    if (file && fclose(file)) good = false;
    text_free(&out);
    return good;
}

void importances_save(const struct importances *all, const char *path, int64_t chunk_size, bool old) {
    const struct importance **sorted = xrealloc(NULL, all->n * sizeof *sorted);
    for (size_t i = 0; i < all->n; i++) sorted[i] = &all->entries[i];
    qsort(sorted, all->n, sizeof *sorted, by_name);
    struct text partial = {0};
    text_addf(&partial, "%s.partial", path);
    log_forget();
    errno = 0;
    bool good = (old ? write_old : write_gguf)(all, sorted, partial.data, chunk_size);
    if (good) good = rename(partial.data, path) == 0;
    const int reason = errno;
    if (!good) remove(partial.data);
    if (!good && reason) die("cannot write '%s': %s", path, strerror(reason));
    if (!good) die_with_reason("cannot write '%s'", path);
    text_free(&partial);
    free(sorted);
}

/* ---- for quantize ---- */

static bool contains_one(const char *name, const struct names *parts) {
    for (size_t i = 0; i < parts->len; i++)
        if (strstr(name, parts->data[i])) return true;
    return false;
}

static void free_entry(struct importance *one) {
    free(one->name);
    free(one->sums);
    free(one->counts);
}

void importances_select(struct importances *all, const struct names *include,
                        const struct names *exclude) {
    size_t kept = 0;
    for (size_t i = 0; i < all->n; i++) {
        const char *name = all->entries[i].name;
        if (contains_one(name, exclude) || (include->len && !contains_one(name, include)))
            free_entry(&all->entries[i]);
        else all->entries[kept++] = all->entries[i];
    }
    all->n = kept;
}

struct llama_model_imatrix_data *importances_means(const struct importances *all) {
    struct llama_model_imatrix_data *means = xrealloc(NULL, (all->n + 1) * sizeof *means);
    for (size_t i = 0; i < all->n; i++) {
        const struct importance *e = &all->entries[i];
        float *mean = xrealloc(NULL, e->n_sums * sizeof *mean);
        for (size_t k = 0; k < e->n_sums; k++) {
            const float tokens = (float)e->counts[k / (e->n_sums / e->n_counts)];
            mean[k] = tokens > 0 ? (float)e->sums[k] / tokens : 1; /* no token met it: all alike */
        }
        means[i] = (struct llama_model_imatrix_data){e->name, mean, e->n_sums};
    }
    means[all->n] = (struct llama_model_imatrix_data){0};
    return means;
}

void means_free(struct llama_model_imatrix_data *means) {
    for (struct llama_model_imatrix_data *one = means; one && one->name; one++)
        free((void *)one->data);
    free(means);
}

void importances_free(struct importances *all) {
    for (size_t i = 0; i < all->n; i++) free_entry(&all->entries[i]);
    for (size_t i = 0; i < all->n_datasets; i++) free(all->datasets[i]);
    free(all->entries);
    free(all->datasets);
    *all = (struct importances){0};
}
