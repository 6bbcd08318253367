//! The reference codecs against blocks that the `gguf` Python package made, bit for bit.

use powerinfer::quant::{self, Error, QuantType, types::TYPES};

struct Golden {
    ty: QuantType,
    blocks: Vec<u8>,
    numbers: Vec<f32>,
    input: Vec<f32>,
    output: Vec<u8>,
}

fn goldens() -> Vec<Golden> {
    let json: serde_json::Value = serde_json::from_str(include_str!("goldens/quant.json")).unwrap();
    let types = json["types"].as_object().unwrap();
    let bytes = |v: &serde_json::Value| -> Vec<u8> {
        let hex = v.as_str().unwrap().as_bytes();
        hex.chunks(2)
            .map(|c| u8::from_str_radix(std::str::from_utf8(c).unwrap(), 16).unwrap())
            .collect()
    };
    let floats =
        |v| -> Vec<f32> { bytes(v).as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect() };
    types
        .iter()
        .map(|(name, g)| Golden {
            ty: TYPES.iter().find(|t| t.name == name).unwrap().ty,
            blocks: bytes(&g["blocks"]),
            numbers: floats(&g["numbers"]),
            input: floats(&g["input"]),
            output: bytes(&g["output"]),
        })
        .collect()
}

#[test]
fn dequantisation_is_the_reference_bit_for_bit() {
    let goldens = goldens();
    assert_eq!(goldens.len(), 6);
    for g in goldens {
        let mut y = vec![f32::NAN; g.numbers.len()];
        quant::dequantize_row(g.ty, &g.blocks, &mut y).unwrap();
        for (i, (y, x)) in y.iter().zip(&g.numbers).enumerate() {
            let same = y.to_bits() == x.to_bits() || (y.is_nan() && x.is_nan());
            assert!(same, "{} at {i}: {y:?}, expected {x:?}", g.ty);
        }
    }
}

#[test]
fn quantisation_is_the_reference_byte_for_byte() {
    for g in goldens() {
        let mut y = vec![0xa5; g.output.len()];
        quant::quantize_row(g.ty, &g.input, None, &mut y).unwrap();
        let block = g.ty.info().block_bytes;
        for (i, (y, x)) in y.chunks(block).zip(g.output.chunks(block)).enumerate() {
            assert_eq!(y, x, "{} block {i}", g.ty);
        }
    }
}

#[test]
fn blocks_do_not_depend_on_their_neighbours() {
    for g in goldens() {
        let (len, bytes) = (g.ty.block_len(), g.ty.info().block_bytes);
        let mut one = vec![0.0; len];
        for (block, want) in g.blocks.chunks(bytes).zip(g.numbers.chunks(len)) {
            quant::dequantize_row(g.ty, block, &mut one).unwrap();
            for (a, b) in one.iter().zip(want) {
                assert!(a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan()));
            }
        }
    }
}

#[test]
fn sizes_and_types_that_do_not_fit_are_named() {
    let text = |r: Result<(), Error>| r.unwrap_err().to_string();
    let mut y = [0.0; 64];
    assert_eq!(
        text(quant::dequantize_row(QuantType::Q8_0, &[0; 34], &mut y)),
        "found 34 bytes of type q8_0 for a row of 64 elements, expected 68"
    );
    assert_eq!(
        text(quant::quantize_row(QuantType::Q4_1, &y[..33], None, &mut [0; 20])),
        "found 20 bytes of type q4_1 for a row of 33 elements, expected a multiple of 32 elements"
    );
    assert_eq!(
        text(quant::quantize_row(QuantType::I32, &[1.0], None, &mut [0; 4])),
        "numbers cannot be quantised to type i32"
    );
    assert_eq!(
        text(quant::quantize_row(QuantType::Q8_0, &y[..32], Some(&[1.0]), &mut [0; 34])),
        "found 1 importances for a row of 32 elements"
    );
    assert_eq!(
        text(quant::quantize_row(QuantType::IQ2_XXS, &[1.0; 256], None, &mut [0; 66])),
        "numbers cannot be quantised to type iq2_xxs without importances"
    );
    assert!(quant::can_quantize(QuantType::BF16) && !quant::can_quantize(QuantType::I32));
}

/// A row that is one element or one byte off is an error for every type, in both directions.
#[test]
fn lengths_that_are_no_whole_blocks_are_errors_for_every_type() {
    for t in TYPES {
        let (bytes, mut y) = (vec![0; 2 * t.block_bytes + 1], vec![0.0; 2 * t.block_len + 1]);
        let exact = |bytes: &[u8], y: &mut [f32]| quant::dequantize_row(t.ty, bytes, y);
        assert_eq!(exact(&bytes[..2 * t.block_bytes], &mut y[..2 * t.block_len]), Ok(()));
        assert!(exact(&bytes, &mut y[..2 * t.block_len]).is_err(), "{}", t.name);
        assert!(exact(&bytes[..2 * t.block_bytes], &mut y).is_err(), "{}", t.name);
        assert!(exact(&bytes[..t.block_bytes], &mut y[..2 * t.block_len]).is_err(), "{}", t.name);
        let mut out = bytes;
        assert!(quant::quantize_row(t.ty, &y, None, &mut out).is_err(), "{}", t.name);
    }
}

#[test]
fn plain_numbers_are_their_values() {
    let decode = |ty, bytes: &[u8]| {
        let mut y = [f32::NAN];
        quant::dequantize_row(ty, bytes, &mut y).unwrap();
        y[0]
    };
    assert_eq!(decode(QuantType::I8, &(-128i8).to_le_bytes()), -128.0);
    assert_eq!(decode(QuantType::I16, &(-32768i16).to_le_bytes()), -32768.0);
    assert_eq!(decode(QuantType::I32, &i32::MIN.to_le_bytes()), -2147483648.0);
    assert_eq!(decode(QuantType::I64, &(1i64 << 40).to_le_bytes()), 1099511627776.0);
    assert_eq!(decode(QuantType::F64, &0.1f64.to_le_bytes()), 0.1f32);
    assert_eq!(decode(QuantType::F64, &1e300f64.to_le_bytes()), f32::INFINITY);
}

#[test]
fn numbers_that_are_not_finite_quantise_without_panic() {
    for g in goldens() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut input = g.input[..32].to_vec();
            input[5] = bad;
            let mut y = vec![0; g.ty.row_bytes(32).unwrap() as usize];
            quant::quantize_row(g.ty, &input, None, &mut y).unwrap();
        }
    }
}

/// For each type, one byte position of a block and the bytes there that make it not finite.
#[test]
fn validation_finds_the_block_with_a_bad_scale() {
    let nan16 = [0x00, 0x7e];
    let inf16 = [0x00, 0xfc];
    let inf32 = [0, 0, 0x80, 0x7f];
    let cases: &[(QuantType, usize, &[u8])] = &[
        (QuantType::F32, 0, &inf32),
        (QuantType::F64, 0, &[0, 0, 0, 0, 0, 0, 0xf0, 0x7f]),
        (QuantType::F16, 0, &nan16),
        (QuantType::BF16, 0, &[0x80, 0x7f]),
        (QuantType::Q4_0, 0, &nan16),
        (QuantType::Q4_1, 0, &nan16),
        (QuantType::Q4_1, 2, &inf16),
        (QuantType::Q5_0, 0, &nan16),
        (QuantType::Q5_1, 2, &nan16),
        (QuantType::Q8_0, 0, &inf16),
        (QuantType::Q8_1, 2, &inf16),
        (QuantType::Q2_K, 80, &nan16),
        (QuantType::Q2_K, 82, &nan16),
        (QuantType::Q3_K, 108, &nan16),
        (QuantType::Q4_K, 2, &nan16),
        (QuantType::Q5_K, 0, &nan16),
        (QuantType::Q6_K, 208, &nan16),
        (QuantType::Q8_K, 0, &inf32),
        (QuantType::IQ2_XXS, 0, &nan16),
        (QuantType::IQ2_XS, 0, &nan16),
        (QuantType::IQ2_S, 0, &nan16),
        (QuantType::IQ3_XXS, 0, &nan16),
        (QuantType::IQ3_S, 0, &nan16),
        (QuantType::IQ1_S, 0, &nan16),
        (QuantType::IQ1_M, 48, &[0, 0, 0, 0xc0, 0, 0xf0, 0, 0x70]), // nibbles 0 c f 7: 0x7fc0
        (QuantType::IQ4_NL, 0, &nan16),
        (QuantType::IQ4_XS, 0, &nan16),
        (QuantType::TQ1_0, 52, &nan16),
        (QuantType::TQ2_0, 64, &nan16),
        (QuantType::MXFP4, 0, &[0xff]),
        (QuantType::NVFP4, 3, &[0x7f]),
        (QuantType::Q1_0, 0, &nan16),
        (QuantType::Q2_0, 0, &nan16),
    ];
    for &(ty, at, bad) in cases {
        let size = ty.info().block_bytes;
        let mut data = vec![0; 3 * size];
        assert_eq!(quant::validate(ty, &data), Ok(()), "{ty}");
        data[size + at..][..bad.len()].copy_from_slice(bad);
        let found = Error::NotFinite { ty, element: ty.block_len() };
        assert_eq!(quant::validate(ty, &data), Err(found), "{ty}");
        let short = &data[..data.len() - 1];
        if size > 1 {
            assert!(matches!(quant::validate(ty, short), Err(Error::BlockSize { .. })), "{ty}");
        }
    }
    for t in TYPES.iter().filter(|t| matches!(t.name, "i8" | "i16" | "i32" | "i64")) {
        assert_eq!(quant::validate(t.ty, &vec![0xff; 4 * t.block_bytes]), Ok(()));
    }
}
