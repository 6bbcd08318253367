//! A quick hash of 64 bits: tells files apart and notices damage. No protection against forgery.

/// FNV-1a's step over words of eight bytes, turned so that upper bits reach lower ones.
///
/// Every step is a bijection of the state and of the word: two inputs of one length that differ
/// in a single word never have the same hash.
#[derive(Clone, Copy, Debug)]
pub struct Hash(pub u64);

impl Default for Hash {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Hash {
    /// Adds one word.
    pub fn add_number(&mut self, x: u64) {
        self.0 = (self.0 ^ x).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(29);
    }

    /// Adds some bytes and how many they are.
    pub fn add(&mut self, bytes: &[u8]) {
        self.add_number(bytes.len() as u64);
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.add_number(u64::from_le_bytes(word));
        }
    }
}

/// Words that a stream hashes side by side: a step waits for the one before it.
const LANES: usize = 4;
const BLOCK: usize = 8 * LANES;

/// The hash of a stream of bytes, however they come in pieces. What [`struct@Hash`] says of single words
/// is true here too.
#[derive(Clone, Copy, Debug)]
pub struct StreamHash {
    lanes: [Hash; LANES],
    /// The bytes of a block that is not complete.
    part: [u8; BLOCK],
    n_bytes: u64,
}

impl Default for StreamHash {
    fn default() -> Self {
        let mut lanes = [Hash::default(); LANES];
        lanes.iter_mut().zip(0..).for_each(|(lane, i)| lane.add_number(i));
        Self { lanes, part: [0; BLOCK], n_bytes: 0 }
    }
}

impl StreamHash {
    /// Adds the next bytes.
    pub fn add(&mut self, mut bytes: &[u8]) {
        let begun = (self.n_bytes % BLOCK as u64) as usize;
        self.n_bytes += bytes.len() as u64;
        if begun > 0 {
            let (first, rest) = bytes.split_at(bytes.len().min(BLOCK - begun));
            self.part[begun..begun + first.len()].copy_from_slice(first);
            if begun + first.len() < BLOCK {
                return;
            }
            add_blocks(&mut self.lanes, &[self.part]);
            bytes = rest;
        }
        let (blocks, rest) = bytes.as_chunks();
        add_blocks(&mut self.lanes, blocks);
        self.part[..rest.len()].copy_from_slice(rest);
    }

    /// The hash of all bytes so far.
    pub fn finish(&self) -> u64 {
        let n = (self.n_bytes % BLOCK as u64) as usize;
        let mut last = [0; BLOCK];
        last[..n].copy_from_slice(&self.part[..n]);
        let mut lanes = self.lanes;
        add_blocks(&mut lanes, &[last]);
        let mut hash = Hash::default();
        lanes.iter().for_each(|lane| hash.add_number(lane.0));
        hash.add_number(self.n_bytes);
        hash.0
    }
}

fn add_blocks(lanes: &mut [Hash; LANES], blocks: &[[u8; BLOCK]]) {
    let mut own = *lanes;
    for block in blocks {
        for (lane, word) in own.iter_mut().zip(block.as_chunks().0) {
            lane.add_number(u64::from_le_bytes(*word));
        }
    }
    *lanes = own;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_counts() {
        let of = |bytes: &[u8]| {
            let mut hash = Hash::default();
            hash.add(bytes);
            hash.0
        };
        let plain = [7u8; 20];
        for i in 0..20 {
            for bit in 0..8 {
                let mut other = plain;
                other[i] ^= 1 << bit;
                assert_ne!(of(&plain), of(&other));
            }
        }
        assert_ne!(of(&[0; 3]), of(&[0; 4]), "lengths count");
        let mut twice = Hash::default();
        twice.add(b"ab");
        twice.add(b"c");
        assert_ne!(twice.0, of(b"abc"), "where one ends counts");
    }

    #[test]
    fn a_stream_has_the_hash_of_its_bytes() {
        let bytes: Vec<u8> = (0..100u8).map(|i| i.wrapping_mul(37)).collect();
        let of = |pieces: &mut dyn Iterator<Item = &[u8]>| {
            let mut hash = StreamHash::default();
            pieces.for_each(|piece| hash.add(piece));
            hash.finish()
        };
        let whole = of(&mut std::iter::once(&bytes[..]));
        for n in [1, 3, 7, 8, 9, 31, 32, 33, 64] {
            assert_eq!(of(&mut bytes.chunks(n)), whole, "pieces of {n}");
        }
        for i in 0..bytes.len() {
            let mut other = bytes.clone();
            other[i] ^= 0x10;
            assert_ne!(of(&mut std::iter::once(&other[..])), whole);
            assert_ne!(of(&mut std::iter::once(&bytes[..i])), whole, "the first {i}");
        }
        assert_ne!(of(&mut [&[0u8; 3][..]].into_iter()), of(&mut [&[0u8; 4][..]].into_iter()));
    }
}
