/* GGUF files byte by byte (version 2 and 3, also PowerInfer's magic): what is in them, and new ones of
 * the same parts. What is not changed goes over as it is. */
#ifndef POWERINFER_EXAMPLES_CONTAINER_H
#define POWERINFER_EXAMPLES_CONTAINER_H

#include "common.h"
#include "gguf.h"

/* ---- reading: names and bytes belong to the file's map ---- */

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
    const uint8_t *data; /* NULL in a draft: made when it is written */
};

struct container {
    const char *path;
    const uint8_t *base, *end, *at; /* at: how far it is read */
    uint32_t version;
    struct entry *entries;
    struct tensor *tensors;
    uint64_t n_entries, n_tensors, data_offset;
};

/* Names of values' types, and their bytes; 0: strings and arrays, which say it themselves. */
extern const struct value_type {
    const char *name;
    size_t size;
} value_types[GGUF_TYPE_COUNT];

/* Maps a file and reads its head, or dies. The path stays the caller's. */
void container_open(struct container *file, const char *path);
void container_close(struct container *file);

/* The entry of this key; NULL without one. */
const struct entry *entry_find(const struct entry *entries, size_t n, const char *key);

/* A whole number of any type; -1: there is none. */
int64_t entry_number(const struct entry *entry);

/* Whether it is a string, this one. */
bool entry_is(const struct entry *entry, const char *text);

/* ---- writing ---- */

/* What a new file gets. Start from {0}. */
struct draft {
    struct entry *entries;
    struct tensor *tensors;
    size_t n_entries, n_tensors;
    /* For tensors without data: their bytes, good until the next call. */
    const uint8_t *(*make)(void *to, const struct tensor *tensor);
    void *make_to;
};

/* Takes the tensors of a file, and its entries when they are wanted. */
void draft_add(struct draft *draft, const struct container *file, bool entries);

/* Adds an entry, or puts it in place of the one with its key. */
void draft_set(struct draft *draft, struct entry entry);
/* False: there is none. */
bool draft_remove(struct draft *draft, const char *key);

/* Writes the file, which has its name only when it is whole: it may be the one that is read. Dies, or
 * ends the program after Ctrl-C. */
void draft_write(const struct draft *draft, const char *path, const uint8_t *magic, uint32_t version);

/* Bytes of the file that draft_write makes. */
uint64_t draft_size(const struct draft *draft, const char *path);

void draft_free(struct draft *draft);

#endif
