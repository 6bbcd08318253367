// Calls of the client's functions: how a model's chat format writes them, the grammar that holds it
// to that, and reading them out of its answer.
//
// To add a format: a row in `formats` of tools.cpp.
#pragma once

#include "sampling.h"
#include "support.h"
#include "task.h"

#include <memory>
#include <string>
#include <vector>

struct tool_format;

// What a request says about tools.
class tool_request {
public:
    // Null when there are none to use; a fault when the chat template cannot have any.
    static std::shared_ptr<const tool_request> read(const fields &body, const vocabulary &vocab);

    // For the chat template.
    const json &list() const { return tools; }
    // Strict when a call is demanded; else it begins where the model begins a call.
    grammar only(const vocabulary &vocab) const;
    // Control tokens of the format, which must not be swallowed.
    std::set<llama_token> shown(const vocabulary &vocab) const;

private:
    friend class tool_reader;
    json tools;       // those that may be called
    bool must = false, several = true;
    const tool_format *format = nullptr;
};

// Divides an answer into its text and the calls in it.
class tool_reader {
public:
    explicit tool_reader(std::shared_ptr<const tool_request> of) : request(std::move(of)) {}
    // What of the answer is text to be shown.
    std::string add(const std::string &text);
    // The rest of the text, and the calls as OpenAI's API has them.
    std::string finish(json *calls);

private:
    std::shared_ptr<const tool_request> request;
    std::string held;     // not shown yet, or from the first call on all of it
    bool calling = false; // the first call has begun
    bool began = false;   // something was shown
};

// Letters and digits after a prefix, as ids of answers and calls.
std::string random_id(const char *prefix);
