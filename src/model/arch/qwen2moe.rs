//! Qwen 1.5 and 2 MoE: experts beside one that computes every token.

use super::common::{Ffn, PreNorm};
use super::{ArchSpec, Error, Hparams};
use crate::gguf::Metadata;
use crate::plan::{Builder, NormKind, RopeStyle};
use crate::tensor::Activation;

pub(super) const SPEC: ArchSpec =
    ArchSpec { name: "qwen2moe", rope: Some(RopeStyle::Neox), hparams, build, size_name };

fn hparams(meta: &Metadata) -> Result<Hparams, Error> {
    meta.require_f32("qwen2moe.attention.layer_norm_rms_epsilon")?;
    let mut hp = Hparams::read(meta, "qwen2moe")?;
    hp.require_experts("qwen2moe")?;
    if hp.n_ff_shexp == 0 {
        hp.n_ff_shexp = hp.n_ff[0];
    }
    Ok(hp)
}

fn build(hp: &Hparams, b: &mut Builder<'_>) -> Result<(), Error> {
    let rope = Some(b.rope(RopeStyle::Neox, hp.n_rot)?);
    let x = b.embed(hp.n_embd, hp.n_vocab)?;
    let ffn = Ffn::Gated(Activation::Silu).experts_or(hp, false, false).with_shared();
    PreNorm { norm: NormKind::Rms, rope, qk_norm: None, ffn }.build(hp, b, x)?;
    Ok(())
}

fn size_name(hp: &Hparams) -> &'static str {
    match hp.n_layer {
        24 => "A2.7B",
        28 => "57B.A14B",
        _ => "?B",
    }
}
