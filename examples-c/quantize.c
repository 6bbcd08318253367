/* Writes a model in smaller number formats.
 *
 *   quantize -m model-F16.gguf -o model-Q4_K_M.gguf -q Q4_K_M
 *   quantize -m model-F16.gguf -q Q4_K_M --dry-run            how large would it be?
 *   quantize -m sparse.gguf -o out.gguf -q Q4_0 --tensor-types 'fc[12].weight=q5_0'
 *
 * The last line also changes the predictors of a sparse model, which keep their type otherwise. */
#include "common.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

static const struct {
    const char *name;
    enum llama_ftype ftype;
} mixes[] = {
    {"F32", LLAMA_FTYPE_ALL_F32},           {"F16", LLAMA_FTYPE_MOSTLY_F16},
    {"BF16", LLAMA_FTYPE_MOSTLY_BF16},      {"Q8_0", LLAMA_FTYPE_MOSTLY_Q8_0},
    {"Q6_K", LLAMA_FTYPE_MOSTLY_Q6_K},      {"Q5_K_M", LLAMA_FTYPE_MOSTLY_Q5_K_M},
    {"Q5_K_S", LLAMA_FTYPE_MOSTLY_Q5_K_S},  {"Q5_1", LLAMA_FTYPE_MOSTLY_Q5_1},
    {"Q5_0", LLAMA_FTYPE_MOSTLY_Q5_0},      {"Q4_K_M", LLAMA_FTYPE_MOSTLY_Q4_K_M},
    {"Q4_K_S", LLAMA_FTYPE_MOSTLY_Q4_K_S},  {"Q4_1", LLAMA_FTYPE_MOSTLY_Q4_1},
    {"Q4_0", LLAMA_FTYPE_MOSTLY_Q4_0},      {"IQ4_NL", LLAMA_FTYPE_MOSTLY_IQ4_NL},
    {"IQ4_XS", LLAMA_FTYPE_MOSTLY_IQ4_XS},  {"MXFP4_MOE", LLAMA_FTYPE_MOSTLY_MXFP4_MOE},
    {"Q3_K_L", LLAMA_FTYPE_MOSTLY_Q3_K_L},  {"Q3_K_M", LLAMA_FTYPE_MOSTLY_Q3_K_M},
    {"Q3_K_S", LLAMA_FTYPE_MOSTLY_Q3_K_S},  {"IQ3_M", LLAMA_FTYPE_MOSTLY_IQ3_M},
    {"IQ3_S", LLAMA_FTYPE_MOSTLY_IQ3_S},    {"Q2_K", LLAMA_FTYPE_MOSTLY_Q2_K},
    {"TQ2_0", LLAMA_FTYPE_MOSTLY_TQ2_0},    {"TQ1_0", LLAMA_FTYPE_MOSTLY_TQ1_0},
};

static enum llama_ftype mix_named(const char *name) {
    for (size_t i = 0; i < sizeof mixes / sizeof *mixes; i++)
        if (strcasecmp(mixes[i].name, name) == 0) return mixes[i].ftype;
    struct text names = {0};
    for (size_t i = 0; i < sizeof mixes / sizeof *mixes; i++) {
        text_add(&names, " ", 1);
        text_add(&names, mixes[i].name, strlen(mixes[i].name));
    }
    die("-q: '%s' is none of%s", name, names.data);
}

static enum ggml_type type_named(const char *name) {
    for (int type = 0; type < GGML_TYPE_COUNT; type++) {
        const char *known = ggml_type_name((enum ggml_type)type);
        if (known && strcasecmp(known, name) == 0) return (enum ggml_type)type;
    }
    die("'%s' is no type of tensors", name);
}

/* "PATTERN=TYPE PATTERN=TYPE": cuts the text up where it is. */
static struct llama_model_tensor_override *overrides(char *text) {
    struct llama_model_tensor_override *list = xrealloc(NULL, sizeof *list);
    size_t n = 0;
    for (char *one = strtok(text, " "); one; one = strtok(NULL, " ")) {
        char *type = strrchr(one, '=');
        if (!type) die("--tensor-types: '%s' is not PATTERN=TYPE", one);
        *type++ = '\0';
        list = xrealloc(list, (n + 2) * sizeof *list);
        list[n].pattern = one;
        list[n++].type = type_named(type);
    }
    list[n].pattern = NULL;
    return list;
}

/* "0,3,7" */
static int32_t *layers(const char *text) {
    int32_t *list = xrealloc(NULL, (strlen(text) + 2) * sizeof *list);
    size_t n = 0;
    for (const char *at = text; *at;) {
        char *end;
        long layer = strtol(at, &end, 10);
        if (end == at || (*end && *end != ',') || layer < 0 || layer > INT32_MAX)
            die("--prune-layers: '%s' is not a list of layers such as 0,3,7", text);
        list[n++] = (int32_t)layer;
        at = *end ? end + 1 : end;
    }
    list[n] = -1;
    return list;
}

int main(int argc, char **argv) {
    const char *input = NULL, *output = NULL, *mix = NULL;
    const char *output_type = NULL, *embedding_type = NULL, *types = NULL, *prune = NULL;
    int64_t threads = 0;
    bool requantize = false, keep_output = false, pure = false, copy = false;
    bool split = false, dry_run = false, quiet = false;
    const struct flag flags[] = {
        {FLAG_STRING, {"-m", "--model"}, "FILE", &input, "the model, a GGUF file", 0, 0},
        {FLAG_STRING, {"-o", "--output"}, "FILE", &output, "the new model", 0, 0},
        {FLAG_STRING, {"-q", "--type"}, "NAME", &mix, "what it becomes: Q4_K_M, Q8_0, ...", 0, 0},
        {FLAG_INT, {"-t", "--threads"}, "N", &threads, "threads, 0 for all", 0, 512},
        {FLAG_BOOL, {"--allow-requantize"}, 0, &requantize, "also from quantised tensors", 0, 0},
        {FLAG_BOOL, {"--leave-output-tensor"}, 0, &keep_output, "do not change output.weight", 0, 0},
        {FLAG_BOOL, {"--pure"}, 0, &pure, "one type for all tensors", 0, 0},
        {FLAG_BOOL, {"--copy"}, 0, &copy, "change no tensor", 0, 0},
        {FLAG_STRING, {"--output-tensor-type"}, "TYPE", &output_type, "type of output.weight", 0, 0},
        {FLAG_STRING, {"--token-embedding-type"}, "TYPE", &embedding_type, "type of embeddings", 0, 0},
        {FLAG_STRING, {"--tensor-types"}, "LIST", &types, "'PATTERN=TYPE PATTERN=TYPE ...'", 0, 0},
        {FLAG_STRING, {"--prune-layers"}, "LIST", &prune, "layers to leave out: 0,3,7", 0, 0},
        {FLAG_BOOL, {"--keep-split"}, 0, &split, "as many files as the model has", 0, 0},
        {FLAG_BOOL, {"--dry-run"}, 0, &dry_run, "write nothing, show sizes", 0, 0},
        {FLAG_BOOL, {"--quiet"}, 0, &quiet, "say nothing but warnings", 0, 0},
    };
    parse_flags(argc, argv, "-m FILE -o FILE -q NAME: writes a model in smaller number formats", flags,
                sizeof flags / sizeof *flags, NULL);
    if (!input) die("give a model with -m");
    if (!output && !dry_run) die("give the new model's name with -o, or --dry-run");
    if (!mix && !copy) die("say what the model becomes with -q, or --copy");

    log_init(!quiet);
    struct llama_model_quantize_params params = llama_model_quantize_default_params();
    params.nthread = (int32_t)threads;
    if (mix) params.ftype = mix_named(mix);
    if (output_type) params.output_tensor_type = type_named(output_type);
    if (embedding_type) params.token_embedding_type = type_named(embedding_type);
    params.allow_requantize = requantize;
    params.quantize_output_tensor = !keep_output;
    params.only_copy = copy;
    params.pure = pure;
    params.keep_split = split;
    params.dry_run = dry_run;
    struct text patterns = {0};
    struct llama_model_tensor_override *overridden = NULL;
    if (types) {
        text_add(&patterns, types, strlen(types));
        params.tt_overrides = overridden = overrides(patterns.data);
    }
    int32_t *pruned = prune ? layers(prune) : NULL;
    params.prune_layers = pruned;

    double start = now_ms();
    if (llama_model_quantize(input, output ? output : "", &params) != 0)
        die_with_reason("cannot quantize %s", input);
    if (!quiet) note("%.1f s", (now_ms() - start) / 1000);
    free(overridden);
    free(pruned);
    text_free(&patterns);
    return 0;
}
