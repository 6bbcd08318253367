//! How weights lie in memory: as in the file, but for down projections of ordinary files whose
//! neurons are to be skipped. Those are laid out by neurons while they are loaded, without a second
//! copy of them staying in memory.

use rayon::prelude::*;

use super::Weight;
use crate::gguf::TensorData;
use crate::plan::{DownRows, Plan, StepKind};
use crate::quant::{QuantType, tiles};
use crate::tensor::Shape;
use crate::util::aligned::{AlignedVec, OutOfMemory};

/// How a weight lies in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Layout {
    /// As in the file.
    #[default]
    Rows,
    /// Tiles of neurons, see [`crate::quant::tiles`]; the shape is the file's.
    Tiles,
    /// Transposed: a row for each neuron, which the shape says too.
    Neurons,
}

/// Tiles, or 32 neurons of plain numbers, that are made together.
const TOGETHER: usize = 8;

/// Lays out the down projections that can skip neurons. Those that are not mapped from a file stay
/// as they are: their memory could not be given back.
pub(super) fn by_neurons(plan: &mut Plan, weights: &mut [Weight]) -> Result<(), OutOfMemory> {
    for step in &mut plan.steps {
        let StepKind::SkippingFfn(ffn) = &mut step.kind else { continue };
        let weight = &mut weights[ffn.down.weight.0];
        if ffn.down.rows != DownRows::Outputs || weight.layout != Layout::Rows {
            continue;
        }
        let Some(data) = weight.data.as_ref().filter(|data| data.is_mapped()) else { continue };
        let (n_ff, n_embd) = (ffn.n_ff, weight.shape.n_rows() as usize);
        if let Some(packed) = tiled(weight.ty, data, n_ff, n_embd)? {
            weight.layout = Layout::Tiles;
            weight.replace(packed);
        } else if let Some(rows) = transposed(weight.ty, data, n_ff, n_embd)? {
            weight.layout = Layout::Neurons;
            weight.replace(rows);
            ffn.down.rows = DownRows::Neurons;
            if let Some(shape) = Shape::new(&[n_embd as u64, n_ff as u64]) {
                weight.shape = shape;
            }
        }
    }
    Ok(())
}

/// Says in another plan over the same weights how they lie.
pub(super) fn keep(plan: &mut Plan, weights: &[Weight]) {
    for step in &mut plan.steps {
        if let StepKind::SkippingFfn(ffn) = &mut step.kind
            && weights[ffn.down.weight.0].layout == Layout::Neurons
        {
            ffn.down.rows = DownRows::Neurons;
        }
    }
}

impl Weight {
    /// The weight with the shape that it has in the file.
    pub(super) fn as_filed(&self) -> Self {
        Self { shape: self.filed_shape(), ..self.clone() }
    }

    /// The extents that the weight has in the file.
    pub fn filed_shape(&self) -> Shape {
        let turned = Shape::new(&[self.shape.ne()[1], self.shape.ne()[0]]);
        turned.filter(|_| self.layout == Layout::Neurons).unwrap_or(self.shape)
    }

    fn replace(&mut self, bytes: AlignedVec<u8>) {
        if let Some(old) = self.data.replace(TensorData::from_bytes(bytes)) {
            old.release();
        }
    }
}

fn tiled(
    ty: QuantType,
    rows: &[u8],
    n_ff: usize,
    n_embd: usize,
) -> Result<Option<AlignedVec<u8>>, OutOfMemory> {
    if !tiles::can_tile(ty, n_ff, n_embd) {
        return Ok(None);
    }
    let mut out = AlignedVec::try_zeroed_in_huge_pages(rows.len())?;
    let (bytes, n_tiles) = (tiles::tile_bytes(ty, n_embd), n_ff / tiles::neurons(ty));
    out.par_chunks_mut(TOGETHER * bytes).enumerate().for_each(|(i, out)| {
        let tiles = i * TOGETHER..((i + 1) * TOGETHER).min(n_tiles);
        tiles::pack(ty, rows, n_ff, n_embd, tiles, out);
    });
    Ok(Some(out))
}

/// Bytes of a number of a format that is transposed.
pub(super) fn plain_size(ty: QuantType) -> Option<usize> {
    match ty {
        QuantType::F32 => Some(4),
        QuantType::F16 | QuantType::BF16 => Some(2),
        _ => None,
    }
}

fn transposed(
    ty: QuantType,
    rows: &[u8],
    n_ff: usize,
    n_embd: usize,
) -> Result<Option<AlignedVec<u8>>, OutOfMemory> {
    let Some(size) = plain_size(ty) else { return Ok(None) };
    let mut out = AlignedVec::try_zeroed_in_huge_pages(rows.len())?;
    let together = 32 * TOGETHER;
    out.par_chunks_mut(together * n_embd * size).enumerate().for_each(|(i, out)| {
        let neurons = i * together..((i + 1) * together).min(n_ff);
        match size {
            4 => tiles::transpose::<4>(rows, n_ff, n_embd, neurons, out),
            _ => tiles::transpose::<2>(rows, n_ff, n_embd, neurons, out),
        }
    });
    Ok(Some(out))
}
