/* A state in a file: generates, goes back to where it was in a new context, and again as another
 * sequence, and compares the texts.
 *
 *   save-load-state -m model.gguf -n 32 "The quick brown fox"
 *
 * The state is saved before the prompt's last token: that one is decoded again after each restore,
 * and its logits choose the first new token. */
#define _XOPEN_SOURCE 700 /* POSIX 2008, and P_tmpdir */
#include "generate.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct run {
    struct llama_model *model;
    struct tokens prompt;
    int64_t n_predict, seed, threads;
    double temp;
};

static struct llama_context *run_context(const struct run *run, uint32_t n_seq) {
    uint32_t n_ctx = (uint32_t)(run->prompt.len + (size_t)run->n_predict);
    return new_context(run->model, n_ctx, 512, n_seq, (int32_t)run->threads);
}

/* Decodes the prompt's last token in a sequence that has the others, and continues. */
static void continue_text(const struct run *run, struct llama_context *ctx, llama_seq_id seq,
                          const char *name, struct text *text) {
    const struct llama_vocab *vocab = llama_model_get_vocab(run->model);
    struct llama_sampler *sampler = make_sampler(run->temp, (uint32_t)run->seed);
    struct text piece = {0};
    text_add(text, "", 0);
    llama_pos past = (llama_pos)run->prompt.len - 1;
    llama_token next = run->prompt.data[past];
    for (int64_t i = 0; i < run->n_predict; i++) {
        show_count(name, (uint64_t)i, (uint64_t)run->n_predict);
        decode_tokens(ctx, &next, 1, past++, seq);
        next = llama_sampler_sample(sampler, ctx, -1);
        if (llama_vocab_is_eog(vocab, next)) break;
        token_piece(&piece, vocab, next, true);
        text_add(text, piece.data, piece.len);
    }
    show_count(name, 1, 1);
    printf("%s: %s\n", name, text->data);
    fflush(stdout);
    text_free(&piece);
    llama_sampler_free(sampler);
}

/* Restores the file in a new context; what it says of the tokens must be the prompt. */
static struct llama_context *restore(const struct run *run, const char *path, uint32_t n_seq) {
    struct llama_context *ctx = run_context(run, n_seq);
    size_t n_saved = run->prompt.len - 1, n = 0;
    llama_token *saved = xrealloc(NULL, n_saved * sizeof *saved);
    log_forget();
    if (!llama_state_load_file(ctx, path, saved, n_saved, &n))
        die_with_reason("cannot restore the state of '%s'", path);
    if (n != n_saved || memcmp(saved, run->prompt.data, n * sizeof *saved))
        die("'%s' has other tokens than the prompt", path);
    free(saved);
    return ctx;
}

/* Moves sequence 0 to sequence 1 through memory. */
static void move_sequence(struct llama_context *ctx) {
    size_t size = llama_state_seq_get_size(ctx, 0);
    uint8_t *state = xrealloc(NULL, size);
    log_forget();
    if (llama_state_seq_get_data(ctx, state, size, 0) != size)
        die_with_reason("cannot read the state of sequence 0");
    llama_memory_clear(llama_get_memory(ctx), true);
    if (llama_state_seq_set_data(ctx, state, size, 1) != size)
        die_with_reason("cannot restore the state as sequence 1");
    note("sequence 0 as sequence 1: %zu bytes", size);
    free(state);
}

/* A file of our own in $TMPDIR, that goes when the program ends. */
static struct text made;

static void remove_made(void) {
    remove(made.data);
    text_free(&made);
}

static const char *make_file(void) {
    const char *folder = getenv("TMPDIR");
    text_addf(&made, "%s/save-load-state-XXXXXX", folder && *folder ? folder : P_tmpdir);
    int fd = mkstemp(made.data);
    if (fd < 0) die("cannot make a file '%s': give one with --state", made.data);
    close(fd);
    atexit(remove_made);
    return made.data;
}

int main(int argc, char **argv) {
    const char *path = NULL, *prompt = "The quick brown fox", *file = NULL;
    int64_t n_gpu_layers = -1;
    struct run run = {.n_predict = 16, .seed = 1234, .temp = 0.8};
    const struct flag flags[] = {
        {FLAG_STRING, {"-m", "--model"}, "FILE", &path, "the model, a GGUF file", 0, 0},
        {FLAG_STRING, {"-p", "--prompt"}, "TEXT", &prompt, "the text to continue (or give it without a flag)", 0, 0},
        {FLAG_INT, {"-n", "--predict", "--n-predict"}, "N", &run.n_predict, "tokens to generate", 1, 1 << 20},
        {FLAG_STRING, {"--state"}, "FILE", &file, "keep the state in this file (else in a temporary one)", 0, 0},
        {FLAG_INT, {"-s", "--seed"}, "N", &run.seed, "seed of the random choice", 0, UINT32_MAX - 1},
        {FLAG_FLOAT, {"--temp"}, "T", &run.temp, "temperature; 0: always the most likely token", 0, 1e6},
        {FLAG_INT, {"-t", "--threads"}, "N", &run.threads, "threads; 0: one for each CPU", 0, 512},
        {FLAG_INT, {"-ngl", "--gpu-layers", "--n-gpu-layers"}, "N", &n_gpu_layers, "layers on the GPU; -1: what fits", -1, INT32_MAX},
    };
    parse_flags(argc, argv, "[flags] \"prompt\": saves and restores a state", flags,
                sizeof flags / sizeof *flags, &prompt);
    catch_sigint();
    log_init(false);
    struct llama_model_params params = llama_model_default_params();
    params.n_gpu_layers = (int32_t)n_gpu_layers;
    run.model = load_model(path, params, &interrupted);
    tokens_add_text(&run.prompt, llama_model_get_vocab(run.model), prompt, strlen(prompt), true,
                    true);
    if (run.prompt.len < 2) die("the prompt needs two tokens or more, '%s' has %zu", prompt,
                                run.prompt.len);

    const char *state = file ? file : make_file();

    struct text first = {0}, second = {0}, other = {0};
    struct llama_context *ctx = run_context(&run, 1);
    decode_tokens(ctx, run.prompt.data, run.prompt.len - 1, 0, 0);
    log_forget();
    bool saved = llama_state_save_file(ctx, state, run.prompt.data, run.prompt.len - 1);
    if (!saved) die_with_reason("cannot save the state in '%s'", state);
    continue_text(&run, ctx, 0, "first run", &first);
    llama_free(ctx);

    ctx = restore(&run, state, 1);
    continue_text(&run, ctx, 0, "restored", &second);
    llama_free(ctx);

    ctx = restore(&run, state, 2);
    move_sequence(ctx);
    continue_text(&run, ctx, 1, "other sequence", &other);
    llama_free(ctx);

    if (strcmp(first.data, second.data)) die("the restored context wrote another text");
    if (strcmp(first.data, other.data)) die("the other sequence wrote another text");
    puts("the three texts are equal");

    text_free(&first);
    text_free(&second);
    text_free(&other);
    tokens_free(&run.prompt);
    llama_model_free(run.model);
    return 0;
}
