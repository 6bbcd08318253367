// What all of the server uses: JSON, errors that a client is told, time, the log.
#pragma once

#include <chrono>
#include <cstdint>
#include <exception>
#include <string>
#include <utility>

#include <nlohmann/json.hpp>

// Objects keep the order of their keys: a schema's properties are written in the order given.
using json = nlohmann::ordered_json;

// What is wrong with a request or kept it from being answered: an HTTP status, the type that
// OpenAI's clients know it by, and a sentence. `more` is merged into the error object.
struct fault : std::exception {
    int status;
    std::string type, message;
    json more;

    fault(int code, std::string kind, std::string sentence, json extra = json::object())
        : status(code), type(std::move(kind)), message(std::move(sentence)), more(std::move(extra)) {}
    const char *what() const noexcept override { return message.c_str(); }

    static fault bad(std::string message) {
        return {400, "invalid_request_error", std::move(message)};
    }
    static fault unsupported(std::string message) {
        return {501, "not_supported_error", std::move(message)};
    }
    // {"error": {...}} as OpenAI's API has it.
    json body() const;
};

// The text of JSON; bytes that are no UTF-8 become U+FFFD.
inline std::string dump(const json &value) {
    return value.dump(-1, ' ', false, json::error_handler_t::replace);
}

// Parses a body, or throws fault: not JSON, not UTF-8, numbers too large, nested too deep.
json parse_json(const std::string &body, const char *name = "the body");

// A request's object, read field by field: a field of the wrong type or out of its range is a
// fault that names it. null is the same as absent.
class fields {
public:
    explicit fields(const json &of, const char *name = "the body");

    const json *find(const char *name) const;
    // A field that must be there.
    const json &need(const char *name) const;
    bool flag(const char *name, bool otherwise) const;
    double real(const char *name, double otherwise, double min, double max) const;
    int64_t integer(const char *name, int64_t otherwise, int64_t min, int64_t max) const;
    std::string text(const char *name, const std::string &otherwise = {}) const;

private:
    const json &object;
};

using steady = std::chrono::steady_clock;

inline double ms_since(steady::time_point start) {
    return std::chrono::duration<double, std::milli>(steady::now() - start).count();
}

// One line on stderr, with the time.
#if defined(__GNUC__)
__attribute__((format(printf, 1, 2)))
#endif
void say(const char *format, ...);

// Routes the library's log: warnings and errors become lines, with `verbose` all of it.
void route_log(bool verbose);
// The first error that the library logged on this thread since forget_errors().
std::string library_error();
void forget_errors();
