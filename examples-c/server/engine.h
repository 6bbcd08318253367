// The engine: one thread that owns the context. Each step it decodes one token of every answer that
// is being written, and a piece of the prompts that are being read, in one batch.
#pragma once

#include "task.h"

#include <condition_variable>
#include <deque>
#include <functional>
#include <future>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

struct engine_options {
    int64_t n_ctx = 4096;       // of all slots together; 0: what the model was trained with, for each
    int64_t n_slots = 4;
    int64_t n_batch = 2048, n_ubatch = 512;
    int64_t chunk = 256;        // tokens of prompts in a step while answers are being written
    int64_t max_queue = 64;     // tasks that may wait for a slot
    int64_t threads = 0, threads_batch = 0;
    bool context_shift = false; // a full context forgets its oldest half; else the answer ends
    bool kv_unified = false, swa_full = false, kv_offload = true;
};

// One sequence of the context: what it holds, and the answer that is being written there.
struct slot {
    llama_seq_id id = 0;
    token_list cache; // what the KV cache holds for this sequence
    std::unique_ptr<task> job;
    std::optional<text_gate> gate;
    event waiting;       // what was written and cannot be shown yet
    size_t n_read = 0;   // tokens of the prompt in the cache; the rest is still to be read
    llama_token next = LLAMA_TOKEN_NULL; // chosen, to be decoded in the next step
    int32_t output = -1; // row of the batch with the logits for its next token; -1: none
    bool truncated = false;
    timings time;
    steady::time_point started, first_token, last_used;

    bool reading() const { return job && n_read < job->prompt.size(); }
    bool writing() const { return job && next != LLAMA_TOKEN_NULL; }
};

// Sums since the start, and what is so now.
struct counters {
    uint64_t n_prompt = 0, n_cached = 0, n_predicted = 0, n_decode = 0, n_busy_sum = 0;
    uint64_t n_tasks = 0, n_cancelled = 0, n_failed = 0, n_shift = 0;
    double prompt_ms = 0, predicted_ms = 0;
    double prompt_speed = 0, predicted_speed = 0; // tokens per second in the last steps; 0: none yet
    uint64_t kv_used = 0, kv_total = 0, n_busy = 0, n_queued = 0, n_slots = 0;
};

class engine {
public:
    engine(llama_model *of, const vocabulary &words, const engine_options &opt);
    ~engine();

    // The loop; returns after stop(), or when a drain is done.
    void run();
    // No more tasks are taken; run() returns when those that there are have ended.
    void drain();
    // As well, and what runs is cut off.
    void stop();
    bool draining() const { return ending; }

    // Hands tasks in; a fault when the queue has no room for all of them, or the engine is ending.
    void submit(std::vector<std::unique_ptr<task>> list);
    // Runs something on the engine's thread between two steps, and waits for it.
    void between_steps(std::function<void()> what);

    // A fault when a slot cannot go on with this prompt: it is too long or empty, or the model writes
    // no text at all.
    void check_prompt(const token_list &prompt) const;
    int32_t n_ctx_slot() const { return n_ctx; }
    // A number for a request's tasks.
    uint64_t next_request() { return ++last_request; }
    counters count() const;

    // Only on the engine's thread:
    llama_context *context() { return ctx; }
    std::vector<slot> &all_slots() { return slots; }
    void forget(slot &one);

private:
    void step();
    void admit();
    slot *choose(const task &job);
    void begin(slot &one, std::unique_ptr<task> job);
    void reuse(slot &one);
    void make_room(slot &one);
    void fill_batch();
    void add(slot &one, llama_token token, bool output);
    bool decode();
    void note_speed(double ms);
    void sample(slot &one);
    void show(slot &one, llama_token token);
    std::optional<token_odds> odds(const slot &one, llama_token token) const;
    void end(slot &one, stop_reason why);
    void fail(slot &one, const fault &what);
    void release(slot &one);
    void drop_cancelled();
    void update_counts();

    llama_model *model;
    const vocabulary &vocab;
    engine_options options;
    llama_context *ctx = nullptr;
    llama_memory_t memory = nullptr;
    llama_batch batch{};
    int32_t n_ctx = 0; // of a slot
    int32_t n_swa = 0;
    std::vector<slot> slots;
    size_t turn = 0; // the slot whose prompt comes first in this step
    counters totals;

    mutable std::mutex mutex; // of what follows
    std::condition_variable changed;
    std::deque<std::unique_ptr<task>> queue;
    std::deque<std::packaged_task<void()>> errands;
    counters published;
    std::atomic<bool> ending{false}, cut_off{false};
    std::atomic<uint64_t> last_request{0};
};
