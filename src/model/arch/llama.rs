//! Llama 1 to 3, Mistral, Mixtral, SmolLM2: pre-norm attention with rotated adjacent pairs, SwiGLU.

use super::common::{Ffn, PreNorm};
use super::{ArchSpec, Error, Hparams};
use crate::gguf::Metadata;
use crate::plan::{Builder, NormKind, RopeStyle};
use crate::tensor::Activation;

pub(super) const SPEC: ArchSpec =
    ArchSpec { name: "llama", rope: Some(RopeStyle::Norm), hparams, build, size_name };

fn hparams(meta: &Metadata) -> Result<Hparams, Error> {
    meta.require_f32("llama.attention.layer_norm_rms_epsilon")?;
    Hparams::read(meta, "llama")
}

fn build(hp: &Hparams, b: &mut Builder<'_>) -> Result<(), Error> {
    let rope = Some(b.rope(RopeStyle::Norm, hp.n_rot)?);
    b.use_ffn_scales();
    let x = b.embed(hp.n_embd, hp.n_vocab)?;
    // Mixtral's experts.
    let ffn = Ffn::Gated(hp.activation.unwrap_or(Activation::Silu)).experts_or(hp, true, true);
    PreNorm { norm: NormKind::Rms, rope, qk_norm: None, ffn }.build(hp, b, x)?;
    Ok(())
}

fn size_name(hp: &Hparams) -> &'static str {
    match hp.n_layer {
        32 if hp.n_expert == 8 => "8x7B",
        56 if hp.n_expert == 8 => "8x22B",
        16 | 22 => "1B",
        26 | 28 => "3B",
        30 => "256M",
        32 if hp.n_vocab < 40000 => "7B",
        32 => "8B",
        40 => "13B",
        48 => "34B",
        60 => "30B",
        80 if hp.n_head[0] == hp.n_head_kv[0] => "65B",
        80 => "70B",
        _ => "?B",
    }
}
