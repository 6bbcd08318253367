//! Any text cut into words by hand and by the expressions of each family of pre-tokenizers.
//!
//! The first byte chooses the family, the rest are text.
#![no_main]

#[path = "../../vocab_support/expressions.rs"]
mod expressions;

use std::sync::OnceLock;

use expressions::Expressions;
use libfuzzer_sys::fuzz_target;
use powerinfer::vocab::pre_tokenize;

/// Longer texts take a backtracking engine more than a second.
const MAX_TEXT: usize = 2048;

fuzz_target!(|bytes: &[u8]| {
    static ALL: OnceLock<Vec<Expressions>> = OnceLock::new();
    let all = ALL.get_or_init(Expressions::all);
    let Some((&which, text)) = bytes.split_first() else { return };
    let family = &all[which as usize % all.len()];
    let text = String::from_utf8_lossy(&text[..text.len().min(MAX_TEXT)]);
    if !family.knows(&text) {
        return;
    }
    let Some(want) = family.words(&text) else { return };
    let got = pre_tokenize(family.name, text.as_bytes()).unwrap();
    let got: Vec<&str> = got.iter().map(|word| std::str::from_utf8(word).unwrap()).collect();
    assert_eq!(got, want, "{}", family.name);
});
