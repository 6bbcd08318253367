/* Several continuations of one prompt, computed together.
 *
 *   batched -m model.gguf -np 4 -n 32 "Hello my name is"
 *
 * The prompt is decoded once, as sequence 0. llama_memory_seq_cp makes its cells belong to the
 * other sequences too, so they cost nothing; then every step decodes one token of each. Every
 * sequence has a sampler of its own with seed s+i, so sequence i's text does not depend on how
 * many others run beside it. */
#include "generate.h"

#include <stdlib.h>
#include <string.h>

struct stream {
    struct llama_sampler *sampler;
    struct text text;
    llama_token next;
    int32_t output; /* index in the batch of the logits that choose `next` */
    bool done;
};

int main(int argc, char **argv) {
    const char *path = NULL, *prompt = "Hello my name is";
    int64_t n_parallel = 4, n_predict = 32, seed = 1234, threads = 0, n_gpu_layers = -1;
    bool json = false;
    double temp = 0.8;
    const struct flag flags[] = {
        {FLAG_STRING, {"-m", "--model"}, "FILE", &path, "the model, a GGUF file", 0, 0},
        {FLAG_STRING, {"-p", "--prompt"}, "TEXT", &prompt, "the text to continue (or give it without a flag)", 0, 0},
        {FLAG_INT, {"-np", "--parallel"}, "N", &n_parallel, "continuations to make", 1, 256},
        {FLAG_INT, {"-n", "--predict", "--n-predict"}, "N", &n_predict, "tokens to generate in each", 1, 1 << 20},
        {FLAG_INT, {"-s", "--seed"}, "N", &seed, "continuation i uses seed N+i", 0, UINT32_MAX - 256},
        {FLAG_FLOAT, {"--temp"}, "T", &temp, "temperature; 0: always the most likely token", 0, 1e6},
        {FLAG_INT, {"-t", "--threads"}, "N", &threads, "threads; 0: one for each CPU", 0, 512},
        {FLAG_INT, {"-ngl", "--gpu-layers", "--n-gpu-layers"}, "N", &n_gpu_layers, "layers on the GPU; -1: what fits", -1, INT32_MAX},
        {FLAG_BOOL, {"--json"}, 0, &json, "print a line of JSON for each", 0, 0},
    };
    parse_flags(argc, argv, "[flags] \"prompt\": several continuations of one text", flags,
                sizeof flags / sizeof *flags, &prompt);

    log_init(false);
    catch_sigint();
    struct llama_model_params model_params = llama_model_default_params();
    model_params.n_gpu_layers = (int32_t)n_gpu_layers;
    struct llama_model *model = load_model(path, model_params, &interrupted);
    const struct llama_vocab *vocab = llama_model_get_vocab(model);

    struct tokens tokens = {0};
    tokens_add_text(&tokens, vocab, prompt, strlen(prompt), true, true);
    if (!tokens.len) die("the prompt is empty");

    size_t n_batch = tokens.len > (size_t)n_parallel ? tokens.len : (size_t)n_parallel;
    struct llama_context_params params = llama_context_default_params();
    params.n_ctx = (uint32_t)(tokens.len + (size_t)(n_predict * n_parallel));
    params.n_batch = (uint32_t)n_batch;
    params.n_seq_max = (uint32_t)n_parallel;
    params.kv_unified = true; /* one cache for all, so that the prompt's cells can be shared */
    params.n_threads = params.n_threads_batch = threads ? (int32_t)threads : default_threads();
    params.abort_callback = should_abort;
    log_forget();
    struct llama_context *ctx = llama_init_from_model(model, params);
    if (!ctx) die_with_reason("cannot make a context of %u tokens", params.n_ctx);

    struct llama_batch batch = llama_batch_init((int32_t)n_batch, 0, 1);
    for (size_t i = 0; i < tokens.len; i++)
        batch_add(&batch, tokens.data[i], (llama_pos)i, 0, i + 1 == tokens.len);
    decode_batch(ctx, batch);

    struct stream *streams = xrealloc(NULL, (size_t)n_parallel * sizeof *streams);
    for (int32_t i = 0; i < n_parallel; i++) {
        streams[i] = (struct stream){
            .sampler = make_sampler(temp, (uint32_t)seed + (uint32_t)i),
            .output = batch.n_tokens - 1,
        };
        if (i) llama_memory_seq_cp(llama_get_memory(ctx), 0, i, -1, -1);
    }

    double start = now_ms();
    size_t n_sampled = 0;
    struct text piece = {0};
    for (int64_t step = 0; step < n_predict; step++) {
        /* All choices first: they read the logits of the last decode. */
        for (int32_t i = 0; i < n_parallel; i++) {
            struct stream *stream = &streams[i];
            if (stream->done) continue;
            stream->next = llama_sampler_sample(stream->sampler, ctx, stream->output);
            stream->done = llama_vocab_is_eog(vocab, stream->next);
            if (stream->done) continue;
            token_piece(&piece, vocab, stream->next, false);
            text_add(&stream->text, piece.data, piece.len);
            n_sampled++;
        }
        batch.n_tokens = 0;
        for (int32_t i = 0; i < n_parallel; i++) {
            if (streams[i].done) continue;
            streams[i].output = batch.n_tokens;
            batch_add(&batch, streams[i].next, (llama_pos)tokens.len + (llama_pos)step, i, true);
        }
        if (!batch.n_tokens || step + 1 == n_predict) break;
        decode_batch(ctx, batch);
        show_count("tokens", (uint64_t)step + 1, (uint64_t)n_predict);
    }
    show_count("tokens", 1, 1);
    double seconds = (now_ms() - start) / 1e3;

    for (int32_t i = 0; i < n_parallel; i++) {
        const struct text *text = &streams[i].text;
        struct text line = {0};
        text_addf(&line, json ? "{\"sequence\": %d, \"prompt\": " : "[%d] ", i);
        if (json) text_add_json(&line, prompt, strlen(prompt));
        else text_addf(&line, "%s", prompt);
        if (json) text_addf(&line, ", \"answer\": ");
        if (json) text_add_json(&line, text->data, text->len);
        else text_add(&line, text->data, text->len);
        if (json) text_addf(&line, "}");
        puts(line.data);
        text_free(&line);
    }
    fflush(stdout);
    if (!json)
        note("%lld continuations, %zu tokens in %.2f s, %.1f tokens/s", (long long)n_parallel,
             n_sampled, seconds, (double)n_sampled / seconds);

    for (int32_t i = 0; i < n_parallel; i++) {
        llama_sampler_free(streams[i].sampler);
        text_free(&streams[i].text);
    }
    free(streams);
    text_free(&piece);
    tokens_free(&tokens);
    llama_batch_free(batch);
    llama_free(ctx);
    llama_model_free(model);
    return 0;
}
