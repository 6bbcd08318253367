#define _POSIX_C_SOURCE 200809L
#include "container.h"
#include "generate.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

const struct value_type value_types[GGUF_TYPE_COUNT] = {
    {"u8", 1},   {"i8", 1},  {"u16", 2}, {"i16", 2}, {"u32", 4}, {"i32", 4}, {"f32", 4},
    {"bool", 1}, {"str", 0}, {"arr", 0}, {"u64", 8}, {"i64", 8}, {"f64", 8}};

/* ---- reading ---- */

static const uint8_t *take(struct container *f, uint64_t n) {
    if (n > (uint64_t)(f->end - f->at)) die("'%s' is cut off or damaged", f->path);
    const uint8_t *at = f->at;
    f->at += n;
    return at;
}

static uint32_t take_u32(struct container *f) {
    uint32_t x;
    memcpy(&x, take(f, sizeof x), sizeof x);
    return x;
}

static uint64_t take_u64(struct container *f) {
    uint64_t x;
    memcpy(&x, take(f, sizeof x), sizeof x);
    return x;
}

static const char *take_string(struct container *f, size_t *len) {
    *len = (size_t)take_u64(f);
    return (const char *)take(f, *len);
}

static void skip_value(struct container *f, uint32_t type) {
    size_t len;
    if (type >= GGUF_TYPE_COUNT) die("'%s' has a value of unknown type %u", f->path, type);
    if (value_types[type].size) {
        take(f, value_types[type].size);
    } else if (type == GGUF_TYPE_STRING) {
        take_string(f, &len);
    } else {
        uint32_t of = take_u32(f);
        uint64_t n = take_u64(f);
        if (of >= GGUF_TYPE_COUNT || of == GGUF_TYPE_ARRAY)
            die("'%s' has an array of type %u", f->path, of);
        if (value_types[of].size) {
            if (n > (uint64_t)(f->end - f->at)) die("'%s' is cut off or damaged", f->path);
            take(f, n * value_types[of].size);
        } else {
            for (uint64_t i = 0; i < n; i++) take_string(f, &len);
        }
    }
}

const struct entry *entry_find(const struct entry *entries, size_t n, const char *key) {
    for (size_t i = 0; i < n; i++)
        if (entries[i].key_len == strlen(key) && !memcmp(entries[i].key, key, entries[i].key_len))
            return &entries[i];
    return NULL;
}

int64_t entry_number(const struct entry *entry) {
    uint64_t x = 0;
    if (!entry || entry->size > sizeof x || entry->type == GGUF_TYPE_FLOAT32 ||
        entry->type == GGUF_TYPE_FLOAT64 || entry->type >= GGUF_TYPE_COUNT ||
        !value_types[entry->type].size)
        return -1;
    memcpy(&x, entry->value, entry->size);
    return x > INT64_MAX ? -1 : (int64_t)x;
}

bool entry_is(const struct entry *entry, const char *text) {
    const size_t len = strlen(text);
    return entry && entry->type == GGUF_TYPE_STRING && entry->size == 8 + len &&
           !memcmp(entry->value + 8, text, len);
}

static uint64_t alignment_of(const struct entry *entries, size_t n, const char *path) {
    const struct entry *entry = entry_find(entries, n, "general.alignment");
    if (!entry) return 32;
    int64_t a = entry_number(entry);
    if (a < 1 || a > 1 << 20 || (a & (a - 1)))
        die("'%s': general.alignment is no power of two up to 2^20", path);
    return (uint64_t)a;
}

static uint64_t align_up(uint64_t x, uint64_t alignment) {
    return (x + alignment - 1) / alignment * alignment;
}

static void read_tensor(struct container *f, struct tensor *t) {
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

void container_open(struct container *f, const char *path) {
    *f = (struct container){.path = path};
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

void container_close(struct container *f) {
    free(f->entries);
    free(f->tensors);
    munmap((void *)f->base, (size_t)(f->end - f->base));
}

/* ---- writing ---- */

void draft_set(struct draft *o, struct entry entry) {
    for (size_t i = 0; i < o->n_entries; i++) {
        struct entry *e = &o->entries[i];
        if (e->key_len != entry.key_len || memcmp(e->key, entry.key, e->key_len)) continue;
        *e = entry;
        return;
    }
    o->entries = xrealloc(o->entries, (o->n_entries + 1) * sizeof *o->entries);
    o->entries[o->n_entries++] = entry;
}

bool draft_remove(struct draft *o, const char *key) {
    const struct entry *found = entry_find(o->entries, o->n_entries, key);
    if (!found) return false;
    size_t i = (size_t)(found - o->entries);
    memmove(o->entries + i, o->entries + i + 1, (--o->n_entries - i) * sizeof *o->entries);
    return true;
}

void draft_add(struct draft *o, const struct container *f, bool entries) {
    for (uint64_t i = 0; entries && i < f->n_entries; i++) draft_set(o, f->entries[i]);
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

/* Adds everything before the data; returns the bytes of the data. */
static uint64_t add_head(struct text *head, const struct draft *d, uint64_t alignment,
                         const uint8_t *magic, uint32_t version) {
    uint64_t offset = 0;
    text_add(head, (const char *)magic, 4);
    add_int(head, version, 4);
    add_int(head, d->n_tensors, 8);
    add_int(head, d->n_entries, 8);
    for (size_t i = 0; i < d->n_entries; i++) {
        add_string(head, d->entries[i].key, d->entries[i].key_len);
        add_int(head, d->entries[i].type, 4);
        text_add(head, (const char *)d->entries[i].value, d->entries[i].size);
    }
    for (size_t i = 0; i < d->n_tensors; i++) {
        const struct tensor *t = &d->tensors[i];
        add_string(head, t->name, t->name_len);
        add_int(head, t->n_dims, 4);
        for (uint32_t k = 0; k < t->n_dims; k++) add_int(head, t->dims[k], 8);
        add_int(head, t->type, 4);
        add_int(head, offset, 8);
        offset = align_up(offset + t->size, alignment);
    }
    while (head->len % alignment) text_add(head, "", 1);
    return offset;
}

uint64_t draft_size(const struct draft *d, const char *path) {
    struct text head = {0};
    uint64_t size = add_head(&head, d, alignment_of(d->entries, d->n_entries, path),
                             (const uint8_t *)"GGUF", 3);
    size += head.len;
    text_free(&head);
    return size;
}

/* The data of a tensor, and zeros up to the next one. */
static bool write_tensor(const struct draft *d, const struct tensor *t, uint64_t alignment, FILE *file) {
    static const char zeros[1 << 12];
    const uint8_t *data = t->data ? t->data : d->make(d->make_to, t);
    bool good = fwrite(data, 1, t->size, file) == t->size;
    for (uint64_t pad = align_up(t->size, alignment) - t->size; pad && good;) {
        size_t n = pad < sizeof zeros ? (size_t)pad : sizeof zeros;
        good = fwrite(zeros, 1, n, file) == n;
        pad -= n;
    }
    return good;
}

void draft_write(const struct draft *d, const char *path, const uint8_t *magic, uint32_t version) {
    struct text head = {0}, partial = {0};
    const uint64_t alignment = alignment_of(d->entries, d->n_entries, path);
    const uint64_t total = add_head(&head, d, alignment, magic, version);
    text_addf(&partial, "%s.partial", path);
    FILE *file = fopen(partial.data, "wb");
    if (!file) die("cannot write '%s': %s", path, strerror(errno));
    bool good = fwrite(head.data, 1, head.len, file) == head.len;
    uint64_t done = 0;
    for (size_t i = 0; i < d->n_tensors && good && !interrupted; i++) {
        good = write_tensor(d, &d->tensors[i], alignment, file);
        done += d->tensors[i].size;
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

void draft_free(struct draft *d) {
    free(d->entries);
    free(d->tensors);
    *d = (struct draft){0};
}
