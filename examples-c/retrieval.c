/* Finds the passages of some files that are nearest in meaning to a question.
 *
 *   retrieval -m model.gguf --context-file README.md,LICENSE --chunk-size 100 --top-k 3
 *   retrieval -m model.gguf --context-file book.txt -p "Who is the captain?" --json
 *
 * The files are cut into chunks: each ends at a separator and is longer than --chunk-size bytes; what
 * is left at the end of a file belongs to its last chunk. A chunk and a question are a vector each, as
 * `embedding` makes them, and the nearest chunks are those with the greatest cosine. Without -p the
 * questions are lines on stdin. */
#define _POSIX_C_SOURCE 200809L /* isatty */
#include "embed.h"
#include "measure.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct options {
    struct embed_options embed;
    struct names files;
    int64_t n_gpu_layers, chunk_size, top_k;
    const char *path, *prompt, *pooling, *separator;
    bool json;
};

/* Part of a file; the bytes belong to the file's text. */
struct chunk {
    const char *file, *data;
    size_t at, len; /* at: of the first byte in the file */
};

struct chunks {
    struct chunk *data;
    size_t len, cap;
};

/* ---- files ---- */

static void push(struct chunks *chunks, struct chunk chunk) {
    if (chunks->len == chunks->cap) {
        chunks->cap = 2 * chunks->cap + 16;
        chunks->data = xrealloc(chunks->data, chunks->cap * sizeof *chunks->data);
    }
    chunks->data[chunks->len++] = chunk;
}

/* Adds a file's chunks. */
static void cut(struct chunks *chunks, const char *file, const struct text *text,
                const struct text *separator, size_t chunk_size) {
    const size_t n_before = chunks->len;
    size_t start = 0;
    for (size_t at = 0; at + separator->len <= text->len;) {
        if (memcmp(text->data + at, separator->data, separator->len) != 0) {
            at++;
            continue;
        }
        at += separator->len;
        if (at - start <= chunk_size) continue;
        push(chunks, (struct chunk){file, text->data + start, start, at - start});
        start = at;
    }
    const size_t left = text->len - start;
    if (!left) return;
    if (chunks->len > n_before) chunks->data[chunks->len - 1].len += left;
    else push(chunks, (struct chunk){file, text->data, 0, left});
}

/* ---- vectors ---- */

/* The tokens of a text, as many as fit a batch; false: there are more. */
static bool tokenize(struct llama_context *ctx, const char *data, size_t len, struct tokens *tokens) {
    const struct llama_vocab *vocab = llama_model_get_vocab(llama_get_model(ctx));
    tokens_add_text(tokens, vocab, data, len, true, false);
    return tokens->len <= llama_n_batch(ctx);
}

static void embed_chunks(struct llama_context *ctx, const struct chunks *chunks, struct rows *rows) {
    struct tokens *tokens = xrealloc(NULL, chunks->len * sizeof *tokens);
    for (size_t i = 0; i < chunks->len; i++) {
        const struct chunk *c = &chunks->data[i];
        tokens[i] = (struct tokens){0};
        if (!tokenize(ctx, c->data, c->len, &tokens[i]))
            die("the chunk at byte %zu of '%s' has %zu tokens, a batch %u: use a larger -b or other "
                "separators", c->at, c->file, tokens[i].len, llama_n_batch(ctx));
        if (!tokens[i].len) die("the chunk at byte %zu of '%s' has no tokens", c->at, c->file);
    }
    embed(ctx, tokens, chunks->len, rows, 2);
    for (size_t i = 0; i < chunks->len; i++) tokens_free(&tokens[i]);
    free(tokens);
}

/* ---- questions ---- */

struct hit {
    size_t chunk;
    double similarity;
};

/* The most alike first; of equals the one that comes first in the files. */
static int by_similarity(const void *a, const void *b) {
    const struct hit *x = a, *y = b;
    if (x->similarity != y->similarity) return x->similarity < y->similarity ? 1 : -1;
    return (x->chunk > y->chunk) - (x->chunk < y->chunk);
}

static void print_hits(const struct chunks *chunks, const struct hit *hits, size_t n) {
    printf("Top %zu similar chunks:\n", n);
    for (size_t i = 0; i < n; i++) {
        const struct chunk *c = &chunks->data[hits[i].chunk];
        printf("filename: %s\nfilepos: %zu\nsimilarity: %f\ntextdata:\n", c->file, c->at,
               hits[i].similarity);
        fwrite(c->data, 1, c->len, stdout);
        puts("\n--------------------");
    }
    fflush(stdout);
}

static void print_json(const char *query, size_t len, const struct chunks *chunks,
                       const struct hit *hits, size_t n) {
    struct text line = {0};
    text_addf(&line, "{\"query\": ");
    text_add_json(&line, query, len);
    text_addf(&line, ", \"results\": [");
    for (size_t i = 0; i < n; i++) {
        const struct chunk *c = &chunks->data[hits[i].chunk];
        text_addf(&line, "%s{\"filename\": ", i ? ", " : "");
        text_add_json(&line, c->file, strlen(c->file));
        text_addf(&line, ", \"filepos\": %zu, \"similarity\": %.6f, \"textdata\": ", c->at,
                  hits[i].similarity);
        text_add_json(&line, c->data, c->len);
        text_addf(&line, "}");
    }
    text_addf(&line, "]}");
    puts(line.data);
    fflush(stdout);
    text_free(&line);
}

/* Answers one question; false: it is too long, which is said. */
static bool answer(struct llama_context *ctx, const struct options *o, const struct chunks *chunks,
                   const struct rows *rows, const char *query, size_t len) {
    struct tokens tokens = {0};
    if (!tokenize(ctx, query, len, &tokens) || !tokens.len) {
        note("the question has %zu tokens, a batch from 1 to %u (see -b)", tokens.len,
             llama_n_batch(ctx));
        tokens_free(&tokens);
        return false;
    }
    struct rows one = {.n_embd = rows->n_embd};
    embed(ctx, &tokens, 1, &one, 2);
    struct hit *hits = xrealloc(NULL, chunks->len * sizeof *hits);
    for (size_t i = 0; i < chunks->len; i++)
        hits[i] = (struct hit){i, cosine(rows->data + i * rows->n_embd, one.data, rows->n_embd)};
    qsort(hits, chunks->len, sizeof *hits, by_similarity);
    const size_t n = (size_t)o->top_k < chunks->len ? (size_t)o->top_k : chunks->len;
    if (o->json) print_json(query, len, chunks, hits, n);
    else print_hits(chunks, hits, n);
    free(hits);
    free(one.data);
    tokens_free(&tokens);
    return true;
}

/* Lines of stdin, until it ends or Ctrl-C. Empty ones are no questions. */
static void answer_lines(struct llama_context *ctx, const struct options *o,
                         const struct chunks *chunks, const struct rows *rows) {
    char *line = NULL;
    size_t cap = 0;
    const bool ask = isatty(STDIN_FILENO) && isatty(STDERR_FILENO);
    for (;;) {
        if (ask) fputs("Enter query: ", stderr);
        ssize_t len = getline(&line, &cap, stdin);
        if (interrupted) exit_interrupted();
        if (len < 0) break;
        while (len && (line[len - 1] == '\n' || line[len - 1] == '\r')) line[--len] = '\0';
        if (len) answer(ctx, o, chunks, rows, line, (size_t)len);
    }
    if (ask) fputc('\n', stderr);
    free(line);
}

int main(int argc, char **argv) {
    static struct options o; /* static: what it holds stays reachable when die() ends the program */
    o = (struct options){.embed = {.n_batch = 2048, .n_threads = default_threads()},
                         .n_gpu_layers = -1, .chunk_size = 64, .top_k = 40, .pooling = "model",
                         .separator = "\n"};
    const struct flag flags[] = {
        {FLAG_STRING, {"-m", "--model"}, "FILE", &o.path, "the model, a GGUF file", 0, 0},
        {FLAG_LIST, {"--context-file"}, "FILE,...", &o.files, "the files to search in; may be repeated", 0, 0},
        {FLAG_INT, {"--chunk-size"}, "N", &o.chunk_size, "a chunk is longer than this, in bytes", 1, INT32_MAX},
        {FLAG_STRING, {"--chunk-separator"}, "TEXT", &o.separator, "where chunks may end (default: \\n)", 0, 0},
        {FLAG_STRING, {"-p", "--prompt"}, "TEXT", &o.prompt, "one question, instead of lines on stdin", 0, 0},
        {FLAG_INT, {"--top-k"}, "N", &o.top_k, "how many chunks to show", 1, INT32_MAX},
        {FLAG_STRING, {"--pooling"}, "NAME", &o.pooling, "mean, cls, last (default: the model's)", 0, 0},
        {FLAG_INT, {"-b", "--batch-size", "-ub"}, "N", &o.embed.n_batch,
         "tokens computed at once; no chunk is longer", 1, 1 << 20},
        {FLAG_INT, {"-t", "--threads"}, "N", &o.embed.n_threads, "threads", 1, 512},
        {FLAG_INT, {"-ngl", "--gpu-layers", "--n-gpu-layers"}, "N", &o.n_gpu_layers, "layers on the GPU; -1: what fits", -1, INT32_MAX},
        {FLAG_BOOL, {"--json"}, 0, &o.json, "print a line of JSON for each question", 0, 0},
    };
    parse_flags(argc, argv, "finds passages of files that are near a question", flags,
                sizeof flags / sizeof *flags, NULL);
    o.embed.pooling = pooling_named(o.pooling);
    o.embed.attention = LLAMA_ATTENTION_TYPE_UNSPECIFIED;
    static struct text paths, separator;
    static struct names files;
    split_commas(&o.files, &paths, &files);
    if (!files.len) die("no files to search in: give them with --context-file");
    text_add(&separator, o.separator, strlen(o.separator));
    text_unescape(&separator);
    if (!separator.len) die("the separator is empty");

    struct text *texts = xrealloc(NULL, files.len * sizeof *texts);
    static struct chunks chunks;
    for (size_t i = 0; i < files.len; i++) {
        texts[i] = (struct text){0};
        text_add_file(&texts[i], files.data[i]);
        cut(&chunks, files.data[i], &texts[i], &separator, (size_t)o.chunk_size);
    }
    if (!chunks.len) die("there is no text in the files");

    log_init(false);
    catch_sigint();
    struct llama_model_params params = llama_model_default_params();
    params.n_gpu_layers = (int32_t)o.n_gpu_layers;
    struct llama_model *model = load_model(o.path, params, &interrupted);
    struct llama_context *ctx = embed_context(model, &o.embed, chunks.len);
    const enum llama_pooling_type pooling = llama_pooling_type(ctx);
    if (pooling == LLAMA_POOLING_TYPE_NONE || pooling == LLAMA_POOLING_TYPE_RANK)
        die("the model makes no vector of a text by itself: say how with --pooling mean, cls or last");
    struct rows rows = {.n_embd = (size_t)llama_model_n_embd_out(model)};
    embed_chunks(ctx, &chunks, &rows);
    if (!o.json) note("%zu chunks of %zu files", chunks.len, files.len);

    bool good = true;
    if (o.prompt) good = answer(ctx, &o, &chunks, &rows, o.prompt, strlen(o.prompt));
    else answer_lines(ctx, &o, &chunks, &rows);

    for (size_t i = 0; i < files.len; i++) text_free(&texts[i]);
    free(texts);
    free(chunks.data);
    free(rows.data);
    names_free(&files);
    names_free(&o.files);
    text_free(&paths);
    text_free(&separator);
    llama_free(ctx);
    llama_model_free(model);
    return !good;
}
