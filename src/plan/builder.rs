//! What an architecture file writes into: asks for weights, lays out steps, checks shapes.

use super::{
    Attention, Classifier, Map, Mat, Norm, NormKind, Plan, Rope, RopeStyle, RopeTable, RowOf, Rows,
    Skipping, Slot, SlotId, Step, StepKind, TensorId,
};
use crate::quant::QuantType;
use crate::tensor::{Activation, Shape};

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
    ffn_scales: bool,
    down_scale_first: bool,
    skipping: Skipping,
    predictors: bool,
}

impl<'a> Builder<'a> {
    /// An empty plan over these weights.
    pub fn new(tensors: &'a dyn Tensors) -> Self {
        Self {
            tensors,
            plan: Plan::default(),
            used: Vec::new(),
            rows: Rows::Tokens,
            ffn_scales: false,
            down_scale_first: false,
            skipping: Skipping::default(),
            predictors: false,
        }
    }

    /// Which feed-forward networks become one step; with `predictors`, all of them, and each must
    /// have a predictor and its down projection stored by neurons.
    pub fn with_skipping(self, skipping: Skipping, predictors: bool) -> Self {
        Self { skipping, predictors, ..self }
    }

    pub(super) fn skipping(&self) -> Skipping {
        self.skipping
    }

    pub(super) fn predictors(&self) -> bool {
        self.predictors
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
    pub fn vector(&mut self, name: &str, len: usize) -> Result<TensorId, BuildError> {
        let facts = self.weight(name, &[len])?;
        Self::f32_only(name, facts)
    }

    pub(super) fn optional_vector(
        &mut self,
        name: &str,
        len: usize,
    ) -> Result<Option<TensorId>, BuildError> {
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
            scale: self.optional_vector(&format!("{name}.scale"), 1)?,
            bias: self.optional_vector(&format!("{name}.bias"), n_out)?,
            ..Mat::plain(facts.id, facts.ty, n_out)
        })
    }

    /// The matrices `[n_in, n_out]` of a tensor `name.weight` that holds `n` of them.
    pub fn mats(
        &mut self,
        name: &str,
        n_in: usize,
        n_out: usize,
        n: usize,
    ) -> Result<Vec<Mat>, BuildError> {
        let facts = self.weight(&format!("{name}.weight"), &[n_in, n_out, n])?;
        let (weight, ty, scale, bias) = (facts.id, facts.ty, None, None);
        let mat =
            |i| Mat { weight, ty, first_row: i * n_out, n_out, scale, bias, scale_last: false };
        Ok((0..n).map(mat).collect())
    }

    /// Lets the matrices of feed-forward networks have factors too. llama.cpp knows them there
    /// only for some architectures, unlike those of attention.
    pub fn use_ffn_scales(&mut self) {
        self.ffn_scales = true;
    }

    /// Applies the factor of `ffn_down` to the product alone, before bias and adapters (BitNet).
    pub fn scale_down_first(&mut self) {
        self.down_scale_first = true;
    }

    pub(super) fn scales_down_first(&self) -> bool {
        self.down_scale_first
    }

    /// A matrix of a feed-forward network, where llama.cpp applies the factor after the bias.
    pub fn ffn_mat(&mut self, name: &str, n_in: usize, n_out: usize) -> Result<Mat, BuildError> {
        let mat = self.mat(name, n_in, n_out)?;
        let scale = mat.scale.filter(|_| self.ffn_scales);
        Ok(Mat { scale, scale_last: true, ..mat })
    }

    /// Whether the file has this tensor.
    pub fn has(&self, name: &str) -> bool {
        self.tensors.find(name).is_some()
    }

    /// Rows of a matrix, for sizes that no key tells.
    pub fn n_rows(&self, name: &str) -> Option<usize> {
        usize::try_from(self.tensors.find(name)?.shape.n_rows()).ok()
    }

    /// Elements of a row of a matrix, likewise.
    pub fn row_len(&self, name: &str) -> Option<usize> {
        usize::try_from(self.tensors.find(name)?.shape.ne()[0]).ok()
    }

    pub(super) fn slot(&mut self, name: &'static str, width: usize) -> SlotId {
        self.slot_of_many(name, width, 1)
    }

    /// A buffer with `per_row` rows for each token or output.
    pub(super) fn slot_of_many(
        &mut self,
        name: &'static str,
        width: usize,
        per_row: usize,
    ) -> SlotId {
        let slot = Slot { name, width, rows: self.rows, per_row };
        let slots = &mut self.plan.slots;
        let at = slots.iter().position(|s| *s == slot).unwrap_or_else(|| {
            slots.push(slot);
            slots.len() - 1
        });
        SlotId(at)
    }

    pub(super) fn width(&self, slot: SlotId) -> usize {
        self.plan.slots[slot.0].width
    }

    pub(super) fn push(&mut self, name: impl Into<String>, kind: StepKind) {
        self.plan.steps.push(Step { name: name.into(), kind });
    }

    /// Starts the residual stream with the embeddings of the tokens.
    pub fn embed(&mut self, n_embd: usize, n_vocab: usize) -> Result<SlotId, BuildError> {
        self.embed_scaled(n_embd, n_vocab, 1.0, 1.0)
    }

    /// The same with a factor on tokens' embeddings, and one on embeddings that the caller gives.
    pub fn embed_scaled(
        &mut self,
        n_embd: usize,
        n_vocab: usize,
        scale: f32,
        input_scale: f32,
    ) -> Result<SlotId, BuildError> {
        let weight = self.weight("token_embd.weight", &[n_embd, n_vocab])?.id;
        let dst = self.slot("residual", n_embd);
        let input_scale = Some(input_scale);
        self.push("inp_embd", StepKind::Embed { weight, dst, scale, input_scale });
        Ok(dst)
    }

    /// Adds rows of the table `tensor`, which has `n_rows`, to the residual stream.
    pub fn add_row(
        &mut self,
        node: &str,
        tensor: &str,
        n_rows: usize,
        row: RowOf,
        dst: SlotId,
    ) -> Result<(), BuildError> {
        self.add_row_scaled(node, tensor, n_rows, row, 1.0, dst)
    }

    /// The same with a factor on the rows.
    pub fn add_row_scaled(
        &mut self,
        node: &str,
        tensor: &str,
        n_rows: usize,
        row: RowOf,
        scale: f32,
        dst: SlotId,
    ) -> Result<(), BuildError> {
        let table = self.weight(tensor, &[self.width(dst), n_rows])?.id;
        if let RowOf::Position(offset) = row {
            self.plan.n_pos = Some(n_rows.saturating_sub(offset));
        }
        self.push(node, StepKind::AddRow { table, row, scale, dst });
        Ok(())
    }

    /// A norm `name.weight` of this width, with `name.bias` if the file has it.
    pub fn norm_weights(
        &mut self,
        kind: NormKind,
        name: &str,
        width: usize,
        eps: f32,
    ) -> Result<Norm, BuildError> {
        let weight = Some(self.vector(&format!("{name}.weight"), width)?);
        let bias = match kind {
            NormKind::Rms => None,
            NormKind::Layer => self.optional_vector(&format!("{name}.bias"), width)?,
        };
        Ok(Norm { kind, weight, bias, eps })
    }

    /// Norm into a buffer of its own, which lasts until the next norm of the same width.
    pub fn norm(&mut self, node: &str, src: SlotId, norm: Norm) -> SlotId {
        self.norm_to(node, "norm", src, norm)
    }

    /// Norm into the buffer `slot`.
    pub fn norm_to(&mut self, node: &str, slot: &'static str, src: SlotId, norm: Norm) -> SlotId {
        let dst = self.slot(slot, self.width(src));
        self.push(node, StepKind::Norm { src, norm, dst, add: false });
        dst
    }

    /// Adds a norm to the residual stream.
    pub fn norm_add(&mut self, node: &str, src: SlotId, norm: Norm, residual: SlotId) {
        self.push(node, StepKind::Norm { src, norm, dst: residual, add: true });
    }

    /// Root-mean-square norm with the weight `name.weight`.
    pub fn rms_norm(
        &mut self,
        node: &str,
        src: SlotId,
        name: &str,
        eps: f32,
    ) -> Result<SlotId, BuildError> {
        let norm = self.norm_weights(NormKind::Rms, name, self.width(src), eps)?;
        Ok(self.norm(node, src, norm))
    }

    /// Layer norm with `name.weight`, and `name.bias` if the file has it.
    pub fn layer_norm(
        &mut self,
        node: &str,
        src: SlotId,
        name: &str,
        eps: f32,
    ) -> Result<SlotId, BuildError> {
        let norm = self.norm_weights(NormKind::Layer, name, self.width(src), eps)?;
        Ok(self.norm(node, src, norm))
    }

    /// Norm in place of `n_head` heads from column `first` on. The weight `[head_dim]` is common
    /// to the heads; `[head_dim, n_head]` gives each its own.
    #[allow(clippy::too_many_arguments, reason = "the parts of one step")]
    pub fn norm_heads(
        &mut self,
        node: &str,
        slot: SlotId,
        first: usize,
        n_head: usize,
        head_dim: usize,
        kind: NormKind,
        name: &str,
        eps: f32,
    ) -> Result<(), BuildError> {
        let weight_name = format!("{name}.weight");
        let own = self.tensors.find(&weight_name).is_some_and(|t| t.shape.n_rows() > 1);
        let facts = match own {
            true => self.weight(&weight_name, &[head_dim, n_head])?,
            false => self.weight(&weight_name, &[head_dim])?,
        };
        let weight = Some(Self::f32_only(&weight_name, facts)?);
        let norm = Norm { kind, weight, bias: None, eps };
        self.push(node, StepKind::NormHeads { slot, first, n_head, head_dim, norm });
        Ok(())
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
        self.push(node, StepKind::MatMul { src, mats, dst, add: None });
        dst
    }

    /// Adds a product to the residual stream.
    pub fn mat_mul_add(&mut self, node: &str, src: SlotId, mat: Mat, residual: SlotId) {
        self.mat_mul_add_scaled(node, src, mat, 1.0, residual);
    }

    /// Adds a product, times `scale`, to the residual stream.
    pub fn mat_mul_add_scaled(
        &mut self,
        node: &str,
        src: SlotId,
        mat: Mat,
        scale: f32,
        residual: SlotId,
    ) {
        let (mats, dst) = (vec![mat], residual);
        self.push(node, StepKind::MatMul { src, mats, dst, add: Some(scale) });
    }

    /// Attention of the next layer over `qkv = [queries | keys | values]`, or the queries alone
    /// where it sees another layer's keys and values.
    pub fn attend(&mut self, spec: Attention, qkv: SlotId) -> SlotId {
        let layer = self.plan.layers.len();
        let own = if spec.kv_of.is_none() { spec.n_embd_k() + spec.n_embd_v() } else { 0 };
        debug_assert_eq!(self.width(qkv), spec.n_embd_q() + own, "side by side");
        self.plan.layers.push(spec);
        if spec.kv_of.is_none() {
            self.push(format!("Kcur-{layer}"), StepKind::StoreKv { layer, qkv });
        }
        let dst = self.slot("attn", spec.n_head * spec.head_dim_v);
        self.push(format!("kqv_out-{layer}"), StepKind::Attend { layer, qkv, dst });
        dst
    }

    /// `act(gate) * up` over `[gate | up]`.
    pub fn activate_gated(&mut self, node: &str, src: SlotId, act: Activation) -> SlotId {
        let per_row = self.plan.slots[src.0].per_row;
        let dst = self.slot_of_many("ffn_act", self.width(src) / 2, per_row);
        self.push(node, StepKind::Activate { src, act, gated: true, dst });
        dst
    }

    /// `act(x)`
    pub fn activate(&mut self, node: &str, src: SlotId, act: Activation) -> SlotId {
        let dst = self.slot("ffn_act", self.width(src));
        self.push(node, StepKind::Activate { src, act, gated: false, dst });
        dst
    }

    /// Changes every element in place.
    pub fn map(&mut self, node: &str, slot: SlotId, map: Map) {
        self.push(node, StepKind::Map { slot, map });
    }

    /// `dst += sigmoid(gate) * src`, the gate one number per row.
    pub fn add_gated(&mut self, node: &str, src: SlotId, gate: SlotId, dst: SlotId) {
        self.push(node, StepKind::Add { src, gate, dst });
    }

    /// A copy into the buffer `slot`, for matrices that take the residual stream as it is.
    pub fn copy(&mut self, node: &str, slot: &'static str, src: SlotId) -> SlotId {
        let dst = self.slot(slot, self.width(src));
        self.push(node, StepKind::Copy { src, dst });
        dst
    }

    /// From here on only rows whose output was asked for: the buffers' new ids.
    pub fn select_outputs<const N: usize>(&mut self, slots: [SlotId; N]) -> [SlotId; N] {
        self.rows = Rows::Outputs;
        slots.map(|src| {
            let Slot { name, width, .. } = self.plan.slots[src.0];
            let dst = self.slot(name, width);
            self.push("inp_out_ids", StepKind::Copy { src, dst });
            dst
        })
    }

    /// Ends the plan: the normed final state and the logits. Returns the logits, to be changed.
    pub fn outputs(&mut self, normed: SlotId, output: Mat) -> SlotId {
        self.plan.embeddings = Some(normed);
        let logits = self.mat_mul("result_output", "logits", normed, vec![output]);
        self.plan.logits = Some(logits);
        logits
    }

    /// Ends the plan of a model that only embeds and remembers nothing: the final state.
    pub fn encoder_outputs(&mut self, state: SlotId) {
        self.plan.embeddings = Some(state);
        self.plan.stateless = true;
    }

    /// A head that makes `n_out` scores of pooled embeddings, if the file has one.
    pub fn set_classifier(&mut self, classifier: Classifier) {
        if classifier.dense.is_some() || classifier.out.is_some() {
            self.plan.classifier = Some(classifier);
        }
    }

    /// A table of rotation angles; the same one for the same wishes.
    pub fn rope_table(&mut self, table: RopeTable, style: RopeStyle) -> Rope {
        let ropes = &mut self.plan.ropes;
        let at = ropes.iter().position(|t| *t == table).unwrap_or_else(|| {
            ropes.push(table);
            ropes.len() - 1
        });
        Rope { style, n_rot: table.n_rot, table: at }
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
        let n1 = b.rms_norm("a", x, "norm", 1e-5).unwrap();
        let n2 = b.rms_norm("b", x, "norm", 1e-5).unwrap();
        assert_eq!(n1, n2);
        let [x2, _] = b.select_outputs([x, n1]);
        assert_ne!(x, x2);
        assert_ne!(b.rms_norm("c", x2, "norm", 1e-5).unwrap(), n1);
        assert_eq!(b.finish().0.steps.len(), 6);
    }
}
