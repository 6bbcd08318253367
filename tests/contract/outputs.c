/* Logits and embeddings: which row is where, and what has none. */
#include "contract.h"

/* Tokens 0..n at once, outputs where the string has '1'. */
static int outputs(struct llama_context *ctx, const char *which) {
    const int n = (int)strlen(which);
    struct llama_batch batch = llama_batch_init(n, 0, 1);
    for (int i = 0; i < n; i++) {
        batch.token[i] = word(i), batch.pos[i] = i;
        batch.n_seq_id[i] = 1, batch.seq_id[i][0] = 0;
        batch.logits[i] = which[i] == '1';
    }
    batch.n_tokens = n;
    const int code = llama_decode(ctx, batch);
    llama_batch_free(batch);
    return code;
}

static bool same(const float *a, const float *b, int n) {
    return a && b && !memcmp(a, b, (size_t)n * sizeof *a);
}

LINE(index_is_the_place_in_the_batch, "logits_ith(i >= 0): i counts tokens of the batch.") {
    struct llama_context *ctx = plain();
    outputs(ctx, "01010");
    for (int i = 0; i < 5; i++) say("%d", !!llama_get_logits_ith(ctx, i));
}

LINE(negative_indices_count_outputs, "logits_ith(i < 0): -1 is the last output, not the last token.") {
    struct llama_context *ctx = plain();
    outputs(ctx, "01010");
    say("%d %d %d", llama_get_logits_ith(ctx, -1) == llama_get_logits_ith(ctx, 3),
        llama_get_logits_ith(ctx, -2) == llama_get_logits_ith(ctx, 1),
        !!llama_get_logits_ith(ctx, -3));
}

LINE(wrong_indices_are_null, "An index past the batch or without output: NULL and an error in the log.") {
    struct llama_context *ctx = plain();
    outputs(ctx, "01010");
    llama_log_set(log_count, NULL);
    say("%d %d", !llama_get_logits_ith(ctx, 5), !llama_get_logits_ith(ctx, 0));
    say("%d %d", !llama_get_logits_ith(ctx, INT_MAX), !llama_get_logits_ith(ctx, INT_MIN));
    say("%d", n_logged[GGML_LOG_LEVEL_ERROR] > 0);
}

LINE(rows_are_packed, "llama_get_logits: rows one after the other, in the order of the batch.") {
    struct llama_context *ctx = plain();
    outputs(ctx, "01010");
    float *all = llama_get_logits(ctx);
    say("%d %d", llama_get_logits_ith(ctx, 1) == all, llama_get_logits_ith(ctx, 3) == all + 96);
}

LINE(order_survives_ubatches, "Rows keep the order of the batch when sequences are split apart.") {
    struct llama_context_params params = small();
    params.n_seq_max = 3;
    params.n_ctx = 768;
    params.n_ubatch = 2;
    struct llama_context *ctx = start(load("llama.gguf"), params);
    struct llama_batch batch = llama_batch_init(9, 0, 1);
    for (int i = 0; i < 9; i++) {
        batch.token[i] = word(i), batch.pos[i] = i / 3;
        batch.n_seq_id[i] = 1, batch.seq_id[i][0] = i % 3;
        batch.logits[i] = 1;
    }
    batch.n_tokens = 9;
    say("%d", llama_decode(ctx, batch));
    float row[9][96];
    for (int i = 0; i < 9; i++) memcpy(row[i], llama_get_logits_ith(ctx, i), sizeof row[i]);
    const float *all = llama_get_logits(ctx);
    for (int i = 0; i < 9; i++) say("%d", same(row[i], all + 96 * i, 96));
}

LINE(no_outputs_no_logits, "A batch without outputs.") {
    struct llama_context *ctx = plain();
    say("%d", outputs(ctx, "000"));
    say("%d %d", !llama_get_logits_ith(ctx, 0), !llama_get_logits_ith(ctx, -1));
}

LINE(before_the_first_decode, "Outputs before anything was decoded.") {
    struct llama_context *ctx = plain();
    say("%d %d", !llama_get_logits_ith(ctx, 0), !llama_get_logits_ith(ctx, -1));
    say("%d %d", !llama_get_embeddings_ith(ctx, 0), !llama_get_embeddings_seq(ctx, 0));
}

LINE(a_failed_decode, "Outputs after a decode that was refused.") {
    struct llama_context *ctx = plain();
    outputs(ctx, "001");
    llama_token bad = 96;
    say("%d", llama_decode(ctx, llama_batch_get_one(&bad, 1)));
    say("%d %d", !!llama_get_logits_ith(ctx, 2), !!llama_get_logits_ith(ctx, -1));
}

LINE(no_embeddings_unless_asked, "embeddings_ith and embeddings_seq without embeddings on.") {
    struct llama_context *ctx = plain();
    outputs(ctx, "111");
    say("%d %d", !llama_get_embeddings_ith(ctx, 0), !llama_get_embeddings_seq(ctx, 0));
}

LINE(switched_on_later, "llama_set_embeddings acts from the next decode on.") {
    struct llama_context *ctx = plain();
    outputs(ctx, "001");
    llama_set_embeddings(ctx, true);
    llama_memory_clear(llama_get_memory(ctx), true);
    say("%d", outputs(ctx, "111"));
    say("%d %d", !!llama_get_embeddings_ith(ctx, 0), !!llama_get_embeddings_ith(ctx, -1));
    llama_set_embeddings(ctx, false);
    llama_memory_clear(llama_get_memory(ctx), true);
    say("%d", outputs(ctx, "111"));
    say("%d %d", !!llama_get_embeddings_ith(ctx, 0), !!llama_get_logits_ith(ctx, 0));
}

static struct llama_context *embedder(const char *name, enum llama_pooling_type pooling) {
    struct llama_context_params params = small();
    params.embeddings = true;
    params.pooling_type = pooling;
    params.n_seq_max = 2;
    params.n_ctx = 512;
    return start(load(name), params);
}

LINE(rows_without_pooling, "Pooling NONE: a row per token, no row per sequence.") {
    struct llama_context *ctx = embedder("bert.gguf", LLAMA_POOLING_TYPE_NONE);
    say("%d", outputs(ctx, "111"));
    say("%d %d %d", !!llama_get_embeddings_ith(ctx, 0), !!llama_get_embeddings_ith(ctx, -3),
        !!llama_get_embeddings_ith(ctx, -4));
    say("%d %d", !!llama_get_embeddings(ctx), !!llama_get_embeddings_seq(ctx, 0));
}

LINE(rows_of_sequences, "Pooling MEAN, CLS, LAST: a row per sequence that was in the batch.") {
    const enum llama_pooling_type kinds[] = {LLAMA_POOLING_TYPE_MEAN, LLAMA_POOLING_TYPE_CLS,
                                             LLAMA_POOLING_TYPE_LAST};
    for (int i = 0; i < 3; i++) {
        struct llama_context *ctx = embedder("bert.gguf", kinds[i]);
        say("[%d", outputs(ctx, "111"));
        say("%d", (int)llama_pooling_type(ctx) == (int)kinds[i]);
        say("%d %d", !!llama_get_embeddings_seq(ctx, 0), !!llama_get_embeddings_seq(ctx, 1));
        say("%d]", !!llama_get_embeddings_seq(ctx, -1));
    }
}

LINE(the_model_says_how_to_pool, "Pooling UNSPECIFIED: what the model's metadata says.") {
    struct llama_context *ctx = embedder("bert.gguf", LLAMA_POOLING_TYPE_UNSPECIFIED);
    say("%d", llama_pooling_type(ctx));
    ctx = embedder("llama.gguf", LLAMA_POOLING_TYPE_UNSPECIFIED);
    say("%d", llama_pooling_type(ctx));
}

LINE(ranks_have_n_cls_out_numbers, "Pooling RANK: a row of n_cls_out scores per sequence.") {
    struct llama_model *model = load("rank.gguf");
    say("%u %s", llama_model_n_cls_out(model), llama_model_cls_label(model, 0));
    say("%d", !llama_model_cls_label(model, 99));
    struct llama_context *ctx = embedder("rank.gguf", LLAMA_POOLING_TYPE_RANK);
    say("%d", outputs(ctx, "111"));
    const float *scores = llama_get_embeddings_seq(ctx, 0);
    if (!scores) broken("no scores");
    bool finite = true;
    for (unsigned i = 0; i < llama_model_n_cls_out(model); i++) finite &= isfinite(scores[i]);
    say("%d", finite);
}

LINE(a_context_of_embeddings_has_no_logits, "embeddings on: are there logits too?") {
    struct llama_context *ctx = embedder("llama.gguf", LLAMA_POOLING_TYPE_NONE);
    say("%d", outputs(ctx, "111"));
    say("%d", !!llama_get_logits_ith(ctx, 2));
    ctx = embedder("llama.gguf", LLAMA_POOLING_TYPE_MEAN);
    say("%d", outputs(ctx, "111"));
    say("%d", !!llama_get_logits_ith(ctx, 2));
    say("%d", !!llama_get_embeddings_seq(ctx, 0));
}

LINE(embeddings_go_in, "A batch of embeddings instead of tokens decodes.") {
    struct llama_context *ctx = plain();
    struct llama_batch batch = llama_batch_init(2, 64, 1);
    for (int i = 0; i < 2; i++) {
        for (int j = 0; j < 64; j++) batch.embd[64 * i + j] = (float)((i + j) % 7) / 7;
        batch.pos[i] = i, batch.n_seq_id[i] = 1, batch.seq_id[i][0] = 0, batch.logits[i] = 1;
    }
    batch.n_tokens = 2;
    say("%d", llama_decode(ctx, batch));
    say("%d", !!llama_get_logits_ith(ctx, 1));
    say_range(ctx, 0);
}

LINE(tokens_and_embeddings_at_once, "A batch with both.") {
    struct llama_context *ctx = plain();
    struct llama_batch batch = llama_batch_init(1, 64, 1);
    llama_token token = 5;
    memset(batch.embd, 0, 64 * sizeof(float));
    batch.token = &token;
    batch.n_tokens = batch.n_seq_id[0] = batch.logits[0] = 1;
    batch.pos[0] = batch.seq_id[0][0] = 0;
    say("%d", llama_decode(ctx, batch));
}

LINE(neither_tokens_nor_embeddings, "A batch with neither.") {
    struct llama_context *ctx = plain();
    struct llama_batch batch = llama_batch_get_one(NULL, 1);
    say("%d", llama_decode(ctx, batch));
}

LINE(nobody_sampled, "Without samplers in the context nothing is sampled for the program.") {
    struct llama_context *ctx = plain();
    outputs(ctx, "001");
    say("%d %d", llama_get_sampled_token_ith(ctx, 2), !llama_get_sampled_probs_ith(ctx, 2));
    say("%d %u %u", !llama_get_sampled_candidates_ith(ctx, 2),
        llama_get_sampled_probs_count_ith(ctx, 2), llama_get_sampled_candidates_count_ith(ctx, 2));
    say("%d %u", !llama_get_sampled_logits_ith(ctx, 2), llama_get_sampled_logits_count_ith(ctx, 2));
}
