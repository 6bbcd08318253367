//! Gemma 2: norms before and after each block, GeGLU, capped scores and logits, a window on every
//! other layer.

use super::common::{Sandwich, cap, rope_swa};
use super::{ArchSpec, Error, Hparams};
use crate::gguf::Metadata;
use crate::plan::{Builder, RopeStyle};
use crate::tensor::Activation;

pub(super) const SPEC: ArchSpec =
    ArchSpec { name: "gemma2", rope: Some(RopeStyle::Neox), hparams, build, size_name };

fn hparams(meta: &Metadata) -> Result<Hparams, Error> {
    meta.require_f32("gemma2.attention.layer_norm_rms_epsilon")?;
    let mut hp = Hparams::read(meta, "gemma2")?;
    hp.n_swa = 4096;
    hp.read_window(meta, "gemma2", 2)?;
    // Files of the first days say nothing of the caps.
    let cap = |name: &str| Ok::<_, Error>(meta.get_f32(&format!("gemma2.{name}"))?.is_some());
    if !cap("attn_logit_softcapping")? {
        hp.attn_softcap = 50.0;
    }
    if !cap("final_logit_softcapping")? {
        hp.final_softcap = 30.0;
    }
    // The 27B model scales by its width per head.
    let per_head = if hp.n_layer == 46 { hp.n_embd / hp.n_head[0] } else { hp.head_dim_k };
    hp.attention_scale = Some(1.0 / (per_head as f32).sqrt());
    Ok(hp)
}

fn build(hp: &Hparams, b: &mut Builder<'_>) -> Result<(), Error> {
    let style = RopeStyle::Neox;
    let ropes = (b.rope(style, hp.n_rot)?, rope_swa(hp, b, style));
    let scale = (hp.n_embd as f32).sqrt();
    let x = b.embed_scaled(hp.n_embd, hp.n_vocab, scale, scale)?;
    let act = Activation::Gelu;
    let logits =
        Sandwich { ropes, qk_norm: false, softcap: hp.attn_softcap, act }.build(hp, b, x)?;
    cap(hp, b, logits);
    Ok(())
}

fn size_name(hp: &Hparams) -> &'static str {
    match hp.n_layer {
        26 => "2B",
        42 => "9B",
        46 => "27B",
        _ => "?B",
    }
}
