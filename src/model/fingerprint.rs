//! What tells one model from another: files beside a model say by it whose they are.

use std::fmt;

use super::Weight;
use crate::gguf::{Array, Metadata, Value};
use crate::util::bytes;

/// A model's keys, its tensor table and a sample of its data in 64 bits. The paths of its files,
/// how it was split and overrides do not count. No protection against forgery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fingerprint(pub u64);

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Tensors that are sampled, spread evenly over the file: a page of each costs at most one read.
const SAMPLES: usize = 64;
/// Bytes of a sample, from the middle of the tensor.
const SAMPLE: usize = 4096;

impl Fingerprint {
    /// The fingerprint of a model with these weights, as they are in the file. A few milliseconds,
    /// most of them for the vocabulary.
    pub fn of(meta: &Metadata, weights: &[Weight]) -> Self {
        let mut hash = Hash::default();
        add_keys(&mut hash, meta);
        weights.iter().for_each(|weight| add_facts(&mut hash, weight));
        let step = weights.len().div_ceil(SAMPLES).max(1);
        for weight in weights.iter().step_by(step) {
            let data = weight.data.as_deref().unwrap_or_default();
            let start = (data.len() / 2).min(data.len().saturating_sub(SAMPLE));
            hash.add(&data[start..data.len().min(start + SAMPLE)]);
        }
        Self(hash.0)
    }
}

fn add_keys(hash: &mut Hash, meta: &Metadata) {
    hash.add(meta.magic().bytes());
    for (key, value) in meta.iter().filter(|(key, _)| !key.starts_with("split.")) {
        hash.add(key.as_bytes());
        hash.add_number(value.gguf_type() as u64);
        add_value(hash, value);
    }
}

fn add_value(hash: &mut Hash, value: &Value) {
    match value {
        Value::Str(text) => hash.add(text.as_bytes()),
        Value::Array(Array::Str(texts)) => texts.iter().for_each(|text| hash.add(text)),
        Value::Array(Array::F32(list)) => hash.add(bytes::as_bytes(list)),
        Value::Array(Array::I32(list)) => hash.add(bytes::as_bytes(list)),
        Value::Array(list) => list.iter().for_each(|item| add_value(hash, &item)),
        Value::F32(x) => hash.add_number(x.to_bits().into()),
        Value::F64(x) => hash.add_number(x.to_bits()),
        number => hash.add_number(number.as_int().unwrap_or_default() as u64),
    }
}

fn add_facts(hash: &mut Hash, weight: &Weight) {
    hash.add(weight.name.as_bytes());
    hash.add_number(weight.ty as u64);
    weight.shape.dims().iter().for_each(|&n| hash.add_number(n));
}

/// FNV-1a's step over words of eight bytes, turned so that upper bits reach lower ones.
struct Hash(u64);

impl Default for Hash {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Hash {
    fn add_number(&mut self, x: u64) {
        self.0 = (self.0 ^ x).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(29);
    }

    fn add(&mut self, bytes: &[u8]) {
        self.add_number(bytes.len() as u64);
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.add_number(u64::from_le_bytes(word));
        }
    }
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
}
