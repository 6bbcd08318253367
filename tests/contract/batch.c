/* Batches of both kinds, and what decode and encode answer. */
#include "contract.h"

LINE(get_one_points_to_tokens_only, "llama_batch_get_one allocates nothing: all but token is NULL.") {
    llama_token tokens[3] = {4, 5, 6};
    const struct llama_batch b = llama_batch_get_one(tokens, 3);
    say("%d %d %d %d %d %d %d", b.n_tokens, b.token == tokens, !b.embd, !b.pos, !b.n_seq_id,
        !b.seq_id, !b.logits);
}

LINE(no_positions_go_on_after_the_last, "pos NULL: each sequence goes on after its pos_max.") {
    struct llama_context *ctx = plain();
    llama_token tokens[3] = {4, 5, 6};
    say("%d", llama_decode(ctx, llama_batch_get_one(tokens, 3)));
    say_range(ctx, 0);
    say("%d", llama_decode(ctx, llama_batch_get_one(tokens, 2)));
    say_range(ctx, 0);
    llama_memory_seq_rm(llama_get_memory(ctx), 0, 2, -1);
    say("%d", llama_decode(ctx, llama_batch_get_one(tokens, 1)));
    say_range(ctx, 0);
}

LINE(no_sequences_mean_sequence_0, "seq_id and n_seq_id NULL: sequence 0.") {
    struct llama_context_params params = small();
    params.n_seq_max = 2;
    struct llama_context *ctx = start(load("llama.gguf"), params);
    llama_token tokens[3] = {4, 5, 6};
    say("%d", llama_decode(ctx, llama_batch_get_one(tokens, 3)));
    say_range(ctx, 0), say_range(ctx, 1);
}

LINE(no_logits_mean_the_last, "logits NULL: only the last token has an output.") {
    struct llama_context *ctx = plain();
    llama_token tokens[3] = {4, 5, 6};
    llama_decode(ctx, llama_batch_get_one(tokens, 3));
    say("%d %d %d", !!llama_get_logits_ith(ctx, 0), !!llama_get_logits_ith(ctx, 2),
        !!llama_get_logits_ith(ctx, -1));
}

LINE(embeddings_make_all_tokens_outputs, "A context of embeddings: every token is an output.") {
    struct llama_context_params params = small();
    params.embeddings = true;
    params.pooling_type = LLAMA_POOLING_TYPE_NONE;
    struct llama_context *ctx = start(load("llama.gguf"), params);
    llama_token tokens[3] = {4, 5, 6};
    say("%d", llama_decode(ctx, llama_batch_get_one(tokens, 3)));
    say("%d %d", !!llama_get_embeddings_ith(ctx, 0), !!llama_get_embeddings_ith(ctx, 2));
}

LINE(init_ends_the_list_of_sequences, "llama_batch_init: n_tokens + 1 pointers, the last NULL.") {
    struct llama_batch b = llama_batch_init(2, 0, 3);
    say("%d %d %d %d", b.n_tokens, !!b.token, !b.embd, !b.seq_id[2]);
    llama_batch_free(b);
    b = llama_batch_init(2, 8, 1);
    say("%d %d", !b.token, !!b.embd);
    llama_batch_free(b);
}

LINE(no_tokens_are_refused, "decode of 0 tokens: -1.") {
    struct llama_context *ctx = plain();
    struct llama_batch b = llama_batch_init(1, 0, 1);
    say("%d", llama_decode(ctx, b));
    say_range(ctx, 0);
}

static int one(struct llama_context *ctx, llama_token token, llama_pos pos, llama_seq_id seq) {
    struct llama_batch b = llama_batch_init(1, 0, 1);
    b.n_tokens = b.n_seq_id[0] = b.logits[0] = 1;
    b.token[0] = token, b.pos[0] = pos, b.seq_id[0][0] = seq;
    const int code = llama_decode(ctx, b);
    llama_batch_free(b);
    return code;
}

LINE(tokens_outside_the_vocabulary, "A token outside [0, n_vocab): -1, and nothing changes.") {
    struct llama_context *ctx = plain();
    say("%d %d %d", one(ctx, 96, 0, 0), one(ctx, -1, 0, 0), one(ctx, INT_MIN, 0, 0));
    say_range(ctx, 0);
    say("%d", one(ctx, 95, 0, 0));
}

LINE(sequences_outside_the_context, "seq_id outside [0, n_seq_max): -1.") {
    struct llama_context *ctx = plain();
    say("%d %d %d", one(ctx, 5, 0, 1), one(ctx, 5, 0, -1), one(ctx, 5, 0, 1000));
    say_range(ctx, 0);
}

LINE(positions_follow_the_last, "The first position of a sequence must be its pos_max + 1.") {
    struct llama_context *ctx = plain();
    say("%d", feed(ctx, 0, 0, 4));
    say("%d %d %d", one(ctx, 5, 3, 0), one(ctx, 5, 6, 0), one(ctx, 5, 0, 0));
    say_range(ctx, 0);
    say("%d", one(ctx, 5, 4, 0));
    say_range(ctx, 0);
}

LINE(a_sequence_may_start_anywhere, "An empty sequence may begin at any position.") {
    struct llama_context *ctx = plain();
    say("%d", one(ctx, 5, 10, 0));
    say_range(ctx, 0);
    say("%d", one(ctx, 5, -3, 0));
}

LINE(gaps_inside_of_a_batch, "Positions of a sequence that leave a gap in the batch: -1.") {
    struct llama_context *ctx = plain();
    struct llama_batch b = llama_batch_init(3, 0, 1);
    b.n_tokens = 3;
    for (int i = 0; i < 3; i++) {
        b.token[i] = 5, b.n_seq_id[i] = 1, b.seq_id[i][0] = 0, b.logits[i] = 1;
        b.pos[i] = i == 2 ? 3 : i;
    }
    say("%d", llama_decode(ctx, b));
    b.pos[0] = 2, b.pos[1] = 1, b.pos[2] = 0;
    say("%d", llama_decode(ctx, b));
    b.pos[0] = 0, b.pos[1] = 0, b.pos[2] = 1;
    say("%d", llama_decode(ctx, b));
    say_range(ctx, 0);
}

/* One token of sequences 0 and 1. */
static int shared(struct llama_context *ctx, llama_pos pos) {
    struct llama_batch b = llama_batch_init(1, 0, 2);
    b.n_tokens = b.logits[0] = 1;
    b.token[0] = 5, b.pos[0] = pos, b.n_seq_id[0] = 2, b.seq_id[0][0] = 0, b.seq_id[0][1] = 1;
    const int code = llama_decode(ctx, b);
    llama_batch_free(b);
    return code;
}

LINE(shared_tokens_need_one_cache, "A token of two sequences: 0 with kv_unified, else 1.") {
    for (int unified = 0; unified < 2; unified++) {
        struct llama_context_params params = small();
        params.n_ctx = 512;
        params.n_seq_max = 2;
        params.kv_unified = unified;
        struct llama_context *ctx = start(load("llama.gguf"), params);
        say("%d", shared(ctx, 0));
        say_range(ctx, 0), say_range(ctx, 1);
    }
}

LINE(coupled_sequences_stay_together, "Sequences that share a token must have the same pos_max: -1.") {
    struct llama_context_params params = small();
    params.n_seq_max = 2;
    params.kv_unified = true;
    struct llama_context *ctx = start(load("llama.gguf"), params);
    say("%d", feed(ctx, 0, 0, 3));
    say("%d", shared(ctx, 3));
    say_range(ctx, 0), say_range(ctx, 1);
}

LINE(no_room_is_1_and_changes_nothing, "No slot in the cache: 1; everything is as before.") {
    struct llama_context *ctx = plain();
    int n = 0, code = 0;
    while (!(code = feed(ctx, 0, n, 32))) n += 32;
    say("%d after %d", code, n);
    say_range(ctx, 0);
    say("%d", feed(ctx, 0, n, 1));
    llama_memory_seq_rm(llama_get_memory(ctx), 0, n - 1, -1);
    say("%d", feed(ctx, 0, n - 1, 1));
    say_range(ctx, 0);
}

static bool stop_now;
static bool stop(void *data) {
    (void)data;
    return stop_now;
}

LINE(abort_is_2, "The abort callback says true: 2; positions of the step are gone.") {
    struct llama_context *ctx = plain();
    llama_set_abort_callback(ctx, stop, NULL);
    say("%d", feed(ctx, 0, 0, 4));
    stop_now = true;
    say("%d", feed(ctx, 0, 4, 4));
    say_range(ctx, 0);
    stop_now = false;
    say("%d", feed(ctx, 0, 4, 4));
    say_range(ctx, 0);
}

static int n_asked, n_allowed = INT_MAX;
static bool stop_late(void *data) {
    (void)data;
    return ++n_asked > n_allowed;
}

LINE(earlier_ubatches_stay, "A failure takes the failing ubatch's positions, earlier ones stay.") {
    struct llama_context_params params = small();
    params.n_ubatch = 4;
    struct llama_context *ctx = start(load("llama.gguf"), params);
    /* How often one ubatch asks differs: count, then stop in the second. */
    llama_set_abort_callback(ctx, stop_late, NULL);
    say("%d", feed(ctx, 0, 0, 4));
    n_allowed = n_asked + n_asked / 2;
    n_asked = 0;
    say("%d", feed(ctx, 0, 4, 12));
    say_range(ctx, 0);
}

LINE(a_batch_larger_than_n_batch, "More tokens than n_batch.") {
    struct llama_context_params params = small();
    params.n_batch = params.n_ubatch = 8;
    struct llama_context *ctx = start(load("llama.gguf"), params);
    say("%d", feed(ctx, 0, 0, 8));
    say("%d", feed(ctx, 0, 8, 9));
}

LINE(non_causal_needs_one_ubatch, "Attention to both sides, and more tokens than n_ubatch.") {
    struct llama_context_params params = small();
    params.n_ubatch = 8;
    struct llama_context *ctx = start(load("llama.gguf"), params);
    llama_set_causal_attn(ctx, false);
    say("%d", feed(ctx, 0, 0, 8));
    llama_memory_clear(llama_get_memory(ctx), true);
    say("%d", feed(ctx, 0, 0, 9));
}

LINE(an_encoder_decodes_by_encoding, "Without a memory llama_decode is llama_encode.") {
    struct llama_context_params params = small();
    params.embeddings = true;
    struct llama_context *ctx = start(load("bert.gguf"), params);
    llama_token tokens[3] = {4, 5, 6};
    say("%d", !llama_get_memory(ctx));
    say("%d", llama_decode(ctx, llama_batch_get_one(tokens, 3)));
    say("%d", !!llama_get_embeddings_seq(ctx, 0));
    say("%d", llama_encode(ctx, llama_batch_get_one(tokens, 3)));
    say("%d", !!llama_get_embeddings_seq(ctx, 0));
}

LINE(encode_needs_n_ubatch, "encode of more tokens than n_ubatch.") {
    struct llama_context_params params = small();
    params.embeddings = true;
    params.n_ubatch = params.n_batch = 4;
    struct llama_context *ctx = start(load("bert.gguf"), params);
    llama_token tokens[5] = {4, 5, 6, 7, 8};
    say("%d", llama_encode(ctx, llama_batch_get_one(tokens, 4)));
    say("%d", llama_encode(ctx, llama_batch_get_one(tokens, 5)));
}

LINE(encode_of_a_decoder, "llama_encode with a decoder-only model.") {
    struct llama_context *ctx = plain();
    llama_token tokens[3] = {4, 5, 6};
    say("%d", llama_encode(ctx, llama_batch_get_one(tokens, 3)));
    say_range(ctx, 0);
}

LINE(decode_logs_failures_only, "decode logs an error for negative codes; llama_process does not.") {
    struct llama_context *ctx = plain();
    llama_log_set(log_count, NULL);
    one(ctx, 96, 0, 0);
    say("%d", n_logged[GGML_LOG_LEVEL_ERROR] > 0);
}

LINE(process_is_silent, "llama_process answers -1 by code; does it log?") {
    struct llama_context *ctx = plain();
    struct llama_batch_ext *b = llama_batch_ext_init(ctx);
    const llama_pos pos[4] = {5, 5, 5, 5}, gap[4] = {9, 9, 9, 9};
    llama_batch_ext_set_pos(b, llama_batch_ext_add_token(b, 0, 5), pos);
    llama_batch_ext_set_pos(b, llama_batch_ext_add_token(b, 0, 5), gap);
    say("%d", llama_process(ctx, LLAMA_PROCESS_TYPE_DECODE, b));
    say_range(ctx, 0);
}

/* ---- llama_batch_ext ---- */

LINE(ext_holds_n_batch, "llama_batch_ext: its capacity is n_batch, then -1.") {
    struct llama_context_params params = small();
    params.n_batch = params.n_ubatch = 4;
    struct llama_context *ctx = start(load("llama.gguf"), params);
    struct llama_batch_ext *b = llama_batch_ext_init(ctx);
    for (int i = 0; i < 5; i++) say("%d", llama_batch_ext_add_token(b, 0, 5));
    llama_batch_ext_clear(b);
    say("%d", llama_batch_ext_add_token(b, 0, 5));
    llama_batch_ext_free(b);
}

LINE(ext_refuses_by_code, "add_token: -2 for a bad token, -3 for a bad sequence.") {
    struct llama_context *ctx = plain();
    struct llama_batch_ext *b = llama_batch_ext_init(ctx);
    say("%d %d", llama_batch_ext_add_token(b, 0, 96), llama_batch_ext_add_token(b, 0, -1));
    say("%d %d", llama_batch_ext_add_token(b, 1, 5), llama_batch_ext_add_token(b, -1, 5));
    say("%d %d", llama_batch_ext_add(b, 0), llama_batch_ext_add(b, 7));
    say("%d", llama_batch_ext_add_token(b, 0, 5));
    llama_batch_ext_free(b);
}

LINE(ext_indices_are_checked, "The setters answer false for an index that is not there.") {
    struct llama_context_params params = small();
    params.n_seq_max = 2;
    params.kv_unified = true;
    struct llama_context *ctx = start(load("llama.gguf"), params);
    struct llama_batch_ext *b = llama_batch_ext_init(ctx);
    const llama_pos pos[4] = {0, 0, 0, 0};
    const int at = llama_batch_ext_add_token(b, 0, 5);
    for (int i = -1; i < 2; i++)
        say("[%d %d %d %d]", llama_batch_ext_set_pos(b, i, pos),
            llama_batch_ext_set_output_logits(b, i, true),
            llama_batch_ext_set_output_embd(b, i, true), llama_batch_ext_add_seq(b, i, 1));
    say("%d %d", llama_batch_ext_add_seq(b, at, 2), llama_batch_ext_add_seq(b, at, -1));
    llama_batch_ext_free(b);
}

LINE(ext_is_decoded_by_process, "llama_process decodes; an output is what was asked for.") {
    struct llama_context *ctx = plain();
    struct llama_batch_ext *b = llama_batch_ext_init(ctx);
    for (llama_pos i = 0; i < 3; i++) {
        const int at = llama_batch_ext_add_token(b, 0, word(i));
        llama_batch_ext_set_pos(b, at, &i);
        if (i != 1) llama_batch_ext_set_output_logits(b, at, true);
    }
    say("%d", llama_process(ctx, LLAMA_PROCESS_TYPE_DECODE, b));
    say_range(ctx, 0);
    say("%d %d %d", !!llama_get_logits_ith(ctx, 0), !!llama_get_logits_ith(ctx, 1),
        !!llama_get_logits_ith(ctx, 2));
    say("%d", llama_process(ctx, LLAMA_PROCESS_TYPE_DECODE, b));
    llama_batch_ext_free(b);
}

LINE(ext_without_positions, "A token without set_pos.") {
    struct llama_context *ctx = plain();
    struct llama_batch_ext *b = llama_batch_ext_init(ctx);
    llama_batch_ext_add_token(b, 0, 5);
    say("%d", llama_process(ctx, LLAMA_PROCESS_TYPE_DECODE, b));
    say_range(ctx, 0);
    llama_batch_ext_free(b);
}

LINE(ext_of_no_tokens, "llama_process of an empty batch.") {
    struct llama_context *ctx = plain();
    struct llama_batch_ext *b = llama_batch_ext_init(ctx);
    say("%d", llama_process(ctx, LLAMA_PROCESS_TYPE_DECODE, b));
    llama_batch_ext_free(b);
}

LINE(ext_state_is_refused, "set_embd_state is not there yet: false.") {
    struct llama_context *ctx = plain();
    struct llama_batch_ext *b = llama_batch_ext_init(ctx);
    const int at = llama_batch_ext_add(b, 0);
    struct llama_embd embd;
    memset(&embd, 0, sizeof embd);
    say("%d %d", at, llama_batch_ext_set_embd_state(b, at, embd));
    llama_batch_ext_free(b);
}
