#include "support.h"

#include "llama.h"

#include <cmath>
#include <cstdarg>
#include <cstdio>
#include <ctime>
#include <mutex>

// Deeper than any honest request, and far from where a walk over the value runs out of stack.
static const int deepest = 64;

json fault::body() const {
    json error = {{"message", message}, {"type", type}, {"param", nullptr}, {"code", status}};
    error.update(more);
    return {{"error", error}};
}

json parse_json(const std::string &body, const char *name) {
    bool too_deep = false;
    auto watch = [&](int depth, json::parse_event_t, json &) {
        if (depth > deepest) too_deep = true;
        return !too_deep; // what is dropped here is not built
    };
    json value;
    try {
        value = json::parse(body, watch);
    } catch (const json::exception &error) {
        throw fault::bad(std::string(name) + " is no JSON: " + error.what());
    }
    if (too_deep)
        throw fault::bad(std::string(name) + " is nested deeper than " + std::to_string(deepest) + " levels");
    return value;
}

fields::fields(const json &of, const char *name) : object(of) {
    if (!object.is_object()) throw fault::bad(std::string(name) + " must be a JSON object");
}

const json *fields::find(const char *name) const {
    auto at = object.find(name);
    return at == object.end() || at->is_null() ? nullptr : &*at;
}

const json &fields::need(const char *name) const {
    const json *value = find(name);
    if (!value) throw fault::bad(std::string("'") + name + "' is missing");
    return *value;
}

bool fields::flag(const char *name, bool otherwise) const {
    const json *value = find(name);
    if (!value) return otherwise;
    if (!value->is_boolean()) throw fault::bad(std::string("'") + name + "' must be true or false");
    return value->get<bool>();
}

double fields::real(const char *name, double otherwise, double min, double max) const {
    const json *value = find(name);
    if (!value) return otherwise;
    double number = value->is_number() ? value->get<double>() : NAN;
    if (!(number >= min && number <= max)) {
        char range[96];
        std::snprintf(range, sizeof range, "' must be a number from %g to %g", min, max);
        throw fault::bad(std::string("'") + name + range);
    }
    return number;
}

int64_t fields::integer(const char *name, int64_t otherwise, int64_t min, int64_t max) const {
    double number = real(name, static_cast<double>(otherwise), static_cast<double>(min),
                         static_cast<double>(max));
    if (number != std::floor(number))
        throw fault::bad(std::string("'") + name + "' must be a whole number");
    return static_cast<int64_t>(number);
}

std::string fields::text(const char *name, const std::string &otherwise) const {
    const json *value = find(name);
    if (!value) return otherwise;
    if (!value->is_string()) throw fault::bad(std::string("'") + name + "' must be a string");
    return value->get<std::string>();
}

// ---- log ----

static std::mutex log_mutex;
static bool log_all;
static thread_local std::string first_error;
static thread_local std::string line; // a line of the library's log may come in pieces

void say(const char *format, ...) {
    char text[2048], when[16];
    va_list args;
    va_start(args, format);
    std::vsnprintf(text, sizeof text, format, args);
    va_end(args);
    std::time_t now = std::time(nullptr);
    std::tm local{};
    localtime_r(&now, &local);
    std::strftime(when, sizeof when, "%H:%M:%S", &local);
    std::lock_guard<std::mutex> lock(log_mutex);
    std::fprintf(stderr, "%s %s\n", when, text);
}

static void on_log(enum ggml_log_level level, const char *text, void *) {
    thread_local enum ggml_log_level of_line = GGML_LOG_LEVEL_INFO;
    if (level != GGML_LOG_LEVEL_CONT) of_line = level;
    line += text;
    if (line.empty() || line.back() != '\n') return;
    line.pop_back();
    if (of_line == GGML_LOG_LEVEL_ERROR && first_error.empty()) first_error = line;
    if (log_all || of_line == GGML_LOG_LEVEL_WARN || of_line == GGML_LOG_LEVEL_ERROR)
        say("%s", line.c_str());
    line.clear();
}

void route_log(bool verbose) {
    log_all = verbose;
    llama_log_set(on_log, nullptr);
}

std::string library_error() { return first_error; }
void forget_errors() { first_error.clear(); }
