// The C++ functions of llama-ext.h that are more than an answer "none": what a context's memory is
// for, as a std::map by value, and the table of token embeddings.
//
//   extended MODEL
#include "llama.h"

#include <cstdio>
#include <map>
#include <vector>

struct llama_memory_breakdown_data {
    size_t model = 0, context = 0, compute = 0;
};
using llama_memory_breakdown = std::map<ggml_backend_buffer_type_t, llama_memory_breakdown_data>;
llama_memory_breakdown llama_get_memory_breakdown(const llama_context * ctx);
uint32_t llama_model_get_tok_embd(const llama_model * model, float * out);

static void quiet(ggml_log_level, const char *, void *) {}

int main(int argc, char ** argv) {
    if (argc != 2) return 2;
    llama_log_set(quiet, nullptr);
    llama_model * model = llama_model_load_from_file(argv[1], llama_model_default_params());
    if (!model) return 1;
    llama_context * ctx = llama_init_from_model(model, llama_context_default_params());
    if (!ctx) return 1;

    llama_memory_breakdown memory = llama_get_memory_breakdown(ctx);
    for (const auto & [type, bytes] : memory)
        std::printf("%s: %d %d\n", ggml_backend_buft_name(type),
                    bytes.model == llama_model_size(model), bytes.context > 0);
    memory[nullptr] = {1, 2, 3};
    memory = llama_get_memory_breakdown(ctx);
    std::printf("%zu %zu\n", memory.size(), llama_get_memory_breakdown(nullptr).size());

    std::vector<float> table(llama_model_get_tok_embd(model, nullptr));
    std::printf("%zu %u\n", table.size(), llama_model_get_tok_embd(model, table.data()));
    float sum = 0;
    for (float x : table) sum += x * x;
    std::printf("%d\n", sum > 0 && llama_model_get_tok_embd(nullptr, nullptr) == 0);
    llama_free(ctx);
    llama_model_free(model);
}
