#include "chunks.h"

#include <math.h>

/* ---- probabilities ---- */

float greatest(const float *logits, int32_t n) {
    float max = logits[0];
    for (int32_t i = 1; i < n; i++) max = logits[i] > max ? logits[i] : max;
    return max;
}

double log_sum_exp(const float *logits, int32_t n) {
    const float max = greatest(logits, n);
    double sum = 0;
    for (int32_t i = 0; i < n; i++) sum += (double)expf(logits[i] - max);
    return (double)max + log(sum);
}

void mean_add(struct mean *mean, double value) {
    mean->sum += value;
    mean->squares += value * value;
    mean->n++;
}

double mean_of(const struct mean *mean) { return mean->n ? mean->sum / (double)mean->n : 0; }

double error_of(const struct mean *mean) {
    if (mean->n < 2) return 0;
    double m = mean_of(mean), variance = mean->squares / (double)mean->n - m * m;
    return variance > 0 ? sqrt(variance / (double)(mean->n - 1)) : 0;
}

/* ---- chunks ---- */

struct llama_context_params chunk_params(int64_t n_ctx, int64_t n_chunks, int64_t n_batch) {
    const int64_t most = (int64_t)llama_max_parallel_sequences();
    int64_t n_seq = n_batch / n_ctx;
    if (n_seq > most) n_seq = most;
    if (n_seq > n_chunks) n_seq = n_chunks;
    if (n_seq < 1) n_seq = 1;
    struct llama_context_params params = llama_context_default_params();
    params.n_ctx = (uint32_t)(n_ctx * n_seq);
    params.n_seq_max = (uint32_t)n_seq;
    params.n_batch = (uint32_t)(n_batch < n_ctx ? n_batch : n_ctx * n_seq);
    params.abort_callback = should_abort;
    return params;
}

void run_chunks(struct llama_context *ctx, const struct chunks *c) {
    const struct llama_vocab *vocab = llama_model_get_vocab(llama_get_model(ctx));
    const bool add_bos = llama_vocab_get_add_bos(vocab);
    const int32_t n_batch = (int32_t)llama_n_batch(ctx), n_seq_max = (int32_t)llama_n_seq_max(ctx);
    struct llama_batch batch = llama_batch_init(n_batch, 0, 1);
    const double start = now_ms();
    for (int32_t i = 0; i < c->n_chunks; i += n_seq_max) {
        const int32_t n_seq = c->n_chunks - i < n_seq_max ? c->n_chunks - i : n_seq_max;
        const int32_t n = n_seq * c->n_ctx; /* whole chunks side by side, or one in pieces */
        llama_memory_clear(llama_get_memory(ctx), false);
        for (int32_t done = 0; done < n;) {
            const int32_t from = done;
            batch.n_tokens = 0;
            for (; done < n && batch.n_tokens < n_batch; done++) {
                const int32_t seq = done / c->n_ctx, pos = done % c->n_ctx;
                const llama_token token = c->tokens[(size_t)(i + seq) * (size_t)c->step + (size_t)pos];
                const bool scored = c->score && pos >= c->first && pos + 1 < c->n_ctx;
                batch_add(&batch, add_bos && !pos ? llama_vocab_bos(vocab) : token, pos, seq,
                          c->whole || scored);
            }
            decode_batch(ctx, batch);
            for (int32_t k = 0; k < batch.n_tokens; k++) {
                const int32_t seq = (from + k) / c->n_ctx, pos = (from + k) % c->n_ctx;
                const size_t at = (size_t)(i + seq) * (size_t)c->step + (size_t)pos;
                if (interrupted) exit_interrupted();
                if (c->score && pos >= c->first && pos + 1 < c->n_ctx)
                    c->score(c->to, llama_get_logits_ith(ctx, k), c->tokens[at + 1]);
                if (pos + 1 == c->n_ctx) c->chunk_done(c->to, i + seq);
            }
        }
        const double seconds = (now_ms() - start) / 1e3, left = c->n_chunks - i - n_seq;
        progress("%d of %d chunks, %.0f s to go", i + n_seq, c->n_chunks, seconds / (i + n_seq) * left);
    }
    progress_end();
    llama_batch_free(batch);
}
