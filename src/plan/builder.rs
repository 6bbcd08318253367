//! What an architecture file writes into: asks for weights, lays out steps, checks shapes.

use super::{Attention, Mat, Plan, Rows, Slot, SlotId, Step, StepKind, TensorId};
use crate::quant::QuantType;
use crate::tensor::Shape;

/// What a builder needs to know of a weight.
#[derive(Clone, Copy, Debug)]
pub struct TensorFacts {
    /// Its id.
    pub id: TensorId,
    /// Number format.
    pub ty: QuantType,
    /// Extents.
    pub shape: Shape,
}

/// The weights of a model, by name.
pub trait Tensors {
    /// The weight of this name.
    fn find(&self, name: &str) -> Option<TensorFacts>;
    /// Whether steps can compute with this number format.
    fn can_compute(&self, ty: QuantType) -> bool;
}

/// Why a model's weights do not make a plan.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// A weight is not in the file.
    #[error("tensor '{name}' is missing (expected shape {expected:?})")]
    Missing {
        /// Name of the weight.
        name: String,
        /// Its extents.
        expected: Vec<u64>,
    },
    /// A weight has other extents than the hyper-parameters say.
    #[error("tensor '{name}' has shape {found}, expected {expected:?}")]
    WrongShape {
        /// Name of the weight.
        name: String,
        /// Extents in the file.
        found: Shape,
        /// Extents by the hyper-parameters.
        expected: Vec<u64>,
    },
    /// Nothing here computes with the weight's number format.
    #[error("tensor '{name}' has type {found}, which is not supported")]
    UnsupportedType {
        /// Name of the weight.
        name: String,
        /// Type in the file.
        found: QuantType,
    },
}

/// Lays out the steps of a model. See `model/arch` for its use.
pub struct Builder<'a> {
    tensors: &'a dyn Tensors,
    plan: Plan,
    used: Vec<TensorId>,
    rows: Rows,
}

impl<'a> Builder<'a> {
    /// An empty plan over these weights.
    pub fn new(tensors: &'a dyn Tensors) -> Self {
        Self { tensors, plan: Plan::default(), used: Vec::new(), rows: Rows::Tokens }
    }

    /// The finished plan, and the weights that it uses.
    pub fn finish(self) -> (Plan, Vec<TensorId>) {
        (self.plan, self.used)
    }

    /// A weight of these extents (trailing ones may be left out).
    pub fn weight(&mut self, name: &str, dims: &[usize]) -> Result<TensorFacts, BuildError> {
        let missing = || BuildError::Missing {
            name: name.to_owned(),
            expected: dims.iter().map(|&d| d as u64).collect(),
        };
        self.optional(name, dims)?.ok_or_else(missing)
    }

    /// A weight that a file may do without.
    pub fn optional(
        &mut self,
        name: &str,
        dims: &[usize],
    ) -> Result<Option<TensorFacts>, BuildError> {
        let Some(facts) = self.tensors.find(name) else { return Ok(None) };
        let expected: Vec<u64> = dims.iter().map(|&d| d as u64).collect();
        if Shape::new(&expected).is_none_or(|s| s.ne() != facts.shape.ne()) {
            let (name, found) = (name.to_owned(), facts.shape);
            return Err(BuildError::WrongShape { name, found, expected });
        }
        if !self.tensors.can_compute(facts.ty) {
            return Err(BuildError::UnsupportedType { name: name.to_owned(), found: facts.ty });
        }
        self.used.push(facts.id);
        Ok(Some(facts))
    }

    /// A vector that steps read element by element: must be F32.
    fn vector(&mut self, name: &str, len: usize) -> Result<TensorId, BuildError> {
        let facts = self.weight(name, &[len])?;
        Self::f32_only(name, facts)
    }

    fn optional_vector(&mut self, name: &str, len: usize) -> Result<Option<TensorId>, BuildError> {
        self.optional(name, &[len])?.map(|facts| Self::f32_only(name, facts)).transpose()
    }

    fn f32_only(name: &str, facts: TensorFacts) -> Result<TensorId, BuildError> {
        match facts.ty {
            QuantType::F32 => Ok(facts.id),
            found => Err(BuildError::UnsupportedType { name: name.to_owned(), found }),
        }
    }

    /// A matrix `[n_in, n_out]` named `name.weight`, with `name.bias` and `name.scale` if present.
    pub fn mat(&mut self, name: &str, n_in: usize, n_out: usize) -> Result<Mat, BuildError> {
        let facts = self.weight(&format!("{name}.weight"), &[n_in, n_out])?;
        Ok(Mat {
            weight: facts.id,
            ty: facts.ty,
            first_row: 0,
            n_out,
            scale: self.optional_vector(&format!("{name}.scale"), 1)?,
            bias: self.optional_vector(&format!("{name}.bias"), n_out)?,
            scale_last: false,
        })
    }

    /// The same for a feed-forward network, where llama.cpp applies the factor after the bias.
    pub fn ffn_mat(&mut self, name: &str, n_in: usize, n_out: usize) -> Result<Mat, BuildError> {
        Ok(Mat { scale_last: true, ..self.mat(name, n_in, n_out)? })
    }

    /// Whether the file has this tensor.
    pub fn has(&self, name: &str) -> bool {
        self.tensors.find(name).is_some()
    }

    /// Queries, keys and values of a layer, side by side: `attn_qkv` in one, or three matrices.
    pub fn qkv(
        &mut self,
        layer: usize,
        n_embd: usize,
        spec: &Attention,
    ) -> Result<Vec<Mat>, BuildError> {
        let blk = format!("blk.{layer}");
        let parts =
            [("attn_q", spec.n_embd_q()), ("attn_k", spec.n_embd_k()), ("attn_v", spec.n_embd_v())];
        if !self.has(&format!("{blk}.attn_qkv.weight")) {
            let parts = parts.into_iter();
            return parts.map(|(name, n)| self.mat(&format!("{blk}.{name}"), n_embd, n)).collect();
        }
        let n_out = parts.iter().map(|(_, n)| n).sum();
        let fused = self.mat(&format!("{blk}.attn_qkv"), n_embd, n_out)?;
        if fused.bias.is_some() {
            return Ok(vec![fused]);
        }
        // One matrix, yet three biases: some converters did that.
        let mut first_row = 0;
        let mut mats = Vec::with_capacity(parts.len());
        for (name, n_out) in parts {
            let bias = self.optional_vector(&format!("{blk}.{name}.bias"), n_out)?;
            mats.push(Mat { first_row, n_out, bias, ..fused });
            first_row += n_out;
        }
        let apart = mats.iter().any(|m| m.bias.is_some());
        Ok(if apart { mats } else { vec![fused] })
    }

    fn slot(&mut self, name: &'static str, width: usize) -> SlotId {
        let rows = self.rows;
        let slots = &mut self.plan.slots;
        let same = |s: &Slot| s.name == name && s.width == width && s.rows == rows;
        let at = slots.iter().position(same).unwrap_or_else(|| {
            slots.push(Slot { name, width, rows });
            slots.len() - 1
        });
        SlotId(at)
    }

    fn width(&self, slot: SlotId) -> usize {
        self.plan.slots[slot.0].width
    }

    fn push(&mut self, name: impl Into<String>, kind: StepKind) {
        self.plan.steps.push(Step { name: name.into(), kind });
    }

    /// Starts the residual stream with the embeddings of the tokens.
    pub fn embed(&mut self, n_embd: usize, n_vocab: usize) -> Result<SlotId, BuildError> {
        let weight = self.weight("token_embd.weight", &[n_embd, n_vocab])?.id;
        let dst = self.slot("residual", n_embd);
        self.push("inp_embd", StepKind::Embed { weight, dst });
        Ok(dst)
    }

    /// Root-mean-square norm with the weight `tensor`.
    pub fn rms_norm(
        &mut self,
        node: &str,
        src: SlotId,
        tensor: &str,
        eps: f32,
    ) -> Result<SlotId, BuildError> {
        let width = self.width(src);
        let weight = self.vector(tensor, width)?;
        let dst = self.slot("norm", width);
        self.push(node, StepKind::RmsNorm { src, weight, eps, dst });
        Ok(dst)
    }

    /// The products of several matrices with one input, side by side.
    pub fn mat_mul(
        &mut self,
        node: &str,
        slot: &'static str,
        src: SlotId,
        mats: Vec<Mat>,
    ) -> SlotId {
        let dst = self.slot(slot, mats.iter().map(|m| m.n_out).sum());
        self.push(node, StepKind::MatMul { src, mats, dst, add: false });
        dst
    }

    /// Adds a product to the residual stream.
    pub fn mat_mul_add(&mut self, node: &str, src: SlotId, mat: Mat, residual: SlotId) {
        let (mats, dst) = (vec![mat], residual);
        self.push(node, StepKind::MatMul { src, mats, dst, add: true });
    }

    /// Attention of the next layer over `qkv = [queries | keys | values]`.
    pub fn attend(&mut self, spec: Attention, qkv: SlotId) -> SlotId {
        let layer = self.plan.layers.len();
        debug_assert_eq!(
            self.width(qkv),
            spec.n_embd_q() + spec.n_embd_k() + spec.n_embd_v(),
            "queries, keys and values side by side"
        );
        self.plan.layers.push(spec);
        self.push(format!("Kcur-{layer}"), StepKind::StoreKv { layer, qkv });
        let dst = self.slot("attn", spec.n_head * spec.head_dim_v);
        self.push(format!("kqv_out-{layer}"), StepKind::Attend { layer, qkv, dst });
        dst
    }

    /// `silu(gate) * up` over `[gate | up]`.
    pub fn silu_mul(&mut self, node: &str, src: SlotId) -> SlotId {
        let width = self.width(src) / 2;
        let dst = self.slot("ffn_act", width);
        self.push(node, StepKind::SiluMul { src, dst });
        dst
    }

    /// From here on only rows whose output was asked for; returns the two buffers' new ids.
    pub fn select_outputs(&mut self, a: SlotId, b: SlotId) -> (SlotId, SlotId) {
        self.rows = Rows::Outputs;
        let mut select = |src: SlotId| {
            let Slot { name, width, .. } = self.plan.slots[src.0];
            let dst = self.slot(name, width);
            self.push("inp_out_ids", StepKind::Select { src, dst });
            dst
        };
        (select(a), select(b))
    }

    /// Ends the plan: the normed final state and the logits.
    pub fn outputs(&mut self, normed: SlotId, output: Mat) {
        self.plan.embeddings = Some(normed);
        self.plan.logits = Some(self.mat_mul("result_output", "logits", normed, vec![output]));
    }

    /// Uses a tensor of frequency divisors for rotary embeddings, if the file has it.
    pub fn rope_factors(&mut self, name: &str, n_rot: usize) -> Result<(), BuildError> {
        self.plan.rope_factors = self.optional_vector(name, n_rot / 2)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct One;
    impl Tensors for One {
        fn find(&self, name: &str) -> Option<TensorFacts> {
            let dims: &[u64] = match name {
                "token_embd.weight" => &[8, 4],
                "norm.weight" => &[8],
                "odd.weight" => &[8, 8],
                _ => return None,
            };
            let ty = if name == "odd.weight" { QuantType::IQ1_S } else { QuantType::F32 };
            Some(TensorFacts { id: TensorId(0), ty, shape: Shape::new(dims)? })
        }
        fn can_compute(&self, ty: QuantType) -> bool {
            ty == QuantType::F32
        }
    }

    #[test]
    fn errors_name_the_tensor() {
        let mut b = Builder::new(&One);
        let text = |e: BuildError| e.to_string();
        assert_eq!(
            b.weight("none.weight", &[8]).map_err(text).unwrap_err(),
            "tensor 'none.weight' is missing (expected shape [8])"
        );
        assert_eq!(
            b.embed(8, 5).map_err(text).unwrap_err(),
            "tensor 'token_embd.weight' has shape [8, 4], expected [8, 5]"
        );
        assert_eq!(
            b.mat("odd", 8, 8).map(|_| ()).map_err(text).unwrap_err(),
            "tensor 'odd.weight' has type iq1_s, which is not supported"
        );
    }

    #[test]
    fn slots_are_shared_between_layers_but_not_between_row_kinds() {
        let mut b = Builder::new(&One);
        let x = b.embed(8, 4).unwrap();
        let n1 = b.rms_norm("a", x, "norm.weight", 1e-5).unwrap();
        let n2 = b.rms_norm("b", x, "norm.weight", 1e-5).unwrap();
        assert_eq!(n1, n2);
        let (x2, _) = b.select_outputs(x, n1);
        assert_ne!(x, x2);
        assert_ne!(b.rms_norm("c", x2, "norm.weight", 1e-5).unwrap(), n1);
        assert_eq!(b.finish().0.steps.len(), 6);
    }
}
