//! SmallThinker: experts with ReLU gates, chosen by what goes into the layer before attention; every
//! fourth layer sees all and does not rotate.

use super::common::{logits, pre_norm, qkv, rope_swa};
use super::{ArchSpec, Error, Hparams};
use crate::gguf::Metadata;
use crate::plan::{Builder, Experts, Gating, NormKind, RopeStyle, Router};
use crate::tensor::Activation;

pub(super) const SPEC: ArchSpec =
    ArchSpec { name: "smallthinker", rope: Some(RopeStyle::Neox), hparams, build, size_name };

fn hparams(meta: &Metadata) -> Result<Hparams, Error> {
    meta.require_f32("smallthinker.attention.layer_norm_rms_epsilon")?;
    let mut hp = Hparams::read(meta, "smallthinker")?;
    hp.require_experts("smallthinker")?;
    if meta.get_u32("smallthinker.attention.sliding_window")?.is_some_and(|n| n > 0) {
        // As in llama.cpp, whatever length the file says.
        hp.n_swa = 4096;
        hp.is_swa = (0..hp.n_layer).map(|il| il % 4 != 0).collect();
    }
    Ok(hp)
}

fn build(hp: &Hparams, b: &mut Builder<'_>) -> Result<(), Error> {
    let style = RopeStyle::Neox;
    let (global, local) = (b.rope(style, hp.n_rot)?, rope_swa(hp, b, style));
    let gating = match hp.expert_gating {
        Some(2) => Gating::Sigmoid,
        Some(3) => Gating::SoftmaxOfBest,
        _ => Gating::Softmax,
    };
    let scale = hp.expert_scale;
    let router = Router { n_used: hp.n_expert_used, gating, normalized: true, scale, bias: None };
    let act = Activation::Relu;
    let experts = Experts { n_expert: hp.n_expert, n_ff: hp.n_ff_exp, router, act, scales: false };
    let mut x = b.embed(hp.n_embd, hp.n_vocab)?;
    for il in 0..hp.n_layer {
        let rope = match (hp.n_swa, hp.is_swa[il]) {
            (0, _) => Some(global),
            (_, true) => Some(local),
            (_, false) => None,
        };
        let spec = hp.attention(il, rope);
        let input = b.copy(&format!("ffn_moe_router_in-{il}"), "router_in", x);
        let mut routed = b.router_logits(il, input, &experts)?;
        let norm = pre_norm(hp, b, il, "attn_norm", NormKind::Rms, x)?;
        let qkv = qkv(hp, b, il, &spec, norm)?;
        let mut attn = b.attend(spec, qkv);
        if il + 1 == hp.n_layer {
            [attn, x, routed] = b.select_outputs([attn, x, routed]);
        }
        let out = b.attn_output(il, &spec, hp.n_embd)?;
        b.mat_mul_add(&format!("ffn_inp-{il}"), attn, out, x);
        let norm = pre_norm(hp, b, il, "ffn_norm", NormKind::Rms, x)?;
        b.routed_experts(il, routed, norm, &experts, 1.0, x)?;
    }
    logits(hp, b, NormKind::Rms, x)?;
    Ok(())
}

fn size_name(hp: &Hparams) -> &'static str {
    match hp.n_layer {
        32 => "4B",
        52 => "20B",
        _ => "?B",
    }
}
