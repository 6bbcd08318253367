//! GLM 4: norms before and after each block, partial rotation, fused gate and up.

use super::common::Sandwich;
use super::{ArchSpec, Error, Hparams};
use crate::gguf::Metadata;
use crate::plan::{Builder, RopeStyle};
use crate::tensor::Activation;

pub(super) const SPEC: ArchSpec =
    ArchSpec { name: "glm4", rope: Some(RopeStyle::Norm), hparams, build, size_name };

fn hparams(meta: &Metadata) -> Result<Hparams, Error> {
    meta.require_f32("glm4.attention.layer_norm_rms_epsilon")?;
    let mut hp = Hparams::read(meta, "glm4")?;
    // Models that see images (GLM-OCR) rotate parts of a head by coordinates; those of text are
    // all its position.
    let sections = meta.get_u32s("glm4.rope.dimension_sections")?;
    hp.mrope = sections.is_some_and(|s| s.len() > 1 && s[0] > 0 && s[1] > 0);
    // Layers at the end that guess further tokens take no part.
    let n_extra = meta.get_u32("glm4.nextn_predict_layers")?.unwrap_or(0) as usize;
    hp.n_layer = hp.n_layer.saturating_sub(n_extra).max(1);
    Ok(hp)
}

fn build(hp: &Hparams, b: &mut Builder<'_>) -> Result<(), Error> {
    let style = if hp.mrope { RopeStyle::Neox } else { RopeStyle::Norm };
    let rope = b.rope(style, hp.n_rot)?;
    let x = b.embed(hp.n_embd, hp.n_vocab)?;
    let act = Activation::Silu;
    Sandwich { ropes: (rope, rope), qk_norm: false, softcap: 0.0, act }.build(hp, b, x)?;
    Ok(())
}

fn size_name(hp: &Hparams) -> &'static str {
    match hp.n_layer {
        17 => "1B",
        40 => "9B",
        61 => "32B",
        _ => "?B",
    }
}
