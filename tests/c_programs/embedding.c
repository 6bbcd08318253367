/* Embeds texts as llama.cpp's example does: embedding MODEL POOLING encode|decode TEXT...
 *
 * Every text is a sequence of one batch. Prints the pooled embedding of each on a line, without
 * pooling that of each token, and checks what the interface says of a model without a memory. */
#include "common.h"

#include <stdlib.h>
#include <string.h>

static void print_row(const float *row, int32_t n) {
    for (int32_t i = 0; i < n; i++) printf(i ? " %.9g" : "%.9g", row[i]);
    printf("\n");
}

static void quiet(enum ggml_log_level level, const char *text, void *data) {
    (void)data;
    if (level == GGML_LOG_LEVEL_ERROR) fputs(text, stderr);
}

int main(int argc, char **argv) {
    if (argc < 5) die("usage: embedding MODEL POOLING encode|decode TEXT...");
    int n_texts = argc - 4;
    bool encode = strcmp(argv[3], "encode") == 0;

    llama_log_set(quiet, NULL);
    llama_backend_init();
    struct llama_model *model = llama_model_load_from_file(argv[1], llama_model_default_params());
    if (!model) die("no model in %s", argv[1]);
    const struct llama_vocab *vocab = llama_model_get_vocab(model);

    struct llama_context_params params = llama_context_default_params();
    params.embeddings = true;
    params.pooling_type = (enum llama_pooling_type)atoi(argv[2]);
    params.n_batch = params.n_ubatch = 512;
    params.n_seq_max = (uint32_t)n_texts;
    params.n_threads = params.n_threads_batch = 2;
    struct llama_context *ctx = llama_init_from_model(model, params);
    if (!ctx) die("no context");
    enum llama_pooling_type pooling = llama_pooling_type(ctx);

    /* llama.cpp counts these models as decoders, with nothing to remember. */
    if (llama_model_has_encoder(model) || !llama_model_has_decoder(model)) die("not as llama.cpp");
    if (llama_get_memory(ctx)) die("an encoder has a memory");
    llama_memory_clear(llama_get_memory(ctx), true);
    if (llama_memory_seq_pos_max(llama_get_memory(ctx), 0) != -1) die("nothing has a position");
    if (llama_get_causal_attn(ctx)) die("attention is causal");

    struct llama_batch batch = llama_batch_init(512, 0, 1);
    for (int s = 0; s < n_texts; s++) {
        llama_token tokens[512];
        const char *text = argv[4 + s];
        int32_t n = llama_tokenize(vocab, text, (int32_t)strlen(text), tokens, 512, true, true);
        if (n <= 0 || batch.n_tokens + n > 512) die("text %d has %d tokens", s, n);
        for (int32_t i = 0; i < n; i++) {
            int32_t at = batch.n_tokens++;
            batch.token[at] = tokens[i];
            batch.pos[at] = i;
            batch.n_seq_id[at] = 1;
            batch.seq_id[at][0] = s;
            batch.logits[at] = 1;
        }
    }
    /* Twice: the second time nothing must be left of the first. */
    for (int i = 0; i < 2; i++) {
        int32_t code = encode ? llama_encode(ctx, batch) : llama_decode(ctx, batch);
        if (code) die("code %d", code);
    }
    if (llama_get_logits(ctx)) die("an encoder has logits");

    int32_t n_embd = llama_model_n_embd_out(model);
    if (pooling == LLAMA_POOLING_TYPE_RANK) {
        n_embd = (int32_t)llama_model_n_cls_out(model);
        for (int32_t i = 0; i < n_embd; i++) {
            const char *label = llama_model_cls_label(model, (uint32_t)i);
            if (!label) die("score %d has no name", i);
            printf(i ? " %s" : "%s", label);
        }
        printf("\n");
        if (llama_model_cls_label(model, (uint32_t)n_embd)) die("a name too many");
    }
    if (pooling == LLAMA_POOLING_TYPE_NONE) {
        if (llama_get_embeddings_seq(ctx, 0)) die("pooled without pooling");
        for (int32_t i = 0; i < batch.n_tokens; i++) {
            const float *row = llama_get_embeddings_ith(ctx, i);
            if (!row || row != llama_get_embeddings(ctx) + (size_t)i * (size_t)n_embd) die("row %d", i);
            print_row(row, n_embd);
        }
    } else {
        for (int s = 0; s < n_texts; s++) {
            const float *row = llama_get_embeddings_seq(ctx, s);
            if (!row) die("text %d has no embedding", s);
            print_row(row, n_embd);
        }
        if (llama_get_embeddings_seq(ctx, n_texts)) die("an embedding of nothing");
    }
    llama_batch_free(batch);
    llama_free(ctx);
    llama_model_free(model);
    llama_backend_free();
    return 0;
}
