//! Words of GPT-2:
//! `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`

use super::super::unicode::{Class, Classified};
use super::{contraction, white_end};

/// End of the word that starts at `pos`, which must lie before the end of the text.
pub(super) fn word_end(text: &Classified<'_>, pos: usize) -> usize {
    if text.byte(pos) == Some(b'\'') {
        let len = contraction(&text.text()[pos..], |&b| b);
        if len > 0 {
            return pos + len;
        }
    }
    let space = (text.byte(pos) == Some(b' ')) as usize;
    let (class, _) = text.at(pos + space);
    if class.is_letter() {
        text.run(pos + space, Class::is_letter)
    } else if class.is_number() {
        text.run(pos + space, Class::is_number)
    } else if class.is_other() {
        text.run(pos + space, Class::is_other)
    } else {
        white_end(text, pos)
    }
}
