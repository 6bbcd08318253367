/* Tests that a model takes by how likely it holds answers: HellaSwag, Winogrande, multiple choice. */
#ifndef POWERINFER_EXAMPLES_TASKS_H
#define POWERINFER_EXAMPLES_TASKS_H

#include "chunks.h"

struct task_options {
    struct llama_context_params params; /* threads, types of the cache, ... */
    int64_t n_batch;                    /* no task needs more tokens */
    int64_t n_tasks;                    /* 0: all */
    bool json;
};

/* Each reads its tasks from the text, which it may change, asks the model, and prints a line for each
 * task and a result. The tasks are those that llama.cpp picks, in its order. */

/* Six lines each: a story, the number of the right ending (0 to 3), four endings. */
void hellaswag(struct llama_model *model, const struct task_options *options, struct text *text);

/* A line each: number, sentence with a _, two words for it, which is right (1 or 2), between commas. */
void winogrande(struct llama_model *model, const struct task_options *options, struct text *text);

/* Binary, as the data sets for llama.cpp have it: questions with answers, of which one is right. */
void multiple_choice(struct llama_model *model, const struct task_options *options, struct text *text);

#endif
