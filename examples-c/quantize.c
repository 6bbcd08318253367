/* Writes a model in smaller number formats, with the flags of llama.cpp's `quantize`.
 *
 *   quantize -m model-F16.gguf -o model-Q4_K_M.gguf -q Q4_K_M
 *   quantize -m model-F16.gguf -o model-IQ2_M.gguf -q IQ2_M --imatrix imatrix.gguf
 *   quantize -m model-F16.gguf -q Q4_K_M --dry-run            how large would it be?
 *   quantize -m sparse.gguf -o out.gguf -q Q4_0 --tensor-type 'fc[12].weight=q5_0'
 *
 * The last line also changes the predictors of a sparse model, which keep their type otherwise. */
#include "common.h"
#include "importance.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static const struct {
    const char *name;
    enum llama_ftype ftype;
} mixes[] = {
    {"F32", LLAMA_FTYPE_ALL_F32},           {"F16", LLAMA_FTYPE_MOSTLY_F16},
    {"BF16", LLAMA_FTYPE_MOSTLY_BF16},      {"Q8_0", LLAMA_FTYPE_MOSTLY_Q8_0},
    {"Q6_K", LLAMA_FTYPE_MOSTLY_Q6_K},      {"Q5_K_M", LLAMA_FTYPE_MOSTLY_Q5_K_M},
    {"Q5_K_S", LLAMA_FTYPE_MOSTLY_Q5_K_S},  {"Q5_1", LLAMA_FTYPE_MOSTLY_Q5_1},
    {"Q5_0", LLAMA_FTYPE_MOSTLY_Q5_0},      {"Q4_K_M", LLAMA_FTYPE_MOSTLY_Q4_K_M},
    {"Q4_K_S", LLAMA_FTYPE_MOSTLY_Q4_K_S},  {"Q4_1", LLAMA_FTYPE_MOSTLY_Q4_1},
    {"Q4_0", LLAMA_FTYPE_MOSTLY_Q4_0},      {"IQ4_NL", LLAMA_FTYPE_MOSTLY_IQ4_NL},
    {"IQ4_XS", LLAMA_FTYPE_MOSTLY_IQ4_XS},  {"MXFP4_MOE", LLAMA_FTYPE_MOSTLY_MXFP4_MOE},
    {"Q3_K_L", LLAMA_FTYPE_MOSTLY_Q3_K_L},  {"Q3_K_M", LLAMA_FTYPE_MOSTLY_Q3_K_M},
    {"Q3_K_S", LLAMA_FTYPE_MOSTLY_Q3_K_S},  {"IQ3_M", LLAMA_FTYPE_MOSTLY_IQ3_M},
    {"IQ3_S", LLAMA_FTYPE_MOSTLY_IQ3_S},    {"IQ3_XS", LLAMA_FTYPE_MOSTLY_IQ3_XS},
    {"IQ3_XXS", LLAMA_FTYPE_MOSTLY_IQ3_XXS}, {"Q2_K", LLAMA_FTYPE_MOSTLY_Q2_K},
    {"Q2_K_S", LLAMA_FTYPE_MOSTLY_Q2_K_S},  {"IQ2_M", LLAMA_FTYPE_MOSTLY_IQ2_M},
    {"IQ2_S", LLAMA_FTYPE_MOSTLY_IQ2_S},    {"IQ2_XS", LLAMA_FTYPE_MOSTLY_IQ2_XS},
    {"IQ2_XXS", LLAMA_FTYPE_MOSTLY_IQ2_XXS}, {"Q2_0", LLAMA_FTYPE_MOSTLY_Q2_0},
    {"TQ2_0", LLAMA_FTYPE_MOSTLY_TQ2_0},    {"IQ1_M", LLAMA_FTYPE_MOSTLY_IQ1_M},
    {"TQ1_0", LLAMA_FTYPE_MOSTLY_TQ1_0},    {"IQ1_S", LLAMA_FTYPE_MOSTLY_IQ1_S},
    {"Q1_0", LLAMA_FTYPE_MOSTLY_Q1_0},
    /* other names */
    {"Q5_K", LLAMA_FTYPE_MOSTLY_Q5_K_M},    {"Q4_K", LLAMA_FTYPE_MOSTLY_Q4_K_M},
    {"Q3_K", LLAMA_FTYPE_MOSTLY_Q3_K_M},
};

/* By name, or by its number in the header. */
static enum llama_ftype mix_named(const char *name) {
    char *end;
    long number = strtol(name, &end, 10);
    bool is_number = end != name && !*end;
    for (size_t i = 0; i < sizeof mixes / sizeof *mixes; i++)
        if (strcasecmp(mixes[i].name, name) == 0 || (is_number && (long)mixes[i].ftype == number))
            return mixes[i].ftype;
    struct text names = {0};
    for (size_t i = 0; i < sizeof mixes / sizeof *mixes; i++) {
        text_add(&names, " ", 1);
        text_add(&names, mixes[i].name, strlen(mixes[i].name));
    }
    die("-q: '%s' is none of%s COPY", name, names.data);
}

static enum ggml_type type_named(const char *flag, const char *name) {
    for (int type = 0; type < GGML_TYPE_COUNT; type++) {
        const char *known = ggml_type_name((enum ggml_type)type);
        if (known && strcasecmp(known, name) == 0) return (enum ggml_type)type;
    }
    die("%s: '%s' is no type of tensors", flag, name);
}

/* ---- lists for the library: each ends with an empty entry ---- */

struct patterns {
    struct llama_model_tensor_override *list;
    size_t n;
};

/* "NAME=TYPE"; the name is a regular expression, in small letters like the names of tensors. */
static void add_pattern(struct patterns *all, const char *flag, const char *text) {
    const char *sign = strchr(text, '=');
    if (!sign || sign == text || !sign[1]) die("%s: '%s' is not NAME=TYPE", flag, text);
    size_t len = (size_t)(sign - text);
    char *name = xrealloc(NULL, len + 1);
    for (size_t i = 0; i < len; i++) name[i] = (char)tolower((unsigned char)text[i]);
    name[len] = '\0';
    all->list = xrealloc(all->list, (all->n + 2) * sizeof *all->list);
    all->list[all->n].pattern = name;
    all->list[all->n++].type = type_named(flag, sign + 1);
    all->list[all->n].pattern = NULL;
}

/* A file of them, between spaces or newlines. */
static void add_pattern_file(struct patterns *all, const char *path) {
    struct text text = {0};
    text_add_file(&text, path);
    for (char *one = strtok(text.data, " \t\r\n"); one; one = strtok(NULL, " \t\r\n"))
        add_pattern(all, "--tensor-type-file", one);
    text_free(&text);
}

/* "0,3,7" */
static int32_t *layers(const char *text) {
    int32_t *list = xrealloc(NULL, (strlen(text) + 2) * sizeof *list);
    size_t n = 0;
    for (const char *at = text; *at;) {
        char *end;
        long layer = strtol(at, &end, 10);
        if (end == at || (*end && *end != ',') || layer < 0 || layer > INT32_MAX)
            die("--prune-layers: '%s' is not a list of layers such as 0,3,7", text);
        list[n++] = (int32_t)layer;
        at = *end ? end + 1 : end;
    }
    list[n] = -1;
    return list;
}

struct keys {
    struct llama_model_kv_override *list;
    size_t n;
};

static struct llama_model_kv_override *add_key(struct keys *all, const char *key, size_t len) {
    all->list = xrealloc(all->list, (all->n + 2) * sizeof *all->list);
    struct llama_model_kv_override *one = &all->list[all->n++];
    one[0] = one[1] = (struct llama_model_kv_override){0};
    if (!len || len >= sizeof one->key) die("'%.*s' is too long or short for a key", (int)len, key);
    memcpy(one->key, key, len);
    return one;
}

static void set_text(struct llama_model_kv_override *one, const char *text) {
    one->tag = LLAMA_KV_OVERRIDE_TYPE_STR;
    snprintf(one->val_str, sizeof one->val_str, "%s", text);
}

static void set_number(struct llama_model_kv_override *one, int64_t number) {
    one->tag = LLAMA_KV_OVERRIDE_TYPE_INT;
    one->val_i64 = number;
}

/* "KEY=TYPE:VALUE" with the types int, float, bool and str. */
static void override_key(struct keys *all, const char *text) {
    const char *sign = strchr(text, '='), *colon = sign ? strchr(sign, ':') : NULL;
    if (!colon) die("--override-kv: '%s' is not KEY=TYPE:VALUE", text);
    struct llama_model_kv_override *one = add_key(all, text, (size_t)(sign - text));
    const char *type = sign + 1, *value = colon + 1;
    size_t len = (size_t)(colon - type);
    char *end = "";
    if (len == 3 && !memcmp(type, "int", len)) {
        set_number(one, strtoll(value, &end, 10));
    } else if (len == 5 && !memcmp(type, "float", len)) {
        one->tag = LLAMA_KV_OVERRIDE_TYPE_FLOAT;
        one->val_f64 = strtod(value, &end);
    } else if (len == 4 && !memcmp(type, "bool", len)) {
        one->tag = LLAMA_KV_OVERRIDE_TYPE_BOOL;
        one->val_bool = !strcmp(value, "true");
        if (!one->val_bool && strcmp(value, "false"))
            die("--override-kv: '%s' is neither true nor false", text);
    } else if (len == 3 && !memcmp(type, "str", len)) {
        if (strlen(value) >= sizeof one->val_str)
            die("--override-kv: the text of '%.*s' is longer than %zu bytes", (int)(sign - text),
                text, sizeof one->val_str - 1);
        set_text(one, value);
    } else {
        die("--override-kv: the type in '%s' is none of int, float, bool, str", text);
    }
    if (*end || end == value) die("--override-kv: '%s' has no number behind its type", text);
}

/* Keys of the new file that say what importances it was made with. */
static void note_imatrix(struct keys *keys, const char *path, const struct importances *imatrix) {
    static const char file[] = "quantize.imatrix.file", text[] = "quantize.imatrix.dataset";
    static const char n[] = "quantize.imatrix.entries_count";
    static const char n_chunks[] = "quantize.imatrix.chunks_count";
    set_text(add_key(keys, file, sizeof file - 1), path);
    if (imatrix->n_datasets)
        set_text(add_key(keys, text, sizeof text - 1), imatrix->datasets[0]);
    set_number(add_key(keys, n, sizeof n - 1), (int64_t)imatrix->n);
    if (imatrix->n_chunks > 0)
        set_number(add_key(keys, n_chunks, sizeof n_chunks - 1), imatrix->n_chunks);
}

/* ---- the program ---- */

struct options {
    const char *input, *output, *mix, *output_type, *embedding_type, *types_file, *prune, *imatrix;
    struct names types, keys, include, exclude;
    int64_t threads, max_buffer;
    bool requantize, keep_output, pure, split, dry_run, quiet;
};

static void read_options(struct options *o, int argc, char **argv) {
    const struct flag flags[] = {
        {FLAG_STRING, {"-m", "--model"}, "FILE", &o->input, "the model, a GGUF file", 0, 0},
        {FLAG_STRING, {"-o", "--output"}, "FILE", &o->output, "the new model", 0, 0},
        {FLAG_STRING, {"-q", "--type"}, "NAME", &o->mix, "what it becomes: Q4_K_M, Q8_0, ...; COPY: no tensor changes", 0, 0},
        {FLAG_STRING, {"--imatrix"}, "FILE", &o->imatrix, "importance matrix of llama.cpp's imatrix; types of less than 3 bits need one", 0, 0},
        {FLAG_LIST, {"--include-weights"}, "NAME", &o->include, "use it only for tensors with this in their names; may be repeated", 0, 0},
        {FLAG_LIST, {"--exclude-weights"}, "NAME", &o->exclude, "do not use it for those; may be repeated", 0, 0},
        {FLAG_BOOL, {"--allow-requantize"}, 0, &o->requantize, "also from quantised tensors", 0, 0},
        {FLAG_BOOL, {"--leave-output-tensor"}, 0, &o->keep_output, "do not change output.weight", 0, 0},
        {FLAG_BOOL, {"--pure"}, 0, &o->pure, "one type for all tensors", 0, 0},
        {FLAG_STRING, {"--output-tensor-type"}, "TYPE", &o->output_type, "type of output.weight", 0, 0},
        {FLAG_STRING, {"--token-embedding-type"}, "TYPE", &o->embedding_type, "type of the token embeddings", 0, 0},
        {FLAG_LIST, {"--tensor-type"}, "NAME=TYPE", &o->types, "type of tensors whose names this regular expression finds; may be repeated", 0, 0},
        {FLAG_STRING, {"--tensor-type-file"}, "FILE", &o->types_file, "a list of NAME=TYPE", 0, 0},
        {FLAG_STRING, {"--prune-layers"}, "LIST", &o->prune, "layers to leave out: 0,3,7", 0, 0},
        {FLAG_LIST, {"--override-kv"}, "KEY=TYPE:VALUE", &o->keys, "metadata of the new file (int, float, bool, str); may be repeated", 0, 0},
        {FLAG_BOOL, {"--keep-split"}, 0, &o->split, "as many files as the model has; -o is their prefix", 0, 0},
        {FLAG_BOOL, {"--dry-run"}, 0, &o->dry_run, "write nothing, show sizes", 0, 0},
        {FLAG_INT, {"--max-buffer-size"}, "MIB", &o->max_buffer, "most of a tensor in memory at once, in MiB; 0: what is good", 0, 1 << 20},
        {FLAG_INT, {"-t", "--threads"}, "N", &o->threads, "threads, 0 for all", 0, 512},
        {FLAG_BOOL, {"--quiet"}, 0, &o->quiet, "say nothing but warnings", 0, 0},
    };
    parse_flags(argc, argv, "-m FILE -o FILE -q NAME: writes a model in smaller number formats", flags,
                sizeof flags / sizeof *flags, NULL);
    if (!o->input) die("give a model with -m");
    if (!o->output && !o->dry_run) die("give the new model's name with -o, or --dry-run");
    if (!o->mix) die("say what the model becomes with -q");
    if (o->include.len && o->exclude.len)
        die("--include-weights and --exclude-weights: use one of them");
    if (!o->imatrix && (o->include.len || o->exclude.len))
        die("--include-weights and --exclude-weights need --imatrix");
}

int main(int argc, char **argv) {
    struct options o = {0};
    read_options(&o, argc, argv);
    log_init(!o.quiet);

    struct llama_model_quantize_params params = llama_model_quantize_default_params();
    params.only_copy = !strcasecmp(o.mix, "COPY");
    params.ftype = params.only_copy ? LLAMA_FTYPE_ALL_F32 : mix_named(o.mix);
    if (o.output_type)
        params.output_tensor_type = type_named("--output-tensor-type", o.output_type);
    if (o.embedding_type)
        params.token_embedding_type = type_named("--token-embedding-type", o.embedding_type);
    params.nthread = (int32_t)o.threads;
    params.max_buf_size = (size_t)o.max_buffer << 20;
    params.allow_requantize = o.requantize;
    params.quantize_output_tensor = !o.keep_output;
    params.pure = o.pure;
    params.keep_split = o.split;
    params.dry_run = o.dry_run;

    struct patterns patterns = {0};
    for (size_t i = 0; i < o.types.len; i++)
        add_pattern(&patterns, "--tensor-type", o.types.data[i]);
    if (o.types_file) add_pattern_file(&patterns, o.types_file);
    params.tt_overrides = patterns.list;
    int32_t *pruned = o.prune ? layers(o.prune) : NULL;
    params.prune_layers = pruned;
    struct keys keys = {0};
    for (size_t i = 0; i < o.keys.len; i++) override_key(&keys, o.keys.data[i]);
    struct importances imatrix = {0};
    struct llama_model_imatrix_data *means = NULL;
    if (o.imatrix) {
        importances_load(&imatrix, o.imatrix);
        importances_select(&imatrix, &o.include, &o.exclude);
        if (!o.quiet) note("%zu tensors have importances", imatrix.n);
        if (imatrix.n) note_imatrix(&keys, o.imatrix, &imatrix);
        means = imatrix.n ? importances_means(&imatrix) : NULL;
        params.imatrix = means;
    }
    params.kv_overrides = keys.list;

    /* The names of split files end with a number and .gguf. */
    struct text output = {0};
    if (o.output) text_add(&output, o.output, strlen(o.output));
    if (o.split && output.len > 5 && !strcmp(output.data + output.len - 5, ".gguf"))
        output.data[output.len -= 5] = '\0';

    double start = now_ms();
    log_forget();
    if (llama_model_quantize(o.input, output.data ? output.data : "", &params) != 0)
        die_with_reason("cannot quantize %s", o.input);
    if (!o.quiet) note("%.1f s", (now_ms() - start) / 1000);

    for (size_t i = 0; i < patterns.n; i++) free((void *)patterns.list[i].pattern);
    free(patterns.list);
    free(pruned);
    free(keys.list);
    means_free(means);
    importances_free(&imatrix);
    text_free(&output);
    names_free(&o.types);
    names_free(&o.keys);
    names_free(&o.include);
    names_free(&o.exclude);
    return 0;
}
