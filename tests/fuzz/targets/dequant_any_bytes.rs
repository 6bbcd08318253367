//! Any bytes as blocks of any type: codecs and validation neither panic nor disagree.
//!
//! The first byte chooses the type, the rest are blocks.
#![no_main]

use libfuzzer_sys::fuzz_target;
use powerinfer::quant::{self, types::TYPES};

fuzz_target!(|bytes: &[u8]| {
    let Some((&which, data)) = bytes.split_first() else { return };
    let info = &TYPES[which as usize % TYPES.len()];
    let n_blocks = data.len() / info.block_bytes;
    let whole = &data[..n_blocks * info.block_bytes];
    let valid = quant::validate(info.ty, whole);
    if data.len() != whole.len() {
        assert!(quant::validate(info.ty, data).is_err());
    }

    let mut numbers = vec![0.0f32; n_blocks * info.block_len];
    quant::dequantize_row(info.ty, whole, &mut numbers).expect("sizes fit");
    // Codes of a scale that is not finite may be numbers (NVFP4 and MXFP4 have no NaN, the sum in
    // Q8_1 is not used), and the largest scales of 8 exponent bits or more overflow.
    if !matches!(info.name, "nvfp4" | "mxfp4" | "q8_1") && valid.is_err() {
        assert!(numbers.iter().any(|x| !x.is_finite()), "{}", info.name);
    }
    if !matches!(info.name, "mxfp4" | "q8_K" | "f64") && valid.is_ok() {
        assert!(numbers.iter().all(|x| x.is_finite()), "{}", info.name);
    }

    let mut back = vec![0; whole.len()];
    let quantized = quant::quantize_row(info.ty, &numbers, None, &mut back);
    let possible = quant::can_quantize(info.ty) && !quant::needs_importance(info.ty);
    assert_eq!(quantized.is_ok(), possible);
    if let Some(ones) = quantized.is_ok().then(|| vec![1.0; numbers.len()]) {
        // The numbers are as hostile as importances as they are as numbers.
        quant::quantize_row(info.ty, &ones, Some(&numbers), &mut back.clone()).expect("sizes fit");
    }
    if info.block_len == 1 && valid.is_ok() && quantized.is_ok() {
        assert_eq!(back, whole, "{}: plain numbers survive", info.name);
    }
    if !data.is_empty() {
        let longer = quant::dequantize_row(info.ty, whole, &mut vec![0.0; numbers.len() + 1]);
        assert!(longer.is_err());
    }
});
