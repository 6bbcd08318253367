//! Qwen 2 and 2.5: Llama's form with biases on queries, keys and values.

use super::common::{Ffn, PreNorm};
use super::{ArchSpec, Error, Hparams};
use crate::gguf::Metadata;
use crate::plan::{Builder, NormKind, RopeStyle};
use crate::tensor::Activation;

pub(super) const SPEC: ArchSpec =
    ArchSpec { name: "qwen2", rope: Some(RopeStyle::Neox), hparams, build, size_name };

fn hparams(meta: &Metadata) -> Result<Hparams, Error> {
    meta.require_f32("qwen2.attention.layer_norm_rms_epsilon")?;
    Hparams::read(meta, "qwen2")
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
        24 if hp.n_embd == 1024 => "0.5B",
        24 => "1B",
        28 if hp.n_embd == 1536 => "1.5B",
        28 | 32 => "7B",
        36 => "3B",
        40 if hp.n_head[0] == 20 => "4B",
        40 => "13B",
        48 => "14B",
        64 => "32B",
        80 => "70B",
        _ => "?B",
    }
}
