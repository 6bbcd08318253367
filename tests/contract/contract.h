/* Lines of the behaviour contract: what llama.h does beyond what its prototypes say.
 *
 * A line has a name, a sentence and a piece of C that says() what it saw. Every line runs in a
 * process of its own, so that a library that aborts costs one line: its answer then ends with
 * "aborts". The program prints "name: answer" for each, in the order of the source.
 *
 *   program MODELS SCRATCH [NAME]
 *
 * MODELS is the folder with the tiny models that the test made, SCRATCH one to write to. */
#ifndef POWERINFER_CONTRACT_H
#define POWERINFER_CONTRACT_H

#ifndef _POSIX_C_SOURCE
#define _POSIX_C_SOURCE 200809L
#endif

#include "llama.h"

#include <limits.h>
#include <math.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

struct contract_line {
    const char *name;
    void (*run)(void);
};

static struct contract_line contract_lines[128];
static size_t n_contract_lines;
static const char *models, *scratch;
static int said_to = -1; /* the pipe to the parent */

/* LINE(name, "The sentence.") { code } */
#define LINE(name, sentence)                                                                       \
    static void name(void);                                                                        \
    __attribute__((constructor)) static void name##_is_a_line(void) {                              \
        contract_lines[n_contract_lines++] = (struct contract_line){#name, name};                  \
    }                                                                                              \
    static void name(void)

/* Adds to the answer of the line that runs. */
__attribute__((format(printf, 1, 2), unused)) static void say(const char *format, ...) {
    char text[4096] = " ";
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text + 1, sizeof text - 1, format, arguments);
    va_end(arguments);
    for (char *c = text; *c; c++)
        if (*c == '\n') *c = '~';
    if (write(said_to, text, strlen(text)) < 0) _exit(3);
}

/* The line cannot be asked: something that it takes for granted failed. */
__attribute__((unused, noreturn)) static void broken(const char *what) {
    say("BROKEN(%s)", what);
    _exit(0);
}

static void no_log(enum ggml_log_level level, const char *text, void *data) {
    (void)level, (void)text, (void)data;
}

/* Whatever was logged at this level since log_count_from(). */
static int n_logged[8];
__attribute__((unused)) static void log_count(enum ggml_log_level level, const char *text, void *d) {
    (void)text, (void)d;
    if ((int)level >= 0 && level < 8) n_logged[level]++;
}

/* ---- what lines start from ---- */

__attribute__((unused)) static const char *file(const char *folder, const char *name) {
    static char paths[4][4096];
    static int next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}

__attribute__((unused)) static struct llama_model *load(const char *name) {
    struct llama_model_params params = llama_model_default_params();
    params.n_gpu_layers = 0;
    struct llama_model *model = llama_model_load_from_file(file(models, name), params);
    if (!model) broken(name);
    return model;
}

/* One thread, 256 cells: tiny models need no more. */
__attribute__((unused)) static struct llama_context_params small(void) {
    struct llama_context_params params = llama_context_default_params();
    params.n_ctx = 256;
    params.n_threads = params.n_threads_batch = 1;
    return params;
}

__attribute__((unused)) static struct llama_context *start(struct llama_model *model,
                                                           struct llama_context_params params) {
    struct llama_context *ctx = llama_init_from_model(model, params);
    if (!ctx) broken("context");
    return ctx;
}

/* The plainest context there is. */
__attribute__((unused)) static struct llama_context *plain(void) {
    return start(load("llama.gguf"), small());
}

/* Token i of a text that means nothing. */
__attribute__((unused)) static llama_token word(int i) { return 3 + (i * 7) % 80; }

/* Tokens first .. first+n of that text at the same positions of a sequence; only the last has
 * logits. The code of llama_decode. */
__attribute__((unused)) static int feed(struct llama_context *ctx, llama_seq_id seq, int first,
                                        int n) {
    struct llama_batch batch = llama_batch_init(n, 0, 1);
    for (int i = 0; i < n; i++) {
        batch.token[i] = word(first + i);
        batch.pos[i] = first + i;
        batch.n_seq_id[i] = 1;
        batch.seq_id[i][0] = seq;
        batch.logits[i] = i == n - 1;
    }
    batch.n_tokens = n;
    const int code = llama_decode(ctx, batch);
    llama_batch_free(batch);
    return code;
}

__attribute__((unused)) static void say_range(struct llama_context *ctx, llama_seq_id seq) {
    llama_memory_t memory = llama_get_memory(ctx);
    say("%d:%d..%d", seq, llama_memory_seq_pos_min(memory, seq),
        llama_memory_seq_pos_max(memory, seq));
}

/* ---- running ---- */

static void run_line(const struct contract_line *line) {
    int ends[2];
    if (pipe(ends)) exit(3);
    printf("%s:", line->name);
    fflush(stdout);
    const pid_t child = fork();
    if (child < 0) exit(3);
    if (child == 0) {
        said_to = ends[1];
        close(ends[0]);
        setenv("GGML_NO_BACKTRACE", "1", 1);
        if (!getenv("CONTRACT_VERBOSE") && !freopen("/dev/null", "w", stderr)) _exit(3);
        alarm(60);
        llama_log_set(getenv("CONTRACT_VERBOSE") ? NULL : no_log, NULL);
        llama_backend_init();
        line->run();
        _exit(0);
    }
    close(ends[1]);
    char said[512];
    for (ssize_t n; (n = read(ends[0], said, sizeof said)) > 0;) fwrite(said, 1, (size_t)n, stdout);
    close(ends[0]);
    int status = 0;
    waitpid(child, &status, 0);
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT) printf(" aborts");
    else if (WIFSIGNALED(status)) printf(" dies of signal %d", WTERMSIG(status));
    else if (WEXITSTATUS(status)) printf(" exits with %d", WEXITSTATUS(status));
    printf("\n");
}

int main(int argc, char **argv) {
    if (argc < 3) {
        fprintf(stderr, "usage: %s MODELS SCRATCH [NAME]\n", argv[0]);
        return 2;
    }
    models = argv[1];
    scratch = argv[2];
    for (size_t i = 0; i < n_contract_lines; i++)
        if (argc == 3 || !strcmp(argv[3], contract_lines[i].name)) run_line(&contract_lines[i]);
    return 0;
}

#endif
