/* Merges LoRA adapters into a model: W + scale * B A in place of W.
 *
 *   lora -m model.gguf --lora adapter.gguf -o merged.gguf
 *   lora -m model.gguf --lora-scaled style.gguf:0.5,facts.gguf:1 -o merged.gguf --outtype q8_0
 *   lora -m model.gguf --lora adapter.gguf --dry-run
 *
 * (To use adapters without merging them: main --lora.) Merged matrices are written as F16, those that
 * were F32 stay F32; --outtype chooses another type, "base" the one that each has in the model. All else
 * goes over byte by byte. An adapter's scale is times alpha / rank where the file has an alpha. */
#include "adapters.h"
#include "container.h"
#include "generate.h"

#include <stdlib.h>
#include <string.h>

static const char a_suffix[] = ".lora_a", b_suffix[] = ".lora_b", norm_suffix[] = "_norm.weight";

/* ---- adapters ---- */

struct adapter {
    struct container file;
    char *path;
    float scale, alpha;
    size_t n_pairs, n_norms;
};

/* What an adapter adds to a tensor. */
struct pair {
    const struct adapter *adapter;
    const struct tensor *a, *b;
    float scale;
};

/* A tensor of the model, and what is added to it. */
struct target {
    const struct tensor *base;
    struct pair *pairs;
    size_t n_pairs;
    bool looked_up; /* rows of the embeddings: a is [rank, n_vocab] */
    bool turned;    /* PowerInfer's ffn_down_t: rows are inputs */
};

struct merging {
    struct container model;
    struct adapter *adapters;
    size_t n_adapters;
    struct target *targets; /* one for each tensor of the model */
    const char *outtype;
    float *w, *delta, *a, *b; /* of the tensor that is made */
    uint8_t *out;
};

static const struct entry *key_of(const struct container *file, const char *key) {
    return entry_find(file->entries, file->n_entries, key);
}

/* Dies unless the key is this text. */
static void expect(const struct container *file, const char *key, const char *text) {
    if (!entry_is(key_of(file, key), text))
        die("'%s' is no LoRA adapter for this model: its %s is not '%s'", file->path, key, text);
}

static void add_adapter(void *data, const char *path, float scale) {
    struct merging *m = data;
    m->adapters = xrealloc(m->adapters, (m->n_adapters + 1) * sizeof *m->adapters);
    struct adapter *one = &m->adapters[m->n_adapters++];
    *one = (struct adapter){.scale = scale, .path = xrealloc(NULL, strlen(path) + 1)};
    strcpy(one->path, path);
    container_open(&one->file, one->path);
    expect(&one->file, "general.type", "adapter");
    expect(&one->file, "adapter.type", "lora");
    const struct entry *arch = key_of(&m->model, "general.architecture");
    const struct entry *own = key_of(&one->file, "general.architecture");
    if (!arch || !own || arch->size != own->size || memcmp(arch->value, own->value, arch->size))
        die("'%s' is for another architecture", path);
    if (key_of(&one->file, "adapter.alora.invocation_tokens"))
        die("'%s' is switched on by tokens while the model runs: it cannot be merged", path);
    const struct entry *alpha = key_of(&one->file, "adapter.lora.alpha");
    if (alpha && alpha->type != GGUF_TYPE_FLOAT32) die("'%s': adapter.lora.alpha is no f32", path);
    if (alpha) memcpy(&one->alpha, alpha->value, sizeof one->alpha);
}

/* ---- pairs ---- */

/* Length of the name before a suffix; 0 without it. */
static size_t stem(const struct tensor *t, const char *suffix) {
    const size_t tail = strlen(suffix);
    return t->name_len > tail && !memcmp(t->name + t->name_len - tail, suffix, tail) ? t->name_len - tail : 0;
}

static bool is_named(const struct tensor *t, const char *name, size_t len) {
    return t->name_len == len && !memcmp(t->name, name, len);
}

static const struct tensor *half(const struct container *file, const char *name, size_t len,
                                 const char *suffix) {
    for (uint64_t i = 0; i < file->n_tensors; i++)
        if (stem(&file->tensors[i], suffix) == len && !memcmp(file->tensors[i].name, name, len))
            return &file->tensors[i];
    return NULL;
}

/* The target of this name. PowerInfer's files have ffn_down the other way round, as ffn_down_t. */
static struct target *target_named(struct merging *m, const char *name, size_t len) {
    struct text turned = {0};
    text_addf(&turned, "%.*s", (int)len, name);
    char *down = strstr(turned.data, ".ffn_down.");
    struct target *found = NULL;
    for (uint64_t i = 0; i < m->model.n_tensors && !found; i++)
        if (is_named(&m->model.tensors[i], name, len)) found = &m->targets[i];
    if (!found && down) {
        struct text other = {0};
        text_addf(&other, "%.*s.ffn_down_t.%s", (int)(down - turned.data), turned.data,
                  down + strlen(".ffn_down."));
        for (uint64_t i = 0; i < m->model.n_tensors && !found; i++)
            if (is_named(&m->model.tensors[i], other.data, other.len)) found = &m->targets[i];
        if (found) found->turned = true;
        text_free(&other);
    }
    text_free(&turned);
    return found;
}

static void add_pair(struct merging *m, struct adapter *adapter, const struct tensor *a, size_t len) {
    const struct tensor *b = half(&adapter->file, a->name, len, b_suffix);
    if (!b) die("'%s': %.*s is alone", adapter->path, (int)a->name_len, a->name);
    struct target *t = target_named(m, a->name, len);
    if (!t) die("'%s': the model has no %.*s", adapter->path, (int)len, a->name);
    static const char embeddings[] = "token_embd.weight";
    t->looked_up = is_named(t->base, embeddings, sizeof embeddings - 1);
    const uint64_t *w = t->base->dims, rank = b->dims[0];
    const uint64_t n_in = w[t->turned], n_out = w[!t->turned];
    const bool fits = t->looked_up ? a->dims[0] == rank && a->dims[1] == n_out && b->dims[1] == n_in
                                   : a->dims[0] == n_in && a->dims[1] == rank && b->dims[1] == n_out;
    const bool same = a->dims[2] == w[2] && b->dims[2] == w[2] && a->dims[3] == w[3] && b->dims[3] == w[3];
    if (!fits || !same || !rank || !n_in || !n_out)
        die("'%s': %.*s is [%llu, %llu, %llu] in the model, which lora_a [%llu, %llu, %llu] and lora_b "
            "[%llu, %llu, %llu] do not fit", adapter->path, (int)len, a->name, (unsigned long long)w[0],
            (unsigned long long)w[1], (unsigned long long)w[2], (unsigned long long)a->dims[0],
            (unsigned long long)a->dims[1], (unsigned long long)a->dims[2], (unsigned long long)b->dims[0],
            (unsigned long long)b->dims[1], (unsigned long long)b->dims[2]);
    t->pairs = xrealloc(t->pairs, (t->n_pairs + 1) * sizeof *t->pairs);
    const float scale = adapter->alpha != 0 ? adapter->scale * adapter->alpha / (float)rank : adapter->scale;
    t->pairs[t->n_pairs++] = (struct pair){adapter, a, b, scale};
    adapter->n_pairs++;
}

static void find_pairs(struct merging *m) {
    m->targets = xrealloc(NULL, m->model.n_tensors * sizeof *m->targets);
    for (uint64_t i = 0; i < m->model.n_tensors; i++)
        m->targets[i] = (struct target){.base = &m->model.tensors[i]};
    for (size_t k = 0; k < m->n_adapters; k++) {
        struct adapter *one = &m->adapters[k];
        for (uint64_t i = 0; i < one->file.n_tensors; i++) {
            const struct tensor *t = &one->file.tensors[i];
            const size_t a = stem(t, a_suffix), b = stem(t, b_suffix);
            if (a) add_pair(m, one, t, a);
            else if (b && !half(&one->file, t->name, b, a_suffix))
                die("'%s': %.*s is alone", one->path, (int)t->name_len, t->name);
            else if (!b && !stem(t, norm_suffix))
                die("'%s': %.*s is neither a lora_a nor a lora_b", one->path, (int)t->name_len, t->name);
            else if (!b) one->n_norms++; /* some adapters bring norms along: no runtime uses them */
        }
        if (one->n_norms) note("'%s': %zu norms are left out", one->path, one->n_norms);
        if (!one->n_pairs) die("'%s' adds to no tensor", one->path);
    }
}

/* ---- merging ---- */

static uint64_t n_elements(const struct tensor *t) {
    return t->dims[0] * t->dims[1] * t->dims[2] * t->dims[3];
}

/* The tensor as floats, in memory of `buffer`. */
static float *floats(float **buffer, const struct tensor *t) {
    const uint64_t n = n_elements(t);
    const struct ggml_type_traits *traits = ggml_get_type_traits((enum ggml_type)t->type);
    *buffer = xrealloc(*buffer, n * sizeof **buffer);
    if (t->type == GGML_TYPE_F32) memcpy(*buffer, t->data, n * sizeof **buffer);
    else if (traits && traits->to_float) traits->to_float(t->data, *buffer, (int64_t)n);
    else die("%.*s is of type %s, which is for no weights", (int)t->name_len, t->name,
             ggml_type_name((enum ggml_type)t->type));
    return *buffer;
}

/* out += factor * x */
static void add_scaled(float *restrict out, const float *restrict x, float factor, uint64_t n) {
    for (uint64_t i = 0; i < n; i++) out[i] += factor * x[i];
}

static float dot(const float *x, const float *y, uint64_t n) {
    float sum = 0;
    for (uint64_t i = 0; i < n; i++) sum += x[i] * y[i];
    return sum;
}

/* Row `row` of what a pair adds to one matrix: a and b are that matrix's. */
static void add_row(struct merging *m, const struct target *t, const struct pair *p, const float *a,
                    const float *b, uint64_t row, float *w) {
    const uint64_t rank = p->b->dims[0], n_in = t->base->dims[t->turned], n = t->base->dims[0];
    float *delta = m->delta;
    for (uint64_t i = 0; i < n; i++) delta[i] = 0;
    if (t->looked_up) {
        for (uint64_t i = 0; i < n; i++) delta[i] = dot(a + row * rank, b + i * rank, rank);
    } else if (t->turned) {
        for (uint64_t i = 0; i < n; i++)
            for (uint64_t r = 0; r < rank; r++) delta[i] += a[r * n_in + row] * b[i * rank + r];
    } else {
        for (uint64_t r = 0; r < rank; r++) add_scaled(delta, a + r * n_in, b[row * rank + r], n);
    }
    add_scaled(w, delta, p->scale, n);
}

/* draft.make: the bytes of a tensor with all that is added to it. */
static const uint8_t *merge(void *to, const struct tensor *made) {
    struct merging *m = to;
    const struct target *t = m->targets;
    while (!is_named(t->base, made->name, made->name_len)) t++;
    const uint64_t n = t->base->dims[0], n_rows = t->base->dims[1];
    const uint64_t n_matrices = n_elements(t->base) / (n * n_rows);
    float *w = floats(&m->w, t->base);
    m->delta = xrealloc(m->delta, n * sizeof *m->delta);
    for (size_t k = 0; k < t->n_pairs; k++) {
        const struct pair *p = &t->pairs[k];
        const float *a = floats(&m->a, p->a), *b = floats(&m->b, p->b);
        for (uint64_t i = 0; i < n_matrices * n_rows && !interrupted; i++) {
            const uint64_t matrix = i / n_rows;
            add_row(m, t, p, a + matrix * p->a->dims[0] * p->a->dims[1],
                    b + matrix * p->b->dims[0] * p->b->dims[1], i % n_rows, w + i * n);
        }
    }
    m->out = xrealloc(m->out, made->size);
    log_forget();
    if (ggml_quantize_chunk((enum ggml_type)made->type, w, m->out, 0, (int64_t)(n_matrices * n_rows),
                            (int64_t)n, NULL) != made->size)
        die_with_reason("cannot write %.*s as %s", (int)made->name_len, made->name,
                        ggml_type_name((enum ggml_type)made->type));
    return m->out;
}

/* The type of a merged tensor. */
static enum ggml_type out_type(const struct merging *m, const struct tensor *base) {
    if (!m->outtype) return base->type == GGML_TYPE_F32 ? GGML_TYPE_F32 : GGML_TYPE_F16;
    if (!strcmp(m->outtype, "base")) return (enum ggml_type)base->type;
    for (int type = 0; type < GGML_TYPE_COUNT; type++) {
        const struct ggml_type_traits *traits = ggml_get_type_traits((enum ggml_type)type);
        if (!traits || strcmp(traits->type_name, m->outtype)) continue;
        if (type != GGML_TYPE_F32 && !traits->from_float_ref) break;
        if (base->dims[0] % (uint64_t)traits->blck_size)
            die("--outtype %s: rows of %.*s are no whole blocks", m->outtype, (int)base->name_len, base->name);
        return (enum ggml_type)type;
    }
    die("--outtype is base, f32, f16, bf16, q8_0, q4_0 or another such type, not '%s'", m->outtype);
}

/* What the key general.file_type says of the new model; -1: as before. */
static int file_type(const struct merging *m) {
    if (!m->outtype || !strcmp(m->outtype, "f16")) return LLAMA_FTYPE_MOSTLY_F16;
    if (!strcmp(m->outtype, "f32")) return LLAMA_FTYPE_ALL_F32;
    if (!strcmp(m->outtype, "bf16")) return LLAMA_FTYPE_MOSTLY_BF16;
    if (!strcmp(m->outtype, "q8_0")) return LLAMA_FTYPE_MOSTLY_Q8_0;
    return -1;
}

/* ---- the program ---- */

static void show_target(const struct target *t, const struct tensor *made, bool json) {
    struct text line = {0};
    if (json) {
        text_addf(&line, "{\"tensor\": ");
        text_add_json(&line, made->name, made->name_len);
        text_addf(&line, ", \"base\": \"%s\", \"type\": \"%s\", \"pairs\": [",
                  ggml_type_name((enum ggml_type)t->base->type), ggml_type_name((enum ggml_type)made->type));
    } else {
        text_addf(&line, "%.*s: %s -> %s", (int)made->name_len, made->name,
                  ggml_type_name((enum ggml_type)t->base->type), ggml_type_name((enum ggml_type)made->type));
    }
    for (size_t k = 0; k < t->n_pairs; k++) {
        const struct pair *p = &t->pairs[k];
        const unsigned long long rank = p->b->dims[0];
        if (!json) {
            text_addf(&line, ", %s: rank %llu, scale %g", p->adapter->path, rank, (double)p->scale);
            continue;
        }
        text_addf(&line, "%s{\"adapter\": ", k ? ", " : "");
        text_add_json(&line, p->adapter->path, strlen(p->adapter->path));
        text_addf(&line, ", \"rank\": %llu, \"scale\": %.9g}", rank, (double)p->scale);
    }
    if (json) text_addf(&line, "]}");
    puts(line.data);
    text_free(&line);
}

int main(int argc, char **argv) {
    static struct merging m; /* static: what they hold stays reachable when die() ends the program */
    static struct adapters lists;
    const char *path = NULL, *out = NULL;
    bool dry_run = false, json = false;
    const struct flag flags[] = {
        {FLAG_STRING, {"-m", "--model"}, "FILE", &path, "the model, a GGUF file", 0, 0},
        {FLAG_LIST, {"--lora"}, "FILE,...", &lists.lora, "adapters with their own scale; may be repeated", 0, 0},
        {FLAG_LIST, {"--lora-scaled"}, "FILE:S,...", &lists.lora_scaled, "adapters times S; may be repeated", 0, 0},
        {FLAG_STRING, {"-o", "--output", "--output-file"}, "FILE", &out, "the merged model", 0, 0},
        {FLAG_STRING, {"--outtype"}, "TYPE", &m.outtype, "type of merged tensors; base: as before (default: f16, f32 stays)", 0, 0},
        {FLAG_BOOL, {"--dry-run"}, 0, &dry_run, "write nothing, show what would be merged", 0, 0},
        {FLAG_BOOL, {"--json"}, 0, &json, "show it as JSON, a line for each tensor", 0, 0},
    };
    parse_flags(argc, argv, "merges LoRA adapters into a model", flags, sizeof flags / sizeof *flags, NULL);
    if (!path) die("no model: give its file with -m FILE");
    if (!lists.lora.len && !lists.lora_scaled.len) die("no adapter: give one with --lora or --lora-scaled");
    if (!out && !dry_run) die("the merged model needs a name: -o FILE (or --dry-run)");
    catch_sigint();
    log_init(false);
    container_open(&m.model, path);
    if (key_of(&m.model, "split.count"))
        die("'%s' is part of a split model: put it together with gguf --merge", path);
    each_adapter(&lists.lora, "--lora", false, add_adapter, &m);
    each_adapter(&lists.lora_scaled, "--lora-scaled", true, add_adapter, &m);
    find_pairs(&m);

    static struct draft draft;
    draft_add(&draft, &m.model, true);
    draft.make = merge;
    draft.make_to = &m;
    const int type = file_type(&m);
    const uint32_t number = (uint32_t)type;
    static const char type_key[] = "general.file_type";
    if (type >= 0)
        draft_set(&draft, (struct entry){type_key, sizeof type_key - 1, GGUF_TYPE_UINT32,
                                         (const uint8_t *)&number, sizeof number});
    size_t n_merged = 0;
    bool tied = true;
    for (size_t i = 0; i < draft.n_tensors; i++) {
        struct tensor *t = &draft.tensors[i];
        tied = tied && !is_named(t, "output.weight", strlen("output.weight"));
        if (!m.targets[i].n_pairs) continue;
        t->type = out_type(&m, t);
        t->size = n_elements(t) / t->dims[0] * ggml_row_size((enum ggml_type)t->type, (int64_t)t->dims[0]);
        t->data = NULL;
        n_merged++;
        if (dry_run || json) show_target(&m.targets[i], t, json);
    }
    for (size_t i = 0; tied && i < draft.n_tensors; i++)
        if (m.targets[i].n_pairs && m.targets[i].looked_up)
            note("token_embd.weight is the output too: merged, the adapter changes both");
    if (!dry_run) draft_write(&draft, out, m.model.base, m.model.version);
    if (!dry_run && !json)
        note("%zu of %zu tensors merged: %s", n_merged, draft.n_tensors, out);

    draft_free(&draft);
    for (uint64_t i = 0; i < m.model.n_tensors; i++) free(m.targets[i].pairs);
    for (size_t k = 0; k < m.n_adapters; k++) {
        container_close(&m.adapters[k].file);
        free(m.adapters[k].path);
    }
    free(m.targets);
    free(m.adapters);
    free(m.w);
    free(m.delta);
    free(m.a);
    free(m.b);
    free(m.out);
    container_close(&m.model);
    adapters_free(&lists);
    return 0;
}
