//! Words of Llama 3:
//! `'(?i:[stmd]|re|ve|ll)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`

use super::super::unicode::{Class, Classified};
use super::{contraction, white_end};

/// End of the word that starts at `pos`, which must lie before the end of the text.
pub(super) fn word_end(text: &Classified<'_>, pos: usize) -> usize {
    let first = text.byte(pos);
    if first == Some(b'\'') {
        let len = contraction(&text.text()[pos..], u8::to_ascii_lowercase);
        if len > 0 {
            return pos + len;
        }
    }
    let (class, len) = text.at(pos);
    if class.is_number() {
        return number_end(text, pos);
    }
    // Letters, with any one character before them that is no line break.
    let line_break = matches!(first, Some(b'\r' | b'\n'));
    if class.is_letter() || !line_break && text.at(pos + len).0.is_letter() {
        return text.run(pos + len, Class::is_letter);
    }
    let space = (first == Some(b' ')) as usize;
    if text.at(pos + space).0.is_other() {
        let end = text.run(pos + space, Class::is_other);
        return skip_line_breaks(text, end);
    }
    match last_line_break(text, pos) {
        Some(end) => end,
        None => white_end(text, pos),
    }
}

/// Up to three number characters.
fn number_end(text: &Classified<'_>, pos: usize) -> usize {
    let mut end = pos;
    for _ in 0..3 {
        match text.at(end) {
            (class, len) if class.is_number() => end += len,
            _ => break,
        }
    }
    end
}

fn skip_line_breaks(text: &Classified<'_>, mut pos: usize) -> usize {
    while matches!(text.byte(pos), Some(b'\r' | b'\n')) {
        pos += 1;
    }
    pos
}

/// `\s*[\r\n]+`: just behind the last line break of the white space at `pos`.
fn last_line_break(text: &Classified<'_>, mut pos: usize) -> Option<usize> {
    let mut found = None;
    loop {
        let (class, len) = text.at(pos);
        if !class.is_white() {
            return found;
        }
        pos += len;
        if matches!(text.byte(pos - 1), Some(b'\r' | b'\n')) {
            found = Some(pos);
        }
    }
}
