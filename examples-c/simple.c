/* The shortest way from a model file to text: load, tokenize, decode, pick the best token, repeat.
 *
 *   simple -m model.gguf [-n 32] [--api ext|classic] "Once upon a time"
 *
 * llama.h has two ways to hand tokens to the library, and this program shows both; they give the
 * same text. `ext` builds a llama_batch_ext entry by entry for llama_process; `classic` fills a
 * llama_batch for llama_decode. */
#include "common.h"

#include <stdlib.h>
#include <string.h>

/* llama_process: add a token, give it its position, ask for logits where they are needed. */
static int32_t decode_ext(struct llama_context *ctx, const llama_token *tokens, size_t n,
                          llama_pos first) {
    static struct llama_batch_ext *batch; /* made for the context, used for every step */
    if (!tokens) { /* the last call */
        llama_batch_ext_free(batch);
        return 0;
    }
    if (!batch) batch = llama_batch_ext_init(ctx);
    llama_batch_ext_clear(batch);
    for (size_t i = 0; i < n; i++) {
        int32_t entry = llama_batch_ext_add_token(batch, 0, tokens[i]);
        if (entry < 0) die("the batch does not take token %zu: %d", i, entry);
        llama_pos pos = first + (llama_pos)i;
        llama_batch_ext_set_pos(batch, entry, &pos);
        llama_batch_ext_set_output_logits(batch, entry, i + 1 == n);
    }
    return llama_process(ctx, LLAMA_PROCESS_TYPE_DECODE, batch);
}

/* llama_decode: the same as arrays. */
static int32_t decode_classic(struct llama_context *ctx, const llama_token *tokens, size_t n,
                              llama_pos first) {
    if (!tokens) return 0;
    struct llama_batch batch = llama_batch_init((int32_t)n, 0, 1);
    batch.n_tokens = (int32_t)n;
    for (size_t i = 0; i < n; i++) {
        batch.token[i] = tokens[i];
        batch.pos[i] = first + (llama_pos)i;
        batch.n_seq_id[i] = 1;
        batch.seq_id[i][0] = 0;
        batch.logits[i] = i + 1 == n;
    }
    int32_t status = llama_decode(ctx, batch);
    llama_batch_free(batch);
    return status;
}

int main(int argc, char **argv) {
    const char *path = NULL, *prompt = "Hello my name is", *api = "ext";
    int64_t n_predict = 32, n_gpu_layers = -1;
    const struct flag flags[] = {
        {FLAG_STRING, {"-m", "--model"}, "FILE", &path, "the model, a GGUF file", 0, 0},
        {FLAG_INT, {"-n"}, "N", &n_predict, "tokens to generate", 1, 1 << 20},
        {FLAG_INT, {"-ngl"}, "N", &n_gpu_layers, "layers on the GPU; -1: what fits", -1, INT32_MAX},
        {FLAG_STRING, {"--api"}, "NAME", &api, "ext: llama_process, classic: llama_decode", 0, 0},
    };
    parse_flags(argc, argv, "[flags] \"prompt\": continues a text", flags,
                sizeof flags / sizeof *flags, &prompt);
    bool classic = !strcmp(api, "classic");
    if (!classic && strcmp(api, "ext")) die("--api is 'ext' or 'classic', not '%s'", api);
    int32_t (*decode)(struct llama_context *, const llama_token *, size_t, llama_pos) =
        classic ? decode_classic : decode_ext;

    log_init(false);
    struct llama_model_params model_params = llama_model_default_params();
    model_params.n_gpu_layers = (int32_t)n_gpu_layers;
    struct llama_model *model = load_model(path, model_params, NULL);
    const struct llama_vocab *vocab = llama_model_get_vocab(model);

    struct tokens tokens = {0};
    tokens_add_text(&tokens, vocab, prompt, strlen(prompt), true, true);
    if (!tokens.len) die("the prompt is empty");

    struct llama_context_params params = llama_context_default_params();
    params.n_ctx = (uint32_t)(tokens.len + (size_t)n_predict);
    params.n_batch = (uint32_t)tokens.len;
    params.n_threads = params.n_threads_batch = default_threads();
    struct llama_context *ctx = llama_init_from_model(model, params);
    if (!ctx) die_with_reason("cannot make a context of %u tokens", params.n_ctx);

    struct llama_sampler *sampler = llama_sampler_chain_init(llama_sampler_chain_default_params());
    llama_sampler_chain_add(sampler, llama_sampler_init_greedy());

    struct utf8_stream out = {0};
    struct text piece = {0};
    for (size_t i = 0; i < tokens.len; i++) {
        token_piece(&piece, vocab, tokens.data[i], true);
        utf8_write(&out, stdout, piece.data, piece.len);
    }

    double start = now_ms();
    int64_t n_done = 0;
    llama_pos past = 0;
    size_t n_new = tokens.len; /* the prompt first, then one token at a time */
    while (n_done < n_predict) {
        int32_t status = decode(ctx, tokens.data + past, n_new, past);
        if (status) die_with_reason("decoding failed with status %d", status);
        past += (llama_pos)n_new;
        n_new = 1;

        llama_token token = llama_sampler_sample(sampler, ctx, -1);
        if (llama_vocab_is_eog(vocab, token)) break;
        tokens_push(&tokens, token);
        token_piece(&piece, vocab, token, true);
        utf8_write(&out, stdout, piece.data, piece.len);
        n_done++;
    }
    utf8_flush(&out, stdout);
    putchar('\n');
    double seconds = (now_ms() - start) / 1e3;
    note("%lld tokens in %.2f s, %.1f tokens/s", (long long)n_done, seconds,
         (double)n_done / seconds);

    decode(ctx, NULL, 0, 0);
    text_free(&piece);
    tokens_free(&tokens);
    llama_sampler_free(sampler);
    llama_free(ctx);
    llama_model_free(model);
    return 0;
}
