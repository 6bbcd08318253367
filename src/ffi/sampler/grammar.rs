//! Makers of grammar samplers.

use core::ffi::{CStr, c_char};
use core::ptr;
use std::sync::Arc;

use super::kinds::into_handle;
use crate::ffi::guard;
use crate::ffi::strings::{array, c_str};
use crate::ffi::types::{llama_sampler, llama_token};
use crate::ffi::vocab::{llama_vocab, vocab_ref};
use crate::grammar::{self, Triggers};
use crate::log_error;
use crate::sampler::Grammar;

/// Allows only text of a GBNF grammar, from the rule `grammar_root` on; an empty grammar, or NULL,
/// allows everything. The model must live as long as the sampler. NULL when the grammar does not
/// parse; the log says where.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_sampler_init_grammar(
    vocab: *const llama_vocab,
    grammar_str: *const c_char,
    grammar_root: *const c_char,
) -> *mut llama_sampler {
    // SAFETY: the caller's promise is passed on; without triggers nothing else is read.
    unsafe { init("llama_sampler_init_grammar", vocab, grammar_str, grammar_root, || Ok(None)) }
}

/// A grammar that starts at a trigger word or token, and allows everything before it.
#[deprecated(note = "use llama_sampler_init_grammar_lazy_patterns instead")]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_sampler_init_grammar_lazy(
    vocab: *const llama_vocab,
    grammar_str: *const c_char,
    grammar_root: *const c_char,
    trigger_words: *mut *const c_char,
    num_trigger_words: usize,
    trigger_tokens: *const llama_token,
    num_trigger_tokens: usize,
) -> *mut llama_sampler {
    const NAME: &str = "llama_sampler_init_grammar_lazy";
    let triggers = || {
        // SAFETY: the caller's promise is passed on.
        let (words, tokens) = unsafe {
            // NULL is no word, whatever the number.
            let n_words = if trigger_words.is_null() { 0 } else { num_trigger_words };
            (texts(trigger_words, n_words)?, list(trigger_tokens, num_trigger_tokens)?)
        };
        let pattern = (!words.is_empty()).then(|| Triggers::words_pattern(words));
        let triggers = Triggers::new(pattern.as_deref(), tokens);
        triggers.map(Some).map_err(|error| error.to_string())
    };
    // SAFETY: the caller's promise is passed on.
    unsafe { init(NAME, vocab, grammar_str, grammar_root, triggers) }
}

/// A grammar that starts at a trigger token or where a pattern (a regular expression of C++)
/// matches the text so far: at the pattern's first group that matched something, or else where the
/// match begins. It allows everything before that. NULL when the grammar or a pattern does not
/// parse.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_sampler_init_grammar_lazy_patterns(
    vocab: *const llama_vocab,
    grammar_str: *const c_char,
    grammar_root: *const c_char,
    trigger_patterns: *mut *const c_char,
    num_trigger_patterns: usize,
    trigger_tokens: *const llama_token,
    num_trigger_tokens: usize,
) -> *mut llama_sampler {
    const NAME: &str = "llama_sampler_init_grammar_lazy_patterns";
    let triggers = || {
        // SAFETY: the caller's promise is passed on.
        let (patterns, tokens) = unsafe {
            (
                texts(trigger_patterns, num_trigger_patterns)?,
                list(trigger_tokens, num_trigger_tokens)?,
            )
        };
        let triggers = Triggers::new(patterns, tokens);
        triggers.map(Some).map_err(|error| error.to_string())
    };
    // SAFETY: the caller's promise is passed on.
    unsafe { init(NAME, vocab, grammar_str, grammar_root, triggers) }
}

/// A list that is NULL only when it is empty.
///
/// # Safety
/// `data` is NULL or points to `len` values that outlive `'a`.
unsafe fn list<'a, T>(data: *const T, len: usize) -> Result<&'a [T], String> {
    match data.is_null() && len > 0 {
        true => Err(format!("a list of {len} triggers is NULL")),
        // SAFETY: the caller's promise is passed on.
        false => Ok(unsafe { array(data, len) }),
    }
}

/// A list of texts, none of which is NULL.
///
/// # Safety
/// As for [`list`], and each text is NULL or terminated.
unsafe fn texts<'a>(data: *mut *const c_char, len: usize) -> Result<Vec<&'a [u8]>, String> {
    // SAFETY: the caller's promise is passed on.
    let list = unsafe { list(data.cast_const(), len) }?;
    let text = |(i, &text): (usize, &*const c_char)| {
        // SAFETY: NULL or terminated.
        let text = unsafe { c_str(text) };
        text.map(CStr::to_bytes).ok_or_else(|| format!("trigger {i} of {len} is NULL"))
    };
    list.iter().enumerate().map(text).collect()
}

/// A sampler, or NULL with a line in the log. An empty grammar is not asked for its triggers.
///
/// # Safety
/// `vocab` is NULL or a vocabulary whose model outlives the sampler; the texts are NULL or
/// terminated.
unsafe fn init(
    name: &str,
    vocab: *const llama_vocab,
    grammar_str: *const c_char,
    grammar_root: *const c_char,
    triggers: impl FnOnce() -> Result<Option<Triggers>, String>,
) -> *mut llama_sampler {
    guard::call(ptr::null_mut(), name, || {
        // SAFETY: NULL or terminated, and NULL or a vocabulary.
        let (text, root, vocab) =
            unsafe { (c_str(grammar_str), c_str(grammar_root), vocab_ref::<'static>(vocab)) };
        let make = |text: &CStr| -> Result<_, String> {
            let vocab = vocab.ok_or("the vocabulary is NULL")?;
            let root = root.ok_or("the name of the first rule is NULL")?;
            let grammar = grammar::Grammar::parse(text.to_bytes(), root.to_bytes(), Some(vocab));
            let grammar = grammar.map_err(|error| format!("grammar: {error}"))?;
            Ok(Grammar::new(vocab, Arc::new(grammar), triggers()?))
        };
        let sampler = match text.filter(|text| !text.is_empty()) {
            None => Ok(Grammar::none()),
            Some(text) => make(text),
        };
        sampler.map(into_handle).unwrap_or_else(|error| {
            log_error!("{name}: {error}");
            ptr::null_mut()
        })
    })
}
