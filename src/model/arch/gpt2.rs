//! GPT-2: learned positions, layer norms, biases everywhere.

use super::common::{Ffn, PreNorm};
use super::{ArchSpec, Error, Hparams};
use crate::gguf::Metadata;
use crate::plan::{Builder, NormKind, RowOf};
use crate::tensor::Activation;

pub(super) const SPEC: ArchSpec = ArchSpec { name: "gpt2", rope: None, hparams, build, size_name };

fn hparams(meta: &Metadata) -> Result<Hparams, Error> {
    meta.require_f32("gpt2.attention.layer_norm_epsilon")?;
    Hparams::read(meta, "gpt2")
}

fn build(hp: &Hparams, b: &mut Builder<'_>) -> Result<(), Error> {
    let x = b.embed(hp.n_embd, hp.n_vocab)?;
    let row = RowOf::Position(0);
    b.add_row("inpL", "position_embd.weight", hp.n_ctx_train, row, x)?;
    let ffn = Ffn::Plain(Activation::Gelu);
    PreNorm { norm: NormKind::Layer, rope: None, qk_norm: None, ffn }.build(hp, b, x)?;
    Ok(())
}

fn size_name(hp: &Hparams) -> &'static str {
    match hp.n_layer {
        12 => "0.1B",
        24 => "0.4B",
        36 => "0.8B",
        48 => "1.5B",
        _ => "?B",
    }
}
