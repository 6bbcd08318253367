//! Which of several tokens llama.cpp finds first when it looks for a role by text.
//!
//! It walks a `std::unordered_map<std::string, llama_token>` and takes the first match, so its
//! answer is the iteration order of libstdc++ (SmolLM2 has `<|im_end|>` and `<|endoftext|>`; its
//! `llama_vocab_eot` is the second). Programs see that answer, so it is reproduced here. The walk
//! costs a few milliseconds and is taken only when there is something to decide.

/// Bucket counts through which a map grows (libstdc++'s primes, each at least twice the last).
const BUCKETS: [u32; 22] = [
    13, 29, 59, 127, 257, 541, 1109, 2357, 5087, 10273, 20753, 42043, 85229, 172933, 351061,
    712697, 1447153, 2938679, 5967347, 12117689, 24607243, 49969847,
];

/// libstdc++'s `std::hash<std::string>`: MurmurHash64A with its own seed.
fn hash(text: &[u8]) -> u64 {
    const MUL: u64 = 0xc6a4_a793_5bd1_e995;
    const SEED: u64 = 0xc70f_6907;
    let mix = |v: u64| v ^ v >> 47;
    let mut hash = SEED ^ (text.len() as u64).wrapping_mul(MUL);
    let (words, rest) = text.as_chunks::<8>();
    for word in words {
        let data = mix(u64::from_le_bytes(*word).wrapping_mul(MUL)).wrapping_mul(MUL);
        hash = (hash ^ data).wrapping_mul(MUL);
    }
    if !rest.is_empty() {
        let data = rest.iter().rev().fold(0, |data, &byte| data << 8 | byte as u64);
        hash = (hash ^ data).wrapping_mul(MUL);
    }
    mix(mix(hash).wrapping_mul(MUL))
}

/// The nodes of the map in one linked list, those of a bucket side by side. Node `i` is text
/// `i - 1`; node 0 stands before the first.
struct Map {
    hashes: Vec<u64>,
    next: Vec<u32>,
    /// The node before the first of each bucket, [`EMPTY`] if the bucket has none.
    buckets: Vec<u32>,
}

const EMPTY: u32 = u32::MAX;
const END: u32 = 0;

impl Map {
    fn bucket(&self, node: u32) -> usize {
        (self.hashes[node as usize] % self.buckets.len() as u64) as usize
    }

    /// Links a node in front of the others of its bucket, or of all if it is the first there.
    fn link(&mut self, node: u32) {
        let bucket = self.bucket(node);
        let before = match self.buckets[bucket] {
            EMPTY => {
                let first = self.next[0];
                if first != END {
                    let moved = self.bucket(first);
                    self.buckets[moved] = node;
                }
                self.buckets[bucket] = 0;
                0
            }
            before => before,
        };
        self.next[node as usize] = self.next[before as usize];
        self.next[before as usize] = node;
    }

    fn grow(&mut self, n_buckets: u32) {
        self.buckets = vec![EMPTY; n_buckets as usize];
        let mut node = std::mem::replace(&mut self.next[0], END);
        while node != END {
            let following = self.next[node as usize];
            self.link(node);
            node = following;
        }
    }
}

/// The numbers of `texts` in the order in which a map filled with them from the first to the last
/// is walked.
pub(super) fn iteration_order<'a>(
    texts: impl Iterator<Item = &'a [u8]>,
) -> impl Iterator<Item = u32> {
    let mut hashes = vec![0];
    hashes.extend(texts.map(hash));
    let n = hashes.len() as u32 - 1;
    let mut map = Map { next: vec![END; hashes.len()], hashes, buckets: Vec::new() };
    let mut sizes = BUCKETS.iter();
    for node in 1..=n {
        if node as usize > map.buckets.len()
            && let Some(&n_buckets) = sizes.next()
        {
            map.grow(n_buckets);
        }
        map.link(node);
    }
    let mut node = 0;
    std::iter::from_fn(move || {
        node = map.next[node as usize];
        node.checked_sub(1)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a C++ program printed that filled a `std::unordered_map<std::string, int>` of
    /// libstdc++ 12 with these texts and walked it.
    #[test]
    fn order_is_that_of_an_unordered_map() {
        let text = |i: u32| match i % 7 {
            0 => format!("a longer token text {i}"),
            _ => format!("t{i}"),
        };
        let order = |n: u32| -> Vec<u32> {
            let texts: Vec<String> = (0..n).map(text).collect();
            iteration_order(texts.iter().map(String::as_bytes)).collect()
        };
        let thirty = [
            11, 8, 10, 13, 16, 12, 29, 24, 9, 7, 4, 2, 15, 21, 6, 5, 27, 1, 0, 20, 17, 3, 26, 14,
            18, 19, 22, 23, 25, 28,
        ];
        assert_eq!(order(30), thirty);
        let digest =
            order(200_000).iter().fold(0u64, |h, &i| h.wrapping_mul(31).wrapping_add(i as u64));
        assert_eq!(digest, 11414474547410543976);
        assert!(order(0).is_empty());
    }
}
