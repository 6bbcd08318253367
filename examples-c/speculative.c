/* Faster text by guessing: several tokens are guessed cheaply, and the model checks them all in one
 * batch, which costs little more than one token.
 *
 *   speculative -m large.gguf -md small.gguf -p "..."   a small model with the same vocabulary guesses
 *   speculative -m model.gguf --lookup -f article.txt   what followed the last words before is the guess
 *
 * The text is the one that the model would write without the guesses: every token is chosen from
 * the model's own logits, and the first that differs from its guess ends what is taken over. */
#include "generate.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct options {
    const char *model, *draft, *prompt, *file;
    int64_t n_predict, n_ctx, n_batch, seed, threads, threads_draft, n_gpu_layers, n_gpu_layers_draft;
    int64_t draft_max, draft_min, ngram_min, ngram_max;
    double temp, p_min;
    bool lookup, special;
};

/* The small model and what its cache holds. */
struct drafter {
    struct llama_model *model;
    struct llama_context *ctx;
    struct tokens past;
};

/* ---- guesses ---- */

/* The token of the greatest logit, and its probability. */
static llama_token most_likely(const float *logits, int32_t n_vocab, double *p) {
    llama_token best = 0;
    for (llama_token t = 1; t < n_vocab; t++)
        if (logits[t] > logits[best]) best = t;
    double sum = 0;
    for (llama_token t = 0; t < n_vocab; t++) sum += exp((double)(logits[t] - logits[best]));
    *p = 1 / sum;
    return best;
}

/* Brings the small model to the text as it is now, and lets it continue for up to `most` tokens,
 * as long as it is sure of them. */
static void guess_by_model(struct drafter *d, const struct options *o, const struct tokens *text,
                           size_t most, struct tokens *guess) {
    size_t same = 0; /* the last token is decoded again: its logits choose the first guess */
    while (same < d->past.len && same + 1 < text->len && d->past.data[same] == text->data[same])
        same++;
    if (same < d->past.len &&
        !llama_memory_seq_rm(llama_get_memory(d->ctx), 0, (llama_pos)same, -1)) {
        llama_memory_clear(llama_get_memory(d->ctx), true);
        same = 0;
    }
    d->past.len = same;
    const struct llama_vocab *vocab = llama_model_get_vocab(d->model);
    decode_tokens(d->ctx, text->data + same, text->len - same, (llama_pos)same, 0);
    for (size_t i = same; i < text->len; i++) tokens_push(&d->past, text->data[i]);
    while (guess->len < most) {
        double p;
        llama_token token = most_likely(llama_get_logits_ith(d->ctx, -1),
                                        llama_vocab_n_tokens(vocab), &p);
        if (p < o->p_min || llama_vocab_is_eog(vocab, token)) break;
        tokens_push(guess, token);
        if (guess->len == most) break;
        decode_tokens(d->ctx, &token, 1, (llama_pos)d->past.len, 0);
        tokens_push(&d->past, token);
    }
}

/* Where the text's last words, as many as possible, were before, the same may follow again. */
static void guess_by_lookup(const struct options *o, const struct tokens *text, size_t most,
                            struct tokens *guess) {
    const llama_token *end = text->data + text->len;
    for (size_t n = (size_t)o->ngram_max; n >= (size_t)o->ngram_min; n--) {
        if (n >= text->len) continue;
        for (const llama_token *at = end - n - 1; at >= text->data; at--) {
            if (memcmp(at, end - n, n * sizeof *at) != 0) continue;
            for (const llama_token *t = at + n; t < end && guess->len < most; t++)
                tokens_push(guess, *t);
            return;
        }
    }
}

/* The guesses are tokens of one model and inputs of the other. */
static void check_vocabularies(const struct llama_vocab *a, const struct llama_vocab *b) {
    int32_t n = llama_vocab_n_tokens(a);
    if (n != llama_vocab_n_tokens(b))
        die("the models have %d and %d tokens: the draft model needs the same vocabulary", n,
            llama_vocab_n_tokens(b));
    for (llama_token t = 0; t < n; t++) {
        const char *x = llama_vocab_get_text(a, t), *y = llama_vocab_get_text(b, t);
        if (x && y && strcmp(x, y) != 0)
            die("token %d is '%s' and '%s': the draft model needs the same vocabulary", t, x, y);
    }
}

/* ---- the text ---- */

struct counts {
    size_t n_predicted, n_drafted, n_accepted, n_batches;
};

/* Takes one token over. False: it ends the text. */
static bool take(const struct options *o, const struct llama_vocab *vocab, llama_token token,
                 struct tokens *text, struct utf8_stream *out) {
    static struct text piece;
    if (llama_vocab_is_eog(vocab, token)) return false;
    tokens_push(text, token);
    token_piece(&piece, vocab, token, o->special);
    utf8_write(out, stdout, piece.data, piece.len);
    return true;
}

static void generate(const struct options *o, struct llama_context *ctx, struct drafter *drafter,
                     struct tokens *text, struct counts *counts) {
    const struct llama_vocab *vocab = llama_model_get_vocab(llama_get_model(ctx));
    struct llama_sampler *sampler = make_sampler(o->temp, (uint32_t)o->seed);
    struct llama_batch batch = llama_batch_init((int32_t)o->draft_max + 1, 0, 1);
    struct tokens guess = {0};
    struct utf8_stream out = {0};
    size_t limit = text->len + (size_t)o->n_predict, n_prompt = text->len;

    /* All but the last token; that one is the first of every batch. */
    decode_tokens(ctx, text->data, text->len - 1, 0, 0);
    bool more = true;
    while (more && text->len < limit) {
        size_t past = text->len - 1, most = limit - text->len - 1; /* one token comes for free */
        if (most > (size_t)o->draft_max) most = (size_t)o->draft_max;
        guess.len = 0;
        if (most && drafter) guess_by_model(drafter, o, text, most, &guess);
        else if (most && o->lookup) guess_by_lookup(o, text, most, &guess);
        if (guess.len < (size_t)o->draft_min) guess.len = 0;

        batch.n_tokens = 0;
        batch_add(&batch, text->data[past], (llama_pos)past, 0, true);
        for (size_t i = 0; i < guess.len; i++)
            batch_add(&batch, guess.data[i], (llama_pos)(past + 1 + i), 0, true);
        decode_batch(ctx, batch);
        counts->n_drafted += guess.len;
        counts->n_batches++;

        for (size_t i = 0; i <= guess.len && more; i++) {
            llama_token token = llama_sampler_sample(sampler, ctx, (int32_t)i);
            more = take(o, vocab, token, text, &out);
            if (i == guess.len || token != guess.data[i]) break;
            counts->n_accepted++;
        }
        /* The wrong guesses go; the last token taken over was not decoded yet. */
        llama_pos kept = (llama_pos)text->len - 1;
        if ((size_t)kept < past + 1) kept = (llama_pos)past + 1; /* the text ended at once */
        if (!llama_memory_seq_rm(llama_get_memory(ctx), 0, kept, -1))
            die("this model's memory cannot take back wrong guesses");
    }
    utf8_flush(&out, stdout);
    putchar('\n');
    counts->n_predicted = text->len - n_prompt;
    tokens_free(&guess);
    llama_batch_free(batch);
    llama_sampler_free(sampler);
}

static void print_counts(const struct options *o, const struct counts *c, size_t n_prompt,
                         double seconds) {
    double rate = c->n_drafted ? 100.0 * (double)c->n_accepted / (double)c->n_drafted : 0;
    note("read %zu tokens and wrote %zu in %.2f s, %.2f tokens/s", n_prompt, c->n_predicted,
         seconds, (double)c->n_predicted / seconds);
    note("n_draft   = %lld", (long long)o->draft_max);
    note("n_predict = %zu", c->n_predicted);
    note("n_drafted = %zu", c->n_drafted);
    note("n_accept  = %zu", c->n_accepted);
    note("accept    = %.3f%%", rate);
    note("batches   = %zu", c->n_batches);
}

static void read_options(struct options *o, int argc, char **argv) {
    *o = (struct options){
        .n_predict = 128, .seed = 1234, .n_gpu_layers = -1, .n_gpu_layers_draft = -1,
        .n_batch = 512, .draft_max = 16, .ngram_min = 1, .ngram_max = 3, .p_min = 0.75,
    };
    const struct flag flags[] = {
        {FLAG_STRING, {"-m", "--model"}, "FILE", &o->model, "the model, a GGUF file", 0, 0},
        {FLAG_STRING, {"-md", "--model-draft", "--spec-draft-model"}, "FILE", &o->draft, "the small model that guesses", 0, 0},
        {FLAG_BOOL, {"--lookup"}, 0, &o->lookup, "guess by the text itself, without another model", 0, 0},
        {FLAG_STRING, {"-p", "--prompt"}, "TEXT", &o->prompt, "the text to continue", 0, 0},
        {FLAG_STRING, {"-f", "--file"}, "FILE", &o->file, "read the text from a file ('-' is stdin)", 0, 0},
        {FLAG_INT, {"-n", "--predict", "--n-predict"}, "N", &o->n_predict, "tokens to generate", 1, 1 << 20},
        {FLAG_INT, {"--draft", "--draft-max", "--draft-n"}, "N", &o->draft_max, "most tokens to guess at once; 0: none", 0, 1024},
        {FLAG_INT, {"--draft-min", "--draft-n-min"}, "N", &o->draft_min, "fewer guesses than this are not checked", 0, 1024},
        {FLAG_FLOAT, {"--draft-p-min"}, "P", &o->p_min, "the draft model stops where it is less sure than this", 0, 1},
        {FLAG_INT, {"--ngram-min"}, "N", &o->ngram_min, "fewest last tokens that --lookup looks for", 1, 64},
        {FLAG_INT, {"--ngram-max"}, "N", &o->ngram_max, "most last tokens that --lookup looks for", 1, 64},
        {FLAG_INT, {"-c", "--ctx-size"}, "N", &o->n_ctx, "context size in tokens; 0: what the text needs", 0, INT32_MAX},
        {FLAG_INT, {"-b", "--batch-size"}, "N", &o->n_batch, "tokens handed to the library at once", 1, 1 << 20},
        {FLAG_INT, {"-s", "--seed"}, "N", &o->seed, "seed of the random choice", 0, UINT32_MAX - 1},
        {FLAG_FLOAT, {"--temp"}, "T", &o->temp, "temperature; 0: always the most likely token", 0, 1e6},
        {FLAG_INT, {"-t", "--threads"}, "N", &o->threads, "threads; 0: one for each CPU", 0, 512},
        {FLAG_INT, {"-td", "--threads-draft"}, "N", &o->threads_draft, "threads of the draft model; 0: as -t", 0, 512},
        {FLAG_INT, {"-ngl", "--gpu-layers", "--n-gpu-layers"}, "N", &o->n_gpu_layers, "layers on the GPU; -1: what fits", -1, INT32_MAX},
        {FLAG_INT, {"-ngld", "--gpu-layers-draft", "--n-gpu-layers-draft"}, "N", &o->n_gpu_layers_draft, "the same for the draft model", -1, INT32_MAX},
        {FLAG_BOOL, {"--special"}, 0, &o->special, "show control tokens", 0, 0},
    };
    parse_flags(argc, argv, "text generation with guesses", flags, sizeof flags / sizeof *flags,
                NULL);
    if (o->draft && o->lookup) die("-md and --lookup both guess: use one of them");
    if (!o->draft && !o->lookup)
        die("nothing guesses: give a small model with -md, or --lookup");
    if ((o->prompt != NULL) + (o->file != NULL) != 1)
        die("give the text one way: -p TEXT or -f FILE");
    if (o->ngram_min > o->ngram_max) die("--ngram-min %lld is more than --ngram-max %lld",
                                         (long long)o->ngram_min, (long long)o->ngram_max);
    if (o->draft_min > o->draft_max) die("--draft-min %lld is more than --draft-max %lld",
                                         (long long)o->draft_min, (long long)o->draft_max);
    if (!o->threads_draft) o->threads_draft = o->threads;
}

int main(int argc, char **argv) {
    static struct options o;
    read_options(&o, argc, argv);
    catch_sigint();
    log_init(false);
    struct text prompt = {0};
    if (o.file) text_add_file(&prompt, o.file);
    else text_add(&prompt, o.prompt, strlen(o.prompt));

    struct llama_model_params params = llama_model_default_params();
    params.n_gpu_layers = (int32_t)o.n_gpu_layers;
    struct llama_model *model = load_model(o.model, params, &interrupted);
    const struct llama_vocab *vocab = llama_model_get_vocab(model);
    struct tokens text = {0};
    tokens_add_text(&text, vocab, prompt.data, prompt.len, true, true);
    if (!text.len) die("the prompt is empty");
    size_t n_prompt = text.len;
    uint64_t need = n_prompt + (uint64_t)o.n_predict;
    if (o.n_ctx && (uint64_t)o.n_ctx < need)
        die("the text does not fit: %zu + %lld tokens, the context holds %lld (-c)", n_prompt,
            (long long)o.n_predict, (long long)o.n_ctx);
    if (need > INT32_MAX) die("the text is too long: %zu tokens", n_prompt);
    uint32_t n_ctx = o.n_ctx ? (uint32_t)o.n_ctx : (uint32_t)need;
    if (o.n_batch <= o.draft_max) o.n_batch = o.draft_max + 1; /* the guesses go together */
    struct llama_context *ctx =
        new_context(model, n_ctx, (uint32_t)o.n_batch, 1, (int32_t)o.threads);

    struct drafter drafter = {0};
    if (o.draft) {
        params.n_gpu_layers = (int32_t)o.n_gpu_layers_draft;
        drafter.model = load_model(o.draft, params, &interrupted);
        check_vocabularies(vocab, llama_model_get_vocab(drafter.model));
        drafter.ctx =
            new_context(drafter.model, n_ctx, (uint32_t)o.n_batch, 1, (int32_t)o.threads_draft);
    }

    fwrite(prompt.data, 1, prompt.len, stdout);
    struct counts counts = {0};
    double start = now_ms();
    generate(&o, ctx, o.draft ? &drafter : NULL, &text, &counts);
    print_counts(&o, &counts, n_prompt, (now_ms() - start) / 1e3);

    text_free(&prompt);
    tokens_free(&text);
    tokens_free(&drafter.past);
    llama_free(drafter.ctx);
    llama_model_free(drafter.model);
    llama_free(ctx);
    llama_model_free(model);
    return 0;
}
