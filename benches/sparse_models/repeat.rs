//! Layers that repeat others: making a layer's numbers takes much longer than writing them.
//!
//! A layer that repeats another has its bytes, but
//! - how often its neurons fire is its own, as the residual stream has another variance there:
//!   blocks that hold the column which says so are made anew;
//! - what its neurons and its attention add is the other's, turned round by some neurons and
//!   channels. Else they would add the same vectors again and again, and these would be all that
//!   is left in the stream.

use std::collections::HashMap;

use powerinfer::quant::{QuantType, quantize_row};
use rayon::prelude::*;

use crate::Error;
use crate::arch::Tensor;
use crate::recipe::{Content, Layer, Shape};

/// Neurons and channels by which each repetition is turned: whole blocks of every type.
const TURN: usize = 256;

/// The layers that are repeated.
pub struct Originals {
    shape: Shape,
    tensors: HashMap<String, Original>,
}

#[derive(Default)]
struct Original {
    bytes: Vec<u8>,
    /// For each row, the numbers of the block with the column that is a layer's own.
    own: Vec<f32>,
}

/// The tensor of the layer that is repeated.
fn original_name(shape: &Shape, t: &Tensor) -> String {
    let (own, original) = (format!("blk.{}.", t.layer), shape.original(t.layer));
    t.name.replacen(&own, &format!("blk.{original}."), 1)
}

impl Originals {
    pub fn new(shape: &Shape) -> Self {
        Self { shape: *shape, tensors: HashMap::new() }
    }

    /// Keeps the next rows of a tensor that will be repeated.
    pub fn keep(&mut self, t: &Tensor, bytes: &[u8], own: &[f32]) {
        let repeated = t.layer + self.shape.n_distinct < self.shape.n_layer;
        if t.name.starts_with("blk.") && repeated {
            let kept = self.tensors.entry(t.name.clone()).or_default();
            kept.bytes.extend_from_slice(bytes);
            kept.own.extend_from_slice(own);
        }
    }

    /// A tensor of a layer that repeats another; `None` when the layer does not.
    pub fn repeated(
        &self,
        layer: &Layer,
        t: &Tensor,
        ty: QuantType,
    ) -> Result<Option<Vec<u8>>, Error> {
        if !t.name.starts_with("blk.") || t.layer < self.shape.n_distinct {
            return Ok(None);
        }
        let Some(original) = self.tensors.get(&original_name(&self.shape, t)) else {
            return Ok(None);
        };
        let n_rows = t.dims.get(1).copied().unwrap_or(1);
        let row_bytes = original.bytes.len() / n_rows;
        let turns = t.layer / self.shape.n_distinct * TURN;
        let bytes = &original.bytes[..];
        Ok(Some(match t.content {
            // Neuron by neuron, in rows and in columns.
            Content::DownT => turned(bytes, turns % n_rows * row_bytes),
            Content::Down => {
                let len = ty.block_len();
                let turn = turns % t.dims[0] / len * (row_bytes / (t.dims[0] / len));
                bytes.chunks(row_bytes).flat_map(|row| turned(row, turn)).collect()
            }
            // Channel by channel; channel 0 stays.
            Content::Silent(..) if n_rows > 1 => {
                let (first, rest) = bytes.split_at(row_bytes);
                [first, &turned(rest, turns % (n_rows - 1) * row_bytes)].concat()
            }
            _ => patched(original, layer, t, ty, row_bytes)?,
        }))
    }
}

/// What begins at `at`, then what stands before it.
fn turned(bytes: &[u8], at: usize) -> Vec<u8> {
    let (before, after) = bytes.split_at(at);
    [after, before].concat()
}

/// The bytes with the layer's own column in them, if there is one.
fn patched(
    original: &Original,
    layer: &Layer,
    t: &Tensor,
    ty: QuantType,
    row_bytes: usize,
) -> Result<Vec<u8>, Error> {
    let mut bytes = original.bytes.clone();
    let Some((column, values)) = layer.own_column(t.content) else { return Ok(bytes) };
    let len = ty.block_len();
    let block_bytes = row_bytes / (t.dims[0] / len);
    let at = column / len * block_bytes;
    let rows = bytes.par_chunks_mut(row_bytes).zip(original.own.par_chunks(len)).zip(values);
    rows.try_for_each(|((row, numbers), &value)| {
        let mut numbers = numbers.to_vec();
        numbers[column % len] = value;
        quantize_row(ty, &numbers, None, &mut row[at..at + block_bytes])
    })?;
    Ok(bytes)
}
