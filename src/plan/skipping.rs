//! Feed-forward networks as one step, so that neurons whose activation is zero can be skipped.
//!
//! A neuron is a row of the gate, a row of the up and a column of the down projection. What the
//! step computes is the same as that of the separate ones; which neurons it reads is decided while
//! it runs, by `crate::sparse`.

use super::{BuildError, Builder, LowRank, Mat, Norm, NormKind, SlotId, StepKind, TensorId};
use crate::quant::QuantType;
use crate::tensor::Activation;

/// Which feed-forward networks can skip neurons.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Skipping {
    /// Only those whose weights ask for it: with predictors, or with the down projection stored
    /// by neurons.
    AsStored,
    /// Those whose activation is zero for many neurons too: ReLU and its kin.
    #[default]
    Zeros,
    /// Gated ones of any activation too, where small values count as zero.
    Small,
}

/// Rows of the down projection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DownRows {
    /// A row for each output, `ffn_down`: `[n_ff, n_embd]`.
    Outputs,
    /// A row for each neuron, `ffn_down_t`: `[n_embd, n_ff]`.
    Neurons,
}

/// The way back of a network that can skip neurons.
#[derive(Clone, Copy, Debug)]
pub struct Down {
    /// Weight.
    pub weight: TensorId,
    /// Number format of the weight.
    pub ty: QuantType,
    /// What its rows are.
    pub rows: DownRows,
    /// Factor of one element on the product.
    pub scale: Option<TensorId>,
    /// `[n_embd]`, added to the product.
    pub bias: Option<TensorId>,
    /// The factor comes after the bias.
    pub scale_last: bool,
}

impl Down {
    /// The way back as a matrix of `n_embd` outputs.
    pub fn mat(&self, n_embd: usize) -> Mat {
        let &Self { weight, ty, scale, bias, scale_last, .. } = self;
        Mat { scale, bias, scale_last, ..Mat::plain(weight, ty, n_embd) }
    }
}

/// Says by a network of two small layers which neurons fire: `fc2(relu(fc1(x)))`, computed over the
/// residual stream (PowerInfer, arXiv 2312.12456).
#[derive(Clone, Copy, Debug)]
pub struct Predictor {
    /// What it looks at.
    pub src: SlotId,
    /// `[n_embd, rank]`
    pub fc1: Mat,
    /// Output of the first layer.
    pub hidden: SlotId,
    /// The same through ReLU.
    pub acted: SlotId,
    /// `[rank, n_ff]`
    pub fc2: Mat,
}

/// `dst += scale * down(act(gate) * up)`, or without a gate `dst += scale * down(act(up))`; with
/// `=` in place of `+=` where something comes between the network and the residual stream.
#[derive(Clone, Debug)]
pub struct SkippingFfn {
    /// Layer.
    pub layer: usize,
    /// Input, normed.
    pub src: SlotId,
    /// Neurons.
    pub n_ff: usize,
    /// Gate projection.
    pub gate: Option<Mat>,
    /// Up projection.
    pub up: Mat,
    /// Activation.
    pub act: Activation,
    /// How far a gate has to stand out: see [`FfnShape::cutoff`].
    pub cutoff: Option<f32>,
    /// Norm of the activated neurons, before the way back (BitNet); zeros stay zeros.
    pub norm: Option<Norm>,
    /// The way back.
    pub down: Down,
    /// Guesses which neurons fire.
    pub predictor: Option<Predictor>,
    /// `[gate | up]`, or `up`, where all neurons are computed.
    pub gate_up: SlotId,
    /// Activated neurons, zero where they were skipped.
    pub acted: SlotId,
    /// Factor on the output.
    pub scale: f32,
    /// Whether the output is added to what is in `dst`.
    pub add: bool,
    /// The residual stream, or the output alone.
    pub dst: SlotId,
    /// Steps before this one have made all of `gate_up`: see [`Plan::unfused`](super::Plan::unfused).
    pub fed: bool,
    /// What adapters add to gate and up, or to up alone.
    pub adapted_in: Option<LowRank<Mat>>,
    /// What adapters add to the way back.
    pub adapted_out: Option<LowRank<Mat>>,
}

impl SkippingFfn {
    /// The projection whose outputs say which neurons fire: the gate, or up where there is none.
    pub fn first(&self) -> &Mat {
        self.gate.as_ref().unwrap_or(&self.up)
    }

    /// Gate and up, or up alone.
    pub fn inputs(&self) -> Vec<Mat> {
        self.gate.into_iter().chain([self.up]).collect()
    }

    /// What adapters add to one of these: a product of the slot.
    pub fn adapted(&self, mat: &Mat) -> Option<(SlotId, &Mat)> {
        let added = self.adapted_in.as_ref()?;
        let at = self.inputs().iter().position(|m| m.weight == mat.weight)?;
        Some((added.hidden, added.b.get(at)?))
    }
}

/// What of a network its architecture says.
#[derive(Clone, Copy, Debug)]
pub struct FfnShape {
    /// Neurons.
    pub n_ff: usize,
    /// Whether there is a gate.
    pub gated: bool,
    /// Activation.
    pub act: Activation,
    /// Standard deviations that a token's gate has to be above the mean of all its gates: what is
    /// beyond goes on to the activation, and zero in place of the others (Gemma 3n's Gaussian
    /// top-k; 1.64 leaves some 5 % of the neurons).
    pub cutoff: Option<f32>,
    /// Norm of the activated neurons: of roots of mean squares, so that zeros stay zeros.
    pub norm: Option<Norm>,
    /// Factor on the output.
    pub scale: f32,
}

impl Builder<'_> {
    /// Whether the layer's network is to be one step: see [`Skipping`].
    pub fn skips(&self, layer: usize, shape: &FfnShape) -> bool {
        let has = |name: &str| self.has(&format!("blk.{layer}.{name}.weight"));
        let zeros = shape.act.gives_zeros() || shape.cutoff.is_some();
        // A gate and up in one matrix are left as they are, and so is an activation that looks at
        // both.
        let apart = !shape.gated || (has("ffn_gate") && shape.act != Activation::SwigluOai);
        let wanted = match self.skipping() {
            Skipping::AsStored => false,
            Skipping::Zeros => zeros,
            Skipping::Small => zeros || shape.gated,
        };
        self.predictors() || has("ffn_down_t") || has("fc1") || (wanted && apart)
    }

    /// A copy of the residual stream for the layer's predictor, if it has one.
    pub fn predictor_input(&mut self, layer: usize, residual: SlotId) -> Option<SlotId> {
        let has = self.predictors() || self.has(&format!("blk.{layer}.fc1.weight"));
        has.then(|| self.copy(&format!("predictor_in-{layer}"), "predictor_in", residual))
    }

    /// Adds a layer's network over `src` to `dst`, in one step. `seen` is what its predictor looks
    /// at: [`Self::predictor_input`].
    pub fn skipping_ffn(
        &mut self,
        layer: usize,
        src: SlotId,
        seen: Option<SlotId>,
        shape: &FfnShape,
        dst: SlotId,
    ) -> Result<(), BuildError> {
        let ffn = SkippingFfn { add: true, dst, ..self.skipping_parts(layer, src, seen, shape)? };
        self.push(format!("l_out-{layer}"), StepKind::SkippingFfn(Box::new(ffn)));
        Ok(())
    }

    /// The same network with an output of its own, for layers that norm what comes out.
    pub fn skipping_ffn_alone(
        &mut self,
        layer: usize,
        src: SlotId,
        shape: &FfnShape,
        out: &'static str,
    ) -> Result<SlotId, BuildError> {
        let dst = self.slot(out, self.width(src));
        let ffn = SkippingFfn { dst, ..self.skipping_parts(layer, src, None, shape)? };
        self.push(format!("ffn_out-{layer}"), StepKind::SkippingFfn(Box::new(ffn)));
        Ok(dst)
    }

    /// All of a network but where its output goes.
    fn skipping_parts(
        &mut self,
        layer: usize,
        src: SlotId,
        seen: Option<SlotId>,
        shape: &FfnShape,
    ) -> Result<SkippingFfn, BuildError> {
        let FfnShape { n_ff, gated, act, cutoff, norm, scale } = *shape;
        debug_assert!(norm.is_none_or(|norm| norm.kind == NormKind::Rms), "zeros stay zeros");
        let n_embd = self.width(src);
        let tensor = |name: &str| format!("blk.{layer}.{name}");
        let gate = match gated {
            true => Some(self.ffn_mat(&tensor("ffn_gate"), n_embd, n_ff)?),
            false => None,
        };
        let up = self.ffn_mat(&tensor("ffn_up"), n_embd, n_ff)?;
        let down = self.skipping_down(layer, n_ff, n_embd)?;
        let predictor = seen.map(|src| self.predictor(layer, src, n_ff)).transpose()?;
        let gate_up = self.slot("ffn_gate_up", if gated { 2 * n_ff } else { n_ff });
        let acted = self.slot("ffn_act", n_ff);
        Ok(SkippingFfn {
            layer,
            src,
            n_ff,
            gate,
            up,
            act,
            cutoff,
            norm,
            down,
            predictor,
            gate_up,
            acted,
            scale,
            add: false,
            dst: src,
            fed: false,
            adapted_in: None,
            adapted_out: None,
        })
    }

    fn skipping_down(
        &mut self,
        layer: usize,
        n_ff: usize,
        n_embd: usize,
    ) -> Result<Down, BuildError> {
        let by_neuron = format!("blk.{layer}.ffn_down_t");
        if !self.predictors() && !self.has(&format!("{by_neuron}.weight")) {
            let Mat { weight, ty, scale, bias, scale_last, .. } =
                self.ffn_down(layer, n_ff, n_embd)?;
            let rows = DownRows::Outputs;
            return Ok(Down { weight, ty, rows, scale, bias, scale_last });
        }
        let facts = self.weight(&format!("{by_neuron}.weight"), &[n_embd, n_ff])?;
        let bias = self.optional_vector(&format!("{by_neuron}.bias"), n_embd)?;
        let (weight, ty, rows) = (facts.id, facts.ty, DownRows::Neurons);
        Ok(Down { weight, ty, rows, scale: None, bias, scale_last: true })
    }

    /// The predictor of a layer; its rank is what its first matrix has.
    fn predictor(
        &mut self,
        layer: usize,
        src: SlotId,
        n_ff: usize,
    ) -> Result<Predictor, BuildError> {
        let (fc1, fc2) = (format!("blk.{layer}.fc1"), format!("blk.{layer}.fc2"));
        let rank = self.n_rows(&format!("{fc1}.weight")).unwrap_or(0).max(1);
        let fc1 = self.mat(&fc1, self.width(src), rank)?;
        let fc2 = self.mat(&fc2, rank, n_ff)?;
        let hidden = self.slot("predictor_hidden", rank);
        let acted = self.slot("predictor_act", rank);
        Ok(Predictor { src, fc1, hidden, acted, fc2 })
    }
}
