#include "sampling.h"

#include "powerinfer.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>

// With other libraries than libpowerinfer this is null.
#pragma weak powerinfer_json_schema_to_grammar

// ---- fields ----

static const double any = 1e9;

static const struct {
    const char *name;
    double sampling::*at;
    double min, max;
} reals[] = {
    {"temperature", &sampling::temperature, -any, any},
    {"dynatemp_range", &sampling::dynatemp_range, 0, any},
    {"dynatemp_exponent", &sampling::dynatemp_exponent, 0, any},
    {"top_p", &sampling::top_p, 0, 1},
    {"min_p", &sampling::min_p, 0, 1},
    {"typical_p", &sampling::typical_p, 0, 1},
    {"top_n_sigma", &sampling::top_n_sigma, -any, any},
    {"xtc_probability", &sampling::xtc_probability, 0, 1},
    {"xtc_threshold", &sampling::xtc_threshold, 0, 1},
    {"repeat_penalty", &sampling::repeat_penalty, 0, any},
    {"presence_penalty", &sampling::presence_penalty, -any, any},
    {"frequency_penalty", &sampling::frequency_penalty, -any, any},
    {"dry_multiplier", &sampling::dry_multiplier, 0, any},
    {"dry_base", &sampling::dry_base, 0, any},
    {"mirostat_tau", &sampling::mirostat_tau, 0, any},
    {"mirostat_eta", &sampling::mirostat_eta, 0, any},
};

static const struct {
    const char *name;
    int64_t sampling::*at;
    int64_t min, max;
} integers[] = {
    {"seed", &sampling::seed, INT64_MIN / 2, INT64_MAX / 2},
    {"top_k", &sampling::top_k, -1, INT32_MAX},
    {"repeat_last_n", &sampling::repeat_last_n, -1, INT32_MAX},
    {"min_keep", &sampling::min_keep, 0, INT32_MAX},
    {"mirostat", &sampling::mirostat, 0, 2},
    {"dry_allowed_length", &sampling::dry_allowed_length, 0, INT32_MAX},
    {"dry_penalty_last_n", &sampling::dry_penalty_last_n, -1, INT32_MAX},
};

static std::vector<std::string> strings(const json &list, const char *name) {
    std::vector<std::string> all;
    if (!list.is_array()) throw fault::bad(std::string("'") + name + "' must be a list of strings");
    for (const json &one : list) {
        if (!one.is_string()) throw fault::bad(std::string("'") + name + "' must be a list of strings");
        all.push_back(one.get<std::string>());
    }
    return all;
}

// {"15043": -1} as OpenAI has it, or [[15043, -1], ["text", false]] as llama.cpp.
static std::vector<llama_logit_bias> read_bias(const json &value, const vocabulary &vocab) {
    std::vector<llama_logit_bias> all;
    auto add = [&](const json &of, const json &amount) {
        float bias = 0;
        if (amount.is_number()) bias = static_cast<float>(amount.get<double>());
        else if (amount.is_boolean() && !amount.get<bool>()) bias = -INFINITY;
        else throw fault::bad("a 'logit_bias' is a number, or false for never");
        if (std::isnan(bias)) throw fault::bad("a 'logit_bias' is a number, or false for never");
        if (!of.is_string()) {
            all.push_back({vocab.checked(of), bias});
            return;
        }
        for (llama_token token : vocab.tokenize(of.get<std::string>(), false, true))
            all.push_back({token, bias});
    };
    if (value.is_object()) {
        for (const auto &[key, amount] : value.items()) {
            bool digits = !key.empty() && key.size() < 10 &&
                          std::all_of(key.begin(), key.end(), [](char c) { return c >= '0' && c <= '9'; });
            if (digits) add(json(std::stol(key)), amount);
            else add(json(key), amount);
        }
    } else if (value.is_array()) {
        for (const json &pair : value) {
            if (!pair.is_array() || pair.size() != 2)
                throw fault::bad("'logit_bias' must be a list of pairs");
            add(pair[0], pair[1]);
        }
    } else {
        throw fault::bad("'logit_bias' must be an object or a list of pairs");
    }
    return all;
}

sampling sampling::read(const fields &request, const vocabulary &vocab, const sampling &otherwise) {
    sampling s = otherwise;
    for (const auto &field : reals)
        s.*field.at = request.real(field.name, s.*field.at, field.min, field.max);
    for (const auto &field : integers)
        s.*field.at = request.integer(field.name, s.*field.at, field.min, field.max);
    s.ignore_eos = request.flag("ignore_eos", s.ignore_eos);
    if (const json *list = request.find("dry_sequence_breakers"))
        s.dry_sequence_breakers = strings(*list, "dry_sequence_breakers");
    if (const json *list = request.find("samplers")) {
        s.samplers = strings(*list, "samplers");
        for (const std::string &name : s.samplers) {
            const auto &known = sampling().samplers;
            if (std::find(known.begin(), known.end(), name) == known.end())
                throw fault::bad("'samplers' names '" + name + "', which is not known");
        }
    }
    if (const json *bias = request.find("logit_bias")) s.logit_bias = read_bias(*bias, vocab);
    s.only.text = request.text("grammar", s.only.text);
    if (const json *schema = request.find("json_schema")) {
        if (!s.only.text.empty())
            throw fault::bad("'grammar' and 'json_schema' both say what to write: use one of them");
        s.only.text = schema_grammar(*schema);
    }
    return s;
}

json sampling::show() const {
    json all;
    for (const auto &field : integers) all[field.name] = this->*field.at;
    for (const auto &field : reals) all[field.name] = this->*field.at;
    all["dry_sequence_breakers"] = dry_sequence_breakers;
    all["ignore_eos"] = ignore_eos;
    all["grammar"] = only.text;
    all["samplers"] = samplers;
    return all;
}

// ---- samplers ----

static llama_sampler *make_grammar(const grammar &only, const vocabulary &vocab) {
    forget_errors();
    bool lazy = !only.trigger.empty() || only.trigger_token != LLAMA_TOKEN_NULL;
    const char *pattern = only.trigger.c_str();
    llama_sampler *made =
        lazy ? llama_sampler_init_grammar_lazy_patterns(
                   vocab.handle(), only.text.c_str(), only.root.c_str(), &pattern,
                   only.trigger.empty() ? 0 : 1, &only.trigger_token,
                   only.trigger_token == LLAMA_TOKEN_NULL ? 0 : 1)
             : llama_sampler_init_grammar(vocab.handle(), only.text.c_str(), only.root.c_str());
    if (!made) throw fault::bad("the grammar cannot be used: " + library_error());
    return made;
}

sampler_ptr sampling::make(const vocabulary &vocab, int32_t n_ctx) const {
    sampler_ptr chain(llama_sampler_chain_init(llama_sampler_chain_default_params()));
    auto add = [&](llama_sampler *one) { llama_sampler_chain_add(chain.get(), one); };
    auto f = [](double value) { return static_cast<float>(value); };
    auto last_n = [&](int64_t n) { return n < 0 ? n_ctx : static_cast<int32_t>(n); };
    auto keep = static_cast<size_t>(min_keep);
    // Any number is a seed; -1 is a new one each time.
    uint32_t start = seed == -1 ? LLAMA_DEFAULT_SEED : static_cast<uint32_t>(seed);
    bool greedy = temperature <= 0;

    if (!only.text.empty()) add(make_grammar(only, vocab));
    std::vector<llama_logit_bias> bias = logit_bias;
    for (llama_token token = 0; ignore_eos && token < vocab.size(); token++)
        if (llama_vocab_is_eog(vocab.handle(), token)) bias.push_back({token, -INFINITY});
    if (!bias.empty())
        add(llama_sampler_init_logit_bias(vocab.size(), static_cast<int32_t>(bias.size()), bias.data()));

    const std::map<std::string, std::function<llama_sampler *()>> makers = {
        {"penalties", [&] { return llama_sampler_init_penalties(vocab.size(), last_n(repeat_last_n),
                                f(repeat_penalty), f(frequency_penalty), f(presence_penalty)); }},
        {"dry", [&] {
            std::vector<const char *> breakers;
            for (const std::string &text : dry_sequence_breakers) breakers.push_back(text.c_str());
            return llama_sampler_init_dry(vocab.handle(), f(dry_multiplier), f(dry_base),
                static_cast<int32_t>(dry_allowed_length), last_n(dry_penalty_last_n),
                breakers.data(), breakers.size()); }},
        {"top_n_sigma", [&] { return llama_sampler_init_top_n_sigma(f(top_n_sigma)); }},
        {"top_k", [&] { return llama_sampler_init_top_k(static_cast<int32_t>(top_k)); }},
        {"typ_p", [&] { return llama_sampler_init_typical(f(typical_p), keep); }},
        {"top_p", [&] { return llama_sampler_init_top_p(f(top_p), keep); }},
        {"min_p", [&] { return llama_sampler_init_min_p(f(min_p), keep); }},
        {"xtc", [&] { return llama_sampler_init_xtc(f(xtc_probability), f(xtc_threshold), keep, start); }},
        {"temperature", [&] { return llama_sampler_init_temp_ext(f(temperature), f(dynatemp_range),
                                                                 f(dynatemp_exponent)); }},
    };
    bool with_mirostat = mirostat != 0 && !greedy;
    for (const std::string &name : samplers) {
        // The likeliest token stays the likeliest whatever is cut off below it.
        bool shapes = name == "penalties" || name == "dry";
        if ((greedy || with_mirostat) && !shapes) continue;
        add(makers.at(name)());
    }
    if (greedy) {
        add(llama_sampler_init_greedy());
    } else if (with_mirostat) {
        add(llama_sampler_init_temp(f(temperature)));
        if (mirostat == 1)
            add(llama_sampler_init_mirostat(vocab.size(), start, f(mirostat_tau), f(mirostat_eta), 100));
        else add(llama_sampler_init_mirostat_v2(start, f(mirostat_tau), f(mirostat_eta)));
    } else {
        add(llama_sampler_init_dist(start));
    }
    return chain;
}

std::string schema_grammar(const json &schema) {
    if (!powerinfer_json_schema_to_grammar)
        throw fault::unsupported("this libllama is not libpowerinfer: it makes no grammar of a schema");
    if (!schema.is_object() && !schema.is_boolean()) throw fault::bad("a JSON schema is an object");
    std::string text = dump(schema);
    forget_errors();
    int32_t n = powerinfer_json_schema_to_grammar(text.c_str(), nullptr, 0);
    if (n < 0) throw fault::bad("the JSON schema cannot be used: " + library_error());
    std::string made(static_cast<size_t>(n) + 1, '\0');
    powerinfer_json_schema_to_grammar(text.c_str(), &made[0], n + 1);
    made.resize(static_cast<size_t>(n));
    return made;
}
