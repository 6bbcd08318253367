/* Shows how a model's vocabulary cuts a text into tokens.
 *
 *   tokenize -m model.gguf "Hello world"      id and piece, one token a line
 *   tokenize -m model.gguf --ids -f file.txt  [1, 2, 3]
 *
 * Only the vocabulary is loaded. */
#include "generate.h"

#include <string.h>

static void show_piece(const struct text *piece) {
    putchar('\'');
    for (size_t i = 0; i < piece->len; i++) {
        unsigned char c = (unsigned char)piece->data[i];
        if (c == '\n') fputs("\\n", stdout);
        else if (c == '\t') fputs("\\t", stdout);
        else if (c < 0x20 || c == 0x7F) printf("\\x%02x", c);
        else putchar(c);
    }
    putchar('\'');
}

static void print_json(const struct llama_vocab *vocab, const struct tokens *tokens) {
    struct text line = {0}, piece = {0};
    text_addf(&line, "{\"n_tokens\": %zu, \"tokens\": [", tokens->len);
    for (size_t i = 0; i < tokens->len; i++) {
        token_piece(&piece, vocab, tokens->data[i], true);
        text_addf(&line, "%s{\"id\": %d, \"piece\": ", i ? ", " : "", tokens->data[i]);
        text_add_json(&line, piece.data, piece.len);
        text_addf(&line, "}");
    }
    text_addf(&line, "]}");
    puts(line.data);
    text_free(&line);
    text_free(&piece);
}

int main(int argc, char **argv) {
    const char *path = NULL, *prompt = NULL, *file = NULL, *rest = NULL;
    bool from_stdin = false, ids_only = false, count = false, json = false;
    bool special = true, parse_special = true, escapes = true;
    const struct flag flags[] = {
        {FLAG_STRING, {"-m", "--model"}, "FILE", &path, "the model, a GGUF file", 0, 0},
        {FLAG_STRING, {"-p", "--prompt"}, "TEXT", &prompt, "the text (or give it without a flag)", 0, 0},
        {FLAG_STRING, {"-f", "--file"}, "FILE", &file, "read the text from a file", 0, 0},
        {FLAG_BOOL, {"--stdin"}, 0, &from_stdin, "read the text from stdin", 0, 0},
        {FLAG_BOOL, {"--ids"}, 0, &ids_only, "print only the ids, as a list", 0, 0},
        {FLAG_BOOL, {"--json"}, 0, &json, "print JSON: ids, and pieces where half a character is U+FFFD", 0, 0},
        {FLAG_BOOL, {"--show-count"}, 0, &count, "print the number of tokens at the end", 0, 0},
        {FLAG_NOT, {"--no-bos"}, 0, &special, "do not add the vocabulary's BOS and EOS", 0, 0},
        {FLAG_NOT, {"--no-parse-special"}, 0, &parse_special, "treat <|...|> as plain text", 0, 0},
        {FLAG_NOT, {"--no-escape"}, 0, &escapes, "take \\n, \\t and the like in -p literally", 0, 0},
    };
    parse_flags(argc, argv, "[flags] \"text\": shows the tokens of a text", flags,
                sizeof flags / sizeof *flags, &rest);
    if (json && ids_only) die("--json and --ids are two forms: use one of them");
    if (rest && prompt) die("the text is given twice: '%s' and -p", rest);
    if (rest) prompt = rest;
    if ((prompt != NULL) + (file != NULL) + from_stdin != 1)
        die("give the text one way: -p TEXT, -f FILE or --stdin");

    struct text text = {0};
    if (prompt) {
        text_add(&text, prompt, strlen(prompt));
        if (escapes) text_unescape(&text);
    } else {
        text_add_file(&text, from_stdin ? "-" : file);
    }

    log_init(false);
    struct llama_model_params params = llama_model_default_params();
    params.vocab_only = true;
    struct llama_model *model = load_model(path, params, NULL);
    const struct llama_vocab *vocab = llama_model_get_vocab(model);

    struct tokens tokens = {0};
    tokens_add_text(&tokens, vocab, text.data, text.len, special, parse_special);
    if (json) {
        print_json(vocab, &tokens);
    } else if (ids_only) {
        putchar('[');
        for (size_t i = 0; i < tokens.len; i++) printf("%s%d", i ? ", " : "", tokens.data[i]);
        puts("]");
    } else {
        struct text piece = {0};
        for (size_t i = 0; i < tokens.len; i++) {
            token_piece(&piece, vocab, tokens.data[i], true);
            printf("%6d -> ", tokens.data[i]);
            show_piece(&piece);
            putchar('\n');
        }
        text_free(&piece);
    }
    if (count && !json) printf("Total number of tokens: %zu\n", tokens.len);

    tokens_free(&tokens);
    text_free(&text);
    llama_model_free(model);
    return 0;
}
