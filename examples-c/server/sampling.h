// How the next token is chosen: the options of a request, and the samplers made of them.
#pragma once

#include "support.h"
#include "vocabulary.h"

#include "llama.h"

#include <memory>
#include <string>
#include <vector>

struct sampler_deleter {
    void operator()(llama_sampler *sampler) const { llama_sampler_free(sampler); }
};
using sampler_ptr = std::unique_ptr<llama_sampler, sampler_deleter>;

// A grammar that the text must follow; with a trigger only from where that matches.
struct grammar {
    std::string text, root = "root";
    std::string trigger; // a regular expression; empty: from the start
    llama_token trigger_token = LLAMA_TOKEN_NULL;
};

// The names and defaults are those of llama.cpp's server.
struct sampling {
    double temperature = 0.8, dynatemp_range = 0, dynatemp_exponent = 1;
    double top_p = 0.95, min_p = 0.05, typical_p = 1, top_n_sigma = -1;
    double xtc_probability = 0, xtc_threshold = 0.1;
    double repeat_penalty = 1, presence_penalty = 0, frequency_penalty = 0;
    double dry_multiplier = 0, dry_base = 1.75;
    double mirostat_tau = 5, mirostat_eta = 0.1;
    int64_t seed = -1, top_k = 40, repeat_last_n = 64, min_keep = 0, mirostat = 0;
    int64_t dry_allowed_length = 2, dry_penalty_last_n = -1;
    bool ignore_eos = false;
    std::vector<std::string> dry_sequence_breakers = {"\n", ":", "\"", "*"};
    std::vector<std::string> samplers = {"penalties", "dry",   "top_n_sigma", "top_k", "typ_p",
                                         "top_p",     "min_p", "xtc",         "temperature"};
    std::vector<llama_logit_bias> logit_bias;
    grammar only; // no text: any

    // What a request says, and for the rest what `otherwise` has.
    static sampling read(const fields &request, const vocabulary &vocab, const sampling &otherwise);
    json show() const;
    // The chain of samplers; a fault when the grammar cannot be used. n_ctx: what -1 stands for
    // where a number of last tokens is asked for.
    sampler_ptr make(const vocabulary &vocab, int32_t n_ctx) const;
};

// The grammar of a JSON schema.
std::string schema_grammar(const json &schema);
