//! Expressions that cut one thing out of a text and leave the rest to the next: numbers,
//! punctuation, lines.

use super::super::unicode::{Class, Classified};
use super::parts::*;

/// `\p{N}+`
pub(super) fn numbers(text: &Classified<'_>, pos: usize) -> Option<usize> {
    some(pos, text.run(pos, Class::is_number))
}

/// `[0-9][0-9][0-9]`
pub(super) fn three_digits(text: &Classified<'_>, pos: usize) -> Option<usize> {
    let three = text.text().get(pos..pos + 3)?;
    three.iter().all(u8::is_ascii_digit).then_some(pos + 3)
}

/// `[\p{P}\$\+<=>\^~\|]+`
pub(super) fn signs(text: &Classified<'_>, pos: usize) -> Option<usize> {
    some(pos, text.run_of(pos, is_sign))
}

/// ``[\p{P}\$\+<=>\^~\|`]+``
pub(super) fn signs_and_backticks(text: &Classified<'_>, pos: usize) -> Option<usize> {
    some(pos, text.run_of(pos, |cp, class| is_sign(cp, class) || cp == b'`' as u32))
}

fn is_sign(cp: u32, class: Class) -> bool {
    class.is_punctuation() || u8::try_from(cp).is_ok_and(|b| b"$+<=>^~|".contains(&b))
}

/// `[\p{P}!-/:-@\[-`{-~]`
pub(super) fn sign(text: &Classified<'_>, pos: usize) -> Option<usize> {
    let (cp, class, len) = text.code_point(pos)?;
    let ascii = u8::try_from(cp).is_ok_and(|b| b.is_ascii_punctuation());
    (class.is_punctuation() || ascii).then_some(pos + len)
}

/// ` ?[^(\s|.,!?…。，、।۔،)]+`
pub(super) fn between_punctuation(text: &Classified<'_>, pos: usize) -> Option<usize> {
    let start = pos + (text.byte(pos) == Some(b' ')) as usize;
    let wanted = |cp, class: Class| {
        let listed = char::from_u32(cp).is_some_and(|c| "(|.,!?…。，、।۔،)".contains(c));
        !class.is_white() && !listed
    };
    some(start, text.run_of(start, wanted))
}

/// `[^\n]+|[\n]+`
pub(super) fn lines(text: &Classified<'_>, pos: usize) -> Option<usize> {
    let rest = text.text().get(pos..)?;
    let is_end = *rest.first()? == b'\n';
    let len = match is_end {
        true => rest.iter().position(|&b| b != b'\n'),
        false => memchr::memchr(b'\n', rest),
    };
    Some(pos + len.unwrap_or(rest.len()))
}

/// `\S+`
pub(super) fn not_white(text: &Classified<'_>, pos: usize) -> Option<usize> {
    some(pos, text.run(pos, |class| class != Class::END && !class.is_white()))
}

/// `<sentinel:[0-9]+>`
pub(super) fn sentinel(text: &Classified<'_>, pos: usize) -> Option<usize> {
    let rest = text.text()[pos..].strip_prefix(b"<sentinel:")?;
    let n = rest.iter().take_while(|b| b.is_ascii_digit()).count();
    (n > 0 && rest.get(n) == Some(&b'>')).then(|| pos + b"<sentinel:>".len() + n)
}

/// `(IMGIMG)((A|B|C|D|E|F|G|H|I){1,4})Z`
pub(super) fn image(text: &Classified<'_>, pos: usize) -> Option<usize> {
    let rest = text.text()[pos..].strip_prefix(b"IMGIMG")?;
    let n = rest.iter().take_while(|b| matches!(b, b'A'..=b'I')).count();
    ((1..=4).contains(&n) && rest.get(n) == Some(&b'Z')).then(|| pos + b"IMGIMGZ".len() + n)
}

/// `([\t\n]|    |  )`
pub(super) fn indent(text: &Classified<'_>, pos: usize) -> Option<usize> {
    match text.text()[pos..] {
        [b'\t' | b'\n', ..] => Some(pos + 1),
        [b' ', b' ', b' ', b' ', ..] => Some(pos + 4),
        [b' ', b' ', ..] => Some(pos + 2),
        _ => None,
    }
}

/// Numbers in threes from the right, `\p{N}{1,3}(?=(?:\p{N}{3})*(?!\p{N}))`; what is before a
/// number stays with its first group, for the next expression to part them.
pub(super) fn numbers_from_the_right<'a>(piece: &'a [u8], word: &mut dyn FnMut(&'a [u8])) {
    let text = Classified::new(piece);
    let mut start = 0;
    let mut pos = 0;
    while pos < piece.len() {
        pos = text.run(pos, |class| class != Class::END && !class.is_number());
        let end = text.run(pos, Class::is_number);
        let mut left = count(&piece[pos..end]);
        while pos < end {
            pos += text.at(pos).1;
            left -= 1;
            if left.is_multiple_of(3) {
                word(&piece[start..pos]);
                start = pos;
            }
        }
    }
    if start < piece.len() {
        word(&piece[start..]);
    }
}

/// Number of code points.
fn count(text: &[u8]) -> usize {
    text.iter().filter(|&&byte| byte & 0xc0 != 0x80).count()
}

/// `(?=(\d{3})+(?!\d))`: cuts where a multiple of three ASCII digits follows.
pub(super) fn before_threes<'a>(piece: &'a [u8], word: &mut dyn FnMut(&'a [u8])) {
    let mut start = 0;
    let mut pos = 0;
    while pos < piece.len() {
        let digits = piece[pos..].iter().take_while(|b| b.is_ascii_digit()).count();
        let end = pos + digits;
        for cut in (pos + digits % 3..end).step_by(3).filter(|&cut| cut > 0) {
            word(&piece[start..cut]);
            start = cut;
        }
        pos = end + 1;
    }
    if start < piece.len() {
        word(&piece[start..]);
    }
}

/// White space in powers of two, `\s{512}(?!\S)|…|\s{4}(?!\S)|\s{1,2}(?!\S)`, of words of it that
/// do not end in a line break.
pub(super) fn white_in_powers_of_two<'a>(piece: &'a [u8], word: &mut dyn FnMut(&'a [u8])) {
    let text = Classified::new(piece);
    let ends_line = matches!(piece.last(), Some(b'\r' | b'\n'));
    if ends_line || text.run(0, Class::is_white) < piece.len() {
        return word(piece);
    }
    let mut left = count(piece);
    let mut start = 0;
    while left > 0 {
        let n = if left == 1 { 1 } else { (1 << left.ilog2()).min(512) };
        let end = (0..n).fold(start, |pos, _| pos + text.at(pos).1);
        word(&piece[start..end]);
        start = end;
        left -= n;
    }
}
