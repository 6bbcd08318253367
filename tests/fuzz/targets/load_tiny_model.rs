//! Any bytes as a model: loading neither panics nor takes long, and what it accepts computes.
#![no_main]
#![allow(dead_code, reason = "tests use the rest")]

mod loading;
#[path = "../../common/tiny.rs"]
mod tiny;

use libfuzzer_sys::fuzz_target;
use powerinfer::api::LoadOptions;
use powerinfer::quant::QuantType;

fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    use tiny::{MICRO, Qkv, Rope, Spec};
    let specs = [
        MICRO,
        Spec { name: "fused", qkv: Qkv::FusedWithBias, rope: Rope::Yarn, ..MICRO },
        Spec { name: "apart", qkv: Qkv::FusedWithBiasesApart, rope: Rope::Linear, ..MICRO },
        Spec { name: "biases", qkv: Qkv::ApartWithBiases, biases: true, tied: true, ..MICRO },
        Spec { name: "mixed", types: &[QuantType::Q8_0, QuantType::Q4_1], n_layer: 2, ..MICRO },
        Spec { name: "plain", types: &[QuantType::F16, QuantType::BF16], tied: true, ..MICRO },
    ];
    specs.iter().map(|spec| (spec.name, tiny::bytes(spec))).collect()
}

fuzz_target!(init: loading::init(seeds), |bytes: &[u8]| {
    loading::load_and_decode(bytes, LoadOptions::default());
});
