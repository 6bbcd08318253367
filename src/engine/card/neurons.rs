//! Hot neurons on a card: of a network whose neurons are split between it and the processor, the rows
//! that are there.
//!
//! Neurons lie in ascending order of their ids, and lists on the card name places among them. A down
//! projection that the file has by outputs is turned; in blocks it cannot be, so then its numbers
//! become F16. Of a predictor the rows of hot neurons come first, so that its scores are those of the
//! hot and those of the cold, each in order.

use std::sync::Arc;

use half::f16;

use crate::backend::cuda::launch::Matrix;
use crate::backend::cuda::pack::{self, row_stride};
use crate::backend::cuda::{Budget, Buffer, CudaError, Purpose, Stream, View};
use crate::model::{Layout, Model};
use crate::plan::{Down, DownRows, Mat, SkippingFfn, TensorId};
use crate::quant::{QuantType, dequantize_row, tiles};
use crate::tensor::Activation;
use crate::util::bytes;

/// Parts begin at multiples of this.
const ALIGN: usize = 256;
/// Most parts that a layer has: two biases and the matrices of the network, the same of a predictor.
const MAX_PARTS: usize = 10;

/// Rows, or a vector of one row, within a layer's buffer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    at: usize,
    pub(super) n_rows: usize,
    pub(super) k: usize,
    pub(super) ty: QuantType,
}

/// The parts of a predictor.
#[derive(Clone, Copy, Debug)]
pub(super) struct PredictorParts {
    pub(super) fc1: Part,
    pub(super) fc1_bias: Option<Part>,
    pub(super) hot: Part,
    pub(super) hot_bias: Option<Part>,
    pub(super) cold: Part,
    pub(super) cold_bias: Option<Part>,
}

/// The hot neurons of a layer.
pub struct HotLayer {
    buffer: Buffer,
    /// Ids of the others, ascending.
    pub(super) cold: Vec<u32>,
    pub(super) gate: Option<Part>,
    pub(super) gate_bias: Option<Part>,
    pub(super) up: Part,
    pub(super) up_bias: Option<Part>,
    pub(super) down: Part,
    pub(super) predictor: Option<PredictorParts>,
}

/// Whether the kernels compute such a network when all of it is on a card.
pub fn can_be_whole(ffn: &SkippingFfn) -> bool {
    let plain = |mat: &Mat| mat.scale.is_none() && mat.first_row == 0;
    let whole_rows = ffn.cutoff.is_some() || ffn.norm.is_some() || ffn.fed;
    let adapted = ffn.adapted_in.is_some() || ffn.adapted_out.is_some();
    // A factor that comes before the bias is not in the kernels.
    let scaled = ffn.down.scale.is_some() && ffn.down.bias.is_some() && !ffn.down.scale_last;
    !(whole_rows || adapted || scaled)
        && (ffn.add || ffn.scale == 1.0)
        && !(ffn.gate.is_none() && ffn.act.is_gated_only())
        && ffn.act != Activation::SwigluOai
        && ffn.inputs().iter().all(plain)
}

/// Whether the neurons of a network can be split between a card and the processor.
pub fn can_split(model: &Model, ffn: &SkippingFfn) -> bool {
    let has_rows =
        |mat: &Mat| row_stride(mat.ty, model.weight(mat.weight).shape.ne()[0] as usize).is_some();
    let mut predictor = ffn.predictor.iter().flat_map(|p| [&p.fc1, &p.fc2]);
    can_be_whole(ffn)
        && ffn.inputs().iter().all(has_rows)
        && predictor.all(|mat| has_rows(mat) && mat.scale.is_none() && mat.first_row == 0)
        && down_type(model, &ffn.down).is_some()
}

/// The type that rows of neurons of a down projection have on a card.
fn down_type(model: &Model, down: &Down) -> Option<QuantType> {
    let weight = model.weight(down.weight);
    let (ty, n_embd) = match down.rows == DownRows::Neurons {
        true => (weight.ty, weight.shape.ne()[0]),
        false => (QuantType::F16, weight.shape.n_rows()),
    };
    row_stride(ty, n_embd as usize).map(|_| ty)
}

/// Bytes that a hot neuron of a network takes on a card.
pub fn neuron_bytes(model: &Model, ffn: &SkippingFfn) -> usize {
    let of_mat = |mat: &Mat| {
        let k = model.weight(mat.weight).shape.ne()[0] as usize;
        row_stride(mat.ty, k).unwrap_or(0) + mat.bias.map_or(0, |_| size_of::<f32>())
    };
    let down = down_type(model, &ffn.down);
    let down = down.and_then(|ty| row_stride(ty, n_embd(model, ffn)));
    ffn.inputs().iter().map(of_mat).sum::<usize>() + down.unwrap_or(0)
}

/// Bytes that a layer takes beside its neurons: its predictor's and what alignment costs.
pub fn layer_bytes(model: &Model, ffn: &SkippingFfn, predicts: bool) -> usize {
    let of_mat = |mat: &Mat| {
        let shape = model.weight(mat.weight).shape;
        let rows = shape.n_rows() as usize;
        let stride = row_stride(mat.ty, shape.ne()[0] as usize).unwrap_or(0);
        stride * rows + mat.bias.map_or(0, |_| rows * size_of::<f32>())
    };
    let predictor = ffn.predictor.iter().filter(|_| predicts).flat_map(|p| [&p.fc1, &p.fc2]);
    predictor.map(of_mat).sum::<usize>() + MAX_PARTS * ALIGN
}

fn n_embd(model: &Model, ffn: &SkippingFfn) -> usize {
    model.weight(ffn.up.weight).shape.ne()[0] as usize
}

/// A layer's buffer while it is made on the host.
struct Packing<'a> {
    model: &'a Model,
    bytes: Vec<u8>,
}

impl Packing<'_> {
    fn data(&self, id: TensorId) -> &[u8] {
        self.model.weight(id).data.as_deref().unwrap_or(&[])
    }

    /// Room for rows behind what is there.
    fn part(&mut self, ty: QuantType, n_rows: usize, k: usize) -> (Part, usize) {
        let at = self.bytes.len().next_multiple_of(ALIGN);
        let stride = row_stride(ty, k).unwrap_or(0);
        self.bytes.resize(at + stride * n_rows, 0);
        (Part { at, n_rows, k, ty }, stride)
    }

    /// Some rows of a weight.
    fn rows(&mut self, id: TensorId, ids: &[u32]) -> Part {
        let weight = self.model.weight(id);
        let (ty, k) = (weight.ty, weight.shape.ne()[0] as usize);
        let (part, stride) = self.part(ty, ids.len(), k);
        let row_bytes = weight.shape.ne()[0] as usize / ty.block_len() * ty.info().block_bytes;
        let data = weight.data.as_deref().unwrap_or(&[]);
        for (dst, &id) in self.bytes[part.at..].chunks_exact_mut(stride.max(1)).zip(ids) {
            pack::pack(ty, k, &data[id as usize * row_bytes..][..row_bytes], dst);
        }
        part
    }

    /// Some elements of a vector in F32.
    fn elements(&mut self, id: Option<TensorId>, ids: &[u32]) -> Option<Part> {
        let id = id?;
        let (part, _) = self.part(QuantType::F32, 1, ids.len());
        let data = self.model.weight(id).data.as_deref().and_then(bytes::cast::<f32>)?;
        for (dst, &id) in self.bytes[part.at..].chunks_exact_mut(4).zip(ids) {
            dst.copy_from_slice(&data[id as usize].to_ne_bytes());
        }
        Some(part)
    }

    /// Rows of neurons of a matrix that has a row for each output, in F16.
    fn turned(&mut self, down: &Down, n_ff: usize, n_embd: usize, ids: &[u32]) -> Part {
        let weight = self.model.weight(down.weight);
        let (part, stride) = self.part(QuantType::F16, ids.len(), n_embd);
        let row_bytes = n_ff / weight.ty.block_len() * weight.ty.info().block_bytes;
        let (mut row, mut numbers) = (vec![0; row_bytes], vec![0.0; n_ff]);
        for out in 0..n_embd {
            let data = self.data(down.weight);
            match weight.layout {
                Layout::Tiles => {
                    tiles::unpack_rows(weight.ty, data, n_ff, n_embd, out..out + 1, &mut row);
                }
                _ => row.copy_from_slice(&data[out * row_bytes..][..row_bytes]),
            }
            dequantize_row(weight.ty, &row, &mut numbers).expect("a row has its bytes");
            for (i, &id) in ids.iter().enumerate() {
                let half = f16::from_f32(numbers[id as usize]).to_ne_bytes();
                self.bytes[part.at + i * stride + out * 2..][..2].copy_from_slice(&half);
            }
        }
        part
    }
}

impl HotLayer {
    /// Brings the neurons `hot`, ascending, of a network that [`can_split`] to a card, and its
    /// predictor where that is followed.
    pub fn new(
        model: &Model,
        ffn: &SkippingFfn,
        hot: &[u32],
        predicts: bool,
        stream: &Stream,
        budget: &Arc<Budget>,
    ) -> Result<Self, CudaError> {
        let mut rest = hot.iter().copied().peekable();
        let is_cold = |id: &u32| rest.next_if_eq(id).is_none();
        let cold: Vec<u32> = (0..ffn.n_ff as u32).filter(is_cold).collect();
        let mut packing = Packing { model, bytes: Vec::new() };
        let gate = ffn.gate.map(|gate| packing.rows(gate.weight, hot));
        let gate_bias = packing.elements(ffn.gate.and_then(|gate| gate.bias), hot);
        let up = packing.rows(ffn.up.weight, hot);
        let up_bias = packing.elements(ffn.up.bias, hot);
        let down = match ffn.down.rows {
            DownRows::Neurons => packing.rows(ffn.down.weight, hot),
            DownRows::Outputs => packing.turned(&ffn.down, ffn.n_ff, n_embd(model, ffn), hot),
        };
        let predictor = ffn.predictor.filter(|_| predicts).map(|p| {
            let rank: Vec<u32> = (0..p.fc1.n_out as u32).collect();
            PredictorParts {
                fc1: packing.rows(p.fc1.weight, &rank),
                fc1_bias: packing.elements(p.fc1.bias, &rank),
                hot: packing.rows(p.fc2.weight, hot),
                hot_bias: packing.elements(p.fc2.bias, hot),
                cold: packing.rows(p.fc2.weight, &cold),
                cold_bias: packing.elements(p.fc2.bias, &cold),
            }
        });
        let len = packing.bytes.len();
        let buffer = stream.device().alloc(budget, Purpose::Neurons, len)?;
        stream.upload(buffer.view().slice(0..len), &packing.bytes)?;
        Ok(Self { buffer, cold, gate, gate_bias, up, up_bias, down, predictor })
    }

    /// A part that is a matrix.
    pub(super) fn matrix(&self, part: Part) -> Matrix<'_> {
        Matrix { ty: part.ty, n_rows: part.n_rows, k: part.k, data: self.view(&part) }
    }

    /// Neurons here.
    pub fn n_hot(&self) -> usize {
        self.up.n_rows
    }

    /// Neurons that stayed with the processor.
    pub fn n_cold(&self) -> usize {
        self.cold.len()
    }

    /// The bytes of a part.
    pub(super) fn view(&self, part: &Part) -> View<'_> {
        let len = row_stride(part.ty, part.k).unwrap_or(0) * part.n_rows;
        self.buffer.view().slice(part.at..part.at + len)
    }
}
