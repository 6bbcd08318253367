//! Command R: attention and feed-forward network side by side over one layer norm, scaled logits.

use super::common::{Ffn, Parallel};
use super::{ArchSpec, Error, Hparams};
use crate::gguf::Metadata;
use crate::plan::{Builder, Map, NormKind, RopeStyle};
use crate::tensor::Activation;

pub(super) const SPEC: ArchSpec =
    ArchSpec { name: "command-r", rope: Some(RopeStyle::Norm), hparams, build, size_name };

fn hparams(meta: &Metadata) -> Result<Hparams, Error> {
    meta.require_f32("command-r.attention.layer_norm_epsilon")?;
    Hparams::read(meta, "command-r")
}

fn build(hp: &Hparams, b: &mut Builder<'_>) -> Result<(), Error> {
    let rope = Some(b.rope(RopeStyle::Norm, hp.n_rot)?);
    let x = b.embed(hp.n_embd, hp.n_vocab)?;
    // Command R+ norms queries and keys.
    let qk_norm = b.has("blk.0.attn_q_norm.weight").then_some(NormKind::Layer);
    let ffn = Ffn::Gated(Activation::Silu);
    let logits = Parallel { norm: NormKind::Layer, rope, qk_norm, ffn }.build(hp, b, x)?;
    if hp.logit_scale != 0.0 {
        b.map("result_output", logits, Map::Scale(hp.logit_scale));
    }
    Ok(())
}

fn size_name(hp: &Hparams) -> &'static str {
    match hp.n_layer {
        40 => "35B",
        _ => "?B",
    }
}
