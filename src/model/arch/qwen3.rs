//! Qwen 3: Llama's form with normed queries and keys.

use super::common::{Ffn, PreNorm};
use super::{ArchSpec, Error, Hparams};
use crate::gguf::Metadata;
use crate::plan::{Builder, NormKind, RopeStyle};
use crate::tensor::Activation;

pub(super) const SPEC: ArchSpec =
    ArchSpec { name: "qwen3", rope: Some(RopeStyle::Neox), hparams, build, size_name };

fn hparams(meta: &Metadata) -> Result<Hparams, Error> {
    meta.require_f32("qwen3.attention.layer_norm_rms_epsilon")?;
    Hparams::read(meta, "qwen3")
}

fn build(hp: &Hparams, b: &mut Builder<'_>) -> Result<(), Error> {
    let rope = Some(b.rope(RopeStyle::Neox, hp.n_rot)?);
    b.use_ffn_scales();
    let x = b.embed(hp.n_embd, hp.n_vocab)?;
    let ffn = Ffn::Gated(Activation::Silu);
    PreNorm { norm: NormKind::Rms, rope, qk_norm: Some(NormKind::Rms), ffn }.build(hp, b, x)?;
    // Rerankers: the shares of "yes" and "no".
    b.classifier(hp.n_embd, hp.n_embd, hp.n_cls_out, true)?;
    Ok(())
}

fn size_name(hp: &Hparams) -> &'static str {
    match hp.n_layer {
        28 if hp.n_embd == 1024 => "0.6B",
        28 => "1.7B",
        36 if hp.n_embd == 2560 => "4B",
        36 => "8B",
        40 => "14B",
        64 => "32B",
        _ => "?B",
    }
}
