#define _POSIX_C_SOURCE 200809L
#include "session.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* The program runs with any libllama; with others than libpowerinfer these are NULL. */
#pragma weak powerinfer_get_stats
#pragma weak powerinfer_reset_stats

bool session_fits(const struct session *s, size_t n_tokens) {
    return n_tokens <= llama_n_ctx(s->ctx);
}

/* ---- the context ---- */

/* Makes room for what waits, by forgetting. False: the context is full. */
static bool make_room(struct session *s) {
    llama_memory_t memory = llama_get_memory(s->ctx);
    while (!session_fits(s, s->history.len)) {
        if (!s->context_shift || s->n_past < s->n_kept + 2) return false;
        size_t n = (s->n_past - s->n_kept) / 2, from = s->n_kept, to = from + n;
        if (!llama_memory_seq_rm(memory, 0, (llama_pos)from, (llama_pos)to)) return false;
        llama_memory_seq_add(memory, 0, (llama_pos)to, -1, -(llama_pos)n);
        memmove(s->history.data + from, s->history.data + to,
                (s->history.len - to) * sizeof *s->history.data);
        s->history.len -= n;
        s->n_past -= n;
        s->n_seen -= n;
        s->time.n_shifts++;
        /* What is left was computed with what is gone: other runs must not take it for the same. */
        s->cache.path = NULL;
        s->cache.pending = false;
    }
    return true;
}

/* Decodes the tokens of the history that wait. False: Ctrl-C came first. */
static bool catch_up(struct session *s, bool is_prompt) {
    while (s->n_past < s->history.len) {
        size_t n = s->history.len - s->n_past, most = llama_n_batch(s->ctx);
        if (n > most) n = most;
        double start = now_ms();
        log_forget();
        int32_t status = llama_decode(
            s->ctx, llama_batch_get_one(s->history.data + s->n_past, (int32_t)n));
        llama_synchronize(s->ctx);
        *(is_prompt ? &s->time.prompt : &s->time.generation) += now_ms() - start;
        if (status == 2) { /* aborted: some of the batch may have got in */
            s->n_past = (size_t)(llama_memory_seq_pos_max(llama_get_memory(s->ctx), 0) + 1);
            return false;
        }
        if (status == 1) die("no room in the KV cache for %zu tokens: use a larger -c", n);
        if (status != 0) die_with_reason("decoding failed with status %d", status);
        *(is_prompt ? &s->time.n_prompt : &s->time.n_generation) += n;
        s->n_past += n;
    }
    return true;
}

/* ---- the prompt cache ---- */

void session_load(struct session *s) {
    struct stat file;
    if (!s->cache.path) return;
    s->cache.pending = !s->cache.read_only;
    if (stat(s->cache.path, &file) != 0 || (S_ISREG(file.st_mode) && file.st_size == 0)) return;
    struct tokens *history = &s->history;
    size_t room = llama_n_ctx(s->ctx);
    history->data = xrealloc(history->data, room * sizeof *history->data);
    history->cap = room;
    log_forget();
    if (!llama_state_load_file(s->ctx, s->cache.path, history->data, room, &history->len))
        die_with_reason("cannot use the prompt cache '%s'", s->cache.path);
    s->n_past = history->len;
}

static void save(struct session *s) {
    log_forget();
    if (!llama_state_save_file(s->ctx, s->cache.path, s->history.data, s->n_past))
        die_with_reason("cannot write the prompt cache '%s'", s->cache.path);
}

void session_save(struct session *s) {
    if (s->cache.path && s->cache.all && !s->cache.read_only) save(s);
}

/* ---- the history ---- */

static void show_tokens(const struct session *s, size_t from) {
    struct text piece = {0};
    note("prompt: %zu tokens", s->history.len - from);
    for (size_t i = from; i < s->history.len; i++) {
        token_piece(&piece, s->vocab, s->history.data[i], true);
        fprintf(stderr, "%7d -> '%s'\n", s->history.data[i], piece.data);
    }
    text_free(&piece);
}

/* The sampler's penalties count what was read as well as what was written. A grammar is for what
 * is written alone. */
static void prompt_added(struct session *s, size_t from) {
    for (int32_t n = 0; n < llama_sampler_chain_n(s->sampler); n++) {
        struct llama_sampler *one = llama_sampler_chain_get(s->sampler, n);
        for (size_t i = s->n_seen; i < s->history.len && one != s->grammar; i++)
            llama_sampler_accept(one, s->history.data[i]);
    }
    s->n_seen = s->history.len;
    if (s->grammar) llama_sampler_reset(s->grammar);
    if (s->verbose_prompt) show_tokens(s, from);
    if (!s->has_prompt) {
        s->has_prompt = true;
        size_t bos = llama_vocab_get_add_bos(s->vocab) ? 1 : 0, n = s->history.len;
        bool all = s->n_keep < 0 || (size_t)s->n_keep + bos > n;
        s->n_kept = all ? n : (size_t)s->n_keep + bos;
        if (!session_fits(s, n))
            die("the prompt does not fit: %zu tokens, but the context holds %u (-c)", n,
                llama_n_ctx(s->ctx));
    }
    if (!make_room(s))
        die("the prompt does not fit: %zu tokens, but the context holds %u (-c)", s->history.len,
            llama_n_ctx(s->ctx));
}

void session_become(struct session *s, struct tokens *now) {
    size_t same = 0; /* the last token is decoded again: its logits choose the next one */
    while (same < s->n_past && same + 1 < now->len && now->data[same] == s->history.data[same])
        same++;
    /* All of it is in the file already. */
    if (same + 1 >= now->len && s->n_past >= now->len) s->cache.pending = false;
    llama_memory_t memory = llama_get_memory(s->ctx);
    if (same < s->n_past && !llama_memory_seq_rm(memory, 0, (llama_pos)same, -1)) {
        llama_memory_clear(memory, true); /* a memory that cannot forget a part forgets all */
        same = 0;
    }
    s->n_past = same;
    if (s->n_seen > same) s->n_seen = same;
    tokens_free(&s->history);
    s->history = *now;
    *now = (struct tokens){0};
    prompt_added(s, same);
}

void session_add_text(struct session *s, const char *text, size_t len) {
    struct tokens now = {0};
    bool first = !s->has_prompt;
    if (!first || !len) /* what is there goes on; of a cache's file only without a new text */
        for (size_t i = 0; i < s->history.len; i++) tokens_push(&now, s->history.data[i]);
    size_t from = now.len;
    tokens_add_text(&now, s->vocab, text, len, from == 0, true);
    if (now.len == 0) { /* nothing to continue: start a text */
        llama_token bos = llama_vocab_bos(s->vocab);
        if (bos == LLAMA_TOKEN_NULL) die("the prompt is empty and the model has no start token");
        tokens_push(&now, bos);
    }
    if (first) {
        session_become(s, &now);
        return;
    }
    tokens_free(&s->history);
    s->history = now;
    prompt_added(s, from);
}

/* ---- what the layers skipped ---- */

/* Adds what the layers did since the last reset. Prompts do not count: with many tokens at once
 * nearly every neuron fires for one of them. */
static void collect_stats(struct session *s) {
    if (!s->layer_stats) return;
    int32_t n = powerinfer_get_stats(s->ctx, NULL, 0, 0);
    if (n <= 0) return;
    struct powerinfer_layer_stats *now = xrealloc(NULL, (size_t)n * sizeof *now);
    powerinfer_get_stats(s->ctx, now, (size_t)n, sizeof *now);
    if (!s->layers) {
        s->layers = now;
        s->n_layers = n;
        return;
    }
    for (int32_t i = 0; i < n && i < s->n_layers; i++) {
        struct powerinfer_layer_stats *all = &s->layers[i];
        all->tokens += now[i].tokens;
        all->guessed += now[i].guessed;
        all->fired += now[i].fired;
        all->checked += now[i].checked;
        all->found += now[i].found;
        all->bytes += now[i].bytes;
        all->dense_bytes += now[i].dense_bytes;
        all->timed += now[i].timed;
        all->time_ns += now[i].time_ns;
    }
    free(now);
}

/* ---- generation ---- */

enum stop session_generate(struct session *s, struct text *answer) {
    struct text piece = {0};
    enum stop why = STOP_LIMIT;
    bool is_prompt = true;
    for (int64_t i = 0; s->n_predict < 0 || i < s->n_predict; i++) {
        if (!make_room(s)) {
            why = STOP_CONTEXT_FULL;
            break;
        }
        if (!catch_up(s, is_prompt) || interrupted) {
            why = STOP_INTERRUPT;
            break;
        }
        if (is_prompt && s->layer_stats) powerinfer_reset_stats(s->ctx);
        is_prompt = false;
        if (s->cache.pending) save(s);
        s->cache.pending = false;

        double start = now_ms();
        llama_token token = llama_sampler_sample(s->sampler, s->ctx, -1);
        s->time.sampling += now_ms() - start;
        s->time.n_sampled++;
        if (llama_vocab_is_eog(s->vocab, token)) {
            why = STOP_END_OF_TEXT;
            break;
        }
        tokens_push(&s->history, token);
        s->n_seen = s->history.len;
        token_piece(&piece, s->vocab, token, false);
        utf8_write(&s->out, stdout, piece.data, piece.len);
        if (answer) text_add(answer, piece.data, piece.len);
    }
    utf8_flush(&s->out, stdout);
    text_free(&piece);
    if (!is_prompt) collect_stats(s);
    return why;
}

void session_free(struct session *s) {
    free(s->layers);
    tokens_free(&s->history);
    llama_sampler_free(s->sampler);
    llama_free(s->ctx);
    llama_model_free(s->model);
}
