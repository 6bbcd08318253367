//! BitNet: Llama's form with a norm before the way out of attention and of the feed-forward
//! network, and matrices with one factor each.
//!
//! `bitnet` is that of llama.cpp, whose activation is SiLU. Files of BitNet b1.58 2B4T, converted by
//! its own tools, say `bitnet-b1.58` (at first `bitnet-25`): ReLU², so that silent neurons are
//! skipped. `powerinfer.activation` tells otherwise.

use super::common::{logits, pre_norm, qkv};
use super::{ArchSpec, Error, Hparams};
use crate::gguf::Metadata;
use crate::plan::{Builder, FfnShape, NormKind, RopeStyle};
use crate::tensor::Activation;

pub(super) const SPEC: ArchSpec = ArchSpec {
    name: "bitnet",
    rope: Some(RopeStyle::Neox),
    hparams: |meta| hparams(meta, "bitnet", Activation::Silu),
    build,
    size_name,
};

pub(super) const B158: ArchSpec = ArchSpec {
    name: "bitnet-b1.58",
    hparams: |meta| hparams(meta, "bitnet-b1.58", Activation::ReluSquared),
    ..SPEC
};

pub(super) const B25: ArchSpec = ArchSpec {
    name: "bitnet-25",
    hparams: |meta| hparams(meta, "bitnet-25", Activation::ReluSquared),
    ..SPEC
};

fn hparams(meta: &Metadata, arch: &str, act: Activation) -> Result<Hparams, Error> {
    meta.require_f32(&format!("{arch}.attention.layer_norm_rms_epsilon"))?;
    let mut hp = Hparams::read(meta, arch)?;
    hp.activation.get_or_insert(act);
    Ok(hp)
}

fn build(hp: &Hparams, b: &mut Builder<'_>) -> Result<(), Error> {
    let kind = NormKind::Rms;
    let rope = Some(b.rope(RopeStyle::Neox, hp.n_rot)?);
    b.use_ffn_scales();
    b.scale_down_first();
    let mut x = b.embed(hp.n_embd, hp.n_vocab)?;
    for il in 0..hp.n_layer {
        let spec = hp.attention(il, rope);
        let norm = pre_norm(hp, b, il, "attn_norm", kind, x)?;
        let qkv = qkv(hp, b, il, &spec, norm)?;
        let mut attn = b.attend(spec, qkv);
        if il + 1 == hp.n_layer {
            [attn, x] = b.select_outputs([attn, x]);
        }
        let width = spec.n_head * spec.head_dim_v;
        let name = format!("blk.{il}.attn_sub_norm");
        let norm = b.norm_weights(kind, &name, width, hp.rms_eps)?;
        let attn = b.norm_to(&format!("attn_sub_norm-{il}"), "attn_sub_norm", attn, norm);
        let out = b.attn_output(il, &spec, hp.n_embd)?;
        b.mat_mul_add(&format!("ffn_inp-{il}"), attn, out, x);

        let seen = b.predictor_input(il, x);
        let input = pre_norm(hp, b, il, "ffn_norm", kind, x)?;
        let n_ff = hp.n_ff[il];
        let norm = b.norm_weights(kind, &format!("blk.{il}.ffn_sub_norm"), n_ff, hp.rms_eps)?;
        let act = hp.activation.unwrap_or(Activation::Silu);
        let shape = FfnShape { n_ff, gated: true, act, cutoff: None, norm: Some(norm), scale: 1.0 };
        if b.skips(il, &shape) {
            b.skipping_ffn(il, input, seen, &shape, x)?;
            continue;
        }
        let act = b.ffn_gated(il, input, n_ff, act)?;
        let act = b.norm_to(&format!("ffn_sub_norm-{il}"), "ffn_sub_norm", act, norm);
        let down = b.ffn_down(il, n_ff, hp.n_embd)?;
        b.mat_mul_add(&format!("l_out-{il}"), act, down, x);
    }
    logits(hp, b, kind, x)?;
    Ok(())
}

fn size_name(hp: &Hparams) -> &'static str {
    match hp.n_layer {
        26 => "3B",
        30 => "2B",
        _ => "?B",
    }
}
