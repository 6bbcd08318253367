//! The normalisation table of SentencePiece (`tokenizer.ggml.precompiled_charsmap`): which
//! sequences of bytes are replaced by which.
//!
//! The format, little-endian: u32 size of the trie in bytes; the trie, a double array of u32
//! units (the layout of the Darts-clone library, which SentencePiece uses); the replacements,
//! each ended by a NUL. A unit has its label in bits 0-7 and 31, a flag for "a key ends here" in
//! bit 8, and the way to its children in bits 10-30 (times 256 if bit 9 is set). The child that a
//! key's end points to holds the position of the replacement.

use super::Error;

/// Longest key that is followed. Real ones have some ten bytes; a damaged table could lead round
/// in circles for as long as the text lasts.
const MAX_KEY: usize = 1024;

/// A table; the empty one replaces nothing.
#[derive(Default)]
pub(super) struct Charsmap {
    units: Vec<u32>,
    replacements: Vec<u8>,
}

impl Charsmap {
    /// Reads a table from the bytes of the metadata value.
    pub(super) fn new(bytes: &[u8]) -> Result<Self, Error> {
        let broken = |what: &str| Error::Charsmap { reason: what.to_owned() };
        let (size, rest) =
            bytes.split_first_chunk().ok_or_else(|| broken("less than the 4 bytes of its size"))?;
        let size = u32::from_le_bytes(*size) as usize;
        // At least one replacement has to follow.
        if size >= rest.len() {
            let reason = format!("a trie of {size} bytes, but {} bytes follow", rest.len());
            return Err(Error::Charsmap { reason });
        }
        let (trie, replacements) = rest.split_at(size);
        let units = trie.as_chunks().0.iter().map(|unit| u32::from_le_bytes(*unit)).collect();
        Ok(Self { units, replacements: replacements.to_vec() })
    }

    /// Is it a table that replaces nothing?
    pub(super) fn is_empty(&self) -> bool {
        self.units.is_empty()
    }

    /// The longest key at the beginning of `text`: its length and what replaces it.
    pub(super) fn replace(&self, text: &[u8]) -> Result<Option<(usize, &[u8])>, Error> {
        if self.is_empty() {
            return Ok(None);
        }
        let mut found = None;
        let mut at = children(self.unit(0)?);
        for (i, &byte) in text.iter().enumerate().take(MAX_KEY) {
            at ^= byte as u32;
            let unit = self.unit(at)?;
            if byte == 0 || unit & (1 << 31 | 0xff) != byte as u32 {
                break;
            }
            at ^= children(unit);
            if unit & 1 << 8 != 0 {
                found = Some((i + 1, self.unit(at)? & !(1 << 31)));
            }
        }
        found.map(|(len, position)| Ok((len, self.replacement(position)?))).transpose()
    }

    fn unit(&self, at: u32) -> Result<u32, Error> {
        self.units.get(at as usize).copied().ok_or_else(|| Error::Charsmap {
            reason: format!("unit {at} is asked for, but there are {}", self.units.len()),
        })
    }

    fn replacement(&self, position: u32) -> Result<&[u8], Error> {
        let rest = self.replacements.get(position as usize..).unwrap_or_default();
        let end = memchr::memchr(0, rest).ok_or_else(|| Error::Charsmap {
            reason: format!(
                "no text ended by a NUL at position {position} of {} bytes of replacements",
                self.replacements.len()
            ),
        })?;
        Ok(&rest[..end])
    }
}

/// The index of a unit's children, to be combined with their labels by XOR.
fn children(unit: u32) -> u32 {
    (unit >> 10) << ((unit & 1 << 9) >> 6)
}
