//! BLOOM: no positions but ALiBi's penalty on distance, normed embeddings, layer norms, biases
//! everywhere.

use super::common::{Ffn, PreNorm};
use super::{ArchSpec, Error, Hparams};
use crate::gguf::Metadata;
use crate::plan::{Builder, NormKind};
use crate::tensor::Activation;

pub(super) const SPEC: ArchSpec = ArchSpec { name: "bloom", rope: None, hparams, build, size_name };

fn hparams(meta: &Metadata) -> Result<Hparams, Error> {
    meta.require_f32("bloom.attention.layer_norm_epsilon")?;
    let mut hp = Hparams::read(meta, "bloom")?;
    hp.max_alibi_bias = 8.0;
    Ok(hp)
}

fn build(hp: &Hparams, b: &mut Builder<'_>) -> Result<(), Error> {
    let x = b.embed(hp.n_embd, hp.n_vocab)?;
    let norm = b.norm_weights(NormKind::Layer, "token_embd_norm", hp.n_embd, hp.norm_eps)?;
    let x = b.norm_to("inp_norm", "normed_residual", x, norm);
    let ffn = Ffn::Plain(Activation::Gelu);
    PreNorm { norm: NormKind::Layer, rope: None, qk_norm: None, ffn }.build(hp, b, x)?;
    Ok(())
}

fn size_name(hp: &Hparams) -> &'static str {
    match hp.n_layer {
        24 => "1B",
        30 if hp.n_embd == 2560 => "3B",
        30 => "7B",
        _ => "?B",
    }
}
