/* Loading, contexts, perf, log, progress, splits, threads, adapters, quantising. */
#include "contract.h"

/* ---- loading ---- */

LINE(files_that_are_no_models, "A missing, foreign or cut file: NULL.") {
    const char *names[] = {"missing.gguf", "words.txt", "cut.gguf"};
    for (int i = 0; i < 3; i++)
        say("%d", !llama_model_load_from_file(file(models, names[i]), llama_model_default_params()));
}

static float steps[4096];
static int n_steps;
static bool progress(float p, void *data) {
    if (n_steps < 4096) steps[n_steps++] = p;
    return !data || p < 0.5f;
}

LINE(progress_from_0_to_1, "progress_callback: from 0 to 1, never down; false ends the load with NULL.") {
    struct llama_model_params params = llama_model_default_params();
    params.progress_callback = progress;
    say("%d", !!llama_model_load_from_file(file(models, "llama.gguf"), params));
    bool rising = true;
    for (int i = 1; i < n_steps; i++) rising &= steps[i] >= steps[i - 1];
    say("%g %g %d", steps[0], steps[n_steps - 1], rising);
    params.progress_callback_user_data = &n_steps;
    say("%d", !llama_model_load_from_file(file(models, "llama.gguf"), params));
}

static int n_dots;
static void count_dots(enum ggml_log_level level, const char *text, void *data) {
    (void)data;
    n_dots += level == GGML_LOG_LEVEL_CONT && !strcmp(text, ".");
}

LINE(dots_without_a_callback, "Without progress_callback a load prints dots through the log, as continuations.") {
    llama_log_set(count_dots, NULL);
    load("llama.gguf");
    say("%d", n_dots > 0);
}

LINE(lists_of_devices, "devices and tensor_buft_overrides end with NULL.") {
    ggml_backend_dev_t devices[] = {ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU), NULL};
    struct llama_model_tensor_buft_override over[] = {{"blk\\.0\\..*", ggml_backend_cpu_buffer_type()},
                                                      {NULL, NULL}};
    struct llama_model_params params = llama_model_default_params();
    params.devices = devices + 1;
    params.tensor_buft_overrides = over;
    struct llama_model *model = llama_model_load_from_file(file(models, "llama.gguf"), params);
    say("%d", model && feed(start(model, small()), 0, 0, 3) == 0);
}

LINE(saved_models_load, "model_save_to_file writes what loads again, with the same metadata.") {
    struct llama_model *model = load("llama.gguf");
    const char *path = file(scratch, "saved.gguf");
    llama_model_save_to_file(model, path);
    struct llama_model *again = llama_model_load_from_file(path, llama_model_default_params());
    if (!again) broken("saved model");
    char text[64];
    say("%d", llama_model_meta_val_str(again, "general.architecture", text, sizeof text));
    say("%s %d", text, llama_model_n_params(again) == llama_model_n_params(model));
    say("%d", llama_vocab_n_tokens(llama_model_get_vocab(again)));
}

LINE(overrides_by_type, "kv_overrides: of another type than the file's is ignored with a warning.") {
    struct llama_model_kv_override over[4];
    memset(over, 0, sizeof over);
    over[0].tag = LLAMA_KV_OVERRIDE_TYPE_INT;
    strcpy(over[0].key, "llama.context_length");
    over[0].val_i64 = 77;
    over[1].tag = LLAMA_KV_OVERRIDE_TYPE_STR;
    strcpy(over[1].key, "llama.rope.freq_base");
    strcpy(over[1].val_str, "many");
    over[2].tag = LLAMA_KV_OVERRIDE_TYPE_INT;
    strcpy(over[2].key, "new.key");
    over[2].val_i64 = 5;
    struct llama_model_params params = llama_model_default_params();
    params.kv_overrides = over;
    llama_log_set(log_count, NULL);
    struct llama_model *model = llama_model_load_from_file(file(models, "llama.gguf"), params);
    say("%d %d", llama_model_n_ctx_train(model), n_logged[GGML_LOG_LEVEL_WARN] > 0);
    char text[32];
    say("%d", llama_model_meta_val_str(model, "new.key", text, sizeof text));
    llama_model_meta_val_str(model, "llama.context_length", text, sizeof text);
    say("'%s'", text);
}

LINE(vocabulary_only, "vocab_only: text works, shapes are there, a context decodes nothing.") {
    struct llama_model_params params = llama_model_default_params();
    params.vocab_only = true;
    struct llama_model *model = llama_model_load_from_file(file(models, "llama.gguf"), params);
    const struct llama_vocab *vocab = llama_model_get_vocab(model);
    llama_token tokens[8];
    say("%d %d", llama_vocab_n_tokens(vocab), llama_tokenize(vocab, "in", 2, tokens, 8, false, false));
    say("%llu", (unsigned long long)llama_model_size(model));
}

LINE(a_context_of_a_vocabulary, "A context of a model without tensors.") {
    struct llama_model_params params = llama_model_default_params();
    params.vocab_only = true;
    struct llama_model *model = llama_model_load_from_file(file(models, "llama.gguf"), params);
    say("%d", !llama_init_from_model(model, small()));
}

LINE(names_of_splits, "split_path and split_prefix count from 0, the name from 1.") {
    char text[64] = "unset";
    say("%d'%s'", llama_split_path(text, sizeof text, "/m/a", 0, 3), text);
    say("%d'%s'", llama_split_path(text, sizeof text, "/m/a", 2, 3), text);
    strcpy(text, "unset");
    say("%d'%s'", llama_split_prefix(text, sizeof text, "/m/a-00001-of-00003.gguf", 0, 3), text);
    strcpy(text, "unset");
    say("%d'%s'", llama_split_prefix(text, sizeof text, "/m/a-00001-of-00003.gguf", 1, 3), text);
    say("%d", llama_split_path(text, 10, "/m/a", 0, 3));
}

LINE(explicit_splits, "load_from_splits of one whole file, of none, of a wrong path.") {
    const char *one = file(models, "llama.gguf"), *bad = file(models, "missing.gguf");
    say("%d", !!llama_model_load_from_splits(&one, 1, llama_model_default_params()));
    say("%d", !!llama_model_load_from_splits(NULL, 0, llama_model_default_params()));
    say("%d", !!llama_model_load_from_splits(&bad, 1, llama_model_default_params()));
}

LINE(open_files, "load_from_file_ptr reads an open file.") {
    FILE *f = fopen(file(models, "llama.gguf"), "rb");
    struct llama_model *model = llama_model_load_from_file_ptr(f, llama_model_default_params());
    say("%d", model ? llama_model_n_layer(model) : -1);
}

/* ---- contexts ---- */

static void say_shape(struct llama_context_params params) {
    struct llama_context *ctx = llama_init_from_model(load("llama.gguf"), params);
    if (!ctx) {
        say("[NULL]");
        return;
    }
    say("[%u %u %u %u %u]", llama_n_ctx(ctx), llama_n_ctx_seq(ctx), llama_n_batch(ctx),
        llama_n_ubatch(ctx), llama_n_seq_max(ctx));
}

LINE(contexts_are_padded, "n_ctx is padded to 256, 0 is the length of training.") {
    const unsigned sizes[] = {0, 1, 255, 256, 257, 1000};
    for (int i = 0; i < 6; i++) {
        struct llama_context_params params = small();
        params.n_ctx = sizes[i];
        say_shape(params);
    }
}

LINE(sequences_share_the_context, "n_ctx_seq: all with kv_unified, else a padded share.") {
    for (int unified = 0; unified < 2; unified++) {
        for (unsigned n = 1; n < 6; n += 2) {
            struct llama_context_params params = small();
            params.n_ctx = 1024;
            params.n_seq_max = n;
            params.kv_unified = unified;
            say_shape(params);
        }
    }
}

LINE(batches_of_a_context, "n_batch and n_ubatch: limits on one another and n_ctx.") {
    const unsigned sizes[][2] = {{8, 4}, {4, 8}, {4096, 512}, {16, 0}, {1, 1}};
    for (int i = 0; i < 5; i++) {
        struct llama_context_params params = small();
        params.n_batch = sizes[i][0], params.n_ubatch = sizes[i][1];
        say_shape(params);
    }
}

LINE(ubatches_without_batches, "n_batch 0 with an n_ubatch.") {
    struct llama_context_params params = small();
    params.n_batch = 0;
    say_shape(params);
}

LINE(contexts_that_cannot_be, "NULL: no model, no batch, quantised V without flash attention, odd blocks.") {
    say("%d", !llama_init_from_model(NULL, small()));
    struct llama_context_params params = small();
    params.n_batch = params.n_ubatch = 0;
    say_shape(params);
    params = small();
    params.type_v = GGML_TYPE_Q8_0;
    params.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_DISABLED;
    say_shape(params);
    params = small();
    params.type_k = GGML_TYPE_Q8_0;
    say_shape(params);
}

LINE(too_many_sequences, "n_seq_max of 0 and above the most there can be.") {
    struct llama_context_params params = small();
    params.n_seq_max = 0;
    say_shape(params);
    params.n_seq_max = (uint32_t)llama_max_parallel_sequences() + 1;
    say_shape(params);
}

LINE(limits_of_the_library, "What the library says of itself.") {
    say("%zu %zu %zu", llama_max_devices(), llama_max_parallel_sequences(),
        llama_max_tensor_buft_overrides());
    say("%d %d", llama_supports_mmap(), llama_supports_mlock());
    say("%s", llama_version());
}

LINE(threads_of_a_context, "set_n_threads is told back, and acts from the next decode on.") {
    struct llama_context *ctx = plain();
    say("%d %d", llama_n_threads(ctx), llama_n_threads_batch(ctx));
    llama_set_n_threads(ctx, 2, 3);
    say("%d %d", llama_n_threads(ctx), llama_n_threads_batch(ctx));
    say("%d", feed(ctx, 0, 0, 4));
}

LINE(one_pool_for_both, "attach_threadpool with NULL for batches uses the first for both.") {
    struct llama_context *ctx = plain();
    struct ggml_threadpool_params params = ggml_threadpool_params_default(2);
    struct ggml_threadpool *pool = ggml_threadpool_new(&params);
    llama_set_n_threads(ctx, 2, 2);
    llama_attach_threadpool(ctx, pool, NULL);
    say("%d %d", feed(ctx, 0, 0, 4), feed(ctx, 0, 4, 1));
    llama_detach_threadpool(ctx);
    ggml_threadpool_free(pool);
    say("%d", feed(ctx, 0, 5, 1));
}

LINE(causal_or_not, "set_causal_attn is told back; warm-up is accepted.") {
    struct llama_context *ctx = plain();
    say("%d", llama_get_causal_attn(ctx));
    llama_set_causal_attn(ctx, false);
    say("%d", llama_get_causal_attn(ctx));
    say("%d", llama_get_causal_attn(start(load("bert.gguf"), small())));
}

/* ---- perf ---- */

static void say_counts(struct llama_context *ctx) {
    const struct llama_perf_context_data p = llama_perf_context(ctx);
    say("[%d %d]", p.n_p_eval, p.n_eval);
}

LINE(counts_of_tokens, "A batch of one counts as eval, more as prompt; both are at least 1.") {
    for (int no_perf = 0; no_perf < 2; no_perf++) {
        struct llama_context_params params = small();
        params.no_perf = no_perf;
        struct llama_context *ctx = start(load("llama.gguf"), params);
        say_counts(ctx);
        feed(ctx, 0, 0, 4), llama_synchronize(ctx);
        feed(ctx, 0, 4, 1), llama_synchronize(ctx);
        feed(ctx, 0, 5, 1), llama_synchronize(ctx);
        say_counts(ctx);
        const struct llama_perf_context_data p = llama_perf_context(ctx);
        say("%d %d", p.t_p_eval_ms > 0, p.t_eval_ms > 0);
        llama_perf_context_reset(ctx);
        say_counts(ctx);
    }
    say("%d", llama_context_default_params().no_perf);
}

LINE(loading_ends_with_the_first_token, "t_load_ms is fixed at the first decode.") {
    struct llama_context_params params = small();
    params.no_perf = false;
    struct llama_context *ctx = start(load("llama.gguf"), params);
    feed(ctx, 0, 0, 4), llama_synchronize(ctx);
    const double first = llama_perf_context(ctx).t_load_ms;
    feed(ctx, 0, 4, 4), llama_synchronize(ctx);
    say("%d %d", first > 0, llama_perf_context(ctx).t_load_ms == first);
}

/* ---- log ---- */

static void other_log(enum ggml_log_level level, const char *text, void *data) {
    (void)level, (void)text, (void)data;
}

LINE(the_log_is_given_back, "llama_log_get returns what was set; NULL restores a default.") {
    ggml_log_callback callback = NULL;
    void *data = NULL;
    llama_log_set(other_log, &n_steps);
    llama_log_get(&callback, &data);
    say("%d %d", callback == other_log, data == &n_steps);
    llama_log_set(NULL, NULL);
    llama_log_get(&callback, &data);
    say("%d %d", !!callback, data == NULL);
}

/* ---- adapters ---- */

static struct llama_adapter_lora *adapter(struct llama_model *model) {
    struct llama_adapter_lora *lora = llama_adapter_lora_init(model, file(models, "lora.gguf"));
    if (!lora) broken("adapter");
    return lora;
}

static bool differs(struct llama_context *ctx, float *before) {
    llama_memory_clear(llama_get_memory(ctx), true);
    if (feed(ctx, 0, 0, 4)) broken("decode");
    const float *now = llama_get_logits_ith(ctx, -1);
    const bool other = memcmp(before, now, 96 * sizeof(float)) != 0;
    memcpy(before, now, 96 * sizeof(float));
    return other;
}

LINE(adapters_are_a_set, "set_adapters_lora replaces the whole set; none clears it.") {
    struct llama_model *model = load("llama.gguf");
    struct llama_context *ctx = start(model, small());
    struct llama_adapter_lora *lora = adapter(model);
    float logits[96] = {0}, one = 1, none = 0;
    differs(ctx, logits);
    say("%d", llama_set_adapters_lora(ctx, &lora, 1, &one));
    say("%d", differs(ctx, logits));
    say("%d", llama_set_adapters_lora(ctx, &lora, 1, &one));
    say("%d", differs(ctx, logits));
    say("%d", llama_set_adapters_lora(ctx, NULL, 0, NULL));
    say("%d", differs(ctx, logits));
    say("%d", llama_set_adapters_lora(ctx, &lora, 1, &none));
    say("%d", differs(ctx, logits));
}

LINE(adapters_that_do_not_fit, "An adapter of another model, a missing file, no adapter: NULL.") {
    struct llama_model *model = load("llama.gguf");
    say("%d", !llama_adapter_lora_init(load("window.gguf"), file(models, "lora.gguf")));
    say("%d", !llama_adapter_lora_init(model, file(models, "missing.gguf")));
    say("%d", !llama_adapter_lora_init(model, file(models, "llama.gguf")));
}

LINE(adapters_go_with_the_model, "Adapters are freed with their model.") {
    struct llama_model *model = load("llama.gguf");
    adapter(model);
    llama_model_free(model);
    say("fine");
}

LINE(metadata_of_adapters, "meta_val_str and by index of an adapter.") {
    struct llama_adapter_lora *lora = adapter(load("llama.gguf"));
    char text[64] = "unset";
    say("%d'%s'", llama_adapter_meta_val_str(lora, "adapter.type", text, sizeof text), text);
    strcpy(text, "unset");
    say("%d'%s'", llama_adapter_meta_val_str(lora, "nothing", text, sizeof text), text);
    say("%d", llama_adapter_meta_key_by_index(lora, 99, text, sizeof text));
    say("%llu", (unsigned long long)llama_adapter_get_alora_n_invocation_tokens(lora));
}

LINE(control_vectors, "set_adapter_cvec: NULL clears; a wrong width is refused.") {
    struct llama_context *ctx = plain();
    float logits[96] = {0}, vector[2 * 64];
    for (int i = 0; i < 128; i++) vector[i] = (float)(i % 5) / 5;
    differs(ctx, logits);
    say("%d", llama_set_adapter_cvec(ctx, vector, 128, 64, 1, 2));
    say("%d", differs(ctx, logits));
    say("%d", llama_set_adapter_cvec(ctx, NULL, 0, 0, 0, 0));
    say("%d", differs(ctx, logits));
    say("%d", llama_set_adapter_cvec(ctx, vector, 128, 32, 1, 2) != 0);
}

/* ---- quantising ---- */

LINE(quantising, "llama_model_quantize: 0 when it worked, 1 when not.") {
    struct llama_model_quantize_params params = llama_model_quantize_default_params();
    params.ftype = LLAMA_FTYPE_MOSTLY_Q8_0;
    params.nthread = 1;
    params.allow_requantize = true;
    const char *out = file(scratch, "q8_0.gguf");
    say("%u", llama_model_quantize(file(models, "llama.gguf"), out, &params));
    say("%d", !!llama_model_load_from_file(out, llama_model_default_params()));
    say("%u", llama_model_quantize(file(models, "missing.gguf"), out, &params));
    params.ftype = (enum llama_ftype)5;
    say("%u", llama_model_quantize(file(models, "llama.gguf"), out, &params));
}

/* ---- sampling inside of the context ---- */

static struct llama_sampler *chain_of(struct llama_sampler *last) {
    struct llama_sampler *chain = llama_sampler_chain_init(llama_sampler_chain_default_params());
    llama_sampler_chain_add(chain, llama_sampler_init_top_k(5));
    if (last) llama_sampler_chain_add(chain, last);
    return chain;
}

LINE(contexts_sample, "set_sampler: decode leaves the token that the chain took, sample returns it.") {
    struct llama_context *ctx = plain();
    struct llama_sampler *chain = llama_sampler_chain_init(llama_sampler_chain_default_params());
    llama_sampler_chain_add(chain, llama_sampler_init_greedy());
    feed(ctx, 0, 0, 4);
    const llama_token expected = llama_sampler_sample(chain, ctx, -1);
    llama_memory_clear(llama_get_memory(ctx), true);
    say("%d", llama_set_sampler(ctx, 0, chain));
    feed(ctx, 0, 0, 4);
    say("%d %d", llama_get_sampled_token_ith(ctx, -1) == expected,
        llama_sampler_sample(chain, ctx, -1) == expected);
    say("%d", llama_set_sampler(ctx, 0, NULL));
    llama_memory_clear(llama_get_memory(ctx), true);
    feed(ctx, 0, 0, 4);
    say("%d", llama_get_sampled_token_ith(ctx, -1));
}

LINE(only_chains_sample_in_contexts, "set_sampler of something that is no chain, of an empty chain, of NULL.") {
    struct llama_context *ctx = plain();
    say("%d", llama_set_sampler(ctx, 0, llama_sampler_chain_init(llama_sampler_chain_default_params())));
    say("%d", llama_set_sampler(ctx, 0, NULL));
    say("%d", llama_set_sampler(ctx, 5, NULL));
}

LINE(dice_in_contexts, "A chain that ends with dist samples in the context; what is told beside it.") {
    struct llama_context *ctx = plain();
    struct llama_sampler *chain = chain_of(llama_sampler_init_dist(42));
    say("%d", llama_set_sampler(ctx, 0, chain));
    feed(ctx, 0, 0, 4);
    const llama_token token = llama_get_sampled_token_ith(ctx, -1);
    say("%d", token >= 0 && token < 96);
    const uint32_t n = llama_get_sampled_candidates_count_ith(ctx, -1);
    const llama_token *ids = llama_get_sampled_candidates_ith(ctx, -1);
    const float *probs = llama_get_sampled_probs_ith(ctx, -1);
    say("%u %u %u", n, llama_get_sampled_probs_count_ith(ctx, -1),
        llama_get_sampled_logits_count_ith(ctx, -1));
    float sum = 0;
    bool there = false;
    for (uint32_t i = 0; i < n; i++) {
        sum += probs ? probs[i] : 0;
        there |= ids[i] == token;
    }
    say("%d %d", there, fabsf(sum - 1) < 1e-3f);
}

LINE(samplers_given_at_the_start, "context_params.samplers does the same for its sequences.") {
    struct llama_sampler *chain = chain_of(llama_sampler_init_greedy());
    struct llama_sampler_seq_config config = {0, chain};
    struct llama_context_params params = small();
    params.samplers = &config;
    params.n_samplers = 1;
    struct llama_context *ctx = start(load("llama.gguf"), params);
    feed(ctx, 0, 0, 4);
    say("%d", llama_get_sampled_token_ith(ctx, -1) >= 0);
}

LINE(chains_that_choose_nothing, "A chain without a choice leaves what it filtered; sample goes on with it.") {
    struct llama_context *ctx = plain();
    struct llama_sampler *chain = chain_of(NULL);
    say("%d", llama_set_sampler(ctx, 0, chain));
    feed(ctx, 0, 0, 4);
    say("%d %d", llama_get_sampled_token_ith(ctx, -1), !!llama_get_sampled_logits_ith(ctx, -1));
    say("%u %u", llama_get_sampled_logits_count_ith(ctx, -1),
        llama_get_sampled_candidates_count_ith(ctx, -1));
}

LINE(too_many_outputs_to_sample, "More outputs of a sequence than n_outputs_max_per_seq, with a sampler.") {
    struct llama_context *ctx = plain();
    llama_set_sampler(ctx, 0, chain_of(llama_sampler_init_greedy()));
    struct llama_batch b = llama_batch_init(2, 0, 1);
    for (int i = 0; i < 2; i++)
        b.token[i] = 5, b.pos[i] = i, b.n_seq_id[i] = 1, b.seq_id[i][0] = 0, b.logits[i] = 1;
    b.n_tokens = 2;
    say("%d", llama_decode(ctx, b));
    say_range(ctx, 0);
}
