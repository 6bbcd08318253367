#include "embedder.h"

#include <algorithm>
#include <cmath>

void embedder::open() {
    llama_context_params params = llama_context_default_params();
    // A text is computed at once: pooling needs all of its tokens.
    auto most = static_cast<uint32_t>(std::min<int64_t>(n_ctx_most, llama_model_n_ctx_train(model)));
    params.n_ctx = params.n_batch = params.n_ubatch = most;
    params.n_threads = params.n_threads_batch = static_cast<int32_t>(threads);
    params.embeddings = true;
    params.pooling_type = pooling;
    forget_errors();
    ctx = llama_init_from_model(model, params);
    if (!ctx) throw fault(500, "server_error", "cannot make a context for embeddings: " + library_error());
    if (llama_pooling_type(ctx) != LLAMA_POOLING_TYPE_NONE) return;
    // A model that was made to write says nothing of pooling: the mean of its tokens.
    llama_free(ctx);
    params.pooling_type = LLAMA_POOLING_TYPE_MEAN;
    ctx = llama_init_from_model(model, params);
    if (!ctx) throw fault(500, "server_error", "cannot make a context for embeddings: " + library_error());
}

std::vector<float> embedder::embed(const token_list &list) {
    if (!ctx) open();
    if (list.empty()) throw fault::bad("the input is empty");
    if (list.size() > llama_n_batch(ctx))
        throw fault(400, "exceed_context_size_error",
                    "the input has " + std::to_string(list.size()) + " tokens, the most is " +
                        std::to_string(llama_n_batch(ctx)));
    llama_memory_t memory = llama_get_memory(ctx);
    if (memory) llama_memory_clear(memory, false);
    token_list copy = list;
    forget_errors();
    int32_t status = llama_decode(ctx, llama_batch_get_one(copy.data(), static_cast<int32_t>(copy.size())));
    const float *values = status == 0 ? llama_get_embeddings_seq(ctx, 0) : nullptr;
    if (!values) throw fault(500, "server_error", "the input cannot be embedded: " + library_error());
    return {values, values + llama_model_n_embd_out(model)};
}

void normalize(std::vector<float> &vector, int64_t how) {
    double norm = 0;
    if (how < 0) return;
    for (float value : vector) {
        double size = std::fabs(value);
        norm = how == 0 ? std::max(norm, size) : norm + std::pow(size, static_cast<double>(how));
    }
    if (how == 0) norm /= 32760.0;
    else if (how > 1) norm = std::pow(norm, 1.0 / static_cast<double>(how));
    if (norm > 0)
        for (float &value : vector) value = static_cast<float>(value / norm);
}
