//! The alternatives of which the expressions are made. Each looks at one place of a text and
//! answers with the end of its match there, if it matches.

use super::super::unicode::{Class, Classified};

/// `end`, unless nothing was matched.
pub(super) fn some(pos: usize, end: usize) -> Option<usize> {
    (end > pos).then_some(end)
}

/// `'s|'t|'re|'ve|'m|'ll|'d`
pub(super) fn contraction(text: &Classified<'_>, pos: usize) -> Option<usize> {
    folded_contraction(text, pos, |b| b)
}

/// `(?i:'s|'t|'re|'ve|'m|'ll|'d)`, for ASCII letters
pub(super) fn contraction_any_case(text: &Classified<'_>, pos: usize) -> Option<usize> {
    folded_contraction(text, pos, |b| b.to_ascii_lowercase())
}

fn folded_contraction(text: &Classified<'_>, pos: usize, fold: impl Fn(u8) -> u8) -> Option<usize> {
    if text.byte(pos) != Some(b'\'') {
        return None;
    }
    match (fold(text.byte(pos + 1)?), text.byte(pos + 2).map(&fold)) {
        (b's' | b't' | b'm' | b'd', _) => Some(pos + 2),
        (b'r' | b'v', Some(b'e')) | (b'l', Some(b'l')) => Some(pos + 3),
        _ => None,
    }
}

/// Is there one of `[\r\n]`?
pub(super) fn is_line_break(text: &Classified<'_>, pos: usize) -> bool {
    matches!(text.byte(pos), Some(b'\r' | b'\n'))
}

/// `[^\r\n\p{L}\p{N}]?` and then `body`, greedily: first with a character before it.
pub(super) fn after_other(
    text: &Classified<'_>,
    pos: usize,
    body: impl Fn(usize) -> Option<usize>,
) -> Option<usize> {
    let (class, len) = text.at(pos);
    let free = !class.is_letter() && !class.is_number() && !is_line_break(text, pos);
    free.then(|| body(pos + len)).flatten().or_else(|| body(pos))
}

/// `[^\r\n\p{L}\p{N}]?\p{L}+`
pub(super) fn letters(text: &Classified<'_>, pos: usize) -> Option<usize> {
    after_other(text, pos, |p| some(p, text.run(p, Class::is_letter)))
}

/// `[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+`
pub(super) fn marked_letters(text: &Classified<'_>, pos: usize) -> Option<usize> {
    after_other(text, pos, |p| some(p, text.run(p, Class::is_letter_or_mark)))
}

/// `\p{N}`
pub(super) fn number(text: &Classified<'_>, pos: usize) -> Option<usize> {
    let (class, len) = text.at(pos);
    class.is_number().then_some(pos + len)
}

/// `\p{N}{1,3}`
pub(super) fn up_to_three_numbers(text: &Classified<'_>, pos: usize) -> Option<usize> {
    let first = number(text, pos)?;
    let second = number(text, first);
    second.map(|end| number(text, end).unwrap_or(end)).or(Some(first))
}

/// ` ?[…]+`: a run of the class, with a space before it.
pub(super) fn spaced(
    text: &Classified<'_>,
    pos: usize,
    class: impl Fn(Class) -> bool,
) -> Option<usize> {
    let start = pos + (text.byte(pos) == Some(b' ')) as usize;
    some(start, text.run(start, class))
}

/// ` ?[^\s\p{L}\p{N}]+[\r\n]*`
pub(super) fn others_with_line_breaks(text: &Classified<'_>, pos: usize) -> Option<usize> {
    spaced(text, pos, Class::is_other).map(|end| skip(text, end, b"\r\n"))
}

/// ` ?[^\s\p{L}\p{N}]+[\r\n/]*`
pub(super) fn others_with_slashes(text: &Classified<'_>, pos: usize) -> Option<usize> {
    spaced(text, pos, Class::is_other).map(|end| skip(text, end, b"\r\n/"))
}

/// End of the run of `bytes` at `pos`.
pub(super) fn skip(text: &Classified<'_>, pos: usize, bytes: &[u8]) -> usize {
    let rest = text.text().get(pos..).unwrap_or_default();
    pos + rest.iter().take_while(|b| bytes.contains(b)).count()
}

/// `\s*[\r\n]+`: up to the last line break of the white space at `pos`.
pub(super) fn line_breaks(text: &Classified<'_>, mut pos: usize) -> Option<usize> {
    let mut found = None;
    loop {
        let (class, len) = text.at(pos);
        if !class.is_white() {
            return found;
        }
        if is_line_break(text, pos) {
            found = Some(pos + len);
        }
        pos += len;
    }
}

/// `\s+(?!\S)|\s+`: all the white space at the end of the text; before other text the last
/// character stays with what follows, unless it is the only one.
pub(super) fn white(text: &Classified<'_>, pos: usize) -> Option<usize> {
    let (mut last, mut end) = (pos, pos);
    loop {
        let (class, len) = text.at(end);
        if !class.is_white() {
            break;
        }
        last = end;
        end += len;
    }
    let more_follows = end < text.text().len();
    some(pos, if more_follows && last > pos { last } else { end })
}

/// `\s*[\r\n]+|\s+(?!\S)|\s+`
pub(super) fn line_breaks_or_white(text: &Classified<'_>, pos: usize) -> Option<usize> {
    line_breaks(text, pos).or_else(|| white(text, pos))
}
