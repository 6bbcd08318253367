/* Writes what is missing between two texts, with a model that was trained for it.
 *
 *   infill -m coder.gguf --in-prefix "def add(a, b):\n    return " --in-suffix "\n\nprint(add(1, 2))"
 *
 * Such a model's vocabulary has tokens that say "here is what comes before", "after", and "now the
 * middle". Some models want what comes after first: --spm-infill. */
#include "generate.h"

#include <stdlib.h>
#include <string.h>

/* A text from the command line or a file. */
static struct text given(const char *text, const char *file, bool escapes, const char *name) {
    struct text out = {0};
    text_add(&out, "", 0);
    if (text && file) die("%s and %s-file both give the text: use one of them", name, name);
    if (file) text_add_file(&out, file);
    if (!text) return out;
    text_add(&out, text, strlen(text));
    if (escapes) text_unescape(&out);
    return out;
}

/* One of the texts with the token that announces it. The text is no more than text: names of
 * control tokens in it have no meaning. */
static void add_part(struct tokens *tokens, const struct llama_vocab *vocab, llama_token announce,
                     const struct text *text) {
    tokens_push(tokens, announce);
    tokens_add_text(tokens, vocab, text->data, text->len, false, false);
}

int main(int argc, char **argv) {
    const char *path = NULL, *before = NULL, *after = NULL, *before_file = NULL, *after_file = NULL;
    bool suffix_first = false, escapes = true, display = true;
    int64_t n_predict = 128, n_ctx = 0, seed = 1234, threads = 0, n_gpu_layers = -1;
    double temp = 0;
    const struct flag flags[] = {
        {FLAG_STRING, {"-m", "--model"}, "FILE", &path, "the model, a GGUF file", 0, 0},
        {FLAG_STRING, {"--in-prefix"}, "TEXT", &before, "what comes before", 0, 0},
        {FLAG_STRING, {"--in-suffix"}, "TEXT", &after, "what comes after", 0, 0},
        {FLAG_STRING, {"--in-prefix-file"}, "FILE", &before_file, "the same from a file ('-' is stdin)", 0, 0},
        {FLAG_STRING, {"--in-suffix-file"}, "FILE", &after_file, "the same from a file ('-' is stdin)", 0, 0},
        {FLAG_BOOL, {"--spm-infill"}, 0, &suffix_first, "show the model what comes after first", 0, 0},
        {FLAG_NOT, {"--no-escape"}, 0, &escapes, "take \\n, \\t and the like in the texts literally", 0, 0},
        {FLAG_NOT, {"--no-display-prompt"}, 0, &display, "write only what was missing", 0, 0},
        {FLAG_INT, {"-n", "--predict", "--n-predict"}, "N", &n_predict, "most tokens to generate", 1, 1 << 20},
        {FLAG_INT, {"-c", "--ctx-size"}, "N", &n_ctx, "context size in tokens; 0: what the texts need", 0, INT32_MAX},
        {FLAG_INT, {"-s", "--seed"}, "N", &seed, "seed of the random choice", 0, UINT32_MAX - 1},
        {FLAG_FLOAT, {"--temp"}, "T", &temp, "temperature; 0: always the most likely token", 0, 1e6},
        {FLAG_INT, {"-t", "--threads"}, "N", &threads, "threads; 0: one for each CPU", 0, 512},
        {FLAG_INT, {"-ngl", "--gpu-layers", "--n-gpu-layers"}, "N", &n_gpu_layers, "layers on the GPU; -1: what fits", -1, INT32_MAX},
    };
    parse_flags(argc, argv, "writes what is missing between two texts", flags,
                sizeof flags / sizeof *flags, NULL);
    static struct text prefix, suffix;
    prefix = given(before, before_file, escapes, "--in-prefix");
    suffix = given(after, after_file, escapes, "--in-suffix");
    if (!prefix.len && !suffix.len) die("no text: give it with --in-prefix and --in-suffix");
    catch_sigint();
    log_init(false);

    struct llama_model_params params = llama_model_default_params();
    params.n_gpu_layers = (int32_t)n_gpu_layers;
    struct llama_model *model = load_model(path, params, &interrupted);
    const struct llama_vocab *vocab = llama_model_get_vocab(model);
    llama_token pre = llama_vocab_fim_pre(vocab), suf = llama_vocab_fim_suf(vocab),
                mid = llama_vocab_fim_mid(vocab), bos = llama_vocab_bos(vocab);
    if (pre == LLAMA_TOKEN_NULL || suf == LLAMA_TOKEN_NULL || mid == LLAMA_TOKEN_NULL)
        die("'%s' was not trained for this: its vocabulary has no token for %s", path,
            pre == LLAMA_TOKEN_NULL   ? "what comes before"
            : suf == LLAMA_TOKEN_NULL ? "what comes after"
                                      : "the middle");

    static struct tokens tokens;
    if (llama_vocab_get_add_bos(vocab) && bos != LLAMA_TOKEN_NULL) tokens_push(&tokens, bos);
    if (suffix_first) add_part(&tokens, vocab, suf, &suffix);
    add_part(&tokens, vocab, pre, &prefix);
    if (!suffix_first) add_part(&tokens, vocab, suf, &suffix);
    tokens_push(&tokens, mid);

    uint64_t need = tokens.len + (uint64_t)n_predict;
    if (need > INT32_MAX || (n_ctx && need > (uint64_t)n_ctx))
        die("the texts do not fit: %zu + %lld tokens, the context holds %lld (-c)", tokens.len,
            (long long)n_predict, (long long)(n_ctx ? n_ctx : INT32_MAX));
    struct llama_context *ctx =
        new_context(model, n_ctx ? (uint32_t)n_ctx : (uint32_t)need, 512, 1, (int32_t)threads);
    struct llama_sampler *sampler = make_sampler(temp, (uint32_t)seed);

    struct utf8_stream out = {0};
    struct text piece = {0};
    if (display) fwrite(prefix.data, 1, prefix.len, stdout);
    double start = now_ms();
    decode_tokens(ctx, tokens.data, tokens.len, 0, 0);
    llama_pos past = (llama_pos)tokens.len;
    int64_t n_done = 0;
    while (n_done < n_predict) {
        llama_token token = llama_sampler_sample(sampler, ctx, -1);
        if (llama_vocab_is_eog(vocab, token)) break;
        token_piece(&piece, vocab, token, false);
        utf8_write(&out, stdout, piece.data, piece.len);
        if (++n_done < n_predict) decode_tokens(ctx, &token, 1, past++, 0);
    }
    utf8_flush(&out, stdout);
    if (display) fwrite(suffix.data, 1, suffix.len, stdout);
    putchar('\n');
    note("%zu tokens read, %lld written in %.2f s", tokens.len, (long long)n_done,
         (now_ms() - start) / 1e3);

    text_free(&piece);
    text_free(&prefix);
    text_free(&suffix);
    tokens_free(&tokens);
    llama_sampler_free(sampler);
    llama_free(ctx);
    llama_model_free(model);
    return 0;
}
