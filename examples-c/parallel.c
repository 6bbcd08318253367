/* Many clients of one model: requests join and leave the batch between two decode steps.
 *
 *   parallel -m model.gguf -np 4 -ns 16 -n 32
 *
 * Each of -np slots serves one client at a time, as a sequence of its own in one KV cache. A step
 * decodes one token of every slot that writes and as much as there is room for of the prompts of
 * those that begin. A client's sampler has seed s + its number, so its text is the one it would get
 * alone. */
#include "generate.h"

#include <stdlib.h>
#include <string.h>

static const char *const questions[] = {
    "What is the meaning of life? It is",
    "Tell me an interesting fact about llamas:",
    "What is the best way to cook a steak? First",
    "Are you familiar with the Special Theory of Relativity? It says that",
    "Recommend some interesting books to read:",
    "What is the best way to learn a new language? Most people",
    "How to get a job at a large company:",
    "If you could have any superpower, what would it be? I would",
};

/* What one client is asked, and what has become of it. */
struct slot {
    bool busy;
    int64_t client;
    const char *prompt;
    struct llama_sampler *sampler;
    struct tokens tokens; /* the prompt, then what was written */
    size_t n_prompt, n_past;
    int32_t output; /* index in the batch of the logits for its next token; -1: none */
    struct text answer;
    double start, first; /* ms */
};

struct server {
    struct llama_context *ctx;
    const struct llama_vocab *vocab;
    struct slot *slots;
    struct llama_batch batch;
    struct names prompts;
    int64_t n_slots, n_clients, n_predict, seed;
    double temp;
    bool batching, json;
    int64_t n_started, n_finished;
    uint64_t n_prompt, n_written, n_misses;
};

static void begin(struct server *s, struct slot *slot) {
    slot->busy = true;
    slot->client = s->n_started++;
    slot->prompt = s->prompts.data[(size_t)slot->client % s->prompts.len];
    slot->sampler = make_sampler(s->temp, (uint32_t)(s->seed + slot->client));
    slot->tokens.len = slot->n_past = slot->answer.len = 0;
    text_add(&slot->answer, "", 0);
    tokens_add_text(&slot->tokens, s->vocab, slot->prompt, strlen(slot->prompt), true, true);
    slot->n_prompt = slot->tokens.len;
    if (!slot->n_prompt) die("the prompt '%s' has no tokens", slot->prompt);
    if (slot->n_prompt + (size_t)s->n_predict > llama_n_ctx(s->ctx))
        die("client %lld does not fit: %zu + %lld tokens, the context holds %u (-c)",
            (long long)slot->client, slot->n_prompt, (long long)s->n_predict, llama_n_ctx(s->ctx));
    slot->start = now_ms();
}

static void print_client(const struct server *s, const struct slot *slot, int64_t seq) {
    double end = now_ms();
    size_t n_written = slot->tokens.len - slot->n_prompt;
    show_count("clients", 1, 1);
    if (!s->json) {
        printf("[client %lld, slot %lld, %zu + %zu tokens]\n%s%s\n\n", (long long)slot->client,
               (long long)seq, slot->n_prompt, n_written, slot->prompt, slot->answer.data);
        fflush(stdout);
        return;
    }
    struct text line = {0};
    text_addf(&line, "{\"client\": %lld, \"slot\": %lld, \"prompt\": ", (long long)slot->client,
              (long long)seq);
    text_add_json(&line, slot->prompt, strlen(slot->prompt));
    text_addf(&line, ", \"answer\": ");
    text_add_json(&line, slot->answer.data, slot->answer.len);
    text_addf(&line, ", \"n_prompt\": %zu, \"n_predicted\": %zu, \"ms_first\": %.2f, \"ms\": %.2f}",
              slot->n_prompt, n_written, slot->first - slot->start, end - slot->start);
    puts(line.data);
    fflush(stdout);
    text_free(&line);
}

static void finish(struct server *s, struct slot *slot) {
    llama_seq_id seq = (llama_seq_id)(slot - s->slots);
    print_client(s, slot, seq);
    llama_memory_seq_rm(llama_get_memory(s->ctx), seq, -1, -1);
    llama_sampler_free(slot->sampler);
    slot->sampler = NULL;
    slot->busy = false;
    s->n_finished++;
}

/* Adds what waits in a slot, as far as there is room. */
static void add_waiting(struct server *s, struct slot *slot) {
    size_t n_batch = llama_n_batch(s->ctx);
    while (slot->n_past < slot->tokens.len && (size_t)s->batch.n_tokens < n_batch) {
        bool last = slot->n_past + 1 == slot->tokens.len;
        if (last) slot->output = s->batch.n_tokens;
        if (slot->n_past < slot->n_prompt) s->n_prompt++;
        batch_add(&s->batch, slot->tokens.data[slot->n_past], (llama_pos)slot->n_past,
                  (llama_seq_id)(slot - s->slots), last);
        slot->n_past++;
    }
}

/* Those that write first, so that a long prompt does not keep them waiting. */
static void fill_batch(struct server *s) {
    bool any_busy = false;
    s->batch.n_tokens = 0;
    for (int64_t i = 0; i < s->n_slots; i++) {
        struct slot *slot = &s->slots[i];
        slot->output = -1;
        any_busy |= slot->busy;
        if (slot->busy && slot->n_past >= slot->n_prompt) add_waiting(s, slot);
    }
    for (int64_t i = 0; i < s->n_slots; i++) {
        struct slot *slot = &s->slots[i];
        bool may_begin = s->n_started < s->n_clients && (s->batching || !any_busy);
        if (!slot->busy && may_begin) begin(s, slot);
        if (slot->busy && slot->n_past < slot->n_prompt) add_waiting(s, slot);
    }
}

/* The next token of each slot whose logits are between `from` and `from` + n in the batch. */
static void sample(struct server *s, int32_t from, int32_t n) {
    struct text piece = {0};
    for (int64_t i = 0; i < s->n_slots; i++) {
        struct slot *slot = &s->slots[i];
        if (!slot->busy || slot->output < from || slot->output >= from + n) continue;
        llama_token token = llama_sampler_sample(slot->sampler, s->ctx, slot->output - from);
        if (slot->tokens.len == slot->n_prompt) slot->first = now_ms();
        if (!llama_vocab_is_eog(s->vocab, token)) {
            tokens_push(&slot->tokens, token);
            token_piece(&piece, s->vocab, token, false);
            text_add(&slot->answer, piece.data, piece.len);
            s->n_written++;
            if ((int64_t)(slot->tokens.len - slot->n_prompt) < s->n_predict) continue;
        }
        finish(s, slot);
    }
    text_free(&piece);
}

/* Decodes the batch. When the cache has no room for it as a whole, smaller pieces of it may fit
 * between what others left. */
static void step(struct server *s) {
    int32_t most = s->batch.n_tokens;
    for (int32_t from = 0; from < s->batch.n_tokens;) {
        int32_t n = s->batch.n_tokens - from < most ? s->batch.n_tokens - from : most;
        struct llama_batch part = s->batch;
        part.n_tokens = n;
        part.token += from;
        part.pos += from;
        part.n_seq_id += from;
        part.seq_id += from;
        part.logits += from;
        log_forget();
        int32_t status = llama_decode(s->ctx, part);
        if (status == 2 || interrupted) exit_interrupted();
        if (status == 1 && n > 1) {
            s->n_misses++;
            most = n / 2;
            continue;
        }
        if (status == 1) die("the KV cache of %u tokens is full: use a larger -c or a smaller -np",
                             llama_n_ctx(s->ctx));
        if (status) die_with_reason("decoding failed with status %d", status);
        sample(s, from, n);
        from += n;
    }
}

static void print_totals(const struct server *s, double seconds) {
    double speed = (double)(s->n_prompt + s->n_written) / seconds;
    if (s->json) {
        printf("{\"clients\": %lld, \"slots\": %lld, \"cont_batching\": %s, \"n_prompt\": %llu, "
               "\"n_predicted\": %llu, \"cache_misses\": %llu, \"seconds\": %.3f}\n",
               (long long)s->n_finished, (long long)s->n_slots, s->batching ? "true" : "false",
               (unsigned long long)s->n_prompt, (unsigned long long)s->n_written,
               (unsigned long long)s->n_misses, seconds);
        return;
    }
    note("n_parallel = %lld, n_sequences = %lld, cont_batching = %d, %.2f s",
         (long long)s->n_slots, (long long)s->n_clients, s->batching, seconds);
    note("Total prompt tokens: %6llu, speed: %7.2f t/s", (unsigned long long)s->n_prompt,
         (double)s->n_prompt / seconds);
    note("Total gen tokens:    %6llu, speed: %7.2f t/s", (unsigned long long)s->n_written,
         (double)s->n_written / seconds);
    note("Total speed (AVG):   %6s  speed: %7.2f t/s", "", speed);
    note("Cache misses:        %6llu", (unsigned long long)s->n_misses);
}

/* The lines of a text that are not empty, each a prompt. */
static void add_lines(struct names *prompts, char *text) {
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n"))
        if (*line) names_push(prompts, line);
}

int main(int argc, char **argv) {
    static struct server s; /* static: what it holds stays reachable when die() ends the program */
    s = (struct server){.n_slots = 4, .n_clients = 8, .n_predict = 64, .seed = 1234, .batching = true};
    const char *path = NULL, *prompt = NULL, *file = NULL;
    int64_t n_ctx = 0, n_batch = 512, threads = 0, n_gpu_layers = -1;
    const struct flag flags[] = {
        {FLAG_STRING, {"-m", "--model"}, "FILE", &path, "the model, a GGUF file", 0, 0},
        {FLAG_STRING, {"-p", "--prompt"}, "TEXT", &prompt, "what clients ask, a prompt a line (else there are some here)", 0, 0},
        {FLAG_STRING, {"-f", "--file"}, "FILE", &file, "the same from a file ('-' is stdin)", 0, 0},
        {FLAG_INT, {"-np", "--parallel"}, "N", &s.n_slots, "slots: clients served at once", 1, 256},
        {FLAG_INT, {"-ns", "--sequences"}, "N", &s.n_clients, "clients in all", 1, 1 << 30},
        {FLAG_INT, {"-n", "--predict", "--n-predict"}, "N", &s.n_predict, "tokens to generate for each", 1, 1 << 20},
        {FLAG_BOOL, {"-cb", "--cont-batching"}, 0, &s.batching, "begin with the next client as soon as a slot is free (the default)", 0, 0},
        {FLAG_NOT, {"-nocb", "--no-cont-batching"}, 0, &s.batching, "wait until all slots are free", 0, 0},
        {FLAG_INT, {"-c", "--ctx-size"}, "N", &n_ctx, "context size in tokens, for all slots; 0: what they need", 0, INT32_MAX},
        {FLAG_INT, {"-b", "--batch-size"}, "N", &n_batch, "tokens handed to the library at once", 1, 1 << 20},
        {FLAG_INT, {"-s", "--seed"}, "N", &s.seed, "client i uses seed N+i", 0, 1 << 30},
        {FLAG_FLOAT, {"--temp"}, "T", &s.temp, "temperature; 0: always the most likely token", 0, 1e6},
        {FLAG_INT, {"-t", "--threads"}, "N", &threads, "threads; 0: one for each CPU", 0, 512},
        {FLAG_INT, {"-ngl", "--gpu-layers", "--n-gpu-layers"}, "N", &n_gpu_layers, "layers on the GPU; -1: what fits", -1, INT32_MAX},
        {FLAG_BOOL, {"--json"}, 0, &s.json, "print a line of JSON for each client and one for all", 0, 0},
    };
    parse_flags(argc, argv, "serves many clients at once", flags, sizeof flags / sizeof *flags,
                NULL);
    if (prompt && file) die("-p and -f both give the prompts: use one of them");
    struct text text = {0};
    if (file) text_add_file(&text, file);
    else if (prompt) text_add(&text, prompt, strlen(prompt));
    if (file || prompt) add_lines(&s.prompts, text.data);
    else for (size_t i = 0; i < sizeof questions / sizeof *questions; i++)
        names_push(&s.prompts, questions[i]);
    if (!s.prompts.len) die("there is no prompt in what %s gives", file ? "-f" : "-p");

    catch_sigint();
    log_init(false);
    struct llama_model_params params = llama_model_default_params();
    params.n_gpu_layers = (int32_t)n_gpu_layers;
    struct llama_model *model = load_model(path, params, &interrupted);
    s.vocab = llama_model_get_vocab(model);

    size_t longest = 0;
    struct tokens tokens = {0};
    for (size_t i = 0; i < s.prompts.len; i++, tokens.len = 0) {
        tokens_add_text(&tokens, s.vocab, s.prompts.data[i], strlen(s.prompts.data[i]), true, true);
        if (tokens.len > longest) longest = tokens.len;
    }
    tokens_free(&tokens);
    uint64_t need = (longest + (uint64_t)s.n_predict) * (uint64_t)s.n_slots;
    if (need > INT32_MAX) die("%lld slots of %zu + %lld tokens are too many", (long long)s.n_slots,
                              longest, (long long)s.n_predict);
    if (n_batch < s.n_slots) n_batch = s.n_slots; /* a token of each */
    s.ctx = new_context(model, n_ctx ? (uint32_t)n_ctx : (uint32_t)need, (uint32_t)n_batch,
                        (uint32_t)s.n_slots, (int32_t)threads);
    s.batch = llama_batch_init((int32_t)llama_n_batch(s.ctx), 0, 1);
    s.slots = xrealloc(NULL, (size_t)s.n_slots * sizeof *s.slots);
    memset(s.slots, 0, (size_t)s.n_slots * sizeof *s.slots);

    double start = now_ms();
    while (s.n_finished < s.n_clients) {
        show_count("clients", (uint64_t)s.n_finished, (uint64_t)s.n_clients);
        fill_batch(&s);
        step(&s);
    }
    print_totals(&s, (now_ms() - start) / 1e3);

    for (int64_t i = 0; i < s.n_slots; i++) {
        tokens_free(&s.slots[i].tokens);
        text_free(&s.slots[i].answer);
    }
    free(s.slots);
    names_free(&s.prompts);
    text_free(&text);
    llama_batch_free(s.batch);
    llama_free(s.ctx);
    llama_model_free(model);
    return 0;
}
