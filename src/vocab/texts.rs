//! Many short texts in one arena, numbered in order of arrival, findable by content.

use std::hash::{BuildHasher, RandomState};

use super::Error;

/// Interned byte strings: 5 bytes each beside their text, plus 16 to 32 for the index.
pub(crate) struct Texts {
    /// All texts, each followed by a NUL so that C can read it in place.
    arena: Vec<u8>,
    /// Where each text starts; one more for the end of the last.
    starts: Vec<u32>,
    /// Open addressing, a power of two, at most half full.
    slots: Vec<Slot>,
    /// Not a fast hash with a known key: the texts come from files that may mean harm.
    hasher: RandomState,
}

/// A place in the index. The part of the hash spares most looks at texts that do not match, and
/// with them two cache misses each.
#[derive(Clone, Copy, Default)]
struct Slot {
    hash: u32,
    /// Number of the text + 1; 0 is a free slot.
    occupant: u32,
}

impl Texts {
    /// An empty set with room for `n` texts of `bytes` bytes in all.
    pub(crate) fn with_capacity(n: usize, bytes: usize) -> Self {
        let mut starts = Vec::with_capacity(n + 1);
        starts.push(0);
        let slots = vec![Slot::default(); (n.max(8) * 2).next_power_of_two()];
        Self { arena: Vec::with_capacity(bytes + n), starts, slots, hasher: RandomState::new() }
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
        self.slots[self.slot(text, self.hash(text))].occupant.checked_sub(1)
    }

    /// The number of a text, and whether it is new.
    pub(crate) fn insert(&mut self, text: &[u8]) -> Result<(u32, bool), Error> {
        let hash = self.hash(text);
        let mut slot = self.slot(text, hash);
        if let Some(n) = self.slots[slot].occupant.checked_sub(1) {
            return Ok((n, false));
        }
        if (self.len() + 1) * 2 > self.slots.len() {
            self.grow();
            slot = self.slot(text, hash);
        }
        let n = self.len() as u32;
        let end = self.arena.len() + text.len() + 1;
        let end = u32::try_from(end).map_err(|_| Error::TooLarge { bytes: end })?;
        self.arena.extend_from_slice(text);
        self.arena.push(0);
        self.starts.push(end);
        self.slots[slot] = Slot { hash, occupant: n + 1 };
        Ok((n, true))
    }

    fn hash(&self, text: &[u8]) -> u32 {
        self.hasher.hash_one(text) as u32
    }

    /// The slot that holds `text` or the free one where it belongs.
    fn slot(&self, text: &[u8], hash: u32) -> usize {
        let mask = self.slots.len() - 1;
        let mut at = hash as usize & mask;
        loop {
            let slot = self.slots[at];
            match slot.occupant.checked_sub(1) {
                None => return at,
                Some(n) if slot.hash == hash && self.get(n) == Some(text) => return at,
                Some(_) => at = (at + 1) & mask,
            }
        }
    }

    fn grow(&mut self) {
        let mask = self.slots.len() * 2 - 1;
        let old = std::mem::replace(&mut self.slots, vec![Slot::default(); mask + 1]);
        for slot in old.into_iter().filter(|slot| slot.occupant != 0) {
            let mut at = slot.hash as usize & mask;
            while self.slots[at].occupant != 0 {
                at = (at + 1) & mask;
            }
            self.slots[at] = slot;
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
