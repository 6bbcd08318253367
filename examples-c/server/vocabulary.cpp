#include "vocabulary.h"

#include "powerinfer.h"

#include <algorithm>

// With other libraries than libpowerinfer this is null: then the template must be a known one.
#pragma weak powerinfer_chat_apply_jinja

vocabulary::vocabulary(const llama_model *of, std::string chat_template)
    : model(of), vocab(llama_model_get_vocab(model)), own_template(std::move(chat_template)) {
    if (own_template.empty()) {
        const char *of_model = llama_model_chat_template(model, nullptr);
        if (of_model) own_template = of_model;
    }
    is_jinja = powerinfer_chat_apply_jinja && own_template.find("{%") != std::string::npos;
}

token_list vocabulary::tokenize(const std::string &text, bool special, bool parse) const {
    auto length = static_cast<int32_t>(text.size());
    token_list list(text.size() + 2);
    auto room = static_cast<int32_t>(list.size());
    int32_t n = llama_tokenize(vocab, text.data(), length, list.data(), room, special, parse);
    if (n < 0 && n != INT32_MIN) {
        list.resize(static_cast<size_t>(-n));
        n = llama_tokenize(vocab, text.data(), length, list.data(), -n, special, parse);
    }
    if (n < 0) throw fault::bad("the text cannot be made into tokens");
    list.resize(static_cast<size_t>(n));
    return list;
}

std::string vocabulary::piece(llama_token token, bool special) const {
    std::string text(32, '\0');
    int32_t n = llama_token_to_piece(vocab, token, &text[0], 32, 0, special);
    if (n < 0) {
        text.resize(static_cast<size_t>(-n));
        n = llama_token_to_piece(vocab, token, &text[0], -n, 0, special);
    }
    text.resize(n > 0 ? static_cast<size_t>(n) : 0);
    return text;
}

std::string vocabulary::detokenize(const token_list &list) const {
    std::string text;
    for (llama_token token : list) text += piece(token, true);
    return text;
}

llama_token vocabulary::checked(const json &number) const {
    if (!number.is_number_integer() || number < 0 || number >= size())
        throw fault::bad("a token must be a number from 0 to " + std::to_string(size() - 1));
    return number.get<llama_token>();
}

token_list vocabulary::prompt(const json &value) const {
    if (value.is_string()) return tokenize(value.get<std::string>(), true, true);
    if (value.is_object()) {
        fields object(value);
        if (object.find("multimodal_data"))
            throw fault::unsupported("images and sound are not supported");
        return tokenize(object.need("prompt_string").get<std::string>(), true, true);
    }
    if (!value.is_array()) throw fault::bad("a prompt is a string, or a list of tokens and strings");
    token_list list;
    for (const json &part : value) {
        if (!part.is_string()) {
            list.push_back(checked(part));
            continue;
        }
        token_list more = tokenize(part.get<std::string>(), &part == &value.front(), true);
        list.insert(list.end(), more.begin(), more.end());
    }
    return list;
}

std::vector<token_list> vocabulary::prompts(const json &value) const {
    // [1, 2] and ["a", 1] are one prompt; ["a", "b"] and [[1], "b"] are two.
    bool one = !value.is_array() || std::any_of(value.begin(), value.end(), [](const json &part) {
        return part.is_number();
    });
    if (one) return {prompt(value)};
    std::vector<token_list> all;
    for (const json &part : value) all.push_back(prompt(part));
    if (all.empty()) throw fault::bad("there is no prompt");
    return all;
}

// ---- conversations ----

// The text of a message: a string, or OpenAI's list of parts, of which there can be text only.
static json plain_content(const json &content) {
    if (content.is_null() || content.is_string()) return content;
    if (!content.is_array()) throw fault::bad("a message's 'content' is a string or a list of parts");
    std::string text;
    for (const json &part : content) {
        fields object(part, "a part of 'content'");
        std::string type = object.text("type");
        if (type != "text" && type != "input_text")
            throw fault::unsupported("a part of a message has the type '" + type +
                                     "': only text is supported");
        text += object.text("text");
    }
    return text;
}

static json plain_messages(const json &messages) {
    if (!messages.is_array() || messages.empty())
        throw fault::bad("'messages' must be a list with at least one message");
    json plain = messages;
    for (json &message : plain) {
        fields object(message, "a message");
        if (object.text("role").empty()) throw fault::bad("a message has no 'role'");
        if (message.contains("content")) message["content"] = plain_content(message["content"]);
        else if (!object.find("tool_calls")) throw fault::bad("a message has no 'content'");
        if (!object.find("tool_calls")) continue;
        // Templates read the arguments as an object; clients send them as the text of one.
        for (json &call : message["tool_calls"]) {
            if (!call.is_object() || !call.contains("function")) continue;
            json &function = call["function"];
            if (!function.is_object() || !function.contains("arguments")) continue;
            json &arguments = function["arguments"];
            if (arguments.is_string()) arguments = parse_json(arguments.get<std::string>(), "a call's 'arguments'");
        }
    }
    return plain;
}

static std::string by_jinja(const llama_model *model, const std::string &with, const json &messages,
                            const json *tools, const json *variables) {
    std::string list = dump(messages), tool_list = tools ? dump(*tools) : "",
                more = variables ? dump(*variables) : "", text;
    auto apply = [&](char *out, int32_t room) {
        return powerinfer_chat_apply_jinja(model, with.c_str(), list.c_str(),
                                           tools ? tool_list.c_str() : nullptr,
                                           variables ? more.c_str() : nullptr, true, out, room);
    };
    forget_errors();
    int32_t n = apply(nullptr, 0);
    if (n < 0) throw fault::bad("the chat template refuses the messages: " + library_error());
    text.resize(static_cast<size_t>(n) + 1);
    n = apply(&text[0], n + 1);
    text.resize(static_cast<size_t>(n));
    return text;
}

static std::string by_known_format(const std::string &name, const json &messages) {
    std::vector<std::string> kept;
    for (const json &message : messages) {
        kept.push_back(message["role"].get<std::string>());
        kept.push_back(fields(message).text("content"));
    }
    std::vector<llama_chat_message> list;
    for (size_t i = 0; i < kept.size(); i += 2) list.push_back({kept[i].c_str(), kept[i + 1].c_str()});
    int32_t n = llama_chat_apply_template(name.c_str(), list.data(), list.size(), true, nullptr, 0);
    if (n < 0) throw fault::bad("the model's chat template is not known and cannot be used");
    std::string text(static_cast<size_t>(n) + 1, '\0');
    llama_chat_apply_template(name.c_str(), list.data(), list.size(), true, &text[0], n + 1);
    text.resize(static_cast<size_t>(n));
    return text;
}

std::string vocabulary::lay_out(const json &messages, const json *tools, const json *variables,
                                bool *writes_bos) const {
    json plain = plain_messages(messages);
    *writes_bos = is_jinja;
    if (is_jinja) return by_jinja(model, own_template, plain, tools, variables);
    if (tools) throw fault::bad("the model's chat template knows no tools");
    return by_known_format(own_template.empty() ? "chatml" : own_template, plain);
}

token_list vocabulary::conversation(const json &messages, const json *tools,
                                const json *variables) const {
    bool writes_bos;
    std::string text = lay_out(messages, tools, variables, &writes_bos);
    return tokenize(text, !writes_bos, true);
}
