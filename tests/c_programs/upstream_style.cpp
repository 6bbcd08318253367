// Uses the library as llama.cpp's own programs do, in C++: owning pointers, vectors for batches, a
// chain of samplers, thread pools, an evaluation callback, times. upstream_style MODEL PROMPT
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "ggml-cpp.h"
#include "llama-cpp.h"

#define REQUIRE(x)                                            \
    do {                                                      \
        if (!(x)) {                                           \
            fprintf(stderr, "line %d: %s\n", __LINE__, #x);   \
            exit(1);                                          \
        }                                                     \
    } while (0)

// What imatrix keeps: sums of squares of what each weight is multiplied with.
struct Collector {
    std::map<std::string, std::vector<float>> sums;
    std::map<std::string, int> counts;
    int n_nodes = 0;
    bool asked = false;

    bool on_node(const ggml_tensor * t, bool ask) {
        if (ask) {
            asked = true;
            return t->op == GGML_OP_MUL_MAT && strncmp(t->src[0]->name, "blk.", 4) == 0;
        }
        REQUIRE(asked);
        const ggml_tensor * x = t->src[1];
        REQUIRE(x->type == GGML_TYPE_F32 && x->nb[0] == sizeof(float));
        REQUIRE(t->ne[0] == t->src[0]->ne[1] && t->ne[1] == x->ne[1]);
        REQUIRE(ggml_backend_buffer_is_host(t->buffer));
        std::vector<float> copy(ggml_nbytes(x) / sizeof(float));
        ggml_backend_tensor_get(x, copy.data(), 0, ggml_nbytes(x));
        REQUIRE(memcmp(copy.data(), x->data, ggml_nbytes(x)) == 0);
        auto & sum = sums[t->src[0]->name];
        sum.resize(static_cast<size_t>(x->ne[0]));
        for (size_t i = 0; i < copy.size(); i++) sum[i % sum.size()] += copy[i] * copy[i];
        counts[t->src[0]->name] += static_cast<int>(x->ne[1]);
        n_nodes++;
        return true;
    }
};

static bool on_node(ggml_tensor * t, bool ask, void * data) {
    return static_cast<Collector *>(data)->on_node(t, ask);
}

static std::vector<llama_token> tokenize(const llama_vocab * vocab, const std::string & text) {
    const auto length = static_cast<int32_t>(text.size());
    const int32_t n = -llama_tokenize(vocab, text.data(), length, nullptr, 0, true, true);
    std::vector<llama_token> tokens(static_cast<size_t>(n));
    REQUIRE(llama_tokenize(vocab, text.data(), length, tokens.data(), n, true, true) == n);
    return tokens;
}

static std::string piece_of(const llama_vocab * vocab, llama_token token) {
    std::string piece(16, '\0');
    int32_t n = llama_token_to_piece(vocab, token, &piece[0], static_cast<int32_t>(piece.size()), 0, true);
    if (n < 0) {
        piece.resize(static_cast<size_t>(-n));
        n = llama_token_to_piece(vocab, token, &piece[0], static_cast<int32_t>(piece.size()), 0, true);
    }
    piece.resize(static_cast<size_t>(n));
    return piece;
}

static llama_sampler_ptr make_chain(uint32_t seed, float temp) {
    llama_sampler_chain_params params = llama_sampler_chain_default_params();
    params.no_perf = false;
    llama_sampler_ptr chain(llama_sampler_chain_init(params));
    llama_sampler_chain_add(chain.get(), llama_sampler_init_top_k(40));
    llama_sampler_chain_add(chain.get(), llama_sampler_init_top_p(0.95f, 1));
    llama_sampler_chain_add(chain.get(), llama_sampler_init_min_p(0.05f, 1));
    llama_sampler_chain_add(chain.get(), llama_sampler_init_temp(temp));
    llama_sampler_chain_add(chain.get(), llama_sampler_init_dist(seed));
    return chain;
}

static std::string generate(llama_context * ctx, std::vector<llama_token> tokens, llama_sampler * chain, int n) {
    const llama_vocab * vocab = llama_model_get_vocab(llama_get_model(ctx));
    llama_memory_clear(llama_get_memory(ctx), true);
    std::string text;
    llama_batch batch = llama_batch_get_one(tokens.data(), static_cast<int32_t>(tokens.size()));
    for (int i = 0; i < n; i++) {
        REQUIRE(llama_decode(ctx, batch) == 0);
        llama_token token = llama_sampler_sample(chain, ctx, -1);
        if (llama_vocab_is_eog(vocab, token)) break;
        text += piece_of(vocab, token);
        tokens.assign(1, token);
        batch = llama_batch_get_one(tokens.data(), 1);
    }
    return text;
}

int main(int argc, char ** argv) {
    REQUIRE(argc == 3);
    // The program's own lines only; perf lines come through here too.
    static std::string log;
    llama_log_set([](ggml_log_level, const char * text, void *) { log += text; }, nullptr);
    ggml_backend_load_all();
    llama_backend_init();
    llama_numa_init(GGML_NUMA_STRATEGY_DISABLED);
    const int64_t start = ggml_time_us();

    llama_model_ptr model(llama_model_load_from_file(argv[1], llama_model_default_params()));
    REQUIRE(model);
    const std::vector<llama_token> prompt = tokenize(llama_model_get_vocab(model.get()), argv[2]);

    llama_context_params params = llama_context_default_params();
    params.n_ctx = 512;
    params.n_threads = params.n_threads_batch = 1;
    params.no_perf = false;
    llama_context_ptr plain(llama_init_from_model(model.get(), params));
    Collector collector;
    params.cb_eval = on_node;
    params.cb_eval_user_data = &collector;
    llama_context_ptr watched(llama_init_from_model(model.get(), params));
    REQUIRE(plain && watched);

    // The same text with a thread pool of ours, and after it is gone.
    const std::string text = generate(plain.get(), prompt, make_chain(7, 0.8f).get(), 16);
    ggml_threadpool_params pool_params = ggml_threadpool_params_default(2);
    ggml_threadpool * pool = ggml_threadpool_new(&pool_params);
    REQUIRE(pool && ggml_threadpool_params_match(&pool_params, &pool_params));
    llama_attach_threadpool(plain.get(), pool, nullptr);
    REQUIRE(generate(plain.get(), prompt, make_chain(7, 0.8f).get(), 16) == text);
    llama_detach_threadpool(plain.get());
    ggml_threadpool_free(pool);
    llama_sampler_ptr chain = make_chain(7, 0.8f);
    REQUIRE(generate(plain.get(), prompt, chain.get(), 16) == text);
    REQUIRE(!text.empty() && collector.n_nodes == 0);
    printf("%s\n", text.c_str());

    // Who looks on sees the products of every layer, with what goes into them.
    std::vector<llama_token> tokens = prompt;
    REQUIRE(llama_decode(watched.get(), llama_batch_get_one(tokens.data(), static_cast<int32_t>(tokens.size()))) == 0);
    REQUIRE(collector.n_nodes == 7 * llama_model_n_layer(model.get()));
    const std::string last = "blk." + std::to_string(llama_model_n_layer(model.get()) - 1) + ".";
    for (const auto & entry : collector.sums) {
        // Behind the last attention only the tokens that were asked for are computed.
        const bool all = entry.first.find(last) != 0 || entry.first.find("attn") != std::string::npos;
        REQUIRE(collector.counts[entry.first] == (all ? static_cast<int>(prompt.size()) : 1));
        for (float sum : entry.second) REQUIRE(std::isfinite(sum) && sum >= 0);
    }
    REQUIRE(collector.sums.at("blk.0.attn_q.weight") == collector.sums.at("blk.0.attn_k.weight"));

    // Two sequences that share a prompt, in one batch each step.
    params.cb_eval = nullptr;
    params.n_seq_max = 2;
    params.kv_unified = true;
    llama_context_ptr shared(llama_init_from_model(model.get(), params));
    REQUIRE(shared);
    llama_batch batch = llama_batch_init(static_cast<int32_t>(prompt.size()), 0, 2);
    for (size_t i = 0; i < prompt.size(); i++) {
        batch.token[i] = prompt[i];
        batch.pos[i] = static_cast<llama_pos>(i);
        batch.n_seq_id[i] = 2;
        batch.seq_id[i][0] = 0;
        batch.seq_id[i][1] = 1;
        batch.logits[i] = i + 1 == prompt.size();
    }
    batch.n_tokens = static_cast<int32_t>(prompt.size());
    REQUIRE(llama_decode(shared.get(), batch) == 0);
    llama_memory_t memory = llama_get_memory(shared.get());
    REQUIRE(llama_memory_seq_pos_max(memory, 1) == static_cast<llama_pos>(prompt.size()) - 1);
    REQUIRE(llama_memory_seq_rm(memory, 1, -1, -1) && llama_memory_seq_pos_max(memory, 1) == -1);
    llama_batch_free(batch);

    // tokenize loads a vocabulary alone, and makes a context over it.
    llama_model_params vocabulary_alone = llama_model_default_params();
    vocabulary_alone.vocab_only = true;
    llama_model_ptr vocabulary(llama_model_load_from_file(argv[1], vocabulary_alone));
    REQUIRE(vocabulary);
    llama_context_ptr idle(llama_init_from_model(vocabulary.get(), llama_context_default_params()));
    REQUIRE(idle && !llama_get_memory(idle.get()));
    REQUIRE(tokenize(llama_model_get_vocab(vocabulary.get()), argv[2]) == prompt);
    REQUIRE(llama_decode(idle.get(), llama_batch_get_one(tokens.data(), 1)) < 0);
    idle.reset();
    vocabulary.reset();

    llama_perf_context_print(plain.get());
    llama_perf_sampler_print(chain.get());
    REQUIRE(log.find("eval time") != std::string::npos && log.find("total time") != std::string::npos);
    REQUIRE(llama_perf_context(plain.get()).n_eval > 0 && ggml_time_us() > start);
    llama_log_set(nullptr, nullptr);
    shared.reset();
    watched.reset();
    plain.reset();
    model.reset();
    llama_backend_free();
    return 0;
}
