/* A server of one model, with OpenAI's API and llama.cpp's, and a web page.
 *
 *   server -m model.gguf                       then http://127.0.0.1:8080
 *   server -m model.gguf -np 8 -c 32768 --api-key secret --host 0.0.0.0
 *
 * Requests are written side by side: each has a slot of the context while it runs, and joins and
 * leaves the batch between two steps. */
#include "app.h"

extern "C" {
#include "adapters.h"
#include "common.h"
}

#include <cerrno>
#include <cmath>
#include <csignal>
#include <cstring>
#include <ctime>
#include <fstream>
#include <sstream>

#include <pthread.h>
#include <unistd.h>

namespace {

struct options {
    engine_options engine;
    http_options http;
    app_options app;
    sampling defaults;
    int64_t n_gpu_layers = -1, n_predict = -1, max_body = 16, request_seconds = 0, drain_seconds = 30;
    gpu_options gpu = GPU_DEFAULTS;
    double vram_budget = -1, sparse_threshold = NAN;
    std::string chat_template, sparse, pooling;
    struct adapters adapters {};
    bool stats = false, verbose = false;
};

std::string file_text(const char *path) {
    std::ifstream file(path, std::ios::binary);
    std::stringstream text;
    text << file.rdbuf();
    if (!file) die("cannot read '%s'", path);
    return text.str();
}

// Static, so that what it holds stays reachable when die() ends the program.
options opt;

void read_options(int argc, char **argv) {
    const char *model = nullptr, *alias = nullptr, *host = nullptr, *chat_template = nullptr,
               *template_file = nullptr, *sparse = nullptr, *pooling = nullptr, *key_file = nullptr,
               *slot_folder = nullptr, *certificate = nullptr, *private_key = nullptr;
    static struct names keys, origins;
    engine_options &e = opt.engine;
    sampling &s = opt.defaults;
    e.threads = default_threads();
    const struct flag flags[] = {
        {FLAG_HEADING, {}, nullptr, nullptr, "Model", 0, 0},
        {FLAG_STRING, {"-m", "--model"}, "FILE", &model, "the model, a GGUF file", 0, 0},
        {FLAG_STRING, {"-a", "--alias"}, "NAME", &alias, "the model's name for clients; else its file's name", 0, 0},
        {FLAG_STRING, {"--chat-template"}, "TEXT", &chat_template, "a Jinja template, or the name of a known format, instead of the model's own", 0, 0},
        {FLAG_STRING, {"--chat-template-file"}, "FILE", &template_file, "the same from a file", 0, 0},
        {FLAG_LIST, {"--lora"}, "FILE,...", &opt.adapters.lora, "LoRA adapters, GGUF files", 0, 0},
        {FLAG_LIST, {"--lora-scaled"}, "FILE:SCALE,...", &opt.adapters.lora_scaled, "LoRA adapters of other strengths than 1", 0, 0},
        {FLAG_LIST, {"--control-vector"}, "FILE,...", &opt.adapters.control, "control vectors, GGUF files", 0, 0},
        {FLAG_LIST, {"--control-vector-scaled"}, "FILE:SCALE,...", &opt.adapters.control_scaled, "control vectors of other strengths than 1", 0, 0},
        {FLAG_PAIR, {"--control-vector-layer-range"}, "START END", opt.adapters.layers, "first and last layer of the control vectors", 1, INT32_MAX},

        {FLAG_HEADING, {}, nullptr, nullptr, "Network", 0, 0},
        {FLAG_STRING, {"--host"}, "ADDRESS", &host, "where to listen; else only this machine can connect", 0, 0},
        {FLAG_INT, {"--port"}, "N", &opt.http.port, "port; 0: any that is free", 0, 65535},
        {FLAG_LIST, {"--api-key"}, "KEY", &keys, "refuse who does not have it; may be given several times", 0, 0},
        {FLAG_STRING, {"--api-key-file"}, "FILE", &key_file, "such keys, one in each line", 0, 0},
        {FLAG_LIST, {"--cors"}, "ORIGIN", &origins, "let web pages of this origin call; '*': of all", 0, 0},
        {FLAG_STRING, {"--ssl-cert-file"}, "FILE", &certificate, "serve https with this certificate", 0, 0},
        {FLAG_STRING, {"--ssl-key-file"}, "FILE", &private_key, "and this key", 0, 0},
        {FLAG_INT, {"-to", "--timeout"}, "S", &opt.http.idle_seconds, "seconds after which a connection is closed on which nothing moves", 1, 86400},
        {FLAG_INT, {"--request-timeout"}, "S", &opt.request_seconds, "seconds that a request may take; 0: as long as it does", 0, 1 << 30},
        {FLAG_INT, {"--max-body"}, "MIB", &opt.max_body, "largest body of a request", 1, 1024},
        {FLAG_INT, {"--max-queue"}, "N", &e.max_queue, "answers that may wait for a slot; more are refused with 503", 1, 65536},
        {FLAG_INT, {"--drain-timeout"}, "S", &opt.drain_seconds, "seconds that SIGTERM leaves to what is being written", 0, 86400},

        {FLAG_HEADING, {}, nullptr, nullptr, "Slots", 0, 0},
        {FLAG_INT, {"-np", "--parallel"}, "N", &e.n_slots, "slots: answers that are written side by side", 1, 256},
        {FLAG_INT, {"-c", "--ctx-size"}, "N", &e.n_ctx, "tokens of all slots together; 0: for each what the model was trained with", 0, INT32_MAX},
        {FLAG_BOOL, {"-kvu", "--kv-unified"}, nullptr, &e.kv_unified, "one cache for all slots, of which one may use more than its share", 0, 0},
        {FLAG_BOOL, {"--context-shift"}, nullptr, &e.context_shift, "a full slot forgets its older half; else the answer ends there", 0, 0},
        {FLAG_BOOL, {"--swa-full"}, nullptr, &e.swa_full, "keep all tokens of layers with a sliding window, so that more of a prompt can be reused", 0, 0},
        {FLAG_INT, {"--prompt-chunk"}, "N", &e.chunk, "tokens of prompts in a step while answers are being written", 1, INT32_MAX},
        {FLAG_STRING, {"--slot-save-path"}, "FOLDER", &slot_folder, "let slots be saved to files in it", 0, 0},
        {FLAG_NOT, {"--no-slots"}, nullptr, &opt.app.show_slots, "do not tell at /slots what slots do", 0, 0},
        {FLAG_NOT, {"--no-metrics"}, nullptr, &opt.app.show_metrics, "nor at /metrics", 0, 0},

        {FLAG_HEADING, {}, nullptr, nullptr, "Computing", 0, 0},
        {FLAG_INT, {"-t", "--threads"}, "N", &e.threads, "threads that generate", 1, 512},
        {FLAG_INT, {"-tb", "--threads-batch"}, "N", &e.threads_batch, "threads that read prompts; 0: as many as -t", 0, 512},
        {FLAG_INT, {"-b", "--batch-size"}, "N", &e.n_batch, "tokens in a step", 1, INT32_MAX},
        {FLAG_INT, {"-ub", "--ubatch-size"}, "N", &e.n_ubatch, "tokens computed at once", 1, INT32_MAX},
        {FLAG_INT, {"-ngl", "--gpu-layers", "--n-gpu-layers"}, "N", &opt.n_gpu_layers, "layers on the GPU; 0: none, -1: what fits", -1, INT32_MAX},
        GPU_FLAGS(opt.gpu),
        {FLAG_NOT, {"-nkvo", "--no-kv-offload"}, nullptr, &e.kv_offload, "keep the cache in RAM", 0, 0},
        {FLAG_FLOAT, {"--vram-budget"}, "GIB", &opt.vram_budget, "GPU memory to use at most, in GiB; -1: what is free", -1, 1e6},
        {FLAG_STRING, {"--sparse"}, "MODE", &sparse, "which neurons are computed: auto, exact, predictor, sign, magnitude; off: all of them", 0, 0},
        {FLAG_FLOAT, {"--sparse-threshold"}, "X", &opt.sparse_threshold, "least score at which a predictor has a neuron computed", -1e30, 1e30},
        {FLAG_STRING, {"--pooling"}, "TYPE", &pooling, "of embeddings: mean, cls or last; else the model's own, or mean", 0, 0},
        {FLAG_BOOL, {"-v", "--verbose"}, nullptr, &opt.verbose, "show requests and everything the library logs", 0, 0},

        {FLAG_HEADING, {}, nullptr, nullptr, "What requests get that do not say otherwise", 0, 0},
        {FLAG_INT, {"-n", "--predict", "--n-predict"}, "N", &opt.n_predict, "most tokens of an answer; -1: until the model ends it", -1, INT32_MAX},
        {FLAG_INT, {"-s", "--seed"}, "N", &s.seed, "seed of the random choice; -1: a new one each time", -1, UINT32_MAX - 1},
        {FLAG_FLOAT, {"--temp"}, "T", &s.temperature, "temperature; 0: always the most likely token", 0, 1e6},
        {FLAG_INT, {"--top-k"}, "K", &s.top_k, "keep the K most likely tokens; 0: all", 0, INT32_MAX},
        {FLAG_FLOAT, {"--top-p"}, "P", &s.top_p, "keep the fewest tokens that hold P of the probability; 1: all", 0, 1},
        {FLAG_FLOAT, {"--min-p"}, "P", &s.min_p, "keep tokens at least P times as likely as the best; 0: all", 0, 1},
        {FLAG_FLOAT, {"--repeat-penalty"}, "X", &s.repeat_penalty, "make recent tokens less likely; 1: off", 0, 1e6},
        {FLAG_INT, {"--repeat-last-n"}, "N", &s.repeat_last_n, "how many tokens are recent", 0, INT32_MAX},
    };
    parse_flags(argc, argv, "a server of one model: OpenAI's API, llama.cpp's, and a web page", flags,
                sizeof flags / sizeof *flags, nullptr);
    if (opt.gpu.list) show_devices();
    if (!model) die("no model: give its file with -m FILE (-h lists the flags)");
    if (chat_template && template_file) die("--chat-template and --chat-template-file both give the template: use one of them");
    if (!certificate != !private_key) die("https needs both --ssl-cert-file and --ssl-key-file");
    opt.app.model_path = model;
    opt.app.name = alias ? alias : opt.app.model_path.substr(opt.app.model_path.rfind('/') + 1);
    if (host) opt.http.host = host;
    if (chat_template) opt.chat_template = chat_template;
    if (template_file) opt.chat_template = file_text(template_file);
    if (sparse) opt.sparse = sparse;
    if (pooling) opt.pooling = pooling;
    if (slot_folder) opt.app.slot_folder = slot_folder;
    if (slot_folder && access(slot_folder, W_OK) != 0) die("cannot write to the folder '%s': %s", slot_folder, strerror(errno));
    if (certificate) opt.http.certificate = certificate;
    if (private_key) opt.http.private_key = private_key;
    for (size_t i = 0; i < keys.len; i++) opt.http.keys.emplace_back(keys.data[i]);
    for (size_t i = 0; i < origins.len; i++) opt.http.origins.emplace_back(origins.data[i]);
    std::stringstream lines(key_file ? file_text(key_file) : "");
    for (std::string line; std::getline(lines, line);)
        if (!line.empty()) opt.http.keys.push_back(line);
    if (key_file && opt.http.keys.empty()) die("'%s' holds no key", key_file);
    opt.http.most_body = opt.max_body << 20;
    opt.http.log = opt.verbose;
    opt.app.prompt_chunk = e.chunk;
    // Everybody who may write or wait has a connection, and some are left for those to be refused.
    opt.http.n_threads = e.n_slots + e.max_queue + 32;
}

enum llama_pooling_type pooling_type() {
    static const std::pair<const char *, enum llama_pooling_type> names[] = {
        {"", LLAMA_POOLING_TYPE_UNSPECIFIED}, {"mean", LLAMA_POOLING_TYPE_MEAN},
        {"cls", LLAMA_POOLING_TYPE_CLS},      {"last", LLAMA_POOLING_TYPE_LAST}};
    for (const auto &[name, type] : names)
        if (opt.pooling == name) return type;
    die("--pooling is mean, cls or last, not '%s'", opt.pooling.c_str());
}

llama_model *open_model() {
    llama_model_params params = llama_model_default_params();
    params.n_gpu_layers = static_cast<int32_t>(opt.n_gpu_layers);
    use_gpus(&opt.gpu, &params);
    llama_model_kv_override list[5] = {};
    size_t n = 0;
    auto add = [&](const char *key) {
        llama_model_kv_override &one = list[n++];
        std::snprintf(one.key, sizeof one.key, "%s", key);
        return &one;
    };
    auto add_text = [&](const char *key, const char *text) {
        llama_model_kv_override *one = add(key);
        one->tag = LLAMA_KV_OVERRIDE_TYPE_STR;
        std::snprintf(one->val_str, sizeof one->val_str, "%s", text);
    };
    auto add_number = [&](const char *key, double number) {
        llama_model_kv_override *one = add(key);
        one->tag = LLAMA_KV_OVERRIDE_TYPE_FLOAT;
        one->val_f64 = number;
    };
    if (opt.vram_budget >= 0) add_number("powerinfer.vram_budget_gib", opt.vram_budget);
    if (!opt.sparse.empty()) add_text("powerinfer.sparse", opt.sparse.c_str());
    if (!std::isnan(opt.sparse_threshold)) add_number("powerinfer.sparse_threshold", opt.sparse_threshold);
    if (n) params.kv_overrides = list; // an empty one ends the list
    return load_model(opt.app.model_path.c_str(), params, nullptr);
}

// Waits for signals: the first one lets what is being written end, a second one ends it.
void wait_for_signals(sigset_t set, std::atomic<engine *> *core) {
    int number = 0;
    sigwait(&set, &number);
    engine *running = core->load();
    if (!running) _exit(number == SIGTERM ? 0 : 130); // the model is not loaded yet
    counters now = running->count();
    if (now.n_busy + now.n_queued) say("ending: %d answers are still to be written", static_cast<int>(now.n_busy + now.n_queued));
    running->drain();
    timespec most{opt.drain_seconds, 0};
    sigtimedwait(&set, nullptr, &most); // main sends one when all is written
    running->stop();
}

} // namespace

int main(int argc, char **argv) {
    read_options(argc, argv);
    enum llama_pooling_type pooling = pooling_type();
    log_init(opt.verbose); // what keeps the model from loading is said by die()
    std::signal(SIGPIPE, SIG_IGN);
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &signals, nullptr);

    static app state;
    state.options = opt.app;
    state.started = std::time(nullptr);
    http_server http(opt.http);
    add_endpoints(http, state);
    add_slot_endpoints(http, state);
    add_embedding_endpoints(http, state);
    add_metric_endpoints(http, state);
    add_page(http);
    std::thread ending(wait_for_signals, signals, &state.core);
    http.start();
    say("listening on %s://%s:%d", opt.http.certificate.empty() ? "http" : "https", opt.http.host.c_str(), http.port());

    state.model = open_model();
    if (llama_model_has_encoder(state.model)) die("'%s' has an encoder: models that translate are not served", opt.app.model_path.c_str());
    vocabulary vocab(state.model, opt.chat_template);
    embedder vectors(state.model, pooling, opt.engine.threads, opt.engine.n_batch);
    try {
        engine core(state.model, vocab, opt.engine);
        adapters_apply(&opt.adapters, state.model, core.context());
        route_log(opt.verbose);
        request_reader requests(vocab, core, {opt.defaults, opt.app.name, opt.n_predict, opt.request_seconds});
        state.vocab = &vocab;
        state.vectors = &vectors;
        state.requests = &requests;
        state.core = &core;
        http.ready();
        say("ready: %s, %d slots of %d tokens", opt.app.name.c_str(), static_cast<int>(opt.engine.n_slots), core.n_ctx_slot());
        core.run();
        http.stop();
        pthread_kill(ending.native_handle(), SIGTERM);
        ending.join();
    } catch (const fault &what) {
        die("%s", what.message.c_str());
    }
    adapters_free(&opt.adapters);
    llama_model_free(state.model);
    return 0;
}
