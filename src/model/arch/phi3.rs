//! Phi 3: Llama's form with fused matrices and LongRoPE.

use super::common::{Ffn, PreNorm};
use super::{ArchSpec, Error, Hparams};
use crate::gguf::Metadata;
use crate::plan::{Builder, NormKind, RopeStyle};
use crate::tensor::Activation;

pub(super) const SPEC: ArchSpec =
    ArchSpec { name: "phi3", rope: Some(RopeStyle::Neox), hparams, build, size_name };

fn hparams(meta: &Metadata) -> Result<Hparams, Error> {
    meta.require_f32("phi3.attention.layer_norm_rms_epsilon")?;
    if meta.get_u32("phi3.attention.sliding_window")?.is_some_and(|n| n > 0) {
        // As in llama.cpp: converters wrote windows that the models were not trained with.
        crate::log_warn!("phi3: the file's sliding window is not used");
    }
    Hparams::read(meta, "phi3")
}

fn build(hp: &Hparams, b: &mut Builder<'_>) -> Result<(), Error> {
    let rope = Some(b.rope(RopeStyle::Neox, hp.n_rot)?);
    let x = b.embed(hp.n_embd, hp.n_vocab)?;
    let ffn = Ffn::Gated(Activation::Silu);
    PreNorm { norm: NormKind::Rms, rope, qk_norm: None, ffn }.build(hp, b, x)?;
    Ok(())
}

fn size_name(hp: &Hparams) -> &'static str {
    match hp.n_layer {
        24 => "1B",
        32 => "3B",
        40 => "14B",
        _ => "?B",
    }
}
