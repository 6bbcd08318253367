//! SmolLM 3: Llama's form, every fourth layer without rotation.

use super::common::{Ffn, PreNorm};
use super::{ArchSpec, Error, Hparams};
use crate::gguf::Metadata;
use crate::plan::{Builder, NormKind, RopeStyle};
use crate::tensor::Activation;

pub(super) const SPEC: ArchSpec =
    ArchSpec { name: "smollm3", rope: Some(RopeStyle::Norm), hparams, build, size_name };

fn hparams(meta: &Metadata) -> Result<Hparams, Error> {
    meta.require_f32("smollm3.attention.layer_norm_rms_epsilon")?;
    Hparams::read(meta, "smollm3")
}

fn build(hp: &Hparams, b: &mut Builder<'_>) -> Result<(), Error> {
    let rope = Some(b.rope(RopeStyle::Norm, hp.n_rot)?);
    let x = b.embed(hp.n_embd, hp.n_vocab)?;
    let ffn = Ffn::Gated(Activation::Silu);
    let layers = PreNorm { norm: NormKind::Rms, rope, qk_norm: None, ffn };
    layers.build_with(hp, b, x, |il| hp.attention(il, rope.filter(|_| (il + 1) % 4 != 0)))?;
    Ok(())
}

fn size_name(hp: &Hparams) -> &'static str {
    match hp.n_layer {
        36 => "3B",
        _ => "?B",
    }
}
