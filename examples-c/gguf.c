/* Shows, edits, splits and merges GGUF files (version 2 and 3, also PowerInfer's magic).
 *
 *   gguf -m model.gguf [--json]                                what is in it
 *   gguf -m model.gguf -o new.gguf --set general.name=Mine --remove tokenizer.chat_template
 *   gguf -m model.gguf -o new.gguf --add general.tags=str[]:small,test
 *   gguf -m model.gguf -o new.gguf --set-file tokenizer.chat_template=template.jinja
 *   gguf -m model.gguf -o part --split --split-max-size 2G     part-00001-of-0000N.gguf, ...
 *   gguf -m part-00001-of-00003.gguf -o model.gguf --merge
 *
 * Entries and tensors that are not edited go over byte by byte. A file has its name only when it
 * is whole, so -o may be the file that is read. */
#include "container.h"
#include "generate.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- showing ---- */

static double float_value(uint32_t type, const uint8_t *at) {
    float f;
    double d;
    memcpy(&f, at, sizeof f);
    if (type == GGUF_TYPE_FLOAT32) return (double)f;
    memcpy(&d, at, sizeof d);
    return d;
}

/* One value as JSON; returns its size in the file. */
static size_t add_value(struct text *out, uint32_t type, const uint8_t *at) {
    uint64_t u = 0;
    if (type == GGUF_TYPE_STRING) {
        memcpy(&u, at, sizeof u);
        text_add_json(out, (const char *)at + sizeof u, (size_t)u);
        return sizeof u + (size_t)u;
    }
    size_t size = value_types[type].size;
    memcpy(&u, at, size); /* little-endian, as the file is */
    int unused = 64 - 8 * (int)size;
    int64_t i = (int64_t)(u << unused) >> unused;
    if (type == GGUF_TYPE_FLOAT32 || type == GGUF_TYPE_FLOAT64) {
        double x = float_value(type, at);
        if (isfinite(x)) text_addf(out, "%.*g", type == GGUF_TYPE_FLOAT32 ? 9 : 17, x);
        else text_addf(out, "null"); /* JSON has no such numbers */
    } else if (type == GGUF_TYPE_BOOL) {
        text_addf(out, u ? "true" : "false");
    } else if (type == GGUF_TYPE_INT8 || type == GGUF_TYPE_INT16 || type == GGUF_TYPE_INT32 ||
               type == GGUF_TYPE_INT64) {
        text_addf(out, "%lld", (long long)i);
    } else {
        text_addf(out, "%llu", (unsigned long long)u);
    }
    return size;
}

/* The first `most` elements of an array as JSON. */
static void add_array(struct text *out, const struct entry *e, uint64_t most) {
    uint32_t of;
    uint64_t n;
    memcpy(&of, e->value, sizeof of);
    memcpy(&n, e->value + sizeof of, sizeof n);
    const uint8_t *at = e->value + sizeof of + sizeof n;
    text_add(out, "[", 1);
    for (uint64_t i = 0; i < n && i < most; i++) {
        if (i) text_add(out, ", ", 2);
        at += add_value(out, of, at);
    }
    if (n > most) text_addf(out, ", ...");
    text_add(out, "]", 1);
}

static void add_type(struct text *out, const struct entry *e) {
    uint32_t of;
    uint64_t n;
    text_addf(out, "%s", value_types[e->type].name);
    if (e->type != GGUF_TYPE_ARRAY) return;
    memcpy(&of, e->value, sizeof of);
    memcpy(&n, e->value + sizeof of, sizeof n);
    text_addf(out, "[%s, %llu]", value_types[of].name, (unsigned long long)n);
}

static void show(const struct container *f) {
    struct text out = {0};
    text_addf(&out, "%.4s version %u, %llu entries, %llu tensors, data from byte %llu on\n\n",
              (const char *)f->base, f->version, (unsigned long long)f->n_entries,
              (unsigned long long)f->n_tensors, (unsigned long long)f->data_offset);
    for (uint64_t i = 0; i < f->n_entries; i++) {
        const struct entry *e = &f->entries[i];
        struct text type = {0}, value = {0};
        add_type(&type, e);
        if (e->type == GGUF_TYPE_ARRAY) add_array(&value, e, 3);
        else add_value(&value, e->type, e->value);
        size_t shown = value.len; /* --json has all of a long text, such as a chat template */
        if (shown > 100) for (shown = 100; (value.data[shown] & 0xC0) == 0x80;) shown--;
        text_addf(&out, "%-16s %.*s = %.*s%s\n", type.data, (int)e->key_len, e->key,
                  (int)shown, value.data, shown < value.len ? "..." : "");
        text_free(&type);
        text_free(&value);
    }
    text_add(&out, "\n", 1);
    for (uint64_t i = 0; i < f->n_tensors; i++) {
        const struct tensor *t = &f->tensors[i];
        text_addf(&out, "%-8s %12llu bytes  %.*s [", ggml_type_name((enum ggml_type)t->type),
                  (unsigned long long)t->size, (int)t->name_len, t->name);
        for (uint32_t k = 0; k < t->n_dims; k++)
            text_addf(&out, "%s%llu", k ? ", " : "", (unsigned long long)t->dims[k]);
        text_addf(&out, "]\n");
    }
    fwrite(out.data, 1, out.len, stdout);
    text_free(&out);
}

static void show_json(const struct container *f, bool arrays) {
    struct text out = {0};
    text_addf(&out, "{\"filename\": ");
    text_add_json(&out, f->path, strlen(f->path));
    text_addf(&out, ", \"magic\": \"%.4s\", \"version\": %u, \"data_offset\": %llu,\n\"metadata\": {",
              (const char *)f->base, f->version, (unsigned long long)f->data_offset);
    for (uint64_t i = 0; i < f->n_entries; i++) {
        const struct entry *e = &f->entries[i];
        text_addf(&out, i ? ",\n  " : "\n  ");
        text_add_json(&out, e->key, e->key_len);
        text_addf(&out, ": {\"index\": %llu, \"type\": \"", (unsigned long long)i);
        add_type(&out, e);
        text_addf(&out, "\"");
        if (e->type != GGUF_TYPE_ARRAY || arrays) text_addf(&out, ", \"value\": ");
        if (e->type != GGUF_TYPE_ARRAY) add_value(&out, e->type, e->value);
        else if (arrays) add_array(&out, e, UINT64_MAX);
        text_addf(&out, "}");
    }
    text_addf(&out, "},\n\"tensors\": {");
    for (uint64_t i = 0; i < f->n_tensors; i++) {
        const struct tensor *t = &f->tensors[i];
        text_addf(&out, i ? ",\n  " : "\n  ");
        text_add_json(&out, t->name, t->name_len);
        text_addf(&out, ": {\"index\": %llu, \"shape\": [", (unsigned long long)i);
        for (uint32_t k = 0; k < t->n_dims; k++)
            text_addf(&out, "%s%llu", k ? ", " : "", (unsigned long long)t->dims[k]);
        text_addf(&out, "], \"type\": \"%s\", \"offset\": %llu, \"size\": %llu}",
                  ggml_type_name((enum ggml_type)t->type), (unsigned long long)t->offset,
                  (unsigned long long)t->size);
    }
    text_addf(&out, "}}\n");
    fwrite(out.data, 1, out.len, stdout);
    text_free(&out);
}

/* ---- editing ---- */

/* What new entries point into: kept until the program ends. */
static struct text **kept;
static size_t n_kept;

static struct text *keep(void) {
    kept = xrealloc(kept, (n_kept + 1) * sizeof(struct text *));
    kept[n_kept] = xrealloc(NULL, sizeof **kept);
    *kept[n_kept] = (struct text){0};
    text_add(kept[n_kept], "", 0);
    return kept[n_kept++];
}

/* Adds the bytes of a number, a truth or a text as the user wrote it. */
static void add_scalar(struct text *out, const char *key, uint32_t type, const char *value) {
    char *end = NULL;
    errno = 0;
    if (type == GGUF_TYPE_STRING) {
        const uint64_t len = strlen(value);
        text_add(out, (const char *)&len, sizeof len); /* little-endian, as the file is */
        text_add(out, value, (size_t)len);
    } else if (type == GGUF_TYPE_BOOL) {
        const char yes = !strcmp(value, "true");
        if (!yes && strcmp(value, "false")) die("'%s' is true or false, not '%s'", key, value);
        text_add(out, &yes, 1);
    } else if (type == GGUF_TYPE_FLOAT32 || type == GGUF_TYPE_FLOAT64) {
        const double x = strtod(value, &end);
        const float f = (float)x;
        if (end == value || *end) die("'%s' is a number, not '%s'", key, value);
        if (type == GGUF_TYPE_FLOAT32) text_add(out, (const char *)&f, sizeof f);
        else text_add(out, (const char *)&x, sizeof x);
    } else {
        const int bits = 8 * (int)value_types[type].size;
        bool fits;
        uint64_t x;
        if (value_types[type].name[0] == 'i') {
            const int64_t i = strtoll(value, &end, 10), most = INT64_MAX >> (64 - bits);
            fits = i <= most && i >= -most - 1;
            x = (uint64_t)i;
        } else {
            x = strtoull(value, &end, 10);
            fits = x <= UINT64_MAX >> (64 - bits) && !strchr(value, '-');
        }
        if (end == value || *end || errno || !fits)
            die("'%s' is a whole number of type %s, not '%s'", key, value_types[type].name, value);
        text_add(out, (const char *)&x, value_types[type].size);
    }
}

/* Adds the bytes of an array: elements between commas, where a backslash makes the next character
 * part of a text. Nothing is no element. */
static void add_elements(struct text *out, const char *key, uint32_t of, const char *value) {
    struct text elements = {0}, one = {0};
    uint64_t n = 0;
    for (const char *at = value; *value;) {
        if (*at && *at != ',') {
            if (*at == '\\' && at[1]) at++;
            text_add(&one, at++, 1);
            continue;
        }
        text_add(&one, "", 0);
        add_scalar(&elements, key, of, one.data);
        one.len = 0;
        n++;
        if (!*at++) break;
    }
    text_add(out, (const char *)&of, sizeof of);
    text_add(out, (const char *)&n, sizeof n);
    if (elements.len) text_add(out, elements.data, elements.len);
    text_free(&elements);
    text_free(&one);
}

/* The two sides of "KEY=..."; the key is kept. */
static const char *split_key(const char *flag, const char *text, struct text **key) {
    const char *equals = strchr(text, '=');
    if (!equals || equals == text) die("%s needs KEY=..., not '%s'", flag, text);
    *key = keep();
    text_add(*key, text, (size_t)(equals - text));
    return equals + 1;
}

static void put(struct draft *o, const struct text *key, uint32_t type, const struct text *bytes) {
    draft_set(o, (struct entry){key->data, key->len, type, (const uint8_t *)bytes->data, bytes->len});
}

/* --set: another value of the type that the entry has. */
static void set_value(struct draft *o, const char *text) {
    struct text *key, *bytes = keep();
    const char *value = split_key("--set", text, &key);
    const struct entry *old = entry_find(o->entries, o->n_entries, key->data);
    if (!old) die("there is no '%s', whose type its new value could have (--add makes one)", key->data);
    uint32_t of = 0;
    if (old->type == GGUF_TYPE_ARRAY) memcpy(&of, old->value, sizeof of);
    if (old->type == GGUF_TYPE_ARRAY) add_elements(bytes, key->data, of, value);
    else add_scalar(bytes, key->data, old->type, value);
    put(o, key, old->type, bytes);
}

/* --add: KEY=TYPE:VALUE, the type by its name, with [] an array of it. */
static void add_entry(struct draft *o, const char *text) {
    struct text *key, *bytes = keep();
    const char *type = split_key("--add", text, &key), *colon = strchr(type, ':');
    if (!colon) die("--add needs KEY=TYPE:VALUE, not '%s'", text);
    if (entry_find(o->entries, o->n_entries, key->data))
        die("'%s' is there already: --set gives it another value", key->data);
    size_t len = (size_t)(colon - type);
    const bool array = len > 2 && !memcmp(colon - 2, "[]", 2);
    if (array) len -= 2;
    for (uint32_t i = 0; i < GGUF_TYPE_COUNT; i++) {
        if (i == GGUF_TYPE_ARRAY || strlen(value_types[i].name) != len ||
            memcmp(value_types[i].name, type, len))
            continue;
        if (array) add_elements(bytes, key->data, i, colon + 1);
        else add_scalar(bytes, key->data, i, colon + 1);
        put(o, key, array ? GGUF_TYPE_ARRAY : i, bytes);
        return;
    }
    die("--add: '%.*s' is none of u8, i8, u16, i16, u32, i32, u64, i64, f32, f64, bool, str, and those "
        "with []", (int)(colon - type), type);
}

/* --set-file: a text as the file has it, such as a chat template. */
static void set_file(struct draft *o, const char *text) {
    struct text *key, *bytes = keep(), content = {0};
    text_add_file(&content, split_key("--set-file", text, &key));
    const struct entry *old = entry_find(o->entries, o->n_entries, key->data);
    if (old && old->type != GGUF_TYPE_STRING) die("'%s' is no text", key->data);
    const uint64_t len = content.len;
    text_add(bytes, (const char *)&len, sizeof len);
    text_add(bytes, content.data, content.len);
    put(o, key, GGUF_TYPE_STRING, bytes);
    text_free(&content);
}

/* ---- splits ---- */

static const char no_key[] = "split.no", count_key[] = "split.count",
                  tensors_key[] = "split.tensors.count";

/* How a model is cut: by the number of tensors, or when it is not 0 by their bytes. */
struct cut {
    uint64_t max_tensors, max_size;
    bool bare_first; /* no tensors in the first file */
    bool dry_run;
};

/* Where the file ends that begins with tensor `from`. */
static size_t next_split(const struct draft *all, size_t from, const struct cut *cut) {
    uint64_t size = 0;
    for (size_t i = from; i < all->n_tensors; i++) {
        size += all->tensors[i].size;
        if (i > from && (cut->max_size ? size > cut->max_size : i - from >= cut->max_tensors)) return i;
    }
    return all->n_tensors;
}

/* Writes a file, or says what it would be. */
static void write_or_tell(const struct draft *one, const char *path, const struct container *f, bool dry_run) {
    if (dry_run)
        printf("%s: %zu tensors, %llu bytes\n", path, one->n_tensors,
               (unsigned long long)draft_size(one, path));
    else draft_write(one, path, f->base, f->version);
}

static void split(const struct draft *all, const struct container *f, const char *prefix,
                  const struct cut *cut) {
    if (entry_find(all->entries, all->n_entries, count_key)) die("'%s' is a split already", f->path);
    uint32_t n = cut->bare_first;
    for (size_t at = 0; n == 0 || at < all->n_tensors; n++) at = next_split(all, at, cut);
    if (n > UINT16_MAX) die("that makes %u files, more than the format can number", n);
    int32_t n_tensors = (int32_t)all->n_tensors;
    for (size_t i = 0, from = 0; i < n; i++) {
        uint16_t no = (uint16_t)i, count = (uint16_t)n;
        struct draft one = {0};
        for (size_t k = 0; i == 0 && k < all->n_entries; k++) draft_set(&one, all->entries[k]);
        const void *const numbers[] = {&no, &count, &n_tensors};
        const size_t sizes[] = {sizeof no, sizeof count, sizeof n_tensors};
        const char *const keys[] = {no_key, count_key, tensors_key};
        const uint32_t key_types[] = {GGUF_TYPE_UINT16, GGUF_TYPE_UINT16, GGUF_TYPE_INT32};
        for (size_t k = 0; k < 3; k++)
            draft_set(&one, (struct entry){keys[k], strlen(keys[k]), key_types[k], numbers[k], sizes[k]});
        const size_t to = cut->bare_first && !i ? 0 : next_split(all, from, cut);
        one.tensors = all->tensors + from;
        one.n_tensors = to - from;
        struct text path = {0};
        text_addf(&path, "%s-%05zu-of-%05u.gguf", prefix, i + 1, n);
        write_or_tell(&one, path.data, f, cut->dry_run);
        if (!cut->dry_run) printf("%s: %zu tensors\n", path.data, one.n_tensors);
        text_free(&path);
        free(one.entries);
        from = to;
    }
}

/* Adds the other files of a set to the first one. They are kept open: the tensors are theirs. */
static struct container *merge(struct draft *all, const struct container *first, size_t *n_more) {
    int64_t count = entry_number(entry_find(first->entries, first->n_entries, count_key));
    int64_t total = entry_number(entry_find(first->entries, first->n_entries, tensors_key));
    if (count < 1 || count > UINT16_MAX || entry_number(entry_find(first->entries, first->n_entries, no_key)))
        die("'%s' is not the first file of a split model", first->path);
    char ending[32];
    snprintf(ending, sizeof ending, "-00001-of-%05d.gguf", (int)count);
    size_t len = strlen(first->path), end = strlen(ending);
    if (len <= end || strcmp(first->path + len - end, ending))
        die("'%s' should be named ...%s", first->path, ending);
    *n_more = (size_t)count - 1;
    struct container *more = xrealloc(NULL, *n_more * sizeof *more);
    for (int i = 2; i <= (int)count; i++) {
        struct text path = {0};
        text_addf(&path, "%.*s-%05d-of-%05d.gguf", (int)(len - end), first->path, i, (int)count);
        struct container *f = &more[i - 2];
        container_open(f, path.data);
        if (entry_number(entry_find(f->entries, f->n_entries, no_key)) != i - 1)
            die("'%s' is not file %d of the split model", path.data, i);
        draft_add(all, f, false);
        text_free(&path);
    }
    if (total >= 0 && (uint64_t)total != all->n_tensors)
        die("the files have %zu tensors, %lld were split", all->n_tensors, (long long)total);
    draft_remove(all, no_key);
    draft_remove(all, count_key);
    draft_remove(all, tensors_key);
    return more;
}

static uint64_t parse_size(const char *text) {
    char *end = NULL;
    unsigned long long n = strtoull(text, &end, 10);
    uint64_t unit = end && *end == 'M' ? 1000 * 1000 : end && *end == 'G' ? 1000 * 1000 * 1000 : 0;
    if (!unit || end == text || end[1] || n < 1 || n > 1000000 || *text == '-')
        die("--split-max-size needs a number and M or G, not '%s'", text);
    return n * unit;
}

int main(int argc, char **argv) {
    const char *path = NULL, *out = NULL, *max_size = NULL;
    bool json = false, arrays = false, to_split = false, to_merge = false;
    int64_t max_tensors = 128;
    struct cut cut = {0};
    static struct names set, added, from_files, removed;
    const struct flag flags[] = {
        {FLAG_STRING, {"-m", "--model"}, "FILE", &path, "the GGUF file (or give it without a flag)", 0, 0},
        {FLAG_BOOL, {"--json"}, 0, &json, "show it as JSON, arrays only with their length", 0, 0},
        {FLAG_BOOL, {"--json-array"}, 0, &arrays, "the same with all of the arrays", 0, 0},
        {FLAG_STRING, {"-o", "--output"}, "FILE", &out, "the file to write; with --split what the names begin with", 0, 0},
        {FLAG_LIST, {"--set"}, "KEY=VALUE", &set, "another value for an entry; of an array the elements between commas", 0, 0},
        {FLAG_LIST, {"--add"}, "KEY=TYPE:VALUE", &added, "a new entry: u32, f32, bool, str, ..., or str[] and the like", 0, 0},
        {FLAG_LIST, {"--set-file"}, "KEY=FILE", &from_files, "a text from a file, new or in place of the old one", 0, 0},
        {FLAG_LIST, {"--remove"}, "KEY", &removed, "leave an entry out", 0, 0},
        {FLAG_BOOL, {"--split"}, 0, &to_split, "write several files", 0, 0},
        {FLAG_INT, {"--split-max-tensors"}, "N", &max_tensors, "most tensors in one of them", 1, INT32_MAX},
        {FLAG_STRING, {"--split-max-size"}, "N(M|G)", &max_size, "most megabytes or gigabytes of tensors in one of them", 0, 0},
        {FLAG_BOOL, {"--no-tensor-first-split"}, 0, &cut.bare_first, "no tensors in the first of them", 0, 0},
        {FLAG_BOOL, {"--dry-run"}, 0, &cut.dry_run, "write nothing, show the files and their sizes", 0, 0},
        {FLAG_BOOL, {"--merge"}, 0, &to_merge, "write one file of all of a split model; -m is the first", 0, 0},
    };
    parse_flags(argc, argv, "shows, edits, splits and merges GGUF files", flags,
                sizeof flags / sizeof *flags, &path);
    if (!path) die("no file: give it with -m FILE");
    cut.max_tensors = (uint64_t)max_tensors;
    cut.max_size = max_size ? parse_size(max_size) : 0;
    bool edits = set.len || added.len || from_files.len || removed.len || to_split || to_merge;
    if (edits && !out) die("the new file needs a name: -o FILE");
    if (out && !edits) die("-o needs something to do: --set, --remove, --add, --set-file, --split or --merge");
    if (to_split && to_merge) die("--split and --merge are opposites: use one of them");
    catch_sigint();
    log_init(false);

    static struct container file;
    container_open(&file, path);
    if (!edits) {
        if (json || arrays) show_json(&file, arrays);
        else show(&file);
    } else {
        static struct draft all;
        static struct container *more;
        size_t n_more = 0;
        draft_add(&all, &file, true);
        if (to_merge) more = merge(&all, &file, &n_more);
        for (size_t i = 0; i < removed.len; i++)
            if (!draft_remove(&all, removed.data[i])) die("there is no '%s'", removed.data[i]);
        for (size_t i = 0; i < set.len; i++) set_value(&all, set.data[i]);
        for (size_t i = 0; i < added.len; i++) add_entry(&all, added.data[i]);
        for (size_t i = 0; i < from_files.len; i++) set_file(&all, from_files.data[i]);
        if (to_split) split(&all, &file, out, &cut);
        else write_or_tell(&all, out, &file, cut.dry_run);
        for (size_t i = 0; i < n_more; i++) container_close(&more[i]);
        free(more);
        draft_free(&all);
        for (size_t i = 0; i < n_kept; i++) {
            text_free(kept[i]);
            free(kept[i]);
        }
        free(kept);
    }
    container_close(&file);
    names_free(&set);
    names_free(&added);
    names_free(&from_files);
    names_free(&removed);
    return 0;
}
