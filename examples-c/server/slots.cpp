// The endpoints of slots: what they do, and their caches saved to files and restored.
#include "app.h"

#include <algorithm>
#include <sys/stat.h>

static json show(const slot &one, int32_t n_ctx) {
    json shown = {{"id", one.id},
                  {"n_ctx", n_ctx},
                  {"speculative", false},
                  {"is_processing", one.job != nullptr},
                  {"n_cached", one.cache.size()}};
    if (!one.job) return shown;
    int64_t most = one.job->n_predict;
    shown["id_task"] = one.job->request;
    shown["params"] = one.job->options.show();
    shown["n_prompt_tokens"] = one.job->prompt.size();
    shown["n_prompt_tokens_processed"] = one.n_read;
    shown["next_token"] = {{"has_next_token", true},
                           {"n_remain", most < 0 ? -1 : most - one.time.n_predicted},
                           {"n_decoded", one.time.n_predicted}};
    return shown;
}

// A name, and no way out of the folder.
static std::string checked_name(const std::string &name) {
    bool plain = !name.empty() && name.size() <= 128 && name[0] != '.' &&
                 std::all_of(name.begin(), name.end(), [](char c) {
                     return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                            c == '.' || c == '_' || c == '-';
                 });
    if (!plain) throw fault::bad("'filename' must be of letters, digits, '.', '_' and '-', and not begin with '.'");
    return name;
}

static json save(app &a, slot &one, const std::string &name) {
    steady::time_point start = steady::now();
    std::string path = a.options.slot_folder + "/" + name;
    forget_errors();
    size_t n = llama_state_seq_save_file(a.running().context(), path.c_str(), one.id, one.cache.data(), one.cache.size());
    if (!n) throw fault(500, "server_error", "the slot cannot be saved: " + library_error());
    return {{"id_slot", one.id},
            {"filename", name},
            {"n_saved", one.cache.size()},
            {"n_written", n},
            {"timings", {{"save_ms", ms_since(start)}}}};
}

static json restore(app &a, slot &one, const std::string &name) {
    steady::time_point start = steady::now();
    std::string path = a.options.slot_folder + "/" + name;
    struct stat info{};
    if (stat(path.c_str(), &info) != 0 || !S_ISREG(info.st_mode))
        throw fault(404, "not_found_error", "there is no file '" + name + "'");
    token_list list(static_cast<size_t>(a.running().n_ctx_slot()));
    size_t n_tokens = 0;
    a.running().forget(one);
    forget_errors();
    size_t n = llama_state_seq_load_file(a.running().context(), path.c_str(), one.id, list.data(), list.size(), &n_tokens);
    if (!n) {
        a.running().forget(one);
        throw fault::bad("the file cannot be restored into this slot: " + library_error());
    }
    list.resize(n_tokens);
    one.cache = std::move(list);
    return {{"id_slot", one.id},
            {"filename", name},
            {"n_restored", n_tokens},
            {"n_read", n},
            {"timings", {{"restore_ms", ms_since(start)}}}};
}

static json act(app &a, int64_t number, const std::string &action, const json &body) {
    bool with_file = action == "save" || action == "restore";
    if (!with_file && action != "erase") throw fault::bad("'action' must be save, restore or erase");
    if (with_file && a.options.slot_folder.empty())
        throw fault::unsupported("slots cannot be saved: start the server with --slot-save-path FOLDER");
    std::string name = with_file ? checked_name(fields(body).text("filename")) : "";
    json result;
    a.running().between_steps([&] {
        std::vector<slot> &slots = a.running().all_slots();
        if (number >= static_cast<int64_t>(slots.size())) throw fault(404, "not_found_error", "there is no such slot");
        slot &one = slots[static_cast<size_t>(number)];
        if (one.job) throw fault(409, "conflict_error", "the slot is busy");
        if (action == "save") result = save(a, one, name);
        else if (action == "restore") result = restore(a, one, name);
        else {
            result = {{"id_slot", one.id}, {"n_erased", one.cache.size()}};
            a.running().forget(one);
        }
    });
    return result;
}

void add_slot_endpoints(http_server &http, app &of) {
    app *a = &of;
    if (of.options.show_slots)
        http.get("/slots", [a](const httplib::Request &req, const json &) {
            json all = json::array();
            a->running().between_steps([&] {
                for (const slot &one : a->running().all_slots()) all.push_back(show(one, a->running().n_ctx_slot()));
            });
            bool busy = std::all_of(all.begin(), all.end(), [](const json &one) { return one["is_processing"] == true; });
            if (busy && req.has_param("fail_on_no_slot"))
                throw fault(503, "unavailable_error", "no slot is free");
            return all;
        });
    http.post("/slots/([0-9]{1,6})", [a](const httplib::Request &req, const json &body) {
        return act(*a, std::stol(req.matches[1]), req.get_param_value("action"), body);
    });
}
