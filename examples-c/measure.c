#define _POSIX_C_SOURCE 200809L /* isatty */
#include "measure.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- lists and choices in flags ---- */

void numbers_push(struct numbers *numbers, int32_t number) {
    if (numbers->len == numbers->cap) {
        numbers->cap = 2 * numbers->cap + 4;
        numbers->data = xrealloc(numbers->data, numbers->cap * sizeof *numbers->data);
    }
    numbers->data[numbers->len++] = number;
}

void numbers_free(struct numbers *numbers) {
    free(numbers->data);
    *numbers = (struct numbers){0};
}

/* Reads a number of the range and moves past it. */
static bool read_number(const char **at, long long min, long long max, long long *number) {
    char *end = NULL;
    errno = 0;
    *number = strtoll(*at, &end, 10);
    bool good = end != *at && !errno && *number >= min && *number <= max;
    *at = end;
    return good;
}

/* "8", "8-32", "8-32+8" or "8-32*2". */
static bool add_range(struct numbers *numbers, const char *text, int32_t min, int32_t max) {
    long long first, last, step = 1;
    char by = '+';
    if (!read_number(&text, min, max, &first)) return false;
    last = first;
    if (*text == '-') {
        text++;
        if (!read_number(&text, first, max, &last)) return false;
        if (*text == '+' || *text == '*') {
            by = *text++;
            if (!read_number(&text, 1, max, &step)) return false;
        }
    }
    if (*text || (by == '*' && (step < 2 || first < 1))) return false;
    for (long long number = first; number <= last; number = by == '+' ? number + step : number * step)
        numbers_push(numbers, (int32_t)number);
    return true;
}

void split_commas(const struct names *values, struct text *scratch, struct names *parts) {
    /* All of the text first: the parts point into it. */
    size_t n = 0;
    for (size_t i = 0; i < values->len; i++)
        text_add(scratch, values->data[i], strlen(values->data[i]) + 1);
    for (size_t start = 0; n < scratch->len; n++) {
        char c = scratch->data[n];
        if (c && c != ',') continue;
        scratch->data[n] = '\0';
        names_push(parts, scratch->data + start);
        start = n + 1;
    }
}

void numbers_parse(struct numbers *numbers, const char *flag, const struct names *values,
                   int32_t otherwise, int32_t min, int32_t max) {
    struct text scratch = {0};
    struct names parts = {0};
    split_commas(values, &scratch, &parts);
    for (size_t i = 0; i < parts.len; i++)
        if (!add_range(numbers, parts.data[i], min, max))
            die("%s needs numbers between %d and %d, as in 1,2,8-32*2, not '%s'", flag, min, max,
                parts.data[i]);
    if (!values->len) numbers_push(numbers, otherwise);
    names_free(&parts);
    text_free(&scratch);
}

int choice(const char *flag, const char *name, const char *const *names) {
    struct text all = {0};
    for (int i = 0; names[i]; i++) {
        if (!strcmp(names[i], name)) {
            text_free(&all);
            return i;
        }
        text_add(&all, i ? ", " : "", i ? 2 : 0);
        text_add(&all, names[i], strlen(names[i]));
    }
    die("%s is one of %s, not '%s'", flag, all.data, name);
}

enum ggml_type cache_type(const char *flag, const char *name) {
    for (int type = 0; type < GGML_TYPE_COUNT; type++) {
        const char *known = ggml_type_name((enum ggml_type)type);
        if (known && !strcmp(known, name)) return (enum ggml_type)type;
    }
    die("%s: no type is named '%s'; f16, bf16, f32, q8_0, q5_1, q5_0, q4_1, q4_0, iq4_nl are", flag,
        name);
}

enum llama_flash_attn_type flash_attention(const char *name) {
    if (!strcmp(name, "on") || !strcmp(name, "1")) return LLAMA_FLASH_ATTN_TYPE_ENABLED;
    if (!strcmp(name, "off") || !strcmp(name, "0")) return LLAMA_FLASH_ATTN_TYPE_DISABLED;
    if (!strcmp(name, "auto") || !strcmp(name, "-1")) return LLAMA_FLASH_ATTN_TYPE_AUTO;
    die("-fa is on, off or auto, not '%s'", name);
}

/* ---- tokens ---- */

llama_token random_token(const struct llama_vocab *vocab) {
    static uint32_t state = 1; /* Knuth's multiplier; the high bits are the good ones */
    state = state * 1664525U + 1013904223U;
    return (llama_token)((state >> 8) % (uint32_t)llama_vocab_n_tokens(vocab));
}

/* ---- progress ---- */

static bool shown;

void progress(const char *format, ...) {
    if (!isatty(STDERR_FILENO)) return;
    va_list args;
    va_start(args, format);
    fputs("\r\033[K", stderr);
    vfprintf(stderr, format, args);
    fflush(stderr);
    va_end(args);
    shown = true;
}

void progress_end(void) {
    if (shown) fputs("\r\033[K", stderr);
    shown = false;
}
