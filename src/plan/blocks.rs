//! Blocks that architectures share: several weights or steps in one call.

use super::{
    Attention, BuildError, Builder, Classifier, Mat, Norm, NormKind, Rope, RopeFactors, RopeStyle,
    RopeTable, SlotId, StepKind,
};
use crate::tensor::Activation;

impl Builder<'_> {
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

    /// Queries of a layer that sees the keys and values of another one. Those of its own that the
    /// file may have are of no use.
    pub fn queries(
        &mut self,
        layer: usize,
        n_embd: usize,
        spec: &Attention,
    ) -> Result<Mat, BuildError> {
        let (blk, n_q) = (format!("blk.{layer}"), spec.n_embd_q());
        if self.has(&format!("{blk}.attn_qkv.weight")) {
            let n_out = n_q + spec.n_embd_k() + spec.n_embd_v();
            return Ok(Mat { n_out: n_q, ..self.mat(&format!("{blk}.attn_qkv"), n_embd, n_out)? });
        }
        for (name, n) in [("attn_k", spec.n_embd_k()), ("attn_v", spec.n_embd_v())] {
            self.optional(&format!("{blk}.{name}.weight"), &[n_embd, n])?;
        }
        self.optional(&format!("{blk}.attn_k_norm.weight"), &[spec.head_dim_k])?;
        self.mat(&format!("{blk}.attn_q"), n_embd, n_q)
    }

    /// Norm of the queries (`attn_q_norm`) and keys (`attn_k_norm`) of a layer, head by head.
    pub fn qk_norm(
        &mut self,
        layer: usize,
        spec: &Attention,
        qkv: SlotId,
        kind: NormKind,
        eps: f32,
    ) -> Result<(), BuildError> {
        let parts = [("q", "Qcur", 0, spec.n_head), ("k", "Kcur", spec.n_embd_q(), spec.n_head_kv)];
        let n_parts = if spec.kv_of.is_none() { 2 } else { 1 };
        for (part, node, first, n_head) in parts.into_iter().take(n_parts) {
            let name = format!("blk.{layer}.attn_{part}_norm");
            let node = format!("{node}_normed-{layer}");
            self.norm_heads(&node, qkv, first, n_head, spec.head_dim_k, kind, &name, eps)?;
        }
        Ok(())
    }

    /// Norm of the values of a layer, head by head, without weights.
    pub fn norm_values(
        &mut self,
        layer: usize,
        spec: &Attention,
        qkv: SlotId,
        kind: NormKind,
        eps: f32,
    ) {
        let (first, n_head) = (spec.n_embd_q() + spec.n_embd_k(), spec.n_head_kv);
        let norm = Norm { kind, weight: None, bias: None, eps };
        let (slot, head_dim) = (qkv, spec.head_dim_v);
        let step = StepKind::NormHeads { slot, first, n_head, head_dim, norm };
        self.push(format!("Vcur_normed-{layer}"), step);
    }

    /// A gated feed-forward network up to its activation: see [`Self::ffn_gate_up`].
    pub fn ffn_gated(
        &mut self,
        layer: usize,
        src: SlotId,
        n_ff: usize,
        act: Activation,
    ) -> Result<SlotId, BuildError> {
        let gate_up = self.ffn_gate_up(layer, src, n_ff)?;
        Ok(self.activate_gated(&format!("ffn_gate_par-{layer}"), gate_up, act))
    }

    /// The products of a gated feed-forward network, `[gate | up]`: `ffn_gate` and `ffn_up`, or
    /// both in one `ffn_up` twice as wide whose first half is the gate.
    fn ffn_gate_up(
        &mut self,
        layer: usize,
        src: SlotId,
        n_ff: usize,
    ) -> Result<SlotId, BuildError> {
        let n_embd = self.width(src);
        let tensor = |name: &str| format!("blk.{layer}.{name}");
        // Where one of two is missing, say which.
        let n_up = self.n_rows(&tensor("ffn_up.weight"));
        let fused = n_up.is_some_and(|n| n != n_ff) && !self.has(&tensor("ffn_gate.weight"));
        let mats = match fused {
            false => vec![
                self.ffn_mat(&tensor("ffn_gate"), n_embd, n_ff)?,
                self.ffn_mat(&tensor("ffn_up"), n_embd, n_ff)?,
            ],
            true => vec![self.ffn_mat(&tensor("ffn_up"), n_embd, 2 * n_ff)?],
        };
        Ok(self.mat_mul(&format!("ffn_gate_up-{layer}"), "ffn_gate_up", src, mats))
    }

    /// A gated feed-forward network up to its activation, where gates must stand out: see
    /// [`crate::plan::FfnShape::cutoff`].
    pub fn ffn_cut(
        &mut self,
        layer: usize,
        src: SlotId,
        n_ff: usize,
        act: Activation,
        cutoff: f32,
    ) -> Result<SlotId, BuildError> {
        let slot = self.ffn_gate_up(layer, src, n_ff)?;
        self.push(format!("ffn_gate_cut-{layer}"), StepKind::CutGates { slot, cutoff });
        Ok(self.activate_gated(&format!("ffn_gate_par-{layer}"), slot, act))
    }

    /// Adds a gated network that computes every token beside the experts (`ffn_*_shexp`), times the
    /// sigmoid of `ffn_gate_inp_shexp` if the file has it, to `dst`.
    pub fn shared_expert(
        &mut self,
        layer: usize,
        src: SlotId,
        n_ff: usize,
        act: Activation,
        dst: SlotId,
    ) -> Result<(), BuildError> {
        let n_embd = self.width(src);
        let tensor = |name: &str| format!("blk.{layer}.{name}");
        let node = |name: &str| format!("{name}-{layer}");
        let mats = vec![
            self.ffn_mat(&tensor("ffn_gate_shexp"), n_embd, n_ff)?,
            self.ffn_mat(&tensor("ffn_up_shexp"), n_embd, n_ff)?,
        ];
        let down = self.ffn_mat(&tensor("ffn_down_shexp"), n_ff, n_embd)?;
        let gate_up = self.mat_mul(&node("ffn_shexp_gate_up"), "ffn_gate_up", src, mats);
        let acted = self.activate_gated(&node("ffn_shexp_act"), gate_up, act);
        if !self.has(&tensor("ffn_gate_inp_shexp.weight")) {
            self.mat_mul_add(&node("l_out"), acted, down, dst);
            return Ok(());
        }
        let gate = self.mat(&tensor("ffn_gate_inp_shexp"), n_embd, 1)?;
        let gate = self.mat_mul(&node("shared_expert_gate"), "shexp_gate", src, vec![gate]);
        let out = self.mat_mul(&node("ffn_shexp_out"), "block_out", acted, vec![down]);
        self.add_gated(&node("l_out"), out, gate, dst);
        Ok(())
    }

    /// A feed-forward network without gate up to its activation.
    pub fn ffn_plain(
        &mut self,
        layer: usize,
        src: SlotId,
        n_ff: usize,
        act: Activation,
    ) -> Result<SlotId, BuildError> {
        let up = self.ffn_mat(&format!("blk.{layer}.ffn_up"), self.width(src), n_ff)?;
        let up = self.mat_mul(&format!("ffn_up-{layer}"), "ffn_up", src, vec![up]);
        Ok(self.activate(&format!("ffn_act-{layer}"), up, act))
    }

    /// The way back from the activation of a feed-forward network, `ffn_down`.
    pub fn ffn_down(
        &mut self,
        layer: usize,
        n_ff: usize,
        n_embd: usize,
    ) -> Result<Mat, BuildError> {
        let mat = self.ffn_mat(&format!("blk.{layer}.ffn_down"), n_ff, n_embd)?;
        Ok(Mat { scale_last: !self.scales_down_first(), ..mat })
    }

    /// The way back from attention, `attn_output`.
    pub fn attn_output(
        &mut self,
        layer: usize,
        spec: &Attention,
        n_embd: usize,
    ) -> Result<Mat, BuildError> {
        self.mat(&format!("blk.{layer}.attn_output"), spec.n_head * spec.head_dim_v, n_embd)
    }

    /// The matrix that makes logits: `output`, or the embeddings again when the file has none.
    pub fn output_mat(&mut self, n_embd: usize, n_vocab: usize) -> Result<Mat, BuildError> {
        let tied = !self.has("output.weight");
        self.mat(if tied { "token_embd" } else { "output" }, n_embd, n_vocab)
    }

    /// The head that makes scores of pooled embeddings, as far as the file has it: `cls`, from
    /// `n_embd` to `n_dense`, and `cls.output`, from `n_embd` to `n_out`.
    pub fn classifier(
        &mut self,
        n_embd: usize,
        n_dense: usize,
        n_out: usize,
        softmax: bool,
    ) -> Result<(), BuildError> {
        let mut mat = |name: &str, n| match self.has(&format!("{name}.weight")) {
            true => self.mat(name, n_embd, n).map(Some),
            false => Ok(None),
        };
        let (dense, out) = (mat("cls", n_dense)?, mat("cls.output", n_out)?);
        self.set_classifier(Classifier { dense, out, softmax, n_out });
        Ok(())
    }

    /// Rotation by the model's constants. Frequencies are divided by `rope_freqs`, or by
    /// `rope_factors_long` and `rope_factors_short`, if the file has them.
    pub fn rope(&mut self, style: RopeStyle, n_rot: usize) -> Result<Rope, BuildError> {
        let mut vector = |name: &str| self.optional_vector(name, n_rot / 2);
        let factors = match vector("rope_freqs.weight")? {
            Some(one) => Some(RopeFactors::One(one)),
            None => vector("rope_factors_long.weight")?
                .zip(vector("rope_factors_short.weight")?)
                .map(|(long, short)| RopeFactors::ByLength { long, short }),
        };
        Ok(self.rope_table(RopeTable { n_rot, fixed: None, factors }, style))
    }
}
