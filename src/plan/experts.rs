//! Blocks for networks of experts: router, the experts' matrices, the weighted sum.

use super::skipping::Skipping;
use super::{BuildError, Builder, ExpertMat, LowRank, Router, SlotId, StepKind, TensorId};
use crate::quant::QuantType;
use crate::tensor::Activation;

/// Sizes and rules of a layer's experts.
#[derive(Clone, Copy, Debug)]
pub struct Experts {
    /// Experts of the layer.
    pub n_expert: usize,
    /// Neurons of an expert.
    pub n_ff: usize,
    /// How a token finds its experts.
    pub router: Router,
    /// Activation of the experts, gated.
    pub act: Activation,
    /// Whether the file may have factors on the products, `*_exps.scale`.
    pub scales: bool,
}

/// Products of sorted rows with their experts' networks, `down(act(gate) * up)`, of which neurons
/// whose gate gives zero can be skipped.
#[derive(Clone, Debug)]
pub struct SkippingExperts {
    /// Layer.
    pub layer: usize,
    /// Input, sorted by expert.
    pub src: SlotId,
    /// Gate projections.
    pub gate: ExpertMat,
    /// Up projections.
    pub up: ExpertMat,
    /// Ways back.
    pub down: ExpertMat,
    /// Activation, zero for many neurons.
    pub act: Activation,
    /// `[gate | up]`, of which up is not used.
    pub gate_up: SlotId,
    /// Activated neurons.
    pub acted: SlotId,
    /// Output, sorted by expert.
    pub dst: SlotId,
    /// What adapters add to gate and up.
    pub adapted_in: Option<LowRank<ExpertMat>>,
    /// What adapters add to the ways back.
    pub adapted_out: Option<LowRank<ExpertMat>>,
}

impl Builder<'_> {
    /// Matrices `name.weight` of all experts.
    fn expert_mat(
        &mut self,
        name: &str,
        (n_in, n_out): (usize, usize),
        experts: &Experts,
    ) -> Result<ExpertMat, BuildError> {
        let n = experts.n_expert;
        let facts = self.weight(&format!("{name}.weight"), &[n_in, n_out, n])?;
        let mut vector = |name: String, dims: &[usize]| -> Result<Option<TensorId>, BuildError> {
            match self.optional(&name, dims)? {
                Some(facts) if facts.ty == QuantType::F32 => Ok(Some(facts.id)),
                Some(facts) => Err(BuildError::UnsupportedType { name, found: facts.ty }),
                None => Ok(None),
            }
        };
        let bias = vector(format!("{name}.bias"), &[n_out, n])?;
        let scale = if experts.scales { vector(format!("{name}.scale"), &[n])? } else { None };
        Ok(ExpertMat { weight: facts.id, ty: facts.ty, n_out, scale, bias })
    }

    /// Logits of a layer's router, `ffn_gate_inp`, over `src`.
    pub fn router_logits(
        &mut self,
        layer: usize,
        src: SlotId,
        experts: &Experts,
    ) -> Result<SlotId, BuildError> {
        let n_embd = self.width(src);
        let gate_inp = self.mat(&format!("blk.{layer}.ffn_gate_inp"), n_embd, experts.n_expert)?;
        Ok(self.mat_mul(&format!("ffn_moe_logits-{layer}"), "router", src, vec![gate_inp]))
    }

    /// Adds a layer's experts (`ffn_gate_inp`, `ffn_{gate,up,down}_exps`) over `src`, times
    /// `scale`, to `dst`.
    pub fn experts(
        &mut self,
        layer: usize,
        src: SlotId,
        experts: &Experts,
        scale: f32,
        dst: SlotId,
    ) -> Result<(), BuildError> {
        let logits = self.router_logits(layer, src, experts)?;
        self.routed_experts(layer, logits, src, experts, scale, dst)
    }

    /// The same by logits that are there already.
    pub fn routed_experts(
        &mut self,
        layer: usize,
        logits: SlotId,
        src: SlotId,
        experts: &Experts,
        scale: f32,
        dst: SlotId,
    ) -> Result<(), BuildError> {
        let n_embd = self.width(src);
        let tensor = |name: &str| format!("blk.{layer}.{name}");
        let node = |name: &str| format!("{name}-{layer}");
        let Experts { n_expert, n_ff, mut router, act, .. } = *experts;
        router.bias = self.optional_vector(&tensor("exp_probs_b.bias"), n_expert)?;
        self.push(node("ffn_moe_topk"), StepKind::Route { logits, router });
        let sorted = self.slot_of_many("expert_in", n_embd, router.n_used);
        self.push(node("ffn_moe_in"), StepKind::ToExperts { src, dst: sorted });

        let (fused, n_used) = (self.has(&tensor("ffn_gate_up_exps.weight")), router.n_used);
        let mats = match fused {
            true => {
                vec![self.expert_mat(&tensor("ffn_gate_up_exps"), (n_embd, 2 * n_ff), experts)?]
            }
            false => vec![
                self.expert_mat(&tensor("ffn_gate_exps"), (n_embd, n_ff), experts)?,
                self.expert_mat(&tensor("ffn_up_exps"), (n_embd, n_ff), experts)?,
            ],
        };
        let down = self.expert_mat(&tensor("ffn_down_exps"), (n_ff, n_embd), experts)?;
        let gate_up = self.slot_of_many("expert_gate_up", 2 * n_ff, n_used);
        let out = self.slot_of_many("expert_out", n_embd, n_used);
        match mats[..] {
            [gate, up] if act.gives_zeros() && self.skipping() != Skipping::AsStored => {
                let acted = self.slot_of_many("ffn_act", n_ff, n_used);
                let (src, dst) = (sorted, out);
                let step = SkippingExperts {
                    layer,
                    src,
                    gate,
                    up,
                    down,
                    act,
                    gate_up,
                    acted,
                    dst,
                    adapted_in: None,
                    adapted_out: None,
                };
                self.push(node("ffn_moe_down"), StepKind::SkippingExperts(Box::new(step)));
            }
            _ => {
                let step = StepKind::ExpertMatMul { src: sorted, mats, dst: gate_up, add: false };
                self.push(node("ffn_moe_gate_up"), step);
                let acted = self.activate_gated(&node("ffn_moe_act"), gate_up, act);
                let (mats, dst) = (vec![down], out);
                let step = StepKind::ExpertMatMul { src: acted, mats, dst, add: false };
                self.push(node("ffn_moe_down"), step);
            }
        }
        self.push(node("ffn_moe_out"), StepKind::FromExperts { src: out, scale, dst });
        Ok(())
    }
}
