//! OLMo 2 and 3: norms only of what comes out of each block, queries and keys normed as a whole,
//! in OLMo 3 a window on three layers of four.

use super::common::{gated_ffn, logits, post_norm, qkv, rope_swa};
use super::{ArchSpec, Error, Hparams};
use crate::gguf::Metadata;
use crate::plan::{Builder, FixedRope, NormKind, RopeStyle};
use crate::tensor::Activation;

pub(super) const SPEC: ArchSpec =
    ArchSpec { name: "olmo2", rope: Some(RopeStyle::Neox), hparams, build, size_name };

fn hparams(meta: &Metadata) -> Result<Hparams, Error> {
    meta.require_f32("olmo2.attention.layer_norm_rms_epsilon")?;
    let mut hp = Hparams::read(meta, "olmo2")?;
    // Layers with a window rotate without any scaling.
    hp.rope_swa = FixedRope { freq_base: hp.rope.freq_base, freq_scale: 1.0, scaled: false };
    hp.read_window(meta, "olmo2", 4)?;
    hp.rope_swa.freq_base = hp.rope.freq_base;
    Ok(hp)
}

fn build(hp: &Hparams, b: &mut Builder<'_>) -> Result<(), Error> {
    let style = RopeStyle::Neox;
    let (global, local) = (b.rope(style, hp.n_rot)?, rope_swa(hp, b, style));
    let kind = NormKind::Rms;
    let mut x = b.embed(hp.n_embd, hp.n_vocab)?;
    for il in 0..hp.n_layer {
        let spec = hp.attention(il, Some(if hp.is_swa[il] { local } else { global }));
        let input = b.copy(&format!("attn_inp-{il}"), "norm", x);
        let qkv = qkv(hp, b, il, &spec, input)?;
        for (part, first, width) in
            [("q", 0, spec.n_embd_q()), ("k", spec.n_embd_q(), spec.n_embd_k())]
        {
            let name = format!("blk.{il}.attn_{part}_norm");
            let node = format!("{}cur_normed-{il}", part.to_uppercase());
            b.norm_heads(&node, qkv, first, 1, width, kind, &name, hp.rms_eps)?;
        }
        let mut attn = b.attend(spec, qkv);
        if il + 1 == hp.n_layer {
            [attn, x] = b.select_outputs([attn, x]);
        }
        let out = b.attn_output(il, &spec, hp.n_embd)?;
        let out = b.mat_mul(&format!("attn_out-{il}"), "block_out", attn, vec![out]);
        post_norm(hp, b, il, ("post_attention_norm", "ffn_inp"), out, x)?;

        let input = b.copy(&format!("ffn_inp_copy-{il}"), "norm", x);
        let out = gated_ffn(hp, b, il, input, (Activation::Silu, None))?;
        post_norm(hp, b, il, ("post_ffw_norm", "l_out"), out, x)?;
    }
    logits(hp, b, kind, x)?;
    Ok(())
}

fn size_name(hp: &Hparams) -> &'static str {
    match hp.n_layer {
        16 => "1B",
        32 => "7B",
        40 => "13B",
        64 => "32B",
        _ => "?B",
    }
}
