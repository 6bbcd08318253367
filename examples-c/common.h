/* What the example programs share: flags, files, tokens, streaming output, one-line errors.
 *
 * Everything here uses the public header llama.h and POSIX only. Programs end through die() when
 * something is wrong: one line on stderr that starts with the program's name, exit code 1. */
#ifndef POWERINFER_EXAMPLES_COMMON_H
#define POWERINFER_EXAMPLES_COMMON_H

#include "llama.h"

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- errors and memory ---- */

/* Prints "program: message" on stderr and exits with code 1. */
#if defined(__GNUC__)
__attribute__((noreturn, format(printf, 1, 2)))
#endif
void die(const char *format, ...);

/* Prints "program: message" on stderr and returns. */
#if defined(__GNUC__)
__attribute__((format(printf, 1, 2)))
#endif
void note(const char *format, ...);

/* realloc that dies instead of returning NULL. */
void *xrealloc(void *old, size_t size);

/* A growing list of strings that belong to someone else. Start from {0}. */
struct names {
    const char **data;
    size_t len, cap;
};
void names_push(struct names *names, const char *name);
void names_free(struct names *names);

/* ---- flags ---- */

enum flag_kind {
    FLAG_BOOL,    /* bool: present or not */
    FLAG_NOT,     /* bool: the flag makes it false */
    FLAG_INT,     /* int64_t, between min and max */
    FLAG_FLOAT,   /* double, between min and max */
    FLAG_STRING,  /* const char * */
    FLAG_LIST,    /* struct names: each use of the flag adds one */
    FLAG_PAIR,    /* int64_t[2], both between min and max: the flag has two values */
    FLAG_HEADING, /* a line in the help text, no flag */
};

struct flag {
    enum flag_kind kind;
    const char *names[3]; /* "-m", "--model"; unused ones NULL */
    const char *value;    /* what the help text calls the value: "N", "FILE"; NULL for a bool */
    void *out;            /* where it goes; what is there before parsing is the default */
    const char *help;
    double min, max; /* FLAG_INT, FLAG_FLOAT */
};

/* Parses argv by the table. "-h" and "--help" print the table and exit 0; a wrong flag dies with
 * one line. Arguments that are no flags go to *rest when rest is given (the last one wins). */
void parse_flags(int argc, char **argv, const char *what, const struct flag *flags, size_t n_flags,
                 const char **rest);

/* ---- text ---- */

/* A growing string, always NUL-terminated once something was added. Start from {0}. */
struct text {
    char *data;
    size_t len, cap;
};
void text_add(struct text *text, const char *data, size_t len);
void text_free(struct text *text);

/* Adds a whole file ("-" is stdin) or dies with the system's reason. */
void text_add_file(struct text *text, const char *path);

/* Replaces \n \t \r \" \' \\ by what they stand for; everything else stays. */
void text_unescape(struct text *text);

/* ---- tokens ---- */

/* A growing list of tokens. Start from {0}. */
struct tokens {
    llama_token *data;
    size_t len, cap;
};
void tokens_push(struct tokens *tokens, llama_token token);
void tokens_free(struct tokens *tokens);

/* Appends the tokens of text. add_special: let the vocabulary put its BOS/EOS around it;
 * parse_special: read "<|im_start|>" and the like as the tokens they name. */
void tokens_add_text(struct tokens *tokens, const struct llama_vocab *vocab, const char *text,
                     size_t len, bool add_special, bool parse_special);

/* Replaces what is in text by the bytes of one token. special: also show control tokens. */
void token_piece(struct text *text, const struct llama_vocab *vocab, llama_token token,
                 bool special);

/* ---- streaming UTF-8 ---- */

/* A character may arrive in two pieces: its first bytes wait here until it is whole. */
struct utf8_stream {
    char pending[4];
    size_t len;
};
void utf8_write(struct utf8_stream *stream, FILE *file, const char *data, size_t len);
/* Writes what still waits, whole or not. */
void utf8_flush(struct utf8_stream *stream, FILE *file);

/* ---- library ---- */

/* Routes the library's log. verbose: all of it to stderr; otherwise only warnings, and errors are
 * kept for the one line that die_with_reason prints. */
void log_init(bool verbose);

/* die(), with the first error the library logged since the last call of log_forget(). */
#if defined(__GNUC__)
__attribute__((noreturn, format(printf, 1, 2)))
#endif
void die_with_reason(const char *format, ...);
void log_forget(void);

/* Loads a model with a progress bar when stderr is a terminal, or dies. `cancel` (may be NULL)
 * ends the load with exit code 130 once it is not zero. */
struct llama_model *load_model(const char *path, struct llama_model_params params,
                               const volatile sig_atomic_t *cancel);

/* Which devices a model uses; flags for it. Start from GPU_DEFAULTS. */
struct gpu_options {
    int64_t main_gpu;
    const char *devices; /* "CUDA0,CUDA1", "none"; NULL: as main_gpu says */
    bool list;
};
#define GPU_DEFAULTS {0, NULL, false}
#define GPU_FLAGS(gpu)                                                                              \
    {FLAG_INT, {"-mg", "--main-gpu"}, "N", &(gpu).main_gpu, "which GPU of several, from 0", 0, 15}, \
    {FLAG_STRING, {"-dev", "--device"}, "NAMES", &(gpu).devices, "GPUs to choose from, by name; none: no GPU", 0, 0}, \
    {FLAG_BOOL, {"--list-devices"}, NULL, &(gpu).list, "show the devices and their memory, and end", 0, 0}

/* What --list-devices does: shows the devices and exits. */
#if defined(__GNUC__)
__attribute__((noreturn))
#endif
void show_devices(void);

/* Sets the devices of a model. A name that there is not dies. */
void use_gpus(const struct gpu_options *gpu, struct llama_model_params *params);

/* Number of CPUs this process may run on, the default for -t. */
int default_threads(void);

/* Monotonic time in milliseconds. */
double now_ms(void);

/* The most memory this process ever held, in MiB. */
double peak_rss_mib(void);

#ifdef __cplusplus
}
#endif

#endif
