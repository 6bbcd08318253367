#include "engine.h"

#include <algorithm>
#include <cmath>
#include <numeric>

// A prompt's beginning is copied from another slot only when that saves more tokens than this.
static const size_t worth_copying = 32;

engine::engine(llama_model *of, const vocabulary &words, const engine_options &opt)
    : model(of), vocab(words), options(opt) {
    llama_context_params params = llama_context_default_params();
    int64_t all = opt.n_ctx ? opt.n_ctx : opt.n_slots * llama_model_n_ctx_train(model);
    params.n_ctx = static_cast<uint32_t>(all);
    params.n_batch = static_cast<uint32_t>(opt.n_batch);
    params.n_ubatch = static_cast<uint32_t>(opt.n_ubatch);
    params.n_seq_max = static_cast<uint32_t>(opt.n_slots);
    params.n_threads = static_cast<int32_t>(opt.threads);
    params.n_threads_batch = static_cast<int32_t>(opt.threads_batch ? opt.threads_batch : opt.threads);
    params.kv_unified = opt.kv_unified;
    params.swa_full = opt.swa_full;
    params.offload_kqv = opt.kv_offload;
    // Ctrl-C a second time ends the step that runs.
    params.abort_callback = [](void *self) { return static_cast<engine *>(self)->cut_off.load(); };
    params.abort_callback_data = this;
    forget_errors();
    ctx = llama_init_from_model(model, params);
    if (!ctx) throw fault(500, "server_error", "cannot make a context of " + std::to_string(all) +
                                                   " tokens: " + library_error());
    memory = llama_get_memory(ctx);
    n_ctx = static_cast<int32_t>(opt.kv_unified ? llama_n_ctx(ctx) : llama_n_ctx_seq(ctx));
    n_swa = opt.swa_full ? 0 : llama_model_n_swa(model);
    if (options.context_shift && !(memory && llama_memory_can_shift(memory)))
        throw fault(500, "server_error", "this model's memory cannot be shifted: leave --context-shift out");
    batch = llama_batch_init(static_cast<int32_t>(llama_n_batch(ctx)), 0, 1);
    slots.resize(static_cast<size_t>(opt.n_slots));
    for (size_t i = 0; i < slots.size(); i++) slots[i].id = static_cast<llama_seq_id>(i);
    totals.kv_total = llama_n_ctx(ctx);
    totals.n_slots = slots.size();
    update_counts();
}

engine::~engine() {
    slots.clear(); // samplers first
    llama_batch_free(batch);
    llama_free(ctx);
}

// ---- what other threads call ----

void engine::check_prompt(const token_list &prompt) const {
    if (!memory) throw fault::unsupported("this model makes vectors of texts and writes none");
    if (prompt.empty()) throw fault::bad("the prompt is empty");
    if (prompt.size() < static_cast<size_t>(n_ctx)) return;
    throw fault(400, "exceed_context_size_error",
                "the prompt has " + std::to_string(prompt.size()) + " tokens, a slot holds " +
                    std::to_string(n_ctx),
                {{"n_prompt_tokens", prompt.size()}, {"n_ctx", n_ctx}});
}

void engine::submit(std::vector<std::unique_ptr<task>> list) {
    {
        std::lock_guard<std::mutex> lock(mutex);
        if (ending) throw fault(503, "unavailable_error", "the server is shutting down");
        auto room = static_cast<size_t>(options.max_queue);
        if (queue.size() + list.size() > room)
            throw fault(503, "unavailable_error", "the queue is full: try again later");
        for (auto &job : list) queue.push_back(std::move(job));
    }
    changed.notify_one();
}

void engine::between_steps(std::function<void()> what) {
    std::packaged_task<void()> errand(std::move(what));
    std::future<void> done = errand.get_future();
    {
        std::lock_guard<std::mutex> lock(mutex);
        if (ending) throw fault(503, "unavailable_error", "the server is shutting down");
        if (errands.size() >= static_cast<size_t>(options.max_queue))
            throw fault(503, "unavailable_error", "the queue is full: try again later");
        errands.push_back(std::move(errand));
    }
    changed.notify_one();
    done.get();
}

void engine::drain() {
    std::lock_guard<std::mutex> lock(mutex);
    ending = true;
    changed.notify_one();
}

void engine::stop() {
    cut_off = true;
    drain();
}

counters engine::count() const {
    std::lock_guard<std::mutex> lock(mutex);
    counters now = published;
    now.n_queued = queue.size();
    return now;
}

// ---- the loop ----

void engine::run() {
    auto busy = [&] {
        return std::any_of(slots.begin(), slots.end(), [](const slot &one) { return !!one.job; });
    };
    for (;;) {
        std::deque<std::packaged_task<void()>> now;
        {
            std::unique_lock<std::mutex> lock(mutex);
            // A request that waits may run into its time limit: look at it now and then.
            changed.wait_for(lock, std::chrono::milliseconds(500), [&] {
                return ending || busy() || !queue.empty() || !errands.empty();
            });
            now.swap(errands);
            if (ending && now.empty() && queue.empty() && !busy()) return;
        }
        for (auto &errand : now) errand();
        step();
    }
}

void engine::step() {
    drop_cancelled();
    admit();
    fill_batch();
    if (batch.n_tokens && decode())
        for (slot &one : slots)
            if (one.job && one.output >= 0) sample(one);
    update_counts();
}

void engine::drop_cancelled() {
    fault late(408, "timeout_error", "the request's time limit was reached");
    fault cut(503, "unavailable_error", "the server is shutting down");
    steady::time_point now = steady::now();
    for (slot &one : slots) {
        if (!one.job) continue;
        if (cut_off) fail(one, cut);
        else if (one.job->out->cancelled()) {
            totals.n_cancelled++;
            release(one);
        } else if (now > one.job->deadline) fail(one, late);
    }
    std::lock_guard<std::mutex> lock(mutex);
    for (auto at = queue.begin(); at != queue.end();) {
        task &job = **at;
        const fault *why = cut_off ? &cut : now > job.deadline ? &late : nullptr;
        if (!why && !job.out->cancelled()) {
            at++;
            continue;
        }
        if (why) {
            event last;
            last.index = job.index;
            last.failed = *why;
            job.out->put(std::move(last));
        }
        totals.n_cancelled++;
        at = queue.erase(at);
    }
}

void engine::update_counts() {
    totals.n_busy = totals.kv_used = 0;
    for (const slot &one : slots) {
        totals.n_busy += one.job ? 1 : 0;
        totals.kv_used += one.cache.size();
    }
    std::lock_guard<std::mutex> lock(mutex);
    published = totals;
}

// ---- from the queue to a slot ----

static size_t common_prefix(const token_list &a, const token_list &b) {
    size_t n = std::min(a.size(), b.size());
    return static_cast<size_t>(std::mismatch(a.begin(), a.begin() + static_cast<ptrdiff_t>(n), b.begin()).first - a.begin());
}

// The slot that knows most of the prompt, unless that is next to nothing: then the one that was
// not used for longest. Null: none is free.
slot *engine::choose(const task &job) {
    slot *best = nullptr, *oldest = nullptr;
    size_t most = 0;
    for (slot &one : slots) {
        if (one.job || (job.slot >= 0 && one.id != job.slot)) continue;
        size_t same = common_prefix(one.cache, job.prompt);
        if (!best || same > most) {
            best = &one;
            most = same;
        }
        if (!oldest || one.last_used < oldest->last_used) oldest = &one;
    }
    return most * 10 >= job.prompt.size() ? best : oldest;
}

void engine::admit() {
    std::lock_guard<std::mutex> lock(mutex);
    for (auto at = queue.begin(); at != queue.end();) {
        // Answers to one prompt begin one after another: the later ones copy what the first read.
        bool sibling_reads = std::any_of(slots.begin(), slots.end(), [&](const slot &one) {
            return one.reading() && one.job->request == (*at)->request;
        });
        slot *place = sibling_reads ? nullptr : choose(**at);
        if (!place) {
            at++;
            continue;
        }
        std::unique_ptr<task> job = std::move(*at);
        at = queue.erase(at);
        begin(*place, std::move(job));
    }
}

void engine::begin(slot &one, std::unique_ptr<task> job) {
    one.job = std::move(job);
    one.gate.emplace(one.job->stops);
    one.waiting = event{};
    one.next = LLAMA_TOKEN_NULL;
    one.truncated = false;
    one.time = timings{};
    one.started = steady::now();
    reuse(one);
    one.n_read = one.cache.size();
    one.time.n_prompt = static_cast<int64_t>(one.job->prompt.size());
    one.time.n_cached = static_cast<int64_t>(one.n_read);
    totals.n_cached += one.n_read;
    totals.n_tasks++;
}

// Leaves in the slot's cache what is the beginning of its prompt, its own or another slot's.
void engine::reuse(slot &one) {
    const token_list &prompt = one.job->prompt;
    size_t same = one.job->cache_prompt ? common_prefix(one.cache, prompt) : 0;
    for (const slot &other : slots) {
        if (!one.job->cache_prompt || &other == &one) continue;
        size_t theirs = common_prefix(other.cache, prompt);
        if (theirs <= same + worth_copying) continue;
        llama_memory_seq_rm(memory, one.id, -1, -1);
        llama_memory_seq_cp(memory, other.id, one.id, -1, -1);
        one.cache = other.cache;
        same = theirs;
    }
    same = std::min(same, prompt.size() - 1); // the last token gives the logits for the first answer
    if (same < one.cache.size() && !llama_memory_seq_rm(memory, one.id, static_cast<llama_pos>(same), -1))
        same = 0; // a memory that cannot forget a part forgets all
    // With a sliding window the cells before it are gone.
    if (n_swa > 0 && same > 0) {
        llama_pos from = std::max<llama_pos>(0, static_cast<llama_pos>(same) - n_swa);
        if (llama_memory_seq_pos_min(memory, one.id) > from) same = 0;
    }
    if (same == 0) forget(one);
    one.cache.resize(same);
}

void engine::forget(slot &one) {
    llama_memory_seq_rm(memory, one.id, -1, -1);
    one.cache.clear();
}

// ---- a step ----

void engine::add(slot &one, llama_token token, bool output) {
    int32_t i = batch.n_tokens++;
    batch.token[i] = token;
    batch.pos[i] = static_cast<llama_pos>(one.cache.size());
    batch.n_seq_id[i] = 1;
    batch.seq_id[i][0] = one.id;
    batch.logits[i] = output;
    one.cache.push_back(token);
    if (output) one.output = i;
}

// When the slot is full: forgets the older half of what need not be kept, or ends the answer.
void engine::make_room(slot &one) {
    auto n = static_cast<int32_t>(one.cache.size());
    if (n < n_ctx) return;
    one.truncated = true;
    if (!options.context_shift) return end(one, stop_reason::limit);
    int64_t keep = one.job->n_keep < 0 ? static_cast<int64_t>(one.job->prompt.size()) : one.job->n_keep;
    keep += llama_vocab_get_add_bos(vocab.handle()) ? 1 : 0;
    keep = std::min<int64_t>(keep, n_ctx - 4);
    auto from = static_cast<llama_pos>(keep);
    llama_pos drop = std::max<llama_pos>(1, (n - from) / 2);
    llama_memory_seq_rm(memory, one.id, from, from + drop);
    llama_memory_seq_add(memory, one.id, from + drop, n, -drop);
    one.cache.erase(one.cache.begin() + from, one.cache.begin() + from + drop);
    totals.n_shift++;
}

// Those that write come first; the prompts share what room is left.
void engine::fill_batch() {
    batch.n_tokens = 0;
    size_t n_readers = 0, room = llama_n_batch(ctx);
    for (slot &one : slots) {
        one.output = -1;
        if (one.writing()) make_room(one);
        if (one.writing()) add(one, one.next, true);
        n_readers += one.reading() ? 1 : 0;
    }
    auto n_writers = static_cast<size_t>(batch.n_tokens);
    room -= n_writers;
    if (n_writers) room = std::min(room, static_cast<size_t>(options.chunk));
    turn++;
    for (size_t i = 0; i < slots.size() && n_readers && room; i++) {
        slot &one = slots[(turn + i) % slots.size()];
        if (!one.reading()) continue;
        const token_list &prompt = one.job->prompt;
        size_t share = std::max<size_t>(1, room / n_readers--);
        size_t n = std::min(share, prompt.size() - one.n_read);
        room -= n;
        for (; n; n--, one.n_read++) add(one, prompt[one.n_read], one.n_read + 1 == prompt.size());
    }
}

// Steps that only read or only write tell how fast that is; the last ones count most.
void engine::note_speed(double ms) {
    int32_t n_writers = 0;
    for (const slot &one : slots) n_writers += one.writing() ? 1 : 0;
    double *speed = n_writers == batch.n_tokens ? &totals.predicted_speed
                    : n_writers == 0            ? &totals.prompt_speed
                                                : nullptr;
    if (!speed || ms <= 0) return;
    double now = 1000.0 * batch.n_tokens / ms;
    *speed = *speed > 0 ? 0.8 * *speed + 0.2 * now : now;
}

bool engine::decode() {
    auto in_batch = [&](const slot &one) {
        for (int32_t i = 0; i < batch.n_tokens; i++)
            if (batch.seq_id[i][0] == one.id) return true;
        return false;
    };
    steady::time_point start = steady::now();
    int32_t status;
    for (;;) {
        forget_errors();
        status = llama_decode(ctx, batch);
        if (status != 1) break;
        // No room in a cache that all slots share: those that rest forget what they hold.
        slot *resting = nullptr;
        for (slot &one : slots)
            if (!one.job && !one.cache.empty() && (!resting || one.last_used < resting->last_used))
                resting = &one;
        if (!resting) break;
        forget(*resting);
    }
    totals.n_decode++;
    for (const slot &one : slots) totals.n_busy_sum += one.job ? 1 : 0;
    if (status == 0) {
        note_speed(ms_since(start));
        return true;
    }

    fault why(500, "server_error",
              status == 1 ? "the context that all slots share is full"
                          : "decoding failed with status " + std::to_string(status) + " " + library_error());
    if (cut_off) why = fault(503, "unavailable_error", "the server is shutting down");
    else say("%s", why.message.c_str());
    for (slot &one : slots) {
        if (!in_batch(one)) continue;
        fail(one, why);
        forget(one);
    }
    return false;
}

// ---- the next token ----

std::optional<token_odds> engine::odds(const slot &one, llama_token token) const {
    if (one.job->n_odds < 0) return std::nullopt;
    const float *logits = llama_get_logits_ith(ctx, one.output);
    if (!logits) return std::nullopt;
    auto n = static_cast<size_t>(vocab.size());
    float most = *std::max_element(logits, logits + n);
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += std::exp(static_cast<double>(logits[i] - most));
    float log_sum = most + static_cast<float>(std::log(sum));

    std::vector<llama_token> order(n);
    std::iota(order.begin(), order.end(), 0);
    size_t n_top = std::min(n, static_cast<size_t>(one.job->n_odds));
    std::partial_sort(order.begin(), order.begin() + static_cast<ptrdiff_t>(n_top), order.end(),
                      [&](llama_token a, llama_token b) {
                          return logits[a] > logits[b] || (logits[a] == logits[b] && a < b);
                      });
    token_odds all{{token, logits[token] - log_sum}, {}};
    for (size_t i = 0; i < n_top; i++) all.top.push_back({order[i], logits[order[i]] - log_sum});
    return all;
}

void engine::sample(slot &one) {
    if (one.next == LLAMA_TOKEN_NULL) {
        one.first_token = steady::now();
        one.time.prompt_ms = ms_since(one.started);
        if (one.job->n_predict == 0) return end(one, stop_reason::limit);
    }
    forget_errors();
    llama_token token = llama_sampler_sample(one.job->sampler.get(), ctx, one.output);
    if (token == LLAMA_TOKEN_NULL)
        return fail(one, fault(500, "server_error", "no token can be chosen: " + library_error()));
    one.time.n_predicted++;
    one.time.predicted_ms = ms_since(one.first_token);
    if (auto found = odds(one, token)) one.waiting.odds.push_back(std::move(*found));
    one.waiting.list.push_back(token);
    show(one, token);
}

void engine::show(slot &one, llama_token token) {
    task &job = *one.job;
    if (llama_vocab_is_eog(vocab.handle(), token)) return end(one, stop_reason::end_of_text);
    std::string text = one.gate->add(vocab.piece(token, job.shown.count(token) > 0));
    one.waiting.text += text;
    if (const std::string *word = one.gate->found()) {
        one.waiting.stop_word = *word;
        return end(one, stop_reason::word);
    }
    bool late = job.t_max_predict_ms > 0 && one.time.predicted_ms > job.t_max_predict_ms;
    if (late || (job.n_predict > 0 && one.time.n_predicted >= job.n_predict))
        return end(one, stop_reason::limit);
    one.next = token;
    if (text.empty()) return;
    event now = std::exchange(one.waiting, event{});
    now.index = job.index;
    now.slot = one.id;
    now.time = one.time;
    job.out->put(std::move(now));
}

void engine::end(slot &one, stop_reason why) {
    event last = std::exchange(one.waiting, event{});
    if (why != stop_reason::word) last.text += one.gate->rest();
    last.index = one.job->index;
    last.slot = one.id;
    last.ended = why;
    last.truncated = one.truncated;
    last.time = one.time;
    totals.n_prompt += static_cast<uint64_t>(one.time.n_prompt - one.time.n_cached);
    totals.n_predicted += static_cast<uint64_t>(one.time.n_predicted);
    totals.prompt_ms += one.time.prompt_ms;
    totals.predicted_ms += one.time.predicted_ms;
    one.job->out->put(std::move(last));
    release(one);
}

void engine::fail(slot &one, const fault &what) {
    if (!one.job) return;
    event last;
    last.index = one.job->index;
    last.slot = one.id;
    last.failed = what;
    one.job->out->put(std::move(last));
    totals.n_failed++;
    release(one);
}

// The slot is free; what it knows stays for the next one that asks the same.
void engine::release(slot &one) {
    one.job.reset();
    one.next = LLAMA_TOKEN_NULL;
    one.output = -1;
    one.last_used = steady::now();
}
