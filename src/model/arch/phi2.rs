//! Phi 1, 1.5 and 2: attention and feed-forward network side by side over one layer norm, partial
//! rotation, biases everywhere.

use super::common::{Ffn, Parallel};
use super::{ArchSpec, Error, Hparams};
use crate::gguf::Metadata;
use crate::plan::{Builder, NormKind, RopeStyle};
use crate::tensor::Activation;

pub(super) const SPEC: ArchSpec =
    ArchSpec { name: "phi2", rope: Some(RopeStyle::Neox), hparams, build, size_name };

fn hparams(meta: &Metadata) -> Result<Hparams, Error> {
    meta.require_f32("phi2.attention.layer_norm_epsilon")?;
    Hparams::read(meta, "phi2")
}

fn build(hp: &Hparams, b: &mut Builder<'_>) -> Result<(), Error> {
    let rope = Some(b.rope(RopeStyle::Neox, hp.n_rot)?);
    let x = b.embed(hp.n_embd, hp.n_vocab)?;
    let ffn = Ffn::Plain(Activation::Gelu);
    Parallel { norm: NormKind::Layer, rope, qk_norm: None, ffn }.build(hp, b, x)?;
    Ok(())
}

fn size_name(hp: &Hparams) -> &'static str {
    match hp.n_layer {
        24 => "1B",
        32 => "3B",
        _ => "?B",
    }
}
