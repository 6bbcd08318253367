/* Importance matrices: for each tensor, how much the error of each of its columns counts. */
#ifndef POWERINFER_EXAMPLES_IMATRIX_H
#define POWERINFER_EXAMPLES_IMATRIX_H

#include "common.h"

/* Start from {0}. */
struct imatrix {
    /* n of them, and behind them one without a name, as llama_model_quantize wants it. */
    struct llama_model_imatrix_data *entries;
    size_t n;
    char *dataset;    /* the text that they were counted on; NULL when the file does not say */
    int64_t n_chunks; /* pieces of that text; 0 when the file does not say */
};

/* Reads a file of llama.cpp's `imatrix`: GGUF, or its old format. Dies when it is none. */
void imatrix_load(struct imatrix *all, const char *path);

/* Leaves only entries whose names contain one of `include` (if there are any), and none of
 * `exclude`. */
void imatrix_select(struct imatrix *all, const struct names *include, const struct names *exclude);

void imatrix_free(struct imatrix *all);

#endif
