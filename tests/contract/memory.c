/* llama_memory_*: removing, copying, shifting. */
#include "contract.h"

static struct llama_context *several(bool unified) {
    struct llama_context_params params = small();
    params.n_seq_max = 3;
    params.n_ctx = 768;
    params.kv_unified = unified;
    return start(load("llama.gguf"), params);
}

/* Three sequences of 6, 5 and 4 tokens. */
static struct llama_context *filled(bool unified) {
    struct llama_context *ctx = several(unified);
    feed(ctx, 0, 0, 6), feed(ctx, 1, 0, 5), feed(ctx, 2, 0, 4);
    return ctx;
}

LINE(no_memory_is_tolerated, "memory NULL: rm true, can_shift false, positions -1.") {
    say("%d %d", llama_memory_seq_rm(NULL, 0, 0, -1), llama_memory_can_shift(NULL));
    say("%d %d", llama_memory_seq_pos_min(NULL, 0), llama_memory_seq_pos_max(NULL, 0));
    llama_memory_clear(NULL, true);
    llama_memory_seq_cp(NULL, 0, 1, 0, -1);
    llama_memory_seq_keep(NULL, 0);
    llama_memory_seq_add(NULL, 0, 0, -1, 1);
    llama_memory_seq_div(NULL, 0, 0, -1, 2);
    say("%d", !llama_get_memory(plain()));
}

LINE(an_empty_sequence_has_no_positions, "pos_min and pos_max of an empty sequence: -1.") {
    struct llama_context *ctx = several(true);
    say_range(ctx, 0), say_range(ctx, 2);
    feed(ctx, 1, 0, 3);
    say_range(ctx, 0), say_range(ctx, 1);
}

LINE(ranges_are_half_open, "seq_rm takes [p0, p1).") {
    struct llama_context *ctx = plain();
    feed(ctx, 0, 0, 10);
    say("%d", llama_memory_seq_rm(llama_get_memory(ctx), 0, 6, 9));
    say_range(ctx, 0);
    say("%d", llama_memory_seq_rm(llama_get_memory(ctx), 0, 9, 10));
    say_range(ctx, 0);
}

LINE(negative_bounds_are_open, "p0 < 0 is 0 and p1 < 0 is infinity.") {
    struct llama_context *ctx = plain();
    feed(ctx, 0, 0, 10);
    say("%d", llama_memory_seq_rm(llama_get_memory(ctx), 0, -5, 3));
    say_range(ctx, 0);
    say("%d", llama_memory_seq_rm(llama_get_memory(ctx), 0, 7, -9));
    say_range(ctx, 0);
    say("%d", llama_memory_seq_rm(llama_get_memory(ctx), 0, -1, -1));
    say_range(ctx, 0);
}

LINE(empty_and_turned_ranges, "seq_rm of [5, 5) and [7, 3).") {
    struct llama_context *ctx = plain();
    feed(ctx, 0, 0, 10);
    say("%d", llama_memory_seq_rm(llama_get_memory(ctx), 0, 5, 5));
    say("%d", llama_memory_seq_rm(llama_get_memory(ctx), 0, 7, 3));
    say("%d", llama_memory_seq_rm(llama_get_memory(ctx), 0, 100, 200));
    say_range(ctx, 0);
}

LINE(minus_one_is_every_sequence, "seq_rm of sequence -1 removes from all.") {
    for (int unified = 0; unified < 2; unified++) {
        struct llama_context *ctx = filled(unified);
        say("%d", llama_memory_seq_rm(llama_get_memory(ctx), -1, 3, -1));
        say_range(ctx, 0), say_range(ctx, 1), say_range(ctx, 2);
    }
}

LINE(sequences_that_do_not_exist, "seq_rm and positions of a sequence past n_seq_max.") {
    struct llama_context *ctx = plain();
    feed(ctx, 0, 0, 3);
    say("%d", llama_memory_seq_rm(llama_get_memory(ctx), 1, 0, -1));
}

LINE(positions_of_sequences_that_do_not_exist, "pos_max of a sequence past n_seq_max.") {
    struct llama_context *ctx = plain();
    say("%d", llama_memory_seq_pos_max(llama_get_memory(ctx), 1000));
}

LINE(copies_share_cells, "seq_cp with one cache: metadata only, any range.") {
    struct llama_context *ctx = several(true);
    feed(ctx, 0, 0, 8);
    llama_memory_seq_cp(llama_get_memory(ctx), 0, 1, 2, 5);
    say_range(ctx, 0), say_range(ctx, 1);
    llama_memory_seq_rm(llama_get_memory(ctx), 0, -1, -1);
    say_range(ctx, 0), say_range(ctx, 1);
}

LINE(copies_across_streams, "seq_cp with a cache per sequence: the whole sequence.") {
    struct llama_context *ctx = several(false);
    feed(ctx, 0, 0, 8);
    llama_memory_seq_cp(llama_get_memory(ctx), 0, 1, -1, -1);
    say_range(ctx, 0), say_range(ctx, 1);
    say("%d", feed(ctx, 1, 8, 1));
    say_range(ctx, 0), say_range(ctx, 1);
}

LINE(a_part_across_streams, "seq_cp of a part, with a cache per sequence.") {
    struct llama_context *ctx = several(false);
    feed(ctx, 0, 0, 8);
    llama_memory_seq_cp(llama_get_memory(ctx), 0, 1, 2, 5);
    say_range(ctx, 0), say_range(ctx, 1);
}

LINE(a_copy_goes_on_alike, "What a copied sequence answers is what its source answers.") {
    for (int unified = 0; unified < 2; unified++) {
        struct llama_context *ctx = several(unified);
        feed(ctx, 0, 0, 8);
        llama_memory_seq_cp(llama_get_memory(ctx), 0, 1, -1, -1);
        float source[96];
        feed(ctx, 0, 8, 1);
        memcpy(source, llama_get_logits_ith(ctx, -1), sizeof source);
        feed(ctx, 1, 8, 1);
        float error = 0;
        for (int i = 0; i < 96; i++) error = fmaxf(error, fabsf(source[i] - llama_get_logits_ith(ctx, -1)[i]));
        say("%d", error < 1e-3f);
    }
}

LINE(keep_drops_the_others, "seq_keep leaves one sequence.") {
    struct llama_context *ctx = filled(true);
    llama_memory_seq_keep(llama_get_memory(ctx), 1);
    say_range(ctx, 0), say_range(ctx, 1), say_range(ctx, 2);
}

LINE(keep_with_streams, "seq_keep with a cache per sequence.") {
    struct llama_context *ctx = filled(false);
    llama_memory_seq_keep(llama_get_memory(ctx), 1);
    say_range(ctx, 0), say_range(ctx, 1), say_range(ctx, 2);
}

LINE(shifts_move_positions_at_once, "seq_add changes positions now; keys turn at the next decode.") {
    struct llama_context *ctx = plain();
    feed(ctx, 0, 0, 10);
    llama_memory_t memory = llama_get_memory(ctx);
    say("%d", llama_memory_can_shift(memory));
    llama_memory_seq_rm(memory, 0, 2, 6);
    llama_memory_seq_add(memory, 0, 6, -1, -4);
    say_range(ctx, 0);
    say("%d", feed(ctx, 0, 6, 1));
    say_range(ctx, 0);
}

LINE(shifts_below_zero_drop_tokens, "seq_add that makes positions negative removes them.") {
    struct llama_context *ctx = plain();
    feed(ctx, 0, 0, 10);
    llama_memory_seq_add(llama_get_memory(ctx), 0, 0, -1, -4);
    say_range(ctx, 0);
}

LINE(a_shift_of_nothing, "seq_add by 0, and of an empty range.") {
    struct llama_context *ctx = plain();
    feed(ctx, 0, 0, 10);
    llama_memory_seq_add(llama_get_memory(ctx), 0, 0, -1, 0);
    llama_memory_seq_add(llama_get_memory(ctx), 0, 5, 5, 3);
    say_range(ctx, 0);
}

LINE(shifting_a_gap_open, "seq_add upwards leaves a gap; the sequence goes on after it.") {
    struct llama_context *ctx = plain();
    feed(ctx, 0, 0, 4);
    llama_memory_seq_add(llama_get_memory(ctx), 0, 2, -1, 10);
    say_range(ctx, 0);
    say("%d", feed(ctx, 0, 14, 1));
    say_range(ctx, 0);
}

LINE(positions_are_divided, "seq_div divides, rounding down; by 1 it does nothing.") {
    struct llama_context *ctx = plain();
    feed(ctx, 0, 0, 10);
    llama_memory_seq_div(llama_get_memory(ctx), 0, 0, -1, 1);
    say_range(ctx, 0);
    llama_memory_seq_div(llama_get_memory(ctx), 0, 4, -1, 2);
    say_range(ctx, 0);
}

LINE(shifts_of_shared_cells, "seq_add of a sequence that shares its cells.") {
    struct llama_context *ctx = several(true);
    feed(ctx, 0, 0, 6);
    llama_memory_seq_cp(llama_get_memory(ctx), 0, 1, -1, -1);
    llama_memory_seq_add(llama_get_memory(ctx), 0, 0, -1, 2);
    say_range(ctx, 0), say_range(ctx, 1);
}

LINE(clearing, "clear removes all positions, with or without the data.") {
    for (int data = 0; data < 2; data++) {
        struct llama_context *ctx = several(true);
        feed(ctx, 0, 0, 6), feed(ctx, 1, 0, 5);
        llama_memory_clear(llama_get_memory(ctx), data);
        say_range(ctx, 0), say_range(ctx, 1);
        say("%d", feed(ctx, 0, 0, 3));
    }
}

LINE(windows_forget, "With swa_full off, pos_min rises as the window slides; others keep all.") {
    for (int full = 0; full < 2; full++) {
        struct llama_context_params params = small();
        params.swa_full = full;
        params.n_ubatch = 16;
        struct llama_context *ctx = start(load("window.gguf"), params);
        say("%d", llama_model_n_swa(llama_get_model(ctx)));
        for (int i = 0; i < 64; i += 16) say("%d", feed(ctx, 0, i, 16));
        say_range(ctx, 0);
    }
    struct llama_context *ctx = plain();
    feed(ctx, 0, 0, 64);
    say_range(ctx, 0);
}

LINE(the_last_token_can_be_taken_back, "Two tokens in, one removed: what servers probe with.") {
    struct llama_context *ctx = plain();
    llama_token tokens[2] = {0, 0};
    say("%d", llama_decode(ctx, llama_batch_get_one(tokens, 2)));
    say("%d", llama_memory_seq_rm(llama_get_memory(ctx), 0, 1, -1));
    say_range(ctx, 0);
}
