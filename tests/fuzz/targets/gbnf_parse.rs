//! Any text as a grammar, which is then given any text: no panic, little time, and what is read
//! at once is read like what comes byte by byte.
//!
//! The grammar ends at a byte 0xff, or at the end; then the text follows.
#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use powerinfer::grammar::{Grammar, Matcher};

fuzz_target!(|bytes: &[u8]| {
    let mut parts = bytes.splitn(2, |&byte| byte == 0xff);
    let grammar = parts.next().unwrap_or_default();
    let text = parts.next().unwrap_or(grammar);
    let text = &text[..text.len().min(256)];
    let parsed = Grammar::parse(grammar, b"root", None);
    if let Err(error) = &parsed {
        assert!(!error.to_string().is_empty());
    }
    let Ok(parsed) = parsed else { return };
    let mut whole = Matcher::new(Arc::new(parsed));
    let mut pieces = whole.clone();
    let start = whole.is_complete();
    let at_once = whole.accept(0, text);
    // What is no text reads as nothing, a NUL ends a text, and elements for tokens read whole ones.
    let is_text = std::str::from_utf8(text).is_ok() && !text.is_empty() && !text.contains(&0);
    if !is_text || grammar.contains(&b'<') {
        return;
    }
    let one_by_one = text.iter().fold(true, |alive, &byte| alive && pieces.accept(0, &[byte]));
    if whole.is_too_ambiguous() || pieces.is_too_ambiguous() {
        return;
    }
    assert_eq!(at_once, one_by_one);
    assert_eq!(whole.is_complete(), pieces.is_complete());
    whole.reset();
    assert_eq!(whole.is_complete(), start);
});
