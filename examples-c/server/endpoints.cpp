// The endpoints that write text and tell of the model.
#include "app.h"

#include <algorithm>

static json model_object(const app &a) {
    return {{"id", a.options.name},
            {"object", "model"},
            {"created", a.started},
            {"owned_by", "powerinfer"},
            {"meta",
             {{"vocab_type", llama_vocab_type(a.vocab->handle())},
              {"n_vocab", a.vocab->size()},
              {"n_ctx_train", llama_model_n_ctx_train(a.model)},
              {"n_embd", llama_model_n_embd(a.model)},
              {"n_params", llama_model_n_params(a.model)},
              {"size", llama_model_size(a.model)}}}};
}

static json properties(const app &a) {
    json settings = a.requests->default_settings();
    return {{"default_generation_settings",
             {{"id", 0}, {"n_ctx", a.running().n_ctx_slot()}, {"params", settings}}},
            {"total_slots", a.running().count().n_slots},
            {"prompt_chunk", a.options.prompt_chunk},
            {"model_path", a.options.model_path},
            {"model_alias", a.options.name},
            {"chat_template", a.vocab->chat_template()},
            {"modalities", {{"vision", false}, {"audio", false}}},
            {"bos_token", a.vocab->piece(llama_vocab_bos(a.vocab->handle()), true)},
            {"eos_token", a.vocab->piece(llama_vocab_eos(a.vocab->handle()), true)},
            {"build_info", llama_print_system_info()}};
}

static json tokenized(const vocabulary &vocab, const json &body_json) {
    fields body(body_json);
    const json &content = body.need("content");
    bool special = body.flag("add_special", false), parse = body.flag("parse_special", true);
    if (!content.is_string()) throw fault::bad("'content' must be a string");
    token_list list = vocab.tokenize(content.get<std::string>(), special, parse);
    if (!body.flag("with_pieces", false)) return {{"tokens", list}};
    json pieces = json::array();
    for (llama_token token : list) {
        std::string text = vocab.piece(token, true);
        json piece = text;
        try {
            piece.dump();
        } catch (const json::type_error &) { // a part of a character
            piece = json::array();
            for (char c : text) piece.push_back(static_cast<unsigned char>(c));
        }
        pieces.push_back({{"id", token}, {"piece", piece}});
    }
    return {{"tokens", pieces}};
}

static json detokenized(const vocabulary &vocab, const json &body_json) {
    fields body(body_json);
    const json &list = body.need("tokens");
    if (!list.is_array()) throw fault::bad("'tokens' must be a list");
    token_list checked;
    for (const json &token : list) checked.push_back(vocab.checked(token));
    return {{"content", vocab.detokenize(checked)}};
}

void add_endpoints(http_server &http, app &of) {
    app *a = &of;
    auto health = [a](const httplib::Request &, const json &) -> json {
        if (!a->core.load()) throw fault(503, "unavailable_error", "the model is being loaded");
        if (a->running().draining()) throw fault(503, "unavailable_error", "the server is shutting down");
        return {{"status", "ok"}};
    };
    for (const char *path : {"/health", "/v1/health"}) http.get(path, health, true);

    for (const char *path : {"/v1/models", "/models"})
        http.get(path, [a](const httplib::Request &, const json &) -> json {
            return {{"object", "list"}, {"data", json::array({model_object(*a)})}};
        });
    http.get("/v1/models/(.+)", [a](const httplib::Request &req, const json &) -> json {
        if (req.matches[1] != a->options.name)
            throw fault(404, "not_found_error", "there is no model '" + req.matches[1].str() + "'");
        return model_object(*a);
    });
    http.get("/props", [a](const httplib::Request &, const json &) { return properties(*a); });

    http.post("/tokenize", [a](const httplib::Request &, const json &body) { return tokenized(*a->vocab, body); });
    http.post("/detokenize", [a](const httplib::Request &, const json &body) { return detokenized(*a->vocab, body); });
    http.post("/apply-template", [a](const httplib::Request &, const json &body) -> json {
        return {{"prompt", a->requests->laid_out(body)}};
    });

    using reading = work (request_reader::*)(const json &) const;
    const std::pair<const char *, reading> writers[] = {
        {"/v1/chat/completions", &request_reader::chat},  {"/chat/completions", &request_reader::chat},
        {"/v1/completions", &request_reader::completion}, {"/completions", &request_reader::native},
        {"/completion", &request_reader::native},         {"/infill", &request_reader::infill},
    };
    for (const auto &[path, read] : writers)
        http.generate(path, &a->core, [a, read = read](const json &body) { return (a->requests->*read)(body); });
}
