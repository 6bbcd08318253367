//! Granite 3: Llama's form with factors on embeddings, attention, residuals and logits.

use super::common::{Ffn, PreNorm};
use super::{ArchSpec, Error, Hparams, bad};
use crate::gguf::Metadata;
use crate::plan::{Attention, Builder, Map, NormKind, RopeStyle};
use crate::tensor::Activation;

pub(super) const SPEC: ArchSpec =
    ArchSpec { name: "granite", rope: Some(RopeStyle::Norm), hparams, build, size_name };

fn hparams(meta: &Metadata) -> Result<Hparams, Error> {
    meta.require_f32("granite.attention.layer_norm_rms_epsilon")?;
    meta.require_f32("granite.logit_scale")?;
    let hp = Hparams::read(meta, "granite")?;
    if hp.logit_scale == 0.0 {
        return Err(bad("granite.logit_scale", "0", "another number"));
    }
    Ok(hp)
}

fn build(hp: &Hparams, b: &mut Builder<'_>) -> Result<(), Error> {
    let rope = match hp.rope.finetuned {
        Some(false) => None, // here the key says whether there is rotation at all
        _ => Some(b.rope(RopeStyle::Norm, hp.n_rot)?),
    };
    let scale = hp.embedding_scale;
    let x = b.embed_scaled(hp.n_embd, hp.n_vocab, scale, scale)?;
    let ffn = Ffn::Gated(Activation::Silu).experts_or(hp, true, false);
    let layers = PreNorm { norm: NormKind::Rms, rope, qk_norm: None, ffn };
    let logits = layers.build_with(hp, b, x, |il| {
        let plain = hp.attention(il, rope);
        Attention { scale: hp.attention_scale.unwrap_or(plain.scale), ..plain }
    })?;
    b.map("result_output", logits, Map::Scale(1.0 / hp.logit_scale));
    Ok(())
}

fn size_name(hp: &Hparams) -> &'static str {
    match hp.n_layer {
        32 => "3B",
        40 if hp.n_embd == 2048 => "2B",
        40 if hp.n_embd == 2560 => "3B",
        40 if hp.n_embd == 4096 => "8B",
        64 => "30B",
        _ => "?B",
    }
}
