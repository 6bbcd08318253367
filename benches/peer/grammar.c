/* What a grammar costs while text is written, through llama.h alone.
 *
 *   grammar MODEL KIND
 *
 * MODEL may be a vocabulary without weights. KIND is one of
 *   json     a JSON document with strings, numbers and nesting
 *   schema   an object with fixed keys and strings of limited length, as JSON schemas become
 *   list     free text with a few rules
 *
 * It applies the sampler to all tokens and accepts the next token of a fixed text, and
 * prints one JSON object: microseconds of making the sampler, of the first token, of each
 * other token of a first and of a second text (after a reset), and the number and a hash of
 * the allowed tokens, which must not depend on the library. */
#define _POSIX_C_SOURCE 200809L
#include "llama.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const char *const json[] = {
    "root ::= object\n"
    "value ::= object | array | string | number | (\"true\" | \"false\" | \"null\") ws\n"
    "object ::= \"{\" ws (string \":\" ws value (\",\" ws string \":\" ws value)*)? \"}\" ws\n"
    "array ::= \"[\" ws (value (\",\" ws value)*)? \"]\" ws\n"
    "string ::= \"\\\"\" ([^\"\\\\\\x7F\\x00-\\x1F] | \"\\\\\" ([\"\\\\bfnrt] | \"u\" [0-9a-fA-F]{4}))* \"\\\"\" ws\n"
    "number ::= (\"-\"? ([0-9] | [1-9] [0-9]{0,15})) (\".\" [0-9]+)? ([eE] [-+]? [0-9] [1-9]{0,15})? ws\n"
    "ws ::= | \" \" | \"\\n\" [ \\t]{0,20}\n",
    "{\"title\": \"The quick brown fox jumps over the lazy dog\", \"tags\": [\"animals\", \"speed\"],\n"
    "  \"stats\": {\"height\": 12.5, \"weight\": -3e4, \"seen\": [1, 2, 3, {\"deep\": [true, null]}]},\n"
    "  \"text\": \"Grammars restrict what a model may write. \\u00e9 is an escape and Zo\xc3\xab is not.\"}"};

static const char *const schema[] = {
    "root ::= \"{\" ws \"\\\"name\\\":\" ws name \",\" ws \"\\\"about\\\":\" ws about \",\" ws \"\\\"age\\\":\" ws age \"}\"\n"
    "char ::= [^\"\\\\\\x7F\\x00-\\x1F] | [\\\\] ([\"\\\\bfnrt] | \"u\" [0-9a-fA-F]{4})\n"
    "name ::= \"\\\"\" char{1,60} \"\\\"\" ws\n"
    "about ::= \"\\\"\" char{0,500} \"\\\"\" ws\n"
    "age ::= [0-9]{1,3}\n"
    "ws ::= | \" \" | \"\\n\" [ \\t]{0,20}\n",
    "{\"name\": \"Ada Lovelace\", \"about\": \"An English mathematician and writer, chiefly known for her "
    "work on the mechanical general-purpose computer proposed by Charles Babbage, the Analytical "
    "Engine.\", \"age\": 36}"};

static const char *const list[] = {
    "root ::= item+\nitem ::= \"- \" [^\\r\\n\\x0b\\x0c\\x85\\u2028\\u2029]+ \"\\n\"\n",
    "- the first of some items\n- another one, which is longer than the first\n- a third\n"};

static double now_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec * 1e-3;
}

static void fail(const char *what) {
    fprintf(stderr, "grammar: %s\n", what);
    exit(1);
}

static void only_errors(enum ggml_log_level level, const char *text, void *user_data) {
    (void)user_data;
    if (level == GGML_LOG_LEVEL_ERROR) fputs(text, stderr);
}

struct result {
    double first_us, other_us;
    uint64_t allowed, hash;
};

/* Follows the text. The array is filled outside the time that counts. */
static struct result follow(struct llama_sampler *sampler, const llama_token *tokens, int32_t n,
                            llama_token_data *rows, int32_t n_vocab) {
    struct result r = {.hash = 14695981039346656037U};
    for (int32_t step = 0; step < n; step++) {
        for (int32_t i = 0; i < n_vocab; i++) rows[i] = (llama_token_data){.id = i, .logit = 1};
        llama_token_data_array all = {rows, (size_t)n_vocab, -1, false};
        double start = now_us();
        llama_sampler_apply(sampler, &all);
        if (isinf(rows[tokens[step]].logit)) fail("the text does not belong to the grammar");
        llama_sampler_accept(sampler, tokens[step]);
        *(step == 0 ? &r.first_us : &r.other_us) += now_us() - start;
        for (int32_t i = 0; i < n_vocab; i++) {
            if (isinf(rows[i].logit)) continue;
            r.allowed++;
            r.hash = (r.hash ^ (uint64_t)i) * 1099511628211U;
        }
    }
    r.other_us /= n - 1;
    return r;
}

int main(int argc, char **argv) {
    if (argc != 3) fail("usage: grammar MODEL KIND");
    const char *const *kind = !strcmp(argv[2], "json")     ? json
                              : !strcmp(argv[2], "schema") ? schema
                              : !strcmp(argv[2], "list")   ? list
                                                           : NULL;
    if (!kind) fail("KIND is json, schema or list");
    llama_log_set(only_errors, NULL);
    struct llama_model_params params = llama_model_default_params();
    params.vocab_only = true;
    struct llama_model *model = llama_model_load_from_file(argv[1], params);
    if (!model) fail("cannot load the model");
    const struct llama_vocab *vocab = llama_model_get_vocab(model);
    int32_t n_vocab = llama_vocab_n_tokens(vocab);
    llama_token tokens[512];
    int32_t n = llama_tokenize(vocab, kind[1], (int32_t)strlen(kind[1]), tokens, 512, false, false);
    llama_token_data *rows = malloc((size_t)n_vocab * sizeof *rows);
    if (n < 2 || !rows) fail("no tokens");

    double start = now_us();
    struct llama_sampler *sampler = llama_sampler_init_grammar(vocab, kind[0], "root");
    double init_us = now_us() - start;
    if (!sampler) fail("the grammar does not parse");
    struct result first = follow(sampler, tokens, n, rows, n_vocab);
    llama_sampler_reset(sampler);
    struct result second = follow(sampler, tokens, n, rows, n_vocab);
    if (first.hash != second.hash) fail("a second time other tokens are allowed");
    printf("{\"vocab\": %d, \"tokens\": %d, \"init_us\": %.1f, \"first_us\": %.1f, \"token_us\": %.1f, "
           "\"again_us\": %.1f, \"allowed\": %llu, \"hash\": \"%016llx\"}\n",
           n_vocab, n, init_us, first.first_us, first.other_us, second.other_us,
           (unsigned long long)first.allowed, (unsigned long long)first.hash);
    llama_sampler_free(sampler);
    free(rows);
    llama_model_free(model);
    return 0;
}
