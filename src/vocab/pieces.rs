//! From tokens back to text.

use super::spm::ESCAPED_SPACE;
use super::texts::Texts;
use super::{Error, Token, TokenAttr, VocabType, byte_level, rwkv, unicode};

/// Bytes that the spelling of undecodable characters may take in all, beyond the texts
/// themselves. It repeats the token's text for each of them, so a hostile file could ask for the
/// square of its size; real ones have none or a few such tokens.
const MAX_SPELT: usize = 16 << 20;

/// The text that each token stands for, in one arena.
pub(super) struct Pieces {
    arena: Vec<u8>,
    ends: Vec<u32>,
}

impl Pieces {
    /// Decodes all tokens. `texts` and `attrs` are by token.
    pub(super) fn new(kind: VocabType, texts: &Texts, attrs: &[TokenAttr]) -> Result<Self, Error> {
        let mut pieces = Self { arena: Vec::new(), ends: Vec::with_capacity(attrs.len()) };
        let mut budget = MAX_SPELT;
        for (i, &attr) in attrs.iter().enumerate() {
            let text = texts.get(i as u32).unwrap_or_default();
            match kind {
                VocabType::Test => pieces.arena.extend_from_slice(format!("{i:x}").as_bytes()),
                VocabType::Spm | VocabType::Wpm | VocabType::Ugm => {
                    decode_escaped(text, attr, &mut pieces.arena);
                }
                VocabType::Rwkv => rwkv::unescape(text, &mut pieces.arena),
                VocabType::Plamo2 => match hex_byte(text) {
                    Some(byte) if attr.any(TokenAttr::BYTE) => pieces.arena.push(byte),
                    _ => pieces.arena.extend_from_slice(text),
                },
                _ => decode_bpe(text, attr, &mut pieces.arena, &mut budget),
            }
            let end = pieces.arena.len();
            let end = u32::try_from(end).map_err(|_| Error::TooLarge { bytes: end })?;
            pieces.ends.push(end);
        }
        Ok(pieces)
    }

    /// The text of a token; `None` if there is no such token.
    pub(super) fn get(&self, token: Token) -> Option<&[u8]> {
        let i = usize::try_from(token).ok()?;
        let end = *self.ends.get(i)? as usize;
        let start = i.checked_sub(1).map_or(0, |before| self.ends[before] as usize);
        Some(&self.arena[start..end])
    }
}

/// Token types whose text is meant as it is written.
fn verbatim() -> TokenAttr {
    TokenAttr::UNKNOWN | TokenAttr::CONTROL | TokenAttr::USER_DEFINED
}

/// Appends what a token stands for in which `▁` is a space.
fn decode_escaped(text: &[u8], attr: TokenAttr, out: &mut Vec<u8>) {
    if attr.any(verbatim()) {
        out.extend_from_slice(text);
    } else if attr.any(TokenAttr::NORMAL) {
        let mut from = 0;
        for at in memchr::memmem::find_iter(text, ESCAPED_SPACE) {
            out.extend_from_slice(&text[from..at]);
            out.push(b' ');
            from = at + ESCAPED_SPACE.len();
        }
        out.extend_from_slice(&text[from..]);
    } else if attr.any(TokenAttr::BYTE) {
        out.push(byte_token(text));
    }
}

/// Appends what a token of a byte-level BPE vocabulary stands for.
fn decode_bpe(text: &[u8], attr: TokenAttr, out: &mut Vec<u8>, budget: &mut usize) {
    if attr.any(verbatim()) {
        out.extend_from_slice(text);
    } else if attr.any(TokenAttr::NORMAL) {
        decode_byte_level(text, out, budget);
    } else if attr.any(TokenAttr::BYTE) {
        out.push(byte_token(text));
    }
}

/// Appends the bytes that the characters of `text` stand for. A character that stands for no byte
/// is spelt out, the way llama.cpp does, as long as the budget lasts; then it stands for itself.
fn decode_byte_level(text: &[u8], out: &mut Vec<u8>, budget: &mut usize) {
    let fixed = unicode::repair(text);
    for (cp, bytes) in unicode::code_points(&fixed) {
        if let Some(byte) = byte_level::byte_of(cp) {
            out.push(byte);
        } else if let Some(left) = budget.checked_sub(text.len() + 21) {
            *budget = left;
            let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            out.extend_from_slice(format!("[UNK_BYTE_0x{hex}").as_bytes());
            out.extend_from_slice(text);
            out.push(b']');
        } else {
            out.extend_from_slice(bytes);
        }
    }
}

/// The byte of a text like `<0x0A>`: C's `strtol` over the two characters after `<0x`.
fn byte_token(text: &[u8]) -> u8 {
    let digits = text.iter().skip(3).take(2).map_while(|&b| (b as char).to_digit(16));
    digits.fold(0, |value, digit| value * 16 + digit) as u8
}

/// The byte of a text like `<0x0A>` and of no other.
pub(super) fn hex_byte(text: &[u8]) -> Option<u8> {
    match text {
        [b'<', b'0', b'x', high, low, b'>']
            if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
        {
            Some(byte_token(text))
        }
        _ => None,
    }
}

/// Removes up to `lstrip` leading spaces.
pub(super) fn strip_left(piece: &[u8], lstrip: usize) -> &[u8] {
    let n = piece.iter().take(lstrip).take_while(|&&b| b == b' ').count();
    &piece[n..]
}

/// The `clean_up_tokenization_spaces` of Hugging Face, pass by pass as llama.cpp does it: no
/// space before `? ! . ,`, none around a lone apostrophe, none before `'s 'm 're 've`.
pub(super) fn clean_spaces(text: &mut Vec<u8>) {
    squeeze(text, |rest| match rest {
        [b'?' | b'!' | b'.' | b',', ..] => Squeeze::DropSpaceBefore,
        _ => Squeeze::Keep,
    });
    squeeze(text, |rest| match rest {
        [b'\'', b' ', ..] => Squeeze::DropSpacesAround,
        _ => Squeeze::Keep,
    });
    squeeze(text, |rest| match rest {
        [b'\'', b's' | b'm', ..] | [b'\'', b'r' | b'v', b'e', ..] => Squeeze::DropSpaceBefore,
        _ => Squeeze::Keep,
    });
}

/// What to do about the space before a place in the text.
enum Squeeze {
    Keep,
    DropSpaceBefore,
    DropSpacesAround,
}

/// One pass: asks `judge` about the rest of the text after each space.
fn squeeze(text: &mut Vec<u8>, judge: impl Fn(&[u8]) -> Squeeze) {
    let mut to = text.len().min(1);
    let mut from = 1;
    while from < text.len() {
        let byte = text[from];
        let action = if text[from - 1] == b' ' { judge(&text[from..]) } else { Squeeze::Keep };
        if !matches!(action, Squeeze::Keep) {
            to -= 1;
        }
        text[to] = byte;
        to += 1;
        from += 1;
        if matches!(action, Squeeze::DropSpacesAround) {
            // The space that follows is gone, and is no space before what comes next.
            text[from] = 0;
            from += 1;
        }
    }
    text.truncate(to);
}
