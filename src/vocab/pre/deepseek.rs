//! Expressions of DeepSeek and those made after them: numbers and East Asian text are cut out
//! first, then a third expression goes over what is between.

use super::super::unicode::{Class, Classified};
use super::parts::*;
use super::scripts;

/// `[!-/:-@\[-`{-~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
pub(super) fn v3(text: &Classified<'_>, pos: usize) -> Option<usize> {
    word(text, pos)
        .or_else(|| spaced(text, pos, is_sign).map(|end| skip(text, end, b"\r\n")))
        .or_else(|| line_breaks_or_white(text, pos))
}

/// Like [`v3`] with ` ?[\p{P}\p{S}]+|[\r\n]|\s+(?!\S)|\s+` in the end.
pub(super) fn spark(text: &Classified<'_>, pos: usize) -> Option<usize> {
    word(text, pos)
        .or_else(|| spaced(text, pos, is_sign))
        .or_else(|| line_break(text, pos))
        .or_else(|| white(text, pos))
}

fn is_sign(class: Class) -> bool {
    class.is_punctuation() || class.is_symbol()
}

/// `[!-/:-@\[-`{-~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+`
fn word(text: &Classified<'_>, pos: usize) -> Option<usize> {
    if text.byte(pos)?.is_ascii_punctuation() {
        let rest = &text.text()[pos + 1..];
        let n = rest.iter().take_while(|b| b.is_ascii_alphabetic()).count();
        return (n > 0).then_some(pos + 1 + n);
    }
    let letters = |p| some(p, text.run(p, Class::is_letter_or_mark));
    let (class, len) = text.at(pos);
    let free = !class.is_letter() && !is_sign(class) && !is_line_break(text, pos);
    free.then(|| letters(pos + len)).flatten().or_else(|| letters(pos))
}

/// `[\r\n]`
pub(super) fn line_break(text: &Classified<'_>, pos: usize) -> Option<usize> {
    is_line_break(text, pos).then_some(pos + 1)
}

/// `\s?` and then a run of code points.
fn after_white(
    text: &Classified<'_>,
    pos: usize,
    wanted: impl Fn(u32, Class) -> bool,
) -> Option<usize> {
    let (class, len) = text.at(pos);
    let start = if class.is_white() { pos + len } else { pos };
    some(start, text.run_of(start, wanted))
}

/// `\s?[A-Za-zµÀ-ÖØ-öø-ƺ…]+`: letters with a case, of the scripts that had one in 2020.
pub(super) fn llm_letters(text: &Classified<'_>, pos: usize) -> Option<usize> {
    after_white(text, pos, |cp, _| scripts::contains(scripts::CASED, cp))
}

/// `\s?[!-/:-~！-／：-～‘-‟　-。]+`; the ideographic space is white space and nothing else.
pub(super) fn llm_signs(text: &Classified<'_>, pos: usize) -> Option<usize> {
    after_white(text, pos, |cp, _| {
        matches!(cp, 0x21..=0x2f | 0x3a..=0x7e | 0xff01..=0xff0f | 0xff1a..=0xff5e
            | 0x2018..=0x201f | 0x3001..=0x3002)
    })
}

/// `\s?\p{L}+`
pub(super) fn coder_letters(text: &Classified<'_>, pos: usize) -> Option<usize> {
    after_white(text, pos, |_, class| class.is_letter())
}

/// `\s?\p{P}+`
pub(super) fn coder_punctuation(text: &Classified<'_>, pos: usize) -> Option<usize> {
    after_white(text, pos, |_, class| class.is_punctuation())
}

/// `\s+$`
pub(super) fn white_at_the_end<'a>(piece: &'a [u8], word: &mut dyn FnMut(&'a [u8])) {
    let text = Classified::new(piece);
    let (mut pos, mut start) = (0, 0);
    while pos < piece.len() {
        let (class, len) = text.at(pos);
        pos += len;
        if !class.is_white() {
            start = pos;
        }
    }
    for part in [&piece[..start], &piece[start..]] {
        if !part.is_empty() {
            word(part);
        }
    }
}
