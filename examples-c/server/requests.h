// From the body of a request to tasks for the engine and the form of the reply.
#pragma once

#include "engine.h"
#include "reply.h"

#include <memory>
#include <string>
#include <vector>

// What a request became.
struct work {
    std::shared_ptr<channel> out = std::make_shared<channel>();
    std::vector<std::unique_ptr<task>> tasks;
    std::unique_ptr<reply> form;
    bool stream = false;
};

struct request_defaults {
    sampling options;
    std::string model;           // its name for clients
    int64_t n_predict = -1;
    int64_t request_seconds = 0; // the longest that a request may take; 0: as long as it does
};

class request_reader {
public:
    request_reader(const vocabulary &words, engine &of, request_defaults what)
        : vocab(words), core(of), defaults(std::move(what)) {}

    work chat(const json &body) const;       // /v1/chat/completions
    work completion(const json &body) const; // /v1/completions
    work native(const json &body) const;     // /completion
    work infill(const json &body) const;     // /infill

    // The conversation of a chat request as text.
    std::string laid_out(const json &body) const;
    // What a request that says nothing gets, for /props.
    json default_settings() const;

private:
    struct choices;
    void fill(work &made, const fields &body, std::vector<token_list> prompts, choices what) const;
    json settings(const task &of) const;
    openai_head head(const fields &body, const char *id) const;
    std::unique_ptr<reply> native_form(const work &made, const fields &body, bool list) const;
    token_list gap(const fields &body) const;

    const vocabulary &vocab;
    engine &core;
    request_defaults defaults;
};
