//! Not there yet: vocabulary and chat.

use core::ffi::c_char;

use super::unimplemented;
use crate::ffi::types::{
    LLAMA_TOKEN_NULL, cbool, llama_chat_message, llama_model, llama_token, llama_token_attr_e,
    llama_vocab, llama_vocab_type_e,
};

/// Old name of llama_vocab_n_tokens.
#[deprecated(note = "use llama_vocab_n_tokens instead")]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_n_vocab(vocab: *const llama_vocab) -> i32 {
    unimplemented("llama_n_vocab", -1)
}

/// Family of the tokenizer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_vocab_type(vocab: *const llama_vocab) -> llama_vocab_type_e {
    unimplemented("llama_vocab_type", 0)
}

/// Number of tokens.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_vocab_n_tokens(vocab: *const llama_vocab) -> i32 {
    unimplemented("llama_vocab_n_tokens", -1)
}

/// A chat template of the model, the default one for NULL; NULL when there is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_model_chat_template(
    model: *const llama_model,
    name: *const c_char,
) -> *const c_char {
    unimplemented("llama_model_chat_template", core::ptr::null())
}

/// A token as the file spells it; NULL when there is no such token.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_vocab_get_text(
    vocab: *const llama_vocab,
    token: llama_token,
) -> *const c_char {
    unimplemented("llama_vocab_get_text", core::ptr::null())
}

/// Score of a token; 0 when there is no such token.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_vocab_get_score(
    vocab: *const llama_vocab,
    token: llama_token,
) -> f32 {
    unimplemented("llama_vocab_get_score", 0.0)
}

/// Attribute bits of a token.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_vocab_get_attr(
    vocab: *const llama_vocab,
    token: llama_token,
) -> llama_token_attr_e {
    unimplemented("llama_vocab_get_attr", 0)
}

/// Whether a token ends generation.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_vocab_is_eog(vocab: *const llama_vocab, token: llama_token) -> bool {
    unimplemented("llama_vocab_is_eog", false)
}

/// Whether a token is control or unprintable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_vocab_is_control(
    vocab: *const llama_vocab,
    token: llama_token,
) -> bool {
    unimplemented("llama_vocab_is_control", false)
}

/// Token that begins a sequence; -1 when there is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_vocab_bos(vocab: *const llama_vocab) -> llama_token {
    unimplemented("llama_vocab_bos", LLAMA_TOKEN_NULL)
}

/// Token that ends a sequence; -1 when there is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_vocab_eos(vocab: *const llama_vocab) -> llama_token {
    unimplemented("llama_vocab_eos", LLAMA_TOKEN_NULL)
}

/// Token that ends a turn; -1 when there is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_vocab_eot(vocab: *const llama_vocab) -> llama_token {
    unimplemented("llama_vocab_eot", LLAMA_TOKEN_NULL)
}

/// Token that separates sentences; -1 when there is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_vocab_sep(vocab: *const llama_vocab) -> llama_token {
    unimplemented("llama_vocab_sep", LLAMA_TOKEN_NULL)
}

/// Token of a line feed; -1 when there is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_vocab_nl(vocab: *const llama_vocab) -> llama_token {
    unimplemented("llama_vocab_nl", LLAMA_TOKEN_NULL)
}

/// Padding token; -1 when there is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_vocab_pad(vocab: *const llama_vocab) -> llama_token {
    unimplemented("llama_vocab_pad", LLAMA_TOKEN_NULL)
}

/// Mask token; -1 when there is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_vocab_mask(vocab: *const llama_vocab) -> llama_token {
    unimplemented("llama_vocab_mask", LLAMA_TOKEN_NULL)
}

/// Whether the tokenizer adds the begin token.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_vocab_get_add_bos(vocab: *const llama_vocab) -> bool {
    unimplemented("llama_vocab_get_add_bos", false)
}

/// Whether the tokenizer adds the end token.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_vocab_get_add_eos(vocab: *const llama_vocab) -> bool {
    unimplemented("llama_vocab_get_add_eos", false)
}

/// Whether the tokenizer adds the separator.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_vocab_get_add_sep(vocab: *const llama_vocab) -> bool {
    unimplemented("llama_vocab_get_add_sep", false)
}

/// Tokens that the model must never produce, and how many.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_vocab_get_suppress_tokens(
    vocab: *const llama_vocab,
    n_suppress_tokens: *mut i32,
) -> *const llama_token {
    unimplemented("llama_vocab_get_suppress_tokens", core::ptr::null())
}

/// Fill-in-the-middle: before the prefix; -1 when there is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_vocab_fim_pre(vocab: *const llama_vocab) -> llama_token {
    unimplemented("llama_vocab_fim_pre", LLAMA_TOKEN_NULL)
}

/// Fill-in-the-middle: before the suffix; -1 when there is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_vocab_fim_suf(vocab: *const llama_vocab) -> llama_token {
    unimplemented("llama_vocab_fim_suf", LLAMA_TOKEN_NULL)
}

/// Fill-in-the-middle: before the middle; -1 when there is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_vocab_fim_mid(vocab: *const llama_vocab) -> llama_token {
    unimplemented("llama_vocab_fim_mid", LLAMA_TOKEN_NULL)
}

/// Fill-in-the-middle: padding; -1 when there is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_vocab_fim_pad(vocab: *const llama_vocab) -> llama_token {
    unimplemented("llama_vocab_fim_pad", LLAMA_TOKEN_NULL)
}

/// Fill-in-the-middle: repository name; -1 when there is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_vocab_fim_rep(vocab: *const llama_vocab) -> llama_token {
    unimplemented("llama_vocab_fim_rep", LLAMA_TOKEN_NULL)
}

/// Fill-in-the-middle: file separator; -1 when there is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_vocab_fim_sep(vocab: *const llama_vocab) -> llama_token {
    unimplemented("llama_vocab_fim_sep", LLAMA_TOKEN_NULL)
}

/// Old name of llama_vocab_get_text.
#[deprecated(note = "use llama_vocab_get_text instead")]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_token_get_text(
    vocab: *const llama_vocab,
    token: llama_token,
) -> *const c_char {
    unimplemented("llama_token_get_text", core::ptr::null())
}

/// Old name of llama_vocab_get_score.
#[deprecated(note = "use llama_vocab_get_score instead")]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_token_get_score(
    vocab: *const llama_vocab,
    token: llama_token,
) -> f32 {
    unimplemented("llama_token_get_score", 0.0)
}

/// Old name of llama_vocab_get_attr.
#[deprecated(note = "use llama_vocab_get_attr instead")]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_token_get_attr(
    vocab: *const llama_vocab,
    token: llama_token,
) -> llama_token_attr_e {
    unimplemented("llama_token_get_attr", 0)
}

/// Old name of llama_vocab_is_eog.
#[deprecated(note = "use llama_vocab_is_eog instead")]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_token_is_eog(vocab: *const llama_vocab, token: llama_token) -> bool {
    unimplemented("llama_token_is_eog", false)
}

/// Old name of llama_vocab_is_control.
#[deprecated(note = "use llama_vocab_is_control instead")]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_token_is_control(
    vocab: *const llama_vocab,
    token: llama_token,
) -> bool {
    unimplemented("llama_token_is_control", false)
}

/// Old name of llama_vocab_bos.
#[deprecated(note = "use llama_vocab_bos instead")]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_token_bos(vocab: *const llama_vocab) -> llama_token {
    unimplemented("llama_token_bos", LLAMA_TOKEN_NULL)
}

/// Old name of llama_vocab_eos.
#[deprecated(note = "use llama_vocab_eos instead")]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_token_eos(vocab: *const llama_vocab) -> llama_token {
    unimplemented("llama_token_eos", LLAMA_TOKEN_NULL)
}

/// Old name of llama_vocab_eot.
#[deprecated(note = "use llama_vocab_eot instead")]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_token_eot(vocab: *const llama_vocab) -> llama_token {
    unimplemented("llama_token_eot", LLAMA_TOKEN_NULL)
}

/// Old name of llama_vocab_bos, which the classifier token is.
#[deprecated(note = "use llama_vocab_bos instead")]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_token_cls(vocab: *const llama_vocab) -> llama_token {
    unimplemented("llama_token_cls", LLAMA_TOKEN_NULL)
}

/// Old name of llama_vocab_sep.
#[deprecated(note = "use llama_vocab_sep instead")]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_token_sep(vocab: *const llama_vocab) -> llama_token {
    unimplemented("llama_token_sep", LLAMA_TOKEN_NULL)
}

/// Old name of llama_vocab_nl.
#[deprecated(note = "use llama_vocab_nl instead")]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_token_nl(vocab: *const llama_vocab) -> llama_token {
    unimplemented("llama_token_nl", LLAMA_TOKEN_NULL)
}

/// Old name of llama_vocab_pad.
#[deprecated(note = "use llama_vocab_pad instead")]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_token_pad(vocab: *const llama_vocab) -> llama_token {
    unimplemented("llama_token_pad", LLAMA_TOKEN_NULL)
}

/// Old name of llama_vocab_get_add_bos.
#[deprecated(note = "use llama_vocab_get_add_bos instead")]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_add_bos_token(vocab: *const llama_vocab) -> bool {
    unimplemented("llama_add_bos_token", false)
}

/// Old name of llama_vocab_get_add_eos.
#[deprecated(note = "use llama_vocab_get_add_eos instead")]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_add_eos_token(vocab: *const llama_vocab) -> bool {
    unimplemented("llama_add_eos_token", false)
}

/// Old name of llama_vocab_fim_pre.
#[deprecated(note = "use llama_vocab_fim_pre instead")]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_token_fim_pre(vocab: *const llama_vocab) -> llama_token {
    unimplemented("llama_token_fim_pre", LLAMA_TOKEN_NULL)
}

/// Old name of llama_vocab_fim_suf.
#[deprecated(note = "use llama_vocab_fim_suf instead")]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_token_fim_suf(vocab: *const llama_vocab) -> llama_token {
    unimplemented("llama_token_fim_suf", LLAMA_TOKEN_NULL)
}

/// Old name of llama_vocab_fim_mid.
#[deprecated(note = "use llama_vocab_fim_mid instead")]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_token_fim_mid(vocab: *const llama_vocab) -> llama_token {
    unimplemented("llama_token_fim_mid", LLAMA_TOKEN_NULL)
}

/// Old name of llama_vocab_fim_pad.
#[deprecated(note = "use llama_vocab_fim_pad instead")]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_token_fim_pad(vocab: *const llama_vocab) -> llama_token {
    unimplemented("llama_token_fim_pad", LLAMA_TOKEN_NULL)
}

/// Old name of llama_vocab_fim_rep.
#[deprecated(note = "use llama_vocab_fim_rep instead")]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_token_fim_rep(vocab: *const llama_vocab) -> llama_token {
    unimplemented("llama_token_fim_rep", LLAMA_TOKEN_NULL)
}

/// Old name of llama_vocab_fim_sep.
#[deprecated(note = "use llama_vocab_fim_sep instead")]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_token_fim_sep(vocab: *const llama_vocab) -> llama_token {
    unimplemented("llama_token_fim_sep", LLAMA_TOKEN_NULL)
}

/// Old name of llama_vocab_bos, which the classifier token is.
#[deprecated(note = "use llama_vocab_bos instead")]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_vocab_cls(vocab: *const llama_vocab) -> llama_token {
    unimplemented("llama_vocab_cls", LLAMA_TOKEN_NULL)
}

/// Text of text_len bytes to tokens; returns how many, or minus the number needed when
/// n_tokens_max is too small.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_tokenize(
    vocab: *const llama_vocab,
    text: *const c_char,
    text_len: i32,
    tokens: *mut llama_token,
    n_tokens_max: i32,
    add_special: cbool,
    parse_special: cbool,
) -> i32 {
    unimplemented("llama_tokenize", -1)
}

/// Text of a token, no NUL; returns its length, or minus the length needed. Skips up to lstrip
/// leading spaces; special shows control tokens.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_token_to_piece(
    vocab: *const llama_vocab,
    token: llama_token,
    buf: *mut c_char,
    length: i32,
    lstrip: i32,
    special: cbool,
) -> i32 {
    unimplemented("llama_token_to_piece", 0)
}

/// Tokens to text, no NUL; returns its length, or minus the length needed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_detokenize(
    vocab: *const llama_vocab,
    tokens: *const llama_token,
    n_tokens: i32,
    text: *mut c_char,
    text_len_max: i32,
    remove_special: cbool,
    unparse_special: cbool,
) -> i32 {
    unimplemented("llama_detokenize", -1)
}

/// Lays out a conversation by a built-in template; returns the full length in bytes (more than
/// length means that it was cut), -1 when the template is not known.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_chat_apply_template(
    tmpl: *const c_char,
    chat: *const llama_chat_message,
    n_msg: usize,
    add_ass: cbool,
    buf: *mut c_char,
    length: i32,
) -> i32 {
    unimplemented("llama_chat_apply_template", -1)
}

/// Names of the built-in templates: fills up to len, returns how many there are.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_chat_builtin_templates(
    output: *mut *const c_char,
    len: usize,
) -> i32 {
    unimplemented("llama_chat_builtin_templates", 0)
}
