//! BERT and RoBERTa: learned positions, layer norms of sums, attention in both directions.

use super::common::{Ffn, PostNorm, encoder_input};
use super::{ArchSpec, Error, Hparams};
use crate::gguf::Metadata;
use crate::plan::{Builder, RopeStyle};
use crate::tensor::Activation;

/// It rotates nothing, but llama.cpp gives it a style.
pub(super) const SPEC: ArchSpec =
    ArchSpec { name: "bert", rope: Some(RopeStyle::Neox), hparams, build, size_name };

fn hparams(meta: &Metadata) -> Result<Hparams, Error> {
    meta.require_f32("bert.attention.layer_norm_epsilon")?;
    let hp = Hparams::read(meta, "bert")?;
    hp.require_token_types()?;
    Ok(hp)
}

fn build(hp: &Hparams, b: &mut Builder<'_>) -> Result<(), Error> {
    let x = encoder_input(hp, b, true)?;
    PostNorm { rope: None, ffn: Ffn::Plain(Activation::Gelu) }.build(hp, b, x)?;
    b.classifier(hp.n_embd, hp.n_embd, hp.n_cls_out, false)?;
    Ok(())
}

fn size_name(hp: &Hparams) -> &'static str {
    match (hp.n_layer, hp.n_embd) {
        (3, _) => "17M",
        (6, _) => "22M",
        (12, 384) => "33M",
        (12, 768) => "109M",
        (24, _) => "335M",
        _ => "?B",
    }
}
