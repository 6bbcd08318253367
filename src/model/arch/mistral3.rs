//! Mistral 3: Llama's form with queries scaled up at far positions.

use super::common::{Ffn, PreNorm};
use super::{ArchSpec, Error, Hparams, number};
use crate::gguf::Metadata;
use crate::plan::{Attention, Builder, NormKind, RopeStyle, Temperature};
use crate::tensor::Activation;

pub(super) const SPEC: ArchSpec =
    ArchSpec { name: "mistral3", rope: Some(RopeStyle::Norm), hparams, build, size_name };

fn hparams(meta: &Metadata) -> Result<Hparams, Error> {
    meta.require_f32("mistral3.attention.layer_norm_rms_epsilon")?;
    let mut hp = Hparams::read(meta, "mistral3")?;
    let scale = number(meta, "mistral3.attention.temperature_scale", f32::MIN..=f32::MAX)?;
    hp.temperature = scale.filter(|x| *x != 0.0).map(|scale| Temperature {
        scale,
        length: hp.rope.n_ctx_orig as f32,
        offset: 0.0,
    });
    Ok(hp)
}

fn build(hp: &Hparams, b: &mut Builder<'_>) -> Result<(), Error> {
    let rope = Some(b.rope(RopeStyle::Norm, hp.n_rot)?);
    b.use_ffn_scales();
    let x = b.embed(hp.n_embd, hp.n_vocab)?;
    let ffn = Ffn::Gated(Activation::Silu).experts_or(hp, true, true);
    let layers = PreNorm { norm: NormKind::Rms, rope, qk_norm: None, ffn };
    layers.build_with(hp, b, x, |il| Attention {
        temperature: hp.temperature,
        ..hp.attention(il, rope)
    })?;
    Ok(())
}

fn size_name(hp: &Hparams) -> &'static str {
    match hp.n_layer {
        26 => "3B",
        34 => "8B",
        40 => "14B",
        _ => "?B",
    }
}
