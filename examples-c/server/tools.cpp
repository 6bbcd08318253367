#include "tools.h"

#include <algorithm>
#include <random>

struct tool_format {
    const char *in_template; // tells the format by the chat template
    const char *begin, *between, *end; // around the calls; in the grammar also around each one
    const char *each_end;
    const char *arguments;   // the name of the arguments
    bool only_at_start;      // a call is the whole answer
    bool short_ids;          // templates refuse ids of calls that are not 9 letters and digits
};

static const tool_format formats[] = {
    // Hermes, Qwen: <tool_call> lines, any number.
    {"<tool_call>", "<tool_call>\n", "<tool_call>\n", "", "\n</tool_call>\n", "arguments", false, false},
    // Mistral: a list after a control token.
    {"[TOOL_CALLS]", "[TOOL_CALLS][", ", ", "]", "", "arguments", false, true},
    // Llama 3: the answer is the call.
    {"\"parameters\"", "{\"name\"", "", "", "", "parameters", true, false},
};

// The part of `begin` that announces calls in a text that a model wrote in its own way.
static std::string marker(const tool_format &format) {
    std::string text = format.begin;
    if (format.only_at_start) return "{";
    while (text.back() == '\n' || text.back() == '[') text.pop_back();
    return text;
}

std::string random_id(const char *prefix) {
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
    thread_local std::mt19937_64 random{std::random_device{}()};
    std::string id = prefix;
    for (int i = 0; i < 24; i++) id += letters[random() % 62];
    return id;
}

// ---- request ----

static std::string function_name(const json &tool) {
    fields object(tool, "a tool");
    if (object.text("type", "function") != "function")
        throw fault::unsupported("a tool has the type '" + object.text("type") +
                                 "': only functions are supported");
    fields function(object.need("function"), "'function'");
    std::string name = function.text("name");
    if (name.empty()) throw fault::bad("a function has no 'name'");
    return name;
}

std::shared_ptr<const tool_request> tool_request::read(const fields &body, const vocabulary &vocab) {
    const json *tools = body.find("tools"), *choice = body.find("tool_choice");
    if (body.find("functions") || body.find("function_call"))
        throw fault::unsupported("'functions' is not supported: use 'tools'");
    if (tools && !tools->is_array()) throw fault::bad("'tools' must be a list");
    if (!tools || tools->empty()) {
        if (choice && *choice != "none" && *choice != "auto")
            throw fault::bad("'tool_choice' asks for a tool, and there are no 'tools'");
        return nullptr;
    }
    auto made = std::make_shared<tool_request>();
    made->tools = *tools;
    for (const json &tool : *tools) function_name(tool);
    if (choice && choice->is_string()) {
        if (*choice == "none") return nullptr;
        made->must = *choice == "required";
        if (!made->must && *choice != "auto")
            throw fault::bad("'tool_choice' must be none, auto, required or a function");
    } else if (choice) {
        std::string wanted = function_name(*choice);
        json one = json::array();
        for (const json &tool : *tools)
            if (function_name(tool) == wanted) one.push_back(tool);
        if (one.empty()) throw fault::bad("'tool_choice' names '" + wanted + "', which is no tool");
        made->tools = std::move(one);
        made->must = true;
    }
    made->several = body.flag("parallel_tool_calls", true);

    const std::string &chat_template = vocab.chat_template();
    if (chat_template.find("tools") == std::string::npos)
        throw fault::bad("the model's chat template knows no tools");
    for (const tool_format &format : formats)
        if (!made->format && chat_template.find(format.in_template) != std::string::npos)
            made->format = &format;
    if (!made->format)
        throw fault::unsupported("the model's chat template writes calls in a format that is not known");
    return made;
}

// ---- grammar ----

// A schema inside of another: its references start from a new place.
static void move_references(json &schema, const std::string &place) {
    if (schema.is_object()) {
        auto ref = schema.find("$ref");
        if (ref != schema.end() && ref->is_string()) {
            auto path = ref->get<std::string>();
            if (!path.empty() && path[0] == '#') *ref = place + path.substr(1);
        }
    }
    if (schema.is_structured())
        for (json &part : schema) move_references(part, place);
}

static std::string quoted(const std::string &text) { return dump(json(text)); }

grammar tool_request::only(const vocabulary &vocab) const {
    json any = json::array();
    for (const json &tool : tools) {
        const json &function = tool["function"];
        json arguments = function.contains("parameters") && function["parameters"].is_object()
                             ? function["parameters"]
                             : json{{"type", "object"}};
        move_references(arguments, "#/anyOf/" + std::to_string(any.size()) + "/properties/" + format->arguments);
        any.push_back({{"type", "object"},
                       {"properties", {{"name", {{"const", function["name"]}}}, {format->arguments, arguments}}},
                       {"required", {"name", format->arguments}},
                       {"additionalProperties", false}});
    }
    grammar made;
    made.root = "tool-calls";
    made.text = schema_grammar({{"anyOf", any}});
    auto literal = [](const char *text) { return *text ? quoted(text) + " " : std::string(); };
    std::string begin = format->only_at_start ? "" : literal(format->begin);
    std::string call = "root " + literal(format->each_end), more;
    if (several && !format->only_at_start) more = "(" + literal(format->between) + call + ")* ";
    made.text += "\ntool-calls ::= " + begin + call + more + literal(format->end) + "\n";
    if (must) return made;

    // The model may as well write plain text; where it begins a call, the grammar holds it.
    std::string escaped;
    for (char c : marker(*format)) escaped += std::string("[](){}|*+?.^$\\").find(c) == std::string::npos ? std::string(1, c) : std::string("\\") + c;
    made.trigger = format->only_at_start ? "\\s*(\\{[\\s\\S]*)" : "[\\s\\S]*?(" + escaped + "[\\s\\S]*)";
    std::set<llama_token> control = shown(vocab);
    if (!control.empty()) made.trigger_token = *control.begin();
    return made;
}

std::set<llama_token> tool_request::shown(const vocabulary &vocab) const {
    token_list list = vocab.tokenize(marker(*format), false, true);
    if (format->only_at_start || list.size() != 1) return {};
    return {list[0]};
}

// ---- reading ----

std::string tool_reader::add(const std::string &text) {
    held += text;
    if (calling) return "";
    const tool_format &format = *request->format;
    std::string mark = marker(format), shown;
    if (format.only_at_start) {
        size_t first = held.find_first_not_of(" \n\t");
        if (!began && first == std::string::npos) return "";
        calling = !began && held[first] == '{';
        if (calling) return "";
        began = true;
        return std::exchange(held, {});
    }
    size_t at = held.find(mark);
    calling = at != std::string::npos;
    size_t n = calling ? at : held.size() - begins_at_end(held, mark);
    shown = held.substr(0, n);
    held.erase(0, n);
    began |= !shown.empty();
    return shown;
}

// The objects {"name": ..., arguments: ...} in a text, one after another or in a list.
static bool read_calls(const std::string &text, const tool_format &format, json *calls) {
    for (size_t at = text.find('{'); at != std::string::npos;) {
        // The object ends at the first brace where it is JSON.
        json one = json::value_t::discarded;
        size_t end = at;
        while (one.is_discarded() && (end = text.find('}', end)) != std::string::npos) {
            end++;
            one = json::parse(text.begin() + static_cast<ptrdiff_t>(at), text.begin() + static_cast<ptrdiff_t>(end), nullptr, false);
        }
        if (one.is_discarded()) break; // cut off; the calls before it are whole
        if (!one.is_object() || !one.contains("name") || !one["name"].is_string()) return false;
        const json &given = one.contains(format.arguments) ? one[format.arguments] : json::object();
        calls->push_back({{"id", format.short_ids ? random_id("").substr(0, 9) : random_id("call_")},
                          {"type", "function"},
                          {"function", {{"name", one["name"]}, {"arguments", given.is_string() ? given.get<std::string>() : dump(given)}}}});
        at = text.find('{', end);
    }
    return !calls->empty();
}

std::string tool_reader::finish(json *calls) {
    *calls = json::array();
    std::string text = std::exchange(held, {});
    if (!calling || !read_calls(text, *request->format, calls)) {
        calls->clear();
        return text; // cut off within a call, or none after all: it is the answer's text
    }
    return "";
}
