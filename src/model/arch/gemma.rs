//! Gemma 1: Llama's form with scaled embeddings and GeGLU.

use super::common::{Ffn, PreNorm};
use super::{ArchSpec, Error, Hparams};
use crate::gguf::Metadata;
use crate::plan::{Builder, NormKind, RopeStyle};
use crate::tensor::Activation;

pub(super) const SPEC: ArchSpec =
    ArchSpec { name: "gemma", rope: Some(RopeStyle::Neox), hparams, build, size_name };

fn hparams(meta: &Metadata) -> Result<Hparams, Error> {
    meta.require_f32("gemma.attention.layer_norm_rms_epsilon")?;
    Hparams::read(meta, "gemma")
}

fn build(hp: &Hparams, b: &mut Builder<'_>) -> Result<(), Error> {
    let rope = Some(b.rope(RopeStyle::Neox, hp.n_rot)?);
    let scale = (hp.n_embd as f32).sqrt();
    let x = b.embed_scaled(hp.n_embd, hp.n_vocab, scale, scale)?;
    let ffn = Ffn::Gated(Activation::Gelu);
    PreNorm { norm: NormKind::Rms, rope, qk_norm: None, ffn }.build(hp, b, x)?;
    Ok(())
}

fn size_name(hp: &Hparams) -> &'static str {
    match hp.n_layer {
        18 => "2B",
        28 => "7B",
        _ => "?B",
    }
}
