//! Many short texts in one arena, numbered in order of arrival, findable by content.

use std::hash::BuildHasher;

use rustc_hash::FxBuildHasher;

use super::Error;

/// Interned byte strings: 5 bytes each beside their text, plus 4 to 8 for the index.
#[derive(Default)]
pub(crate) struct Texts {
    /// All texts, each followed by a NUL so that C can read it in place.
    arena: Vec<u8>,
    /// Where each text starts; one more for the end of the last.
    starts: Vec<u32>,
    /// Open addressing, a power of two, at most half full: number + 1 of the text, 0 is free.
    slots: Vec<u32>,
}

impl Texts {
    /// An empty set with room for `n` texts of `bytes` bytes in all.
    pub(crate) fn with_capacity(n: usize, bytes: usize) -> Self {
        let mut starts = Vec::with_capacity(n + 1);
        starts.push(0);
        let slots = vec![0; (n.max(8) * 2).next_power_of_two()];
        Self { arena: Vec::with_capacity(bytes + n), starts, slots }
    }

    /// How many texts there are.
    pub(crate) fn len(&self) -> usize {
        self.starts.len() - 1
    }

    /// The text of a number.
    pub(crate) fn get(&self, n: u32) -> Option<&[u8]> {
        self.get_with_nul(n).map(|text| &text[..text.len() - 1])
    }

    /// The text of a number and the NUL behind it.
    pub(crate) fn get_with_nul(&self, n: u32) -> Option<&[u8]> {
        let end = *self.starts.get(n as usize + 1)?;
        Some(&self.arena[self.starts[n as usize] as usize..end as usize])
    }

    /// The number of a text.
    pub(crate) fn find(&self, text: &[u8]) -> Option<u32> {
        self.slots[self.slot(text)].checked_sub(1)
    }

    /// The number of a text, and whether it is new.
    pub(crate) fn insert(&mut self, text: &[u8]) -> Result<(u32, bool), Error> {
        let mut slot = self.slot(text);
        if let Some(n) = self.slots[slot].checked_sub(1) {
            return Ok((n, false));
        }
        if (self.len() + 1) * 2 > self.slots.len() {
            self.grow();
            slot = self.slot(text);
        }
        let n = self.len() as u32;
        let end = self.arena.len() + text.len() + 1;
        let end = u32::try_from(end).map_err(|_| Error::TooLarge { bytes: end })?;
        self.arena.extend_from_slice(text);
        self.arena.push(0);
        self.starts.push(end);
        self.slots[slot] = n + 1;
        Ok((n, true))
    }

    /// The slot that holds `text` or the free one where it belongs.
    fn slot(&self, text: &[u8]) -> usize {
        let mask = self.slots.len() - 1;
        let hash = FxBuildHasher.hash_one(text);
        let mut slot = (hash ^ hash >> 32) as usize & mask;
        while let Some(n) = self.slots[slot].checked_sub(1) {
            if self.get(n) == Some(text) {
                break;
            }
            slot = (slot + 1) & mask;
        }
        slot
    }

    fn grow(&mut self) {
        self.slots = vec![0; self.slots.len() * 2];
        for n in 0..self.len() as u32 {
            let slot = self.slot(self.get(n).unwrap_or_default());
            self.slots[slot] = n + 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_numbered_found_and_survive_growth() {
        let mut texts = Texts::with_capacity(0, 0);
        for i in 0..5000u32 {
            let text = format!("token {i}");
            assert_eq!(texts.insert(text.as_bytes()).unwrap(), (i, true));
        }
        assert_eq!(texts.insert(b"token 17").unwrap(), (17, false));
        assert_eq!(texts.insert(b"").unwrap(), (5000, true));
        assert_eq!(texts.len(), 5001);
        for i in 0..5000u32 {
            assert_eq!(texts.find(format!("token {i}").as_bytes()), Some(i));
        }
        assert_eq!(texts.find(b""), Some(5000));
        assert_eq!(texts.find(b"token"), None);
        assert_eq!(texts.get(3), Some(&b"token 3"[..]));
        assert_eq!(texts.get_with_nul(5000), Some(&b"\0"[..]));
        assert_eq!(texts.get(5001), None);
    }
}
