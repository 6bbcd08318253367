/* Texts as vectors, and how near they are to each other.
 *
 *   embedding -m model.gguf -p "The cat sat.\nA dog ran.\nStocks fell."
 *   embedding -m model.gguf -f texts.txt --pooling mean --embd-output-format json
 *
 * Each line is a text (--embd-separator cuts elsewhere). Several texts are computed in one batch,
 * each as a sequence of its own. With a reranker (--pooling rank) a text is a query and a document
 * with a tab between them, and the result is its score. */
#include "embed.h"
#include "measure.h"

#include <stdlib.h>
#include <string.h>

struct options {
    struct embed_options embed;
    int64_t n_gpu_layers, normalize;
    const char *path, *prompt, *file, *pooling, *attention, *format, *separator, *pair_separator;
    bool escapes, json;
};

/* ---- texts ---- */

/* Cuts the text at the separator, in place. */
static void cut(struct text *text, const char *separator, struct names *parts) {
    char *at = text->data;
    for (char *end; (end = strstr(at, separator)); at = end + strlen(separator)) {
        *end = '\0';
        names_push(parts, at);
    }
    names_push(parts, at);
}

static void add_token_text(struct text *text, const struct llama_vocab *vocab, bool add, llama_token token) {
    if (!add || token < 0) return;
    const char *name = llama_vocab_get_text(vocab, token);
    text_add(text, name, strlen(name));
}

/* A query and a document as the reranker wants them: in its template, or with EOS and SEP between. */
static void add_pair(struct text *out, const struct llama_model *model, const char *query,
                     const char *document) {
    const struct llama_vocab *vocab = llama_model_get_vocab(model);
    const char *form = llama_model_chat_template(model, "rerank");
    for (; form && *form;) {
        const bool q = !strncmp(form, "{query}", 7), d = !strncmp(form, "{document}", 10);
        if (q) text_add(out, query, strlen(query));
        else if (d) text_add(out, document, strlen(document));
        else text_add(out, form, 1);
        form += q ? 7 : d ? 10 : 1;
    }
    if (out->len) return;
    text_add(out, query, strlen(query));
    add_token_text(out, vocab, llama_vocab_get_add_eos(vocab), llama_vocab_eos(vocab));
    add_token_text(out, vocab, llama_vocab_get_add_sep(vocab), llama_vocab_sep(vocab));
    text_add(out, document, strlen(document));
}

static void tokenize(struct tokens *tokens, const struct llama_model *model, const char *text,
                     const char *pair_separator, bool pairs) {
    const struct llama_vocab *vocab = llama_model_get_vocab(model);
    const char *middle = pairs ? strstr(text, pair_separator) : NULL;
    struct text whole = {0};
    if (middle) {
        struct text query = {0};
        text_add(&query, text, (size_t)(middle - text));
        add_pair(&whole, model, query.data, middle + strlen(pair_separator));
        text_free(&query);
    } else {
        text_add(&whole, text, strlen(text));
    }
    tokens_add_text(tokens, vocab, whole.data, whole.len, true, true);
    text_free(&whole);
}

/* ---- output ---- */

static double similarity(const struct rows *rows, size_t i, size_t j) {
    return cosine(rows->data + i * rows->n_embd, rows->data + j * rows->n_embd, rows->n_embd);
}

static void print_numbers(const struct rows *rows, size_t row, size_t from, size_t to, const char *form) {
    for (size_t i = from; i < to; i++) printf(form, (double)rows->data[row * rows->n_embd + i]);
}

static void print_scores(const struct llama_model *model, const struct rows *rows) {
    const uint32_t n = llama_model_n_cls_out(model);
    for (size_t j = 0; j < rows->n; j++)
        for (uint32_t i = 0; i < n; i++) {
            printf("rerank score %zu: %8.3f", j, (double)rows->data[j * rows->n_embd + i]);
            const char *label = llama_model_cls_label(model, i);
            if (n > 1 && label && *label) printf(" [%s]", label);
            else if (n > 1) printf(" [%u]", i);
            putchar('\n');
        }
}

static void print_similarities(const struct rows *rows, const struct names *texts) {
    puts("\ncosine similarity matrix:\n");
    for (size_t i = 0; i < rows->n; i++) printf("%6.6s ", texts->data[i]);
    putchar('\n');
    for (size_t i = 0; i < rows->n; i++) {
        for (size_t j = 0; j < rows->n; j++)
            printf("%6.2f ", similarity(rows, i, j));
        printf("%1.10s\n", texts->data[i]);
    }
}

/* For people: a lone vector whole, else the beginnings. */
static void print_text(const struct rows *rows, const struct names *texts, bool pooled, const char *form) {
    const size_t n = rows->n_embd, few = n < 3 ? n : 3, more = n < 16 ? n : 16;
    for (size_t j = 0; j < rows->n; j++) {
        printf("embedding %zu: ", j);
        if (!pooled) {
            print_numbers(rows, j, 0, few, form);
            fputs(" ... ", stdout);
            print_numbers(rows, j, n - few, n, form);
        } else {
            print_numbers(rows, j, 0, rows->n > 1 ? more : n, form);
        }
        putchar('\n');
    }
    if (pooled && rows->n > 1) print_similarities(rows, texts);
}

static void print_json(const struct rows *rows, bool bare, bool similarities, const char *form) {
    const char *comma = "";
    fputs(bare ? "[" : "{\n  \"object\": \"list\",\n  \"data\": [\n", stdout);
    for (size_t j = 0; j < rows->n; j++, comma = bare ? "," : ",\n") {
        fputs(comma, stdout);
        if (!bare)
            printf("    {\n      \"object\": \"embedding\",\n      \"index\": %zu,\n"
                   "      \"embedding\": ", j);
        for (size_t i = 0; i < rows->n_embd; i++) {
            putchar(i ? ',' : '[');
            print_numbers(rows, j, i, i + 1, form);
        }
        fputs(bare ? "]" : "]\n    }", stdout);
    }
    fputs(bare ? "]\n" : "\n  ]", stdout);
    if (similarities && rows->n > 1) {
        fputs(",\n  \"cosineSimilarity\": [", stdout);
        for (size_t i = 0; i < rows->n; i++) {
            fputs(i ? ",\n    [" : "\n    [", stdout);
            for (size_t j = 0; j < rows->n; j++)
                printf("%s%.2f", j ? ", " : "", similarity(rows, i, j));
            putchar(']');
        }
        fputs("\n  ]", stdout);
    }
    if (!bare) puts("\n}");
}

int main(int argc, char **argv) {
    struct options o = {.embed = {.n_batch = 2048, .n_threads = default_threads()},
                        .n_gpu_layers = -1, .normalize = 2, .pooling = "model", .attention = "model",
                        .format = "text", .separator = "\n", .pair_separator = "\t", .escapes = true};
    const struct flag flags[] = {
        {FLAG_STRING, {"-m", "--model"}, "FILE", &o.path, "the model, a GGUF file", 0, 0},
        {FLAG_STRING, {"-p", "--prompt"}, "TEXT", &o.prompt, "the texts, one a line", 0, 0},
        {FLAG_STRING, {"-f", "--file"}, "FILE", &o.file, "read the texts from a file", 0, 0},
        {FLAG_STRING, {"--pooling"}, "NAME", &o.pooling,
         "none (a vector a token), mean, cls, last, rank (default: the model's)", 0, 0},
        {FLAG_STRING, {"--attention"}, "NAME", &o.attention, "causal, non-causal (default: the model's)", 0, 0},
        {FLAG_INT, {"--embd-normalize"}, "N", &o.normalize,
         "-1: none, 0: greatest is 32760, 1: taxicab, 2: Euclidean, more: p-norm", -1, 1000},
        {FLAG_STRING, {"--embd-output-format"}, "NAME", &o.format,
         "text, array, json, json+ (with similarities), raw (default: text)", 0, 0},
        {FLAG_BOOL, {"--json"}, 0, &o.json, "the same as --embd-output-format json", 0, 0},
        {FLAG_STRING, {"--embd-separator"}, "TEXT", &o.separator, "what is between texts (default: \\n)", 0, 0},
        {FLAG_STRING, {"--cls-separator"}, "TEXT", &o.pair_separator,
         "what is between query and document (default: \\t)", 0, 0},
        {FLAG_INT, {"-b", "--batch-size", "-ub"}, "N", &o.embed.n_batch,
         "tokens computed at once; no text is longer", 1, 1 << 20},
        {FLAG_INT, {"-t", "--threads"}, "N", &o.embed.n_threads, "threads", 1, 512},
        {FLAG_INT, {"-ngl"}, "N", &o.n_gpu_layers, "layers on the GPU; -1: what fits", -1, INT32_MAX},
        {FLAG_NOT, {"--no-escape"}, 0, &o.escapes, "take \\n, \\t and the like in -p literally", 0, 0},
    };
    parse_flags(argc, argv, "[flags]: texts as vectors", flags, sizeof flags / sizeof *flags, NULL);
    static const char *const formats[] = {"text", "array", "json", "json+", "raw", NULL};
    enum { TEXT, ARRAY, JSON, JSON_PLUS, RAW };
    o.embed.pooling = pooling_named(o.pooling);
    o.embed.attention = attention_named(o.attention);
    if (o.json) o.format = formats[JSON];
    const int format = choice("--embd-output-format", o.format, formats);
    if (!o.file == !o.prompt) die("give the texts one way: -p TEXT or -f FILE");

    struct text text = {0}, separator = {0}, pair_separator = {0};
    if (o.file) text_add_file(&text, o.file);
    else text_add(&text, o.prompt, strlen(o.prompt));
    if (o.file && text.len && text.data[text.len - 1] == '\n') text.data[--text.len] = '\0';
    if (o.prompt && o.escapes) text_unescape(&text);
    text_add(&separator, o.separator, strlen(o.separator));
    text_add(&pair_separator, o.pair_separator, strlen(o.pair_separator));
    text_unescape(&separator);
    text_unescape(&pair_separator);
    if (!separator.len || !pair_separator.len) die("a separator is empty");
    struct names texts = {0};
    cut(&text, separator.data, &texts);

    log_init(false);
    catch_sigint();
    struct llama_model_params model_params = llama_model_default_params();
    model_params.n_gpu_layers = (int32_t)o.n_gpu_layers;
    struct llama_model *model = load_model(o.path, model_params, &interrupted);
    struct llama_context *ctx = embed_context(model, &o.embed, texts.len);

    const bool rank = llama_pooling_type(ctx) == LLAMA_POOLING_TYPE_RANK;
    struct tokens *tokens = xrealloc(NULL, texts.len * sizeof *tokens);
    for (size_t k = 0; k < texts.len; k++) {
        tokens[k] = (struct tokens){0};
        tokenize(&tokens[k], model, texts.data[k], pair_separator.data, rank);
        if (!tokens[k].len) die("text %zu is empty", k);
        if (tokens[k].len > llama_n_batch(ctx))
            die("text %zu has %zu tokens, a batch %u (see -b)", k, tokens[k].len, llama_n_batch(ctx));
    }

    struct rows rows = {.n_embd = rank ? llama_model_n_cls_out(model) : (size_t)llama_model_n_embd_out(model)};
    embed(ctx, tokens, texts.len, &rows, o.normalize);
    const char *exact = o.normalize == 0 ? "%1.0f" : "%1.7f";
    const bool pooled = llama_pooling_type(ctx) != LLAMA_POOLING_TYPE_NONE;
    if (format == TEXT && rank) print_scores(model, &rows);
    else if (format == TEXT) print_text(&rows, &texts, pooled, o.normalize == 0 ? "%6.0f " : "%9.6f ");
    else if (format != RAW) print_json(&rows, format == ARRAY, format == JSON_PLUS && pooled, exact);
    else
        for (size_t j = 0; j < rows.n; j++)
            for (size_t i = 0; i < rows.n_embd; i++) {
                print_numbers(&rows, j, i, i + 1, exact);
                putchar(i + 1 < rows.n_embd ? ' ' : '\n');
            }

    for (size_t k = 0; k < texts.len; k++) tokens_free(&tokens[k]);
    free(tokens);
    free(rows.data);
    names_free(&texts);
    text_free(&text);
    text_free(&separator);
    text_free(&pair_separator);
    llama_free(ctx);
    llama_model_free(model);
    return 0;
}
