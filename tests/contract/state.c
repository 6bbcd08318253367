/* llama_state_*: sizes, files, what is refused. */
#include "contract.h"

static bool same_answers(struct llama_context *a, struct llama_context *b, int pos) {
    if (feed(a, 0, pos, 1) || feed(b, 0, pos, 1)) return false;
    const float *x = llama_get_logits_ith(a, -1), *y = llama_get_logits_ith(b, -1);
    float error = 0;
    for (int i = 0; i < 96; i++) error = fmaxf(error, fabsf(x[i] - y[i]));
    return error < 1e-3f;
}

/* The whole state of a context, and how long it is. */
static uint8_t *taken(struct llama_context *ctx, size_t *size) {
    *size = llama_state_get_size(ctx);
    uint8_t *data = malloc(*size);
    if (llama_state_get_data(ctx, data, *size) != *size) broken("state");
    return data;
}

LINE(sizes_are_exact, "get_data fills what get_size says, and one byte less is refused.") {
    struct llama_context *ctx = plain();
    feed(ctx, 0, 0, 20);
    const size_t size = llama_state_get_size(ctx);
    uint8_t *data = calloc(1, size + 10);
    say("%d", llama_state_get_data(ctx, data, size) == size);
    say("%d", llama_state_get_data(ctx, data, size + 10) == size);
    say("%zu", llama_state_get_data(ctx, data, size - 1));
    const size_t part = llama_state_seq_get_size(ctx, 0);
    say("%d", llama_state_seq_get_data(ctx, data, part, 0) == part);
    say("%zu", llama_state_seq_get_data(ctx, data, part - 1, 0));
}

LINE(sizes_grow_with_tokens, "get_size is that of now: it grows with what is in the memory.") {
    struct llama_context *ctx = plain();
    const size_t none = llama_state_get_size(ctx);
    feed(ctx, 0, 0, 20);
    const size_t some = llama_state_get_size(ctx);
    feed(ctx, 0, 20, 20);
    const size_t more = llama_state_get_size(ctx);
    say("%d %d", none < some, some < more);
    llama_memory_clear(llama_get_memory(ctx), true);
    say("%d", llama_state_get_size(ctx) == none);
}

LINE(a_context_comes_back, "set_data in another context: positions and answers come back.") {
    struct llama_model *model = load("llama.gguf");
    struct llama_context *a = start(model, small()), *b = start(model, small());
    feed(a, 0, 0, 20);
    size_t size;
    uint8_t *data = taken(a, &size);
    say("%d", llama_state_set_data(b, data, size) == size);
    say_range(b, 0);
    say("%d", same_answers(a, b, 20));
}

LINE(outputs_are_not_in_it, "Logits are not part of a state: the last token is decoded again.") {
    struct llama_model *model = load("llama.gguf");
    struct llama_context *a = start(model, small()), *b = start(model, small());
    feed(a, 0, 0, 20);
    size_t size;
    uint8_t *data = taken(a, &size);
    llama_state_set_data(b, data, size);
    say("%d", !!llama_get_logits_ith(b, -1));
    llama_memory_seq_rm(llama_get_memory(b), 0, 19, -1);
    say("%d", feed(b, 0, 19, 1));
    say("%d", !!llama_get_logits_ith(b, -1));
}

LINE(cut_data_is_refused, "set_data of a part: 0, and the context can be used.") {
    struct llama_model *model = load("llama.gguf");
    struct llama_context *a = start(model, small()), *b = start(model, small());
    feed(a, 0, 0, 20);
    size_t size;
    uint8_t *data = taken(a, &size);
    say("%zu %zu %zu", llama_state_set_data(b, data, 0), llama_state_set_data(b, data, 3),
        llama_state_set_data(b, data, size - 1));
    llama_memory_clear(llama_get_memory(b), true);
    say("%d", feed(b, 0, 0, 3));
}

LINE(foreign_data_is_refused, "set_data of a state of another model or of noise: 0.") {
    struct llama_context *a = start(load("window.gguf"), small()), *b = plain();
    feed(a, 0, 0, 20);
    size_t size;
    uint8_t *data = taken(a, &size);
    say("%zu", llama_state_set_data(b, data, size));
    for (size_t i = 0; i < size; i++) data[i] = (uint8_t)(i * 131 + 7);
    say("%zu", llama_state_set_data(b, data, size));
    llama_memory_clear(llama_get_memory(b), true);
    say("%d", feed(b, 0, 0, 3));
}

LINE(smaller_contexts_refuse, "set_data of more cells than there are: 0.") {
    struct llama_model *model = load("llama.gguf");
    struct llama_context_params params = small();
    params.n_ctx = 512;
    struct llama_context *a = start(model, params), *b = start(model, small());
    for (int i = 0; i < 300; i += 50) feed(a, 0, i, 50);
    size_t size;
    uint8_t *data = taken(a, &size);
    say("%zu", llama_state_set_data(b, data, size));
}

LINE(a_file_and_its_tokens, "save_file and load_file carry the tokens.") {
    struct llama_model *model = load("llama.gguf");
    struct llama_context *a = start(model, small()), *b = start(model, small());
    feed(a, 0, 0, 5);
    llama_token tokens[5], back[8];
    for (int i = 0; i < 5; i++) tokens[i] = word(i);
    const char *path = file(scratch, "whole.state");
    say("%d", llama_state_save_file(a, path, tokens, 5));
    size_t n = 0;
    say("%d %zu %d", llama_state_load_file(b, path, back, 8, &n), n, !memcmp(tokens, back, sizeof tokens));
    say_range(b, 0);
    unsigned char head[12];
    FILE *f = fopen(path, "rb");
    if (!f || fread(head, 1, 12, f) != 12) broken("file");
    for (int i = 0; i < 12; i++) say("%02x", head[i]);
}

LINE(too_few_places_for_tokens, "load_file with a capacity below the count: false.") {
    struct llama_model *model = load("llama.gguf");
    struct llama_context *a = start(model, small()), *b = start(model, small());
    feed(a, 0, 0, 5);
    llama_token tokens[5] = {3, 4, 5, 6, 7}, back[8];
    const char *path = file(scratch, "few.state");
    llama_state_save_file(a, path, tokens, 5);
    size_t n = 99;
    say("%d", llama_state_load_file(b, path, back, 4, &n));
    say_range(b, 0);
    say("%d", feed(b, 0, 0, 3));
}

static void damage(const char *from, const char *to, long at, int byte, long cut) {
    FILE *in = fopen(from, "rb"), *out = fopen(to, "wb");
    if (!in || !out) broken("files");
    fseek(in, 0, SEEK_END);
    const long size = ftell(in) - cut;
    rewind(in);
    for (long i = 0; i < size; i++) {
        const int c = fgetc(in);
        fputc(i == at ? byte : c, out);
    }
    fclose(in), fclose(out);
}

LINE(other_versions_and_magics, "load_file of another magic or version, a cut file, none: false.") {
    struct llama_model *model = load("llama.gguf");
    struct llama_context *a = start(model, small()), *b = start(model, small());
    feed(a, 0, 0, 5);
    llama_token tokens[5] = {3, 4, 5, 6, 7}, back[8];
    size_t n = 0;
    const char *path = file(scratch, "good.state"), *bad = file(scratch, "bad.state");
    llama_state_save_file(a, path, tokens, 5);
    damage(path, bad, 0, 'x', 0);
    say("%d", llama_state_load_file(b, bad, back, 8, &n));
    damage(path, bad, 4, 99, 0);
    say("%d", llama_state_load_file(b, bad, back, 8, &n));
    damage(path, bad, -1, 0, 40);
    say("%d", llama_state_load_file(b, bad, back, 8, &n));
    say("%d", llama_state_load_file(b, file(scratch, "missing"), back, 8, &n));
    llama_memory_clear(llama_get_memory(b), true);
    say("%d", feed(b, 0, 0, 3));
}

LINE(files_of_sequences, "seq_save_file and seq_load_file: into another sequence, with tokens.") {
    struct llama_model *model = load("llama.gguf");
    struct llama_context_params params = small();
    params.n_seq_max = 3;
    params.kv_unified = true;
    struct llama_context *a = start(model, params), *b = start(model, params);
    feed(a, 1, 0, 5);
    llama_token tokens[5] = {3, 4, 5, 6, 7}, back[8];
    const char *path = file(scratch, "seq.state");
    say("%d", llama_state_seq_save_file(a, path, 1, tokens, 5) > 0);
    size_t n = 0;
    say("%d", llama_state_seq_load_file(b, path, 2, back, 8, &n) > 0);
    say("%zu %d", n, !memcmp(tokens, back, sizeof tokens));
    say_range(b, 1), say_range(b, 2);
    unsigned char head[12];
    FILE *f = fopen(path, "rb");
    if (!f || fread(head, 1, 12, f) != 12) broken("file");
    for (int i = 0; i < 12; i++) say("%02x", head[i]);
}

LINE(only_the_count, "seq_load_file with tokens_out NULL reports the count.") {
    struct llama_model *model = load("llama.gguf");
    struct llama_context *a = start(model, small()), *b = start(model, small());
    feed(a, 0, 0, 5);
    llama_token tokens[5] = {3, 4, 5, 6, 7};
    const char *path = file(scratch, "count.state");
    llama_state_seq_save_file(a, path, 0, tokens, 5);
    size_t n = 0;
    say("%d", llama_state_seq_load_file(b, path, 0, NULL, 0, &n) > 0);
    say("%zu", n);
    say_range(b, 0);
}

LINE(sequences_replace, "seq_set_data replaces what the sequence had; a bad one leaves it usable.") {
    struct llama_model *model = load("llama.gguf");
    struct llama_context *a = start(model, small()), *b = start(model, small());
    feed(a, 0, 0, 5);
    feed(b, 0, 0, 9);
    const size_t size = llama_state_seq_get_size(a, 0);
    uint8_t *data = malloc(size);
    llama_state_seq_get_data(a, data, size, 0);
    say("%d", llama_state_seq_set_data(b, data, size, 0) == size);
    say_range(b, 0);
    say("%zu", llama_state_seq_set_data(b, data, size - 1, 0));
    llama_memory_clear(llama_get_memory(b), true);
    say("%d", feed(b, 0, 0, 3));
}

LINE(an_empty_sequence_is_saved, "seq_get_size and a round trip of an empty sequence.") {
    struct llama_model *model = load("llama.gguf");
    struct llama_context *a = start(model, small()), *b = start(model, small());
    const size_t size = llama_state_seq_get_size(a, 0);
    uint8_t *data = malloc(size + 1);
    say("%d", size > 0);
    say("%d", llama_state_seq_get_data(a, data, size, 0) == size);
    feed(b, 0, 0, 3);
    say("%d", llama_state_seq_set_data(b, data, size, 0) == size);
    say_range(b, 0);
}

LINE(masked_cells_are_left_out, "Cells that the window hides are not in a sequence's state.") {
    struct llama_context_params params = small();
    params.swa_full = false;
    params.n_ubatch = 16;
    struct llama_model *model = load("window.gguf");
    struct llama_context *a = start(model, params), *b = start(model, params);
    for (int i = 0; i < 64; i += 16) feed(a, 0, i, 16);
    const size_t size = llama_state_seq_get_size(a, 0);
    uint8_t *data = malloc(size);
    llama_state_seq_get_data(a, data, size, 0);
    say("%d", llama_state_seq_set_data(b, data, size, 0) == size);
    say_range(a, 0), say_range(b, 0);
    say("%d", same_answers(a, b, 64));
}

LINE(partial_only, "PARTIAL_ONLY: the windowed part alone; nothing less for other models.") {
    struct llama_context_params params = small();
    params.swa_full = false;
    struct llama_context *a = start(load("window.gguf"), params);
    feed(a, 0, 0, 40);
    const size_t whole = llama_state_seq_get_size(a, 0);
    const size_t part = llama_state_seq_get_size_ext(a, 0, LLAMA_STATE_SEQ_FLAGS_PARTIAL_ONLY);
    say("%d", part < whole);
    struct llama_context *b = plain();
    feed(b, 0, 0, 40);
    say("%d", llama_state_seq_get_size_ext(b, 0, LLAMA_STATE_SEQ_FLAGS_PARTIAL_ONLY) ==
                  llama_state_seq_get_size(b, 0));
}

LINE(partial_only_of_a_full_cache, "PARTIAL_ONLY with swa_full: the windowed part too.") {
    struct llama_context_params params = small();
    params.swa_full = true;
    struct llama_context *a = start(load("window.gguf"), params);
    feed(a, 0, 0, 40);
    const size_t whole = llama_state_seq_get_size(a, 0);
    const size_t part = llama_state_seq_get_size_ext(a, 0, LLAMA_STATE_SEQ_FLAGS_PARTIAL_ONLY);
    say("%d", part < whole);
}

LINE(states_on_the_device, "ON_DEVICE: the state stays with the context; its size says little.") {
    struct llama_context *a = plain();
    feed(a, 0, 0, 20);
    const llama_state_seq_flags on_device = LLAMA_STATE_SEQ_FLAGS_ON_DEVICE;
    const size_t size = llama_state_seq_get_size_ext(a, 0, on_device);
    uint8_t *data = malloc(size + 1);
    say("%d", size < llama_state_seq_get_size(a, 0));
    say("%d", llama_state_seq_get_data_ext(a, data, size, 0, on_device) == size);
    llama_memory_clear(llama_get_memory(a), true);
    say("%d", llama_state_seq_set_data_ext(a, data, size, 0, on_device) == size);
    say_range(a, 0);
    say("%d", feed(a, 0, 20, 1));
}
