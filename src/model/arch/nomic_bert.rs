//! Nomic's BERT: rotated instead of learned positions, a gated feed-forward network.

use super::common::{Ffn, PostNorm, encoder_input};
use super::{ArchSpec, Error, Hparams};
use crate::gguf::Metadata;
use crate::plan::{Builder, RopeStyle};
use crate::tensor::Activation;

pub(super) const SPEC: ArchSpec =
    ArchSpec { name: "nomic-bert", rope: Some(RopeStyle::Neox), hparams, build, size_name };

fn hparams(meta: &Metadata) -> Result<Hparams, Error> {
    meta.require_f32("nomic-bert.attention.layer_norm_epsilon")?;
    let hp = Hparams::read(meta, "nomic-bert")?;
    hp.require_token_types()?;
    Ok(hp)
}

fn build(hp: &Hparams, b: &mut Builder<'_>) -> Result<(), Error> {
    let rope = Some(b.rope(RopeStyle::Neox, hp.n_rot)?);
    let x = encoder_input(hp, b, false)?;
    PostNorm { rope, ffn: Ffn::Gated(Activation::Silu) }.build(hp, b, x)
}

fn size_name(hp: &Hparams) -> &'static str {
    if hp.n_layer == 12 { "137M" } else { "?B" }
}
