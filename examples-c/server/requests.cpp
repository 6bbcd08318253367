#include "requests.h"

#include <algorithm>
#include <ctime>

// What a shape of request says in its own way.
struct request_reader::choices {
    int64_t n = 1;       // answers to each prompt
    int n_odds = -1;
    grammar only;        // instead of the body's
    std::set<llama_token> shown;
};

// These change the answer, and are not there: who asks for them is told.
static void refuse_unsupported(const fields &body) {
    for (const char *name : {"echo", "post_sampling_probs", "return_progress", "reasoning_control"})
        if (body.flag(name, false))
            throw fault::unsupported(std::string("'") + name + "' is not supported");
    for (const char *name : {"suffix", "lora", "response_fields", "audio", "prediction", "web_search_options"}) {
        const json *value = body.find(name);
        if (value && !value->empty())
            throw fault::unsupported(std::string("'") + name + "' is not supported");
    }
    if (body.integer("n_indent", 0, 0, INT32_MAX) > 0)
        throw fault::unsupported("'n_indent' is not supported");
}

static std::vector<std::string> read_stops(const fields &body) {
    const json *value = body.find("stop");
    if (!value) return {};
    json list = value->is_array() ? *value : json::array({*value});
    std::vector<std::string> stops;
    if (list.size() > 256) throw fault::bad("'stop' has more than 256 words");
    for (const json &word : list) {
        if (!word.is_string()) throw fault::bad("'stop' must be a string or a list of strings");
        if (!word.get_ref<const std::string &>().empty()) stops.push_back(word.get<std::string>());
    }
    return stops;
}

// response_format: {"type": "json_object"} or {"type": "json_schema", "json_schema": {"schema": ...}}
static grammar response_grammar(const fields &body) {
    grammar only;
    const json *format = body.find("response_format");
    if (!format) return only;
    fields object(*format, "'response_format'");
    std::string type = object.text("type");
    if (type == "text") return only;
    if (type == "json_object") {
        const json *schema = object.find("schema"); // llama.cpp has one here as well
        if (!schema) schema = object.find("value"); // and so does Hugging Face's client
        only.text = schema_grammar(schema ? *schema : json{{"type", "object"}});
    } else if (type == "json_schema") {
        const json *direct = object.find("schema");
        only.text = schema_grammar(direct ? *direct : fields(object.need("json_schema"), "'json_schema'").need("schema"));
    } else {
        throw fault::bad("'response_format' has the type '" + type +
                         "': text, json_object and json_schema are known");
    }
    return only;
}

// Samplers that look back see the prompt too; a grammar begins with the answer.
static void show_prompt(llama_sampler *chain, const token_list &prompt) {
    for (int32_t i = 0; i < llama_sampler_chain_n(chain); i++) {
        llama_sampler *one = llama_sampler_chain_get(chain, i);
        std::string name = llama_sampler_name(one);
        if (name != "penalties" && name != "dry") continue;
        for (llama_token token : prompt) llama_sampler_accept(one, token);
    }
}

void request_reader::fill(work &made, const fields &body, std::vector<token_list> prompts,
                          choices what) const {
    refuse_unsupported(body);
    task common;
    common.out = made.out;
    common.request = core.next_request();
    common.options = sampling::read(body, vocab, defaults.options);
    if (!what.only.text.empty()) {
        if (!common.options.only.text.empty())
            throw fault::bad("the request says twice what may be written: by a grammar or schema, "
                             "and by response_format or tools");
        common.options.only = what.only;
    }
    for (const char *name : {"max_completion_tokens", "max_tokens", "n_predict"})
        if (common.n_predict < 0) common.n_predict = body.integer(name, -1, -1, INT32_MAX);
    if (common.n_predict < 0) common.n_predict = defaults.n_predict;
    common.n_keep = body.integer("n_keep", 0, -1, INT32_MAX);
    common.t_max_predict_ms = body.real("t_max_predict_ms", 0, 0, 1e12);
    common.n_odds = what.n_odds;
    common.stops = read_stops(body);
    common.shown = what.shown;
    common.cache_prompt = body.flag("cache_prompt", true);
    common.slot = static_cast<int>(body.integer("id_slot", -1, -1, core.count().n_slots - 1));
    if (defaults.request_seconds)
        common.deadline = steady::now() + std::chrono::seconds(defaults.request_seconds);
    made.stream = body.flag("stream", false);

    for (token_list &prompt : prompts) {
        core.check_prompt(prompt);
        for (int64_t i = 0; i < what.n; i++) {
            auto one = std::make_unique<task>();
            one->out = common.out;
            one->request = common.request;
            one->prompt = prompt;
            one->options = common.options;
            // The answers to one prompt differ by their seeds.
            if (one->options.seed != -1) one->options.seed += i;
            one->sampler = one->options.make(vocab, core.n_ctx_slot());
            show_prompt(one->sampler.get(), prompt);
            one->index = static_cast<int>(made.tasks.size());
            one->n_predict = common.n_predict;
            one->n_keep = common.n_keep;
            one->n_odds = common.n_odds;
            one->t_max_predict_ms = common.t_max_predict_ms;
            one->stops = common.stops;
            one->shown = common.shown;
            one->cache_prompt = common.cache_prompt;
            one->slot = common.slot;
            one->deadline = common.deadline;
            made.tasks.push_back(std::move(one));
        }
    }
}

openai_head request_reader::head(const fields &body, const char *id) const {
    openai_head h{defaults.model, random_id(id), std::time(nullptr)};
    if (const json *options = body.find("stream_options"))
        h.usage_at_end = fields(*options, "'stream_options'").flag("include_usage", false);
    h.timings_each = body.flag("timings_per_token", false);
    return h;
}

// ---- OpenAI ----

static const int64_t most_answers = 128, most_odds = 100;

// What the template gets beside the messages.
static json template_variables(const fields &body) {
    json variables = json::object();
    if (const json *given = body.find("chat_template_kwargs")) {
        fields check(*given, "'chat_template_kwargs'");
        variables = *given;
    }
    std::string effort = body.text("reasoning_effort");
    if (!effort.empty()) variables["reasoning_effort"] = effort;
    return variables;
}

work request_reader::chat(const json &body_json) const {
    fields body(body_json);
    std::shared_ptr<const tool_request> tools = tool_request::read(body, vocab);
    json variables = template_variables(body);
    token_list prompt = vocab.conversation(body.need("messages"), tools ? &tools->list() : nullptr, &variables);
    choices what;
    what.n = body.integer("n", 1, 1, most_answers);
    what.only = response_grammar(body);
    if (tools) {
        if (what.only.text.empty() && body.text("grammar").empty() && !body.find("json_schema"))
            what.only = tools->only(vocab);
        what.shown = tools->shown(vocab);
    }
    int64_t top = body.integer("top_logprobs", 0, 0, most_odds);
    if (body.flag("logprobs", false)) what.n_odds = static_cast<int>(top);
    else if (top) throw fault::bad("'top_logprobs' needs 'logprobs'");

    work made;
    openai_head h = head(body, "chatcmpl-");
    h.per_prompt = static_cast<size_t>(what.n);
    fill(made, body, {std::move(prompt)}, what);
    made.form = chat_reply(vocab, made.tasks.size(), std::move(h), tools);
    return made;
}

work request_reader::completion(const json &body_json) const {
    fields body(body_json);
    choices what;
    what.n = body.integer("n", 1, 1, most_answers);
    if (body.integer("best_of", what.n, 1, most_answers) != what.n)
        throw fault::unsupported("'best_of' other than 'n' is not supported");
    what.only = response_grammar(body);
    what.n_odds = static_cast<int>(body.integer("logprobs", -1, 0, most_odds));
    work made;
    openai_head h = head(body, "cmpl-");
    h.per_prompt = static_cast<size_t>(what.n);
    fill(made, body, vocab.prompts(body.need("prompt")), what);
    made.form = text_reply(vocab, made.tasks.size(), std::move(h));
    return made;
}

// ---- llama.cpp ----

json request_reader::settings(const task &of) const {
    json all = of.options.show();
    all["n_ctx"] = core.n_ctx_slot();
    all["model"] = defaults.model;
    all["n_predict"] = of.n_predict;
    all["max_tokens"] = of.n_predict;
    all["n_keep"] = of.n_keep;
    all["n_probs"] = std::max(of.n_odds, 0);
    all["stop"] = of.stops;
    return all;
}

json request_reader::default_settings() const {
    task plain;
    plain.options = defaults.options;
    plain.n_predict = defaults.n_predict;
    return settings(plain);
}

std::unique_ptr<reply> request_reader::native_form(const work &made, const fields &body, bool list) const {
    std::vector<std::string> prompts;
    for (const auto &job : made.tasks) prompts.push_back(vocab.detokenize(job->prompt));
    json all = settings(*made.tasks.front());
    all["stream"] = made.stream;
    return native_reply(vocab, made.tasks.size(), defaults.model, std::move(all), std::move(prompts),
                        list, body.flag("return_tokens", false));
}

work request_reader::native(const json &body_json) const {
    fields body(body_json);
    choices what;
    what.n = body.integer("n_cmpl", 1, 1, most_answers);
    int64_t n_probs = body.integer("n_probs", 0, 0, most_odds);
    if (n_probs > 0) what.n_odds = static_cast<int>(n_probs);
    std::vector<token_list> prompts = vocab.prompts(body.need("prompt"));
    bool list = prompts.size() > 1 || what.n > 1;
    work made;
    fill(made, body, std::move(prompts), what);
    made.form = native_form(made, body, list);
    return made;
}

// The prompt that asks for what is missing between two texts.
token_list request_reader::gap(const fields &body) const {
    const llama_vocab *words = vocab.handle();
    llama_token before = llama_vocab_fim_pre(words), after = llama_vocab_fim_suf(words),
                middle = llama_vocab_fim_mid(words), repository = llama_vocab_fim_rep(words),
                file = llama_vocab_fim_sep(words);
    if (before == LLAMA_TOKEN_NULL || after == LLAMA_TOKEN_NULL || middle == LLAMA_TOKEN_NULL)
        throw fault::unsupported("this model was not trained to fill gaps");
    token_list extra, list;
    auto add = [&](token_list &to, const std::string &text) {
        token_list more = vocab.tokenize(text, false, false);
        to.insert(to.end(), more.begin(), more.end());
    };
    bool by_file = repository != LLAMA_TOKEN_NULL && file != LLAMA_TOKEN_NULL;
    if (const json *parts = body.find("input_extra")) {
        if (!parts->is_array()) throw fault::bad("'input_extra' must be a list");
        if (by_file) {
            extra.push_back(repository);
            add(extra, "myproject\n");
        }
        for (const json &part : *parts) {
            fields object(part, "a part of 'input_extra'");
            if (by_file) {
                extra.push_back(file);
                add(extra, object.text("filename", "tmp") + "\n");
            }
            add(extra, object.text("text"));
        }
        if (by_file) {
            extra.push_back(file);
            add(extra, "filename\n");
        }
    }
    list.push_back(before);
    add(list, body.text("input_prefix"));
    list.push_back(after);
    add(list, body.text("input_suffix"));
    list.push_back(middle);
    add(list, body.text("prompt"));
    // The text around the gap matters most: of the rest as much of its end as there is room for.
    auto limit = static_cast<size_t>(core.n_ctx_slot());
    size_t room = limit > list.size() ? (limit - list.size()) / 2 : 0;
    if (extra.size() > room) extra.erase(extra.begin(), extra.end() - static_cast<ptrdiff_t>(room));
    extra.insert(extra.end(), list.begin(), list.end());
    if (llama_vocab_get_add_bos(words)) extra.insert(extra.begin(), llama_vocab_bos(words));
    return extra;
}

work request_reader::infill(const json &body_json) const {
    fields body(body_json);
    if (body.text("input_prefix").empty() && body.text("input_suffix").empty())
        throw fault::bad("'input_prefix' or 'input_suffix' is missing");
    choices what;
    int64_t n_probs = body.integer("n_probs", 0, 0, most_odds);
    if (n_probs > 0) what.n_odds = static_cast<int>(n_probs);
    work made;
    fill(made, body, {gap(body)}, what);
    made.form = native_form(made, body, false);
    return made;
}

std::string request_reader::laid_out(const json &body_json) const {
    fields body(body_json);
    std::shared_ptr<const tool_request> tools = tool_request::read(body, vocab);
    json variables = template_variables(body);
    bool writes_bos;
    return vocab.lay_out(body.need("messages"), tools ? &tools->list() : nullptr, &variables, &writes_bos);
}
