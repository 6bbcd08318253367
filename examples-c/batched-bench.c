/* How fast a model serves several sequences at once: -npl sequences, each with a prompt of -npp
 * tokens, then -ntg steps that make one token for each of them.
 *
 *   batched-bench -m model.gguf -npp 128 -ntg 128 -npl 1,2,4,8
 *
 * Each combination of the three lists is one line. PP, TG, B: the three numbers; N_KV: cells of the
 * KV cache it takes; T and S: seconds and tokens per second of prompts, generation and both. With
 * -pps all sequences share one prompt, which is computed once. */
#include "measure.h"

#include <stdlib.h>
#include <string.h>

struct options {
    int64_t n_batch, n_ubatch, n_threads, n_threads_batch;
    bool shared_prompt, apart, unified, jsonl;
};

static int32_t greatest(const struct numbers *numbers) {
    int32_t most = 0;
    for (size_t i = 0; i < numbers->len; i++)
        if (numbers->data[i] > most) most = numbers->data[i];
    return most;
}

/* Cells of the cache that a test takes. */
static int64_t cells(const struct options *o, int64_t pp, int64_t tg, int64_t pl) {
    return (o->shared_prompt && o->unified ? pp : pl * pp) + pl * tg;
}

/* Decodes what is in the batch, n_batch tokens at a time, and empties it. */
static void decode_all(struct llama_context *ctx, struct llama_batch *batch, int64_t n_batch) {
    for (int32_t i = 0; i < batch->n_tokens; i += (int32_t)n_batch) {
        struct llama_batch part = *batch;
        part.n_tokens = batch->n_tokens - i < n_batch ? batch->n_tokens - i : (int32_t)n_batch;
        part.token += i;
        part.pos += i;
        part.n_seq_id += i;
        part.seq_id += i;
        part.logits += i;
        decode_batch(ctx, part);
    }
    llama_synchronize(ctx);
    batch->n_tokens = 0;
}

/* One test: seconds for the prompts and for the generation. */
static void run_test(struct llama_context *ctx, struct llama_batch *batch, const struct options *o,
                     int32_t pp, int32_t tg, int32_t pl, double *t_pp, double *t_tg) {
    const struct llama_vocab *vocab = llama_model_get_vocab(llama_get_model(ctx));
    llama_memory_t memory = llama_get_memory(ctx);
    llama_memory_clear(memory, false);

    batch->n_tokens = 0;
    for (int32_t seq = 0; seq < (o->shared_prompt ? 1 : pl); seq++)
        for (int32_t i = 0; i < pp; i++)
            batch_add(batch, random_token(vocab), i, seq, i + 1 == pp);
    double start = now_ms();
    decode_all(ctx, batch, o->n_batch);
    *t_pp = (now_ms() - start) / 1e3;

    for (int32_t seq = 1; o->shared_prompt && seq < pl; seq++)
        llama_memory_seq_cp(memory, 0, seq, -1, -1);

    start = now_ms();
    if (o->apart) { /* one sequence after the other */
        for (int32_t seq = 0; seq < pl; seq++)
            for (int32_t i = 0; i < tg; i++) {
                batch_add(batch, random_token(vocab), pp + i, seq, true);
                decode_all(ctx, batch, o->n_batch);
            }
    } else {
        for (int32_t i = 0; i < tg; i++) {
            for (int32_t seq = 0; seq < pl; seq++)
                batch_add(batch, random_token(vocab), pp + i, seq, true);
            decode_all(ctx, batch, o->n_batch);
        }
    }
    *t_tg = (now_ms() - start) / 1e3;
}

static void print_header(const struct options *o, const struct llama_context *ctx) {
    printf("\nn_kv_max = %u, n_batch = %lld, n_ubatch = %lld, is_pp_shared = %d, "
           "is_tg_separate = %d, n_threads = %lld, n_threads_batch = %lld\n\n",
           llama_n_ctx(ctx), (long long)o->n_batch, (long long)o->n_ubatch, o->shared_prompt,
           o->apart, (long long)o->n_threads, (long long)o->n_threads_batch);
    printf("|%6s | %6s | %4s | %6s | %8s | %8s | %8s | %8s | %8s | %8s |\n", "PP", "TG", "B", "N_KV",
           "T_PP s", "S_PP t/s", "T_TG s", "S_TG t/s", "T s", "S t/s");
    puts("|-------|--------|------|--------|----------|----------|----------|----------|----------|"
         "----------|");
}

static double speed(int64_t tokens, double seconds) {
    return tokens && seconds > 0 ? (double)tokens / seconds : 0;
}

static void print_test(const struct options *o, const struct llama_context *ctx, int32_t pp, int32_t tg,
                       int32_t pl, double t_pp, double t_tg) {
    const int64_t n_pp = o->shared_prompt ? pp : (int64_t)pl * pp, n_tg = (int64_t)pl * tg;
    const long long n_kv = cells(o, pp, tg, pl);
    const double t = t_pp + t_tg;
    if (o->jsonl)
        printf("{\"n_kv_max\": %u, \"n_batch\": %lld, \"n_ubatch\": %lld, \"is_pp_shared\": %d, "
               "\"is_tg_separate\": %d, \"n_threads\": %lld, \"n_threads_batch\": %lld, \"pp\": %d, "
               "\"tg\": %d, \"pl\": %d, \"n_kv\": %lld, \"t_pp\": %f, \"speed_pp\": %f, \"t_tg\": %f, "
               "\"speed_tg\": %f, \"t\": %f, \"speed\": %f}\n",
               llama_n_ctx(ctx), (long long)o->n_batch, (long long)o->n_ubatch, o->shared_prompt,
               o->apart, (long long)o->n_threads, (long long)o->n_threads_batch, pp, tg, pl, n_kv,
               t_pp, speed(n_pp, t_pp), t_tg, speed(n_tg, t_tg), t, speed(n_pp + n_tg, t));
    else
        printf("|%6d | %6d | %4d | %6lld | %8.3f | %8.2f | %8.3f | %8.2f | %8.3f | %8.2f |\n", pp, tg,
               pl, n_kv, t_pp, speed(n_pp, t_pp), t_tg, speed(n_tg, t_tg), t, speed(n_pp + n_tg, t));
    fflush(stdout);
}

int main(int argc, char **argv) {
    struct options o = {.n_batch = 2048, .n_ubatch = 512, .n_threads = default_threads()};
    struct names npp = {0}, ntg = {0}, npl = {0};
    const char *path = NULL, *format = "md", *type_k = "f16", *type_v = "f16", *attention = "auto";
    int64_t n_ctx = 0, n_gpu_layers = -1;
    struct gpu_options gpu = GPU_DEFAULTS;
    const struct flag flags[] = {
        {FLAG_STRING, {"-m", "--model"}, "FILE", &path, "the model, a GGUF file", 0, 0},
        {FLAG_LIST, {"-npp"}, "N,..", &npp, "tokens of each prompt (default: 128)", 0, 0},
        {FLAG_LIST, {"-ntg"}, "N,..", &ntg, "tokens to generate in each sequence (default: 128)", 0, 0},
        {FLAG_LIST, {"-npl"}, "N,..", &npl, "sequences at once (default: 1)", 0, 0},
        {FLAG_BOOL, {"-pps"}, 0, &o.shared_prompt, "all sequences share one prompt", 0, 0},
        {FLAG_BOOL, {"-tgs"}, 0, &o.apart, "generate one sequence after the other", 0, 0},
        {FLAG_BOOL, {"-kvu", "--kv-unified"}, 0, &o.unified, "one KV cache for all sequences", 0, 0},
        {FLAG_INT, {"-c", "--ctx-size"}, "N", &n_ctx, "cells of the KV cache; tests that need more "
         "are left out; 0: what the largest needs", 0, INT32_MAX},
        {FLAG_INT, {"-b", "--batch-size"}, "N", &o.n_batch, "tokens a decode", 1, 1 << 24},
        {FLAG_INT, {"-ub", "--ubatch-size"}, "N", &o.n_ubatch, "tokens computed at once", 1, 1 << 24},
        {FLAG_INT, {"-t", "--threads"}, "N", &o.n_threads, "threads", 1, 512},
        {FLAG_INT, {"-tb", "--threads-batch"}, "N", &o.n_threads_batch,
         "threads for more than one token; 0: as -t", 0, 512},
        {FLAG_STRING, {"-ctk", "--cache-type-k"}, "T", &type_k, "type of the keys (default: f16)", 0, 0},
        {FLAG_STRING, {"-ctv", "--cache-type-v"}, "T", &type_v, "type of the values (default: f16)", 0, 0},
        {FLAG_STRING, {"-fa", "--flash-attn"}, "F", &attention, "on, off, auto (default: auto)", 0, 0},
        {FLAG_INT, {"-ngl"}, "N", &n_gpu_layers, "layers on the GPU; -1: what fits", -1, INT32_MAX},
        GPU_FLAGS(gpu),
        {FLAG_STRING, {"--output-format"}, "FORMAT", &format, "md or jsonl (default: md)", 0, 0},
        {FLAG_BOOL, {"--json"}, 0, &o.jsonl, "the same as --output-format jsonl", 0, 0},
    };
    parse_flags(argc, argv, "[flags]: how fast a model serves several sequences", flags,
                sizeof flags / sizeof *flags, NULL);
    if (gpu.list) show_devices();
    if (!strcmp(format, "jsonl")) o.jsonl = true;
    if (!o.jsonl && strcmp(format, "md")) die("--output-format is md or jsonl, not '%s'", format);
    if (!o.n_threads_batch) o.n_threads_batch = o.n_threads;

    struct numbers pps = {0}, tgs = {0}, pls = {0};
    numbers_parse(&pps, "-npp", &npp, 128, 1, 1 << 22);
    numbers_parse(&tgs, "-ntg", &ntg, 128, 0, 1 << 22);
    numbers_parse(&pls, "-npl", &npl, 1, 1, (int32_t)llama_max_parallel_sequences());
    const int32_t most_pp = greatest(&pps), most_tg = greatest(&tgs), most_pl = greatest(&pls);
    const int64_t most = o.unified ? cells(&o, most_pp, most_tg, most_pl)
                                   : (int64_t)most_pl * (most_pp + most_tg);
    if (!n_ctx && most > INT32_MAX) die("the largest test needs %lld cells", (long long)most);
    struct llama_context_params params = llama_context_default_params();
    params.type_k = cache_type("-ctk", type_k);
    params.type_v = cache_type("-ctv", type_v);
    params.flash_attn_type = flash_attention(attention);

    log_init(false);
    catch_sigint();
    struct llama_model_params model_params = llama_model_default_params();
    model_params.n_gpu_layers = (int32_t)n_gpu_layers;
    use_gpus(&gpu, &model_params);
    struct llama_model *model = load_model(path, model_params, &interrupted);
    params.n_ctx = n_ctx ? (uint32_t)n_ctx : (uint32_t)(most > 16 ? most : 16);
    params.n_batch = (uint32_t)o.n_batch;
    params.n_ubatch = (uint32_t)o.n_ubatch;
    params.n_seq_max = (uint32_t)most_pl;
    params.n_threads = (int32_t)o.n_threads;
    params.n_threads_batch = (int32_t)o.n_threads_batch;
    params.kv_unified = o.unified;
    params.abort_callback = should_abort;
    struct llama_context *ctx = llama_init_from_model(model, params);
    if (!ctx) die_with_reason("cannot make a context of %u tokens", params.n_ctx);

    /* Room for the largest batch, but no more than fits the cache. */
    int64_t room = (int64_t)most_pl * most_pp;
    if (room > (int64_t)llama_n_ctx(ctx)) room = llama_n_ctx(ctx);
    if (room < most_pl) room = most_pl;
    struct llama_batch batch = llama_batch_init((int32_t)(room > 16 ? room : 16), 0, 1);
    for (int32_t i = 0; i < 8 && i < (int32_t)llama_n_ctx_seq(ctx); i++) /* warm up */
        batch_add(&batch, random_token(llama_model_get_vocab(model)), i, 0, false);
    decode_all(ctx, &batch, o.n_batch);

    size_t n_run = 0;
    for (size_t i = 0; i < pps.len; i++)
        for (size_t j = 0; j < tgs.len; j++)
            for (size_t k = 0; k < pls.len; k++) {
                int32_t pp = pps.data[i], tg = tgs.data[j], pl = pls.data[k];
                if (cells(&o, pp, tg, pl) > (int64_t)llama_n_ctx(ctx)) continue;
                if (pp + tg > (int64_t)llama_n_ctx_seq(ctx)) continue;
                progress("test %zu of %zu", (i * tgs.len + j) * pls.len + k + 1,
                         pps.len * tgs.len * pls.len);
                double t_pp, t_tg;
                run_test(ctx, &batch, &o, pp, tg, pl, &t_pp, &t_tg);
                progress_end();
                if (!o.jsonl && !n_run) print_header(&o, ctx);
                print_test(&o, ctx, pp, tg, pl, t_pp, t_tg);
                n_run++;
            }
    if (!n_run) die("no test fits the %u cells of the KV cache (-c)", llama_n_ctx(ctx));

    llama_batch_free(batch);
    llama_free(ctx);
    llama_model_free(model);
    numbers_free(&pps);
    numbers_free(&tgs);
    numbers_free(&pls);
    names_free(&npp);
    names_free(&ntg);
    names_free(&npl);
    return 0;
}
