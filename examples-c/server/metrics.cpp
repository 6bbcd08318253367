// What the server tells of itself: for Prometheus at /metrics, for the web page at /stats.
#include "app.h"

#include "powerinfer.h"

#include <sys/resource.h>

// With other libraries than libpowerinfer this is null: then there are no layers to tell of.
#pragma weak powerinfer_get_stats

static std::vector<powerinfer_layer_stats> layers_of(app &a) {
    std::vector<powerinfer_layer_stats> layers;
    if (!powerinfer_get_stats) return layers;
    a.running().between_steps([&] {
        llama_context *ctx = a.running().context();
        int32_t n = powerinfer_get_stats(ctx, nullptr, 0, 0);
        if (n <= 0) return;
        layers.resize(static_cast<size_t>(n));
        powerinfer_get_stats(ctx, layers.data(), layers.size(), sizeof layers[0]);
    });
    return layers;
}

static double share(uint64_t part, uint64_t whole) {
    return whole ? static_cast<double>(part) / static_cast<double>(whole) : 0.0;
}

static double active_share(const std::vector<powerinfer_layer_stats> &layers) {
    uint64_t fired = 0, all = 0;
    for (const auto &one : layers) {
        fired += one.fired;
        all += one.tokens * one.n_neurons;
    }
    return share(fired, all);
}

static json stats(app &a) {
    static const char *const modes[] = {"default", "auto", "exact", "predictor", "sign", "magnitude", "off"};
    counters now = a.running().count();
    auto layers = layers_of(a);
    auto speed = [](double value) { return value > 0 ? json(value) : json(nullptr); };
    // Of what no token went through nothing is known.
    bool known = false;
    json list = json::array();
    for (const auto &one : layers) {
        bool seen = one.tokens && one.mode != POWERINFER_SPARSE_MODE_OFF;
        known |= seen;
        double active = share(one.fired, one.tokens * one.n_neurons);
        list.push_back({{"layer", one.layer},
                        {"mode", modes[one.mode]},
                        {"active_share", seen ? json(active) : json(nullptr)}});
    }
    return {{"prompt_tokens_per_second", speed(now.prompt_speed)},
            {"generation_tokens_per_second", speed(now.predicted_speed)},
            {"slots_busy", now.n_busy},
            {"slots_total", now.n_slots},
            {"queue", now.n_queued},
            {"kv_used", now.kv_used},
            {"kv_total", now.kv_total},
            {"active_share", known ? json(active_share(layers)) : json(nullptr)},
            {"layers", list}};
}

static std::string prometheus(app &a) {
    counters now = a.running().count();
    std::string text;
    auto add = [&](const std::string &name, const char *type, const char *help, double value) {
        char number[64];
        std::snprintf(number, sizeof number, " %.17g\n", value);
        text += "# HELP " + name + " " + help + "\n# TYPE " + name + " " + type + "\n" + name + number;
    };
    auto n = [](uint64_t value) { return static_cast<double>(value); };
    auto rate = [](double count, double ms) { return ms > 0 ? 1000.0 * count / ms : 0.0; };
    // The names of llama.cpp's server, so that dashboards go on working.
    add("llamacpp:prompt_tokens_total", "counter", "Prompt tokens that were computed.", n(now.n_prompt));
    add("llamacpp:prompt_seconds_total", "counter", "Seconds spent on prompts, summed over slots.", now.prompt_ms / 1000);
    add("llamacpp:prompt_tokens_seconds", "gauge", "Average prompt tokens per second of a slot.", rate(n(now.n_prompt), now.prompt_ms));
    add("llamacpp:tokens_predicted_total", "counter", "Tokens that were written.", n(now.n_predicted));
    add("llamacpp:tokens_predicted_seconds_total", "counter", "Seconds spent on writing, summed over slots.", now.predicted_ms / 1000);
    add("llamacpp:predicted_tokens_seconds", "gauge", "Average tokens per second that a slot wrote.", rate(n(now.n_predicted), now.predicted_ms));
    add("llamacpp:requests_processing", "gauge", "Answers that are being written.", n(now.n_busy));
    add("llamacpp:requests_deferred", "gauge", "Answers that wait for a slot.", n(now.n_queued));
    add("llamacpp:n_decode_total", "counter", "Steps of the engine.", n(now.n_decode));
    add("llamacpp:n_busy_slots_per_decode", "gauge", "Average number of busy slots in a step.", share(now.n_busy_sum, now.n_decode));
    add("llamacpp:kv_cache_usage_ratio", "gauge", "Share of the KV cache that holds tokens.", share(now.kv_used, now.kv_total));
    add("powerinfer:requests_total", "counter", "Answers that were begun.", n(now.n_tasks));
    add("powerinfer:requests_cancelled_total", "counter", "Answers whose client went away.", n(now.n_cancelled));
    add("powerinfer:requests_failed_total", "counter", "Answers that ended by an error.", n(now.n_failed));
    add("powerinfer:prompt_tokens_cached_total", "counter", "Prompt tokens that were in the cache.", n(now.n_cached));
    add("powerinfer:context_shifts_total", "counter", "Times that a full context forgot its older half.", n(now.n_shift));
    add("powerinfer:kv_tokens", "gauge", "Tokens in the KV cache.", n(now.kv_used));
    add("powerinfer:kv_capacity", "gauge", "Tokens that the KV cache has room for.", n(now.kv_total));
    rusage used{};
    getrusage(RUSAGE_SELF, &used);
    auto seconds = [](const timeval &time) { return static_cast<double>(time.tv_sec) + 1e-6 * static_cast<double>(time.tv_usec); };
    add("process_cpu_seconds_total", "counter", "CPU time of this process.", seconds(used.ru_utime) + seconds(used.ru_stime));

    auto layers = layers_of(a);
    if (layers.empty()) return text;
    add("powerinfer:active_neuron_share", "gauge", "Share of the neurons that fired.", active_share(layers));
    text += "# HELP powerinfer:layer_active_neuron_share Share of a layer's neurons that fired.\n"
            "# TYPE powerinfer:layer_active_neuron_share gauge\n";
    for (const auto &one : layers)
        text += "powerinfer:layer_active_neuron_share{layer=\"" + std::to_string(one.layer) + "\"} " +
                std::to_string(share(one.fired, one.tokens * one.n_neurons)) + "\n";
    return text;
}

void add_metric_endpoints(http_server &http, app &of) {
    app *a = &of;
    http.get("/stats", [a](const httplib::Request &, const json &) { return stats(*a); });
    if (of.options.show_metrics)
        http.get_text("/metrics", "text/plain; version=0.0.4; charset=utf-8", [a](const httplib::Request &) { return prometheus(*a); });
}
