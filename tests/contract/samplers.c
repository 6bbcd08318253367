/* Samplers: who owns what, what is honest in the list, seeds; grammars. */
#include "contract.h"

enum { N = 8 };

/* Some logits, all different. */
static struct llama_token_data_array list(struct llama_token_data *data) {
    for (int i = 0; i < N; i++)
        data[i] = (struct llama_token_data){i, (float)((i * 5) % N) - 2.5f, 0};
    return (struct llama_token_data_array){data, N, -1, false};
}

static void say_list(struct llama_sampler *smpl) {
    struct llama_token_data data[N];
    struct llama_token_data_array a = list(data);
    llama_sampler_apply(smpl, &a);
    say("[%zu %d %d:", a.size, (int)a.selected, a.sorted);
    for (size_t i = 0; i < a.size; i++) say("%d=%.3g", a.data[i].id, a.data[i].logit);
    say("]");
}

LINE(null_samplers_are_nothing, "free, reset and accept of NULL do nothing.") {
    llama_sampler_free(NULL);
    llama_sampler_reset(NULL);
    llama_sampler_accept(NULL, 1);
    say("fine");
}

static int n_freed;
static void count_free(struct llama_sampler *smpl) {
    (void)smpl;
    n_freed++;
}
static void pick_second(struct llama_sampler *smpl, struct llama_token_data_array *a) {
    (void)smpl;
    a->selected = 1;
}
static const char *user_name(const struct llama_sampler *smpl) {
    (void)smpl;
    return "user's own";
}
static struct llama_sampler_i user_iface;
static struct llama_sampler *user(void) {
    user_iface.name = user_name, user_iface.apply = pick_second, user_iface.free = count_free;
    return llama_sampler_init(&user_iface, NULL);
}

LINE(chains_own_what_they_hold, "chain_add takes ownership, chain_remove gives it back.") {
    struct llama_sampler *chain = llama_sampler_chain_init(llama_sampler_chain_default_params());
    llama_sampler_chain_add(chain, user());
    llama_sampler_chain_add(chain, user());
    struct llama_sampler *out = llama_sampler_chain_remove(chain, 0);
    llama_sampler_free(chain);
    say("%d", n_freed);
    llama_sampler_free(out);
    say("%d", n_freed);
}

LINE(chains_by_index, "chain_get and chain_remove: NULL outside, -1 is the chain itself.") {
    struct llama_sampler *chain = llama_sampler_chain_init(llama_sampler_chain_default_params());
    llama_sampler_chain_add(chain, llama_sampler_init_greedy());
    say("%d", llama_sampler_chain_n(chain));
    say("%d %d %d", !!llama_sampler_chain_get(chain, 0), !llama_sampler_chain_get(chain, 1),
        llama_sampler_chain_get(chain, -1) == chain);
    say("%d %d", !llama_sampler_chain_remove(chain, 1), !llama_sampler_chain_remove(chain, -1));
    struct llama_sampler *greedy = llama_sampler_init_greedy();
    say("%d", !llama_sampler_chain_get(greedy, -1));
}

LINE(users_samplers_work, "A vtable with NULL for all but apply works alone and in a chain.") {
    static struct llama_sampler_i bare = {.apply = pick_second};
    struct llama_sampler *smpl = llama_sampler_init(&bare, NULL);
    llama_sampler_accept(smpl, 3), llama_sampler_reset(smpl);
    say_list(smpl);
    struct llama_sampler *chain = llama_sampler_chain_init(llama_sampler_chain_default_params());
    llama_sampler_chain_add(chain, llama_sampler_init_top_k(3));
    llama_sampler_chain_add(chain, smpl);
    say_list(chain);
    say("%s", llama_sampler_name(user()));
}

LINE(users_samplers_are_cloned, "clone without a clone function: the same vtable when ctx is NULL.") {
    struct llama_sampler *copy = llama_sampler_clone(user());
    say("%d", copy && copy->iface == &user_iface && !copy->ctx);
}

LINE(contexts_need_a_clone_function, "clone without a clone function and with a ctx.") {
    static int ctx;
    static struct llama_sampler_i bare = {.apply = pick_second};
    say("%d", !llama_sampler_clone(llama_sampler_init(&bare, &ctx)));
}

LINE(names, "Names of samplers; one that its arguments switch off has a '?'.") {
    const struct llama_vocab *vocab = llama_model_get_vocab(load("llama.gguf"));
    struct llama_sampler *all[] = {
        llama_sampler_chain_init(llama_sampler_chain_default_params()),
        llama_sampler_init_greedy(),
        llama_sampler_init_dist(1),
        llama_sampler_init_top_k(0),
        llama_sampler_init_top_k(5),
        llama_sampler_init_top_p(1, 0),
        llama_sampler_init_top_p(0.5f, 0),
        llama_sampler_init_min_p(0, 0),
        llama_sampler_init_min_p(0.5f, 0),
        llama_sampler_init_typical(1, 0),
        llama_sampler_init_typical(0.5f, 0),
        llama_sampler_init_temp(1),
        llama_sampler_init_temp(0.5f),
        llama_sampler_init_temp_ext(1, 0, 1),
        llama_sampler_init_temp_ext(1, 0.5f, 1),
        llama_sampler_init_xtc(0, 0.1f, 1, 1),
        llama_sampler_init_xtc(0.5f, 0.1f, 1, 1),
        llama_sampler_init_top_n_sigma(-1),
        llama_sampler_init_top_n_sigma(1),
        llama_sampler_init_mirostat(96, 1, 5, 0.1f, 100),
        llama_sampler_init_mirostat_v2(1, 5, 0.1f),
        llama_sampler_init_penalties(96, 0, 1, 0, 0),
        llama_sampler_init_penalties(96, 64, 1, 0, 0),
        llama_sampler_init_penalties(96, 64, 1.5f, 0, 0),
        llama_sampler_init_dry(vocab, 0, 1.75f, 2, 64, NULL, 0),
        llama_sampler_init_dry(vocab, 1, 1.75f, 2, 64, NULL, 0),
        llama_sampler_init_infill(vocab),
        llama_sampler_init_adaptive_p(0.5f, 0.9f, 1),
        llama_sampler_init_adaptive_p(-1, 0.9f, 1),
        llama_sampler_init_logit_bias(96, 0, NULL),
        llama_sampler_init_grammar(vocab, "", "root"),
        llama_sampler_init_grammar(vocab, "root ::= \"a\"", "root"),
    };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) say("[%s]", llama_sampler_name(all[i]));
}

LINE(switched_off_samplers_do_nothing, "Samplers that are switched off leave the list alone.") {
    say_list(llama_sampler_init_top_k(0));
    say_list(llama_sampler_init_top_p(1, 0));
    say_list(llama_sampler_init_temp(1));
    say_list(llama_sampler_init_top_n_sigma(-1));
}

LINE(lists_stay_honest, "sorted and size after each sampler, and the order of what is left.") {
    say_list(llama_sampler_init_top_k(3));
    say_list(llama_sampler_init_top_k(100));
    say_list(llama_sampler_init_top_p(0.7f, 1));
    say_list(llama_sampler_init_min_p(0.2f, 1));
    say_list(llama_sampler_init_typical(0.5f, 1));
    say_list(llama_sampler_init_top_n_sigma(1));
    say_list(llama_sampler_init_temp(0.5f));
    say_list(llama_sampler_init_greedy());
    const llama_logit_bias bias[] = {{3, 10}, {99, 1}};
    say_list(llama_sampler_init_logit_bias(N, 2, bias));
}

LINE(no_heat_keeps_the_best, "temp <= 0: the largest stays, the others are -inf.") {
    say_list(llama_sampler_init_temp(0));
    say_list(llama_sampler_init_temp(-1));
    say_list(llama_sampler_init_temp_ext(0, 0, 1));
}

LINE(seeds_are_told, "get_seed: that of the last sampler of a chain that has one.") {
    struct llama_sampler *chain = llama_sampler_chain_init(llama_sampler_chain_default_params());
    say("%u", llama_sampler_get_seed(chain));
    llama_sampler_chain_add(chain, llama_sampler_init_dist(7));
    say("%u", llama_sampler_get_seed(chain));
    llama_sampler_chain_add(chain, llama_sampler_init_mirostat_v2(9, 5, 0.1f));
    llama_sampler_chain_add(chain, llama_sampler_init_greedy());
    say("%u %u", llama_sampler_get_seed(chain), llama_sampler_get_seed(llama_sampler_init_greedy()));
    say("%u %u", llama_sampler_get_seed(llama_sampler_init_xtc(0.5f, 0.1f, 1, 3)),
        llama_sampler_get_seed(llama_sampler_init_adaptive_p(0.5f, 0.9f, 4)));
    say("%d", llama_sampler_get_seed(llama_sampler_init_dist(LLAMA_DEFAULT_SEED)) == LLAMA_DEFAULT_SEED);
}

static int draw(struct llama_sampler *smpl) {
    struct llama_token_data data[N];
    struct llama_token_data_array a = list(data);
    for (int i = 0; i < N; i++) data[i].logit *= 0.2f;
    llama_sampler_apply(smpl, &a);
    return a.data[a.selected].id;
}

LINE(dice_are_reset_and_cloned, "reset starts from the seed again; a clone goes on from where it is.") {
    struct llama_sampler *dist = llama_sampler_init_dist(1234);
    for (int i = 0; i < 6; i++) say("%d", draw(dist));
    struct llama_sampler *copy = llama_sampler_clone(dist);
    say("|");
    for (int i = 0; i < 6; i++) say("%d", draw(dist));
    say("|");
    for (int i = 0; i < 6; i++) say("%d", draw(copy));
    say("|");
    llama_sampler_reset(dist);
    for (int i = 0; i < 6; i++) say("%d", draw(dist));
}

LINE(sampling_accepts, "llama_sampler_sample applies and accepts.") {
    struct llama_context *ctx = plain();
    feed(ctx, 0, 0, 4);
    struct llama_sampler *chain = llama_sampler_chain_init(llama_sampler_chain_default_params());
    llama_sampler_chain_add(chain, llama_sampler_init_penalties(96, 64, 1, 0, 1000));
    llama_sampler_chain_add(chain, llama_sampler_init_greedy());
    const llama_token a = llama_sampler_sample(chain, ctx, -1);
    const llama_token b = llama_sampler_sample(chain, ctx, -1);
    const llama_token c = llama_sampler_sample(chain, ctx, -1);
    say("%d %d %d", a != b, b != c, a != c);
}

LINE(sampling_without_logits, "llama_sampler_sample of an index without logits.") {
    struct llama_context *ctx = plain();
    feed(ctx, 0, 0, 4);
    say("%d", llama_sampler_sample(llama_sampler_init_greedy(), ctx, 0));
}

LINE(sampling_without_a_choice, "llama_sampler_sample with a chain that selects nothing.") {
    struct llama_context *ctx = plain();
    feed(ctx, 0, 0, 4);
    struct llama_sampler *chain = llama_sampler_chain_init(llama_sampler_chain_default_params());
    llama_sampler_chain_add(chain, llama_sampler_init_top_k(5));
    say("%d", llama_sampler_sample(chain, ctx, -1));
}

LINE(penalties_of_everything_seen, "penalty_last_n: -1 and negative numbers.") {
    for (int last_n = -2; last_n < 2; last_n++) {
        struct llama_sampler *smpl = llama_sampler_init_penalties(N, last_n, 2, 0.5f, 0.25f);
        for (int i = 0; i < 3; i++) llama_sampler_accept(smpl, i);
        llama_sampler_accept(smpl, 2);
        say_list(smpl);
    }
}

LINE(dry_with_no_window, "DRY with penalty_last_n of -1 or 0.") {
    const struct llama_vocab *vocab = llama_model_get_vocab(load("llama.gguf"));
    for (int last_n = -1; last_n < 3; last_n++) {
        struct llama_sampler *smpl = llama_sampler_init_dry(vocab, 1, 1.75f, 1, last_n * 16, NULL, 0);
        say("%s", llama_sampler_name(smpl));
        const llama_token history[] = {1, 2, 3, 1, 2, 3, 1, 2};
        for (int i = 0; i < 8; i++) llama_sampler_accept(smpl, history[i]);
        say_list(smpl);
    }
}

LINE(times_of_a_chain, "perf counts only when no_perf is off; reset sets it to zero.") {
    struct llama_sampler_chain_params params = llama_sampler_chain_default_params();
    say("%d", params.no_perf);
    for (int no_perf = 0; no_perf < 2; no_perf++) {
        params.no_perf = no_perf;
        struct llama_sampler *chain = llama_sampler_chain_init(params);
        llama_sampler_chain_add(chain, llama_sampler_init_greedy());
        for (int i = 0; i < 3; i++) draw(chain), llama_sampler_accept(chain, 1);
        say("%d %d", llama_perf_sampler(chain).n_sample, llama_perf_sampler(chain).t_sample_ms > 0);
        llama_perf_sampler_reset(chain);
        say("%d", llama_perf_sampler(chain).n_sample);
    }
}

/* ---- grammars ---- */

static const struct llama_vocab *letters(void) {
    return llama_model_get_vocab(load("llama.gguf"));
}

/* Which single letters a..e and the end are allowed now. */
static void say_allowed(const struct llama_vocab *vocab, struct llama_sampler *smpl) {
    struct llama_token_data data[96];
    for (int i = 0; i < 96; i++) data[i] = (struct llama_token_data){i, 1, 0};
    struct llama_token_data_array a = {data, 96, -1, false};
    llama_sampler_apply(smpl, &a);
    char allowed[8] = "-----";
    int n = 0;
    for (size_t i = 0; i < a.size; i++) {
        if (a.data[i].logit != 1) continue;
        n++;
        const char *text = llama_vocab_get_text(vocab, a.data[i].id);
        if (strlen(text) == 1 && *text >= 'a' && *text <= 'e') allowed[*text - 'a'] = *text;
        if (llama_vocab_is_eog(vocab, a.data[i].id)) allowed[5] = '$';
    }
    say("%s/%d", allowed, n);
}

static llama_token letter(const struct llama_vocab *vocab, const char *text) {
    llama_token token = -1;
    llama_tokenize(vocab, text, (int)strlen(text), &token, 1, false, true);
    return token;
}

LINE(grammars_guide, "A grammar allows what can come next; at its end only the end.") {
    const struct llama_vocab *vocab = letters();
    struct llama_sampler *smpl = llama_sampler_init_grammar(vocab, "root ::= \"a\" [b-d] \"e\"?", "root");
    say_allowed(vocab, smpl);
    llama_sampler_accept(smpl, letter(vocab, "a"));
    say_allowed(vocab, smpl);
    llama_sampler_accept(smpl, letter(vocab, "c"));
    say_allowed(vocab, smpl);
    llama_sampler_accept(smpl, letter(vocab, "e"));
    say_allowed(vocab, smpl);
}

LINE(grammars_that_do_not_parse, "NULL for a grammar that does not parse, or has no such root.") {
    const struct llama_vocab *vocab = letters();
    say("%d", !llama_sampler_init_grammar(vocab, "root ::= (", "root"));
    say("%d", !llama_sampler_init_grammar(vocab, "root ::= \"a\"", "other"));
    say("%d", !llama_sampler_init_grammar(vocab, "root ::= thing", "root"));
    say("%d", !llama_sampler_init_grammar(vocab, "root ::= root \"a\"", "root"));
}

LINE(no_grammar, "An empty grammar allows everything.") {
    const struct llama_vocab *vocab = letters();
    struct llama_sampler *smpl = llama_sampler_init_grammar(vocab, "", "root");
    say_allowed(vocab, smpl);
    llama_sampler_accept(smpl, letter(vocab, "a"));
    say_allowed(vocab, smpl);
}

LINE(grammars_start_again, "reset goes back to the beginning; a clone goes on.") {
    const struct llama_vocab *vocab = letters();
    struct llama_sampler *smpl = llama_sampler_init_grammar(vocab, "root ::= \"a\" \"b\" \"c\"", "root");
    llama_sampler_accept(smpl, letter(vocab, "a"));
    struct llama_sampler *copy = llama_sampler_clone(smpl);
    llama_sampler_reset(smpl);
    say_allowed(vocab, smpl), say_allowed(vocab, copy);
}

LINE(what_no_grammar_allows, "accept of a token that the grammar forbids.") {
    const struct llama_vocab *vocab = letters();
    struct llama_sampler *smpl = llama_sampler_init_grammar(vocab, "root ::= \"a\" \"b\"", "root");
    llama_sampler_accept(smpl, letter(vocab, "d"));
    say_allowed(vocab, smpl);
}

LINE(the_end_too_early, "accept of the end before the grammar is through.") {
    const struct llama_vocab *vocab = letters();
    struct llama_sampler *smpl = llama_sampler_init_grammar(vocab, "root ::= \"a\" \"b\"", "root");
    llama_sampler_accept(smpl, llama_vocab_eos(vocab));
    say_allowed(vocab, smpl);
}

LINE(lazy_grammars_wait, "A lazy grammar allows all until a trigger token, which it reads first.") {
    const struct llama_vocab *vocab = letters();
    const llama_token trigger = letter(vocab, "d");
    struct llama_sampler *smpl = llama_sampler_init_grammar_lazy_patterns(
        vocab, "root ::= \"d\" \"a\" \"b\"", "root", NULL, 0, &trigger, 1);
    say_allowed(vocab, smpl);
    llama_sampler_accept(smpl, letter(vocab, "c"));
    say_allowed(vocab, smpl);
    llama_sampler_accept(smpl, trigger);
    say_allowed(vocab, smpl);
    llama_sampler_accept(smpl, letter(vocab, "a"));
    say_allowed(vocab, smpl);
}

LINE(patterns_look_at_all_text, "Patterns are tried on all the text so far; the first group begins the replay.") {
    const struct llama_vocab *vocab = letters();
    const char *pattern = "[\\s\\S]*?(cd)[\\s\\S]*";
    struct llama_sampler *smpl = llama_sampler_init_grammar_lazy_patterns(
        vocab, "root ::= \"cd\" \"a\" \"b\"", "root", &pattern, 1, NULL, 0);
    const char *text[] = {"e", "c", "d", "a"};
    for (int i = 0; i < 4; i++) {
        llama_sampler_accept(smpl, letter(vocab, text[i]));
        say_allowed(vocab, smpl);
    }
    llama_sampler_reset(smpl);
    say_allowed(vocab, smpl);
}
