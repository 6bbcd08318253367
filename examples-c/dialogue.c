#include "dialogue.h"

#include "generate.h"
#include "powerinfer.h"

#include <stdlib.h>
#include <string.h>

/* With other libraries than libpowerinfer this is NULL: then the template must be a known one. */
#pragma weak powerinfer_chat_apply_jinja

void dialogue_add(struct dialogue *dialogue, const char *role, const char *data, size_t len) {
    size_t size = (dialogue->n_messages + 1) * sizeof *dialogue->messages;
    dialogue->messages = xrealloc(dialogue->messages, size);
    struct message *message = &dialogue->messages[dialogue->n_messages++];
    memset(message, 0, sizeof *message);
    message->role = role;
    text_add(&message->content, data, len);
}

bool dialogue_forget(struct dialogue *dialogue) {
    struct message *all = dialogue->messages;
    size_t from = dialogue->n_messages && !strcmp(all[0].role, "system") ? 1 : 0, to = from + 1;
    while (to < dialogue->n_messages && strcmp(all[to].role, "user")) to++;
    if (to >= dialogue->n_messages) return false;
    for (size_t i = from; i < to; i++) text_free(&all[i].content);
    memmove(all + from, all + to, (dialogue->n_messages - to) * sizeof *all);
    dialogue->n_messages -= to - from;
    return true;
}

void dialogue_free(struct dialogue *dialogue) {
    for (size_t i = 0; i < dialogue->n_messages; i++) text_free(&dialogue->messages[i].content);
    free(dialogue->messages);
    dialogue->messages = NULL;
    dialogue->n_messages = 0;
}

/* ---- layout ---- */

static bool is_built_in(const char *name) {
    int32_t n = llama_chat_builtin_templates(NULL, 0);
    if (n <= 0) return false;
    const char **names = xrealloc(NULL, (size_t)n * sizeof *names);
    n = llama_chat_builtin_templates(names, (size_t)n);
    bool found = false;
    for (int32_t i = 0; i < n; i++) found = found || !strcmp(names[i], name);
    free(names);
    return found;
}

/* By a Jinja template; NULL is the model's. */
static bool lay_out_jinja(const struct dialogue *dialogue, const char *template_text,
                          struct text *out) {
    if (!powerinfer_chat_apply_jinja) return false;
    struct text json = {0};
    text_add(&json, "[", 1);
    for (size_t i = 0; i < dialogue->n_messages; i++) {
        const struct message *message = &dialogue->messages[i];
        text_addf(&json, "%s{\"role\": \"%s\", \"content\": ", i ? ", " : "", message->role);
        text_add_json(&json, message->content.data, message->content.len);
        text_add(&json, "}", 1);
    }
    text_add(&json, "]", 1);
    int32_t len = powerinfer_chat_apply_jinja(dialogue->model, template_text, json.data, NULL, NULL,
                                              true, NULL, 0);
    if (len >= 0) {
        char *made = xrealloc(NULL, (size_t)len + 1);
        len = powerinfer_chat_apply_jinja(dialogue->model, template_text, json.data, NULL, NULL,
                                          true, made, len + 1);
        if (len >= 0) text_add(out, made, (size_t)len);
        free(made);
    }
    text_free(&json);
    return len >= 0;
}

/* By a built-in format: its name, or a template that the library recognises as one. */
static bool lay_out_known(const struct dialogue *dialogue, const char *template_text,
                          struct text *out) {
    size_t n = dialogue->n_messages;
    struct llama_chat_message *list = xrealloc(NULL, n * sizeof *list);
    for (size_t i = 0; i < n; i++) {
        list[i].role = dialogue->messages[i].role;
        list[i].content = dialogue->messages[i].content.data;
    }
    int32_t len = llama_chat_apply_template(template_text, list, n, true, NULL, 0);
    if (len >= 0) {
        char *made = xrealloc(NULL, (size_t)len + 1);
        llama_chat_apply_template(template_text, list, n, true, made, len + 1);
        text_add(out, made, (size_t)len);
        free(made);
    }
    free(list);
    return len >= 0;
}

void dialogue_tokens(const struct dialogue *dialogue, struct tokens *tokens) {
    const struct llama_vocab *vocab = llama_model_get_vocab(dialogue->model);
    const char *own = dialogue->template_text, *known = own;
    if (!known) known = llama_model_chat_template(dialogue->model, NULL);
    if (!known) die("the model brings no chat format: give one with --chat-template");
    struct text text = {0};
    log_forget();
    /* A Jinja template writes the start token itself. */
    bool jinja = !(own && is_built_in(own)) && lay_out_jinja(dialogue, own, &text);
    if (!jinja && !lay_out_known(dialogue, known, &text))
        die_with_reason("cannot use the %s", own ? "chat template" : "model's chat format");
    tokens_add_text(tokens, vocab, text.data ? text.data : "", text.len, !jinja, true);
    text_free(&text);
    if (!tokens->len) die("the chat format made an empty prompt");
}
