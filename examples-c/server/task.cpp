#include "task.h"

#include <algorithm>

json timings::show() const {
    auto per_second = [](int64_t n, double ms) { return ms > 0 ? 1000.0 * static_cast<double>(n) / ms : 0.0; };
    auto per_token = [](int64_t n, double ms) { return n > 0 ? ms / static_cast<double>(n) : 0.0; };
    int64_t n = n_prompt - n_cached;
    return {{"cache_n", n_cached},
            {"prompt_n", n},
            {"prompt_ms", prompt_ms},
            {"prompt_per_token_ms", per_token(n, prompt_ms)},
            {"prompt_per_second", per_second(n, prompt_ms)},
            {"predicted_n", n_predicted},
            {"predicted_ms", predicted_ms},
            {"predicted_per_token_ms", per_token(n_predicted, predicted_ms)},
            {"predicted_per_second", per_second(n_predicted, predicted_ms)}};
}

void channel::put(event one) {
    {
        std::lock_guard<std::mutex> lock(mutex);
        events.push_back(std::move(one));
    }
    arrived.notify_one();
}

std::optional<event> channel::take(int wait_ms) {
    std::unique_lock<std::mutex> lock(mutex);
    arrived.wait_for(lock, std::chrono::milliseconds(wait_ms), [&] { return !events.empty(); });
    if (events.empty()) return std::nullopt;
    event one = std::move(events.front());
    events.pop_front();
    return one;
}

// ---- text ----

size_t begins_at_end(const std::string &text, const std::string &word) {
    size_t n = std::min(text.size(), word.empty() ? 0 : word.size() - 1);
    while (n > 0 && text.compare(text.size() - n, n, word, 0, n) != 0) n--;
    return n;
}

// Bytes at the end that are the beginning of a UTF-8 character.
static size_t unfinished_character(const std::string &text) {
    for (size_t back = 1; back <= 3 && back <= text.size(); back++) {
        auto byte = static_cast<unsigned char>(text[text.size() - back]);
        if ((byte & 0xC0) == 0x80) continue;
        size_t whole = byte >= 0xF0 ? 4 : byte >= 0xE0 ? 3 : byte >= 0xC0 ? 2 : 1;
        return whole > back ? back : 0;
    }
    return 0;
}

std::string text_gate::add(const std::string &bytes) {
    held += bytes;
    size_t first = std::string::npos;
    for (const std::string &stop : stops) {
        size_t at = held.find(stop);
        if (at < first) {
            first = at;
            which = &stop;
        }
    }
    size_t keep = 0;
    if (which) {
        held.resize(first);
    } else {
        for (const std::string &stop : stops) keep = std::max(keep, begins_at_end(held, stop));
        keep = std::max(keep, unfinished_character(held));
    }
    std::string shown = held.substr(0, held.size() - keep);
    held.erase(0, shown.size());
    return shown;
}

std::string text_gate::rest() { return std::exchange(held, {}); }
