// The endpoints of embeddings.
#include "app.h"

#include <cstring>

static std::string base64(const std::vector<float> &vector) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    std::vector<unsigned char> bytes(vector.size() * sizeof(float));
    std::memcpy(bytes.data(), vector.data(), bytes.size());
    std::string text;
    for (size_t i = 0; i < bytes.size(); i += 3) {
        size_t n = std::min<size_t>(3, bytes.size() - i);
        unsigned bits = 0;
        for (size_t j = 0; j < 3; j++) bits = bits << 8 | (j < n ? bytes[i + j] : 0U);
        for (size_t j = 0; j < 4; j++) text += j <= n ? digits[bits >> (18 - 6 * j) & 63] : '=';
    }
    return text;
}

// The texts of a request as vectors, and the number of their tokens.
static std::vector<std::vector<float>> embedded(app &a, const json &input, int64_t how, size_t *n_tokens) {
    std::vector<token_list> prompts = a.vocab->prompts(input);
    std::vector<std::vector<float>> all;
    if (prompts.size() > 2048) throw fault::bad("there are more than 2048 inputs");
    for (const token_list &prompt : prompts) {
        // One at a time, so that what is being written goes on.
        a.running().between_steps([&] { all.push_back(a.vectors->embed(prompt)); });
        normalize(all.back(), how);
        *n_tokens += prompt.size();
    }
    return all;
}

static json openai_embeddings(app &a, const json &body_json) {
    fields body(body_json);
    std::string format = body.text("encoding_format", "float");
    if (format != "float" && format != "base64") throw fault::bad("'encoding_format' must be float or base64");
    size_t n_tokens = 0;
    auto n_embd = llama_model_n_embd_out(a.model);
    if (body.integer("dimensions", n_embd, 1, INT32_MAX) != n_embd)
        throw fault::unsupported("this model's embeddings have " + std::to_string(n_embd) + " dimensions");
    const json *input = body.find("input");
    json list = json::array();
    for (auto &vector : embedded(a, input ? *input : body.need("content"), 2, &n_tokens))
        list.push_back({{"object", "embedding"},
                        {"index", list.size()},
                        {"embedding", format == "float" ? json(vector) : json(base64(vector))}});
    return {{"object", "list"},
            {"data", list},
            {"model", a.options.name},
            {"usage", {{"prompt_tokens", n_tokens}, {"total_tokens", n_tokens}}}};
}

static json native_embeddings(app &a, const json &body_json) {
    fields body(body_json);
    size_t n_tokens = 0;
    const json *content = body.find("content");
    json list = json::array();
    int64_t how = body.integer("embd_normalize", 2, -1, 64);
    for (auto &vector : embedded(a, content ? *content : body.need("input"), how, &n_tokens))
        list.push_back({{"index", list.size()}, {"embedding", json::array({vector})}});
    return list;
}

void add_embedding_endpoints(http_server &http, app &of) {
    app *a = &of;
    http.post("/v1/embeddings", [a](const httplib::Request &, const json &body) { return openai_embeddings(*a, body); });
    for (const char *path : {"/embedding", "/embeddings"})
        http.post(path, [a](const httplib::Request &, const json &body) { return native_embeddings(*a, body); });
}
