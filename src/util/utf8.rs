//! UTF-8 that comes in pieces: characters may be cut by the ends of tokens.
//!
//! The rules are those that llama.cpp's grammars go by, which trust what follows a lead byte: only
//! a stray continuation byte, and one that is missing where a piece goes on, are damage.

/// A character whose last bytes have not come yet; the default is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Partial {
    /// The bits so far.
    pub value: u32,
    /// Bytes to come; 0 means that no character is open.
    pub n_remain: u8,
}

impl Partial {
    /// Is a character open?
    pub fn is_open(self) -> bool {
        self.n_remain > 0
    }

    /// The code points that it can become, as far as llama.cpp tells; `None` for what is too long
    /// a spelling of ASCII.
    pub fn range(self) -> Option<(u32, u32)> {
        if self.n_remain == 1 && self.value < 2 {
            return None;
        }
        let shift = u32::from(self.n_remain) * 6;
        let low = self.value << shift;
        let high = low | ((1 << shift) - 1);
        let least = match (low, self.n_remain) {
            (0, 2) => 1 << 11,
            (0, 3) => 1 << 16,
            _ => low,
        };
        Some((least, high))
    }
}

/// Is it a byte that goes on with a character?
pub fn is_continuation(byte: u8) -> bool {
    byte >> 6 == 0b10
}

/// Appends the code points of `bytes`, which go on after `start`, and returns what is open at
/// their end. `None`, with nothing appended, when they cannot be text. A NUL ends them, as in C.
pub fn decode(bytes: &[u8], start: Partial, out: &mut Vec<u32>) -> Option<Partial> {
    let base = out.len();
    let mut bytes = bytes.iter().copied().take_while(|&byte| byte != 0);
    let Partial { mut value, mut n_remain } = start;
    while n_remain > 0 {
        let Some(byte) = bytes.next() else { return Some(Partial { value, n_remain }) };
        if !is_continuation(byte) {
            return None;
        }
        value = (value << 6) + u32::from(byte & 0x3f);
        n_remain -= 1;
    }
    if start.is_open() {
        out.push(value);
    }
    while let Some(lead) = bytes.next() {
        n_remain = match lead {
            0x00..=0x7f => 0,
            0x80..=0xbf => {
                out.truncate(base);
                return None;
            }
            0xc0..=0xdf => 1,
            0xe0..=0xef => 2,
            0xf0..=0xff => 3,
        };
        value = u32::from(lead) & ((1 << (7 - n_remain)) - 1);
        while n_remain > 0 {
            let Some(byte) = bytes.next() else { return Some(Partial { value, n_remain }) };
            value = (value << 6) + u32::from(byte & 0x3f);
            n_remain -= 1;
        }
        out.push(value);
    }
    Some(Partial::default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(bytes: &[u8], start: Partial) -> (Vec<u32>, Option<Partial>) {
        let mut out = vec![7];
        let end = decode(bytes, start, &mut out);
        assert_eq!(out.remove(0), 7);
        (out, end)
    }

    #[test]
    fn a_text_may_be_cut_anywhere() {
        let text = "aé€😀z";
        let whole: Vec<u32> = text.chars().map(u32::from).collect();
        for cut in 0..=text.len() {
            let (mut found, partial) = decoded(&text.as_bytes()[..cut], Partial::default());
            assert_eq!(partial.unwrap().is_open(), !text.is_char_boundary(cut));
            let (rest, end) = decoded(&text.as_bytes()[cut..], partial.unwrap());
            found.extend(rest);
            assert_eq!((found, end), (whole.clone(), Some(Partial::default())), "cut at {cut}");
        }
    }

    #[test]
    fn damage_gives_nothing() {
        let open = Partial { value: 3, n_remain: 1 };
        assert_eq!(decoded(b"a\x80", Partial::default()), (vec![], None));
        assert_eq!(decoded(b"a", open), (vec![], None));
        assert_eq!(decoded(b"", open), (vec![], Some(open)));
        assert_eq!(
            decoded(b"ab\0\x80", Partial::default()),
            (vec![97, 98], Some(Partial::default()))
        );
        // What follows a lead byte is trusted.
        assert_eq!(decoded(b"\xc3a", Partial::default()).0, [(3 << 6) + 0x21]);
    }

    #[test]
    fn the_range_of_an_open_character() {
        let range = |value, n_remain| Partial { value, n_remain }.range();
        assert_eq!(range(3, 1), Some((0xc0, 0xff)));
        assert_eq!(range(1, 1), None);
        assert_eq!(range(0, 2), Some((0x800, 0xfff)));
        assert_eq!(range(0, 3), Some((0x1_0000, 0x3_ffff)));
    }
}
