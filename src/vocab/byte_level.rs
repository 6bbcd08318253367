//! The byte ↔ printable character alphabet of GPT-2: 188 bytes stand for themselves (as the code
//! point of the same number), the other 68 follow from U+0100 on.

/// Does `byte` stand for itself?
const fn is_plain(byte: u8) -> bool {
    matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff)
}

/// The code point of each byte, all below U+0144.
const fn alphabet() -> [u16; 256] {
    let mut map = [0; 256];
    let mut byte = 0;
    let mut moved = 0;
    while byte < 256 {
        map[byte] = if is_plain(byte as u8) {
            byte as u16
        } else {
            moved += 1;
            255 + moved
        };
        byte += 1;
    }
    map
}

static ALPHABET: [u16; 256] = alphabet();

/// Appends the UTF-8 of the characters that stand for `bytes`: one or two bytes for each.
pub(super) fn encode(bytes: &[u8], out: &mut Vec<u8>) {
    for &byte in bytes {
        let cp = ALPHABET[byte as usize];
        if cp < 0x80 {
            out.push(cp as u8);
        } else {
            out.extend([0xc0 | (cp >> 6) as u8, 0x80 | (cp & 0x3f) as u8]);
        }
    }
}

/// The byte that a character stands for.
pub(super) fn byte_of(c: u32) -> Option<u8> {
    match c {
        0..=0xff => is_plain(c as u8).then_some(c as u8),
        // The 68 moved bytes, in order: 0x00..=0x20, 0x7f..=0xa0, 0xad.
        0x100..=0x120 => Some((c - 0x100) as u8),
        0x121..=0x142 => Some((c - 0x121 + 0x7f) as u8),
        0x143 => Some(0xad),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_its_own_printable_character() {
        let mut text = Vec::new();
        for byte in 0..=255 {
            text.clear();
            encode(&[byte], &mut text);
            let c = std::str::from_utf8(&text).unwrap().chars().next().unwrap();
            assert!(!c.is_control() && !c.is_whitespace(), "{byte:#x} -> {c:?}");
            assert_eq!(byte_of(c as u32), Some(byte));
        }
        assert_eq!((0..0x11_0000).filter(|&c| byte_of(c).is_some()).count(), 256);
        text.clear();
        encode(b" \n", &mut text);
        assert_eq!(text, "ĠĊ".as_bytes());
    }
}
