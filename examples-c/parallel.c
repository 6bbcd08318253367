/* Many clients of one model: requests join and leave the batch between two decode steps.
 *
 *   parallel -m model.gguf -np 4 -ns 16 -n 32
 *   parallel -m model.gguf -np 4 -ns 16 -n 32 -sys "You are brief." -pps --junk 5
 *
 * Each of -np slots serves one client at a time, as a sequence of its own in one KV cache. A step
 * decodes one token of every slot that writes and as much as there is room for of the prompts of
 * those that begin. A client's sampler has seed s + its number, so its text is the one it would get
 * alone. With -sys every prompt begins with the same text; -pps computes it once, and the slots share its
 * cells in the cache. */
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

/* What -pps shares without -sys. */
static const char default_system[] =
    "A user asks an assistant questions of every kind. The assistant is friendly, says what it knows in "
    "one or two sentences, and says so when it does not know.\n";

/* What has been said before, with --junk. */
static const struct {
    const char *question, *answer;
} junk[] = {
    {"How many days has a week?", "A week has seven days."},
    {"What colour has grass?", "Grass is green."},
    {"Which animal barks?", "The dog barks."},
    {"What do you need to write a letter?", "Paper and a pen are enough to write a letter."},
    {"Where do fish live?", "Fish live in water: in rivers, in lakes and in the sea."},
    {"What is two times three?", "Two times three is six."},
    {"When does the sun rise?", "The sun rises in the morning, in the east."},
};
enum { N_JUNK = sizeof junk / sizeof *junk };

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
    struct tokens system; /* what every prompt begins with; shared: in the sequence after the slots' */
    const char *stop;     /* ends an answer, and is no part of it; may be NULL */
    int64_t n_slots, n_clients, n_predict, n_junk, seed;
    double temp;
    bool batching, shared, json;
    int64_t n_started, n_finished;
    uint64_t n_prompt, n_written, n_misses;
};

/* The prompt of a client: what went before, up to n_junk - 1 times, and the question. */
static void add_prompt(const struct server *s, int64_t client, const char *question, struct tokens *tokens) {
    struct text text = {0};
    uint32_t random = (uint32_t)(s->seed + client) * 2654435761U;
    const int64_t n = s->n_junk > 1 ? (int64_t)(random >> 8) % s->n_junk : 0;
    for (int64_t i = 0; i < n; i++) {
        random = random * 1664525U + 1013904223U;
        const size_t k = (random >> 8) % N_JUNK;
        text_addf(&text, "User:\n%s\nAssistant:\n%s\n", junk[k].question, junk[k].answer);
    }
    if (s->n_junk) text_addf(&text, "User:\n%s\nAssistant:\n", question);
    else text_add(&text, question, strlen(question));
    tokens_add_text(tokens, s->vocab, text.data, text.len, !s->system.len, true);
    text_free(&text);
}

static void begin(struct server *s, struct slot *slot) {
    slot->busy = true;
    slot->client = s->n_started++;
    slot->prompt = s->prompts.data[(size_t)slot->client % s->prompts.len];
    slot->sampler = make_sampler(s->temp, (uint32_t)(s->seed + slot->client));
    slot->tokens.len = slot->n_past = slot->answer.len = 0;
    text_add(&slot->answer, "", 0);
    for (size_t i = 0; i < s->system.len; i++) tokens_push(&slot->tokens, s->system.data[i]);
    add_prompt(s, slot->client, slot->prompt, &slot->tokens);
    slot->n_prompt = slot->tokens.len;
    if (s->shared) {
        llama_memory_seq_cp(llama_get_memory(s->ctx), (llama_seq_id)s->n_slots,
                            (llama_seq_id)(slot - s->slots), -1, -1);
        slot->n_past = s->system.len;
    }
    if (slot->n_prompt == s->system.len) die("the prompt '%s' has no tokens", slot->prompt);
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
            char *end = s->stop ? strstr(slot->answer.data, s->stop) : NULL;
            if (end) slot->answer.len = (size_t)(end - slot->answer.data);
            if (end) *end = '\0';
            if (!end && (int64_t)(slot->tokens.len - slot->n_prompt) < s->n_predict) continue;
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
        printf("{\"clients\": %lld, \"slots\": %lld, \"cont_batching\": %s, \"n_shared\": %zu, "
               "\"n_prompt\": %llu, \"n_predicted\": %llu, \"cache_misses\": %llu, \"seconds\": %.3f}\n",
               (long long)s->n_finished, (long long)s->n_slots, s->batching ? "true" : "false",
               s->shared ? s->system.len : 0, (unsigned long long)s->n_prompt, (unsigned long long)s->n_written,
               (unsigned long long)s->n_misses, seconds);
        return;
    }
    note("n_parallel = %lld, n_sequences = %lld, cont_batching = %d, system tokens = %zu, %.2f s",
         (long long)s->n_slots, (long long)s->n_clients, s->batching, s->system.len, seconds);
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
    const char *path = NULL, *prompt = NULL, *file = NULL, *system = NULL;
    int64_t n_ctx = 0, n_batch = 512, threads = 0, n_gpu_layers = -1;
    const struct flag flags[] = {
        {FLAG_STRING, {"-m", "--model"}, "FILE", &path, "the model, a GGUF file", 0, 0},
        {FLAG_STRING, {"-p", "--prompt"}, "TEXT", &prompt, "what clients ask, a prompt a line (else there are some here)", 0, 0},
        {FLAG_STRING, {"-f", "--file"}, "FILE", &file, "the same from a file ('-' is stdin)", 0, 0},
        {FLAG_STRING, {"-sys", "--system-prompt"}, "TEXT", &system, "what every prompt begins with", 0, 0},
        {FLAG_BOOL, {"-pps"}, 0, &s.shared, "compute that once, and share its cells in the cache", 0, 0},
        {FLAG_INT, {"--junk"}, "N", &s.n_junk, "prompts are conversations with 0 to N-1 turns before; 0: none", 0, 1024},
        {FLAG_STRING, {"-r", "--reverse-prompt"}, "TEXT", &s.stop, "an answer ends where it has this", 0, 0},
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
    if (s.shared && (!system || !*system)) system = default_system;
    if (s.stop && !*s.stop) die("-r is empty");
    if (!s.prompts.len) die("there is no prompt in what %s gives", file ? "-f" : "-p");

    catch_sigint();
    log_init(false);
    struct llama_model_params params = llama_model_default_params();
    params.n_gpu_layers = (int32_t)n_gpu_layers;
    struct llama_model *model = load_model(path, params, &interrupted);
    s.vocab = llama_model_get_vocab(model);

    if (system) tokens_add_text(&s.system, s.vocab, system, strlen(system), true, true);
    size_t longest = 0, turn = 0;
    struct tokens tokens = {0};
    for (size_t i = 0; i < s.prompts.len + N_JUNK; i++, tokens.len = 0) {
        struct text one = {0};
        if (i < s.prompts.len) text_addf(&one, s.n_junk ? "User:\n%s\nAssistant:\n" : "%s", s.prompts.data[i]);
        else text_addf(&one, "User:\n%s\nAssistant:\n%s\n", junk[i - s.prompts.len].question,
                       junk[i - s.prompts.len].answer);
        tokens_add_text(&tokens, s.vocab, one.data, one.len, true, true);
        size_t *most = i < s.prompts.len ? &longest : &turn;
        *most = tokens.len > *most ? tokens.len : *most;
        text_free(&one);
    }
    tokens_free(&tokens);
    if (s.n_junk > 1) longest += turn * (size_t)(s.n_junk - 1);
    uint64_t need = (longest + (uint64_t)s.n_predict + (s.shared ? 0 : s.system.len)) * (uint64_t)s.n_slots;
    if (s.shared) need += s.system.len;
    if (need > INT32_MAX) die("%lld slots of %zu + %lld tokens are too many", (long long)s.n_slots,
                              longest, (long long)s.n_predict);
    if (n_batch < s.n_slots) n_batch = s.n_slots; /* a token of each */
    s.ctx = new_context(model, n_ctx ? (uint32_t)n_ctx : (uint32_t)need, (uint32_t)n_batch,
                        (uint32_t)s.n_slots + s.shared, (int32_t)threads);
    s.batch = llama_batch_init((int32_t)llama_n_batch(s.ctx), 0, 1);
    s.slots = xrealloc(NULL, (size_t)s.n_slots * sizeof *s.slots);
    memset(s.slots, 0, (size_t)s.n_slots * sizeof *s.slots);

    double start = now_ms();
    if (s.shared) decode_tokens(s.ctx, s.system.data, s.system.len, 0, (llama_seq_id)s.n_slots);
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
    tokens_free(&s.system);
    names_free(&s.prompts);
    text_free(&text);
    llama_batch_free(s.batch);
    llama_free(s.ctx);
    llama_model_free(model);
    return 0;
}
