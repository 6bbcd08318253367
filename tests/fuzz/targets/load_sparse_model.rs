//! Any bytes as a sparse model of PowerInfer, in each mode: loading neither panics nor takes long,
//! and what it accepts computes.
#![no_main]
#![allow(dead_code, reason = "tests use the rest")]

mod loading;
#[path = "../../common/tiny.rs"]
mod tiny;
#[path = "../../common/tiny_sparse.rs"]
mod tiny_sparse;

use libfuzzer_sys::fuzz_target;
use powerinfer::api::LoadOptions;
use powerinfer::gguf::{KvOverride, OverrideValue};
use powerinfer::quant::QuantType;
use powerinfer::sparse::Mode;

fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    use tiny_sparse::{MICRO, Spec};
    let plain = &[QuantType::F16, QuantType::BF16];
    let specs = [
        MICRO,
        Spec { name: "bamboo", arch: "bamboo", threshold: None, ..MICRO },
        Spec { name: "falcon", arch: "falcon", types: &[QuantType::Q8_0], ..MICRO },
        Spec { name: "opt", arch: "opt", n_head_kv: 2, types: plain, ..MICRO },
        Spec {
            name: "rank",
            n_ff: 7,
            rank: &[5],
            predictor: (QuantType::F16, QuantType::F32),
            ..MICRO
        },
    ];
    specs.iter().map(|spec| (spec.name, tiny_sparse::bytes(spec))).collect()
}

fuzz_target!(init: loading::init(seeds), |bytes: &[u8]| {
    let (_, mode) = Mode::ALL[bytes.len() / 2 % Mode::ALL.len()];
    let value = OverrideValue::Str(mode.into());
    let kv_overrides = vec![KvOverride { key: "powerinfer.sparse".into(), value }];
    loading::load_and_decode(bytes, LoadOptions { kv_overrides, ..LoadOptions::default() });
});
