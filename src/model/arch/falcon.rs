//! Falcon: attention and feed-forward network side by side over one layer norm (40B: over two).

use super::common::{Ffn, Parallel};
use super::{ArchSpec, Error, Hparams};
use crate::gguf::Metadata;
use crate::plan::{Builder, NormKind, RopeStyle};
use crate::tensor::Activation;

pub(super) const SPEC: ArchSpec =
    ArchSpec { name: "falcon", rope: Some(RopeStyle::Neox), hparams, build, size_name };

fn hparams(meta: &Metadata) -> Result<Hparams, Error> {
    meta.require_f32("falcon.attention.layer_norm_epsilon")?;
    Hparams::read(meta, "falcon")
}

fn build(hp: &Hparams, b: &mut Builder<'_>) -> Result<(), Error> {
    let rope = Some(b.rope(RopeStyle::Neox, hp.n_rot)?);
    let x = b.embed(hp.n_embd, hp.n_vocab)?;
    let ffn = Ffn::Plain(hp.activation.unwrap_or(Activation::Gelu));
    Parallel { norm: NormKind::Layer, rope, qk_norm: None, ffn }.build(hp, b, x)?;
    Ok(())
}

fn size_name(hp: &Hparams) -> &'static str {
    match hp.n_layer {
        32 => "7B",
        60 => "40B",
        _ => "?B",
    }
}
