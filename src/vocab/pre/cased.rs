//! Expressions that cut before an upper-case letter: Tekken and GPT-4o.
//!
//! Only ASCII letters have a case here; any other letter counts as both. With `X` for letters
//! but `a-z` and `Y` for letters but `A-Z`, words are
//! `[^\r\n\p{L}\p{N}]?X*Y+|[^\r\n\p{L}\p{N}]?X+Y*`.

use super::super::unicode::{Class, Classified};
use super::parts::*;

/// `…|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+`
pub(super) fn tekken(text: &Classified<'_>, pos: usize) -> Option<usize> {
    cased(text, pos, Class::is_letter)
        .or_else(|| number(text, pos))
        .or_else(|| others_with_slashes(text, pos))
        .or_else(|| line_breaks_or_white(text, pos))
}

/// Like [`tekken`] with `\p{N}{1,3}`, and `(?i:'s|'t|'re|'ve|'m|'ll|'d)?` behind a word.
pub(super) fn gpt4o(text: &Classified<'_>, pos: usize) -> Option<usize> {
    with_contraction(text, pos, Class::is_letter)
}

/// Like [`gpt4o`], with marks among the letters.
pub(super) fn granite_emb(text: &Classified<'_>, pos: usize) -> Option<usize> {
    with_contraction(text, pos, Class::is_letter_or_mark)
}

fn with_contraction(text: &Classified<'_>, pos: usize, letter: fn(Class) -> bool) -> Option<usize> {
    cased(text, pos, letter)
        .map(|end| contraction_any_case(text, end).unwrap_or(end))
        .or_else(|| up_to_three_numbers(text, pos))
        .or_else(|| others_with_slashes(text, pos))
        .or_else(|| line_breaks_or_white(text, pos))
}

/// `[^\r\n\p{L}\p{N}]?X*Y+|[^\r\n\p{L}\p{N}]?X+Y*`
fn cased(text: &Classified<'_>, pos: usize, letter: fn(Class) -> bool) -> Option<usize> {
    let not_lower = |cp: u32, class: Class| letter(class) && !is_ascii(cp, b'a'..=b'z');
    let not_upper = |cp: u32, class: Class| letter(class) && !is_ascii(cp, b'A'..=b'Z');
    // Without a lower-case letter in it, the first alternative ends behind the last letter that
    // has no case; so the second one meets capitals only, and `Y*` is empty.
    after_other(text, pos, |p| {
        let lower = text.run_of(p, not_lower);
        if let Some(end) = some(lower, text.run_of(lower, not_upper)) {
            return Some(end);
        }
        let word = &text.text()[p..lower];
        word.iter().rposition(|b| !b.is_ascii_uppercase()).map(|last| p + last + 1)
    })
    .or_else(|| after_other(text, pos, |p| some(p, text.run_of(p, not_lower))))
}

fn is_ascii(cp: u32, range: std::ops::RangeInclusive<u8>) -> bool {
    u8::try_from(cp).is_ok_and(|b| range.contains(&b))
}
