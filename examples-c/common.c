#define _GNU_SOURCE /* sched_getaffinity */
#include "common.h"

#include "ggml-backend.h"

#include <errno.h>
#include <sched.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

static const char *program = "powerinfer";

/* ---- errors and memory ---- */

static void print_line(const char *format, va_list args) {
    fflush(stdout);
    fprintf(stderr, "%s: ", program);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
}

void note(const char *format, ...) {
    va_list args;
    va_start(args, format);
    print_line(format, args);
    va_end(args);
}

void die(const char *format, ...) {
    va_list args;
    va_start(args, format);
    print_line(format, args);
    va_end(args);
    exit(1);
}

void *xrealloc(void *old, size_t size) {
    void *grown = realloc(old, size ? size : 1);
    if (!grown) die("out of memory: %zu bytes", size);
    return grown;
}

void names_push(struct names *names, const char *name) {
    if (names->len == names->cap) {
        names->cap = 2 * names->cap + 4;
        names->data = xrealloc(names->data, names->cap * sizeof *names->data);
    }
    names->data[names->len++] = name;
}

void names_free(struct names *names) {
    free(names->data);
    *names = (struct names){0};
}

/* ---- flags ---- */

static void print_help(const char *what, const struct flag *flags, size_t n_flags) {
    printf("%s: %s\n\n", program, what);
    for (size_t i = 0; i < n_flags; i++) {
        const struct flag *flag = &flags[i];
        if (flag->kind == FLAG_HEADING) {
            printf("%s%s\n", i ? "\n" : "", flag->help);
            continue;
        }
        char left[64] = "";
        for (size_t k = 0; k < 3 && flag->names[k]; k++) {
            if (k) strncat(left, ", ", sizeof left - strlen(left) - 1);
            strncat(left, flag->names[k], sizeof left - strlen(left) - 1);
        }
        if (flag->value) {
            strncat(left, " ", sizeof left - strlen(left) - 1);
            strncat(left, flag->value, sizeof left - strlen(left) - 1);
        }
        if (strlen(left) > 28) printf("  %s\n  %-28s %s", left, "", flag->help);
        else printf("  %-28s %s", left, flag->help);
        if (flag->kind == FLAG_INT) printf(" (default: %lld)", (long long)*(int64_t *)flag->out);
        if (flag->kind == FLAG_FLOAT) printf(" (default: %g)", *(double *)flag->out);
        putchar('\n');
    }
    printf("  %-28s %s\n", "-h, --help", "show this text");
}

static int64_t whole_number(const struct flag *flag, const char *name, const char *value) {
    char *end = NULL;
    errno = 0;
    long long number = strtoll(value, &end, 10);
    if (end == value || *end || errno || (double)number < flag->min || (double)number > flag->max)
        die("%s needs a whole number between %.0f and %.0f, not '%s'", name, flag->min, flag->max,
            value);
    return number;
}

static void set_value(const struct flag *flag, const char *name, char **values) {
    const char *value = values[0];
    char *end = NULL;
    switch (flag->kind) {
    case FLAG_PAIR:
        ((int64_t *)flag->out)[1] = whole_number(flag, name, values[1]);
        /* fall through */
    case FLAG_INT:
        *(int64_t *)flag->out = whole_number(flag, name, value);
        break;
    case FLAG_LIST:
        names_push(flag->out, value);
        break;
    case FLAG_FLOAT: {
        double number = strtod(value, &end);
        if (end == value || *end || !(number >= flag->min && number <= flag->max))
            die("%s needs a number between %g and %g, not '%s'", name, flag->min, flag->max, value);
        *(double *)flag->out = number;
        break;
    }
    default:
        *(const char **)flag->out = value;
    }
}

void parse_flags(int argc, char **argv, const char *what, const struct flag *flags, size_t n_flags,
                 const char **rest) {
    const char *slash = argc > 0 ? strrchr(argv[0], '/') : NULL;
    if (argc > 0) program = slash ? slash + 1 : argv[0];

    for (int i = 1; i < argc; i++) {
        const char *name = argv[i];
        if (!strcmp(name, "-h") || !strcmp(name, "--help")) {
            print_help(what, flags, n_flags);
            exit(0);
        }
        const struct flag *found = NULL;
        for (size_t k = 0; k < n_flags && !found; k++)
            for (size_t j = 0; j < 3 && flags[k].names[j]; j++)
                if (!strcmp(name, flags[k].names[j])) found = &flags[k];

        if (!found) {
            if (name[0] == '-' && name[1]) die("unknown flag '%s' (-h lists them)", name);
            if (!rest) die("unexpected argument '%s' (-h shows what there is)", name);
            *rest = name;
        } else if (found->kind == FLAG_BOOL || found->kind == FLAG_NOT) {
            *(bool *)found->out = found->kind == FLAG_BOOL;
        } else {
            int n = found->kind == FLAG_PAIR ? 2 : 1;
            if (i + n >= argc)
                die("%s needs %s: %s %s", name, n == 2 ? "two values" : "a value", name,
                    found->value);
            set_value(found, name, argv + i + 1);
            i += n;
        }
    }
}

/* ---- text ---- */

void text_add(struct text *text, const char *data, size_t len) {
    if (text->len + len + 1 > text->cap) {
        text->cap = 2 * (text->len + len + 1);
        text->data = xrealloc(text->data, text->cap);
    }
    if (len) memcpy(text->data + text->len, data, len);
    text->len += len;
    text->data[text->len] = '\0';
}

void text_free(struct text *text) {
    free(text->data);
    *text = (struct text){0};
}

void text_add_file(struct text *text, const char *path) {
    FILE *file = !strcmp(path, "-") ? stdin : fopen(path, "rb");
    if (!file) die("cannot open '%s': %s", path, strerror(errno));
    char chunk[1 << 16];
    size_t got;
    text_add(text, "", 0);
    while ((got = fread(chunk, 1, sizeof chunk, file)) > 0) text_add(text, chunk, got);
    if (ferror(file)) die("cannot read '%s': %s", path, strerror(errno));
    if (file != stdin) fclose(file);
}

void text_unescape(struct text *text) {
    static const char from[] = "ntr\"'\\", to[] = "\n\t\r\"'\\";
    size_t out = 0;
    for (size_t in = 0; in < text->len; in++) {
        char c = text->data[in];
        const char *hit = NULL;
        if (c == '\\' && in + 1 < text->len) hit = strchr(from, text->data[in + 1]);
        if (hit && *hit) {
            c = to[hit - from];
            in++;
        }
        text->data[out++] = c;
    }
    text->len = out;
    if (text->data) text->data[out] = '\0';
}

/* ---- tokens ---- */

static void tokens_reserve(struct tokens *tokens, size_t more) {
    if (tokens->len + more > tokens->cap) {
        tokens->cap = 2 * (tokens->len + more);
        tokens->data = xrealloc(tokens->data, tokens->cap * sizeof *tokens->data);
    }
}

void tokens_push(struct tokens *tokens, llama_token token) {
    tokens_reserve(tokens, 1);
    tokens->data[tokens->len++] = token;
}

void tokens_free(struct tokens *tokens) {
    free(tokens->data);
    *tokens = (struct tokens){0};
}

void tokens_add_text(struct tokens *tokens, const struct llama_vocab *vocab, const char *text,
                     size_t len, bool add_special, bool parse_special) {
    if (len > INT32_MAX / 2) die("the text is too long to be tokenized: %zu bytes", len);
    /* Asked with no room, the answer is minus the number of tokens needed. */
    int32_t none = llama_tokenize(vocab, text, (int32_t)len, NULL, 0, add_special, parse_special);
    if (none == INT32_MIN) die("the text is too long to be tokenized: %zu bytes", len);
    if (none >= 0) return; /* no tokens at all */
    int32_t need = -none;
    tokens_reserve(tokens, (size_t)need);
    int32_t got = llama_tokenize(vocab, text, (int32_t)len, tokens->data + tokens->len, need,
                                 add_special, parse_special);
    if (got < 0) die_with_reason("cannot tokenize the text");
    tokens->len += (size_t)got;
}

void token_piece(struct text *text, const struct llama_vocab *vocab, llama_token token,
                 bool special) {
    text->len = 0;
    text_add(text, "", 0);
    if (text->cap < 64) {
        text->cap = 64;
        text->data = xrealloc(text->data, text->cap);
    }
    int32_t n = llama_token_to_piece(vocab, token, text->data, (int32_t)text->cap - 1, 0, special);
    if (n < 0) { /* minus the room it needs */
        text->cap = (size_t)-n + 1;
        text->data = xrealloc(text->data, text->cap);
        n = llama_token_to_piece(vocab, token, text->data, -n, 0, special);
        if (n < 0) die("token %d has no text", token);
    }
    text->len = (size_t)n;
    text->data[n] = '\0';
}

/* ---- streaming UTF-8 ---- */

/* Bytes at the end of data that begin a character but do not finish it (0 to 3). */
static size_t unfinished_bytes(const char *data, size_t len) {
    for (size_t back = 1; back <= 3 && back <= len; back++) {
        unsigned char byte = (unsigned char)data[len - back];
        if ((byte & 0xC0) == 0x80) continue; /* a following byte: look further back */
        size_t whole = byte >= 0xF0 ? 4 : byte >= 0xE0 ? 3 : byte >= 0xC0 ? 2 : 1;
        return whole > back ? back : 0;
    }
    return 0;
}

void utf8_write(struct utf8_stream *stream, FILE *file, const char *data, size_t len) {
    /* Finish the waiting character first, a byte at a time: it takes at most three. */
    while (stream->len && len) {
        if (((unsigned char)*data & 0xC0) != 0x80) {
            utf8_flush(stream, file); /* it was never going to be one: show it as it is */
            break;
        }
        stream->pending[stream->len++] = *data++;
        len--;
        if (!unfinished_bytes(stream->pending, stream->len)) utf8_flush(stream, file);
    }
    size_t keep = stream->len ? 0 : unfinished_bytes(data, len);
    fwrite(data, 1, len - keep, file);
    memcpy(stream->pending + stream->len, data + len - keep, keep);
    stream->len += keep;
    fflush(file);
}

void utf8_flush(struct utf8_stream *stream, FILE *file) {
    fwrite(stream->pending, 1, stream->len, file);
    stream->len = 0;
    fflush(file);
}

/* ---- library ---- */

static struct {
    bool verbose;
    enum ggml_log_level level; /* of the line being continued */
    char first_error[1024];
    bool complete; /* first_error got its newline */
} logged;

static void on_log(enum ggml_log_level level, const char *line, void *user_data) {
    (void)user_data;
    if (level != GGML_LOG_LEVEL_CONT) logged.level = level;
    if (logged.verbose || logged.level == GGML_LOG_LEVEL_WARN) fputs(line, stderr);
    if (logged.level == GGML_LOG_LEVEL_ERROR && !logged.complete) {
        strncat(logged.first_error, line, sizeof logged.first_error - strlen(logged.first_error) - 1);
        size_t end = strcspn(logged.first_error, "\n");
        logged.complete = logged.first_error[end] == '\n';
        logged.first_error[end] = '\0';
    }
}

void log_init(bool verbose) {
    logged.verbose = verbose;
    llama_log_set(on_log, NULL);
}

void log_forget(void) {
    logged.first_error[0] = '\0';
    logged.complete = false;
}

void die_with_reason(const char *format, ...) {
    char what[2048];
    va_list args;
    va_start(args, format);
    vsnprintf(what, sizeof what, format, args);
    va_end(args);
    if (logged.first_error[0]) die("%s: %s", what, logged.first_error);
    die("%s", what);
}

static bool show_progress(float progress, void *user_data) {
    enum { WIDTH = 40 };
    const volatile sig_atomic_t *cancel = user_data;
    if (cancel && *cancel) return false;
    static int shown = -1;
    int percent = (int)(progress * 100.0F);
    if (percent == shown || !isatty(STDERR_FILENO)) return true;
    shown = percent;
    char bar[WIDTH + 1];
    for (int i = 0; i < WIDTH; i++) bar[i] = i * 100 < percent * WIDTH ? '#' : '.';
    bar[WIDTH] = '\0';
    fprintf(stderr, "\rloading [%s] %3d %%", bar, percent);
    if (percent >= 100) { /* the bar has done its work: clear its line */
        fputs("\r\033[K", stderr);
        shown = -1;
    }
    fflush(stderr);
    return true;
}

struct llama_model *load_model(const char *path, struct llama_model_params params,
                               const volatile sig_atomic_t *cancel) {
    if (!path) die("no model: give its file with -m FILE");
    params.progress_callback = show_progress;
    params.progress_callback_user_data = (void *)cancel;
    log_forget();
    struct llama_model *model = llama_model_load_from_file(path, params);
    if (!model) {
        if (isatty(STDERR_FILENO)) fputs("\r\033[K", stderr);
        if (cancel && *cancel) {
            note("interrupted while loading '%s'", path);
            exit(130);
        }
        die_with_reason("cannot load the model '%s'", path);
    }
    return model;
}

void show_devices(void) {
    puts("devices:");
    for (size_t i = 0; i < ggml_backend_dev_count(); i++) {
        ggml_backend_dev_t device = ggml_backend_dev_get(i);
        size_t free, total;
        ggml_backend_dev_memory(device, &free, &total);
        printf("  %s: %s (%zu MiB, %zu MiB free)\n", ggml_backend_dev_name(device),
               ggml_backend_dev_description(device), total >> 20, free >> 20);
    }
    exit(0);
}

void use_gpus(const struct gpu_options *gpu, struct llama_model_params *params) {
    static ggml_backend_dev_t chosen[17]; /* ends with NULL */
    params->main_gpu = (int32_t)gpu->main_gpu;
    if (!gpu->devices) return;
    params->devices = chosen;
    if (!strcmp(gpu->devices, "none")) return;
    size_t n = 0;
    for (const char *at = gpu->devices; *at;) {
        size_t len = strcspn(at, ",");
        char name[64];
        snprintf(name, sizeof name, "%.*s", (int)len, at);
        ggml_backend_dev_t device = ggml_backend_dev_by_name(name);
        if (!device) die("there is no device '%s' (--list-devices shows them)", name);
        if (n + 1 == sizeof chosen / sizeof *chosen) die("--device has more than %zu names", n);
        chosen[n++] = device;
        at += len + (at[len] == ',');
    }
}

int default_threads(void) {
    cpu_set_t allowed;
    if (sched_getaffinity(0, sizeof allowed, &allowed) == 0) return CPU_COUNT(&allowed);
    long online = sysconf(_SC_NPROCESSORS_ONLN);
    return online > 0 ? (int)online : 1;
}

double now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

double peak_rss_mib(void) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)usage.ru_maxrss / 1024.0; /* Linux counts it in KiB */
}
