//! Any bytes as a model: loading neither panics nor takes long, and what it accepts computes.
//!
//! Seeds are small models, which the target writes itself: libFuzzer learns from them what a
//! whole model looks like.
#![no_main]
#![allow(dead_code, reason = "tests use the rest")]

#[path = "../../common/tiny.rs"]
mod tiny;

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use powerinfer::api::{Batch, ContextParams, Input, LoadMode, LoadOptions};
use powerinfer::quant::QuantType;
use powerinfer::util::log::{Level, Sink, set_sink};

/// Takes the warnings about millions of damaged files.
struct Quiet;

impl Sink for Quiet {
    fn write(&self, _: Level, text: &str) {
        assert!(text.len() < 4096, "a message as long as a file");
    }
}

/// Writes seeds into the folder that `FUZZ_SEEDS` names.
fn init() {
    set_sink(Some(Arc::new(Quiet)));
    let Some(dir) = std::env::var_os("FUZZ_SEEDS") else { return };
    use tiny::{MICRO, Qkv, Rope, Spec};
    let seeds = [
        MICRO,
        Spec { name: "fused", qkv: Qkv::FusedWithBias, rope: Rope::Yarn, ..MICRO },
        Spec { name: "apart", qkv: Qkv::FusedWithBiasesApart, rope: Rope::Linear, ..MICRO },
        Spec { name: "biases", qkv: Qkv::ApartWithBiases, biases: true, tied: true, ..MICRO },
        Spec { name: "mixed", types: &[QuantType::Q8_0, QuantType::Q4_1], n_layer: 2, ..MICRO },
        Spec { name: "plain", types: &[QuantType::F16, QuantType::BF16], tied: true, ..MICRO },
    ];
    for spec in seeds {
        let path = std::path::Path::new(&dir).join(format!("{}.gguf", spec.name));
        std::fs::write(path, tiny::bytes(&spec)).expect("the seeds can be written");
    }
}

fuzz_target!(init: init(), |bytes: &[u8]| {
    let odd = bytes.len() % 2 == 1;
    let mode = if odd { LoadMode::None } else { LoadMode::Mmap };
    let options = LoadOptions { mode, prefetch: false, ..LoadOptions::default() };
    let Ok(model) = tiny::load(bytes, &options) else { return };
    let _ = model.description();
    if let Ok(tokens) = model.vocab().tokenize(b"the <|im_end|> and\n", true, true) {
        let _ = model.vocab().detokenize(&tokens, false, true);
    }
    let params = ContextParams {
        n_ctx: 256,
        n_threads: 1,
        n_threads_batch: 1,
        embeddings: odd,
        reference: odd,
        ..ContextParams::default()
    };
    let Ok(mut ctx) = model.context(params) else { return };
    let n_vocab = model.hparams().map_or(0, |h| h.n_vocab) as i32;
    let tokens: Vec<i32> = (0..4).map(|i| i * 7 % n_vocab).collect();
    for input in [Input::Tokens(&tokens[..3]), Input::Tokens(&tokens[3..])] {
        let batch = Batch { input, pos: None, seq_ids: None, outputs: None };
        ctx.decode(&batch).expect("a model that loads decodes");
    }
    assert_eq!(ctx.outputs().logits_ith(-1).map(|x| x.len()), Some(n_vocab as usize));
});
