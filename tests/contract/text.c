/* Tokens and text, metadata, chat templates. */
#include "contract.h"

static const struct llama_vocab *vocab_of(const char *name) {
    return llama_model_get_vocab(load(name));
}

static void say_tokens(const struct llama_vocab *vocab, const char *text, bool special, bool parse) {
    llama_token tokens[64];
    const int n = llama_tokenize(vocab, text, (int)strlen(text), tokens, 64, special, parse);
    say("[%d:", n);
    for (int i = 0; i < n; i++) say("%d", tokens[i]);
    say("]");
}

LINE(text_len_is_bytes, "text_len counts bytes and is used as given, also inside of a character.") {
    const struct llama_vocab *vocab = vocab_of("llama.gguf");
    llama_token tokens[16];
    say("%d", llama_tokenize(vocab, "the end", 3, tokens, 16, false, false));
    say("%d", llama_tokenize(vocab, "the end", 0, tokens, 16, false, false));
    say("%d", llama_tokenize(vocab, "a\0b", 3, tokens, 16, false, false));
}

LINE(no_room_for_tokens, "Too few places: minus the number needed, and nothing is written.") {
    const struct llama_vocab *vocab = vocab_of("llama.gguf");
    llama_token tokens[4] = {-7, -7, -7, -7};
    say("%d %d", llama_tokenize(vocab, "abcdef", 6, tokens, 3, false, false), tokens[0]);
    say("%d", llama_tokenize(vocab, "abcdef", 6, NULL, 0, false, false));
    say("%d", llama_tokenize(vocab, "abcdef", 6, NULL, 0, true, false));
}

LINE(special_tokens_as_the_file_says, "add_special obeys add_bos and add_eos of the file.") {
    say_tokens(vocab_of("llama.gguf"), "in", true, false);
    say_tokens(vocab_of("pieces.gguf"), "hello", true, false);
    const char *keys[] = {"tokenizer.ggml.add_bos_token", "tokenizer.ggml.add_eos_token"};
    for (int bits = 0; bits < 4; bits++) {
        struct llama_model_kv_override over[3];
        memset(over, 0, sizeof over);
        for (int i = 0; i < 2; i++) {
            over[i].tag = LLAMA_KV_OVERRIDE_TYPE_BOOL;
            strcpy(over[i].key, keys[i]);
            over[i].val_bool = bits >> i & 1;
        }
        struct llama_model_params params = llama_model_default_params();
        params.kv_overrides = over;
        struct llama_model *model = llama_model_load_from_file(file(models, "pieces.gguf"), params);
        const struct llama_vocab *vocab = llama_model_get_vocab(model);
        say("%d%d", llama_vocab_get_add_bos(vocab), llama_vocab_get_add_eos(vocab));
        say_tokens(vocab, "hello", true, false);
    }
}

LINE(special_text_is_text_unless_asked, "parse_special=false: control tokens in the text stay text.") {
    const struct llama_vocab *vocab = vocab_of("llama.gguf");
    say_tokens(vocab, "<|end|>in", false, false);
    say_tokens(vocab, "<|end|>in", false, true);
    vocab = vocab_of("pieces.gguf");
    say_tokens(vocab, "hello</s>world", false, false);
    say_tokens(vocab, "hello</s>world", false, true);
    say_tokens(vocab, "hello[USER]world", false, false);
}

LINE(users_tokens_and_spaces, "A user's token with spaces around it, next to words.") {
    const struct llama_vocab *vocab = vocab_of("pieces.gguf");
    say_tokens(vocab, "hello [X] world", false, false);
    say_tokens(vocab, "hello[X]world", false, true);
    say_tokens(vocab, " hello  world ", false, false);
    say_tokens(vocab, "", true, true);
}

static void say_piece(const struct llama_vocab *vocab, llama_token token, int lstrip, bool special) {
    char text[32];
    memset(text, '#', sizeof text);
    const int n = llama_token_to_piece(vocab, token, text, 31, lstrip, special);
    text[n < 0 ? 0 : n + 1] = 0;
    say("%d'%s'", n, text);
}

LINE(pieces_have_no_nul, "token_to_piece writes no NUL and returns the length.") {
    const struct llama_vocab *vocab = vocab_of("pieces.gguf");
    say_piece(vocab, 10, 0, true);
    say_piece(vocab, 11, 0, true);
}

LINE(no_room_for_a_piece, "Too few bytes: minus the number needed.") {
    const struct llama_vocab *vocab = vocab_of("pieces.gguf");
    char text[8] = "#######";
    say("%d", llama_token_to_piece(vocab, 10, text, 3, 0, true));
    say("%.3s", text);
    say("%d", llama_token_to_piece(vocab, 10, NULL, 0, 0, true));
}

LINE(control_tokens_are_silent, "special=false: control and unknown tokens have no text.") {
    const struct llama_vocab *vocab = vocab_of("pieces.gguf");
    for (llama_token t = 0; t < 8; t++) {
        say_piece(vocab, t, 0, false);
        say_piece(vocab, t, 0, true);
    }
    vocab = vocab_of("llama.gguf");
    say_piece(vocab, 92, 0, false), say_piece(vocab, 92, 0, true);
}

LINE(leading_spaces_are_skipped, "lstrip skips at most so many leading spaces.") {
    const struct llama_vocab *vocab = vocab_of("pieces.gguf");
    for (int lstrip = 0; lstrip < 4; lstrip++) {
        say_piece(vocab, 8, lstrip, false);
        say_piece(vocab, 9, lstrip, false);
        say_piece(vocab, 10, lstrip, false);
    }
}

LINE(bytes_have_pieces, "A byte token is its byte.") {
    const struct llama_vocab *vocab = vocab_of("pieces.gguf");
    char text[4] = {0};
    say("%d", llama_token_to_piece(vocab, 42, text, 4, 0, false));
    say("%d", text[0]);
}

LINE(tokens_without_a_piece, "token_to_piece of a token that is not there.") {
    const struct llama_vocab *vocab = vocab_of("pieces.gguf");
    char text[8];
    say("%d", llama_token_to_piece(vocab, 96, text, 8, 0, true));
}

LINE(negative_tokens_have_no_piece, "token_to_piece of a negative token.") {
    const struct llama_vocab *vocab = vocab_of("pieces.gguf");
    char text[8];
    say("%d", llama_token_to_piece(vocab, -1, text, 8, 0, true));
}

static void say_text(const struct llama_vocab *vocab, const llama_token *tokens, int n, bool remove,
                     bool unparse) {
    char text[128];
    memset(text, '#', sizeof text);
    const int len = llama_detokenize(vocab, tokens, n, text, 127, remove, unparse);
    text[len < 0 ? 0 : len + 1] = 0;
    say("%d'%s'", len, text);
}

LINE(detokenize_strips_one_space, "The space that tokenize put in front is taken away again.") {
    const struct llama_vocab *vocab = vocab_of("pieces.gguf");
    const llama_token tokens[] = {10, 12}, spaces[] = {9, 10};
    say_text(vocab, tokens, 2, false, false);
    say_text(vocab, spaces, 2, false, false);
}

LINE(detokenize_and_special_tokens, "remove_special drops BOS and EOS that the file adds; unparse shows the rest.") {
    const struct llama_vocab *vocab = vocab_of("pieces.gguf");
    const llama_token tokens[] = {1, 10, 4, 12, 2};
    for (int bits = 0; bits < 4; bits++) say_text(vocab, tokens, 5, bits & 1, bits >> 1);
}

LINE(detokenize_without_room, "detokenize with too few bytes: minus the number needed.") {
    const struct llama_vocab *vocab = vocab_of("pieces.gguf");
    const llama_token tokens[] = {10, 12};
    char text[16] = "###############";
    say("%d", llama_detokenize(vocab, tokens, 2, text, 4, false, false));
    say("%d", llama_detokenize(vocab, tokens, 2, NULL, 0, false, false));
    say("%d", llama_detokenize(vocab, tokens, 0, text, 16, false, false));
}

LINE(spaces_before_marks_are_cleaned, "clean_spaces: no space before . ? ! , and contractions.") {
    for (int clean = 0; clean < 2; clean++) {
        struct llama_model_kv_override over[2];
        memset(over, 0, sizeof over);
        over[0].tag = LLAMA_KV_OVERRIDE_TYPE_BOOL;
        strcpy(over[0].key, "tokenizer.ggml.clean_spaces");
        over[0].val_bool = clean;
        struct llama_model_params params = llama_model_default_params();
        params.kv_overrides = over;
        struct llama_model *model = llama_model_load_from_file(file(models, "pieces.gguf"), params);
        const struct llama_vocab *vocab = llama_model_get_vocab(model);
        const llama_token tokens[] = {10, 37, 12, 38, 10, 8, 39, 41};
        say_text(vocab, tokens, 8, false, false);
    }
}

LINE(what_tokens_are, "attributes, scores, texts and special tokens of a vocabulary.") {
    const struct llama_vocab *vocab = vocab_of("pieces.gguf");
    say("%d %d", llama_vocab_type(vocab), llama_vocab_n_tokens(vocab));
    for (llama_token t = 0; t < 12; t++)
        say("[%s %d %g %d%d]", llama_vocab_get_text(vocab, t), llama_vocab_get_attr(vocab, t),
            llama_vocab_get_score(vocab, t), llama_vocab_is_eog(vocab, t),
            llama_vocab_is_control(vocab, t));
    say("%d %d %d %d %d %d %d", llama_vocab_bos(vocab), llama_vocab_eos(vocab),
        llama_vocab_eot(vocab), llama_vocab_sep(vocab), llama_vocab_nl(vocab),
        llama_vocab_pad(vocab), llama_vocab_mask(vocab));
    say("%d %d %d %d %d %d", llama_vocab_fim_pre(vocab), llama_vocab_fim_suf(vocab),
        llama_vocab_fim_mid(vocab), llama_vocab_fim_pad(vocab), llama_vocab_fim_rep(vocab),
        llama_vocab_fim_sep(vocab));
    vocab = vocab_of("llama.gguf");
    say("%d %d %d %d %d", llama_vocab_type(vocab), llama_vocab_bos(vocab), llama_vocab_eos(vocab),
        llama_vocab_eot(vocab), llama_vocab_nl(vocab));
    for (llama_token t = 90; t < 96; t++)
        say("[%s %d %d]", llama_vocab_get_text(vocab, t), llama_vocab_get_attr(vocab, t),
            llama_vocab_is_eog(vocab, t));
}

LINE(texts_of_tokens_that_are_not_there, "vocab_get_text of a token past the vocabulary.") {
    say("%d", !!llama_vocab_get_text(vocab_of("pieces.gguf"), 96));
}

LINE(eog_of_tokens_that_are_not_there, "is_eog and is_control of LLAMA_TOKEN_NULL.") {
    const struct llama_vocab *vocab = vocab_of("pieces.gguf");
    say("%d", llama_vocab_is_eog(vocab, LLAMA_TOKEN_NULL));
}

/* ---- metadata ---- */

static void say_value(const struct llama_model *model, const char *key) {
    char value[64] = "unset";
    const int n = llama_model_meta_val_str(model, key, value, sizeof value);
    say("%d'%s'", n, value);
}

LINE(values_as_text, "meta_val_str: numbers, booleans and texts as text.") {
    struct llama_model *model = load("llama.gguf");
    say_value(model, "contract.text"), say_value(model, "contract.u8");
    say_value(model, "contract.i64"), say_value(model, "contract.f32");
    say_value(model, "contract.f64"), say_value(model, "contract.bool");
}

LINE(missing_values, "A key that is not there: -1 and an empty text; an array likewise?") {
    struct llama_model *model = load("llama.gguf");
    say_value(model, "contract.nothing");
    say_value(model, "contract.numbers");
    say_value(model, "contract.texts");
}

LINE(values_that_do_not_fit, "meta_val_str writes what fits with a NUL, returns the full length.") {
    struct llama_model *model = load("llama.gguf");
    char value[8] = "#######";
    say("%d'%s'", llama_model_meta_val_str(model, "contract.text", value, 5), value);
    say("%d'%s'", llama_model_meta_val_str(model, "contract.text", value, 1), value);
    say("%d", llama_model_meta_val_str(model, "contract.text", NULL, 0));
}

LINE(keys_by_index, "Keys and values by index; past the end -1 and an empty text.") {
    struct llama_model *model = load("llama.gguf");
    const int n = llama_model_meta_count(model);
    char text[64] = "unset";
    int n_found = 0;
    for (int i = 0; i < n; i++) {
        const int len = llama_model_meta_key_by_index(model, i, text, sizeof text);
        n_found += len == (int)strlen(text) && !strncmp(text, "contract.", 9);
    }
    say("%d", n_found);
    say("%d'%s'", llama_model_meta_key_by_index(model, n, text, sizeof text), text);
    strcpy(text, "unset");
    say("%d'%s'", llama_model_meta_val_str_by_index(model, n, text, sizeof text), text);
    say("%d", llama_model_meta_val_str_by_index(model, -1, text, sizeof text));
}

LINE(what_a_model_is, "desc, sizes and shapes.") {
    struct llama_model *model = load("llama.gguf");
    char text[128];
    say("%d'%s'", llama_model_desc(model, text, sizeof text), text);
    say("%d", llama_model_desc(model, text, 4));
    say("'%s'", text);
    say("%d %d %d %d %d", llama_model_n_ctx_train(model), llama_model_n_embd(model),
        llama_model_n_layer(model), llama_model_n_head(model), llama_model_n_head_kv(model));
    say("%d %d %d %g", llama_model_n_embd_inp(model), llama_model_n_embd_out(model),
        llama_model_n_swa(model), llama_model_rope_freq_scale_train(model));
    say("%llu %llu", (unsigned long long)llama_model_size(model),
        (unsigned long long)llama_model_n_params(model));
    say("%d%d%d%d%d", llama_model_has_encoder(model), llama_model_has_decoder(model),
        llama_model_is_recurrent(model), llama_model_is_hybrid(model),
        llama_model_is_diffusion(model));
    say("%d %d %d", llama_model_decoder_start_token(model), llama_model_rope_type(model),
        llama_model_n_layer_nextn(model));
    say("%u", llama_model_n_cls_out(model));
    model = load("bert.gguf");
    say("%d%d %d %d", llama_model_has_encoder(model), llama_model_has_decoder(model),
        llama_model_rope_type(model), llama_model_n_embd_out(model));
}

/* ---- chat templates ---- */

LINE(templates_of_a_model, "chat_template: the default, one by name, none for an unknown name.") {
    struct llama_model *model = load("llama.gguf");
    const char *text = llama_model_chat_template(model, NULL);
    say("'%s' %d", text, text == llama_model_chat_template(model, NULL));
    say("'%s'", llama_model_chat_template(model, "tool_use"));
    say("%d", !llama_model_chat_template(model, "nothing"));
    say("%d", !llama_model_chat_template(load("bert.gguf"), NULL));
}

static const struct llama_chat_message hi[] = {{"system", "Be brief."}, {"user", "hi"}};

static void say_chat(const char *tmpl, bool add_ass) {
    char text[512];
    memset(text, 0, sizeof text);
    const int n = llama_chat_apply_template(tmpl, hi, 2, add_ass, text, 511);
    say("%d'%s'", n, text);
}

LINE(templates_by_name, "chat_apply_template: a built-in name is itself; NULL is chatml.") {
    say_chat("chatml", true), say_chat(NULL, true), say_chat("llama3", false);
}

LINE(templates_by_what_is_in_them, "Any other text is recognised by what is in it; no Jinja runs.") {
    say_chat("x <|im_start|> y", true);
    say_chat("{% for m in messages %}[INST]{% endfor %}", true);
    say_chat("a template like no other", true);
    say_chat("", true);
}

LINE(chats_that_do_not_fit, "The full length comes back; no NUL when it does not fit.") {
    char text[12] = "###########";
    const struct llama_chat_message one = {"user", "hi"};
    say("%d", llama_chat_apply_template("chatml", &one, 1, true, text, 8));
    say("%.11s", text);
    say("%d", llama_chat_apply_template("chatml", &one, 1, true, NULL, 0));
}

LINE(no_messages, "A chat without messages.") {
    char text[64] = "unset";
    say("%d", llama_chat_apply_template("chatml", NULL, 0, true, text, 64));
    say("%.22s", text);
}

LINE(names_of_templates, "chat_builtin_templates: all names, as many as fit.") {
    const char *names[128];
    const int n = llama_chat_builtin_templates(names, 128);
    say("%d", n);
    for (int i = 0; i < n; i++) say("%s", names[i]);
    names[1] = NULL;
    say("%d %d", llama_chat_builtin_templates(names, 1), !names[1]);
    say("%d", llama_chat_builtin_templates(NULL, 0));
}
