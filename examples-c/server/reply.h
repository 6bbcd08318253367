// What a client is sent: events become OpenAI's objects or llama.cpp's, at once or as a stream.
#pragma once

#include "support.h"
#include "task.h"
#include "tools.h"

#include <memory>
#include <optional>
#include <string>
#include <vector>

// One answer of a request, as far as it was written.
struct answer {
    std::string text, stop_word;
    token_list list;
    json odds = json::array(); // in the form's own shape
    json calls = json::array();
    stop_reason ended = stop_reason::none;
    bool truncated = false;
    int slot = -1;
    timings time;
    std::optional<tool_reader> tools;
    bool greeted = false;  // the role was sent
    size_t n_shown_odds = 0; // bytes of the tokens whose odds were sent
};

class reply {
public:
    reply(const vocabulary &words, size_t n_answers);
    virtual ~reply() = default;
    reply(const reply &) = delete;
    reply &operator=(const reply &) = delete;

    // Takes an event in; with `stream` what is to be sent for it.
    std::vector<json> take(event one, bool stream);
    bool complete() const { return n_open == 0; }
    // The whole answer, or what ends a stream.
    virtual json whole() = 0;
    virtual std::vector<json> closing() { return {}; }
    virtual bool ends_with_done() const { return true; }

protected:
    // Whether the odds of such a token are sent.
    virtual bool tells_odds(llama_token) const { return true; }
    json show_odds(const token_odds &odds) const;
    virtual std::vector<json> chunks(int index, const std::string &text, const event &now) = 0;
    json token_text(llama_token token) const;

    const vocabulary &vocab;
    std::vector<answer> answers;
    size_t n_open;
};

// What the objects of OpenAI's API have in common.
struct openai_head {
    std::string model, id;
    int64_t created;
    bool usage_at_end = false;  // stream_options.include_usage
    bool timings_each = false;
    size_t per_prompt = 1;      // answers to each prompt
};

std::unique_ptr<reply> chat_reply(const vocabulary &vocab, size_t n_answers, openai_head head,
                                  std::shared_ptr<const tool_request> tools);
std::unique_ptr<reply> text_reply(const vocabulary &vocab, size_t n_answers, openai_head head);

// llama.cpp's /completion. `settings` is shown as generation_settings.
std::unique_ptr<reply> native_reply(const vocabulary &vocab, size_t n_answers, std::string model,
                                    json settings, std::vector<std::string> prompts, bool list,
                                    bool with_tokens);
