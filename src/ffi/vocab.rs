//! Vocabularies: facts about tokens, text to tokens and back. All of it may be called from several
//! threads at once. Arguments that name no vocabulary or token give "none".

use core::ffi::{CStr, c_char};
use core::ptr;

use super::guard;
use super::strings::array;
use super::types::{
    LLAMA_TOKEN_NULL, cbool, llama_token, llama_token_attr_e, llama_vocab_type, llama_vocab_type_e,
};
use crate::log_error;
use crate::vocab::{SpecialIds, Vocab};

/// The vocabulary of a model. A handle points to the [`Vocab`] itself; C sees an opaque struct.
pub struct llama_vocab {
    _opaque: [u8; 0],
}

impl llama_vocab {
    /// The handle of a vocabulary, good as long as that lives.
    pub(super) fn handle(vocab: &Vocab) -> *const Self {
        ptr::from_ref(vocab).cast()
    }
}

/// The vocabulary behind a handle; `None` for NULL.
///
/// # Safety
/// `vocab` is NULL or a handle whose model outlives `'a`.
pub(super) unsafe fn vocab_ref<'a>(vocab: *const llama_vocab) -> Option<&'a Vocab> {
    // SAFETY: the caller's promise; handles are made of `&Vocab`, and a vocabulary never changes.
    unsafe { vocab.cast::<Vocab>().as_ref() }
}

/// A length for C, which counts in `i32`.
fn count(n: usize) -> Option<i32> {
    i32::try_from(n).ok()
}

/// Copies a result when it fits and gives its length, or minus the length that it needs.
///
/// # Safety
/// `to` is NULL or has room for `room` values.
unsafe fn give<T: Copy>(result: &[T], to: *mut T, room: i32) -> i32 {
    let Some(n) = count(result.len()) else { return i32::MIN };
    let room = if to.is_null() { 0 } else { room };
    if n > room {
        return -n;
    }
    // SAFETY: the caller's promise; n <= room, and results are never inside of C's buffer.
    unsafe { ptr::copy_nonoverlapping(result.as_ptr(), to, result.len()) };
    n
}

/// Text to tokens. text_len counts bytes. Returns the number of tokens; minus that number, with
/// nothing written, when n_tokens_max is too small; INT32_MIN when it cannot be done. add_special
/// adds what the model wants around a text, parse_special recognises tokens such as <|im_end|>.
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
    guard::call(i32::MIN, "llama_tokenize", || {
        // SAFETY: NULL or a vocabulary.
        let vocab = unsafe { vocab_ref(vocab) };
        let len = usize::try_from(text_len).ok().filter(|&len| !text.is_null() || len == 0);
        let (Some(vocab), Some(len)) = (vocab, len) else {
            log_error!("llama_tokenize: no vocabulary, or a text of {text_len} bytes");
            return i32::MIN;
        };
        // SAFETY: the caller's text has that many bytes.
        let text = unsafe { array(text.cast::<u8>(), len) };
        match vocab.tokenize(text, add_special != 0, parse_special != 0) {
            // SAFETY: the caller's array has that much room.
            Ok(found) => unsafe { give(&found, tokens, n_tokens_max) },
            Err(error) => {
                log_error!("llama_tokenize: {error}");
                i32::MIN
            }
        }
    })
}

/// Text of a token, without a NUL and without up to lstrip leading spaces. Returns its length, or
/// minus that, with nothing written, when the buffer is too small; 0 when there is no such token.
/// Control tokens are empty unless special is set.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_token_to_piece(
    vocab: *const llama_vocab,
    token: llama_token,
    buf: *mut c_char,
    length: i32,
    lstrip: i32,
    special: cbool,
) -> i32 {
    guard::call(0, "llama_token_to_piece", || {
        // SAFETY: NULL or a vocabulary.
        let vocab = unsafe { vocab_ref(vocab) };
        match vocab.and_then(|v| v.token_to_piece(token, lstrip, special != 0)) {
            // SAFETY: the caller's buffer has that much room.
            Some(piece) => unsafe { give(piece, buf.cast(), length) },
            None => {
                log_error!("llama_token_to_piece: no vocabulary, or no token {token}");
                0
            }
        }
    })
}

/// Tokens to text, without a NUL. Returns its length, or minus the room that it needs, with
/// nothing written, when the buffer is too small. Ids that are no tokens are left out.
/// remove_special leaves out what llama_tokenize adds, unparse_special shows control tokens.
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
    guard::call(0, "llama_detokenize", || {
        // SAFETY: NULL or a vocabulary.
        let vocab = unsafe { vocab_ref(vocab) };
        let n = usize::try_from(n_tokens).ok().filter(|&n| !tokens.is_null() || n == 0);
        let (Some(vocab), Some(n)) = (vocab, n) else {
            log_error!("llama_detokenize: no vocabulary, or {n_tokens} tokens");
            return 0;
        };
        // SAFETY: the caller's array has that many tokens.
        let tokens = unsafe { array(tokens, n) };
        let mut joined = vocab.join_pieces(tokens, remove_special != 0, unparse_special != 0);
        // Cleaning makes the text shorter, but the room is asked for before it.
        match count(joined.len()) {
            None => i32::MIN,
            Some(n) if n > text_len_max => -n,
            Some(_) => {
                vocab.clean_spaces(&mut joined);
                // SAFETY: the caller's buffer has that much room.
                unsafe { give(&joined, text.cast(), text_len_max) }
            }
        }
    })
}

/// Family of the tokenizer; NONE without a vocabulary.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_vocab_type(vocab: *const llama_vocab) -> llama_vocab_type_e {
    let none = llama_vocab_type::LLAMA_VOCAB_TYPE_NONE as llama_vocab_type_e;
    // SAFETY: NULL or a vocabulary.
    unsafe { vocab_ref(vocab) }.map_or(none, |v| v.kind() as llama_vocab_type_e)
}

/// Number of tokens.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_vocab_n_tokens(vocab: *const llama_vocab) -> i32 {
    // SAFETY: NULL or a vocabulary.
    unsafe { vocab_ref(vocab) }.and_then(|v| count(v.n_tokens())).unwrap_or(0)
}

/// A token as the file spells it, valid as long as the model; NULL when there is no such token.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_vocab_get_text(
    vocab: *const llama_vocab,
    token: llama_token,
) -> *const c_char {
    // SAFETY: NULL or a vocabulary.
    let text = unsafe { vocab_ref(vocab) }.and_then(|v| v.text_with_nul(token));
    let text = text.and_then(|bytes| CStr::from_bytes_until_nul(bytes).ok());
    text.map_or(ptr::null(), CStr::as_ptr)
}

/// Score of a token; 0 when there is no such token.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_vocab_get_score(
    vocab: *const llama_vocab,
    token: llama_token,
) -> f32 {
    // SAFETY: NULL or a vocabulary.
    unsafe { vocab_ref(vocab) }.and_then(|v| v.score(token)).unwrap_or(0.0)
}

/// Attribute bits of a token; UNDEFINED when there is no such token.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_vocab_get_attr(
    vocab: *const llama_vocab,
    token: llama_token,
) -> llama_token_attr_e {
    // SAFETY: NULL or a vocabulary.
    let attr = unsafe { vocab_ref(vocab) }.and_then(|v| v.attr(token));
    attr.map_or(0, |attr| attr.bits().cast_signed())
}

/// Whether a token ends generation.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_vocab_is_eog(vocab: *const llama_vocab, token: llama_token) -> bool {
    // SAFETY: NULL or a vocabulary.
    unsafe { vocab_ref(vocab) }.is_some_and(|v| v.is_eog(token))
}

/// Whether a token is control or unprintable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_vocab_is_control(
    vocab: *const llama_vocab,
    token: llama_token,
) -> bool {
    // SAFETY: NULL or a vocabulary.
    unsafe { vocab_ref(vocab) }.is_some_and(|v| v.is_control(token))
}

/// Whether llama_tokenize adds the begin token.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_vocab_get_add_bos(vocab: *const llama_vocab) -> bool {
    // SAFETY: NULL or a vocabulary.
    unsafe { vocab_ref(vocab) }.is_some_and(Vocab::add_bos)
}

/// Whether llama_tokenize adds the end token.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_vocab_get_add_eos(vocab: *const llama_vocab) -> bool {
    // SAFETY: NULL or a vocabulary.
    unsafe { vocab_ref(vocab) }.is_some_and(Vocab::add_eos)
}

/// Whether the model wants a separator between two texts.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_vocab_get_add_sep(vocab: *const llama_vocab) -> bool {
    // SAFETY: NULL or a vocabulary.
    unsafe { vocab_ref(vocab) }.is_some_and(Vocab::add_sep)
}

/// Tokens that the model must never produce, valid as long as the model, and how many; NULL and 0
/// when there are none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_vocab_get_suppress_tokens(
    vocab: *const llama_vocab,
    n_suppress_tokens: *mut i32,
) -> *const llama_token {
    // SAFETY: NULL or a vocabulary.
    let tokens = unsafe { vocab_ref(vocab) }.map_or(&[][..], Vocab::suppressed_tokens);
    // SAFETY: NULL or a place to write to.
    if let Some(n) = unsafe { n_suppress_tokens.as_mut() } {
        *n = count(tokens.len()).unwrap_or(0);
    }
    if tokens.is_empty() { ptr::null() } else { tokens.as_ptr() }
}

/// A special token, or [`LLAMA_TOKEN_NULL`].
///
/// # Safety
/// `vocab` is NULL or a vocabulary.
unsafe fn special(
    vocab: *const llama_vocab,
    which: impl FnOnce(&SpecialIds) -> Option<llama_token>,
) -> llama_token {
    // SAFETY: the caller's promise.
    let vocab = unsafe { vocab_ref(vocab) };
    vocab.and_then(|v| which(v.special_ids())).unwrap_or(LLAMA_TOKEN_NULL)
}

/// Token that begins a sequence; -1 when there is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_vocab_bos(vocab: *const llama_vocab) -> llama_token {
    // SAFETY: NULL or a vocabulary.
    unsafe { special(vocab, |ids| ids.bos) }
}

/// Token that ends a sequence; -1 when there is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_vocab_eos(vocab: *const llama_vocab) -> llama_token {
    // SAFETY: NULL or a vocabulary.
    unsafe { special(vocab, |ids| ids.eos) }
}

/// Token that ends a turn; -1 when there is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_vocab_eot(vocab: *const llama_vocab) -> llama_token {
    // SAFETY: NULL or a vocabulary.
    unsafe { special(vocab, |ids| ids.eot) }
}

/// Token that separates sentences; -1 when there is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_vocab_sep(vocab: *const llama_vocab) -> llama_token {
    // SAFETY: NULL or a vocabulary.
    unsafe { special(vocab, |ids| ids.sep) }
}

/// Token of a line feed; -1 when there is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_vocab_nl(vocab: *const llama_vocab) -> llama_token {
    // SAFETY: NULL or a vocabulary.
    unsafe { special(vocab, |ids| ids.nl) }
}

/// Padding token; -1 when there is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_vocab_pad(vocab: *const llama_vocab) -> llama_token {
    // SAFETY: NULL or a vocabulary.
    unsafe { special(vocab, |ids| ids.pad) }
}

/// Mask token; -1 when there is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_vocab_mask(vocab: *const llama_vocab) -> llama_token {
    // SAFETY: NULL or a vocabulary.
    unsafe { special(vocab, |ids| ids.mask) }
}

/// Fill-in-the-middle: before the prefix; -1 when there is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_vocab_fim_pre(vocab: *const llama_vocab) -> llama_token {
    // SAFETY: NULL or a vocabulary.
    unsafe { special(vocab, |ids| ids.fim_pre) }
}

/// Fill-in-the-middle: before the suffix; -1 when there is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_vocab_fim_suf(vocab: *const llama_vocab) -> llama_token {
    // SAFETY: NULL or a vocabulary.
    unsafe { special(vocab, |ids| ids.fim_suf) }
}

/// Fill-in-the-middle: before the middle; -1 when there is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_vocab_fim_mid(vocab: *const llama_vocab) -> llama_token {
    // SAFETY: NULL or a vocabulary.
    unsafe { special(vocab, |ids| ids.fim_mid) }
}

/// Fill-in-the-middle: padding; -1 when there is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_vocab_fim_pad(vocab: *const llama_vocab) -> llama_token {
    // SAFETY: NULL or a vocabulary.
    unsafe { special(vocab, |ids| ids.fim_pad) }
}

/// Fill-in-the-middle: repository name; -1 when there is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_vocab_fim_rep(vocab: *const llama_vocab) -> llama_token {
    // SAFETY: NULL or a vocabulary.
    unsafe { special(vocab, |ids| ids.fim_rep) }
}

/// Fill-in-the-middle: file separator; -1 when there is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_vocab_fim_sep(vocab: *const llama_vocab) -> llama_token {
    // SAFETY: NULL or a vocabulary.
    unsafe { special(vocab, |ids| ids.fim_sep) }
}
