//! Gemma 3: norms before and after each block, normed queries and keys, GeGLU, five layers that
//! see a window for each one that sees all. Local layers rotate by a base of their own.

use super::common::{Sandwich, cap, rope_swa};
use super::{ArchSpec, Error, Hparams};
use crate::gguf::Metadata;
use crate::plan::{Builder, FixedRope, RopeStyle};
use crate::tensor::Activation;

pub(super) const SPEC: ArchSpec =
    ArchSpec { name: "gemma3", rope: Some(RopeStyle::Neox), hparams, build, size_name };

fn hparams(meta: &Metadata) -> Result<Hparams, Error> {
    meta.require_f32("gemma3.attention.layer_norm_rms_epsilon")?;
    let mut hp = Hparams::read(meta, "gemma3")?;
    hp.rope_swa = FixedRope { freq_base: 10000.0, freq_scale: 1.0, scaled: true };
    hp.read_window(meta, "gemma3", 6)?;
    // The 27B model scales by its width per head.
    let per_head = if hp.n_layer == 62 { hp.n_embd / hp.n_head[0] } else { hp.head_dim_k };
    hp.attention_scale = Some(1.0 / (per_head as f32).sqrt());
    Ok(hp)
}

fn build(hp: &Hparams, b: &mut Builder<'_>) -> Result<(), Error> {
    let style = RopeStyle::Neox;
    let ropes = (b.rope(style, hp.n_rot)?, rope_swa(hp, b, style));
    // Embeddings that the caller gives (images) are scaled already.
    let x = b.embed_scaled(hp.n_embd, hp.n_vocab, (hp.n_embd as f32).sqrt(), 1.0)?;
    let act = Activation::Gelu;
    let logits = Sandwich { ropes, qk_norm: true, softcap: 0.0, act }.build(hp, b, x)?;
    cap(hp, b, logits);
    Ok(())
}

fn size_name(hp: &Hparams) -> &'static str {
    match hp.n_layer {
        18 => "270M",
        26 => "1B",
        32 => "8B",
        34 => "4B",
        48 => "12B",
        62 => "27B",
        _ => "?B",
    }
}
