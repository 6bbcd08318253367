// Text to tokens and back, and the conversation format of the model. All of it may be called from
// any thread.
#pragma once

#include "support.h"

#include "llama.h"

#include <set>
#include <string>
#include <vector>

using token_list = std::vector<llama_token>;

class vocabulary {
public:
    // `chat_template`: a Jinja template or the name of a built-in format; empty: the model's own.
    vocabulary(const llama_model *of, std::string chat_template);

    // special: the vocabulary puts its BOS/EOS around the text; parse: "<|im_start|>" and the like
    // are read as the tokens they name.
    token_list tokenize(const std::string &text, bool special, bool parse) const;
    // The bytes of one token. special: those of control tokens too.
    std::string piece(llama_token token, bool special) const;
    std::string detokenize(const token_list &list) const;
    // A number from a request, if it is a token.
    llama_token checked(const json &number) const;

    // A prompt as llama.cpp's API has it: a string, a list of tokens, or of tokens and strings.
    token_list prompt(const json &value) const;
    // Several of them: a list of such prompts, or one.
    std::vector<token_list> prompts(const json &value) const;

    // Lays out a conversation (OpenAI's messages) as text. `tools` and `variables` may be null.
    // *writes_bos: the text has what the vocabulary would add in front.
    std::string lay_out(const json &messages, const json *tools, const json *variables,
                        bool *writes_bos) const;
    token_list conversation(const json &messages, const json *tools, const json *variables) const;

    const std::string &chat_template() const { return own_template; }
    const llama_vocab *handle() const { return vocab; }
    int32_t size() const { return llama_vocab_n_tokens(vocab); }

private:
    const llama_model *model;
    const llama_vocab *vocab;
    std::string own_template; // what conversations are laid out by; empty: the model has none
    bool is_jinja;
};
