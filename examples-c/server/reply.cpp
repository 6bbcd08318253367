#include "reply.h"

#include <algorithm>

reply::reply(const vocabulary &words, size_t n_answers)
    : vocab(words), answers(n_answers), n_open(n_answers) {}

std::vector<json> reply::take(event now, bool stream) {
    answer &one = answers[static_cast<size_t>(now.index)];
    for (const token_odds &odds : now.odds)
        if (tells_odds(odds.chosen.token)) one.odds.push_back(show_odds(odds));
    one.list.insert(one.list.end(), now.list.begin(), now.list.end());
    one.time = now.time;
    one.slot = now.slot;
    std::string text = std::move(now.text);
    if (one.tools) text = one.tools->add(text);
    if (now.last()) {
        n_open--;
        one.ended = now.ended;
        one.stop_word = now.stop_word;
        one.truncated = now.truncated;
        if (one.tools) text += one.tools->finish(&one.calls);
    }
    one.text += text;
    return stream ? chunks(now.index, text, now) : std::vector<json>{};
}

json reply::token_text(llama_token token) const {
    std::string text = vocab.piece(token, true);
    json bytes = json::array();
    for (char c : text) bytes.push_back(static_cast<unsigned char>(c));
    return {{"id", token}, {"token", text}, {"bytes", bytes}};
}

json reply::show_odds(const token_odds &odds) const {
    auto show = [&](const token_odds::one &one) {
        json shown = token_text(one.token);
        // JSON has no infinity: a token that cannot come.
        shown["logprob"] = std::max(one.logprob, -9999.0F);
        return shown;
    };
    json shown = show(odds.chosen), top = json::array();
    for (const token_odds::one &one : odds.top) top.push_back(show(one));
    shown["top_logprobs"] = top;
    return shown;
}

// ---- OpenAI ----

namespace {

class openai_reply : public reply {
public:
    openai_reply(const vocabulary &words, size_t n, openai_head h, const char *of_whole, const char *of_chunk)
        : reply(words, n), head(std::move(h)), kind(of_whole), chunk_kind(of_chunk) {}

    json whole() override {
        json choices = json::array();
        for (size_t i = 0; i < answers.size(); i++) choices.push_back(choice(i));
        json all = object(kind, choices);
        all["usage"] = sum();
        all["timings"] = answers[0].time.show();
        return all;
    }

    std::vector<json> closing() override {
        if (!head.usage_at_end) return {};
        json last = object(chunk_kind, json::array());
        last["usage"] = sum();
        last["timings"] = answers[0].time.show();
        return {last};
    }

protected:
    virtual json choice(size_t index) = 0;

    json object(const char *name, json choices) const {
        return {{"id", head.id},       {"object", name},          {"created", head.created},
                {"model", head.model}, {"choices", std::move(choices)}};
    }

    json piece(json choice) const {
        json made = object(chunk_kind, json::array({std::move(choice)}));
        if (head.usage_at_end) made["usage"] = nullptr;
        return made;
    }

    // The tokens told of make up the text, without the one that ended it.
    bool tells_odds(llama_token token) const override { return !llama_vocab_is_eog(vocab.handle(), token); }

    // A prompt counts once for all of its answers.
    json sum() const {
        int64_t n_prompt = 0, n_written = 0, n_cached = 0;
        for (size_t i = 0; i < answers.size(); i++) {
            n_written += answers[i].time.n_predicted;
            if (i % head.per_prompt) continue;
            n_prompt += answers[i].time.n_prompt;
            n_cached += answers[i].time.n_cached;
        }
        return {{"prompt_tokens", n_prompt},
                {"completion_tokens", n_written},
                {"total_tokens", n_prompt + n_written},
                {"prompt_tokens_details", {{"cached_tokens", n_cached}}}};
    }

    static json finish_reason(const answer &one) {
        if (one.ended == stop_reason::none) return nullptr;
        if (one.ended == stop_reason::limit) return "length";
        return one.calls.empty() ? "stop" : "tool_calls";
    }

    openai_head head;
    const char *kind, *chunk_kind;
};

class chat_form : public openai_reply {
public:
    chat_form(const vocabulary &words, size_t n, openai_head h, std::shared_ptr<const tool_request> tools)
        : openai_reply(words, n, std::move(h), "chat.completion", "chat.completion.chunk") {
        for (answer &one : answers)
            if (tools) one.tools.emplace(tools);
    }

protected:
    json choice(size_t index) override {
        const answer &one = answers[index];
        json message = {{"role", "assistant"}, {"content", one.text}};
        if (!one.calls.empty()) {
            if (one.text.empty()) message["content"] = nullptr;
            message["tool_calls"] = one.calls;
        }
        json made = {{"index", index}, {"message", message}, {"finish_reason", finish_reason(one)}, {"logprobs", nullptr}};
        if (!one.odds.empty()) made["logprobs"] = {{"content", one.odds}};
        return made;
    }

    std::vector<json> chunks(int index, const std::string &text, const event &now) override {
        answer &one = answers[static_cast<size_t>(index)];
        std::vector<json> all;
        auto add = [&](json delta, json reason) {
            json made = {{"index", index}, {"delta", std::move(delta)}, {"finish_reason", std::move(reason)}, {"logprobs", nullptr}};
            // What was held back comes with the odds of all its tokens.
            bool greeting = made["delta"].contains("role");
            if (!greeting && !one.odds.empty()) made["logprobs"] = {{"content", std::exchange(one.odds, json::array())}};
            json sent = piece(std::move(made));
            if (head.timings_each) sent["timings"] = now.time.show();
            all.push_back(std::move(sent));
        };
        if (!std::exchange(one.greeted, true)) add({{"role", "assistant"}, {"content", ""}}, nullptr);
        if (!text.empty()) add({{"content", text}}, nullptr);
        if (now.ended == stop_reason::none) return all;
        int number = 0;
        for (json call : one.calls) {
            call["index"] = number++;
            add({{"tool_calls", json::array({call})}}, nullptr);
        }
        add(json::object(), finish_reason(one));
        return all;
    }
};

class text_form : public openai_reply {
public:
    text_form(const vocabulary &words, size_t n, openai_head h)
        : openai_reply(words, n, std::move(h), "text_completion", "text_completion") {}

protected:
    json choice(size_t index) override { return made(index, answers[index].text); }

    json made(size_t index, const std::string &text) {
        answer &one = answers[index];
        return {{"text", text}, {"index", index}, {"logprobs", odds(one)}, {"finish_reason", finish_reason(one)}};
    }

    // The lists of the older API.
    json odds(answer &one) {
        if (one.odds.empty()) return nullptr;
        json names = json::array(), chosen = json::array(), top = json::array(), offsets = json::array();
        for (const json &token : std::exchange(one.odds, json::array())) {
            json likeliest = json::object();
            for (const json &other : token["top_logprobs"])
                likeliest[other["token"].get<std::string>()] = other["logprob"];
            names.push_back(token["token"]);
            chosen.push_back(token["logprob"]);
            top.push_back(likeliest);
            offsets.push_back(one.n_shown_odds);
            one.n_shown_odds += token["token"].get_ref<const std::string &>().size();
        }
        return {{"tokens", names}, {"token_logprobs", chosen}, {"top_logprobs", top}, {"text_offset", offsets}};
    }

    std::vector<json> chunks(int index, const std::string &text, const event &now) override {
        if (text.empty() && now.ended == stop_reason::none) return {};
        json sent = piece(made(static_cast<size_t>(index), text));
        if (head.timings_each) sent["timings"] = now.time.show();
        return {sent};
    }
};

// ---- llama.cpp ----

class native_form : public reply {
public:
    native_form(const vocabulary &words, size_t n, std::string name, json what, std::vector<std::string> texts, bool as_list, bool tokens_too)
        : reply(words, n), model(std::move(name)), settings(std::move(what)),
          prompts(std::move(texts)), list(as_list), with_tokens(tokens_too) {}

    json whole() override {
        if (!list) return last(0, answers[0].text);
        json all = json::array();
        for (size_t i = 0; i < answers.size(); i++) all.push_back(last(i, answers[i].text));
        return all;
    }
    bool ends_with_done() const override { return false; }

protected:
    json last(size_t index, const std::string &text) {
        static const char *const types[] = {"none", "eos", "word", "limit"};
        answer &one = answers[index];
        json made = {{"index", index},
                     {"content", text},
                     {"tokens", with_tokens ? json(one.list) : json::array()},
                     {"id_slot", one.slot},
                     {"stop", true},
                     {"model", model},
                     {"tokens_predicted", one.time.n_predicted},
                     {"tokens_evaluated", one.time.n_prompt},
                     {"generation_settings", settings},
                     {"prompt", prompts[index]},
                     {"has_new_line", one.text.find('\n') != std::string::npos},
                     {"truncated", one.truncated},
                     {"stop_type", types[static_cast<int>(one.ended)]},
                     {"stopping_word", one.stop_word},
                     {"tokens_cached", one.time.n_cached},
                     {"timings", one.time.show()}};
        if (!one.odds.empty()) made["completion_probabilities"] = std::exchange(one.odds, json::array());
        return made;
    }

    std::vector<json> chunks(int index, const std::string &text, const event &now) override {
        answer &one = answers[static_cast<size_t>(index)];
        json made = {{"index", index},
                     {"content", text},
                     {"tokens", now.list},
                     {"stop", false},
                     {"id_slot", one.slot},
                     {"tokens_predicted", one.time.n_predicted},
                     {"tokens_evaluated", one.time.n_prompt}};
        if (!one.odds.empty()) made["completion_probabilities"] = std::exchange(one.odds, json::array());
        if (now.ended == stop_reason::none) return {made};
        if (text.empty()) return {last(static_cast<size_t>(index), "")};
        return {made, last(static_cast<size_t>(index), "")};
    }

private:
    std::string model;
    json settings;
    std::vector<std::string> prompts;
    bool list, with_tokens;
};

} // namespace

std::unique_ptr<reply> chat_reply(const vocabulary &vocab, size_t n_answers, openai_head head,
                                  std::shared_ptr<const tool_request> tools) {
    return std::make_unique<chat_form>(vocab, n_answers, std::move(head), std::move(tools));
}

std::unique_ptr<reply> text_reply(const vocabulary &vocab, size_t n_answers, openai_head head) {
    return std::make_unique<text_form>(vocab, n_answers, std::move(head));
}

std::unique_ptr<reply> native_reply(const vocabulary &vocab, size_t n_answers, std::string model,
                                    json settings, std::vector<std::string> prompts, bool list,
                                    bool with_tokens) {
    return std::make_unique<native_form>(vocab, n_answers, std::move(model), std::move(settings),
                                         std::move(prompts), list, with_tokens);
}
