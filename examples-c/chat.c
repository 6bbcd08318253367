/* The shortest way to a conversation: the model's own chat format, one KV cache, line by line.
 *
 *   chat -m model.gguf
 *
 * Every turn lays out the whole conversation by the model's template. What is the same as before
 * stays in the cache; only the rest is decoded. */
#include "dialogue.h"
#include "generate.h"

#include <string.h>
#include <unistd.h>

struct chat {
    struct llama_model *model;
    struct llama_context *ctx;
    struct llama_sampler *sampler;
    struct dialogue dialogue;
    struct tokens past; /* what the cache holds */
    int64_t n_predict;
};

/* ---- turns ---- */

static void context_full(const struct chat *chat) {
    die("the context is full: it holds %u tokens, a larger -c holds more", llama_n_ctx(chat->ctx));
}

/* Brings the cache to these tokens. */
static void read_tokens(struct chat *chat, const struct tokens *now) {
    size_t same = 0; /* the last token is decoded again: its logits choose the answer's first */
    while (same < chat->past.len && same + 1 < now->len && chat->past.data[same] == now->data[same])
        same++;
    llama_memory_t memory = llama_get_memory(chat->ctx);
    if (same < chat->past.len && !llama_memory_seq_rm(memory, 0, (llama_pos)same, -1)) {
        llama_memory_clear(memory, true); /* a memory that cannot forget a part forgets all */
        same = 0;
    }
    if (now->len > llama_n_ctx(chat->ctx)) context_full(chat);
    decode_tokens(chat->ctx, now->data + same, now->len - same, (llama_pos)same, 0);
    chat->past.len = same;
    for (size_t i = same; i < now->len; i++) tokens_push(&chat->past, now->data[i]);
}

/* Writes an answer until the model ends it, -n, or Ctrl-C, which ends only the answer. */
static void answer(struct chat *chat) {
    const struct llama_vocab *vocab = llama_model_get_vocab(chat->model);
    struct tokens now = {0};
    struct text piece = {0}, text = {0};
    struct utf8_stream out = {0};
    text_add(&text, "", 0);
    dialogue_tokens(&chat->dialogue, &now);
    read_tokens(chat, &now);
    for (int64_t i = 0; (chat->n_predict < 0 || i < chat->n_predict) && !interrupted; i++) {
        llama_token token = llama_sampler_sample(chat->sampler, chat->ctx, -1);
        if (llama_vocab_is_eog(vocab, token)) break;
        token_piece(&piece, vocab, token, false);
        text_add(&text, piece.data, piece.len);
        utf8_write(&out, stdout, piece.data, piece.len);
        if (chat->past.len == llama_n_ctx(chat->ctx)) {
            utf8_flush(&out, stdout);
            putchar('\n');
            context_full(chat);
        }
        int32_t status = llama_decode(chat->ctx, llama_batch_get_one(&token, 1));
        if (status == 2) break; /* Ctrl-C */
        if (status) die_with_reason("decoding failed with status %d", status);
        tokens_push(&chat->past, token);
    }
    utf8_flush(&out, stdout);
    putchar('\n');
    fflush(stdout);
    dialogue_add(&chat->dialogue, "assistant", text.data, text.len);
    tokens_free(&now);
    text_free(&piece);
    text_free(&text);
}

/* Reads a line without its newline. False: end of input, or Ctrl-C. */
static bool read_line(struct text *line) {
    if (isatty(STDIN_FILENO)) {
        fputs("> ", stdout);
        fflush(stdout);
    }
    line->len = 0;
    text_add(line, "", 0);
    for (int c; (c = getchar()) != '\n';) {
        if (c == EOF) return line->len > 0 && !interrupted;
        text_add(line, &(char){(char)c}, 1);
    }
    return true;
}

int main(int argc, char **argv) {
    static struct chat chat; /* static: what it holds stays reachable when die() ends the program */
    const char *path = NULL, *system = NULL;
    int64_t n_ctx = 4096, seed = -1, threads = 0, n_gpu_layers = -1;
    double temp = 0.8;
    chat.n_predict = -1;
    const struct flag flags[] = {
        {FLAG_STRING, {"-m", "--model"}, "FILE", &path, "the model, a GGUF file", 0, 0},
        {FLAG_STRING, {"-sys", "--system-prompt"}, "TEXT", &system, "what the model is told first", 0, 0},
        {FLAG_INT, {"-n", "--predict", "--n-predict"}, "N", &chat.n_predict, "most tokens of an answer; -1: until the model ends it", -1, INT32_MAX},
        {FLAG_INT, {"-c", "--ctx-size"}, "N", &n_ctx, "context size in tokens; 0: what the model was trained with", 0, INT32_MAX},
        {FLAG_INT, {"-s", "--seed"}, "N", &seed, "seed of the random choice; -1: a new one each time", -1, UINT32_MAX - 1},
        {FLAG_FLOAT, {"--temp"}, "T", &temp, "temperature; 0: always the most likely token", 0, 1e6},
        {FLAG_INT, {"-t", "--threads"}, "N", &threads, "threads; 0: one for each CPU", 0, 512},
        {FLAG_INT, {"-ngl", "--gpu-layers", "--n-gpu-layers"}, "N", &n_gpu_layers, "layers on the GPU; -1: what fits", -1, INT32_MAX},
    };
    parse_flags(argc, argv, "a conversation, a line from stdin each turn", flags,
                sizeof flags / sizeof *flags, NULL);
    catch_sigint();
    log_init(false);
    struct llama_model_params params = llama_model_default_params();
    params.n_gpu_layers = (int32_t)n_gpu_layers;
    chat.model = load_model(path, params, &interrupted);
    chat.ctx = new_context(chat.model, (uint32_t)n_ctx, 512, 1, (int32_t)threads);
    chat.sampler = make_sampler(temp, seed < 0 ? LLAMA_DEFAULT_SEED : (uint32_t)seed);

    struct text line = {0};
    chat.dialogue.model = chat.model;
    if (system) dialogue_add(&chat.dialogue, "system", system, strlen(system));
    while (read_line(&line)) {
        if (!line.len) continue;
        dialogue_add(&chat.dialogue, "user", line.data, line.len);
        answer(&chat);
        interrupted = 0;
        clearerr(stdin);
    }
    if (isatty(STDIN_FILENO)) putchar('\n');

    dialogue_free(&chat.dialogue);
    tokens_free(&chat.past);
    text_free(&line);
    llama_sampler_free(chat.sampler);
    llama_free(chat.ctx);
    llama_model_free(chat.model);
    return 0;
}
