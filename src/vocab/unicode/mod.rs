//! Code points and their classes, as the tokenizers of llama.cpp see them: Unicode 15.1, `\s` is
//! White_Space, and damaged UTF-8 becomes U+FFFD byte by byte.
//!
//! Text is handled as *generalised* UTF-8: what [`repair`] returns. That is UTF-8 which may also
//! hold surrogates (the reference decoder lets them through), so it is `[u8]` and not `str`.

mod table;

use once_cell::sync::OnceCell;
use std::borrow::Cow;

/// Class of a code point: its major category and whether it is white space. One byte, so that the
/// table of all code points stays in the L2 cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Class(u8);

impl Class {
    /// No code point: the position is past the end of the text.
    pub(crate) const END: Class = Class(0);

    const UNASSIGNED: u8 = 1;
    const NUMBER: u8 = 2;
    const LETTER: u8 = 3;
    const MARK: u8 = 5;
    const PUNCTUATION: u8 = 6;
    const SYMBOL: u8 = 7;
    const CONTROL: u8 = 8;
    const CATEGORY: u8 = 0x0f;
    const WHITE: u8 = 0x10;
    const OTHER: u8 = 0x20;

    fn new(category: u8, white: bool) -> Self {
        let other = !white && category != Self::LETTER && category != Self::NUMBER;
        Class(category | if white { Self::WHITE } else { 0 } | if other { Self::OTHER } else { 0 })
    }

    /// `\p{L}`
    pub(crate) fn is_letter(self) -> bool {
        self.0 & Self::CATEGORY == Self::LETTER
    }

    /// `\p{N}`
    pub(crate) fn is_number(self) -> bool {
        self.0 & Self::CATEGORY == Self::NUMBER
    }

    /// `\p{M}`
    pub(crate) fn is_mark(self) -> bool {
        self.0 & Self::CATEGORY == Self::MARK
    }

    /// `[\p{L}\p{M}]`
    pub(crate) fn is_letter_or_mark(self) -> bool {
        self.is_letter() || self.is_mark()
    }

    /// `\p{P}`
    pub(crate) fn is_punctuation(self) -> bool {
        self.0 & Self::CATEGORY == Self::PUNCTUATION
    }

    /// `\p{S}`
    pub(crate) fn is_symbol(self) -> bool {
        self.0 & Self::CATEGORY == Self::SYMBOL
    }

    /// `\p{C}` without the unassigned code points.
    pub(crate) fn is_control(self) -> bool {
        self.0 & Self::CATEGORY == Self::CONTROL
    }

    /// `\s`
    pub(crate) fn is_white(self) -> bool {
        self.0 & Self::WHITE != 0
    }

    /// `[^\s\p{L}\p{N}]`, unassigned code points included.
    pub(crate) fn is_other(self) -> bool {
        self.0 & Self::OTHER != 0
    }
}

const BLOCK: usize = 256;

/// Two-stage table of the classes of all code points (about 60 KB), built on first use.
pub(crate) struct Classes {
    block_of: Vec<u8>,
    blocks: Vec<[Class; BLOCK]>,
}

impl Classes {
    /// The table.
    pub(crate) fn get() -> &'static Classes {
        static CLASSES: OnceCell<Classes> = OnceCell::new();
        CLASSES.get_or_init(Classes::build)
    }

    fn build() -> Classes {
        let mut all = Vec::with_capacity(char::MAX as usize + 1);
        for (i, run) in table::RUNS.iter().enumerate() {
            let end =
                table::RUNS.get(i + 1).map_or(char::MAX as usize + 1, |next| (next >> 8) as usize);
            all.resize(end, Class::new(*run as u8, false));
        }
        for (cp, class) in all.iter_mut().enumerate() {
            // Rust's White_Space is the same 25 code points as in Unicode 15.1; a test says so.
            if char::from_u32(cp as u32).is_some_and(char::is_whitespace) {
                *class = Class::new(class.0 & Class::CATEGORY, true);
            }
        }
        let mut table = Classes { block_of: Vec::new(), blocks: Vec::new() };
        for block in all.as_chunks::<BLOCK>().0 {
            let known = table.blocks.iter().rposition(|b| b == block);
            let at = known.unwrap_or_else(|| {
                table.blocks.push(*block);
                table.blocks.len() - 1
            });
            // At most 256 distinct blocks exist in Unicode 15.1 (a test counts them).
            table.block_of.push(at as u8);
        }
        table
    }

    /// Class of a code point; above U+10FFFF it is unassigned.
    pub(crate) fn of(&self, cp: u32) -> Class {
        match self.block_of.get(cp as usize / BLOCK) {
            Some(&b) => self.blocks[b as usize][cp as usize % BLOCK],
            None => Class::new(Class::UNASSIGNED, false),
        }
    }
}

/// A text with the class of the code point at any position. The text must be generalised UTF-8
/// (see [`repair`]) and positions must be boundaries of code points; anything else gives wrong
/// classes but no panic.
#[derive(Clone, Copy)]
pub(crate) struct Classified<'a> {
    text: &'a [u8],
    classes: &'static Classes,
}

impl<'a> Classified<'a> {
    /// Looks at `text`.
    pub(crate) fn new(text: &'a [u8]) -> Self {
        Self { text, classes: Classes::get() }
    }

    /// The bytes.
    pub(crate) fn text(&self) -> &'a [u8] {
        self.text
    }

    /// The byte at `pos`, if the text is that long.
    pub(crate) fn byte(&self, pos: usize) -> Option<u8> {
        self.text.get(pos).copied()
    }

    /// Class and length in bytes of the code point at `pos`; `(END, 0)` at the end of the text.
    #[inline]
    pub(crate) fn at(&self, pos: usize) -> (Class, usize) {
        let Some(&lead) = self.text.get(pos) else {
            return (Class::END, 0);
        };
        if lead < 0x80 {
            return (self.classes.blocks[0][lead as usize], 1);
        }
        let (cp, len) = decode(&self.text[pos..]).unwrap_or((REPLACEMENT as u32, 1));
        (self.classes.of(cp), len)
    }

    /// The code point at `pos`, with its class and length; `None` at the end of the text.
    #[inline]
    pub(crate) fn code_point(&self, pos: usize) -> Option<(u32, Class, usize)> {
        let &lead = self.text.get(pos)?;
        if lead < 0x80 {
            return Some((lead as u32, self.classes.blocks[0][lead as usize], 1));
        }
        let (cp, len) = decode(&self.text[pos..]).unwrap_or((REPLACEMENT as u32, 1));
        Some((cp, self.classes.of(cp), len))
    }

    /// End of the run of code points from `pos` on that satisfy `wanted`, which sees the code
    /// point and its class.
    #[inline]
    pub(crate) fn run_of(&self, mut pos: usize, wanted: impl Fn(u32, Class) -> bool) -> usize {
        while let Some((cp, class, len)) = self.code_point(pos) {
            if !wanted(cp, class) {
                break;
            }
            pos += len;
        }
        pos
    }

    /// End of the run of code points from `pos` on that satisfy `wanted`.
    #[inline]
    pub(crate) fn run(&self, mut pos: usize, wanted: impl Fn(Class) -> bool) -> usize {
        loop {
            let (class, len) = self.at(pos);
            if !wanted(class) || len == 0 {
                return pos;
            }
            pos += len;
        }
    }
}

const REPLACEMENT: char = char::REPLACEMENT_CHARACTER;

/// Reads the first code point as the reference decoder does: by the shape of the bytes only, so
/// overlong forms and surrogates pass. `None` where the shape is broken.
pub(crate) fn decode(text: &[u8]) -> Option<(u32, usize)> {
    let lead = *text.first()?;
    let (len, bits) = match lead {
        0x00..=0x7f => return Some((lead as u32, 1)),
        0xc0..=0xdf => (2, lead & 0x1f),
        0xe0..=0xef => (3, lead & 0x0f),
        0xf0..=0xf7 => (4, lead & 0x07),
        _ => return None,
    };
    let mut cp = bits as u32;
    for &byte in text.get(1..len)? {
        if byte & 0xc0 != 0x80 {
            return None;
        }
        cp = cp << 6 | (byte & 0x3f) as u32;
    }
    Some((cp, len))
}

/// Bytes of a character by its first byte alone; 1 for bytes that begin none.
pub(crate) fn len_by_lead(lead: u8) -> usize {
    match lead {
        0x00..=0xbf => 1,
        0xc0..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0..=0xff => 4,
    }
}

/// Appends the generalised UTF-8 of a code point; U+FFFD above U+10FFFF.
pub(crate) fn encode(cp: u32, out: &mut Vec<u8>) {
    match char::from_u32(cp) {
        Some(c) => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        None if cp <= 0xffff => {
            // A surrogate: three bytes, as if it were an ordinary code point.
            out.extend([
                0xe0 | (cp >> 12) as u8,
                0x80 | (cp >> 6 & 0x3f) as u8,
                0x80 | (cp & 0x3f) as u8,
            ]);
        }
        None => encode(REPLACEMENT as u32, out),
    }
}

/// The lower case of a code point, as long as it is one code point (`İ` becomes `i`).
pub(crate) fn lowercase(cp: u32) -> u32 {
    let lower = assigned(cp).and_then(|c| c.to_lowercase().next());
    lower.map_or(cp, u32::from)
}

/// The first code point of the canonical decomposition: `é` becomes `e`.
pub(crate) fn base_character(cp: u32) -> u32 {
    let Some(c) = assigned(cp).filter(|&c| c >= '\u{c0}') else {
        return cp;
    };
    let mut base = None;
    unicode_normalization::char::decompose_canonical(c, |part| {
        base.get_or_insert(part);
    });
    base.map_or(cp, u32::from)
}

/// The character, if Unicode 15.1 has it: libraries know newer ones, which llama.cpp leaves alone.
fn assigned(cp: u32) -> Option<char> {
    let c = char::from_u32(cp)?;
    let known = cp < 0x80 || Classes::get().of(cp).0 & Class::CATEGORY != Class::UNASSIGNED;
    known.then_some(c)
}

/// Text as the tokenizers see it: every byte that does not belong to a well-shaped sequence
/// becomes U+FFFD, overlong forms become the code point they stand for. Valid UTF-8 is returned
/// as it is. A sequence above U+10FFFF (the reference throws there) becomes one U+FFFD.
pub(crate) fn repair(text: &[u8]) -> Cow<'_, [u8]> {
    if std::str::from_utf8(text).is_ok() {
        return Cow::Borrowed(text);
    }
    let mut out = Vec::with_capacity(text.len() + text.len() / 4 + 16);
    code_points(text).for_each(|(cp, _)| encode(cp, &mut out));
    Cow::Owned(out)
}

/// The code points of generalised UTF-8, each with its bytes.
pub(crate) fn code_points(mut text: &[u8]) -> impl Iterator<Item = (u32, &[u8])> {
    std::iter::from_fn(move || {
        if text.is_empty() {
            return None;
        }
        let (cp, len) = decode(text).unwrap_or((REPLACEMENT as u32, 1));
        let (bytes, rest) = text.split_at(len);
        text = rest;
        Some((cp, bytes))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn white_space_is_the_25_code_points_of_unicode_15_1() {
        let classes = Classes::get();
        let white: Vec<u32> = (0..0x110000).filter(|&c| classes.of(c).is_white()).collect();
        let mut want: Vec<u32> = (0x9..=0xd).chain(0x2000..=0x200a).collect();
        want.extend([0x20, 0x85, 0xa0, 0x1680, 0x2028, 0x2029, 0x202f, 0x205f, 0x3000]);
        want.sort_unstable();
        assert_eq!(white, want);
    }

    #[test]
    fn blocks_fit_their_index_and_counts_are_those_of_unicode_15_1() {
        let classes = Classes::get();
        assert!(classes.blocks.len() <= 256, "{} blocks", classes.blocks.len());
        let count = |f: fn(Class) -> bool| (0..0x110000).filter(|&c| f(classes.of(c))).count();
        assert_eq!(count(Class::is_letter), 136_726);
        assert_eq!(count(Class::is_number), 1_831);
        assert!(classes.of('ſ' as u32).is_letter());
        assert!(classes.of('½' as u32).is_number());
        assert!(classes.of(0x0378).is_other(), "unassigned code points are neither");
        assert!(classes.of(0x110000).is_other());
    }

    #[test]
    fn damaged_utf8_becomes_replacement_characters_byte_by_byte() {
        let fixed = |bytes: &[u8]| repair(bytes).into_owned();
        assert_eq!(fixed(b"a\xffb"), "a\u{fffd}b".as_bytes());
        assert_eq!(fixed(b"\xe4\xbd"), "\u{fffd}\u{fffd}".as_bytes());
        assert_eq!(fixed(b"\xc0\x80"), b"\0", "overlong forms are decoded");
        assert_eq!(fixed(b"\xed\xa0\x80\xff"), b"\xed\xa0\x80\xef\xbf\xbd", "surrogates pass");
        assert_eq!(fixed(b"\xf7\xbf\xbf\xbf"), "\u{fffd}".as_bytes());
        assert!(matches!(repair("naïve 🦙".as_bytes()), Cow::Borrowed(_)));
    }
}
