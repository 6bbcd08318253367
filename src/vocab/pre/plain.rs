//! Expressions of the GPT-2 and Llama 3 kind: contractions, letters, numbers, the rest, white
//! space, with one match at every place of a text.

use super::super::unicode::{Class, Classified};
use super::parts::*;

/// `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`
pub(super) fn gpt2(text: &Classified<'_>, pos: usize) -> Option<usize> {
    contraction(text, pos)
        .or_else(|| spaced(text, pos, Class::is_letter))
        .or_else(|| spaced(text, pos, Class::is_number))
        .or_else(|| spaced(text, pos, Class::is_other))
        .or_else(|| white(text, pos))
}

/// `(?i:'s|…)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
pub(super) fn llama3(text: &Classified<'_>, pos: usize) -> Option<usize> {
    contraction_any_case(text, pos)
        .or_else(|| letters(text, pos))
        .or_else(|| up_to_three_numbers(text, pos))
        .or_else(|| others_with_line_breaks(text, pos))
        .or_else(|| line_breaks_or_white(text, pos))
}

/// Like [`llama3`] with `\p{N}`.
pub(super) fn qwen2(text: &Classified<'_>, pos: usize) -> Option<usize> {
    contraction_any_case(text, pos).or_else(|| ufakzeka(text, pos))
}

/// Like [`qwen2`] without contractions, which are Turkish suffixes here.
pub(super) fn ufakzeka(text: &Classified<'_>, pos: usize) -> Option<usize> {
    letters(text, pos)
        .or_else(|| number(text, pos))
        .or_else(|| others_with_line_breaks(text, pos))
        .or_else(|| line_breaks_or_white(text, pos))
}

/// Like [`qwen2`], with marks among the letters: `[\p{L}\p{M}]+` and `[^\s\p{L}\p{M}\p{N}]+`.
pub(super) fn qwen35(text: &Classified<'_>, pos: usize) -> Option<usize> {
    let other = |class: Class| class.is_other() && !class.is_mark();
    contraction_any_case(text, pos)
        .or_else(|| marked_letters(text, pos))
        .or_else(|| number(text, pos))
        .or_else(|| spaced(text, pos, other).map(|end| skip(text, end, b"\r\n")))
        .or_else(|| line_breaks_or_white(text, pos))
}

/// Like [`qwen2`], with no line breaks behind `[^\s\p{L}\p{N}]+`.
pub(super) fn seed_coder(text: &Classified<'_>, pos: usize) -> Option<usize> {
    contraction_any_case(text, pos)
        .or_else(|| letters(text, pos))
        .or_else(|| number(text, pos))
        .or_else(|| spaced(text, pos, Class::is_other))
        .or_else(|| line_breaks_or_white(text, pos))
}

/// Like [`llama3`] with `\p{N}+`.
pub(super) fn minicpm5(text: &Classified<'_>, pos: usize) -> Option<usize> {
    contraction_any_case(text, pos)
        .or_else(|| letters(text, pos))
        .or_else(|| some(pos, text.run(pos, Class::is_number)))
        .or_else(|| others_with_line_breaks(text, pos))
        .or_else(|| line_breaks_or_white(text, pos))
}

/// Like [`qwen2`], with several words of letters and marks in one,
/// `[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+`, and ` ?[^\s\p{L}\p{N}]+[\r\n/]?`.
pub(super) fn exaone_moe(text: &Classified<'_>, pos: usize) -> Option<usize> {
    contraction_any_case(text, pos)
        .or_else(|| after_other(text, pos, |p| words(text, p)))
        .or_else(|| number(text, pos))
        .or_else(|| {
            let end = spaced(text, pos, Class::is_other)?;
            Some(end + is_line_break(text, end) as usize)
        })
        .or_else(|| line_breaks_or_white(text, pos))
}

/// `(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+`
fn words(text: &Classified<'_>, pos: usize) -> Option<usize> {
    if !text.at(pos).0.is_letter() {
        return None;
    }
    let mut end = pos;
    loop {
        end = text.run(end, Class::is_letter_or_mark);
        if text.byte(end) != Some(b' ') || !text.at(end + 1).0.is_letter() {
            return Some(end);
        }
        end += 1;
    }
}

/// `[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+(?i:'s|…)?|…`, then as [`others_with_slashes`] and white space.
fn marked_words(
    text: &Classified<'_>,
    pos: usize,
    numbers: impl Fn(&Classified<'_>, usize) -> Option<usize>,
) -> Option<usize> {
    marked_letters(text, pos)
        .map(|end| contraction_any_case(text, end).unwrap_or(end))
        .or_else(|| numbers(text, pos))
        .or_else(|| others_with_slashes(text, pos))
        .or_else(|| line_breaks_or_white(text, pos))
}

/// `[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+(?i:'s|…)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+`
///
/// The expression asks for upper case and then lower case; the reference takes any letter for both.
pub(super) fn tiny_aya(text: &Classified<'_>, pos: usize) -> Option<usize> {
    marked_words(text, pos, up_to_three_numbers)
}

/// As [`tiny_aya`] with `\p{N}`.
pub(super) fn youtu(text: &Classified<'_>, pos: usize) -> Option<usize> {
    marked_words(text, pos, number)
}

/// `\p{Han}+|[^\r\n\p{L}\p{N}]?[\p{L}&&[^\p{Han}]]+(?i:'s|…)?|` and then as [`llama3`] from the
/// numbers on.
pub(super) fn kimi_k2(text: &Classified<'_>, pos: usize) -> Option<usize> {
    let letter = |cp: u32, class: Class| class.is_letter() && !is_han(cp);
    some(pos, text.run_of(pos, |cp, _| is_han(cp)))
        .or_else(|| {
            after_other(text, pos, |p| some(p, text.run_of(p, letter)))
                .map(|end| contraction_any_case(text, end).unwrap_or(end))
        })
        .or_else(|| up_to_three_numbers(text, pos))
        .or_else(|| others_with_line_breaks(text, pos))
        .or_else(|| line_breaks_or_white(text, pos))
}

/// What counts as Han: the blocks of unified and compatibility ideographs up to extension F.
fn is_han(cp: u32) -> bool {
    matches!(cp, 0x3400..=0x4dbf | 0x4e00..=0x9fff | 0xf900..=0xfaff | 0x20000..=0x2a6df
        | 0x2a700..=0x2ebef | 0x2f800..=0x2fa1f)
}
