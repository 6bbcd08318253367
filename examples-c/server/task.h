// What the HTTP threads and the engine's thread hand to each other: a task goes in, events come out.
#pragma once

#include "sampling.h"
#include "support.h"
#include "vocabulary.h"

#include <atomic>
#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <vector>

// How likely a token was, and the likeliest beside it, by the model alone (before the samplers).
struct token_odds {
    struct one {
        llama_token token;
        float logprob;
    };
    one chosen;
    std::vector<one> top;
};

enum class stop_reason { none, end_of_text, word, limit };

// What an answer cost. Times in milliseconds.
struct timings {
    int64_t n_prompt = 0;    // all of the prompt
    int64_t n_cached = 0;    // of it from the cache
    int64_t n_predicted = 0;
    double prompt_ms = 0, predicted_ms = 0;

    json show() const;
};

// Something became known about an answer. The last event of one has `ended` or `failed` set.
struct event {
    int index = 0;    // of the answer in its request
    std::string text; // whole characters, as far as no stop word can begin in it
    token_list list;      // the tokens that this text came with
    std::vector<token_odds> odds;
    stop_reason ended = stop_reason::none;
    std::string stop_word;
    bool truncated = false; // the context was full
    int slot = -1;
    timings time; // so far
    std::optional<fault> failed;

    bool last() const { return failed || ended != stop_reason::none; }
};

// Where the events of a request arrive.
class channel {
public:
    void put(event one);
    // The next event, or nothing after this many milliseconds.
    std::optional<event> take(int wait_ms);
    // The client is gone: what still waits or runs for it is dropped within one step.
    void cancel() { gone = true; }
    bool cancelled() const { return gone; }

private:
    std::mutex mutex;
    std::condition_variable arrived;
    std::deque<event> events;
    std::atomic<bool> gone{false};
};

// One answer to be written.
struct task {
    std::shared_ptr<channel> out;
    int index = 0;          // of the answer in its request
    uint64_t request = 0;   // answers of one request have one number
    token_list prompt;
    sampling options;
    sampler_ptr sampler;
    int64_t n_predict = -1; // -1: until the model ends it
    int64_t n_keep = 0;     // tokens that a context shift keeps; -1: the prompt
    int n_odds = -1;        // how many likely tokens to tell of; -1: not even the chosen one's odds
    double t_max_predict_ms = 0; // 0: no limit
    std::vector<std::string> stops;
    std::set<llama_token> shown; // control tokens that are text here
    bool cache_prompt = true;
    int slot = -1; // -1: any
    steady::time_point deadline = steady::time_point::max();
};

// Holds text back that may be the beginning of a stop word or of a character.
class text_gate {
public:
    explicit text_gate(std::vector<std::string> words) : stops(std::move(words)) {}
    // Adds bytes; what of them may be shown. Nothing comes after a stop word, which is then `found`.
    std::string add(const std::string &bytes);
    // What still waits.
    std::string rest();
    const std::string *found() const { return which; }

private:
    std::vector<std::string> stops;
    std::string held;
    const std::string *which = nullptr;
};

// Bytes at the end of `text` that are the beginning of `word` and not all of it.
size_t begins_at_end(const std::string &text, const std::string &word);
