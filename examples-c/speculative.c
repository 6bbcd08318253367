/* Faster text by guessing: several tokens are guessed cheaply, and the model checks them all in one
 * batch, which costs little more than one token.
 *
 *   speculative -m large.gguf -md small.gguf -p "..."   a small model with the same vocabulary guesses
 *   speculative -m large.gguf -md small.gguf -np 4 ...  up to four guesses side by side
 *   speculative -m model.gguf --lookup -f article.txt   what followed the last words before is the guess
 *
 * The text is the one that the model would write without the guesses: every token is chosen from the
 * model's own logits, by the sampler with its seed, and the first that no guess foresaw ends what is
 * taken over. Guesses are the draft's most likely tokens, not samples of it; for such the chance that a
 * guess is taken cannot be greater in any way of checking that leaves the distribution as it is.
 *
 * With -np the guesses are a tree: where the draft holds a second token for likelier than
 * --draft-p-split, a branch begins. A branch is a sequence in the cache; what branches have in common
 * is computed once. */
#include "generate.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct options {
    const char *model, *draft, *prompt, *file;
    int64_t n_predict, n_ctx, n_batch, seed, threads, threads_draft, n_gpu_layers, n_gpu_layers_draft;
    int64_t draft_max, draft_min, ngram_min, ngram_max, n_branches;
    double temp, p_min, p_split;
    bool lookup, special, json;
};

/* The small model, and what sequence 0 of its cache holds. */
struct drafter {
    struct llama_model *model;
    struct llama_context *ctx;
    struct llama_batch batch;
    struct tokens past;
};

/* ---- trees of guesses ---- */

struct node {
    llama_token token;
    int32_t parent; /* the node before it; -1: it follows the text */
};

/* A way through the tree, and the sequence of its number. */
struct branch {
    int32_t tip;       /* its last node; -1: none yet */
    int32_t output;    /* where the draft's logits after it are */
    int32_t n_decoded; /* nodes that the draft's cache holds */
    bool open;         /* the draft goes on with it */
};

struct tree {
    struct node *nodes;
    struct branch *branches;
    size_t n_nodes, n_branches;
};

static void tree_clear(struct tree *tree) {
    tree->n_nodes = 0;
    tree->n_branches = 1;
    tree->branches[0] = (struct branch){.tip = -1, .output = -1, .open = true};
}

static void tree_add(struct tree *tree, size_t branch, llama_token token) {
    struct branch *b = &tree->branches[branch];
    tree->nodes[tree->n_nodes] = (struct node){token, b->tip};
    b->tip = (int32_t)tree->n_nodes++;
}

/* Nodes from the text to this one, itself too. */
static size_t tree_depth(const struct tree *tree, int32_t node) {
    size_t depth = 0;
    for (; node >= 0; node = tree->nodes[node].parent) depth++;
    return depth;
}

/* Whether the branch goes through the node; all go through the text (-1). */
static bool tree_passes(const struct tree *tree, size_t branch, int32_t node) {
    int32_t at = tree->branches[branch].tip;
    while (at > node) at = tree->nodes[at].parent;
    return at == node;
}

/* The node of this token after another one; -1: nobody guessed it. */
static int32_t tree_child(const struct tree *tree, int32_t parent, llama_token token) {
    for (size_t i = 0; i < tree->n_nodes; i++)
        if (tree->nodes[i].parent == parent && tree->nodes[i].token == token) return (int32_t)i;
    return -1;
}

/* ---- guesses ---- */

/* The likeliest tokens, the best one first, and their probabilities. */
enum { N_BEST = 8 };
struct best {
    llama_token token[N_BEST];
    double p[N_BEST];
};

static struct best most_likely(const float *logits, int32_t n_vocab) {
    struct best best = {{0}, {0}};
    int n = 0;
    for (llama_token t = 0; t < n_vocab; t++) {
        int at = n;
        while (at > 0 && logits[t] > logits[best.token[at - 1]]) at--;
        if (at == N_BEST) continue;
        if (n < N_BEST) n++;
        for (int k = n - 1; k > at; k--) best.token[k] = best.token[k - 1];
        best.token[at] = t;
    }
    double sum = 0;
    for (llama_token t = 0; t < n_vocab; t++) sum += exp((double)(logits[t] - logits[best.token[0]]));
    for (int k = 0; k < N_BEST; k++)
        best.p[k] = k < n ? exp((double)(logits[best.token[k]] - logits[best.token[0]])) / sum : 0;
    return best;
}

/* Brings the small model to the text as it is now. Its last token is decoded again: its logits choose
 * the first guess. */
static void catch_up(struct drafter *d, const struct tokens *text) {
    llama_memory_t memory = llama_get_memory(d->ctx);
    size_t same = 0;
    while (same < d->past.len && same + 1 < text->len && d->past.data[same] == text->data[same]) same++;
    if (same < d->past.len && !llama_memory_seq_rm(memory, 0, (llama_pos)same, -1)) {
        llama_memory_clear(memory, true);
        same = 0;
    }
    d->past.len = same;
    decode_tokens(d->ctx, text->data + same, text->len - same, (llama_pos)same, 0);
    for (size_t i = same; i < text->len; i++) tokens_push(&d->past, text->data[i]);
}

/* Goes on with a branch by one token, and begins others where more tokens are likely. */
static void grow(struct drafter *d, const struct options *o, struct tree *tree, size_t branch, size_t most) {
    const struct llama_vocab *vocab = llama_model_get_vocab(d->model);
    const struct best best = most_likely(llama_get_logits_ith(d->ctx, tree->branches[branch].output),
                                         llama_vocab_n_tokens(vocab));
    const struct branch before = tree->branches[branch];
    if (best.p[0] < o->p_min || llama_vocab_is_eog(vocab, best.token[0]) || tree->n_nodes == most) {
        tree->branches[branch].open = false;
        return;
    }
    tree_add(tree, branch, best.token[0]);
    for (int k = 1; k < N_BEST && best.p[k] > o->p_split; k++) {
        if (tree->n_branches == (size_t)o->n_branches || tree->n_nodes == most) break;
        if (llama_vocab_is_eog(vocab, best.token[k])) continue;
        const size_t other = tree->n_branches++;
        llama_memory_seq_rm(llama_get_memory(d->ctx), (llama_seq_id)other, -1, -1);
        llama_memory_seq_cp(llama_get_memory(d->ctx), (llama_seq_id)branch, (llama_seq_id)other, -1, -1);
        tree->branches[other] = before;
        tree_add(tree, other, best.token[k]);
    }
}

/* Lets the small model go on with the text, for up to `most` tokens in all and as long as it is sure of
 * them. */
static void guess_by_model(struct drafter *d, const struct options *o, const struct tokens *text,
                           size_t most, struct tree *tree) {
    catch_up(d, text);
    for (size_t depth = 0;; depth++) {
        const size_t n_before = tree->n_branches, first = tree->n_nodes;
        for (size_t b = 0; b < n_before; b++)
            if (tree->branches[b].open) grow(d, o, tree, b, most);
        if (tree->n_nodes == first || tree->n_nodes == most) return;
        d->batch.n_tokens = 0;
        for (size_t b = 0; b < tree->n_branches; b++) {
            struct branch *branch = &tree->branches[b];
            if (!branch->open) continue;
            branch->output = d->batch.n_tokens;
            branch->n_decoded++;
            batch_add(&d->batch, tree->nodes[branch->tip].token, (llama_pos)(text->len + depth),
                      (llama_seq_id)b, true);
        }
        decode_batch(d->ctx, d->batch);
    }
}

/* Where the text's last words, as many as possible, were before, the same may follow again. */
static void guess_by_lookup(const struct options *o, const struct tokens *text, size_t most,
                            struct tree *tree) {
    const llama_token *end = text->data + text->len;
    for (size_t n = (size_t)o->ngram_max; n >= (size_t)o->ngram_min; n--) {
        if (n >= text->len) continue;
        for (const llama_token *at = end - n - 1; at >= text->data; at--) {
            if (memcmp(at, end - n, n * sizeof *at) != 0) continue;
            for (const llama_token *t = at + n; t < end && tree->n_nodes < most; t++) tree_add(tree, 0, *t);
            return;
        }
    }
}

/* Makes a branch's sequence the only one, as number 0, without its positions from `end` on. */
static bool keep_branch(struct llama_context *ctx, const struct tree *tree, size_t branch, llama_pos end) {
    llama_memory_t memory = llama_get_memory(ctx);
    if (!llama_memory_seq_rm(memory, (llama_seq_id)branch, end, -1)) return false;
    if (tree->n_branches == 1) return true;
    if (branch) {
        llama_memory_seq_keep(memory, (llama_seq_id)branch);
        llama_memory_seq_cp(memory, (llama_seq_id)branch, 0, -1, -1);
    }
    llama_memory_seq_keep(memory, 0);
    return true;
}

/* The draft's cache holds this branch from now on. */
static void draft_keep(struct drafter *d, const struct tree *tree, size_t branch) {
    const size_t n = (size_t)tree->branches[branch].n_decoded;
    const size_t root = d->past.len;
    keep_branch(d->ctx, tree, branch, (llama_pos)(root + n));
    for (size_t i = 0; i < n; i++) tokens_push(&d->past, 0);
    int32_t node = tree->branches[branch].tip;
    for (size_t i = tree_depth(tree, node); i > 0; node = tree->nodes[node].parent, i--)
        if (i <= n) d->past.data[root + i - 1] = tree->nodes[node].token;
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
    size_t n_predicted, n_drafted, n_accepted, n_batches, n_branches;
};

/* Where the text goes: to stdout at once, or all of it into one line of JSON. */
struct output {
    struct utf8_stream stream;
    struct text text;
};

/* Takes one token over. False: it ends the text. */
static bool take(const struct options *o, const struct llama_vocab *vocab, llama_token token,
                 struct tokens *text, struct output *out) {
    static struct text piece;
    if (llama_vocab_is_eog(vocab, token)) return false;
    tokens_push(text, token);
    token_piece(&piece, vocab, token, o->special);
    if (o->json) text_add(&out->text, piece.data, piece.len);
    else utf8_write(&out->stream, stdout, piece.data, piece.len);
    return true;
}

/* The text's last token and all guesses as one batch for the model. */
static void add_tree(struct llama_context *ctx, struct llama_batch *batch, const struct tree *tree,
                     llama_token last, size_t past) {
    for (size_t b = 1; b < tree->n_branches; b++) {
        llama_memory_seq_rm(llama_get_memory(ctx), (llama_seq_id)b, -1, -1);
        llama_memory_seq_cp(llama_get_memory(ctx), 0, (llama_seq_id)b, -1, -1);
    }
    batch->n_tokens = 0;
    for (int32_t node = -1; node < (int32_t)tree->n_nodes; node++) {
        const llama_token token = node < 0 ? last : tree->nodes[node].token;
        batch_add(batch, token, (llama_pos)(past + tree_depth(tree, node)), 0, true);
        int32_t n = 0;
        for (size_t b = 0; b < tree->n_branches; b++)
            if (tree_passes(tree, b, node)) batch->seq_id[node + 1][n++] = (llama_seq_id)b;
        batch->n_seq_id[node + 1] = n;
    }
}

static void generate(const struct options *o, struct llama_context *ctx, struct drafter *drafter,
                     struct tokens *text, struct output *out, struct counts *counts) {
    const struct llama_vocab *vocab = llama_model_get_vocab(llama_get_model(ctx));
    struct llama_sampler *sampler = make_sampler(o->temp, (uint32_t)o->seed);
    struct llama_batch batch = llama_batch_init((int32_t)o->draft_max + 1, 0, (int32_t)o->n_branches);
    struct tree tree = {0};
    tree.nodes = xrealloc(NULL, (size_t)o->draft_max * sizeof *tree.nodes);
    tree.branches = xrealloc(NULL, (size_t)o->n_branches * sizeof *tree.branches);
    size_t limit = text->len + (size_t)o->n_predict, n_prompt = text->len;

    /* All but the last token; that one is the first of every batch. */
    decode_tokens(ctx, text->data, text->len - 1, 0, 0);
    bool more = true;
    while (more && text->len < limit) {
        size_t past = text->len - 1, most = limit - text->len - 1; /* one token comes for free */
        if (most > (size_t)o->draft_max) most = (size_t)o->draft_max;
        tree_clear(&tree);
        if (most && drafter) guess_by_model(drafter, o, text, most, &tree);
        else if (most && o->lookup) guess_by_lookup(o, text, most, &tree);
        const bool few = tree.n_nodes < (size_t)o->draft_min;
        if (few && drafter && most) draft_keep(drafter, &tree, 0);
        if (few) tree_clear(&tree);

        add_tree(ctx, &batch, &tree, text->data[past], past);
        decode_batch(ctx, batch);
        counts->n_drafted += tree.n_nodes;
        counts->n_branches += tree.n_branches - 1;
        counts->n_batches++;

        int32_t at = -1; /* the last guess that was right */
        for (;;) {
            llama_token token = llama_sampler_sample(sampler, ctx, at + 1);
            more = take(o, vocab, token, text, out);
            const int32_t next = more ? tree_child(&tree, at, token) : -1;
            if (next < 0) break;
            at = next;
            counts->n_accepted++;
        }
        /* The wrong guesses go; the last token taken over was not decoded yet. */
        size_t branch = 0;
        while (!tree_passes(&tree, branch, at)) branch++;
        if (!keep_branch(ctx, &tree, branch, (llama_pos)(past + 1 + tree_depth(&tree, at))))
            die("this model's memory cannot take back wrong guesses");
        if (drafter && most && !few) draft_keep(drafter, &tree, branch);
    }
    utf8_flush(&out->stream, stdout);
    if (!o->json) putchar('\n');
    counts->n_predicted = text->len - n_prompt;
    free(tree.nodes);
    free(tree.branches);
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
    if (o->n_branches > 1) note("branches  = %zu", c->n_branches);
}

static void print_json(const struct text *prompt, const struct text *text, const struct counts *c,
                       size_t n_prompt, double seconds) {
    struct text line = {0};
    text_addf(&line, "{\"prompt\": ");
    text_add_json(&line, prompt->data, prompt->len);
    text_addf(&line, ", \"text\": ");
    text_add_json(&line, text->data, text->len);
    text_addf(&line, ", \"n_prompt\": %zu, \"n_predict\": %zu, \"n_drafted\": %zu, \"n_accept\": %zu, "
              "\"batches\": %zu, \"branches\": %zu, \"seconds\": %.3f}", n_prompt, c->n_predicted,
              c->n_drafted, c->n_accepted, c->n_batches, c->n_branches, seconds);
    puts(line.data);
    text_free(&line);
}

static void read_options(struct options *o, int argc, char **argv) {
    *o = (struct options){
        .n_predict = 128, .seed = 1234, .n_gpu_layers = -1, .n_gpu_layers_draft = -1,
        .n_batch = 512, .draft_max = 16, .ngram_min = 1, .ngram_max = 3, .p_min = 0.75,
        .n_branches = 1, .p_split = 0.1,
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
        {FLAG_INT, {"-np", "--parallel"}, "N", &o->n_branches, "most guesses side by side", 1, 64},
        {FLAG_FLOAT, {"--draft-p-split", "--spec-draft-p-split"}, "P", &o->p_split, "with -np: a token that the draft model holds for likelier than this is a guess too", 0, 1},
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
        {FLAG_BOOL, {"--json"}, 0, &o->json, "print one JSON object at the end", 0, 0},
        {FLAG_BOOL, {"--special"}, 0, &o->special, "show control tokens", 0, 0},
    };
    parse_flags(argc, argv, "text generation with guesses", flags, sizeof flags / sizeof *flags,
                NULL);
    if (o->draft && o->lookup) die("-md and --lookup both guess: use one of them");
    if (!o->draft && !o->lookup)
        die("nothing guesses: give a small model with -md, or --lookup");
    if ((o->prompt != NULL) + (o->file != NULL) != 1)
        die("give the text one way: -p TEXT or -f FILE");
    if (o->n_branches > 1 && !o->draft) die("-np is for the guesses of a draft model (-md)");
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
    if (o.n_branches > 1) n_ctx += (uint32_t)o.draft_max; /* of the guesses that are not taken */
    if (o.n_batch <= o.draft_max) o.n_batch = o.draft_max + 1; /* the guesses go together */
    const uint32_t n_seq = (uint32_t)o.n_branches;
    struct llama_context *ctx =
        new_context(model, n_ctx, (uint32_t)o.n_batch, n_seq, (int32_t)o.threads);

    struct drafter drafter = {0};
    if (o.draft) {
        params.n_gpu_layers = (int32_t)o.n_gpu_layers_draft;
        drafter.model = load_model(o.draft, params, &interrupted);
        check_vocabularies(vocab, llama_model_get_vocab(drafter.model));
        drafter.ctx =
            new_context(drafter.model, n_ctx, (uint32_t)o.n_batch, n_seq, (int32_t)o.threads_draft);
        drafter.batch = llama_batch_init((int32_t)n_seq, 0, 1);
    }

    if (!o.json) fwrite(prompt.data, 1, prompt.len, stdout);
    struct counts counts = {0};
    struct output out = {0};
    double start = now_ms();
    generate(&o, ctx, o.draft ? &drafter : NULL, &text, &out, &counts);
    const double seconds = (now_ms() - start) / 1e3;
    if (o.json) print_json(&prompt, &out.text, &counts, n_prompt, seconds);
    else print_counts(&o, &counts, n_prompt, seconds);
    text_free(&out.text);

    text_free(&prompt);
    tokens_free(&text);
    tokens_free(&drafter.past);
    if (o.draft) llama_batch_free(drafter.batch);
    llama_free(drafter.ctx);
    llama_model_free(drafter.model);
    llama_free(ctx);
    llama_model_free(model);
    return 0;
}
