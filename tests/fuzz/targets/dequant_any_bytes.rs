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
    let decoded = quant::dequantize_row(info.ty, whole, &mut numbers);
    assert_eq!(decoded.is_ok(), quant::is_supported(info.ty));
    if decoded.is_err() {
        return;
    }
    // A finite scale times a small integer may still overflow in no type that is supported.
    assert_eq!(valid.is_ok(), numbers.iter().all(|x| x.is_finite()), "{}", info.name);

    let mut back = vec![0; whole.len()];
    let quantized = quant::quantize_row(info.ty, &numbers, &mut back);
    assert_eq!(quantized.is_ok(), quant::can_quantize(info.ty));
    if info.block_len == 1 && valid.is_ok() {
        assert_eq!(back, whole, "{}: plain numbers survive", info.name);
    }
    if !data.is_empty() {
        let longer = quant::dequantize_row(info.ty, whole, &mut vec![0.0; numbers.len() + 1]);
        assert!(longer.is_err());
    }
});
