//! RWKV's tokenizer (`tokenizer.ggml.model = "rwkv"`): always the longest token that matches.
//!
//! Tokens are byte strings; the file spells them with escapes (`\n`, `\xe4`).

use super::texts::Texts;
use super::trie::Trie;
use super::{Context, Token};

/// The tokens to match.
pub(super) struct Rwkv {
    trie: Trie,
}

impl Rwkv {
    /// Over the tokens in `texts`.
    pub(super) fn new(texts: &Texts) -> Self {
        let mut arena = Vec::new();
        let ends: Vec<usize> = (0..texts.len() as u32)
            .map(|n| {
                unescape(texts.get(n).unwrap_or_default(), &mut arena);
                arena.len()
            })
            .collect();
        let starts = std::iter::once(0).chain(ends.iter().copied());
        let tokens = starts.zip(&ends).map(|(start, &end)| &arena[start..end]);
        Self { trie: Trie::new(tokens.zip(0..)) }
    }

    /// Appends the tokens of `text`. A byte at which none matches becomes the unknown token, or
    /// nothing if there is none.
    pub(super) fn tokenize(&self, ctx: &Context<'_>, mut text: &[u8], out: &mut Vec<Token>) {
        while !text.is_empty() {
            let len = match self.trie.prefixes(text).last() {
                Some((len, token)) => {
                    out.push(token as Token);
                    len
                }
                None => {
                    out.extend(ctx.unk);
                    1
                }
            };
            text = &text[len..];
        }
    }
}

/// Appends the bytes that a token's spelling stands for: `\t`, `\n`, `\r`, `\x` with two
/// lower-case hex digits, and any other byte for itself with or without a backslash.
pub(super) fn unescape(text: &[u8], out: &mut Vec<u8>) {
    let mut bytes = text.iter().copied();
    while let Some(byte) = bytes.next() {
        if byte != b'\\' {
            out.push(byte);
            continue;
        }
        match bytes.next() {
            Some(b't') => out.push(b'\t'),
            Some(b'n') => out.push(b'\n'),
            Some(b'r') => out.push(b'\r'),
            Some(b'x') => {
                if let (Some(high), Some(low)) = (bytes.next(), bytes.next()) {
                    out.push((digit(high) << 4).wrapping_add(digit(low)));
                }
            }
            Some(other) => out.push(other),
            None => {}
        }
    }
}

/// Value of a hex digit. What is none has some value too, the same as in llama.cpp (whose
/// characters are signed).
fn digit(byte: u8) -> u8 {
    match byte {
        b'a'..=0x7f => byte - b'a' + 10,
        _ => byte.wrapping_sub(b'0'),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_resolved() {
        let plain = |text: &str| {
            let mut out = Vec::new();
            unescape(text.as_bytes(), &mut out);
            out
        };
        assert_eq!(plain(r"a\tb\n\r\\\'\x00\xe4\xff"), b"a\tb\n\r\\'\x00\xe4\xff");
        assert_eq!(plain("ä"), "ä".as_bytes());
        assert_eq!(plain(r"a\"), b"a", "a backslash at the end escapes nothing");
        assert_eq!(plain(r"a\x4"), b"a", "cut short");
        assert_eq!(plain(r"\xAF"), b"\x26", "upper-case digits are none");
    }
}
