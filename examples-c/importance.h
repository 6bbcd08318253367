/* Importance matrices: for each tensor, how much the error of each of its columns counts. */
#ifndef POWERINFER_EXAMPLES_IMPORTANCE_H
#define POWERINFER_EXAMPLES_IMPORTANCE_H

#include "common.h"

/* What met the columns of one tensor. */
struct importance {
    char *name;
    double *sums;    /* of squares; of a tensor with experts a row for each of them */
    int64_t *counts; /* of the tokens in each row; one for all where there are no experts */
    size_t n_sums, n_counts;
};

/* Start from {0}. */
struct importances {
    struct importance *entries;
    size_t n;
    char **datasets; /* files whose texts were counted; what is known of them */
    size_t n_datasets;
    int64_t n_chunks; /* pieces of the texts; 0 when the file does not say */
    bool old;         /* read from the old format, whose counts are of calls and not of tokens */
};

/* The entry of this name, new and empty when there was none. Dies when the old one has another
 * number of sums. More counts than it has, as other files know of experts, begin as its first. */
struct importance *importances_entry(struct importances *all, const char *name, size_t n_sums,
                                     size_t n_counts);

/* Reads a file of `imatrix`: GGUF, or the old format. Dies when it is none. `all` is empty. */
void importances_load(struct importances *all, const char *path);

/* Adds what another file counted. A call of the old format is chunk_size tokens. */
void importances_add(struct importances *all, const struct importances *more, int64_t chunk_size);

/* Notes the name of a text that is counted. */
void importances_add_dataset(struct importances *all, const char *name);

/* The most tokens that any tensor met, in chunks. */
int64_t importances_chunks(const struct importances *all, int64_t chunk_size);

/* Writes a file: GGUF or the old format. It has its name only when it is whole. */
void importances_save(const struct importances *all, const char *path, int64_t chunk_size, bool old);

/* Leaves only entries whose names contain one of `include` (if there are any), and none of
 * `exclude`. */
void importances_select(struct importances *all, const struct names *include,
                        const struct names *exclude);

/* Means of the squares, as llama_model_quantize wants them: a list that ends with an entry without a
 * name. The names stay those of `all`. */
struct llama_model_imatrix_data *importances_means(const struct importances *all);
void means_free(struct llama_model_imatrix_data *means);

void importances_free(struct importances *all);

#endif
