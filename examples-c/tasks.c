#include "tasks.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- which tasks: neighbours in a file are alike, so some are picked at random ---- */

/* The Mersenne Twister of C++'s <random>, which llama.cpp uses with seed 1. */
struct twister {
    uint32_t state[624];
    size_t at;
};

static struct twister twister_new(uint32_t seed) {
    struct twister t = {.at = 624};
    t.state[0] = seed;
    for (uint32_t i = 1; i < 624; i++)
        t.state[i] = 1812433253U * (t.state[i - 1] ^ (t.state[i - 1] >> 30)) + i;
    return t;
}

static uint32_t twister_next(struct twister *t) {
    if (t->at == 624) {
        for (size_t i = 0; i < 624; i++) {
            const uint32_t y = (t->state[i] & 0x80000000U) | (t->state[(i + 1) % 624] & 0x7FFFFFFFU);
            t->state[i] = t->state[(i + 397) % 624] ^ (y >> 1) ^ (y & 1 ? 0x9908B0DFU : 0);
        }
        t->at = 0;
    }
    uint32_t y = t->state[t->at++];
    y ^= y >> 11;
    y ^= (y << 7) & 0x9D2C5680U;
    y ^= (y << 15) & 0xEFC60000U;
    return y ^ (y >> 18);
}

/* Below n, without a preference: by the upper half of a product. */
static uint32_t twister_below(struct twister *t, uint32_t n) {
    uint64_t product = (uint64_t)twister_next(t) * n;
    const uint32_t least = (uint32_t)-n % n;
    while ((uint32_t)product < least) product = (uint64_t)twister_next(t) * n;
    return (uint32_t)(product >> 32);
}

/* Numbers of the tasks to use. in_order: those that are left keep their order, and all are shuffled;
 * otherwise the last one takes the place of the one that goes, and all of them stay as they are. */
static size_t *pick(size_t n_all, size_t n, bool in_order) {
    struct twister random = twister_new(1);
    size_t *left = xrealloc(NULL, n_all * sizeof *left), *picked = xrealloc(NULL, n * sizeof *picked);
    for (size_t i = 0; i < n_all; i++) left[i] = i;
    for (size_t i = 0, n_left = n_all; i < n; i++) {
        size_t k = 0;
        if (in_order) k = twister_below(&random, (uint32_t)n_left);
        else if (n < n_all) /* in floats, as there */
            k = (size_t)(0x1p-32F * (float)twister_next(&random) * (float)n_left);
        if (k >= n_left) k = n_left - 1;
        picked[i] = in_order || n < n_all ? left[k] : i;
        n_left--;
        if (in_order) memmove(left + k, left + k + 1, (n_left - k) * sizeof *left);
        else left[k] = left[n_left];
    }
    free(left);
    return picked;
}

static size_t n_used(const struct task_options *o, size_t n_all) {
    return o->n_tasks && (size_t)o->n_tasks < n_all ? (size_t)o->n_tasks : n_all;
}

/* ---- how likely sentences are that begin alike ---- */

struct judge {
    struct llama_context *ctx;
    struct llama_batch batch;
    const struct llama_vocab *vocab;
    size_t most; /* sentences at once */
};

static struct judge judge_new(struct llama_model *model, const struct task_options *o, size_t most) {
    struct llama_context_params params = o->params;
    params.n_ctx = params.n_batch = (uint32_t)o->n_batch;
    params.n_seq_max = (uint32_t)most;
    params.kv_unified = true; /* sentences share their beginning */
    params.abort_callback = should_abort;
    log_forget();
    struct judge j = {.most = most, .vocab = llama_model_get_vocab(model)};
    j.ctx = llama_init_from_model(model, params);
    if (!j.ctx) die_with_reason("cannot make a context of %u tokens", params.n_ctx);
    j.batch = llama_batch_init((int32_t)llama_n_batch(j.ctx), 0, (int32_t)most);
    return j;
}

static void judge_free(struct judge *j) {
    llama_batch_free(j->batch);
    llama_free(j->ctx);
}

/* Tokens that all n sentences begin with; the last token of a sentence is always its own. */
static size_t common(const struct tokens *sentences, size_t n) {
    for (size_t k = 0;; k++)
        for (size_t s = 0; s < n; s++)
            if (k + 1 >= sentences[s].len || sentences[s].data[k] != sentences[0].data[k]) return k;
}

/* Decodes task number `task` (for messages), with logits before each token that is not in common. */
static size_t judge_read(struct judge *j, const struct tokens *sentences, size_t n, size_t task) {
    const size_t shared = common(sentences, n);
    size_t n_tokens = shared;
    for (size_t s = 0; s < n; s++) n_tokens += sentences[s].len - shared;
    if (!shared) die("task %zu has nothing before what is judged", task + 1);
    if (n_tokens > llama_n_batch(j->ctx))
        die("task %zu needs %zu tokens, a batch has %u (see -b)", task + 1, n_tokens, llama_n_batch(j->ctx));
    j->batch.n_tokens = 0;
    for (size_t i = 0; i < shared; i++) {
        batch_add(&j->batch, sentences[0].data[i], (llama_pos)i, 0, i + 1 == shared);
        j->batch.n_seq_id[i] = (int32_t)n;
        for (size_t s = 0; s < n; s++) j->batch.seq_id[i][s] = (llama_seq_id)s;
    }
    for (size_t s = 0; s < n; s++)
        for (size_t i = shared; i + 1 < sentences[s].len; i++)
            batch_add(&j->batch, sentences[s].data[i], (llama_pos)i, (llama_seq_id)s, true);
    llama_memory_clear(llama_get_memory(j->ctx), false);
    decode_batch(j->ctx, j->batch);
    return shared;
}

/* Mean log probability of the tokens from..to of sentence s, which judge_read has read. */
static double mean_log_p(const struct judge *j, const struct tokens *sentences, size_t s, size_t shared,
                         size_t from, size_t to) {
    const int32_t n_vocab = llama_vocab_n_tokens(j->vocab);
    size_t row = shared; /* the batch's row of the sentence's token `shared` */
    for (size_t i = 0; i < s; i++) row += sentences[i].len - 1 - shared;
    struct mean mean = {0};
    for (size_t i = from; i < to; i++) {
        const size_t at = i == shared ? shared - 1 : row + i - 1 - shared;
        const float *logits = llama_get_logits_ith(j->ctx, (int32_t)at);
        mean_add(&mean, (double)logits[sentences[s].data[i]] - log_sum_exp(logits, n_vocab));
    }
    return mean_of(&mean);
}

/* The sentence whose own tokens are likeliest. */
static size_t likeliest(struct judge *j, const struct tokens *sentences, size_t n, size_t task) {
    const size_t shared = judge_read(j, sentences, n, task);
    size_t best = 0;
    double most = -INFINITY;
    for (size_t s = 0; s < n; s++) {
        const double p = mean_log_p(j, sentences, s, shared, shared, sentences[s].len);
        if (p > most) best = s;
        most = p > most ? p : most;
    }
    return best;
}

static void tokenize(const struct judge *j, struct tokens *tokens, const struct text *text) {
    tokens->len = 0;
    tokens_add_text(tokens, j->vocab, text->data, text->len, true, false);
}

/* Replaces what is in `text` by the parts in a row; len[i] bytes of part i. */
static void put_together(struct text *text, size_t n, const char *const *parts, const size_t *len) {
    text->len = 0;
    for (size_t i = 0; i < n; i++) text_add(text, parts[i], len[i]);
}

static double standard_error(double share, size_t n) {
    return n > 1 ? sqrt(share * (1 - share) / (double)(n - 1)) : 0;
}

/* The text's lines, without line ends. */
static void split_lines(struct text *text, struct names *lines) {
    for (char *line = text->data; line && *line;) {
        char *end = strchr(line, '\n');
        if (end) *end = '\0';
        if (end && end > line && end[-1] == '\r') end[-1] = '\0';
        names_push(lines, line);
        line = end ? end + 1 : NULL;
    }
}

/* ---- HellaSwag ---- */

enum { N_ENDINGS = 4, N_LINES = 2 + N_ENDINGS };

/* Wilson's interval, of 95 %: good for few tasks and shares near 0 or 1 too. */
static void wilson(double share, double n, double *low, double *high) {
    const double za = 1.95996398454, z = za * za / n;
    const double half = z * sqrt(n * (4 * share * (1 - share) + z)) / (za + za);
    *low = (share + z * 0.5 - half) / (1 + z);
    *high = (share + z * 0.5 + half) / (1 + z);
}

void hellaswag(struct llama_model *model, const struct task_options *o, struct text *text) {
    struct names lines = {0};
    split_lines(text, &lines);
    if (!lines.len || lines.len % N_LINES)
        die("tasks have six lines each; the text has %zu lines", lines.len);
    const size_t n_tasks = n_used(o, lines.len / N_LINES);
    size_t *picked = pick(lines.len / N_LINES, n_tasks, true);
    struct judge j = judge_new(model, o, N_ENDINGS);
    struct tokens endings[N_ENDINGS] = {{0}};
    struct text whole = {0};
    size_t n_right = 0;
    double accuracy = 0, low = 0, high = 0;
    if (!o->json) puts("\ntask\tacc_norm\t95% confidence interval");
    for (size_t i = 0; i < n_tasks; i++) {
        const char *const *task = lines.data + picked[i] * N_LINES;
        const int right = task[1][0] - '0';
        if (right < 0 || right >= N_ENDINGS || task[1][1 + strspn(task[1] + 1, " ")])
            die("line %zu is the number of an ending, 0 to 3, not '%s'", picked[i] * N_LINES + 2, task[1]);
        for (int s = 0; s < N_ENDINGS; s++) {
            whole.len = 0;
            text_addf(&whole, "%s %s", task[0], task[2 + s]);
            tokenize(&j, &endings[s], &whole);
        }
        n_right += likeliest(&j, endings, N_ENDINGS, picked[i]) == (size_t)right;
        accuracy = (double)n_right / (double)(i + 1);
        wilson(accuracy, (double)(i + 1), &low, &high);
        if (o->json) progress("%zu of %zu tasks", i + 1, n_tasks);
        else
            printf("%zu\t%3.8f%%\t[%3.4f%%, %3.4f%%]\n", i + 1, 100 * accuracy, 100 * low, 100 * high);
        fflush(stdout);
    }
    progress_end();
    if (o->json)
        printf("{\"n_tasks\": %zu, \"acc_norm\": %.6f, \"low\": %.6f, \"high\": %.6f}\n", n_tasks,
               accuracy, low, high);
    for (int s = 0; s < N_ENDINGS; s++) tokens_free(&endings[s]);
    text_free(&whole);
    judge_free(&j);
    names_free(&lines);
    free(picked);
}

/* ---- Winogrande ---- */

/* Parts of a line; they are not terminated. */
struct gap {
    const char *part[4]; /* before the gap, after it, and the two words for it */
    size_t len[4];
    int right; /* 0 or 1 */
};

enum { BEFORE, AFTER, WORD };

/* Commas between double quotes do not end a field. A quoted sentence is used without its outer quotes. */
static struct gap read_gap(const char *line, size_t number) {
    const char *field[5], *end[5];
    int n = 0;
    bool quoted = false;
    field[0] = line;
    for (const char *at = line;; at++) {
        if (*at == '"') quoted = !quoted;
        if (*at && (quoted || *at != ',' || n == 4)) continue;
        end[n++] = at;
        if (!*at) break;
        field[n] = at + 1;
    }
    if (n != 5) die("line %zu has %d fields, not number, sentence, two words and 1 or 2", number, n);
    if (*field[1] == '"' && end[1] - field[1] >= 2) {
        field[1]++;
        end[1]--;
    }
    const char *gap = memchr(field[1], '_', (size_t)(end[1] - field[1]));
    if (!gap) die("line %zu has no _ in its sentence", number);
    const char *answer = field[4] + strspn(field[4], " ");
    if ((*answer != '1' && *answer != '2') || answer[1 + strspn(answer + 1, " ")])
        die("line %zu says 1 or 2 at its end, not '%s'", number, field[4]);
    return (struct gap){{field[1], gap + 1, field[2], field[3]},
                        {(size_t)(gap - field[1]), (size_t)(end[1] - gap - 1), (size_t)(end[2] - field[2]),
                         (size_t)(end[3] - field[3])},
                        *answer - '1'};
}

/* How likely both sentences are: by what follows the words, where there is enough of it, and without the
 * last token, which mostly is the full stop. */
static void judge_gap(struct judge *j, const struct gap *gap, size_t task, struct text *text,
                      struct tokens sentences[2], double scores[2]) {
    size_t n_before[2];
    for (int s = 0; s < 2; s++) {
        const char *const parts[] = {gap->part[BEFORE], gap->part[WORD + s], gap->part[AFTER]};
        const size_t len[] = {gap->len[BEFORE], gap->len[WORD + s], gap->len[AFTER]};
        put_together(text, 2, parts, len);
        tokenize(j, &sentences[s], text);
        n_before[s] = sentences[s].len;
        put_together(text, 3, parts, len);
        tokenize(j, &sentences[s], text);
    }
    const size_t shared = judge_read(j, sentences, 2, task);
    const bool enough = sentences[0].len > shared + 3 && sentences[1].len > shared + 3;
    for (int s = 0; s < 2; s++) {
        size_t from = enough ? n_before[s] : shared, len = sentences[s].len;
        if (from < shared) from = shared;
        if (from >= len) from = len - 1;
        if (len - from > 1) len--;
        scores[s] = mean_log_p(j, sentences, (size_t)s, shared, from, len);
    }
}

void winogrande(struct llama_model *model, const struct task_options *o, struct text *text) {
    struct names lines = {0};
    struct gap *gaps = NULL;
    size_t n_all = 0;
    split_lines(text, &lines);
    for (size_t i = 0; i < lines.len; i++) {
        if (!*lines.data[i]) continue;
        gaps = xrealloc(gaps, (n_all + 1) * sizeof *gaps);
        gaps[n_all++] = read_gap(lines.data[i], i + 1);
    }
    if (!n_all) die("there are no tasks in the text");
    const size_t n_tasks = n_used(o, n_all);
    size_t *picked = pick(n_all, n_tasks, false);
    struct judge j = judge_new(model, o, 2);
    struct tokens sentences[2] = {{0}};
    struct text whole = {0};
    size_t n_right = 0;
    for (size_t i = 0; i < n_tasks; i++) {
        const struct gap *gap = &gaps[picked[i]];
        double scores[2];
        judge_gap(&j, gap, picked[i], &whole, sentences, scores);
        const int said = scores[0] > scores[1] ? 0 : 1;
        n_right += said == gap->right;
        if (o->json) progress("%zu of %zu tasks", i + 1, n_tasks);
        else
            printf("%zu\t%.4f\t%10.6f  %10.6f  %d  %d\n", i + 1, 100 * (double)n_right / (double)(i + 1),
                   scores[0], scores[1], said + 1, gap->right + 1);
        fflush(stdout);
    }
    progress_end();
    const double share = (double)n_right / (double)n_tasks, error = standard_error(share, n_tasks);
    if (o->json) printf("{\"n_tasks\": %zu, \"acc\": %.6f, \"acc_error\": %.6f}\n", n_tasks, share, error);
    else printf("\nFinal Winogrande score(%zu tasks): %.4f +/- %.4f\n", n_tasks, 100 * share, 100 * error);
    for (int s = 0; s < 2; s++) tokens_free(&sentences[s]);
    text_free(&whole);
    judge_free(&j);
    names_free(&lines);
    free(gaps);
    free(picked);
}

/* ---- multiple choice ----
 *
 * Numbers have 32 bits, little-endian: the number of tasks, where each begins in the file, then the
 * tasks: a question, answers of which one is right, answers of which several are (not used here).
 * Answers are their number, their texts, and for each 1 if it is right, else 0. A text is its length
 * and its bytes. */

enum { MAX_ANSWERS = 100 };

struct reader {
    const struct text *text;
    size_t at, task;
};

static const char *take(struct reader *r, size_t n) {
    if (n > r->text->len - r->at) die("task %zu ends behind the end of the file", r->task + 1);
    r->at += n;
    return r->text->data + r->at - n;
}

static uint32_t take_number(struct reader *r) {
    uint32_t n;
    memcpy(&n, take(r, sizeof n), sizeof n);
    return n;
}

static const char *take_text(struct reader *r, size_t *len) {
    *len = take_number(r);
    return take(r, *len);
}

struct question {
    const char *part[1 + MAX_ANSWERS]; /* the question, its answers */
    size_t len[1 + MAX_ANSWERS], n_answers;
    bool right[MAX_ANSWERS];
};

static struct question read_question(const struct text *text, size_t task) {
    struct reader r = {text, 4 + 4 * task, task};
    struct question q = {0};
    r.at = take_number(&r);
    if (r.at > text->len) die("task %zu begins behind the end of the file", task + 1);
    q.part[0] = take_text(&r, &q.len[0]);
    q.n_answers = take_number(&r);
    if (!q.len[0] || !q.n_answers || q.n_answers > MAX_ANSWERS)
        die("task %zu has a question of %zu bytes and %zu answers", task + 1, q.len[0], q.n_answers);
    for (size_t i = 0; i < q.n_answers; i++) {
        q.part[1 + i] = take_text(&r, &q.len[1 + i]);
        if (!q.len[1 + i]) die("task %zu has an empty answer", task + 1);
    }
    for (size_t i = 0; i < q.n_answers; i++) q.right[i] = take_number(&r) == 1;
    return q;
}

void multiple_choice(struct llama_model *model, const struct task_options *o, struct text *text) {
    struct reader head = {text, 0, 0};
    const size_t n_all = take_number(&head);
    if (!n_all || n_all > (text->len - 4) / 4)
        die("the file has no multiple-choice tasks (%zu in %zu bytes)", n_all, text->len);
    const size_t n_tasks = n_used(o, n_all);
    size_t *picked = pick(n_all, n_tasks, false), n_most = 0;
    for (size_t i = 0; i < n_tasks; i++) {
        const struct question q = read_question(text, picked[i]);
        n_most = q.n_answers > n_most ? q.n_answers : n_most;
    }
    struct judge j = judge_new(model, o, n_most);
    struct tokens *answers = xrealloc(NULL, n_most * sizeof *answers);
    for (size_t s = 0; s < n_most; s++) answers[s] = (struct tokens){0};
    struct text whole = {0};
    size_t n_right = 0, n_answers = 0;
    if (!o->json) puts("\ntask\tacc_norm");
    for (size_t i = 0; i < n_tasks; i++) {
        const struct question q = read_question(text, picked[i]);
        for (size_t s = 0; s < q.n_answers; s++) {
            const char *const parts[] = {q.part[0], " ", q.part[1 + s]};
            put_together(&whole, 3, parts, (const size_t[]){q.len[0], 1, q.len[1 + s]});
            tokenize(&j, &answers[s], &whole);
        }
        n_right += q.right[likeliest(&j, answers, q.n_answers, picked[i])];
        n_answers += q.n_answers;
        if (o->json) progress("%zu of %zu tasks", i + 1, n_tasks);
        else printf("%zu\t%.8f\n", i + 1, 100 * (double)n_right / (double)(i + 1));
        fflush(stdout);
    }
    progress_end();
    const double share = (double)n_right / (double)n_tasks, error = standard_error(share, n_tasks);
    const double chance = (double)n_tasks / (double)n_answers, spread = standard_error(chance, n_tasks);
    if (o->json)
        printf("{\"n_tasks\": %zu, \"acc\": %.6f, \"acc_error\": %.6f, \"random\": %.6f, "
               "\"random_error\": %.6f}\n", n_tasks, share, error, chance, spread);
    else
        printf("\nFinal result: %.4f +/- %.4f\nRandom chance: %.4f +/- %.4f\n", 100 * share, 100 * error,
               100 * chance, 100 * spread);
    for (size_t s = 0; s < n_most; s++) tokens_free(&answers[s]);
    free(answers);
    text_free(&whole);
    judge_free(&j);
    free(picked);
}
