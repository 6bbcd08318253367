//! What tells one model from another: files beside a model say by it whose they are.

use std::fmt;

use super::Weight;
use crate::gguf::{Array, Metadata, Value};
use crate::util::bytes;
use crate::util::hash::Hash;

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
