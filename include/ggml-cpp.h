// Owning pointers for the handles of ggml, for C++.
#pragma once

#ifndef __cplusplus
#    error "ggml-cpp.h needs a C++ compiler"
#endif

#include <memory>

#include "ggml-alloc.h"
#include "ggml-backend.h"
#include "ggml.h"
#include "gguf.h"

struct ggml_context_deleter {
    void operator()(ggml_context * ctx) { ggml_free(ctx); }
};
struct gguf_context_deleter {
    void operator()(gguf_context * ctx) { gguf_free(ctx); }
};
struct ggml_backend_deleter {
    void operator()(ggml_backend_t backend) { ggml_backend_free(backend); }
};
struct ggml_backend_buffer_deleter {
    void operator()(ggml_backend_buffer_t buffer) { ggml_backend_buffer_free(buffer); }
};

typedef std::unique_ptr<ggml_context, ggml_context_deleter> ggml_context_ptr;
typedef std::unique_ptr<gguf_context, gguf_context_deleter> gguf_context_ptr;
typedef std::unique_ptr<ggml_backend, ggml_backend_deleter> ggml_backend_ptr;
typedef std::unique_ptr<ggml_backend_buffer, ggml_backend_buffer_deleter> ggml_backend_buffer_ptr;
