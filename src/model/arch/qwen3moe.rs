//! Qwen 3 MoE: normed queries and keys, experts in place of the feed-forward network.

use super::common::{Ffn, PreNorm};
use super::{ArchSpec, Error, Hparams};
use crate::gguf::Metadata;
use crate::plan::{Builder, NormKind, RopeStyle};
use crate::tensor::Activation;

pub(super) const SPEC: ArchSpec =
    ArchSpec { name: "qwen3moe", rope: Some(RopeStyle::Neox), hparams, build, size_name };

fn hparams(meta: &Metadata) -> Result<Hparams, Error> {
    meta.require_f32("qwen3moe.attention.layer_norm_rms_epsilon")?;
    let mut hp = Hparams::read(meta, "qwen3moe")?;
    hp.require_experts("qwen3moe")?;
    Ok(hp)
}

fn build(hp: &Hparams, b: &mut Builder<'_>) -> Result<(), Error> {
    let rope = Some(b.rope(RopeStyle::Neox, hp.n_rot)?);
    let x = b.embed(hp.n_embd, hp.n_vocab)?;
    let ffn = Ffn::Gated(Activation::Silu).experts_or(hp, true, true);
    PreNorm { norm: NormKind::Rms, rope, qk_norm: Some(NormKind::Rms), ffn }.build(hp, b, x)?;
    Ok(())
}

fn size_name(hp: &Hparams) -> &'static str {
    match hp.n_layer {
        48 => "30B.A3B",
        94 => "235B.A22B",
        _ => "?B",
    }
}
