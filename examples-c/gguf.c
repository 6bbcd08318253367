/* Shows, edits, splits and merges GGUF files (version 2 and 3, also PowerInfer's magic).
 *
 *   gguf -m model.gguf [--json]                                what is in it
 *   gguf -m model.gguf -o new.gguf --set general.name=Mine --remove tokenizer.chat_template
 *   gguf -m model.gguf -o part --split --split-max-size 2G     part-00001-of-0000N.gguf, ...
 *   gguf -m part-00001-of-00003.gguf -o model.gguf --merge
 *
 * Entries and tensors that are not edited go over byte by byte. A file has its name only when it
 * is whole, so -o may be the file that is read. */
#define _POSIX_C_SOURCE 200809L
#include "generate.h"
#include "gguf.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- what is in a file; names and bytes belong to its map ---- */

struct entry {
    const char *key;
    size_t key_len;
    uint32_t type;        /* enum gguf_type */
    const uint8_t *value; /* as in the file; of an array: element type, length, elements */
    size_t size;
};

struct tensor {
    const char *name;
    size_t name_len;
    uint32_t n_dims, type; /* enum ggml_type */
    uint64_t dims[4], offset, size;
    const uint8_t *data;
};

struct file {
    const char *path;
    const uint8_t *base, *end, *at; /* at: how far it is read */
    uint32_t version;
    struct entry *entries;
    struct tensor *tensors;
    uint64_t n_entries, n_tensors, data_offset;
};

/* Bytes of a value; 0: strings and arrays, which say it themselves. */
static const struct {
    const char *name;
    size_t size;
} types[] = {{"u8", 1}, {"i8", 1},   {"u16", 2},  {"i16", 2}, {"u32", 4}, {"i32", 4}, {"f32", 4},
             {"bool", 1}, {"str", 0}, {"arr", 0}, {"u64", 8}, {"i64", 8}, {"f64", 8}};

/* ---- reading ---- */

static const uint8_t *take(struct file *f, uint64_t n) {
    if (n > (uint64_t)(f->end - f->at)) die("'%s' is cut off or damaged", f->path);
    const uint8_t *at = f->at;
    f->at += n;
    return at;
}

static uint32_t take_u32(struct file *f) {
    uint32_t x;
    memcpy(&x, take(f, sizeof x), sizeof x);
    return x;
}

static uint64_t take_u64(struct file *f) {
    uint64_t x;
    memcpy(&x, take(f, sizeof x), sizeof x);
    return x;
}

static const char *take_string(struct file *f, size_t *len) {
    *len = (size_t)take_u64(f);
    return (const char *)take(f, *len);
}

static void skip_value(struct file *f, uint32_t type) {
    size_t len;
    if (type >= GGUF_TYPE_COUNT) die("'%s' has a value of unknown type %u", f->path, type);
    if (types[type].size) {
        take(f, types[type].size);
    } else if (type == GGUF_TYPE_STRING) {
        take_string(f, &len);
    } else {
        uint32_t of = take_u32(f);
        uint64_t n = take_u64(f);
        if (of >= GGUF_TYPE_COUNT || of == GGUF_TYPE_ARRAY)
            die("'%s' has an array of type %u", f->path, of);
        if (types[of].size) {
            if (n > (uint64_t)(f->end - f->at)) die("'%s' is cut off or damaged", f->path);
            take(f, n * types[of].size);
        } else {
            for (uint64_t i = 0; i < n; i++) take_string(f, &len);
        }
    }
}

static const struct entry *find(const struct entry *entries, size_t n, const char *key) {
    for (size_t i = 0; i < n; i++)
        if (entries[i].key_len == strlen(key) && !memcmp(entries[i].key, key, entries[i].key_len))
            return &entries[i];
    return NULL;
}

/* A whole number of any type; -1: there is none. */
static int64_t number(const struct entry *entry) {
    uint64_t x = 0;
    if (!entry || entry->size > sizeof x || entry->type == GGUF_TYPE_FLOAT32 ||
        entry->type == GGUF_TYPE_FLOAT64 || entry->type >= GGUF_TYPE_COUNT ||
        !types[entry->type].size)
        return -1;
    memcpy(&x, entry->value, entry->size);
    return x > INT64_MAX ? -1 : (int64_t)x;
}

static uint64_t alignment_of(const struct entry *entries, size_t n, const char *path) {
    const struct entry *entry = find(entries, n, "general.alignment");
    if (!entry) return 32;
    int64_t a = number(entry);
    if (a < 1 || a > 1 << 20 || (a & (a - 1)))
        die("'%s': general.alignment is no power of two up to 2^20", path);
    return (uint64_t)a;
}

static uint64_t align_up(uint64_t x, uint64_t alignment) {
    return (x + alignment - 1) / alignment * alignment;
}

static void read_tensor(struct file *f, struct tensor *t) {
    uint64_t rows = 1;
    *t = (struct tensor){.dims = {1, 1, 1, 1}};
    t->name = take_string(f, &t->name_len);
    t->n_dims = take_u32(f);
    if (t->n_dims > 4) die("'%s': a tensor has %u dimensions", f->path, t->n_dims);
    for (uint32_t i = 0; i < t->n_dims; i++) {
        t->dims[i] = take_u64(f);
        if (t->dims[i] > INT32_MAX || rows > (UINT64_C(1) << 32))
            die("'%s': a tensor is too large", f->path);
        if (i) rows *= t->dims[i];
    }
    t->type = take_u32(f);
    t->offset = take_u64(f);
    if (t->type >= GGML_TYPE_COUNT || !ggml_type_size((enum ggml_type)t->type))
        die("'%s': a tensor has the unknown type %u", f->path, t->type);
    uint64_t block = (uint64_t)ggml_blck_size((enum ggml_type)t->type);
    uint64_t row = t->dims[0] / block * ggml_type_size((enum ggml_type)t->type);
    if (t->dims[0] % block) die("'%s': a tensor's rows are no whole blocks", f->path);
    if (row && rows > UINT64_MAX / 2 / row) die("'%s': a tensor is too large", f->path);
    t->size = row * rows;
}

static void open_file(struct file *f, const char *path) {
    *f = (struct file){.path = path};
    struct stat info;
    int fd = open(path, O_RDONLY);
    if (fd < 0 || fstat(fd, &info)) die("cannot open '%s': %s", path, strerror(errno));
    if (!S_ISREG(info.st_mode) || info.st_size < 24) die("'%s' is no GGUF file", path);
    void *map = mmap(NULL, (size_t)info.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (map == MAP_FAILED) die("cannot read '%s': %s", path, strerror(errno));
    close(fd);
    f->base = f->at = map;
    f->end = f->base + info.st_size;

    const uint8_t *magic = take(f, 4);
    if (memcmp(magic, "GGUF", 4) && memcmp(magic, "PWRI", 4)) die("'%s' is no GGUF file", path);
    f->version = take_u32(f);
    if (f->version < 2 || f->version > 3)
        die("'%s' is of version %u, here are 2 and 3", path, f->version);
    f->n_tensors = take_u64(f);
    f->n_entries = take_u64(f);
    uint64_t most = (uint64_t)info.st_size / 12; /* each has more bytes than that */
    if (f->n_tensors > most || f->n_entries > most) die("'%s' is cut off or damaged", path);

    f->entries = xrealloc(NULL, f->n_entries * sizeof *f->entries);
    for (uint64_t i = 0; i < f->n_entries; i++) {
        struct entry *e = &f->entries[i];
        e->key = take_string(f, &e->key_len);
        e->type = take_u32(f);
        e->value = f->at;
        skip_value(f, e->type);
        e->size = (size_t)(f->at - e->value);
    }
    f->tensors = xrealloc(NULL, f->n_tensors * sizeof *f->tensors);
    for (uint64_t i = 0; i < f->n_tensors; i++) read_tensor(f, &f->tensors[i]);
    uint64_t alignment = alignment_of(f->entries, f->n_entries, path);
    f->data_offset = align_up((uint64_t)(f->at - f->base), alignment);
    for (uint64_t i = 0; i < f->n_tensors; i++) {
        struct tensor *t = &f->tensors[i];
        uint64_t size = (uint64_t)info.st_size;
        if (f->data_offset > size || t->offset > size - f->data_offset ||
            t->size > size - f->data_offset - t->offset)
            die("'%s' is cut off: the data of '%.*s' is not all there", path, (int)t->name_len,
                t->name);
        t->data = f->base + f->data_offset + t->offset;
    }
}

static void close_file(struct file *f) {
    free(f->entries);
    free(f->tensors);
    munmap((void *)f->base, (size_t)(f->end - f->base));
}

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
    size_t size = types[type].size;
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
    text_addf(out, "%s", types[e->type].name);
    if (e->type != GGUF_TYPE_ARRAY) return;
    memcpy(&of, e->value, sizeof of);
    memcpy(&n, e->value + sizeof of, sizeof n);
    text_addf(out, "[%s, %llu]", types[of].name, (unsigned long long)n);
}

static void show(const struct file *f) {
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

static void show_json(const struct file *f, bool arrays) {
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

/* ---- writing ---- */

/* What a new file gets. The bytes of new values are allocated and stay until the program ends. */
struct output {
    struct entry *entries;
    struct tensor *tensors;
    size_t n_entries, n_tensors;
};

static void set_entry(struct output *o, struct entry entry) {
    for (size_t i = 0; i < o->n_entries; i++) {
        struct entry *e = &o->entries[i];
        if (e->key_len != entry.key_len || memcmp(e->key, entry.key, e->key_len)) continue;
        *e = entry;
        return;
    }
    o->entries = xrealloc(o->entries, (o->n_entries + 1) * sizeof *o->entries);
    o->entries[o->n_entries++] = entry;
}

static bool remove_entry(struct output *o, const char *key) {
    const struct entry *found = find(o->entries, o->n_entries, key);
    if (!found) return false;
    size_t i = (size_t)(found - o->entries);
    memmove(o->entries + i, o->entries + i + 1, (--o->n_entries - i) * sizeof *o->entries);
    return true;
}

static void add_file(struct output *o, const struct file *f, bool entries) {
    for (uint64_t i = 0; entries && i < f->n_entries; i++) set_entry(o, f->entries[i]);
    o->tensors = xrealloc(o->tensors, (o->n_tensors + f->n_tensors) * sizeof *o->tensors);
    memcpy(o->tensors + o->n_tensors, f->tensors, f->n_tensors * sizeof *f->tensors);
    o->n_tensors += f->n_tensors;
}

static void add_int(struct text *out, uint64_t x, size_t size) {
    text_add(out, (const char *)&x, size); /* little-endian, as the file is */
}

static void add_string(struct text *out, const char *data, size_t len) {
    add_int(out, len, 8);
    text_add(out, data, len);
}

static void write_file(const struct output *o, const char *path, const uint8_t *magic,
                       uint32_t version) {
    struct text head = {0}, partial = {0};
    uint64_t alignment = alignment_of(o->entries, o->n_entries, path), offset = 0, total = 0;
    static const char zeros[1 << 12];
    text_add(&head, (const char *)magic, 4);
    add_int(&head, version, 4);
    add_int(&head, o->n_tensors, 8);
    add_int(&head, o->n_entries, 8);
    for (size_t i = 0; i < o->n_entries; i++) {
        add_string(&head, o->entries[i].key, o->entries[i].key_len);
        add_int(&head, o->entries[i].type, 4);
        text_add(&head, (const char *)o->entries[i].value, o->entries[i].size);
    }
    for (size_t i = 0; i < o->n_tensors; i++) {
        const struct tensor *t = &o->tensors[i];
        add_string(&head, t->name, t->name_len);
        add_int(&head, t->n_dims, 4);
        for (uint32_t k = 0; k < t->n_dims; k++) add_int(&head, t->dims[k], 8);
        add_int(&head, t->type, 4);
        add_int(&head, offset, 8);
        offset = align_up(offset + t->size, alignment);
        total += t->size;
    }
    while (head.len % alignment) text_add(&head, "", 1);

    text_addf(&partial, "%s.partial", path);
    FILE *file = fopen(partial.data, "wb");
    if (!file) die("cannot write '%s': %s", path, strerror(errno));
    bool good = fwrite(head.data, 1, head.len, file) == head.len;
    uint64_t done = 0;
    for (size_t i = 0; i < o->n_tensors && good && !interrupted; i++) {
        const struct tensor *t = &o->tensors[i];
        good = fwrite(t->data, 1, t->size, file) == t->size;
        done += t->size;
        for (uint64_t pad = align_up(t->size, alignment) - t->size; pad && good;) {
            size_t n = pad < sizeof zeros ? (size_t)pad : sizeof zeros;
            good = fwrite(zeros, 1, n, file) == n;
            pad -= n;
        }
        show_count("writing MiB", done >> 20, (total >> 20) + 1);
    }
    good &= fclose(file) == 0;
    int reason = errno;
    show_count("writing", 1, 1);
    if (good && !interrupted) {
        good = rename(partial.data, path) == 0;
        reason = errno;
    }
    if (!good || interrupted) remove(partial.data);
    if (interrupted) exit_interrupted();
    if (!good) die("cannot write '%s': %s", path, strerror(reason));
    text_free(&head);
    text_free(&partial);
}

/* ---- editing ---- */

/* Kept until the program ends: the entries point into them. */
static struct text *values[256];
static size_t n_values;

static struct entry new_entry(const char *key, size_t key_len, uint32_t type, const void *data,
                              size_t size) {
    if (n_values == sizeof values / sizeof *values) die("too many new entries");
    struct text *kept = values[n_values++] = xrealloc(NULL, sizeof *kept);
    *kept = (struct text){0};
    if (type == GGUF_TYPE_STRING) add_int(kept, size, 8);
    text_add(kept, data, size);
    return (struct entry){key, key_len, type, (const uint8_t *)kept->data, kept->len};
}

/* A value of this type from what the user wrote. */
static struct entry parse_value(const char *key, size_t key_len, uint32_t type, const char *value) {
    char *end = NULL;
    errno = 0;
    int name = (int)key_len;
    if (type == GGUF_TYPE_STRING) return new_entry(key, key_len, type, value, strlen(value));
    if (type == GGUF_TYPE_ARRAY) die("'%.*s' is an array: arrays cannot be set", name, key);
    if (type == GGUF_TYPE_BOOL) {
        uint8_t yes = !strcmp(value, "true");
        if (!yes && strcmp(value, "false"))
            die("'%.*s' is true or false, not '%s'", name, key, value);
        return new_entry(key, key_len, type, &yes, 1);
    }
    if (type == GGUF_TYPE_FLOAT32 || type == GGUF_TYPE_FLOAT64) {
        double x = strtod(value, &end);
        float f = (float)x;
        if (end == value || *end) die("'%.*s' is a number, not '%s'", name, key, value);
        if (type == GGUF_TYPE_FLOAT32) return new_entry(key, key_len, type, &f, sizeof f);
        return new_entry(key, key_len, type, &x, sizeof x);
    }
    int bits = 8 * (int)types[type].size;
    bool is_signed = types[type].name[0] == 'i', fits;
    uint64_t x;
    if (is_signed) {
        int64_t i = strtoll(value, &end, 10), most = INT64_MAX >> (64 - bits);
        fits = i <= most && i >= -most - 1;
        x = (uint64_t)i;
    } else {
        x = strtoull(value, &end, 10);
        fits = x <= UINT64_MAX >> (64 - bits) && !strchr(value, '-');
    }
    if (end == value || *end || errno || !fits)
        die("'%.*s' is a whole number of type %s, not '%s'", name, key, types[type].name, value);
    return new_entry(key, key_len, type, &x, types[type].size);
}

static void set_value(struct output *o, const char *text) {
    const char *equals = strchr(text, '=');
    if (!equals || equals == text) die("--set needs KEY=VALUE, not '%s'", text);
    struct text key = {0};
    text_add(&key, text, (size_t)(equals - text));
    const struct entry *old = find(o->entries, o->n_entries, key.data);
    if (!old) die("there is no '%s', whose type its new value could have", key.data);
    set_entry(o, parse_value(old->key, old->key_len, old->type, equals + 1));
    text_free(&key);
}

/* ---- splits ---- */

static const char no_key[] = "split.no", count_key[] = "split.count",
                  tensors_key[] = "split.tensors.count";

/* Where each file ends, in tensors: by their number, or when it is not 0 by their bytes. */
static size_t next_split(const struct output *all, size_t from, uint64_t max_tensors,
                         uint64_t max_size) {
    uint64_t size = 0;
    for (size_t i = from; i < all->n_tensors; i++) {
        size += all->tensors[i].size;
        if (i > from && (max_size ? size > max_size : i - from >= max_tensors)) return i;
    }
    return all->n_tensors;
}

static void split(const struct output *all, const struct file *f, const char *prefix,
                  uint64_t max_tensors, uint64_t max_size) {
    if (find(all->entries, all->n_entries, count_key)) die("'%s' is a split already", f->path);
    uint32_t n = 0;
    for (size_t at = 0; n == 0 || at < all->n_tensors; n++)
        at = next_split(all, at, max_tensors, max_size);
    if (n > UINT16_MAX) die("that makes %u files, more than the format can number", n);
    int32_t n_tensors = (int32_t)all->n_tensors;
    for (size_t i = 0, from = 0; i < n; i++) {
        uint16_t no = (uint16_t)i, count = (uint16_t)n;
        struct output one = {0};
        for (size_t k = 0; i == 0 && k < all->n_entries; k++) set_entry(&one, all->entries[k]);
        struct text kept[3] = {{0}};
        text_add(&kept[0], (const char *)&no, 2);
        text_add(&kept[1], (const char *)&count, 2);
        text_add(&kept[2], (const char *)&n_tensors, 4);
        const char *const keys[] = {no_key, count_key, tensors_key};
        const uint32_t key_types[] = {GGUF_TYPE_UINT16, GGUF_TYPE_UINT16, GGUF_TYPE_INT32};
        for (size_t k = 0; k < 3; k++)
            set_entry(&one, (struct entry){keys[k], strlen(keys[k]), key_types[k],
                                           (const uint8_t *)kept[k].data, kept[k].len});
        size_t to = next_split(all, from, max_tensors, max_size);
        one.tensors = all->tensors + from;
        one.n_tensors = to - from;
        struct text path = {0};
        text_addf(&path, "%s-%05zu-of-%05u.gguf", prefix, i + 1, n);
        write_file(&one, path.data, f->base, f->version);
        printf("%s: %zu tensors\n", path.data, one.n_tensors);
        for (size_t k = 0; k < 3; k++) text_free(&kept[k]);
        text_free(&path);
        free(one.entries);
        from = to;
    }
}

/* Adds the other files of a set to the first one. They are kept open: the tensors are theirs. */
static struct file *merge(struct output *all, const struct file *first, size_t *n_more) {
    int64_t count = number(find(first->entries, first->n_entries, count_key));
    int64_t total = number(find(first->entries, first->n_entries, tensors_key));
    if (count < 1 || count > UINT16_MAX || number(find(first->entries, first->n_entries, no_key)))
        die("'%s' is not the first file of a split model", first->path);
    char ending[32];
    snprintf(ending, sizeof ending, "-00001-of-%05d.gguf", (int)count);
    size_t len = strlen(first->path), end = strlen(ending);
    if (len <= end || strcmp(first->path + len - end, ending))
        die("'%s' should be named ...%s", first->path, ending);
    *n_more = (size_t)count - 1;
    struct file *more = xrealloc(NULL, *n_more * sizeof *more);
    for (int i = 2; i <= (int)count; i++) {
        struct text path = {0};
        text_addf(&path, "%.*s-%05d-of-%05d.gguf", (int)(len - end), first->path, i, (int)count);
        struct file *f = &more[i - 2];
        open_file(f, path.data);
        if (number(find(f->entries, f->n_entries, no_key)) != i - 1)
            die("'%s' is not file %d of the split model", path.data, i);
        add_file(all, f, false);
        text_free(&path);
    }
    if (total >= 0 && (uint64_t)total != all->n_tensors)
        die("the files have %zu tensors, %lld were split", all->n_tensors, (long long)total);
    remove_entry(all, no_key);
    remove_entry(all, count_key);
    remove_entry(all, tensors_key);
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
    static struct names set, removed;
    const struct flag flags[] = {
        {FLAG_STRING, {"-m", "--model"}, "FILE", &path, "the GGUF file (or give it without a flag)", 0, 0},
        {FLAG_BOOL, {"--json"}, 0, &json, "show it as JSON, arrays only with their length", 0, 0},
        {FLAG_BOOL, {"--json-array"}, 0, &arrays, "the same with all of the arrays", 0, 0},
        {FLAG_STRING, {"-o", "--output"}, "FILE", &out, "the file to write; with --split what the names begin with", 0, 0},
        {FLAG_LIST, {"--set"}, "KEY=VALUE", &set, "another value for an entry", 0, 0},
        {FLAG_LIST, {"--remove"}, "KEY", &removed, "leave an entry out", 0, 0},
        {FLAG_BOOL, {"--split"}, 0, &to_split, "write several files", 0, 0},
        {FLAG_INT, {"--split-max-tensors"}, "N", &max_tensors, "most tensors in one of them", 1, INT32_MAX},
        {FLAG_STRING, {"--split-max-size"}, "N(M|G)", &max_size, "most megabytes or gigabytes of tensors in one of them", 0, 0},
        {FLAG_BOOL, {"--merge"}, 0, &to_merge, "write one file of all of a split model; -m is the first", 0, 0},
    };
    parse_flags(argc, argv, "shows, edits, splits and merges GGUF files", flags,
                sizeof flags / sizeof *flags, &path);
    if (!path) die("no file: give it with -m FILE");
    uint64_t bytes = max_size ? parse_size(max_size) : 0;
    bool edits = set.len || removed.len || to_split || to_merge;
    if (edits && !out) die("the new file needs a name: -o FILE");
    if (out && !edits) die("-o needs something to do: --set, --remove, --split or --merge");
    if (to_split && to_merge) die("--split and --merge are opposites: use one of them");
    catch_sigint();
    log_init(false);

    static struct file file;
    open_file(&file, path);
    if (!edits) {
        if (json || arrays) show_json(&file, arrays);
        else show(&file);
    } else {
        static struct output all;
        static struct file *more;
        size_t n_more = 0;
        add_file(&all, &file, true);
        if (to_merge) more = merge(&all, &file, &n_more);
        for (size_t i = 0; i < removed.len; i++)
            if (!remove_entry(&all, removed.data[i])) die("there is no '%s'", removed.data[i]);
        for (size_t i = 0; i < set.len; i++) set_value(&all, set.data[i]);
        if (to_split) split(&all, &file, out, (uint64_t)max_tensors, bytes);
        else write_file(&all, out, file.base, file.version);
        for (size_t i = 0; i < n_more; i++) close_file(&more[i]);
        free(more);
        free(all.entries);
        free(all.tensors);
        for (size_t i = 0; i < n_values; i++) {
            text_free(values[i]);
            free(values[i]);
        }
    }
    close_file(&file);
    names_free(&set);
    names_free(&removed);
    return 0;
}
