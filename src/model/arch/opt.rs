//! OPT as PowerInfer's converter writes it: learned positions, layer norms before each block,
//! biases everywhere, ReLU. No other engine's GGUF has it.

use super::common::{Ffn, PreNorm};
use super::{ArchSpec, Error, Hparams};
use crate::gguf::Metadata;
use crate::plan::{Builder, NormKind, RowOf};
use crate::tensor::Activation;

pub(super) const SPEC: ArchSpec = ArchSpec { name: "opt", rope: None, hparams, build, size_name };

/// Rows of the table of positions before the first position's: those of padding.
const FIRST_ROW: usize = 2;
/// Of every OPT; the converter does not write it.
const NORM_EPS: f32 = 1e-5;

fn hparams(meta: &Metadata) -> Result<Hparams, Error> {
    let mut hp = Hparams::read(meta, "opt")?;
    if meta.get_f32("opt.attention.layer_norm_epsilon")?.is_none() {
        hp.norm_eps = NORM_EPS;
    }
    // The converter counts the table's rows, 2050 of 2048.
    hp.n_ctx_train = hp.n_ctx_train.saturating_sub(FIRST_ROW).max(1);
    Ok(hp)
}

fn build(hp: &Hparams, b: &mut Builder<'_>) -> Result<(), Error> {
    let x = b.embed(hp.n_embd, hp.n_vocab)?;
    // The converter writes the same context length whatever the table has.
    let n_rows = b.n_rows("position_embd.weight").unwrap_or(0).max(FIRST_ROW + 1);
    b.add_row("inpL", "position_embd.weight", n_rows, RowOf::Position(FIRST_ROW), x)?;
    let ffn = Ffn::Plain(hp.activation.unwrap_or(Activation::Relu));
    PreNorm { norm: NormKind::Layer, rope: None, qk_norm: None, ffn }.build(hp, b, x)?;
    Ok(())
}

fn size_name(hp: &Hparams) -> &'static str {
    match (hp.n_layer, hp.n_embd) {
        (12, _) => "125M",
        (24, 1024) => "350M",
        (24, _) => "1.3B",
        (32, 2560) => "2.7B",
        (32, _) => "6.7B",
        (40, _) => "13B",
        (48, _) => "30B",
        (64, _) => "66B",
        (96, _) => "175B",
        _ => "?B",
    }
}
