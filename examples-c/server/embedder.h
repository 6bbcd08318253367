// Texts as vectors: a context of its own, made when the first text comes, on the engine's thread
// between two steps.
#pragma once

#include "vocabulary.h"

#include "llama.h"

#include <vector>

class embedder {
public:
    embedder(llama_model *of, enum llama_pooling_type how, int64_t n_threads, int64_t most)
        : model(of), pooling(how), threads(n_threads), n_ctx_most(most) {}
    ~embedder() { llama_free(ctx); }
    embedder(const embedder &) = delete;
    embedder &operator=(const embedder &) = delete;

    // The vector of a text, not normalised; a fault when it is too long. Only on one thread.
    std::vector<float> embed(const token_list &list);

private:
    void open();

    llama_model *model;
    enum llama_pooling_type pooling;
    int64_t threads, n_ctx_most;
    llama_context *ctx = nullptr;
};

// Scales a vector to length 1, or by another norm as llama.cpp's --embd-normalize has it: -1 none,
// 0 the greatest is 32760, 1 sum of sizes, 2 Euclid, p the p-norm.
void normalize(std::vector<float> &vector, int64_t how);
