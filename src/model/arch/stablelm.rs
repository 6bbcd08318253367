//! StableLM: layer norms, partial rotation; 2 12B has blocks side by side and normed heads.

use super::common::{Ffn, Parallel, PreNorm};
use super::{ArchSpec, Error, Hparams};
use crate::gguf::Metadata;
use crate::plan::{Builder, NormKind, RopeStyle};
use crate::tensor::Activation;

pub(super) const SPEC: ArchSpec =
    ArchSpec { name: "stablelm", rope: Some(RopeStyle::Neox), hparams, build, size_name };

fn hparams(meta: &Metadata) -> Result<Hparams, Error> {
    meta.require_f32("stablelm.attention.layer_norm_epsilon")?;
    Hparams::read(meta, "stablelm")
}

fn build(hp: &Hparams, b: &mut Builder<'_>) -> Result<(), Error> {
    let rope = Some(b.rope(RopeStyle::Neox, hp.n_rot)?);
    let x = b.embed(hp.n_embd, hp.n_vocab)?;
    let (norm, ffn) = (NormKind::Layer, Ffn::Gated(Activation::Silu));
    let qk_norm = b.has("blk.0.attn_q_norm.weight").then_some(NormKind::Layer);
    if b.has("blk.0.ffn_norm.weight") {
        PreNorm { norm, rope, qk_norm, ffn }.build(hp, b, x)?;
    } else {
        Parallel { norm, rope, qk_norm, ffn }.build(hp, b, x)?;
    }
    Ok(())
}

fn size_name(hp: &Hparams) -> &'static str {
    match hp.n_layer {
        24 => "1B",
        32 => "3B",
        40 => "12B",
        _ => "?B",
    }
}
