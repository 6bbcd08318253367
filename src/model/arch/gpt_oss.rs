//! gpt-oss: experts with clamped SwiGLU and biases, attention sinks, a window on every other layer.

use super::common::{logits, pre_norm, qkv, rope_swa};
use super::{ArchSpec, Error, Hparams};
use crate::gguf::Metadata;
use crate::plan::{Attention, Builder, Experts, Gating, NormKind, RopeStyle, Router};
use crate::tensor::Activation;

pub(super) const SPEC: ArchSpec =
    ArchSpec { name: "gpt-oss", rope: Some(RopeStyle::Neox), hparams, build, size_name };

fn hparams(meta: &Metadata) -> Result<Hparams, Error> {
    meta.require_f32("gpt-oss.attention.layer_norm_rms_epsilon")?;
    meta.require_u32("gpt-oss.attention.sliding_window")?;
    let mut hp = Hparams::read(meta, "gpt-oss")?;
    hp.require_experts("gpt-oss")?;
    hp.read_window(meta, "gpt-oss", 2)?;
    Ok(hp)
}

fn build(hp: &Hparams, b: &mut Builder<'_>) -> Result<(), Error> {
    let style = RopeStyle::Neox;
    let (global, local) = (b.rope(style, hp.n_rot)?, rope_swa(hp, b, style));
    let router = Router {
        n_used: hp.n_expert_used,
        gating: Gating::SoftmaxOfBest,
        normalized: false,
        scale: hp.expert_scale,
        bias: None,
    };
    let act = Activation::SwigluOai;
    let experts = Experts { n_expert: hp.n_expert, n_ff: hp.n_ff_exp, router, act, scales: false };
    let mut x = b.embed(hp.n_embd, hp.n_vocab)?;
    for il in 0..hp.n_layer {
        let plain = hp.attention(il, Some(if hp.is_swa[il] { local } else { global }));
        let sinks = b.vector(&format!("blk.{il}.attn_sinks.weight"), plain.n_head)?;
        let spec = Attention { sinks: Some(sinks), ..plain };
        let norm = pre_norm(hp, b, il, "attn_norm", NormKind::Rms, x)?;
        let qkv = qkv(hp, b, il, &spec, norm)?;
        let mut attn = b.attend(spec, qkv);
        if il + 1 == hp.n_layer {
            [attn, x] = b.select_outputs([attn, x]);
        }
        let out = b.attn_output(il, &spec, hp.n_embd)?;
        b.mat_mul_add(&format!("ffn_inp-{il}"), attn, out, x);
        let norm = pre_norm(hp, b, il, "post_attention_norm", NormKind::Rms, x)?;
        b.experts(il, norm, &experts, 1.0, x)?;
    }
    logits(hp, b, NormKind::Rms, x)?;
    Ok(())
}

fn size_name(hp: &Hparams) -> &'static str {
    match hp.n_layer {
        24 => "20B",
        36 => "120B",
        _ => "?B",
    }
}
